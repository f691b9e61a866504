//! What happens next: chosen at random, but looking at the market, so that most steps are possible, many stand exactly at a
//! boundary, and some must be refused.

mod leases;
mod money;
mod orders;
mod world;

use crate::{
    Source, Status, Step, Who,
    model::{Amount, Market, Order, Proposal, State},
};

/// Chooses steps.
#[derive(Debug, Clone)]
pub struct Generator {
    source: Source,
}

type Maker = fn(&mut Generator, &Market) -> Option<Step>;

/// So many tries to find an order, an account or a time that fits; then another kind of step is taken.
const TRIES: usize = 50;
/// Order words keep Unix times in 32 bits.
const LATEST_TIME: u64 = 4_200_000_000;

impl Generator {
    /// For one trace.
    pub fn new(source: Source) -> Self {
        Self { source }
    }

    /// The next step of a trace that led to this market.
    pub fn step(&mut self, market: &Market) -> Step {
        let choices = self.choices(market);
        for _ in 0..TRIES {
            let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
            let mut chosen = self.source.within(0, total - 1);
            let maker = choices
                .iter()
                .find_map(|(weight, maker)| match chosen.checked_sub(*weight) {
                    Some(rest) => {
                        chosen = rest;
                        None
                    }
                    None => Some(maker),
                });
            if let Some(step) = maker.expect("a weight below the sum is found")(self, market) {
                return step;
            }
        }
        Step::Wait { seconds: 12, blocks: 1 }
    }

    /// How often each kind is tried here.
    fn choices(&self, market: &Market) -> Vec<(u64, Maker)> {
        let count = |state| market.orders.values().filter(|order| order.state == state).count();
        let (open, leased) = (count(State::Open), count(State::Leased));
        let answerable = market.orders.values().any(|order| self.is_answerable(market, order));
        let proposed = proposals(market).next().is_some();
        let by_spender = proposals(market).any(|(_, order, proposal)| is_by_spender(market, order, proposal));
        let at_other_fees = proposals(market).any(|(_, order, proposal)| is_at_other_fees(market, order, proposal));
        let when = |condition: bool, then: u64, otherwise: u64| if condition { then } else { otherwise };
        let spendable = market
            .orders
            .values()
            .any(|order| order.state == State::Leased && !spenders_of(market, order).is_empty());
        let delisted = market.tokens.iter().any(|token| token.status != Status::Enabled);
        let credited = market.credits.values().any(|credit| *credit != Amount::ZERO);
        vec![
            (when(open + leased < 5, 24, 6), Self::create_order),
            (when(open + leased < 5, 6, 2), Self::create_order_for),
            (when(open > 0 && !answerable, 24, 1), Self::wait_for_close_block),
            (when(answerable, 34, 1), Self::open_leases),
            (when(open > 0, 8, 1), Self::place_bid),
            (when(open > 0, 4, 1), Self::cancel_order),
            (when(open > 0, 5, 1), Self::expire_orders),
            (when(leased > 0, 24, 6), Self::wait_for_boundary),
            (3, Self::wait),
            (when(leased > 0, 9, 1), Self::settle),
            (when(leased > 0, when(credited, 14, 9), 2), Self::settle_and_withdraw),
            (when(leased > 0, 14, 1), Self::close_lease),
            (when(leased + open > 0, 4, 1), Self::close_for),
            (1, Self::skip_nonce),
            (when(leased > 0, 10, 1), Self::extend_lease),
            (
                when(leased > 0, when(proposed, 12, when(spendable, 60, 24)), 1),
                Self::propose_update,
            ),
            (when(proposed, 4, 1), Self::reject_update),
            (when(proposed, 45, 1), Self::accept_update),
            (when(leased > 0, 5, 1), Self::slash_lease),
            (when(leased > 0, 5, 1), Self::undo_lease),
            (6, Self::rate_lease),
            (when(leased > 0, 7, 1), Self::announce_low_funds),
            (1, Self::open),
            (6, Self::deposit),
            (2, Self::permit),
            (4, Self::deposit_with_permit),
            (3, Self::deposit_with_permit2),
            (2, Self::update_bracket),
            (when(leased > 0 && !spendable, 24, 9), Self::set_right),
            (when(by_spender, 40, 0), Self::set_right_anew),
            (5, Self::withdraw),
            (when(credited, 6, 1), Self::withdraw_credit),
            (1, Self::approve),
            (3, Self::transfer),
            (1, Self::donate),
            (1, Self::raise_capacity),
            (
                when(market.suppliers.values().any(|supplier| supplier.suspended), 6, 1),
                Self::suspend,
            ),
            (2, Self::set_fee_class),
            (2, Self::add_schedule),
            (2, Self::set_token_schedule),
            (
                when(at_other_fees, 20, when(proposed, 10, 0)),
                Self::change_fees_of_update,
            ),
            (when(delisted, 8, 2), Self::set_token_status),
            (1, Self::pause_token),
            (1, Self::set_token_cap),
            (1, Self::set_foundation),
            (5, Self::set_price),
            (1, Self::keep_price),
            (1, Self::set_top_gpus),
            (when(market.paused, 25, 1), Self::pause_market),
        ]
    }

    // ----------------------------------------------------------------- picking

    fn is_answerable(&self, market: &Market, order: &Order) -> bool {
        let windows = u64::from(market.windows.response) + u64::from(market.windows.matching);
        order.state == State::Open && market.block > order.close_block && market.block <= order.close_block + windows
    }

    /// Some order of which this is true; now and then any, or one that is not there.
    fn some_order(&mut self, market: &Market, fits: impl Fn(&Order) -> bool) -> Option<u64> {
        if self.source.chance(2) {
            return Some(self.source.pick(&[0, 77, 1 << 32 | 1, 1 << 32 | 99, 9 << 32 | 1]));
        }
        let any = self.source.chance(5);
        let fitting: Vec<u64> = market
            .orders
            .iter()
            .filter(|(_, order)| any || fits(order))
            .map(|(id, _)| *id)
            .collect();
        (!fitting.is_empty()).then(|| self.source.pick(&fitting))
    }

    /// A live lease with a proposal of which this is true, and the proposal.
    fn some_proposed(&mut self, market: &Market, fits: impl Fn(&Order, &Proposal) -> bool) -> Option<(u64, Proposal)> {
        let proposed: Vec<(u64, &Proposal)> = proposals(market)
            .filter(|(_, order, proposal)| fits(order, proposal))
            .map(|(id, _, proposal)| (id, proposal))
            .collect();
        if proposed.is_empty() {
            return None;
        }
        let (id, proposal) = self.source.pick(&proposed);
        Some((id, proposal.clone()))
    }

    fn some_account(&mut self, market: &Market) -> u32 {
        if self.source.chance(2) {
            99
        } else {
            self.source.within(1, market.accounts.len() as u64) as u32
        }
    }

    fn some_token(&mut self) -> u8 {
        self.source.pick(&[0, 1, 1, 2, 2])
    }

    /// Mostly the one who may; else one who may or may not.
    fn mostly(&mut self, usual: Who) -> Who {
        match self.source.within(0, 19) {
            0 => self.source.pick(&Who::USERS),
            1 => self.source.pick(&Who::SUPPLIERS),
            2 => self.source.pick(&[Who::Stranger, Who::Sam]),
            _ => usual,
        }
    }

    /// Who spends a token of an account: its owner, or somebody who has a right, or had one.
    fn some_spender(&mut self, market: &Market, account: u32, token: u8) -> Who {
        let Some(known) = market.accounts.get(&account) else {
            return Who::Alice;
        };
        let rights = known.rights.keys().filter(|(_, of)| *of == token);
        let spenders: Vec<Who> = rights.map(|(spender, _)| *spender).collect();
        if !spenders.is_empty() && self.source.chance(50) {
            return self.source.pick(&spenders);
        }
        self.mostly(known.owner)
    }

    /// Where money may go, or may not.
    fn some_recipient(&mut self, usual: Who) -> Who {
        match self.source.within(0, 29) {
            0 => Who::Nobody,
            1 => Who::Escrow,
            2..=6 => self.source.pick(&[Who::Alice, Who::Bob, Who::Sam, Who::Foundation2]),
            _ => usual,
        }
    }

    // ------------------------------------------------------------------ waiting

    fn wait(&mut self, _: &Market) -> Option<Step> {
        let seconds = self.source.of_any_size(0, 200_000) as u64;
        let blocks = self.source.of_any_size(0, 200) as u64;
        Some(Step::Wait { seconds, blocks })
    }

    /// To where an order is answered, or just before or after.
    fn wait_for_close_block(&mut self, market: &Market) -> Option<Step> {
        let id = self.some_order(market, |order| order.state == State::Open)?;
        let order = market.orders.get(&id)?;
        let windows = &market.windows;
        let (response, matching) = (u64::from(windows.response), u64::from(windows.matching));
        let block = match self.source.within(0, 19) {
            0 => order.close_block - 1,
            1..=2 => order.close_block,
            3 => order.close_block + response,
            4..=5 => order.close_block + response + 1,
            6 => order.close_block + response + matching,
            7..=8 => order.close_block + response + matching + 1,
            _ => order.close_block + 1,
        };
        let blocks = block.checked_sub(market.block).filter(|blocks| *blocks > 0)?;
        Some(Step::Wait {
            seconds: self.source.pick(&[blocks, 2 * blocks, 12 * blocks]),
            blocks,
        })
    }

    /// To the second at which something becomes possible or impossible, or one before or after.
    fn wait_for_boundary(&mut self, market: &Market) -> Option<Step> {
        let mut times = Vec::new();
        for order in market.orders.values() {
            let waits = order.state == State::Leased || (order.state.is_closed() && order.settled_for < order.duration);
            if waits {
                times.push(market.hold_end_of(order));
            }
            if order.state == State::Leased {
                times.extend([
                    Market::end_of(order),
                    market.grace_end_of(order),
                    market.low_funds_from(order),
                ]);
                times.extend(order.proposal.as_ref().map(|proposal| proposal.expiry));
                times.push(market.now + u64::from(order.duration / 3 + 1));
            }
        }
        let rights = market.accounts.values().flat_map(|account| account.rights.values());
        times.extend(rights.map(|right| right.expiry).take(2));
        times.extend(
            market
                .tokens
                .iter()
                .map(|token| token.feed.updated_at + token.feed.heartbeat)
                .take(1),
        );
        // Mostly what comes next: who waits long finds only leases that are over.
        times.retain(|time| *time >= market.now);
        times.sort_unstable();
        if self.source.chance(75) {
            times.truncate(4);
        }
        if times.is_empty() {
            return None;
        }
        let target = self.source.pick(&times) + self.source.pick(&[0, 0, 1, 1, 2]);
        let seconds = target.checked_sub(market.now + 1).filter(|seconds| *seconds > 0)?;
        if market.now + seconds > LATEST_TIME {
            return None;
        }
        let blocks = self.source.pick(&[0, 1, (seconds / 12).min(60)]);
        Some(Step::Wait { seconds, blocks })
    }
}

/// What is proposed of live leases, whether it stands or fell.
fn proposals(market: &Market) -> impl Iterator<Item = (u64, &Order, &Proposal)> {
    let live = market.orders.iter().filter(|(_, order)| order.state == State::Leased);
    live.filter_map(|(id, order)| Some((*id, order, order.proposal.as_ref()?)))
}

/// Who may close the account's leases in the token beside its owner.
fn spenders_of(market: &Market, order: &Order) -> Vec<Who> {
    let spenders = [Who::Sam, Who::Carol, Who::Stranger].into_iter();
    let owner = market.accounts[&order.account].owner;
    spenders
        .filter(|who| *who != owner && market.may_close(order.account, order.token, *who))
        .collect()
}

fn is_by_spender(market: &Market, order: &Order, proposal: &Proposal) -> bool {
    market.accounts[&order.account].owner != proposal.by
}

fn is_at_other_fees(market: &Market, order: &Order, proposal: &Proposal) -> bool {
    market.tokens[usize::from(order.token)].schedule != proposal.schedule
}
