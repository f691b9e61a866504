//! The operations endpoint: `/metrics`, `/healthz`, `/readyz`, and listeners that name what they could not bind.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::connections::Connections;
use crate::{Health, Metrics};

/// `/metrics`, `/healthz` and `/readyz`, to merge into a binary's own router or to serve alone.
pub fn operations_router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(Router::new().route("/metrics", get(metrics_text)).with_state(metrics))
}

/// Alive as long as this answers; the body says what is degraded. Always 200: a supervisor that restarted an agent
/// because its RPC is away would only make things worse.
async fn healthz(State(health): State<Health>) -> Response {
    Json(health.report()).into_response()
}

async fn readyz(State(health): State<Health>) -> Response {
    let reasons = health.not_ready_because();
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(serde_json::json!({ "ready": reasons.is_empty(), "waiting_for": reasons })),
    )
        .into_response()
}

async fn metrics_text(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operating system refused.
    #[error("cannot listen on {address} for {purpose}; is another process using it?")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the listener is for.
        purpose: &'static str,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

/// Listens on `address`; port 0 takes any free port. Returns the address really bound.
pub async fn bind(address: SocketAddr, purpose: &'static str) -> Result<(TcpListener, SocketAddr), BindError> {
    let refused = |source| BindError::Listen {
        address,
        purpose,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    tracing::info!(address = %bound, "listening for {purpose}");
    Ok((listener, bound))
}

/// What clients of [`serve`] may hold. Anyone may connect, so without these bounds whoever opens connections and says nothing
/// takes all file descriptors, and with them the store and the way to the chain.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at once: well below the usual 1 024 file descriptors of a process.
    pub connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// For a request's header, and the longest time that a connection may be idle between two requests.
    pub header_timeout: Duration,
    /// After this a connection takes no further request, and soon after it is cut.
    pub lifetime: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 128,
            header_timeout: Duration::from_secs(30),
            lifetime: Duration::from_secs(300),
        }
    }
}

/// How long a request in flight may take once its connection has reached its lifetime.
const LAST_REQUEST: Duration = Duration::from_secs(30);
/// Wait after the operating system refused to accept: a busy loop helps nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` is cancelled, then lets the requests in flight finish. Handlers may take
/// `ConnectInfo<SocketAddr>`. Run it through [`crate::Shutdown::spawn_critical`], whose deadline ends connections that do
/// not.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    serve_within(listener, router, stop, ConnectionLimits::default()).await
}

/// [`serve`] with other limits.
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    limits: ConnectionLimits,
) -> std::io::Result<()> {
    let places = Connections::new(limits.connections, limits.connections_per_address);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.take(address.ip()) else {
            tracing::debug!(%address, "too many connections");
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, address, router, stop, limits).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
    limits: ConnectionLimits,
) {
    // Answers are small and whole: holding them back for more gains nothing.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // Clients that go in the middle are no event.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        () = tokio::time::sleep(limits.lifetime) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(LAST_REQUEST, connection).await;
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::ServiceExt;

    use super::*;
    use crate::health::Gate;

    async fn answer(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("request");
        let response = router.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = response.into_body().collect().await.expect("body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn alive_is_not_ready() {
        let health = Health::new();
        let store = health.component("store", Gate::Ready);
        let router = operations_router(health, Metrics::new());
        assert_eq!(answer(&router, "/healthz").await.0, StatusCode::OK);
        let (status, body) = answer(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("store: starting"), "{body}");
        store.ok();
        assert_eq!(answer(&router, "/readyz").await.0, StatusCode::OK);
        assert!(answer(&router, "/metrics").await.1.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let (_listener, bound) = bind("127.0.0.1:0".parse().expect("address"), "a test")
            .await
            .expect("free port");
        let message = bind(bound, "metrics").await.expect_err("taken").to_string();
        assert!(
            message.contains(&bound.to_string()) && message.contains("metrics"),
            "{message}"
        );
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Serves on a free port until the token is cancelled.
    async fn served(limits: ConnectionLimits) -> (SocketAddr, CancellationToken) {
        let (listener, address) = bind("127.0.0.1:0".parse().expect("address"), "a test")
            .await
            .expect("free port");
        let stop = CancellationToken::new();
        let router = operations_router(Health::new(), Metrics::new());
        tokio::spawn(serve_within(listener, router, stop.clone(), limits));
        (address, stop)
    }

    async fn healthy(address: SocketAddr) -> bool {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return false;
        };
        let request = b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        let mut answer = Vec::new();
        stream.write_all(request).await.is_ok()
            && stream.read_to_end(&mut answer).await.is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
    }

    #[tokio::test]
    async fn who_says_nothing_is_cut_and_keeps_nobody_out() {
        let (address, stop) = served(ConnectionLimits {
            connections: 4,
            connections_per_address: 4,
            header_timeout: Duration::from_millis(200),
            ..ConnectionLimits::default()
        })
        .await;
        let mut silent = Vec::new();
        for part in [&b""[..], b"GET /healthz HTTP/1.1\r\nx-", b"", b"P"] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            // A slow test may find itself cut already.
            let _ = stream.write_all(part).await;
            silent.push(stream);
        }
        for stream in &mut silent {
            let mut rest = Vec::new();
            let cut = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            assert!(cut.is_ok(), "a silent connection is still open after {PATIENCE:?}");
        }
        let answered = tokio::time::timeout(PATIENCE, async {
            while !healthy(address).await {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(
            answered.is_ok(),
            "no answer within {PATIENCE:?} after the silent ones were cut"
        );
        stop.cancel();
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_lifetime() {
        let (address, stop) = served(ConnectionLimits {
            // Long enough that the question has arrived by then on a busy machine, too.
            lifetime: Duration::from_secs(2),
            ..ConnectionLimits::default()
        })
        .await;
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .expect("writes");
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "kept open for {PATIENCE:?}");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "answered before");
        stop.cancel();
    }
}
