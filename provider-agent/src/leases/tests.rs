use proptest::prelude::*;

use super::*;

mod simulation;

const PATIENCE: Patience = Patience {
    manifest_seconds: 20,
    start_seconds: 30,
    confirmation_depth: 1,
    removal_depth: 4,
    undone_depth: 8,
};
/// Reorganisations in the simulation are no deeper: what is removed at depth never comes back.
const DEEPEST_REORGANISATION: usize = 3;
const DURATION: u64 = 60;
const GRACE: u64 = 5;
/// What one extension adds.
const EXTENSION: u64 = 30;

const NOW: Now = Now {
    head: 100,
    time: 1_000,
    chain_is_readable: true,
    store_works: true,
    engine_answers: true,
};

const RUNS: Objects = Objects {
    containers: 1,
    running: 1,
    exist: true,
};

fn active() -> Facts {
    Facts {
        on_chain: OnChain::Active {
            since_block: 99,
            start: 990,
            stops_at: 1_050,
        },
        has_manifest: true,
        was_applied: true,
        was_ready: true,
        over_since: None,
        failing_since: None,
        objects: RUNS,
        removed: false,
    }
}

fn decided(now: Now, facts: Facts) -> Vec<Action> {
    decide(&PATIENCE, &now, &facts)
}

#[test]
fn a_lease_is_deployed_at_depth_and_not_before() {
    assert_eq!(decided(NOW, active()), [Action::Apply]);
    assert_eq!(decided(Now { head: 99, ..NOW }, active()), []);
}

#[test]
fn without_a_manifest_in_time_the_lease_is_closed_but_not_when_something_runs() {
    let waiting = Facts {
        has_manifest: false,
        was_applied: false,
        was_ready: false,
        objects: Objects::default(),
        ..active()
    };
    let late = Now { time: 1_010, ..NOW };
    assert_eq!(decided(Now { time: 1_009, ..NOW }, waiting), []);
    assert_eq!(decided(late, waiting), [Action::Close(Reason::NoManifest)]);
    let adopted = Facts {
        objects: RUNS,
        ..waiting
    };
    assert_eq!(decided(late, adopted), [], "the manifest is lost, the workload runs on");
    let lost = Facts {
        was_applied: true,
        ..waiting
    };
    assert_eq!(decided(late, lost), [], "it came in time");
    let blind = Now {
        engine_answers: false,
        ..late
    };
    assert_eq!(
        decided(blind, waiting),
        [],
        "who cannot see whether something runs closes nothing"
    );
}

#[test]
fn what_never_ran_is_given_up_after_its_deadline_only() {
    let failing = Facts {
        was_ready: false,
        failing_since: Some(980),
        ..active()
    };
    assert_eq!(decided(Now { time: 1_009, ..NOW }, failing), [Action::Apply]);
    let late = Now { time: 1_010, ..NOW };
    assert_eq!(
        decided(late, failing),
        [Action::Apply, Action::Close(Reason::CannotStart)]
    );
    let ran_once = Facts {
        was_ready: true,
        ..failing
    };
    assert_eq!(decided(late, ran_once), [Action::Apply]);
}

#[test]
fn a_workload_runs_until_end_and_grace_are_over_for_sure() {
    let last_second = Now { time: 1_049, ..NOW };
    assert_eq!(decided(last_second, active()), [Action::Apply]);
    let end = Now { time: 1_050, ..NOW };
    let over = |since| Facts {
        over_since: since,
        ..active()
    };
    assert_eq!(decided(end, over(None)), []);
    // An extension that a reorganisation took away may come back in the next block.
    assert_eq!(decided(end, over(Some(100))), []);
    let sure = Now { head: 101, ..end };
    assert_eq!(
        decided(sure, over(Some(100))),
        [Action::StopAtEnd, Action::Close(Reason::AtEnd)]
    );
    let blind = Now {
        chain_is_readable: false,
        ..sure
    };
    assert_eq!(
        decided(blind, over(Some(100))),
        [],
        "who cannot read the chain stops nothing"
    );
    // It was extended.
    let extended = Facts {
        on_chain: OnChain::Active {
            since_block: 99,
            start: 990,
            stops_at: 1_110,
        },
        ..active()
    };
    assert_eq!(decided(sure, extended), [Action::Apply]);
}

#[test]
fn a_closed_lease_is_stopped_at_once_and_removed_at_depth() {
    let closed = Facts {
        on_chain: OnChain::Closed { since_block: 97 },
        ..active()
    };
    assert_eq!(decided(NOW, closed), [Action::Stop]);
    assert_eq!(decided(Now { head: 101, ..NOW }, closed), [Action::Remove]);
    let nothing_left = Facts {
        has_manifest: false,
        objects: Objects::default(),
        removed: true,
        ..closed
    };
    assert_eq!(decided(Now { head: 101, ..NOW }, nothing_left), []);
}

#[test]
fn an_undone_lease_keeps_its_disk_for_a_while() {
    let gone = Facts {
        on_chain: OnChain::Gone { since_block: 98 },
        ..active()
    };
    assert_eq!(decided(NOW, gone), [Action::Stop]);
    let stopped = Facts {
        objects: Objects { running: 0, ..RUNS },
        ..gone
    };
    assert_eq!(decided(Now { head: 105, ..NOW }, stopped), []);
    assert_eq!(decided(Now { head: 106, ..NOW }, stopped), [Action::Remove]);
}

fn any_now() -> impl Strategy<Value = Now> {
    (0u64..40, 0u64..200, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(head, time, chain_is_readable, store_works, engine_answers)| Now {
            head,
            time,
            chain_is_readable,
            store_works,
            engine_answers,
        },
    )
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let on_chain = prop_oneof![
        (0u64..40, 0u64..200).prop_map(|(since_block, start)| OnChain::Active {
            since_block,
            start,
            stops_at: start + DURATION
        }),
        (0u64..40).prop_map(|since_block| OnChain::Closed { since_block }),
        (0u64..40).prop_map(|since_block| OnChain::Gone { since_block }),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let since = (prop::option::of(0u64..200), prop::option::of(0u64..40));
    (on_chain, flags, since, 0usize..3, 0usize..3).prop_map(
        |(
            on_chain,
            (has_manifest, was_applied, was_ready, removed),
            (failing_since, over_since),
            containers,
            running,
        )| Facts {
            on_chain,
            has_manifest,
            was_applied,
            was_ready,
            over_since,
            failing_since,
            objects: Objects {
                containers,
                running: running.min(containers),
                exist: containers > 0,
            },
            removed,
        },
    )
}

proptest! {
    /// Nothing is removed, and nothing is written to the chain, unless everything can be read and recorded and the chain
    /// said so at depth.
    #[test]
    fn nothing_final_follows_from_what_cannot_be_known(now in any_now(), facts in any_facts()) {
        let actions = decided(now, facts);
        if !now.chain_is_readable || !now.store_works {
            prop_assert!(actions.iter().all(|action| matches!(action, Action::Apply | Action::Stop)), "{actions:?}");
        }
        if !now.engine_answers {
            prop_assert!(
                actions.iter().all(|action| !matches!(action, Action::Remove | Action::Stop | Action::StopAtEnd)),
                "{actions:?}"
            );
        }
        if actions.contains(&Action::StopAtEnd) || actions.contains(&Action::Close(Reason::AtEnd)) {
            let OnChain::Active { stops_at, .. } = facts.on_chain else { panic!("{facts:?}") };
            prop_assert!(now.time >= stops_at && now.chain_is_readable && now.store_works);
            let is_certain = |since: u64| now.head >= since + PATIENCE.confirmation_depth;
            prop_assert!(facts.over_since.is_some_and(is_certain));
        }
        if actions.contains(&Action::Remove) {
            let is_deep = match facts.on_chain {
                OnChain::Active { .. } => false,
                OnChain::Closed { since_block } => now.head >= since_block + PATIENCE.removal_depth,
                OnChain::Gone { since_block } => now.head >= since_block + PATIENCE.undone_depth,
            };
            prop_assert!(is_deep, "{facts:?} at {now:?}");
        }
        let stops = |action: &Action| matches!(action, Action::Stop | Action::StopAtEnd);
        let runs_and_stops = actions.contains(&Action::Apply) && actions.iter().any(stops);
        prop_assert!(!runs_and_stops, "{actions:?}");
    }
}
