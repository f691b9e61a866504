use std::collections::BTreeMap;

use ::chain::{AppliedBlock, Batch, BlockReference, Event};
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use alloy_primitives::aliases::U96;
use alloy_primitives::{Address, B256, U256};
use bindings::{ILeases, IOrderBook, OrderState, OrderTerms};
use proptest::prelude::*;

use super::*;

const OWN: u32 = 7;
const ORDERS: u64 = 3;
/// The lease that updates begin from.
const WORKLOAD: u64 = 1;

/// An event of a model chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    Created(u64),
    Requeued(u64),
    Ended(u64),
    Leased(u64, u32),
    Closed(u64),
    Extended(u64, u32),
    /// The lease, and what tells the proposal from others.
    Proposed(u64, u64),
    Rejected(u64),
    /// The lease, and the one that takes its place.
    Updated(u64, u64),
}

fn terms(order: u64) -> OrderTerms {
    OrderTerms {
        resources: U256::from(order),
        requirements: U256::ZERO,
        regions: U256::MAX,
        manifestHash: B256::repeat_byte(1),
        maximumRate: U96::from(1_000),
        duration: 60,
        wantedSuppliers: vec![OWN],
        excludedSuppliers: Vec::new(),
    }
}

fn log(happening: Happening, number: u64) -> Log {
    let close_block = number as u32 + 3;
    let data = match happening {
        Happening::Created(order) => IOrderBook::OrderCreated {
            orderId: order,
            closeBlock: close_block,
            feeSchedule: 1,
            terms: terms(order),
        }
        .encode_log_data(),
        Happening::Requeued(order) => IOrderBook::OrderRequeued {
            orderId: order,
            closeBlock: close_block,
        }
        .encode_log_data(),
        Happening::Ended(order) => IOrderBook::OrderExpired { orderId: order }.encode_log_data(),
        Happening::Leased(order, supplier) => IOrderBook::LeaseCreated {
            orderId: order,
            supplier,
            rate: U96::from(10),
            start: number as u32,
            gpuEntry: 0,
        }
        .encode_log_data(),
        Happening::Extended(order, duration) => ILeases::LeaseExtended {
            orderId: order,
            by: Address::ZERO,
            duration,
            locked: U256::ZERO,
        }
        .encode_log_data(),
        Happening::Proposed(order, variant) => ILeases::UpdateProposed {
            orderId: order,
            by: Address::ZERO,
            expiry: alloy_primitives::aliases::U40::from(1_000),
            terms: terms(variant),
        }
        .encode_log_data(),
        Happening::Rejected(order) => ILeases::UpdateRejected {
            orderId: order,
            by: Address::ZERO,
        }
        .encode_log_data(),
        Happening::Updated(order, updated) => ILeases::LeaseUpdated {
            orderId: order,
            updatedId: updated,
            workload: WORKLOAD,
        }
        .encode_log_data(),
        Happening::Closed(order) => ILeases::LeaseClosed {
            orderId: order,
            reason: OrderState::ClosedByUser,
            billed: 1,
        }
        .encode_log_data(),
    };
    Log {
        inner: alloy_primitives::Log {
            address: Address::ZERO,
            data,
        },
        ..Log::default()
    }
}

fn hash(number: u64, branch: u64) -> B256 {
    B256::from(U256::from(number << 32 | branch))
}

fn applied(number: u64, branch: u64, happenings: &[Happening]) -> Event {
    Event::Applied(AppliedBlock {
        number,
        hash: hash(number, branch),
        parent: B256::ZERO,
        timestamp: number,
        logs: happenings.iter().map(|one| log(*one, number)).collect(),
    })
}

fn batch(events: Vec<Event>) -> Batch {
    Batch {
        events,
        head: BlockReference {
            number: 0,
            hash: B256::ZERO,
        },
        caught_up: true,
    }
}

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(directory.path()).expect("store");
    (directory, store)
}

/// What the chain decides, without what was decided here: of each order its lease and end, when it closes for bids, and what is
/// proposed for it.
type Decided = (Option<Leased>, Option<u64>, Option<(u64, OrderState)>, Option<U256>);

async fn chain_state(store: &Store) -> Vec<Decided> {
    let mut state = Vec::new();
    let open = store.open_orders(0, 0).await.expect("open orders");
    for order in 1..=ORDERS {
        let lease = store.lease(OWN, LeaseId(order)).await.expect("lease");
        let close_block = open
            .iter()
            .find(|one| one.id == order)
            .map(|one| (one.close_block, OrderState::Open));
        let end = lease.as_ref().and_then(Lease::end);
        let proposals = store.open_proposals(OWN).await.expect("proposals");
        let proposed = proposals
            .iter()
            .find(|proposal| proposal.key.lease == LeaseId(order))
            .map(|proposal| proposal.terms.resources);
        state.push((lease.and_then(|lease| lease.leased), end, close_block, proposed));
    }
    state
}

#[tokio::test]
async fn a_lease_is_ours_from_its_event_and_over_with_its_close() {
    let (_directory, store) = open();
    let blocks = vec![
        applied(1, 0, &[Happening::Created(1), Happening::Created(2)]),
        applied(2, 0, &[Happening::Leased(1, OWN), Happening::Leased(2, 8)]),
    ];
    store.apply(OWN, &batch(blocks)).await.expect("apply");
    let leases = store.unfinished_leases(OWN).await.expect("leases");
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].id, leases[0].end()), (LeaseId(1), Some(62)));
    assert!(store.open_orders(2, 20).await.expect("open").is_empty());

    store
        .apply(OWN, &batch(vec![applied(3, 0, &[Happening::Closed(1)])]))
        .await
        .expect("apply");
    let closed = store.lease(OWN, LeaseId(1)).await.expect("lease").expect("there");
    assert_eq!(
        closed
            .leased
            .and_then(|leased| leased.closed)
            .map(|closed| closed.block),
        Some(3)
    );
    store.set_removed(LeaseId(1)).await.expect("removed");
    store.set_paid(vec![LeaseId(1)]).await.expect("paid");
    assert!(store.unfinished_leases(OWN).await.expect("leases").is_empty());
}

#[tokio::test]
async fn an_undone_lease_is_remembered_with_what_was_decided_for_it() {
    let (_directory, store) = open();
    let blocks = vec![
        applied(1, 0, &[Happening::Created(1)]),
        applied(2, 0, &[Happening::Leased(1, OWN)]),
    ];
    store.apply(OWN, &batch(blocks)).await.expect("apply");
    store
        .set_assignment(LeaseId(1), B256::repeat_byte(1), &Assignment::default())
        .await
        .expect("assignment");
    let undone = vec![Event::Reverted { above: 0 }, applied(1, 1, &[]), applied(2, 1, &[])];
    store.apply(OWN, &batch(undone)).await.expect("apply");
    let lease = &store.unfinished_leases(OWN).await.expect("leases")[0];
    assert_eq!((lease.leased, lease.undone_block), (None, Some(0)));
    assert!(lease.was_applied);
    assert!(store.open_orders(2, 20).await.expect("open").is_empty());

    // It happens after all, a block later.
    let again = vec![
        applied(3, 1, &[Happening::Created(1)]),
        applied(4, 1, &[Happening::Leased(1, OWN)]),
    ];
    store.apply(OWN, &batch(again)).await.expect("apply");
    let lease = &store.unfinished_leases(OWN).await.expect("leases")[0];
    assert_eq!(lease.leased.map(|leased| leased.block), Some(4));
    assert!(lease.was_applied);
}

#[tokio::test]
async fn a_reservation_lasts_until_it_is_given_back_or_its_answer_is_late() {
    let (_directory, store) = open();
    store
        .apply(OWN, &batch(vec![applied(1, 0, &[Happening::Created(1)])]))
        .await
        .expect("apply");
    store.reserve(vec![(1, 4)]).await.expect("reserve");
    assert_eq!(store.open_orders(5, 20).await.expect("open")[0].bid_for, Some(4));
    assert!(store.open_orders(25, 20).await.expect("open").is_empty());
    store.release(vec![(1, 4)]).await.expect("release");
    assert_eq!(store.open_orders(5, 20).await.expect("open")[0].bid_for, None);
}

#[tokio::test]
async fn an_extension_moves_the_end_until_it_is_undone() {
    let (_directory, store) = open();
    let blocks = vec![
        applied(1, 0, &[Happening::Created(1)]),
        applied(2, 0, &[Happening::Leased(1, OWN)]),
        applied(3, 0, &[Happening::Extended(1, 90)]),
        applied(4, 0, &[Happening::Extended(1, 120)]),
    ];
    store.apply(OWN, &batch(blocks)).await.expect("apply");
    let end = async || store.lease(OWN, LeaseId(1)).await.expect("lease").expect("there").end();
    assert_eq!(end().await, Some(122));
    for (above, expected) in [(3, 92), (2, 62)] {
        store
            .apply(OWN, &batch(vec![Event::Reverted { above }]))
            .await
            .expect("apply");
        assert_eq!(end().await, Some(expected));
    }
}

#[tokio::test]
async fn an_update_puts_one_lease_in_anothers_place_and_a_reorganisation_puts_it_back() {
    let (_directory, store) = open();
    let blocks = vec![
        applied(1, 0, &[Happening::Created(1)]),
        applied(2, 0, &[Happening::Leased(1, OWN)]),
        applied(3, 0, &[Happening::Proposed(1, 8)]),
        applied(4, 0, &[Happening::Proposed(1, 9)]),
    ];
    store.apply(OWN, &batch(blocks)).await.expect("apply");
    let open = store.open_proposals(OWN).await.expect("proposals");
    assert_eq!(open.len(), 1, "a later proposal replaces an earlier one");
    assert_eq!((open[0].terms.resources, open[0].expiry), (U256::from(9), 1_000));
    let (key, images) = (open[0].key, BTreeMap::from([("web".to_owned(), image())]));
    store.set_images(key, &images).await.expect("images");
    let phase = Phase::Accepting {
        rate: u128::from(u64::MAX) + 1,
    };
    store.set_phase(key, &phase, 4).await.expect("phase");
    assert_eq!(store.last_refusal(LeaseId(1)).await.expect("read"), None);
    let stored = store.last_proposal(LeaseId(1)).await.expect("read").expect("there");
    assert_eq!((&stored.phase, &stored.images), (&phase, &images));

    let update = [
        Happening::Closed(1),
        Happening::Leased(2, OWN),
        Happening::Updated(1, 2),
    ];
    store
        .apply(OWN, &batch(vec![applied(5, 0, &update)]))
        .await
        .expect("apply");
    let leases = store.leases_of(OWN, LeaseId(1)).await.expect("leases");
    let [first, second] = leases.as_slice() else {
        panic!("{leases:?}")
    };
    assert!(!first.is_live() && second.is_live() && second.is_update());
    assert_eq!((second.workload, second.terms.resources), (LeaseId(1), U256::from(9)));
    assert!(store.open_proposals(OWN).await.expect("proposals").is_empty());
    let made = store.update_that_made(LeaseId(2)).await.expect("read").expect("there");
    assert_eq!((made.key, made.images), (key, images));
    assert_eq!(store.update_that_made(LeaseId(1)).await.expect("read"), None);

    // What is decided for the workload stands with all its leases.
    store.set_ready(LeaseId(1)).await.expect("ready");
    assert!(store.lease(OWN, LeaseId(2)).await.expect("lease").expect("there").ready);
    store.set_setback(LeaseId(2), "it crashed").await.expect("setback");

    let undone = vec![Event::Reverted { above: 4 }, applied(5, 1, &[]), applied(6, 1, &[])];
    store.apply(OWN, &batch(undone)).await.expect("apply");
    let leases = store.leases_of(OWN, LeaseId(1)).await.expect("leases");
    let [first, second] = leases.as_slice() else {
        panic!("{leases:?}")
    };
    assert!(first.is_live() && second.leased.is_none());
    let open = store.open_proposals(OWN).await.expect("proposals");
    assert_eq!(open.len(), 1, "it can be taken again");
    assert_eq!(open[0].phase, phase);
}

#[tokio::test]
async fn an_update_of_a_lease_that_is_not_known_leaves_nothing() {
    let (_directory, store) = open();
    let update = [Happening::Leased(2, 8), Happening::Updated(1, 2)];
    store
        .apply(OWN, &batch(vec![applied(5, 0, &update)]))
        .await
        .expect("apply");
    assert_eq!(store.order(2).await.expect("read"), None);
}

#[tokio::test]
async fn of_two_assignments_the_one_set_last_is_in_force() {
    let (_directory, store) = open();
    let [first, second] = [1, 2].map(B256::repeat_byte);
    let with = |name: &str| Assignment {
        images: BTreeMap::from([(name.to_owned(), image())]),
        ports: Vec::new(),
    };
    let workload = LeaseId(1);
    for (hash, name) in [(first, "a"), (second, "b"), (first, "c")] {
        store.set_assignment(workload, hash, &with(name)).await.expect("set");
        let known = store.assignments(workload, second).await.expect("read");
        assert_eq!(known.in_force, Some((hash, with(name))));
        assert_eq!(known.asked, (name != "a").then(|| with("b")));
    }
    store.set_removed(workload).await.expect("removed");
    assert_eq!(
        store.assignments(workload, first).await.expect("read"),
        Assignments::default()
    );
}

fn image() -> workload::ResolvedImage {
    workload::ResolvedImage {
        reference: "web:1".to_owned(),
        id: "sha256:01".to_owned(),
        digest: None,
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let order = 1..=ORDERS;
    prop_oneof![
        order.clone().prop_map(Happening::Created),
        order.clone().prop_map(Happening::Requeued),
        order.clone().prop_map(Happening::Ended),
        (order.clone(), 7u32..9).prop_map(|(order, supplier)| Happening::Leased(order, supplier)),
        order.clone().prop_map(Happening::Closed),
        (order.clone(), 61u32..99).prop_map(|(order, duration)| Happening::Extended(order, duration)),
        (order.clone(), 8u64..11).prop_map(|(order, variant)| Happening::Proposed(order, variant)),
        order.prop_map(Happening::Rejected),
    ]
}

/// Only what a contract would let happen, in order.
fn possible(chain: &[Vec<Happening>], wanted: Happening) -> bool {
    let happened =
        |wanted: fn(&Happening, u64) -> bool, order: u64| chain.iter().flatten().any(|one| wanted(one, order));
    let created = |order| happened(|one, order| *one == Happening::Created(order), order);
    let requeued = |order| happened(|one, order| *one == Happening::Requeued(order), order);
    let ended = |order| happened(|one, order| *one == Happening::Ended(order), order);
    let leased = |order| {
        happened(
            |one, order| matches!(one, Happening::Leased(other, _) if *other == order),
            order,
        )
    };
    let closed = |order| happened(|one, order| *one == Happening::Closed(order), order);
    match wanted {
        Happening::Created(order) => !created(order),
        Happening::Requeued(order) => created(order) && !requeued(order) && !leased(order) && !ended(order),
        Happening::Ended(order) | Happening::Leased(order, _) => created(order) && !leased(order) && !ended(order),
        Happening::Closed(order)
        | Happening::Extended(order, _)
        | Happening::Proposed(order, _)
        | Happening::Rejected(order) => leased(order) && !closed(order),
        Happening::Updated(..) => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// After any reorganisations the store says what it would say had it only ever seen the chain that remained.
    #[test]
    fn what_was_undone_leaves_no_trace(
        steps in prop::collection::vec((0u64..5, prop::collection::vec(any_happening(), 0..4)), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let (_first, store) = open();
            let mut chain: Vec<Vec<Happening>> = Vec::new();
            for (branch, (depth, wanted)) in (0..).zip(steps) {
                let mut events = Vec::new();
                if depth > 1 && !chain.is_empty() {
                    chain.truncate(chain.len().saturating_sub(depth as usize - 1));
                    events.push(Event::Reverted { above: chain.len() as u64 });
                }
                let mut block = Vec::new();
                for one in wanted {
                    let mut with_block = chain.clone();
                    with_block.push(block.clone());
                    if possible(&with_block, one) {
                        block.push(one);
                    }
                }
                chain.push(block.clone());
                events.push(applied(chain.len() as u64, branch, &block));
                store.apply(OWN, &batch(events)).await.expect("apply");
            }
            let (_second, fresh) = open();
            let events = (1..).zip(&chain).map(|(number, block)| applied(number, 0, block)).collect();
            fresh.apply(OWN, &batch(events)).await.expect("apply");
            prop_assert_eq!(chain_state(&store).await, chain_state(&fresh).await);
            Ok(())
        })?;
    }
}
