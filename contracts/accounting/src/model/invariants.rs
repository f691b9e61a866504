//! What must hold of the model's own numbers after every step.

use super::{Amount, Market, Order, State};
use crate::Who;

impl Market {
    /// What the numbers violate, if anything.
    pub fn broken_invariant(&self) -> Option<String> {
        for token in 0..self.tokens.len() as u8 {
            if let Some(broken) = self.insolvent(token) {
                return Some(broken);
            }
        }
        self.orders.iter().find_map(|(id, order)| self.unbalanced(*id, order))
    }

    /// E1: the escrow holds to the unit what it owes, and what was sent to it past everything. E4: every locked unit is one
    /// order's.
    fn insolvent(&self, token: u8) -> Option<String> {
        let mut owed = self.donated.get(&token).cloned().unwrap_or_default();
        for (id, account) in &self.accounts {
            let funds = &account.funds[&token];
            let locks: Amount = self
                .orders
                .values()
                .filter(|order| order.account == *id && order.token == token)
                .map(|order| &order.lock)
                .sum();
            if locks != funds.locked {
                return Some(format!(
                    "E4: account {id}, token {token}: {} locked, {locks} for orders",
                    funds.locked
                ));
            }
            owed += funds.held();
        }
        for order in self.orders.values().filter(|order| order.token == token) {
            owed -= paid_while_it_lives(order);
        }
        owed += self
            .credits
            .iter()
            .filter(|((_, of), _)| *of == token)
            .map(|(_, credit)| credit)
            .sum::<Amount>();
        let holds = self.holdings.get(&(Who::Escrow, token)).cloned().unwrap_or_default();
        (holds != owed).then(|| format!("E1: token {token}: holds {holds}, owes {owed}"))
    }

    /// E2: deposited = paid + fees + refunded + remaining. E3: no more is paid than was streamed, or locked. E7: fees are at
    /// most a quarter of the stream. E10: nothing stays of what is over.
    fn unbalanced(&self, id: u64, order: &Order) -> Option<String> {
        let ledger = &order.ledger;
        let paid = &ledger.supplier + &ledger.gateway;
        let remaining = &order.lock - paid_while_it_lives(order);
        let accounted = &paid + &ledger.fees + &ledger.match_fee + &ledger.refunded + &remaining;
        if accounted != ledger.deposited {
            return Some(format!(
                "E2: order {id}: {} deposited, {accounted} accounted for",
                ledger.deposited
            ));
        }
        let streamed = Amount::from(order.rate) * order.settled_for / 36_000_u32;
        if order.state != State::Open && (paid > streamed || &ledger.fees * 4_u8 > streamed) {
            return Some(format!(
                "E3, E7: order {id}: {paid} paid, {} fees, {streamed} streamed",
                ledger.fees
            ));
        }
        let over = !matches!(order.state, State::Open | State::Leased) && order.settled_for == order.duration;
        if over && order.lock != Amount::ZERO {
            return Some(format!("E10: order {id}: over and paid, {} still locked", order.lock));
        }
        None
    }
}

/// The lock of a live lease keeps what is paid already.
fn paid_while_it_lives(order: &Order) -> Amount {
    if order.state == State::Leased {
        &order.ledger.supplier + &order.ledger.gateway
    } else {
        Amount::ZERO
    }
}
