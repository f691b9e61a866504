//! The follower's checkpoint, kept by the caller in the same SQLite transaction as what it derived from the blocks.
//!
//! The recent blocks are kept, not only the last one, so that after a restart in the middle of a reorganisation there is
//! a block to walk back to.

use alloy::primitives::B256;
use rusqlite::{Connection, Transaction};

use crate::{BlockReference, Event};

/// Add this to the binary's migrations.
pub const MIGRATION: &str = "
    -- Blocks the chain follower has applied, newest last. Written together with what was derived from them.
    CREATE TABLE chain_blocks (
        number INTEGER PRIMARY KEY,
        hash   BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT;
";

/// How many applied blocks are kept, and so the deepest reorganisation that is undone block by block.
pub const HISTORY_LENGTH: usize = 256;

/// Records what `event` did to the chain. Call it for every event of a batch, in order, in the transaction that stores
/// what the event meant to the caller.
pub fn save(transaction: &Transaction<'_>, event: &Event) -> rusqlite::Result<()> {
    match event {
        Event::Applied(block) => save_checkpoint(transaction, block.reference()),
        Event::Reverted { above } => rollback_to(transaction, *above),
    }
}

/// Records `block` as the newest applied one, and forgets the oldest.
pub fn save_checkpoint(transaction: &Transaction<'_>, block: BlockReference) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO chain_blocks (number, hash) VALUES (?1, ?2)")?
        .execute((block.number as i64, block.hash.as_slice()))?;
    transaction
        .prepare_cached(
            "DELETE FROM chain_blocks WHERE number <=
             (SELECT number FROM chain_blocks ORDER BY number DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([HISTORY_LENGTH as i64])?;
    Ok(())
}

/// Forgets the blocks above `number`.
pub fn rollback_to(transaction: &Transaction<'_>, number: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM chain_blocks WHERE number > ?1")?
        .execute([number as i64])?;
    Ok(())
}

/// The applied blocks, oldest first: what [`crate::Follower::new`] continues from. Empty in a new database.
pub fn load_history(connection: &Connection) -> rusqlite::Result<Vec<BlockReference>> {
    connection
        .prepare_cached("SELECT number, hash FROM chain_blocks ORDER BY number")?
        .query_map([], |row| {
            Ok(BlockReference {
                number: row.get::<_, i64>(0)? as u64,
                hash: B256::from(row.get::<_, [u8; 32]>(1)?),
            })
        })?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> BlockReference {
        BlockReference {
            number,
            hash: B256::with_last_byte(number as u8),
        }
    }

    #[test]
    fn the_history_is_bounded_rolled_back_and_loaded_in_order() {
        let mut connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch(MIGRATION).expect("migration");
        let transaction = connection.transaction().expect("transaction");
        for number in 1..=300 {
            save_checkpoint(&transaction, block(number)).expect("save");
        }
        let history = load_history(&transaction).expect("load");
        assert_eq!(history.len(), HISTORY_LENGTH);
        assert_eq!(history.first(), Some(&block(45)));
        rollback_to(&transaction, 298).expect("roll back");
        assert_eq!(load_history(&transaction).expect("load").last(), Some(&block(298)));
        // A block that replaces another at the same height takes its place.
        let other = BlockReference {
            number: 298,
            hash: B256::repeat_byte(7),
        };
        save_checkpoint(&transaction, other).expect("save");
        assert_eq!(load_history(&transaction).expect("load").last(), Some(&other));
    }
}
