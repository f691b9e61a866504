//! Leases: what they pay, how they change, how they end.

use accounting::{Step, Who};
use alloy_primitives::{
    U256,
    aliases::{U40, U96},
};
use alloy_sol_types::SolCall;

use super::{Call, Calls};
use crate::{
    abi::{CloseRequest, ILeases, IOrderBook},
    words::{lease_resources, order_state, order_terms, proposal_hash},
};

impl Calls<'_> {
    pub(super) fn lease_call(&self, step: &Step) -> Call {
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
            Step::ExtendLease { caller, order, added } => {
                let call = ILeases::extendLeaseCall {
                    orderId: *order,
                    added: *added,
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

    pub(super) fn ending_call(&self, step: &Step) -> Call {
        let (caller, data) = match step {
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
            other => unreachable!("{other:?} is no step of endings"),
        };
        (self.of(*caller), self.addresses.book, data)
    }

    pub(super) fn update_call(&self, step: &Step) -> Call {
        let (caller, data) = match step {
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
            other => unreachable!("{other:?} is no step of updates"),
        };
        (self.of(*caller), self.addresses.book, data)
    }
}
