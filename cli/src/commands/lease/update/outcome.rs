//! What the chain's log says of an update that was proposed.

use std::time::{Duration, Instant};

use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use bindings::{ILeases, OrderState};
use eyre::{WrapErr as _, bail};
use gateway::wire::LeaseId;
use manifest::SaltedManifest;

use super::Answer;
use crate::failure::Failure;
use crate::log_pages::decoded;
use crate::market::{filter, topic};
use crate::output::plain;
use crate::session::Session;

/// A proposal that nobody took, withdrew or refused, and that does not stand: see `IEscrow.basisOf`.
const FALLEN: &str = "fell: since it was proposed the account changed hands, the right of who proposed it was set anew or has expired, \
                      or the token got other fees; propose it again";

/// How long the log of what the chain's state shows may be in coming: a node shows the state of a block a moment before its logs, and
/// where an endpoint is many nodes, another one may answer.
const LOG_LAG: Duration = Duration::from_secs(3);
/// How often such a log is asked for.
const LOG_PERIOD: Duration = Duration::from_millis(250);

/// The manifest that the newest proposal is about.
pub(super) async fn proposed_manifest(session: &Session<'_>, lease: u64) -> eyre::Result<SaltedManifest> {
    let proposed = soon(async || last::<ILeases::UpdateProposed>(session, lease, None).await).await?;
    let proposed: Option<ILeases::UpdateProposed> = proposed.as_ref().map(decoded).transpose()?;
    let hash = proposed.map(|event| event.terms.manifestHash).unwrap_or_default();
    session.orders().await?.manifest(hash).wrap_err_with(|| {
        format!("the update of lease {lease} was proposed elsewhere; withdraw it with `spheron lease update {lease} --withdraw`")
    })
}

/// The newest event of a kind about a lease, since a block or else since its bidding ended.
async fn last<E: SolEvent>(session: &Session<'_>, lease: u64, since: Option<u64>) -> eyre::Result<Option<Log>> {
    let chain = &session.chain;
    let ((head, _), word) = tokio::try_join!(chain.head(), session.order(lease))?;
    let filter = filter::<E>(chain.network.contracts.order_book, topic(lease), None);
    chain
        .last_log(&filter, since.unwrap_or(word.closeBlock.into())..=head)
        .await
}

/// What is found, now or as soon as its log can be expected.
async fn soon<T>(look: impl AsyncFn() -> eyre::Result<Option<T>>) -> eyre::Result<Option<T>> {
    let mut found = look().await?;
    let deadline = Instant::now() + LOG_LAG;
    while found.is_none() && Instant::now() < deadline {
        tokio::time::sleep(LOG_PERIOD).await;
        found = look().await?;
    }
    Ok(found)
}

pub(super) async fn replacement(session: &Session<'_>, lease: u64) -> eyre::Result<u64> {
    let updated = soon(async || last::<ILeases::LeaseUpdated>(session, lease, None).await).await?;
    let updated = updated.ok_or_else(|| eyre::eyre!("the log of the update of lease {lease} cannot be found"))?;
    Ok(decoded::<ILeases::LeaseUpdated>(&updated)?.updatedId)
}

/// Why there is no proposal any more.
pub(super) async fn ended(session: &Session<'_>, lease: u64) -> eyre::Result<Answer> {
    // Taken in the block that came in between.
    if session.order(lease).await?.state == OrderState::ClosedUpdated {
        return Ok(Answer::Taken(replacement(session, lease).await?));
    }
    let Some(proposed) = last::<ILeases::UpdateProposed>(session, lease, None).await? else {
        bail!(Failure::bad_input(format!(
            "no update of lease {lease} is proposed; name the new deployment file"
        )));
    };
    let rejected = soon(async || {
        let rejected = last::<ILeases::UpdateRejected>(session, lease, proposed.block_number).await?;
        Ok(rejected.filter(|rejected| place(rejected) > place(&proposed)))
    });
    match rejected.await? {
        Some(rejected) => Ok(Answer::Ended(refusal(session, lease, &decoded(&rejected)?).await?)),
        None => Ok(Answer::Ended(FALLEN.to_owned())),
    }
}

/// Where a log stands on the chain.
fn place(log: &Log) -> (Option<u64>, Option<u64>) {
    (log.block_number, log.log_index)
}

/// Who refused or withdrew an update, and why.
async fn refusal(session: &Session<'_>, lease: u64, rejected: &ILeases::UpdateRejected) -> eyre::Result<String> {
    let word = session.order(lease).await?;
    let (supplier, client) = session.reach(&word).await?;
    if rejected.by != supplier.owner {
        return Ok(format!("was withdrawn by {}", rejected.by));
    }
    let reason = match client.lease(LeaseId(lease)).await {
        Ok(status) => status.update.and_then(|update| update.reason),
        Err(_) => None,
    };
    Ok(format!(
        "was refused by provider {} ({}){}",
        supplier.id,
        supplier.name,
        reason.map_or_else(String::new, |reason| format!(": {}", plain(&reason)))
    ))
}
