//! What real servers say, and what nobody should be able to make us believe.

use super::*;

const ID: &str = "d5a5a58d094987fa72d0914917a4674b50ffac07";
const OLD: &str = "0621316769ba106dfd85fba3655692659caebf0f";
const ZERO: &str = "0000000000000000000000000000000000000000";

/// As Redis 7.0.15 says it.
fn primary() -> String {
    format!(
        "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
         slave0:ip=127.0.0.1,port=27412,state=online,offset=593,lag=1\r\n\
         slave1:ip=::1,port=27413,state=wait_bgsave,offset=0,lag=0\r\n\
         master_failover_state:waiting-for-sync\r\nmaster_replid:{ID}\r\nmaster_replid2:{OLD}\r\n\
         master_repl_offset:600\r\nsecond_repl_offset:594\r\nrepl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n\
         repl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:600\r\n"
    )
}

fn replica() -> String {
    format!(
        "# Replication\r\nrole:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:27411\r\nmaster_link_status:down\r\n\
         master_last_io_seconds_ago:-1\r\nmaster_sync_in_progress:0\r\nslave_read_repl_offset:1\r\n\
         slave_repl_offset:1\r\nmaster_link_down_since_seconds:-1\r\nslave_priority:100\r\nslave_read_only:1\r\n\
         replica_announced:1\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\nmaster_replid:{ID}\r\n\
         master_replid2:{ZERO}\r\nmaster_repl_offset:0\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:0\r\n"
    )
}

fn id(text: &str) -> ReplId {
    ReplId::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_primary_is_understood() {
    let info = parse_replication(primary().as_bytes()).unwrap();
    let line = |ip: &str, port, online, offset, lag| ReplicaLine { ip: ip.to_owned(), port, online, offset, lag };
    let expected = ReplicationInfo {
        role: WireRole::Master,
        replid: id(ID),
        replid2: Some(id(OLD)),
        offset: 600,
        second_offset: Some(594),
        failover: FailoverState::WaitingForSync,
        replicas: vec![line("127.0.0.1", 27412, true, 593, 1), line("::1", 27413, false, 0, 0)],
        primary_link: None,
    };
    assert_eq!(info, expected);
}

#[test]
fn a_replica_is_understood() {
    let info = parse_replication(replica().as_bytes()).unwrap();
    assert_eq!((info.role, info.replid2, info.second_offset, info.offset), (WireRole::Slave, None, None, 0));
    let link = PrimaryLink {
        host: "127.0.0.1".to_owned(),
        port: 27411,
        up: false,
        sync_in_progress: false,
        slave_repl_offset: 1,
        last_io_seconds: None,
    };
    assert_eq!(info.primary_link, Some(link));
    let up =
        replica().replace("status:down", "status:up").replace("ago:-1", "ago:3").replace("progress:0", "progress:1");
    let link = parse_replication(up.as_bytes()).unwrap().primary_link.unwrap();
    assert_eq!((link.up, link.sync_in_progress, link.last_io_seconds), (true, true, Some(3)));
}

#[test]
fn older_servers_lack_fields() {
    let text = primary().replace("master_failover_state:waiting-for-sync\r\n", "");
    assert_eq!(parse_replication(text.as_bytes()).unwrap().failover, FailoverState::None);
}

#[test]
fn what_is_missing_or_wrong_is_no_report() {
    for (from, to) in [
        ("role:master\r\n", ""),
        ("role:master", "role:leader"),
        ("master_replid:", "x:"),
        (ID, "abc"),
        (ID, &ID.replace('d', "g")),
        (OLD, "1"),
        ("master_repl_offset:600", "master_repl_offset:-600"),
        ("master_repl_offset:600", "master_repl_offset:99999999999999999999"),
        ("second_repl_offset:594", "second_repl_offset:x"),
        ("waiting-for-sync", "a-new-state"),
        ("port=27412", "port=99999"),
        ("state=online,", ""),
        ("offset=593", "offset="),
    ] {
        let text = primary().replace(from, to);
        assert_ne!(text, primary());
        assert_eq!(parse_replication(text.as_bytes()), None, "{from} became {to}");
    }
    for field in ["master_host:127.0.0.1", "master_port:27411", "master_link_status:down", "master_sync_in_progress:0"]
    {
        let text = replica().replace(field, "");
        assert_eq!(parse_replication(text.as_bytes()), None, "without {field}");
    }
    assert_eq!(parse_replication(b""), None);
    assert_eq!(parse_replication(b"\xff\xfe:\r\n:::\r\n"), None);
}

/// A replica may announce any address: `REPLCONF ip-address` takes line ends, too.
#[test]
fn a_replica_cannot_forge_its_primarys_report() {
    let forged = format!("ip=1.2.3.4\r\nmaster_replid:{OLD}\r\nx=");
    let text = primary().replace("ip=127.0.0.1", &forged);
    assert_eq!(parse_replication(text.as_bytes()), None);
}

#[test]
fn what_is_kept_is_bounded() {
    let many: String = (0..1000).map(|n| format!("slave{n}:ip=h,port=1,state=online,offset=1,lag=0\r\n")).collect();
    assert_eq!(parse_replication((primary() + &many).as_bytes()).unwrap().replicas.len(), 64);
    let long = replica().replace("master_host:127.0.0.1", &format!("master_host:{}", "h".repeat(257)));
    assert_eq!(parse_replication(long.as_bytes()), None);
}

#[test]
fn a_server_says_which_process_it_is() {
    let text = format!("# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:00000000\r\nrun_id:{ID}\r\ntcp_port:1\r\n");
    let info = parse_server(text.as_bytes()).unwrap();
    assert_eq!((info.run_id.to_string().as_str(), info.version.as_str(), info.shutdown_in_ms), (ID, "7.0.15", None));
    let leaving = text.clone() + "shutdown_in_milliseconds:9897\r\n";
    assert_eq!(parse_server(leaving.as_bytes()).unwrap().shutdown_in_ms, Some(9897));
    assert_eq!(parse_server(text.replace("run_id", "x").as_bytes()), None);
    assert_eq!(parse_server((text.clone() + &text).as_bytes()), None);
}

#[test]
fn valkey_has_its_own_name_and_version_and_redis_keeps_its() {
    let text = |more: &str| format!("# Server\r\nredis_version:7.2.4\r\n{more}run_id:{ID}\r\n");
    let valkey = parse_server(text("server_name:valkey\r\nvalkey_version:9.1.0\r\n").as_bytes()).unwrap();
    assert_eq!((valkey.product(), valkey.version.as_str()), (("Valkey", "9.1.0"), "7.2.4"));
    let redis = parse_server(text("").as_bytes()).unwrap();
    assert_eq!(redis.product(), ("Redis", "7.2.4"));
    let long = format!("valkey_version:{}\r\n", "9".repeat(65));
    assert_eq!(parse_server(text(&long).as_bytes()), None);
}

#[test]
fn only_a_server_that_has_just_begun_loads() {
    let text =
        "# Persistence\r\nloading:1\r\nasync_loading:0\r\nloading_loaded_perc:15.20\r\nloading_eta_seconds:26\r\n";
    assert_eq!(parse_loading(text.as_bytes()), Some(Loading { percent: 15, eta_seconds: Some(26) }));
    assert_eq!(parse_loading(b"loading:0\r\n"), None);
    assert_eq!(parse_loading(b"loading:1\r\nasync_loading:1\r\n"), None);
    let hostile = parse_loading(b"loading:1\r\nloading_loaded_perc:NaN\r\nloading_eta_seconds:-1\r\n");
    assert_eq!(hostile, Some(Loading { percent: 0, eta_seconds: None }));
}
