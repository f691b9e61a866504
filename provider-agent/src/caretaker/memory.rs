//! What a caretaker remembers between looks, and when it looks at everything.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;
use workload::LeaseId;

use super::stops_at;
use super::work::Steadily;
use crate::funds::Windows;
use crate::store::Lease;

/// The longest time between two looks at everything.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What a caretaker may forget.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Since when a lease cannot start, Unix seconds of a block.
    pub(super) failing_since: HashMap<LeaseId, u64>,
    /// Labels without a lease: the newest block when they were first seen.
    pub(super) strange_since: HashMap<LeaseId, u64>,
    /// Leases whose end and grace are over: the newest block when that was first seen.
    pub(super) over_since: HashMap<LeaseId, u64>,
    /// Since when every container of a workload has run without a restart.
    pub(super) steadily: HashMap<LeaseId, Steadily>,
    /// What a workload was to run when it was last looked at.
    current: HashMap<LeaseId, Ordered>,
    /// Worked on now: on the engine, and on the chain.
    pub(super) busy: BTreeSet<LeaseId>,
    pub(super) closing: BTreeSet<LeaseId>,
    /// Leases that ran whole when they were last looked at: a new block alone is no reason to look again.
    pub(super) steady: BTreeSet<LeaseId>,
    /// What hindered the last work on a lease: the same again is not news.
    pub(super) problems: HashMap<LeaseId, String>,
    /// Workloads on which something was to be done while they were being worked on.
    pub(super) missed: BTreeSet<LeaseId>,
}

/// What a workload is to run: a lease and its manifest. After a reorganisation a lease may have another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ordered {
    lease: LeaseId,
    manifest: B256,
}

impl Ordered {
    pub(super) fn by(lease: &Lease) -> Self {
        Self {
            lease: lease.id,
            manifest: lease.terms.manifest_hash,
        }
    }
}

impl Memory {
    /// Forgets all others.
    pub(super) fn keep(&mut self, is_there: impl Fn(&LeaseId) -> bool) {
        self.strange_since.retain(|id, _| is_there(id));
        self.failing_since.retain(|id, _| is_there(id));
        self.over_since.retain(|id, _| is_there(id));
        self.steadily.retain(|id, _| is_there(id));
        self.current.retain(|id, _| is_there(id));
        self.problems.retain(|id, _| is_there(id));
        self.steady.retain(is_there);
    }

    /// Whether a new block alone changes nothing about a workload.
    pub(super) fn rests(&self, workload: LeaseId, lease: &Lease, time: u64, windows: &Windows) -> bool {
        if !self.strange_since.is_empty() {
            return false;
        }
        match stops_at(lease, windows) {
            Some(stops_at) if lease.is_live() => {
                self.steady.contains(&workload) && self.is_current(workload, Ordered::by(lease)) && time < stops_at
            }
            _ => lease.removed,
        }
    }

    /// Notes what a workload is to run. If it is something else than before, all that is known of it is old.
    pub(super) fn is_to_run(&mut self, workload: LeaseId, ordered: Ordered) {
        if self.current.insert(workload, ordered) != Some(ordered) {
            self.steady.remove(&workload);
            self.steadily.remove(&workload);
        }
    }

    /// Whether this is still what the workload is to run: work takes its time, and blocks come meanwhile.
    pub(super) fn is_current(&self, workload: LeaseId, ordered: Ordered) -> bool {
        self.current.get(&workload) == Some(&ordered)
    }
}

/// Why to look at the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A new block: only what depends on time and chain.
    Block,
    /// Work on this workload is over, and something of it was missed meanwhile. Of the others no more than of a block: each
    /// that is busy would call for the next look at all of them, for ever.
    Again(LeaseId),
    /// Something happened here, or it is time to look at everything.
    Everything,
}

impl Trigger {
    /// Whether also to look at a workload of which nothing is known to have changed.
    pub(super) fn is_for(self, workload: LeaseId) -> bool {
        self == Self::Everything || self == Self::Again(workload)
    }
}

/// When to look at everything: whatever happens, after a failed look, and in any case so often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// The latest time of the next look at everything. Blocks do not put it off.
    pub(super) deadline: Instant,
    /// Whether the last look at everything failed.
    failed: bool,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            deadline: now,
            failed: false,
        }
    }

    /// What to look at now that this happened.
    pub(super) fn trigger(&self, happened: Trigger, now: Instant) -> Trigger {
        match self.failed || now >= self.deadline {
            true => Trigger::Everything,
            false => happened,
        }
    }

    /// Notes a look.
    pub(super) fn looked(&mut self, at: Trigger, succeeded: bool, now: Instant) {
        if at == Trigger::Everything {
            self.failed = !succeeded;
            self.deadline = now + LONGEST_PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_looked_at_in_time_however_many_blocks_come() {
        let begun = Instant::now();
        let mut schedule = Schedule::new(begun);
        let mut looks = Vec::new();
        for second in 0..=45 {
            let now = begun + Duration::from_secs(second);
            let trigger = schedule.trigger(Trigger::Block, now);
            if trigger == Trigger::Everything {
                looks.push(second);
            }
            schedule.looked(trigger, true, now);
        }
        assert_eq!(looks, [0, 20, 40]);
    }

    #[test]
    fn a_look_at_everything_that_failed_is_taken_up_with_the_next_block() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now + LONGEST_PAUSE);
        assert_eq!(schedule.trigger(Trigger::Block, now), Trigger::Block);
        schedule.looked(Trigger::Everything, false, now);
        assert_eq!(schedule.trigger(Trigger::Block, now), Trigger::Everything);
        schedule.looked(Trigger::Block, true, now);
        assert_eq!(schedule.trigger(Trigger::Block, now), Trigger::Everything);
        schedule.looked(Trigger::Everything, true, now);
        assert_eq!(schedule.trigger(Trigger::Block, now), Trigger::Block);
    }
}
