//! Which parameters are safe: under all others stake or money could leave before a dispute lands, or a decision take effect before
//! who it concerns can act on it.

use alloy::primitives::U256;

use super::{Feed, Parameters};
use crate::roles::Role;

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
    #[error("no address holds the role {role}")]
    NobodyHolds { role: &'static str },
    #[error(
        "what the governor announces takes effect after {delay} s, before what closed until then is answered, challenged and slashed ({windows} s)"
    )]
    GovernanceTooQuick { delay: u64, windows: u64 },
    #[error(
        "new code takes effect after {upgrade_delay} s; the order book's collaborators change after {rounds} s, and an upgrade would be the shorter way"
    )]
    UpgradeTooQuick { upgrade_delay: u64, rounds: u64 },
    #[error("the governor's delay of {delay} s is longer than that of upgrades and new roles ({upgrade_delay} s)")]
    UpgradeBeforeGovernance { upgrade_delay: u32, delay: u32 },
    #[error("the token lister's delay of {listing_delay} s is zero, or longer than the governor's ({delay} s)")]
    ListingDelay { listing_delay: u32, delay: u32 },
    #[error("in a grace window of {grace} s with blocks of {block_time} s no extension can be made")]
    GraceTooShort { grace: u32, block_time: u32 },
    #[error(
        "low funds are announced {low_funds} s before a lease's end, later than the {grace} s of grace after it are long"
    )]
    WarnedTooLate { low_funds: u32, grace: u32 },
    #[error("the rebated commission of {rebated} basis points is above the commission of {commission}")]
    RebateIsNegative { rebated: u16, commission: u16 },
    #[error("the price feed of {token}: {problem}")]
    Feed { token: String, problem: String },
    #[error("the catalogue has no GPU model {model}, which top_gpus names")]
    UnknownTopGpu { model: String },
}

impl Feed {
    fn check(&self, symbol: &str) -> Result<(), UnsafeParameters> {
        let bad = |problem: String| UnsafeParameters::Feed {
            token: symbol.to_owned(),
            problem,
        };
        if self.heartbeat == 0 {
            return Err(bad("without a heartbeat every answer is stale".into()));
        }
        let (minimum, maximum) = (
            self.answer(&self.minimum).map_err(bad)?,
            self.answer(&self.maximum).map_err(bad)?,
        );
        if minimum > maximum {
            return Err(bad(format!("no answer is from {minimum} to {maximum}")));
        }
        match (&self.price, self.address) {
            (Some(price), None) => {
                let price = self.answer(price).map_err(bad)?;
                if price < minimum || price > maximum {
                    return Err(bad(format!("{price} is not from {minimum} to {maximum}")));
                }
                Ok(())
            }
            (None, Some(_)) => Ok(()),
            _ => Err(bad("either an address or a price for a settable one".into())),
        }
    }
}

impl Parameters {
    /// Whether neither stake nor money can leave before a dispute lands.
    pub fn check(&self, delays: EigenLayerDelays) -> Result<(), UnsafeParameters> {
        self.check_stake(delays)?;
        self.check_money()?;
        self.check_governance()?;
        self.check_leases()?;
        for (symbol, listing) in self.listings() {
            listing.feed.check(symbol)?;
        }
        self.top_gpu_ids().map(drop)
    }

    /// What is announced must not take effect before everybody is done who could not know of it.
    fn check_governance(&self) -> Result<(), UnsafeParameters> {
        let governance = &self.governance;
        for role in Role::ALL {
            if role.holder(governance).0.is_zero() {
                return Err(UnsafeParameters::NobodyHolds { role: role.name() });
            }
        }
        let (delay, upgrade_delay) = (governance.delay, governance.upgrade_delay);
        let market = &self.market;
        let disputes = &self.disputes;
        let blocks =
            |blocks: &[u32]| blocks.iter().copied().map(u64::from).sum::<u64>() * u64::from(self.quorums.block_time);
        let (response, matching) = (u32::from(market.response_window), u32::from(market.match_window));
        let windows = blocks(&[response, disputes.challenge_blocks, disputes.slashing_window]);
        if u64::from(delay) <= windows {
            return Err(UnsafeParameters::GovernanceTooQuick {
                delay: delay.into(),
                windows,
            });
        }
        let rounds = 2 * blocks(&[u32::from(market.maximum_bid_window), response, matching]);
        let rounds = rounds.max(market.challenge_window.into());
        if u64::from(upgrade_delay) <= rounds {
            return Err(UnsafeParameters::UpgradeTooQuick {
                upgrade_delay: upgrade_delay.into(),
                rounds,
            });
        }
        if upgrade_delay < delay {
            return Err(UnsafeParameters::UpgradeBeforeGovernance { upgrade_delay, delay });
        }
        let listing_delay = governance.listing_delay;
        if listing_delay == 0 || listing_delay > delay {
            return Err(UnsafeParameters::ListingDelay { listing_delay, delay });
        }
        Ok(())
    }

    /// Who is warned must be able to act on it.
    fn check_leases(&self) -> Result<(), UnsafeParameters> {
        let (grace, low_funds) = (self.market.grace_window, self.market.low_funds_window);
        let block_time = self.quorums.block_time;
        // One block to learn that the lease is over, one for the extension.
        if grace < block_time.saturating_mul(2) {
            return Err(UnsafeParameters::GraceTooShort { grace, block_time });
        }
        if low_funds < grace {
            return Err(UnsafeParameters::WarnedTooLate { low_funds, grace });
        }
        let fees = &self.fees;
        if fees.rebated_commission > fees.commission {
            return Err(UnsafeParameters::RebateIsNegative {
                rebated: fees.rebated_commission,
                commission: fees.commission,
            });
        }
        Ok(())
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
    use alloy::primitives::Address;

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

    /// Announcements, new code and what collaborators of the order book wait.
    #[test]
    fn decisions_that_come_before_who_they_concern_can_act_are_refused() {
        let devnet = Parameters::devnet();
        let (market, disputes) = (&devnet.market, &devnet.disputes);
        let decided = u32::from(market.response_window) + disputes.challenge_blocks + disputes.slashing_window;
        let delay = |seconds| changed(|parameters| parameters.governance.delay = seconds);
        assert_eq!(delay(decided + 1).check(DELAYS), Ok(()));
        assert_eq!(
            delay(decided).check(DELAYS),
            Err(UnsafeParameters::GovernanceTooQuick {
                delay: decided.into(),
                windows: decided.into()
            })
        );

        let round = market.maximum_bid_window + market.response_window + market.match_window;
        let rounds = 2 * u32::from(round);
        let upgrade = |seconds| changed(|parameters| parameters.governance.upgrade_delay = seconds);
        assert_eq!(upgrade(rounds + 1).check(DELAYS), Ok(()));
        assert_eq!(
            upgrade(rounds).check(DELAYS),
            Err(UnsafeParameters::UpgradeTooQuick {
                upgrade_delay: rounds.into(),
                rounds: rounds.into()
            })
        );
        let longest = devnet.governance.upgrade_delay;
        assert_eq!(delay(longest).check(DELAYS), Ok(()));
        assert!(matches!(
            delay(longest + 1).check(DELAYS),
            Err(UnsafeParameters::UpgradeBeforeGovernance { .. })
        ));

        let listing = |seconds| changed(|parameters| parameters.governance.listing_delay = seconds);
        assert_eq!(listing(1).check(DELAYS), Ok(()));
        assert_eq!(listing(devnet.governance.delay).check(DELAYS), Ok(()));
        for seconds in [0, devnet.governance.delay + 1] {
            assert!(matches!(
                listing(seconds).check(DELAYS),
                Err(UnsafeParameters::ListingDelay { .. })
            ));
        }
    }

    #[test]
    fn roles_that_nobody_holds_are_refused() {
        let holders: [fn(&mut Parameters); 4] = [
            |parameters| parameters.governance.governor = Address::ZERO,
            |parameters| parameters.governance.token_lister = Address::ZERO,
            |parameters| parameters.governance.verifier = Address::ZERO,
            |parameters| parameters.governance.guardian = Address::ZERO,
        ];
        for nobody in holders {
            assert!(matches!(
                changed(nobody).check(DELAYS),
                Err(UnsafeParameters::NobodyHolds { .. })
            ));
        }
    }

    #[test]
    fn windows_in_which_nobody_can_act_are_refused() {
        let devnet = Parameters::devnet();
        let grace = |seconds| changed(|parameters| parameters.market.grace_window = seconds);
        assert_eq!(grace(2 * devnet.quorums.block_time).check(DELAYS), Ok(()));
        assert!(matches!(
            grace(2 * devnet.quorums.block_time - 1).check(DELAYS),
            Err(UnsafeParameters::GraceTooShort { .. })
        ));
        let low_funds = |seconds| changed(|parameters| parameters.market.low_funds_window = seconds);
        assert_eq!(low_funds(devnet.market.grace_window).check(DELAYS), Ok(()));
        assert!(matches!(
            low_funds(devnet.market.grace_window - 1).check(DELAYS),
            Err(UnsafeParameters::WarnedTooLate { .. })
        ));
        assert!(matches!(
            changed(|parameters| parameters.fees.rebated_commission = parameters.fees.commission + 1).check(DELAYS),
            Err(UnsafeParameters::RebateIsNegative { .. })
        ));
    }

    #[test]
    fn feeds_that_nothing_passes_are_refused() {
        let feed =
            |change: fn(&mut Feed)| changed(|parameters| change(&mut parameters.spon.listing.feed)).check(DELAYS);
        assert_eq!(feed(|_| ()), Ok(()));
        assert_eq!(
            feed(|feed| (feed.address, feed.price) = (Some(Address::repeat_byte(1)), None)),
            Ok(())
        );
        let unusable: [fn(&mut Feed); 8] = [
            |feed| feed.heartbeat = 0,
            |feed| feed.minimum = "0".into(),
            |feed| feed.minimum = "-1".into(),
            |feed| feed.maximum = "cheap".into(),
            |feed| feed.minimum = "101".into(),
            |feed| feed.price = Some("0.001".into()),
            |feed| feed.price = None,
            |feed| feed.address = Some(Address::repeat_byte(1)),
        ];
        for change in unusable {
            assert!(matches!(feed(change), Err(UnsafeParameters::Feed { .. })));
        }
    }

    /// The catalogue counts from one, and has two sizes of one model.
    #[test]
    fn top_gpus_are_all_of_their_models() {
        let top = |models: &[&str]| {
            changed(|parameters| {
                parameters.catalogue.top_gpus = models.iter().map(|model| (*model).to_owned()).collect()
            })
        };
        assert_eq!(top(&["h200"]).top_gpu_ids(), Ok(U256::from(1) << 1));
        assert_eq!(top(&["a100"]).top_gpu_ids(), Ok(U256::from(0b11) << 3));
        assert_eq!(top(&[]).check(DELAYS), Ok(()));
        assert_eq!(
            top(&["h300"]).check(DELAYS),
            Err(UnsafeParameters::UnknownTopGpu { model: "h300".into() })
        );
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
                (parameters.governance.delay, parameters.governance.upgrade_delay) = (100_000, 100_000);
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
}
