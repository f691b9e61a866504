//! Decimal amounts as exact integers: prices are written as decimal text and must never pass through a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most digits after the point: as many as the finest token in use has decimals, and then some.
pub const MAXIMUM_SCALE: u8 = 36;

/// A decimal number that is not negative: `digits / 10^scale`, without trailing zeros, so that equal numbers are equal
/// values and have one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    digits: u128,
    scale: u8,
}

/// Why a text is no [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Something else than digits with at most one point between them.
    #[error("not a decimal number such as 1 or 0.25 (no sign, exponent or separators)")]
    Syntax,
    /// Too many digits after the point.
    #[error("more than {MAXIMUM_SCALE} digits after the point")]
    TooFine,
    /// More than 128 bits of digits.
    #[error("too large: the digits do not fit 128 bits")]
    TooLarge,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { digits: 0, scale: 0 };

    /// A whole number.
    pub const fn whole(digits: u128) -> Self {
        Self { digits, scale: 0 }
    }

    /// `digits / 10^scale`.
    pub fn new(digits: u128, scale: u8) -> Result<Self, DecimalError> {
        let (mut digits, mut scale) = (digits, scale);
        while scale > 0 && digits.is_multiple_of(10) {
            digits /= 10;
            scale -= 1;
        }
        if scale > MAXIMUM_SCALE {
            Err(DecimalError::TooFine)
        } else {
            Ok(Self { digits, scale })
        }
    }

    /// The digits, without the point.
    pub fn digits(self) -> u128 {
        self.digits
    }

    /// How many of the digits stand after the point.
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.digits == 0
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction.trim_end_matches('0')),
            Some(_) => return Err(DecimalError::Syntax),
            None => (text, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return Err(DecimalError::Syntax);
        }
        let scale = u8::try_from(fraction.len())
            .ok()
            .filter(|scale| *scale <= MAXIMUM_SCALE)
            .ok_or(DecimalError::TooFine)?;
        let mut digits = 0u128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            digits = digits
                .checked_mul(10)
                .and_then(|value| value.checked_add(u128::from(byte - b'0')))
                .ok_or(DecimalError::TooLarge)?;
        }
        Self::new(digits, scale)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let text = format!("{:0>width$}", self.digits, width = scale + 1);
        let (whole, fraction) = text.split_at(text.len() - scale);
        if fraction.is_empty() {
            formatter.write_str(whole)
        } else {
            write!(formatter, "{whole}.{fraction}")
        }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, DecimalError>) {
        let parsed = text.parse::<Decimal>().map(|decimal| decimal.to_string());
        assert_eq!(parsed, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn text_becomes_one_canonical_text() {
        check("1", Ok("1"));
        check("001.500", Ok("1.5"));
        check("0.0001", Ok("0.0001"));
        check("10", Ok("10"));
        check("0", Ok("0"));
        check("0.0", Ok("0"));
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in [
            "", ".", ".5", "1.", "-1", "+1", "1e3", "1_000", "1,5", "0x10", "1.2.3", "١", "NaN",
        ] {
            check(text, Err(DecimalError::Syntax));
        }
        check(&format!("0.{}1", "0".repeat(36)), Err(DecimalError::TooFine));
        check(&"9".repeat(40), Err(DecimalError::TooLarge));
    }
}
