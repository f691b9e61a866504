//! The operator: follows the order book, answers the tasks of every close block with the matching rule, signs the answers
//! and sends them to the aggregators.
//!
//! [`tasks`] decides what is to be answered, [`sign_once`] what may be signed and [`watch::Plan`] what is to be looked at
//! again; they know neither chain nor disk. [`answers`] reads what others sent. [`chain`], [`store`], [`aggregators`] and
//! [`api`] are the shells around them, `follow` drives `sign` and [`watch`] along the chain, [`run`] ties them together, and
//! [`membership`] opts in to and out of the service on EigenLayer. [`rewards`] is what it earns.

pub mod aggregators;
pub mod answers;
pub mod api;
pub mod chain;
pub mod commands;
pub mod config;
pub mod eigen_metrics;
mod follow;
pub mod keys;
mod matchmaker;
pub mod membership;
pub mod metrics;
pub mod rewards;
pub mod run;
mod sign;
pub mod sign_once;
pub mod stakes;
pub mod store;
pub mod tasks;
pub mod watch;
