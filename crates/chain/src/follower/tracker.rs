//! What the follower knows about the chain, and what a header it sees means. No I/O: the follower asks, this decides.

use std::collections::VecDeque;

use alloy::primitives::B256;

use crate::BlockReference;

/// The parts of a block header the decisions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) block: BlockReference,
    pub(crate) parent: B256,
}

/// What a header means to what was applied so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the newest applied block, or an older one: nothing new. (A node that lags and a chain that was cut short look
    /// alike until the next block, whose hash tells.)
    Known,
    /// It follows the newest applied block.
    Extends,
    /// It is further ahead: the blocks between must be fetched first.
    Ahead,
    /// The newest applied blocks are not below it: find the newest block that still is.
    Diverged,
    /// Nothing recorded says whether it is on the applied chain; compare the nearest recorded block below it.
    Unclear {
        /// That block.
        check: BlockReference,
    },
}

/// The applied blocks: the newest without gaps, older ones possibly with gaps (where logs were fetched by range).
#[derive(Debug, Clone)]
pub(crate) struct Tracker {
    applied: VecDeque<BlockReference>,
    capacity: usize,
}

impl Tracker {
    /// `history` oldest first, as stored.
    pub(crate) fn new(history: impl IntoIterator<Item = BlockReference>, capacity: usize) -> Self {
        let mut tracker = Self {
            applied: VecDeque::new(),
            capacity,
        };
        for block in history {
            tracker.apply(block);
        }
        tracker
    }

    /// The newest applied block.
    pub(crate) fn tip(&self) -> Option<BlockReference> {
        self.applied.back().copied()
    }

    /// Records an applied block.
    pub(crate) fn apply(&mut self, block: BlockReference) {
        debug_assert!(
            self.tip().is_none_or(|tip| tip.number < block.number),
            "blocks are applied in order"
        );
        self.applied.push_back(block);
        if self.applied.len() > self.capacity {
            self.applied.pop_front();
        }
    }

    /// Forgets everything above `number`.
    pub(crate) fn revert(&mut self, number: u64) {
        while self.tip().is_some_and(|tip| tip.number > number) {
            self.applied.pop_back();
        }
    }

    /// The recorded blocks at or below `number`, newest first: candidates for the common ancestor.
    pub(crate) fn candidates(&self, number: u64) -> impl Iterator<Item = BlockReference> + '_ {
        self.applied
            .iter()
            .rev()
            .copied()
            .filter(move |block| block.number <= number)
    }

    /// What `header` means.
    pub(crate) fn judge(&self, header: Link) -> Verdict {
        let Some(tip) = self.tip() else { return Verdict::Ahead };
        if header.block.number > tip.number + 1 {
            return Verdict::Ahead;
        }
        if header.block.number == tip.number + 1 {
            return if header.parent == tip.hash {
                Verdict::Extends
            } else {
                Verdict::Diverged
            };
        }
        match self.candidates(header.block.number).next() {
            Some(recorded) if recorded.number == header.block.number => {
                if recorded.hash == header.block.hash {
                    Verdict::Known
                } else {
                    Verdict::Diverged
                }
            }
            Some(check) => Verdict::Unclear { check },
            // Below everything recorded: far too old to be the head of the chain that was followed.
            None => Verdict::Diverged,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block of fork `fork` at `number`; forks share their blocks below the height at which they split.
    fn hash(fork: u8, number: u64) -> B256 {
        let mut bytes = [0u8; 32];
        bytes[0] = fork;
        bytes[24..].copy_from_slice(&number.to_be_bytes());
        B256::from(bytes)
    }

    fn link(fork: u8, parent_fork: u8, number: u64) -> Link {
        Link {
            block: BlockReference {
                number,
                hash: hash(fork, number),
            },
            parent: hash(parent_fork, number.saturating_sub(1)),
        }
    }

    fn following(numbers: std::ops::RangeInclusive<u64>) -> Tracker {
        Tracker::new(numbers.map(|number| link(0, 0, number).block), 64)
    }

    #[test]
    fn a_header_is_judged_by_hash_never_by_height() {
        let tracker = following(10..=20);
        assert_eq!(tracker.judge(link(0, 0, 20)), Verdict::Known);
        assert_eq!(tracker.judge(link(0, 0, 15)), Verdict::Known);
        assert_eq!(tracker.judge(link(0, 0, 21)), Verdict::Extends);
        assert_eq!(tracker.judge(link(0, 0, 22)), Verdict::Ahead);
        assert_eq!(tracker.judge(link(1, 1, 21)), Verdict::Diverged);
        assert_eq!(tracker.judge(link(1, 0, 20)), Verdict::Diverged);
        assert_eq!(tracker.judge(link(1, 0, 12)), Verdict::Diverged);
        assert_eq!(tracker.judge(link(0, 0, 3)), Verdict::Diverged);
    }

    #[test]
    fn where_the_history_has_gaps_the_nearest_block_below_is_compared() {
        let tracker = Tracker::new([5, 10, 11].map(|number| link(0, 0, number).block), 64);
        assert_eq!(
            tracker.judge(link(0, 0, 8)),
            Verdict::Unclear {
                check: link(0, 0, 5).block
            }
        );
    }

    #[test]
    fn an_empty_history_only_catches_up() {
        assert_eq!(Tracker::new([], 64).judge(link(0, 0, 7)), Verdict::Ahead);
    }

    proptest! {
        /// However the chain forks, walking the candidates newest first finds the newest common block.
        #[test]
        fn the_common_ancestor_is_found(length in 2u64..60, split in 0u64..60, beyond in 0u64..5) {
            let split = split.min(length - 1);
            let mut tracker = following(1..=length);
            let canonical = |number: u64| if number <= split { hash(0, number) } else { hash(1, number) };
            let head = Link {
                block: BlockReference { number: length + beyond, hash: canonical(length + beyond) },
                parent: canonical(length + beyond - 1),
            };
            let verdict = tracker.judge(head);
            prop_assert_ne!(verdict, Verdict::Known);
            prop_assert_ne!(verdict, Verdict::Extends);
            let ancestor = tracker.candidates(head.block.number).find(|block| block.hash == canonical(block.number));
            prop_assert_eq!(ancestor.map(|block| block.number), (split > 0).then_some(split));
            tracker.revert(split);
            prop_assert_eq!(tracker.tip().map(|tip| tip.number), (split > 0).then_some(split));
        }

        /// Applying any number of blocks keeps only the newest ones.
        #[test]
        fn the_history_is_bounded(length in 0u64..300) {
            let tracker = following(1..=length);
            prop_assert_eq!(tracker.applied.len() as u64, length.min(64));
            prop_assert_eq!(tracker.tip().map_or(0, |tip| tip.number), length);
        }
    }
}
