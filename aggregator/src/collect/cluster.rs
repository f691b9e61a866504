//! A simulated cluster: operators, liars and outsiders around aggregators that crash and come back, one chain, and every
//! message lost, late, twice or out of order as a seed has it.
//!
//! A BLS signature of one message by one key is one point, so whether a signature is valid is looked up among the right
//! ones, and thousands of seeds take seconds; every hundredth seed does the pairings all the same.

mod aggregator;
mod cast;
mod invariants;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Seeds in ordinary test runs; `SPHERON_TEST_SEEDS` asks for more.
const SEEDS: u64 = 2_000;
/// Every so manieth seed checks signatures with pairings.
const REAL_CRYPTOGRAPHY: u64 = 100;

/// What all seeds together saw: a simulation in which nothing happens proves nothing.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU64,
    obliged: AtomicU64,
    crashes: AtomicU64,
    lost_races: AtomicU64,
    equivocations: AtomicU64,
    forgeries: AtomicU64,
    skipped: AtomicU64,
    dropped: AtomicU64,
}

#[test]
fn every_response_is_a_quorums_and_every_honest_quorum_gets_its_response() {
    let seeds = match std::env::var("SPHERON_TEST_SEEDS") {
        Ok(count) => count.parse().expect("SPHERON_TEST_SEEDS is a number"),
        Err(_) => SEEDS,
    };
    let (next, seen) = (AtomicU64::new(0), Seen::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let mut world = World::new(seed, seed % REAL_CRYPTOGRAPHY == 0);
                    world.run();
                    world.check(&seen);
                }
            });
        }
    });
    for (what, count) in [
        ("answered tasks", &seen.answered),
        ("tasks with an honest quorum", &seen.obliged),
        ("crashes", &seen.crashes),
        ("races that an aggregator lost", &seen.lost_races),
        ("equivocations", &seen.equivocations),
        ("forgeries", &seen.forgeries),
        ("blocks skipped", &seen.skipped),
        ("tasks reorganised away", &seen.dropped),
    ] {
        assert!(count.load(Ordering::Relaxed) > 0, "no seed of {seeds} saw {what}");
    }
}
