//! Words put together field by field, without the packers under test: those refuse what a hostile word may hold.

use alloy_primitives::U256;

use crate::Source;

/// Where a field lies: its lowest bit, and how many it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field(pub(crate) usize, pub(crate) u32);

impl Field {
    pub(crate) fn maximum(self) -> u128 {
        (1 << self.1) - 1
    }

    /// The value in its place; what is too large for the field is cut.
    pub(crate) fn of(self, value: u128) -> U256 {
        U256::from(value & self.maximum()) << self.0
    }
}

/// A value at one of its bounds, or beside one, or beside what an order asks for, or anything.
pub(crate) fn near(source: &mut Source, maximum: u128, asked: u128) -> u128 {
    let value = match source.between(0, 9) {
        0 => 0,
        1 => 1,
        2 => maximum,
        3 => maximum - 1,
        4 => asked,
        5 => asked + 1,
        6 => asked.saturating_sub(1),
        7 => asked + source.between(0, asked + 3),
        _ => source.between(0, maximum),
    };
    value.min(maximum)
}
