//! What a deployment is made from (`parameters/devnet.toml`).

use std::collections::BTreeMap;

use alloy::primitives::utils::{ParseUnits, parse_units};
use alloy::primitives::{Address, U256};
use serde::Deserialize;

mod safety;

pub use safety::{EigenLayerDelays, UnsafeParameters};

/// A parameter file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub name: String,
    pub governance: Governance,
    pub market: Market,
    pub matching: Matching,
    pub disputes: Disputes,
    pub fees: Fees,
    pub commission: Commission,
    pub stake: Stake,
    pub spon: Spon,
    pub quorums: Quorums,
    pub matchmaker: Matchmaker,
    #[serde(default)]
    pub development_tokens: Vec<DevelopmentToken>,
    pub catalogue: Catalogue,
}

/// Who holds which role, and how many seconds pass between what they announce and its effect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governance {
    pub governor: Address,
    pub token_lister: Address,
    pub verifier: Address,
    pub guardian: Address,
    /// Of the governor.
    pub delay: u32,
    /// Of the token lister.
    pub listing_delay: u32,
    /// Of new code, and of new roles.
    pub upgrade_delay: u32,
}

/// Windows in blocks; what says so in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    pub bid_window: u16,
    pub maximum_bid_window: u16,
    pub response_window: u16,
    pub match_window: u16,
    /// Seconds: the payout hold.
    pub challenge_window: u32,
    /// Seconds after its end in which a lease can be extended.
    pub grace_window: u32,
    /// Seconds before its end from which a lease is low on funds.
    pub low_funds_window: u32,
    pub bid_limit: u16,
    /// Uniswap's Permit2; deployed along when absent.
    #[serde(default)]
    pub permit2: Option<Address>,
}

/// Weights of the matching rule, in millionths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    pub price: u32,
    pub region: u32,
    pub feedback: u32,
    pub availability: u32,
    pub slashes: u32,
    pub trust_tier: u32,
    pub stake: u32,
    pub randomness: u32,
    /// Whole SPON.
    pub stake_cap: u64,
    pub rank_limit: u8,
    pub chunk_size: u16,
}

/// Disputes about answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disputes {
    /// Blocks after an answer in which it can be challenged.
    pub challenge_blocks: u32,
    /// Blocks after a challenge in which the signers can be found and slashed.
    pub slashing_window: u32,
    /// Millionths of the stake that a verdict costs.
    pub slash_fraction: u32,
}

/// Basis points.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commission {
    /// For challengers' rewards.
    pub reserve_share: u16,
    /// For operators, by stake.
    pub operator_share: u16,
    /// Symbol of the token a challenger is rewarded in.
    pub reward_token: String,
    /// Units.
    pub reward: U256,
}

/// One matchmaker in place of the quorum, where governance names one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matchmaker {
    /// Whole SPON.
    pub bond: u64,
    /// Whole SPON a verdict costs.
    pub slash_amount: u64,
    /// Units of a payment token that one whole SPON of bond covers, by symbol.
    pub coverage: BTreeMap<String, U256>,
}

/// Basis points.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fees {
    pub commission: u16,
    /// Of suppliers of trust tier 1.
    pub rebated_commission: u16,
    pub user: u16,
    pub provider: u16,
    /// Of what a fizz node's lease pays after fees, its gateway's.
    pub gateway_share: u16,
}

/// How a token is paid with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Units.
    pub match_fee: U256,
    /// Whole tokens that the escrow may hold in all.
    pub cap: u64,
    pub feed: Feed,
}

/// Where a token's price comes from. Dollars are decimal text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Chainlink's AggregatorV3; a settable one is deployed when absent.
    #[serde(default)]
    pub address: Option<Address>,
    /// What the settable one says at first.
    #[serde(default)]
    pub price: Option<String>,
    /// Decimals of its answers.
    pub decimals: u8,
    /// Seconds after which an answer is stale.
    pub heartbeat: u32,
    /// Answers outside are not believed.
    pub minimum: String,
    pub maximum: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stake {
    /// Whole SPON.
    pub minimum: u64,
    /// Seconds.
    pub thaw_period: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spon {
    /// Whole tokens.
    pub supply: u64,
    pub listing: Listing,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorums {
    pub maximum_operators: u32,
    /// Blocks.
    pub look_ahead: u32,
    /// Blocks.
    pub maximum_stake_age: u32,
    /// Seconds a block.
    pub block_time: u32,
    pub quorum: Vec<Quorum>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    pub name: String,
    /// Percent.
    pub threshold: u8,
    /// Units.
    pub minimum_stake: U256,
    /// Symbol of a token of this file, or an address.
    pub token: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevelopmentToken {
    pub symbol: String,
    pub name: String,
    pub decimals: u8,
    /// For orders to be paid with it.
    #[serde(default)]
    pub listing: Option<Listing>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub regions: Vec<String>,
    /// Vendor, model, GiB of memory.
    pub gpus: Vec<(String, String, u16)>,
    /// Models that count four times against the bracket of a deposit.
    pub top_gpus: Vec<String>,
}

impl Feed {
    /// Dollars as the feed answers them.
    pub(crate) fn answer(&self, dollars: &str) -> Result<U256, String> {
        let parsed = parse_units(dollars, self.decimals).map_err(|error| format!("{dollars:?}: {error}"))?;
        match parsed {
            ParseUnits::U256(answer) if !answer.is_zero() => Ok(answer),
            _ => Err(format!("{dollars:?} is no price")),
        }
    }
}

impl Parameters {
    /// The parameters of devnets.
    pub fn devnet() -> Self {
        Self::parse(include_str!("../parameters/devnet.toml")).expect("the file in the tree is valid: a test loads it")
    }

    /// Reads a parameter file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The parameters with only the first quorums.
    pub fn with_quorums(mut self, count: usize) -> Self {
        self.quorums.quorum.truncate(count);
        self
    }

    /// Payment tokens by symbol, in the order of their ids.
    pub fn listings(&self) -> impl Iterator<Item = (&str, &Listing)> {
        let others = self.development_tokens.iter();
        let others = others.filter_map(|token| Some((token.symbol.as_str(), token.listing.as_ref()?)));
        std::iter::once(("SPON", &self.spon.listing)).chain(others)
    }

    /// Bitmap of the catalogue's ids (from 1) of the models in `top_gpus`.
    pub fn top_gpu_ids(&self) -> Result<U256, UnsafeParameters> {
        let Catalogue { gpus, top_gpus, .. } = &self.catalogue;
        let mut ids = U256::ZERO;
        for top in top_gpus {
            let of_model = (1usize..).zip(gpus).filter(|(_, (_, model, _))| model == top);
            let bits = of_model.fold(U256::ZERO, |bits, (id, _)| bits | U256::from(1) << id);
            if bits.is_zero() {
                return Err(UnsafeParameters::UnknownTopGpu { model: top.clone() });
            }
            ids |= bits;
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused() {
        let text = include_str!("../parameters/devnet.toml").replace("bid_window = 3", "bid_window = 3\nbid_windw = 3");
        assert!(
            Parameters::parse(&text)
                .expect_err("a typo")
                .to_string()
                .contains("bid_windw")
        );
    }
}
