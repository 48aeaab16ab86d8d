//! What Sentinels publish, as news about one pair.
//!
//! Text to meaning only. A Sentinel says much; three things matter here, and none of them says who is primary: that is
//! for the nodes to say.

/// The channels to subscribe to.
pub const CHANNELS: [&str; 5] = [
    "+switch-master",
    "+selected-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-no-good-slave",
    "-failover-abort-not-elected",
];

/// News about the pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentinelNews {
    /// This replica has been chosen and will be promoted within a moment.
    Promoting {
        /// Its host, as Sentinel knows it.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The roles have changed, about a second ago.
    Switched,
    /// A failover was given up.
    GivenUp,
}

/// What a message on one of [`CHANNELS`] says about the pair that Sentinel calls `name`; `None` if it is about another.
pub fn news(channel: &[u8], payload: &[u8], name: &str) -> Option<SentinelNews> {
    let mut words = std::str::from_utf8(payload).ok()?.split(' ');
    let (about, news) = match channel {
        b"+switch-master" => (words.next(), SentinelNews::Switched),
        b"+selected-slave" => {
            let (host, port) = (words.nth(2)?.to_owned(), words.next()?.parse().ok()?);
            (words.nth(1), SentinelNews::Promoting { host, port })
        }
        [b'-', b'f', b'a', b'i', ..] => (words.nth(1), SentinelNews::GivenUp),
        _ => return None,
    };
    (about == Some(name)).then_some(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_this_pair_is_understood() {
        let says = |channel: &str, payload: &str| news(channel.as_bytes(), payload.as_bytes(), "m");
        assert_eq!(says("+switch-master", "m 127.0.0.1 21000 127.0.0.1 21001"), Some(SentinelNews::Switched));
        let selected = "slave 127.0.0.1:21001 127.0.0.1 21001 @ m 127.0.0.1 21000";
        assert_eq!(
            says("+selected-slave", selected),
            Some(SentinelNews::Promoting { host: "127.0.0.1".into(), port: 21001 })
        );
        let aborted = says("-failover-abort-no-good-slave", "master m 127.0.0.1 21000");
        assert_eq!(aborted, Some(SentinelNews::GivenUp));
        assert_eq!(says("+switch-master", "other 127.0.0.1 21000 127.0.0.1 21001"), None);
        assert_eq!(says("+sdown", "master m 127.0.0.1 21000"), None);
        assert_eq!(says("+selected-slave", "slave 127.0.0.1:21001 @"), None);
        assert_eq!(says("+switch-master", ""), None);
    }
}
