//! The whole network under orderly use, faults and attacks. Every test has a devnet of its own.

mod accounts;
mod aggregators;
mod chain;
mod crashes;
mod dashboards;
mod disputes;
mod engine;
mod files;
mod gateways;
mod images;
mod isolation;
mod life;
mod modes;
mod money;
mod operators;
mod spenders;
