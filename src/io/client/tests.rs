//! A link against servers that answer late, wrongly or not at all.

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Secret;
use crate::config::TcpTimes;
use crate::io::clock;
use crate::topology::node::NodeId;

fn soon() -> Duration {
    clock::now() + Duration::from_secs(5)
}

fn in_millis(millis: u64) -> Duration {
    clock::now() + Duration::from_millis(millis)
}

async fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (
        listener,
        Target {
            node: NodeId(0),
            host: "127.0.0.1".to_owned(),
            port,
            place: Place::default(),
            tls: None,
            login: None,
            tcp: TcpTimes::default(),
        },
    )
}

async fn pair() -> (TcpStream, Link) {
    let (listener, target) = listen().await;
    let (link, server) = tokio::join!(Link::connect(&target, soon()), listener.accept());
    (server.unwrap().0, link.unwrap())
}

async fn expect(server: &mut TcpStream, wire: &[u8]) {
    let mut got = vec![0; wire.len()];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(wire));
}

#[tokio::test]
async fn a_command_is_answered() {
    let (mut server, mut link) = pair().await;
    server.write_all(b"+PONG\r\n").await.unwrap();
    assert_eq!(link.command(&[b"PING"], soon()).await.unwrap().bytes(), Some(b"PONG".as_slice()));
    expect(&mut server, b"*1\r\n$4\r\nPING\r\n").await;
}

#[tokio::test]
async fn a_late_reply_is_never_taken_for_the_next_ones() {
    let (mut server, mut link) = pair().await;
    assert_eq!(link.command(&[b"INFO"], in_millis(20)).await, Err(LinkError::TimedOut));
    assert_eq!(link.owed(), 1);
    server.write_all(b"$4\r\nlate\r\n:2\r\n").await.unwrap();
    assert_eq!(link.command(&[b"INCR", b"n"], soon()).await, Ok(Reply::Integer(2)));
    assert_eq!(link.owed(), 0);
}

#[tokio::test]
async fn a_pipeline_keeps_its_order_past_an_error() {
    let (mut server, mut link) = pair().await;
    link.send(&[b"INFO", b"server"], soon()).await.unwrap();
    link.send(&[b"INFO", b"replication"], soon()).await.unwrap();
    server.write_all(b"-NOPERM no\r\n+second\r\n").await.unwrap();
    assert_eq!(link.reply(soon()).await, Err(LinkError::Redis("NOPERM no".to_owned())));
    assert_eq!(link.reply(soon()).await.unwrap().bytes(), Some(b"second".as_slice()));
}

#[tokio::test]
async fn each_way_of_going_away_has_its_name() {
    let (server, mut link) = pair().await;
    drop(server);
    assert_eq!(link.command(&[b"PING"], soon()).await, Err(LinkError::EndOfFile));

    let (listener, target) = listen().await;
    drop(listener);
    assert!(matches!(Link::connect(&target, soon()).await, Err(LinkError::Refused)));

    let (mut server, mut link) = pair().await;
    server.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
    assert!(matches!(link.command(&[b"PING"], soon()).await, Err(LinkError::Protocol(_))));
}

#[tokio::test]
async fn the_login_goes_first_and_a_refused_one_is_told() {
    let (listener, mut target) = listen().await;
    target.login = Some(Login::new(Some("ops".to_owned()), Secret::new(b"s3cret".to_vec()), None));
    let accept = async {
        let (mut server, _) = listener.accept().await.unwrap();
        expect(&mut server, b"*3\r\n$4\r\nAUTH\r\n$3\r\nops\r\n$6\r\ns3cret\r\n").await;
        server.write_all(b"-WRONGPASS invalid\r\n").await.unwrap();
        server
    };
    let (link, _server) = tokio::join!(Link::connect(&target, soon()), accept);
    assert_eq!(link.unwrap_err(), LinkError::Node(Trouble::Login("WRONGPASS invalid".to_owned())));
}

#[tokio::test]
async fn a_subscription_hears_messages_only() {
    let (mut server, mut link) = pair().await;
    server.write_all(b"*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n").await.unwrap();
    link.subscribe("ch", soon()).await.unwrap();
    assert_eq!(link.next_message(in_millis(10)).await, Err(LinkError::TimedOut));
    server.write_all(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$2\r\nhi\r\n").await.unwrap();
    assert_eq!(link.next_message(soon()).await, Ok(Heard::Pong));
    let heard = Heard::Message { channel: Bytes::from_static(b"ch"), payload: Bytes::from_static(b"hi") };
    assert_eq!(link.next_message(soon()).await, Ok(heard));
}

#[tokio::test]
async fn an_unanswered_command_tells_when_it_was_refused_after_all() {
    let (mut server, mut link) = pair().await;
    let getack: [&[u8]; 3] = [b"REPLCONF", b"GETACK", b"*"];
    link.send_only(&getack, soon()).await.unwrap();
    server.write_all(b"-NOPERM no\r\n").await.unwrap();
    let mut told = Ok(());
    for _ in 0..100 {
        told = link.send_only(&getack, soon()).await;
        if told.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(told, Err(LinkError::Redis("NOPERM no".to_owned())));
}

#[test]
fn targets_are_numbered_as_the_nodes_are_configured() {
    use crate::config::{Flags, keys, load};
    let flags = [
        (&keys::LISTEN, "127.0.0.1:0"),
        (&keys::CERT, "c"),
        (&keys::KEY, "k"),
        (&keys::NODE, "a=10.0.0.1:7001"),
        (&keys::NODE, "b=[::1]:7002"),
    ];
    let config = load(&Flags::of(flags.map(|(key, value)| (key, value.to_owned())))).unwrap().config;
    let targets = Target::all(&config, None).unwrap();
    let seen: Vec<_> = targets.iter().map(|t| (t.node.0, t.host.as_str(), t.port, t.tls.is_some())).collect();
    assert_eq!(seen, [(0, "10.0.0.1", 7001, false), (1, "::1", 7002, false)]);
}
