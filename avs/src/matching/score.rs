use super::Parameters;

/// A full score; weights sum to the same number.
pub const SCORE_MAXIMUM: u32 = 1_000_000;

/// A bid's score in each term, 0 to 1 000 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scores {
    pub price: u32,
    pub region: u32,
    pub feedback: u32,
    pub availability: u32,
    pub slashes: u32,
    pub tier: u32,
    pub stake: u32,
    pub randomness: u32,
}

impl Scores {
    /// The terms' names, in the order of the weights.
    pub const NAMES: [&'static str; 8] = [
        "price",
        "region",
        "feedback",
        "availability",
        "slashes",
        "trust tier",
        "stake",
        "randomness",
    ];

    /// The scores in the order of the weights.
    #[inline(always)]
    pub fn terms(&self) -> [u32; 8] {
        [
            self.price,
            self.region,
            self.feedback,
            self.availability,
            self.slashes,
            self.tier,
            self.stake,
            self.randomness,
        ]
    }

    /// Weighted sum: at most 10^12, because no score and no sum of weights exceeds 10^6.
    #[inline(always)]
    pub fn total(&self, parameters: &Parameters) -> u64 {
        let terms = self.terms();
        terms
            .iter()
            .zip(parameters.weights())
            .map(|(term, weight)| u64::from(*term) * u64::from(*weight))
            .sum()
    }
}

/// `floor(part * 1 000 000 / whole)` for many parts of one whole, without a division per part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proportion {
    whole: u128,
    shift: u32,
    /// `floor((2^64 - 1) / divisor)`, the divisor being the whole's upper 43 bits, rounded up.
    reciprocal: u64,
}

impl Proportion {
    /// `whole` is 1 to 2^107 - 1, so that the exact products below fit 128 bits.
    pub(super) fn of(whole: u128) -> Self {
        debug_assert!(whole > 0 && whole >> 107 == 0);
        let shift = (128 - whole.leading_zeros()).saturating_sub(43);
        let divisor = (whole >> shift) as u64 + u64::from(shift > 0);
        Self {
            whole,
            shift,
            reciprocal: u64::MAX / divisor,
        }
    }

    /// `part` is at most the whole.
    #[inline(always)]
    pub(super) fn score(&self, part: u128) -> u32 {
        if self.shift > 0 {
            return self.score_of_wide(part);
        }
        let numerator = part as u64 * u64::from(SCORE_MAXIMUM);
        let estimate = self.estimate(numerator);
        let rest = numerator - estimate * self.whole as u64;
        (estimate + u64::from(rest >= self.whole as u64)) as u32
    }

    /// Where the whole has more than 43 bits.
    fn score_of_wide(&self, part: u128) -> u32 {
        let mut quotient = self.estimate((part >> self.shift) as u64 * u64::from(SCORE_MAXIMUM)) as u32;
        let mut rest = part * u128::from(SCORE_MAXIMUM) - u128::from(quotient) * self.whole;
        while rest >= self.whole {
            rest -= self.whole;
            quotient += 1;
        }
        quotient
    }

    /// Never above the quotient; at most one below it where nothing was shifted out, else at most a few.
    #[inline(always)]
    fn estimate(&self, numerator: u64) -> u64 {
        ((u128::from(numerator) * u128::from(self.reciprocal)) >> 64) as u64
    }
}

/// A fraction of a resource that stays free, compared without dividing.
#[derive(Clone, Copy)]
pub(super) struct Headroom {
    left: u64,
    total: u64,
}

impl Headroom {
    /// `free` is at least `asked`, `total` at least `free` and not zero; all at most 22 bits.
    #[inline(always)]
    pub(super) fn new((free, total): (u32, u32), asked: u32) -> Self {
        Self {
            left: u64::from(free - asked),
            total: u64::from(total),
        }
    }

    #[inline(always)]
    pub(super) fn smaller(self, other: Self) -> Self {
        if other.left * self.total < self.left * other.total {
            other
        } else {
            self
        }
    }

    /// The smallest fraction has the smallest floor, so only that one is divided.
    #[inline(always)]
    pub(super) fn score(&self) -> u32 {
        (self.left * u64::from(SCORE_MAXIMUM) / self.total) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_proportion_is_the_exact_floor(bits in 1u32..=84, whole: u128, part: u128, near in 0u128..3) {
            let whole = (whole >> (128 - bits)).max(1);
            for part in [part % (whole + 1), near.min(whole), whole - near.min(whole)] {
                let exact = part * 1_000_000 / whole;
                prop_assert_eq!(u128::from(Proportion::of(whole).score(part)), exact);
            }
        }

        #[test]
        fn the_smaller_headroom_has_the_smaller_score(
            a in (1u32..1 << 22).prop_flat_map(|total| (Just(total), 0..=total)),
            b in (1u32..1 << 22).prop_flat_map(|total| (Just(total), 0..=total)),
        ) {
            let (a, b) = (Headroom::new((a.1, a.0), 0), Headroom::new((b.1, b.0), 0));
            prop_assert_eq!(a.smaller(b).score(), a.score().min(b.score()));
        }
    }
}
