use alloy_primitives::U256;

use super::{
    ATTRIBUTE_LEVEL_MAXIMUM, TIER_MAXIMUM, WordError,
    bits::{Field, Packer, check_unused_above},
};

const REQUIREMENTS: &str = "requirement word";
const MODE: Field = Field::new("mode", 0, 8);
const TIERS: Field = Field::new("tiers", 8, 8);
const PREFERRED_REGION: Field = Field::new("preferred region", 16, 8);
const PREFERRED_ZONE: Field = Field::new("preferred zone", 24, 8);
const REQUIRED_COMPLIANCE: Field = Field::new("compliance", 32, 16);
const MINIMUM_ATTRIBUTES: Field = Field::new("attributes", 48, 40);
const PARAMS_VERSION: Field = Field::new("parameters version", 88, 16);

const SCORE_CARD: &str = "score card word";
pub(super) const STAKE: Field = Field::new("stake", 0, 48);
pub(super) const SLASHES: Field = Field::new("slashes", 48, 16);
pub(super) const FEEDBACK_COUNT: Field = Field::new("feedback count", 64, 32);
pub(super) const FEEDBACK_SUM: Field = Field::new("feedback sum", 96, 40);
pub(super) const REGION: Field = Field::new("region", 136, 8);
pub(super) const ZONE: Field = Field::new("zone", 144, 8);
pub(super) const TIER: Field = Field::new("tier", 152, 3);
const ATTRIBUTES: Field = Field::new("attributes", 155, 40);
pub(super) const TOKENS: Field = Field::new("tokens", 195, 32);
pub(super) const COMPLIANCE: Field = Field::new("compliance", 227, 16);
pub(super) const ACTIVE: Field = Field::new("active", 243, 1);
/// First bit above all fields of the score card.
const FIELDS_END: usize = 244;

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

    #[inline(always)]
    fn of(value: &U256, word: &'static str, field: Field) -> Result<Self, WordError> {
        let packed = field.of(value);
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
    /// The version named by a requirement word, well formed or not.
    pub(crate) fn params_version_of(word: &U256) -> u16 {
        PARAMS_VERSION.of(word) as u16
    }

    pub fn pack(&self) -> Result<U256, WordError> {
        let mode: u8 = match self.mode {
            Mode::Provider => 0,
            Mode::Fizz => 1,
        };
        Ok(Packer::new(REQUIREMENTS)
            .put(MODE, mode)?
            .put(TIERS, self.tiers.bits())?
            .put(PREFERRED_REGION, self.preferred_region)?
            .put(PREFERRED_ZONE, self.preferred_zone)?
            .put(REQUIRED_COMPLIANCE, self.compliance)?
            .put(MINIMUM_ATTRIBUTES, self.attributes.packed())?
            .put(PARAMS_VERSION, self.params_version)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set, the mode is unknown or the tiers are not a set of 1 to 7.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(REQUIREMENTS, &word, 104)?;
        let mode = match MODE.of(&word) {
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
            tiers: TierSet::from_bits(TIERS.of(&word) as u8)?,
            preferred_region: PREFERRED_REGION.of(&word) as u8,
            preferred_zone: PREFERRED_ZONE.of(&word) as u8,
            compliance: REQUIRED_COMPLIANCE.of(&word) as u16,
            attributes: Attributes::of(&word, REQUIREMENTS, MINIMUM_ATTRIBUTES)?,
            params_version: PARAMS_VERSION.of(&word) as u16,
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
            .put(STAKE, self.stake)?
            .put(SLASHES, self.slashes)?
            .put(FEEDBACK_COUNT, self.feedback_count)?
            .put(FEEDBACK_SUM, self.feedback_sum)?
            .put(REGION, self.region)?
            .put(ZONE, self.zone)?
            .put(TIER, self.tier)?
            .put(ATTRIBUTES, self.attributes.packed())?
            .put(TOKENS, self.tokens)?
            .put(COMPLIANCE, self.compliance)?
            .put(ACTIVE, self.active)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        Self::check_bits(&word)?;
        Ok(Self {
            stake: STAKE.of(&word),
            slashes: SLASHES.of(&word) as u16,
            feedback_count: FEEDBACK_COUNT.of(&word) as u32,
            feedback_sum: FEEDBACK_SUM.of(&word),
            region: REGION.of(&word) as u8,
            zone: ZONE.of(&word) as u8,
            tier: TIER.of(&word) as u8,
            attributes: Self::attributes_of(&word)?,
            tokens: TOKENS.of(&word) as u32,
            compliance: COMPLIANCE.of(&word) as u16,
            active: ACTIVE.of(&word) == 1,
        })
    }

    #[inline(always)]
    pub(super) fn check_bits(word: &U256) -> Result<(), WordError> {
        check_unused_above(SCORE_CARD, word, FIELDS_END)
    }

    #[inline(always)]
    pub(super) fn attributes_of(word: &U256) -> Result<Attributes, WordError> {
        Attributes::of(word, SCORE_CARD, ATTRIBUTES)
    }
}

/// What most score cards that pass a filter have in common, compared 64 bits at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScoreCardFilter {
    /// Of the highest 64 bits: those that matter, and what they must be. Active, token, compliance, nothing reserved.
    relevant: u64,
    required: u64,
    minimum: Attributes,
}

impl ScoreCardFilter {
    pub(crate) fn new(token: u8, requirements: &Requirements) -> Self {
        const HIGHEST: usize = 3;
        const RESERVED: u64 = !0 << (FIELDS_END % 64);
        let Some(token) = 1u64.checked_shl(token.into()).filter(|bit| *bit <= u64::from(u32::MAX)) else {
            // No card accepts a token that cannot exist: nothing equals this.
            return Self {
                relevant: 0,
                required: 1,
                minimum: requirements.attributes,
            };
        };
        let required = ACTIVE.placed_in(HIGHEST, 1)
            | TOKENS.placed_in(HIGHEST, token)
            | COMPLIANCE.placed_in(HIGHEST, requirements.compliance.into());
        Self {
            relevant: required | RESERVED,
            required,
            minimum: requirements.attributes,
        }
    }

    /// Whether a card is well formed and active, accepts the token, complies, and reaches the attribute minimums.
    #[inline(always)]
    pub(crate) fn passes(&self, card: &U256) -> bool {
        let levels = ATTRIBUTES.of(card);
        (card.as_limbs()[3] & self.relevant == self.required)
            & (levels & ATTRIBUTE_GUARDS == 0)
            & Attributes(levels).reach(self.minimum)
    }
}
