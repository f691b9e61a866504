//! Submissions that wait for their close block, or for the operators' stakes.

use avs::submission::RefusalCode;

use super::message::{Moment, Refusal, Source};
use super::submissions::busy;
use super::{Collector, Pending, WAITING_BYTES, WAITING_LIMIT};

impl Collector {
    pub(super) fn wait(&mut self, pending: Pending, now: Moment) {
        let bytes = pending.bytes();
        let deadline = match pending.ticket {
            Some(_) => now + self.settings.block_patience,
            // Nobody waits for an answer, and what was stored must not be lost to an RPC that is away.
            None => Moment::MAX,
        };
        while pending.ticket.is_some()
            && (self.waiting.len() >= WAITING_LIMIT || self.waiting_bytes + bytes > WAITING_BYTES)
        {
            if !self.give_way(pending.source) {
                return self.answer(pending.ticket, Err(busy()));
            }
        }
        self.waiting_bytes += bytes;
        self.waiting.push((deadline, pending));
    }

    /// The newest submission of whoever has the most waiting goes, if that is more than this source has.
    fn give_way(&mut self, source: Source) -> bool {
        let mut counts = std::collections::BTreeMap::<Source, usize>::new();
        let asked = self.waiting.iter().filter(|(_, pending)| pending.ticket.is_some());
        for (_, pending) in asked {
            *counts.entry(pending.source).or_default() += 1;
        }
        let own = counts.get(&source).copied().unwrap_or_default();
        let longest = counts.into_iter().max_by_key(|(_, count)| *count);
        let Some((victim, _)) = longest.filter(|(_, count)| *count > own + 1) else {
            return false;
        };
        let newest = self
            .waiting
            .iter()
            .rposition(|(_, pending)| pending.ticket.is_some() && pending.source == victim);
        let Some(newest) = newest else { return false };
        let (_, displaced) = self.waiting.remove(newest);
        self.waiting_bytes -= displaced.bytes();
        self.answer(displaced.ticket, Err(busy()));
        true
    }

    /// Looks again at what waits for blocks up to this one.
    pub(super) fn reconsider(&mut self, number: u64, now: Moment) {
        let known = |_: &Moment, pending: &Pending| u64::from(pending.submission.task.close_block) <= number;
        for (deadline, pending) in self.take_waiting(known) {
            let before = self.waiting.len();
            self.consider(pending, now);
            // Waiting on does not begin a new wait.
            if self.waiting.len() > before
                && let Some(last) = self.waiting.last_mut()
            {
                last.0 = deadline;
            }
        }
        self.consider_again(now);
    }

    /// Answers those that waited as long as they may.
    pub(super) fn end_waits(&mut self, now: Moment) {
        for (_, pending) in self.take_waiting(|deadline, _| *deadline <= now) {
            let close_block = pending.submission.task.close_block;
            let number = u64::from(close_block);
            let refusal = if self.blocks.contains_key(&number) || self.skipped.contains_key(&number) {
                Refusal::new(RefusalCode::Busy, "the operators' stakes cannot be read now")
            } else {
                Refusal::new(
                    RefusalCode::UnknownBlock,
                    format!("close block {close_block} is not known here yet"),
                )
            };
            self.answer(pending.ticket, Err(refusal));
        }
    }

    fn take_waiting(&mut self, wanted: impl Fn(&Moment, &Pending) -> bool) -> Vec<(Moment, Pending)> {
        let (taken, kept) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(deadline, pending)| wanted(deadline, pending));
        self.waiting = kept;
        self.waiting_bytes = self.waiting.iter().map(|(_, pending)| pending.bytes()).sum();
        taken
    }
}
