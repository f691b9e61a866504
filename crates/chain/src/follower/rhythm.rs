//! When to look for the next block: seldom while none is due, often when one is. No clock of its own.

use std::collections::VecDeque;
use std::time::Duration;

/// Intervals that must agree before the rhythm is trusted.
const SAMPLES: usize = 4;
/// Largest difference between the shortest and the longest of them, in percent of the shortest.
const TOLERANCE_PERCENT: u32 = 15;
/// Part of the interval that is slept through.
const QUIET_PERCENT: u32 = 95;
/// How often to look while a block is due.
const DUE_SHORTEST: Duration = Duration::from_millis(25);
const DUE_LONGEST: Duration = Duration::from_millis(500);
/// Longest sleep, so that a chain whose rhythm changes is noticed.
const LONGEST: Duration = Duration::from_secs(5);

/// Learns the interval between blocks from when they were seen.
#[derive(Debug, Clone)]
pub(crate) struct Rhythm {
    irregular: Duration,
    intervals: VecDeque<Duration>,
}

impl Rhythm {
    /// `irregular`: how often to look while blocks come irregularly.
    pub(crate) fn new(irregular: Duration) -> Self {
        Self {
            irregular,
            intervals: VecDeque::new(),
        }
    }

    /// A block was seen `interval` after the one before it.
    pub(crate) fn observe(&mut self, interval: Duration) {
        self.intervals.push_back(interval);
        if self.intervals.len() > SAMPLES {
            self.intervals.pop_front();
        }
    }

    /// The chain jumped (catching up, a reorganisation): what was learned is worth nothing.
    pub(crate) fn forget(&mut self) {
        self.intervals.clear();
    }

    /// How long to wait before looking again, `since` the last block was seen.
    pub(crate) fn next_look(&self, since: Duration) -> Duration {
        let Some(interval) = self.steady() else {
            return self.irregular;
        };
        let quiet = interval * QUIET_PERCENT / 100;
        if since < quiet {
            return (quiet - since).min(LONGEST);
        }
        if since > interval * 3 {
            // It did not come when it was due; it may be long in coming.
            return self.irregular.max(DUE_SHORTEST);
        }
        (interval / 20).clamp(DUE_SHORTEST, DUE_LONGEST)
    }

    fn steady(&self) -> Option<Duration> {
        if self.intervals.len() < SAMPLES {
            return None;
        }
        let shortest = *self.intervals.iter().min()?;
        let longest = *self.intervals.iter().max()?;
        let tolerance = (shortest * TOLERANCE_PERCENT / 100).max(DUE_SHORTEST * 2);
        (longest - shortest <= tolerance && shortest > DUE_SHORTEST * 4).then_some(shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn steady(interval: Duration) -> Rhythm {
        let mut rhythm = Rhythm::new(Duration::from_millis(100));
        for _ in 0..SAMPLES {
            rhythm.observe(interval);
        }
        rhythm
    }

    #[test]
    fn an_irregular_chain_is_looked_at_regularly() {
        let mut rhythm = steady(SECOND);
        rhythm.observe(SECOND * 3);
        assert_eq!(rhythm.next_look(Duration::ZERO), Duration::from_millis(100));
        rhythm.forget();
        assert_eq!(rhythm.next_look(SECOND), Duration::from_millis(100));
    }

    #[test]
    fn one_look_covers_the_quiet_part_and_few_the_rest() {
        for interval in [SECOND, SECOND * 2, SECOND * 12] {
            let rhythm = steady(interval);
            let mut since = Duration::ZERO;
            let mut looks = 0;
            while since < interval {
                since += rhythm.next_look(since);
                looks += 1;
            }
            assert!(looks <= 8, "{looks} looks for blocks every {interval:?}");
            assert!(since - interval <= DUE_LONGEST, "seen {:?} late", since - interval);
        }
        let rhythm = steady(SECOND);
        let late = rhythm.next_look(SECOND);
        assert!(late <= Duration::from_millis(50), "{late:?}");
    }

    #[test]
    fn a_chain_that_stopped_is_not_looked_at_often() {
        assert_eq!(steady(SECOND).next_look(SECOND * 10), Duration::from_millis(100));
    }
}
