use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TERMS: fn() -> Terms = || Terms {
    minimum_gain_ratio: Decimal::new(10, 0).expect("a decimal"),
    interval_seconds: 3_600,
    unweighed_interval_seconds: 86_400,
};

/// A token of six decimals worth a dollar; gas at a gwei, and the native token worth 2 000 dollars: a transaction with one
/// lease costs 0.18 dollars.
fn worth() -> Worth {
    let dollar = U256::from(10).pow(U256::from(18));
    Worth {
        gas_price: 1_000_000_000,
        native: Some(U256::from(2_000) * dollar),
        token: Some(dollar),
        decimals: 6,
    }
}

fn earned(lease: u64, amount: u64, paid_until: u64) -> Earned {
    Earned {
        lease: LeaseId(lease),
        amount: U256::from(amount),
        paid_until,
        ended: false,
        closed_in_hold: false,
        shared: false,
    }
}

fn purse(leases: Vec<Earned>) -> Purse {
    Purse {
        leases,
        ..Purse::default()
    }
}

fn collected(now: u64, worth: &Worth, purse: &Purse) -> Vec<(Vec<u64>, u64)> {
    plan(&TERMS(), now, worth, purse)
        .into_iter()
        .map(|one| {
            (
                one.leases.into_iter().map(|lease| lease.0).collect(),
                one.amount.to::<u64>(),
            )
        })
        .collect()
}

#[test]
fn pay_is_collected_at_ten_times_its_gas_and_when_due_at_its_gas() {
    let young = |amount| purse(vec![earned(1, amount, 1_000)]);
    assert_eq!(collected(2_000, &worth(), &young(1_799_999)), []);
    assert_eq!(collected(2_000, &worth(), &young(1_800_000)), [(vec![1], 1_800_000)]);
    assert_eq!(collected(4_599, &worth(), &young(180_000)), []);
    assert_eq!(collected(4_600, &worth(), &young(180_000)), [(vec![1], 180_000)]);
    // Never at a loss, however long it takes; what was earned is not forgotten either.
    assert_eq!(collected(1 << 40, &worth(), &young(179_999)), []);
}

#[test]
fn at_its_end_a_lease_is_due_and_others_that_pay_for_their_place_come_along() {
    let mut ended = earned(1, 200_000, 4_000);
    ended.ended = true;
    let leases = vec![ended, earned(2, 60_000, 4_000), earned(3, 40_000, 4_000)];
    // One lease costs 0.05 dollars more.
    assert_eq!(collected(4_000, &worth(), &purse(leases)), [(vec![1, 2], 260_000)]);
}

#[test]
fn whoever_else_is_credited_costs_gas_once_a_transaction() {
    let ended = |lease, amount| Earned {
        ended: true,
        ..earned(lease, amount, 4_000)
    };
    let held = |lease, amount| Earned {
        closed_in_hold: true,
        ..ended(lease, amount)
    };
    let node = |lease, amount| Earned {
        shared: true,
        ..held(lease, amount)
    };
    let collected = |leases: &[Earned]| collected(4_000, &worth(), &purse(leases.to_vec()));
    // The foundation's credit is 0.06 dollars more, a gateway's as much again.
    for (lease, least) in [(ended(1, 0), 180_000), (held(1, 0), 240_000), (node(1, 0), 300_000)] {
        let amount = |units: u64| Earned {
            amount: U256::from(units),
            ..lease
        };
        assert_eq!(collected(&[amount(least - 1)]), []);
        assert_eq!(collected(&[amount(least)]), [(vec![1], least)]);
    }
    // Two pay for one credit, and what would not pay for it alone keeps no other waiting.
    assert_eq!(collected(&[held(1, 150_000), held(2, 139_999)]), []);
    assert_eq!(
        collected(&[held(1, 150_000), held(2, 140_000)]),
        [(vec![1, 2], 290_000)]
    );
    assert_eq!(collected(&[ended(1, 180_000), held(2, 109_999)]), [(vec![1], 180_000)]);
}

/// What the contracts' tests measured (`contracts/test/market/SettleGas.t.sol`).
fn snapshot(shape: &str) -> u64 {
    let text = include_str!("../../../contracts/snapshots/Settle.json");
    let all: serde_json::Value = serde_json::from_str(text).expect("the snapshot is JSON");
    let gas = all[shape].as_str().and_then(|gas| gas.parse().ok());
    gas.unwrap_or_else(|| panic!("contracts/snapshots/Settle.json has no number under {shape:?}"))
}

/// Gas that a transaction with so many leases costs, if all are as dear as the dearest of them; between what was measured with one
/// and with as many as a transaction takes.
fn measured(leases: usize, pays_foundation: bool, pays_gateway: bool) -> u64 {
    let shape = match (pays_foundation, pays_gateway) {
        _ if leases == 0 => return snapshot("credit"),
        (false, false) => "live",
        (true, false) => "closedInHold",
        (false, true) => "shared",
        (true, true) => "shared.closedInHold",
    };
    let (one, most) = (snapshot(shape), snapshot(&format!("{shape}.{BATCH}")));
    one + ((most - one) * (leases as u64 - 1)).div_ceil(BATCH as u64 - 1)
}

#[test]
fn no_transaction_costs_more_than_it_is_reckoned_to() {
    for (pays_foundation, pays_gateway) in [(false, false), (true, false), (false, true), (true, true)] {
        let dearest = Earned {
            closed_in_hold: pays_foundation,
            shared: pays_gateway,
            ..earned(1, 1, 0)
        };
        let cheap = earned(2, 1, 0);
        for count in 0..=BATCH {
            let mut leases = vec![&cheap; count];
            if let Some(first) = leases.first_mut() {
                *first = &dearest;
            }
            let (reckoned, costs) = (gas_of(&leases), measured(count, pays_foundation, pays_gateway));
            assert!(
                reckoned >= costs,
                "{count} leases, of which one is {dearest:?}: reckoned {reckoned}, measured {costs}"
            );
        }
    }
}

#[test]
fn without_prices_all_is_collected_together_and_seldom() {
    let unknown = Worth {
        native: None,
        ..worth()
    };
    let mut ended = earned(1, 5, 1_000);
    ended.ended = true;
    let purse = Purse {
        leases: vec![ended, earned(2, 70, 80_000), earned(3, 0, 0)],
        credit: U256::from(100),
        credit_since: 80_000,
        credit_of_closed: true,
    };
    // Whether an end pays for its gas cannot be told: it waits too.
    assert_eq!(collected(87_399, &unknown, &purse), []);
    assert_eq!(collected(87_400, &unknown, &purse), [(vec![1, 2], 175)]);
    let credit = Purse {
        leases: Vec::new(),
        ..purse
    };
    assert_eq!(collected(166_399, &unknown, &credit), []);
    assert_eq!(collected(166_400, &unknown, &credit), [(vec![], 100)]);
}

#[test]
fn the_credit_of_a_closed_lease_is_due_at_once_where_it_pays_for_its_gas() {
    let credit = |amount| Purse {
        credit: U256::from(amount),
        credit_since: 2_000,
        credit_of_closed: true,
        ..Purse::default()
    };
    assert_eq!(collected(2_000, &worth(), &credit(129_999)), []);
    assert_eq!(collected(2_000, &worth(), &credit(130_000)), [(vec![], 130_000)]);
}

#[test]
fn a_credit_is_withdrawn_alone_or_along() {
    let credit = |amount, leases| Purse {
        leases,
        credit: U256::from(amount),
        credit_since: 1_000,
        credit_of_closed: false,
    };
    assert_eq!(collected(2_000, &worth(), &credit(1_000_000, vec![])), []);
    assert_eq!(
        collected(2_000, &worth(), &credit(1_300_000, vec![])),
        [(vec![], 1_300_000)]
    );
    assert_eq!(
        collected(4_600, &worth(), &credit(130_000, vec![])),
        [(vec![], 130_000)]
    );
    let along = credit(1_700_000, vec![earned(1, 100_000, 1_000)]);
    assert_eq!(collected(2_000, &worth(), &along), [(vec![1], 1_800_000)]);
}

#[test]
fn prices_are_read_as_dollars_with_18_decimals() {
    let price = |text: &str| dollars(text.parse().expect("a decimal"));
    assert_eq!(
        price("2000"),
        Some(U256::from(2_000) * U256::from(10).pow(U256::from(18)))
    );
    assert_eq!(price("0.000000000000000001"), Some(U256::from(1)));
    assert_eq!(price("0.0000000000000000019"), Some(U256::from(1)));
    assert_eq!(
        dollars(Decimal::new(u128::MAX, 0).expect("a decimal")),
        U256::from(u128::MAX).checked_mul(U256::from(10).pow(U256::from(18)))
    );
}

fn any_worth() -> impl Strategy<Value = Worth> {
    (
        0u128..1 << 60,
        prop::option::of(0u128..1 << 80),
        prop::option::of(0u128..1 << 80),
        0u8..=18,
    )
        .prop_map(|(gas_price, native, token, decimals)| Worth {
            gas_price,
            native: native.map(U256::from),
            token: token.map(U256::from),
            decimals,
        })
}

fn any_purse() -> impl Strategy<Value = Purse> {
    let earned = (
        0u128..1 << 100,
        0u64..10_000,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    (prop::collection::vec(earned, 0..130), 0u128..1 << 90, 0u64..10_000).prop_map(|(leases, credit, credit_since)| {
        Purse {
            leases: (1..)
                .zip(leases)
                .map(|(lease, (amount, paid_until, ended, closed_in_hold, shared))| Earned {
                    lease: LeaseId(lease),
                    amount: U256::from(amount >> (lease % 100)),
                    paid_until,
                    ended: ended || closed_in_hold,
                    closed_in_hold,
                    shared,
                })
                .collect(),
            credit: U256::from(credit),
            credit_since,
            credit_of_closed: credit_since % 3 == 0,
        }
    })
}

proptest! {
    /// Nothing is collected at a loss or twice, nothing due that pays is left, and no transaction is too large.
    #[test]
    fn collecting_never_costs_more_than_it_brings_and_forgets_nothing(
        now in prop_oneof![0u64..20_000, 80_000u64..100_000], worth in any_worth(), purse in any_purse(),
    ) {
        let terms = TERMS();
        let collections = plan(&terms, now, &worth, &purse);
        let amount_of = |lease: &LeaseId| purse.leases.iter().find(|one| one.lease == *lease).map(|one| one.amount);
        let mut taken = BTreeSet::new();
        for (position, collection) in collections.iter().enumerate() {
            prop_assert!(collection.leases.len() <= BATCH);
            prop_assert!(!collection.leases.is_empty() || (position == 0 && !purse.credit.is_zero()));
            for lease in &collection.leases {
                prop_assert!(taken.insert(*lease), "{lease} twice");
                prop_assert!(amount_of(lease).is_some_and(|amount| !amount.is_zero()));
            }
        }
        let total = collections.iter().fold(U256::ZERO, |sum, one| sum + one.amount);
        let leases = taken.iter().filter_map(amount_of).fold(U256::ZERO, |sum, amount| sum + amount);
        prop_assert!(total == leases || total == leases + purse.credit);

        let is_due = |one: &Earned| one.ended || now >= one.paid_until + terms.interval_seconds;
        let (Some(native), Some(token)) = (worth.native, worth.token) else {
            let overdue = |since: u64| now >= since + terms.unweighed_interval_seconds;
            for one in purse.leases.iter().filter(|one| !one.amount.is_zero() && overdue(one.paid_until)) {
                prop_assert!(taken.contains(&one.lease), "{one:?} was left");
            }
            let due = purse.leases.iter().filter(|one| !one.amount.is_zero()).any(|one| overdue(one.paid_until));
            let credit_is_due = !purse.credit.is_zero() && overdue(purse.credit_since);
            prop_assert!(due || credit_is_due || collections.is_empty(), "nothing was due: {collections:?}");
            return Ok(());
        };
        let scale = U256::from(10).pow(U256::from(18 - worth.decimals));
        let value = |amount: U256| amount * token * scale;
        let cost = |gas: u64| native * U256::from(worth.gas_price) * U256::from(gas);
        for collection in &collections {
            let leases: Vec<&Earned> = purse.leases.iter().filter(|one| collection.leases.contains(&one.lease)).collect();
            let any = |is: fn(&Earned) -> bool| leases.iter().copied().any(is);
            let gas = measured(leases.len(), any(|one| one.closed_in_hold), any(|one| one.shared));
            prop_assert!(value(collection.amount) >= cost(gas), "{collection:?} is a loss");
        }
        for one in purse.leases.iter().filter(|one| is_due(one) && !one.amount.is_zero()) {
            prop_assert!(value(one.amount) < cost(gas_of(&[one])) || taken.contains(&one.lease), "{one:?} was left");
        }
        let is_old = now >= purse.credit_since + terms.interval_seconds;
        let overdue = (is_old || purse.credit_of_closed) && !purse.credit.is_zero();
        let most = BASE_GAS + LEASE_GAS * purse.leases.len().min(BATCH) as u64 + 2 * CREDIT_GAS;
        if overdue && value(purse.credit) >= cost(most) {
            prop_assert!(total >= purse.credit);
            prop_assert!(total == leases + purse.credit || leases.is_zero());
        }
    }
}
