//! The typed methods, refusals included.

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use gateway::ClientError;
use gateway::wire::{
    Difference, ErrorBody, ErrorCode, LeaseId, LeasePhase, LeaseStatus, ProviderStatus, ResourceAmounts, UpdatePhase,
    UpdateStatus, VERSION, path,
};

use crate::support::{Counting, LEASE, Running, identity};

fn provider_status() -> ProviderStatus {
    ProviderStatus {
        version: VERSION,
        software: "0.1.0".to_owned(),
        chain_id: 31337,
        provider: 3,
        bidding: true,
        leases: 1,
        total: ResourceAmounts {
            milli_cpu: 4000,
            memory_bytes: 1 << 33,
            storage_bytes: 1 << 40,
            gpus: vec![],
        },
        free: ResourceAmounts::default(),
    }
}

fn lease_status(lease: LeaseId) -> LeaseStatus {
    LeaseStatus {
        lease,
        phase: LeasePhase::AwaitingManifest,
        reason: None,
        manifest_hash: None,
        manifest_deadline: Some(1_800_000_000),
        workload: Some(LeaseId(1)),
        ends_at: Some(1_900_000_000),
        stops_at: Some(1_900_000_060),
        low_on_funds: false,
        replaced_by: None,
        update: Some(UpdateStatus {
            phase: UpdatePhase::AwaitingManifest,
            manifest_hash: alloy_primitives::B256::repeat_byte(1),
            expiry: Some(1_800_000_000),
            reason: None,
        }),
        services: vec![],
        warnings: vec![],
        observed_at: 1_700_000_000,
    }
}

#[tokio::test]
async fn what_the_server_says_is_what_the_client_returns() {
    let given_back = bytes::Bytes::from_static(b"{\"image\":\"nginx\"}");
    let answer = given_back.clone();
    let router = Router::new()
        .route(path::STATUS, get(|| async { Json(provider_status()) }))
        .route(
            path::LEASE,
            get(|Path(lease): Path<LeaseId>| async move { Json(lease_status(lease)) }),
        )
        .route(path::MANIFEST, get(move || async move { answer }));
    let running = Running::with_router(router).await;
    let client = running.client(&identity());
    assert_eq!(client.provider().await.expect("provider"), provider_status());
    assert_eq!(client.lease(LEASE).await.expect("lease"), lease_status(LEASE));
    assert_eq!(client.manifest(LEASE).await.expect("manifest"), given_back);
}

#[tokio::test]
async fn a_refusal_arrives_with_its_reason_and_both_values() {
    let difference = Difference {
        field: "cpu".to_owned(),
        on_chain: "1 CPU".to_owned(),
        from_manifest: "8 CPU".to_owned(),
    };
    let body = ErrorBody::new(ErrorCode::TermsMismatch, "the manifest asks for more than was paid for")
        .with_differences(vec![difference.clone()]);
    let router = Router::new().route(path::MANIFEST, axum::routing::put(move || async move { body }));
    let running = Running::with_router(router).await;
    let error = running
        .client(&identity())
        .put_manifest(LEASE, "{}")
        .await
        .expect_err("eight for the price of one");
    let ClientError::Refused { status, body, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((status.as_u16(), body.error), (422, ErrorCode::TermsMismatch));
    assert_eq!(body.details.differences, [difference]);
    assert!(error.to_string().contains("more than was paid for"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn an_answer_that_is_no_gateways_is_named_as_such() {
    let router = Router::new()
        .route(path::STATUS, get(|| async { "<html>welcome</html>" }))
        .route(path::LEASE, get(|| async { "x".repeat(5 << 20) }));
    let running = Running::with_router(router).await;
    let client = running.client(&identity());
    let error = client.provider().await.expect_err("HTML");
    assert!(matches!(error, ClientError::Nonsense { .. }), "{error:?}");
    let error = client.lease(LEASE).await.expect_err("5 MiB");
    assert!(matches!(error, ClientError::Nonsense { .. }), "{error:?}");
    let error = client.manifest(LEASE).await.expect_err("404 without a body");
    assert!(
        matches!(&error, ClientError::Refused { status, .. } if status.as_u16() == 404),
        "{error:?}"
    );
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_server_stops() {
    let (entered, mut waiting) = tokio::sync::mpsc::channel(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let router = Router::new().route(
        path::STATUS,
        get(move || async move {
            entered.send(()).await.expect("the test waits");
            released
                .clone()
                .wait_for(|released| *released)
                .await
                .expect("the test releases");
            Json(provider_status())
        }),
    );
    let mut running = Running::with_router(router).await;
    let client = running.client(&identity());
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.provider().await }
    });
    waiting.recv().await.expect("in flight");
    running.stop.cancel();
    release.send(true).expect("released");
    assert_eq!(asking.await.expect("task").expect("finished"), provider_status());
    (&mut running.task).await.expect("task").expect("served");
    let error = client.provider().await.expect_err("stopped");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_manifest_that_no_gateway_takes_is_not_sent() {
    let counting = Counting::default();
    let running = Running::with_router(counting.router()).await;
    let error = running
        .client(&identity())
        .put_manifest(LEASE, "x".repeat(gateway::wire::LARGEST_MANIFEST_BYTES + 1))
        .await
        .expect_err("too large");
    assert!(matches!(error, ClientError::ManifestTooLarge { .. }), "{error:?}");
    assert_eq!(counting.handled(), 0);
}
