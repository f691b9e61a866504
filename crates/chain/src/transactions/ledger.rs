//! Which nonces are whose, and what each open transaction needs next. No I/O and no clock: time is counted in blocks,
//! because only blocks can include a transaction.

use std::collections::{BTreeMap, VecDeque};

/// Blocks that must pass while a used nonce has no receipt of ours, before it counts as somebody else's: an endpoint may
/// know the count earlier than the receipt.
const BLOCKS_BEFORE_FOREIGN: u64 = 2;
/// Blocks that must pass while nobody uses a nonce before ours, before we do: what others sent may be on its way.
const BLOCKS_BEFORE_FILLING: u64 = 2;
/// More foreign nonces than this within [`FOREIGN_WINDOW`] are a second process that stays. A person's command uses up to
/// four of them (`spheron provider update`: certificate, registration, approval, stake), and may be run again and again.
const MOST_FOREIGN: usize = 16;
/// In blocks: a quarter of an hour where they come every second, three hours where they come every twelve.
const FOREIGN_WINDOW: u64 = 1_000;

/// What is known of one open transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    /// The row in the store.
    pub(crate) id: i64,
    /// The last block in which it is of use.
    pub(crate) valid_until: Option<u64>,
    pub(crate) standing: Standing,
    /// The newest block when it was last sent, with any fee.
    pub(crate) sent_at: u64,
    /// The newest block when its fee was last raised.
    pub(crate) priced_at: u64,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In nobody's block.
    Pending,
    /// Like pending, but what waits at its nonce is an empty transaction that takes its place.
    Cancelling,
    /// Its nonce is used, no receipt of ours was found, since this block.
    Missing { since: u64 },
    /// In a block that may still be reorganised away.
    Included { block: u64 },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its nonce is used: look for the receipt of one of its attempts.
    FindReceipt(u64),
    /// Send the newest attempt again.
    SendAgain(u64),
    /// Replace it by one that offers more.
    Raise(u64),
    /// Replace it by an empty transaction: it is of no use any more.
    Cancel(u64),
    /// It was included and is not any more: it waits again.
    Reopen(u64),
    /// Deep enough: forget it.
    Forget(u64),
    /// Somebody else used its nonce: send it under another one.
    Foreign(u64),
    /// Somebody else used every nonce from the next one up to this one: it is the next one.
    MoveOn(u64),
    /// Nothing of ours is at this nonce, what is ours waits behind it, and nobody has used it for a while.
    Fill(u64),
}

/// After how many blocks what happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) raise_after: u64,
    pub(crate) send_again_after: u64,
    pub(crate) forget_after: u64,
}

/// The nonces of one key.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    next: u64,
    open: BTreeMap<u64, Open>,
    patience: Patience,
    /// The newest nonces that others used, and the newest block when that was noticed; as many as the rule needs.
    foreign: VecDeque<(u64, u64)>,
    /// The nonce that ours wait behind, and since which block.
    gap: Option<(u64, u64)>,
}

impl Ledger {
    /// `next`: the first nonce nobody used or was given.
    pub(crate) fn new(next: u64, open: BTreeMap<u64, Open>, patience: Patience) -> Self {
        let next = open.last_key_value().map_or(next, |(nonce, _)| next.max(nonce + 1));
        Self {
            next,
            open,
            patience,
            foreign: VecDeque::new(),
            gap: None,
        }
    }

    /// The nonce the next transaction gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn open(&self) -> &BTreeMap<u64, Open> {
        &self.open
    }

    pub(crate) fn get_mut(&mut self, nonce: u64) -> Option<&mut Open> {
        self.open.get_mut(&nonce)
    }

    /// Records a transaction at [`Ledger::next`].
    pub(crate) fn assign(&mut self, open: Open) {
        self.open.insert(self.next, open);
        self.next += 1;
    }

    /// Takes back the newest nonce, for a transaction that every node refused. Possible only while nothing follows it.
    pub(crate) fn take_back(&mut self, nonce: u64) -> bool {
        if nonce + 1 != self.next {
            return false;
        }
        self.open.remove(&nonce);
        self.next = nonce;
        true
    }

    pub(crate) fn forget(&mut self, nonce: u64) {
        self.open.remove(&nonce);
    }

    /// Others have used, or their transactions wait at, every nonce below `next` that was not given out here. Returns how
    /// many these are.
    pub(crate) fn move_on(&mut self, next: u64, head: u64) -> u64 {
        let first = self.next;
        self.next = first.max(next);
        let newest = self.next.saturating_sub(MOST_FOREIGN as u64 + 1);
        for nonce in first.max(newest)..self.next {
            self.note_foreign(nonce, head);
        }
        self.next - first
    }

    /// Somebody else used the nonce of an open transaction.
    pub(crate) fn lose(&mut self, nonce: u64, head: u64) {
        self.open.remove(&nonce);
        self.note_foreign(nonce, head);
    }

    fn note_foreign(&mut self, nonce: u64, head: u64) {
        self.foreign.push_back((nonce, head));
        if self.foreign.len() > MOST_FOREIGN + 1 {
            self.foreign.pop_front();
        }
    }

    /// The newest foreign nonce, if they come so often that another process must be at work that stays.
    pub(crate) fn contested(&self) -> Option<u64> {
        let (&(_, first), &(nonce, last)) = (self.foreign.front()?, self.foreign.back()?);
        let is_often = self.foreign.len() > MOST_FOREIGN && last.saturating_sub(first) <= FOREIGN_WINDOW;
        is_often.then_some(nonce)
    }

    /// Records a transaction that fills a nonce below [`Ledger::next`] at which nothing of ours is.
    pub(crate) fn fill(&mut self, nonce: u64, open: Open) {
        self.open.insert(nonce, open);
    }

    /// Somebody else's transaction waits at the nonce that ours wait behind: look again later.
    pub(crate) fn let_wait(&mut self, head: u64) {
        if let Some((_, since)) = &mut self.gap {
            *since = head;
        }
    }

    /// Whether anything waits to be included.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open
            .values()
            .any(|open| !matches!(open.standing, Standing::Included { .. }))
    }

    /// What to do when the chain has used `used` nonces of this key and its newest block is `head`.
    pub(crate) fn steps(&mut self, used: u64, head: u64) -> Vec<Step> {
        let next_of_ours = self.open.range(used..).next().map(|(&nonce, _)| nonce);
        self.gap = match (next_of_ours, self.gap) {
            (Some(ours), Some((nonce, since))) if ours > used && nonce == used => Some((nonce, since)),
            (Some(ours), _) if ours > used => Some((used, head)),
            _ => None,
        };
        let moves_on = (used > self.next).then_some(Step::MoveOn(used));
        let fills = self
            .gap
            .filter(|&(_, since)| head >= since + BLOCKS_BEFORE_FILLING)
            .map(|(nonce, _)| Step::Fill(nonce));
        let of_open = self
            .open
            .iter()
            .filter_map(|(&nonce, open)| self.step(nonce, open, used, head));
        moves_on.into_iter().chain(fills).chain(of_open).collect()
    }

    fn step(&self, nonce: u64, open: &Open, used: u64, head: u64) -> Option<Step> {
        let is_used = nonce < used;
        match open.standing {
            Standing::Included { .. } if !is_used => Some(Step::Reopen(nonce)),
            Standing::Included { block } => (head >= block + self.patience.forget_after).then_some(Step::Forget(nonce)),
            Standing::Missing { since } if is_used && head >= since + BLOCKS_BEFORE_FOREIGN => {
                Some(Step::Foreign(nonce))
            }
            _ if is_used => Some(Step::FindReceipt(nonce)),
            Standing::Missing { .. } => Some(Step::Reopen(nonce)),
            Standing::Pending if open.valid_until.is_some_and(|last| head >= last) => Some(Step::Cancel(nonce)),
            Standing::Pending | Standing::Cancelling => {
                // What waits behind somebody else's nonce does not wait because of its fee.
                if self.gap.is_none() && head >= open.priced_at + self.patience.raise_after {
                    Some(Step::Raise(nonce))
                } else if head >= open.sent_at + self.patience.send_again_after {
                    Some(Step::SendAgain(nonce))
                } else {
                    None
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience {
        raise_after: 3,
        send_again_after: 2,
        forget_after: 5,
    };

    fn pending(id: i64, at: u64) -> Open {
        Open {
            id,
            valid_until: None,
            standing: Standing::Pending,
            sent_at: at,
            priced_at: at,
        }
    }

    fn with_one(open: Open) -> Ledger {
        let mut ledger = Ledger::new(7, BTreeMap::new(), PATIENCE);
        ledger.assign(open);
        ledger
    }

    #[test]
    fn a_waiting_transaction_is_sent_again_then_raised() {
        let mut ledger = with_one(pending(1, 100));
        assert_eq!(ledger.steps(7, 101), []);
        assert_eq!(ledger.steps(7, 102), [Step::SendAgain(7)]);
        assert_eq!(ledger.steps(7, 103), [Step::Raise(7)]);
    }

    #[test]
    fn one_that_is_of_no_use_any_more_is_cancelled_once() {
        let mut open = pending(1, 100);
        open.valid_until = Some(101);
        let mut ledger = with_one(open);
        assert_eq!(ledger.steps(7, 100), []);
        assert_eq!(ledger.steps(7, 101), [Step::Cancel(7)]);
        ledger.get_mut(7).expect("open").standing = Standing::Cancelling;
        assert_eq!(ledger.steps(7, 101), []);
    }

    #[test]
    fn nonces_that_were_never_given_out_are_left_to_others() {
        let mut ledger = Ledger::new(7, BTreeMap::new(), PATIENCE);
        assert_eq!(ledger.steps(9, 100), [Step::MoveOn(9)]);
        assert_eq!(ledger.move_on(9, 100), 2);
        assert_eq!(ledger.next(), 9);
        assert_eq!(ledger.steps(9, 100), []);
        assert_eq!(ledger.move_on(8, 100), 0, "an endpoint that lags");
        assert_eq!(ledger.next(), 9);
    }

    #[test]
    fn ours_are_looked_for_though_others_went_past_them() {
        let mut ledger = with_one(pending(1, 100));
        assert_eq!(ledger.steps(9, 100), [Step::MoveOn(9), Step::FindReceipt(7)]);
    }

    #[test]
    fn a_used_nonce_without_our_receipt_is_foreign_after_two_blocks() {
        let mut ledger = with_one(pending(1, 100));
        assert_eq!(ledger.steps(8, 101), [Step::FindReceipt(7)]);
        ledger.get_mut(7).expect("open").standing = Standing::Missing { since: 101 };
        assert_eq!(ledger.steps(8, 102), [Step::FindReceipt(7)]);
        assert_eq!(ledger.steps(8, 103), [Step::Foreign(7)]);
        assert_eq!(
            ledger.steps(7, 103),
            [Step::Reopen(7)],
            "the count went back: a reorganisation"
        );
    }

    #[test]
    fn a_lost_nonce_leaves_the_ones_after_it_as_they_are() {
        let mut ledger = with_one(pending(1, 100));
        ledger.assign(pending(2, 100));
        ledger.lose(7, 101);
        ledger.assign(pending(3, 101));
        assert_eq!(ledger.open().keys().copied().collect::<Vec<_>>(), [8, 9]);
        assert_eq!(ledger.steps(8, 101), []);
        assert_eq!(ledger.contested(), None);
    }

    #[test]
    fn a_nonce_that_nobody_uses_any_more_is_filled_and_nothing_behind_it_is_raised_meanwhile() {
        let mut ledger = Ledger::new(7, BTreeMap::new(), PATIENCE);
        ledger.move_on(8, 100);
        ledger.assign(pending(1, 100));
        assert_eq!(ledger.steps(7, 101), []);
        assert_eq!(ledger.steps(7, 102), [Step::SendAgain(8)]);
        assert_eq!(ledger.steps(7, 103), [Step::Fill(7), Step::SendAgain(8)]);
        ledger.let_wait(103);
        assert_eq!(ledger.steps(7, 104), [Step::SendAgain(8)]);
        assert_eq!(ledger.steps(8, 104), [Step::Raise(8)], "it was used after all");
        assert_eq!(
            ledger.steps(7, 105),
            [Step::SendAgain(8)],
            "a reorganisation begins anew"
        );
        assert_eq!(ledger.steps(7, 107), [Step::Fill(7), Step::SendAgain(8)]);
        ledger.fill(7, pending(2, 107));
        assert_eq!(ledger.steps(7, 107), [Step::Raise(8)]);
        assert_eq!(ledger.next(), 9);
    }

    #[test]
    fn foreign_nonces_that_keep_coming_are_a_second_process() {
        let mut ledger = Ledger::new(0, BTreeMap::new(), PATIENCE);
        ledger.move_on(16, 100);
        assert_eq!(ledger.contested(), None, "a person at work");
        ledger.move_on(17, 1_100);
        assert_eq!(ledger.contested(), Some(16));

        let mut ledger = Ledger::new(0, BTreeMap::new(), PATIENCE);
        for nonce in 1..100 {
            ledger.move_on(nonce, nonce * 63);
            assert_eq!(ledger.contested(), None, "now and then");
        }

        let mut ledger = Ledger::new(0, BTreeMap::new(), PATIENCE);
        for block in 0..16 {
            let nonce = ledger.next();
            ledger.assign(pending(1, block));
            ledger.lose(nonce, block);
            assert_eq!(ledger.contested(), None);
        }
        ledger.move_on(1_000_000, 20);
        assert_eq!(ledger.contested(), Some(999_999));
    }

    #[test]
    fn an_included_one_is_kept_until_it_is_deep_and_reopened_when_it_vanishes() {
        let mut open = pending(1, 100);
        open.standing = Standing::Included { block: 101 };
        let mut ledger = with_one(open);
        assert_eq!(ledger.steps(8, 105), []);
        assert_eq!(ledger.steps(7, 102), [Step::Reopen(7)]);
        assert_eq!(ledger.steps(8, 106), [Step::Forget(7)]);
    }

    #[test]
    fn only_the_newest_nonce_can_be_taken_back() {
        let mut ledger = with_one(pending(1, 100));
        ledger.assign(pending(2, 100));
        assert!(!ledger.take_back(7));
        assert!(ledger.take_back(8));
        assert!(ledger.take_back(7));
        assert_eq!(ledger.next(), 7);
    }

    proptest! {
        /// Nonces are given out without gaps or repeats, across any restart.
        #[test]
        fn nonces_have_no_gaps_and_no_repeats(first in 0u64..1000, count in 1usize..20, restart in 0usize..20) {
            let mut ledger = Ledger::new(first, BTreeMap::new(), PATIENCE);
            let mut given = Vec::new();
            for index in 0..count {
                if index == restart {
                    // The chain has used none of them: the store alone knows.
                    ledger = Ledger::new(first, ledger.open.clone(), PATIENCE);
                }
                given.push(ledger.next());
                ledger.assign(pending(index as i64, 0));
            }
            prop_assert_eq!(given, (first..first + count as u64).collect::<Vec<_>>());
        }
    }
}
