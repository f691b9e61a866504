//! Orders until they are a lease, or never will be.

use accounting::{Step, Who};
use alloy_primitives::{U256, aliases::U96};
use alloy_sol_types::SolCall;

use super::{Call, Calls};
use crate::{
    abi::{ILeases, IOrderBook, OrderRequest},
    words::{answer_words, order_terms},
};

impl Calls<'_> {
    pub(super) fn order_call(&self, step: &Step) -> Call {
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
            Step::SkipNonce { caller } => (caller, ILeases::skipNonceCall {}.abi_encode()),
            other => unreachable!("{other:?} is no step of orders"),
        };
        (self.of(*caller), self.addresses.book, data)
    }
}
