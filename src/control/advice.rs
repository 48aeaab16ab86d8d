//! Reads how the nodes of a pair are set, for `patch::settings` to judge. Changes nothing.

use std::time::Duration;

use super::hands::setting;
use crate::io::client::{Link, LinkError, Target};
use crate::io::clock;
use crate::patch::settings::{ASKED, Finding, NodeSettings, judge};
use crate::protocol::info::parse_replication;

/// For everything that is asked of one node.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long writes are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// What was found of one node; an error when it could not be asked.
pub type Advice = Result<Vec<Finding>, LinkError>;

/// Asks every node, and judges each in the light of the other.
pub async fn ask(targets: &[Target]) -> Vec<Advice> {
    let (first, second) = tokio::join!(one(targets.first()), one(targets.get(1)));
    let read: Vec<_> = [first, second].into_iter().flatten().collect();
    let judged = read.iter().enumerate().map(|(at, node)| {
        let other = read.get(1 - at.min(1)).and_then(|other| other.as_ref().ok()).filter(|_| read.len() > 1);
        node.as_ref().map(|node| judge(node, other)).map_err(Clone::clone)
    });
    judged.collect()
}

async fn one(target: Option<&Target>) -> Option<Result<NodeSettings, LinkError>> {
    Some(read(target?).await)
}

async fn read(target: &Target) -> Result<NodeSettings, LinkError> {
    let deadline = clock::now() + DEADLINE;
    let mut link = Link::connect(target, deadline).await?;
    let mut settings = NodeSettings::default();
    for name in ASKED {
        if let Some(value) = setting(&mut link, name, deadline).await? {
            settings.values.insert(name.to_owned(), String::from_utf8_lossy(&value).into_owned());
        }
    }
    settings.requires_password =
        setting(&mut link, "requirepass", deadline).await?.is_some_and(|text| !text.is_empty());
    let before = offset(&mut link, deadline).await?;
    tokio::time::sleep(COUNTED).await;
    settings.write_rate = offset(&mut link, deadline).await?.saturating_sub(before);
    Ok(settings)
}

async fn offset(link: &mut Link, deadline: Duration) -> Result<u64, LinkError> {
    let info = link.command(&[b"INFO", b"replication"], deadline).await?;
    let replication = info.bytes().and_then(parse_replication);
    replication.map(|found| found.offset).ok_or_else(|| LinkError::Failed("its INFO is not understood".to_owned()))
}
