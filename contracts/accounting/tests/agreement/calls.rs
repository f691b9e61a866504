//! A step as it is done on chain.

use accounting::{Signed, Step, Who, model::Market};
use alloy_primitives::{
    Address, B256, Bytes, U256,
    aliases::{U40, U96, U112},
};
use alloy_sol_types::{SolCall, SolStruct, eip712_domain};

use crate::{
    abi::{
        CloseRequest, IAccountToken, IEscrow, ILeases, IOrderBook, IPaymentTokens, IProviderRegistry, IToken,
        OrderRequest, Permit, PermitTransferFrom, SpendingRight, TokenPermissions,
    },
    cast::sign,
    chain::{CHAIN_ID, Chain, Refused},
    feed::put_answer,
    market::{Addresses, PERMIT2, PROVIDER_1, PROVIDER_2, set_fee_class},
    words::{
        answer_words, capacity_word, domain, fee_schedule, lease_resources, order_state, order_terms, proposal_hash,
        signature, signer_of,
    },
};

/// A step on its way to the chain. `model` is the market before it.
#[derive(Debug)]
pub(crate) struct Calls<'a> {
    pub(crate) addresses: &'a Addresses,
    pub(crate) model: &'a Market,
}

impl Calls<'_> {
    /// Does the step, or says why the chain refused it.
    pub(crate) fn run(&self, chain: &mut Chain, step: &Step) -> Result<(), Refused> {
        let governor = self.of(Who::Governor);
        let Addresses { book, escrow, .. } = *self.addresses;
        let (from, to, data) = match step {
            Step::Wait { .. } => return Ok(()),
            Step::SetPrice {
                token,
                answer,
                updated_at,
                broken,
            } => {
                let mut feed = self.model.tokens[usize::from(*token)].feed.clone();
                (feed.answer, feed.updated_at, feed.broken) = (*answer, *updated_at, *broken);
                put_answer(chain, self.addresses.feeds[usize::from(*token)], &feed);
                return Ok(());
            }
            Step::SetFeeClass { supplier, rebated } => {
                return set_fee_class(chain, self.addresses, *supplier, *rebated).map(drop);
            }
            Step::Suspend { supplier, suspended } => self.suspend(*supplier, *suspended),
            Step::AddSchedule {
                caller,
                schedule,
                rebated_commission,
            } => {
                let call = IEscrow::addFeeScheduleCall {
                    schedule: fee_schedule(schedule),
                    rebatedCommission: *rebated_commission as u16,
                };
                (self.of(*caller), escrow, call.abi_encode())
            }
            Step::SetFoundation { to } => {
                let call = IEscrow::setFoundationCall {
                    newFoundation: self.of(*to),
                };
                (governor, escrow, call.abi_encode())
            }
            Step::SetTopGpus { ids } => {
                let ids = ids
                    .iter()
                    .fold(U256::ZERO, |bits, id| bits | U256::ONE << usize::from(*id));
                (governor, book, IOrderBook::setTopGpusCall { ids }.abi_encode())
            }
            Step::PauseMarket { paused: true } => (governor, book, IOrderBook::pauseCall {}.abi_encode()),
            Step::PauseMarket { paused: false } => (governor, book, IOrderBook::unpauseCall {}.abi_encode()),
            Step::SetTokenSchedule { .. }
            | Step::SetTokenStatus { .. }
            | Step::PauseToken { .. }
            | Step::KeepPrice { .. }
            | Step::SetTokenCap { .. } => (governor, self.addresses.payment_tokens, listing_call(step)),
            step if is_of_accounts(step) => self.account_call(step),
            step if is_of_orders(step) => self.order_call(step),
            step => self.lease_call(step),
        };
        chain.send(from, to, data).map(drop)
    }

    fn of(&self, who: Who) -> Address {
        self.addresses.of(who)
    }

    fn token(&self, id: u8) -> Address {
        self.addresses.tokens[usize::from(id)]
    }

    fn suspend(&self, supplier: u32, suspended: bool) -> (Address, Address, Vec<u8>) {
        if supplier == PROVIDER_1 || supplier == PROVIDER_2 {
            let call = if suspended {
                IProviderRegistry::suspendCall { id: supplier }.abi_encode()
            } else {
                IProviderRegistry::reinstateCall { id: supplier }.abi_encode()
            };
            return (self.of(Who::Governor), self.addresses.registry, call);
        }
        let call = IOrderBook::suspendCall { supplier, suspended };
        (self.addresses.registry, self.addresses.book, call.abi_encode())
    }

    // --------------------------------------------------------------- accounts

    fn account_call(&self, step: &Step) -> (Address, Address, Vec<u8>) {
        let escrow = self.addresses.escrow;
        let (caller, data) = match step {
            Step::Open { caller, owner } => (caller, IEscrow::openCall { owner: self.of(*owner) }.abi_encode()),
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

    // ----------------------------------------------------------------- orders

    fn order_call(&self, step: &Step) -> (Address, Address, Vec<u8>) {
        let (caller, data) = match step {
            Step::CreateOrder {
                caller,
                account,
                token,
                window,
                terms,
            } => {
                let call = IOrderBook::createOrderCall {
                    account: *account,
                    token: *token,
                    bidWindow: *window,
                    terms: order_terms(terms),
                };
                (caller, call.abi_encode())
            }
            Step::CreateOrderFor {
                signed,
                account,
                token,
                window,
                schedule,
                terms,
            } => {
                let request = OrderRequest {
                    signer: self.of(signed.signer),
                    account: *account,
                    token: *token,
                    bidWindow: *window,
                    feeSchedule: *schedule,
                    terms: order_terms(terms),
                    nonce: U256::from(signed.nonce),
                    deadline: U256::from(signed.deadline),
                };
                let signature = self.signature(signed, &request);
                (
                    &signed.sender,
                    ILeases::createOrderForCall { request, signature }.abi_encode(),
                )
            }
            Step::CancelOrder { caller, order } => {
                (caller, IOrderBook::cancelOrderCall { orderId: *order }.abi_encode())
            }
            Step::ExpireOrders { orders } => {
                let call = IOrderBook::expireOrdersCall {
                    orderIds: orders.clone(),
                };
                (&Who::Stranger, call.abi_encode())
            }
            Step::PlaceBid {
                caller,
                order,
                fizz,
                rate,
            } => {
                let call = IOrderBook::placeBidCall {
                    orderId: *order,
                    fizz: *fizz,
                    rate: U96::from(*rate),
                };
                (caller, call.abi_encode())
            }
            Step::OpenLeases {
                caller,
                close_block,
                answers,
                responder,
            } => {
                let call = IOrderBook::openLeasesCall {
                    closeBlock: *close_block as u32,
                    matches: answers.iter().flat_map(answer_words).collect(),
                    responder: self.of(*responder),
                };
                (caller, call.abi_encode())
            }
            Step::RaiseCapacity {
                caller,
                cpu,
                memory,
                storage,
            } => {
                let id = self.model.supplier_of(*caller);
                let mut supplier = self.model.suppliers[&id.unwrap_or(PROVIDER_1)].clone();
                supplier.raise(*cpu, *memory, *storage);
                supplier.suspended = false;
                let call = IOrderBook::setCapacityCall {
                    capacity: capacity_word(&supplier),
                };
                (caller, call.abi_encode())
            }
            other => unreachable!("{other:?} is no step of orders"),
        };
        (self.of(*caller), self.addresses.book, data)
    }

    fn signature(&self, signed: &Signed, request: &impl SolStruct) -> Bytes {
        let digest = request.eip712_signing_hash(&domain("Spheron Market", self.addresses.book));
        signature(signer_of(signed.signer, signed.forged), digest)
    }

    // ----------------------------------------------------------------- leases

    fn lease_call(&self, step: &Step) -> (Address, Address, Vec<u8>) {
        let (caller, data) = match step {
            Step::Settle { orders } => {
                let call = IOrderBook::settleCall {
                    orderIds: orders.clone(),
                };
                (&Who::Stranger, call.abi_encode())
            }
            Step::SettleAndWithdraw { caller, orders, to } => {
                let call = IOrderBook::settleAndWithdrawCall {
                    orderIds: orders.clone(),
                    to: self.of(*to),
                };
                (caller, call.abi_encode())
            }
            Step::CloseLease {
                caller,
                order,
                reason,
                terms,
            } => {
                let call = ILeases::closeLeaseCall {
                    orderId: *order,
                    reason: order_state(*reason),
                    resources: lease_resources(terms),
                };
                (caller, call.abi_encode())
            }
            Step::CloseFor { signed, order, terms } => {
                let request = CloseRequest {
                    signer: self.of(signed.signer),
                    orderId: *order,
                    nonce: U256::from(signed.nonce),
                    deadline: U256::from(signed.deadline),
                };
                let signature = self.signature(signed, &request);
                let call = ILeases::closeForCall {
                    request,
                    resources: lease_resources(terms),
                    signature,
                };
                (&signed.sender, call.abi_encode())
            }
            Step::SkipNonce { caller } => (caller, ILeases::skipNonceCall {}.abi_encode()),
            Step::ExtendLease { caller, order, added } => {
                let call = ILeases::extendLeaseCall {
                    orderId: *order,
                    added: *added,
                };
                (caller, call.abi_encode())
            }
            Step::ProposeUpdate {
                caller,
                order,
                terms,
                expiry,
            } => {
                let call = ILeases::proposeUpdateCall {
                    orderId: *order,
                    terms: order_terms(terms),
                    expiry: U40::from(*expiry),
                };
                (caller, call.abi_encode())
            }
            Step::RejectUpdate { caller, order, terms } => {
                let call = ILeases::rejectUpdateCall {
                    orderId: *order,
                    hash: proposal_hash(terms),
                };
                (caller, call.abi_encode())
            }
            Step::AcceptUpdate {
                caller,
                order,
                resources_of,
                terms,
                rate,
            } => {
                let call = ILeases::acceptUpdateCall {
                    orderId: *order,
                    resources: lease_resources(resources_of),
                    terms: order_terms(terms),
                    rate: U96::from(*rate),
                };
                (caller, call.abi_encode())
            }
            Step::SlashLease {
                caller,
                order,
                billed,
                terms,
            } => {
                let call = ILeases::slashLeaseCall {
                    orderId: *order,
                    billed: *billed,
                    resources: lease_resources(terms),
                };
                (caller, call.abi_encode())
            }
            Step::UndoLease { caller, order, terms } => {
                let call = ILeases::undoLeaseCall {
                    orderId: *order,
                    resources: lease_resources(terms),
                };
                (caller, call.abi_encode())
            }
            Step::RateLease { caller, order, rating } => {
                let call = ILeases::rateLeaseCall {
                    orderId: *order,
                    rating: *rating,
                };
                (caller, call.abi_encode())
            }
            Step::AnnounceLowFunds { orders } => {
                let call = ILeases::announceLowFundsCall {
                    orderIds: orders.clone(),
                };
                (&Who::Stranger, call.abi_encode())
            }
            other => unreachable!("{other:?} is no step of leases"),
        };
        (self.of(*caller), self.addresses.book, data)
    }
}

fn is_of_accounts(step: &Step) -> bool {
    // From "open" to "donate".
    (1..=11).contains(&step.kind()) || matches!(step, Step::DepositWithPermit2 { .. })
}

fn is_of_orders(step: &Step) -> bool {
    // From "create order" to "open leases".
    (12..=17).contains(&step.kind()) || matches!(step, Step::RaiseCapacity { .. })
}

fn listing_call(step: &Step) -> Vec<u8> {
    match step {
        Step::SetTokenSchedule { token, schedule } => {
            let call = IPaymentTokens::setFeeScheduleCall {
                id: *token,
                feeSchedule: *schedule,
            };
            call.abi_encode()
        }
        Step::SetTokenStatus { token, status } => {
            let status = IPaymentTokens::Status::try_from(*status as u8).expect("a status of the interface");
            IPaymentTokens::setStatusCall { id: *token, status }.abi_encode()
        }
        Step::PauseToken { token } => IPaymentTokens::pauseTokenCall { id: *token }.abi_encode(),
        Step::KeepPrice { token } => IPaymentTokens::keepPriceCall { id: *token }.abi_encode(),
        Step::SetTokenCap { token, cap } => IPaymentTokens::setCapCall { id: *token, cap: *cap }.abi_encode(),
        other => unreachable!("{other:?} is no step of listings"),
    }
}
