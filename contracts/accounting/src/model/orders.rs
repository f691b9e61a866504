//! Orders until they are a lease, or never will be.

use super::{Amount, Ledger, Market, Order, Refusal, Result, State, Terms, brackets, require};
use crate::{Answer, Rank, Signed, Status, Step, Who};

const MOST_RANKS: usize = 8;
const HIGHEST_NONCE: u32 = (1 << 24) - 1;

impl Market {
    pub(super) fn order_step(&mut self, step: Step) -> Result {
        match step {
            Step::CreateOrder {
                caller,
                account,
                token,
                window,
                terms,
            } => self.create_order(caller, account, token, window, terms),
            Step::CreateOrderFor {
                signed,
                account,
                token,
                window,
                schedule,
                terms,
            } => self.create_order_for(&signed, account, token, window, schedule, terms),
            Step::CancelOrder { caller, order } => self.cancel_order(caller, order),
            Step::ExpireOrders { orders } => self.expire_orders(&orders),
            Step::PlaceBid {
                caller,
                order,
                fizz,
                rate,
            } => self.place_bid(caller, order, fizz, rate),
            Step::OpenLeases {
                caller,
                close_block,
                answers,
                responder,
            } => self.open_leases(caller, close_block, &answers, responder),
            Step::SkipNonce { caller } => {
                *self.nonces.entry(caller).or_default() += 1;
                Ok(())
            }
            other => unreachable!("{other:?} is no step of orders"),
        }
    }

    fn create_order(&mut self, caller: Who, account: u32, token: u8, window: u16, terms: Terms) -> Result {
        require(!self.paused, "MarketPaused")?;
        require(window <= self.windows.longest_bid, "BidWindowTooLong")?;
        require(terms.are_valid(self.windows.params_version), "invalid terms")?;
        let listed = self.tokens.get(usize::from(token)).ok_or(Refusal("UnknownToken"))?;
        require(listed.status == Status::Enabled, "TokenNotEnabled")?;
        let schedule = listed.schedule;
        let lock = self.schedules[&schedule].order_lock(terms.maximum_rate, terms.duration);
        self.authorise(account, token, caller, &lock)?;
        let bracket = self.funds(account, token)?.bracket;
        require(brackets::allows(bracket, &terms, &self.top_gpus), "AboveBracket")?;
        let id = self.lock_under_new_id(account, token, &lock)?;
        let blocks = if window == 0 { self.windows.bid } else { window };
        let order = Order {
            account,
            token,
            state: State::Open,
            rate: terms.maximum_rate,
            settled_for: 0,
            duration: terms.duration,
            start: 0,
            close_block: self.block + u64::from(blocks),
            supplier: 0,
            schedule,
            requeued: false,
            noted: false,
            gpu_entry: 0,
            bids: 0,
            workload: id,
            proposal: None,
            ledger: Ledger {
                deposited: lock.clone(),
                ..Ledger::default()
            },
            lock,
            terms,
        };
        self.orders.insert(id, order);
        Ok(())
    }

    /// At the token's fees as they were when it was signed.
    fn create_order_for(
        &mut self,
        signed: &Signed,
        account: u32,
        token: u8,
        window: u16,
        schedule: u16,
        terms: Terms,
    ) -> Result {
        self.take_signature(signed)?;
        let current = self.tokens.get(usize::from(token)).map(|token| token.schedule);
        require(current == Some(schedule), "OtherFeeSchedule")?;
        self.create_order(signed.signer, account, token, window, terms)
    }

    /// Locks and counts: an order id is account, token and the account's own nonce in that token.
    pub(super) fn lock_under_new_id(&mut self, account: u32, token: u8, lock: &Amount) -> Result<u64> {
        let funds = self.funds_mut(account, token);
        funds.lock(lock)?;
        require(funds.nonce < HIGHEST_NONCE, "NoncesExhausted")?;
        funds.nonce += 1;
        Ok(u64::from(account) << 32 | u64::from(token) << 24 | u64::from(funds.nonce))
    }

    /// Before the close block, or when the response window is over.
    pub(super) fn cancel_order(&mut self, caller: Who, id: u64) -> Result {
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Open, "WrongState")?;
        require(self.may_close(order.account, order.token, caller), "NotAccountOwner")?;
        let early = self.block < order.close_block;
        require(
            early || self.block > order.close_block + u64::from(self.windows.response),
            "BidWindowOver",
        )?;
        let is_spender = self.accounts[&order.account].owner != caller;
        self.release(id, State::Cancelled);
        self.note(if early {
            "cancelled before the close block"
        } else {
            "cancelled after the response window"
        });
        if is_spender {
            self.note("spender closed");
        }
        Ok(())
    }

    /// Whatever is over already is passed over.
    fn expire_orders(&mut self, ids: &[u64]) -> Result {
        for id in ids {
            let order = self.orders.get(id).ok_or(Refusal("WrongState"))?;
            if order.state != State::Open {
                continue;
            }
            let nobody_bid = order.bids == 0 && self.block >= order.close_block;
            require(
                nobody_bid || self.block > self.last_answer(order.close_block),
                "NotYetExpirable",
            )?;
            self.release(*id, State::Expired);
            self.note(if nobody_bid {
                "expired without a bid"
            } else {
                "expired unanswered"
            });
        }
        Ok(())
    }

    fn place_bid(&mut self, caller: Who, id: u64, fizz: u32, rate: u128) -> Result {
        require(!self.paused, "MarketPaused")?;
        let provider = self.supplier_of(caller).ok_or(Refusal("NotSupplier"))?;
        let order = self.orders.get(&id).ok_or(Refusal("WrongState"))?;
        require(order.state == State::Open, "WrongState")?;
        require(self.block < order.close_block, "BidWindowOver")?;
        require(rate != 0, "RateIsZero")?;
        require(rate <= order.rate, "RateAboveMaximum")?;
        require(order.bids < self.windows.bid_limit, "BidLimitReached")?;
        let serving = if fizz == 0 { provider } else { fizz };
        if fizz != 0 {
            let behind = self
                .suppliers
                .get(&fizz)
                .is_some_and(|node| node.gateway == Some(provider));
            require(behind, "NotBehindGateway")?;
        }
        // A fizz node has no score card of its own.
        require(self.suppliers[&provider].gateway.is_none(), "SupplierInactive")?;
        require(!self.suppliers[&serving].suspended, "SupplierInactive")?;
        let position = (self.block, id, fizz);
        let bidder = self.suppliers.get_mut(&provider).expect("it was looked up");
        let ascends = bidder.last_bid.0 != self.block || bidder.last_bid < position;
        require(ascends, "BidsNotAscending")?;
        bidder.last_bid = position;
        self.order_mut(id).bids += 1;
        Ok(())
    }

    /// A failing order never keeps its neighbours from being settled.
    fn open_leases(&mut self, caller: Who, close_block: u64, answers: &[Answer], responder: Who) -> Result {
        require(caller == Who::TaskManager, "NotTaskManager")?;
        require(!self.paused, "MarketPaused")?;
        let in_time = self.block > close_block && self.block <= self.last_answer(close_block);
        require(in_time, "OutsideResponseWindow")?;
        let mut previous = 0;
        for answer in answers {
            require(answer.order > previous, "OrdersNotAscending")?;
            require(answer.ranks.len() <= MOST_RANKS, "TooManyRanks")?;
            previous = answer.order;
            self.answer(close_block, answer, responder);
        }
        Ok(())
    }

    fn answer(&mut self, close_block: u64, answer: &Answer, responder: Who) {
        let waiting = self.orders.get(&answer.order);
        let Some(order) = waiting.filter(|order| order.state == State::Open && order.close_block == close_block) else {
            return self.note("order passed over");
        };
        let requeued = order.requeued;
        if answer.ranks.is_empty() {
            self.release(answer.order, State::Expired);
            return self.note("expired by its answer");
        }
        if answer.terms != order.terms {
            return self.note("answer ignored");
        }
        for (place, rank) in answer.ranks.iter().enumerate() {
            if self.take(answer.order, rank, responder) {
                if place > 0 {
                    self.note("leased to the next in rank");
                }
                return;
            }
        }
        if requeued {
            self.release(answer.order, State::Expired);
            return self.note("second answer without capacity expired it");
        }
        let close_block = self.block + u64::from(self.windows.bid);
        let order = self.order_mut(answer.order);
        order.requeued = true;
        order.close_block = close_block;
        order.bids = 0;
        self.note("requeued");
    }

    /// The lease with this supplier, if it can serve it at a rate that the user accepts.
    fn take(&mut self, id: u64, rank: &Rank, responder: Who) -> bool {
        let order = self.orders[&id].clone();
        let serving = if rank.fizz == 0 { rank.provider } else { rank.fizz };
        if rank.rate == 0 || rank.rate > order.rate {
            return false;
        }
        let Some(supplier) = self.suppliers.get_mut(&serving) else {
            return false;
        };
        if !supplier.reserve(&order.terms, rank.gpu_entry) {
            return false;
        }
        let (rebated, behind_gateway) = (supplier.rebated, supplier.gateway.is_some());
        let schedule = self.schedules[&order.schedule].clone();
        let lock = schedule.lease_lock(rank.rate, order.duration);
        let match_fee = Amount::from(schedule.match_fee);
        let surplus = &order.lock - &lock - &match_fee;
        let funds = self.funds_mut(order.account, order.token);
        funds.unlock(&surplus);
        funds.locked -= &match_fee;
        self.credit(responder, order.token, &match_fee);

        let now = self.now;
        let leased = self.order_mut(id);
        leased.state = State::Leased;
        leased.rate = rank.rate;
        leased.start = now;
        leased.supplier = serving;
        leased.gpu_entry = rank.gpu_entry;
        leased.schedule = if rebated { order.schedule | 1 } else { order.schedule };
        leased.lock = lock;
        leased.ledger.match_fee = match_fee;
        leased.ledger.refunded += surplus;
        self.note(if behind_gateway {
            "leased to a fizz node"
        } else {
            "leased to a provider"
        });
        if rebated {
            self.note("leased with the rebated schedule");
        }
        true
    }

    /// The whole lock of an order that will not become a lease goes back.
    fn release(&mut self, id: u64, state: State) {
        let order = self.order_mut(id);
        order.state = state;
        let lock = std::mem::take(&mut order.lock);
        order.ledger.refunded += &lock;
        let (account, token) = (order.account, order.token);
        self.funds_mut(account, token).unlock(&lock);
    }

    /// Last block in which an order of this close block can be answered.
    fn last_answer(&self, close_block: u64) -> u64 {
        close_block + u64::from(self.windows.response) + u64::from(self.windows.matching)
    }

    /// The supplier that somebody owns.
    pub fn supplier_of(&self, owner: Who) -> Option<u32> {
        let mut suppliers = self.suppliers.iter();
        suppliers
            .find(|(_, supplier)| supplier.owner == owner)
            .map(|(id, _)| *id)
    }

    pub(super) fn order_mut(&mut self, id: u64) -> &mut Order {
        self.orders.get_mut(&id).expect("the order was looked up")
    }
}
