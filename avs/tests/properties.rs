//! What holds for every input: the rule never panics, does not depend on the order of different bidders, and rewards what
//! it says it rewards.

use alloy_primitives::{B256, U256};
use avs::{
    digest::{BidsDigest, DigestError},
    matching::{Order, Parameters, Verdict, explain, rank},
    response::{decode, encode, matches_hash},
    task::{TaskOrder, match_order},
    terms::Terms,
    words::{
        Attributes, Bid, Capacity, GpuEntry, GpuSet, MatchHeader, Mode, Offer, PackedBid, RankedSupplier, Requirements,
        Resources, ScoreCard, TierSet,
    },
};
use proptest::{collection::vec, prelude::*, sample::subsequence};

/// Order with token 1 of account 1.
const ORDER_ID: u64 = 1 << 32 | 1 << 24 | 1;

fn word() -> impl Strategy<Value = U256> {
    any::<[u64; 4]>().prop_map(U256::from_limbs)
}

/// Words with few bits set: often valid but for one stray bit.
fn sparse_word() -> impl Strategy<Value = U256> {
    vec(0usize..256, 0..12).prop_map(|bits| {
        bits.into_iter()
            .fold(U256::ZERO, |word, bit| word | U256::from(1) << bit)
    })
}

fn hostile_bid() -> impl Strategy<Value = PackedBid> {
    let any_word = || prop_oneof![word(), sparse_word()];
    (any_word(), any_word(), any_word()).prop_map(|(offer, score_card, capacity)| PackedBid {
        offer,
        score_card,
        capacity,
    })
}

fn capacity() -> impl Strategy<Value = Capacity> {
    let amount = |maximum: u32| (1..=maximum).prop_flat_map(|total| (0..=total, Just(total)));
    let gpu =
        (0u8..6, 1u16..20).prop_flat_map(|(id, total)| (0..=total).prop_map(move |free| GpuEntry { id, free, total }));
    (
        amount(4000),
        amount(9000),
        amount(6400),
        [gpu.clone(), gpu.clone(), gpu.clone(), gpu],
        prop::bool::weighted(0.95),
    )
        .prop_map(|(storage, memory, cpu, gpus, active)| Capacity {
            storage_free: storage.0,
            storage_total: storage.1,
            memory_free: memory.0,
            memory_total: memory.1,
            cpu_free: cpu.0,
            cpu_total: cpu.1,
            gpus,
            active,
        })
}

fn score_card() -> impl Strategy<Value = ScoreCard> {
    (
        (0u64..2_000_000, 0u16..4, 0u32..20, 0u64..10, 0u8..4, 0u8..3),
        (
            0u8..8,
            [0u8..16, 0..16, 0..16, 0..16, 0..16, 0..16, 0..16, 0..16],
            prop::bool::weighted(0.95),
        ),
    )
        .prop_map(
            |((stake, slashes, feedback_count, mean, region, zone), (tier, levels, active))| ScoreCard {
                stake,
                slashes,
                feedback_count,
                feedback_sum: mean * u64::from(feedback_count),
                region,
                zone,
                tier,
                attributes: Attributes::from_levels(levels).unwrap(),
                tokens: 0b10,
                compliance: 1,
                active,
            },
        )
}

/// Mostly valid bids of providers 1 to 30, many of them more than once.
fn bids() -> impl Strategy<Value = Vec<Bid>> {
    let offer = (1u32..30, 1u128..1_050_000).prop_map(|(provider, rate)| Offer {
        block: 5,
        rate,
        fizz: 0,
        provider,
    });
    let bid = (offer, score_card(), capacity()).prop_map(|(offer, score_card, capacity)| Bid {
        offer,
        score_card,
        capacity,
    });
    vec(bid, 0..40)
}

fn terms() -> impl Strategy<Value = Terms> {
    (
        0u32..30,
        1u32..100,
        1u32..100,
        0u16..3,
        0u8..4,
        0u8..3,
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(storage, memory, cpu, gpu_count, preferred_region, preferred_zone, some_excluded)| {
                let gpus = if gpu_count == 0 {
                    GpuSet::default()
                } else {
                    GpuSet::from_ids([1, 2, 4]).unwrap()
                };
                let requirements = Requirements {
                    mode: Mode::Provider,
                    tiers: TierSet::ANY,
                    preferred_region,
                    preferred_zone,
                    compliance: 1,
                    attributes: Attributes::default(),
                    params_version: 1,
                };
                Terms {
                    resources: Resources {
                        storage,
                        memory,
                        cpu,
                        gpu_count,
                        gpus,
                    }
                    .pack()
                    .unwrap(),
                    requirements: requirements.pack().unwrap(),
                    regions: U256::MAX,
                    manifest_hash: B256::repeat_byte(7),
                    maximum_rate: 1_000_000,
                    duration: 3600,
                    wanted_suppliers: Vec::new(),
                    excluded_suppliers: if some_excluded { vec![3, 4, 9] } else { Vec::new() },
                }
            },
        )
}

fn hostile_terms() -> impl Strategy<Value = Terms> {
    let suppliers = || vec(any::<u32>(), 0..4);
    let any_word = || prop_oneof![word(), sparse_word()];
    (
        any_word(),
        any_word(),
        word(),
        any::<u128>(),
        any::<u32>(),
        suppliers(),
        suppliers(),
    )
        .prop_map(
            |(resources, requirements, regions, maximum_rate, duration, wanted_suppliers, excluded_suppliers)| Terms {
                resources,
                requirements,
                regions,
                manifest_hash: B256::ZERO,
                maximum_rate,
                duration,
                wanted_suppliers,
                excluded_suppliers,
            },
        )
}

fn packed(bids: &[Bid]) -> Vec<PackedBid> {
    bids.iter().map(|bid| bid.pack().unwrap()).collect()
}

/// Rank of the bid at `index`, from 1.
fn rank_of(order: &Order<'_>, seed: B256, bids: &[Bid], index: usize) -> Option<usize> {
    match explain(order, seed, &packed(bids))[index].verdict {
        Verdict::Ranked { rank, .. } => Some(rank),
        _ => None,
    }
}

proptest! {
    #[test]
    fn whatever_the_words_there_is_an_answer(
        terms in prop_oneof![hostile_terms(), terms()],
        bids in vec(hostile_bid(), 0..20),
        order_id: u64,
        hash: [u8; 32],
    ) {
        let order = TaskOrder { order_id, terms: &terms, bids: &bids };
        let answer = match_order(&Parameters::default(), u64::MAX, hash.into(), &order);
        prop_assert!(answer.ranks.len() <= 5);
        let words = encode(std::slice::from_ref(&answer)).unwrap();
        prop_assert_eq!(decode(&words).unwrap()[0].ranks.clone(), answer.ranks);
    }

    #[test]
    fn the_explanation_ends_where_the_answer_does(terms in terms(), bids in bids(), seed: [u8; 32]) {
        let parameters = Parameters::default();
        let (order, bids) = (Order::new(&parameters, ORDER_ID, &terms).unwrap(), packed(&bids));
        let mut ranked: Vec<(usize, RankedSupplier)> = explain(&order, seed.into(), &bids)
            .into_iter()
            .filter_map(|bid| match bid.verdict {
                Verdict::Ranked { rank, gpu_entry, .. } => {
                    Some((rank, RankedSupplier::from_offer(&bid.offer.unwrap(), gpu_entry)))
                }
                _ => None,
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let ranks: Vec<usize> = ranked.iter().map(|(rank, _)| *rank).collect();
        prop_assert_eq!(ranks, (1..=ranked.len()).collect::<Vec<_>>());
        let best: Vec<RankedSupplier> = ranked.into_iter().take(5).map(|(_, supplier)| supplier).collect();
        prop_assert_eq!(rank(&order, seed.into(), &bids), best);
    }

    #[test]
    fn the_order_of_different_bidders_does_not_matter(
        terms in terms(),
        (bids, shuffled) in bids().prop_flat_map(|mut bids| {
            bids.sort_by_key(|bid| bid.offer.provider);
            bids.dedup_by_key(|bid| bid.offer.provider);
            (Just(bids.clone()), Just(bids).prop_shuffle())
        }),
        seed: [u8; 32],
    ) {
        let parameters = Parameters::default();
        let order = Order::new(&parameters, ORDER_ID, &terms).unwrap();
        prop_assert_eq!(rank(&order, seed.into(), &packed(&bids)), rank(&order, seed.into(), &packed(&shuffled)));
    }

    #[test]
    fn an_earlier_bid_of_the_same_bidder_changes_nothing(
        terms in terms(),
        (bids, repeated) in bids().prop_flat_map(|bids| {
            let count = bids.len();
            (Just(bids.clone()), subsequence(bids, 0..=count))
        }),
        seed: [u8; 32],
        rate in 1u128..1_000_000,
    ) {
        let parameters = Parameters::default();
        let order = Order::new(&parameters, ORDER_ID, &terms).unwrap();
        let earlier = repeated.into_iter().map(|mut bid| {
            bid.offer.rate = rate;
            bid
        });
        let more: Vec<Bid> = earlier.chain(bids.iter().copied()).collect();
        prop_assert_eq!(rank(&order, seed.into(), &packed(&bids)), rank(&order, seed.into(), &packed(&more)));
    }

    #[test]
    fn improving_one_term_never_ranks_lower(
        terms in terms(),
        bids in bids(),
        seed: [u8; 32],
        chosen: prop::sample::Index,
        change in 0usize..5,
        by in 1u32..1000,
    ) {
        prop_assume!(!bids.is_empty());
        let parameters = Parameters::default();
        let order = Order::new(&parameters, ORDER_ID, &terms).unwrap();
        let index = chosen.index(bids.len());
        let mut better = bids.clone();
        let bid = &mut better[index];
        match change {
            0 => bid.offer.rate = (bid.offer.rate - 1).saturating_sub(by.into()) + 1,
            1 => bid.score_card.slashes = bid.score_card.slashes.saturating_sub(1),
            2 => bid.score_card.stake += u64::from(by),
            3 => bid.score_card.tier = bid.score_card.tier.saturating_sub(1).max(bid.score_card.tier.min(1)),
            _ => bid.capacity.cpu_free = (bid.capacity.cpu_free + by).min(bid.capacity.cpu_total),
        }
        let before = rank_of(&order, seed.into(), &bids, index);
        let after = rank_of(&order, seed.into(), &better, index);
        if let Some(before) = before {
            prop_assert!(after.is_some_and(|after| after <= before), "{:?} -> {:?}", before, after);
        }
    }

    #[test]
    fn words_that_unpack_pack_to_themselves(word in prop_oneof![word(), sparse_word()]) {
        let packed = [
            Offer::unpack(word).map(|typed| typed.pack()),
            ScoreCard::unpack(word).map(|typed| typed.pack()),
            Capacity::unpack(word).map(|typed| typed.pack()),
            Resources::unpack(word).map(|typed| typed.pack()),
            Requirements::unpack(word).map(|typed| typed.pack()),
            RankedSupplier::unpack(word).map(|typed| typed.pack()),
            MatchHeader::unpack(word).map(|typed| Ok(typed.pack())),
        ];
        for again in packed.into_iter().flatten() {
            prop_assert_eq!(again, Ok(word));
        }
    }

    #[test]
    fn typed_words_survive_packing(card in score_card(), capacity in capacity()) {
        prop_assert_eq!(ScoreCard::unpack(card.pack().unwrap()), Ok(card));
        prop_assert_eq!(Capacity::unpack(capacity.pack().unwrap()), Ok(capacity));
    }

    #[test]
    fn match_words_from_anywhere_decode_to_what_encodes_back(
        words in vec(prop_oneof![word(), sparse_word(), (0u128..1 << 72).prop_map(U256::from)], 0..12),
    ) {
        if let Ok(matches) = decode(&words) {
            prop_assert_eq!(encode(&matches), Ok(words));
        }
    }

    #[test]
    fn a_changed_log_is_noticed(bids in vec(hostile_bid(), 1..8), at: prop::sample::Index, close_block: u32) {
        let digest = BidsDigest::of(ORDER_ID, close_block, &bids).unwrap();
        prop_assert_eq!(digest.check(ORDER_ID, close_block, &bids), Ok(()));
        let at = at.index(bids.len());
        let mut missing = bids.clone();
        missing.remove(at);
        let counted = matches!(digest.check(ORDER_ID, close_block, &missing), Err(DigestError::Count { .. }));
        prop_assert!(counted);
        let mut changed = bids.clone();
        changed[at].capacity ^= U256::from(1);
        let noticed = matches!(digest.check(ORDER_ID, close_block, &changed), Err(DigestError::Digest { .. }));
        prop_assert!(noticed);
        prop_assert!(digest.check(ORDER_ID, close_block.wrapping_add(1), &bids).is_err());
        prop_assert!(digest.check(ORDER_ID + 1, close_block, &bids).is_err());
    }

    #[test]
    fn different_words_hash_differently(words in vec(word(), 0..6), extra in word()) {
        let longer: Vec<U256> = words.iter().copied().chain([extra]).collect();
        prop_assert_ne!(matches_hash(&words), matches_hash(&longer));
    }
}

#[test]
fn the_seed_stands_for_no_bids() {
    let none = BidsDigest {
        digest: B256::ZERO,
        count: 0,
    };
    assert_eq!(none.check(ORDER_ID, 9, &[]), Ok(()));
    assert_eq!(BidsDigest::seed(ORDER_ID, 9).check(ORDER_ID, 9, &[]), Ok(()));
}
