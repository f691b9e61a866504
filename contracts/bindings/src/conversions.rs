//! The one place where on-chain structs become the types of `avs` and back.

use alloy::primitives::aliases::U96;
use avs::{
    matching::{Parameters, ParametersError},
    terms::{Terms, TermsError},
    words::{PackedBid, RATE_MAXIMUM},
};

use crate::{IOrderBook::BidPlaced, MatchingParameters, OrderTerms};

impl From<OrderTerms> for Terms {
    fn from(terms: OrderTerms) -> Self {
        Self {
            resources: terms.resources,
            requirements: terms.requirements,
            regions: terms.regions,
            manifest_hash: terms.manifestHash,
            maximum_rate: terms.maximumRate.to::<u128>(),
            duration: terms.duration,
            wanted_suppliers: terms.wantedSuppliers,
            excluded_suppliers: terms.excludedSuppliers,
        }
    }
}

/// Fails on a maximum rate wider than the contracts' field; everything else is for the contracts to judge.
impl TryFrom<&Terms> for OrderTerms {
    type Error = TermsError;

    fn try_from(terms: &Terms) -> Result<Self, TermsError> {
        let rate = terms.maximum_rate;
        if rate > RATE_MAXIMUM {
            return Err(TermsError::MaximumRate { rate });
        }
        Ok(Self {
            resources: terms.resources,
            requirements: terms.requirements,
            regions: terms.regions,
            manifestHash: terms.manifest_hash,
            maximumRate: U96::from(rate),
            duration: terms.duration,
            wantedSuppliers: terms.wanted_suppliers.clone(),
            excludedSuppliers: terms.excluded_suppliers.clone(),
        })
    }
}

/// The rule contract that runs these parameters on chain stays behind: [`MatchingParameters::rule`].
impl TryFrom<&MatchingParameters> for Parameters {
    type Error = ParametersError;

    fn try_from(parameters: &MatchingParameters) -> Result<Self, ParametersError> {
        let MatchingParameters {
            weights,
            stakeCap,
            rankLimit,
            chunkSize,
            rule: _,
        } = parameters;
        Self::new(*weights, stakeCap.to::<u64>(), *rankLimit, *chunkSize)
    }
}

impl From<&BidPlaced> for PackedBid {
    fn from(bid: &BidPlaced) -> Self {
        Self {
            offer: bid.offer,
            score_card: bid.scoreCard,
            capacity: bid.capacity,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, U256, aliases::U48};

    use super::*;

    #[test]
    fn terms_survive_the_way_to_the_chain_and_back() {
        let terms = Terms {
            resources: U256::from(7),
            requirements: U256::from(8),
            regions: U256::MAX,
            manifest_hash: B256::repeat_byte(9),
            maximum_rate: RATE_MAXIMUM,
            duration: 3_600,
            wanted_suppliers: vec![1, 2],
            excluded_suppliers: vec![3],
        };
        let on_chain = OrderTerms::try_from(&terms).expect("fits");
        assert_eq!(Terms::from(on_chain), terms);
        let too_dear = Terms {
            maximum_rate: RATE_MAXIMUM + 1,
            ..terms
        };
        assert_eq!(
            OrderTerms::try_from(&too_dear),
            Err(TermsError::MaximumRate { rate: RATE_MAXIMUM + 1 })
        );
    }

    #[test]
    fn parameters_are_checked_on_their_way_in() {
        let known = Parameters::default();
        let mut on_chain = MatchingParameters {
            weights: *known.weights(),
            stakeCap: U48::from(known.stake_cap()),
            rankLimit: known.rank_limit(),
            chunkSize: known.chunk_size(),
            rule: Address::repeat_byte(1),
        };
        assert_eq!(Parameters::try_from(&on_chain), Ok(known));
        on_chain.chunkSize = 0;
        assert_eq!(Parameters::try_from(&on_chain), Err(ParametersError::ChunkSize));
    }
}
