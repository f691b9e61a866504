//! What happens to a lease.

use super::{Generator, spenders_of};
use crate::{
    Reason, Step, Who,
    model::{Amount, MAXIMUM_DURATION, Market, Order, State, Terms},
};

impl Generator {
    pub(super) fn some_lease(&mut self, market: &Market) -> Option<u64> {
        self.some_order(market, |order| order.state == State::Leased)
    }

    /// A lease that is not over, mostly.
    fn some_running_lease(&mut self, market: &Market) -> Option<u64> {
        let any = self.source.chance(10);
        self.some_order(market, |order| {
            order.state == State::Leased && (any || market.now < market.grace_end_of(order))
        })
    }

    /// The order's terms, mostly.
    fn its_terms(&mut self, market: &Market, id: u64) -> Terms {
        let mut terms = match market.orders.get(&id) {
            Some(order) => order.terms.clone(),
            None => market
                .orders
                .values()
                .next()
                .map_or_else(nothing, |order| order.terms.clone()),
        };
        match self.source.within(0, 39) {
            0 => terms.storage += 1,
            1 => terms.maximum_rate += 1,
            _ => {}
        }
        terms
    }

    fn supplier_owner(&mut self, market: &Market, id: u64) -> Who {
        let supplier = market
            .orders
            .get(&id)
            .and_then(|order| market.suppliers.get(&order.supplier));
        self.mostly(supplier.map_or(Who::Provider2, |supplier| supplier.owner))
    }

    pub(super) fn settle(&mut self, market: &Market) -> Option<Step> {
        Some(Step::Settle {
            orders: self.some_paying(market, |_, _| true)?,
        })
    }

    pub(super) fn settle_and_withdraw(&mut self, market: &Market) -> Option<Step> {
        let any = self.source.chance(20);
        // What is due is sent along with what was credited before.
        let both = |order: &Order| is_lease(order) && is_due(market, order) && is_credited(market, order);
        let along = market.orders.values().any(both);
        let first = if along {
            self.some_order(market, both)?
        } else {
            self.some_order(market, |order| is_lease(order) && (any || is_due(market, order)))?
        };
        let caller = self.supplier_owner(market, first);
        let supplier = market.supplier_of(caller).unwrap_or(0);
        let token = (first >> 24) as u8;
        let mut orders = self.some_paying(market, |id, order| {
            order.supplier == supplier && (id >> 24) as u8 == token
        })?;
        if along || self.source.chance(3) {
            orders.push(first);
        }
        Some(Step::SettleAndWithdraw {
            caller,
            orders,
            to: self.some_recipient(caller),
        })
    }

    /// One to three leases, live or closed, which may be the same.
    fn some_paying(&mut self, market: &Market, fits: impl Fn(u64, &Order) -> bool) -> Option<Vec<u64>> {
        let paying: Vec<u64> = market
            .orders
            .iter()
            .filter(|(id, order)| is_lease(order) && fits(**id, order))
            .map(|(id, _)| *id)
            .collect();
        if paying.is_empty() {
            return None;
        }
        let count = self.source.pick(&[1, 1, 2, 3]);
        let mut orders: Vec<u64> = (0..count).map(|_| self.source.pick(&paying)).collect();
        if self.source.chance(3) {
            orders.extend(self.some_order(market, |_| true));
        }
        Some(orders)
    }

    pub(super) fn close_lease(&mut self, market: &Market) -> Option<Step> {
        let id = self.some_lease(market)?;
        let over = market
            .orders
            .get(&id)
            .is_some_and(|order| order.state == State::Leased && market.now >= market.grace_end_of(order));
        let reason = match self.source.within(0, 19) {
            0 => self.source.pick(&[Reason::Slashed, Reason::Updated]),
            1..=2 => Reason::AtEnd,
            3..=6 => self
                .source
                .pick(&[Reason::NoManifest, Reason::Maintenance, Reason::CannotStart]),
            7..=8 => Reason::AbnormalService,
            _ => Reason::ByUser,
        };
        let caller = match reason {
            _ if over => self.source.pick(&[Who::Stranger, Who::Alice, Who::Provider1]),
            Reason::ByUser => self.some_spender(market, (id >> 32) as u32, (id >> 24) as u8),
            Reason::AtEnd => Who::Stranger,
            _ => self.supplier_owner(market, id),
        };
        Some(Step::CloseLease {
            caller,
            order: id,
            reason,
            terms: self.its_terms(market, id),
        })
    }

    pub(super) fn close_for(&mut self, market: &Market) -> Option<Step> {
        let block = market.block;
        let id = self.some_order(market, |order| {
            order.state == State::Leased || (order.state == State::Open && order.close_block > block)
        })?;
        let signer = self.some_spender(market, (id >> 32) as u32, (id >> 24) as u8);
        Some(Step::CloseFor {
            signed: self.signed(market, signer)?,
            order: id,
            terms: self.its_terms(market, id),
        })
    }

    pub(super) fn skip_nonce(&mut self, _: &Market) -> Option<Step> {
        Some(Step::SkipNonce {
            caller: self.source.pick(&Who::SIGNERS),
        })
    }

    pub(super) fn extend_lease(&mut self, market: &Market) -> Option<Step> {
        // Who is in its grace first.
        let in_grace = |order: &Order| {
            order.state == State::Leased
                && market.now >= Market::end_of(order)
                && market.now < market.grace_end_of(order)
        };
        let grace_first = market.orders.values().any(in_grace);
        let order = if grace_first {
            self.some_order(market, in_grace)?
        } else {
            self.some_running_lease(market)?
        };
        let duration = market.orders.get(&order).map_or(1, |order| order.duration);
        let added = match self.source.within(0, 19) {
            0 => 0,
            1 => u32::MAX,
            2 => MAXIMUM_DURATION - duration.min(MAXIMUM_DURATION),
            3 => MAXIMUM_DURATION - duration.min(MAXIMUM_DURATION) + 1,
            4..=6 => 1,
            _ => self.source.of_any_size(1, u128::from(duration.max(1))) as u32,
        };
        Some(Step::ExtendLease {
            caller: self.some_spender(market, (order >> 32) as u32, (order >> 24) as u8),
            order,
            added,
        })
    }

    pub(super) fn propose_update(&mut self, market: &Market) -> Option<Step> {
        let id = self.some_running_lease(market)?;
        let (account, token) = ((id >> 32) as u32, (id >> 24) as u8 % 3);
        let mut terms = self.some_terms(market, account, token);
        // An update mostly asks for other things of the same size.
        if let Some(order) = market.orders.get(&id)
            && self.source.chance(50)
        {
            terms.gpus = order.terms.gpus;
            terms.gpu_ids = order.terms.gpu_ids.clone();
        }
        let expiry = match self.source.within(0, 9) {
            0 => market.now,
            1 => market.now + 1,
            2 => market.now + 60,
            _ => market.now + 10_000_000,
        };
        Some(Step::ProposeUpdate {
            caller: self.some_proposer(market, id),
            order: id,
            terms,
            expiry,
        })
    }

    /// A spender who may, if there is one; now and then anybody.
    fn some_proposer(&mut self, market: &Market, id: u64) -> Who {
        let spenders = market
            .orders
            .get(&id)
            .map(|order| spenders_of(market, order))
            .unwrap_or_default();
        if spenders.is_empty() || self.source.chance(20) {
            return self.some_spender(market, (id >> 32) as u32, (id >> 24) as u8);
        }
        self.source.pick(&spenders)
    }

    pub(super) fn reject_update(&mut self, market: &Market) -> Option<Step> {
        let order = self.some_order(market, |order| order.proposal.is_some() && order.state == State::Leased)?;
        let caller = if self.source.chance(50) {
            self.some_spender(market, (order >> 32) as u32, (order >> 24) as u8)
        } else {
            self.supplier_owner(market, order)
        };
        let proposal = market.orders.get(&order).and_then(|order| order.proposal.clone());
        let mut terms = proposal.map_or_else(|| self.its_terms(market, order), |proposal| proposal.terms);
        if self.source.chance(10) {
            terms.duration += 1;
        }
        Some(Step::RejectUpdate { caller, order, terms })
    }

    pub(super) fn accept_update(&mut self, market: &Market) -> Option<Step> {
        // What fell with its right is asked for first: it would be taken if it came back.
        let fell = |order: &Order| {
            order.state == State::Leased && order.proposal.as_ref().is_some_and(|proposal| proposal.fallen)
        };
        let id = if market.orders.values().any(fell) && self.source.chance(50) {
            self.some_order(market, fell)?
        } else {
            self.some_order(market, |order| order.proposal.is_some() && order.state == State::Leased)?
        };
        let proposal = market.orders.get(&id).and_then(|order| order.proposal.clone());
        let mut terms = match proposal {
            Some(proposal) => proposal.terms,
            None => self.its_terms(market, id),
        };
        let rate = self.some_rate(terms.maximum_rate);
        if self.source.chance(3) {
            terms.duration += 1;
        }
        Some(Step::AcceptUpdate {
            caller: self.supplier_owner(market, id),
            order: id,
            resources_of: self.its_terms(market, id),
            terms,
            rate,
        })
    }

    pub(super) fn slash_lease(&mut self, market: &Market) -> Option<Step> {
        let id = self.some_lease(market)?;
        let (settled, passed) = market.orders.get(&id).map_or((0, 0), |order| {
            let passed = market.now.saturating_sub(order.start).min(order.duration.into()) as u32;
            (order.settled_for, passed.max(order.settled_for))
        });
        let billed = match self.source.within(0, 9) {
            0 => settled.saturating_sub(1),
            1 => passed + 1,
            2..=3 => settled,
            4 => passed,
            _ => self.source.between(settled.into(), passed.into()) as u32,
        };
        Some(Step::SlashLease {
            caller: if self.source.chance(95) {
                Who::Slasher
            } else {
                Who::Disputes
            },
            order: id,
            billed,
            terms: self.its_terms(market, id),
        })
    }

    pub(super) fn undo_lease(&mut self, market: &Market) -> Option<Step> {
        let now = market.now;
        let hold = u64::from(market.windows.hold);
        let lives = self.source.chance(50);
        let order = self.some_order(market, |order| {
            is_lease(order) && now <= order.start + hold && (order.state == State::Leased) == lives
        })?;
        Some(Step::UndoLease {
            caller: if self.source.chance(95) {
                Who::Disputes
            } else {
                Who::TaskManager
            },
            order,
            terms: self.its_terms(market, order),
        })
    }

    pub(super) fn rate_lease(&mut self, market: &Market) -> Option<Step> {
        let any = self.source.chance(20);
        let order = self.some_order(market, |order| {
            let payable = order.settled_for == order.duration && order.duration > 0 && !order.noted;
            order.state.is_closed() && (any || payable)
        })?;
        let owner = market
            .accounts
            .get(&((order >> 32) as u32))
            .map_or(Who::Alice, |account| account.owner);
        Some(Step::RateLease {
            caller: self.mostly(owner),
            order,
            rating: self.source.pick(&[0, 1, 5, 9, 10, 10, 11]),
        })
    }

    pub(super) fn announce_low_funds(&mut self, market: &Market) -> Option<Step> {
        let count = self.source.pick(&[1, 2]);
        let orders: Vec<u64> = (0..count).filter_map(|_| self.some_lease(market)).collect();
        (!orders.is_empty()).then_some(Step::AnnounceLowFunds { orders })
    }
}

fn is_lease(order: &Order) -> bool {
    order.state == State::Leased || order.state.is_closed()
}

fn is_due(market: &Market, order: &Order) -> bool {
    market.claimable(order).0 != Amount::ZERO
}

/// Whether its supplier has a credit in the token.
fn is_credited(market: &Market, order: &Order) -> bool {
    let owner = market.suppliers.get(&order.supplier).map(|supplier| supplier.owner);
    let credit = owner.and_then(|owner| market.credits.get(&(owner, order.token)));
    credit.is_some_and(|credit| *credit != Amount::ZERO)
}

fn nothing() -> Terms {
    Terms {
        cpu: 1,
        memory: 1,
        storage: 0,
        gpus: 0,
        gpu_ids: Vec::new(),
        params_version: 1,
        manifest: 1,
        maximum_rate: 1,
        duration: 1,
    }
}
