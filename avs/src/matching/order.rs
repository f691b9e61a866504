use alloy_primitives::U256;

use super::{
    Parameters, Scores,
    score::{Headroom, Proportion, SCORE_MAXIMUM},
};
use crate::{
    terms::{Terms, TermsError},
    words::{Bid, Capacity, Mode, OrderId, Requirements, Resources, ScoreCard, WordError},
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
    regions: U256,
    token: u8,
    maximum_rate: u128,
    wanted_suppliers: &'a [u32],
    excluded_suppliers: &'a [u32],
    price: Proportion,
    stake: Proportion,
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
    #[error("{free} units of CPU are free, {asked} are asked for")]
    Cpu { free: u32, asked: u32 },
    #[error("{free} units of memory are free, {asked} are asked for")]
    Memory { free: u32, asked: u32 },
    #[error("{free} units of storage are free, {asked} are asked for")]
    Storage { free: u32, asked: u32 },
    #[error("no acceptable GPU model has {asked} free")]
    Gpu { asked: u16 },
}

impl<'a> Order<'a> {
    /// # Errors
    /// When the terms are malformed; such an order has no valid bid.
    pub fn new(parameters: &'a Parameters, order_id: u64, terms: &'a Terms) -> Result<Self, TermsError> {
        let (resources, requirements) = terms.unpack()?;
        Ok(Self {
            parameters,
            resources,
            requirements,
            regions: terms.regions,
            token: OrderId::unpack(order_id).token,
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

    /// Whether the bid is valid, and the index of the capacity word's GPU entry that would serve the order.
    ///
    /// # Errors
    /// The first reason why it is not.
    #[inline]
    pub fn accept(&self, bid: &Bid) -> Result<u8, Rejection> {
        let Bid {
            offer,
            score_card,
            capacity,
        } = bid;
        if !score_card.active {
            return Err(Rejection::ProviderInactive);
        }
        if !capacity.active {
            return Err(Rejection::CapacityInactive);
        }
        if offer.rate == 0 {
            return Err(Rejection::RateZero);
        }
        if offer.rate > self.maximum_rate {
            return Err(Rejection::RateAboveMaximum {
                rate: offer.rate,
                maximum: self.maximum_rate,
            });
        }
        if (self.requirements.mode == Mode::Fizz) != (offer.fizz != 0) {
            return Err(Rejection::Mode {
                wanted: self.requirements.mode,
            });
        }
        self.accept_provider(score_card)?;
        self.accept_supplier(offer.provider, offer.fizz)?;
        self.accept_capacity(capacity)
    }

    #[inline]
    fn accept_provider(&self, card: &ScoreCard) -> Result<(), Rejection> {
        if !card.accepts_token(self.token) {
            return Err(Rejection::Token { token: self.token });
        }
        // A provider without a region fits only orders that take any.
        let region_fits = self.regions == U256::MAX || (card.region != 0 && self.regions.bit(card.region.into()));
        if !region_fits {
            return Err(Rejection::Region { region: card.region });
        }
        if !self.requirements.tiers.contains(card.tier) {
            return Err(Rejection::Tier { tier: card.tier });
        }
        if !card.attributes.reach(self.requirements.attributes) {
            let minimum = self.requirements.attributes.levels();
            return Err(Rejection::Attributes {
                levels: card.attributes.levels(),
                minimum,
            });
        }
        let missing = self.requirements.compliance & !card.compliance;
        if missing != 0 {
            return Err(Rejection::Compliance { missing });
        }
        Ok(())
    }

    #[inline]
    fn accept_supplier(&self, provider: u32, fizz: u32) -> Result<(), Rejection> {
        let supplier = if fizz == 0 { provider } else { fizz };
        if !self.wanted_suppliers.is_empty() && self.wanted_suppliers.binary_search(&supplier).is_err() {
            return Err(Rejection::NotWanted { supplier });
        }
        // Excluding a provider excludes its fizz nodes; fizz 0 is nobody, whatever the list says.
        for id in [provider, supplier] {
            if !self.excluded_suppliers.is_empty() && self.excluded_suppliers.binary_search(&id).is_ok() {
                return Err(Rejection::Excluded { supplier: id });
            }
        }
        Ok(())
    }

    #[inline]
    fn accept_capacity(&self, capacity: &Capacity) -> Result<u8, Rejection> {
        let asked = &self.resources;
        if capacity.cpu_free < asked.cpu {
            return Err(Rejection::Cpu {
                free: capacity.cpu_free,
                asked: asked.cpu,
            });
        }
        if capacity.memory_free < asked.memory {
            return Err(Rejection::Memory {
                free: capacity.memory_free,
                asked: asked.memory,
            });
        }
        if capacity.storage_free < asked.storage {
            return Err(Rejection::Storage {
                free: capacity.storage_free,
                asked: asked.storage,
            });
        }
        capacity
            .gpu_entry_for(asked.gpu_count, &asked.gpus)
            .ok_or(Rejection::Gpu { asked: asked.gpu_count })
    }

    /// Scores of a bid that [`Order::accept`] found valid. `draw` is 0 to 1 000 000.
    #[inline]
    pub(super) fn scores(&self, bid: &Bid, gpu_entry: u8, draw: u32) -> Scores {
        let card = &bid.score_card;
        Scores {
            price: self.price.score(self.maximum_rate - bid.offer.rate),
            region: self.region_score(card),
            feedback: feedback_score(card),
            availability: self.availability_score(&bid.capacity, gpu_entry),
            slashes: SCORE_MAXIMUM / (1 + u32::from(card.slashes)),
            tier: (8 - u32::from(card.tier)) * SCORE_MAXIMUM / 7,
            stake: self.stake.score(card.stake.min(self.parameters.stake_cap()).into()),
            randomness: draw,
        }
    }

    #[inline]
    fn region_score(&self, card: &ScoreCard) -> u32 {
        let Requirements {
            preferred_region,
            preferred_zone,
            ..
        } = self.requirements;
        if preferred_region == 0 {
            SCORE_MAXIMUM
        } else if card.region != preferred_region {
            0
        } else if preferred_zone == 0 || card.zone == preferred_zone {
            SCORE_MAXIMUM
        } else {
            HALF
        }
    }

    #[inline]
    fn availability_score(&self, capacity: &Capacity, gpu_entry: u8) -> u32 {
        let asked = &self.resources;
        let cpu = Headroom::new(capacity.cpu_free, asked.cpu, capacity.cpu_total);
        let memory = Headroom::new(capacity.memory_free, asked.memory, capacity.memory_total);
        let mut smallest = cpu.smaller(memory);
        if asked.storage > 0 {
            smallest = smallest.smaller(Headroom::new(
                capacity.storage_free,
                asked.storage,
                capacity.storage_total,
            ));
        }
        if asked.gpu_count > 0 {
            let entry = capacity.gpus[usize::from(gpu_entry)];
            let gpu = Headroom::new(entry.free.into(), asked.gpu_count.into(), entry.total.into());
            smallest = smallest.smaller(gpu);
        }
        smallest.score()
    }
}

/// The mean rating, at most 10, as a score; the midpoint where nobody rated.
#[inline]
fn feedback_score(card: &ScoreCard) -> u32 {
    if card.feedback_count == 0 {
        return HALF;
    }
    let score = card.feedback_sum * SCORE_PER_RATING / u64::from(card.feedback_count);
    score.min(SCORE_MAXIMUM.into()) as u32
}
