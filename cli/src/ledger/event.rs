//! What can happen to an account and its orders.

use alloy::primitives::{Address, U256};
use avs::words::OrderId;
use bindings::OrderState;

/// What happened. Amounts are in token units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Opened {
        owner: Address,
    },
    HandedOver {
        from: Address,
        to: Address,
    },
    Deposited {
        token: u8,
        from: Address,
        amount: U256,
    },
    Withdrawn {
        token: u8,
        to: Address,
        amount: U256,
    },
    BracketChanged {
        token: u8,
        bracket: u8,
    },
    RightSet {
        token: u8,
        spender: Address,
        limit: U256,
        may_close: bool,
    },
    Spent {
        token: u8,
        spender: Address,
        amount: U256,
        left: U256,
    },
    Ordered {
        order: u64,
        rate: U256,
        duration: u32,
        schedule: u16,
    },
    Cancelled {
        order: u64,
    },
    Expired {
        order: u64,
    },
    Requeued {
        order: u64,
    },
    Leased {
        order: u64,
        supplier: u32,
        rate: U256,
        start: u32,
    },
    Extended {
        order: u64,
        duration: u32,
        locked: U256,
    },
    LowOnFunds {
        order: u64,
        end: u64,
    },
    Proposed {
        order: u64,
        by: Address,
        rate: U256,
        duration: u32,
    },
    Rejected {
        order: u64,
        by: Address,
    },
    /// `updated` takes the place of `order`, and its lock is its own.
    Updated {
        order: u64,
        updated: u64,
    },
    Settled {
        order: u64,
        amount: U256,
        until: u32,
    },
    GatewayPaid {
        order: u64,
        amount: U256,
    },
    Closed {
        order: u64,
        reason: OrderState,
        billed: u32,
    },
    Rated {
        order: u64,
        rating: u8,
    },
}

impl Event {
    /// The order or lease it is about.
    pub(crate) fn order(&self) -> Option<u64> {
        match *self {
            Self::Ordered { order, .. }
            | Self::Cancelled { order }
            | Self::Expired { order }
            | Self::Requeued { order }
            | Self::Leased { order, .. }
            | Self::Extended { order, .. }
            | Self::LowOnFunds { order, .. }
            | Self::Proposed { order, .. }
            | Self::Rejected { order, .. }
            | Self::Updated { updated: order, .. }
            | Self::Settled { order, .. }
            | Self::GatewayPaid { order, .. }
            | Self::Closed { order, .. }
            | Self::Rated { order, .. } => Some(order),
            Self::Opened { .. }
            | Self::HandedOver { .. }
            | Self::Deposited { .. }
            | Self::Withdrawn { .. }
            | Self::BracketChanged { .. }
            | Self::RightSet { .. }
            | Self::Spent { .. } => None,
        }
    }

    /// The token it is about.
    pub(crate) fn token(&self) -> Option<u8> {
        match *self {
            Self::Deposited { token, .. }
            | Self::Withdrawn { token, .. }
            | Self::BracketChanged { token, .. }
            | Self::RightSet { token, .. }
            | Self::Spent { token, .. } => Some(token),
            _ => self.order().map(|order| OrderId::unpack(order).token),
        }
    }

    /// One word, for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::HandedOver { .. } => "handed_over",
            Self::Deposited { .. } => "deposit",
            Self::Withdrawn { .. } => "withdrawal",
            Self::BracketChanged { .. } => "bracket",
            Self::RightSet { .. } => "spending_right",
            Self::Spent { .. } => "spent",
            Self::Ordered { .. } => "order",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired { .. } => "expired",
            Self::Requeued { .. } => "requeued",
            Self::Leased { .. } => "lease",
            Self::Extended { .. } => "extension",
            Self::LowOnFunds { .. } => "low_funds",
            Self::Proposed { .. } => "update_proposed",
            Self::Rejected { .. } => "update_rejected",
            Self::Updated { .. } => "updated",
            Self::Settled { .. } => "settlement",
            Self::GatewayPaid { .. } => "gateway_share",
            Self::Closed { .. } => "close",
            Self::Rated { .. } => "rating",
        }
    }
}
