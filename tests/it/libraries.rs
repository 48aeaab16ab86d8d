//! Unmodified clients: redis-cli, redis-benchmark, redis-py, redis-rs.

use std::process::{Command, Output};

use redis::AsyncCommands as _;

use crate::support::{Pair, Proxy};

fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn tool(name: &str, pair: &Pair, proxy: &Proxy, args: &[&str]) -> Output {
    let mut command = Command::new(name);
    command.args(["-h", "127.0.0.1", "-p", &proxy.at.port().to_string(), "--tls"]);
    command.arg("--cacert").arg(&pair.certs.ca).args(args);
    command.output().unwrap_or_else(|e| panic!("{name}: {e} (make deps)"))
}

#[test]
fn redis_cli_works_with_tls() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let cases: [(&[&str], &str); 5] = [
        (&["SET", "k", "a b"], "OK\n"),
        (&["GET", "k"], "a b\n"),
        (&["-3", "HSET", "h", "f", "1"], "1\n"),
        (&["-n", "4", "DBSIZE"], "0\n"),
        (&["EVAL", "return redis.call('INCR', KEYS[1])", "1", "n"], "1\n"),
    ];
    for (args, wanted) in cases {
        let out = tool("redis-cli", &pair, &proxy, args);
        assert_eq!(text(&out), wanted, "{args:?}");
    }
    let out = tool("redis-cli", &pair, &proxy, &["--bigkeys"]);
    assert!(out.status.success() && text(&out).contains("Sampled 3 keys"), "{}", text(&out));
}

#[test]
fn redis_benchmark_works_with_tls() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    for args in [
        &["-n", "20000", "-c", "50", "-t", "set,get,incr,lpush,mset", "-q"][..],
        &["-n", "50000", "-P", "16", "-q", "-t", "set,get"],
    ] {
        let out = tool("redis-benchmark", &pair, &proxy, args);
        let said = text(&out);
        assert!(out.status.success() && !said.contains("rror"), "{said}");
        assert!(said.contains("SET: ") && said.contains("requests per second"), "{said}");
    }
}

#[test]
fn redis_py_works_with_tls() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let python = std::env::var("CHANGEOVER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/redis_py.py");
    let out = Command::new(python)
        .args([script, "--port", &proxy.at.port().to_string(), "--ca"])
        .arg(&pair.certs.ca)
        .args(["--failover-port", &pair.a.port.to_string()])
        .output()
        .expect("python3 (make deps)");
    assert!(out.status.success(), "{}", text(&out));
    pair.wait_primary_b();
}

fn rust_client(pair: &Pair, proxy: &Proxy, query: &str) -> redis::Client {
    let certificates =
        redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(&pair.certs.ca).unwrap()) };
    let address = format!("rediss://localhost:{}/{query}", proxy.at.port());
    redis::Client::build_with_tls(address, certificates).unwrap()
}

#[test]
fn redis_rs_works_with_tls_and_through_a_failover() {
    // Both libraries of TLS providers may be linked; redis-rs takes the process' default.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let pair = Pair::start();
    let proxy = Proxy::start(&pair);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for query in ["", "?protocol=resp3"] {
            let client = rust_client(&pair, &proxy, query);
            let mut manager = client.get_connection_manager().await.unwrap();
            manager.del::<_, ()>(&["n", "h", "p"]).await.unwrap();
            assert_eq!(manager.incr::<_, _, i64>("n", 1).await.unwrap(), 1);
            manager.hset_multiple::<_, _, _, ()>("h", &[("f", 1), ("g", 2)]).await.unwrap();
            let all: std::collections::BTreeMap<String, i64> = manager.hgetall("h").await.unwrap();
            assert_eq!(all.len(), 2);
            let (a, b): (i64, i64) =
                redis::pipe().atomic().incr("p", 1).incr("p", 1).query_async(&mut manager).await.unwrap();
            assert_eq!((a, b), (1, 2));
        }
        let mut manager = rust_client(&pair, &proxy, "").get_connection_manager().await.unwrap();
        manager.set::<_, _, ()>("n", 0).await.unwrap();
        pair.a.cmd("FAILOVER");
        for n in 1..=300_i64 {
            assert_eq!(manager.incr::<_, _, i64>("n", 1).await.unwrap(), n);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    pair.wait_primary_b();
    assert_eq!(pair.b.cmd("GET n").text(), "300");
}
