//! The whole network on one machine: anvil with the real EigenLayer, our contracts, operators, aggregators and providers as
//! the processes people run, and an order through its whole life.

pub mod agents;
pub mod anvil;
pub mod bench;
pub mod bootstrap;
pub mod children;
pub mod demo;
pub mod images;
pub mod network;
pub mod plan;
pub mod rewards;
pub mod sweep;
pub mod table;
pub mod traffic;

pub use network::{Devnet, Options};
