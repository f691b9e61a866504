//! Reading and writing bit fields of a 256-bit word, lowest bit first.

use alloy_primitives::U256;

use super::WordError;

/// Collects fields into one word.
pub(super) struct Packer {
    word: &'static str,
    limbs: [u64; 4],
}

impl Packer {
    pub(super) fn new(word: &'static str) -> Self {
        Self { word, limbs: [0; 4] }
    }

    /// Puts a value into its field, or names the field that it does not fit.
    pub(super) fn put(&mut self, field: Field, value: impl Into<u128>) -> Result<&mut Self, WordError> {
        let Field { name, offset, width } = field;
        let (value, maximum) = (value.into(), mask(width));
        if value > maximum {
            return Err(WordError::OutOfRange {
                word: self.word,
                field: name,
                value,
                minimum: 0,
                maximum,
            });
        }
        for bit in (0..width).step_by(64) {
            let part = (value >> bit) as u64;
            let (limb, shift) = ((offset + bit) / 64, (offset + bit) % 64);
            self.limbs[limb] |= part << shift;
            if shift != 0 && limb + 1 < 4 {
                self.limbs[limb + 1] |= part >> (64 - shift);
            }
        }
        Ok(self)
    }

    pub(super) fn finish(&self) -> U256 {
        U256::from_limbs(self.limbs)
    }
}

/// The lowest `width` bits set; `width` is at most 127.
const fn mask(width: usize) -> u128 {
    (1u128 << width) - 1
}

/// A field of a word: its bits, counted from the lowest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    name: &'static str,
    offset: usize,
    width: usize,
}

impl Field {
    /// `width` is at most 127.
    pub(super) const fn new(name: &'static str, offset: usize, width: usize) -> Self {
        Self { name, offset, width }
    }

    /// The same field of the entry that starts `by` bits higher.
    pub(super) const fn moved(self, by: usize) -> Self {
        Self {
            offset: self.offset + by,
            ..self
        }
    }

    /// A value of the field as it lies in one of the word's four parts of 64 bits, which must hold the whole field.
    pub(super) const fn placed_in(self, limb: usize, value: u64) -> u64 {
        assert!(self.offset >= 64 * limb && self.offset + self.width <= 64 * (limb + 1));
        value << (self.offset - 64 * limb)
    }

    /// Value of a field of at most 64 bits.
    #[inline(always)]
    pub(crate) fn of(self, word: &U256) -> u64 {
        let limbs = word.as_limbs();
        let (limb, shift) = (self.offset / 64, self.offset % 64);
        let mut value = limbs[limb] >> shift;
        if shift + self.width > 64 {
            value |= limbs[limb + 1] << (64 - shift);
        }
        value & mask(self.width) as u64
    }

    /// Value of a field of any width.
    #[inline(always)]
    pub(crate) fn wide_of(self, word: &U256) -> u128 {
        let limbs = word.as_limbs();
        let (limb, shift) = (self.offset / 64, self.offset % 64);
        let mut value = u128::from(limbs[limb]) >> shift;
        if limb + 1 < 4 {
            value |= u128::from(limbs[limb + 1]) << (64 - shift);
        }
        if limb + 2 < 4 && shift != 0 {
            value |= u128::from(limbs[limb + 2]) << (128 - shift);
        }
        value & mask(self.width)
    }
}

/// Refuses a word with a bit set at or above `used`.
#[inline(always)]
pub(crate) fn check_unused_above(word: &'static str, value: &U256, used: usize) -> Result<(), WordError> {
    let limbs = value.as_limbs();
    let (limb, shift) = (used / 64, used % 64);
    let mut rest = limbs[limb] >> shift;
    for higher in &limbs[limb + 1..] {
        rest |= higher;
    }
    if rest == 0 {
        Ok(())
    } else {
        Err(WordError::ReservedBits { word, value: *value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_field_is_read_where_it_was_put(value: u128, offset in 0usize..256, width in 1usize..=127) {
            let field = Field::new("field", offset, width.min(256 - offset));
            let value = value & mask(field.width);
            let mut packer = Packer::new("test word");
            packer.put(field, value).unwrap();
            let word = packer.finish();
            prop_assert_eq!(word, U256::from(value) << offset);
            prop_assert_eq!(field.wide_of(&word), value);
            if field.width <= 64 {
                prop_assert_eq!(u128::from(field.of(&word)), value);
            }
        }

        #[test]
        fn a_value_wider_than_its_field_is_refused(extra in 1u128..1000, width in 1usize..=100) {
            let value = mask(width) + extra;
            let error = Packer::new("test word").put(Field::new("field", 3, width), value).err().unwrap();
            let expected =
                WordError::OutOfRange { word: "test word", field: "field", value, minimum: 0, maximum: mask(width) };
            prop_assert_eq!(error, expected);
        }
    }
}
