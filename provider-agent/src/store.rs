//! What the agent keeps: the orders and leases of the market as the canonical chain has them, and what was decided for the
//! leases that run here. The checkpoint of the chain is written in the same transaction.
//!
//! Every fact carries the number of the block it came from, so that a reorganisation is undone by forgetting what came from
//! blocks that are gone.

mod events;
mod proposals;
mod rows;

use std::path::Path;

use alloy_primitives::B256;
use daemon::StoreError;
use rusqlite::{OptionalExtension, Transaction, params};
use workload::{Assignment, LeaseId};

pub use events::{MarketEvent, decode, topics};
pub use proposals::{Phase, Proposal, ProposalKey};
pub use rows::{Assignments, Closed, Lease, Leased, OrderRow};

use crate::bidding::OpenOrder;

const DATABASE_FILE: &str = "provider.sqlite";

/// How many blocks orders are kept for that are of no use any more.
const KEPT_BLOCKS: u64 = 512;

/// Ids are big-endian, because SQLite's integers are signed.
const SCHEMA: &str = "
    CREATE TABLE orders (
        id BLOB PRIMARY KEY CHECK (length(id) = 8),
        -- ABI-encoded OrderTerms.
        terms BLOB NOT NULL,
        created_block INTEGER NOT NULL,
        close_block INTEGER NOT NULL,
        requeued_block INTEGER,
        requeued_close_block INTEGER,
        -- Cancelled or expired.
        ended_block INTEGER,
        leased_block INTEGER,
        supplier INTEGER,
        start INTEGER,
        closed_block INTEGER,
        closed_reason INTEGER,
        -- The newest block that remained when a reorganisation took our lease away.
        undone_block INTEGER,
        -- The close block for which we bid: until its answer can come no more, what was offered is reserved.
        bid_for INTEGER,
        -- What the engine decided for the lease, as JSON; there once it was applied.
        assignment TEXT,
        -- Whether it ever ran whole.
        ready INTEGER NOT NULL DEFAULT 0,
        -- Whether workload and manifest are gone, after the end was confirmed.
        removed INTEGER NOT NULL DEFAULT 0,
        -- Whether everything was paid out, after the end was confirmed.
        paid INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX orders_by_close ON orders (close_block) WHERE leased_block IS NULL AND ended_block IS NULL;
    CREATE INDEX orders_by_supplier ON orders (supplier);
";

/// Extensions and updates. A lease that came from an update has a row in `orders` like any other.
const SCHEMA_OF_UPDATES: &str = "
    -- The first lease of the workload, where it is another one.
    ALTER TABLE orders ADD COLUMN workload BLOB;
    -- When the manifest of an updated lease began to take the place of the one before.
    ALTER TABLE orders ADD COLUMN switched_at INTEGER;
    -- Why it was taken back.
    ALTER TABLE orders ADD COLUMN setback TEXT;
    -- What the engine decided for a workload, as JSON, by the manifest it was decided for; the highest turn is in force. There
    -- once the manifest was applied. A manifest that runs again finds its images and ports as they were.
    CREATE TABLE assignments (
        workload BLOB NOT NULL,
        hash BLOB NOT NULL,
        assignment TEXT NOT NULL,
        turn INTEGER NOT NULL,
        PRIMARY KEY (workload, hash)
    ) STRICT;
    -- The manifest hash is the fourth word of the terms.
    INSERT INTO assignments SELECT id, substr(terms, 129, 32), assignment, 1 FROM orders WHERE assignment IS NOT NULL;
    ALTER TABLE orders DROP COLUMN assignment;
    CREATE INDEX orders_by_workload ON orders (workload) WHERE workload IS NOT NULL;
    CREATE TABLE extensions (
        lease BLOB NOT NULL,
        block INTEGER NOT NULL,
        -- Of the event within its block.
        position INTEGER NOT NULL,
        -- Seconds from the lease's start.
        duration INTEGER NOT NULL,
        PRIMARY KEY (lease, block, position)
    ) STRICT;
    CREATE TABLE proposals (
        lease BLOB NOT NULL,
        block INTEGER NOT NULL,
        position INTEGER NOT NULL,
        -- ABI-encoded OrderTerms.
        terms BLOB NOT NULL,
        expiry INTEGER NOT NULL,
        -- Taken, withdrawn or refused.
        ended_block INTEGER,
        -- What was decided here, before it was acted upon.
        phase TEXT NOT NULL DEFAULT 'seen',
        reason TEXT,
        -- Decimal; what the lease is taken for.
        rate TEXT,
        -- The images that were brought here for it, as JSON.
        images TEXT,
        PRIMARY KEY (lease, block, position)
    ) STRICT;
";

/// Refusals cost gas: the pause after one outlasts a restart.
const SCHEMA_OF_REFUSALS: &str = "
    -- When the chain was told last that it is refused, Unix seconds of the newest block then.
    ALTER TABLE proposals ADD COLUMN refused_at INTEGER;
";

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    database: daemon::Store,
}

impl Store {
    /// Opens (or creates) the database in the agent's data directory.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let migrations = [
            ::chain::checkpoint::MIGRATION,
            ::chain::transactions::MIGRATION,
            SCHEMA,
            SCHEMA_OF_UPDATES,
            SCHEMA_OF_REFUSALS,
        ];
        Ok(Self {
            database: daemon::Store::open(&directory.join(DATABASE_FILE), &migrations)?,
        })
    }

    /// The database, for transactions and the health report.
    pub fn database(&self) -> &daemon::Store {
        &self.database
    }

    /// Where to follow the chain on from.
    pub async fn history(&self) -> Result<Vec<::chain::BlockReference>, StoreError> {
        self.database.read(::chain::checkpoint::load_history).await
    }

    /// Stores what a batch of blocks means to supplier `own`, with the checkpoint.
    pub async fn apply(&self, own: u32, batch: &::chain::Batch) -> Result<(), StoreError> {
        let events = batch.events.clone();
        self.database
            .write(move |transaction| {
                for event in &events {
                    apply(transaction, own, event)?;
                }
                Ok(())
            })
            .await
    }

    /// Orders that nobody has won and whose answer may still come at `head`.
    pub async fn open_orders(&self, head: u64, response_window: u64) -> Result<Vec<OpenOrder>, StoreError> {
        let oldest = signed(head.saturating_sub(response_window));
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, terms, coalesce(requeued_close_block, close_block), bid_for FROM orders
                     WHERE leased_block IS NULL AND ended_block IS NULL
                       AND coalesce(requeued_close_block, close_block) >= ?1
                     ORDER BY id",
                )?;
                let found = statement.query_map([oldest], rows::open_order)?;
                found.collect()
            })
            .await
    }

    /// Reserves for bids that are about to be placed: (order, close block).
    pub async fn reserve(&self, bids: Vec<(u64, u64)>) -> Result<(), StoreError> {
        self.set_bids(bids, true).await
    }

    /// Gives back what was reserved for bids that were not placed.
    pub async fn release(&self, bids: Vec<(u64, u64)>) -> Result<(), StoreError> {
        self.set_bids(bids, false).await
    }

    async fn set_bids(&self, bids: Vec<(u64, u64)>, placed: bool) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                let mut statement = transaction.prepare_cached("UPDATE orders SET bid_for = ?2 WHERE id = ?1")?;
                for (order, close_block) in bids {
                    statement.execute(params![id(order), placed.then(|| signed(close_block))])?;
                }
                Ok(())
            })
            .await
    }

    /// The leases of supplier `own` that still need something: they live, or something of them may be left, or is owed.
    pub async fn unfinished_leases(&self, own: u32) -> Result<Vec<Lease>, StoreError> {
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {} FROM orders
                     WHERE (supplier = ?1 AND leased_block IS NOT NULL AND NOT (removed = 1 AND paid = 1))
                        OR (undone_block IS NOT NULL AND removed = 0)
                     ORDER BY id",
                    rows::LEASE_COLUMNS
                ))?;
                let found = statement.query_map([own], |row| rows::lease(row, own))?;
                found.collect()
            })
            .await
    }

    /// A lease of supplier `own`, finished or not.
    pub async fn lease(&self, own: u32, lease: LeaseId) -> Result<Option<Lease>, StoreError> {
        self.database
            .read(move |connection| {
                connection
                    .prepare_cached(&format!("SELECT {} FROM orders WHERE id = ?1", rows::LEASE_COLUMNS))?
                    .query_row([id(lease.0)], |row| rows::lease(row, own))
                    .optional()
            })
            .await
    }

    /// All leases that run or ran a workload, by id.
    pub async fn leases_of(&self, own: u32, workload: LeaseId) -> Result<Vec<Lease>, StoreError> {
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {} FROM orders WHERE id = ?1 OR workload = ?1 ORDER BY id",
                    rows::LEASE_COLUMNS
                ))?;
                let found = statement.query_map([id(workload.0)], |row| rows::lease(row, own))?;
                found.collect()
            })
            .await
    }

    /// What was ordered under an id, and whether it was ever ours.
    pub async fn order(&self, order: u64) -> Result<Option<OrderRow>, StoreError> {
        self.database
            .read(move |connection| rows::order(connection, order))
            .await
    }

    /// What the engine decided for a workload: for the manifest that it was last told to run, and for the one with this hash.
    pub async fn assignments(&self, workload: LeaseId, hash: B256) -> Result<Assignments, StoreError> {
        self.database
            .read(move |connection| rows::assignments(connection, workload, hash))
            .await
    }

    /// Keeps what the engine decided for a workload with this manifest, before anything is done with it; from now on it is
    /// in force.
    pub async fn set_assignment(
        &self,
        workload: LeaseId,
        hash: B256,
        assignment: &Assignment,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(assignment).unwrap_or_default();
        self.update(move |transaction| assign(transaction, workload, hash, &text))
            .await
    }

    /// A workload ran whole once.
    pub async fn set_ready(&self, workload: LeaseId) -> Result<(), StoreError> {
        self.update(move |transaction| {
            transaction.execute("UPDATE orders SET ready = 1 WHERE id = ?1", [id(workload.0)])
        })
        .await
    }

    /// Workload and manifests are gone, for all leases that ran it.
    pub async fn set_removed(&self, workload: LeaseId) -> Result<(), StoreError> {
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE orders SET removed = 1, undone_block = NULL WHERE id = ?1 OR workload = ?1",
                [id(workload.0)],
            )?;
            transaction.execute("DELETE FROM assignments WHERE workload = ?1", [id(workload.0)])
        })
        .await
    }

    /// Another lease runs the workload of this one, for so long that no reorganisation brings this one back.
    pub async fn set_superseded(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE orders SET removed = 1, undone_block = NULL WHERE id = ?1",
                [id(lease.0)],
            )
        })
        .await
    }

    /// The manifest of an updated lease begins to take the place of the one before, in a block of this time.
    pub async fn set_switched(&self, lease: LeaseId, time: u64) -> Result<(), StoreError> {
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE orders SET switched_at = ?2, setback = NULL WHERE id = ?1",
                params![id(lease.0), signed(time)],
            )
        })
        .await
    }

    /// The manifest of an updated lease is taken back, and why.
    pub async fn set_setback(&self, lease: LeaseId, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE orders SET setback = ?2 WHERE id = ?1",
                params![id(lease.0), reason],
            )
        })
        .await
    }

    /// The manifest of an updated lease was sent again: it gets another chance.
    pub async fn clear_setback(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE orders SET setback = NULL, switched_at = NULL WHERE id = ?1 AND setback IS NOT NULL",
                [id(lease.0)],
            )
        })
        .await
    }

    /// Everything was paid out.
    pub async fn set_paid(&self, leases: Vec<LeaseId>) -> Result<(), StoreError> {
        self.database
            .write(move |transaction| {
                let mut statement = transaction.prepare_cached("UPDATE orders SET paid = 1 WHERE id = ?1")?;
                for lease in leases {
                    statement.execute([id(lease.0)])?;
                }
                Ok(())
            })
            .await
    }

    async fn update(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.database.write(work).await.map(drop)
    }
}

fn assign(transaction: &Transaction<'_>, workload: LeaseId, hash: B256, text: &str) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached(
            "INSERT INTO assignments (workload, hash, assignment, turn)
             VALUES (?1, ?2, ?3, (SELECT coalesce(max(turn), 0) + 1 FROM assignments WHERE workload = ?1))
             ON CONFLICT (workload, hash) DO UPDATE SET assignment = excluded.assignment, turn = excluded.turn",
        )?
        .execute(params![id(workload.0), hash.as_slice(), text])
}

fn apply(transaction: &Transaction<'_>, own: u32, event: &::chain::Event) -> rusqlite::Result<()> {
    match event {
        ::chain::Event::Applied(block) => {
            for (position, log) in (0..).zip(&block.logs) {
                if let Some(event) = decode(&log.inner) {
                    record(transaction, (block.number, position), &event)?;
                }
            }
            // Leases that came from an update of a lease that is not known here: another supplier's.
            transaction.execute(
                "DELETE FROM orders WHERE terms = ?1 AND leased_block = ?2",
                params![NOT_KNOWN_YET, signed(block.number)],
            )?;
            if block.number.is_multiple_of(KEPT_BLOCKS / 8) {
                prune(transaction, own, block.number)?;
            }
        }
        ::chain::Event::Reverted { above } => undo(transaction, own, *above)?,
    }
    ::chain::checkpoint::save(transaction, event)
}

/// The terms of a lease that came from an update, between its first event and its last one in the same block.
const NOT_KNOWN_YET: &[u8] = &[];

/// `at` is the block and the event's place in it.
fn record(transaction: &Transaction<'_>, at: (u64, i64), event: &MarketEvent) -> rusqlite::Result<()> {
    let (block, position) = (signed(at.0), at.1);
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        transaction.prepare_cached(statement)?.execute(values).map(drop)
    };
    match event {
        MarketEvent::Created {
            order,
            close_block,
            terms,
        } => run(
            "INSERT INTO orders (id, terms, created_block, close_block) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET terms = ?2, created_block = ?3, close_block = ?4, ended_block = NULL,
                workload = NULL, switched_at = NULL, setback = NULL",
            &[&id(*order), terms, &block, &signed(*close_block)],
        ),
        MarketEvent::Requeued { order, close_block } => run(
            "UPDATE orders SET requeued_block = ?2, requeued_close_block = ?3 WHERE id = ?1",
            &[&id(*order), &block, &signed(*close_block)],
        ),
        MarketEvent::Ended { order } => run(
            "UPDATE orders SET ended_block = ?2 WHERE id = ?1",
            &[&id(*order), &block],
        ),
        MarketEvent::Leased { order, supplier, start } => run(
            "INSERT INTO orders (id, terms, created_block, close_block, leased_block, supplier, start)
             VALUES (?1, ?5, ?2, ?2, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET leased_block = ?2, supplier = ?3, start = ?4",
            &[&id(*order), &block, supplier, &signed(*start), &NOT_KNOWN_YET],
        ),
        // A lease that was closed inside its payout hold can end a second time, undone: it was over before.
        MarketEvent::Closed { order, reason } => run(
            "UPDATE orders SET closed_block = ?2, closed_reason = ?3 WHERE id = ?1 AND closed_block IS NULL",
            &[&id(*order), &block, reason],
        ),
        MarketEvent::Extended { order, duration } => run(
            "INSERT OR REPLACE INTO extensions (lease, block, position, duration)
             SELECT id, ?2, ?3, ?4 FROM orders WHERE id = ?1",
            &[&id(*order), &block, &position, duration],
        ),
        MarketEvent::Proposed { .. } | MarketEvent::Rejected { .. } | MarketEvent::Updated { .. } => {
            proposals::record(transaction, (block, position), event)
        }
    }
}

/// Forgets what came from blocks above this one.
fn undo(transaction: &Transaction<'_>, own: u32, above: u64) -> rusqlite::Result<()> {
    let above = signed(above);
    // A removed workload is made again when its lease turns out to live: its manifest has to be sent again.
    transaction.execute(
        "UPDATE orders SET closed_block = NULL, closed_reason = NULL, removed = 0, paid = 0 WHERE closed_block > ?1",
        [above],
    )?;
    transaction.execute(
        "UPDATE orders SET undone_block = ?1, removed = 0 WHERE leased_block > ?1 AND supplier = ?2",
        params![above, own],
    )?;
    transaction.execute(
        "UPDATE orders SET leased_block = NULL, supplier = NULL, start = NULL WHERE leased_block > ?1",
        [above],
    )?;
    transaction.execute(
        "UPDATE orders SET requeued_block = NULL, requeued_close_block = NULL WHERE requeued_block > ?1",
        [above],
    )?;
    transaction.execute("UPDATE orders SET ended_block = NULL WHERE ended_block > ?1", [above])?;
    transaction.execute("DELETE FROM extensions WHERE block > ?1", [above])?;
    transaction.execute("DELETE FROM proposals WHERE block > ?1", [above])?;
    transaction.execute(
        "UPDATE proposals SET ended_block = NULL WHERE ended_block > ?1",
        [above],
    )?;
    // What remains of an order that is gone is the workload it had here.
    transaction.execute(
        "DELETE FROM orders WHERE created_block > ?1 AND undone_block IS NULL",
        [above],
    )?;
    transaction.execute(
        "UPDATE orders SET ended_block = ?1, bid_for = NULL WHERE created_block > ?1",
        [above],
    )?;
    Ok(())
}

/// Orders that ended without us, so long ago that no reorganisation brings them back.
fn prune(transaction: &Transaction<'_>, own: u32, block: u64) -> rusqlite::Result<()> {
    let oldest = signed(block.saturating_sub(KEPT_BLOCKS));
    transaction.execute(
        "DELETE FROM orders WHERE undone_block IS NULL
           AND (ended_block < ?1 OR (leased_block < ?1 AND supplier <> ?2))",
        params![oldest, own],
    )?;
    for table in ["extensions", "proposals"] {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE lease NOT IN (SELECT id FROM orders)"),
            [],
        )?;
    }
    Ok(())
}

fn id(order: u64) -> [u8; 8] {
    order.to_be_bytes()
}

/// SQLite's integers have 63 bits; no block number or time has more.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
