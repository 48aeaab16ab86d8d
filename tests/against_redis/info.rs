//! INFO of a real server is understood.

use changeover::protocol::info::{FailoverState, WireRole, parse_replication, parse_server};
use redis_protocol::resp2::types::OwnedFrame;

use super::server::Server;

fn info(server: &Server, section: &str) -> Vec<u8> {
    match server.ask(&["INFO", section]) {
        OwnedFrame::BulkString(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sections_become_facts() {
    let server = Server::start();
    let process = parse_server(&info(&server, "server")).unwrap();
    assert!(process.version.contains('.') && process.shutdown_in_ms.is_none(), "{process:?}");

    let alone = parse_replication(&info(&server, "replication")).unwrap();
    assert_eq!((alone.role, alone.offset, alone.failover), (WireRole::Master, 0, FailoverState::None));
    assert!(alone.replid2.is_none() && alone.second_offset.is_none() && alone.primary_link.is_none());

    // Nobody listens on port 1.
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let replica = parse_replication(&info(&server, "replication")).unwrap();
    let link = replica.primary_link.unwrap();
    assert_eq!((replica.role, link.host.as_str(), link.port, link.up), (WireRole::Slave, "127.0.0.1", 1, false));
    assert_eq!(parse_server(&info(&server, "server")).unwrap().run_id, process.run_id);
}
