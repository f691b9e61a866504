use alloy_primitives::U256;

use super::{
    ATTRIBUTE_LEVEL_MAXIMUM, TIER_MAXIMUM, WordError,
    bits::{Packer, check_unused_above, take},
};

const REQUIREMENTS: &str = "requirement word";
const SCORE_CARD: &str = "score card word";

/// Guard bit (the fifth) of each of the eight attribute levels; zero in words, so that one subtraction compares all.
const ATTRIBUTE_GUARDS: u64 = {
    let mut guards = 0;
    let mut index = 0;
    while index < 8 {
        guards |= 0x10 << (5 * index);
        index += 1;
    }
    guards
};

/// Levels 0 to 15 of the eight governed attributes, packed as in the words: five bits each, the fifth zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Attributes(u64);

impl Attributes {
    /// # Errors
    /// When a level is above 15.
    pub fn from_levels(levels: [u8; 8]) -> Result<Self, WordError> {
        let mut packed = 0;
        for (index, level) in levels.into_iter().enumerate() {
            if level > ATTRIBUTE_LEVEL_MAXIMUM {
                return Err(WordError::OutOfRange {
                    word: "attributes",
                    field: "level",
                    value: level.into(),
                    minimum: 0,
                    maximum: ATTRIBUTE_LEVEL_MAXIMUM.into(),
                });
            }
            packed |= u64::from(level) << (5 * index);
        }
        Ok(Self(packed))
    }

    pub fn levels(&self) -> [u8; 8] {
        std::array::from_fn(|index| (self.0 >> (5 * index)) as u8 & 0x0f)
    }

    /// The 40 packed bits.
    pub fn packed(&self) -> u64 {
        self.0
    }

    /// Whether every level is at least the minimum's.
    #[inline]
    pub fn reach(&self, minimum: Self) -> bool {
        ((self.0 | ATTRIBUTE_GUARDS) - minimum.0) & ATTRIBUTE_GUARDS == ATTRIBUTE_GUARDS
    }

    #[inline]
    fn from_bits(word: &'static str, value: &U256, offset: usize) -> Result<Self, WordError> {
        let packed = take(value, offset, 40);
        if packed & ATTRIBUTE_GUARDS != 0 {
            return Err(WordError::ReservedBits { word, value: *value });
        }
        Ok(Self(packed))
    }
}

/// Where an order's workload may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// On a provider's own machines.
    #[default]
    Provider,
    /// On a fizz node.
    Fizz,
}

/// A set of trust tiers, 1 (best) to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TierSet(u8);

impl TierSet {
    /// Every tier from 1 to 7.
    pub const ANY: Self = Self(0xfe);

    /// # Errors
    /// When a tier is outside 1 to 7, or none is given.
    pub fn from_tiers(tiers: impl IntoIterator<Item = u8>) -> Result<Self, WordError> {
        let mut set = 0;
        for tier in tiers {
            if tier == 0 || tier > TIER_MAXIMUM {
                return Err(Self::out_of_range("tier", tier.into(), 1, TIER_MAXIMUM.into()));
            }
            set |= 1 << tier;
        }
        Self::from_bits(set)
    }

    /// # Errors
    /// When the bitmap is empty or its lowest bit (tier 0) is set.
    pub fn from_bits(bits: u8) -> Result<Self, WordError> {
        if bits == 0 || bits & 1 != 0 {
            return Err(Self::out_of_range("tiers", bits.into(), 2, 0xfe));
        }
        Ok(Self(bits))
    }

    pub fn bits(&self) -> u8 {
        self.0
    }

    /// Whether the tier is in the set; tier 0 (none yet) is in none.
    #[inline]
    pub fn contains(&self, tier: u8) -> bool {
        tier <= TIER_MAXIMUM && self.0 >> tier & 1 == 1
    }

    fn out_of_range(field: &'static str, value: u128, minimum: u128, maximum: u128) -> WordError {
        WordError::OutOfRange {
            word: REQUIREMENTS,
            field,
            value,
            minimum,
            maximum,
        }
    }
}

impl Default for TierSet {
    fn default() -> Self {
        Self::ANY
    }
}

/// What an order demands of a supplier, besides capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Requirements {
    pub mode: Mode,
    pub tiers: TierSet,
    /// Region id the order would rather have, zero for none.
    pub preferred_region: u8,
    /// Zone of that region, zero for any.
    pub preferred_zone: u8,
    /// Compliance flags that must all be there.
    pub compliance: u16,
    /// Minimum level of each attribute.
    pub attributes: Attributes,
    /// Version of the matching parameters that rank the order's bids.
    pub params_version: u16,
}

impl Requirements {
    pub fn pack(&self) -> Result<U256, WordError> {
        let mode: u8 = match self.mode {
            Mode::Provider => 0,
            Mode::Fizz => 1,
        };
        Ok(Packer::new(REQUIREMENTS)
            .put("mode", 0, 8, mode)?
            .put("tiers", 8, 8, self.tiers.bits())?
            .put("preferred region", 16, 8, self.preferred_region)?
            .put("preferred zone", 24, 8, self.preferred_zone)?
            .put("compliance", 32, 16, self.compliance)?
            .put("attributes", 48, 40, self.attributes.packed())?
            .put("parameters version", 88, 16, self.params_version)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set, the mode is unknown or the tiers are not a set of 1 to 7.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(REQUIREMENTS, &word, 104)?;
        let mode = match take(&word, 0, 8) {
            0 => Mode::Provider,
            1 => Mode::Fizz,
            unknown => {
                return Err(WordError::OutOfRange {
                    word: REQUIREMENTS,
                    field: "mode",
                    value: unknown.into(),
                    minimum: 0,
                    maximum: 1,
                });
            }
        };
        Ok(Self {
            mode,
            tiers: TierSet::from_bits(take(&word, 8, 8) as u8)?,
            preferred_region: take(&word, 16, 8) as u8,
            preferred_zone: take(&word, 24, 8) as u8,
            compliance: take(&word, 32, 16) as u16,
            attributes: Attributes::from_bits(REQUIREMENTS, &word, 48)?,
            params_version: take(&word, 88, 16) as u16,
        })
    }
}

/// What the market knows of a provider, as it stood when a bid was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ScoreCard {
    /// Whole SPON; at most 48 bits.
    pub stake: u64,
    pub slashes: u16,
    pub feedback_count: u32,
    /// Sum of all ratings, 0 to 10 each; at most 40 bits.
    pub feedback_sum: u64,
    /// Region id, zero when none is set.
    pub region: u8,
    pub zone: u8,
    /// Trust tier: 1 (best) to 7, zero for none yet.
    pub tier: u8,
    pub attributes: Attributes,
    /// Bitmap of accepted payment token ids.
    pub tokens: u32,
    pub compliance: u16,
    pub active: bool,
}

impl ScoreCard {
    /// # Errors
    /// When a field does not fit its width.
    pub fn pack(&self) -> Result<U256, WordError> {
        Ok(Packer::new(SCORE_CARD)
            .put("stake", 0, 48, self.stake)?
            .put("slashes", 48, 16, self.slashes)?
            .put("feedback count", 64, 32, self.feedback_count)?
            .put("feedback sum", 96, 40, self.feedback_sum)?
            .put("region", 136, 8, self.region)?
            .put("zone", 144, 8, self.zone)?
            .put("tier", 152, 3, self.tier)?
            .put("attributes", 155, 40, self.attributes.packed())?
            .put("tokens", 195, 32, self.tokens)?
            .put("compliance", 227, 16, self.compliance)?
            .put("active", 243, 1, self.active)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    #[inline]
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(SCORE_CARD, &word, 244)?;
        Ok(Self {
            stake: take(&word, 0, 48),
            slashes: take(&word, 48, 16) as u16,
            feedback_count: take(&word, 64, 32) as u32,
            feedback_sum: take(&word, 96, 40),
            region: take(&word, 136, 8) as u8,
            zone: take(&word, 144, 8) as u8,
            tier: take(&word, 152, 3) as u8,
            attributes: Attributes::from_bits(SCORE_CARD, &word, 155)?,
            tokens: take(&word, 195, 32) as u32,
            compliance: take(&word, 227, 16) as u16,
            active: take(&word, 243, 1) == 1,
        })
    }

    /// Whether the provider takes payment in the token.
    #[inline]
    pub fn accepts_token(&self, token: u8) -> bool {
        token < 32 && self.tokens >> token & 1 == 1
    }
}
