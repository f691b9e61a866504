//! Bids for orders, runs the leases it wins, serves their owners.
//!
//! What decides has no I/O and no clock: [`bidding`] (which orders to bid for, and how much, with [`pricing`]), [`leases`]
//! (what to do about each lease), [`updates`] (which ones to take, and whether they may stay), [`settling`] (when to collect
//! pay) and [`funds`] (which leases run low on it); [`wording`] tells people why not. Around them, shells named after what they talk to: [`chain`], [`docker`],
//! [`store`], [`api`] (the gateway) and [`manifests`]. [`agent`] puts them together: [`follow`] brings the chain's events
//! into the store, [`bidder`], [`caretaker`], [`updater`] and [`cashier`] act on them.

pub mod agent;
pub mod api;
pub mod bidder;
pub mod bidding;
pub mod caretaker;
pub mod cashier;
pub mod chain;
pub mod check;
pub mod config;
pub mod docker;
pub mod follow;
pub mod funds;
pub mod leases;
pub mod manifests;
pub mod metrics;
pub mod pricing;
pub mod registration;
pub mod settling;
pub mod store;
pub mod updater;
pub mod updates;
pub mod wording;
