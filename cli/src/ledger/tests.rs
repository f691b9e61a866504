//! Histories with the sums worked out by hand or by the contracts' formulas.

use alloy::primitives::Address;
use alloy::primitives::aliases::U96;

use super::*;

/// Account 1, token 1, first order.
const ORDER: u64 = 0x1_0100_0001;
const RATE: u64 = 9_999_999;
const START: u32 = 1_000_000;
const HOLD: u32 = 100;

fn schedule(commission: u16) -> FeeSchedule {
    FeeSchedule {
        commission,
        userFee: 200,
        providerFee: 200,
        gatewayShare: 1_500,
        matchFee: U96::from(1_000),
    }
}

fn facts() -> Facts {
    Facts {
        schedules: [(2, schedule(2_000)), (3, schedule(1_500))].into(),
        leases: [(ORDER, (3, false)), (ORDER + 1, (2, true))].into(),
        payout_hold: HOLD,
    }
}

/// Events a second apart, the first at `START`.
fn replay(events: Vec<(u64, Event)>) -> Ledger {
    let placed = events.into_iter().enumerate().map(|(index, (time, event))| {
        let place = Place {
            block: index as u64,
            time,
            ..Place::default()
        };
        (place, event)
    });
    Ledger::replay(placed.collect(), &facts())
}

fn at(seconds: u32) -> u64 {
    u64::from(START + seconds)
}

fn deposited() -> (u64, Event) {
    let event = Event::Deposited {
        token: 1,
        from: Address::ZERO,
        amount: U256::from(5_000_000_000u64),
    };
    (at(0), event)
}

fn ordered(duration: u32) -> (u64, Event) {
    let event = Event::Ordered {
        order: ORDER,
        rate: U256::from(RATE + 1),
        duration,
        schedule: 2,
    };
    (at(0), event)
}

fn leased() -> (u64, Event) {
    let event = Event::Leased {
        order: ORDER,
        supplier: 7,
        rate: U256::from(RATE),
        start: START,
    };
    (at(0), event)
}

fn closed(order: u64, second: u32, reason: OrderState, billed: u32) -> (u64, Event) {
    (at(second), Event::Closed { order, reason, billed })
}

fn settled(order: u64, second: u32, amount: U256) -> (u64, Event) {
    let until = second;
    (at(second), Event::Settled { order, amount, until })
}

fn bill(seconds: u32) -> Bill {
    Bill::after(seconds, U256::from(RATE), &schedule(1_500), Origin::default())
}

fn balanced(ledger: &Ledger) -> Sums {
    assert_eq!(ledger.problems, Vec::<String>::new());
    let sums = ledger.tokens[&1];
    assert_eq!(sums.unaccounted(), 0, "{sums:?}");
    sums
}

#[test]
fn an_order_that_nobody_took_costs_nothing() {
    for end in [Event::Cancelled { order: ORDER }, Event::Expired { order: ORDER }] {
        let ledger = replay(vec![deposited(), ordered(3_600), (at(9), end)]);
        let sums = balanced(&ledger);
        assert_eq!((sums.unlocked, sums.locked), (5_000_000_000, 0));
        let order = &ledger.leases[&ORDER];
        assert_eq!(signed(order.refunded), ledger.entries[1].locked);
        assert_eq!(order.spent(), U256::ZERO);
        assert!(ledger.entries[1].locked > 0 && ledger.entries[1].after.1 == ledger.entries[1].locked);
    }
}

#[test]
fn a_lease_settled_twice_extended_and_closed_adds_up_with_the_rebated_commission() {
    let first = bill(200).paid;
    let lock = |duration| lease_lock(duration, U256::from(RATE), &schedule(1_500));
    let extension = Event::Extended {
        order: ORDER,
        duration: 7_200,
        locked: lock(7_200) - lock(3_600),
    };
    let so_far = vec![
        deposited(),
        ordered(3_600),
        leased(),
        settled(ORDER, 200, first),
        (at(250), extension),
    ];
    let live = balanced(&replay(so_far.clone()));
    assert_eq!(live.locked, signed(lock(7_200)));
    assert_eq!(live.in_flight, signed(first));
    assert_eq!(live.match_fees, 1_000);

    let ended = [
        settled(ORDER, 5_000, bill(5_000).paid - first),
        closed(ORDER, 5_000, OrderState::ClosedByUser, 5_000),
        (
            at(6_000),
            Event::Withdrawn {
                token: 1,
                to: Address::ZERO,
                amount: U256::from(7),
            },
        ),
    ];
    let ledger = replay(so_far.into_iter().chain(ended).collect());
    let sums = balanced(&ledger);
    let bill = bill(5_000);
    assert_eq!(sums.locked, 0);
    assert_eq!(sums.commission, signed(bill.commission));
    assert_eq!(sums.unlocked, 5_000_000_000 - 7 - signed(bill.spent()));
    assert_eq!(ledger.leases[&ORDER].spent(), bill.spent());
}

#[test]
fn what_accrued_under_the_payout_hold_stays_locked_until_it_is_settled_or_undone() {
    let so_far = vec![
        deposited(),
        ordered(3_600),
        leased(),
        closed(ORDER, 50, OrderState::ClosedByUser, 50),
    ];
    let held = balanced(&replay(so_far.clone()));
    assert_eq!(held.locked, signed(bill(50).streamed()));

    let paid = so_far.iter().cloned().chain([settled(ORDER, 120, bill(50).paid)]);
    let paid = balanced(&replay(paid.collect()));
    assert_eq!(
        (paid.locked, paid.unlocked),
        (0, 5_000_000_000 - signed(bill(50).spent()))
    );

    let undone = so_far
        .into_iter()
        .chain([closed(ORDER, 60, OrderState::ClosedUndone, 0)]);
    let undone = balanced(&replay(undone.collect()));
    // The fee for the match stays with whoever brought it in.
    assert_eq!((undone.locked, undone.unlocked), (0, 5_000_000_000 - 1_000));
}

#[test]
fn an_update_goes_on_as_a_lease_without_a_match_fee_and_with_a_gateways_share() {
    let (old, new) = (
        bill(500),
        Bill::after(
            900,
            U256::from(500_001),
            &schedule(2_000),
            Origin {
                updated: true,
                shared: true,
            },
        ),
    );
    let next = ORDER + 1;
    let ledger = replay(vec![
        deposited(),
        ordered(3_600),
        leased(),
        (
            at(400),
            Event::Proposed {
                order: ORDER,
                by: Address::ZERO,
                rate: U256::from(600_000),
                duration: 1_800,
            },
        ),
        settled(ORDER, 500, old.paid),
        closed(ORDER, 500, OrderState::ClosedUpdated, 500),
        (
            at(500),
            Event::Leased {
                order: next,
                supplier: 8,
                rate: U256::from(500_001),
                start: START + 500,
            },
        ),
        (
            at(500),
            Event::Updated {
                order: ORDER,
                updated: next,
            },
        ),
        settled(next, 1_400, new.paid),
        (
            at(1_400),
            Event::GatewayPaid {
                order: next,
                amount: new.gateway,
            },
        ),
        closed(next, 1_400, OrderState::ClosedMaintenance, 900),
    ]);
    let sums = balanced(&ledger);
    assert_eq!(sums.match_fees, 1_000);
    assert_eq!(sums.gateways, signed(new.gateway));
    assert_eq!(sums.unlocked, 5_000_000_000 - signed(old.spent()) - signed(new.spent()));
    // The rows of each lease add up by themselves.
    for (order, bill) in [(ORDER, old), (next, new)] {
        let rows: Vec<&Entry> = ledger
            .entries
            .iter()
            .filter(|entry| entry.event.order() == Some(order))
            .collect();
        assert_eq!(rows.iter().map(|row| row.locked).sum::<i128>(), 0, "{order}");
        assert_eq!(
            rows.iter().map(|row| row.unlocked).sum::<i128>(),
            -signed(bill.spent()),
            "{order}"
        );
    }
    assert_eq!(ledger.leases[&ORDER].replaced_by, Some(next));
    assert_eq!((ledger.leases[&ORDER].supplier, ledger.leases[&next].supplier), (7, 8));
}

#[test]
fn what_does_not_add_up_is_said() {
    let ledger = replay(vec![
        deposited(),
        ordered(3_600),
        leased(),
        settled(ORDER, 500, bill(500).paid + U256::ONE),
        closed(ORDER, 500, OrderState::ClosedByUser, 500),
    ]);
    assert!(
        ledger
            .problems
            .iter()
            .any(|problem| problem.contains("its supplier got")),
        "{:?}",
        ledger.problems
    );
    let ledger = replay(vec![deposited(), closed(ORDER, 500, OrderState::ClosedByUser, 500)]);
    assert!(
        ledger.problems[0].contains("does this RPC endpoint keep old logs"),
        "{:?}",
        ledger.problems
    );
    let late = vec![deposited(), leased()];
    assert!(replay(late).problems[0].contains("nothing says how its order was created"));
}
