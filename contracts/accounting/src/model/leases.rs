//! Leases: paying, closing, extending, undoing, rating.

use super::{Amount, MAXIMUM_DURATION, Market, Order, Refusal, Result, Split, State, Terms, require};
use crate::{Reason, Signed, Step, Who};

const HIGHEST_RATING: u8 = 10;

impl Market {
    pub(super) fn lease_step(&mut self, step: Step) -> Result {
        match step {
            Step::Settle { orders } => self.settle(&orders),
            Step::SettleAndWithdraw { caller, orders, to } => self.settle_and_withdraw(caller, &orders, to),
            Step::ExtendLease { caller, order, added } => self.extend_lease(caller, order, added),
            Step::RateLease { caller, order, rating } => self.rate_lease(caller, order, rating),
            Step::AnnounceLowFunds { orders } => self.announce_low_funds(&orders),
            other => unreachable!("{other:?} is no step of leases"),
        }
    }

    pub(super) fn ending_step(&mut self, step: Step) -> Result {
        match step {
            Step::CloseLease {
                caller,
                order,
                reason,
                terms,
            } => self.close_lease(caller, order, reason, &terms),
            Step::CloseFor { signed, order, terms } => self.close_for(&signed, order, &terms),
            Step::SlashLease {
                caller,
                order,
                billed,
                terms,
            } => self.slash_lease(caller, order, billed, &terms),
            Step::UndoLease { caller, order, terms } => self.undo_lease(caller, order, &terms),
            other => unreachable!("{other:?} is no step of endings"),
        }
    }

    // ------------------------------------------------------------------ views

    /// Unix time of a lease's end.
    pub fn end_of(order: &Order) -> u64 {
        order.start + u64::from(order.duration)
    }

    /// Until when, exclusive, a lease can still be extended.
    pub fn grace_end_of(&self, order: &Order) -> u64 {
        Self::end_of(order) + u64::from(self.windows.grace.min(order.duration / 16))
    }

    /// From when it may be announced that a lease runs low.
    pub fn low_funds_from(&self, order: &Order) -> u64 {
        Self::end_of(order) - u64::from(self.windows.low_funds.min(order.duration / 4))
    }

    /// From when it is paid.
    pub fn hold_end_of(&self, order: &Order) -> u64 {
        order.start + u64::from(self.windows.hold)
    }

    /// What settling would credit now to the supplier's owner and to its gateway's.
    pub fn claimable(&self, order: &Order) -> (Amount, Amount) {
        let Some(until) = self.payable_until(order) else {
            return Default::default();
        };
        let (before, after) = (self.split(order, order.settled_for), self.split(order, until));
        (after.supplier - before.supplier, after.gateway - before.gateway)
    }

    fn elapsed(&self, order: &Order) -> u32 {
        let seconds = (self.now - order.start).min(u64::from(order.duration));
        seconds.try_into().expect("no more than the duration")
    }

    /// Seconds after the start until which a lease that lives, or waits for the end of its hold, is owed and not paid.
    fn payable_until(&self, order: &Order) -> Option<u32> {
        let is_lease = order.state == State::Leased || order.state.is_closed();
        if !is_lease || self.now < self.hold_end_of(order) {
            return None;
        }
        // Of a closed lease the duration is what was billed.
        let until = if order.state == State::Leased {
            self.elapsed(order)
        } else {
            order.duration
        };
        (until > order.settled_for).then_some(until)
    }

    fn split(&self, order: &Order, seconds: u32) -> Split {
        let shared = self.suppliers[&order.supplier].gateway.is_some();
        self.schedules[&order.schedule].split(order.rate, seconds, shared)
    }

    // ----------------------------------------------------------------- paying

    fn settle(&mut self, ids: &[u64]) -> Result {
        for id in ids {
            let owner = self.supplier_owner_of(*id)?;
            let paid = self.pay_what_is_due(*id);
            let token = self.orders[id].token;
            self.credit(owner, token, &paid);
        }
        Ok(())
    }

    fn settle_and_withdraw(&mut self, caller: Who, ids: &[u64], to: Who) -> Result {
        let first = ids.first().ok_or(Refusal("EmptyBatch"))?;
        let token_of = |id: u64| (id >> 24) as u8;
        let token = token_of(*first);
        let mut paid = Amount::ZERO;
        for id in ids {
            require(token_of(*id) == token, "MixedTokens")?;
            let owner = self.supplier_owner_of(*id)?;
            require(owner == caller, "NotSupplierOwner")?;
            paid += self.pay_what_is_due(*id);
        }
        let credit = self.credits.remove(&(caller, token)).unwrap_or_default();
        if credit != Amount::ZERO && paid != Amount::ZERO {
            self.note("credit sent along with a settlement");
        }
        paid += credit;
        require(paid != Amount::ZERO, "NothingDue")?;
        require(!to.receives_nothing(), "InvalidRecipient")?;
        self.move_tokens(Who::Escrow, to, token, &paid)
    }

    fn supplier_owner_of(&self, id: u64) -> Result<Who> {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Leased || order.state.is_closed(), "WrongState")?;
        Ok(self.suppliers[&order.supplier].owner)
    }

    /// What the supplier gets for a lease now. Its gateway is credited; of a closed lease the fees are too.
    fn pay_what_is_due(&mut self, id: u64) -> Amount {
        let Some(until) = self.payable_until(&self.orders[&id]) else {
            return Amount::ZERO;
        };
        let paid = self.pay_until(id, until);
        let order = &self.orders[&id];
        let (closed, at_its_end) = (order.state.is_closed(), until == order.duration);
        if closed {
            self.finish(id);
        }
        self.note(if closed {
            "held lease settled"
        } else if at_its_end {
            "lease settled to its end"
        } else {
            "live lease settled"
        });
        paid
    }

    /// Pays from what is settled to `until`; the supplier's part is the caller's to pass on.
    fn pay_until(&mut self, id: u64, until: u32) -> Amount {
        let order = self.orders[&id].clone();
        let (before, after) = (self.split(&order, order.settled_for), self.split(&order, until));
        let (supplier, gateway) = (after.supplier - before.supplier, after.gateway - before.gateway);
        if let Some(provider) = self.suppliers[&order.supplier].gateway {
            let owner = self.suppliers[&provider].owner;
            self.credit(owner, order.token, &gateway);
            if gateway != Amount::ZERO {
                self.note("gateway credited");
            }
        }
        let paid = self.order_mut(id);
        paid.settled_for = until;
        paid.ledger.supplier += &supplier;
        paid.ledger.gateway += gateway;
        supplier
    }

    /// Of a lease that is closed and paid: the fees are credited, its lock is spent, what is left of it goes back.
    fn finish(&mut self, id: u64) {
        let order = self.orders[&id].clone();
        let billed = self.split(&order, order.duration);
        let refund = &order.lock - billed.total();
        let funds = self.funds_mut(order.account, order.token);
        funds.locked -= billed.total();
        funds.unlock(&refund);
        self.credit(self.foundation, order.token, &billed.fees);
        let paid = self.order_mut(id);
        paid.lock = Amount::ZERO;
        paid.ledger.fees += billed.fees;
        paid.ledger.refunded += refund;
    }

    // ---------------------------------------------------------------- closing

    fn close_lease(&mut self, caller: Who, id: u64, reason: Reason, terms: &Terms) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Leased, "WrongState")?;
        let state = match reason {
            Reason::ByUser => State::ClosedByUser,
            Reason::AtEnd => State::ClosedAtEnd,
            Reason::NoManifest => State::ClosedNoManifest,
            Reason::Maintenance => State::ClosedMaintenance,
            Reason::AbnormalService => State::ClosedAbnormalService,
            Reason::CannotStart => State::ClosedCannotStart,
            Reason::Slashed | Reason::Updated => return Err(Refusal("InvalidCloseReason")),
        };
        let is_over = self.now >= self.grace_end_of(order);
        let by_user = state == State::ClosedByUser;
        if !is_over {
            require(state != State::ClosedAtEnd, "LeaseNotOver")?;
            if by_user {
                require(self.may_close(order.account, order.token, caller), "NotAccountOwner")?;
            } else {
                require(self.suppliers[&order.supplier].owner == caller, "NotSupplierOwner")?;
            }
        }
        let in_grace = !is_over && self.now >= Self::end_of(order);
        let is_spender = !is_over && by_user && self.accounts[&order.account].owner != caller;
        let at_once = self.now == order.start;
        let held = self.now < self.hold_end_of(order);
        let billed = self.elapsed(order);
        self.end_lease(id, if is_over { State::ClosedAtEnd } else { state }, billed, terms)?;

        self.note(match (is_over, by_user, held) {
            (true, _, true) => "closed at its end inside the hold",
            (true, _, false) => "closed at its end",
            (false, true, true) => "closed by the user inside the hold",
            (false, true, false) => "closed by the user after the hold",
            (false, false, true) => "closed by the supplier inside the hold",
            (false, false, false) => "closed by the supplier after the hold",
        });
        for (happened, outcome) in [
            (in_grace, "closed in the grace"),
            (is_spender, "spender closed"),
            (at_once, "closed in the second of its start"),
        ] {
            if happened {
                self.note(outcome);
            }
        }
        Ok(())
    }

    fn close_for(&mut self, signed: &Signed, id: u64, terms: &Terms) -> Result {
        self.take_signature(signed)?;
        let open = self.orders.get(&id).is_some_and(|order| order.state == State::Open);
        if open {
            self.cancel_order(signed.signer, id)?;
        } else {
            self.close_lease(signed.signer, id, Reason::ByUser, terms)?;
        }
        self.note(if open {
            "cancelled by a signature"
        } else {
            "closed by a signature"
        });
        Ok(())
    }

    fn slash_lease(&mut self, caller: Who, id: u64, billed: u32, terms: &Terms) -> Result {
        require(caller == Who::Slasher, "NotSlasher")?;
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Leased, "WrongState")?;
        let passed = self.elapsed(order);
        require((order.settled_for..=passed).contains(&billed), "BilledOutOfRange")?;
        self.end_lease(id, State::ClosedSlashed, billed, terms)?;
        if billed < passed {
            self.note("slashed below what had passed");
        }
        Ok(())
    }

    /// Frees the capacity; bills so many seconds. Inside the hold what they cost stays locked and the rest goes back at once.
    pub(super) fn end_lease(&mut self, id: u64, state: State, billed: u32, terms: &Terms) -> Result {
        let order = self.orders[&id].clone();
        require(*terms == order.terms, "WrongResources")?;
        let supplier = self.suppliers.get_mut(&order.supplier).expect("a lease has a supplier");
        supplier.release(&order.terms, order.gpu_entry);
        let owner = supplier.owner;

        let ended = self.order_mut(id);
        ended.state = state;
        ended.duration = billed;
        ended.noted = false;
        if self.now < self.hold_end_of(&order) {
            let kept = self.split(&order, billed).total();
            let refund = &order.lock - &kept;
            let ended = self.order_mut(id);
            ended.lock = kept;
            ended.ledger.refunded += &refund;
            self.funds_mut(order.account, order.token).unlock(&refund);
        } else {
            let paid = self.pay_until(id, billed);
            self.credit(owner, order.token, &paid);
            self.finish(id);
        }
        Ok(())
    }

    /// Inside the hold everything that is still locked for it goes back, whether it lives or not.
    fn undo_lease(&mut self, caller: Who, id: u64, terms: &Terms) -> Result {
        require(caller == Who::Disputes, "NotDisputes")?;
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?.clone();
        let lives = order.state == State::Leased;
        require(
            lives || (order.state.is_closed() && order.state != State::ClosedUndone),
            "WrongState",
        )?;
        require(self.now < self.hold_end_of(&order), "PayoutHoldOver")?;
        require(*terms == order.terms, "WrongResources")?;
        if lives {
            let supplier = self.suppliers.get_mut(&order.supplier).expect("a lease has a supplier");
            supplier.release(&order.terms, order.gpu_entry);
        }
        let undone = self.order_mut(id);
        undone.state = State::ClosedUndone;
        undone.duration = 0;
        undone.noted = false;
        let lock = std::mem::take(&mut undone.lock);
        undone.ledger.refunded += &lock;
        self.funds_mut(order.account, order.token).unlock(&lock);
        self.note(if lives {
            "undone while it lived"
        } else {
            "undone after its close"
        });
        Ok(())
    }

    // ------------------------------------------------------- extending, rating

    fn extend_lease(&mut self, caller: Who, id: u64, added: u32) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?.clone();
        require(order.state == State::Leased, "WrongState")?;
        require(added != 0, "ExtensionIsZero")?;
        require(self.now < self.grace_end_of(&order), "LeaseOver")?;
        let duration = u64::from(order.duration) + u64::from(added);
        require(duration <= u64::from(MAXIMUM_DURATION), "DurationOutOfRange")?;
        let longer = self.schedules[&order.schedule].lease_lock(order.rate, duration as u32);
        let more = &longer - &order.lock;
        self.authorise(order.account, order.token, caller, &more)?;
        self.funds_mut(order.account, order.token).lock(&more)?;
        let in_grace = self.now >= Self::end_of(&order);
        let extended = self.order_mut(id);
        extended.duration = duration as u32;
        extended.noted = false;
        extended.lock = longer;
        extended.ledger.deposited += more;
        self.note(if in_grace { "extended in the grace" } else { "extended" });
        Ok(())
    }

    fn announce_low_funds(&mut self, ids: &[u64]) -> Result {
        for id in ids {
            let Some(order) = self.orders.get(id) else { continue };
            let low = order.state == State::Leased
                && !order.noted
                && self.now >= self.low_funds_from(order)
                && self.now < self.grace_end_of(order);
            if low {
                self.order_mut(*id).noted = true;
                self.note("announced");
            }
        }
        Ok(())
    }

    fn rate_lease(&mut self, caller: Who, id: u64, rating: u8) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        // A workload is rated once, by its last lease.
        require(
            order.state.is_closed() && order.state != State::ClosedUpdated,
            "WrongState",
        )?;
        require(self.accounts[&order.account].owner == caller, "NotAccountOwner")?;
        require((1..=HIGHEST_RATING).contains(&rating), "InvalidRating")?;
        require(!order.noted, "AlreadyRated")?;
        require(
            order.settled_for == order.duration && order.duration != 0,
            "NotPaidInFull",
        )?;
        let (supplier, token) = (order.supplier, order.token);
        let fees = self.split(order, order.duration).fees;
        require(fees != Amount::ZERO, "NotPaidInFull")?;
        let provider = self.suppliers[&supplier].gateway.unwrap_or(supplier);
        let weight = self.weight_of(token, &fees);
        let (sum, count) = self.feedback.entry(provider).or_default();
        *sum += u64::from(rating) * weight;
        *count += weight;
        self.order_mut(id).noted = true;
        Ok(())
    }

    /// One and the whole dollars of the fees, at today's price, else at the last one kept; at most a thousand.
    fn weight_of(&self, token: u8, fees: &Amount) -> u64 {
        let listed = &self.tokens[usize::from(token)];
        let kept = listed.kept_price.as_ref().map(|(price, _)| price.clone());
        let Some(price) = listed.feed.price(self.now).or(kept) else {
            return 1;
        };
        let dollars = fees * price / Amount::from(10_u8).pow(18 + u32::from(listed.decimals));
        u64::try_from(dollars).unwrap_or(u64::MAX).saturating_add(1).min(1_000)
    }
}
