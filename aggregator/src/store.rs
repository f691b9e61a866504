//! What must survive a restart: signatures that count, and which orders are open.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alloy_primitives::{B256, U256};
use avs::bn254::Signature;
use avs::quorum::OperatorId;
use daemon::{Store, StoreError};
use rusqlite::{Connection, Transaction};

use crate::collect::{Record, Submission, TaskId};
use crate::orders;

const SIGNATURES: &str = "
    -- Answers that operators signed, each once however many signed it.
    CREATE TABLE candidates (
        close_block      INTEGER NOT NULL,
        close_block_hash BLOB    NOT NULL CHECK (length(close_block_hash) = 32),
        chunk            INTEGER NOT NULL,
        digest           BLOB    NOT NULL CHECK (length(digest) = 32),
        params_version   INTEGER NOT NULL,
        matches          BLOB    NOT NULL,
        PRIMARY KEY (close_block, chunk, digest)
    ) STRICT;
    -- The signature of an operator that counts for a task.
    CREATE TABLE signatures (
        close_block INTEGER NOT NULL,
        chunk       INTEGER NOT NULL,
        operator    BLOB    NOT NULL CHECK (length(operator) = 32),
        digest      BLOB    NOT NULL CHECK (length(digest) = 32),
        signature   BLOB    NOT NULL CHECK (length(signature) = 64),
        PRIMARY KEY (close_block, chunk, operator)
    ) STRICT;
";

/// A change of what is kept of tasks.
#[derive(Debug)]
pub enum Change {
    Store(Record),
    Discard { task: TaskId, operator: OperatorId },
    Finish(TaskId),
}

/// Opens the aggregator's database.
///
/// # Errors
/// When it cannot be opened, or a later version wrote it.
pub fn open(directory: &Path) -> Result<Store, StoreError> {
    let migrations = [
        chain::checkpoint::MIGRATION,
        chain::transactions::MIGRATION,
        SIGNATURES,
        orders::MIGRATION,
    ];
    Store::open(&directory.join("aggregator.sqlite"), &migrations)
}

/// Writes changes, in order.
///
/// # Errors
/// When SQLite refuses.
pub fn apply(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    for change in changes {
        match change {
            Change::Store(record) => insert(transaction, &record.submission)?,
            Change::Discard { task, operator } => {
                transaction
                    .prepare_cached("DELETE FROM signatures WHERE close_block = ?1 AND chunk = ?2 AND operator = ?3")?
                    .execute((task.close_block, task.chunk, operator.as_slice()))?;
            }
            Change::Finish(task) => {
                for statement in [
                    "DELETE FROM signatures WHERE close_block = ?1 AND chunk = ?2",
                    "DELETE FROM candidates WHERE close_block = ?1 AND chunk = ?2",
                ] {
                    transaction
                        .prepare_cached(statement)?
                        .execute((task.close_block, task.chunk))?;
                }
            }
        }
    }
    Ok(())
}

fn insert(transaction: &Transaction<'_>, submission: &Submission) -> rusqlite::Result<()> {
    let Submission {
        task,
        close_block_hash,
        params_version,
        operator,
        digest,
        matches,
        signature,
    } = submission;
    let known = transaction
        .prepare_cached("SELECT 1 FROM candidates WHERE close_block = ?1 AND chunk = ?2 AND digest = ?3")?
        .exists((task.close_block, task.chunk, digest.as_slice()))?;
    if !known {
        let words: Vec<u8> = matches.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        transaction
            .prepare_cached("INSERT INTO candidates VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute((
                task.close_block,
                close_block_hash.as_slice(),
                task.chunk,
                digest.as_slice(),
                params_version,
                words,
            ))?;
    }
    transaction
        .prepare_cached("INSERT OR REPLACE INTO signatures VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute((
            task.close_block,
            task.chunk,
            operator.as_slice(),
            digest.as_slice(),
            signature.to_bytes(),
        ))?;
    Ok(())
}

/// Forgets what no response can use any more: tasks that were dropped while this process was away.
pub(crate) fn prune(transaction: &Transaction<'_>, oldest_close_block: u64) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM signatures WHERE close_block < ?1",
        "DELETE FROM candidates WHERE close_block < ?1",
    ] {
        transaction
            .prepare_cached(statement)?
            .execute([oldest_close_block as i64])?;
    }
    Ok(())
}

/// Close block hash, params version and match words, by close block, chunk and digest.
type Candidates = BTreeMap<(u32, u16, B256), (B256, u16, Arc<[U256]>)>;

/// Every signature that counts. Those that cannot be read back (the file was damaged) are left out: their operators send
/// again.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Vec<Record>> {
    let mut candidates = Candidates::new();
    let mut statement = connection
        .prepare("SELECT close_block, chunk, digest, close_block_hash, params_version, matches FROM candidates")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let words: Vec<u8> = row.get(5)?;
        let words: Arc<[U256]> = words.chunks_exact(32).map(U256::from_be_slice).collect();
        let key = (row.get(0)?, row.get(1)?, B256::from(row.get::<_, [u8; 32]>(2)?));
        candidates.insert(key, (B256::from(row.get::<_, [u8; 32]>(3)?), row.get(4)?, words));
    }
    let mut records = Vec::new();
    let mut statement = connection.prepare(
        "SELECT close_block, chunk, digest, operator, signature FROM signatures ORDER BY close_block, chunk",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (close_block, chunk): (u32, u16) = (row.get(0)?, row.get(1)?);
        let digest = B256::from(row.get::<_, [u8; 32]>(2)?);
        let known = candidates.get(&(close_block, chunk, digest));
        let signature = Signature::from_bytes(&row.get::<_, [u8; 64]>(4)?);
        let (Some((close_block_hash, params_version, matches)), Ok(signature)) = (known, signature) else {
            continue;
        };
        records.push(Record {
            submission: Submission {
                task: TaskId { close_block, chunk },
                close_block_hash: *close_block_hash,
                params_version: *params_version,
                operator: B256::from(row.get::<_, [u8; 32]>(3)?),
                digest,
                matches: matches.clone(),
                signature,
            },
        });
    }
    Ok(records)
}
