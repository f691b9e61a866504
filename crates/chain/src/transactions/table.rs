//! What was sent and why, stored before it is sent.

use alloy::primitives::{Address, B256, Bytes, U256};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::fees::Fees;

/// Add this to the binary's migrations.
pub const MIGRATION: &str = "
    -- Transactions by key and nonce. A row is written before the transaction is sent.
    CREATE TABLE chain_transactions (
        id           INTEGER PRIMARY KEY,
        sender       BLOB    NOT NULL CHECK (length(sender) = 20),
        nonce        INTEGER NOT NULL,
        label        TEXT    NOT NULL,
        target       BLOB    NOT NULL CHECK (length(target) = 20),
        data         BLOB    NOT NULL,
        value        BLOB    NOT NULL CHECK (length(value) = 32),
        gas_limit    INTEGER NOT NULL,
        valid_until  INTEGER,
        -- pending, cancelling, included: open. final, cancelled, refused (no node took it), superseded (its nonce was used
        -- by somebody else): closed.
        state        TEXT    NOT NULL,
        block_number INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX chain_transactions_open ON chain_transactions (sender, nonce)
        WHERE state IN ('pending', 'cancelling', 'included');
    -- Each signed form of a transaction: the first, and one for every raised fee.
    CREATE TABLE chain_transaction_attempts (
        hash           BLOB    PRIMARY KEY CHECK (length(hash) = 32),
        transaction_id INTEGER NOT NULL REFERENCES chain_transactions (id) ON DELETE CASCADE,
        ordinal        INTEGER NOT NULL,
        maximum_fee    TEXT    NOT NULL,
        priority_fee   TEXT    NOT NULL,
        cancels        INTEGER NOT NULL,
        raw            BLOB    NOT NULL
    ) STRICT;
    CREATE INDEX chain_transaction_attempts_by_transaction ON chain_transaction_attempts (transaction_id, ordinal);
";

/// How many closed transactions are kept for whoever wants to know what happened.
const KEPT_CLOSED: i64 = 1_000;

/// What is to be done on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) nonce: u64,
    pub(crate) label: String,
    pub(crate) to: Address,
    pub(crate) data: Bytes,
    pub(crate) value: U256,
    pub(crate) gas_limit: u64,
    pub(crate) valid_until: Option<u64>,
}

/// One signed form of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) hash: B256,
    pub(crate) fees: Fees,
    /// Whether it is the empty transaction that takes the intent's place.
    pub(crate) cancels: bool,
    pub(crate) raw: Bytes,
}

/// The states in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowState {
    Pending,
    Cancelling,
    Included,
    Final,
    Cancelled,
    Refused,
    Superseded,
}

impl RowState {
    fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Cancelling => "cancelling",
            Self::Included => "included",
            Self::Final => "final",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }
}

/// An open row with its attempts, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) intent: Intent,
    pub(crate) state: RowState,
    pub(crate) block: Option<u64>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Row {
    /// What was just stored: its first attempt, in no block.
    pub(crate) fn first(id: i64, state: RowState, intent: Intent, attempt: Attempt) -> Self {
        Self {
            id,
            intent,
            state,
            block: None,
            attempts: vec![attempt],
        }
    }
}

pub(crate) fn insert(
    transaction: &Transaction<'_>,
    sender: Address,
    intent: &Intent,
    attempt: &Attempt,
) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO chain_transactions (sender, nonce, label, target, data, value, gas_limit, valid_until, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending')",
        )?
        .execute((
            sender.as_slice(),
            intent.nonce as i64,
            &intent.label,
            intent.to.as_slice(),
            intent.data.as_ref(),
            intent.value.to_be_bytes::<32>(),
            intent.gas_limit as i64,
            intent.valid_until.map(|block| block as i64),
        ))?;
    let id = transaction.last_insert_rowid();
    add_attempt(transaction, id, attempt)?;
    transaction
        .prepare_cached(
            "DELETE FROM chain_transactions WHERE state NOT IN ('pending', 'cancelling', 'included') AND id <= ?1",
        )?
        .execute([id - KEPT_CLOSED])?;
    Ok(id)
}

pub(crate) fn add_attempt(transaction: &Transaction<'_>, id: i64, attempt: &Attempt) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO chain_transaction_attempts
                 (hash, transaction_id, ordinal, maximum_fee, priority_fee, cancels, raw)
             VALUES (?1, ?2, (SELECT count(*) FROM chain_transaction_attempts WHERE transaction_id = ?2), ?3, ?4, ?5, ?6)",
        )?
        .execute((
            attempt.hash.as_slice(),
            id,
            attempt.fees.maximum.to_string(),
            attempt.fees.priority.to_string(),
            attempt.cancels,
            attempt.raw.as_ref(),
        ))
        .map(drop)
}

pub(crate) fn set_state(
    transaction: &Transaction<'_>,
    id: i64,
    state: RowState,
    block: Option<u64>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE chain_transactions SET state = ?2, block_number = ?3 WHERE id = ?1")?
        .execute((id, state.text(), block.map(|block| block as i64)))
        .map(drop)
}

/// Records that somebody else used a transaction's nonce, and the same call under another one.
pub(crate) fn supersede(
    transaction: &Transaction<'_>,
    id: i64,
    sender: Address,
    intent: &Intent,
    attempt: &Attempt,
) -> rusqlite::Result<i64> {
    set_state(transaction, id, RowState::Superseded, None)?;
    insert(transaction, sender, intent, attempt)
}

/// The open transactions of a key, by nonce.
pub(crate) fn load_open(connection: &Connection, sender: Address) -> rusqlite::Result<Vec<Row>> {
    let mut rows: Vec<Row> = connection
        .prepare(
            "SELECT id, nonce, label, target, data, value, gas_limit, valid_until, state, block_number
             FROM chain_transactions
             WHERE sender = ?1 AND state IN ('pending', 'cancelling', 'included') ORDER BY nonce",
        )?
        .query_map([sender.as_slice()], |row| {
            let state: String = row.get(8)?;
            Ok(Row {
                id: row.get(0)?,
                intent: Intent {
                    nonce: row.get::<_, i64>(1)? as u64,
                    label: row.get(2)?,
                    to: Address::from(row.get::<_, [u8; 20]>(3)?),
                    data: Bytes::from(row.get::<_, Vec<u8>>(4)?),
                    value: U256::from_be_bytes(row.get::<_, [u8; 32]>(5)?),
                    gas_limit: row.get::<_, i64>(6)? as u64,
                    valid_until: row.get::<_, Option<i64>>(7)?.map(|block| block as u64),
                },
                state: match state.as_str() {
                    "pending" => RowState::Pending,
                    "cancelling" => RowState::Cancelling,
                    _ => RowState::Included,
                },
                block: row.get::<_, Option<i64>>(9)?.map(|block| block as u64),
                attempts: Vec::new(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    for row in &mut rows {
        row.attempts = load_attempts(connection, row.id)?;
    }
    Ok(rows)
}

fn load_attempts(connection: &Connection, id: i64) -> rusqlite::Result<Vec<Attempt>> {
    connection
        .prepare_cached(
            "SELECT hash, maximum_fee, priority_fee, cancels, raw FROM chain_transaction_attempts
             WHERE transaction_id = ?1 ORDER BY ordinal",
        )?
        .query_map([id], |row| {
            Ok(Attempt {
                hash: B256::from(row.get::<_, [u8; 32]>(0)?),
                fees: Fees {
                    maximum: fee(row, 1)?,
                    priority: fee(row, 2)?,
                },
                cancels: row.get(3)?,
                raw: Bytes::from(row.get::<_, Vec<u8>>(4)?),
            })
        })?
        .collect()
}

/// SQLite's integers have 63 bits, fees have 128.
fn fee(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u128> {
    row.get::<_, String>(column)?
        .parse()
        .map_err(|error: std::num::ParseIntError| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
        })
}

/// One more than the highest nonce ever stored for a key, whatever became of it.
pub(crate) fn next_nonce(connection: &Connection, sender: Address) -> rusqlite::Result<u64> {
    let highest: Option<Option<i64>> = connection
        .query_row(
            "SELECT max(nonce) FROM chain_transactions WHERE sender = ?1 AND state NOT IN ('refused')",
            [sender.as_slice()],
            |row| row.get(0),
        )
        .optional()?;
    Ok(highest.flatten().map_or(0, |nonce| nonce as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(byte: u8) -> Attempt {
        Attempt {
            hash: B256::repeat_byte(byte),
            fees: Fees {
                maximum: u128::MAX,
                priority: u128::from(byte),
            },
            cancels: byte > 1,
            raw: Bytes::from(vec![byte]),
        }
    }

    #[test]
    fn what_was_stored_is_loaded_as_it_was() {
        let mut connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(MIGRATION).expect("migration");
        let sender = Address::repeat_byte(1);
        let intent = Intent {
            nonce: 7,
            label: "respond/12".to_owned(),
            to: Address::repeat_byte(2),
            data: Bytes::from_static(&[1, 2, 3]),
            value: U256::MAX,
            gas_limit: 250_000,
            valid_until: Some(99),
        };
        let transaction = connection.transaction().expect("transaction");
        let id = insert(&transaction, sender, &intent, &attempt(1)).expect("insert");
        add_attempt(&transaction, id, &attempt(2)).expect("add");
        assert!(
            insert(&transaction, sender, &intent, &attempt(3)).is_err(),
            "one open transaction per nonce"
        );
        let rows = load_open(&transaction, sender).expect("load");
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].intent, intent);
        assert_eq!(rows[0].attempts, [attempt(1), attempt(2)]);
        assert!(load_open(&transaction, Address::ZERO).expect("load").is_empty());

        let under_another = Intent {
            nonce: 9,
            ..intent.clone()
        };
        let id = supersede(&transaction, id, sender, &under_another, &attempt(4)).expect("supersede");
        let rows = load_open(&transaction, sender).expect("load");
        assert_eq!(rows.len(), 1, "the old row is closed");
        assert_eq!((rows[0].id, &rows[0].intent), (id, &under_another));
        assert_eq!(rows[0].attempts, [attempt(4)]);

        set_state(&transaction, id, RowState::Final, Some(12)).expect("close");
        assert!(load_open(&transaction, sender).expect("load").is_empty());
        assert_eq!(next_nonce(&transaction, sender).expect("next"), 10);
    }
}
