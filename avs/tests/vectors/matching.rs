use alloy_primitives::{B256, U256};
use avs::{
    digest::BidsDigest,
    draw,
    matching::{self, ExplainedBid, Order, Parameters, Rejection, Verdict},
    task::{self, TaskOrder},
    terms::Terms,
    words::PackedBid,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    chain_id: u64,
    order_id: u64,
    close_block: u32,
    close_block_hash: B256,
    parameters: ParametersVector,
    terms: TermsVector,
    bids: Vec<[U256; 3]>,
    rest_hash: B256,
    terms_hash: B256,
    digest_seed: B256,
    digest: B256,
    draw_seed: B256,
    malformed_terms: bool,
    verdicts: Vec<VerdictVector>,
    matches: Vec<U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParametersVector {
    weights: [u32; 8],
    stake_cap: u64,
    rank_limit: u8,
    chunk_size: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TermsVector {
    resources: U256,
    requirements: U256,
    regions: U256,
    manifest_hash: B256,
    maximum_rate: U256,
    duration: u32,
    wanted: Vec<u32>,
    excluded: Vec<u32>,
}

/// One of: superseded, rejected, or ranked with all the rest.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct VerdictVector {
    superseded: bool,
    rejected: Option<String>,
    scores: Option<[u32; 8]>,
    total: Option<u64>,
    rank: Option<usize>,
    gpu_entry: Option<u8>,
}

impl Vector {
    fn terms(&self) -> Terms {
        let terms = &self.terms;
        Terms {
            resources: terms.resources,
            requirements: terms.requirements,
            regions: terms.regions,
            manifest_hash: terms.manifest_hash,
            maximum_rate: terms.maximum_rate.to(),
            duration: terms.duration,
            wanted_suppliers: terms.wanted.clone(),
            excluded_suppliers: terms.excluded.clone(),
        }
    }

    fn parameters(&self) -> Parameters {
        let ParametersVector {
            weights,
            stake_cap,
            rank_limit,
            chunk_size,
        } = self.parameters;
        Parameters::new(weights, stake_cap, rank_limit, chunk_size).unwrap()
    }

    fn bids(&self) -> Vec<PackedBid> {
        self.bids
            .iter()
            .map(|[offer, score_card, capacity]| PackedBid {
                offer: *offer,
                score_card: *score_card,
                capacity: *capacity,
            })
            .collect()
    }
}

impl From<&ExplainedBid> for VerdictVector {
    fn from(bid: &ExplainedBid) -> Self {
        match &bid.verdict {
            Verdict::Superseded => Self {
                superseded: true,
                ..Self::default()
            },
            Verdict::Rejected(reason) => Self {
                rejected: Some(name(reason).to_owned()),
                ..Self::default()
            },
            Verdict::Ranked {
                rank,
                scores,
                total,
                gpu_entry,
            } => Self {
                scores: Some(scores.terms()),
                total: Some(*total),
                rank: Some(*rank),
                gpu_entry: Some(*gpu_entry),
                ..Self::default()
            },
        }
    }
}

fn name(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Malformed(_) => "Malformed",
        Rejection::ProviderInactive => "ProviderInactive",
        Rejection::CapacityInactive => "CapacityInactive",
        Rejection::RateZero => "RateZero",
        Rejection::RateAboveMaximum { .. } => "RateAboveMaximum",
        Rejection::Mode { .. } => "Mode",
        Rejection::Token { .. } => "Token",
        Rejection::Region { .. } => "Region",
        Rejection::Tier { .. } => "Tier",
        Rejection::Attributes { .. } => "Attributes",
        Rejection::Compliance { .. } => "Compliance",
        Rejection::NotWanted { .. } => "NotWanted",
        Rejection::Excluded { .. } => "Excluded",
        Rejection::Cpu { .. } => "Cpu",
        Rejection::Memory { .. } => "Memory",
        Rejection::Storage { .. } => "Storage",
        Rejection::Gpu { .. } => "Gpu",
    }
}

#[test]
fn hashes_and_digests_are_those_of_the_reference() {
    for vector in super::read::<Vec<Vector>>("matching.json") {
        let (terms, bids, context) = (vector.terms(), vector.bids(), &vector.name);
        assert_eq!(terms.rest_hash(), vector.rest_hash, "{context}");
        assert_eq!(terms.terms_hash(), vector.terms_hash, "{context}");
        assert_eq!(
            BidsDigest::seed(vector.order_id, vector.close_block).digest,
            vector.digest_seed,
            "{context}"
        );
        let digest = BidsDigest::of(vector.order_id, vector.close_block, &bids).unwrap();
        assert_eq!(
            digest,
            BidsDigest {
                digest: vector.digest,
                count: bids.len() as u16
            },
            "{context}"
        );
        digest.check(vector.order_id, vector.close_block, &bids).unwrap();
    }
}

#[test]
fn every_score_and_rank_is_that_of_the_reference() {
    let vectors: Vec<Vector> = super::read("matching.json");
    assert!(vectors.len() > 250);
    for vector in vectors {
        let (terms, parameters, bids, context) = (vector.terms(), vector.parameters(), vector.bids(), &vector.name);
        let seed = draw::seed(vector.chain_id, vector.order_id, vector.close_block_hash);
        assert_eq!(seed, vector.draw_seed, "{context}");
        let order = Order::new(&parameters, vector.order_id, &terms);
        assert_eq!(order.is_err(), vector.malformed_terms, "{context}: {order:?}");
        if let Ok(order) = order {
            let explained = matching::explain(&order, seed, &bids);
            let verdicts: Vec<VerdictVector> = explained.iter().map(VerdictVector::from).collect();
            assert_eq!(verdicts, vector.verdicts, "{context}");
        }
    }
}

#[test]
fn packed_matches_are_those_of_the_reference() {
    for vector in super::read::<Vec<Vector>>("matching.json") {
        let (terms, bids) = (vector.terms(), vector.bids());
        let order = TaskOrder {
            order_id: vector.order_id,
            terms: &terms,
            bids: &bids,
        };
        let words = task::answer(&vector.parameters(), vector.chain_id, vector.close_block_hash, &[order]).unwrap();
        assert_eq!(words, vector.matches, "{}", vector.name);
    }
}
