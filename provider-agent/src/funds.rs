//! Which leases to announce as low on funds, and until when a lease's workload runs. The contract's own arithmetic; no I/O and
//! no clock.

use std::collections::BTreeMap;

use workload::LeaseId;

/// Leases announced by one transaction.
pub const BATCH: usize = 50;
/// How long to wait after an announcement that had no effect yet.
const PAUSE_SECONDS: u64 = 60;

/// The market's windows, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Windows {
    /// Longest grace after a lease's end.
    pub grace: u64,
    /// Longest time before a lease's end in which it counts as low on funds.
    pub low_funds: u64,
}

impl Windows {
    /// Seconds after its end in which a lease of this duration can still be extended.
    pub fn grace_of(&self, duration: u32) -> u64 {
        self.grace.min(u64::from(duration / 16))
    }

    /// Seconds before its end from which a lease of this duration is low on funds.
    pub fn low_funds_of(&self, duration: u32) -> u64 {
        self.low_funds.min(u64::from(duration / 4))
    }

    /// Whether a lease is low on funds: it ends soon, or has ended and can still be extended.
    pub fn is_low(&self, time: u64, start: u64, duration: u32) -> bool {
        let end = start + u64::from(duration);
        time >= end - self.low_funds_of(duration) && time < end + self.grace_of(duration)
    }
}

/// A live lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Which.
    pub lease: LeaseId,
    /// Unix seconds.
    pub start: u64,
    /// Seconds, with every extension.
    pub duration: u32,
}

/// What was announced: the duration for which, and when (Unix seconds of a block; [`u64::MAX`] once the contract says so). An
/// extension makes it another one. May be forgotten: the contract remembers.
pub type Announced = BTreeMap<LeaseId, (u32, u64)>;

/// The leases to look at and announce now, at most [`BATCH`]: the nearest to their end first.
pub fn due(windows: &Windows, time: u64, live: &[Live], announced: &Announced) -> Vec<LeaseId> {
    let waits = |lease: &Live| {
        announced
            .get(&lease.lease)
            .is_some_and(|(duration, at)| *duration == lease.duration && time < at.saturating_add(PAUSE_SECONDS))
    };
    let mut due: Vec<&Live> = live
        .iter()
        .filter(|lease| windows.is_low(time, lease.start, lease.duration) && !waits(lease))
        .collect();
    due.sort_by_key(|lease| (lease.start + u64::from(lease.duration), lease.lease));
    due.into_iter().take(BATCH).map(|lease| lease.lease).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: Windows = Windows {
        grace: 60,
        low_funds: 120,
    };

    fn live(lease: u64, start: u64, duration: u32) -> Live {
        Live {
            lease: LeaseId(lease),
            start,
            duration,
        }
    }

    #[test]
    fn short_leases_have_short_windows() {
        assert_eq!((WINDOWS.low_funds_of(3_600), WINDOWS.grace_of(3_600)), (120, 60));
        assert_eq!((WINDOWS.low_funds_of(80), WINDOWS.grace_of(80)), (20, 5));
        assert_eq!((WINDOWS.low_funds_of(1), WINDOWS.grace_of(1)), (0, 0));
    }

    #[test]
    fn a_lease_is_announced_once_and_again_after_an_extension() {
        let mut announced = Announced::new();
        let lease = live(1, 1_000, 160);
        assert_eq!(due(&WINDOWS, 1_119, &[lease], &announced), []);
        assert_eq!(due(&WINDOWS, 1_120, &[lease], &announced), [LeaseId(1)]);
        announced.insert(LeaseId(1), (160, 1_120));
        assert_eq!(due(&WINDOWS, 1_150, &[lease], &announced), []);
        announced.insert(LeaseId(1), (160, u64::MAX));
        assert_eq!(
            due(&WINDOWS, 1_159, &[lease], &announced),
            [],
            "the contract has noted it"
        );
        let extended = live(1, 1_000, 320);
        assert_eq!(due(&WINDOWS, 1_150, &[extended], &announced), []);
        assert_eq!(due(&WINDOWS, 1_240, &[extended], &announced), [LeaseId(1)]);
        // Until end and grace are over, and no longer.
        assert_eq!(due(&WINDOWS, 1_339, &[extended], &announced), [LeaseId(1)]);
        assert_eq!(due(&WINDOWS, 1_340, &[extended], &announced), []);
    }

    proptest! {
        /// Only leases that are low, each once, no more than fit, and none passed over for one that ends later.
        #[test]
        fn the_nearest_to_their_end_come_first(
            time in 0u64..4_000,
            leases in prop::collection::vec((0u64..2_000, 1u32..2_000), 0..120),
        ) {
            let leases: Vec<Live> = (1..).zip(leases).map(|(id, (start, duration))| live(id, start, duration)).collect();
            let chosen = due(&WINDOWS, time, &leases, &Announced::new());
            prop_assert!(chosen.len() <= BATCH);
            let end = |lease: &Live| lease.start + u64::from(lease.duration);
            let (taken, left): (Vec<&Live>, Vec<&Live>) = leases
                .iter()
                .filter(|lease| WINDOWS.is_low(time, lease.start, lease.duration))
                .partition(|lease| chosen.contains(&lease.lease));
            prop_assert_eq!(taken.len(), chosen.len());
            prop_assert!(left.is_empty() || chosen.len() == BATCH);
            let latest = taken.iter().map(|lease| end(lease)).max();
            prop_assert!(left.iter().all(|lease| latest.is_none_or(|latest| end(lease) >= latest)));
        }
    }
}
