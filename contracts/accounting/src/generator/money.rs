//! Accounts and what moves in and out of them.

use num_bigint::BigUint;

use super::{Generator, is_by_spender};
use crate::{
    Step, Who,
    model::{Market, Order, Proposal},
};

/// What fits the argument of a step; more than that is more than anybody has.
fn small(amount: &BigUint) -> u128 {
    amount.try_into().unwrap_or(u128::MAX)
}

impl Generator {
    /// The steps that every trace begins with: accounts with money.
    pub fn prelude() -> Vec<Step> {
        let caller = Who::Stranger;
        let owners = [Who::Alice, Who::Alice, Who::Bob, Who::Carol];
        let mut steps: Vec<Step> = owners.map(|owner| Step::Open { caller, owner }).into();
        let dollars = 1_000_000;
        let whole = 10_u128.pow(18);
        let deposits = [
            (Who::Alice, 1, 0, 50_000 * whole),
            (Who::Alice, 1, 1, 100_000 * dollars),
            (Who::Alice, 1, 2, 10_u128.pow(30)),
            (Who::Bob, 2, 1, 3_000 * dollars),
            (Who::Bob, 3, 0, 1_000 * whole),
            (Who::Bob, 3, 1, 500 * dollars),
            (Who::Bob, 3, 2, 1_000 * whole),
            (Who::Carol, 4, 1, 16 * dollars),
        ];
        steps.extend(deposits.map(|(caller, account, token, amount)| Step::Deposit {
            caller,
            account,
            token,
            amount,
        }));
        steps
    }

    pub(super) fn open(&mut self, market: &Market) -> Option<Step> {
        let owner = self.source.pick(&[Who::Alice, Who::Bob, Who::Carol, Who::Nobody]);
        (market.accounts.len() < 7).then_some(Step::Open {
            caller: Who::Stranger,
            owner,
        })
    }

    pub(super) fn deposit(&mut self, market: &Market) -> Option<Step> {
        let caller = self.mostly(Who::Alice);
        let caller = if self.source.chance(50) {
            self.source.pick(&Who::USERS)
        } else {
            caller
        };
        let (account, token) = (self.some_account(market), self.some_token());
        let token = if self.source.chance(2) { 9 } else { token };
        Some(Step::Deposit {
            caller,
            account,
            token,
            amount: self.deposited(market, caller, token),
        })
    }

    fn deposited(&mut self, market: &Market, caller: Who, token: u8) -> u128 {
        let Some(listed) = market.tokens.get(usize::from(token)) else {
            return 1;
        };
        let held = small(&market.holdings.get(&(caller, token)).cloned().unwrap_or_default());
        let whole = 10_u128.pow(u32::from(listed.decimals));
        match self.source.within(0, 19) {
            0 => 0,
            1 => held,
            2 => held.saturating_add(1),
            3 => {
                let total = market.holdings.get(&(Who::Escrow, token)).cloned().unwrap_or_default();
                small(&listed.cap)
                    .saturating_sub(small(&total))
                    .saturating_add(self.source.within(0, 1).into())
            }
            4..=6 => 15 * whole << self.source.within(0, 12),
            7 => (1 << 112) - 1,
            _ => self.source.of_any_size(1, held.max(1)),
        }
    }

    /// Only of who has given no allowance.
    pub(super) fn permit(&mut self, market: &Market) -> Option<Step> {
        let owner = self.source.pick(&[Who::Sam, Who::Sam, Who::Stranger]);
        let token = 0;
        Some(Step::Permit {
            owner,
            token,
            amount: self.source.of_any_size(1, 10_u128.pow(24)),
            nonce: self.permit_nonce(market, owner, token),
            deadline: market.now + self.source.within(0, 1_000),
        })
    }

    pub(super) fn deposit_with_permit(&mut self, market: &Market) -> Option<Step> {
        let caller = self.source.pick(&[Who::Sam, Who::Sam, Who::Stranger]);
        let token = if self.source.chance(90) { 0 } else { self.some_token() };
        let allowance = market
            .allowances
            .get(&(caller, token))
            .map(small)
            .filter(|allowance| *allowance > 0);
        let nonce = self.permit_nonce(market, caller, token);
        // Somebody brought the permit in first: its nonce is used, its allowance is there.
        let (amount, nonce) = match allowance {
            Some(allowance) if self.source.chance(70) => {
                (allowance + u128::from(self.source.chance(10)), nonce.saturating_sub(1))
            }
            _ => (self.source.of_any_size(1, 10_u128.pow(24)), nonce),
        };
        Some(Step::DepositWithPermit {
            caller,
            account: self.some_account(market),
            token,
            amount,
            nonce,
            deadline: (market.now + self.source.within(0, 1_000)) - self.source.within(0, 100),
        })
    }

    pub(super) fn deposit_with_permit2(&mut self, market: &Market) -> Option<Step> {
        let caller = self
            .source
            .pick(&[Who::Alice, Who::Bob, Who::Sam, Who::Sam, Who::Stranger]);
        let token = self.some_token();
        Some(Step::DepositWithPermit2 {
            caller,
            account: self.some_account(market),
            token,
            amount: self.deposited(market, caller, token),
            nonce: self.source.within(0, 7),
            deadline: (market.now + self.source.within(0, 1_000)) - self.source.within(0, 100),
            forged: self.source.chance(5),
        })
    }

    fn permit_nonce(&mut self, market: &Market, owner: Who, token: u8) -> u64 {
        let next = market.permit_nonces.get(&(owner, token)).copied().unwrap_or(0);
        if self.source.chance(90) { next } else { next + 1 }
    }

    pub(super) fn update_bracket(&mut self, market: &Market) -> Option<Step> {
        Some(Step::UpdateBracket {
            account: self.some_account(market),
            token: self.some_token(),
        })
    }

    /// Half of the time where there is a lease to close or update.
    pub(super) fn set_right(&mut self, market: &Market) -> Option<Step> {
        let lease = if self.source.chance(50) {
            self.some_lease(market)
        } else {
            None
        };
        let (account, token) = match lease {
            Some(id) => ((id >> 32) as u32, (id >> 24) as u8),
            None => (self.some_account(market), self.some_token()),
        };
        let spender = self
            .source
            .pick(&[Who::Sam, Who::Sam, Who::Sam, Who::Carol, Who::Stranger]);
        Some(self.right_of(market, account, token, spender))
    }

    /// The right by which an update was proposed.
    pub(super) fn set_right_anew(&mut self, market: &Market) -> Option<Step> {
        let by_spender = |order: &Order, proposal: &Proposal| is_by_spender(market, order, proposal);
        let (id, proposal) = self.some_proposed(market, by_spender)?;
        Some(self.right_of(market, (id >> 32) as u32, (id >> 24) as u8, proposal.by))
    }

    fn right_of(&mut self, market: &Market, account: u32, token: u8, spender: Who) -> Step {
        let known = market.accounts.get(&account);
        let owner = known.map_or(Who::Alice, |account| account.owner);
        let unlocked = known.map_or(0, |account| small(&account.funds[&token].unlocked));
        let limit = match self.source.within(0, 9) {
            0 => 0,
            1..=6 => unlocked,
            _ => self.source.of_any_size(0, 2 * unlocked.min(1 << 110)),
        };
        let expiry = match self.source.within(0, 9) {
            0 => 0,
            1 => market.now,
            2 => market.now + 1,
            3..=5 => market.now + self.source.of_any_size(1, 100_000_000) as u64,
            _ => market.now + 100_000_000,
        };
        Step::SetRight {
            caller: self.mostly(owner),
            account,
            spender,
            token,
            limit,
            expiry,
            may_close: self.source.chance(80),
        }
    }

    pub(super) fn withdraw(&mut self, market: &Market) -> Option<Step> {
        let (account, token) = (self.some_account(market), self.some_token());
        let known = market.accounts.get(&account);
        let owner = known.map_or(Who::Alice, |account| account.owner);
        let (unlocked, held) = known.map_or((0, 0), |account| {
            let funds = &account.funds[&token];
            (small(&funds.unlocked), small(&funds.held()))
        });
        let amount = match self.source.within(0, 19) {
            0 => 0,
            1 => unlocked + 1,
            2 => unlocked,
            // Halves of what is held, and one more or less.
            3..=9 => {
                let left = (held >> self.source.within(1, 3)) + self.source.between(0, 2);
                (held + 1).saturating_sub(left)
            }
            _ => self.source.of_any_size(1, (unlocked / 3).max(1)),
        };
        Some(Step::Withdraw {
            caller: self.mostly(owner),
            account,
            token,
            amount,
            to: self.some_recipient(owner),
        })
    }

    pub(super) fn withdraw_credit(&mut self, market: &Market) -> Option<Step> {
        let credited = market.credits.iter().filter(|(_, credit)| **credit != BigUint::ZERO);
        let credited: Vec<(Who, u8)> = credited.map(|(key, _)| *key).collect();
        let (caller, token) = if credited.is_empty() || self.source.chance(10) {
            (self.source.pick(&Who::SUPPLIERS), self.some_token())
        } else {
            self.source.pick(&credited)
        };
        Some(Step::WithdrawCredit {
            caller,
            token,
            to: self.some_recipient(caller),
        })
    }

    pub(super) fn approve(&mut self, market: &Market) -> Option<Step> {
        let account = self.some_account(market);
        let owner = market.accounts.get(&account)?.owner;
        Some(Step::Approve {
            caller: self.mostly(owner),
            account,
            to: self.source.pick(&[Who::Sam, Who::Stranger, Who::Nobody]),
        })
    }

    pub(super) fn transfer(&mut self, market: &Market) -> Option<Step> {
        let account = self.some_account(market);
        let known = market.accounts.get(&account);
        let (owner, approved) = known.map_or((Who::Alice, Who::Nobody), |known| (known.owner, known.approved));
        let caller = match approved {
            Who::Nobody => self.mostly(owner),
            approved if self.source.chance(70) => approved,
            _ => owner,
        };
        Some(Step::Transfer {
            caller,
            from: if self.source.chance(95) { owner } else { Who::Bob },
            to: self.source.pick(&[
                Who::Alice,
                Who::Alice,
                Who::Bob,
                Who::Bob,
                Who::Carol,
                Who::Sam,
                Who::Nobody,
            ]),
            account,
        })
    }

    pub(super) fn donate(&mut self, _: &Market) -> Option<Step> {
        Some(Step::Donate {
            caller: self.source.pick(&Who::SIGNERS),
            token: self.some_token(),
            amount: self.source.of_any_size(1, 1_000_000),
        })
    }
}
