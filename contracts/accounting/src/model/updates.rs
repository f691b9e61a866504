//! A lease replaced by another of the same workload: its user proposes, its supplier takes it.

use super::{Ledger, Market, Order, Proposal, Refusal, Result, State, Terms, brackets, require};
use crate::Who;

impl Market {
    pub(super) fn propose_update(&mut self, caller: Who, id: u64, terms: Terms, expiry: u64) -> Result {
        require(!self.paused, "MarketPaused")?;
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Leased, "WrongState")?;
        require(self.now < self.grace_end_of(order), "LeaseOver")?;
        require(self.may_close(order.account, order.token, caller), "NotAccountOwner")?;
        require(expiry > self.now, "ExpiryPassed")?;
        require(terms.are_valid(self.windows.params_version), "invalid terms")?;
        let (account, token) = (order.account, order.token);
        let listed = &self.tokens[usize::from(token)];
        let schedule = &self.schedules[&listed.schedule];
        let worst = schedule.lease_lock(terms.maximum_rate, terms.duration);
        self.authorise(account, token, caller, &worst)?;
        let bracket = self.funds(account, token)?.bracket;
        require(brackets::allows(bracket, &terms, &self.top_gpus), "AboveBracket")?;
        let epoch = self.accounts[&account].epoch;
        self.order_mut(id).proposal = Some(Proposal {
            terms,
            expiry,
            epoch,
            by: caller,
        });
        Ok(())
    }

    /// What a spender proposed falls with its right.
    pub fn standing_proposal<'a>(&self, order: &'a Order) -> Option<&'a Proposal> {
        let proposed = order.proposal.as_ref();
        proposed.filter(|proposal| self.may_close(order.account, order.token, proposal.by))
    }

    /// What was proposed of a lease that has ended since can be taken back too; nothing comes of it either way.
    pub(super) fn reject_update(&mut self, caller: Who, id: u64, terms: &Terms) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("NoUpdateProposed"))?;
        let proposal = self.standing_proposal(order).ok_or(Refusal("NoUpdateProposed"))?;
        require(proposal.terms == *terms, "OtherUpdateProposed")?;
        let is_supplier = self.suppliers[&order.supplier].owner == caller;
        require(
            is_supplier || self.may_close(order.account, order.token, caller),
            "NotAccountOwner",
        )?;
        self.order_mut(id).proposal = None;
        Ok(())
    }

    pub(super) fn accept_update(
        &mut self,
        caller: Who,
        id: u64,
        resources_of: &Terms,
        terms: &Terms,
        rate: u128,
    ) -> Result {
        require(!self.paused, "MarketPaused")?;
        let old = self.orders.get(&id).ok_or(Refusal("WrongState"))?.clone();
        require(old.state == State::Leased, "WrongState")?;
        require(self.suppliers[&old.supplier].owner == caller, "NotSupplierOwner")?;
        require(self.now < self.grace_end_of(&old), "LeaseOver")?;
        let proposal = self.standing_proposal(&old).ok_or(Refusal("NoUpdateProposed"))?;
        require(self.now < proposal.expiry, "UpdateExpired")?;
        require(proposal.terms == *terms, "OtherUpdateProposed")?;
        require(rate != 0, "RateIsZero")?;
        require(rate <= terms.maximum_rate, "RateAboveMaximum")?;
        let held = self.now < self.hold_end_of(&old);
        let billed = (self.now - old.start).min(u64::from(old.duration)) as u32;
        self.end_lease(id, State::ClosedUpdated, billed, resources_of)?;
        self.order_mut(id).proposal = None;

        let supplier = self.suppliers.get_mut(&old.supplier).expect("a lease has a supplier");
        let gpu_entry = (0..4)
            .find(|entry| supplier.reserve(terms, *entry))
            .ok_or(Refusal("NoCapacity"))?;
        let rebated = supplier.rebated;
        let listed = &self.tokens[usize::from(old.token)];
        let base = listed.schedule;
        let lock = self.schedules[&base].lease_lock(rate, terms.duration);
        let updated = self.lock_under_new_id(old.account, old.token, &lock)?;
        let order = Order {
            terms: terms.clone(),
            state: State::Leased,
            rate,
            settled_for: 0,
            duration: terms.duration,
            start: self.now,
            close_block: self.block,
            schedule: if rebated { base | 1 } else { base },
            requeued: false,
            noted: false,
            gpu_entry,
            bids: 0,
            proposal: None,
            ledger: Ledger {
                deposited: lock.clone(),
                ..Ledger::default()
            },
            lock,
            ..old
        };
        let again = order.workload != id;
        self.orders.insert(updated, order);
        self.note(if held { "updated inside the hold" } else { "updated" });
        if again {
            self.note("updated twice");
        }
        Ok(())
    }
}
