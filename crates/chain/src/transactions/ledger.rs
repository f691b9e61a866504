//! Which nonces are whose, and what each open transaction needs next. No I/O and no clock: time is counted in blocks,
//! because only blocks can include a transaction.

use std::collections::BTreeMap;

/// Blocks that must pass while a used nonce has no receipt of ours, before another process is blamed: an endpoint may know
/// the count earlier than the receipt.
const BLOCKS_BEFORE_FOREIGN: u64 = 2;

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
    /// Somebody else uses this key: this nonce was used, not by us.
    Foreign(u64),
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
}

impl Ledger {
    /// `next`: the first nonce nobody used or was given.
    pub(crate) fn new(next: u64, open: BTreeMap<u64, Open>, patience: Patience) -> Self {
        let next = open.last_key_value().map_or(next, |(nonce, _)| next.max(nonce + 1));
        Self { next, open, patience }
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

    /// Whether anything waits to be included.
    pub(crate) fn is_waiting(&self) -> bool {
        self.open
            .values()
            .any(|open| !matches!(open.standing, Standing::Included { .. }))
    }

    /// What to do when the chain has used `used` nonces of this key and its newest block is `head`.
    pub(crate) fn steps(&self, used: u64, head: u64) -> Vec<Step> {
        if used > self.next {
            return vec![Step::Foreign(self.next)];
        }
        self.open
            .iter()
            .filter_map(|(&nonce, open)| self.step(nonce, open, used, head))
            .collect()
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
                if head >= open.priced_at + self.patience.raise_after {
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
        let ledger = with_one(pending(1, 100));
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
    fn a_nonce_that_was_never_given_out_is_foreign_at_once() {
        assert_eq!(
            Ledger::new(7, BTreeMap::new(), PATIENCE).steps(8, 100),
            [Step::Foreign(7)]
        );
        assert_eq!(with_one(pending(1, 100)).steps(9, 100), [Step::Foreign(8)]);
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
    fn an_included_one_is_kept_until_it_is_deep_and_reopened_when_it_vanishes() {
        let mut open = pending(1, 100);
        open.standing = Standing::Included { block: 101 };
        let ledger = with_one(open);
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
