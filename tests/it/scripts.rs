//! Scripts and functions across a change: what is replicated is there, and what is not says so as in Redis.

use crate::support::client::{encode, pipeline};
use crate::support::value::ok;
use crate::support::{Options, Pair, Proxy, Value};

const INCREMENT: &str = "return redis.call('INCR', KEYS[1])";
const LIBRARY: &str =
    "#!lua name=lib\nredis.register_function('increment', function(keys) return redis.call('INCR', keys[1]) end)";

#[test]
fn functions_go_along_and_scripts_are_loaded_again_as_clients_expect() {
    let pair = Pair::start();
    let proxy = Proxy::with(&pair, "a", Options::default());
    let mut client = proxy.client();
    client.send(&encode(&[b"FUNCTION", b"LOAD", LIBRARY.as_bytes()]));
    assert_eq!(client.read(), "lib".into());
    client.send(&encode(&[b"SCRIPT", b"LOAD", INCREMENT.as_bytes()]));
    let sha = client.read().text();
    let (by_sha, by_function) = (format!("EVALSHA {sha} 1 n"), "FCALL increment 1 n");
    assert_eq!((client.cmd(&by_sha), client.cmd(by_function)), (1.into(), 2.into()));
    let out = proxy.operate("switchover --to b --timeout 10s");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    pair.wait_primary_b();
    assert_eq!(client.cmd(by_function), 3.into());
    // Since 7.0 scripts are not replicated: the error is Redis' own, at once, and nothing was executed.
    assert!(client.cmd(&by_sha).is_error("NOSCRIPT"));
    assert_eq!(client.cmd(&format!("SCRIPT EXISTS {sha}")), Value::Array(vec![0.into()]));
    client.send(&pipeline(&["MULTI", &by_sha, "GET n", "EXEC"]));
    let replies: Vec<Value> = (0..4).map(|_| client.read()).collect();
    let items = replies[3].items();
    assert!(replies[0] == ok() && items[0].is_error("NOSCRIPT") && items[1] == "3".into(), "{replies:?}");
    // Libraries then send the script itself, once.
    client.send(&encode(&[b"EVAL", INCREMENT.as_bytes(), b"1", b"n"]));
    assert_eq!(client.read(), 4.into());
    assert_eq!(client.cmd(&by_sha), 5.into());
}
