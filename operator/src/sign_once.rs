//! Never two outcomes of one order under one close block hash: that is what a slasher would call equivocation.
//!
//! [`verdict`] is the rule. [`record`] is the same rule in SQL, over what this operator ever signed, and writes the new
//! entry in the transaction that judged it; the tests compare the two exhaustively.

use std::collections::BTreeSet;

use alloy::primitives::B256;
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use crate::tasks::Answer;

/// Add this to the migrations.
pub const MIGRATION: &str = "
    -- Every task this operator signed. Written before the signature leaves; never deleted.
    CREATE TABLE signed_tasks (
        close_block_hash BLOB NOT NULL CHECK (length(close_block_hash) = 32),
        chunk            INTEGER NOT NULL,
        close_block      INTEGER NOT NULL,
        digest           BLOB NOT NULL CHECK (length(digest) = 32),
        PRIMARY KEY (close_block_hash, chunk)
    ) STRICT, WITHOUT ROWID;
    -- Every order in those tasks.
    CREATE TABLE signed_orders (
        close_block_hash BLOB NOT NULL CHECK (length(close_block_hash) = 32),
        order_id         INTEGER NOT NULL,
        digest           BLOB NOT NULL CHECK (length(digest) = 32),
        PRIMARY KEY (close_block_hash, order_id)
    ) STRICT, WITHOUT ROWID;
";

/// One signature, as the rule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub close_block: u32,
    pub close_block_hash: B256,
    pub chunk: u16,
    pub order_ids: Vec<u64>,
    pub digest: B256,
}

impl From<&Answer> for Signed {
    fn from(answer: &Answer) -> Self {
        Self {
            close_block: answer.response.close_block,
            close_block_hash: answer.response.close_block_hash,
            chunk: answer.response.chunk,
            order_ids: answer.order_ids.clone(),
            digest: answer.digest,
        }
    }
}

/// Whether a signature may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing like it was signed.
    First,
    /// The same was signed before; giving it again says nothing new.
    Again,
    /// This digest was signed for the task or one of its orders: another one is never signed.
    Refused { signed: B256 },
}

/// The rule: under one close block hash, all signatures that share a task or an order have one digest.
pub fn verdict<'a>(recorded: impl IntoIterator<Item = &'a Signed>, candidate: &Signed) -> Verdict {
    let mut verdict = Verdict::First;
    for signed in recorded {
        let shares_order = || {
            candidate
                .order_ids
                .iter()
                .any(|order_id| signed.order_ids.contains(order_id))
        };
        if signed.close_block_hash != candidate.close_block_hash || !(signed.chunk == candidate.chunk || shares_order())
        {
            continue;
        }
        if signed.digest != candidate.digest {
            return Verdict::Refused { signed: signed.digest };
        }
        verdict = Verdict::Again;
    }
    verdict
}

/// Judges a signature by everything signed before, and records it unless it is refused. Sign only after the transaction is
/// committed.
pub fn record(transaction: &Transaction<'_>, candidate: &Signed) -> rusqlite::Result<Verdict> {
    let hash = candidate.close_block_hash.as_slice();
    let mut verdict = Verdict::First;
    let mut judge = |found: Option<[u8; 32]>| {
        let Some(digest) = found.map(B256::from) else {
            return true;
        };
        if digest == candidate.digest {
            if verdict == Verdict::First {
                verdict = Verdict::Again;
            }
            return true;
        }
        verdict = Verdict::Refused { signed: digest };
        false
    };
    let of_task = transaction
        .prepare_cached("SELECT digest FROM signed_tasks WHERE close_block_hash = ?1 AND chunk = ?2")?
        .query_row((hash, candidate.chunk), |row| row.get(0))
        .optional()?;
    if judge(of_task) {
        let mut of_order = transaction
            .prepare_cached("SELECT digest FROM signed_orders WHERE close_block_hash = ?1 AND order_id = ?2")?;
        for order_id in &candidate.order_ids {
            let found = of_order
                .query_row((hash, *order_id as i64), |row| row.get(0))
                .optional()?;
            if !judge(found) {
                break;
            }
        }
    }
    if !matches!(verdict, Verdict::Refused { .. }) {
        insert(transaction, candidate)?;
    }
    Ok(verdict)
}

/// The orders of what was signed for a task; `None` if nothing was. An answer may leave orders of its task out, and only the
/// same ones give the same digest again.
pub fn signed_orders(
    connection: &Connection,
    close_block_hash: B256,
    chunk: u16,
) -> rusqlite::Result<Option<BTreeSet<u64>>> {
    let hash = close_block_hash.as_slice();
    let digest: Option<[u8; 32]> = connection
        .prepare_cached("SELECT digest FROM signed_tasks WHERE close_block_hash = ?1 AND chunk = ?2")?
        .query_row((hash, chunk), |row| row.get(0))
        .optional()?;
    let Some(digest) = digest else { return Ok(None) };
    let mut of_digest =
        connection.prepare_cached("SELECT order_id FROM signed_orders WHERE close_block_hash = ?1 AND digest = ?2")?;
    let orders = of_digest.query_map((hash, digest.as_slice()), |row| row.get::<_, i64>(0))?;
    orders
        .map(|order_id| order_id.map(|order_id| order_id as u64))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn insert(transaction: &Transaction<'_>, signed: &Signed) -> rusqlite::Result<()> {
    let (hash, digest) = (signed.close_block_hash.as_slice(), signed.digest.as_slice());
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO signed_tasks (close_block_hash, chunk, close_block, digest) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((hash, signed.chunk, signed.close_block, digest))?;
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO signed_orders (close_block_hash, order_id, digest) VALUES (?1, ?2, ?3)",
    )?;
    for order_id in &signed.order_ids {
        insert.execute((hash, *order_id as i64, digest))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(hash: u8, chunk: u16, orders: u8, digest: u8) -> Signed {
        Signed {
            close_block: 9,
            close_block_hash: B256::repeat_byte(hash),
            chunk,
            order_ids: (0..2).filter(|bit| orders >> bit & 1 == 1).collect(),
            digest: B256::repeat_byte(digest),
        }
    }

    /// Every signature over two hashes, two chunks, the non-empty sets of two orders and two digests.
    fn universe() -> Vec<Signed> {
        let mut all = Vec::new();
        for hash in 0..2 {
            for chunk in 0..2 {
                for orders in 1..4 {
                    all.extend((0..2).map(|digest| signed(hash, chunk, orders, digest)));
                }
            }
        }
        all
    }

    /// Plays a sequence against rule and SQL; what the rule allows is recorded in both.
    fn play(transaction: &Transaction<'_>, sequence: &[&Signed]) {
        let mut recorded: Vec<Signed> = Vec::new();
        for candidate in sequence {
            let expected = verdict(&recorded, candidate);
            let found = record(transaction, candidate).expect("judged");
            match (expected, found) {
                // Two conflicts at once: which of them is named does not matter.
                (Verdict::Refused { .. }, Verdict::Refused { .. }) => continue,
                (expected, found) => assert_eq!(expected, found, "{sequence:?}"),
            }
            recorded.push((*candidate).clone());
        }
        for (index, one) in recorded.iter().enumerate() {
            for other in &recorded[index + 1..] {
                let shares = one.order_ids.iter().any(|order| other.order_ids.contains(order));
                let conflict = one.close_block_hash == other.close_block_hash
                    && (one.chunk == other.chunk || shares)
                    && one.digest != other.digest;
                assert!(!conflict, "{one:?} and {other:?} were both signed");
            }
        }
    }

    #[test]
    fn rule_and_sql_agree_on_every_sequence_of_three() {
        let mut connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(MIGRATION).expect("schema");
        let universe = universe();
        for first in &universe {
            for second in &universe {
                for third in &universe {
                    let transaction = connection.transaction().expect("transaction");
                    play(&transaction, &[first, second, third]);
                    transaction.rollback().expect("clean");
                }
            }
        }
    }

    #[test]
    fn another_digest_is_refused_and_names_the_one_that_was_signed() {
        let recorded = [signed(1, 0, 0b11, 7)];
        let refused = Verdict::Refused {
            signed: B256::repeat_byte(7),
        };
        assert_eq!(verdict(&recorded, &signed(1, 0, 0b01, 8)), refused);
        // The same order in another chunk.
        assert_eq!(verdict(&recorded, &signed(1, 5, 0b10, 8)), refused);
        assert_eq!(verdict(&recorded, &signed(1, 0, 0b11, 7)), Verdict::Again);
        // A reorganisation gave the close block another hash: another task.
        assert_eq!(verdict(&recorded, &signed(2, 0, 0b11, 8)), Verdict::First);
    }
}
