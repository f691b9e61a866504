//! Against a real anvil, and through a proxy that fails on request.

mod endpoints;
mod follower;
mod foreign_nonces;
mod lagging;
mod node;
mod proxy;
mod quota;
mod sender;
mod transactions;
