//! Sending manifests.

use gateway::wire::{ErrorCode, LeasePhase};
use manifest::SaltedManifest;

use crate::fakes::{LEASE, PARAMETERS_VERSION, catalog, code_of, on_wire, running, salted};

#[tokio::test]
async fn the_owner_sends_a_manifest_and_may_fetch_it_back() {
    let running = running().await;
    let client = running.as_owner();
    let before = client.lease(on_wire(LEASE)).await.expect("status");
    assert_eq!(before.phase, LeasePhase::AwaitingManifest);
    assert_eq!(before.manifest_deadline, Some(1_700_000_300));
    assert_eq!(
        code_of(client.manifest(on_wire(LEASE)).await).error,
        ErrorCode::NoManifest
    );

    let receipt = client
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    assert_eq!(
        (receipt.manifest_hash, receipt.already_stored),
        (salted().hash(), false)
    );
    let again = client
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    assert!(again.already_stored);
    assert_eq!(*running.engine.sent.lock().expect("lock"), [LEASE, LEASE]);

    let given_back = client.manifest(on_wire(LEASE)).await.expect("there");
    assert_eq!(SaltedManifest::decode(&given_back).expect("a manifest"), salted());
    let after = client.lease(on_wire(LEASE)).await.expect("status");
    assert_eq!(
        (after.phase, after.manifest_hash),
        (LeasePhase::Deploying, Some(salted().hash()))
    );
    let names: Vec<_> = after.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["backend", "web"]);
}

#[tokio::test]
async fn another_manifest_is_refused_with_both_hashes_and_nothing_is_stored() {
    let running = running().await;
    let mut other = salted();
    other.salt.0[0] ^= 1;
    let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), other.encode()).await);
    assert_eq!(refusal.error, ErrorCode::ManifestHashMismatch);
    for hash in [salted().hash(), other.hash()] {
        assert!(refusal.message.contains(&hash.to_string()), "{}", refusal.message);
    }
    assert!(running.stored_leases().await.is_empty());
    assert!(running.engine.sent.lock().expect("lock").is_empty());
}

#[tokio::test]
async fn a_manifest_for_more_than_was_ordered_is_refused_by_field() {
    let running = running().await;
    let mut greedy = salted();
    let web = greedy.manifest.services.get_mut("web").expect("web");
    web.resources.milli_cpu = 8000;
    // Its own hash is on chain, with the terms of the small one.
    running
        .chain
        .change(|lease| lease.order.terms.manifest_hash = greedy.hash());
    let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), greedy.encode()).await);
    assert_eq!(refusal.error, ErrorCode::TermsMismatch);
    let [cpu] = refusal.details.differences.as_slice() else {
        panic!("{refusal:?}")
    };
    assert_eq!(
        (cpu.field.as_str(), cpu.on_chain.as_str(), cpu.from_manifest.as_str()),
        ("cpu", "200 milli-CPU", "8100 milli-CPU")
    );
    assert!(running.stored_leases().await.is_empty());

    // With terms that pay for it, the same is taken.
    let order = manifest::derive(&greedy, &catalog(), PARAMETERS_VERSION).expect("an order");
    running.chain.change(|lease| lease.order = order);
    running
        .as_owner()
        .put_manifest(on_wire(LEASE), greedy.encode())
        .await
        .expect("taken");
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_without_repeating_it() {
    let running = running().await;
    for body in ["", "{", "null", "{\"version\":1,\"password\":\"hunter2\"}"] {
        let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), body).await);
        assert_eq!(refusal.error, ErrorCode::InvalidManifest, "{body}");
        assert!(!refusal.message.contains("hunter2"), "{}", refusal.message);
    }
    let mut network_has_no_such_token = salted();
    network_has_no_such_token.manifest.requirements.token = "GOLD".to_owned();
    running
        .chain
        .change(|lease| lease.order.terms.manifest_hash = network_has_no_such_token.hash());
    let refusal = code_of(
        running
            .as_owner()
            .put_manifest(on_wire(LEASE), network_has_no_such_token.encode())
            .await,
    );
    assert_eq!(refusal.error, ErrorCode::TermsMismatch);
    assert!(refusal.message.contains("GOLD"), "{}", refusal.message);
    assert!(running.stored_leases().await.is_empty());
}

#[tokio::test]
async fn a_lease_that_is_over_takes_no_manifest() {
    let running = running().await;
    running
        .chain
        .change(|lease| lease.closed = Some("closed by its user".to_owned()));
    let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), salted().encode()).await);
    assert_eq!(refusal.error, ErrorCode::LeaseClosed);
    assert!(running.stored_leases().await.is_empty());
    let status = running.as_owner().lease(on_wire(LEASE)).await.expect("status");
    assert_eq!(
        (status.phase, status.reason.as_deref()),
        (LeasePhase::Closed, Some("closed by its user"))
    );
}
