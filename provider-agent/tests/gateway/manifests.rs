//! Sending manifests.

use gateway::wire::{ErrorCode, LeasePhase, UpdatePhase, UpdateStatus};
use manifest::SaltedManifest;
use provider_agent::api::access::Proposed;

use crate::fakes::{LEASE, PARAMETERS_VERSION, catalog, code_of, lease_of, on_wire, running, salted};

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
        ("cpu", "0.2 CPU", "8.1 CPU")
    );
    let told = "cpu (ordered 0.2 CPU, manifest 8.1 CPU)";
    assert!(refusal.message.contains(told), "{}", refusal.message);
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

/// The manifest of [`salted`] with more memory, as an update of it.
fn updated() -> (SaltedManifest, manifest::OrderRequest) {
    let mut updated = salted();
    updated.salt.0[0] ^= 1;
    let web = updated.manifest.services.get_mut("web").expect("web");
    web.resources.memory_bytes *= 2;
    let order = manifest::derive(&updated, &catalog(), PARAMETERS_VERSION).expect("an order");
    (updated, order)
}

#[tokio::test]
async fn the_manifest_of_a_proposed_update_waits_beside_the_one_that_was_ordered() {
    let running = running().await;
    let client = running.as_owner();
    client
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    let (updated, order) = updated();
    let refusal = code_of(client.put_manifest(on_wire(LEASE), updated.encode()).await);
    assert_eq!(refusal.error, ErrorCode::ManifestHashMismatch, "nothing is proposed");

    *running.chain.proposed.lock().expect("lock") = Some(Proposed::NotSeenYet);
    let refusal = code_of(client.put_manifest(on_wire(LEASE), updated.encode()).await);
    assert_eq!(refusal.error, ErrorCode::ChainUnavailable);
    assert!(refusal.error.is_transient() && refusal.details.retry_after_seconds.is_some());

    *running.chain.proposed.lock().expect("lock") = Some(Proposed::Update(Box::new(order)));
    let receipt = client
        .put_manifest(on_wire(LEASE), updated.encode())
        .await
        .expect("taken");
    assert_eq!((receipt.manifest_hash, receipt.for_update), (updated.hash(), true));
    let given_back = client.manifest(on_wire(LEASE)).await.expect("there");
    assert_eq!(
        SaltedManifest::decode(&given_back).expect("a manifest"),
        salted(),
        "what was ordered runs on"
    );
    for hash in [salted().hash(), updated.hash()] {
        let stored = running.manifests.get(LEASE, hash).await.expect("read");
        assert!(stored.is_some(), "{hash}");
    }
    // What failed before is not tried again for it.
    assert_eq!(*running.engine.sent.lock().expect("lock"), [LEASE]);
}

#[tokio::test]
async fn a_manifest_for_more_than_was_proposed_is_refused_by_field() {
    let running = running().await;
    let (updated, mut order) = updated();
    order.terms = lease_of(&running.owner).order.terms;
    order.terms.manifest_hash = updated.hash();
    *running.chain.proposed.lock().expect("lock") = Some(Proposed::Update(Box::new(order)));
    let refusal = code_of(running.as_owner().put_manifest(on_wire(LEASE), updated.encode()).await);
    assert_eq!(refusal.error, ErrorCode::TermsMismatch);
    let [memory] = refusal.details.differences.as_slice() else {
        panic!("{refusal:?}")
    };
    assert_eq!(memory.field, "memory");
    for amount in [&memory.on_chain, &memory.from_manifest] {
        assert!(amount.ends_with(" MiB"), "{amount}");
    }
    assert!(running.stored_leases().await.is_empty());
}

#[tokio::test]
async fn a_leases_end_and_its_update_are_in_its_status() {
    let running = running().await;
    let client = running.as_owner();
    let status = client.lease(on_wire(LEASE)).await.expect("status");
    assert_eq!(
        (status.ends_at, status.stops_at),
        (Some(1_800_000_000), Some(1_800_000_060))
    );
    assert!(!status.low_on_funds && status.update.is_none());

    let hash = salted().hash();
    let proposed = UpdateStatus {
        phase: UpdatePhase::Refused,
        manifest_hash: hash,
        expiry: Some(1),
        reason: Some("this provider takes no updates; order anew".to_owned()),
    };
    *running.chain.said.lock().expect("lock") = Some(proposed.clone());
    running.chain.change(|lease| lease.low_on_funds = true);
    let status = client.lease(on_wire(LEASE)).await.expect("status");
    assert_eq!((status.update, status.low_on_funds), (Some(proposed), true));

    // A lease that came from an update runs the workload of the first one.
    let phase = async || {
        let status = client.lease(on_wire(LEASE)).await.expect("status");
        status.update.map(|update| (update.phase, update.reason))
    };
    *running.chain.said.lock().expect("lock") = None;
    running.chain.change(|lease| lease.workload = workload::LeaseId(1));
    assert_eq!(phase().await, Some((UpdatePhase::Switching, None)));
    client
        .put_manifest(on_wire(LEASE), salted().encode())
        .await
        .expect("taken");
    assert_eq!(*running.engine.sent.lock().expect("lock"), [LEASE]);
    let workload = workload::LeaseId(1);
    running
        .manifests
        .mark_applied(workload, hash)
        .await
        .expect("stored for the workload");
    assert_eq!(phase().await, Some((UpdatePhase::Done, None)));
    running
        .chain
        .change(|lease| lease.setback = Some("it crashed".to_owned()));
    assert_eq!(
        phase().await,
        Some((UpdatePhase::RolledBack, Some("it crashed".to_owned())))
    );

    running.chain.change(|lease| {
        lease.closed = Some("replaced by an updated lease".to_owned());
        lease.replaced_by = Some(workload::LeaseId(9));
    });
    let status = client.lease(on_wire(LEASE)).await.expect("status");
    assert_eq!(status.phase, LeasePhase::Closed);
    assert_eq!(status.replaced_by, Some(9.into()));
}
