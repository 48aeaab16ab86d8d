//! Reads how the nodes of a pair are set and how they are, for `patch::settings` to judge. Changes nothing.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::certificates;
use super::hands::setting;
use crate::config::Config;
use crate::io::admin::examination::{CertificateExamined, Examination, FindingReport, Look, NodeExamined};
use crate::io::client::{Link, LinkError, Target};
use crate::io::clock;
use crate::io::tls::expiry;
use crate::patch::settings::{ASKED, Finding, INFO, NodeSettings, Weight, judge};
use crate::protocol::info::parse_replication;

/// For everything that is asked of one node; shorter than what an operator's request may take.
const DEADLINE: Duration = Duration::from_secs(8);
/// How long writes are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// What was found of one node; an error when it could not be asked.
pub type Advice = Result<(NodeSettings, Vec<Finding>), LinkError>;

/// Asks every node, and judges each in the light of the other.
pub async fn ask(targets: &[Target]) -> Vec<Advice> {
    let (first, second) = tokio::join!(one(targets.first(), true), one(targets.get(1), true));
    let read: Vec<_> = [first, second].into_iter().flatten().collect();
    let judged = read.iter().enumerate().map(|(at, node)| {
        let other = read.get(1 - at.min(1)).and_then(|other| other.as_ref().ok()).filter(|_| read.len() > 1);
        node.as_ref().map(|node| (node.clone(), judge(node, other))).map_err(Clone::clone)
    });
    judged.collect()
}

/// Only what INFO says: takes no second, judges nothing.
async fn glance(targets: &[Target]) -> Vec<Advice> {
    let (first, second) = tokio::join!(one(targets.first(), false), one(targets.get(1), false));
    [first, second].into_iter().flatten().map(|read| read.map(|node| (node, Vec::new()))).collect()
}

/// Looks whenever it is asked to; one look at a time.
pub async fn look_when_asked(config: std::sync::Arc<Config>, targets: Vec<Target>, mut asked: mpsc::Receiver<Look>) {
    while let Some(Look { quick, reply }) = asked.recv().await {
        let advice = if quick { glance(&targets).await } else { ask(&targets).await };
        let nodes = config.nodes.iter().zip(advice).map(|(node, advice)| {
            let examined = NodeExamined {
                name: node.name.clone(),
                addr: format!("{}:{}", node.host, node.port),
                ..NodeExamined::default()
            };
            match advice {
                Ok((settings, findings)) => {
                    let findings = findings.into_iter().map(report).collect();
                    NodeExamined { findings, info: settings.info, ..examined }
                }
                Err(error) => NodeExamined { error: Some(error.to_string()), ..examined },
            }
        });
        let nodes = nodes.collect();
        let certificates = if quick {
            Vec::new()
        } else {
            certificates(&config).into_iter().map(|(file, _)| certificate(file)).collect()
        };
        // Whoever asked may have gone.
        let _ = reply.send(Examination { nodes, certificates });
    }
}

fn report(finding: Finding) -> FindingReport {
    let Finding { weight, setting, found, why, mend } = finding;
    FindingReport { must: weight == Weight::Must, setting: setting.to_owned(), found, why, mend }
}

fn certificate(file: &Path) -> CertificateExamined {
    let (expires, error) = match expiry(file) {
        Ok(expires) => (expires, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let expires_unix_ms = expires.map(|at| at.as_millisecond());
    CertificateExamined { file: file.display().to_string(), expires_unix_ms, error }
}

async fn one(target: Option<&Target>, whole: bool) -> Option<Result<NodeSettings, LinkError>> {
    Some(read(target?, whole).await)
}

async fn read(target: &Target, whole: bool) -> Result<NodeSettings, LinkError> {
    let deadline = clock::now() + DEADLINE;
    let mut link = Link::connect(target, deadline).await?;
    let mut settings = NodeSettings::default();
    let info = link.command(&[b"INFO"], deadline).await?;
    for line in info.bytes().unwrap_or_default().split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        if let Some((name, value)) = line.trim_end().split_once(':').filter(|(name, _)| INFO.contains(name)) {
            settings.info.insert(name.to_owned(), value.to_owned());
        }
    }
    if !whole {
        return Ok(settings);
    }
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
