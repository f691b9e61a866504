//! What every long-running binary shares: tracing, the TLS provider, configuration, metrics, health, a lock on the data
//! directory, the SQLite store, and one guarded way to stop.
//!
//! A binary's `main` uses them in this order: [`telemetry::initialise`], [`tls::install_provider`], [`config::load`],
//! build (which binds sockets with [`http::bind`]), then [`process::run`] until a signal or a failed critical task, then
//! drain.

pub mod causes;
pub mod config;
pub mod connections;
pub mod directory_lock;
pub mod health;
pub mod http;
pub mod metrics;
pub mod process;
pub mod secret;
pub mod store;
pub mod telemetry;
pub mod terminal;
pub mod tls;

pub use directory_lock::DirectoryLock;
pub use health::Health;
pub use metrics::Metrics;
pub use process::Shutdown;
pub use secret::Secret;
pub use store::{Store, StoreError};
