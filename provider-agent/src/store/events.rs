//! The market's events, as far as a provider needs them.

use alloy::sol_types::{SolEvent, SolValue};
use alloy_primitives::{B256, Log};
use bindings::{ILeases, IOrderBook};

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
    /// The lease lasts longer.
    Extended {
        /// Which.
        order: u64,
        /// Seconds from its start.
        duration: u32,
    },
    /// The user would replace the lease.
    Proposed {
        /// Which.
        order: u64,
        /// Unix seconds from which it cannot be accepted.
        expiry: u64,
        /// ABI-encoded `OrderTerms`.
        terms: Vec<u8>,
    },
    /// A proposal was withdrawn or refused.
    Rejected {
        /// The lease it was for.
        order: u64,
    },
    /// A lease took another one's place.
    Updated {
        /// The one that ended.
        order: u64,
        /// The one that began.
        updated: u64,
        /// The first of all that ran the same workload.
        workload: u64,
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
        ILeases::LeaseClosed::SIGNATURE_HASH,
        ILeases::LeaseExtended::SIGNATURE_HASH,
        ILeases::UpdateProposed::SIGNATURE_HASH,
        ILeases::UpdateRejected::SIGNATURE_HASH,
        ILeases::LeaseUpdated::SIGNATURE_HASH,
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
        ILeases::LeaseClosed::SIGNATURE_HASH => {
            let event = ILeases::LeaseClosed::decode_log(log).ok()?;
            MarketEvent::Closed {
                order: event.orderId,
                reason: event.reason as u8,
            }
        }
        ILeases::LeaseExtended::SIGNATURE_HASH => {
            let event = ILeases::LeaseExtended::decode_log(log).ok()?;
            MarketEvent::Extended {
                order: event.orderId,
                duration: event.duration,
            }
        }
        ILeases::UpdateProposed::SIGNATURE_HASH => {
            let event = ILeases::UpdateProposed::decode_log(log).ok()?;
            MarketEvent::Proposed {
                order: event.orderId,
                expiry: event.expiry.to(),
                terms: event.terms.abi_encode(),
            }
        }
        ILeases::UpdateRejected::SIGNATURE_HASH => MarketEvent::Rejected {
            order: ILeases::UpdateRejected::decode_log(log).ok()?.orderId,
        },
        ILeases::LeaseUpdated::SIGNATURE_HASH => {
            let event = ILeases::LeaseUpdated::decode_log(log).ok()?;
            MarketEvent::Updated {
                order: event.orderId,
                updated: event.updatedId,
                workload: event.workload,
            }
        }
        _ => return None,
    };
    Some(event)
}
