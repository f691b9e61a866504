//! Money into accounts and out of them, and whose they are.

use accounting::{Step, Who};
use alloy_primitives::{
    B256, U256,
    aliases::{U40, U112},
};
use alloy_sol_types::{SolCall, SolStruct, eip712_domain};

use super::{Call, Calls};
use crate::{
    abi::{IAccountToken, IEscrow, IToken, Permit, PermitTransferFrom, SpendingRight, TokenPermissions},
    cast::sign,
    chain::CHAIN_ID,
    market::PERMIT2,
    words::{domain, signature, signer_of},
};

impl Calls<'_> {
    pub(super) fn deposit_call(&self, step: &Step) -> Call {
        let escrow = self.addresses.escrow;
        let (caller, data) = match step {
            Step::Deposit {
                caller,
                account,
                token,
                amount,
            } => {
                let call = IEscrow::depositCall {
                    account: *account,
                    token: *token,
                    amount: U256::from(*amount),
                };
                (caller, call.abi_encode())
            }
            Step::Permit {
                owner,
                token,
                amount,
                nonce,
                deadline,
            } => {
                let (r, s, v) = self.permit(*owner, *token, *amount, *nonce, *deadline);
                let call = IToken::permitCall {
                    owner: self.of(*owner),
                    spender: escrow,
                    value: U256::from(*amount),
                    deadline: U256::from(*deadline),
                    v,
                    r,
                    s,
                };
                return (self.of(Who::Stranger), self.token(*token), call.abi_encode());
            }
            Step::DepositWithPermit {
                caller,
                account,
                token,
                amount,
                nonce,
                deadline,
            } => {
                let (r, s, v) = self.permit(*caller, *token, *amount, *nonce, *deadline);
                let call = IEscrow::depositWithPermitCall {
                    account: *account,
                    token: *token,
                    amount: U256::from(*amount),
                    deadline: U256::from(*deadline),
                    v,
                    r,
                    s,
                };
                (caller, call.abi_encode())
            }
            Step::DepositWithPermit2 {
                caller,
                account,
                token,
                amount,
                nonce,
                deadline,
                forged,
            } => {
                let permit = PermitTransferFrom {
                    permitted: TokenPermissions {
                        token: self.token(*token),
                        amount: U256::from(*amount),
                    },
                    spender: escrow,
                    nonce: U256::from(*nonce),
                    deadline: U256::from(*deadline),
                };
                let domain = eip712_domain! { name: "Permit2", chain_id: CHAIN_ID, verifying_contract: PERMIT2, };
                let call = IEscrow::depositWithPermit2Call {
                    account: *account,
                    token: *token,
                    amount: U256::from(*amount),
                    nonce: U256::from(*nonce),
                    deadline: U256::from(*deadline),
                    signature: signature(signer_of(*caller, *forged), permit.eip712_signing_hash(&domain)),
                };
                (caller, call.abi_encode())
            }
            other => unreachable!("{other:?} is no step of deposits"),
        };
        (self.of(*caller), escrow, data)
    }

    fn permit(&self, owner: Who, token: u8, amount: u128, nonce: u64, deadline: u64) -> (B256, B256, u8) {
        let permit = Permit {
            owner: self.of(owner),
            spender: self.addresses.escrow,
            value: U256::from(amount),
            nonce: U256::from(nonce),
            deadline: U256::from(deadline),
        };
        let domain = domain("Spheron", self.token(token));
        sign(owner, permit.eip712_signing_hash(&domain))
    }

    pub(super) fn account_call(&self, step: &Step) -> Call {
        let escrow = self.addresses.escrow;
        let (caller, data) = match step {
            Step::Open { caller, owner } => (caller, IEscrow::openCall { owner: self.of(*owner) }.abi_encode()),
            Step::UpdateBracket { account, token } => {
                let call = IEscrow::updateBracketCall {
                    account: *account,
                    token: *token,
                };
                (&Who::Stranger, call.abi_encode())
            }
            Step::SetRight {
                caller,
                account,
                spender,
                token,
                limit,
                expiry,
                may_close,
            } => {
                let call = IEscrow::setSpendingRightCall {
                    account: *account,
                    spender: self.of(*spender),
                    token: *token,
                    right: SpendingRight {
                        limit: U112::from(*limit),
                        expiry: U40::from(*expiry),
                        mayClose: *may_close,
                    },
                };
                (caller, call.abi_encode())
            }
            Step::Withdraw {
                caller,
                account,
                token,
                amount,
                to,
            } => {
                let call = IEscrow::withdrawCall {
                    account: *account,
                    token: *token,
                    amount: U256::from(*amount),
                    to: self.of(*to),
                };
                (caller, call.abi_encode())
            }
            Step::WithdrawCredit { caller, token, to } => {
                let call = IEscrow::withdrawCreditCall {
                    token: *token,
                    to: self.of(*to),
                };
                (caller, call.abi_encode())
            }
            Step::Approve { caller, account, to } => {
                let call = IAccountToken::approveCall {
                    to: self.of(*to),
                    account: U256::from(*account),
                };
                (caller, call.abi_encode())
            }
            Step::Transfer {
                caller,
                from,
                to,
                account,
            } => {
                let call = IAccountToken::transferFromCall {
                    from: self.of(*from),
                    to: self.of(*to),
                    account: U256::from(*account),
                };
                (caller, call.abi_encode())
            }
            Step::Donate { caller, token, amount } => {
                let call = IToken::transferCall {
                    to: escrow,
                    amount: U256::from(*amount),
                };
                return (self.of(*caller), self.token(*token), call.abi_encode());
            }
            other => unreachable!("{other:?} is no step of accounts"),
        };
        (self.of(*caller), escrow, data)
    }
}
