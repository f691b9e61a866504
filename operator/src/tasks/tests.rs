use alloy::primitives::{Address, U256};
use avs::words::{Attributes, Capacity, Mode, Offer, Requirements, Resources, ScoreCard, TierSet};
use proptest::prelude::*;

use super::*;

/// What happens to orders, without saying which: orders are picked from those that exist by then.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Create { window: u32 },
    Bid { pick: u8, rate: u8 },
    Requeue { pick: u8, window: u32 },
    End { pick: u8 },
    Answer { chunk: u16 },
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1u32..5).prop_map(|window| Action::Create { window }),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(pick, rate)| Action::Bid { pick, rate }),
        1 => (any::<u8>(), 1u32..5).prop_map(|(pick, window)| Action::Requeue { pick, window }),
        2 => any::<u8>().prop_map(|pick| Action::End { pick }),
        1 => (0u16..2).prop_map(|chunk| Action::Answer { chunk }),
    ]
}

pub(crate) fn chain(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<Action>>> {
    prop::collection::vec(prop::collection::vec(action(), 0..5), length)
}

pub(crate) fn terms(seed: u64) -> Terms {
    let requirements = Requirements {
        mode: Mode::Provider,
        tiers: TierSet::from_tiers([1]).expect("tier 1"),
        preferred_region: 0,
        preferred_zone: 0,
        compliance: 0,
        attributes: Attributes::default(),
        params_version: 1,
    };
    let resources = Resources {
        memory: 1,
        cpu: 1,
        ..Resources::default()
    };
    Terms {
        resources: resources.pack().expect("resources"),
        requirements: requirements.pack().expect("requirements"),
        regions: U256::MAX,
        manifest_hash: B256::from(U256::from(seed)),
        maximum_rate: 1_000,
        duration: 60,
        wanted_suppliers: Vec::new(),
        excluded_suppliers: Vec::new(),
    }
}

pub(crate) fn bid(rate: u8) -> PackedBid {
    let offer = Offer {
        provider: u32::from(rate) + 1,
        fizz: 0,
        rate: u128::from(rate) + 1,
        block: 0,
    };
    let card = ScoreCard {
        tier: 1,
        region: 1,
        tokens: 1,
        active: true,
        ..ScoreCard::default()
    };
    let capacity = Capacity {
        memory_free: 9,
        memory_total: 9,
        cpu_free: 9,
        cpu_total: 9,
        active: true,
        ..Capacity::default()
    };
    PackedBid {
        offer: offer.pack().expect("offer"),
        score_card: card.pack().expect("score card"),
        capacity: capacity.pack().expect("capacity"),
    }
}

/// The facts of a chain, block by block from 1. Ids count up along the chain, so that two forks use the same ids for
/// different orders.
pub(crate) fn facts(chain: &[Vec<Action>]) -> Vec<(u64, Vec<Fact>)> {
    let mut created = 0u64;
    let blocks = chain.iter().enumerate().map(|(index, actions)| {
        let block = index as u64 + 1;
        let facts = actions.iter().filter_map(|action| {
            let of = |pick: u8| (created > 0).then(|| u64::from(pick) % created.max(1) + 1);
            Some(match *action {
                Action::Create { window } => {
                    created += 1;
                    Fact::Created {
                        order_id: created,
                        close_block: block as u32 + window,
                        terms: terms(block),
                    }
                }
                Action::Bid { pick, rate } => Fact::Bid {
                    order_id: of(pick)?,
                    bid: bid(rate),
                },
                Action::Requeue { pick, window } => Fact::Requeued {
                    order_id: of(pick)?,
                    close_block: block as u32 + window,
                },
                Action::End { pick } => Fact::Ended { order_id: of(pick)? },
                Action::Answer { chunk } => Fact::Answered {
                    close_block: block as u32,
                    chunk,
                },
            })
        });
        (block, facts.collect())
    });
    blocks.collect()
}

fn applied(blocks: &[(u64, Vec<Fact>)]) -> Tasks {
    let mut tasks = Tasks::default();
    for (block, facts) in blocks {
        tasks.apply(*block, facts.clone());
    }
    tasks
}

/// Two chains that share their first blocks.
fn fork(left: Vec<Vec<Action>>, right: &[Vec<Action>], split: usize) -> (Vec<Vec<Action>>, Vec<Vec<Action>>, u64) {
    let split = split.min(left.len());
    let other = [&left[..split], right].concat();
    (left, other, split as u64)
}

proptest! {
    /// Undoing a fork and applying another is the same as having applied only the other.
    #[test]
    fn a_reorganisation_leaves_nothing_behind(left in chain(0..12), right in chain(0..12), split in 0usize..12) {
        let (left, right, split) = fork(left, &right, split);
        let mut tasks = applied(&facts(&left));
        tasks.revert(split);
        for (block, facts) in facts(&right).into_iter().skip(split as usize) {
            tasks.apply(block, facts);
        }
        prop_assert_eq!(tasks, applied(&facts(&right)));
    }

    /// What is open in a close block is decided once that block is there; later blocks change nothing of it.
    #[test]
    fn a_close_block_is_decided_for_ever(blocks in chain(1..16), close_block in 1u32..16) {
        let all = facts(&blocks);
        let until = all.iter().filter(|(block, _)| *block <= u64::from(close_block)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(applied(&until).open_in(close_block), applied(&all).open_in(close_block));
    }

    /// Forgetting old orders changes no task that can still be answered.
    #[test]
    fn only_what_no_task_needs_is_forgotten(blocks in chain(1..16), oldest in 0u64..20) {
        let whole = applied(&facts(&blocks));
        let mut pruned = whole.clone();
        let forgotten = pruned.forget_closed_before(oldest);
        prop_assert_eq!(pruned.len() + forgotten.len(), whole.len());
        for close_block in oldest as u32..24 {
            prop_assert_eq!(pruned.open_in(close_block), whole.open_in(close_block));
        }
        let close_blocks = |tasks: &Tasks| tasks.close_blocks(oldest, 24);
        prop_assert_eq!(close_blocks(&pruned), close_blocks(&whole));
    }

    /// Nothing can be in two tasks of one close block, or in a task of a block that is not its close block.
    #[test]
    fn an_order_is_open_in_at_most_its_own_close_block(blocks in chain(1..16)) {
        let tasks = applied(&facts(&blocks));
        for close_block in tasks.close_blocks(0, 24) {
            let open = tasks.open_in(close_block);
            prop_assert!(open.windows(2).all(|pair| pair[0].order_id < pair[1].order_id));
            prop_assert!(open.iter().all(|order| order.close_block == close_block));
        }
    }
}

fn created(order_id: u64, close_block: u32) -> Fact {
    Fact::Created {
        order_id,
        close_block,
        terms: terms(order_id),
    }
}

fn bid_on(order_id: u64, rate: u8) -> Fact {
    Fact::Bid {
        order_id,
        bid: bid(rate),
    }
}

#[test]
fn a_requeued_order_starts_again_without_bids() {
    let mut tasks = Tasks::default();
    tasks.apply(1, [created(7, 3), bid_on(7, 1)]);
    let requeued = Fact::Requeued {
        order_id: 7,
        close_block: 6,
    };
    tasks.apply(4, [requeued]);
    tasks.apply(5, [bid_on(7, 2)]);
    assert_eq!(tasks.close_blocks(0, 9), [3, 6]);
    assert_eq!(tasks.open_in(3)[0].bids, [bid(1)]);
    let again = &tasks.open_in(6)[0];
    assert_eq!((again.bids.as_slice(), again.open_since), ([bid(2)].as_slice(), 4));
}

#[test]
fn an_order_that_ended_in_or_before_its_close_block_is_in_no_task() {
    let mut tasks = Tasks::default();
    tasks.apply(1, [created(1, 4), created(2, 4), created(3, 4)]);
    tasks.apply(3, [Fact::Ended { order_id: 1 }]);
    tasks.apply(4, [Fact::Ended { order_id: 2 }]);
    tasks.apply(5, [Fact::Ended { order_id: 3 }]);
    let ids: Vec<u64> = tasks.open_in(4).iter().map(|order| order.order_id).collect();
    assert_eq!(ids, [3]);
}

#[test]
fn what_nobody_answered_is_found_and_answers_are_judged_by_every_order_of_their_block() {
    let mut tasks = Tasks::default();
    tasks.apply(
        1,
        [
            created(1, 4),
            created(2, 4),
            created(3, 4),
            created(4, 4),
            created(5, 9),
        ],
    );
    tasks.apply(2, [bid_on(1, 1), bid_on(2, 1), bid_on(3, 1), bid_on(5, 1)]);
    tasks.apply(3, [Fact::Ended { order_id: 1 }]);
    let requeued = Fact::Requeued {
        order_id: 2,
        close_block: 9,
    };
    tasks.apply(5, [requeued]);
    let ids = |orders: Vec<OpenOrder>| orders.iter().map(|order| order.order_id).collect::<Vec<_>>();
    // 1 ended, 2 went on, 4 has no bid.
    assert_eq!(ids(tasks.unanswered(0..=4)), [3]);
    assert_eq!(ids(tasks.unanswered(..)), [3, 5], "2 has no bid yet");
    assert_eq!(ids(tasks.rounds_of(4)), [1, 2, 3, 4]);
    assert_eq!(
        tasks.rounds_of(4)[0].bids,
        [bid(1)],
        "an answer may be wrong about an order that ended too"
    );
    tasks.apply(6, [bid_on(2, 2), Fact::Ended { order_id: 3 }]);
    assert_eq!(ids(tasks.unanswered(..)), [2, 5]);
    assert_eq!(tasks.rounds_of(4)[1].bids, [bid(1)]);
}

#[test]
fn facts_about_orders_never_seen_are_left_out() {
    let mut tasks = Tasks::default();
    let requeued = Fact::Requeued {
        order_id: 9,
        close_block: 5,
    };
    tasks.apply(2, [bid_on(9, 1), requeued, Fact::Ended { order_id: 9 }]);
    assert!(tasks.is_empty() && tasks.close_blocks(0, 9).is_empty());
}

#[test]
fn answers_are_undone_with_their_block() {
    let mut tasks = Tasks::default();
    let answered = Fact::Answered {
        close_block: 3,
        chunk: 0,
    };
    tasks.apply(4, [answered]);
    assert!(tasks.is_answered(3, 0) && !tasks.is_answered(3, 1));
    tasks.revert(3);
    assert!(!tasks.is_answered(3, 0));
}

#[test]
fn an_answer_ranks_bids_and_carries_the_digest_of_its_matches() {
    let mut tasks = Tasks::default();
    tasks.apply(1, [created(7, 3), bid_on(7, 50), bid_on(7, 10), created(8, 3)]);
    let orders: Vec<OpenOrder> = tasks
        .open_in(3)
        .into_iter()
        .filter(|order| !order.bids.is_empty())
        .collect();
    let chunk = Chunk {
        index: 0,
        params_version: 1,
        order_ids: vec![7],
    };
    let domain = Domain {
        chain_id: 1,
        task_manager: Address::ZERO,
    };
    let hash = B256::repeat_byte(9);
    let answer = answer(&domain, &Parameters::default(), &chunk, 3, hash, &orders).expect("answered");
    let matches = response::decode(&answer.matches).expect("decodes");
    assert_eq!(matches.len(), 1);
    assert_eq!((matches[0].order_id, matches[0].ranks.len()), (7, 2));
    assert_eq!(matches[0].ranks[0].provider, 11, "the cheaper one is first");
    assert_eq!(answer.response.digest(&domain), answer.digest);
}
