//! What is to be answered: facts from logs in, the orders of a close block out. No I/O and no clock.
//!
//! Every fact is kept with the block it came from, so that undoing a reorganisation is forgetting the facts above a height,
//! and "as of the close block" is folding the facts up to it. A restart that applies the same facts again has the same
//! tasks.
//!
//! Orders without a bid are in no task: nothing is to be decided about them, and the order book lets anyone expire them
//! without a quorum. Orders all of whose bids the rule filters out are in their task, ranked empty.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use avs::{
    matching::Parameters,
    response::{self, Domain, MatchResponse, ResponseError},
    task::{self, Chunk, TaskOrder},
    terms::Terms,
    words::PackedBid,
};

/// What a log says, as far as tasks need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    Created {
        order_id: u64,
        close_block: u32,
        terms: Terms,
    },
    Bid {
        order_id: u64,
        bid: PackedBid,
    },
    /// Open again, with a new close block and no bids.
    Requeued {
        order_id: u64,
        close_block: u32,
    },
    /// Leased, cancelled or expired: not open any more.
    Ended {
        order_id: u64,
    },
    /// A task was answered on chain.
    Answered {
        close_block: u32,
        chunk: u16,
    },
}

/// An order that is open in its close block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    pub order_id: u64,
    pub terms: Terms,
    pub close_block: u32,
    /// In log order, since the close block was set.
    pub bids: Vec<PackedBid>,
    /// Block in which the close block was set: no bid is older.
    pub open_since: u64,
}

/// The facts about one order, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    created_in: u64,
    close_block: u32,
    terms: Terms,
    changes: Vec<(u64, Change)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Bid(PackedBid),
    Requeued(u32),
    Ended,
}

/// All orders that may still be in a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    orders: BTreeMap<u64, Order>,
    /// Orders by every close block they had.
    closing: BTreeMap<u32, BTreeSet<u64>>,
    /// Block in which a task was answered.
    answered: BTreeMap<(u32, u16), u64>,
}

impl Tasks {
    /// Takes what the logs of a block say, in their order. Blocks come in ascending order. Facts about an order whose
    /// creation was before everything followed are of no use and left out.
    pub fn apply(&mut self, block: u64, facts: impl IntoIterator<Item = Fact>) {
        for fact in facts {
            match fact {
                Fact::Created {
                    order_id,
                    close_block,
                    terms,
                } => {
                    self.closing.entry(close_block).or_default().insert(order_id);
                    let changes = Vec::new();
                    self.orders.insert(
                        order_id,
                        Order {
                            created_in: block,
                            close_block,
                            terms,
                            changes,
                        },
                    );
                }
                Fact::Bid { order_id, bid } => self.change(block, order_id, Change::Bid(bid)),
                Fact::Requeued { order_id, close_block } => {
                    if self.orders.contains_key(&order_id) {
                        self.closing.entry(close_block).or_default().insert(order_id);
                    }
                    self.change(block, order_id, Change::Requeued(close_block));
                }
                Fact::Ended { order_id } => self.change(block, order_id, Change::Ended),
                Fact::Answered { close_block, chunk } => {
                    self.answered.insert((close_block, chunk), block);
                }
            }
        }
    }

    fn change(&mut self, block: u64, order_id: u64, change: Change) {
        if let Some(order) = self.orders.get_mut(&order_id) {
            order.changes.push((block, change));
        }
    }

    /// Undoes every block above this height.
    pub fn revert(&mut self, above: u64) {
        self.orders.retain(|_, order| {
            order.changes.retain(|(block, _)| *block <= above);
            order.created_in <= above
        });
        self.answered.retain(|_, block| *block <= above);
        self.index();
    }

    /// Drops orders and answers none of whose close blocks is `oldest` or later, and returns the orders dropped. What is
    /// dropped can be in no task any more: an order is requeued only by an answer, which its response window ends.
    pub fn forget_closed_before(&mut self, oldest: u64) -> Vec<u64> {
        let old: Vec<u64> = self
            .orders
            .iter()
            .filter(|(_, order)| order.close_blocks().all(|close_block| u64::from(close_block) < oldest))
            .map(|(order_id, _)| *order_id)
            .collect();
        if !old.is_empty() {
            for order_id in &old {
                self.orders.remove(order_id);
            }
            self.index();
        }
        self.answered
            .retain(|(close_block, _), _| u64::from(*close_block) >= oldest);
        old
    }

    fn index(&mut self) {
        self.closing.clear();
        for (order_id, order) in &self.orders {
            for close_block in order.close_blocks() {
                self.closing.entry(close_block).or_default().insert(*order_id);
            }
        }
    }

    /// Close blocks from `first` to `head` with an order that had it, ascending.
    pub fn close_blocks(&self, first: u64, head: u64) -> Vec<u32> {
        let range = u32::try_from(first).unwrap_or(u32::MAX)..=u32::try_from(head).unwrap_or(u32::MAX);
        if range.is_empty() {
            return Vec::new();
        }
        self.closing.range(range).map(|(close_block, _)| *close_block).collect()
    }

    /// The orders that are open in this close block, with and without bids, ascending. Meaningful once the block was
    /// applied, and the same for ever after.
    pub fn open_in(&self, close_block: u32) -> Vec<OpenOrder> {
        let orders = self.closing.get(&close_block).into_iter().flatten();
        orders
            .filter_map(|order_id| self.orders.get(order_id)?.open_in(*order_id, close_block))
            .collect()
    }

    /// The orders that had this close block, whether they ended before it or not, ascending: what an answer to it is judged by.
    pub fn rounds_of(&self, close_block: u32) -> Vec<OpenOrder> {
        let orders = self.closing.get(&close_block).into_iter().flatten();
        orders
            .filter_map(|order_id| self.orders.get(order_id)?.round_of(*order_id, close_block))
            .collect()
    }

    /// The orders with bids that are open to this day and whose close block is one of these: nobody answered them.
    pub fn unanswered(&self, close_blocks: impl std::ops::RangeBounds<u32>) -> Vec<OpenOrder> {
        let rounds = self.closing.range(close_blocks);
        rounds
            .flat_map(|(close_block, orders)| orders.iter().map(move |order_id| (*close_block, *order_id)))
            .filter_map(|(close_block, order_id)| {
                let order = self.orders.get(&order_id)?;
                order.is_open_since(close_block).then_some(())?;
                order.open_in(order_id, close_block)
            })
            .filter(|order| !order.bids.is_empty())
            .collect()
    }

    /// Every answer taken on chain, as (close block, chunk, block it is in).
    pub fn answers(&self) -> impl Iterator<Item = (u32, u16, u64)> + '_ {
        let answers = self.answered.iter();
        answers.map(|((close_block, chunk), block)| (*close_block, *chunk, *block))
    }

    /// Whether a response to this task was taken on chain.
    pub fn is_answered(&self, close_block: u32, chunk: u16) -> bool {
        self.answered.contains_key(&(close_block, chunk))
    }

    /// How many orders are kept.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Whether no order is kept.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}

impl Order {
    fn close_blocks(&self) -> impl Iterator<Item = u32> + '_ {
        let requeued = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Requeued(close_block) => Some(*close_block),
            Change::Bid(_) | Change::Ended => None,
        });
        std::iter::once(self.close_block).chain(requeued)
    }

    /// The order as of the end of `close_block`, if it was open with that close block.
    fn open_in(&self, order_id: u64, close_block: u32) -> Option<OpenOrder> {
        let ended = |(block, change): &(u64, Change)| *block <= u64::from(close_block) && *change == Change::Ended;
        match self.changes.iter().any(ended) {
            true => None,
            false => self.round_of(order_id, close_block),
        }
    }

    /// Whether nothing ended or requeued the order since it got this close block.
    fn is_open_since(&self, close_block: u32) -> bool {
        let ended = self.changes.iter().any(|(_, change)| *change == Change::Ended);
        !ended && self.close_blocks().last() == Some(close_block)
    }

    /// The order as of the end of `close_block`, if it had that close block then, open or not.
    fn round_of(&self, order_id: u64, close_block: u32) -> Option<OpenOrder> {
        if self.created_in > u64::from(close_block) {
            return None;
        }
        let mut open = OpenOrder {
            order_id,
            terms: self.terms.clone(),
            close_block: self.close_block,
            bids: Vec::new(),
            open_since: self.created_in,
        };
        for (block, change) in &self.changes {
            if *block > u64::from(close_block) {
                break;
            }
            match change {
                Change::Bid(bid) => open.bids.push(*bid),
                Change::Requeued(new) => {
                    open.bids.clear();
                    (open.close_block, open.open_since) = (*new, *block);
                }
                Change::Ended => {}
            }
        }
        (open.close_block == close_block).then_some(open)
    }
}

/// The answer to one task, ready to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub response: MatchResponse,
    pub digest: B256,
    /// Packed match words.
    pub matches: Vec<alloy::primitives::U256>,
    pub order_ids: Vec<u64>,
}

impl Answer {
    /// The same about these orders only.
    ///
    /// # Errors
    /// When the match words are malformed.
    pub fn restricted_to(self, domain: &Domain, kept: &BTreeSet<u64>) -> Result<Self, ResponseError> {
        if self.order_ids.iter().all(|order_id| kept.contains(order_id)) {
            return Ok(self);
        }
        let mut outcomes = response::decode(&self.matches)?;
        outcomes.retain(|order| kept.contains(&order.order_id));
        let matches = response::encode(&outcomes)?;
        let response = MatchResponse {
            matches_hash: response::matches_hash(&matches),
            ..self.response
        };
        let mut order_ids = self.order_ids;
        order_ids.retain(|order_id| kept.contains(order_id));
        Ok(Self {
            digest: response.digest(domain),
            response,
            matches,
            order_ids,
        })
    }
}

/// Runs the rule over one chunk. `orders` are the orders of its close block.
///
/// # Errors
/// When the chunk's orders are not ascending.
pub fn answer(
    domain: &Domain,
    parameters: &Parameters,
    chunk: &Chunk,
    close_block: u32,
    close_block_hash: B256,
    orders: &[OpenOrder],
) -> Result<Answer, ResponseError> {
    let of_chunk: Vec<TaskOrder<'_>> = orders
        .iter()
        .filter(|order| chunk.order_ids.contains(&order.order_id))
        .map(|order| TaskOrder {
            order_id: order.order_id,
            terms: &order.terms,
            bids: &order.bids,
        })
        .collect();
    let matches = task::answer(parameters, domain.chain_id, close_block_hash, &of_chunk)?;
    let response = MatchResponse {
        close_block,
        close_block_hash,
        chunk: chunk.index,
        params_version: chunk.params_version,
        matches_hash: response::matches_hash(&matches),
    };
    Ok(Answer {
        digest: response.digest(domain),
        response,
        matches,
        order_ids: chunk.order_ids.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
