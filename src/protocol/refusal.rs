//! Error replies that mean "not executed, because of the node's role or state".
//!
//! Only whole, known texts count, not their first word alone: a script or a module may answer with any code, and
//! `CLIENT UNBLOCK … ERROR` says `-UNBLOCKED` as well. Texts of Redis 5.0 to 8 and Valkey. Call it with top-level
//! replies only: inside an array the same text is data.

/// What kind of "not executed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A write on a replica.
    ReadOnly,
    /// WAIT or WAITAOF on a replica.
    Wait,
    /// The node is loading its data.
    Loading,
    /// A replica that may not serve stale data has no link.
    MasterDown,
    /// A blocked command on a node that was demoted; the server closes the connection after it.
    Unblocked,
    /// EXEC was refused because of one of these.
    ExecAborted,
    /// Valkey, to a client that said CLIENT CAPA redirect: the primary is elsewhere. Only then is it a refusal.
    Redirect,
    /// A write inside a script, on a replica. What the script did before that write was done: reads, and PUBLISH.
    ScriptReadOnly,
}

/// What `line` refuses, if it is such a refusal: `-READONLY …`, with or without its line end.
pub fn refusal(line: &[u8]) -> Option<Refusal> {
    // One byte decides nearly always: nothing but errors begin with '-'.
    let text = line.strip_prefix(b"-")?;
    let text = text.strip_suffix(b"\r\n").unwrap_or(text);
    match text.first()? {
        b'R' => read_only(text).or_else(|| is_redirect(text).then_some(Refusal::Redirect)),
        b'L' => is_loading(text).then_some(Refusal::Loading),
        b'M' => is_master_down(text).then_some(Refusal::MasterDown),
        b'U' => text
            .starts_with(b"UNBLOCKED force unblock from blocking operation, instance state changed")
            .then_some(Refusal::Unblocked),
        b'E' => exec(text).or_else(|| old_script(text)).or_else(|| wait(text)),
        _ => None,
    }
}

fn is_read_only(text: &[u8]) -> bool {
    // 5.0 says "slave".
    let tail = text.strip_prefix(b"READONLY You can't write against a read only ");
    tail.is_some_and(|tail| tail.starts_with(b"replica.") || tail.starts_with(b"slave."))
}

fn read_only(text: &[u8]) -> Option<Refusal> {
    // A script that declares its flags is refused before it runs.
    if text.starts_with(b"READONLY Can not run script with write flag on readonly replica") {
        return Some(Refusal::ReadOnly);
    }
    if !is_read_only(text) {
        return None;
    }
    let in_script = memchr::memmem::find(text, b" script: ").is_some();
    Some(if in_script { Refusal::ScriptReadOnly } else { Refusal::ReadOnly })
}

/// `REDIRECT host:port`, in no other words.
fn is_redirect(text: &[u8]) -> bool {
    let Some(place) = text.strip_prefix(b"REDIRECT ") else { return false };
    let Some(colon) = memchr::memrchr(b':', place) else { return false };
    let (host, port) = place.split_at(colon);
    let port = port.get(1..).unwrap_or_default();
    !host.is_empty() && host.iter().all(u8::is_ascii_graphic) && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

fn is_loading(text: &[u8]) -> bool {
    // The server's name is "Redis" or "Valkey".
    text.starts_with(b"LOADING ") && memchr::memmem::find(text, b" is loading the dataset in memory").is_some()
}

fn is_master_down(text: &[u8]) -> bool {
    text.starts_with(b"MASTERDOWN Link with MASTER is down")
}

fn exec(text: &[u8]) -> Option<Refusal> {
    if let Some(cause) = text.strip_prefix(b"EXECABORT Transaction discarded because of: ") {
        let known = is_read_only(cause) || is_loading(cause) || is_master_down(cause);
        return known.then_some(Refusal::ExecAborted);
    }
    // Up to 6.0.
    text.starts_with(b"ERR Transaction contains write commands but instance is now a read-only ")
        .then_some(Refusal::ExecAborted)
}

/// Up to 6.2 the first word is ERR and the refusal stands at the end, behind the script's position.
fn old_script(text: &[u8]) -> Option<Refusal> {
    text.strip_prefix(b"ERR Error running script (call to f_")?;
    let at = memchr::memmem::find(text, b": -READONLY ")?;
    is_read_only(text.get(at + 3..)?).then_some(Refusal::ScriptReadOnly)
}

/// WAIT and WAITAOF want a primary, and say so in words of their own.
fn wait(text: &[u8]) -> Option<Refusal> {
    let rest = text.strip_prefix(b"ERR WAIT")?;
    let rest = rest.strip_prefix(b"AOF").unwrap_or(rest).strip_prefix(b" cannot be used with ")?;
    let known = rest.starts_with(b"replica instances.") || rest.starts_with(b"slave instances.");
    known.then_some(Refusal::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_text_is_recognised() {
        use Refusal::*;
        let table = [
            ("-READONLY You can't write against a read only replica.", ReadOnly),
            ("-READONLY You can't write against a read only slave.", ReadOnly),
            ("-READONLY Can not run script with write flag on readonly replica", ReadOnly),
            ("-READONLY You can't write against a read only replica. script: 7bf5, on @user_script:1.", ScriptReadOnly),
            (
                "-ERR Error running script (call to f_6b1b): @user_script:1: @user_script: 1: -READONLY You can't write \
                 against a read only replica.",
                ScriptReadOnly,
            ),
            ("-REDIRECT 127.0.0.1:6380", Redirect),
            ("-REDIRECT ::1:6380", Redirect),
            ("-REDIRECT redis-b.example:6380", Redirect),
            ("-LOADING Redis is loading the dataset in memory", Loading),
            ("-LOADING Valkey is loading the dataset in memory", Loading),
            ("-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", MasterDown),
            ("-MASTERDOWN Link with MASTER is down and slave-serve-stale-data is set to 'no'.", MasterDown),
            ("-MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and ...", MasterDown),
            (
                "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                Unblocked,
            ),
            (
                "-EXECABORT Transaction discarded because of: READONLY You can't write against a read only replica.",
                ExecAborted,
            ),
            (
                "-EXECABORT Transaction discarded because of: LOADING Redis is loading the dataset in memory",
                ExecAborted,
            ),
            (
                "-ERR Transaction contains write commands but instance is now a read-only slave. EXEC aborted.",
                ExecAborted,
            ),
            ("-ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 ...", Wait),
            ("-ERR WAIT cannot be used with slave instances. Please also note that since Redis 4.0 ...", Wait),
            ("-ERR WAITAOF cannot be used with replica instances. Please also note that writes to ...", Wait),
        ];
        for (line, expected) in table {
            assert_eq!(refusal(line.as_bytes()), Some(expected), "{line}");
            assert_eq!(refusal(format!("{line}\r\n").as_bytes()), Some(expected), "{line}");
        }
    }

    #[test]
    fn look_alikes_are_not_refusals() {
        for line in [
            "",
            "-",
            "+READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica.",
            "-READONLY",
            "-READONLY of my own",
            "-REDIRECT",
            "-REDIRECT of my own:1",
            "-REDIRECT :6380",
            "-REDIRECT host:",
            "-REDIRECT host:12x",
            "-UNBLOCKED client unblocked via CLIENT UNBLOCK",
            "-UNBLOCKED the stream key no longer exists",
            "-EXECABORT Transaction discarded because of previous errors.",
            "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
            "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.",
            "-NOREPLICAS Not enough good replicas to write.",
            "-LOADING my own",
            "-MASTERDOWN",
            "-ERR Error running script (call to f_6b1b): @user_script:1: nil value",
            "-ERR unknown command 'READONLY'",
            "-ERR WAIT of my own",
        ] {
            assert_eq!(refusal(line.as_bytes()), None, "{line}");
        }
    }
}
