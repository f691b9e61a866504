//! How long further signers are waited for: each one that comes in time saves the gas of proving its absence, and every
//! millisecond has its price.

use std::collections::BTreeMap;
use std::time::Duration;

use avs::quorum::OperatorId;

/// What proving one operator's absence costs, with one quorum (measured; snapshot of the contracts' tests).
const GAS_PER_NON_SIGNER: u64 = 16_300;
/// Tasks in a row after which an operator is not waited for any more.
const MISSES: u32 = 3;
/// Operators remembered as missing; more than any quorum has.
const REMEMBERED: usize = 4_096;

/// The price of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StragglerSettings {
    /// Never longer than this.
    pub longest_wait: Duration,
    /// Gas that one millisecond of delay is worth; zero waits as long as anybody is missing.
    pub delay_gas_per_millisecond: u64,
}

impl StragglerSettings {
    /// How long after the quorum it pays to wait while this many operators are still expected: until what was waited costs
    /// as much as they can save.
    pub(super) fn worth(&self, expected: usize) -> Duration {
        if expected == 0 {
            return Duration::ZERO;
        }
        let saving = GAS_PER_NON_SIGNER * expected as u64;
        match saving.checked_div(self.delay_gas_per_millisecond) {
            None => self.longest_wait,
            Some(milliseconds) => Duration::from_millis(milliseconds).min(self.longest_wait),
        }
    }
}

/// Who signs in time. Waiting for an operator that is away saves nothing.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Tasks in a row that an operator missed; absent where it signed its last one.
    missed: BTreeMap<OperatorId, u32>,
}

impl Attendance {
    pub(super) fn is_expected(&self, operator: &OperatorId) -> bool {
        self.missed.get(operator).is_none_or(|missed| *missed < MISSES)
    }

    /// A response goes out with these and without those.
    pub(super) fn record<'a>(
        &mut self,
        signers: impl Iterator<Item = &'a OperatorId>,
        missing: impl Iterator<Item = &'a OperatorId>,
    ) {
        for operator in signers {
            self.missed.remove(operator);
        }
        for operator in missing {
            if self.missed.len() >= REMEMBERED && !self.missed.contains_key(operator) {
                // Operators that left long ago are among them; those that matter are counted again.
                self.missed.clear();
            }
            let missed = self.missed.entry(*operator).or_default();
            *missed = missed.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_costs_no_more_than_it_can_save() {
        let settings = StragglerSettings {
            longest_wait: Duration::from_millis(50),
            delay_gas_per_millisecond: 1_000,
        };
        assert_eq!(settings.worth(0), Duration::ZERO);
        assert_eq!(settings.worth(1), Duration::from_millis(16));
        assert_eq!(settings.worth(3), Duration::from_millis(48));
        assert_eq!(settings.worth(4), Duration::from_millis(50));
        let free = StragglerSettings {
            delay_gas_per_millisecond: 0,
            ..settings
        };
        assert_eq!(
            (free.worth(0), free.worth(1)),
            (Duration::ZERO, Duration::from_millis(50))
        );
        let dear = StragglerSettings {
            delay_gas_per_millisecond: 100_000,
            ..settings
        };
        assert_eq!(dear.worth(6), Duration::ZERO);
    }

    #[test]
    fn who_is_away_is_not_expected_until_it_signs_again() {
        let (here, away) = (OperatorId::repeat_byte(1), OperatorId::repeat_byte(2));
        let mut attendance = Attendance::default();
        for _ in 0..MISSES {
            assert!(attendance.is_expected(&away));
            attendance.record([here].iter(), [away].iter());
        }
        assert!(attendance.is_expected(&here) && !attendance.is_expected(&away));
        attendance.record([here, away].iter(), [].iter());
        assert!(attendance.is_expected(&away));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut attendance = Attendance::default();
        for number in 0..3 * REMEMBERED as u64 {
            let operator = OperatorId::left_padding_from(&number.to_be_bytes());
            attendance.record([].iter(), [operator].iter());
            assert!(attendance.missed.len() <= REMEMBERED);
        }
    }
}
