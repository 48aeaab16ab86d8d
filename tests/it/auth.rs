//! Passwords and ACL users: the proxy lets Redis decide, and remembers who somebody is across a change.

use crate::support::value::ok;
use crate::support::{Options, Pair, PairOptions, Proxy, Value};

fn protected() -> (Pair, Proxy) {
    let options = PairOptions {
        password: Some("secret"),
        users: vec!["alice on >wonderland ~* &* +@all", "reader on >books ~* -@all +get +ping +auth +hello +select"],
        ..PairOptions::default()
    };
    let pair = Pair::with(&options);
    let proxy = Proxy::with(&pair, "a", Options::default());
    (pair, proxy)
}

#[test]
fn without_a_password_nothing_is_answered_but_the_demand() {
    let (_pair, proxy) = protected();
    let mut client = proxy.client();
    for command in ["GET k", "SET k 1", "PING", "SELECT 1", "SUBSCRIBE c"] {
        let reply = client.cmd(command);
        assert!(reply.is_error("NOAUTH"), "{command}: {reply:?}");
    }
    assert!(client.cmd("HELLO 3").is_error("NOAUTH"));
    assert_eq!(client.cmd("AUTH secret"), ok());
    assert_eq!(client.cmd("SET k 1"), ok());
}

#[test]
fn one_client_being_authenticated_opens_nothing_for_another() {
    let (_pair, proxy) = protected();
    let (mut one, mut other) = (proxy.client(), proxy.client());
    assert_eq!(one.cmd("AUTH secret"), ok());
    assert_eq!(one.cmd("SET k 1"), ok());
    assert!(other.cmd("GET k").is_error("NOAUTH"));
    assert_eq!(other.cmd("AUTH reader books"), ok());
    assert_eq!(other.cmd("GET k"), Value::from("1"));
    assert!(other.cmd("SET k 2").is_error("NOPERM"), "a reader must not write");
    assert_eq!(one.cmd("SET k 2"), ok(), "and does not hinder the others");
}

#[test]
fn a_failed_auth_leaves_the_session_as_it_was() {
    let (_pair, proxy) = protected();
    let mut client = proxy.client();
    assert!(client.cmd("AUTH wrong").is_error("WRONGPASS"));
    assert!(client.cmd("GET k").is_error("NOAUTH"));
    assert_eq!(client.cmd("AUTH alice wonderland"), ok());
    assert_eq!(client.cmd("SELECT 3"), ok());
    assert_eq!(client.cmd("SET k three"), ok());
    assert!(client.cmd("AUTH reader wrong").is_error("WRONGPASS"));
    assert_eq!(client.cmd("ACL WHOAMI"), Value::from("alice"));
    assert_eq!(client.cmd("GET k"), Value::from("three"));
    assert!(client.cmd("HELLO 3 AUTH alice wrong").is_error("WRONGPASS"));
    assert_eq!(client.cmd("HGETALL nokey"), Value::Array(vec![]), "still RESP2");
    assert_eq!(client.cmd("ACL WHOAMI"), Value::from("alice"));
}

#[test]
fn everyone_is_the_same_user_after_a_switchover() {
    let (pair, proxy) = protected();
    let (mut alice, mut reader, mut stranger) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(alice.cmd("AUTH alice wonderland"), ok());
    assert!(matches!(reader.cmd("HELLO 3 AUTH reader books"), Value::Map(_)));
    assert!(stranger.cmd("GET k").is_error("NOAUTH"));
    // A wrong attempt must not be what is replayed.
    assert!(alice.cmd("AUTH alice wrong").is_error("WRONGPASS"));
    assert_eq!(alice.cmd("SET k 1"), ok());
    let out = proxy.operate("switchover --to b --timeout 10s");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    pair.wait_primary_b();
    assert_eq!(alice.cmd("ACL WHOAMI"), Value::from("alice"));
    assert_eq!(alice.cmd("SET k 2"), ok());
    assert_eq!(reader.cmd("GET k"), Value::from("2"));
    assert!(reader.cmd("SET k 3").is_error("NOPERM"));
    assert!(stranger.cmd("GET k").is_error("NOAUTH"));
}

#[test]
fn no_password_stands_in_the_log() {
    let (_pair, proxy) = protected();
    let mut client = proxy.client();
    client.cmd("AUTH alice wonderland");
    client.cmd("AUTH alice nearly-wonderland");
    client.cmd("HELLO 3 AUTH reader books");
    let log = proxy.process.log();
    for secret in ["secret", "wonderland", "books"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn a_client_may_name_itself_only_if_the_server_lets_it() {
    let (pair, proxy) = protected();
    let mut client = proxy.client();
    assert!(client.cmd("CLIENT SETNAME app").is_error("NOAUTH"));
    // (A server before 7.2 does not know this one, and says so to whoever asks.)
    let info = "CLIENT SETINFO LIB-NAME lib";
    let mut direct = pair.direct();
    let refused = client.cmd(info);
    assert!(refused == direct.cmd(info) && matches!(refused, Value::Error(_)), "{refused:?}");
    assert_eq!(client.cmd("AUTH reader books"), ok());
    assert!(client.cmd("CLIENT SETNAME app").is_error("NOPERM"));
    assert_eq!(client.cmd("AUTH alice wonderland"), ok());
    assert_eq!(client.cmd("CLIENT SETNAME app"), ok());
    assert_eq!(direct.cmd("AUTH alice wonderland"), ok());
    assert_eq!(client.cmd(info), direct.cmd(info));
    assert_eq!(client.cmd("CLIENT GETNAME"), "app".into(), "and what is said on a lane is not the client's name");
}

fn switch(proxy: &Proxy) {
    let out = proxy.operate("switchover --to b --timeout 10s");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_changed_password_is_asked_for_at_the_next_connection_and_not_before() {
    let (pair, proxy) = protected();
    let (mut alice, mut other) = (proxy.client(), proxy.client());
    for client in [&mut alice, &mut other] {
        assert_eq!(client.cmd("AUTH alice wonderland"), ok());
        client.cmd("CLIENT ID");
    }
    // (Redis does not replicate users.)
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.cmd("ACL SETUSER alice resetpass >looking-glass"), ok());
    }
    assert_eq!(alice.cmd("SET k 1"), ok(), "as in Redis, whoever is in stays in");
    assert!(alice.cmd("AUTH alice wonderland").is_error("WRONGPASS"));
    assert_eq!(alice.cmd("AUTH alice looking-glass"), ok());
    switch(&proxy);
    pair.wait_primary_b();
    assert_eq!(alice.cmd("GET k"), "1".into(), "the new password is what is replayed");
    other.start("SET k 2");
    let last = other.read_to_end();
    assert!(last.len() == 1 && last[0].is_error("WRONGPASS"), "{last:?}");
    assert_eq!(alice.cmd("GET k"), "1".into());
}

#[test]
fn a_deleted_user_is_let_go_wherever_its_connections_are() {
    let (pair, proxy) = protected();
    let (mut idle, mut hears, mut reader) = (proxy.client(), proxy.client(), proxy.client());
    for client in [&mut idle, &mut hears] {
        assert_eq!(client.cmd("AUTH alice wonderland"), ok());
        assert_eq!(client.cmd("SET k 1"), ok());
    }
    assert_eq!(reader.cmd("AUTH reader books"), ok());
    assert_eq!(hears.cmd("SUBSCRIBE news").items()[0], "subscribe".into());
    for node in [&pair.a, &pair.b] {
        assert_eq!(node.cmd("ACL DELUSER alice"), 1.into());
    }
    assert_eq!(hears.read_to_end(), []);
    idle.start("SET k 2");
    let last = idle.read_to_end();
    assert!(last.len() == 1 && last[0].is_error("WRONGPASS"), "{last:?}");
    assert_eq!(reader.cmd("GET k"), "1".into(), "others of the same proxy are not touched");
    switch(&proxy);
    pair.wait_primary_b();
    assert_eq!(reader.cmd("GET k"), "1".into());
}

#[test]
fn a_database_chosen_before_a_login_that_may_not_choose_one_is_kept() {
    for lanes in ["on", "off"] {
        let pair = Pair::start();
        pair.a.cmd("ACL SETUSER few on >p ~* +set +get +multi +exec");
        let proxy = Proxy::with(&pair, "a", Options::default().arg("--lanes", lanes));
        let mut client = proxy.client();
        assert_eq!([client.cmd("SELECT 9"), client.cmd("SET k nine"), client.cmd("AUTH few p")], [ok(), ok(), ok()]);
        assert!(client.cmd("SELECT 8").is_error("NOPERM"));
        assert_eq!(client.cmd("GET k"), Value::from("nine"));
        assert_eq!(client.cmd("MULTI"), ok());
        client.cmd("SET k again");
        assert_eq!(client.cmd("EXEC"), Value::Array(vec![ok()]));
        assert_eq!(client.cmd("GET k"), Value::from("again"));
    }
}
