//! Which orders are open, from the order book's logs: which blocks close any, and which orders nobody will answer any more.
//!
//! A row is kept for a while after its order is over, with the block of everything that happened to it, so that a
//! reorganisation is undone by forgetting what came from higher blocks.

use alloy::sol_types::SolEvent;
use alloy_primitives::{Address, B256};
use bindings::IOrderBook;
use chain::{AppliedBlock, Event};
use rusqlite::{Connection, Transaction};

pub(crate) const MIGRATION: &str = "
    -- Orders that are open, or were until lately. Columns ending in _at are the blocks in which something happened.
    CREATE TABLE orders (
        id                   INTEGER PRIMARY KEY,
        created_at           INTEGER NOT NULL,
        close_block          INTEGER NOT NULL,
        bid_at               INTEGER,
        requeued_at          INTEGER,
        requeued_close_block INTEGER,
        requeued_bid_at      INTEGER,
        over_at              INTEGER
    ) STRICT;
    CREATE INDEX orders_by_close_block ON orders (close_block);
    CREATE INDEX orders_by_requeued_close_block ON orders (requeued_close_block) WHERE requeued_close_block IS NOT NULL;
    CREATE INDEX orders_by_end ON orders (over_at);
";

/// Blocks an order that is over is kept, for reorganisations and for tasks that still name its close block. At least the
/// longest response window there can be.
const KEPT_BLOCKS: u64 = 300;

/// First topics of the logs that this needs.
pub(crate) const TOPICS: [B256; 6] = [
    IOrderBook::OrderCreated::SIGNATURE_HASH,
    IOrderBook::BidPlaced::SIGNATURE_HASH,
    IOrderBook::OrderRequeued::SIGNATURE_HASH,
    IOrderBook::LeaseCreated::SIGNATURE_HASH,
    IOrderBook::OrderCancelled::SIGNATURE_HASH,
    IOrderBook::OrderExpired::SIGNATURE_HASH,
];

/// Takes over what an event of the chain means for orders.
pub(crate) fn apply(transaction: &Transaction<'_>, order_book: Address, event: &Event) -> rusqlite::Result<()> {
    match event {
        Event::Applied(block) => apply_block(transaction, order_book, block),
        Event::Reverted { above } => revert(transaction, *above),
    }
}

fn apply_block(transaction: &Transaction<'_>, order_book: Address, block: &AppliedBlock) -> rusqlite::Result<()> {
    let number = block.number as i64;
    let logs = block.logs.iter().map(|log| &log.inner);
    for log in logs.filter(|log| log.address == order_book) {
        if let Ok(created) = IOrderBook::OrderCreated::decode_log(log) {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO orders (id, created_at, close_block) VALUES (?1, ?2, ?3)")?
                .execute((created.orderId as i64, number, created.closeBlock))?;
        } else if let Ok(bid) = IOrderBook::BidPlaced::decode_log(log) {
            transaction
                .prepare_cached(
                    "UPDATE orders SET
                       bid_at = CASE WHEN requeued_at IS NULL THEN coalesce(bid_at, ?2) ELSE bid_at END,
                       requeued_bid_at = CASE WHEN requeued_at IS NOT NULL THEN coalesce(requeued_bid_at, ?2) END
                     WHERE id = ?1",
                )?
                .execute((bid.orderId as i64, number))?;
        } else if let Ok(requeued) = IOrderBook::OrderRequeued::decode_log(log) {
            transaction
                .prepare_cached("UPDATE orders SET requeued_at = ?2, requeued_close_block = ?3 WHERE id = ?1")?
                .execute((requeued.orderId as i64, number, requeued.closeBlock))?;
        } else if let Some(id) = order_that_is_over(log) {
            transaction
                .prepare_cached("UPDATE orders SET over_at = ?2 WHERE id = ?1")?
                .execute((id as i64, number))?;
        }
    }
    transaction
        .prepare_cached("DELETE FROM orders WHERE over_at < ?1")?
        .execute([number.saturating_sub(KEPT_BLOCKS as i64)])?;
    Ok(())
}

fn order_that_is_over(log: &alloy_primitives::Log) -> Option<u64> {
    let leased = IOrderBook::LeaseCreated::decode_log(log).map(|event| event.orderId);
    let cancelled = || IOrderBook::OrderCancelled::decode_log(log).map(|event| event.orderId);
    let expired = || IOrderBook::OrderExpired::decode_log(log).map(|event| event.orderId);
    leased.or_else(|_| cancelled()).or_else(|_| expired()).ok()
}

fn revert(transaction: &Transaction<'_>, above: u64) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM orders WHERE created_at > ?1",
        "UPDATE orders SET bid_at = NULL WHERE bid_at > ?1",
        "UPDATE orders SET requeued_bid_at = NULL WHERE requeued_bid_at > ?1",
        "UPDATE orders SET requeued_at = NULL, requeued_close_block = NULL, requeued_bid_at = NULL
           WHERE requeued_at > ?1",
        "UPDATE orders SET over_at = NULL WHERE over_at > ?1",
    ] {
        transaction.prepare_cached(statement)?.execute([above as i64])?;
    }
    Ok(())
}

/// Orders with a bid that were open when this block closed them: the most chunks it can have.
pub(crate) fn closing(connection: &Connection, block: u64) -> rusqlite::Result<u32> {
    connection
        .prepare_cached(
            "SELECT
               (SELECT count(*) FROM orders WHERE close_block = ?1 AND bid_at IS NOT NULL
                  AND (over_at IS NULL OR over_at >= ?1)) +
               (SELECT count(*) FROM orders WHERE requeued_close_block = ?1 AND requeued_bid_at IS NOT NULL
                  AND (over_at IS NULL OR over_at >= ?1))",
        )?
        .query_row([block as i64], |row| row.get(0))
}

/// Blocks of a range that close orders with a bid, each with how many.
pub(crate) fn closing_between(connection: &Connection, first: u64, last: u64) -> rusqlite::Result<Vec<(u64, u32)>> {
    let numbers: Vec<u64> = connection
        .prepare_cached(
            "SELECT close_block FROM orders WHERE close_block BETWEEN ?1 AND ?2
             UNION SELECT requeued_close_block FROM orders WHERE requeued_close_block BETWEEN ?1 AND ?2",
        )?
        .query_map((first as i64, last as i64), |row| {
            row.get::<_, i64>(0).map(|number| number as u64)
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::new();
    for number in numbers {
        let count = closing(connection, number)?;
        if count > 0 {
            found.push((number, count));
        }
    }
    Ok(found)
}

/// Open orders that anyone may expire in block `block`: without a bid from the close block on, with one when the response
/// window is over. Oldest first, at most `limit`.
pub(crate) fn expirable(
    connection: &Connection,
    block: u64,
    response_window: u64,
    limit: usize,
) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached(
            "SELECT id FROM (
               SELECT id, coalesce(requeued_close_block, close_block)
                 + CASE WHEN CASE WHEN requeued_at IS NULL THEN bid_at ELSE requeued_bid_at END IS NULL
                     THEN 0 ELSE ?2 + 1 END AS first_block
               FROM orders WHERE over_at IS NULL)
             WHERE first_block <= ?1 ORDER BY first_block, id LIMIT ?3",
        )?
        .query_map((block as i64, response_window as i64, limit as i64), |row| {
            row.get::<_, i64>(0).map(|id| id as u64)
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use alloy::rpc::types::Log;
    use bindings::OrderTerms;

    use super::*;

    const ID: u64 = u64::MAX - 7;

    fn log(event: &impl SolEvent) -> Log {
        Log {
            inner: alloy_primitives::Log {
                address: Address::ZERO,
                data: event.encode_log_data(),
            },
            ..Log::default()
        }
    }

    fn block(number: u64, logs: Vec<Log>) -> Event {
        Event::Applied(AppliedBlock {
            number,
            hash: B256::with_last_byte(number as u8),
            parent: B256::ZERO,
            timestamp: 0,
            logs,
        })
    }

    fn created(id: u64, close_block: u32) -> Log {
        let terms = OrderTerms {
            resources: Default::default(),
            requirements: Default::default(),
            regions: Default::default(),
            manifestHash: B256::ZERO,
            maximumRate: Default::default(),
            duration: 1,
            wantedSuppliers: Vec::new(),
            excludedSuppliers: Vec::new(),
        };
        log(&IOrderBook::OrderCreated {
            orderId: id,
            closeBlock: close_block,
            feeSchedule: 1,
            terms,
        })
    }

    fn bid(id: u64) -> Log {
        log(&IOrderBook::BidPlaced {
            orderId: id,
            provider: 1,
            offer: Default::default(),
            scoreCard: Default::default(),
            capacity: Default::default(),
        })
    }

    struct Index(Connection);

    impl Index {
        fn new() -> Self {
            let connection = Connection::open_in_memory().expect("memory");
            connection.execute_batch(MIGRATION).expect("migration");
            Self(connection)
        }

        fn apply(&mut self, event: &Event) {
            let transaction = self.0.transaction().expect("transaction");
            apply(&transaction, Address::ZERO, event).expect("apply");
            transaction.commit().expect("commit");
        }

        fn expirable(&self, block: u64) -> Vec<u64> {
            expirable(&self.0, block, 10, 100).expect("query")
        }

        fn closing(&self, block: u64) -> u32 {
            closing(&self.0, block).expect("query")
        }
    }

    #[test]
    fn without_a_bid_an_order_expires_in_its_close_block_with_one_after_the_window() {
        let mut index = Index::new();
        index.apply(&block(1, vec![created(ID, 5), created(7, 5)]));
        index.apply(&block(2, vec![bid(7)]));
        assert!(index.expirable(4).is_empty());
        assert_eq!(index.expirable(5), [ID]);
        assert_eq!(index.expirable(15), [ID]);
        assert_eq!(index.expirable(16), [ID, 7]);
        assert_eq!((index.closing(5), index.closing(6)), (1, 0));
        assert_eq!(closing_between(&index.0, 1, 9).expect("query"), [(5, 1)]);
        assert_eq!(closing_between(&index.0, 6, 9).expect("query"), []);
        index.apply(&block(6, vec![log(&IOrderBook::OrderExpired { orderId: ID })]));
        assert_eq!(index.expirable(16), [7]);
    }

    #[test]
    fn a_requeued_order_has_new_bids_and_a_new_close_block() {
        let mut index = Index::new();
        index.apply(&block(1, vec![created(7, 3), bid(7)]));
        let requeued = log(&IOrderBook::OrderRequeued {
            orderId: 7,
            closeBlock: 8,
        });
        index.apply(&block(4, vec![requeued]));
        assert_eq!((index.closing(3), index.closing(8)), (1, 0));
        assert_eq!(index.expirable(8), [7]);
        index.apply(&block(5, vec![bid(7)]));
        assert_eq!((index.closing(3), index.closing(8)), (1, 1));
        assert!(index.expirable(18).is_empty());
        assert_eq!(index.expirable(19), [7]);
    }

    #[test]
    fn a_reorganisation_undoes_what_came_from_higher_blocks() {
        let mut index = Index::new();
        index.apply(&block(1, vec![created(7, 3)]));
        index.apply(&block(2, vec![created(8, 3), bid(7)]));
        let leased = log(&IOrderBook::LeaseCreated {
            orderId: 7,
            supplier: 1,
            rate: Default::default(),
            start: 0,
            gpuEntry: 0,
        });
        index.apply(&block(4, vec![leased]));
        assert_eq!(index.expirable(100), [8]);
        index.apply(&Event::Reverted { above: 3 });
        assert_eq!(index.expirable(100), [8, 7]);
        index.apply(&Event::Reverted { above: 1 });
        assert_eq!(index.expirable(3), [7]);
        index.apply(&Event::Reverted { above: 0 });
        assert!(index.expirable(100).is_empty());
    }
}
