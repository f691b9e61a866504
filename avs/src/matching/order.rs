use alloy_primitives::U256;

use super::{
    Parameters, Scores,
    score::{Headroom, Proportion, SCORE_MAXIMUM},
};
use crate::{
    terms::{Terms, TermsError},
    words::{Attributes, GpuEntry, Mode, OrderId, PackedBid, Requirements, Resources, ScoreCardFilter, WordError},
};

/// Score of the right region without the exact zone, and of a provider that nobody rated.
const HALF: u32 = SCORE_MAXIMUM / 2;
/// Ratings run from 0 to 10: this much of a score each.
const SCORE_PER_RATING: u64 = 100_000;

/// An order, unpacked and prepared for scoring many bids.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    parameters: &'a Parameters,
    resources: Resources,
    requirements: Requirements,
    /// Bitmap by region id.
    regions: U256,
    any_region: bool,
    card_filter: ScoreCardFilter,
    token: u8,
    maximum_rate: u128,
    wanted_suppliers: &'a [u32],
    excluded_suppliers: &'a [u32],
    price: Proportion,
    stake: Proportion,
}

/// The GPU entry that serves an order; all zero when it asks for none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ServingGpus {
    pub(super) index: u8,
    free_and_total: (u32, u32),
}

/// Why a bid is not valid: the first of these that holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the bid holds a malformed word")]
    Malformed(#[from] WordError),
    #[error("the provider was not active")]
    ProviderInactive,
    #[error("the supplier's capacity was switched off")]
    CapacityInactive,
    #[error("the rate is zero")]
    RateZero,
    #[error("the rate {rate} is above the maximum {maximum}")]
    RateAboveMaximum { rate: u128, maximum: u128 },
    #[error("the order asks for {wanted:?} mode")]
    Mode { wanted: Mode },
    #[error("the provider does not accept payment token {token}")]
    Token { token: u8 },
    #[error("region {region} is not acceptable")]
    Region { region: u8 },
    #[error("trust tier {tier} is not acceptable")]
    Tier { tier: u8 },
    #[error("attribute levels {levels:?} are below the minimum {minimum:?}")]
    Attributes { levels: [u8; 8], minimum: [u8; 8] },
    #[error("compliance flags {missing:#06x} are missing")]
    Compliance { missing: u16 },
    #[error("supplier {supplier} is not among those wanted")]
    NotWanted { supplier: u32 },
    #[error("supplier {supplier} is excluded")]
    Excluded { supplier: u32 },
    #[error("{free} of {total} units of CPU are free, {asked} are asked for")]
    Cpu { free: u32, total: u32, asked: u32 },
    #[error("{free} of {total} units of memory are free, {asked} are asked for")]
    Memory { free: u32, total: u32, asked: u32 },
    #[error("{free} of {total} units of storage are free, {asked} are asked for")]
    Storage { free: u32, total: u32, asked: u32 },
    #[error("no acceptable GPU model has {asked} free")]
    Gpu { asked: u16 },
}

impl<'a> Order<'a> {
    /// # Errors
    /// When the terms are malformed; such an order has no valid bid.
    pub fn new(parameters: &'a Parameters, order_id: u64, terms: &'a Terms) -> Result<Self, TermsError> {
        let (resources, requirements) = terms.unpack()?;
        let token = OrderId::unpack(order_id).token;
        Ok(Self {
            parameters,
            resources,
            requirements,
            regions: terms.regions,
            any_region: terms.regions == U256::MAX,
            card_filter: ScoreCardFilter::new(token, &requirements),
            token,
            maximum_rate: terms.maximum_rate,
            wanted_suppliers: &terms.wanted_suppliers,
            excluded_suppliers: &terms.excluded_suppliers,
            price: Proportion::of(terms.maximum_rate),
            stake: Proportion::of(parameters.stake_cap().into()),
        })
    }

    pub fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    /// Whether the bid is valid, and the capacity word's GPU entry that would serve the order.
    ///
    /// # Errors
    /// The first reason why it is not.
    #[inline(always)]
    pub(super) fn accept(&self, bid: &PackedBid) -> Result<ServingGpus, Rejection> {
        // Most bids pass, and for those one comparison stands for many; the others are told why not.
        if !self.passes(bid) {
            self.check_each(bid)?;
        }
        self.accept_supplier(bid)?;
        self.accept_capacity(bid)
    }

    /// The same as [`Self::check_each`], in a few comparisons.
    #[inline(always)]
    fn passes(&self, bid: &PackedBid) -> bool {
        let (rate, (region, _)) = (bid.rate(), bid.region());
        self.card_filter.passes(&bid.score_card)
            & bid.is_offer_with_active_capacity()
            & (rate > 0)
            & (rate <= self.maximum_rate)
            & ((self.requirements.mode == Mode::Fizz) == (bid.fizz() != 0))
            & self.requirements.tiers.contains(bid.tier())
            & (self.any_region || (region != 0 && self.regions.bit(region.into())))
    }

    #[cold]
    #[inline(never)]
    fn check_each(&self, bid: &PackedBid) -> Result<(), Rejection> {
        let levels = bid.checked_attributes()?;
        self.accept_offer(bid)?;
        self.accept_provider(bid, levels)
    }

    fn accept_offer(&self, bid: &PackedBid) -> Result<(), Rejection> {
        let (provider_active, capacity_active) = bid.active();
        if !provider_active {
            return Err(Rejection::ProviderInactive);
        }
        if !capacity_active {
            return Err(Rejection::CapacityInactive);
        }
        let rate = bid.rate();
        if rate == 0 {
            return Err(Rejection::RateZero);
        }
        if rate > self.maximum_rate {
            return Err(Rejection::RateAboveMaximum {
                rate,
                maximum: self.maximum_rate,
            });
        }
        if (self.requirements.mode == Mode::Fizz) != (bid.fizz() != 0) {
            return Err(Rejection::Mode {
                wanted: self.requirements.mode,
            });
        }
        Ok(())
    }

    fn accept_provider(&self, bid: &PackedBid, levels: Attributes) -> Result<(), Rejection> {
        if !bid.accepts_token(self.token) {
            return Err(Rejection::Token { token: self.token });
        }
        // A provider without a region fits only orders that take any.
        let (region, _) = bid.region();
        if !self.any_region && (region == 0 || !self.regions.bit(region.into())) {
            return Err(Rejection::Region { region });
        }
        let tier = bid.tier();
        if !self.requirements.tiers.contains(tier) {
            return Err(Rejection::Tier { tier });
        }
        let minimum = self.requirements.attributes;
        if !levels.reach(minimum) {
            return Err(Rejection::Attributes {
                levels: levels.levels(),
                minimum: minimum.levels(),
            });
        }
        let missing = self.requirements.compliance & !bid.compliance();
        if missing != 0 {
            return Err(Rejection::Compliance { missing });
        }
        Ok(())
    }

    #[inline(always)]
    fn accept_supplier(&self, bid: &PackedBid) -> Result<(), Rejection> {
        if self.wanted_suppliers.is_empty() && self.excluded_suppliers.is_empty() {
            return Ok(());
        }
        self.accept_listed(bid.provider(), bid.fizz())
    }

    fn accept_listed(&self, provider: u32, fizz: u32) -> Result<(), Rejection> {
        let supplier = if fizz == 0 { provider } else { fizz };
        if !self.wanted_suppliers.is_empty() && self.wanted_suppliers.binary_search(&supplier).is_err() {
            return Err(Rejection::NotWanted { supplier });
        }
        // Excluding a provider excludes its fizz nodes; fizz 0 is nobody, whatever the list says.
        match [provider, supplier]
            .into_iter()
            .find(|id| self.excluded_suppliers.binary_search(id).is_ok())
        {
            Some(supplier) => Err(Rejection::Excluded { supplier }),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn accept_capacity(&self, bid: &PackedBid) -> Result<ServingGpus, Rejection> {
        let asked = &self.resources;
        let (free, total) = bid.cpu();
        if free < asked.cpu || free > total {
            return Err(Rejection::Cpu {
                free,
                total,
                asked: asked.cpu,
            });
        }
        let (free, total) = bid.memory();
        if free < asked.memory || free > total {
            return Err(Rejection::Memory {
                free,
                total,
                asked: asked.memory,
            });
        }
        let (free, total) = bid.storage();
        if asked.storage > 0 && (free < asked.storage || free > total) {
            return Err(Rejection::Storage {
                free,
                total,
                asked: asked.storage,
            });
        }
        if asked.gpu_count == 0 {
            return Ok(ServingGpus::default());
        }
        match bid.gpu_entry_for(asked.gpu_count, &asked.gpus) {
            Some((index, GpuEntry { free, total, .. })) => Ok(ServingGpus {
                index,
                free_and_total: (free.into(), total.into()),
            }),
            None => Err(Rejection::Gpu { asked: asked.gpu_count }),
        }
    }

    /// Scores of a bid that [`Order::accept`] found valid. `draw` is 0 to 1 000 000.
    #[inline(always)]
    pub(super) fn scores(&self, bid: &PackedBid, gpus: ServingGpus, draw: u32) -> Scores {
        Scores {
            price: self.price.score(self.maximum_rate - bid.rate()),
            region: self.region_score(bid.region()),
            feedback: feedback_score(bid.feedback()),
            availability: self.availability_score(bid, gpus),
            slashes: SCORE_MAXIMUM / (1 + bid.slashes()),
            tier: (8 - u32::from(bid.tier())) * SCORE_MAXIMUM / 7,
            stake: self.stake.score(bid.stake().min(self.parameters.stake_cap()).into()),
            randomness: draw,
        }
    }

    #[inline(always)]
    fn region_score(&self, (region, zone): (u8, u8)) -> u32 {
        let Requirements {
            preferred_region,
            preferred_zone,
            ..
        } = self.requirements;
        if preferred_region == 0 {
            SCORE_MAXIMUM
        } else if region != preferred_region {
            0
        } else if preferred_zone == 0 || zone == preferred_zone {
            SCORE_MAXIMUM
        } else {
            HALF
        }
    }

    #[inline(always)]
    fn availability_score(&self, bid: &PackedBid, gpus: ServingGpus) -> u32 {
        let asked = &self.resources;
        let mut smallest = Headroom::new(bid.cpu(), asked.cpu).smaller(Headroom::new(bid.memory(), asked.memory));
        if asked.storage > 0 {
            smallest = smallest.smaller(Headroom::new(bid.storage(), asked.storage));
        }
        if asked.gpu_count > 0 {
            smallest = smallest.smaller(Headroom::new(gpus.free_and_total, asked.gpu_count.into()));
        }
        smallest.score()
    }
}

/// The mean rating, at most 10, as a score; the midpoint where nobody rated.
#[inline(always)]
fn feedback_score((sum, count): (u64, u64)) -> u32 {
    if count == 0 {
        return HALF;
    }
    (sum * SCORE_PER_RATING / count).min(SCORE_MAXIMUM.into()) as u32
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use proptest::prelude::*;

    use super::*;
    use crate::words::{Bid, Capacity, GpuSet, Offer, ScoreCard, TierSet};

    proptest! {
        /// A valid bid with any one bit turned over, for any token: the few comparisons agree with each check.
        #[test]
        fn the_quick_filter_says_what_every_check_says(
            flip in 0usize..768,
            token: u8,
            fizz in 0u32..2,
            mode in prop_oneof![Just(Mode::Provider), Just(Mode::Fizz)],
            regions in prop_oneof![Just(U256::MAX), Just(U256::from(1u64 << 9))],
        ) {
            let requirements = Requirements {
                mode,
                tiers: TierSet::from_tiers([2, 3]).unwrap(),
                compliance: 5,
                attributes: Attributes::from_levels([1, 2, 3, 0, 15, 8, 7, 4]).unwrap(),
                ..Requirements::default()
            };
            let resources = Resources { storage: 0, memory: 1, cpu: 1, gpu_count: 0, gpus: GpuSet::default() };
            let terms = Terms {
                resources: resources.pack().unwrap(),
                requirements: requirements.pack().unwrap(),
                regions,
                manifest_hash: B256::ZERO,
                maximum_rate: 1 << 70,
                duration: 1,
                wanted_suppliers: Vec::new(),
                excluded_suppliers: Vec::new(),
            };
            let card = ScoreCard {
                region: 9,
                tier: 2,
                attributes: Attributes::from_levels([1, 3, 3, 0, 15, 8, 8, 4]).unwrap(),
                tokens: 0x0f0f_0f0f,
                compliance: 7,
                active: true,
                ..ScoreCard::default()
            };
            let offer = Offer { block: 1, rate: 1 << 70, fizz, provider: 2 };
            let capacity = Capacity { active: true, ..Capacity::default() };
            let mut bid = Bid { offer, score_card: card, capacity }.pack().unwrap();
            let words = [&mut bid.offer, &mut bid.score_card, &mut bid.capacity];
            *words.into_iter().nth(flip / 256).unwrap() ^= U256::from(1) << (flip % 256);
            let parameters = Parameters::default();
            let order = Order::new(&parameters, u64::from(token) << 24, &terms).unwrap();
            prop_assert_eq!(order.passes(&bid), order.check_each(&bid).is_ok(), "{:?}", order.check_each(&bid));
        }
    }
}
