//! What happened to an account's money, replayed from the chain's events: every entry says how it changed what is unlocked and
//! what is locked, every lease what it paid to whom, and the sums must be, to the unit, what the contract holds. Pure: what
//! reads the chain is `commands/account/history`.

mod event;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use avs::words::OrderId;
use bindings::{FeeSchedule, OrderState};

pub(crate) use self::event::Event;
use crate::amounts::{Bill, Origin, lease_lock, order_lock};

/// Where an event stands on the chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) block: u64,
    pub(crate) index: u64,
    /// Unix seconds of the block.
    pub(crate) time: u64,
    pub(crate) transaction: B256,
}

/// What the replay needs to know of the market beside events.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Fee schedules by id; they never change.
    pub(crate) schedules: BTreeMap<u16, FeeSchedule>,
    /// Schedule of each lease as its match froze it, and whether its supplier is a fizz node.
    pub(crate) leases: BTreeMap<u64, (u16, bool)>,
    /// Seconds of the payout hold.
    pub(crate) payout_hold: u32,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) event: Event,
    pub(crate) token: Option<u8>,
    /// Change of what is unlocked and of what is locked.
    pub(crate) unlocked: i128,
    pub(crate) locked: i128,
    /// Both after it, in this token.
    pub(crate) after: (i128, i128),
}

/// Who got what from an account, and what it still has, in one token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) deposited: i128,
    pub(crate) withdrawn: i128,
    pub(crate) suppliers: i128,
    pub(crate) gateways: i128,
    pub(crate) commission: i128,
    pub(crate) provider_fees: i128,
    pub(crate) user_fees: i128,
    pub(crate) match_fees: i128,
    /// Of what suppliers and gateways got: still counted as locked, because its lease lives.
    pub(crate) in_flight: i128,
    pub(crate) unlocked: i128,
    pub(crate) locked: i128,
}

impl Sums {
    /// What went in and what went out differ by this much from what is there; zero if every unit is accounted for.
    pub(crate) fn unaccounted(&self) -> i128 {
        let out = self.withdrawn
            + self.suppliers
            + self.gateways
            + self.commission
            + self.provider_fees
            + self.user_fees
            + self.match_fees;
        self.deposited - out + self.in_flight - self.unlocked - self.locked
    }
}

/// How far an order came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Live,
    /// Closed inside its payout hold: what accrued is locked until it is settled.
    Held,
    Over,
}

/// What is known of one order, and what its lease paid to whom.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    stage: Stage,
    rate: U256,
    duration: u32,
    start: u32,
    /// Zero before the match.
    pub(crate) supplier: u32,
    /// The lease that took its place.
    pub(crate) replaced_by: Option<u64>,
    schedule: FeeSchedule,
    origin: Origin,
    /// Seconds billed, once it ended.
    billed: Option<u32>,
    pub(crate) locked: U256,
    pub(crate) suppliers: U256,
    pub(crate) gateway: U256,
    /// Fees that left the account; those of the foundation leave it at the end.
    pub(crate) commission: U256,
    pub(crate) provider_fee: U256,
    pub(crate) user_fee: U256,
    pub(crate) match_fee: U256,
    pub(crate) refunded: U256,
}

/// An account's history with its sums.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<Entry>,
    pub(crate) tokens: BTreeMap<u8, Sums>,
    pub(crate) leases: BTreeMap<u64, Lease>,
    /// Events that contradict the contracts' own rules: the endpoint left some out, or this program is wrong.
    pub(crate) problems: Vec<String>,
    proposals: BTreeMap<u64, (U256, u32)>,
    /// Leases that began without an order: supplier, rate and start.
    begun: BTreeMap<u64, (u32, U256, u32)>,
}

impl Ledger {
    /// From all events of an account, in any order.
    pub(crate) fn replay(mut events: Vec<(Place, Event)>, facts: &Facts) -> Self {
        events.sort_by_key(|(place, _)| *place);
        let mut ledger = Self::default();
        for (place, event) in events {
            ledger.take(place, event, facts);
        }
        ledger.finish();
        ledger
    }

    fn take(&mut self, place: Place, event: Event, facts: &Facts) {
        let token = event.token();
        let (unlocked, locked) = match &event {
            Event::Deposited { amount, .. } => {
                self.sums(token).deposited += signed(*amount);
                (signed(*amount), 0)
            }
            Event::Withdrawn { amount, .. } => {
                self.sums(token).withdrawn += signed(*amount);
                (-signed(*amount), 0)
            }
            _ => match self.of_order(place, &event, facts) {
                Ok(change) => change,
                Err(problem) => {
                    self.problems.push(problem);
                    (0, 0)
                }
            },
        };
        let sums = self.sums(token);
        sums.unlocked += unlocked;
        sums.locked += locked;
        let after = (sums.unlocked, sums.locked);
        self.entries.push(Entry {
            place,
            event,
            token,
            unlocked,
            locked,
            after,
        });
    }

    fn sums(&mut self, token: Option<u8>) -> &mut Sums {
        // What concerns no token changes no sum.
        self.tokens.entry(token.unwrap_or(u8::MAX)).or_default()
    }

    /// Change of what is unlocked and locked.
    fn of_order(&mut self, place: Place, event: &Event, facts: &Facts) -> Result<(i128, i128), String> {
        match *event {
            Event::Ordered {
                order,
                rate,
                duration,
                schedule,
            } => {
                let schedule = facts.schedule(schedule)?;
                let lock = order_lock(duration, rate, schedule);
                self.leases
                    .insert(order, Lease::open(rate, duration, schedule.clone(), lock));
                Ok((-signed(lock), signed(lock)))
            }
            Event::Cancelled { order } | Event::Expired { order } => {
                let lease = self.known(order)?;
                lease.stage = Stage::Over;
                let lock = std::mem::take(&mut lease.locked);
                lease.refunded += lock;
                Ok((signed(lock), -signed(lock)))
            }
            Event::Leased {
                order,
                supplier,
                rate,
                start,
            } => match self.leases.get_mut(&order) {
                Some(lease) => {
                    lease.supplier = supplier;
                    lease.begin(rate, start, facts.lease(order)?)
                }
                None => {
                    self.begun.insert(order, (supplier, rate, start));
                    Ok((0, 0))
                }
            },
            Event::Proposed {
                order, rate, duration, ..
            } => {
                self.proposals.insert(order, (rate, duration));
                Ok((0, 0))
            }
            Event::Updated { order, updated } => self.update(order, updated, facts),
            Event::Extended {
                order,
                duration,
                locked,
            } => {
                let lease = self.known(order)?;
                lease.duration = duration;
                let lock = lease_lock(duration, lease.rate, &lease.schedule);
                let added = lock.checked_sub(lease.locked).ok_or("an extension unlocked money")?;
                lease.locked = lock;
                if added != locked {
                    return Err(format!(
                        "lease {order}: its extension locked {locked} units, its terms say {added}"
                    ));
                }
                Ok((-signed(added), signed(added)))
            }
            Event::Settled { order, amount, .. } => self.settle(order, amount),
            Event::GatewayPaid { order, amount } => {
                self.known(order)?.gateway += amount;
                Ok((0, 0))
            }
            Event::Closed { order, reason, billed } => {
                let held_until = |lease: &Lease| u64::from(lease.start) + u64::from(facts.payout_hold);
                let lease = self.known(order)?;
                let held = place.time < held_until(lease);
                Ok(lease.close(reason, billed, held))
            }
            _ => Ok((0, 0)),
        }
    }

    fn known(&mut self, order: u64) -> Result<&mut Lease, String> {
        self.leases.get_mut(&order).ok_or_else(|| {
            format!("order {order}: nothing says how it was created; does this RPC endpoint keep old logs?")
        })
    }

    /// A lease in place of another, without a match and its fee.
    fn update(&mut self, order: u64, updated: u64, facts: &Facts) -> Result<(i128, i128), String> {
        let unseen = || format!("lease {updated}: nothing says what update it is the answer to");
        let (_, duration) = self.proposals.remove(&order).ok_or_else(unseen)?;
        let (supplier, rate, start) = self.begun.remove(&updated).ok_or_else(unseen)?;
        let (schedule, shared) = facts.lease(updated)?;
        let lock = lease_lock(duration, rate, schedule);
        let mut lease = Lease::open(rate, duration, schedule.clone(), lock);
        (lease.stage, lease.start, lease.supplier) = (Stage::Live, start, supplier);
        lease.origin = Origin { updated: true, shared };
        self.leases.insert(updated, lease);
        if let Some(replaced) = self.leases.get_mut(&order) {
            replaced.replaced_by = Some(updated);
        }
        Ok((-signed(lock), signed(lock)))
    }

    fn settle(&mut self, order: u64, amount: U256) -> Result<(i128, i128), String> {
        let lease = self.known(order)?;
        lease.suppliers += amount;
        if lease.stage != Stage::Held {
            return Ok((0, 0));
        }
        // The end of what was kept under the payout hold: all of it leaves the account.
        lease.stage = Stage::Over;
        lease.take_fees();
        let lock = std::mem::take(&mut lease.locked);
        Ok((0, -signed(lock)))
    }

    /// Sums over the leases, and whether each paid what its terms say.
    fn finish(&mut self) {
        for (order, lease) in &self.leases {
            let sums = self.tokens.entry(OrderId::unpack(*order).token).or_default();
            sums.suppliers += signed(lease.suppliers);
            sums.gateways += signed(lease.gateway);
            sums.commission += signed(lease.commission);
            sums.provider_fees += signed(lease.provider_fee);
            sums.user_fees += signed(lease.user_fee);
            sums.match_fees += signed(lease.match_fee);
            if lease.stage == Stage::Live {
                sums.in_flight += signed(lease.suppliers + lease.gateway);
            }
            if let (Stage::Over, Some(billed)) = (lease.stage, lease.billed) {
                let bill = lease.bill(billed);
                if (bill.paid, bill.gateway) != (lease.suppliers, lease.gateway) {
                    self.problems.push(format!(
                        "lease {order}: its supplier got {} and its gateway {} units, {} and {} were due for {billed} s",
                        lease.suppliers, lease.gateway, bill.paid, bill.gateway
                    ));
                }
            }
        }
        for (order, _) in std::mem::take(&mut self.begun) {
            self.problems
                .push(format!("lease {order}: nothing says how its order was created"));
        }
        self.tokens.remove(&u8::MAX);
        for (token, sums) in &self.tokens {
            if sums.unaccounted() != 0 {
                self.problems.push(format!(
                    "token {token}: {} units went in that went nowhere",
                    sums.unaccounted()
                ));
            }
        }
    }
}

impl Facts {
    fn schedule(&self, id: u16) -> Result<&FeeSchedule, String> {
        self.schedules
            .get(&id)
            .ok_or_else(|| format!("fee schedule {id} is not known"))
    }

    fn lease(&self, order: u64) -> Result<(&FeeSchedule, bool), String> {
        let (schedule, shared) = self
            .leases
            .get(&order)
            .ok_or_else(|| format!("lease {order}: its fee schedule is not known"))?;
        Ok((self.schedule(*schedule)?, *shared))
    }
}

impl Lease {
    fn open(rate: U256, duration: u32, schedule: FeeSchedule, locked: U256) -> Self {
        Self {
            stage: Stage::Open,
            rate,
            duration,
            start: 0,
            supplier: 0,
            replaced_by: None,
            schedule,
            origin: Origin::default(),
            billed: None,
            locked,
            suppliers: U256::ZERO,
            gateway: U256::ZERO,
            commission: U256::ZERO,
            provider_fee: U256::ZERO,
            user_fee: U256::ZERO,
            match_fee: U256::ZERO,
            refunded: U256::ZERO,
        }
    }

    /// The match: at its rate, with its fee taken out of the lock.
    fn begin(&mut self, rate: U256, start: u32, found: (&FeeSchedule, bool)) -> Result<(i128, i128), String> {
        let before = self.locked;
        let (schedule, shared) = found;
        (self.stage, self.rate, self.start) = (Stage::Live, rate, start);
        self.schedule = schedule.clone();
        self.origin = Origin { updated: false, shared };
        self.locked = lease_lock(self.duration, rate, schedule);
        self.match_fee = U256::from(schedule.matchFee);
        let released = before
            .checked_sub(self.locked + self.match_fee)
            .ok_or("a match locked more than its order")?;
        Ok((signed(released), signed(self.locked) - signed(before)))
    }

    fn bill(&self, seconds: u32) -> Bill {
        Bill::after(seconds, self.rate, &self.schedule, self.origin)
    }

    fn close(&mut self, reason: OrderState, billed: u32, held: bool) -> (i128, i128) {
        let before = self.locked;
        if reason == OrderState::ClosedUndone {
            // Whatever was still locked for it comes back: also what an earlier close had kept.
            (self.stage, self.billed, self.locked) = (Stage::Over, Some(0), U256::ZERO);
            self.refunded += before;
            return (signed(before), -signed(before));
        }
        self.billed = Some(billed);
        let spent = self.bill(billed).streamed();
        let refund = before.saturating_sub(spent);
        self.refunded += refund;
        if held && !spent.is_zero() {
            (self.stage, self.locked) = (Stage::Held, spent);
            return (signed(refund), signed(spent) - signed(before));
        }
        self.stage = Stage::Over;
        self.locked = U256::ZERO;
        self.take_fees();
        (signed(refund), -signed(before))
    }

    /// What the foundation got when the lease was paid to its end.
    fn take_fees(&mut self) {
        let bill = self.bill(self.billed.unwrap_or(0));
        (self.commission, self.provider_fee, self.user_fee) = (bill.commission, bill.provider_fee, bill.user_fee);
    }

    /// All that left the account for it.
    pub(crate) fn spent(&self) -> U256 {
        self.suppliers + self.gateway + self.commission + self.provider_fee + self.user_fee + self.match_fee
    }
}

/// Amounts have at most 112 bits.
fn signed(units: U256) -> i128 {
    i128::try_from(units).unwrap_or(i128::MAX)
}
