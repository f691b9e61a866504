//! The operations endpoint: `/metrics`, `/healthz`, `/readyz`, and listeners that name what they could not bind.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

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

/// Serves `router` until `stop` is cancelled, then lets the requests in flight finish. Run it through
/// [`crate::Shutdown::spawn_critical`], whose deadline ends connections that do not.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: tokio_util::sync::CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
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
}
