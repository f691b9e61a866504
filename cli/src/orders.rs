//! The orders this home made: each manifest with its salt is stored before its order is created, because without it the
//! lease is worth nothing, and the order's id right after.
//!
//! ```text
//! orders/<deployment>/<manifest hash>.manifest    what SaltedManifest::encode gives
//! orders/<deployment>/<manifest hash>.file        the deployment file it comes from
//! orders/<deployment>/<order id>.json             which manifest, from which file
//! ```
//!
//! A program that dies between the two leaves a manifest that its order still finds: the hash is in the order's terms.

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use eyre::{OptionExt as _, WrapErr as _, ensure};
use manifest::SaltedManifest;
use serde::{Deserialize, Serialize};

use crate::files::{read_if_there, write_private};

/// The orders of one deployment of the contracts.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    folder: PathBuf,
}

/// What is remembered of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Salted hash of the manifest, as in the order's terms.
    pub(crate) manifest_hash: B256,
    /// The deployment file.
    pub(crate) file: String,
    /// Transaction that created the order, if this home sent it.
    pub(crate) transaction: Option<B256>,
    /// Its block.
    pub(crate) block: u64,
}

impl Orders {
    pub(crate) fn new(home: &Path, deployment: &str) -> Self {
        Self {
            folder: home.join("orders").join(deployment),
        }
    }

    /// Stores a manifest. Returns when it would survive a power cut.
    pub(crate) fn store_manifest(&self, salted: &SaltedManifest) -> eyre::Result<()> {
        write_private(&self.manifest_file(salted.hash()), &salted.encode())
    }

    /// Stores which deployment file a manifest comes from.
    pub(crate) fn store_file(&self, hash: B256, file: &str) -> eyre::Result<()> {
        write_private(&self.folder.join(format!("{hash}.file")), file.as_bytes())
    }

    /// The deployment file of a manifest, if this home made it.
    pub(crate) fn file(&self, hash: B256) -> eyre::Result<Option<String>> {
        let bytes = read_if_there(&self.folder.join(format!("{hash}.file")))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Stores the id of an order that somebody else brought in, or whose creation was interrupted, if its file is known.
    pub(crate) fn adopt(&self, order: u64, manifest_hash: B256, block: u64) -> eyre::Result<()> {
        if self.record(order)?.is_some() {
            return Ok(());
        }
        let Some(file) = self.file(manifest_hash)? else {
            return Ok(());
        };
        let record = Record {
            manifest_hash,
            file,
            transaction: None,
            block,
        };
        self.store_record(order, &record)
    }

    /// Stores an order's id.
    pub(crate) fn store_record(&self, order: u64, record: &Record) -> eyre::Result<()> {
        write_private(&self.record_file(order), &serde_json::to_vec_pretty(record)?)
    }

    /// What is remembered of an order, if this home made it.
    pub(crate) fn record(&self, order: u64) -> eyre::Result<Option<Record>> {
        Self::read(&self.record_file(order))
    }

    fn read(path: &Path) -> eyre::Result<Option<Record>> {
        let Some(bytes) = read_if_there(path)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).wrap_err_with(|| format!("{} is damaged", path.display()))?;
        Ok(Some(record))
    }

    /// The manifest with the hash that an order's terms hold.
    pub(crate) fn manifest(&self, hash: B256) -> eyre::Result<SaltedManifest> {
        let path = self.manifest_file(hash);
        let bytes = read_if_there(&path)?.ok_or_eyre("the manifest of this order is not in this home")?;
        let salted = SaltedManifest::decode(&bytes).wrap_err_with(|| format!("{} is damaged", path.display()))?;
        ensure!(
            salted.hash() == hash,
            "{} is damaged: its hash is {}",
            path.display(),
            salted.hash()
        );
        Ok(salted)
    }

    fn manifest_file(&self, hash: B256) -> PathBuf {
        self.folder.join(format!("{hash}.manifest"))
    }

    fn record_file(&self, order: u64) -> PathBuf {
        self.folder.join(format!("{order}.json"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FILE: &str = include_str!("../../examples/hello.icl.yaml");

    fn salted(salt: u8) -> SaltedManifest {
        let deployment = manifest::parse("hello.icl.yaml", FILE.as_bytes()).expect("the example is valid");
        SaltedManifest {
            salt: B256::repeat_byte(salt),
            manifest: deployment.manifest,
        }
    }

    #[test]
    fn an_order_is_found_whether_or_not_its_id_was_stored() {
        let home = tempfile::tempdir().expect("temporary folder");
        let orders = Orders::new(home.path(), "devnet-01");
        let salted = salted(1);
        orders.store_manifest(&salted).expect("stored");
        // The program died here: only the hash in the order's terms leads back.
        let again = Orders::new(home.path(), "devnet-01");
        assert_eq!(again.record(4_294_967_297).expect("no error"), None);
        assert_eq!(again.manifest(salted.hash()).expect("found"), salted);
        let record = Record {
            manifest_hash: salted.hash(),
            file: "hello.icl.yaml".to_owned(),
            transaction: Some(B256::repeat_byte(2)),
            block: 7,
        };
        orders.store_record(4_294_967_297, &record).expect("stored");
        assert_eq!(again.record(4_294_967_297).expect("found"), Some(record));
    }

    #[test]
    fn secrets_are_their_owners_alone() {
        let home = tempfile::tempdir().expect("temporary folder");
        let orders = Orders::new(home.path(), "devnet-01");
        let salted = salted(1);
        orders.store_manifest(&salted).expect("stored");
        let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(&orders.manifest_file(salted.hash())), 0o600);
        assert_eq!(mode(&orders.folder), 0o700);
    }

    #[test]
    fn another_devnet_with_the_same_ids_is_another_folder() {
        let home = tempfile::tempdir().expect("temporary folder");
        let salted = salted(1);
        Orders::new(home.path(), "devnet-01")
            .store_manifest(&salted)
            .expect("stored");
        let error = Orders::new(home.path(), "devnet-02")
            .manifest(salted.hash())
            .expect_err("not there");
        assert!(error.to_string().contains("not in this home"), "{error}");
    }

    #[test]
    fn damage_is_noticed_before_anything_is_sent() {
        let home = tempfile::tempdir().expect("temporary folder");
        let orders = Orders::new(home.path(), "devnet-01");
        let (one, other) = (salted(1), salted(2));
        write_private(&orders.manifest_file(one.hash()), &other.encode()).expect("write");
        assert!(
            orders
                .manifest(one.hash())
                .expect_err("another manifest")
                .to_string()
                .contains("damaged")
        );
        write_private(&orders.record_file(1), b"{").expect("write");
        assert!(orders.record(1).expect_err("cut off").to_string().contains("damaged"));
    }

    #[test]
    fn an_order_that_somebody_else_brought_in_keeps_its_file() {
        let home = tempfile::tempdir().expect("temporary folder");
        let orders = Orders::new(home.path(), "devnet-01");
        let hash = B256::repeat_byte(3);
        orders.adopt(7, hash, 5).expect("nothing is known of it");
        assert_eq!(orders.record(7).expect("no error"), None);
        orders.store_file(hash, "/apps/app.yaml").expect("stored");
        orders.adopt(7, hash, 5).expect("known");
        let record = orders.record(7).expect("no error").expect("a record");
        assert_eq!(
            (record.file.as_str(), record.block, record.transaction),
            ("/apps/app.yaml", 5, None)
        );
        // What is known better stays.
        orders.adopt(7, B256::ZERO, 6).expect("stays");
        assert_eq!(orders.record(7).expect("no error"), Some(record));
    }
}
