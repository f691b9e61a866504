//! Rust types of the contracts, read from the Solidity interface files themselves: nothing is declared twice.
//!
//! Shared structs are at the top ([`OrderTerms`], [`Task`], [`Order`]), every interface is a module with its calls,
//! events, errors and, for use with a provider, an instance type ([`IOrderBook`], [`IEscrow`], ...). Foreign standards
//! that our agents speak are in [`standard`].

#[allow(
    missing_docs,
    clippy::too_many_arguments,
    clippy::pub_underscore_fields,
    rustdoc::broken_intra_doc_links
)]
mod interfaces {
    include!(concat!(env!("OUT_DIR"), "/interfaces.rs"));
}
mod advice;
mod conversions;
mod proof;
mod revert;
pub mod standard;

pub use interfaces::*;
pub use proof::encode_bls_proof;
pub use revert::{Operand, describe_revert, describe_revert_with};
