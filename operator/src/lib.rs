//! The operator: follows the order book, answers the tasks of every close block with the matching rule, signs the answers
//! and sends them to the aggregators.
//!
//! [`tasks`] decides what is to be answered and [`sign_once`] what may be signed; both know neither chain nor disk.
//! [`chain`], [`store`], [`aggregators`] and [`api`] are the shells around them, [`run`] ties them together, and
//! [`membership`] opts in to and out of the service on EigenLayer. [`rewards`] is what it earns.

pub mod aggregators;
pub mod api;
pub mod chain;
pub mod commands;
pub mod config;
pub mod keys;
pub mod membership;
pub mod metrics;
pub mod rewards;
pub mod run;
pub mod sign_once;
pub mod stakes;
pub mod store;
pub mod tasks;
