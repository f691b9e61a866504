use super::*;
use crate::caretaker::tests::Bench;

/// Whose chain is nowhere, over another agent's parts.
fn cashier(bench: &Bench) -> Cashier {
    let caretaker = &bench.caretaker;
    Cashier {
        market: caretaker.market.clone(),
        store: caretaker.store.clone(),
        transactions: caretaker.transactions.clone(),
        own: caretaker.own,
        hold_seconds: 0,
        terms: settling::Terms {
            minimum_gain_ratio: "20".parse().expect("a decimal"),
            interval_seconds: 1,
            unweighed_interval_seconds: 1,
        },
        native_price: None,
        announces: true,
        windows: Windows {
            grace: 1,
            low_funds: u64::MAX,
        },
        depth: 1,
        seen: caretaker.seen.clone(),
        reachability: caretaker.reachability.clone(),
        failures: Vec::new(),
        metrics: caretaker.metrics.clone(),
    }
}

#[tokio::test]
async fn what_goes_wrong_with_one_thing_keeps_no_other_waiting() {
    let mut bench = Bench::new();
    bench.with_a_lease().await;
    let low_on_funds = Seen {
        head: 3,
        time: 100_000,
        caught_up: true,
    };
    let round = cashier(&bench).round(low_on_funds, &mut Memory::default()).await;
    let problems = round.expect_err("the chain is nowhere");
    let problems: Vec<&str> = problems.split("; ").collect();
    assert!(
        matches!(problems.as_slice(), [announcing, spon, micro]
            if announcing.starts_with("cannot read an order") && spon.starts_with("SPON: ") && micro.starts_with("uSPON: ")),
        "{problems:?}"
    );
}
