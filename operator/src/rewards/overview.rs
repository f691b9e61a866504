//! What there is to earn and what was earned.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider as _, RootProvider};
use bindings::IEscrow;
use chain::network::Token;
use eigenlayer::rewards::{self, IRewardsCoordinator};
use eyre::{OptionExt as _, WrapErr as _};
use serde::Serialize;

use super::Rewards;
use super::amounts::{Amount, utc};
use crate::config::Config;
use crate::keys;

/// Posted roots that are shown.
const ROOTS: u32 = 5;

/// What `rewards show` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    pub operator: Address,
    pub commission_split: Address,
    /// Timestamp of the newest block: what "now" means below.
    pub now: u64,
    pub tokens: Vec<TokenRewards>,
    /// What was submitted to EigenLayer for this operator, oldest first.
    pub submissions: Vec<Submitted>,
    /// The newest roots, newest first.
    pub roots: Vec<PostedRoot>,
}

/// Rewards in one payment token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRewards {
    /// Commission in the escrow, which the split has not collected yet.
    pub not_collected: Amount,
    /// Held for all operators, for the next distribution.
    pub pending_for_operators: Amount,
    /// Earliest Unix time of the next distribution; absent before the first collection.
    pub next_distribution: Option<u64>,
    /// Submitted for this operator so far. EigenLayer passes a part on to those who delegated to it.
    pub submitted: Amount,
    /// Claimed by this operator so far.
    pub claimed: Amount,
    /// Earned by proving answers wrong, to be withdrawn.
    pub challenge_rewards: Amount,
}

/// One submission for this operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submitted {
    pub block: u64,
    pub quorum: u32,
    pub amount: Amount,
    /// Period in Unix seconds, the end not included.
    pub from: u64,
    pub until: u64,
}

/// A root of everybody's earnings, posted by EigenLayer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PostedRoot {
    pub index: u32,
    pub root: B256,
    pub calculated_until: u64,
    pub active_from: u64,
    pub disabled: bool,
    /// Whether it can be claimed against now.
    pub claimable: bool,
}

/// What there is to earn and what the configured operator earned.
pub async fn overview(config: &Config) -> eyre::Result<Overview> {
    let operator = keys::account(&config.keys).await?.address();
    let rewards = Rewards::open(config).await?;
    let newest = rewards.provider.get_block_by_number(BlockNumberOrTag::Latest).await;
    let newest = newest.wrap_err("the chain cannot be read")?;
    let now = newest.ok_or_eyre("the node has no newest block")?.header.timestamp;
    let made = rewards::submissions(
        &rewards.provider,
        rewards.coordinator,
        rewards.network.contracts.service_manager,
        rewards.split,
        rewards.network.deployed_at,
    )
    .await
    .wrap_err("what was submitted cannot be read")?;
    let submissions: Vec<Submitted> = made
        .iter()
        .filter_map(|submission| {
            let (_, units) = submission.rewards.iter().find(|(address, _)| *address == operator)?;
            Some(Submitted {
                block: submission.block,
                quorum: submission.quorum,
                amount: Amount::new(&rewards.network, submission.token, *units),
                from: submission.from,
                until: submission.until,
            })
        })
        .collect();
    let mut tokens = Vec::new();
    for token in &rewards.network.tokens {
        let found = of_token(&rewards, token, operator, &submissions).await;
        tokens.push(found.wrap_err_with(|| format!("the rewards in {} cannot be read", token.symbol))?);
    }
    let roots = rewards::newest_roots(&rewards.provider, rewards.coordinator, ROOTS).await;
    let roots = roots.wrap_err("EigenLayer's roots cannot be read")?.into_iter();
    Ok(Overview {
        operator,
        commission_split: rewards.split,
        now,
        tokens,
        submissions,
        roots: roots
            .map(|root| PostedRoot {
                index: root.index,
                root: root.root,
                calculated_until: root.calculated_until,
                active_from: root.active_from,
                disabled: root.disabled,
                claimable: !root.disabled && root.active_from <= now,
            })
            .collect(),
    })
}

async fn of_token(
    rewards: &Rewards,
    token: &Token,
    operator: Address,
    submissions: &[Submitted],
) -> Result<TokenRewards, alloy::contract::Error> {
    let split = rewards.split();
    let escrow = IEscrow::new(rewards.network.contracts.escrow, &rewards.provider);
    let coordinator = IRewardsCoordinator::new(rewards.coordinator, &rewards.provider);
    let of_this = submissions
        .iter()
        .filter(|submission| submission.amount.token == token.address);
    let submitted: U256 = of_this.map(|submission| submission.amount.units).sum();
    let amount = |units| Amount::new(&rewards.network, token.address, units);
    Ok(TokenRewards {
        not_collected: amount(escrow.creditOf(rewards.split, token.id).call().await?),
        pending_for_operators: amount(split.held(token.id).call().await?.forOperators),
        next_distribution: next_distribution(rewards, &coordinator, token.id).await?,
        submitted: amount(submitted),
        claimed: amount(coordinator.cumulativeClaimed(operator, token.address).call().await?),
        challenge_rewards: amount(split.rewardOf(operator, token.id).call().await?),
    })
}

/// The earliest timestamp at which the split may submit a token's share; `None` before its first collection.
pub(super) async fn next_distribution(
    rewards: &Rewards,
    coordinator: &IRewardsCoordinator::IRewardsCoordinatorInstance<&RootProvider>,
    token: u8,
) -> Result<Option<u64>, alloy::contract::Error> {
    let until = u64::from(rewards.split().rewardedUntil(token).call().await?);
    if until == 0 {
        return Ok(None);
    }
    let interval = u64::from(coordinator.CALCULATION_INTERVAL_SECONDS().call().await?).max(1);
    // Whole intervals that are strictly past.
    Ok(Some(until.div_ceil(interval) * interval + interval + 1))
}

impl std::fmt::Display for Overview {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "operator              {}", self.operator)?;
        writeln!(formatter, "commission split      {}", self.commission_split)?;
        for token in &self.tokens {
            writeln!(formatter, "{}", token.submitted.symbol)?;
            writeln!(formatter, "  not collected yet   {}", token.not_collected)?;
            writeln!(formatter, "  for all operators   {}", token.pending_for_operators)?;
            match token.next_distribution {
                None => writeln!(formatter, "  next distribution   after a first collection")?,
                Some(time) if time <= self.now => {
                    writeln!(formatter, "  next distribution   now (operator rewards distribute)")?
                }
                Some(time) => writeln!(formatter, "  next distribution   {}", utc(time))?,
            }
            writeln!(formatter, "  submitted for you   {}", token.submitted)?;
            writeln!(formatter, "  claimed             {}", token.claimed)?;
            writeln!(formatter, "  challenge rewards   {}", token.challenge_rewards)?;
        }
        writeln!(formatter, "submissions           {}", self.submissions.len())?;
        for submission in &self.submissions {
            writeln!(
                formatter,
                "  block {:<9} quorum {}  {} until {}  {}",
                submission.block,
                submission.quorum,
                utc(submission.from),
                utc(submission.until),
                submission.amount
            )?;
        }
        write!(formatter, "newest roots          {}", self.roots.len())?;
        for root in &self.roots {
            let state = match (root.disabled, root.claimable) {
                (true, _) => "disabled".to_owned(),
                (false, true) => "claimable".to_owned(),
                (false, false) => format!("claimable from {}", utc(root.active_from)),
            };
            write!(
                formatter,
                "\n  {:<5} {}  earnings until {}, {state}",
                root.index,
                root.root,
                utc(root.calculated_until)
            )?;
        }
        Ok(())
    }
}
