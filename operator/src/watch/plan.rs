//! What the watcher has to do: what is known of the orders in, jobs out. No I/O and no clock.
//!
//! Nothing is stored: after a restart every answer that can still be disputed is looked at again, and what was sent before is
//! found on chain.

use std::collections::BTreeMap;

use alloy::primitives::{Address, keccak256};

use crate::chain::Windows;
use crate::tasks::{OpenOrder, Tasks};

/// Watchers take turns at running the rule for an order, so that not all of them pay for it: at most this many blocks.
const TURNS: u64 = 4;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Recompute an answer, and dispute what is wrong about it.
    Examine(Answered),
    /// Run the rule on chain for an order that nobody answered.
    Match(Box<OpenOrder>),
}

/// An answer that can still be disputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub close_block: u32,
    pub chunk: u16,
    /// The block it is in.
    pub block: u64,
    /// The last block that takes a challenge.
    pub until: u64,
    /// Every order that had this close block.
    pub rounds: Vec<OpenOrder>,
}

/// Names a job. An answer that a reorganisation moved is another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKey {
    Examine { close_block: u32, chunk: u16, block: u64 },
    Match { order_id: u64, close_block: u32 },
}

impl Job {
    /// Its name.
    pub fn key(&self) -> JobKey {
        match self {
            Self::Examine(Answered {
                close_block,
                chunk,
                block,
                ..
            }) => JobKey::Examine {
                close_block: *close_block,
                chunk: *chunk,
                block: *block,
            },
            Self::Match(order) => JobKey::Match {
                order_id: order.order_id,
                close_block: order.close_block,
            },
        }
    }
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// Something was not reached, or is not possible yet: again with the next block.
    Again,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Somebody does it.
    Busy,
    Done,
}

/// What is done and what is left.
#[derive(Debug)]
pub struct Plan {
    windows: Windows,
    match_unanswered: bool,
    /// Whose turn is when.
    account: Option<Address>,
    jobs: BTreeMap<JobKey, Progress>,
}

impl Plan {
    /// `account` sends what has to be sent; without one nothing is matched, and wrong answers are only reported.
    pub fn new(windows: Windows, account: Option<Address>, match_unanswered: bool) -> Self {
        Self {
            windows,
            match_unanswered: match_unanswered && account.is_some(),
            account,
            jobs: BTreeMap::new(),
        }
    }

    /// What is to be done when `head` is the newest block; each is handed out once until it is reported.
    pub fn due(&mut self, tasks: &Tasks, head: u64) -> Vec<Job> {
        let examinations = tasks.answers().filter_map(|(close_block, chunk, block)| {
            let until = block + self.windows.challenge;
            let key = JobKey::Examine {
                close_block,
                chunk,
                block,
            };
            (head < until && !self.jobs.contains_key(&key)).then(|| {
                Job::Examine(Answered {
                    close_block,
                    chunk,
                    block,
                    until,
                    rounds: tasks.rounds_of(close_block),
                })
            })
        });
        let mut jobs: Vec<Job> = examinations.collect();
        jobs.extend(self.matches_due(tasks, head));
        for job in &jobs {
            self.jobs.insert(job.key(), Progress::Busy);
        }
        self.forget(head);
        jobs
    }

    /// Orders that the next block may match. It is the first after the response window at the earliest.
    fn matches_due(&self, tasks: &Tasks, head: u64) -> Vec<Job> {
        let Windows { response, matching, .. } = self.windows;
        if !self.match_unanswered || matching == 0 || head < response {
            return Vec::new();
        }
        let newest = u32::try_from(head - response).unwrap_or(u32::MAX);
        let oldest = u32::try_from((head + 1).saturating_sub(response + matching)).unwrap_or(u32::MAX);
        if oldest > newest {
            return Vec::new();
        }
        let unanswered = tasks.unanswered(oldest..=newest).into_iter();
        unanswered
            .filter(|order| head >= u64::from(order.close_block) + response + self.turn(order.order_id))
            .map(|order| Job::Match(Box::new(order)))
            .filter(|job| !self.jobs.contains_key(&job.key()))
            .collect()
    }

    /// Blocks to leave to others.
    fn turn(&self, order_id: u64) -> u64 {
        let turns = TURNS.min(self.windows.matching / 2).max(1);
        let account = self.account.unwrap_or_default();
        let lot = keccak256([account.as_slice(), &order_id.to_be_bytes()].concat());
        u64::from(lot[0]) % turns
    }

    /// Takes what became of a job.
    pub fn report(&mut self, key: JobKey, outcome: Outcome) {
        match outcome {
            Outcome::Done if self.jobs.contains_key(&key) => {
                self.jobs.insert(key, Progress::Done);
            }
            Outcome::Done => {}
            Outcome::Again => {
                self.jobs.remove(&key);
            }
        }
    }

    /// A reorganisation may have undone anything that was done; what is being done goes on.
    pub fn reorganised(&mut self) {
        self.jobs.retain(|_, progress| *progress == Progress::Busy);
    }

    fn forget(&mut self, head: u64) {
        let Windows {
            response,
            matching,
            challenge,
            ..
        } = self.windows;
        self.jobs.retain(|key, _| match key {
            JobKey::Examine { block, .. } => head < block + challenge,
            JobKey::Match { close_block, .. } => head < u64::from(*close_block) + response + matching,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Fact;
    use crate::tasks::tests::{bid, chain, facts, terms};
    use proptest::prelude::*;

    const WINDOWS: Windows = Windows {
        bid: 4,
        response: 3,
        matching: 5,
        challenge: 10,
    };

    fn plan() -> Plan {
        Plan::new(WINDOWS, Some(Address::repeat_byte(1)), true)
    }

    fn order(order_id: u64, close_block: u32) -> [Fact; 2] {
        [
            Fact::Created {
                order_id,
                close_block,
                terms: terms(order_id),
            },
            Fact::Bid { order_id, bid: bid(1) },
        ]
    }

    fn keys(jobs: &[Job]) -> Vec<JobKey> {
        jobs.iter().map(Job::key).collect()
    }

    #[test]
    fn an_answer_is_examined_once_until_it_cannot_be_disputed() {
        let (mut plan, mut tasks) = (plan(), Tasks::default());
        tasks.apply(1, order(7, 3));
        let answered = Fact::Answered {
            close_block: 3,
            chunk: 0,
        };
        tasks.apply(4, [answered.clone(), Fact::Ended { order_id: 7 }]);
        let jobs = plan.due(&tasks, 4);
        let [Job::Examine(found)] = jobs.as_slice() else {
            panic!("one examination: {jobs:?}")
        };
        assert_eq!((found.block, found.until, found.rounds.len()), (4, 14, 1));
        assert!(plan.due(&tasks, 5).is_empty(), "it is being done");
        plan.report(jobs[0].key(), Outcome::Again);
        assert_eq!(plan.due(&tasks, 6).len(), 1);
        plan.report(jobs[0].key(), Outcome::Done);
        assert!(plan.due(&tasks, 7).is_empty());
        // The same answer in another block is another one.
        plan.reorganised();
        tasks.revert(3);
        tasks.apply(5, [answered, Fact::Ended { order_id: 7 }]);
        assert_eq!(plan.due(&tasks, 8).len(), 1);
        assert!(
            Plan::new(WINDOWS, None, true).due(&tasks, 15).is_empty(),
            "too late for a challenge in block 16"
        );
    }

    #[test]
    fn an_order_nobody_answered_is_matched_in_its_window_and_by_an_account_only() {
        let mut tasks = Tasks::default();
        tasks.apply(1, order(7, 3));
        let first_heads: Vec<u64> = (0..20u8)
            .map(|account| {
                let mut plan = Plan::new(WINDOWS, Some(Address::repeat_byte(account)), true);
                (0..30)
                    .find(|head| !plan.due(&tasks, *head).is_empty())
                    .expect("matched at some time")
            })
            .collect();
        // The next block is head + 1: after the response window, 4..=6, and by turns.
        assert_eq!(first_heads.iter().min(), Some(&6));
        assert_eq!(
            first_heads.iter().max(),
            Some(&7),
            "half of the window is left for whoever is last"
        );
        let due_at = |plan: &mut Plan, head| keys(&plan.due(&tasks, head));
        assert_eq!(due_at(&mut plan(), 10).len(), 1, "block 11 is the last of the window");
        assert!(due_at(&mut plan(), 11).is_empty());
        for mut idle in [
            Plan::new(WINDOWS, None, true),
            Plan::new(WINDOWS, Some(Address::ZERO), false),
        ] {
            assert!((0..30).all(|head| idle.due(&tasks, head).is_empty()));
        }
    }

    #[test]
    fn an_order_that_was_answered_in_time_is_left_alone() {
        let (mut plan, mut tasks) = (plan(), Tasks::default());
        tasks.apply(1, order(7, 3));
        tasks.apply(5, [Fact::Ended { order_id: 7 }]);
        assert!((0..30).all(|head| plan.due(&tasks, head).is_empty()));
    }

    proptest! {
        /// Whatever happens, no job is handed out twice while it is being done, and no memory is kept for ever.
        #[test]
        fn jobs_are_handed_out_one_at_a_time(blocks in chain(1..20), again in any::<u64>()) {
            let (mut plan, mut tasks) = (plan(), Tasks::default());
            let mut busy = std::collections::BTreeSet::new();
            for (block, facts) in facts(&blocks) {
                tasks.apply(block, facts);
                for job in plan.due(&tasks, block) {
                    prop_assert!(busy.insert(job.key()), "{:?} twice", job.key());
                }
                if again >> (block % 64) & 1 == 1 && let Some(key) = busy.pop_first() {
                    plan.report(key, Outcome::Again);
                }
            }
            plan.due(&Tasks::default(), 1_000);
            prop_assert!(plan.jobs.is_empty());
        }
    }
}
