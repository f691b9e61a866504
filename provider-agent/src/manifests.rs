//! The manifests that users sent, encrypted at rest.
//!
//! A manifest is stored before anything is done with it, under the hash that is on chain, and what was running goes on
//! running until the new one does ([`Manifests::mark_applied`]): a crash at any point leaves one that can be applied. The
//! encryption keeps secrets out of backups and discarded disks; whoever can read the key file beside the database can read
//! them, and so can the provider.

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
use rusqlite::{OptionalExtension, params};
use tokio::sync::watch;
use workload::LeaseId;
use zeroize::Zeroizing;

const DATABASE_FILE: &str = "manifests.sqlite";
const KEY_FILE: &str = "manifests.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// `lease` is big-endian, because SQLite's integers are signed. `applied` is 1 for the manifest that was last made to run.
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

    /// Stores a manifest. When this returns, it is on disk. Returns whether exactly this one was there already.
    pub async fn put(&self, lease: LeaseId, salted: &SaltedManifest) -> Result<bool, ManifestsError> {
        let hash = salted.hash();
        let already = match self.newest(lease).await {
            Ok(newest) => newest.is_some_and(|stored| stored.hash == hash),
            // What does not open is replaced.
            Err(error) if error.is_lost_manifest() => false,
            Err(error) => return Err(error),
        };
        if !already {
            let sealed = self.seal(lease, hash, &Zeroizing::new(salted.encode()));
            let stored_at = unix_seconds();
            self.store
                .write(move |transaction| {
                    // Of those that never ran, the last one sent counts.
                    transaction.execute(
                        "DELETE FROM manifests WHERE lease = ?1 AND hash <> ?2 AND applied = 0",
                        params![row(lease), hash.as_slice()],
                    )?;
                    transaction.execute(
                        "INSERT INTO manifests (lease, hash, sealed, stored_at) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (lease, hash) DO UPDATE SET sealed = ?3, stored_at = ?4",
                        params![row(lease), hash.as_slice(), sealed, stored_at],
                    )
                })
                .await?;
        }
        self.changes.send_modify(|count| *count += 1);
        Ok(already)
    }

    /// The manifest that should run: the one sent last.
    pub async fn newest(&self, lease: LeaseId) -> Result<Option<StoredManifest>, ManifestsError> {
        self.select(
            lease,
            "SELECT hash, sealed, applied FROM manifests WHERE lease = ?1 ORDER BY applied",
        )
        .await
    }

    /// The manifest that was last made to run.
    pub async fn last_applied(&self, lease: LeaseId) -> Result<Option<StoredManifest>, ManifestsError> {
        self.select(
            lease,
            "SELECT hash, sealed, applied FROM manifests WHERE lease = ?1 AND applied = 1",
        )
        .await
    }

    /// The manifest with this hash runs now: what came before it is forgotten.
    pub async fn mark_applied(&self, lease: LeaseId, hash: B256) -> Result<(), ManifestsError> {
        self.store
            .write(move |transaction| {
                let known = transaction.execute(
                    "UPDATE manifests SET applied = 1 WHERE lease = ?1 AND hash = ?2",
                    params![row(lease), hash.as_slice()],
                )?;
                if known > 0 {
                    transaction.execute(
                        "DELETE FROM manifests WHERE lease = ?1 AND hash <> ?2",
                        params![row(lease), hash.as_slice()],
                    )?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Forgets everything of a lease: after it ended on chain and its workload is gone.
    pub async fn remove(&self, lease: LeaseId) -> Result<(), ManifestsError> {
        self.store
            .write(move |transaction| transaction.execute("DELETE FROM manifests WHERE lease = ?1", [row(lease)]))
            .await?;
        Ok(())
    }

    /// The leases that have a manifest, ascending.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, ManifestsError> {
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

    async fn select(&self, lease: LeaseId, query: &'static str) -> Result<Option<StoredManifest>, ManifestsError> {
        let found = self
            .store
            .read(move |connection| {
                connection
                    .query_row(query, [row(lease)], |row| {
                        Ok((
                            row.get::<_, [u8; 32]>(0)?,
                            row.get::<_, Vec<u8>>(1)?,
                            row.get::<_, bool>(2)?,
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
mod tests {
    use super::*;

    const LEASE: LeaseId = LeaseId(u64::MAX);

    fn salted(salt: u8) -> SaltedManifest {
        let file = include_bytes!("../../examples/two-services.icl.yaml");
        let deployment = manifest::parse("two-services.icl.yaml", file).expect("a valid example");
        SaltedManifest {
            salt: B256::repeat_byte(salt),
            manifest: deployment.manifest,
        }
    }

    #[tokio::test]
    async fn what_was_stored_is_there_after_a_restart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifests = Manifests::open(directory.path()).expect("open");
        let mut changes = manifests.changes();
        assert!(!manifests.put(LEASE, &salted(1)).await.expect("stored"));
        assert!(changes.has_changed().expect("open"));
        changes.mark_unchanged();
        assert!(
            manifests.put(LEASE, &salted(1)).await.expect("stored"),
            "the same again"
        );
        drop(manifests);

        let manifests = Manifests::open(directory.path()).expect("open");
        let stored = manifests.newest(LEASE).await.expect("read").expect("there");
        assert_eq!((stored.hash, stored.applied), (salted(1).hash(), false));
        assert_eq!(stored.salted, salted(1));
        assert_eq!(manifests.leases().await.expect("read"), [LEASE]);
        assert_eq!(manifests.newest(LeaseId(1)).await.expect("read"), None);
        manifests.remove(LEASE).await.expect("removed");
        assert_eq!(manifests.leases().await.expect("read"), []);
    }

    #[tokio::test]
    async fn the_last_good_one_is_kept_until_the_next_one_runs() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifests = Manifests::open(directory.path()).expect("open");
        manifests.put(LEASE, &salted(1)).await.expect("stored");
        manifests.mark_applied(LEASE, salted(1).hash()).await.expect("marked");
        manifests.put(LEASE, &salted(2)).await.expect("stored");
        assert_eq!(
            manifests.newest(LEASE).await.expect("read").expect("there").hash,
            salted(2).hash()
        );
        assert_eq!(
            manifests.last_applied(LEASE).await.expect("read").expect("there").hash,
            salted(1).hash()
        );
        manifests.mark_applied(LEASE, B256::ZERO).await.expect("unknown");
        assert_eq!(
            manifests.last_applied(LEASE).await.expect("read").expect("there").hash,
            salted(1).hash()
        );
        manifests.mark_applied(LEASE, salted(2).hash()).await.expect("marked");
        let applied = manifests.last_applied(LEASE).await.expect("read").expect("there");
        assert_eq!((applied.hash, applied.applied), (salted(2).hash(), true));
        assert_eq!(
            manifests.newest(LEASE).await.expect("read").expect("there").hash,
            salted(2).hash()
        );
    }

    #[tokio::test]
    async fn going_back_to_what_runs_forgets_what_never_ran() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifests = Manifests::open(directory.path()).expect("open");
        manifests.put(LEASE, &salted(1)).await.expect("stored");
        manifests.mark_applied(LEASE, salted(1).hash()).await.expect("marked");
        manifests.put(LEASE, &salted(2)).await.expect("stored");
        manifests.put(LEASE, &salted(1)).await.expect("stored");
        let newest = manifests.newest(LEASE).await.expect("read").expect("there");
        assert_eq!((newest.hash, newest.applied), (salted(1).hash(), true));
    }

    #[tokio::test]
    async fn nothing_readable_is_on_disk_and_a_moved_row_does_not_open() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let manifests = Manifests::open(directory.path()).expect("open");
        manifests.put(LEASE, &salted(1)).await.expect("stored");
        manifests
            .store
            .write(|transaction| {
                transaction.execute(
                    "INSERT INTO manifests SELECT ?1, hash, sealed, 1, 0 FROM manifests",
                    [row(LeaseId(7))],
                )
            })
            .await
            .expect("copied");
        let error = manifests.newest(LeaseId(7)).await.expect_err("another lease's");
        assert!(matches!(error, ManifestsError::Sealed { .. }), "{error}");
        assert!(!manifests.put(LeaseId(7), &salted(1)).await.expect("replaced"));
        assert_eq!(
            manifests.newest(LeaseId(7)).await.expect("read").expect("there").salted,
            salted(1)
        );
        for entry in std::fs::read_dir(directory.path()).expect("list") {
            let path = entry.expect("entry").path();
            let mode = std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
            let bytes = std::fs::read(&path).expect("read");
            let image = b"spheron/hello";
            assert!(
                !bytes.windows(image.len()).any(|window| window == image),
                "{} is readable",
                path.display()
            );
        }
    }

    #[tokio::test]
    async fn a_lost_key_loses_the_manifests_and_nothing_else() {
        let directory = tempfile::tempdir().expect("temporary directory");
        Manifests::open(directory.path())
            .expect("open")
            .put(LEASE, &salted(1))
            .await
            .expect("stored");
        std::fs::remove_file(directory.path().join(KEY_FILE)).expect("remove");
        let manifests = Manifests::open(directory.path()).expect("open");
        assert!(manifests.newest(LEASE).await.expect_err("sealed").is_lost_manifest());
        manifests.put(LEASE, &salted(1)).await.expect("sent again");
        assert_eq!(
            manifests.newest(LEASE).await.expect("read").expect("there").salted,
            salted(1)
        );
    }

    #[test]
    fn a_key_file_that_is_cut_off_or_readable_by_others_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        drop(Manifests::open(directory.path()).expect("open"));
        let path = directory.path().join(KEY_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(
            Manifests::open(directory.path()),
            Err(ManifestsError::Key { .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::write(&path, [1; 31]).expect("write");
        assert!(matches!(
            Manifests::open(directory.path()),
            Err(ManifestsError::Key { .. })
        ));
    }
}
