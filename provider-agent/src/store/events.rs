//! The market's events, as far as a provider needs them.

use alloy::sol_types::{SolEvent, SolValue};
use alloy_primitives::{B256, Log};
use bindings::IOrderBook;

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarketEvent {
    /// It was created.
    Created {
        /// Which.
        order: u64,
        /// The first block that takes no bid.
        close_block: u64,
        /// ABI-encoded `OrderTerms`.
        terms: Vec<u8>,
    },
    /// It takes bids again.
    Requeued {
        /// Which.
        order: u64,
        /// The first block that takes no bid.
        close_block: u64,
    },
    /// It was cancelled, or expired.
    Ended {
        /// Which.
        order: u64,
    },
    /// It became a lease.
    Leased {
        /// Which.
        order: u64,
        /// Who won it.
        supplier: u32,
        /// Unix seconds.
        start: u64,
    },
    /// The lease ended.
    Closed {
        /// Which.
        order: u64,
        /// `OrderState` as a number.
        reason: u8,
    },
}

/// The signatures of the events that [`decode`] knows.
pub fn topics() -> Vec<B256> {
    vec![
        IOrderBook::OrderCreated::SIGNATURE_HASH,
        IOrderBook::OrderRequeued::SIGNATURE_HASH,
        IOrderBook::OrderCancelled::SIGNATURE_HASH,
        IOrderBook::OrderExpired::SIGNATURE_HASH,
        IOrderBook::LeaseCreated::SIGNATURE_HASH,
        IOrderBook::LeaseClosed::SIGNATURE_HASH,
    ]
}

/// The event in a log of the order book; nothing where it is another one.
pub fn decode(log: &Log) -> Option<MarketEvent> {
    let signature = *log.topics().first()?;
    let event = match signature {
        IOrderBook::OrderCreated::SIGNATURE_HASH => {
            let event = IOrderBook::OrderCreated::decode_log(log).ok()?;
            MarketEvent::Created {
                order: event.orderId,
                close_block: event.closeBlock.into(),
                terms: event.terms.abi_encode(),
            }
        }
        IOrderBook::OrderRequeued::SIGNATURE_HASH => {
            let event = IOrderBook::OrderRequeued::decode_log(log).ok()?;
            MarketEvent::Requeued {
                order: event.orderId,
                close_block: event.closeBlock.into(),
            }
        }
        IOrderBook::OrderCancelled::SIGNATURE_HASH => MarketEvent::Ended {
            order: IOrderBook::OrderCancelled::decode_log(log).ok()?.orderId,
        },
        IOrderBook::OrderExpired::SIGNATURE_HASH => MarketEvent::Ended {
            order: IOrderBook::OrderExpired::decode_log(log).ok()?.orderId,
        },
        IOrderBook::LeaseCreated::SIGNATURE_HASH => {
            let event = IOrderBook::LeaseCreated::decode_log(log).ok()?;
            MarketEvent::Leased {
                order: event.orderId,
                supplier: event.supplier,
                start: event.start.into(),
            }
        }
        IOrderBook::LeaseClosed::SIGNATURE_HASH => {
            let event = IOrderBook::LeaseClosed::decode_log(log).ok()?;
            MarketEvent::Closed {
                order: event.orderId,
                reason: event.reason as u8,
            }
        }
        _ => return None,
    };
    Some(event)
}
