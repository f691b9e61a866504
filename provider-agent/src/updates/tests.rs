use alloy_primitives::{B256, U256};
use avs::words::{GpuEntry, GpuSet, Mode, OrderId, Requirements, ScoreCard, TierSet};
use proptest::prelude::*;

use workload::LeaseId;

use super::*;
use crate::store::ProposalKey;

const OWN: u32 = 7;
const TOKEN: u8 = 1;

fn lease() -> u64 {
    let id = OrderId {
        account: 1,
        token: TOKEN,
        nonce: 1,
    };
    id.pack().expect("an id")
}

fn terms(cpu: u32, memory: u32, gpus: u16) -> Terms {
    let resources = Resources {
        cpu,
        memory,
        storage: 4,
        gpu_count: gpus,
        gpus: GpuSet::from_ids((gpus > 0).then_some(3)).expect("a model"),
    };
    let requirements = Requirements {
        mode: Mode::Provider,
        tiers: TierSet::from_tiers([0, 1, 2, 3, 4, 5, 6, 7].into_iter().filter(|tier| *tier > 0)).expect("tiers"),
        ..Requirements::default()
    };
    Terms {
        resources: resources.pack().expect("resources"),
        requirements: requirements.pack().expect("requirements"),
        regions: U256::MAX,
        manifest_hash: B256::repeat_byte(1),
        maximum_rate: 10_000_000,
        duration: 3_600,
        wanted_suppliers: Vec::new(),
        excluded_suppliers: Vec::new(),
    }
}

/// A provider of ten cores and 10 GiB, all of it leased but for one core.
fn left() -> Capacity {
    let mut capacity = Capacity {
        cpu_total: 1_000,
        cpu_free: 100,
        memory_total: 640,
        memory_free: 0,
        storage_total: 40,
        storage_free: 0,
        active: true,
        ..Capacity::default()
    };
    capacity.gpus[2] = GpuEntry {
        id: 3,
        free: 0,
        total: 2,
    };
    capacity
}

fn standing() -> Standing {
    let card = ScoreCard {
        active: true,
        tier: 3,
        tokens: 1 << TOKEN,
        ..ScoreCard::default()
    };
    Standing {
        provider: OWN,
        score_card: card.pack().expect("a score card"),
        capacity: left().pack().expect("a capacity"),
    }
}

fn prices() -> BTreeMap<u8, Prices> {
    let decimal = |text: &str| text.parse().expect("a decimal");
    let list = Prices {
        symbol: "uSPON".to_owned(),
        decimals: 6,
        cpu: decimal("0.1"),
        memory_gib: decimal("0"),
        storage_gib: decimal("0"),
        gpus: BTreeMap::from([(3, decimal("0.5"))]),
        minimum: decimal("0"),
    };
    BTreeMap::from([(TOKEN, list)])
}

fn judged(accept: Accept, leased: &Terms, proposed: &Terms) -> Result<u128, Refusal> {
    let any = Parameters::new(crate::bidder::ANY_WEIGHTS, 1, 1, 1).expect("parameters");
    let asked = Asked {
        lease: lease(),
        leased,
        gpu_entry: 2,
        proposed,
    };
    judge(accept, &prices(), &any, &standing(), &left(), asked).map(|bid| bid.rate)
}

#[test]
fn what_the_lease_holds_counts_as_free_and_the_price_is_that_of_a_bid() {
    let leased = terms(200, 64, 0);
    // Two cores are a core more than is free: with the lease's own two there are three.
    assert_eq!(judged(Accept::IfItFits, &leased, &terms(300, 64, 0)), Ok(3_000_000));
    assert!(matches!(
        judged(Accept::IfItFits, &leased, &terms(301, 64, 0)),
        Err(Refusal::Declined(Declined::Refused(_)))
    ));
    assert!(matches!(
        judged(Accept::IfItFits, &leased, &terms(200, 65, 0)),
        Err(Refusal::Declined(Declined::Refused(_)))
    ));
    // The lease's own GPU is free for its update.
    let with_gpu = terms(200, 64, 1);
    assert_eq!(judged(Accept::IfItFits, &with_gpu, &with_gpu), Ok(7_000_000));
    assert!(judged(Accept::IfItFits, &leased, &with_gpu).is_err());
}

#[test]
fn the_policy_and_the_users_maximum_bound_it() {
    let leased = terms(200, 64, 0);
    assert_eq!(judged(Accept::SameOrSmaller, &leased, &leased), Ok(2_000_000));
    assert_eq!(
        judged(Accept::SameOrSmaller, &leased, &terms(100, 64, 0)),
        Ok(1_000_000)
    );
    assert_eq!(
        judged(Accept::SameOrSmaller, &leased, &terms(201, 64, 0)),
        Err(Refusal::Larger {
            resource: "CPU",
            leased: "2 CPU".to_owned(),
            asked: "2.01 CPU".to_owned(),
        })
    );
    assert_eq!(judged(Accept::Never, &leased, &leased), Err(Refusal::Never));
    let mut cheap = leased.clone();
    cheap.maximum_rate = 1_999_999;
    let refusal = judged(Accept::IfItFits, &leased, &cheap).expect_err("too cheap");
    assert_eq!(
        refusal.to_string(),
        "this provider asks 0.2 uSPON/h, the update offers at most 0.1999999"
    );
    cheap.maximum_rate = 2_000_000;
    assert_eq!(judged(Accept::IfItFits, &leased, &cheap), Ok(2_000_000));
    let mut elsewhere = leased.clone();
    elsewhere.excluded_suppliers = vec![OWN];
    assert!(judged(Accept::IfItFits, &leased, &elsewhere).is_err());
}

#[test]
fn a_lease_holds_what_is_no_larger() {
    assert!(holds(&terms(200, 64, 1), &terms(200, 64, 1)));
    assert!(holds(&terms(200, 64, 1), &terms(100, 64, 0)));
    for larger in [terms(201, 64, 0), terms(1, 65, 0), terms(1, 1, 2)] {
        assert!(!holds(&terms(200, 64, 1), &larger));
    }
}

const NOW: Now = Now {
    time: 1_000,
    may_act: true,
};

fn facts() -> Facts {
    Facts {
        phase: Phase::Seen,
        stands: true,
        expiry: 2_000,
        has_manifest: false,
        images: Images::Unknown,
        judged: None,
        refused_at: None,
    }
}

#[test]
fn an_update_is_taken_once_it_is_priced_and_its_manifest_and_images_are_here() {
    let mut facts = facts();
    assert_eq!(decide(NOW, &facts), Step::Judge);
    facts.judged = Some(Ok(5));
    assert_eq!(decide(NOW, &facts), Step::Await);
    (facts.phase, facts.judged) = (Phase::Awaiting, None);
    assert_eq!(decide(NOW, &facts), Step::Nothing, "its manifest is waited for");
    facts.has_manifest = true;
    assert_eq!(decide(NOW, &facts), Step::Stage);
    (facts.phase, facts.images) = (Phase::Staging { problem: None }, Images::Waiting(None));
    assert_eq!(decide(NOW, &facts), Step::Nothing);
    facts.images = Images::Here;
    assert_eq!(decide(NOW, &facts), Step::Judge, "prices may have changed meanwhile");
    facts.judged = Some(Ok(6));
    assert_eq!(decide(NOW, &facts), Step::Accept { rate: 6 });
    // Killed after that was recorded: the same again, at the same rate.
    (facts.phase, facts.images, facts.judged) = (Phase::Accepting { rate: 6 }, Images::Unknown, None);
    assert_eq!(decide(NOW, &facts), Step::Accept { rate: 6 });
}

#[test]
fn a_refusal_is_sent_until_it_is_done_and_not_too_often() {
    let refusal = Refusal::CannotRun {
        service: "web".to_owned(),
        reason: "there is no such image".to_owned(),
    };
    let mut facts = Facts {
        phase: Phase::Staging { problem: None },
        has_manifest: true,
        images: Images::Failed(refusal.clone()),
        ..facts()
    };
    let refuse = Step::Refuse {
        reason: refusal.to_string(),
    };
    assert_eq!(decide(NOW, &facts), refuse);
    facts.refused_at = Some(941);
    let reason = || refusal.to_string();
    assert_eq!(decide(NOW, &facts), Step::Withhold { reason: reason() });
    facts.phase = Phase::Withheld { reason: reason() };
    assert_eq!(decide(NOW, &facts), Step::Nothing, "it is recorded");
    facts.refused_at = Some(940);
    assert_eq!(decide(NOW, &facts), refuse, "what its user was told is done");
    facts.refused_at = Some(941);
    facts.phase = Phase::Refusing {
        reason: refusal.to_string(),
    };
    assert_eq!(decide(NOW, &facts), refuse, "it was begun");
    facts.phase = Phase::Refused {
        reason: refusal.to_string(),
    };
    assert_eq!(decide(NOW, &facts), Step::Nothing);
}

#[test]
fn what_the_contract_refuses_waits_like_any_other_refusal() {
    let said = || {
        let reason = "insufficient balance".to_owned();
        Refusal::Contract { reason }.to_string()
    };
    assert_eq!(refusal(NOW, None, said()), Step::Refuse { reason: said() });
    assert_eq!(
        refusal(NOW, Some(NOW.time - 59), said()),
        Step::Withhold { reason: said() }
    );
    assert_eq!(
        refusal(NOW, Some(NOW.time - REFUSAL_PAUSE_SECONDS), said()),
        Step::Refuse { reason: said() }
    );
}

#[test]
fn the_user_is_told_what_becomes_of_a_proposal_and_why() {
    let mut proposal = Proposal {
        key: ProposalKey {
            lease: LeaseId(1),
            block: 1,
            position: 0,
        },
        terms: terms(1, 1, 0),
        expiry: 2_000,
        ended: false,
        phase: Phase::Seen,
        images: BTreeMap::new(),
    };
    let mut said = |phase: Phase, time, ended| {
        (proposal.phase, proposal.ended) = (phase, ended);
        told(&proposal, time).map(|update| (update.phase, update.reason.unwrap_or_default()))
    };
    let reason = || "no room".to_owned();
    let (phase, why) = said(Phase::Withheld { reason: reason() }, 1_000, false).expect("said");
    assert_eq!(phase, UpdatePhase::Refused);
    assert!(why.starts_with("no room; ") && why.contains("within 60 s"), "{why}");
    assert_eq!(
        said(Phase::Refused { reason: reason() }, 3_000, true),
        Some((UpdatePhase::Refused, reason()))
    );
    let staging = |problem: Option<&str>| Phase::Staging {
        problem: problem.map(str::to_owned),
    };
    assert_eq!(
        said(staging(Some("web: no route")), 1_000, false),
        Some((UpdatePhase::Staging, "web: no route".to_owned()))
    );
    assert_eq!(
        said(staging(Some("web: no route")), 2_000, false),
        Some((UpdatePhase::Expired, "web: no route".to_owned()))
    );
    assert_eq!(said(staging(None), 1_000, true), None, "taken, or withdrawn");
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let reason = || "no".to_owned();
    let phase = prop_oneof![
        Just(Phase::Seen),
        Just(Phase::Awaiting),
        Just(Phase::Staging { problem: None }),
        Just(Phase::Withheld { reason: reason() }),
        (1u128..9).prop_map(|rate| Phase::Accepting { rate }),
        Just(Phase::Refusing { reason: reason() }),
        Just(Phase::Refused { reason: reason() }),
    ];
    let images = prop_oneof![
        Just(Images::Unknown),
        Just(Images::Waiting(None)),
        Just(Images::Here),
        Just(Images::Failed(Refusal::NotPriced)),
    ];
    let judged = prop_oneof![Just(Ok(5)), Just(Err("no".to_owned()))];
    let flags = (any::<bool>(), any::<bool>());
    (phase, images, prop::option::of(judged), flags, 0u64..2_000).prop_map(
        |(phase, images, judged, (stands, has_manifest), expiry)| Facts {
            phase,
            stands,
            expiry,
            has_manifest,
            images,
            judged,
            refused_at: None,
        },
    )
}

proptest! {
    /// Nothing is sent for what does not stand or cannot be known; nothing is taken that was not priced and is not here.
    #[test]
    fn nothing_is_taken_unseen(facts in any_facts(), may_act in any::<bool>()) {
        let step = decide(Now { may_act, ..NOW }, &facts);
        if !may_act || !facts.stands || NOW.time >= facts.expiry || matches!(facts.phase, Phase::Refused { .. }) {
            prop_assert_eq!(&step, &Step::Nothing);
        }
        if let Step::Accept { rate } = step {
            let was_decided = facts.phase == Phase::Accepting { rate };
            let is_ready = facts.has_manifest && facts.images == Images::Here && facts.judged == Some(Ok(rate));
            prop_assert!(was_decided || is_ready, "{facts:?}");
        }
    }

    /// Whatever it is asked in which order: steps lead to an end, never in circles.
    #[test]
    fn steps_come_to_an_end(mut facts in any_facts(), price in prop::option::of(1u128..9), here in any::<bool>()) {
        facts.judged = None;
        let mut steps = 0;
        loop {
            match decide(NOW, &facts) {
                Step::Judge => facts.judged = Some(price.ok_or_else(|| "no price".to_owned())),
                Step::Await => facts.phase = Phase::Awaiting,
                Step::Stage => {
                    facts.phase = Phase::Staging { problem: None };
                    facts.images = if here { Images::Here } else { Images::Waiting(None) };
                    facts.judged = None;
                }
                Step::Nothing | Step::Accept { .. } | Step::Withhold { .. } | Step::Refuse { .. } => break,
            }
            steps += 1;
            prop_assert!(steps < 6, "{facts:?}");
        }
    }
}

const TRIAL: Trial = Trial {
    steady_seconds: 10,
    limit_seconds: 60,
};

fn watched(steady_since: Option<u64>, failure: Option<&str>) -> Watched<'_> {
    Watched {
        switched_at: 1_000,
        steady_since,
        failure,
        state: "web: ended with exit status 1",
    }
}

#[test]
fn a_new_manifest_stays_once_it_ran_steadily() {
    assert_eq!(verdict(TRIAL, 1_009, watched(Some(1_000), None)), Verdict::Watch);
    assert_eq!(verdict(TRIAL, 1_010, watched(Some(1_000), None)), Verdict::Stays);
    // Also at the last moment, and whatever was wrong before.
    assert_eq!(verdict(TRIAL, 1_060, watched(Some(1_050), Some("x"))), Verdict::Stays);
}

#[test]
fn a_new_manifest_goes_back_when_it_cannot_run_or_takes_too_long() {
    assert_eq!(
        verdict(TRIAL, 1_001, watched(None, Some("web: no such image"))),
        Verdict::GoesBack("web: no such image".to_owned())
    );
    assert_eq!(verdict(TRIAL, 1_059, watched(Some(1_055), None)), Verdict::Watch);
    let Verdict::GoesBack(reason) = verdict(TRIAL, 1_060, watched(Some(1_055), None)) else {
        panic!("it stays");
    };
    assert!(reason.contains("exit status 1") && reason.contains("60 s"), "{reason}");
}
