//! Orders, bids and answers.

use super::Generator;
use crate::{
    Answer, Rank, Signed, Status, Step, Who,
    model::{Amount, MAXIMUM_DURATION, MAXIMUM_RATE, Market, Order, State, Supplier, Terms, brackets},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
const YEAR: u64 = 365 * DAY;

impl Generator {
    pub(super) fn create_order(&mut self, market: &Market) -> Option<Step> {
        let (account, token) = self.some_funds(market);
        Some(Step::CreateOrder {
            caller: self.some_spender(market, account, token),
            account,
            token,
            window: if self.source.chance(2) {
                21
            } else {
                self.source.pick(&[0, 0, 0, 0, 1, 2, 20])
            },
            terms: self.some_terms(market, account, token),
        })
    }

    pub(super) fn create_order_for(&mut self, market: &Market) -> Option<Step> {
        let (account, token) = self.some_funds(market);
        let signer = self.some_spender(market, account, token);
        let current = market.tokens[usize::from(token)].schedule;
        Some(Step::CreateOrderFor {
            signed: self.signed(market, signer)?,
            account,
            token,
            window: 0,
            schedule: if self.source.chance(95) {
                current
            } else {
                self.source.pick(&[current + 2, current | 1, 2])
            },
            terms: self.some_terms(market, account, token),
        })
    }

    /// Who has no key signs nothing.
    pub(super) fn signed(&mut self, market: &Market, signer: Who) -> Option<Signed> {
        if !Who::SIGNERS.contains(&signer) {
            return None;
        }
        let next = market.nonces.get(&signer).copied().unwrap_or(0);
        let deadline = match self.source.within(0, 9) {
            0 => market.now - 1,
            1..=3 => market.now,
            _ => market.now + 1_000,
        };
        Some(Signed {
            signer,
            sender: self.source.pick(&[Who::Stranger, Who::Responder, Who::Alice]),
            nonce: if self.source.chance(93) {
                next
            } else {
                self.source.pick(&[next + 1, next.saturating_sub(1)])
            },
            deadline,
            forged: self.source.chance(5),
        })
    }

    /// Mostly an account that has money in the token.
    fn some_funds(&mut self, market: &Market) -> (u32, u8) {
        for _ in 0..8 {
            let (account, token) = (self.some_account(market), self.some_token());
            let funds = market.accounts.get(&account).map(|account| &account.funds[&token]);
            if funds.is_some_and(|funds| funds.bracket > 0 && funds.unlocked > Amount::ZERO)
                && (market.tokens[usize::from(token)].status == Status::Enabled || self.source.chance(5))
            {
                return (account, token);
            }
        }
        (self.some_account(market), self.some_token())
    }

    /// What the account can pay, mostly, and its bracket allows.
    pub(super) fn some_terms(&mut self, market: &Market, account: u32, token: u8) -> Terms {
        let funds = market
            .accounts
            .get(&account)
            .map(|account| account.funds[&token].clone())
            .unwrap_or_default();
        let duration = self.some_duration();
        let affordable = affordable_rate(market, &funds.unlocked, token, duration);
        let maximum_rate = match self.source.within(0, 29) {
            0 => self.source.pick(&[0, MAXIMUM_RATE + 1, MAXIMUM_RATE]),
            1 => affordable + 1,
            2 => affordable.max(1),
            3..=8 => self.source.of_any_size(1, affordable.max(1)),
            9..=10 => self.source.of_any_size(1, 100_000).min(affordable.max(1)),
            _ => affordable / u128::from(self.source.within(4, 60)) + 1,
        };
        let mut terms = Terms {
            cpu: self.source.of_any_size(1, 200) as u32,
            memory: self.source.of_any_size(1, 1_000) as u32,
            storage: self.source.of_any_size(0, 1_000) as u32,
            gpus: 0,
            gpu_ids: Vec::new(),
            params_version: market.windows.params_version,
            manifest: self.source.within(1, 1_000_000),
            maximum_rate,
            duration,
        };
        if self.source.chance(if funds.bracket > 2 { 30 } else { 4 }) {
            terms.gpus = self.source.pick(&[1, 1, 1, 2, 4]);
            terms.gpu_ids = match self.source.within(0, 3) {
                0 => vec![9],
                1 => vec![7, 9],
                2 => vec![3, 7],
                _ => vec![7],
            };
        }
        match self.source.within(0, 39) {
            0 => self.spoil(&mut terms),
            1..=4 => self.stretch(&mut terms, funds.bracket),
            _ => {}
        }
        terms
    }

    fn some_duration(&mut self) -> u32 {
        let edges = [
            1,
            2,
            3,
            15,
            16,
            17,
            MINUTE,
            599,
            600,
            601,
            HOUR,
            DAY,
            30 * DAY,
            YEAR,
            10 * YEAR,
        ];
        let seconds = match self.source.within(0, 39) {
            0 => self
                .source
                .pick(&[1, MAXIMUM_DURATION.into(), u64::from(MAXIMUM_DURATION) + 1]),
            1..=7 => self.source.pick(&edges),
            _ => self.source.of_any_size(u128::from(HOUR), u128::from(60 * DAY)) as u64,
        };
        seconds as u32
    }

    /// Terms that nobody may order.
    fn spoil(&mut self, terms: &mut Terms) {
        match self.source.within(0, 6) {
            0 => terms.cpu = 0,
            1 => terms.memory = 0,
            2 => terms.params_version += 1,
            3 => terms.manifest = 0,
            4 => terms.duration = 0,
            5 => terms.gpu_ids = if terms.gpus == 0 { vec![7] } else { vec![] },
            _ => terms.gpu_ids = vec![0, 7],
        }
    }

    /// As much of one resource as the bracket allows, or one more.
    fn stretch(&mut self, terms: &mut Terms, bracket: u8) {
        let none = Default::default();
        let mut largest = terms.clone();
        let (which, limit) = (self.source.within(0, 2), 1_u32 << 19);
        let set = |terms: &mut Terms, value: u32| match which {
            0 => terms.cpu = value,
            1 => terms.memory = value,
            _ => terms.storage = value,
        };
        let (mut low, mut high) = (1_u32, limit);
        while low < high {
            let middle = (low + high).div_ceil(2);
            set(&mut largest, middle);
            if brackets::allows(bracket, &largest, &none) {
                low = middle
            } else {
                high = middle - 1
            }
        }
        let one_more = self.source.within(0, 1) as u32;
        set(terms, low + one_more);
    }

    pub(super) fn cancel_order(&mut self, market: &Market) -> Option<Step> {
        let order = self.some_order(market, |order| order.state == State::Open)?;
        Some(Step::CancelOrder {
            caller: self.some_spender(market, (order >> 32) as u32, (order >> 24) as u8),
            order,
        })
    }

    pub(super) fn expire_orders(&mut self, market: &Market) -> Option<Step> {
        let now = market.block;
        let windows = u64::from(market.windows.response) + u64::from(market.windows.matching);
        let unanswered = |order: &Order| order.state == State::Open && now > order.close_block + windows;
        let waits = |order: &Order| order.state == State::Open && order.close_block <= now;
        let late = market.orders.values().any(unanswered);
        let first = if late {
            self.some_order(market, unanswered)?
        } else {
            self.some_order(market, waits)?
        };
        let mut orders = vec![first];
        if self.source.chance(30) {
            orders.extend(self.some_order(market, |order| order.close_block <= now));
        }
        Some(Step::ExpireOrders { orders })
    }

    pub(super) fn place_bid(&mut self, market: &Market) -> Option<Step> {
        let block = market.block;
        let id = self.some_order(market, |order| order.state == State::Open && order.close_block > block)?;
        let caller = self.mostly(Who::Provider1);
        let caller = if self.source.chance(40) { Who::Provider2 } else { caller };
        let most = market.orders.get(&id).map_or(1, |order| order.rate);
        let behind = |market: &Market, caller: Who| {
            let provider = market.supplier_of(caller);
            market
                .suppliers
                .iter()
                .find(|(_, node)| node.gateway.is_some() && node.gateway == provider)
                .map(|(id, _)| *id)
        };
        let fizz = match self.source.within(0, 9) {
            0 => 901,
            1..=3 => behind(market, caller).unwrap_or(0),
            _ => 0,
        };
        Some(Step::PlaceBid {
            caller,
            order: id,
            fizz,
            rate: self.some_rate(most),
        })
    }

    /// At most `most`, mostly.
    pub(super) fn some_rate(&mut self, most: u128) -> u128 {
        match self.source.within(0, 29) {
            0 => 0,
            1 => (most + 1).min(MAXIMUM_RATE),
            2..=9 => most,
            10 => 1,
            11 => most.saturating_sub(1),
            _ => self.source.of_any_size(1, most.max(1)),
        }
    }

    pub(super) fn open_leases(&mut self, market: &Market) -> Option<Step> {
        let answerable: Vec<&Order> = market
            .orders
            .values()
            .filter(|order| self.is_answerable(market, order))
            .collect();
        let close_block = if answerable.is_empty() || self.source.chance(3) {
            market.block - self.source.within(0, 90)
        } else {
            self.source.pick(&answerable).close_block
        };
        let asked: Vec<(u64, Order)> = market
            .orders
            .iter()
            .filter(|(_, order)| order.close_block == close_block && order.state == State::Open)
            .map(|(id, order)| (*id, order.clone()))
            .collect();
        let mut answers: Vec<Answer> = asked
            .into_iter()
            .take(4)
            .map(|(id, order)| self.some_answer(market, id, &order))
            .collect();
        if self.source.chance(5)
            && let Some(id) = self.some_order(market, |_| true)
            && let Some(order) = market.orders.get(&id)
        {
            answers.push(self.some_answer(market, id, order));
            if self.source.chance(80) {
                answers.sort_by_key(|answer| answer.order);
                answers.dedup_by_key(|answer| answer.order);
            }
        }
        (!answers.is_empty()).then(|| Step::OpenLeases {
            caller: if self.source.chance(97) {
                Who::TaskManager
            } else {
                Who::Stranger
            },
            close_block,
            answers,
            responder: if self.source.chance(80) {
                Who::Responder
            } else {
                Who::Alice
            },
        })
    }

    fn some_answer(&mut self, market: &Market, id: u64, order: &Order) -> Answer {
        let mut terms = order.terms.clone();
        let ranks = match self.source.within(0, 29) {
            0..=1 => Vec::new(),
            2 => vec![self.some_rank(market, order); 9],
            // Nobody who is there.
            3..=6 => vec![Rank {
                provider: 77,
                fizz: 0,
                rate: 1,
                gpu_entry: 0,
            }],
            7 => {
                terms.memory += 1;
                vec![self.some_rank(market, order)]
            }
            8..=14 => (0..3).map(|_| self.some_rank(market, order)).collect(),
            _ => vec![self.some_rank(market, order)],
        };
        Answer {
            order: id,
            ranks,
            terms,
        }
    }

    fn some_rank(&mut self, market: &Market, order: &Order) -> Rank {
        let mut serving = self.source.pick(&[1, 1, 1, 2, 2, 900, 900, 901]);
        let suppliers = market
            .suppliers
            .iter()
            .filter(|(_, supplier)| fits(supplier, &order.terms));
        let fitting: Vec<u32> = suppliers.map(|(id, _)| *id).collect();
        if !fitting.is_empty() && self.source.chance(85) {
            serving = self.source.pick(&fitting);
        }
        let supplier = &market.suppliers[&serving];
        let accepted: Vec<u8> = (0..4)
            .filter(|entry| order.terms.gpu_ids.contains(&supplier.gpus[usize::from(*entry)].id))
            .collect();
        let gpu_entry = if accepted.is_empty() || self.source.chance(5) {
            self.source.within(0, 3) as u8
        } else {
            self.source.pick(&accepted)
        };
        let (provider, fizz) = match supplier.gateway {
            None => (serving, 0),
            Some(provider) => (provider, serving),
        };
        Rank {
            provider,
            fizz,
            rate: self.some_rate(order.rate),
            gpu_entry,
        }
    }
}

/// The highest rate of an order of this duration that the money pays.
fn affordable_rate(market: &Market, unlocked: &Amount, token: u8, duration: u32) -> u128 {
    let Some(listed) = market.tokens.get(usize::from(token)) else {
        return 1;
    };
    let schedule = &market.schedules[&listed.schedule];
    let (mut low, mut high) = (0, MAXIMUM_RATE);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if schedule.order_lock(middle, duration) <= *unlocked {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Whether the supplier has all of it in some entry.
fn fits(supplier: &Supplier, terms: &Terms) -> bool {
    (0..4).any(|entry| supplier.clone().reserve(terms, entry))
}
