//! What a deployment is made from (`parameters/devnet.toml`).

use alloy::primitives::U256;
use serde::Deserialize;

/// A parameter file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub name: String,
    pub market: Market,
    pub matching: Matching,
    pub fees: Fees,
    pub stake: Stake,
    pub spon: Spon,
    pub quorums: Quorums,
    #[serde(default)]
    pub development_tokens: Vec<DevelopmentToken>,
    pub catalogue: Catalogue,
}

/// Windows in blocks, the challenge window in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    pub bid_window: u16,
    pub maximum_bid_window: u16,
    pub response_window: u16,
    pub challenge_window: u32,
    pub bid_limit: u16,
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

/// Basis points.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fees {
    pub commission: u16,
    pub user: u16,
    pub provider: u16,
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
    /// Units.
    pub match_fee: U256,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorums {
    pub maximum_operators: u32,
    /// Blocks.
    pub look_ahead: u32,
    /// Blocks; zero takes any age.
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
    /// Whether orders may be paid with it.
    pub payment: bool,
    /// Units.
    #[serde(default)]
    pub match_fee: U256,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub regions: Vec<String>,
    /// Vendor, model, GiB of memory.
    pub gpus: Vec<(String, String, u16)>,
}

/// EigenLayer's delays on the chain deployed to, in blocks.
#[derive(Clone, Copy, Debug)]
pub struct EigenLayerDelays {
    pub deallocation: u32,
    pub withdrawal: u32,
}

/// Parameters under which stake or money could leave before a dispute lands.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeParameters {
    #[error(
        "response window ({response} blocks) and challenge window ({challenge} blocks) with the stake age ({stake_age} blocks) exceed the look-ahead of {look_ahead} blocks: stake could leave before a dispute lands"
    )]
    LookAheadTooShort {
        response: u32,
        challenge: u32,
        stake_age: u32,
        look_ahead: u32,
    },
    #[error(
        "the look-ahead of {look_ahead} blocks is not below EigenLayer's deallocation delay of {deallocation} blocks"
    )]
    LookAheadTooLong { look_ahead: u32, deallocation: u32 },
    #[error(
        "EigenLayer's withdrawal delay of {withdrawal} blocks is shorter than the look-ahead of {look_ahead} blocks"
    )]
    WithdrawalTooShort { withdrawal: u32, look_ahead: u32 },
    #[error("stake thaws in {thaw_period} s, sooner than response and challenge windows end ({windows} s)")]
    ThawTooShort { thaw_period: u64, windows: u64 },
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

    /// Whether neither stake nor money can leave before a dispute lands.
    pub fn check(&self, delays: EigenLayerDelays) -> Result<(), UnsafeParameters> {
        let (response, look_ahead, stake_age) = (
            u32::from(self.market.response_window),
            self.quorums.look_ahead,
            self.quorums.maximum_stake_age,
        );
        let challenge = self.market.challenge_window.div_ceil(self.quorums.block_time.max(1));
        if response + challenge + stake_age > look_ahead {
            return Err(UnsafeParameters::LookAheadTooShort {
                response,
                challenge,
                stake_age,
                look_ahead,
            });
        }
        if look_ahead >= delays.deallocation {
            return Err(UnsafeParameters::LookAheadTooLong {
                look_ahead,
                deallocation: delays.deallocation,
            });
        }
        if delays.withdrawal < look_ahead {
            return Err(UnsafeParameters::WithdrawalTooShort {
                withdrawal: delays.withdrawal,
                look_ahead,
            });
        }
        let windows =
            u64::from(response) * u64::from(self.quorums.block_time) + u64::from(self.market.challenge_window);
        if self.stake.thaw_period <= windows {
            return Err(UnsafeParameters::ThawTooShort {
                thaw_period: self.stake.thaw_period,
                windows,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: EigenLayerDelays = EigenLayerDelays {
        deallocation: 60,
        withdrawal: 60,
    };

    #[test]
    fn the_devnet_is_safe_and_each_relation_is_checked() {
        let devnet = Parameters::devnet();
        assert_eq!(devnet.check(DELAYS), Ok(()));

        let mut changed = devnet.clone();
        changed.market.response_window = 48;
        assert!(matches!(
            changed.check(DELAYS),
            Err(UnsafeParameters::LookAheadTooShort { .. })
        ));
        let mut changed = devnet.clone();
        changed.quorums.look_ahead = 60;
        assert!(matches!(
            changed.check(DELAYS),
            Err(UnsafeParameters::LookAheadTooLong { .. })
        ));
        let short = EigenLayerDelays {
            withdrawal: 49,
            ..DELAYS
        };
        assert!(matches!(
            devnet.check(short),
            Err(UnsafeParameters::WithdrawalTooShort { .. })
        ));
        let mut changed = devnet;
        changed.stake.thaw_period = 23;
        assert!(matches!(
            changed.check(DELAYS),
            Err(UnsafeParameters::ThawTooShort { .. })
        ));
    }

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
