//! Collecting the commission and submitting the operators' share to EigenLayer. Anyone may, so any operator can see to it.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::U256;
use alloy::providers::Provider as _;
use alloy::sol_types::{SolCall as _, SolError as _};
use bindings::ICommissionSplit;
use chain::Call;
use chain::network::Token;
use eigenlayer::registration::Addresses;
use eigenlayer::rewards::{self, IRewardsCoordinator};
use eyre::{OptionExt as _, WrapErr as _, bail};
use serde::Serialize;

use super::amounts::{Amount, utc};
use super::overview::next_distribution;
use super::sending::{Sender, describe_revert};
use super::{Account, Rewards};
use crate::config::Config;

/// What was done, by token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Distributed {
    pub tokens: Vec<TokenDistribution>,
}

/// What was done in one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenDistribution {
    /// What the split took over, for all its purposes.
    pub collected: Amount,
    /// What was submitted to EigenLayer for the operators.
    pub submitted: Amount,
    /// Why nothing was submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_submitted: Option<String>,
}

/// Collects and submits, for one token or for all.
pub async fn distribute(config: &Config, symbol: Option<&str>, account: &Account) -> eyre::Result<Distributed> {
    let rewards = Rewards::open(config).await?;
    let listed = &rewards.network.tokens;
    let chosen: Vec<&Token> = listed
        .iter()
        .filter(|token| symbol.is_none_or(|symbol| token.symbol == symbol))
        .collect();
    if let (Some(symbol), []) = (symbol, chosen.as_slice()) {
        let known: Vec<&str> = listed.iter().map(|token| token.symbol.as_str()).collect();
        bail!("the network lists no token {symbol:?}; it has {}", known.join(", "));
    }
    let sender = Sender::open(config, Some(account), &rewards.endpoints).await?;
    let mut tokens = Vec::new();
    for token in chosen {
        let collected = collect(&rewards, &sender, token).await?;
        let submitted = submit(&rewards, &sender, token).await?;
        let (units, not_submitted) = match submitted {
            Ok(units) => (units, None),
            Err(reason) => (U256::ZERO, Some(reason)),
        };
        tokens.push(TokenDistribution {
            collected: Amount::new(&rewards.network, token.address, collected),
            submitted: Amount::new(&rewards.network, token.address, units),
            not_submitted,
        });
    }
    Ok(Distributed { tokens })
}

async fn collect(rewards: &Rewards, sender: &Sender, token: &Token) -> eyre::Result<U256> {
    let expected = match rewards.split().collect(token.id).from(sender.address()).call().await {
        Ok(expected) => expected,
        Err(error) => {
            let data = error.as_revert_data().unwrap_or_default();
            if data.starts_with(&ICommissionSplit::NothingToCollect::SELECTOR) {
                return Ok(U256::ZERO);
            }
            let reason = describe_revert(&data).unwrap_or_else(|| error.to_string());
            bail!("the commission in {} cannot be collected: {reason}", token.symbol);
        }
    };
    let call = ICommissionSplit::collectCall { token: token.id };
    let label = format!("collect the commission in {}", token.symbol);
    sender.send(Call::new(label, rewards.split, call.abi_encode())).await?;
    Ok(expected)
}

/// Submits what is held for operators; the inner error says why there is nothing to do.
async fn submit(rewards: &Rewards, sender: &Sender, token: &Token) -> eyre::Result<Result<U256, String>> {
    let split = rewards.split();
    let quorums: Vec<u8> = rewards
        .network
        .eigenlayer
        .quorums
        .iter()
        .map(|quorum| quorum.number)
        .collect();
    let unreadable = || format!("the rewards in {} cannot be read", token.symbol);
    let held = split
        .held(token.id)
        .call()
        .await
        .wrap_err_with(unreadable)?
        .forOperators;
    if held < U256::from(quorums.len()) || quorums.is_empty() {
        return Ok(Err("nothing is held for operators".to_owned()));
    }
    let newest = rewards.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
    let newest = newest.ok_or_eyre("the node has no newest block")?.header;
    let coordinator = IRewardsCoordinator::new(rewards.coordinator, &rewards.provider);
    let next = next_distribution(rewards, &coordinator, token.id).await;
    match next.wrap_err_with(unreadable)? {
        Some(next) if next > newest.timestamp => {
            return Ok(Err(format!("EigenLayer takes whole days: from {} on", utc(next))));
        }
        _ => {}
    }
    let operators = rewards::named_operators(
        &rewards.provider,
        &Addresses::from(&rewards.network),
        &quorums,
        u32::try_from(newest.number).wrap_err("the chain is too long for EigenLayer")?,
    )
    .await
    .wrap_err("the quorums' operators cannot be read")?;
    let call = ICommissionSplit::rewardOperatorsCall {
        token: token.id,
        operators,
    };
    let label = format!("submit the operators' share in {}", token.symbol);
    sender.send(Call::new(label, rewards.split, call.abi_encode())).await?;
    let left = split
        .held(token.id)
        .call()
        .await
        .wrap_err_with(unreadable)?
        .forOperators;
    // Somebody may have collected in between.
    Ok(Ok(held.saturating_sub(left)))
}

impl std::fmt::Display for Distributed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, token) in self.tokens.iter().enumerate() {
            if position != 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "collected  {}", token.collected)?;
            write!(formatter, "submitted  {}", token.submitted)?;
            if let Some(reason) = &token.not_submitted {
                write!(formatter, " ({reason})")?;
            }
        }
        Ok(())
    }
}
