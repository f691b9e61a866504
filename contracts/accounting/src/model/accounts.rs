//! Accounts: money in and out, who may spend it, and the account itself.

use super::{Account, Amount, Basis, Funds, Market, Refusal, Result, Right, brackets, require};
use crate::{Step, Who};

/// An account holds at most 112 bits of a token.
fn most_held() -> Amount {
    (Amount::from(1_u8) << 112_u32) - 1_u8
}

impl Market {
    pub(super) fn deposit_step(&mut self, step: Step) -> Result {
        match step {
            Step::Deposit {
                caller,
                account,
                token,
                amount,
            } => self.deposit(caller, account, token, amount),
            Step::Permit {
                owner,
                token,
                amount,
                nonce,
                deadline,
            } => self.permit(owner, token, amount, nonce, deadline),
            Step::DepositWithPermit {
                caller,
                account,
                token,
                amount,
                nonce,
                deadline,
            } => self.deposit_with_permit(caller, account, token, amount, nonce, deadline),
            Step::DepositWithPermit2 {
                caller,
                account,
                token,
                amount,
                nonce,
                deadline,
                forged,
            } => {
                self.use_permit2(caller, nonce, deadline, forged)?;
                self.take_deposit(caller, account, token, amount.into())
            }
            other => unreachable!("{other:?} is no step of deposits"),
        }
    }

    pub(super) fn account_step(&mut self, step: Step) -> Result {
        match step {
            Step::Open { caller: _, owner } => self.open(owner),
            Step::UpdateBracket { account, token } => self.update_bracket(account, token),
            Step::SetRight {
                caller,
                account,
                spender,
                token,
                limit,
                expiry,
                may_close,
            } => {
                let right = Right {
                    limit: limit.into(),
                    expiry,
                    may_close,
                };
                self.set_right(caller, account, spender, token, right)
            }
            Step::Withdraw {
                caller,
                account,
                token,
                amount,
                to,
            } => self.withdraw(caller, account, token, amount.into(), to),
            Step::WithdrawCredit { caller, token, to } => self.withdraw_credit(caller, token, to),
            Step::Approve { caller, account, to } => self.approve(caller, account, to),
            Step::Transfer {
                caller,
                from,
                to,
                account,
            } => self.transfer(caller, from, to, account),
            Step::Donate { caller, token, amount } => self.donate(caller, token, amount.into()),
            other => unreachable!("{other:?} is no step of accounts"),
        }
    }

    fn open(&mut self, owner: Who) -> Result {
        require(owner != Who::Nobody, "ERC721InvalidReceiver")?;
        let id = self.accounts.len() as u32 + 1;
        let account = Account {
            owner,
            approved: Who::Nobody,
            epoch: 0,
            funds: self
                .tokens
                .iter()
                .enumerate()
                .map(|(id, _)| (id as u8, Funds::default()))
                .collect(),
            rights: Default::default(),
            settings: Default::default(),
        };
        self.accounts.insert(id, account);
        Ok(())
    }

    fn deposit(&mut self, caller: Who, account: u32, token: u8, amount: u128) -> Result {
        let amount = Amount::from(amount);
        if !self.trusting.contains(&caller) {
            let allowance = self.allowances.entry((caller, token)).or_default();
            require(*allowance >= amount, "ERC20InsufficientAllowance")?;
            *allowance -= &amount;
        }
        self.take_deposit(caller, account, token, amount)
    }

    /// Of who has let the money be taken.
    fn take_deposit(&mut self, caller: Who, account: u32, token: u8, amount: Amount) -> Result {
        require(amount != Amount::ZERO, "ZeroAmount")?;
        require(self.accounts.contains_key(&account), "UnknownAccount")?;
        require(usize::from(token) < self.tokens.len(), "UnknownToken")?;
        require(
            self.funds(account, token)?.held() + &amount <= most_held(),
            "BalanceTooLarge",
        )?;
        self.move_tokens(caller, Who::Escrow, token, &amount)?;
        let total = &self.holdings[&(Who::Escrow, token)];
        require(*total <= self.tokens[usize::from(token)].cap, "CapExceeded")?;
        self.funds_mut(account, token).unlocked += amount;

        let assessed = self.assess(account, token);
        let funds = self.funds_mut(account, token);
        if let Some(bracket) = assessed
            && bracket > funds.bracket
        {
            funds.bracket = bracket;
            self.note("bracket raised");
        }
        Ok(())
    }

    fn permit(&mut self, owner: Who, token: u8, amount: u128, nonce: u64, deadline: u64) -> Result {
        let takes_permits = self.tokens.get(usize::from(token)).is_some_and(|token| token.permits);
        require(takes_permits, "no permits")?;
        require(self.now <= deadline, "ERC2612ExpiredSignature")?;
        let next = self.permit_nonces.entry((owner, token)).or_default();
        require(nonce == *next, "ERC2612InvalidSigner")?;
        *next += 1;
        self.allowances.insert((owner, token), amount.into());
        Ok(())
    }

    /// A permit that fails does not matter as long as the allowance is there.
    fn deposit_with_permit(
        &mut self,
        caller: Who,
        account: u32,
        token: u8,
        amount: u128,
        nonce: u64,
        deadline: u64,
    ) -> Result {
        let permitted = self.permit(caller, token, amount, nonce, deadline).is_ok();
        self.deposit(caller, account, token, amount)?;
        if !permitted {
            self.note("permit was used before, its allowance counts");
        }
        Ok(())
    }

    fn use_permit2(&mut self, owner: Who, nonce: u64, deadline: u64, forged: bool) -> Result {
        require(self.now <= deadline && !forged, "permit2 refuses")?;
        require(self.used_permits.insert((owner, nonce)), "permit2 refuses")?;
        require(owner != Who::Stranger, "nothing approved to permit2")
    }

    fn update_bracket(&mut self, account: u32, token: u8) -> Result {
        require(usize::from(token) < self.tokens.len(), "UnknownToken")?;
        let price = self.tokens[usize::from(token)].feed.price(self.now);
        require(price.is_some(), "NoUsablePrice")?;
        // An account that is not there holds nothing, which is bracket zero.
        let Some(bracket) = self.assess(account, token) else {
            return Ok(());
        };
        self.funds_mut(account, token).bracket = bracket;
        Ok(())
    }

    fn set_right(&mut self, caller: Who, account: u32, spender: Who, token: u8, right: Right) -> Result {
        let known = self.accounts.get_mut(&account).ok_or(Refusal("NotAccountOwner"))?;
        require(known.owner == caller, "NotAccountOwner")?;
        require(spender != caller, "SpenderIsOwner")?;
        known.rights.insert((spender, token), right);
        *known.settings.entry((spender, token)).or_default() += 1;
        self.drop_proposals_by(account, spender, token);
        Ok(())
    }

    fn withdraw(&mut self, caller: Who, account: u32, token: u8, amount: Amount, to: Who) -> Result {
        let known = self.accounts.get(&account).ok_or(Refusal("NotAccountOwner"))?;
        require(known.owner == caller, "NotAccountOwner")?;
        require(amount != Amount::ZERO, "ZeroAmount")?;
        require(!to.receives_nothing(), "InvalidRecipient")?;
        require(usize::from(token) < self.tokens.len(), "InsufficientBalance")?;
        let funds = self.funds_mut(account, token);
        require(funds.unlocked >= amount, "InsufficientBalance")?;
        let before = funds.held();
        funds.unlocked -= &amount;
        let bracket = brackets::lowered(funds.bracket, &before, &funds.held());
        if bracket < funds.bracket {
            funds.bracket = bracket;
            self.note("bracket lowered by a withdrawal");
        }
        self.move_tokens(Who::Escrow, to, token, &amount)
    }

    fn withdraw_credit(&mut self, caller: Who, token: u8, to: Who) -> Result {
        require(!to.receives_nothing(), "InvalidRecipient")?;
        let credit = self.credits.remove(&(caller, token)).unwrap_or_default();
        require(credit != Amount::ZERO, "NothingToWithdraw")?;
        self.move_tokens(Who::Escrow, to, token, &credit)
    }

    fn approve(&mut self, caller: Who, account: u32, to: Who) -> Result {
        let known = self
            .accounts
            .get_mut(&account)
            .ok_or(Refusal("ERC721NonexistentToken"))?;
        require(known.owner == caller, "ERC721InvalidApprover")?;
        known.approved = to;
        Ok(())
    }

    /// Ends every right, and everything that was proposed.
    fn transfer(&mut self, caller: Who, from: Who, to: Who, account: u32) -> Result {
        require(to != Who::Nobody, "ERC721InvalidReceiver")?;
        let known = self
            .accounts
            .get_mut(&account)
            .ok_or(Refusal("ERC721NonexistentToken"))?;
        require(known.owner == from, "ERC721IncorrectOwner")?;
        require(
            caller == from || (caller == known.approved && caller != Who::Nobody),
            "ERC721InsufficientApproval",
        )?;
        let had_rights = !known.rights.is_empty();
        known.owner = to;
        known.approved = Who::Nobody;
        known.epoch += 1;
        known.rights.clear();
        known.settings.clear();
        for order in self.orders.values_mut().filter(|order| order.account == account) {
            order.proposal = None;
        }
        if had_rights {
            self.note("right ended by a change of hands");
        }
        Ok(())
    }

    fn donate(&mut self, caller: Who, token: u8, amount: Amount) -> Result {
        self.move_tokens(caller, Who::Escrow, token, &amount)?;
        *self.donated.entry(token).or_default() += amount;
        Ok(())
    }

    // ---------------------------------------------------------------- spending

    /// Takes `amount` out of what the caller may spend: everything for the owner, the rest of the limit for a spender.
    pub(super) fn authorise(&mut self, account: u32, token: u8, caller: Who, amount: &Amount) -> Result {
        let now = self.now;
        let known = self.accounts.get_mut(&account).ok_or(Refusal("NotAccountOwner"))?;
        if known.owner == caller {
            return Ok(());
        }
        let right = known
            .rights
            .get_mut(&(caller, token))
            .filter(|right| !right.is_none())
            .ok_or(Refusal("NotAccountOwner"))?;
        require(now < right.expiry, "SpendingRightExpired")?;
        require(right.limit >= *amount, "SpendingLimitExceeded")?;
        right.limit -= amount;
        self.note("spender locked from a limit");
        Ok(())
    }

    /// Whether the caller may cancel the account's orders in the token and close its leases.
    pub fn may_close(&self, account: u32, token: u8, caller: Who) -> bool {
        let Some(known) = self.accounts.get(&account) else {
            return false;
        };
        let right = known.rights.get(&(caller, token));
        known.owner == caller || right.is_some_and(|right| right.may_close && self.now < right.expiry)
    }

    /// What an update rests on that the caller proposes now; none if it may not.
    pub fn basis_of(&self, account: u32, token: u8, caller: Who) -> Option<Basis> {
        let known = self.accounts.get(&account)?;
        self.may_close(account, token, caller).then(|| Basis {
            epoch: known.epoch,
            setting: known.settings.get(&(caller, token)).copied().unwrap_or(0),
            schedule: self.tokens[usize::from(token)].schedule,
        })
    }

    /// Bracket of what the account holds at today's price, if there is one.
    fn assess(&self, account: u32, token: u8) -> Option<u8> {
        let listed = &self.tokens[usize::from(token)];
        let price = listed.feed.price(self.now)?;
        let held = self.accounts.get(&account)?.funds[&token].held();
        Some(brackets::of(&held, listed.decimals, &price))
    }

    pub(super) fn funds(&self, account: u32, token: u8) -> Result<&Funds> {
        let known = self.accounts.get(&account).ok_or(Refusal("NotAccountOwner"))?;
        known.funds.get(&token).ok_or(Refusal("UnknownToken"))
    }

    /// Of an account and a token that are there.
    pub(super) fn funds_mut(&mut self, account: u32, token: u8) -> &mut Funds {
        let known = self.accounts.get_mut(&account).expect("the account was looked up");
        known.funds.get_mut(&token).expect("the token was looked up")
    }
}
