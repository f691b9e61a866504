//! Serves an axum router over TLS to clients of which every one may be hostile.
//!
//! What a client can hold is bounded before it can hold it: connections (in all, per address), handshakes at once, time for
//! the handshake, for the header, for the body, for taking the answer, and memory for all bodies together. One connection
//! carries one request. Admission is decided from certificate and header, before the body is read and before any handler
//! runs.

mod body;
mod guard;
mod metrics;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use daemon::connections::{Connections, Place};
use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::body::Bodies;
use self::guard::GuardedStream;
pub use self::metrics::ServerMetrics;
use crate::wire::{self, ErrorBody, ErrorCode, LARGEST_MANIFEST_BYTES};
use crate::{Fingerprint, Identity, tls};

/// How long to wait after the operating system refused to accept (out of file descriptors): a busy loop helps nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// More headers than this are a defect or an attack.
const MOST_HEADERS: usize = 64;

/// Who asks. Handlers take it with `axum::Extension<Peer>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Of the certificate whose key the peer holds.
    pub fingerprint: Fingerprint,
    /// Where it connects from.
    pub address: SocketAddr,
    /// The address whose key it says it has ([`wire::HOLDER`]). A claim: whether that address published this fingerprint, only
    /// the chain knows.
    pub claimed_holder: Option<Address>,
}

/// Decides who may ask what, before the body is read and before any handler runs.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Lets the request through, maybe with extensions added for the handler, or refuses it.
    async fn admit(&self, peer: Peer, request: &mut Parts) -> Result<(), ErrorBody>;
}

/// Everybody who holds a key may ask; the handlers decide.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn admit(&self, _peer: Peer, _request: &mut Parts) -> Result<(), ErrorBody> {
        Ok(())
    }
}

/// What clients may hold. The defaults keep 1 000 slow clients below 64 MiB.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// Handshakes at once. More wait, within the handshake's time. More than one address may have connections, or one
    /// could keep everybody out.
    pub handshakes: usize,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the request's header, from the end of the handshake.
    pub header_timeout: Duration,
    /// Size of the request's header, at least 8 KiB.
    pub header_bytes: usize,
    /// Size of a request's body.
    pub body_bytes: usize,
    /// For the whole of a request's body.
    pub body_timeout: Duration,
    /// Bodies read at once, and as many that are read only to be thrown away. More are refused.
    pub bodies: usize,
    /// Memory for all bodies together.
    pub body_memory: usize,
    /// From the complete request to the answer's header. What streams then is not bounded in time.
    pub response_timeout: Duration,
    /// How long a client may take nothing of the answer.
    pub write_stall: Duration,
    /// How long requests in flight may go on after the server was told to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 128,
            handshakes: 256,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            header_bytes: 8 * 1024,
            body_bytes: LARGEST_MANIFEST_BYTES,
            body_timeout: Duration::from_secs(30),
            bodies: 64,
            body_memory: 16 * LARGEST_MANIFEST_BYTES,
            response_timeout: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// A router with all that stands between it and the network.
pub struct Server {
    tls: Arc<ServerConfig>,
    router: Router,
    limits: Limits,
    admission: Arc<dyn Admission>,
    metrics: ServerMetrics,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Server")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves `router` as `identity`, with default limits, to everybody who holds a key.
    pub fn new(identity: &Identity, router: Router) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: tls::server_config(identity)?,
            router,
            limits: Limits::default(),
            admission: Arc::new(AdmitAll),
            metrics: ServerMetrics::default(),
        })
    }

    /// Other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Asks `admission` before the body of any request is read.
    pub fn with_admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission = admission;
        self
    }

    /// Counts into `metrics`.
    pub fn with_metrics(mut self, metrics: ServerMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Accepts until `stop` is cancelled; then lets requests in flight finish for [`Limits::drain`] and drops the rest.
    /// Handlers that stream should watch the same token.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        let connections = Connections::new(self.limits.connections, self.limits.connections_per_address);
        let abandon = CancellationToken::new();
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(self.tls),
            handshakes: Semaphore::new(self.limits.handshakes),
            bodies: Bodies::new(&self.limits),
            router: self.router,
            admission: self.admission,
            metrics: self.metrics,
            limits: self.limits,
            stop: stop.clone(),
        });
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = connections.take(address.ip()) else {
                shared.metrics.refused_full.inc();
                continue;
            };
            let connection = shared.clone().connection(stream, address, place);
            tasks.spawn(abandon.clone().run_until_cancelled_owned(connection));
        }
        drop(listener);
        tasks.close();
        if timeout(shared.limits.drain, tasks.wait()).await.is_err() {
            abandon.cancel();
            tasks.wait().await;
        }
        Ok(())
    }
}

/// What all connections share.
struct Shared {
    acceptor: TlsAcceptor,
    handshakes: Semaphore,
    bodies: Bodies,
    router: Router,
    admission: Arc<dyn Admission>,
    metrics: ServerMetrics,
    limits: Limits,
    stop: CancellationToken,
}

impl Shared {
    async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        let _counted = metrics::Counted::new(&self.metrics.connections);
        // Boxed, so that what only the handshake needs is free again while the connection lives.
        let handshake = timeout(self.limits.handshake_timeout, Box::pin(self.handshake(stream))).await;
        match handshake {
            Ok(Ok((stream, fingerprint))) => {
                let peer = Peer {
                    fingerprint,
                    address,
                    claimed_holder: None,
                };
                self.clone().http(stream, peer).await;
            }
            Ok(Err(error)) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!(%address, %error, "handshake failed");
            }
            Err(_) => {
                self.metrics.handshakes_failed.inc();
                tracing::debug!(%address, "handshake took too long");
            }
        }
        drop(place);
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<(TlsStream<GuardedStream<TcpStream>>, Fingerprint)> {
        let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
        stream.set_nodelay(true)?;
        let stream = GuardedStream::new(stream, self.limits.write_stall);
        let mut stream = self.acceptor.accept(stream).await?;
        stream.get_mut().0.handshake_done();
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or_else(|| io::Error::other("no client certificate"))?;
        let fingerprint = Fingerprint::of_certificate(certificate).map_err(io::Error::other)?;
        Ok((stream, fingerprint))
    }

    async fn http(self: Arc<Self>, stream: TlsStream<GuardedStream<TcpStream>>, peer: Peer) {
        let stream = TokioIo::new(stream);
        let service = {
            let shared = self.clone();
            service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(shared.answer(peer, request).await) }
            })
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.header_bytes)
            .max_headers(MOST_HEADERS)
            .keep_alive(false)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            self.metrics.connections_cut.inc();
            tracing::debug!(address = %peer.address, %error, "connection ended early");
        }
    }

    async fn answer(&self, peer: Peer, request: Request<Incoming>) -> Response {
        self.metrics.requests.inc();
        match self.admitted(peer, request).await {
            Ok(response) => response,
            Err(refusal) => {
                self.metrics.refused.inc();
                tracing::debug!(
                    address = %peer.address,
                    fingerprint = %peer.fingerprint,
                    code = ?refusal.error,
                    "refused: {}",
                    refusal.message
                );
                refusal.into_response()
            }
        }
    }

    async fn admitted(&self, peer: Peer, request: Request<Incoming>) -> Result<Response, ErrorBody> {
        let (mut parts, body) = request.into_parts();
        let peer = match self.admit(peer, &mut parts).await {
            Ok(peer) => peer,
            Err(refusal) => {
                self.bodies.discard(body, &self.limits).await;
                return Err(refusal);
            }
        };
        let body = self.bodies.read(body, &self.limits).await?;
        parts.extensions.insert(peer);
        let request = Request::from_parts(parts, Body::from(body.bytes.clone()));
        let Ok(answered) = timeout(self.limits.response_timeout, self.router.clone().oneshot(request)).await else {
            let message = format!("no answer within {} seconds", self.limits.response_timeout.as_secs());
            return Err(ErrorBody::new(ErrorCode::Overloaded, message).retry_after(5));
        };
        match answered {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    /// The peer with what this request says of it, if it may ask.
    async fn admit(&self, peer: Peer, request: &mut Parts) -> Result<Peer, ErrorBody> {
        let claimed_holder = wire::claimed_holder(&request.headers)
            .map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
        let peer = Peer { claimed_holder, ..peer };
        self.admission.admit(peer, request).await?;
        Ok(peer)
    }
}
