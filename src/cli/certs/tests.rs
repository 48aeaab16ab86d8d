//! What is made can be used, and what exists is left alone.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::config::ServerTls;
use crate::io::tls::ServerSide;

#[test]
fn what_is_made_makes_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let files = generate(dir.path(), &["redis.example".to_owned(), "10.0.0.1".to_owned()], true, false).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"]);
    let at = |name: &str| dir.path().join(name);
    let tls = ServerTls { cert: at("server.crt"), key: at("server.key"), client_ca: Some(at("ca.crt")) };
    ServerSide::load(tls).unwrap();
    for key in ["ca.key", "server.key", "client.key"] {
        assert_eq!(at(key).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn nothing_is_overwritten_unless_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.key"), "precious").unwrap();
    let error = generate(dir.path(), &[], false, false).unwrap_err();
    assert!(error.to_string().ends_with("server.key exists already; --force overwrites it"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    generate(dir.path(), &[], false, true).unwrap();
    assert_ne!(std::fs::read(dir.path().join("server.key")).unwrap(), b"precious");
}

#[test]
fn a_name_that_cannot_be_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = generate(dir.path(), &["bücher".to_owned()], false, false).unwrap_err();
    assert!(error.to_string().contains("\"bücher\""), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
