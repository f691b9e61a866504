//! What to do about each lease. No I/O and no clock: what the chain, the store and the engine say goes in, actions come
//! out. Level-triggered: the same question gives the same answer until something changed.
//!
//! What cannot be undone (removing a workload) follows only from what the chain confirmed at depth, and never from
//! something that could not be read.

/// How patient to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Seconds from a lease's start in which its manifest must come.
    pub manifest_seconds: u64,
    /// Seconds for which a workload that cannot start is waited for.
    pub start_seconds: u64,
    /// Blocks on top of a lease before its workload is started; and, after end and grace, before it is stopped: a
    /// reorganisation may have taken an extension away that comes back.
    pub confirmation_depth: u64,
    /// Blocks on top of a lease's end before its workload is removed.
    pub removal_depth: u64,
    /// Blocks for which a lease is kept, stopped, that a reorganisation took away.
    pub undone_depth: u64,
}

/// What is known of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The newest block whose events were seen.
    pub head: u64,
    /// Its time, Unix seconds.
    pub time: u64,
    /// Whether the chain answers and its newest block was seen.
    pub chain_is_readable: bool,
    /// Whether what is decided can be recorded.
    pub store_works: bool,
    /// Whether the engine said what exists.
    pub engine_answers: bool,
}

/// A lease on the canonical chain, as of [`Now::head`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChain {
    /// It lives.
    Active {
        /// The block it began in.
        since_block: u64,
        /// Unix seconds of its start.
        start: u64,
        /// Unix seconds at which end and grace are over, with every extension that was seen.
        stops_at: u64,
    },
    /// It ended.
    Closed {
        /// The block it ended in.
        since_block: u64,
    },
    /// There is none: a reorganisation took it away, or the label is all there is of it.
    Gone {
        /// The newest block that was sure to be without it.
        since_block: u64,
    },
}

/// What exists of a lease on the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objects {
    /// Containers, whatever they do.
    pub containers: usize,
    /// Those that run.
    pub running: usize,
    /// Whether anything at all carries its label.
    pub exist: bool,
}

/// What is known of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// On the chain.
    pub on_chain: OnChain,
    /// Whether its manifest is stored.
    pub has_manifest: bool,
    /// Whether a manifest was applied once: it came in time, even if it was lost since.
    pub was_applied: bool,
    /// Whether it ever ran whole.
    pub was_ready: bool,
    /// The block from which on its end and grace were seen to be over, without a break.
    pub over_since: Option<u64>,
    /// Since when it cannot be started, Unix seconds of a block.
    pub failing_since: Option<u64>,
    /// On the engine; worth nothing while [`Now::engine_answers`] is false.
    pub objects: Objects,
    /// Whether its removal is recorded already.
    pub removed: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Bring the workload closer to its manifest.
    Apply,
    /// Stop the containers and keep everything else.
    Stop,
    /// The same because end and grace are over, after the contract was asked once more: an extension may just have come.
    StopAtEnd,
    /// Remove workload and manifest, after the chain was asked once more.
    Remove,
    /// Close the lease on chain.
    Close(Reason),
}

/// Why this provider closes a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No manifest came.
    NoManifest,
    /// The workload cannot be started.
    CannotStart,
    /// Its time is over, and the grace after it.
    AtEnd,
}

/// What to do about one lease, in this order.
pub fn decide(patience: &Patience, now: &Now, facts: &Facts) -> Vec<Action> {
    match facts.on_chain {
        OnChain::Active {
            since_block,
            start,
            stops_at,
        } => {
            if now.time >= stops_at {
                over(patience, now, facts)
            } else {
                live(patience, now, facts, since_block, start)
            }
        }
        OnChain::Closed { since_block } => ended(now, facts, since_block + patience.removal_depth),
        OnChain::Gone { since_block } => ended(now, facts, since_block + patience.undone_depth),
    }
}

/// What it may be sure of when it writes to the chain: everything must be readable and recordable.
fn may_act(now: &Now) -> bool {
    now.chain_is_readable && now.store_works
}

fn live(patience: &Patience, now: &Now, facts: &Facts, since_block: u64, start: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    let is_confirmed = now.head >= since_block + patience.confirmation_depth;
    if facts.has_manifest && is_confirmed && now.store_works {
        actions.push(Action::Apply);
    }
    if !may_act(now) || !is_confirmed {
        return actions;
    }
    // Who cannot see whether something runs cannot say that nothing came.
    let nothing_came = !facts.has_manifest && !facts.was_applied && now.engine_answers && !facts.objects.exist;
    if nothing_came && now.time >= start + patience.manifest_seconds {
        actions.push(Action::Close(Reason::NoManifest));
    }
    let gave_up = |since: u64| now.time >= since + patience.start_seconds;
    if !facts.was_ready && facts.failing_since.is_some_and(gave_up) {
        actions.push(Action::Close(Reason::CannotStart));
    }
    actions
}

/// Paid for until its end, extendable until the end of its grace: until then it runs, and who cannot read the chain does not
/// know that it is over.
fn over(patience: &Patience, now: &Now, facts: &Facts) -> Vec<Action> {
    let is_certain = |since: u64| now.head >= since + patience.confirmation_depth;
    if !may_act(now) || !facts.over_since.is_some_and(is_certain) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if now.engine_answers && facts.objects.running > 0 {
        actions.push(Action::StopAtEnd);
    }
    actions.push(Action::Close(Reason::AtEnd));
    actions
}

fn ended(now: &Now, facts: &Facts, removable_from: u64) -> Vec<Action> {
    if !now.engine_answers {
        return Vec::new();
    }
    let is_left = facts.objects.exist || facts.has_manifest || !facts.removed;
    if is_left && may_act(now) && now.head >= removable_from {
        return vec![Action::Remove];
    }
    if facts.objects.running > 0 {
        return vec![Action::Stop];
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
