//! A lease replaced by another of the same workload: its user proposes, its supplier takes it.

use std::collections::BTreeSet;

use super::{
    FELL_WITH_FEES, FELL_WITH_RIGHT, Ledger, Market, Order, Proposal, Refusal, Result, State, Terms, brackets, require,
};
use crate::{Step, Who};

impl Market {
    pub(super) fn update_step(&mut self, step: Step) -> Result {
        match step {
            Step::ProposeUpdate {
                caller,
                order,
                terms,
                expiry,
            } => self.propose_update(caller, order, terms, expiry),
            Step::RejectUpdate { caller, order, terms } => self.reject_update(caller, order, &terms),
            Step::AcceptUpdate {
                caller,
                order,
                resources_of,
                terms,
                rate,
            } => self.accept_update(caller, order, &resources_of, &terms, rate),
            other => unreachable!("{other:?} is no step of updates"),
        }
    }

    fn propose_update(&mut self, caller: Who, id: u64, terms: Terms, expiry: u64) -> Result {
        require(!self.paused, "MarketPaused")?;
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Leased, "WrongState")?;
        require(self.now < self.grace_end_of(order), "LeaseOver")?;
        require(self.may_close(order.account, order.token, caller), "NotAccountOwner")?;
        require(expiry > self.now, "ExpiryPassed")?;
        require(terms.are_valid(self.windows.params_version), "invalid terms")?;
        let (account, token) = (order.account, order.token);
        let schedule = self.tokens[usize::from(token)].schedule;
        let worst = self.schedules[&schedule].lease_lock(terms.maximum_rate, terms.duration);
        self.authorise(account, token, caller, &worst)?;
        let bracket = self.funds(account, token)?.bracket;
        require(brackets::allows(bracket, &terms, &self.top_gpus), "AboveBracket")?;
        self.order_mut(id).proposal = Some(Proposal {
            terms,
            expiry,
            by: caller,
            schedule,
            fallen: false,
        });
        Ok(())
    }

    /// What was proposed of a live lease, as long as it can come to something: it falls with the right by which it was
    /// proposed, for good if that is set anew, and while the token has other fees.
    fn standing(&self, order: &Order) -> Result<Proposal> {
        require(order.state == State::Leased, "WrongState")?;
        let proposal = order.proposal.as_ref().ok_or(Refusal("NoUpdateProposed"))?;
        require(
            self.may_close(order.account, order.token, proposal.by),
            "NoUpdateProposed",
        )?;
        let other_fees = proposal.schedule != self.tokens[usize::from(order.token)].schedule;
        require(
            !proposal.fallen,
            if other_fees {
                "NoUpdateProposed"
            } else {
                FELL_WITH_RIGHT
            },
        )?;
        require(!other_fees, FELL_WITH_FEES)?;
        Ok(proposal.clone())
    }

    /// The proposal of a live lease, if one stands.
    pub fn standing_proposal(&self, order: &Order) -> Option<Proposal> {
        self.standing(order).ok()
    }

    /// The leases of which an update stands.
    pub(super) fn standing_updates(&self) -> BTreeSet<u64> {
        let standing = |(id, order): (&u64, &Order)| self.standing(order).is_ok().then_some(*id);
        self.orders.iter().filter_map(standing).collect()
    }

    /// Whoever sets a right takes back what was proposed by the one before.
    pub(super) fn drop_proposals_by(&mut self, account: u32, spender: Who, token: u8) {
        let stood = self.standing_updates();
        let of_account = self.orders.values_mut();
        for order in of_account.filter(|order| order.account == account && order.token == token) {
            if let Some(proposal) = order.proposal.as_mut().filter(|proposal| proposal.by == spender) {
                proposal.fallen = true;
            }
        }
        if stood != self.standing_updates() {
            self.note("update fell with a right set anew");
        }
    }

    fn reject_update(&mut self, caller: Who, id: u64, terms: &Terms) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        let proposal = self.standing(order)?;
        require(proposal.terms == *terms, "OtherUpdateProposed")?;
        let is_supplier = self.suppliers[&order.supplier].owner == caller;
        require(
            is_supplier || self.may_close(order.account, order.token, caller),
            "NotAccountOwner",
        )?;
        self.order_mut(id).proposal = None;
        Ok(())
    }

    fn accept_update(&mut self, caller: Who, id: u64, resources_of: &Terms, terms: &Terms, rate: u128) -> Result {
        require(!self.paused, "MarketPaused")?;
        let old = self.orders.get(&id).ok_or(Refusal("WrongState"))?.clone();
        require(old.state == State::Leased, "WrongState")?;
        require(self.suppliers[&old.supplier].owner == caller, "NotSupplierOwner")?;
        require(self.now < self.grace_end_of(&old), "LeaseOver")?;
        let proposal = self.standing(&old)?;
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
        let by_spender = self.accounts[&order.account].owner != proposal.by;
        self.orders.insert(updated, order);
        self.note(if held { "updated inside the hold" } else { "updated" });
        if again {
            self.note("updated twice");
        }
        if by_spender {
            self.note("updated by a spender");
        }
        Ok(())
    }
}
