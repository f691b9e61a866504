//! Getting what was earned: claims against EigenLayer's roots, and rewards of challengers.

use std::path::Path;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolCall as _;
use bindings::ICommissionSplit;
use chain::Call;
use eigenlayer::rewards::{Claim, IRewardsCoordinator, claim_file};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use serde::Serialize;

use super::amounts::{Amount, utc};
use super::sending::Sender;
use super::{Account, Rewards};
use crate::config::Config;
use crate::keys;

/// What a claim moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claimed {
    pub operator: Address,
    pub recipient: Address,
    pub transaction: B256,
    pub block: u64,
    pub claimed: Vec<Amount>,
}

/// Claims for the configured operator what a claim file proves and was not claimed yet.
pub async fn claim(
    config: &Config,
    path: &Path,
    recipient: Option<Address>,
    account: &Account,
) -> eyre::Result<Claimed> {
    let claim = claim_file::load(path)?;
    let operator = keys::account(&config.keys).await?.address();
    ensure!(
        claim.earnerLeaf.earner == operator,
        "the claim is {}'s, the configured operator is {operator}: take the claim file of that operator",
        claim.earnerLeaf.earner
    );
    let rewards = Rewards::open(config).await?;
    let recipient = checked_recipient(recipient.unwrap_or(operator))?;
    check_root(&rewards, claim.rootIndex).await?;
    let (claim, claimed) = outstanding(&rewards, claim).await?;
    let sender = Sender::open(config, Some(account), &rewards.endpoints).await?;
    check_claimer(&rewards, operator, sender.address()).await?;
    let data = IRewardsCoordinator::processClaimCall { claim, recipient }.abi_encode();
    let included = sender
        .send(Call::new("claim the earnings", rewards.coordinator, data))
        .await?;
    Ok(Claimed {
        operator,
        recipient,
        transaction: included.hash,
        block: included.block.number,
        claimed,
    })
}

fn checked_recipient(recipient: Address) -> eyre::Result<Address> {
    ensure!(
        !recipient.is_zero(),
        "tokens sent to the zero address are lost: pass another --recipient"
    );
    Ok(recipient)
}

/// A root that cannot be claimed against is told apart before anything is sent.
async fn check_root(rewards: &Rewards, index: u32) -> eyre::Result<()> {
    let coordinator = IRewardsCoordinator::new(rewards.coordinator, &rewards.provider);
    let unreadable = || "EigenLayer's roots cannot be read";
    let count = coordinator
        .getDistributionRootsLength()
        .call()
        .await
        .wrap_err_with(unreadable)?;
    ensure!(
        U256::from(index) < count,
        "the claim is against root {index}, and EigenLayer has posted {count} (counted from 0): is it of another chain?"
    );
    let root = coordinator
        .getDistributionRootAtIndex(U256::from(index))
        .call()
        .await
        .wrap_err_with(unreadable)?;
    ensure!(
        !root.disabled,
        "EigenLayer has disabled root {index}: take a claim file for a newer one"
    );
    let newest = rewards.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
    let now = newest.ok_or_eyre("the node has no newest block")?.header.timestamp;
    let active = u64::from(root.activatedAt);
    ensure!(
        active <= now,
        "root {index} can be claimed against from {}: run the command again then",
        utc(active)
    );
    Ok(())
}

/// The claim without the tokens of which everything was claimed: one of them would make EigenLayer refuse all.
async fn outstanding(rewards: &Rewards, claim: Claim) -> eyre::Result<(Claim, Vec<Amount>)> {
    let coordinator = IRewardsCoordinator::new(rewards.coordinator, &rewards.provider);
    let earner = claim.earnerLeaf.earner;
    let mut rest = Claim {
        tokenIndices: Vec::new(),
        tokenTreeProofs: Vec::new(),
        tokenLeaves: Vec::new(),
        ..claim.clone()
    };
    let mut amounts = Vec::new();
    let leaves = claim.tokenLeaves.into_iter();
    for ((leaf, index), proof) in leaves.zip(claim.tokenIndices).zip(claim.tokenTreeProofs) {
        let claimed = coordinator.cumulativeClaimed(earner, leaf.token).call().await;
        let claimed = claimed.wrap_err("what was claimed cannot be read")?;
        if leaf.cumulativeEarnings <= claimed {
            continue;
        }
        amounts.push(Amount::new(
            &rewards.network,
            leaf.token,
            leaf.cumulativeEarnings - claimed,
        ));
        rest.tokenIndices.push(index);
        rest.tokenTreeProofs.push(proof);
        rest.tokenLeaves.push(leaf);
    }
    if amounts.is_empty() {
        bail!("everything the claim file proves was claimed already; a newer root proves more");
    }
    Ok((rest, amounts))
}

async fn check_claimer(rewards: &Rewards, operator: Address, sender: Address) -> eyre::Result<()> {
    let coordinator = IRewardsCoordinator::new(rewards.coordinator, &rewards.provider);
    let named = coordinator.claimerFor(operator).call().await;
    let named = named.wrap_err("the operator's claimer cannot be read")?;
    let claimer = if named.is_zero() { operator } else { named };
    ensure!(
        claimer == sender,
        "only {claimer} may claim for operator {operator}, and the given key is {sender}'s: pass --key of {claimer}, or let \
         the operator call EigenLayer's setClaimerFor({sender})"
    );
    Ok(())
}

/// What was withdrawn of rewards for proving answers wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WithdrawnRewards {
    pub operator: Address,
    pub recipient: Address,
    /// Empty if there was nothing.
    pub withdrawn: Vec<Amount>,
}

/// Withdraws everything the operator's account earned by proving answers wrong.
pub async fn withdraw_challenges(config: &Config, recipient: Option<Address>) -> eyre::Result<WithdrawnRewards> {
    let rewards = Rewards::open(config).await?;
    let sender = Sender::open(config, None, &rewards.endpoints).await?;
    let operator = sender.address();
    let recipient = checked_recipient(recipient.unwrap_or(operator))?;
    ensure!(
        recipient != rewards.split,
        "{recipient} is the commission split itself: pass another --recipient"
    );
    let mut withdrawn = Vec::new();
    for token in &rewards.network.tokens {
        let units = rewards.split().rewardOf(operator, token.id).call().await;
        let units = units.wrap_err_with(|| format!("the rewards in {} cannot be read", token.symbol))?;
        if units.is_zero() {
            continue;
        }
        let call = ICommissionSplit::withdrawRewardCall {
            token: token.id,
            to: recipient,
        };
        let label = format!("withdraw the rewards in {}", token.symbol);
        sender.send(Call::new(label, rewards.split, call.abi_encode())).await?;
        withdrawn.push(Amount::new(&rewards.network, token.address, units));
    }
    Ok(WithdrawnRewards {
        operator,
        recipient,
        withdrawn,
    })
}

impl std::fmt::Display for Claimed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for amount in &self.claimed {
            writeln!(formatter, "claimed      {amount}")?;
        }
        writeln!(formatter, "recipient    {}", self.recipient)?;
        write!(formatter, "transaction  {} (block {})", self.transaction, self.block)
    }
}

impl std::fmt::Display for WithdrawnRewards {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.withdrawn.is_empty() {
            return write!(formatter, "{} has no rewards for proving answers wrong", self.operator);
        }
        for amount in &self.withdrawn {
            writeln!(formatter, "withdrawn    {amount}")?;
        }
        write!(formatter, "recipient    {}", self.recipient)
    }
}
