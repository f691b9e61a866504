//! Every number of the model against the chain's.

use accounting::{
    Status, Who,
    model::{Amount, Market, Order, State},
};
use alloy_primitives::U256;

use crate::{
    abi::{IEscrow, ILeases, IOrderBook, IPaymentTokens, IProviderRegistry, IToken},
    chain::Chain,
    market::Addresses,
    words::{basis_word, capacity_word, proposal_hash, terms_hash},
};

/// The governor holds the rest of every supply; the others only call.
const TAKES_NO_PART: [Who; 5] = [
    Who::Nobody,
    Who::Governor,
    Who::TaskManager,
    Who::Disputes,
    Who::Slasher,
];

/// What differs, in words.
pub(crate) struct Comparison<'a> {
    chain: &'a mut Chain,
    addresses: &'a Addresses,
    model: &'a Market,
    differences: Vec<String>,
}

/// Everything that differs, none if nothing does.
pub(crate) fn differences(chain: &mut Chain, addresses: &Addresses, model: &Market) -> Vec<String> {
    let mut comparison = Comparison {
        chain,
        addresses,
        model,
        differences: Vec::new(),
    };
    comparison.accounts();
    comparison.holdings();
    for (id, order) in &model.orders {
        comparison.order(*id, order);
    }
    comparison.suppliers();
    comparison.governance();
    comparison.differences
}

fn word(amount: &Amount) -> U256 {
    U256::from_be_slice(&amount.to_bytes_be())
}

impl Comparison<'_> {
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: impl FnOnce() -> String, model: T, chain: T) {
        if model != chain {
            self.differences
                .push(format!("{}: model {model:?}, chain {chain:?}", what()));
        }
    }

    fn accounts(&mut self) {
        let escrow = self.addresses.escrow;
        let count = self.chain.ask(escrow, IEscrow::accountCountCall {});
        self.same(|| "accounts".to_owned(), self.model.accounts.len() as u32, count);
        for (id, account) in &self.model.accounts {
            let owner = self.chain.ask(
                escrow,
                IEscrow::ownerOfCall {
                    account: U256::from(*id),
                },
            );
            self.same(
                || format!("owner of account {id}"),
                self.addresses.of(account.owner),
                owner,
            );
            let epoch = self.chain.ask(escrow, IEscrow::epochOfCall { account: *id });
            self.same(|| format!("epoch of account {id}"), account.epoch, epoch);
            for (token, funds) in &account.funds {
                let place = || format!("account {id}, token {token}");
                let (account, token) = (*id, *token);
                let balances = self.chain.ask(escrow, IEscrow::balancesCall { account, token });
                self.same(
                    || format!("{}: unlocked", place()),
                    word(&funds.unlocked),
                    balances.unlocked,
                );
                self.same(|| format!("{}: locked", place()), word(&funds.locked), balances.locked);
                self.same(|| format!("{}: nonce", place()), funds.nonce, balances.nonce);
                let bracket = self.chain.ask(escrow, IEscrow::bracketOfCall { account, token });
                self.same(|| format!("{}: bracket", place()), funds.bracket, bracket);
                for spender in [Who::Sam, Who::Carol, Who::Stranger] {
                    self.right(account, spender, token);
                }
                self.basis(account, self.model.accounts[&account].owner, token);
            }
        }
    }

    fn right(&mut self, account: u32, spender: Who, token: u8) {
        let place = || format!("right of {spender:?} in account {account}, token {token}");
        let right = self.model.accounts[&account].rights.get(&(spender, token));
        let address = self.addresses.of(spender);
        let (limit, expiry, may_close) = right.map_or((Amount::ZERO, 0, false), |right| {
            (right.limit.clone(), right.expiry, right.may_close)
        });
        let call = IEscrow::spendingRightCall {
            account,
            spender: address,
            token,
        };
        let actual = self.chain.ask(self.addresses.escrow, call);
        self.same(|| format!("{}: limit", place()), word(&limit), U256::from(actual.limit));
        self.same(|| format!("{}: expiry", place()), expiry, actual.expiry.to::<u64>());
        self.same(|| format!("{}: may close", place()), may_close, actual.mayClose);
        let call = IEscrow::mayCloseCall {
            account,
            token,
            caller: address,
        };
        let actual = self.chain.ask(self.addresses.escrow, call);
        self.same(
            || format!("{} to close", place()),
            self.model.may_close(account, token, spender),
            actual,
        );
        self.basis(account, spender, token);
    }

    fn basis(&mut self, account: u32, caller: Who, token: u8) {
        let call = IEscrow::basisOfCall {
            account,
            token,
            caller: self.addresses.of(caller),
        };
        let actual = self.chain.ask(self.addresses.escrow, call);
        self.same(
            || format!("basis of {caller:?} in account {account}, token {token}"),
            basis_word(self.model.basis_of(account, token, caller)),
            actual.to::<u64>(),
        );
    }

    fn holdings(&mut self) {
        for token in 0..self.addresses.tokens.len() as u8 {
            for who in Who::ALL.into_iter().filter(|who| !TAKES_NO_PART.contains(who)) {
                let address = self.addresses.of(who);
                let held = self.model.holdings.get(&(who, token)).cloned().unwrap_or_default();
                let call = IToken::balanceOfCall { holder: address };
                let actual = self.chain.ask(self.addresses.tokens[usize::from(token)], call);
                self.same(|| format!("{who:?} holds of token {token}"), word(&held), actual);
                let credit = self.model.credits.get(&(who, token)).cloned().unwrap_or_default();
                let call = IEscrow::creditOfCall { payee: address, token };
                let actual = self.chain.ask(self.addresses.escrow, call);
                self.same(|| format!("credit of {who:?} in token {token}"), word(&credit), actual);
            }
        }
    }

    fn order(&mut self, id: u64, order: &Order) {
        let book = self.addresses.book;
        let actual = self.chain.ask(book, IOrderBook::orderCall { orderId: id });
        let mut field = |name: &str, model: u128, chain: u128| {
            self.same(|| format!("order {id}: {name}"), model, chain);
        };
        field("state", order.state as u128, u128::from(u8::from(actual.state)));
        field("rate", order.rate, actual.rate.to());
        field("settled for", order.settled_for.into(), actual.settledFor.into());
        field("duration", order.duration.into(), actual.duration.into());
        field("start", order.start.into(), actual.start.into());
        field("close block", order.close_block.into(), actual.closeBlock.into());
        field("supplier", order.supplier.into(), actual.supplier.into());
        field("schedule", order.schedule.into(), actual.feeSchedule.into());
        field("requeued", order.requeued.into(), actual.requeued.into());
        field("noted", order.noted.into(), actual.noted.into());
        field("GPU entry", order.gpu_entry.into(), actual.gpuEntry.into());
        if order.state == State::Open {
            let bids = self.chain.ask(book, IOrderBook::bidsDigestCall { orderId: id }).count;
            self.same(|| format!("order {id}: bids"), order.bids, bids.into());
        }
        let hash = self.chain.ask(book, IOrderBook::termsHashCall { orderId: id });
        self.same(|| format!("order {id}: terms hash"), terms_hash(&order.terms), hash);

        self.lease(id, order);
        if order.state != State::Leased && !order.state.is_closed() {
            return;
        }
        let claimable = self.chain.ask(book, IOrderBook::claimableCall { orderId: id });
        let (amount, gateway) = self.model.claimable(order);
        self.same(|| format!("order {id}: claimable"), word(&amount), claimable.amount);
        self.same(
            || format!("order {id}: claimable by the gateway"),
            word(&gateway),
            claimable.gatewayAmount,
        );
    }

    fn lease(&mut self, id: u64, order: &Order) {
        let book = self.addresses.book;
        let workload = self.chain.ask(book, ILeases::workloadOfCall { orderId: id });
        self.same(|| format!("order {id}: workload"), order.workload, workload);
        let live = order.state == State::Leased;
        let end = self.chain.ask(book, ILeases::endOfCall { orderId: id });
        let (expected, grace) = if live {
            (Market::end_of(order), self.model.grace_end_of(order))
        } else {
            (0, 0)
        };
        self.same(|| format!("order {id}: end"), U256::from(expected), end.end);
        self.same(|| format!("order {id}: end of grace"), U256::from(grace), end.graceEnd);
        let proposal = self.chain.ask(book, ILeases::updateProposalCall { orderId: id });
        let standing = self.model.standing_proposal(order);
        let (hash, expiry, basis, by) = standing.map_or_else(Default::default, |proposal| {
            let by = self.addresses.of(proposal.by);
            // What it rested on when it was made is what it would rest on now, or it would not stand.
            let basis = basis_word(self.model.basis_of(order.account, order.token, proposal.by));
            (proposal_hash(&proposal.terms), proposal.expiry, basis, by)
        });
        self.same(|| format!("order {id}: who proposed"), by, proposal.by);
        self.same(|| format!("order {id}: proposal"), hash, proposal.hash);
        self.same(
            || format!("order {id}: proposal's expiry"),
            expiry,
            proposal.expiry.to::<u64>(),
        );
        self.same(
            || format!("order {id}: what the proposal rests on"),
            basis,
            proposal.basis.to::<u64>(),
        );
    }

    fn suppliers(&mut self) {
        let book = self.addresses.book;
        for (id, supplier) in &self.model.suppliers {
            let capacity = self
                .chain
                .ask(book, IOrderBook::capacityOfCall { supplier: *id })
                .capacity;
            self.same(
                || format!("capacity of supplier {id}"),
                capacity_word(supplier),
                capacity,
            );
            let lives = self.chain.ask(book, IOrderBook::hasLeaseCall { supplier: *id });
            self.same(|| format!("supplier {id} has a lease"), supplier.has_lease(), lives);
            let terms = self.chain.ask(book, IOrderBook::supplierTermsCall { supplier: *id });
            self.same(|| format!("supplier {id} is rebated"), supplier.rebated, terms.rebated);
            self.same(
                || format!("gateway of supplier {id}"),
                supplier.gateway.unwrap_or(0),
                terms.gateway,
            );
            if supplier.gateway.is_none() {
                let card = self
                    .chain
                    .ask(self.addresses.registry, IProviderRegistry::scoreCardCall { id: *id });
                let (sum, count) = self.model.feedback.get(id).copied().unwrap_or_default();
                let sum_on_card = (card >> 96_usize).wrapping_to::<u64>() & 0xff_ffff_ffff;
                self.same(|| format!("ratings of provider {id}"), sum, sum_on_card);
                let count_on_card = (card >> 64_usize).wrapping_to::<u32>();
                self.same(|| format!("weights of provider {id}"), count, count_on_card.into());
            }
        }
    }

    fn governance(&mut self) {
        let Addresses { book, escrow, .. } = *self.addresses;
        let paused = self.chain.ask(book, IOrderBook::pausedCall {});
        self.same(|| "paused".to_owned(), self.model.paused, paused);
        let ids = self.chain.ask(book, IOrderBook::topGpusCall {});
        let top_gpus = &self.model.top_gpus;
        let expected = top_gpus
            .iter()
            .fold(U256::ZERO, |bits, id| bits | U256::ONE << usize::from(*id));
        self.same(|| "top GPUs".to_owned(), expected, ids);
        let foundation = self.chain.ask(escrow, IEscrow::foundationCall {});
        self.same(
            || "foundation".to_owned(),
            self.addresses.of(self.model.foundation),
            foundation,
        );
        let pairs = self.chain.ask(escrow, IEscrow::feeScheduleCountCall {});
        self.same(
            || "pairs of schedules".to_owned(),
            self.model.schedules.len() / 2,
            usize::from(pairs),
        );
        for signer in Who::SIGNERS {
            let call = IOrderBook::noncesCall {
                signer: self.addresses.of(signer),
            };
            let nonce = self.chain.ask(book, call);
            let expected = self.model.nonces.get(&signer).copied().unwrap_or(0);
            self.same(|| format!("nonce of {signer:?}"), U256::from(expected), nonce);
        }
        for (id, token) in (0_u8..).zip(&self.model.tokens) {
            let actual = self.chain.ask(escrow, IEscrow::tokenOfCall { token: id });
            self.same(
                || format!("token {id} takes orders"),
                token.status == Status::Enabled,
                actual.enabled,
            );
            self.same(|| format!("schedule of token {id}"), token.schedule, actual.schedule);
            let kept = self
                .chain
                .ask(self.addresses.payment_tokens, IPaymentTokens::lastPriceCall { id });
            let (price, updated_at) = token.kept_price.clone().unwrap_or_default();
            self.same(|| format!("kept price of token {id}"), word(&price), kept.price);
            self.same(
                || format!("time of the kept price of token {id}"),
                updated_at,
                kept.updatedAt,
            );
        }
    }
}
