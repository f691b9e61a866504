//! Bids for orders, runs the leases it wins, serves their owners

pub mod api;
pub mod manifests;
