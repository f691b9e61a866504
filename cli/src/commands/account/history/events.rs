//! From logs to what the ledger replays.

use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use bindings::standard::IERC721;
use bindings::{IEscrow, ILeases, IOrderBook};

use crate::ledger::Event;
use crate::log_pages::decoded;

/// Events of the escrow whose first operand is an account.
pub(super) const OF_ACCOUNTS: [B256; 6] = [
    IEscrow::AccountOpened::SIGNATURE_HASH,
    IEscrow::Deposited::SIGNATURE_HASH,
    IEscrow::Withdrawn::SIGNATURE_HASH,
    IEscrow::BracketChanged::SIGNATURE_HASH,
    IEscrow::SpendingRightSet::SIGNATURE_HASH,
    IEscrow::Spent::SIGNATURE_HASH,
];

/// An account changing hands.
pub(super) const TRANSFER: B256 = IERC721::Transfer::SIGNATURE_HASH;

/// Events of the order book whose first operand is an order.
pub(super) const OF_ORDERS: [B256; 14] = [
    IOrderBook::OrderCreated::SIGNATURE_HASH,
    IOrderBook::OrderCancelled::SIGNATURE_HASH,
    IOrderBook::OrderExpired::SIGNATURE_HASH,
    IOrderBook::OrderRequeued::SIGNATURE_HASH,
    IOrderBook::LeaseCreated::SIGNATURE_HASH,
    IOrderBook::LeaseSettled::SIGNATURE_HASH,
    IOrderBook::GatewayCredited::SIGNATURE_HASH,
    ILeases::LeaseExtended::SIGNATURE_HASH,
    ILeases::LeaseLowOnFunds::SIGNATURE_HASH,
    ILeases::UpdateProposed::SIGNATURE_HASH,
    ILeases::UpdateRejected::SIGNATURE_HASH,
    ILeases::LeaseUpdated::SIGNATURE_HASH,
    ILeases::LeaseClosed::SIGNATURE_HASH,
    ILeases::LeaseRated::SIGNATURE_HASH,
];

/// Logs as events; opening an account is told once, not also as its minting.
pub(super) fn read(logs: Vec<Log>) -> eyre::Result<Vec<(Log, Event)>> {
    let mut found = Vec::with_capacity(logs.len());
    for log in logs {
        if let Some(event) = event(&log)? {
            found.push((log, event));
        }
    }
    Ok(found)
}

fn event(log: &Log) -> eyre::Result<Option<Event>> {
    let Some(signature) = log.topic0() else {
        return Ok(None);
    };
    Ok(match *signature {
        IEscrow::AccountOpened::SIGNATURE_HASH => {
            let owner = decoded::<IEscrow::AccountOpened>(log)?.owner;
            Some(Event::Opened { owner })
        }
        TRANSFER => {
            let IERC721::Transfer { from, to, .. } = decoded(log)?;
            (from != Address::ZERO).then_some(Event::HandedOver { from, to })
        }
        IEscrow::Deposited::SIGNATURE_HASH => {
            let IEscrow::Deposited {
                token, from, amount, ..
            } = decoded(log)?;
            Some(Event::Deposited { token, from, amount })
        }
        IEscrow::Withdrawn::SIGNATURE_HASH => {
            let IEscrow::Withdrawn { token, to, amount, .. } = decoded(log)?;
            Some(Event::Withdrawn { token, to, amount })
        }
        IEscrow::BracketChanged::SIGNATURE_HASH => {
            let IEscrow::BracketChanged { token, bracket, .. } = decoded(log)?;
            Some(Event::BracketChanged { token, bracket })
        }
        IEscrow::SpendingRightSet::SIGNATURE_HASH => {
            let set: IEscrow::SpendingRightSet = decoded(log)?;
            Some(Event::RightSet {
                token: set.token,
                spender: set.spender,
                limit: U256::from(set.limit),
                may_close: set.mayClose,
            })
        }
        IEscrow::Spent::SIGNATURE_HASH => {
            let IEscrow::Spent {
                token,
                spender,
                amount,
                left,
                ..
            } = decoded(log)?;
            Some(Event::Spent {
                token,
                spender,
                amount,
                left,
            })
        }
        _ => of_order(*signature, log)?,
    })
}

fn of_order(signature: B256, log: &Log) -> eyre::Result<Option<Event>> {
    Ok(Some(match signature {
        IOrderBook::OrderCreated::SIGNATURE_HASH => {
            let created: IOrderBook::OrderCreated = decoded(log)?;
            Event::Ordered {
                order: created.orderId,
                rate: U256::from(created.terms.maximumRate),
                duration: created.terms.duration,
                schedule: created.feeSchedule,
            }
        }
        IOrderBook::OrderCancelled::SIGNATURE_HASH => Event::Cancelled {
            order: decoded::<IOrderBook::OrderCancelled>(log)?.orderId,
        },
        IOrderBook::OrderExpired::SIGNATURE_HASH => Event::Expired {
            order: decoded::<IOrderBook::OrderExpired>(log)?.orderId,
        },
        IOrderBook::OrderRequeued::SIGNATURE_HASH => Event::Requeued {
            order: decoded::<IOrderBook::OrderRequeued>(log)?.orderId,
        },
        IOrderBook::LeaseCreated::SIGNATURE_HASH => {
            let created: IOrderBook::LeaseCreated = decoded(log)?;
            Event::Leased {
                order: created.orderId,
                supplier: created.supplier,
                rate: U256::from(created.rate),
                start: created.start,
            }
        }
        IOrderBook::LeaseSettled::SIGNATURE_HASH => {
            let settled: IOrderBook::LeaseSettled = decoded(log)?;
            Event::Settled {
                order: settled.orderId,
                amount: settled.amount,
                until: settled.settledFor,
            }
        }
        IOrderBook::GatewayCredited::SIGNATURE_HASH => {
            let credited: IOrderBook::GatewayCredited = decoded(log)?;
            Event::GatewayPaid {
                order: credited.orderId,
                amount: credited.amount,
            }
        }
        ILeases::LeaseExtended::SIGNATURE_HASH => {
            let extended: ILeases::LeaseExtended = decoded(log)?;
            Event::Extended {
                order: extended.orderId,
                duration: extended.duration,
                locked: extended.locked,
            }
        }
        ILeases::LeaseLowOnFunds::SIGNATURE_HASH => {
            let low: ILeases::LeaseLowOnFunds = decoded(log)?;
            Event::LowOnFunds {
                order: low.orderId,
                end: low.end.saturating_to(),
            }
        }
        ILeases::UpdateProposed::SIGNATURE_HASH => {
            let proposed: ILeases::UpdateProposed = decoded(log)?;
            Event::Proposed {
                order: proposed.orderId,
                by: proposed.by,
                rate: U256::from(proposed.terms.maximumRate),
                duration: proposed.terms.duration,
            }
        }
        ILeases::UpdateRejected::SIGNATURE_HASH => {
            let rejected: ILeases::UpdateRejected = decoded(log)?;
            Event::Rejected {
                order: rejected.orderId,
                by: rejected.by,
            }
        }
        ILeases::LeaseUpdated::SIGNATURE_HASH => {
            let updated: ILeases::LeaseUpdated = decoded(log)?;
            Event::Updated {
                order: updated.orderId,
                updated: updated.updatedId,
            }
        }
        ILeases::LeaseClosed::SIGNATURE_HASH => {
            let closed: ILeases::LeaseClosed = decoded(log)?;
            Event::Closed {
                order: closed.orderId,
                reason: closed.reason,
                billed: closed.billed,
            }
        }
        ILeases::LeaseRated::SIGNATURE_HASH => {
            let rated: ILeases::LeaseRated = decoded(log)?;
            Event::Rated {
                order: rated.orderId,
                rating: rated.rating,
            }
        }
        _ => return Ok(None),
    }))
}
