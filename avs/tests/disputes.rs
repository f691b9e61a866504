//! Disputes: what is answered right is never wrong, every change of a word is, and the hashes are those of the contracts.

use alloy_primitives::{Address, B256, U256, address, keccak256};
use avs::{
    dispute::{
        self, MalformedMatches, OpenedLease, bid_order, commitment, contradictions, entries, is_undone,
        matchmaker_signatories, quorum_signatories, rank_words, verdict,
    },
    response::{OrderMatch, encode},
    words::{Offer, PackedBid, RankedSupplier},
};
use proptest::{collection::vec, prelude::*};

fn supplier() -> impl Strategy<Value = RankedSupplier> {
    (1u32..6, 0u32..3, 1u128..5, 0u8..3).prop_map(|(provider, fizz, rate, gpu_entry)| RankedSupplier {
        provider,
        // Fizz ids are of one space with providers.
        fizz: if fizz == 0 { 0 } else { 100 + fizz },
        rate,
        gpu_entry,
    })
}

fn outcome(order_id: u64) -> impl Strategy<Value = OrderMatch> {
    (any::<u64>(), any::<[u8; 32]>(), vec(supplier(), 0..=8)).prop_map(move |(resources, rest_hash, ranks)| {
        OrderMatch {
            order_id,
            resources: U256::from(resources),
            rest_hash: B256::from(rest_hash),
            ranks,
        }
    })
}

fn outcomes() -> impl Strategy<Value = Vec<OrderMatch>> {
    (1usize..6).prop_flat_map(|count| (1..=count as u64).map(outcome).collect::<Vec<_>>())
}

fn bid(provider: u32, fizz: u32) -> PackedBid {
    let offer = Offer {
        block: 1,
        rate: 1,
        fizz,
        provider,
    };
    PackedBid {
        offer: offer.pack().expect("an offer"),
        score_card: U256::ZERO,
        capacity: U256::ZERO,
    }
}

proptest! {
    #[test]
    fn what_the_rule_makes_is_right_and_any_other_word_is_not(
        outcomes in outcomes(), pick: prop::sample::Index, bit in 0usize..256,
    ) {
        let words = encode(&outcomes).expect("packs");
        let found = entries(&words).expect("whole");
        prop_assert_eq!(found.len(), outcomes.len());
        for (entry, outcome) in found.iter().zip(&outcomes) {
            prop_assert_eq!(entry.order_id, outcome.order_id);
            prop_assert_eq!(entry.is_right(outcome), Ok(true));
        }
        let mut other = words.clone();
        let at = pick.index(other.len());
        other[at] ^= U256::from(1) << bit;
        let all_right = entries(&other).is_ok_and(|found| {
            found.len() == outcomes.len()
                && found.iter().zip(&outcomes).all(|(entry, outcome)| {
                    entry.order_id == outcome.order_id && entry.is_right(outcome) == Ok(true)
                })
        });
        prop_assert!(!all_right);
    }

    #[test]
    fn words_that_break_off_are_found_and_nothing_panics(words in vec(any::<[u64; 4]>(), 0..12)) {
        let words: Vec<U256> = words.into_iter().map(U256::from_limbs).collect();
        if let Ok(found) = entries(&words) {
            let taken: usize = found
                .iter()
                .map(|entry| 1 + if entry.ranks().is_empty() { 0 } else { 2 + entry.ranks().len() })
                .sum();
            prop_assert_eq!(taken, words.len());
        }
    }

    /// By the definition: kept if and only if, for some t, the lease is the rule's rank t and the first t ranks agree.
    #[test]
    fn a_lease_is_undone_unless_the_rule_leads_to_it(
        answered in outcome(1), right in outcome(1), shared in 0usize..4, taken in supplier(), take: prop::sample::Index,
    ) {
        let (mut answered, right) = (answered, right);
        let shared = shared.min(right.ranks.len()).min(answered.ranks.len());
        answered.ranks[..shared].copy_from_slice(&right.ranks[..shared]);
        let taken = match answered.ranks.len() {
            0 => taken,
            length => answered.ranks[take.index(length)],
        };
        let opened = OpenedLease { supplier: taken.supplier(), rate: taken.rate, gpu_entry: taken.gpu_entry };
        let words = encode(std::slice::from_ref(&answered)).expect("packs");
        let entry = entries(&words).expect("whole")[0];
        let right_words = rank_words(&right).expect("packs");

        let is_taken = |rank: &RankedSupplier| {
            rank.supplier() == opened.supplier && rank.rate == opened.rate && rank.gpu_entry == opened.gpu_entry
        };
        let kept = (0..right.ranks.len()).any(|t| {
            let inside = t == 0 || t < answered.ranks.len();
            let same_before = inside && answered.ranks.get(..t) == Some(&right.ranks[..t]);
            // Later than the first, the answer names the supplier in the same place.
            is_taken(&right.ranks[t]) && same_before && (t == 0 || answered.ranks[t] == right.ranks[t])
        });
        prop_assert_eq!(is_undone(&opened, &entry, &right_words), !kept);
        // A right answer never loses its lease.
        if answered.ranks == right.ranks && !right.ranks.is_empty() {
            prop_assert!(!is_undone(&opened, &entry, &right_words));
        }
    }

    #[test]
    fn the_bid_order_ascends_and_names_every_bid_once(bidders in vec((0u32..5, 0u32..3), 0..200)) {
        let bids: Vec<PackedBid> = bidders.iter().map(|(provider, fizz)| bid(*provider, *fizz)).collect();
        let order = bid_order(&bids).expect("few");
        let indices: Vec<u16> = order.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        prop_assert_eq!(indices.len(), bids.len());
        let keys: Vec<(u64, u16)> = indices
            .iter()
            .map(|index| (bids[usize::from(*index)].bidder(), u16::MAX - index))
            .collect();
        prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", keys);
    }

    #[test]
    fn contradictions_are_symmetric_and_none_with_itself(first in outcomes(), second in outcomes()) {
        let (one, other) = (encode(&first).expect("packs"), encode(&second).expect("packs"));
        prop_assert_eq!(contradictions(&one, &one), Ok(Vec::new()));
        prop_assert_eq!(contradictions(&one, &other), contradictions(&other, &one));
        let expected: Vec<u64> = first
            .iter()
            .zip(&second)
            .filter(|(one, other)| {
                one.ranks != other.ranks
                    || (!one.ranks.is_empty() && (one.resources, one.rest_hash) != (other.resources, other.rest_hash))
            })
            .map(|(one, _)| one.order_id)
            .collect();
        prop_assert_eq!(contradictions(&one, &other), Ok(expected));
    }
}

#[test]
fn a_malformed_rank_is_an_entry_like_any_other_and_a_break_is_none() {
    let words = [U256::from(1 << 8 | 1), U256::from(7), U256::from(8), U256::MAX];
    let found = entries(&words).expect("whole");
    assert_eq!(found[0].ranks(), [U256::MAX]);
    assert_eq!(entries(&words[..3]), Err(MalformedMatches { index: 0 }));
    assert_eq!(entries(&[U256::MAX]), Err(MalformedMatches { index: 0 }));
}

#[test]
fn more_bids_than_indices_are_refused() {
    let bids = vec![bid(1, 0); 65_536];
    assert_eq!(bid_order(&bids[1..]).map(|order| order.len()), Ok(131_070));
    assert_eq!(bid_order(&bids), Err(dispute::TooManyBids { count: 65_536 }));
}

/// Written out by hand from `abi.encode` and `abi.encodePacked`.
#[test]
fn the_hashes_are_those_of_the_contracts() {
    let (digest, close_block) = (B256::repeat_byte(0xd1), 0x0102_0304_u32);
    let ids = [B256::repeat_byte(1), B256::repeat_byte(2)];
    let mut packed = vec![1, 2, 3, 4];
    packed.extend([1; 32]);
    packed.extend([2; 32]);
    let signatories = quorum_signatories(close_block, &ids);
    assert_eq!(signatories, keccak256(&packed));
    assert_eq!(quorum_signatories(close_block, &[]), keccak256([1, 2, 3, 4]));

    let matchmaker: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    let mut packed = vec![1, 2, 3, 4];
    packed.extend(matchmaker.as_slice());
    assert_eq!(matchmaker_signatories(close_block, matchmaker), keccak256(&packed));

    let mut encoded = vec![0xd1; 32];
    encoded.extend([0; 28]);
    encoded.extend([1, 2, 3, 4]);
    encoded.extend(signatories);
    let name = verdict(digest, close_block, signatories);
    assert_eq!(name, keccak256(&encoded));
    assert_eq!(commitment(name).to_be_bytes::<32>()[4..], name[..28]);
    assert_eq!(commitment(name).to_be_bytes::<32>()[..4], [0; 4]);
}
