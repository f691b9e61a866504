//! Where an operator stands, for people and for programs.

use std::collections::BTreeMap;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use eigenlayer::contracts::IErc20;
use eigenlayer::registration;
use eyre::WrapErr as _;
use serde::Serialize;

use super::{Member, Slashing, slashings};
use crate::rewards::amounts::{decimal, in_brief, utc};

/// Blocks over which the time between blocks is averaged. Few, because a development chain mines bursts at its start.
const AVERAGED_BLOCKS: u64 = 5;

/// Where an operator stands, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub operator: Address,
    /// Keccak of the configured BLS key.
    pub operator_id: B256,
    pub block: u64,
    /// Registered as an operator on EigenLayer.
    pub eigenlayer_operator: bool,
    /// Registered with the service.
    pub registered: bool,
    /// Whether the registered BLS key is the configured one; absent before registration.
    pub registered_key_matches: Option<bool>,
    /// Where others reach the operator, as it is on chain.
    pub socket: String,
    pub quorums: Vec<QuorumStatus>,
    /// What it was slashed for, oldest first; absent where the endpoint does not give the logs.
    pub slashings: Option<Vec<Slashing>>,
}

/// One quorum of it. Amounts are in the token's smallest unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuorumStatus {
    pub quorum: u8,
    pub name: String,
    pub member: bool,
    /// Stake that counts in answers now.
    #[serde(serialize_with = "decimal")]
    pub registered_stake: U256,
    /// Stake that would count after a refresh.
    #[serde(serialize_with = "decimal")]
    pub weight: U256,
    #[serde(serialize_with = "decimal")]
    pub minimum_stake: U256,
    /// Shares in the quorum's strategy, and what the operator's own address could still deposit.
    #[serde(serialize_with = "decimal")]
    pub shares: U256,
    #[serde(serialize_with = "decimal")]
    pub balance: U256,
    /// Share of the stake allocated to the service, of 10^18.
    pub allocated: u64,
    /// Block at which a change of the allocation takes effect.
    pub allocation_changes_at: Option<u32>,
    /// Whether misbehaviour can be slashed now.
    pub slashable: bool,
    /// After leaving: the block until which the stake stays slashable. After it the stake is free for the service, and can be
    /// withdrawn from EigenLayer once its withdrawal delay is over too.
    pub slashable_until: Option<u32>,
    /// Roughly when that is, as a Unix time.
    pub slashable_until_time: Option<u64>,
    /// What people call a whole token, and how many decimals it has; absent where the chain does not say.
    #[serde(skip)]
    whole_token: Option<(String, u8)>,
}

impl QuorumStatus {
    /// An amount as people read it.
    fn amount(&self, units: U256) -> String {
        match &self.whole_token {
            Some((name, decimals)) => format!("{} {name}", in_brief(units, *decimals)),
            None => format!("{units} units"),
        }
    }
}

impl Member {
    pub(super) async fn status(&self) -> eyre::Result<Status> {
        let standing = self.standing().await?;
        let matches = registration::registered_key_is(&self.provider, &self.addresses, self.operator, &self.key)
            .await
            .wrap_err("the registered BLS key cannot be read")?;
        let names: BTreeMap<u8, &str> = self
            .network
            .eigenlayer
            .quorums
            .iter()
            .map(|quorum| (quorum.number, quorum.name.as_str()))
            .collect();
        let mut quorums: Vec<QuorumStatus> = standing
            .quorums
            .iter()
            .map(|quorum| QuorumStatus {
                quorum: quorum.quorum,
                name: names.get(&quorum.quorum).copied().unwrap_or_default().to_owned(),
                member: quorum.member,
                registered_stake: quorum.registered_stake,
                weight: quorum.weight,
                minimum_stake: quorum.minimum_stake,
                shares: quorum.shares,
                balance: quorum.balance,
                allocated: quorum.allocated,
                allocation_changes_at: quorum.pending.map(|(_, block)| block),
                slashable: quorum.slashable,
                slashable_until: quorum
                    .pending
                    .filter(|(change, _)| quorum.slashable && *change < 0)
                    .map(|(_, block)| block),
                slashable_until_time: None,
                whole_token: None,
            })
            .collect();
        for quorum in &mut quorums {
            if let Some(until) = quorum.slashable_until {
                quorum.slashable_until_time = self.time_of(until.into()).await;
            }
            quorum.whole_token = self.whole_token(quorum.quorum).await;
        }
        let slashings = slashings::of(&self.provider, &self.network, self.operator).await;
        let slashings = slashings.inspect_err(|error| tracing::warn!("slashings cannot be read: {error:#}"));
        Ok(Status {
            operator: self.operator,
            operator_id: self.key.public_key().operator_id(),
            block: standing.block,
            eigenlayer_operator: standing.is_operator,
            registered: standing.registered,
            registered_key_matches: matches,
            socket: standing.socket,
            quorums,
            slashings: slashings.ok(),
        })
    }

    /// The symbol under which the network lists a quorum's token, or else the quorum's name, with the token's decimals.
    async fn whole_token(&self, number: u8) -> Option<(String, u8)> {
        let mut quorums = self.network.eigenlayer.quorums.iter();
        let quorum = quorums.find(|quorum| quorum.number == number)?;
        if let Some(listed) = self.network.tokens.iter().find(|token| token.address == quorum.token) {
            return Some((listed.symbol.clone(), listed.decimals));
        }
        let token = IErc20::new(quorum.token, &self.provider);
        Some((quorum.name.clone(), token.decimals().call().await.ok()?))
    }

    /// The time of a block that is still to come, as blocks came lately.
    pub(super) async fn roughly_when(&self, block: u64) -> Option<String> {
        self.time_of(block).await.map(utc)
    }

    async fn time_of(&self, block: u64) -> Option<u64> {
        let read = async |tag| {
            let found = self.provider.get_block_by_number(tag).await.ok()??;
            Some((found.header.number, found.header.timestamp))
        };
        let (head, now) = read(BlockNumberOrTag::Latest).await?;
        let earlier = head.checked_sub(AVERAGED_BLOCKS.min(head).max(1))?;
        let (earlier, then) = read(BlockNumberOrTag::Number(earlier)).await?;
        let (blocks, seconds) = (head - earlier, now.saturating_sub(then));
        Some(now + expected_seconds(block.saturating_sub(head), blocks, seconds))
    }
}

/// How long `ahead` blocks take, where the last `blocks` took `seconds`. At least a second each: no chain of the network's
/// makes them faster for long.
fn expected_seconds(ahead: u64, blocks: u64, seconds: u64) -> u64 {
    ahead * seconds.max(blocks) / blocks.max(1)
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let yes = |value: bool| if value { "yes" } else { "no" };
        writeln!(formatter, "operator              {}", self.operator)?;
        writeln!(formatter, "operator id           {}", self.operator_id)?;
        writeln!(formatter, "EigenLayer operator   {}", yes(self.eigenlayer_operator))?;
        writeln!(formatter, "registered            {}", yes(self.registered))?;
        let key = match self.registered_key_matches {
            None => "none yet",
            Some(true) => "the configured one",
            Some(false) => "ANOTHER ONE than configured: its signatures do not count",
        };
        writeln!(formatter, "registered BLS key    {key}")?;
        if !self.socket.is_empty() {
            writeln!(formatter, "socket on chain       {}", self.socket)?;
        }
        match self.slashings.as_deref() {
            None => writeln!(
                formatter,
                "slashed               unknown: the endpoint does not give the logs"
            )?,
            Some([]) => writeln!(formatter, "slashed               never")?,
            Some(slashings) => {
                for slashing in slashings {
                    writeln!(formatter, "slashed               {slashing}")?;
                }
            }
        }
        for quorum in &self.quorums {
            writeln!(formatter, "quorum {} ({})", quorum.quorum, quorum.name)?;
            writeln!(formatter, "  member              {}", yes(quorum.member))?;
            writeln!(
                formatter,
                "  stake that counts   {}",
                quorum.amount(quorum.registered_stake)
            )?;
            writeln!(
                formatter,
                "  after a refresh     {} (minimum {})",
                quorum.amount(quorum.weight),
                quorum.amount(quorum.minimum_stake)
            )?;
            writeln!(formatter, "  deposited           {}", quorum.amount(quorum.shares))?;
            let percent = in_brief(U256::from(quorum.allocated), 16);
            writeln!(formatter, "  allocated           {percent} % of the stake")?;
            if let Some(block) = quorum.allocation_changes_at {
                writeln!(formatter, "  changes at block    {block}")?;
            }
            match quorum.slashable_until {
                Some(block) => {
                    let about = quorum.slashable_until_time.map(|time| format!(", about {}", utc(time)));
                    writeln!(
                        formatter,
                        "  slashable           until block {block}{}; free after it",
                        about.unwrap_or_default()
                    )?;
                }
                None => writeln!(formatter, "  slashable           {}", yes(quorum.slashable))?,
            }
        }
        write!(formatter, "as of block           {}", self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_to_come_take_what_the_last_ones_took_and_a_second_at_least() {
        assert_eq!(expected_seconds(62, 5, 60), 744);
        assert_eq!(expected_seconds(62, 5, 5), 62);
        assert_eq!(expected_seconds(62, 5, 0), 62, "a burst says nothing about what comes");
        assert_eq!(expected_seconds(62, 0, 0), 0, "nothing is known");
    }
}
