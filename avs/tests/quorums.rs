//! Thresholds, lists and tasks at their borders.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;
use alloy_primitives::U256;
use avs::{
    matching::{Parameters, ParametersError},
    quorum::{OperatorId, Quorum, QuorumError, Quorums},
    response::{OrderMatch, ResponseError, decode, encode},
    task::{TaskError, chunks},
    words::{MatchHeader, RankedSupplier},
};
use proptest::prelude::*;

fn operator(number: u8) -> OperatorId {
    B256::repeat_byte(number)
}

fn quorum(number: u8, threshold: u8, stakes: &[(u8, u128)]) -> Quorum {
    let stakes: BTreeMap<_, _> = stakes.iter().map(|(id, stake)| (operator(*id), *stake)).collect();
    Quorum::new(number, threshold, stakes).unwrap()
}

fn signers(ids: &[u8]) -> BTreeSet<OperatorId> {
    ids.iter().map(|id| operator(*id)).collect()
}

#[test]
fn a_threshold_is_reached_exactly() {
    let quorums = Quorums::new(vec![quorum(0, 67, &[(1, 66), (2, 1), (3, 33)])]).unwrap();
    assert!(!quorums.reached_by(&signers(&[1])));
    assert!(quorums.reached_by(&signers(&[1, 2])));
    let all = Quorums::new(vec![quorum(0, 100, &[(1, u128::from(u64::MAX)), (2, 1)])]).unwrap();
    assert!(!all.reached_by(&signers(&[1])));
    assert!(all.reached_by(&signers(&[1, 2, 9])));
}

#[test]
fn every_quorum_must_be_reached() {
    let quorums = Quorums::new(vec![
        quorum(0, 60, &[(1, 80), (2, 20)]),
        quorum(1, 60, &[(1, 10), (2, 50), (3, 40)]),
    ])
    .unwrap();
    assert!(!quorums.reached_by(&signers(&[1])));
    assert!(!quorums.reached_by(&signers(&[2, 3])));
    assert!(quorums.reached_by(&signers(&[1, 2])));
    let tally = quorums.tally(&signers(&[1]));
    assert_eq!(
        (tally[1].quorum, tally[1].signed, tally[1].total, tally[1].threshold),
        (1, 10, 100, 60)
    );
}

#[test]
fn a_quorum_without_stake_is_never_reached() {
    let quorums = Quorums::new(vec![quorum(0, 1, &[(1, 0)])]).unwrap();
    assert!(!quorums.reached_by(&signers(&[1])));
    assert!(
        !Quorums::new(vec![quorum(0, 1, &[])])
            .unwrap()
            .reached_by(&signers(&[1]))
    );
}

#[test]
fn non_signers_ascend_and_keys_count_once_a_quorum() {
    let quorums = Quorums::new(vec![
        quorum(0, 50, &[(9, 1), (4, 1)]),
        quorum(1, 50, &[(7, 1), (4, 1), (2, 0)]),
    ])
    .unwrap();
    assert_eq!(
        quorums.non_signers(&signers(&[9, 200])),
        vec![operator(2), operator(4), operator(7)]
    );
    assert_eq!(
        [4, 9, 2, 200].map(|id| quorums.multiplicity(&operator(id))),
        [2, 1, 1, 0]
    );
}

#[test]
fn impossible_quorums_are_refused() {
    let none = BTreeMap::new();
    for threshold in [0, 101, 255] {
        assert_eq!(
            Quorum::new(3, threshold, none.clone()),
            Err(QuorumError::Threshold { quorum: 3, threshold })
        );
    }
    assert_eq!(
        Quorum::new(192, 1, none.clone()),
        Err(QuorumError::Number { quorum: 192 })
    );
    let wide = BTreeMap::from([(operator(1), 1 << 96)]);
    assert!(matches!(Quorum::new(0, 1, wide), Err(QuorumError::Stake { .. })));
    assert_eq!(Quorums::new(Vec::new()), Err(QuorumError::None));
    let twice = vec![quorum(1, 1, &[]), quorum(0, 1, &[]), quorum(1, 2, &[])];
    assert_eq!(Quorums::new(twice), Err(QuorumError::Twice { quorum: 1 }));
}

#[test]
fn impossible_parameters_are_refused() {
    let weights = *Parameters::default().weights();
    let error = |weights, cap, limit, size| Parameters::new(weights, cap, limit, size).unwrap_err();
    assert_eq!(Parameters::new(weights, 1_000_000, 5, 64), Ok(Parameters::default()));
    assert_eq!(
        error([u32::MAX; 8], 1, 1, 1),
        ParametersError::WeightSum {
            sum: 8 * u64::from(u32::MAX)
        }
    );
    let lucky = [949_999, 0, 0, 0, 0, 0, 0, 50_001];
    assert_eq!(
        error(lucky, 1, 1, 1),
        ParametersError::RandomnessWeight { weight: 50_001 }
    );
    assert_eq!(error(weights, 0, 1, 1), ParametersError::StakeCap { cap: 0 });
    assert_eq!(
        error(weights, 1 << 48, 1, 1),
        ParametersError::StakeCap { cap: 1 << 48 }
    );
    assert_eq!(error(weights, 1, 0, 1), ParametersError::RankLimit { limit: 0 });
    assert_eq!(error(weights, 1, 9, 1), ParametersError::RankLimit { limit: 9 });
    assert_eq!(error(weights, 1, 1, 0), ParametersError::ChunkSize);
}

#[test]
fn impossible_tasks_are_refused() {
    let known = |version| (version == 1).then_some(2);
    assert_eq!(
        chunks([(1, 5), (2, 6)], known),
        Err(TaskError::UnknownVersion {
            version: 2,
            order_id: 6
        })
    );
    assert_eq!(
        chunks([(1, 5), (1, 4), (1, 5)], known),
        Err(TaskError::OrderTwice { order_id: 5 })
    );
    let many = (0..=65_536).map(|order_id| (1, order_id));
    assert_eq!(chunks(many, |_| Some(1)), Err(TaskError::TooManyChunks));
}

#[test]
fn malformed_match_words_are_refused() {
    let header = |order_id, ranks| MatchHeader { order_id, ranks }.pack();
    assert_eq!(decode(&[]), Ok(Vec::new()));
    assert_eq!(
        decode(&[header(2, 0), header(2, 0)]),
        Err(ResponseError::NotAscending { order_id: 2 })
    );
    assert_eq!(
        decode(&[header(2, 9)]),
        Err(ResponseError::TooManyRanks { order_id: 2, ranks: 9 })
    );
    assert_eq!(
        decode(&[header(2, 255)]),
        Err(ResponseError::TooManyRanks {
            order_id: 2,
            ranks: 255
        })
    );
    let cut = [header(2, 1), U256::ZERO, U256::ZERO];
    assert_eq!(
        decode(&cut),
        Err(ResponseError::Truncated {
            order_id: 2,
            missing: 1
        })
    );
    let stray = [header(2, 1), U256::ZERO, U256::ZERO, U256::MAX];
    assert!(matches!(decode(&stray), Err(ResponseError::Word { index: 3, .. })));
    let wide = RankedSupplier {
        provider: 1,
        fizz: 0,
        rate: 1 << 84,
        gpu_entry: 0,
    };
    let order = OrderMatch {
        order_id: 2,
        resources: U256::ZERO,
        rest_hash: B256::ZERO,
        ranks: vec![wide],
    };
    assert!(matches!(encode(&[order]), Err(ResponseError::Word { index: 3, .. })));
}

proptest! {
    #[test]
    fn chunks_hold_every_order_once_and_in_order(
        orders in proptest::collection::btree_map(any::<u64>(), 1u16..4, 0..200),
        sizes in [1u16..8, 1..8, 1..8],
    ) {
        let given = orders.iter().map(|(order_id, version)| (*version, *order_id));
        let chunks = chunks(given, |version| sizes.get(usize::from(version) - 1).copied()).unwrap();
        let mut expected: Vec<(u16, u64)> = orders.iter().map(|(order_id, version)| (*version, *order_id)).collect();
        expected.sort_unstable();
        let listed: Vec<(u16, u64)> = chunks
            .iter()
            .flat_map(|chunk| chunk.order_ids.iter().map(|order_id| (chunk.params_version, *order_id)))
            .collect();
        prop_assert_eq!(listed, expected);
        for (index, chunk) in chunks.iter().enumerate() {
            prop_assert_eq!(usize::from(chunk.index), index);
            prop_assert!(chunk.order_ids.len() <= usize::from(sizes[usize::from(chunk.params_version) - 1]));
        }
    }
}
