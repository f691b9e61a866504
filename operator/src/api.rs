//! Where the operator is asked: EigenLayer's node API, and the file that says at which address.
//!
//! The node API is that of EigenLayer's node specification v0.0.1: `/eigen/node`, `/eigen/node/health`,
//! `/eigen/node/services` and `/eigen/node/services/{id}/health`. Its services are the components of `/healthz`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use daemon::Health;
use daemon::health::{ComponentReport, State as ComponentState};
use serde::Deserialize;
use serde_json::json;

/// The file's name in the data directory.
const ADDRESSES: &str = "addresses.json";
/// The specification's version, as its own examples write it.
const SPECIFICATION: &str = "v0.0.1";
const NODE_NAME: &str = "spheron-operator";

/// Writes where this process listens, whole or not at all.
pub fn write_addresses(data_directory: &Path, http: SocketAddr) -> std::io::Result<()> {
    let text = json!({ "http": http.to_string(), "pid": std::process::id() }).to_string();
    let unfinished = data_directory.join(format!("{ADDRESSES}.new"));
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, data_directory.join(ADDRESSES))
}

/// EigenLayer's node API over this process's health.
pub fn node_router(health: Health) -> Router {
    Router::new()
        .route("/eigen/node", get(node))
        .route("/eigen/node/health", get(node_health))
        .route("/eigen/node/services", get(services))
        .route("/eigen/node/services/{id}/health", get(service_health))
        .with_state(health)
}

/// Every request may name the version of the specification it expects.
#[derive(Deserialize)]
struct Version {
    version: Option<String>,
}

impl Version {
    fn answered(&self, answer: impl FnOnce() -> Response) -> Response {
        match self.version.as_deref() {
            None | Some(SPECIFICATION) => answer(),
            Some(_) => not_found(&format!("this node speaks specification {SPECIFICATION}")),
        }
    }
}

fn not_found(why: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
}

async fn node(Query(version): Query<Version>) -> Response {
    version.answered(|| {
        let about = json!({
            "node_name": NODE_NAME,
            "spec_version": SPECIFICATION,
            "node_version": concat!("v", env!("CARGO_PKG_VERSION")),
        });
        Json(about).into_response()
    })
}

async fn node_health(State(health): State<Health>, Query(version): Query<Version>) -> Response {
    version.answered(|| {
        let report = health.report();
        let unfit = |component: &ComponentReport| {
            component.gates_readiness && matches!(component.state, ComponentState::Degraded(_))
        };
        match report.components.iter().any(unfit) {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false if report.status == "ok" => StatusCode::OK,
            false => StatusCode::PARTIAL_CONTENT,
        }
        .into_response()
    })
}

async fn services(State(health): State<Health>, Query(version): Query<Version>) -> Response {
    version.answered(|| {
        let services: Vec<_> = health
            .report()
            .components
            .iter()
            .map(|component| {
                json!({
                    "id": component.name,
                    "name": component.name,
                    "description": description(component),
                    "status": match component.state {
                        ComponentState::Ok => "Up",
                        ComponentState::Starting => "Initializing",
                        ComponentState::Degraded(_) => "Down",
                    },
                })
            })
            .collect();
        Json(services).into_response()
    })
}

async fn service_health(
    State(health): State<Health>,
    UrlPath(id): UrlPath<String>,
    Query(version): Query<Version>,
) -> Response {
    version.answered(|| {
        let report = health.report();
        let component = report.components.iter().find(|component| component.name == id);
        match component.map(|component| &component.state) {
            None => not_found("no such service; /eigen/node/services lists them"),
            Some(ComponentState::Ok) => StatusCode::OK.into_response(),
            Some(ComponentState::Starting) => StatusCode::PARTIAL_CONTENT.into_response(),
            Some(ComponentState::Degraded(_)) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    })
}

fn description(component: &ComponentReport) -> &'static str {
    match component.name.as_str() {
        "chain" => "Follows the orders and answers of the network's contracts",
        "rpc" => "The JSON-RPC endpoints the chain is read from",
        "store" => "The database of what was followed and signed",
        "membership" => "Membership in the service's operator sets",
        "watch" => "Recomputes every answer on chain and disputes wrong ones",
        "transactions" => "Sends transactions from the operator's account",
        "matchmaker_transactions" => "Sends transactions from the matchmaker's account",
        _ => "A part of the operator",
    }
}

#[cfg(test)]
mod tests {
    use daemon::health::Gate;

    use super::*;

    async fn get(url: &str) -> (u16, serde_json::Value) {
        let answer = reqwest::get(url).await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    #[tokio::test]
    async fn the_node_api_is_that_of_the_specification() {
        daemon::tls::install_provider();
        let health = Health::new();
        let (chain, rpc) = (
            health.component("chain", Gate::Ready),
            health.component("rpc", Gate::None),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}/eigen/node", listener.local_addr().expect("bound"));
        let router = node_router(health);
        tokio::spawn(async move { axum::serve(listener, router).await });

        let (status, about) = get(&base).await;
        assert_eq!((status, &about["spec_version"]), (200, &json!("v0.0.1")));
        assert!(about["node_name"].is_string() && about["node_version"].is_string());
        assert_eq!(get(&format!("{base}?version=v0.0.1")).await.0, 200);
        for path in ["", "/health", "/services", "/services/chain/health"] {
            assert_eq!(get(&format!("{base}{path}?version=v9")).await.0, 404, "{path}");
        }

        let health_of_node = format!("{base}/health");
        assert_eq!(get(&health_of_node).await.0, 206, "still starting");
        chain.ok();
        rpc.ok();
        assert_eq!(get(&health_of_node).await.0, 200);
        rpc.degraded("away");
        assert_eq!(get(&health_of_node).await.0, 206, "it goes on without");
        chain.degraded("cannot be followed");
        assert_eq!(get(&health_of_node).await.0, 503);

        let (_, services) = get(&format!("{base}/services")).await;
        assert_eq!(services.as_array().map(Vec::len), Some(2));
        assert_eq!(
            (&services[0]["id"], &services[0]["status"]),
            (&json!("chain"), &json!("Down"))
        );
        assert_eq!(get(&format!("{base}/services/chain/health")).await.0, 503);
        for (path, why) in [
            (
                "/services/none/health",
                "no such service; /eigen/node/services lists them\n",
            ),
            ("?version=v9", "this node speaks specification v0.0.1\n"),
        ] {
            let answer = reqwest::get(format!("{base}{path}")).await.expect("an answer");
            assert_eq!(answer.status().as_u16(), 404);
            assert_eq!(answer.text().await.expect("a body"), why);
        }
    }
}
