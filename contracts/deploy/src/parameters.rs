//! What a deployment is made from (`parameters/devnet.toml`).

use std::collections::BTreeMap;

use alloy::primitives::U256;
use serde::Deserialize;

/// A parameter file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub name: String,
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

/// Windows in blocks, the payout hold in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    pub bid_window: u16,
    pub maximum_bid_window: u16,
    pub response_window: u16,
    pub match_window: u16,
    /// Seconds: the payout hold.
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

/// Blocks of answers that the task manager's ring keeps.
const RING_BLOCKS: u32 = 1_024;
/// Tasks that a close block may have (`MatchingTaskManager.MAX_CHUNKS`): each may earn a challenger a reward.
const MAX_CHUNKS: u64 = 64;

/// Parameters under which stake or money could leave before a dispute lands.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeParameters {
    #[error(
        "stake age ({stake_age} blocks), response window ({response}), challenge window ({challenge}) and slashing window ({slashing}) exceed the look-ahead of {look_ahead} blocks: stake could leave before a dispute lands"
    )]
    LookAheadTooShort {
        stake_age: u32,
        response: u32,
        challenge: u32,
        slashing: u32,
        look_ahead: u32,
    },
    #[error("maximum_stake_age is zero: a quorum's stake of any age would count")]
    StakeAgeUnlimited,
    #[error(
        "the look-ahead of {look_ahead} blocks is not below EigenLayer's deallocation delay of {deallocation} blocks"
    )]
    LookAheadTooLong { look_ahead: u32, deallocation: u32 },
    #[error(
        "EigenLayer's withdrawal delay of {withdrawal} blocks is shorter than the look-ahead of {look_ahead} blocks"
    )]
    WithdrawalTooShort { withdrawal: u32, look_ahead: u32 },
    #[error(
        "answers are kept for {RING_BLOCKS} close blocks, which does not exceed response window ({response}) and challenge window ({challenge}) together"
    )]
    RingTooShort { response: u32, challenge: u32 },
    #[error(
        "leases are paid from after {hold} s, and the challenge window of {challenge} blocks takes {needed} s: the hold must be longer"
    )]
    PayoutHoldTooShort { hold: u64, challenge: u32, needed: u64 },
    #[error(
        "a matchmaker could answer {MAX_CHUNKS} tasks of a close block wrong and be rewarded {rewards} units for proving it, while a slash costs it {slashed}"
    )]
    RewardTooHigh { rewards: U256, slashed: U256 },
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

    /// The parameters with only the first quorums.
    pub fn with_quorums(mut self, count: usize) -> Self {
        self.quorums.quorum.truncate(count);
        self
    }

    /// Whether neither stake nor money can leave before a dispute lands.
    pub fn check(&self, delays: EigenLayerDelays) -> Result<(), UnsafeParameters> {
        self.check_stake(delays)?;
        self.check_money()
    }

    /// Who signed must still be slashable when it is found out.
    fn check_stake(&self, delays: EigenLayerDelays) -> Result<(), UnsafeParameters> {
        let response = u32::from(self.market.response_window);
        let (challenge, slashing) = (self.disputes.challenge_blocks, self.disputes.slashing_window);
        let (stake_age, look_ahead) = (self.quorums.maximum_stake_age, self.quorums.look_ahead);
        if stake_age == 0 {
            return Err(UnsafeParameters::StakeAgeUnlimited);
        }
        let windows = [stake_age, response, challenge, slashing].map(u64::from);
        if windows.iter().sum::<u64>() > u64::from(look_ahead) {
            return Err(UnsafeParameters::LookAheadTooShort {
                stake_age,
                response,
                challenge,
                slashing,
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
        Ok(())
    }

    /// Nothing may be paid, and no stake of a provider gone, while a lease can still be undone.
    fn check_money(&self) -> Result<(), UnsafeParameters> {
        let response = u32::from(self.market.response_window);
        let challenge = self.disputes.challenge_blocks;
        if response.saturating_add(challenge) >= RING_BLOCKS {
            return Err(UnsafeParameters::RingTooShort { response, challenge });
        }
        let seconds = |blocks: u32| u64::from(blocks) * u64::from(self.quorums.block_time);
        let hold = u64::from(self.market.challenge_window);
        // In the last block of the challenge window nothing may be due yet.
        if hold <= seconds(challenge) {
            return Err(UnsafeParameters::PayoutHoldTooShort {
                hold,
                challenge,
                needed: seconds(challenge),
            });
        }
        // Whoever lies to be challenged by itself must lose by it, though only the first slash is certain.
        let commission = &self.commission;
        if let Some(units) = self.matchmaker.coverage.get(&commission.reward_token) {
            let rewards = commission.reward.saturating_mul(U256::from(MAX_CHUNKS));
            let slashed = units.saturating_mul(U256::from(self.matchmaker.slash_amount));
            if rewards >= slashed {
                return Err(UnsafeParameters::RewardTooHigh { rewards, slashed });
            }
        }
        let windows = seconds(response) + hold;
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

    fn changed(change: impl FnOnce(&mut Parameters)) -> Parameters {
        let mut parameters = Parameters::devnet();
        change(&mut parameters);
        parameters
    }

    #[test]
    fn the_devnet_is_safe_with_two_quorums_and_with_one() {
        assert_eq!(Parameters::devnet().check(DELAYS), Ok(()));
        let one = Parameters::devnet().with_quorums(1);
        assert_eq!((one.quorums.quorum.len(), one.check(DELAYS)), (1, Ok(())));
    }

    /// Each window alone, one step too far, lets stake leave before a dispute lands.
    #[test]
    fn windows_that_reach_beyond_the_look_ahead_are_refused() {
        let windows: [fn(&mut Parameters, u32); 4] = [
            |parameters, by| parameters.quorums.maximum_stake_age += by,
            |parameters, by| parameters.market.response_window += by as u16,
            |parameters, by| {
                parameters.disputes.challenge_blocks += by;
                parameters.market.challenge_window += by;
            },
            |parameters, by| parameters.disputes.slashing_window += by,
        ];
        let devnet = Parameters::devnet();
        let used = devnet.quorums.maximum_stake_age
            + u32::from(devnet.market.response_window)
            + devnet.disputes.challenge_blocks
            + devnet.disputes.slashing_window;
        let spare = devnet.quorums.look_ahead - used;
        for widen in windows {
            assert_eq!(changed(|parameters| widen(parameters, spare)).check(DELAYS), Ok(()));
            assert!(matches!(
                changed(|parameters| widen(parameters, spare + 1)).check(DELAYS),
                Err(UnsafeParameters::LookAheadTooShort { .. })
            ));
        }
        assert_eq!(
            changed(|parameters| parameters.quorums.maximum_stake_age = 0).check(DELAYS),
            Err(UnsafeParameters::StakeAgeUnlimited)
        );
    }

    #[test]
    fn eigenlayers_delays_that_end_too_soon_are_refused() {
        let delays = |deallocation, withdrawal| EigenLayerDelays {
            deallocation,
            withdrawal,
        };
        let devnet = Parameters::devnet();
        let look_ahead = devnet.quorums.look_ahead;
        assert_eq!(devnet.check(delays(look_ahead + 1, look_ahead)), Ok(()));
        assert_eq!(
            devnet.check(delays(look_ahead, look_ahead)),
            Err(UnsafeParameters::LookAheadTooLong {
                look_ahead,
                deallocation: look_ahead
            })
        );
        assert_eq!(
            devnet.check(delays(look_ahead + 1, look_ahead - 1)),
            Err(UnsafeParameters::WithdrawalTooShort {
                withdrawal: look_ahead - 1,
                look_ahead
            })
        );
    }

    #[test]
    fn money_that_leaves_before_a_challenge_lands_is_refused() {
        let hold = |seconds| changed(|parameters| parameters.market.challenge_window = seconds);
        let blocks = Parameters::devnet().disputes.challenge_blocks;
        assert_eq!(hold(blocks + 1).check(DELAYS), Ok(()));
        assert!(matches!(
            hold(blocks).check(DELAYS),
            Err(UnsafeParameters::PayoutHoldTooShort { .. })
        ));

        let devnet = Parameters::devnet();
        let windows = u64::from(devnet.market.response_window) + u64::from(devnet.market.challenge_window);
        let thaw = |seconds| changed(|parameters| parameters.stake.thaw_period = seconds);
        assert_eq!(thaw(windows + 1).check(DELAYS), Ok(()));
        assert!(matches!(
            thaw(windows).check(DELAYS),
            Err(UnsafeParameters::ThawTooShort { .. })
        ));
    }

    #[test]
    fn rewards_that_pay_for_being_slashed_are_refused() {
        // Sixty-four rewards against ten thousand SPON, of which each covers a million units.
        let reward = |units: u64| changed(|parameters| parameters.commission.reward = U256::from(units));
        assert_eq!(reward(156_249_999).check(DELAYS), Ok(()));
        assert!(matches!(
            reward(156_250_000).check(DELAYS),
            Err(UnsafeParameters::RewardTooHigh { .. })
        ));
    }

    /// The ring bounds the windows where EigenLayer's delays are as long as on a real network.
    #[test]
    fn an_answer_that_leaves_the_ring_before_it_can_be_challenged_is_refused() {
        let long = EigenLayerDelays {
            deallocation: 100_800,
            withdrawal: 100_800,
        };
        let challenge = |blocks: u32| {
            changed(|parameters| {
                parameters.quorums.look_ahead = 50_000;
                parameters.stake.thaw_period = 100_000;
                parameters.market.challenge_window = blocks + 1;
                parameters.disputes.challenge_blocks = blocks;
            })
        };
        let response = u32::from(Parameters::devnet().market.response_window);
        let most = RING_BLOCKS - response - 1;
        assert_eq!(challenge(most).check(long), Ok(()));
        assert_eq!(
            challenge(most + 1).check(long),
            Err(UnsafeParameters::RingTooShort {
                response,
                challenge: most + 1
            })
        );
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
