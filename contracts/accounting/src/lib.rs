//! A reference model of the market's money, written from the interfaces' documentation alone, with whole numbers of any size
//! and nothing packed. `tests/agreement` runs it beside the real contracts, step by step, on random traces.

mod cast;

pub mod generator;
pub mod model;
mod source;
mod step;

pub use cast::Who;
pub use source::Source;
pub use step::{Answer, Part, Rank, Reason, Signed, Status, Step};
