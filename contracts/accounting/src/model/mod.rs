//! The market as its documentation tells it: accounts, orders, leases, credits, tokens.

mod accounts;
pub mod brackets;
mod fees;
mod governance;
mod invariants;
mod leases;
mod orders;
mod suppliers;
mod terms;
mod updates;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    fees::{Amount, Schedule, Split},
    suppliers::{GpuPool, Pool, Supplier},
    terms::{MAXIMUM_DURATION, MAXIMUM_RATE, Terms},
};
use crate::{Part, Status, Step, Who};

/// Why a step changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub &'static str);

type Result<T = (), E = Refusal> = std::result::Result<T, E>;

/// Refuses unless `allowed`.
fn require(allowed: bool, reason: &'static str) -> Result {
    if allowed { Ok(()) } else { Err(Refusal(reason)) }
}

/// Windows of a market, in blocks and in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    pub bid: u16,
    pub longest_bid: u16,
    pub response: u16,
    pub matching: u16,
    /// Payout hold.
    pub hold: u32,
    pub grace: u32,
    pub low_funds: u32,
    pub bid_limit: u32,
    pub params_version: u16,
}

/// What an account holds of one token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Funds {
    pub unlocked: Amount,
    pub locked: Amount,
    /// Of the last order.
    pub nonce: u32,
    pub bracket: u8,
}

impl Funds {
    /// All of it.
    pub fn held(&self) -> Amount {
        &self.unlocked + &self.locked
    }

    fn lock(&mut self, amount: &Amount) -> Result {
        require(self.unlocked >= *amount, "InsufficientBalance")?;
        self.unlocked -= amount;
        self.locked += amount;
        Ok(())
    }

    fn unlock(&mut self, amount: &Amount) {
        self.locked -= amount;
        self.unlocked += amount;
    }
}

/// What a spender may still do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub limit: Amount,
    pub expiry: u64,
    pub may_close: bool,
}

impl Right {
    /// Set to nothing is no right.
    fn is_none(&self) -> bool {
        self.limit == Amount::ZERO && self.expiry == 0 && !self.may_close
    }
}

/// An account, with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub owner: Who,
    /// May move the account, once.
    pub approved: Who,
    pub epoch: u32,
    /// By token.
    pub funds: BTreeMap<u8, Funds>,
    /// By spender and token; none survives a change of hands.
    pub rights: BTreeMap<(Who, u8), Right>,
    /// How often each right was set since the account came into these hands.
    pub settings: BTreeMap<(Who, u8), u32>,
}

/// By what somebody may propose an update: the account's epoch, how often the right was set (never for the owner), and the
/// schedule of the token's fees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    pub epoch: u32,
    pub setting: u32,
    pub schedule: u16,
}

/// Where an order stands; the numbers of `OrderState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Open = 1,
    Leased = 2,
    Cancelled = 3,
    Expired = 4,
    ClosedByUser = 5,
    ClosedAtEnd = 6,
    ClosedNoManifest = 7,
    ClosedMaintenance = 8,
    ClosedAbnormalService = 9,
    ClosedCannotStart = 10,
    ClosedSlashed = 11,
    ClosedUndone = 12,
    ClosedUpdated = 13,
}

impl State {
    /// A lease that ended.
    pub fn is_closed(self) -> bool {
        self as u8 >= Self::ClosedByUser as u8
    }
}

/// What a lease's user offers instead of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub terms: Terms,
    pub expiry: u64,
    /// It stands as long as this one may close the lease.
    pub by: Who,
    /// Of the token's fees, at which it was proposed and can be accepted.
    pub schedule: u16,
    /// The right of who proposed was set anew since.
    pub fallen: bool,
}

/// Where the money of one order went (E2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Everything ever locked for it.
    pub deposited: Amount,
    pub match_fee: Amount,
    pub supplier: Amount,
    pub gateway: Amount,
    pub fees: Amount,
    pub refunded: Amount,
}

/// An order, and the lease it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    pub account: u32,
    pub token: u8,
    pub terms: Terms,
    pub state: State,
    /// Maximum while open, taken afterwards.
    pub rate: u128,
    pub settled_for: u32,
    /// Ordered; billed once closed.
    pub duration: u32,
    pub start: u64,
    pub close_block: u64,
    pub supplier: u32,
    pub schedule: u16,
    pub requeued: bool,
    pub noted: bool,
    pub gpu_entry: u8,
    pub bids: u32,
    /// The first lease of its workload.
    pub workload: u64,
    pub proposal: Option<Proposal>,
    /// What of the account's locked amount is this order's.
    pub lock: Amount,
    pub ledger: Ledger,
}

/// A listed payment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub decimals: u8,
    /// Whether it takes ERC-2612 permits.
    pub permits: bool,
    pub status: Status,
    pub schedule: u16,
    pub feed: brackets::Feed,
    /// The last usable price that somebody had kept, and when the feed had it.
    pub kept_price: Option<(Amount, u64)>,
    pub cap: Amount,
}

/// The whole market, and everybody's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Market {
    pub windows: Windows,
    pub now: u64,
    pub block: u64,
    pub paused: bool,
    pub top_gpus: BTreeSet<u8>,
    pub foundation: Who,
    pub tokens: Vec<Token>,
    /// By id; pairs of an even one and the rebated one after it.
    pub schedules: BTreeMap<u16, Schedule>,
    pub suppliers: BTreeMap<u32, Supplier>,
    pub accounts: BTreeMap<u32, Account>,
    pub orders: BTreeMap<u64, Order>,
    /// By provider: ratings times their weights, and the weights.
    pub feedback: BTreeMap<u32, (u64, u64)>,
    pub credits: BTreeMap<(Who, u8), Amount>,
    pub holdings: BTreeMap<(Who, u8), Amount>,
    /// Who lets the escrow take any amount of what they hold.
    pub trusting: BTreeSet<Who>,
    /// Of everybody else.
    pub allowances: BTreeMap<(Who, u8), Amount>,
    pub permit_nonces: BTreeMap<(Who, u8), u64>,
    /// Nonces of Permit2, in no order. Everybody but the stranger lets it take any amount.
    pub used_permits: BTreeSet<(Who, u64)>,
    pub nonces: BTreeMap<Who, u64>,
    /// Sent to the escrow past everything.
    pub donated: BTreeMap<u8, Amount>,
    /// What the last step led to beyond its kind: see [`OUTCOMES`].
    pub outcomes: Vec<&'static str>,
}

/// States and ways that traces must reach often enough to be worth anything.
pub const OUTCOMES: [&str; 47] = [
    "credit sent along with a settlement",
    "cancelled by a signature",
    "closed by a signature",
    "spender locked from a limit",
    "spender closed",
    "bracket raised",
    "bracket lowered by a withdrawal",
    "right ended by a change of hands",
    "permit was used before, its allowance counts",
    "leased to a provider",
    "leased to a fizz node",
    "leased with the rebated schedule",
    "leased to the next in rank",
    "requeued",
    "expired by its answer",
    "second answer without capacity expired it",
    "answer ignored",
    "order passed over",
    "expired without a bid",
    "expired unanswered",
    "cancelled before the close block",
    "cancelled after the response window",
    "live lease settled",
    "lease settled to its end",
    "held lease settled",
    "gateway credited",
    "closed by the user inside the hold",
    "closed by the user after the hold",
    "closed by the supplier inside the hold",
    "closed by the supplier after the hold",
    "closed in the grace",
    "closed at its end",
    "closed at its end inside the hold",
    "closed in the second of its start",
    "extended",
    "extended in the grace",
    "update fell with a right set anew",
    "update fell with the token's fees",
    "update stands again at its fees",
    "updated",
    "updated by a spender",
    "updated inside the hold",
    "updated twice",
    "slashed below what had passed",
    "undone while it lived",
    "undone after its close",
    "announced",
];

/// Refusals that traces must meet: each is of an update that would be accepted but for this.
pub const REFUSALS: [&str; 2] = [FELL_WITH_RIGHT, FELL_WITH_FEES];

const FELL_WITH_RIGHT: &str = "NoUpdateProposed: its right was set anew";
const FELL_WITH_FEES: &str = "NoUpdateProposed: the token has other fees";

impl Market {
    /// Does what the step says, or says why it does nothing at all.
    ///
    /// # Errors
    /// Why the step is refused.
    pub fn apply(&mut self, step: &Step) -> Result {
        let mut next = self.clone();
        next.outcomes.clear();
        next.run(step.clone())?;
        *self = next;
        Ok(())
    }

    fn run(&mut self, step: Step) -> Result {
        match step.part() {
            Part::Time => self.time_step(step),
            Part::Deposits => self.deposit_step(step),
            Part::Accounts => self.account_step(step),
            Part::Orders => self.order_step(step),
            Part::Leases => self.lease_step(step),
            Part::Endings => self.ending_step(step),
            Part::Updates => self.update_step(step),
            Part::Suppliers | Part::Governance => self.govern(step),
        }
    }

    fn time_step(&mut self, step: Step) -> Result {
        let Step::Wait { seconds, blocks } = step else {
            unreachable!("{step:?} is no step of time");
        };
        self.now += seconds;
        self.block += blocks;
        Ok(())
    }

    fn note(&mut self, outcome: &'static str) {
        debug_assert!(OUTCOMES.contains(&outcome), "{outcome} is not counted");
        self.outcomes.push(outcome);
    }

    /// A signature is taken once, before its deadline, in the order of the nonces.
    fn take_signature(&mut self, signed: &crate::Signed) -> Result {
        require(self.now <= signed.deadline, "SignatureExpired")?;
        require(!signed.forged, "InvalidSignature")?;
        let next = self.nonces.entry(signed.signer).or_default();
        require(signed.nonce == *next, "InvalidSignature")?;
        *next += 1;
        Ok(())
    }

    fn credit(&mut self, payee: Who, token: u8, amount: &Amount) {
        *self.credits.entry((payee, token)).or_default() += amount;
    }

    fn move_tokens(&mut self, from: Who, to: Who, token: u8, amount: &Amount) -> Result {
        let held = self.holdings.entry((from, token)).or_default();
        require(*held >= *amount, "ERC20InsufficientBalance")?;
        *held -= amount;
        *self.holdings.entry((to, token)).or_default() += amount;
        Ok(())
    }
}
