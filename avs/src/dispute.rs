//! Disputes about answers that stand on chain: which orders an answer is wrong about, what becomes of their leases, and the
//! hashes under which the contracts remember an answer and its verdict.
//!
//! Judged word by word, as `MatchingDisputes` does, not by what words mean: the order book lets malformed ranks pass, so that
//! they cannot keep an order's neighbours from being settled, and an answer that holds one is simply wrong.

use alloy_primitives::{Address, B256, U256, keccak256};

use crate::{
    response::OrderMatch,
    words::{MatchHeader, PackedBid, RankedSupplier, WordError},
};

/// What an answer says of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub order_id: u64,
    /// The header word, then, unless nobody is ranked, resource word, rest hash and ranks.
    words: &'a [U256],
}

/// Match words that break off or have bits set outside a header: no contract takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the match words break off or are malformed at word {index}")]
pub struct MalformedMatches {
    pub index: usize,
}

/// What the chain opened for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedLease {
    /// The fizz node where one serves, else the provider.
    pub supplier: u32,
    /// Token units per 36 000 seconds.
    pub rate: u128,
    pub gpu_entry: u8,
}

/// More bids than two bytes can point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} bids, the rule takes at most {maximum}", maximum = BIDS_MAXIMUM)]
pub struct TooManyBids {
    pub count: usize,
}

const BIDS_MAXIMUM: usize = u16::MAX as usize;

impl<'a> Entry<'a> {
    /// The rank words, best first.
    pub fn ranks(&self) -> &'a [U256] {
        self.words.get(3..).unwrap_or_default()
    }

    /// Whether it is what the rule makes of the order: same ranks, and the order's own resources where anybody is ranked.
    ///
    /// # Errors
    /// When `right` holds a rank that no word takes; the rule makes none.
    pub fn is_right(&self, right: &OrderMatch) -> Result<bool, WordError> {
        let ranks = rank_words(right)?;
        let resources = [right.resources, right.rest_hash.into()];
        Ok(self.ranks() == ranks && (ranks.is_empty() || self.words[1..3] == resources))
    }
}

/// Splits match words into what they say of each order.
///
/// # Errors
/// When they break off.
pub fn entries(matches: &[U256]) -> Result<Vec<Entry<'_>>, MalformedMatches> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(word) = matches.get(at) {
        let malformed = MalformedMatches { index: at };
        let header = MatchHeader::unpack(*word).map_err(|_| malformed)?;
        let length = match usize::from(header.ranks) {
            0 => 1,
            ranks => 3 + ranks,
        };
        let words = matches.get(at..at + length).ok_or(malformed)?;
        entries.push(Entry {
            order_id: header.order_id,
            words,
        });
        at += length;
    }
    Ok(entries)
}

/// The rank words of an outcome.
///
/// # Errors
/// When a field does not fit its width.
pub fn rank_words(outcome: &OrderMatch) -> Result<Vec<U256>, WordError> {
    outcome.ranks.iter().map(RankedSupplier::pack).collect()
}

/// Whether a lease that a wrong answer opened would be undone: unless the rule's ranks lead to it as well. Its best supplier
/// does whatever else was answered; a later one only if the answer had the same suppliers before it, because then those were
/// tried and had no room. `right` are the rule's rank words.
///
/// Only for leases that this answer opened, inside their payout hold; all others stay.
pub fn is_undone(opened: &OpenedLease, answered: &Entry<'_>, right: &[U256]) -> bool {
    let is_taken = |rank: &U256| {
        RankedSupplier::unpack(*rank).is_ok_and(|rank| {
            (rank.supplier(), rank.rate, rank.gpu_entry) == (opened.supplier, opened.rate, opened.gpu_entry)
        })
    };
    let same = answered
        .ranks()
        .iter()
        .zip(right)
        .take_while(|(one, other)| one == other);
    let kept = right.first().is_some_and(is_taken) || same.map(|(_, rank)| rank).any(is_taken);
    !kept
}

/// Orders of which two answers under one close block hash say different things: who signed both can be slashed.
///
/// # Errors
/// When one of them breaks off.
pub fn contradictions(first: &[U256], second: &[U256]) -> Result<Vec<u64>, MalformedMatches> {
    let (first, second) = (entries(first)?, entries(second)?);
    let contradicted = |entry: &&Entry<'_>| {
        let same_order = second.iter().find(|other| other.order_id == entry.order_id);
        same_order.is_some_and(|other| other != *entry)
    };
    Ok(first.iter().filter(contradicted).map(|entry| entry.order_id).collect())
}

/// The quorum verifier's commitment to who signed: the reference block, and the ids of the operators that did not, as the
/// proof has them (ascending).
pub fn quorum_signatories(close_block: u32, non_signer_ids: &[B256]) -> B256 {
    let mut packed = close_block.to_be_bytes().to_vec();
    non_signer_ids
        .iter()
        .for_each(|id| packed.extend_from_slice(id.as_slice()));
    keccak256(packed)
}

/// The single matchmaker's commitment to who signed.
pub fn matchmaker_signatories(close_block: u32, matchmaker: Address) -> B256 {
    let mut packed = close_block.to_be_bytes().to_vec();
    packed.extend_from_slice(matchmaker.as_slice());
    keccak256(packed)
}

/// The name of an answer, and of the verdict about it.
pub fn verdict(digest: B256, close_block: u32, signatories: B256) -> B256 {
    let close_block = B256::from(U256::from(close_block));
    keccak256([digest, close_block, signatories].concat())
}

/// What the response ring keeps of an answer: the upper 224 bits of its name.
pub fn commitment(verdict: B256) -> U256 {
    U256::from_be_bytes(verdict.0) >> 32
}

/// The bids sorted for the rule on chain: indices of two bytes, big-endian, so that (provider, fizz, 0xffff - index) ascends
/// and each pair's last bid comes first.
///
/// # Errors
/// When there are more than two bytes can point to.
pub fn bid_order(bids: &[PackedBid]) -> Result<Vec<u8>, TooManyBids> {
    if bids.len() > BIDS_MAXIMUM {
        return Err(TooManyBids { count: bids.len() });
    }
    let mut keys: Vec<(u64, u16)> = bids
        .iter()
        .enumerate()
        .map(|(index, bid)| (bid.bidder(), u16::MAX - index as u16))
        .collect();
    keys.sort_unstable();
    Ok(keys
        .into_iter()
        .flat_map(|(_, key)| (u16::MAX - key).to_be_bytes())
        .collect())
}

/// The bids as the rule on chain takes them: three words each, in log order.
pub fn bid_words(bids: &[PackedBid]) -> Vec<U256> {
    bids.iter()
        .flat_map(|bid| [bid.offer, bid.score_card, bid.capacity])
        .collect()
}
