//! An agent's SQLite database: write-ahead log, every commit on disk before it returns, one writer.
//!
//! What an agent may not forget (checkpoints, what it signed, what it sent) is committed here *before* it acts on it.
//! A write that fails must therefore stop the acting: [`Store::failure`] says so to whoever has to stop, and clears when
//! a write succeeds again.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::watch;

use crate::health::Component;

/// How long SQLite waits for another process's lock (someone looking with `sqlite3`) before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened or prepared.
    #[error("cannot open the database {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was written by a later version of this program.
    #[error(
        "the database {path} has schema version {found}, this program knows {known}; run the version that wrote it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: usize,
        /// How many migrations this program has.
        known: usize,
    },
    /// There is no space left.
    #[error("the disk that holds {path} is full; nothing was written. Free some space")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The disk failed, or the file became read-only or damaged.
    #[error("cannot write to the database {path}: {reason}")]
    Unwritable {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The statement was refused: a constraint, a type, or a mistake in the SQL. Nothing was written.
    #[error("the database {path} refused the statement: {reason}")]
    Refused {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The statement panicked, or the runtime is gone. Nothing was written.
    #[error("the database work on {path} was cut short: {reason}")]
    Interrupted {
        /// The database.
        path: PathBuf,
        /// How.
        reason: String,
    },
}

impl StoreError {
    /// Whether the disk (rather than the statement) is the trouble: what must be recorded before acting cannot be.
    pub fn is_failed_write(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Unwritable { .. })
    }
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    failure: watch::Sender<Option<StoreError>>,
}

/// A database. Clones share its two connections: writes queue behind each other, reads do not wait for a commit.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens (or creates, mode 0600) the database and brings its schema up to date.
    ///
    /// `migrations[n]` takes the schema from version `n` to `n + 1`; each runs in its own transaction together with the
    /// new `user_version`. Append to the list, never change what was released.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let broken = |error: rusqlite::Error| StoreError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        create_private(path).map_err(|error| StoreError::Open {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut writer = Connection::open_with_flags(path, flags).map_err(broken)?;
        prepare_connection(&writer).map_err(broken)?;
        migrate(&mut writer, path, migrations)?;
        let reader = Connection::open_with_flags(path, flags).map_err(broken)?;
        prepare_connection(&reader).map_err(broken)?;
        reader.pragma_update(None, "query_only", true).map_err(broken)?;
        let inner = Inner {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            failure: watch::Sender::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Runs `work` in a transaction and commits it; when this returns `Ok`, the result is on disk. An error from `work`
    /// rolls back.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let store = self.clone();
        self.blocking(move || store.write_now(work)).await
    }

    /// [`Store::write`] for code that may block.
    pub fn write_now<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    {
        let mut connection = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Immediate: the write lock is taken at the start, so that a transaction never fails halfway for want of it.
        let outcome = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            });
        drop(connection);
        self.judged(outcome)
    }

    /// Runs `work` on a connection that cannot write.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let store = self.clone();
        self.blocking(move || store.read_now(work)).await
    }

    /// [`Store::read`] for code that may block.
    pub fn read_now<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T>,
    {
        let connection = self.inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
        work(&connection).map_err(|error| classify(&self.inner.path, &error))
    }

    /// The failed write that nothing has succeeded after, if any: while it is there, do not sign, send, bid or delete.
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.inner.failure.subscribe()
    }

    /// Keeps a health component in step with [`Store::failure`]; run it as a task.
    pub async fn report_health(self, component: Component) {
        let mut failure = self.failure();
        loop {
            match &*failure.borrow_and_update() {
                None => component.ok(),
                Some(error) => component.degraded(error.to_string()),
            }
            if failure.changed().await.is_err() {
                return;
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(StoreError::Interrupted {
                path: self.inner.path.clone(),
                reason: error.to_string(),
            })
        })
    }

    fn judged<T>(&self, outcome: rusqlite::Result<T>) -> Result<T, StoreError> {
        let outcome = outcome.map_err(|error| classify(&self.inner.path, &error));
        match &outcome {
            Ok(_) => {
                self.inner.failure.send_if_modified(|failure| failure.take().is_some());
            }
            Err(error) if error.is_failed_write() => {
                tracing::error!(%error, "a store write failed; what depends on it stops until one succeeds");
                self.inner.failure.send_replace(Some(error.clone()));
            }
            Err(_) => {}
        }
        outcome
    }
}

fn classify(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory,
        ) => StoreError::Unwritable { path, reason },
        _ => StoreError::Refused { path, reason },
    }
}

fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // SQLite gives its -wal and -shm files the permissions of the database file.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn prepare_connection(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let broken = |error: rusqlite::Error| StoreError::Open {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map_err(broken)? as usize;
    if found > migrations.len() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: migrations.len(),
        });
    }
    for (index, migration) in migrations.iter().enumerate().skip(found) {
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                transaction.execute_batch(migration)?;
                transaction.pragma_update(None, "user_version", (index + 1) as i64)?;
                transaction.commit()
            })
            .map_err(|error| StoreError::Open {
                path: path.to_owned(),
                reason: format!("migration {}: {error}", index + 1),
            })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FIRST: &str = "CREATE TABLE signed (task INTEGER PRIMARY KEY, digest BLOB NOT NULL) STRICT";
    const SECOND: &str = "ALTER TABLE signed ADD COLUMN at INTEGER NOT NULL DEFAULT 0";

    fn count(store: &Store) -> i64 {
        store
            .read_now(|connection| connection.query_row("SELECT count(*) FROM signed", [], |row| row.get(0)))
            .expect("count")
    }

    #[test]
    fn migrations_run_once_and_a_newer_database_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("agent.sqlite");
        drop(Store::open(&path, &[FIRST]).expect("first version"));
        drop(Store::open(&path, &[FIRST, SECOND]).expect("second version"));
        drop(Store::open(&path, &[FIRST, SECOND]).expect("nothing to do"));
        assert!(matches!(
            Store::open(&path, &[FIRST]),
            Err(StoreError::Newer { found: 2, known: 1, .. })
        ));
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn every_commit_is_synchronous_and_survives_in_the_log() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&directory.path().join("agent.sqlite"), &[FIRST]).expect("open");
        let read = |pragma: &'static str| {
            store
                .write_now(move |transaction| {
                    transaction.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))
                })
                .expect("pragma")
        };
        assert_eq!(read("journal_mode"), rusqlite::types::Value::Text("wal".to_owned()));
        assert_eq!(read("synchronous"), rusqlite::types::Value::Integer(2));
        assert_eq!(read("foreign_keys"), rusqlite::types::Value::Integer(1));
    }

    #[tokio::test]
    async fn an_error_rolls_back_and_is_not_taken_for_a_broken_disk() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&directory.path().join("agent.sqlite"), &[FIRST]).expect("open");
        let insert = "INSERT INTO signed VALUES (1, x'00')";
        let error = store
            .write(move |transaction| {
                transaction.execute(insert, [])?;
                transaction.execute(insert, [])
            })
            .await
            .expect_err("primary key");
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert_eq!(count(&store), 0);
        assert!(store.failure().borrow().is_none());
    }

    #[tokio::test]
    async fn a_full_disk_is_said_loudly_and_clears_with_the_next_write() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&directory.path().join("agent.sqlite"), &[FIRST]).expect("open");
        // SQLite reports SQLITE_FULL for a database at its page limit exactly as for a disk without space.
        store
            .write_now(|transaction| transaction.pragma_update(None, "max_page_count", 1))
            .expect("limit");
        let large = vec![0u8; 1 << 20];
        let error = store
            .write(move |transaction| transaction.execute("INSERT INTO signed VALUES (1, ?1)", [large]))
            .await
            .expect_err("full");
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(error.is_failed_write());
        assert!(store.failure().borrow().is_some());
        store
            .write(|transaction| transaction.execute("INSERT INTO signed VALUES (2, x'00')", []))
            .await
            .expect("fits");
        assert!(store.failure().borrow().is_none());
        assert_eq!(count(&store), 1);
    }

    #[test]
    fn the_reading_connection_cannot_write() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&directory.path().join("agent.sqlite"), &[FIRST]).expect("open");
        assert!(
            store
                .read_now(|connection| connection.execute("DELETE FROM signed", []))
                .is_err()
        );
    }
}
