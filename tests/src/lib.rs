//! Whole-system tests: the devnet library, real anvil, real EigenLayer, real Docker, the shipped binaries.
//!
//! What they share lives here; the tests are in `system/`.

mod address;
mod answering;
mod deployment;
mod engine;
mod market;
mod network;
mod proxy;
mod registry;
mod signing;
mod waiting;

pub use address::LocalAddress;
pub use answering::{CUSTOMER, CUSTOMERS_DEPOSIT, Closed, Market, SUPPLIERS};
pub use deployment::{Deployed, deployment, example, expect_success, get, repository};
pub use engine::restart as restart_engine;
pub use engine::{Container, container, engine, reaches};
pub use market::DEPOSIT;
pub use network::{Network, Sharing, binaries, on_devnet};
pub use proxy::Proxy;
pub use registry::Registry;
pub use signing::{Answer, post, sign};
pub use waiting::eventually;
