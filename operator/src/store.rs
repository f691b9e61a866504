//! What the operator keeps on disk: the follower's checkpoint, the logs that tasks are made of, everything it signed, and
//! the block at which it began.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::primitives::{B256, LogData};
use chain::{BlockReference, Event, checkpoint};
use daemon::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use crate::chain::fact_of;
use crate::sign_once::{self, Signed, Verdict};
use crate::tasks::{Fact, Tasks};

/// The database's name in the data directory.
const FILE: &str = "operator.sqlite";

const LOGS: &str = "
    -- Logs that tasks are made of, as the chain has them, until no task can need them.
    CREATE TABLE logs (
        block    INTEGER NOT NULL,
        position INTEGER NOT NULL,
        order_id INTEGER,
        topics   BLOB NOT NULL,
        data     BLOB NOT NULL,
        PRIMARY KEY (block, position)
    ) STRICT;
    CREATE INDEX logs_of_orders ON logs (order_id);
    -- The chain's head when this store was made. What closed before may have been signed by an earlier store.
    CREATE TABLE beginning (
        id    INTEGER PRIMARY KEY CHECK (id = 1),
        block INTEGER NOT NULL
    ) STRICT;
";

const MIGRATIONS: &[&str] = &[
    checkpoint::MIGRATION,
    chain::transactions::MIGRATION,
    sign_once::MIGRATION,
    LOGS,
];

/// The operator's database.
#[derive(Debug, Clone)]
pub struct OperatorStore {
    store: daemon::Store,
}

/// What a restart continues from.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Applied blocks, oldest first.
    pub history: Vec<BlockReference>,
    pub tasks: Tasks,
    /// Only close blocks after this one are signed. `None` before the first start.
    pub beginning: Option<u64>,
}

/// What no task can need any more.
#[derive(Debug, Clone, Default)]
pub struct Forgotten {
    pub orders: Vec<u64>,
    /// Logs of blocks below this one, whatever they are about: also of orders that were created before all that was
    /// followed.
    pub logs_before: u64,
}

/// A log with where it stood.
#[derive(Debug, Clone)]
struct Row {
    block: u64,
    position: u64,
    order_id: Option<u64>,
    log: LogData,
}

impl OperatorStore {
    pub fn open(data_directory: &Path) -> Result<Self, StoreError> {
        let store = daemon::Store::open(&data_directory.join(FILE), MIGRATIONS)?;
        Ok(Self { store })
    }

    /// The database below, for the transaction actor and for health.
    pub fn database(&self) -> &daemon::Store {
        &self.store
    }

    /// Everything a start needs.
    pub async fn load(&self) -> Result<Kept, StoreError> {
        self.store.read(load).await
    }

    /// Remembers at which head this store was made, unless it does already, and returns it.
    pub async fn begin(&self, head: u64) -> Result<u64, StoreError> {
        self.store
            .write(move |transaction| {
                transaction.execute(
                    "INSERT OR IGNORE INTO beginning (id, block) VALUES (1, ?1)",
                    [head as i64],
                )?;
                transaction.query_row("SELECT block FROM beginning", [], |row| row.get::<_, i64>(0))
            })
            .await
            .map(|block| block as u64)
    }

    /// Stores what a batch changed together with the checkpoint, and drops what no task can need.
    pub async fn save(&self, events: Vec<Event>, forgotten: Forgotten) -> Result<(), StoreError> {
        self.store
            .write(move |transaction| {
                for event in &events {
                    checkpoint::save(transaction, event)?;
                    match event {
                        Event::Applied(block) => insert_logs(transaction, block)?,
                        Event::Reverted { above } => revert(transaction, *above)?,
                    }
                }
                forget(transaction, &forgotten)
            })
            .await
    }

    /// Judges signatures by everything ever signed and records those that may be given, in one commit.
    pub async fn record(&self, candidates: Vec<Signed>) -> Result<Vec<Verdict>, StoreError> {
        self.store
            .write(move |transaction| {
                candidates
                    .iter()
                    .map(|candidate| sign_once::record(transaction, candidate))
                    .collect()
            })
            .await
    }

    /// The orders of what was signed for a task; `None` if nothing was.
    pub async fn signed_orders(&self, close_block_hash: B256, chunk: u16) -> Result<Option<BTreeSet<u64>>, StoreError> {
        self.store
            .read(move |connection| sign_once::signed_orders(connection, close_block_hash, chunk))
            .await
    }
}

fn load(connection: &Connection) -> rusqlite::Result<Kept> {
    let mut tasks = Tasks::default();
    let mut statement = connection.prepare_cached("SELECT block, topics, data FROM logs ORDER BY block, position")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let topics: Vec<u8> = row.get(1)?;
        let topics = topics.chunks_exact(32).map(B256::from_slice).collect();
        let log = LogData::new_unchecked(topics, row.get::<_, Vec<u8>>(2)?.into());
        tasks.apply(row.get::<_, i64>(0)? as u64, fact_of(&log));
    }
    Ok(Kept {
        history: checkpoint::load_history(connection)?,
        tasks,
        beginning: connection
            .query_row("SELECT block FROM beginning", [], |row| row.get::<_, i64>(0))
            .optional()?
            .map(|block| block as u64),
    })
}

fn insert_logs(transaction: &Transaction<'_>, block: &chain::AppliedBlock) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO logs (block, position, order_id, topics, data) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, log) in block.logs.iter().enumerate() {
        let Some(fact) = fact_of(log.data()) else { continue };
        let row = Row {
            block: block.number,
            position: log.log_index.unwrap_or(position as u64),
            order_id: order_of(&fact),
            log: log.data().clone(),
        };
        insert.execute((
            row.block as i64,
            row.position as i64,
            row.order_id.map(|order_id| order_id as i64),
            row.log.topics().concat(),
            row.log.data.as_ref(),
        ))?;
    }
    Ok(())
}

fn order_of(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::Created { order_id, .. }
        | Fact::Bid { order_id, .. }
        | Fact::Requeued { order_id, .. }
        | Fact::Ended { order_id } => Some(*order_id),
        Fact::Answered { .. } => None,
    }
}

fn revert(transaction: &Transaction<'_>, above: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM logs WHERE block > ?1")?
        .execute([above as i64])?;
    // Blocks of another chain hold nothing that an earlier store could have signed.
    transaction
        .prepare_cached("UPDATE beginning SET block = min(block, ?1)")?
        .execute([above as i64])?;
    Ok(())
}

fn forget(transaction: &Transaction<'_>, forgotten: &Forgotten) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM logs WHERE order_id = ?1")?;
    for order_id in &forgotten.orders {
        delete.execute([*order_id as i64])?;
    }
    transaction
        .prepare_cached("DELETE FROM logs WHERE block < ?1")?
        .execute([forgotten.logs_before as i64])?;
    Ok(())
}

#[cfg(test)]
mod tests;
