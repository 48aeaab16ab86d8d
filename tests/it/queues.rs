//! Job queues, unmodified: Celery and RQ with workers on both proxies, while the pair changes its primary.
//!
//! The scripts in tests/compat say what is checked; here is what happens to the servers meanwhile.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use crate::support::value::ok;
use crate::support::{Options, Pair, Proxy, pause};

fn url(pair: &Pair, proxy: &Proxy) -> String {
    let ca = pair.certs.ca.display();
    format!("rediss://localhost:{}/0?ssl_cert_reqs=required&ssl_ca_certs={ca}", proxy.at.port())
}

/// Starts one of the scripts; it works until its input is closed.
fn start(script: &str, pair: &Pair, proxies: &[Proxy; 2]) -> Child {
    let python = std::env::var("CHANGEOVER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(python);
    command.arg(format!("{}/tests/compat/{script}", env!("CARGO_MANIFEST_DIR"))).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("QUEUE_URL", url(pair, &proxies[0])).env("QUEUE_URL_2", url(pair, &proxies[1]));
    command.env("QUEUE_DONE", pair.dir.path().join("done"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("python3 (make deps)")
}

/// Two announced switchovers and two bare FAILOVERs, to and fro.
fn change(pair: &Pair, proxies: &[Proxy; 2]) {
    for _ in 0..2 {
        pause(1000);
        let out = proxies[0].operate("switchover --to b --timeout 10s");
        assert!(
            out.status.success(),
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        pair.wait_primary_b();
        pause(1000);
        assert_eq!(pair.b.cmd("FAILOVER"), ok());
        pair.wait_primary_a();
    }
    pause(1000);
}

fn story(script: &str) {
    let pair = Pair::start();
    let proxies = [Proxy::with(&pair, "a", Options::default()), Proxy::with(&pair, "b", Options::default())];
    let mut queue = start(script, &pair, &proxies);
    let mut told = BufReader::new(queue.stdout.take().unwrap());
    let mut words = String::new();
    told.read_line(&mut words).unwrap();
    if words == "ready\n" {
        change(&pair, &proxies);
    }
    drop(queue.stdin.take());
    told.read_to_string(&mut words).unwrap();
    queue.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(queue.wait().unwrap().success(), "{words}(its libraries: tests/compat/requirements.txt, or make test)");
}

#[test]
fn celery_does_not_notice_four_changes() {
    story("celery_workers.py");
}

#[test]
fn rq_does_not_notice_four_changes() {
    story("rq_workers.py");
}
