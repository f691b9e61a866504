//! `spheron lease update`: another deployment file for a live lease. Each step looks at the chain first, so it does not matter
//! at which an earlier run stopped: the proposal is on chain, its manifest in this home.

mod outcome;
mod proposal;
mod stage;

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use alloy::primitives::aliases::U40;
use alloy::signers::local::PrivateKeySigner;
use bindings::{ILeases, OrderState, OrderTerms};
use eyre::{bail, ensure};
use gateway::GatewayClient;
use gateway::wire::{LeaseId, LeasePhase, LeaseStatus, UpdatePhase};
use serde_json::json;

use self::outcome::{ended, proposed_manifest, replacement};
use self::proposal::{Proposal, prepare};
use self::stage::Stage;
use super::{OnChain, on_chain, services_text};
use crate::amounts;
use crate::arguments::UpdateLease;
use crate::chain::{Call, read};
use crate::commands::deploy::Funds;
use crate::commands::interruption::unless_interrupted;
use crate::dates::Date;
use crate::failure::Failure;
use crate::market::state_phrase;
use crate::output::{facts, plain};
use crate::serving::{progress, services_json};
use crate::session::Session;

/// How often chain and provider are asked.
const PERIOD: Duration = Duration::from_millis(500);

/// What became of a proposal.
enum Answer {
    /// The provider took it: the lease that runs now.
    Taken(u64),
    /// It is not there any more, for this reason.
    Ended(String),
}

/// What became of the workload after the provider took an update.
enum Switch {
    /// What was asked for runs.
    Done(Box<LeaseStatus>),
    /// It did not come to run; what ran before runs again. In the provider's words.
    RolledBack(String),
}

pub(super) async fn run(session: &Session<'_>, arguments: &UpdateLease) -> eyre::Result<()> {
    let stage = Cell::new(match &arguments.file {
        Some(_) => Stage::Nothing,
        None => Stage::Looking,
    });
    let told = || stage.get().interruption(arguments.lease);
    unless_interrupted(Box::pin(update(session, arguments, &stage)), told).await
}

async fn update(session: &Session<'_>, arguments: &UpdateLease, stage: &Cell<Stage>) -> eyre::Result<()> {
    if arguments.withdraw {
        return withdraw(session, arguments.lease, stage).await;
    }
    if let Some(file) = &arguments.file
        && !Box::pin(propose(session, arguments, file, stage)).await?
    {
        return Ok(());
    }
    follow(session, arguments, stage).await
}

/// Proposes what a file asks for. False for a dry run.
async fn propose(
    session: &Session<'_>,
    arguments: &UpdateLease,
    file: &Path,
    stage: &Cell<Stage>,
) -> eyre::Result<bool> {
    let lease = arguments.lease;
    let found = on_chain(session, lease).await?;
    require_live(lease, &found)?;
    let proposal = prepare(session, arguments, file, &found).await?;
    if arguments.dry_run {
        let (value, text) = (proposal.json(lease), proposal.text(lease));
        session.output.result(&value, &text);
        return Ok(false);
    }
    proposal.require_time(lease, arguments.yes)?;
    proposal.funds.require()?;
    let signer = session.home.signer()?;
    let Funds {
        account, token, lock, ..
    } = &proposal.funds;
    session
        .require_spender(*account, token, signer.address(), *lock)
        .await?;
    // What is proposed ends the lease that runs.
    session.require_closer(lease, signer.address()).await?;
    session.require_access(*account, token, *lock).await?;
    session.output.note(proposal.ends(lease));
    send(session, &signer, lease, &proposal, file, stage).await?;
    Ok(true)
}

fn require_live(lease: u64, found: &OnChain) -> eyre::Result<()> {
    match found.word.state {
        OrderState::Leased => {}
        OrderState::Open => {
            bail!("order {lease} is no lease yet; take it back with `spheron order cancel {lease}` and order anew")
        }
        state => bail!(
            "lease {lease} is {}: only a live one can be updated",
            state_phrase(state)
        ),
    }
    if let Some(account) = &found.account
        && found.now >= account.grace_end
    {
        bail!("the end of lease {lease} and its grace are over; order anew with `spheron deploy`");
    }
    Ok(())
}

/// Stores the manifest, and proposes: without the manifest a proposal is worth nothing.
async fn send(
    session: &Session<'_>,
    signer: &PrivateKeySigner,
    lease: u64,
    proposal: &Proposal,
    file: &Path,
    stage: &Cell<Stage>,
) -> eyre::Result<()> {
    let orders = session.orders().await?;
    orders.store_manifest(&proposal.salted)?;
    // Whoever goes on after an interruption still knows what was proposed.
    let file = std::path::absolute(file)?.display().to_string();
    orders.store_file(proposal.request.terms.manifest_hash, &file)?;
    let call = ILeases::proposeUpdateCall {
        orderId: lease,
        terms: OrderTerms::try_from(&proposal.request.terms)?,
        expiry: U40::from(proposal.expiry),
    };
    let call = Call::new(
        "to propose the update",
        session.chain.network.contracts.order_book,
        &call,
    );
    session.output.step("proposing the update");
    stage.set(Stage::Sending);
    let sent = session.chain.send(signer, &call).await?;
    stage.set(Stage::Sent(sent.hash));
    session.chain.receipt(&sent).await?;
    stage.set(Stage::Proposed(proposal.expiry));
    session.output.note(format!(
        "the provider may accept until {} UTC; lease {lease} runs on as it is until then",
        Date(proposal.expiry)
    ));
    Ok(())
}

/// From a proposal, wherever it stands, to the workload that it asks for.
async fn follow(session: &Session<'_>, arguments: &UpdateLease, stage: &Cell<Stage>) -> eyre::Result<()> {
    let (lease, deadline) = (arguments.lease, Instant::now() + arguments.timeout);
    let updated = loop {
        let updated = match answer(session, lease, deadline, stage).await? {
            Answer::Taken(updated) => updated,
            Answer::Ended(reason) => bail!("the update of lease {lease} {reason}; the lease runs on as it was"),
        };
        stage.set(Stage::Taken(updated));
        if is_settled(session, lease, updated, arguments.confirmations).await? {
            break updated;
        }
    };
    let orders = session.orders().await?;
    let created = session.created(updated).await?;
    orders.adopt(updated, created.terms.manifest_hash, created.block)?;
    session
        .output
        .note(format!("lease {updated} has taken the place of lease {lease}"));
    let word = session.leased(updated).await?;
    let (supplier, client) = session.reach(&word).await?;
    let (token, rate) = (session.token_of(updated)?, U256::from(word.rate));
    let status = match running(session, &client, updated, deadline).await? {
        Switch::Done(status) => status,
        Switch::RolledBack(said) => {
            // What runs is the file before.
            if let Some(before) = orders.record(lease)? {
                orders.store_record(updated, &before)?;
            }
            let end = u64::from(word.start) + u64::from(word.duration);
            let rate = format!("{} {}/h", amounts::hourly(rate, token), token.symbol);
            bail!(rolled_back(lease, updated, &said, &rate, end));
        }
    };
    let value = json!({
        "lease": updated.to_string(),
        "replaced": lease.to_string(),
        "state": "running",
        "provider": supplier.json(),
        "rate": amounts::rate(rate, token),
        "services": services_json(&status),
        "warnings": status.warnings,
    });
    let mut text = facts(&[
        ("lease", format!("{updated}, in place of {lease}")),
        ("provider", format!("{} ({})", supplier.id, supplier.name)),
        ("rate", format!("{} {}/h", amounts::hourly(rate, token), token.symbol)),
    ]);
    text.push_str(&services_text(&status));
    session.output.result(&value, &text);
    Ok(())
}

/// Waits until a lease that took another one's place has this many blocks on top of it. False if the block that opened it was
/// replaced by one in which the other one lives on.
async fn is_settled(session: &Session<'_>, lease: u64, updated: u64, depth: u64) -> eyre::Result<bool> {
    match session.wait_for_depth(updated, depth).await {
        Ok(_) => Ok(true),
        Err(_) if session.order(lease).await?.state == OrderState::Leased => Ok(false),
        Err(error) => Err(error),
    }
}

/// What holds after a provider took an update that did not come to run: the lease is the new one all the same.
fn rolled_back(lease: u64, updated: u64, said: &str, rate: &str, end: u64) -> String {
    format!(
        "lease {updated}: {said}; lease {updated} is in the place of lease {lease} all the same, and its terms hold: {rate}, until \
         {} UTC\n  try again: spheron lease update {updated} FILE\n  end it:    spheron lease close {updated}",
        Date(end)
    )
}

/// Waits for the provider's answer, and sees to it that the provider has the manifest.
async fn answer(session: &Session<'_>, lease: u64, deadline: Instant, stage: &Cell<Stage>) -> eyre::Result<Answer> {
    let mut sent = false;
    loop {
        let word = session.order(lease).await?;
        if word.state == OrderState::ClosedUpdated {
            return Ok(Answer::Taken(replacement(session, lease).await?));
        }
        ensure!(
            word.state == OrderState::Leased,
            "lease {lease} is {}",
            state_phrase(word.state)
        );
        let leases = session.leases();
        let (proposal, (_, now)) = tokio::try_join!(read(leases.updateProposal(lease)), session.chain.head())?;
        if proposal.hash.is_zero() {
            return ended(session, lease).await;
        }
        if now >= proposal.expiry.to::<u64>() {
            return Ok(Answer::Ended(
                "was not accepted in time: the proposal expired".to_owned(),
            ));
        }
        stage.set(Stage::Proposed(proposal.expiry.to()));
        let (_, client) = session.reach(&word).await?;
        if !sent {
            let salted = proposed_manifest(session, lease).await?;
            session.output.step("sending the new manifest");
            if let Err(error) = session.send_manifest(&client, lease, salted.encode(), deadline).await {
                // A provider that refuses by its policy does so without waiting for a manifest.
                let stands = !read(leases.updateProposal(lease)).await?.hash.is_zero();
                return if stands {
                    Err(error)
                } else {
                    ended(session, lease).await
                };
            }
            sent = true;
        }
        let said = match client.lease(LeaseId(lease)).await {
            Ok(status) => told(&status),
            Err(error) => error.to_string(),
        };
        session.output.step(format!("lease {lease}: {said}"));
        ensure!(
            Instant::now() < deadline,
            "the provider has not answered in time ({said}); the proposal stands until {} UTC\n  go on:  spheron lease update {lease} \
             --resume\n  cancel: spheron lease update {lease} --withdraw",
            Date(proposal.expiry.to())
        );
        tokio::time::sleep(PERIOD).await;
    }
}

/// What the provider says of an update.
fn told(status: &LeaseStatus) -> String {
    let Some(update) = &status.update else {
        return "the provider has not said anything of the update yet".to_owned();
    };
    let phase = match update.phase {
        UpdatePhase::AwaitingManifest => "the provider waits for the new manifest",
        UpdatePhase::Staging => "the provider gets what the update needs",
        UpdatePhase::Accepting => "the provider accepts the update",
        UpdatePhase::Switching => "the new manifest takes the place of the old one",
        UpdatePhase::Done => "the update is done",
        UpdatePhase::Refused => "the provider refuses the update",
        UpdatePhase::RolledBack => "the new manifest did not come to run, the one before it runs again",
        UpdatePhase::Expired => "the proposal expired",
        UpdatePhase::Unknown => "the provider is at work on the update",
    };
    match &update.reason {
        Some(reason) => format!("{phase} ({})", plain(reason)),
        None => phase.to_owned(),
    }
}

/// Watches the lease that took the place of another until what was asked for runs.
async fn running(session: &Session<'_>, client: &GatewayClient, lease: u64, deadline: Instant) -> eyre::Result<Switch> {
    loop {
        let said = match client.lease(LeaseId(lease)).await {
            Ok(status) => {
                let phase = status.update.as_ref().map(|update| update.phase);
                match phase {
                    Some(UpdatePhase::RolledBack) => return Ok(Switch::RolledBack(told(&status))),
                    None | Some(UpdatePhase::Done) if status.phase == LeasePhase::Running => {
                        return Ok(Switch::Done(Box::new(status)));
                    }
                    Some(_) => format!("{}; {}", told(&status), progress(&status)),
                    None => progress(&status),
                }
            }
            Err(error) => error.to_string(),
        };
        session.leased(lease).await?;
        session.output.step(format!("lease {lease}: {said}"));
        ensure!(
            Instant::now() < deadline,
            "lease {lease} does not run in time: {said}; it stays open: spheron lease show {lease}"
        );
        tokio::time::sleep(PERIOD).await;
    }
}

async fn withdraw(session: &Session<'_>, lease: u64, stage: &Cell<Stage>) -> eyre::Result<()> {
    session.leased(lease).await?;
    let proposal = read(session.leases().updateProposal(lease)).await?;
    if proposal.hash.is_zero() {
        bail!(Failure::bad_input(format!("no update of lease {lease} is proposed")));
    }
    let signer = session.home.signer()?;
    let call = ILeases::rejectUpdateCall {
        orderId: lease,
        hash: proposal.hash,
    };
    let call = Call::new(
        "to withdraw the update",
        session.chain.network.contracts.order_book,
        &call,
    );
    session.output.step("withdrawing the update");
    stage.set(Stage::Withdrawing);
    session.chain.execute(&signer, vec![call]).await?;
    let value = json!({"lease": lease.to_string(), "update": "withdrawn"});
    session.output.result(
        &value,
        &format!("the update of lease {lease} is withdrawn; the lease runs on as it is"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use alloy::rpc::types::Log;
    use alloy::sol_types::SolCall as _;
    use bindings::{IOrderBook, Order};
    use serde_json::Value;

    use super::*;
    use crate::chain::Chain;
    use crate::home::Home;
    use crate::market;
    use crate::output::Output;

    /// What `is_settled` says of lease 9 in place of lease 7, for one block on top of it, with these answers of the chain.
    async fn settled(answers: &[Value]) -> eyre::Result<bool> {
        let (folder, output) = (tempfile::tempdir()?, Output::new(true));
        let session = Session {
            output: &output,
            home: Home::new(Some(folder.path()), None)?,
            chain: Chain::answering(crate::serving::nowhere(), answers),
            windows: Default::default(),
        };
        is_settled(&session, 7, 9, 1).await
    }

    fn order(state: OrderState) -> Value {
        let order = Order {
            state,
            closeBlock: 10,
            ..market::tests::lease()
        };
        alloy::primitives::hex::encode_prefixed(IOrderBook::orderCall::abi_encode_returns(&order)).into()
    }

    #[tokio::test]
    async fn an_update_counts_once_its_block_is_confirmed() {
        let opened: Log = Log {
            block_number: Some(10),
            ..Log::default()
        };
        let (leased, head) = (order(OrderState::Leased), |block: u64| json!(format!("{block:#x}")));
        let looks = |block| [leased.clone(), head(block), json!([opened])];
        // The head is the block that took it; the next one comes while it waits.
        let mut answers = looks(10).to_vec();
        answers.push(head(11));
        answers.extend(looks(11));
        answers.push(leased.clone());
        assert!(settled(&answers).await.expect("confirmed"));
        // Not before: nothing is left to say that the next block is there.
        assert!(settled(&answers[..3]).await.is_err());
    }

    #[tokio::test]
    async fn an_update_whose_block_was_replaced_is_waited_for_again() {
        let gone = [order(OrderState::None), order(OrderState::Leased)];
        assert!(!settled(&gone).await.expect("the lease before it lives"));
        let closed = [order(OrderState::ClosedByUser), order(OrderState::ClosedUpdated)];
        let error = settled(&closed).await.expect_err("over").to_string();
        assert!(error.contains("lease 9 is"), "{error}");
    }

    #[test]
    fn what_the_provider_says_of_an_update_is_told_with_its_reason() {
        let status = |update: &str| -> LeaseStatus {
            let text = format!(r#"{{"lease":"1","phase":"running","observed_at":1{update}}}"#);
            serde_json::from_str(&text).expect("a status")
        };
        let hash = B256::ZERO;
        assert!(told(&status("")).contains("not said anything"));
        let refused =
            format!(r#","update":{{"phase":"refused","manifest_hash":"{hash}","reason":"too\u001b[1m large"}}"#);
        assert_eq!(
            told(&status(&refused)),
            "the provider refuses the update (too [1m large)"
        );
        let newer = format!(r#","update":{{"phase":"levitating","manifest_hash":"{hash}"}}"#);
        assert!(told(&status(&newer)).contains("at work"));
    }

    #[test]
    fn a_rolled_back_update_says_that_the_new_terms_hold_and_what_to_do() {
        let said = rolled_back(7, 9, "the one before it runs again", "0.5 uSPON/h", 3_600);
        assert!(said.contains("lease 9 is in the place of lease 7"), "{said}");
        assert!(said.contains("0.5 uSPON/h, until 1970-01-01 01:00:00 UTC"), "{said}");
        assert!(
            said.contains("lease update 9 FILE") && said.contains("lease close 9"),
            "{said}"
        );
    }
}
