//! Before the first bid: the provider is registered and active, its gateway's key is published, and what it offers on
//! chain is what is configured.

use std::time::{Duration, Instant};

use ::chain::Transactions;
use avs::words::{Capacity, ScoreCard};
use daemon::causes::with_causes;
use daemon::health::Component;
use gateway::{Fingerprint, PinnedFingerprints};
use tokio_util::sync::CancellationToken;
use workload::Engine;

use crate::chain::Market;
use crate::docker::offerable;
use crate::pricing::Offered;

/// How often to look for the registration.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often to try again what failed.
const RETRY: Duration = Duration::from_secs(2);
/// Whoever registers the provider uses its key, and may have more to send: this long nothing must have been sent.
const QUIET: Duration = Duration::from_secs(10);

/// Waits until the provider is registered, and whoever registered it has sent what they had to send with its key, so that the
/// two are not in each other's way. Nothing comes back when it was asked to stop.
pub async fn await_registration(
    market: &Market,
    own_key: Fingerprint,
    component: &Component,
    stop: &CancellationToken,
) -> Option<u32> {
    let mut quiet: Option<((u64, u64), Instant)> = None;
    loop {
        match look(market, own_key).await {
            Ok(Registration { id: None, .. }) => component.degraded(format!(
                "{} is not registered as a provider; run `spheron provider register`",
                market.owner()
            )),
            Ok(Registration {
                id: Some(id),
                complete,
                counts,
            }) => {
                let begun = match quiet {
                    Some((before, begun)) if before == counts => begun,
                    _ => quiet.insert((counts, Instant::now())).1,
                };
                let nothing_waits = counts.0 == counts.1;
                if nothing_waits && (complete || begun.elapsed() >= QUIET) {
                    return Some(id);
                }
                component.degraded("registered; waiting for the registration to be complete");
            }
            Err(error) => component.degraded(with_causes(&error)),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

struct Registration {
    id: Option<u32>,
    /// Active and with the gateway's key: nothing is left to do for who registers it.
    complete: bool,
    /// The key's transactions in blocks, and with those that wait.
    counts: (u64, u64),
}

async fn look(market: &Market, own_key: Fingerprint) -> Result<Registration, crate::chain::ChainError> {
    let Some(id) = market.provider_id().await? else {
        return Ok(Registration {
            id: None,
            complete: false,
            counts: (0, 0),
        });
    };
    let counts = market.transaction_counts().await?;
    let published = market.keys_of(market.owner()).await?;
    let card = market.standing(id).await?.score_card;
    let is_active = ScoreCard::unpack(card).is_ok_and(|card| card.active);
    Ok(Registration {
        id: Some(id),
        complete: is_active && published.is_some_and(|keys| keys.contains(&own_key)),
        counts,
    })
}

/// Publishes the gateway's key where the registry has none, and says so where it has another. Returns once the registry
/// lists it, or when asked to stop.
pub async fn ensure_certificate(
    market: &Market,
    transactions: &Transactions,
    own_key: Fingerprint,
    component: &Component,
    stop: &CancellationToken,
) {
    loop {
        match market.keys_of(market.owner()).await {
            Ok(Some(keys)) if keys.contains(&own_key) => return component.ok(),
            Ok(Some(keys)) => component.degraded(of_another_key(market, keys, own_key)),
            Ok(None) => match transactions.submit(market.publish(own_key.as_bytes().into())).await {
                Ok(_) => continue,
                Err(error) => component.degraded(with_causes(&error)),
            },
            Err(error) => component.degraded(with_causes(&error)),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Says so where the registry no longer lists the gateway's key: it may be changed while the agent runs.
pub async fn check_certificate(market: &Market, own_key: Fingerprint, component: &Component) {
    match market.keys_of(market.owner()).await {
        Ok(Some(keys)) if keys.contains(&own_key) => component.ok(),
        Ok(Some(keys)) => component.degraded(of_another_key(market, keys, own_key)),
        Ok(None) => component.degraded(format!(
            "the registry lists no key for {} any more: users refuse to talk to this gateway; publish its own with `spheron \
             provider update --certificate`",
            market.owner()
        )),
        // Whether the chain answers is another component.
        Err(error) => tracing::debug!(error = with_causes(&error), "the published keys cannot be read"),
    }
}

fn of_another_key(market: &Market, listed: PinnedFingerprints, own_key: Fingerprint) -> String {
    format!(
        "the registry lists the key {listed} for {}, this gateway has {own_key}: users refuse to talk to it; configure the right \
         `identity` and start again, or publish this one with `spheron provider update --certificate`",
        market.owner()
    )
}

/// Offers on chain what is configured, as far as the machine has it. Returns once it is so, or when asked to stop.
pub async fn ensure_capacity(
    market: &Market,
    engine: &dyn Engine,
    transactions: &Transactions,
    (own, wanted): (u32, Offered),
    component: &Component,
    stop: &CancellationToken,
) {
    loop {
        match offer(market, engine, transactions, own, wanted).await {
            Ok(cut) if cut.is_empty() => return component.ok(),
            Ok(cut) => {
                return component.degraded(format!("less is offered than configured: {}", cut.join("; ")));
            }
            Err(reason) => component.degraded(reason),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn offer(
    market: &Market,
    engine: &dyn Engine,
    transactions: &Transactions,
    own: u32,
    wanted: Offered,
) -> Result<Vec<String>, String> {
    let (offered, cut) = offerable(engine, wanted).await.map_err(|error| with_causes(&error))?;
    let wanted = offered.capacity().map_err(|error| with_causes(&error))?;
    let (now, pending) = market.capacity(own).await.map_err(|error| with_causes(&error))?;
    let ordered = if pending.is_zero() { now } else { pending };
    let is_offered = Capacity::unpack(ordered).is_ok_and(|there| is_same_offer(&there, &wanted));
    if !is_offered {
        let word = wanted.pack().map_err(|error| with_causes(&error))?;
        transactions
            .submit(market.set_capacity(word))
            .await
            .map_err(|error| with_causes(&error))?;
        tracing::info!(
            milli_cpu = offered.milli_cpu,
            memory_bytes = offered.memory_bytes,
            storage_bytes = offered.storage_bytes,
            "capacity offered on chain"
        );
    }
    Ok(cut)
}

fn is_same_offer(there: &Capacity, wanted: &Capacity) -> bool {
    let totals = |capacity: &Capacity| {
        let gpus = capacity.gpus.map(|gpu| (gpu.id, gpu.total));
        (
            capacity.cpu_total,
            capacity.memory_total,
            capacity.storage_total,
            gpus,
            capacity.active,
        )
    };
    totals(there) == totals(wanted)
}
