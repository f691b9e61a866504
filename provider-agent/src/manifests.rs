//! The manifests that users sent, encrypted at rest.
//!
//! They are kept by workload: leases that came from updates run the workload of the first one. A manifest is stored before
//! anything is done with it, under the hash that is on chain, and the last one that ran is kept until the next one does and a
//! reorganisation cannot take that back ([`Manifests::mark_applied`], [`Manifests::retain`]): a crash at any point leaves one
//! that can be applied. The encryption keeps secrets out of backups and discarded disks; whoever can read the key file beside the database can read
//! them, and so can the provider.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::B256;
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use daemon::{Store, StoreError};
use manifest::{ManifestError, SaltedManifest};
use rusqlite::{OptionalExtension, Transaction, params};
use tokio::sync::watch;
use workload::LeaseId;
use zeroize::Zeroizing;

const DATABASE_FILE: &str = "manifests.sqlite";
const KEY_FILE: &str = "manifests.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// `lease` is the first of the workload, big-endian, because SQLite's integers are signed. `applied` is 0 for a manifest that
/// has not come to run, and higher the later it did.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE manifests (
        lease BLOB NOT NULL CHECK (length(lease) = 8),
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        sealed BLOB NOT NULL,
        stored_at INTEGER NOT NULL,
        applied INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (lease, hash)
    ) STRICT
"];

/// The store. Clones share it.
#[derive(Clone)]
pub struct Manifests {
    store: Store,
    cipher: Arc<XChaCha20Poly1305>,
    changes: watch::Sender<u64>,
}

/// Why a manifest is not there.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// The database failed.
    #[error("the manifest store failed")]
    Store(#[from] StoreError),
    /// The key file cannot be used.
    #[error("the key of the manifest store, {path}, cannot be used: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A row does not open with this key, or was changed.
    #[error("the stored manifest of lease {lease} does not open with {KEY_FILE}; its owner must send it again")]
    Sealed {
        /// Which.
        lease: LeaseId,
    },
    /// A row opens, and holds something else.
    #[error("the stored manifest of lease {lease} is not understood; its owner must send it again")]
    Damaged {
        /// Which.
        lease: LeaseId,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
}

impl ManifestsError {
    /// Whether only this one manifest is lost, and everything else works.
    pub fn is_lost_manifest(&self) -> bool {
        matches!(self, Self::Sealed { .. } | Self::Damaged { .. })
    }
}

/// A manifest that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its hash, as on chain.
    pub hash: B256,
    /// What it says.
    pub salted: SaltedManifest,
    /// Whether it was made to run already.
    pub applied: bool,
}

impl fmt::Debug for Manifests {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Manifests")
            .field("path", &self.store.path())
            .finish_non_exhaustive()
    }
}

impl Manifests {
    /// Opens (or creates) the store in the agent's data directory.
    pub fn open(directory: &Path) -> Result<Self, ManifestsError> {
        let key = load_or_create_key(&directory.join(KEY_FILE))?;
        Ok(Self {
            store: Store::open(&directory.join(DATABASE_FILE), MIGRATIONS)?,
            cipher: Arc::new(XChaCha20Poly1305::new(Key::from_slice(key.as_slice()))),
            changes: watch::Sender::new(0),
        })
    }

    /// The database, for the health report.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Changes whenever a manifest was stored.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Stores a manifest of a workload. When this returns, it is on disk. Returns whether exactly this one was there already.
    /// Others that never ran are forgotten, except for those with a hash in `keep`.
    pub async fn put(&self, workload: LeaseId, salted: &SaltedManifest, keep: &[B256]) -> Result<bool, ManifestsError> {
        let hash = salted.hash();
        let already = match self.get(workload, hash).await {
            Ok(stored) => stored.is_some(),
            // What does not open is replaced.
            Err(error) if error.is_lost_manifest() => false,
            Err(error) => return Err(error),
        };
        let sealed = match already {
            true => None,
            false => Some(self.seal(workload, hash, &Zeroizing::new(salted.encode()))),
        };
        let stored_at = unix_seconds();
        let keep: BTreeSet<B256> = keep.iter().copied().chain([hash]).collect();
        self.store
            .write(move |transaction| {
                forget(transaction, workload, &keep, "applied = 0")?;
                let Some(sealed) = sealed else { return Ok(0) };
                transaction.execute(
                    "INSERT INTO manifests (lease, hash, sealed, stored_at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (lease, hash) DO UPDATE SET sealed = ?3, stored_at = ?4",
                    params![row(workload), hash.as_slice(), sealed, stored_at],
                )
            })
            .await?;
        self.changes.send_modify(|count| *count += 1);
        Ok(already)
    }

    /// The manifest of a workload with this hash.
    pub async fn get(&self, workload: LeaseId, hash: B256) -> Result<Option<StoredManifest>, ManifestsError> {
        self.select(workload, hash, "hash = ?2").await
    }

    /// The manifest of a workload that came to run last.
    pub async fn last_applied(&self, workload: LeaseId) -> Result<Option<StoredManifest>, ManifestsError> {
        self.select(workload, B256::ZERO, "applied > 0 AND hash <> ?2").await
    }

    /// The manifest of a workload that ran last beside the one with this hash: what it can go back to.
    pub async fn last_good_but(&self, workload: LeaseId, hash: B256) -> Result<Option<StoredManifest>, ManifestsError> {
        self.select(workload, hash, "applied > 0 AND hash <> ?2").await
    }

    /// The manifest with this hash came to run. What ran before is kept until [`Manifests::retain`].
    pub async fn mark_applied(&self, workload: LeaseId, hash: B256) -> Result<(), ManifestsError> {
        self.store
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE manifests SET applied = (SELECT max(applied) + 1 FROM manifests WHERE lease = ?1)
                     WHERE lease = ?1 AND hash = ?2",
                    params![row(workload), hash.as_slice()],
                )
            })
            .await?;
        Ok(())
    }

    /// Forgets all manifests of a workload but these.
    pub async fn retain(&self, workload: LeaseId, keep: &[B256]) -> Result<(), ManifestsError> {
        let keep = keep.iter().copied().collect();
        self.store
            .write(move |transaction| forget(transaction, workload, &keep, "1"))
            .await?;
        Ok(())
    }

    /// Forgets everything of a workload: after its lease ended on chain and it is gone.
    pub async fn remove(&self, lease: LeaseId) -> Result<(), ManifestsError> {
        self.store
            .write(move |transaction| transaction.execute("DELETE FROM manifests WHERE lease = ?1", [row(lease)]))
            .await?;
        Ok(())
    }

    /// The workloads that have a manifest, ascending.
    pub async fn workloads(&self) -> Result<Vec<LeaseId>, ManifestsError> {
        let leases = self
            .store
            .read(|connection| {
                let mut statement = connection.prepare("SELECT DISTINCT lease FROM manifests ORDER BY lease")?;
                let rows = statement.query_map([], |row| row.get::<_, [u8; 8]>(0))?;
                rows.map(|lease| lease.map(|bytes| LeaseId(u64::from_be_bytes(bytes))))
                    .collect()
            })
            .await?;
        Ok(leases)
    }

    /// The one that was applied last of those that meet the condition; `?2` in it is the hash.
    async fn select(
        &self,
        lease: LeaseId,
        hash: B256,
        condition: &'static str,
    ) -> Result<Option<StoredManifest>, ManifestsError> {
        let query = format!(
            "SELECT hash, sealed, applied FROM manifests WHERE lease = ?1 AND {condition} ORDER BY applied DESC LIMIT 1"
        );
        let found = self
            .store
            .read(move |connection| {
                connection
                    .query_row(&query, params![row(lease), hash.as_slice()], |row| {
                        Ok((
                            row.get::<_, [u8; 32]>(0)?,
                            row.get::<_, Vec<u8>>(1)?,
                            row.get::<_, i64>(2)? > 0,
                        ))
                    })
                    .optional()
            })
            .await?;
        let Some((hash, sealed, applied)) = found else {
            return Ok(None);
        };
        let hash = B256::from(hash);
        let encoded = self
            .unseal(lease, hash, &sealed)
            .ok_or(ManifestsError::Sealed { lease })?;
        let salted = SaltedManifest::decode(&encoded).map_err(|source| ManifestsError::Damaged { lease, source })?;
        Ok(Some(StoredManifest { hash, salted, applied }))
    }

    fn seal(&self, lease: LeaseId, hash: B256, encoded: &[u8]) -> Vec<u8> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let bound_to = bound_to(lease, hash);
        let payload = Payload {
            msg: encoded,
            aad: &bound_to,
        };
        match self.cipher.encrypt(&nonce, payload) {
            Ok(sealed) => [nonce.as_slice(), &sealed].concat(),
            // The cipher refuses messages above 256 GiB; a manifest has at most half a MiB.
            Err(error) => unreachable!("a manifest is short: {error}"),
        }
    }

    fn unseal(&self, lease: LeaseId, hash: B256, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let bound_to = bound_to(lease, hash);
        let payload = Payload {
            msg: sealed,
            aad: &bound_to,
        };
        self.cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .ok()
            .map(Zeroizing::new)
    }
}

fn forget(
    transaction: &Transaction<'_>,
    workload: LeaseId,
    keep: &BTreeSet<B256>,
    condition: &str,
) -> rusqlite::Result<usize> {
    let mut statement = transaction.prepare(&format!("SELECT hash FROM manifests WHERE lease = ?1 AND {condition}"))?;
    let hashes = statement.query_map([row(workload)], |row| row.get::<_, [u8; 32]>(0))?;
    let hashes: Vec<_> = hashes.collect::<Result<_, _>>()?;
    let forgotten = hashes.into_iter().filter(|hash| !keep.contains(&B256::from(*hash)));
    let mut count = 0;
    for hash in forgotten {
        count += transaction.execute(
            "DELETE FROM manifests WHERE lease = ?1 AND hash = ?2",
            params![row(workload), hash],
        )?;
    }
    Ok(count)
}

/// A row moved to another lease does not open there.
fn bound_to(lease: LeaseId, hash: B256) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&row(lease));
    bytes[8..].copy_from_slice(hash.as_slice());
    bytes
}

fn row(lease: LeaseId) -> [u8; 8] {
    lease.0.to_be_bytes()
}

fn unix_seconds() -> i64 {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn load_or_create_key(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, ManifestsError> {
    let unusable = |problem: String| ManifestsError::Key {
        path: path.to_owned(),
        problem,
    };
    match OpenOptions::new().read(true).open(path) {
        Ok(mut file) => {
            let mode = file
                .metadata()
                .map_err(|error| unusable(error.to_string()))?
                .permissions()
                .mode()
                & 0o777;
            if mode & 0o077 != 0 {
                return Err(unusable(format!(
                    "others may read it (mode {mode:o}); run `chmod 600` on it"
                )));
            }
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            let whole = file.read_exact(key.as_mut_slice()).is_ok() && matches!(file.read(&mut [0]), Ok(0));
            if !whole {
                let advice = "move it away, and leases' owners will be asked to send their manifests again";
                return Err(unusable(format!(
                    "it does not have {KEY_BYTES} bytes; restore it from a backup, or {advice}"
                )));
            }
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Zeroizing::new(<[u8; KEY_BYTES]>::from(XChaCha20Poly1305::generate_key(&mut OsRng)));
            write_whole(path, key.as_slice()).map_err(|error| unusable(error.to_string()))?;
            Ok(key)
        }
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Half a key must never be taken for one.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
