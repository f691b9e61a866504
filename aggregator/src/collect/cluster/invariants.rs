//! What must never happen, and what must.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use avs::bn254::{Aggregate, SignedBy};
use avs::quorum::OperatorId;

use super::super::fixture;
use super::super::{Note, Response, TaskId};
use super::Seen;
use super::cast::{self, ALL, CHUNKS, CLOSE_BLOCK, Conduct};
use super::world::World;

impl World {
    /// A response is a real quorum's, nobody is in it who did not sign it, and its sums are those of its signers.
    pub(super) fn check_response(&self, response: &Response) {
        let seed = self.seed;
        let id = response.task;
        let absent: BTreeSet<OperatorId> = response.non_signers.iter().copied().collect();
        let members = self.state.operators.keys().copied();
        let signers: BTreeSet<OperatorId> = members.filter(|operator| !absent.contains(operator)).collect();
        assert!(
            self.state.quorums.reached_by(&signers),
            "seed {seed}: response {id} lacks stake"
        );
        let fork = u8::from(response.close_block_hash != fixture::block(CLOSE_BLOCK, 0).hash);
        let answer = (1..=cast::ANSWERS).find(|answer| cast::digest(id.chunk, *answer, fork) == response.digest);
        let mut sum = Aggregate::empty();
        for operator in &signers {
            let conduct = self.conduct[ALL.iter().position(|known| known.id == *operator).expect("known")];
            let may_sign = match answer {
                Some(1) => matches!(conduct, Conduct::Honest | Conduct::Equivocator),
                Some(2) => matches!(conduct, Conduct::Liar | Conduct::Equivocator),
                _ => false,
            };
            assert!(
                may_sign,
                "seed {seed}: response {id} names {operator}, who did not sign it"
            );
            let signed = SignedBy {
                key: &self.state.operators[operator].key,
                signature: cast::valid_signature(*operator, response.digest).expect("it can be signed"),
            };
            sum.add(signed, self.state.quorums.multiplicity(operator));
        }
        assert_eq!(
            sum, response.aggregate,
            "seed {seed}: response {id} has other sums than its signers"
        );
        if self.real {
            assert!(response.aggregate.verify(response.digest), "seed {seed}: response {id}");
        }
    }

    pub(super) fn check(&self, seen: &Seen) {
        let (seed, fork) = (self.seed, self.fork_of_close_block());
        for chunk in 0..CHUNKS {
            let task = TaskId {
                close_block: CLOSE_BLOCK as u32,
                chunk,
            };
            let answered = self.answers.contains_key(&task);
            let obliged = self.aggregators.iter().any(|node| {
                let took = node.took.get(&(chunk, fork));
                took.is_some_and(|took| self.state.quorums.reached_by(took))
            });
            assert!(
                answered || !obliged,
                "seed {seed}: an aggregator took an honest quorum's signatures for {task}, nobody responded"
            );
            seen.answered.fetch_add(u64::from(answered), Ordering::Relaxed);
            seen.obliged.fetch_add(u64::from(obliged), Ordering::Relaxed);
        }
        for node in &self.aggregators {
            node.assert_empty(seed);
        }
        let count = |wanted: fn(&Note) -> bool| self.notes.iter().filter(|note| wanted(note)).count() as u64;
        for (counter, number) in [
            (&seen.crashes, self.crashes),
            (&seen.lost_races, self.lost_races),
            (&seen.skipped, self.skipped),
            (
                &seen.equivocations,
                count(|note| matches!(note, Note::Equivocation { .. })),
            ),
            (
                &seen.forgeries,
                count(|note| matches!(note, Note::InvalidSignature { .. })),
            ),
            (&seen.dropped, count(|note| matches!(note, Note::Dropped { .. }))),
        ] {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }
}
