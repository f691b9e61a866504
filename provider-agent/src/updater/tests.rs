use gateway::wire::UpdatePhase;
use workload::Staged;

use super::*;
use crate::caretaker::tests::{Bench, FIRST, any_terms};

const LEASE: LeaseId = LeaseId(2);
/// The first lease of the workload: what is asked of the engine has its name.
const WORKLOAD: LeaseId = LeaseId(1);

fn proposal(block: u64, expiry: u64) -> Proposal {
    Proposal {
        key: ProposalKey {
            lease: LEASE,
            block,
            position: 0,
        },
        terms: any_terms(),
        expiry,
        ended: false,
        phase: Phase::Staging { problem: None },
        images: BTreeMap::new(),
    }
}

/// Whose chain is nowhere, over another agent's parts.
fn updater(bench: &Bench) -> Updater {
    let caretaker = &bench.caretaker;
    Updater {
        market: caretaker.market.clone(),
        store: caretaker.store.clone(),
        manifests: caretaker.manifests.clone(),
        engine: caretaker.engine.clone(),
        transactions: caretaker.transactions.clone(),
        own: caretaker.own,
        accept: Accept::IfItFits,
        prices: BTreeMap::new(),
        command: None,
        answer_window: 1,
        seen: caretaker.seen.clone(),
        reachability: caretaker.reachability.clone(),
        failures: Vec::new(),
        metrics: caretaker.metrics.clone(),
    }
}

/// Work on the proposal that stands, as it begins at a look, and its lease.
async fn work(updater: &Updater) -> (Work, Lease) {
    let store = &updater.store;
    let proposal = store.open_proposals(updater.own).await.expect("read").remove(0);
    let lease = store.lease(updater.own, FIRST).await.expect("read").expect("there");
    let work = Work {
        updater: updater.clone(),
        proposal,
        now: Now { time: 3, may_act: true },
    };
    (work, lease)
}

#[tokio::test]
async fn what_was_missed_while_a_proposal_was_worked_on_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.with_a_proposal().await;
    let updater = updater(&bench);
    let (mut memory, mut tasks) = (Memory::default(), JoinSet::new());
    updater.round(None, &mut memory, &mut tasks).await.expect("a round");
    // Its manifest comes, say.
    updater.round(None, &mut memory, &mut tasks).await.expect("a round");
    assert_eq!(tasks.len(), 1);
    let done = tasks.join_next().await.expect("it is worked on");
    let again = updater.note(done, &mut memory);
    assert_eq!(again, Some(FIRST));
    updater.round(again, &mut memory, &mut tasks).await.expect("a round");
    let done = tasks.join_next().await.expect("it is worked on again");
    assert_eq!(updater.note(done, &mut memory), None);
}

#[test]
fn images_of_a_proposal_that_is_gone_are_given_up_once() {
    let staged = || Memory {
        asked_for: HashMap::from([(LEASE, (proposal(5, 100).key, WORKLOAD))]),
        ..Memory::default()
    };
    assert_eq!(staged().abandoned(&[proposal(5, 100)], 99), []);
    // Withdrawn or taken, replaced, expired.
    assert_eq!(staged().abandoned(&[], 99), [WORKLOAD]);
    assert_eq!(staged().abandoned(&[proposal(6, 100)], 99), [WORKLOAD]);
    let mut memory = staged();
    assert_eq!(memory.abandoned(&[proposal(5, 100)], 100), [WORKLOAD]);
    assert_eq!(memory.abandoned(&[proposal(5, 100)], 100), []);
    // Not under the hands of who works on it.
    let mut memory = staged();
    memory.busy.insert(LEASE);
    assert_eq!(memory.abandoned(&[], 99), []);
    memory.busy.clear();
    assert_eq!(memory.abandoned(&[], 99), [WORKLOAD]);
}

#[tokio::test]
async fn a_pull_that_fails_is_told_while_it_is_tried_again() {
    let mut bench = Bench::new();
    bench.with_a_proposal().await;
    let updater = updater(&bench);
    let (work, lease) = work(&updater).await;
    let said = async || {
        let store = &updater.store;
        let proposal = store.last_proposal(FIRST).await.expect("read").expect("there");
        let update = updates::told(&proposal, 3).expect("it stands");
        (update.phase, update.reason)
    };
    let problem = || "no such host".to_owned();
    bench.stages(Staged {
        waiting: vec!["web".to_owned()],
        problem: Some(("web".to_owned(), problem())),
        ..Staged::default()
    });
    let phase = work.stage(&lease, Phase::Awaiting).await.expect("staged").0;
    assert_eq!(
        said().await,
        (UpdatePhase::Staging, Some("web: no such host".to_owned()))
    );
    // The next attempt goes well.
    bench.stages(Staged {
        waiting: vec!["web".to_owned()],
        ..Staged::default()
    });
    let (phase, images) = work.stage(&lease, phase).await.expect("staged");
    assert_eq!(images, Images::Waiting(None));
    assert_eq!(said().await, (UpdatePhase::Staging, None));
    bench.stages(Staged::default());
    assert_eq!(work.stage(&lease, phase).await.expect("staged").1, Images::Here);
}

#[tokio::test]
async fn a_second_refusal_is_told_before_the_chain_is() {
    let mut bench = Bench::new();
    bench.with_a_proposal().await;
    let updater = updater(&bench);
    let (work, lease) = work(&updater).await;
    work.withhold(&lease, "no room".to_owned()).await.expect("recorded");
    let proposal = updater.store.last_proposal(FIRST).await.expect("read").expect("there");
    let update = updates::told(&proposal, 3).expect("it stands");
    assert_eq!(update.phase, UpdatePhase::Refused);
    assert!(update.reason.is_some_and(|reason| reason.starts_with("no room; ")));
    let expected = Phase::Withheld {
        reason: "no room".to_owned(),
    };
    assert_eq!(proposal.phase, expected);
}

#[tokio::test]
async fn a_restart_does_not_forget_that_a_refusal_was_paid_for_a_moment_ago() {
    let mut bench = Bench::new();
    bench.with_a_proposal().await;
    let (first, lease) = work(&updater(&bench)).await;
    assert_eq!(first.refused_at().await, Ok(None));
    // It may be on its way when the process dies: it counts from before it is sent.
    let refused = first.refuse(&lease, "no room".to_owned()).await;
    refused.expect_err("the chain is nowhere");

    bench.with_a_later_proposal(4).await;
    let (second, lease) = work(&updater(&bench)).await;
    assert_eq!(second.refused_at().await, Ok(Some(3)));
    // What is not told to the chain begins no pause.
    second.withhold(&lease, "no room".to_owned()).await.expect("recorded");
    assert_eq!(second.refused_at().await, Ok(Some(3)));
}
