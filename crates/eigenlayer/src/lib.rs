//! EigenLayer, as far as operators and aggregators need it: registration to operator sets, reads of the middleware's
//! registries, BLS keystores.
//!
//! The only room that knows EigenLayer's contracts (core and middleware 1.3.1, operator sets with slashable stake). The
//! interfaces are declared here rather than taken from eigensdk: that crate brings a second alloy, openssl, and a provider
//! for every call.

pub mod contracts;
pub mod keystore;
pub mod registration;
pub mod registry;
pub mod rewards;
