//! Updates of leases: whether to take what a user proposes, what to do next about it, and whether the new manifest may stay.
//! No I/O and no clock.
//!
//! An update is applied in two phases. First everything that can fail without harm is done beside what runs: the manifest is
//! here and is what was proposed, it is priced, it fits, its images are here. Then it is taken on chain, and once that is
//! confirmed the new manifest takes the place of the old one, which comes back if the new one does not come to run.

use std::collections::BTreeMap;

use avs::matching::Parameters;
use avs::terms::Terms;
use avs::words::{Capacity, Resources};
use gateway::wire::{UpdatePhase, UpdateStatus};

use crate::bidding::{self, Bid, Declined, OpenOrder, Standing};
use crate::pricing::{Prices, TooDear};
use crate::store::{Phase, Proposal};
use crate::wording;

/// Which updates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Those that ask for no more of any resource than the lease has.
    SameOrSmaller,
    /// Those that this provider has room for.
    IfItFits,
    /// None.
    Never,
}

/// Why an update is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// By policy.
    #[error("this provider takes no updates; order anew")]
    Never,
    /// By policy.
    #[error("this provider takes no update to more {resource} ({asked} instead of {leased}); order anew")]
    Larger {
        /// What of.
        resource: &'static str,
        /// As people read it.
        leased: String,
        /// As people read it.
        asked: String,
    },
    /// It offers too little.
    #[error("{0}, the update offers at most {offered}", offered = .0.offered)]
    TooDear(TooDear),
    /// It would get no bid either.
    #[error(transparent)]
    Declined(Declined),
    /// The provider's own program would not do it.
    #[error("this provider has no price for it")]
    NotPriced,
    /// It cannot run here.
    #[error("its service {service} cannot run here: {reason}")]
    CannotRun {
        /// The service.
        service: String,
        /// Why.
        reason: String,
    },
    /// The contract would not have it.
    #[error("it cannot be taken: {reason}")]
    Contract {
        /// Why.
        reason: String,
    },
}

impl From<Declined> for Refusal {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::TooDear(prices) => Self::TooDear(prices),
            declined => Self::Declined(declined),
        }
    }
}

/// A lease and what it is to become.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The lease.
    pub lease: u64,
    /// As it is.
    pub leased: &'a Terms,
    /// The GPU entry of the provider's capacity that it holds.
    pub gpu_entry: u8,
    /// As it is to be.
    pub proposed: &'a Terms,
}

/// What this provider would take the update for. `left` is what is free of leases and reserved bids, without what the lease
/// holds now.
///
/// # Errors
/// Why it would not.
pub fn judge(
    accept: Accept,
    prices: &BTreeMap<u8, Prices>,
    parameters: &Parameters,
    standing: &Standing,
    left: &Capacity,
    asked: Asked<'_>,
) -> Result<Bid, Refusal> {
    if accept == Accept::Never {
        return Err(Refusal::Never);
    }
    let (leased, _) = asked.leased.unpack().map_err(|_| Declined::Malformed)?;
    let (proposed, _) = asked.proposed.unpack().map_err(|_| Declined::Malformed)?;
    if accept == Accept::SameOrSmaller {
        no_larger(&leased, &proposed)?;
    }
    let room = with_freed(left, &leased, asked.gpu_entry);
    // To the rule it is an order like any other, whose only bidder is this provider.
    let order = OpenOrder {
        id: asked.lease,
        close_block: u64::MAX,
        terms: asked.proposed.clone(),
        bid_for: None,
    };
    let (bid, ..) = bidding::evaluate(prices, parameters, standing, &room, &order)?;
    Ok(bid)
}

fn no_larger(leased: &Resources, asked: &Resources) -> Result<(), Refusal> {
    type Told = fn(u32) -> String;
    let pairs: [(&'static str, u32, u32, Told); 4] = [
        ("CPU", leased.cpu, asked.cpu, wording::cpu),
        ("memory", leased.memory, asked.memory, wording::memory),
        ("storage", leased.storage, asked.storage, wording::storage),
        ("GPUs", leased.gpu_count.into(), asked.gpu_count.into(), |count| {
            count.to_string()
        }),
    ];
    match pairs.into_iter().find(|(_, leased, asked, _)| asked > leased) {
        Some((resource, leased, asked, told)) => Err(Refusal::Larger {
            resource,
            leased: told(leased),
            asked: told(asked),
        }),
        None => Ok(()),
    }
}

/// Whether what one order holds is enough for what another asks for.
pub fn holds(leased: &Terms, asked: &Terms) -> bool {
    let unpacked = |terms: &Terms| terms.unpack().map(|(resources, _)| resources);
    match (unpacked(leased), unpacked(asked)) {
        (Ok(leased), Ok(asked)) => no_larger(&leased, &asked).is_ok(),
        _ => false,
    }
}

/// What is left once the lease's own resources are free: never more than there is.
fn with_freed(left: &Capacity, leased: &Resources, gpu_entry: u8) -> Capacity {
    let mut room = *left;
    room.cpu_free = room.cpu_free.saturating_add(leased.cpu).min(room.cpu_total);
    room.memory_free = room.memory_free.saturating_add(leased.memory).min(room.memory_total);
    room.storage_free = room.storage_free.saturating_add(leased.storage).min(room.storage_total);
    if leased.gpu_count > 0
        && let Some(entry) = room.gpus.get_mut(usize::from(gpu_entry))
    {
        entry.free = entry.free.saturating_add(leased.gpu_count).min(entry.total);
    }
    room
}

/// How far the proposal's images are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Images {
    /// Nothing was begun since the start.
    Unknown,
    /// On the way; and why they did not come so far, in words, where a pull failed that is tried again.
    Waiting(Option<String>),
    /// All here.
    Here,
    /// The manifest cannot run here, and why.
    Failed(Refusal),
}

/// What is known of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What was decided before.
    pub phase: Phase,
    /// Whether the contract holds it, as it was seen, for a lease that lives.
    pub stands: bool,
    /// Unix seconds from which it cannot be taken.
    pub expiry: u64,
    /// Whether its manifest is stored.
    pub has_manifest: bool,
    /// How far its images are.
    pub images: Images,
    /// What it would be taken for now, where that was asked, or why not, in words.
    pub judged: Option<Result<u128, String>>,
    /// Unix seconds of a block: no refusal of another proposal for the same lease was later.
    pub refused_at: Option<u64>,
}

/// What is known of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix seconds of the newest block.
    pub time: u64,
    /// Whether the chain answers, its newest block was seen, and what is decided can be recorded.
    pub may_act: bool,
}

/// What to do next about a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Nothing,
    /// Find out what it would be taken for.
    Judge,
    /// Record that its manifest is waited for.
    Await,
    /// Bring its images here.
    Stage,
    /// Take it on chain.
    Accept {
        /// Token units per 36 000 seconds.
        rate: u128,
    },
    /// Record that it is refused, and tell the chain later.
    Withhold {
        /// Why, in words.
        reason: String,
    },
    /// Refuse it on chain.
    Refuse {
        /// Why, in words.
        reason: String,
    },
}

/// Refusing costs gas: a user who proposes again and again is answered this often.
pub const REFUSAL_PAUSE_SECONDS: u64 = 60;

/// What to do next. Level-triggered: after a crash the same facts give the same answer, and what was begun is taken up again.
pub fn decide(now: Now, facts: &Facts) -> Step {
    if !now.may_act || !facts.stands || now.time >= facts.expiry {
        return Step::Nothing;
    }
    let refuse = |reason: String| refusal(now, facts.refused_at, reason);
    match &facts.phase {
        Phase::Refused { .. } => return Step::Nothing,
        // What its user was told already stands.
        Phase::Withheld { .. } if is_pause(now, facts.refused_at) => return Step::Nothing,
        Phase::Withheld { reason } => return Step::Refuse { reason: reason.clone() },
        // It was sent, perhaps: sending again does no harm.
        Phase::Refusing { reason } => return Step::Refuse { reason: reason.clone() },
        Phase::Accepting { rate } => return Step::Accept { rate: *rate },
        Phase::Seen | Phase::Awaiting | Phase::Staging { .. } => {}
    }
    if let Some(Err(reason)) = &facts.judged {
        return refuse(reason.clone());
    }
    if facts.phase == Phase::Seen && facts.judged.is_none() {
        return Step::Judge;
    }
    if !facts.has_manifest {
        return match facts.phase {
            Phase::Awaiting => Step::Nothing,
            _ => Step::Await,
        };
    }
    match (&facts.images, &facts.judged) {
        (Images::Unknown, _) => Step::Stage,
        (Images::Waiting(_), _) => Step::Nothing,
        (Images::Failed(refusal), _) => refuse(refusal.to_string()),
        // Prices and room may have changed while the manifest and its images came.
        (Images::Here, None) => Step::Judge,
        (Images::Here, Some(Ok(rate))) => Step::Accept { rate: *rate },
        (Images::Here, Some(Err(reason))) => refuse(reason.clone()),
    }
}

/// Refuses; on chain at once, unless another proposal for the same lease was refused so recently that the chain has to wait.
/// Whoever finds the reason, the contract too: every refusal is paid for here.
pub fn refusal(now: Now, refused_at: Option<u64>, reason: String) -> Step {
    match is_pause(now, refused_at) {
        true => Step::Withhold { reason },
        false => Step::Refuse { reason },
    }
}

fn is_pause(now: Now, refused_at: Option<u64>) -> bool {
    refused_at.is_some_and(|at| now.time < at + REFUSAL_PAUSE_SECONDS)
}

/// What is to be said of a proposal to its user. Nothing once it was taken or withdrawn. `time` is that of the newest block.
pub fn told(proposal: &Proposal, time: u64) -> Option<UpdateStatus> {
    let phase = match &proposal.phase {
        Phase::Refusing { .. } | Phase::Refused { .. } => UpdatePhase::Refused,
        _ if proposal.ended => return None,
        _ if time >= proposal.expiry => UpdatePhase::Expired,
        Phase::Seen | Phase::Awaiting => UpdatePhase::AwaitingManifest,
        Phase::Staging { .. } => UpdatePhase::Staging,
        Phase::Accepting { .. } => UpdatePhase::Accepting,
        Phase::Withheld { .. } => UpdatePhase::Refused,
    };
    let reason = proposal.phase.reason().map(|reason| match &proposal.phase {
        Phase::Withheld { .. } if phase == UpdatePhase::Refused => format!(
            "{reason}; another update of this lease was refused a moment ago, so the chain is told of this one within \
             {REFUSAL_PAUSE_SECONDS} s"
        ),
        _ => reason.to_owned(),
    });
    Some(UpdateStatus {
        phase,
        manifest_hash: proposal.terms.manifest_hash,
        expiry: (!proposal.ended).then_some(proposal.expiry),
        reason,
    })
}

/// How long a new manifest is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Seconds for which all of it must run without a restart.
    pub steady_seconds: u64,
    /// Seconds in which it must have come to that.
    pub limit_seconds: u64,
}

/// What was seen of a manifest that took the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched<'a> {
    /// Unix seconds (of a block) at which that began.
    pub switched_at: u64,
    /// Unix seconds (of a block) since which every container ran without a restart.
    pub steady_since: Option<u64>,
    /// Why it cannot run as it is, where that is certain.
    pub failure: Option<&'a str>,
    /// What it does instead of running, in words.
    pub state: &'a str,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not known yet.
    Watch,
    /// It runs: it stays.
    Stays,
    /// It does not come to run, and why.
    GoesBack(String),
}

/// Whether a new manifest may stay. `time` is that of the newest block.
pub fn verdict(trial: Trial, time: u64, watched: Watched<'_>) -> Verdict {
    let is_steady = |since: u64| time >= since + trial.steady_seconds;
    if watched.steady_since.is_some_and(is_steady) {
        return Verdict::Stays;
    }
    if let Some(failure) = watched.failure {
        return Verdict::GoesBack(failure.to_owned());
    }
    if time >= watched.switched_at + trial.limit_seconds {
        return Verdict::GoesBack(format!(
            "it did not run for {} s in a row within {} s: {}",
            trial.steady_seconds, trial.limit_seconds, watched.state
        ));
    }
    Verdict::Watch
}

#[cfg(test)]
mod tests;
