//! Single cases of collecting, each with its own small cluster.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use avs::response;
use avs::submission::{RefusalCode, SubmissionStatus};

use super::fixture::{self, DOMAIN, Operator};
use super::*;

const WINDOW: u64 = 20;
const CLOSE_BLOCK: u64 = 10;
const STRAGGLER_WAIT: Duration = Duration::from_millis(50);
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);

fn source(number: u8) -> Source {
    Source::from(IpAddr::from([192, 0, 2, number]))
}

/// Three operators of equal stake, threshold two thirds; checks and reads are done at once.
struct Direct {
    collector: Collector,
    operators: Vec<Operator>,
    block: BlockReference,
    clock: Duration,
    tickets: u64,
    answers: BTreeMap<Ticket, Result<SubmissionStatus, Refusal>>,
    responses: Vec<Response>,
    notes: Vec<Note>,
    finished: Vec<TaskId>,
    records: Vec<Record>,
    source: Source,
    /// Checks are done at once, unless a test holds them back.
    hold_checks: bool,
    checks: VecDeque<(u64, Vec<Claim>)>,
    reads: Vec<u64>,
    abandoned: Vec<TaskId>,
    single_matchmaker: bool,
}

impl Direct {
    fn new() -> Self {
        let mut direct = Self {
            collector: Collector::new(CollectorSettings {
                stragglers: StragglerSettings {
                    longest_wait: STRAGGLER_WAIT,
                    delay_gas_per_millisecond: 0,
                },
                response_window: WINDOW,
                block_patience: BLOCK_PATIENCE,
                checks_at_once: 2,
            }),
            operators: Operator::many(3),
            block: fixture::block(CLOSE_BLOCK, 0),
            clock: Duration::ZERO,
            tickets: 0,
            answers: BTreeMap::new(),
            responses: Vec::new(),
            notes: Vec::new(),
            finished: Vec::new(),
            records: Vec::new(),
            source: source(1),
            hold_checks: false,
            checks: VecDeque::new(),
            reads: Vec::new(),
            abandoned: Vec::new(),
            single_matchmaker: false,
        };
        for number in 1..=CLOSE_BLOCK {
            direct.apply(number, 1, &[]);
        }
        direct
    }

    fn apply(&mut self, number: u64, closing: u32, answers: &[AnsweredOnChain]) {
        let block = fixture::block(number, 0);
        self.collector
            .block_applied(block, closing, answers, number, self.clock);
        self.perform();
    }

    fn perform(&mut self) {
        loop {
            let actions = self.collector.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Answer { ticket, answer } => {
                        assert!(self.answers.insert(ticket, answer).is_none(), "answered once");
                    }
                    Action::ReadState(block) => {
                        let stakes = vec![Some(1); self.operators.len()];
                        let state = fixture::state(block, &self.operators, &[(66, stakes.clone()), (66, stakes)]);
                        let read = match self.single_matchmaker {
                            true => StateRead::SingleMatchmaker,
                            false => StateRead::Quorums(Box::new(state)),
                        };
                        self.collector.state_read(block, read, self.clock);
                    }
                    Action::ReadBlock(number) => self.reads.push(number),
                    Action::Abandon { task, .. } => self.abandoned.push(task),
                    Action::Check { job, claims, .. } if self.hold_checks => self.checks.push_back((job, claims)),
                    Action::Check { job, claims, .. } => {
                        self.collector.checked(job, &find_invalid(&claims), self.clock)
                    }
                    Action::Respond(response) => self.responses.push(*response),
                    Action::Note(note) => self.notes.push(note),
                    Action::Finish(task) => self.finished.push(task),
                    Action::Store(record) => self.records.push(record),
                    Action::Discard { .. } => {}
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.clock += time;
        self.collector.poll(self.clock);
        self.perform();
    }

    fn send(&mut self, submission: Submission) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        self.collector.submit(ticket, self.source, submission, self.clock);
        self.perform();
        ticket
    }

    fn signed(&self, operator: usize, signer: usize, provider: u32) -> Submission {
        let sent = fixture::submission(
            &self.operators[operator],
            &self.operators[signer].secret,
            self.block,
            0,
            fixture::matches(1, provider),
        );
        Submission::parse(sent, &DOMAIN).expect("well formed")
    }

    fn answer(&mut self, operator: usize, signer: usize, provider: u32) -> Result<SubmissionStatus, RefusalCode> {
        let ticket = self.send(self.signed(operator, signer, provider));
        self.answers[&ticket].clone().map_err(|refusal| refusal.code)
    }

    /// Does the check that was held back longest.
    fn check_one(&mut self) {
        let (job, claims) = self.checks.pop_front().expect("a check is under way");
        self.collector.checked(job, &find_invalid(&claims), self.clock);
        self.perform();
    }

    fn task(&self) -> TaskId {
        TaskId {
            close_block: CLOSE_BLOCK as u32,
            chunk: 0,
        }
    }
}

#[test]
fn it_responds_at_once_when_everybody_signed_and_after_the_wait_otherwise() {
    let mut all = Direct::new();
    for operator in 0..3 {
        assert_eq!(all.answer(operator, operator, 1), Ok(SubmissionStatus::Accepted));
    }
    assert_eq!(all.responses.len(), 1);
    assert!(all.responses[0].non_signers.is_empty());

    let mut two = Direct::new();
    for operator in 0..2 {
        assert_eq!(two.answer(operator, operator, 1), Ok(SubmissionStatus::Accepted));
    }
    assert!(two.responses.is_empty(), "the third may still come");
    assert!(two.collector.tasks(None, 1)[0].quorum_reached);
    two.pass(STRAGGLER_WAIT);
    assert_eq!(two.responses.len(), 1);
    assert_eq!(two.responses[0].non_signers, [two.operators[2].id]);
    assert!(two.responses[0].aggregate.verify(two.responses[0].digest));
}

#[test]
fn rubbish_in_an_operators_name_does_not_keep_it_from_being_counted() {
    let mut direct = Direct::new();
    assert_eq!(direct.answer(0, 0, 1), Ok(SubmissionStatus::Accepted));
    // Unchecked at first, since the answer is known.
    assert_eq!(direct.answer(1, 2, 1), Ok(SubmissionStatus::Accepted));
    assert_eq!(
        direct.notes.last(),
        Some(&Note::InvalidSignature {
            task: direct.task(),
            operator: direct.operators[1].member.address,
            digest: direct.signed(0, 0, 1).digest,
            source: direct.source,
        })
    );
    // Its source is not believed any more: what it sends is checked before it counts.
    direct.hold_checks = true;
    direct.send(direct.signed(2, 0, 1));
    assert_eq!(direct.checks.len(), 1);
    direct.check_one();
    direct.hold_checks = false;
    assert_eq!(direct.answer(1, 1, 1), Ok(SubmissionStatus::Accepted));
    direct.pass(STRAGGLER_WAIT);
    assert_eq!(direct.responses.len(), 1);
    assert_eq!(direct.answer(1, 2, 1), Err(RefusalCode::InvalidSignature));
    assert_eq!(direct.answer(1, 1, 1), Ok(SubmissionStatus::Duplicate));
}

#[test]
fn the_first_valid_answer_of_an_operator_counts_and_the_second_is_named() {
    let mut direct = Direct::new();
    assert_eq!(direct.answer(0, 0, 2), Ok(SubmissionStatus::Accepted));
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::Equivocation));
    assert_eq!(direct.answer(0, 0, 3), Err(RefusalCode::Equivocation));
    let named = direct.notes.iter().filter(
        |note| matches!(note, Note::Equivocation { operator, .. } if *operator == direct.operators[0].member.address),
    );
    assert_eq!(named.count(), 1, "{:?}", direct.notes);
    // The wrong answer came first and changes nothing for the others.
    assert_eq!(direct.answer(1, 1, 1), Ok(SubmissionStatus::Accepted));
    assert_eq!(direct.answer(2, 2, 1), Ok(SubmissionStatus::Accepted));
    direct.pass(STRAGGLER_WAIT);
    assert_eq!(direct.responses.len(), 1);
    assert_eq!(direct.responses[0].digest, direct.signed(0, 0, 1).digest);

    let answered = AnsweredOnChain {
        task: direct.task(),
        responder: Address::repeat_byte(9),
        matches_hash: B256::ZERO,
    };
    direct.apply(CLOSE_BLOCK + 1, 0, &[answered]);
    let minority = Note::Minority {
        task: direct.task(),
        operator: direct.operators[0].member.address,
        digest: direct.signed(0, 0, 2).digest,
    };
    assert!(direct.notes.contains(&minority), "{:?}", direct.notes);
}

#[test]
fn an_outsider_makes_nothing_be_kept() {
    let mut direct = Direct::new();
    for provider in 1..50 {
        assert_eq!(direct.answer(0, 1, provider), Err(RefusalCode::InvalidSignature));
    }
    assert_eq!(direct.collector.sizes(), (0, 0));
    assert!(direct.records.is_empty());
    let stranger = Operator::new(99);
    let sent = fixture::submission(&stranger, &stranger.secret, direct.block, 0, fixture::matches(1, 1));
    let ticket = direct.send(Submission::parse(sent, &DOMAIN).expect("well formed"));
    let refusal = direct.answers[&ticket].clone().expect_err("a stranger");
    assert_eq!(refusal.code, RefusalCode::UnknownOperator);
}

#[test]
fn blocks_ahead_are_waited_for_a_moment_and_others_refused() {
    let mut direct = Direct::new();
    direct.block = fixture::block(CLOSE_BLOCK + 1, 0);
    let early = direct.send(direct.signed(0, 0, 1));
    assert!(!direct.answers.contains_key(&early), "it waits");
    direct.apply(CLOSE_BLOCK + 1, 1, &[]);
    assert_eq!(direct.answers[&early], Ok(SubmissionStatus::Accepted));

    direct.block = fixture::block(CLOSE_BLOCK + 3, 0);
    let waiting = direct.send(direct.signed(0, 0, 1));
    direct.pass(BLOCK_PATIENCE);
    let refusal = direct.answers[&waiting].clone().expect_err("it did not come");
    assert_eq!(refusal.code, RefusalCode::UnknownBlock);

    direct.block = fixture::block(CLOSE_BLOCK + 5, 0);
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::UnknownBlock));
    direct.block = fixture::block(CLOSE_BLOCK, 1);
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::UnknownBlock));
    for number in CLOSE_BLOCK + 2..=CLOSE_BLOCK + WINDOW {
        direct.apply(number, 0, &[]);
    }
    direct.block = fixture::block(CLOSE_BLOCK, 0);
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::WindowOver));
    // A block that closes no order has no task.
    direct.block = fixture::block(CLOSE_BLOCK + 2, 0);
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::UnknownBlock));
}

#[test]
fn a_reorganised_close_block_drops_its_task_and_the_new_one_is_collected() {
    let mut direct = Direct::new();
    direct.answer(0, 0, 1).expect("accepted");
    direct.collector.reverted(CLOSE_BLOCK - 1);
    direct.perform();
    assert_eq!(direct.finished, [direct.task()]);
    let block = fixture::block(CLOSE_BLOCK, 1);
    direct.collector.block_applied(block, 1, &[], CLOSE_BLOCK, direct.clock);
    direct.perform();
    assert_eq!(direct.answer(1, 1, 1), Err(RefusalCode::UnknownBlock));
    direct.block = block;
    for operator in 0..3 {
        assert_eq!(direct.answer(operator, operator, 1), Ok(SubmissionStatus::Accepted));
    }
    assert_eq!(direct.responses.len(), 1);
    assert_eq!(direct.responses[0].close_block_hash, block.hash);
}

#[test]
fn an_answer_that_is_reorganised_away_is_given_again() {
    let mut direct = Direct::new();
    for operator in 0..3 {
        direct.answer(operator, operator, 1).expect("accepted");
    }
    direct
        .collector
        .responded(direct.task(), ResponseOutcome::Included, direct.clock);
    let answered = AnsweredOnChain {
        task: direct.task(),
        responder: Address::repeat_byte(9),
        matches_hash: B256::ZERO,
    };
    direct.apply(CLOSE_BLOCK + 1, 0, &[answered]);
    assert_eq!(direct.answer(0, 0, 1), Ok(SubmissionStatus::Answered));
    direct.collector.reverted(CLOSE_BLOCK);
    direct.apply(CLOSE_BLOCK + 1, 0, &[]);
    direct.pass(STRAGGLER_WAIT);
    assert_eq!(direct.responses.len(), 2);
}

#[test]
fn finished_tasks_leave_memory_and_what_is_remembered_is_bounded() {
    let mut direct = Direct::new();
    let tasks = 3 * RECENT_LIMIT as u64;
    for number in CLOSE_BLOCK + 1..CLOSE_BLOCK + tasks {
        direct.apply(number, 1, &[]);
        direct.block = fixture::block(number, 0);
        direct.answer(0, 0, 1).expect("accepted");
    }
    assert!(direct.collector.sizes().0 <= WINDOW as usize + 1);
    assert!(direct.collector.blocks.len() <= WINDOW as usize + 3);
    assert!(direct.collector.recent.len() <= RECENT_LIMIT);
    assert!(direct.collector.jobs.is_empty());
    assert!(direct.finished.len() as u64 > tasks - WINDOW - 2);
}

#[test]
fn another_answer_on_chain_than_the_quorums_is_said() {
    for (matches_hash, differs) in [
        (response::matches_hash(&fixture::matches(1, 1)), false),
        (B256::repeat_byte(1), true),
    ] {
        let mut direct = Direct::new();
        for operator in 0..3 {
            direct.answer(operator, operator, 1).expect("accepted");
        }
        let answered = AnsweredOnChain {
            task: direct.task(),
            responder: Address::repeat_byte(9),
            matches_hash,
        };
        direct.apply(CLOSE_BLOCK + 1, 0, &[answered]);
        let said = direct
            .notes
            .iter()
            .any(|note| matches!(note, Note::AnsweredDifferently { .. }));
        assert_eq!(said, differs);
    }
}

#[test]
fn a_task_answered_before_this_process_followed_is_not_tried_for_ever() {
    let mut direct = Direct::new();
    for operator in 0..3 {
        direct.answer(operator, operator, 1).expect("accepted");
    }
    // Pending elsewhere: the event has to come, and when it does not it is tried again.
    let pending = ResponseOutcome::AnsweredAlready { block: None };
    direct.collector.responded(direct.task(), pending, direct.clock);
    for number in CLOSE_BLOCK + 1..CLOSE_BLOCK + 4 {
        direct.apply(number, 0, &[]);
    }
    assert_eq!(direct.responses.len(), 2);
    let included = ResponseOutcome::AnsweredAlready {
        block: Some(CLOSE_BLOCK + 1),
    };
    direct.collector.responded(direct.task(), included, direct.clock);
    for number in CLOSE_BLOCK + 4..CLOSE_BLOCK + 12 {
        direct.apply(number, 0, &[]);
    }
    assert_eq!(direct.responses.len(), 2);
    assert_eq!(direct.answer(0, 0, 1), Ok(SubmissionStatus::Answered));
}

#[test]
fn nobody_is_waited_for_longer_than_its_absence_costs_or_who_stays_away() {
    let mut direct = Direct::new();
    direct.collector.settings.stragglers.delay_gas_per_millisecond = 1_630;
    for (number, awaited) in [(11, true), (12, true), (13, true), (14, false)] {
        direct.apply(number, 1, &[]);
        direct.block = fixture::block(number, 0);
        let before = direct.responses.len();
        for operator in 0..2 {
            direct.answer(operator, operator, 1).expect("accepted");
        }
        assert_eq!(direct.responses.len() == before, awaited, "block {number}");
        direct.pass(Duration::from_millis(9));
        assert_eq!(
            direct.responses.len() == before,
            awaited,
            "block {number}: one millisecond is left"
        );
        direct.pass(Duration::from_millis(1));
        assert_eq!(direct.responses.len(), before + 1, "block {number}");
    }
    // It is back in time once, and expected again.
    direct.apply(15, 1, &[]);
    direct.block = fixture::block(15, 0);
    for operator in [2, 0, 1] {
        direct.answer(operator, operator, 1).expect("accepted");
    }
    direct.apply(16, 1, &[]);
    direct.block = fixture::block(16, 0);
    let before = direct.responses.len();
    for operator in 0..2 {
        direct.answer(operator, operator, 1).expect("accepted");
    }
    assert_eq!(direct.responses.len(), before);
}

#[test]
fn blocks_skipped_in_an_outage_are_looked_up_when_a_signature_names_them() {
    let mut direct = Direct::new();
    let skipped = fixture::block(CLOSE_BLOCK + 5, 0);
    direct.apply(CLOSE_BLOCK + 12, 0, &[]);
    direct.collector.blocks_skipped(&[(skipped.number, 1)], direct.clock);
    direct.perform();
    assert!(direct.reads.is_empty(), "nobody asked");
    direct.block = skipped;
    let waiting: Vec<Ticket> = (0..3)
        .map(|operator| direct.send(direct.signed(operator, operator, 1)))
        .collect();
    assert_eq!(direct.reads, [skipped.number], "asked once");
    direct.collector.block_read(skipped.number, None, direct.clock);
    direct.pass(STATE_RETRY);
    assert_eq!(direct.reads, [skipped.number; 2], "asked again");
    direct
        .collector
        .block_read(skipped.number, Some(skipped.hash), direct.clock);
    direct.perform();
    for ticket in waiting {
        assert_eq!(direct.answers[&ticket], Ok(SubmissionStatus::Accepted));
    }
    assert_eq!(direct.responses.len(), 1);
    // One that closes nothing is not asked for.
    direct.block = fixture::block(CLOSE_BLOCK + 6, 0);
    assert_eq!(direct.answer(0, 0, 1), Err(RefusalCode::UnknownBlock));
    assert_eq!(direct.reads.len(), 2);
}

#[test]
fn a_single_matchmakers_close_block_takes_no_signatures() {
    let mut direct = Direct::new();
    direct.single_matchmaker = true;
    direct.apply(CLOSE_BLOCK + 1, 1, &[]);
    direct.block = fixture::block(CLOSE_BLOCK + 1, 0);
    let ticket = direct.send(direct.signed(0, 0, 1));
    let refusal = direct.answers[&ticket].clone().expect_err("there is no quorum");
    assert_eq!(refusal.code, RefusalCode::NoQuorum);
    assert!(!refusal.code.is_passing() && refusal.message.contains("matchmaker"));
    assert!(direct.records.is_empty());
}

#[test]
fn a_response_that_came_second_is_taken_back() {
    let mut direct = Direct::new();
    for operator in 0..3 {
        direct.answer(operator, operator, 1).expect("accepted");
    }
    let answered = AnsweredOnChain {
        task: direct.task(),
        responder: Address::repeat_byte(9),
        matches_hash: B256::ZERO,
    };
    direct.apply(CLOSE_BLOCK + 1, 0, &[answered]);
    assert_eq!(direct.abandoned, [direct.task()]);
    let lost = ResponseOutcome::AnsweredAlready {
        block: Some(CLOSE_BLOCK + 1),
    };
    direct.collector.responded(direct.task(), lost, direct.clock);
    for number in CLOSE_BLOCK + 2..CLOSE_BLOCK + 9 {
        direct.apply(number, 0, &[]);
    }
    assert_eq!(
        (direct.responses.len(), direct.abandoned.len()),
        (1, 1),
        "nothing more is sent"
    );
}

#[test]
fn who_floods_with_forgeries_keeps_nobody_else_out() {
    let mut direct = Direct::new();
    direct.hold_checks = true;
    direct.source = source(66);
    let mut refused = 0;
    for provider in 10..10 + 2 * CHECK_LIMIT as u32 {
        for operator in 0..3 {
            direct.send(direct.signed(operator, (operator + 1) % 3, provider));
            refused = direct.answers.len();
        }
    }
    assert!(direct.collector.queue.len() <= CHECK_LIMIT, "what waits is bounded");
    assert!(refused >= CHECK_LIMIT, "what is too much is refused: {refused}");
    // The flood even claims the right answer before anybody honest does.
    direct.send(direct.signed(0, 1, 1));
    let honest: Vec<Ticket> = (0..3)
        .map(|operator| {
            direct.source = source(operator as u8);
            direct.send(direct.signed(operator, operator, 1))
        })
        .collect();
    // Two checks were under way before they came; after those they take turns with the flood.
    let mut checks = 0;
    while direct.responses.is_empty() {
        direct.check_one();
        checks += 1;
        assert!(checks < 12, "the honest are still not heard");
    }
    for ticket in honest {
        assert_eq!(direct.answers[&ticket], Ok(SubmissionStatus::Accepted));
    }
}

#[test]
fn many_heavy_liars_do_not_keep_an_answer_out_that_outweighs_each_of_them() {
    let mut direct = Direct::new();
    direct.operators = Operator::many(60);
    direct.apply(CLOSE_BLOCK + 1, 1, &[]);
    direct.block = fixture::block(CLOSE_BLOCK + 1, 0);
    // Every place is taken by another answer.
    for liar in 0..18 {
        let _ = direct.answer(liar, liar, 100 + liar as u32);
    }
    let mut again: Vec<usize> = (18..60).collect();
    for round in 0.. {
        assert!(round < 3, "{} are still refused", again.len());
        again.retain(|operator| match direct.answer(*operator, *operator, 1) {
            Ok(_) => false,
            Err(code) => {
                assert_eq!(code, RefusalCode::Busy);
                true
            }
        });
        if again.is_empty() {
            break;
        }
    }
    direct.pass(STRAGGLER_WAIT);
    assert_eq!(direct.responses.len(), 1, "42 of 60 reach 66 %");
    assert_eq!(direct.responses[0].non_signers.len(), 18);
}
