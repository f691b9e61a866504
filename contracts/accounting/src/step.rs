//! One thing that somebody does. A step names everything by value, so that a trace means the same when steps are left out.

use crate::{
    Who,
    model::{Schedule, Terms},
};

/// Why a lease is closed; the numbers of `OrderState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    ByUser = 5,
    AtEnd = 6,
    NoManifest = 7,
    Maintenance = 8,
    AbnormalService = 9,
    CannotStart = 10,
    /// Not for whoever closes.
    Slashed = 11,
    /// Not for whoever closes.
    Updated = 13,
}

/// What new orders may do with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Enabled = 0,
    Paused = 1,
    Delisted = 2,
}

/// A ranked supplier of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rank {
    pub provider: u32,
    pub fizz: u32,
    pub rate: u128,
    pub gpu_entry: u8,
}

/// What an answer says of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub order: u64,
    /// Best first; none expires the order.
    pub ranks: Vec<Rank>,
    /// Whose resources and rest hash the answer names.
    pub terms: Terms,
}

/// Signed by `signer`, brought in by `sender`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub signer: Who,
    pub sender: Who,
    pub nonce: u64,
    pub deadline: u64,
    /// Signed by the stranger instead, or altered afterwards.
    pub forged: bool,
}

/// Everything that moves money, or decides whether it moves. Resources are given as the terms they are taken from: right if
/// these are the order's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Wait {
        seconds: u64,
        blocks: u64,
    },

    // Accounts
    Open {
        caller: Who,
        owner: Who,
    },
    Deposit {
        caller: Who,
        account: u32,
        token: u8,
        amount: u128,
    },
    /// The permit itself, brought in by anyone.
    Permit {
        owner: Who,
        token: u8,
        amount: u128,
        nonce: u64,
        deadline: u64,
    },
    DepositWithPermit {
        caller: Who,
        account: u32,
        token: u8,
        amount: u128,
        nonce: u64,
        deadline: u64,
    },
    /// Signed by the caller, or by somebody else.
    DepositWithPermit2 {
        caller: Who,
        account: u32,
        token: u8,
        amount: u128,
        nonce: u64,
        deadline: u64,
        forged: bool,
    },
    UpdateBracket {
        account: u32,
        token: u8,
    },
    SetRight {
        caller: Who,
        account: u32,
        spender: Who,
        token: u8,
        limit: u128,
        expiry: u64,
        may_close: bool,
    },
    Withdraw {
        caller: Who,
        account: u32,
        token: u8,
        amount: u128,
        to: Who,
    },
    WithdrawCredit {
        caller: Who,
        token: u8,
        to: Who,
    },
    Approve {
        caller: Who,
        account: u32,
        to: Who,
    },
    Transfer {
        caller: Who,
        from: Who,
        to: Who,
        account: u32,
    },
    /// Tokens sent to the escrow past everything.
    Donate {
        caller: Who,
        token: u8,
        amount: u128,
    },

    // Orders
    CreateOrder {
        caller: Who,
        account: u32,
        token: u8,
        window: u16,
        terms: Terms,
    },
    CreateOrderFor {
        signed: Signed,
        account: u32,
        token: u8,
        window: u16,
        /// The token's, as it was when it was signed.
        schedule: u16,
        terms: Terms,
    },
    CancelOrder {
        caller: Who,
        order: u64,
    },
    ExpireOrders {
        orders: Vec<u64>,
    },
    PlaceBid {
        caller: Who,
        order: u64,
        fizz: u32,
        rate: u128,
    },
    OpenLeases {
        caller: Who,
        close_block: u64,
        answers: Vec<Answer>,
        responder: Who,
    },

    // Leases
    Settle {
        orders: Vec<u64>,
    },
    SettleAndWithdraw {
        caller: Who,
        orders: Vec<u64>,
        to: Who,
    },
    CloseLease {
        caller: Who,
        order: u64,
        reason: Reason,
        terms: Terms,
    },
    CloseFor {
        signed: Signed,
        order: u64,
        terms: Terms,
    },
    SkipNonce {
        caller: Who,
    },
    ExtendLease {
        caller: Who,
        order: u64,
        added: u32,
    },
    ProposeUpdate {
        caller: Who,
        order: u64,
        terms: Terms,
        expiry: u64,
    },
    RejectUpdate {
        caller: Who,
        order: u64,
        /// What is thought to be proposed.
        terms: Terms,
    },
    AcceptUpdate {
        caller: Who,
        order: u64,
        resources_of: Terms,
        terms: Terms,
        rate: u128,
    },
    SlashLease {
        caller: Who,
        order: u64,
        billed: u32,
        terms: Terms,
    },
    UndoLease {
        caller: Who,
        order: u64,
        terms: Terms,
    },
    RateLease {
        caller: Who,
        order: u64,
        rating: u8,
    },
    AnnounceLowFunds {
        orders: Vec<u64>,
    },

    // Suppliers
    RaiseCapacity {
        caller: Who,
        cpu: u32,
        memory: u32,
        storage: u32,
    },
    Suspend {
        supplier: u32,
        suspended: bool,
    },
    SetFeeClass {
        supplier: u32,
        rebated: bool,
    },

    // Governance, and the world outside
    AddSchedule {
        caller: Who,
        schedule: Schedule,
        rebated_commission: u32,
    },
    SetTokenSchedule {
        token: u8,
        schedule: u16,
    },
    SetTokenStatus {
        token: u8,
        status: Status,
    },
    PauseToken {
        token: u8,
    },
    SetTokenCap {
        token: u8,
        cap: u128,
    },
    SetFoundation {
        to: Who,
    },
    SetPrice {
        token: u8,
        answer: i128,
        updated_at: u64,
        broken: bool,
    },
    /// By anyone.
    KeepPrice {
        token: u8,
    },
    SetTopGpus {
        ids: Vec<u8>,
    },
    PauseMarket {
        paused: bool,
    },
}

/// What a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Time,
    /// Money that comes into an account, and what allows it.
    Deposits,
    Accounts,
    Orders,
    /// Leases that live on, and their ratings.
    Leases,
    Endings,
    Updates,
    Suppliers,
    /// With the prices, which come from outside.
    Governance,
}

impl Step {
    /// What it is about.
    pub fn part(&self) -> Part {
        match self {
            Self::Wait { .. } => Part::Time,
            Self::Deposit { .. }
            | Self::Permit { .. }
            | Self::DepositWithPermit { .. }
            | Self::DepositWithPermit2 { .. } => Part::Deposits,
            Self::Open { .. }
            | Self::UpdateBracket { .. }
            | Self::SetRight { .. }
            | Self::Withdraw { .. }
            | Self::WithdrawCredit { .. }
            | Self::Approve { .. }
            | Self::Transfer { .. }
            | Self::Donate { .. } => Part::Accounts,
            Self::CreateOrder { .. }
            | Self::CreateOrderFor { .. }
            | Self::CancelOrder { .. }
            | Self::ExpireOrders { .. }
            | Self::PlaceBid { .. }
            | Self::OpenLeases { .. }
            | Self::SkipNonce { .. } => Part::Orders,
            Self::Settle { .. }
            | Self::SettleAndWithdraw { .. }
            | Self::ExtendLease { .. }
            | Self::RateLease { .. }
            | Self::AnnounceLowFunds { .. } => Part::Leases,
            Self::CloseLease { .. } | Self::CloseFor { .. } | Self::SlashLease { .. } | Self::UndoLease { .. } => {
                Part::Endings
            }
            Self::ProposeUpdate { .. } | Self::RejectUpdate { .. } | Self::AcceptUpdate { .. } => Part::Updates,
            Self::RaiseCapacity { .. } | Self::Suspend { .. } | Self::SetFeeClass { .. } => Part::Suppliers,
            Self::AddSchedule { .. }
            | Self::SetTokenSchedule { .. }
            | Self::SetTokenStatus { .. }
            | Self::PauseToken { .. }
            | Self::SetTokenCap { .. }
            | Self::SetFoundation { .. }
            | Self::SetPrice { .. }
            | Self::KeepPrice { .. }
            | Self::SetTopGpus { .. }
            | Self::PauseMarket { .. } => Part::Governance,
        }
    }

    /// The kinds, as they are counted.
    pub const KINDS: [&'static str; 45] = [
        "wait",
        "open",
        "deposit",
        "permit",
        "deposit with permit",
        "update bracket",
        "set right",
        "withdraw",
        "withdraw credit",
        "approve",
        "transfer",
        "donate",
        "create order",
        "create order for",
        "cancel order",
        "expire orders",
        "place bid",
        "open leases",
        "settle",
        "settle and withdraw",
        "close lease",
        "close for",
        "skip nonce",
        "extend lease",
        "propose update",
        "reject update",
        "accept update",
        "slash lease",
        "undo lease",
        "rate lease",
        "announce low funds",
        "raise capacity",
        "suspend",
        "set fee class",
        "add schedule",
        "set token schedule",
        "set token status",
        "pause token",
        "set token cap",
        "set foundation",
        "set price",
        "set top gpus",
        "pause market",
        "keep price",
        "deposit with permit2",
    ];

    /// Index in [`Self::KINDS`].
    pub fn kind(&self) -> usize {
        match self {
            Self::Wait { .. } => 0,
            Self::Open { .. } => 1,
            Self::Deposit { .. } => 2,
            Self::Permit { .. } => 3,
            Self::DepositWithPermit { .. } => 4,
            Self::UpdateBracket { .. } => 5,
            Self::SetRight { .. } => 6,
            Self::Withdraw { .. } => 7,
            Self::WithdrawCredit { .. } => 8,
            Self::Approve { .. } => 9,
            Self::Transfer { .. } => 10,
            Self::Donate { .. } => 11,
            Self::CreateOrder { .. } => 12,
            Self::CreateOrderFor { .. } => 13,
            Self::CancelOrder { .. } => 14,
            Self::ExpireOrders { .. } => 15,
            Self::PlaceBid { .. } => 16,
            Self::OpenLeases { .. } => 17,
            Self::Settle { .. } => 18,
            Self::SettleAndWithdraw { .. } => 19,
            Self::CloseLease { .. } => 20,
            Self::CloseFor { .. } => 21,
            Self::SkipNonce { .. } => 22,
            Self::ExtendLease { .. } => 23,
            Self::ProposeUpdate { .. } => 24,
            Self::RejectUpdate { .. } => 25,
            Self::AcceptUpdate { .. } => 26,
            Self::SlashLease { .. } => 27,
            Self::UndoLease { .. } => 28,
            Self::RateLease { .. } => 29,
            Self::AnnounceLowFunds { .. } => 30,
            Self::RaiseCapacity { .. } => 31,
            Self::Suspend { .. } => 32,
            Self::SetFeeClass { .. } => 33,
            Self::AddSchedule { .. } => 34,
            Self::SetTokenSchedule { .. } => 35,
            Self::SetTokenStatus { .. } => 36,
            Self::PauseToken { .. } => 37,
            Self::SetTokenCap { .. } => 38,
            Self::SetFoundation { .. } => 39,
            Self::SetPrice { .. } => 40,
            Self::SetTopGpus { .. } => 41,
            Self::PauseMarket { .. } => 42,
            Self::KeepPrice { .. } => 43,
            Self::DepositWithPermit2 { .. } => 44,
        }
    }
}
