//! Who may ask.

use std::time::Duration;

use gateway::wire::ErrorCode;
use gateway::{Identity, PinnedFingerprints};
use provider_agent::api::Settings;
use workload::LeaseId;

use crate::fakes::{LEASE, about, code_of, lease_of, on_wire, running, running_with, salted, settings};

fn identity() -> Identity {
    Identity::generate().expect("identity")
}

#[tokio::test]
async fn anybody_with_a_key_learns_what_the_provider_is() {
    let running = running().await;
    assert_eq!(running.client(&identity()).provider().await.expect("status"), about());
}

#[tokio::test]
async fn strangers_and_unknown_leases_are_told_apart_and_see_nothing() {
    let running = running().await;
    running
        .as_owner()
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    let stranger = running.client(&identity());
    for refusal in [
        code_of(stranger.manifest(on_wire(LEASE)).await),
        code_of(stranger.lease(on_wire(LEASE)).await),
        code_of(stranger.put_manifest(on_wire(LEASE), salted().encode()).await),
        code_of(stranger.logs(on_wire(LEASE), Default::default()).next().await),
    ] {
        assert_eq!(refusal.error, ErrorCode::NotYours);
        assert!(
            refusal.message.contains(&running.owner.fingerprint().to_string()),
            "{}",
            refusal.message
        );
    }
    assert_eq!(
        code_of(running.as_owner().lease(on_wire(LeaseId(1))).await).error,
        ErrorCode::UnknownLease
    );
}

#[tokio::test]
async fn access_goes_with_the_account_and_ends_with_the_key() {
    let running = running().await;
    let buyer = identity();
    running.as_owner().lease(on_wire(LEASE)).await.expect("the owner");
    running.chain.change(|lease| *lease = lease_of(&buyer));
    assert_eq!(
        code_of(running.as_owner().lease(on_wire(LEASE)).await).error,
        ErrorCode::NotYours
    );
    running
        .client(&buyer)
        .lease(on_wire(LEASE))
        .await
        .expect("the new owner");
    let next = identity();
    running.chain.change(|lease| {
        lease.owner_keys = PinnedFingerprints::from_chain(buyer.fingerprint().into(), next.fingerprint().into());
    });
    running.client(&next).lease(on_wire(LEASE)).await.expect("the next key");
    running.chain.change(|lease| lease.owner_keys = None);
    for holder in [&buyer, &next] {
        assert_eq!(
            code_of(running.client(holder).lease(on_wire(LEASE)).await).error,
            ErrorCode::NotYours
        );
    }
}

#[tokio::test]
async fn what_the_chain_said_is_believed_for_a_short_while_only() {
    let believing_for = |access_lifetime| Settings {
        access_lifetime,
        request_interval: Duration::ZERO,
        ..settings()
    };
    let running = running_with(believing_for(Duration::from_secs(3600))).await;
    running.as_owner().lease(on_wire(LEASE)).await.expect("the owner");
    running.chain.change(|lease| lease.owner_keys = None);
    running.as_owner().lease(on_wire(LEASE)).await.expect("still believed");

    let running = running_with(believing_for(Duration::from_secs(1))).await;
    running.as_owner().lease(on_wire(LEASE)).await.expect("the owner");
    running.chain.change(|lease| lease.owner_keys = None);
    let refused = async { while running.as_owner().lease(on_wire(LEASE)).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), refused)
        .await
        .expect("a revoked key is refused within the lifetime");
    assert_eq!(
        code_of(running.as_owner().lease(on_wire(LEASE)).await).error,
        ErrorCode::NotYours
    );
}

#[tokio::test]
async fn without_the_chain_nobody_is_let_in_and_nobody_is_called_a_stranger() {
    let running = running().await;
    *running.chain.away.lock().expect("lock") = true;
    let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), salted().encode()).await);
    assert_eq!(refusal.error, ErrorCode::ChainUnavailable);
    assert!(running.stored_leases().await.is_empty());
    *running.chain.away.lock().expect("lock") = false;
    running
        .as_owner()
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
}

#[tokio::test]
async fn a_peer_that_asks_too_often_waits_and_others_do_not() {
    let limits = Settings {
        request_interval: Duration::from_secs(3600),
        request_burst: 2,
        ..settings()
    };
    let running = running_with(limits).await;
    let client = running.as_owner();
    for _ in 0..2 {
        client.provider().await.expect("within the burst");
    }
    let refusal = code_of(client.provider().await);
    assert_eq!(refusal.error, ErrorCode::RateLimited);
    assert!(
        refusal
            .details
            .retry_after_seconds
            .is_some_and(|seconds| seconds > 3500),
        "{refusal:?}"
    );
    running.client(&identity()).provider().await.expect("another peer");
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist_say_so() {
    let running = running().await;
    for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/leases/01", 400, "bad_request"),
        ("DELETE", "/v1/status", 405, "method_not_allowed"),
    ] {
        let answer = running.raw(&running.owner, method, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(code),
            "{method} {path}: {answer}"
        );
    }
}
