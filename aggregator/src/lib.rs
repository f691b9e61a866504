//! Collects operators' signatures, checks the quorum, posts the response.
//!
//! Deciding: [`collect`]. Around it: `api` receives, `follow` and `chain` read, `respond` and `expire` send, `store`
//! keeps, and [`service`] joins them. Holds no privilege: anyone may run one, and the first to land wins the match fee.

mod api;
mod chain;
pub mod collect;
pub mod config;
mod expire;
mod follow;
pub mod metrics;
mod orders;
mod respond;
pub mod service;
pub mod store;

pub use config::Config;
