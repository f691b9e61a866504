//! The manifest gateway over real TLS, with a chain and an engine that do as the test says.

mod access;
mod fakes;
mod logs;
mod manifests;
mod spenders;
