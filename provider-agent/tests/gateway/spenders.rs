//! Who may ask because the account's owner lets it spend.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use gateway::wire::{ErrorCode, LogEnd, LogItem, LogQuery};
use gateway::{GatewayClient, Identity, PinnedFingerprints};
use provider_agent::api::Settings;
use provider_agent::api::access::SpendingRight;

use crate::fakes::{
    ACCOUNT, LEASE, NOW, Running, TOKEN, code_of, lease_of, on_wire, running, running_with, salted, settings,
};

const SPENDER: Address = Address::repeat_byte(0xbb);

const LIVE: SpendingRight = SpendingRight {
    limit: U256::ONE,
    expiry: NOW + 1,
    may_close: false,
};

fn identity() -> Identity {
    Identity::generate().expect("identity")
}

impl Running {
    fn publishes(&self, holder: Address, identity: &Identity) {
        let keys = PinnedFingerprints::only(identity.fingerprint());
        self.chain.keys.lock().expect("lock").insert(holder, keys);
    }

    fn grants(&self, spender: Address, token: u8, right: SpendingRight) {
        let mut rights = self.chain.rights.lock().expect("lock");
        rights.insert((ACCOUNT, token, spender), right);
    }

    /// A spender whose key is published, and its client.
    fn spender(&self) -> (Identity, GatewayClient) {
        let own = identity();
        self.publishes(SPENDER, &own);
        let client = self.client(&own).with_holder(SPENDER);
        (own, client)
    }
}

async fn refused(client: &GatewayClient) -> String {
    let refusal = code_of(client.lease(on_wire(LEASE)).await);
    assert_eq!(refusal.error, ErrorCode::NotYours, "{}", refusal.message);
    refusal.message
}

#[tokio::test]
async fn a_spender_asks_what_an_owner_may_ask_while_its_right_lives() {
    let running = running().await;
    let (_, spender) = running.spender();
    assert!(refused(&spender).await.contains("has no right to spend"));
    running.grants(SPENDER, TOKEN, LIVE);
    let lease = on_wire(LEASE);
    spender.put_manifest(lease, salted().encode()).await.expect("taken");
    let given_back = spender.manifest(lease).await.expect("given back");
    assert_eq!(given_back, salted().encode());
    spender.lease(lease).await.expect("a status");
    let message = spender.logs(lease, LogQuery::default()).next().await.expect("logs");
    assert!(matches!(message, Some(LogItem::End { .. })), "{message:?}");
    // The right ends while it asks.
    running.chain.rights.lock().expect("lock").clear();
    assert!(refused(&spender).await.contains("has no right to spend"));
}

#[tokio::test]
async fn a_right_counts_if_it_is_live_in_the_leases_token_and_account() {
    let running = running().await;
    let (_, spender) = running.spender();
    let used_up = SpendingRight {
        limit: U256::ZERO,
        ..LIVE
    };
    for (right, reason) in [
        (SpendingRight { expiry: NOW, ..LIVE }, "has expired"),
        (
            SpendingRight {
                expiry: NOW,
                may_close: true,
                ..LIVE
            },
            "has expired",
        ),
        (used_up, "nothing is left"),
        (SpendingRight::default(), "has no right to spend"),
    ] {
        running.grants(SPENDER, TOKEN, right);
        let message = refused(&spender).await;
        assert!(message.contains(reason), "{right:?}: {message}");
        // Who may ask, and what to do.
        for part in [
            "the owner of account 7",
            "spheron account operator add",
            &SPENDER.to_string(),
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    running.chain.rights.lock().expect("lock").clear();
    running.grants(SPENDER, TOKEN + 1, LIVE);
    assert!(
        refused(&spender).await.contains("has no right to spend"),
        "another token"
    );
    running.chain.rights.lock().expect("lock").clear();
    let of_another = (ACCOUNT + 1, TOKEN, SPENDER);
    running.chain.rights.lock().expect("lock").insert(of_another, LIVE);
    assert!(
        refused(&spender).await.contains("has no right to spend"),
        "another account"
    );

    let may_close = SpendingRight {
        may_close: true,
        ..used_up
    };
    for right in [LIVE, may_close] {
        running.grants(SPENDER, TOKEN, right);
        spender.lease(on_wire(LEASE)).await.expect("live");
    }
}

#[tokio::test]
async fn whose_key_it_is_must_be_said_and_true() {
    let running = running().await;
    let (own, spender) = running.spender();
    running.grants(SPENDER, TOKEN, LIVE);
    spender.lease(on_wire(LEASE)).await.expect("said and true");

    let silent = refused(&running.client(&own)).await;
    assert!(silent.contains("spheron-holder"), "{silent}");
    let stranger = identity();
    let message = refused(&running.client(&stranger).with_holder(SPENDER)).await;
    assert!(
        message.contains(&own.fingerprint().to_string()) && message.contains(&stranger.fingerprint().to_string()),
        "{message}"
    );
    let other = Address::repeat_byte(0xcc);
    running.grants(other, TOKEN, LIVE);
    let message = refused(&running.client(&own).with_holder(other)).await;
    assert!(
        message.contains("has no key on chain") && message.contains("spheron init"),
        "{message}"
    );
    // The owner's address without the owner's key.
    let owner = Address::repeat_byte(0xaa);
    let message = refused(&running.client(&stranger).with_holder(owner)).await;
    assert!(message.contains(&running.owner.fingerprint().to_string()), "{message}");
    running.chain.keys.lock().expect("lock").clear();
    assert!(refused(&spender).await.contains("has no key on chain"), "a revoked key");
}

#[tokio::test]
async fn owners_are_known_with_and_without_the_header() {
    let running = running().await;
    let owner = Address::repeat_byte(0xaa);
    for client in [
        running.as_owner(),
        running.as_owner().with_holder(owner),
        running.as_owner().with_holder(SPENDER),
    ] {
        client.lease(on_wire(LEASE)).await.expect("the owner's key");
    }
    assert_eq!(
        running.chain.asked_about_holders.load(Ordering::SeqCst),
        0,
        "an owner's key is enough"
    );
}

#[tokio::test]
async fn a_right_ends_with_the_hand_over_of_its_account() {
    let running = running().await;
    let (_, spender) = running.spender();
    running.grants(SPENDER, TOKEN, LIVE);
    let mut logs = spender.logs(
        on_wire(LEASE),
        LogQuery {
            follow: true,
            ..LogQuery::default()
        },
    );
    running.engine.write("web", &["hello"]);
    let first = logs.next().await.expect("a line");
    assert!(matches!(first, Some(LogItem::Line(_))), "{first:?}");
    // The escrow knows no right of an earlier epoch.
    let buyer = identity();
    running.chain.change(|lease| {
        *lease = lease_of(&buyer);
        lease.owner = Address::repeat_byte(0xdd);
    });
    running.chain.rights.lock().expect("lock").clear();
    let message = refused(&spender).await;
    assert!(message.contains(&Address::repeat_byte(0xdd).to_string()), "{message}");
    let end = tokio::time::timeout(Duration::from_secs(60), logs.next())
        .await
        .expect("an open stream ends too")
        .expect("its last item");
    assert!(
        matches!(
            end,
            Some(LogItem::End {
                reason: LogEnd::AccessEnded
            })
        ),
        "{end:?}"
    );
    running
        .client(&buyer)
        .lease(on_wire(LEASE))
        .await
        .expect("the new owner");
}

#[tokio::test]
async fn a_right_is_believed_for_a_short_while_and_of_each_holder_by_itself() {
    let settings = Settings {
        access_lifetime: Duration::from_secs(3600),
        ..settings()
    };
    let running = running_with(settings).await;
    let (_, spender) = running.spender();
    running.grants(SPENDER, TOKEN, LIVE);
    for _ in 0..3 {
        spender.lease(on_wire(LEASE)).await.expect("live");
    }
    assert_eq!(running.chain.asked_about_holders.load(Ordering::SeqCst), 1);
    let (other, own) = (Address::repeat_byte(0xcc), identity());
    running.publishes(other, &own);
    let other = running.client(&own).with_holder(other);
    for _ in 0..2 {
        refused(&other).await;
    }
    assert_eq!(running.chain.asked_about_holders.load(Ordering::SeqCst), 2);
    // Whoever has the same right, but not the key, is a stranger without another question.
    refused(&running.client(&identity()).with_holder(SPENDER)).await;
    assert_eq!(running.chain.asked_about_holders.load(Ordering::SeqCst), 2);
    spender.lease(on_wire(LEASE)).await.expect("still");
}

#[tokio::test]
async fn without_the_chain_a_spender_is_not_called_a_stranger() {
    let settings = Settings {
        access_lifetime: Duration::from_secs(3600),
        ..settings()
    };
    let running = running_with(settings).await;
    let (_, spender) = running.spender();
    running.grants(SPENDER, TOKEN, LIVE);
    // The lease is known, its spender is not.
    running.as_owner().lease(on_wire(LEASE)).await.expect("the owner");
    *running.chain.away.lock().expect("lock") = true;
    let refusal = code_of(spender.lease(on_wire(LEASE)).await);
    assert_eq!(refusal.error, ErrorCode::ChainUnavailable);
    *running.chain.away.lock().expect("lock") = false;
    spender.lease(on_wire(LEASE)).await.expect("live");
}
