use alloy::primitives::U256;
use alloy::primitives::aliases::U96;
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent as _;
use avs::terms::Terms;
use bindings::{IMatchingTaskManager, IOrderBook, OrderTerms};
use chain::AppliedBlock;
use proptest::prelude::*;

use super::*;
use crate::tasks::tests::{Action, chain, facts};

fn terms(terms: &Terms) -> OrderTerms {
    OrderTerms {
        resources: terms.resources,
        requirements: terms.requirements,
        regions: terms.regions,
        manifestHash: terms.manifest_hash,
        maximumRate: U96::from(terms.maximum_rate),
        duration: terms.duration,
        wantedSuppliers: terms.wanted_suppliers.clone(),
        excludedSuppliers: terms.excluded_suppliers.clone(),
    }
}

/// The log that says this.
fn log_of(fact: &Fact) -> LogData {
    match fact {
        Fact::Created {
            order_id,
            close_block,
            terms: given,
        } => IOrderBook::OrderCreated {
            orderId: *order_id,
            closeBlock: *close_block,
            feeSchedule: 1,
            terms: terms(given),
        }
        .encode_log_data(),
        Fact::Bid { order_id, bid } => IOrderBook::BidPlaced {
            orderId: *order_id,
            provider: 1,
            offer: bid.offer,
            scoreCard: bid.score_card,
            capacity: bid.capacity,
        }
        .encode_log_data(),
        Fact::Requeued { order_id, close_block } => IOrderBook::OrderRequeued {
            orderId: *order_id,
            closeBlock: *close_block,
        }
        .encode_log_data(),
        Fact::Ended { order_id } if order_id % 2 == 0 => {
            IOrderBook::OrderCancelled { orderId: *order_id }.encode_log_data()
        }
        Fact::Ended { order_id } => IOrderBook::OrderExpired { orderId: *order_id }.encode_log_data(),
        Fact::Answered { close_block, chunk } => IMatchingTaskManager::TaskResponded {
            closeBlock: *close_block,
            chunk: *chunk,
            responder: alloy::primitives::Address::ZERO,
            matchesHash: B256::ZERO,
            commitment: alloy::primitives::aliases::U224::ZERO,
        }
        .encode_log_data(),
    }
}

fn hash(fork: u8, number: u64) -> B256 {
    B256::from(U256::from(fork) << 128 | U256::from(number))
}

fn block(fork: u8, number: u64, facts: &[Fact]) -> Event {
    let logs = facts.iter().enumerate().map(|(index, fact)| {
        let mut log = Log {
            log_index: Some(index as u64),
            block_number: Some(number),
            ..Log::default()
        };
        log.inner.data = log_of(fact);
        log
    });
    Event::Applied(AppliedBlock {
        number,
        hash: hash(fork, number),
        parent: B256::ZERO,
        timestamp: number,
        logs: logs.collect(),
    })
}

fn store() -> (tempfile::TempDir, OperatorStore) {
    let folder = tempfile::tempdir().expect("folder");
    let store = OperatorStore::open(folder.path()).expect("opens");
    (folder, store)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime")
        .block_on(future)
}

#[test]
fn every_fact_survives_its_log() {
    let actions = vec![vec![
        Action::Create { window: 3 },
        Action::Create { window: 2 },
        Action::Bid { pick: 0, rate: 5 },
        Action::Requeue { pick: 0, window: 4 },
        Action::End { pick: 0 },
        Action::End { pick: 1 },
        Action::Answer { chunk: 3 },
    ]];
    for fact in facts(&actions).into_iter().flat_map(|(_, facts)| facts) {
        assert_eq!(fact_of(&log_of(&fact)), Some(fact));
    }
    let leased = IOrderBook::LeaseCreated {
        orderId: 5,
        supplier: 1,
        rate: U96::from(1),
        start: 1,
        gpuEntry: 0,
    };
    assert_eq!(fact_of(&leased.encode_log_data()), Some(Fact::Ended { order_id: 5 }));
    assert_eq!(fact_of(&LogData::default()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A restart anywhere, also after a reorganisation, has the tasks that the running operator had.
    #[test]
    fn a_restart_continues_with_the_same_tasks(left in chain(1..8), right in chain(1..8), split in 0usize..8) {
        let (folder, store) = store();
        let split = split.min(left.len()) as u64;
        let mut tasks = Tasks::default();
        let mut last = None;
        for (number, facts) in facts(&left) {
            tasks.apply(number, facts.clone());
            run(store.save(vec![block(0, number, &facts)], Forgotten::default())).expect("saved");
            last = Some(BlockReference { number, hash: hash(0, number) });
        }
        prop_assert_eq!(&run(store.load()).expect("loads").tasks, &tasks);

        tasks.revert(split);
        let mut events = vec![Event::Reverted { above: split }];
        let other = [&left[..split as usize], right.as_slice()].concat();
        for (number, facts) in facts(&other).into_iter().skip(split as usize) {
            tasks.apply(number, facts.clone());
            events.push(block(1, number, &facts));
            last = Some(BlockReference { number, hash: hash(1, number) });
        }
        run(store.save(events, Forgotten::default())).expect("saved");
        drop(store);

        let kept = run(OperatorStore::open(folder.path()).expect("opens again").load()).expect("loads");
        prop_assert_eq!(kept.tasks, tasks);
        prop_assert_eq!(kept.history.last().copied(), last);
    }
}

#[test]
fn what_is_forgotten_is_gone_after_a_restart() {
    let (_folder, store) = store();
    let actions = vec![vec![Action::Create { window: 1 }, Action::Answer { chunk: 0 }]];
    let (number, facts) = facts(&actions).remove(0);
    run(store.save(vec![block(0, number, &facts)], Forgotten::default())).expect("saved");
    let forgotten = Forgotten {
        orders: vec![1],
        logs_before: 5,
    };
    run(store.save(vec![block(0, 9, &[])], forgotten)).expect("saved");
    let kept = run(store.load()).expect("loads");
    assert_eq!(kept.tasks, Tasks::default());
    assert_eq!(kept.history.len(), 2);
}

#[test]
fn the_beginning_is_the_first_head_until_another_chain_replaces_it() {
    let (folder, store) = store();
    assert_eq!(run(store.begin(100)).expect("begun"), 100);
    drop(store);
    let store = OperatorStore::open(folder.path()).expect("opens again");
    assert_eq!(run(store.begin(200)).expect("begun"), 100);
    run(store.save(vec![Event::Reverted { above: 40 }], Forgotten::default())).expect("saved");
    assert_eq!(run(store.load()).expect("loads").beginning, Some(40));
}

#[test]
fn what_was_signed_is_known_after_a_restart() {
    let (folder, store) = store();
    let signed = |digest: u8| Signed {
        close_block: 5,
        close_block_hash: B256::repeat_byte(1),
        chunk: 0,
        order_ids: vec![u64::MAX, 3],
        digest: B256::repeat_byte(digest),
    };
    assert_eq!(run(store.record(vec![signed(1)])).expect("judged"), [Verdict::First]);
    drop(store);
    let store = OperatorStore::open(folder.path()).expect("opens again");
    let refused = Verdict::Refused {
        signed: B256::repeat_byte(1),
    };
    assert_eq!(
        run(store.record(vec![signed(1), signed(2)])).expect("judged"),
        [Verdict::Again, refused]
    );
    // The same order under the same hash in another chunk.
    let moved = Signed {
        chunk: 4,
        order_ids: vec![u64::MAX],
        ..signed(3)
    };
    assert_eq!(run(store.record(vec![moved])).expect("judged"), [refused]);
}
