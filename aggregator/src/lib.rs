//! Collects operators' signatures, checks the quorum, posts the response.
//!
//! Deciding: [`collect`]. Around it: [`api`] receives (within what `sources` allows), [`follow`] and [`chain`] read,
//! `respond` sends, `store` keeps, and [`service`] joins them; [`mod@start`] builds it all. Beside it, jobs that nothing waits for: `expire`, `refresh`,
//! `prove_key`. Holds no privilege: anyone may run one, and the first to land wins the match fee.

pub mod api;
pub mod chain;
pub mod collect;
pub mod config;
mod expire;
pub mod follow;
pub mod metrics;
mod orders;
mod prove_key;
mod refresh;
mod respond;
pub mod service;
mod sources;
pub mod start;
pub mod store;
mod verifiers;

pub use config::Config;
