//! The matching rule, what operators sign, BN254 and quorum arithmetic.
//!
//! Pure: no I/O, no clock, no async, no floats, no maps with random order. The same inputs give the same words on every
//! machine; `vectors/` holds an independent implementation that says so.
#![deny(clippy::float_arithmetic, clippy::iter_over_hash_type)]

pub mod bn254;
pub mod digest;
pub mod dispute;
pub mod draw;
pub mod matching;
pub mod quorum;
pub mod response;
pub mod submission;
pub mod task;
pub mod terms;
pub mod words;
