//! The servers over real sockets, asked by the real client and by rude ones.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::io::admin::client::{AdminClient, AskError};
use crate::io::admin::status::{DrainStatus, Status, ViewState, ViewStatus};
use crate::io::admin::{
    AdminHandle, AdminRequest, Outcome, Progress, Refused, StepReport, SwitchoverOrder, SwitchoverReport,
};

/// An admin server on a Unix socket; the test plays the owner.
struct Served {
    client: AdminClient,
    requests: mpsc::Receiver<AdminRequest>,
    status: watch::Sender<Arc<Status>>,
    stop: CancellationToken,
    task: JoinSet<()>,
    _dir: tempfile::TempDir,
}

async fn admin() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let at = Admin::Unix(dir.path().join("admin.sock"));
    let (sender, requests) = mpsc::channel(1);
    let (status, snapshot) = watch::channel(Arc::new(Status { version: "9.9".into(), ..Status::default() }));
    let stop = CancellationToken::new();
    let listener = Listener::admin(&at, None).await.unwrap();
    let mut task = JoinSet::new();
    task.spawn(serve(
        listener,
        admin_routes(
            AdminHandle {
                requests: sender,
                status: snapshot,
                events: watch::channel(Default::default()).1,
                hooks: mpsc::channel(1).0,
                looks: mpsc::channel(1).0,
            },
            Guard::Local,
        ),
        stop.clone(),
    ));
    Served { client: AdminClient::new(at), requests, status, stop, task, _dir: dir }
}

fn report() -> SwitchoverReport {
    SwitchoverReport {
        outcome: Outcome::Switched,
        from: Some("a".into()),
        to: Some("b".into()),
        stopped: None,
        gates: vec![],
        steps: vec![],
        took_ms: 3.5,
        longest_stall_ms: None,
        held: None,
        peers: vec![],
    }
}

/// Answers the one request that comes.
fn owner(
    mut requests: mpsc::Receiver<AdminRequest>,
    answer: impl FnOnce(AdminRequest) + Send + 'static,
) -> JoinSet<()> {
    let mut owner = JoinSet::new();
    owner.spawn(async move { answer(requests.recv().await.unwrap()) });
    owner
}

#[tokio::test]
async fn status_is_the_newest_snapshot() {
    let served = admin().await;
    assert_eq!(served.client.status().await.unwrap().version, "9.9");
    served.status.send_modify(|status| Arc::make_mut(status).version = "10".into());
    assert_eq!(served.client.status().await.unwrap().version, "10");
}

#[tokio::test]
async fn a_switchover_tells_its_steps_as_they_happen() {
    let mut served = admin().await;
    let order = SwitchoverOrder { to: Some("b".into()), timeout_ms: Some(900), dry_run: false };
    let (seen, mut told) = mpsc::channel(1);
    let client = served.client.clone();
    let mut asking = JoinSet::new();
    let asked = order.clone();
    asking.spawn(async move { client.switchover(&asked, |line| drop(seen.try_send(line.clone()))).await });
    let Some(AdminRequest::Switchover { order: arrived, progress }) = served.requests.recv().await else { panic!() };
    assert_eq!(arrived, order);
    let step = Progress::Step(StepReport { name: "hold".into(), at_ms: 0.4, took_ms: 0.4 });
    progress.send(step.clone()).await.unwrap();
    // The step is seen before the end is known: nothing in between gathers lines.
    assert_eq!(told.recv().await.unwrap(), step);
    progress.send(Progress::Report(report())).await.unwrap();
    assert_eq!(asking.join_next().await.unwrap().unwrap().unwrap(), report());
}

#[tokio::test]
async fn a_switchover_without_a_report_is_an_error_and_not_a_success() {
    let served = admin().await;
    let _owner = owner(served.requests, drop);
    let answer = served.client.switchover(&SwitchoverOrder::default(), |_| {}).await;
    assert!(matches!(answer, Err(AskError::Cut(_))), "{answer:?}");
}

#[tokio::test]
async fn drain_and_adopt_are_answered_and_refused() {
    let served = admin().await;
    let _owner = owner(served.requests, |request| {
        let AdminRequest::Drain { stop: false, reply } = request else { panic!() };
        reply.send(Ok(DrainStatus { open: 12, ..DrainStatus::default() })).unwrap();
    });
    assert_eq!(served.client.drain(false).await.unwrap().open, 12);

    let served = admin().await;
    let _owner = owner(served.requests, |request| {
        let AdminRequest::Adopt { node, reply } = request else { panic!() };
        reply.send(Err(Refused::because(format!("there is no doubt to end; {node} is a replica")))).unwrap();
    });
    let refused = served.client.adopt("b").await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no doubt to end; b is a replica");

    let served = admin().await;
    let view = ViewStatus { epoch: 3, primary: Some("b".into()), state: ViewState::Serving, ..ViewStatus::default() };
    let answer = view.clone();
    let _owner = owner(served.requests, |request| {
        let AdminRequest::Adopt { reply, .. } = request else { panic!() };
        reply.send(Ok(answer)).unwrap();
    });
    assert_eq!(served.client.adopt("b").await.unwrap(), view);
}

#[tokio::test]
async fn an_owner_that_has_ended_or_is_busy_is_said() {
    let served = admin().await;
    drop(served.requests);
    assert_eq!(served.client.drain(false).await.unwrap_err().to_string(), "the process is ending");

    let served = admin().await;
    // The queue has one place, which this one takes; nobody answers it.
    let waits = served.client.clone();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { waits.drain(false).await });
    while served.requests.is_empty() {
        tokio::task::yield_now().await;
    }
    let busy = served.client.drain(false).await.unwrap_err();
    assert!(busy.to_string().starts_with("busy"), "{busy}");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let client = AdminClient::new(Admin::Unix("/nonexistent/admin.sock".into()));
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, AskError::Nobody(_)));
    assert!(error.to_string().contains("unix:/nonexistent/admin.sock"));
}

#[tokio::test]
async fn stopping_removes_the_socket_and_ends_the_server() {
    let mut served = admin().await;
    served.stop.cancel();
    served.task.join_next().await.unwrap().unwrap();
    assert!(matches!(served.client.status().await, Err(AskError::Nobody(_))));
}

/// An admin server over TCP. It ends with the set.
async fn over_tcp() -> (SocketAddr, JoinSet<()>) {
    let (sender, _requests) = mpsc::channel(1);
    let (_status, snapshot) = watch::channel(Arc::new(Status::default()));
    let listener = Listener::admin(&Admin::Tcp(([127, 0, 0, 1], 0).into()), None).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (events, tail) = watch::channel(Default::default());
    let mut task = JoinSet::new();
    let routes = admin_routes(
        AdminHandle {
            requests: sender,
            status: snapshot,
            events: tail,
            hooks: mpsc::channel(1).0,
            looks: mpsc::channel(1).0,
        },
        Guard::Local,
    );
    task.spawn(async move {
        let _events = events;
        serve(listener, routes, CancellationToken::new()).await;
    });
    (at, task)
}

/// What a raw request gets from the admin server over TCP.
async fn raw(request: &str) -> String {
    let (at, _server) = over_tcp().await;
    ask_raw(at, request).await
}

async fn ask_raw(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_browser_cannot_be_lured_into_a_drain() {
    let form = "POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert!(raw(form).await.starts_with("HTTP/1.1 415"), "a form cannot send JSON");
    let page = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n";
    assert!(raw(page).await.starts_with("HTTP/1.1 403"));
    let rebound = "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert!(raw(rebound).await.starts_with("HTTP/1.1 403"));
    assert!(raw("GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn garbage_and_giants_are_refused() {
    assert!(raw("*1\r\n$4\r\nPING\r\n").await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(HEAD_BYTES));
    let answer = raw(&long).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let body = " ".repeat(BODY_BYTES + 1);
    let big = format!(
        "POST /v1/adopt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(raw(&big).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn the_admin_api_never_listens_beyond_this_machine() {
    let error = Listener::admin(&Admin::Tcp(([0, 0, 0, 0], 0).into()), None).await.unwrap_err();
    assert!(matches!(error, BindError::NotLoopback(_)));
}

const STATUS: &str = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn silent_connections_keep_nobody_waiting() {
    let (at, _server) = over_tcp().await;
    let mut silent = Vec::new();
    for round in 0..3 * CONNECTIONS {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // Some begin a request and never end it.
        if round % 3 == 0 {
            stream.write_all(b"GET /v1/sta").await.unwrap();
        }
        silent.push(stream);
    }
    let before = crate::io::clock::now();
    assert!(ask_raw(at, STATUS).await.starts_with("HTTP/1.1 200"));
    assert!(crate::io::clock::now() - before < HEAD_DEADLINE, "it did not wait for the silent ones' deadline");
}

#[tokio::test]
async fn those_who_follow_events_leave_room_for_commands() {
    let (at, _server) = over_tcp().await;
    let follow = "GET /v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (mut followers, mut refused) = (Vec::new(), 0);
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(follow.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        refused += usize::from(head.ends_with(b"503"));
        followers.push(stream);
    }
    assert!(refused > 0 && refused < CONNECTIONS, "{refused} of {CONNECTIONS} were refused");
    assert!(ask_raw(at, STATUS).await.starts_with("HTTP/1.1 200"));
    // Their places come back when they go.
    drop(followers);
    while !ask_raw(at, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.starts_with("HTTP/1.1 200") {}
}

#[tokio::test]
async fn probes_of_load_balancers_get_the_reason() {
    let scrape = crate::metrics::exposition::install(vec![]).unwrap();
    // As young as it is when other tests have run before it.
    let uptime_ms = crate::io::admin::whole_ms(crate::io::clock::now());
    let (status, snapshot) = watch::channel(Arc::new(Status { uptime_ms, ..Status::default() }));
    let listener = Listener::metrics(([127, 0, 0, 1], 0).into()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(serve(listener, metrics_routes(scrape, snapshot), CancellationToken::new()));
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let starting = get("/readyz").await;
    assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("starting: no reason given\n"), "{starting}");
    status.send_modify(|status| Arc::make_mut(status).view.state = ViewState::Serving);
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    let scraped = get("/metrics").await;
    assert!(scraped.contains("content-type: text/plain; version=0.0.4"), "{scraped}");
    assert!(scraped.contains("\nchangeover_client_felt_total{what=\"unknown\"} 0\n"));
    assert!(get("/v1/status").await.starts_with("HTTP/1.1 404"), "nothing of the admin API is here");
    drop(status);
    assert!(get("/livez").await.starts_with("HTTP/1.1 503"));
}
