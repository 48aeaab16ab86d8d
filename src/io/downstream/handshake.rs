//! The TLS handshake of one client, under a deadline, and how it can fail.

use std::rc::Rc;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::io::clock;
use crate::io::tls::ServerSide;
use crate::io::worker::{Guest, Worker};
use crate::metrics::worker::{Counter, Histogram};

use super::wire::Wire;

/// Encrypted bytes that may wait for a slow client below the plain ones.
const TLS_BUFFER: usize = 64 * 1024;

/// Shakes hands; `None` when that failed, which has been counted.
pub(super) async fn accept(worker: &Rc<Worker>, tls: &ServerSide, socket: Guest) -> Option<TlsStream<Wire>> {
    let began = clock::now();
    let stream = match socket {
        Guest::Here(stream) => stream,
        Guest::Moved(socket) => TcpStream::from_std(socket).ok()?,
    };
    let wire = Wire::new(stream, Rc::clone(&worker.buffers));
    let shaking = TlsAcceptor::from(tls.config()).accept_with(wire, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
    let result = tokio::time::timeout(worker.limits.handshake, shaking).await;
    let counter = match &result {
        Ok(Ok(client)) => match client.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => Counter::HandshakeResumed,
            _ => Counter::HandshakeFull,
        },
        Ok(Err(error)) => failure(error),
        Err(_elapsed) => Counter::HandshakeTimeout,
    };
    worker.stats.add(counter, 1);
    worker.stats.observe(Histogram::Handshake, clock::now().saturating_sub(began));
    let mut client = result.ok()?.ok()?;
    client.get_mut().0.settle();
    Some(client)
}

/// Whose fault it was, as far as it shows.
fn failure(error: &std::io::Error) -> Counter {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => Counter::HandshakeCertificate,
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => Counter::HandshakeNotTls,
        _ => Counter::HandshakeFailed,
    }
}
