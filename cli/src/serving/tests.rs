//! Sending and watching, against the gateway's own server with a provider that answers what each test scripts. There is no
//! chain: nothing here may need one.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::chain::network::Network;
use alloy::primitives::B256;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use gateway::wire::{Difference, ErrorBody, ErrorCode, LeaseId, ManifestReceipt, path};
use gateway::{GatewayClient, Identity, PinnedFingerprints, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use crate::chain::Chain;
use crate::home::Home;
use crate::output::Output;
use crate::session::Session;

const LEASE: u64 = 4_294_967_297;
const LONG: Duration = Duration::from_secs(60);

type Answer = fn() -> Response;

/// A provider that gives its answers in turn, the last one for ever.
struct Provider {
    url: url::Url,
    identity: Identity,
    asked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Provider {
    async fn with(answers: Vec<Answer>) -> Self {
        daemon::tls::install_provider();
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (Arc::new(answers), asked.clone());
        let answer = move || {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            let answer = answers
                .get(turn)
                .or(answers.last())
                .map_or_else(refused_unknown, |answer| answer());
            async move { answer }
        };
        let router = Router::new()
            .route(path::LEASE, get(answer.clone()))
            .route(path::MANIFEST, put(answer));
        let identity = Identity::generate().expect("identity");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        let url = format!("https://{}", listener.local_addr().expect("address"))
            .parse()
            .expect("url");
        let stop = CancellationToken::new();
        let server = Server::new(&identity, router).expect("server");
        tokio::spawn(server.serve(listener, stop.clone()));
        Self {
            url,
            identity,
            asked,
            stop,
        }
    }

    fn client(&self) -> GatewayClient {
        self.client_that_expects(&self.identity)
    }

    fn client_that_expects(&self, identity: &Identity) -> GatewayClient {
        let user = Identity::generate().expect("identity");
        GatewayClient::new(&self.url, PinnedFingerprints::only(identity.fingerprint()), &user).expect("client")
    }
}

fn refused(code: ErrorCode) -> Response {
    ErrorBody::new(code, "no").into_response()
}

fn refused_unknown() -> Response {
    refused(ErrorCode::UnknownLease)
}

fn taken() -> Response {
    let receipt = ManifestReceipt {
        lease: LeaseId(LEASE),
        manifest_hash: B256::ZERO,
        already_stored: false,
        for_update: false,
    };
    Json(receipt).into_response()
}

fn status(phase: &str, service: &str) -> Response {
    let status = format!(
        r#"{{"lease":"{LEASE}","phase":"{phase}","observed_at":1,"services":[
            {{"name":"web","state":"{service}","message":"image not found","image":"web:1","wanted":1,"running":0}}]}}"#
    );
    ([("content-type", "application/json")], status).into_response()
}

/// A network whose chain is nowhere.
pub(crate) fn nowhere() -> Network {
    let network = r#"{"name":"nowhere","chain_id":1,"rpc":["http://127.0.0.1:9"],"deployed_at":0,"contracts":{CONTRACTS},
        "roles":{ROLES},"eigenlayer":{EIGENLAYER,"quorums":[]},"tokens":[]}"#;
    let zero = |names: &[&str]| {
        let fields: Vec<String> = names
            .iter()
            .map(|name| format!("\"{name}\":\"0x{}\"", "0".repeat(40)))
            .collect();
        fields.join(",")
    };
    let contracts = zero(&[
        "access_manager",
        "escrow",
        "order_book",
        "payment_tokens",
        "provider_registry",
        "certificate_registry",
        "stake_manager",
        "task_manager",
        "quorum_verifier",
        "matching_rule",
        "disputes",
        "slasher",
        "commission_split",
        "service_manager",
        "spon",
    ]);
    let eigenlayer = zero(&[
        "delegation_manager",
        "strategy_manager",
        "allocation_manager",
        "registry_coordinator",
        "stake_registry",
        "bls_apk_registry",
        "index_registry",
        "socket_registry",
        "operator_state_retriever",
        "rewards_coordinator",
    ]);
    let network = network
        .replace("CONTRACTS", &contracts)
        .replace("ROLES", &zero(&["governor", "token_lister", "verifier", "guardian"]))
        .replace("EIGENLAYER", &eigenlayer);
    serde_json::from_str(&network).expect("a network")
}

/// Runs a test with a session whose chain is nowhere.
async fn with_session<T>(test: impl AsyncFnOnce(&Session<'_>) -> T) -> T {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = Output::new(false);
    let session = Session {
        output: &output,
        home: Home::new(Some(folder.path()), None).expect("home"),
        chain: Chain::new(nowhere(), 500).expect("chain"),
        windows: Default::default(),
    };
    test(&session).await
}

#[tokio::test]
async fn a_manifest_is_sent_again_until_the_provider_knows_the_lease_and_its_owner() {
    let provider = Provider::with(vec![
        refused_unknown,
        || refused(ErrorCode::NotYours),
        || refused(ErrorCode::ChainUnavailable),
        taken,
    ])
    .await;
    let sent = with_session(async |session| {
        session
            .send_manifest(&provider.client(), LEASE, b"{}".to_vec(), Instant::now() + LONG)
            .await
    });
    sent.await.expect("taken in the end");
    assert_eq!(provider.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_manifest_that_is_not_what_was_ordered_is_not_sent_twice_and_both_values_are_told() {
    let provider = Provider::with(vec![|| {
        let difference = Difference {
            field: "cpu".to_owned(),
            on_chain: "1 CPU".to_owned(),
            from_manifest: "8 CPU".to_owned(),
        };
        ErrorBody::new(ErrorCode::TermsMismatch, "other terms")
            .with_differences(vec![difference])
            .into_response()
    }])
    .await;
    let sent = with_session(async |session| {
        session
            .send_manifest(&provider.client(), LEASE, b"{}".to_vec(), Instant::now() + LONG)
            .await
    });
    let message = format!("{:#}", sent.await.expect_err("refused"));
    assert!(
        message.contains("cpu: the manifest says 8 CPU, the order 1 CPU") && message.contains("other terms"),
        "{message}"
    );
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_is_sent_to_somebody_else() {
    let provider = Provider::with(vec![taken]).await;
    let other = Identity::generate().expect("identity");
    let sent = with_session(async |session| {
        let client = provider.client_that_expects(&other);
        session
            .send_manifest(&client, LEASE, b"{}".to_vec(), Instant::now() + LONG)
            .await
    });
    let message = format!("{:#}", sent.await.expect_err("another key"));
    assert!(message.contains("nothing was sent"), "{message}");
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_lease_is_watched_until_it_runs() {
    let provider = Provider::with(vec![
        || status("awaiting_manifest", "pending"),
        || refused(ErrorCode::RateLimited),
        || status("deploying", "pulling"),
        || status("running", "running"),
    ])
    .await;
    let ready = with_session(async |session| {
        session
            .wait_until_ready(&provider.client(), LEASE, Instant::now() + LONG)
            .await
    });
    assert!(matches!(ready.await.expect("watched"), Readiness::Running(_)));
}

#[tokio::test]
async fn what_cannot_run_and_what_takes_too_long_are_not_ready_with_the_reason() {
    let failed = Provider::with(vec![|| status("failed", "failed")]).await;
    let slow = Provider::with(vec![|| status("deploying", "pulling")]).await;
    for (provider, limit, expected) in [
        (&failed, LONG, "web failed: image not found"),
        (&slow, Duration::ZERO, "not ready in time"),
    ] {
        let ready = with_session(async |session| {
            session
                .wait_until_ready(&provider.client(), LEASE, Instant::now() + limit)
                .await
        });
        match ready.await.expect("watched") {
            Readiness::NotReady(reason) => assert!(reason.contains(expected), "{reason}"),
            Readiness::Running(_) => panic!("{expected}: said to run"),
        }
    }
}
