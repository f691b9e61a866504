use avs::words::{GpuEntry, GpuSet, Requirements, ScoreCard, TierSet};
use manifest::Decimal;
use proptest::prelude::*;

use super::*;

const TOKEN: u8 = 1;

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

fn prices() -> BTreeMap<u8, Prices> {
    let list = Prices {
        symbol: "uSPON".to_owned(),
        decimals: 6,
        cpu: decimal("0.02"),
        memory_gib: decimal("0.01"),
        storage_gib: decimal("0.0001"),
        gpus: BTreeMap::from([(7, decimal("1"))]),
        minimum: decimal("0"),
    };
    BTreeMap::from([(TOKEN, list)])
}

fn parameters() -> Parameters {
    Parameters::new([1_000_000, 0, 0, 0, 0, 0, 0, 0], 1, 1, 1).expect("parameters")
}

fn card() -> ScoreCard {
    ScoreCard {
        tier: 2,
        region: 3,
        tokens: 1 << TOKEN,
        active: true,
        ..ScoreCard::default()
    }
}

fn capacity() -> Capacity {
    Capacity {
        cpu_free: 400,
        cpu_total: 400,
        memory_free: 128,
        memory_total: 128,
        storage_free: 40,
        storage_total: 40,
        active: true,
        ..Capacity::default()
    }
}

fn standing(card: ScoreCard, capacity: Capacity) -> Standing {
    Standing {
        provider: 9,
        score_card: card.pack().expect("a card"),
        capacity: capacity.pack().expect("a capacity"),
    }
}

fn terms(resources: Resources, requirements: Requirements) -> Terms {
    Terms {
        resources: resources.pack().expect("resources"),
        requirements: requirements.pack().expect("requirements"),
        regions: U256::MAX,
        manifest_hash: B256::repeat_byte(1),
        maximum_rate: 100_000_000,
        duration: 3_600,
        wanted_suppliers: Vec::new(),
        excluded_suppliers: Vec::new(),
    }
}

/// One core, half a GiB.
fn one_core() -> Resources {
    Resources {
        cpu: 100,
        memory: 32,
        ..Resources::default()
    }
}

fn order(nonce: u32, terms: Terms) -> OpenOrder {
    let id = OrderId {
        account: 5,
        token: TOKEN,
        nonce,
    };
    OpenOrder {
        id: id.pack().expect("an id"),
        close_block: 103,
        terms,
        bid_for: None,
    }
}

fn at(head: u64) -> Moment {
    Moment {
        head,
        response_window: 20,
    }
}

fn decide_on(orders: &[OpenOrder]) -> Decision {
    decide(&prices(), &parameters(), &standing(card(), capacity()), at(100), orders).expect("a decision")
}

#[test]
fn an_order_that_fits_gets_the_exact_price() {
    let decision = decide_on(&[order(1, terms(one_core(), Requirements::default()))]);
    // A core at 0.02 and half a GiB at 0.01, ten hours, six decimals.
    assert_eq!(decision.bids.len(), 1, "{decision:?}");
    assert_eq!(decision.bids[0].rate, 250_000);
    assert_eq!((decision.left.cpu_free, decision.left.memory_free), (300, 96));
}

#[test]
fn bids_stop_where_the_capacity_is_promised_and_ascend_by_order() {
    let orders: Vec<_> = [6, 2, 5, 1, 4, 3]
        .into_iter()
        .map(|nonce| order(nonce, terms(one_core(), Requirements::default())))
        .collect();
    let decision = decide_on(&orders);
    let ids: Vec<_> = decision.bids.iter().map(|bid| bid.order & 0xff_ffff).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    assert!(
        decision
            .declined
            .iter()
            .all(|(_, reason)| matches!(reason, Declined::Refused(Rejection::Cpu { free: 0, .. })))
    );
}

#[test]
fn what_was_promised_stays_reserved_until_no_answer_can_come() {
    let mut promised = order(1, terms(one_core(), Requirements::default()));
    promised.bid_for = Some(103);
    let again = |head, bid_for| {
        let order = OpenOrder {
            bid_for,
            ..promised.clone()
        };
        decide(
            &prices(),
            &parameters(),
            &standing(card(), capacity()),
            at(head),
            &[order],
        )
        .expect("a decision")
    };
    assert!(again(100, Some(103)).bids.is_empty(), "one bid per order");
    assert_eq!(again(123, Some(103)).left.cpu_free, 300);
    assert_eq!(again(124, Some(103)).left.cpu_free, 400);
    // Requeued: another close block, another bid.
    assert_eq!(again(100, Some(90)).bids.len(), 1);
}

#[test]
fn no_bid_that_would_come_too_late() {
    let wanted = [order(1, terms(one_core(), Requirements::default()))];
    let bids = |head| {
        decide(
            &prices(),
            &parameters(),
            &standing(card(), capacity()),
            at(head),
            &wanted,
        )
        .expect("a decision")
        .bids
        .len()
    };
    // The last block that takes a bid is 102.
    assert_eq!((bids(101), bids(102), bids(103)), (1, 0, 0));
}

#[test]
fn each_filter_declines_with_its_reason() {
    let plain = || terms(one_core(), Requirements::default());
    let check = |terms: Terms, expected: fn(&Declined) -> bool| {
        let decision = decide_on(&[order(1, terms)]);
        assert!(decision.bids.is_empty(), "{decision:?}");
        assert!(expected(&decision.declined[0].1), "{:?}", decision.declined);
    };
    let cheap = Terms {
        maximum_rate: 249_999,
        ..plain()
    };
    check(cheap, |reason| {
        reason.to_string() == "this provider asks 0.025 uSPON/h, the order offers at most 0.0249999"
    });
    let elsewhere = Terms {
        regions: U256::from(1) << 4,
        ..plain()
    };
    check(elsewhere, |reason| {
        matches!(reason, Declined::Refused(Rejection::Region { .. }))
    });
    let others = Terms {
        wanted_suppliers: vec![8],
        ..plain()
    };
    check(others, |reason| {
        matches!(reason, Declined::Refused(Rejection::NotWanted { .. }))
    });
    let not_us = Terms {
        excluded_suppliers: vec![9],
        ..plain()
    };
    check(not_us, |reason| {
        matches!(reason, Declined::Refused(Rejection::Excluded { .. }))
    });
    let best = Requirements {
        tiers: TierSet::from_tiers([1]).expect("tiers"),
        ..Requirements::default()
    };
    check(terms(one_core(), best), |reason| {
        matches!(reason, Declined::Refused(Rejection::Tier { .. }))
    });
    let fizz = Requirements {
        mode: avs::words::Mode::Fizz,
        ..Requirements::default()
    };
    check(terms(one_core(), fizz), |reason| {
        matches!(reason, Declined::Refused(Rejection::Mode { .. }))
    });
    let malformed = Terms {
        resources: U256::ZERO,
        ..plain()
    };
    check(malformed, |reason| *reason == Declined::Malformed);
    let mut other_token = order(1, plain());
    other_token.id = OrderId {
        account: 5,
        token: 2,
        nonce: 1,
    }
    .pack()
    .expect("an id");
    assert_eq!(decide_on(&[other_token]).declined[0].1, Declined::NoPrices { token: 2 });
}

#[test]
fn a_gpu_is_priced_by_the_model_that_serves() {
    let mut with_gpus = capacity();
    with_gpus.gpus[1] = GpuEntry {
        id: 7,
        free: 2,
        total: 2,
    };
    with_gpus.gpus[0] = GpuEntry {
        id: 8,
        free: 2,
        total: 2,
    };
    let asked = |ids: &[u8]| Resources {
        gpu_count: 2,
        gpus: GpuSet::from_ids(ids.iter().copied()).expect("ids"),
        ..one_core()
    };
    let decide_on = |ids: &[u8]| {
        let orders = [order(1, terms(asked(ids), Requirements::default()))];
        decide(&prices(), &parameters(), &standing(card(), with_gpus), at(100), &orders).expect("a decision")
    };
    let decision = decide_on(&[7]);
    assert_eq!(decision.bids[0].rate, 20_250_000);
    assert_eq!(decision.left.gpus[1].free, 0);
    let unpriced = decide_on(&[8]);
    assert_eq!(
        unpriced.declined[0].1,
        Declined::Price(PriceError::GpuNotPriced { id: 8 })
    );
}

proptest! {
    /// Whatever is asked: never more is promised than there is, and every bid would be accepted by the operators' rule
    /// with what was left when it was made.
    #[test]
    fn never_more_is_promised_than_there_is(
        asked in prop::collection::vec((1u32..300, 1u32..100, 0u32..30, any::<bool>()), 0..12),
    ) {
        let orders: Vec<OpenOrder> = (1..).zip(&asked).map(|(nonce, (cpu, memory, storage, bid_before))| {
            let resources = Resources { cpu: *cpu, memory: *memory, storage: *storage, ..Resources::default() };
            let mut order = order(nonce, terms(resources, Requirements::default()));
            order.bid_for = bid_before.then_some(103);
            order
        }).collect();
        let decision = decide_on(&orders);
        let sum = |of: fn(&(u32, u32, u32, bool)) -> u32| -> u32 {
            decision.bids.iter().map(|bid| of(&asked[(bid.order & 0xff_ffff) as usize - 1])).sum()
        };
        let before = |of: fn(&(u32, u32, u32, bool)) -> u32| -> u32 {
            asked.iter().filter(|one| one.3).map(of).sum()
        };
        if !decision.bids.is_empty() {
            prop_assert!(sum(|one| one.0) <= 400u32.saturating_sub(before(|one| one.0)));
            prop_assert!(sum(|one| one.1) <= 128u32.saturating_sub(before(|one| one.1)));
            prop_assert!(sum(|one| one.2) <= 40u32.saturating_sub(before(|one| one.2)));
        }
        prop_assert!(decision.bids.windows(2).all(|pair| pair[0].order < pair[1].order));
        prop_assert_eq!(
            decision.bids.len() + decision.declined.len(),
            asked.iter().filter(|one| !one.3).count()
        );
    }
}
