//! BLS keystores on disk: geth's V3 format around the 32-byte key, as EigenLayer's Go tools write it (`pubKey` beside
//! `crypto`), is read and written; EIP-2335, as its Rust tools write it, is read.

mod eip2335;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use avs::bn254::SecretKey;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// Keystores are small; a larger file is not one.
const MAXIMUM_SIZE: u64 = 64 * 1024;

/// Why a keystore cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    #[error("keystore {path} cannot be read or written")]
    File { path: String, source: io::Error },
    #[error("keystore {path} is {size} bytes long; a keystore has at most {MAXIMUM_SIZE}")]
    TooLarge { path: String, size: u64 },
    #[error("keystore {path} is neither a V3 nor an EIP-2335 keystore that can be read: {problem}")]
    Malformed { path: String, problem: String },
    #[error("keystore {path} does not open with the password given")]
    WrongPassword { path: String },
    #[error("keystore {path} holds no BN254 key: 32 bytes below the group order are expected")]
    NotAKey { path: String },
    #[error("keystore {path} exists already: move it away first, a key that is overwritten is lost")]
    Exists { path: String },
}

/// Opens a BLS keystore of either kind.
pub fn load(path: &Path, password: &str) -> Result<SecretKey, KeystoreError> {
    let name = path.display().to_string();
    let file = |source| KeystoreError::File {
        path: name.clone(),
        source,
    };
    let size = fs::metadata(path).map_err(file)?.len();
    if size > MAXIMUM_SIZE {
        return Err(KeystoreError::TooLarge { path: name, size });
    }
    let malformed = |problem: String| KeystoreError::Malformed {
        path: name.clone(),
        problem,
    };
    let mut document: Map<String, Value> =
        serde_json::from_slice(&fs::read(path).map_err(file)?).map_err(|error| malformed(error.to_string()))?;
    // Only EIP-2335 has a checksum function; its version is 4, which not every tool writes.
    if document.get("version") == Some(&json!(4))
        || document
            .get("crypto")
            .is_some_and(|crypto| crypto.get("checksum").is_some())
    {
        let document: eip2335::Document =
            serde_json::from_value(Value::Object(document)).map_err(|error| malformed(error.to_string()))?;
        return document.open(password).map_err(|failure| match failure {
            eip2335::Failure::Malformed(problem) => malformed(problem),
            eip2335::Failure::WrongPassword => KeystoreError::WrongPassword { path: name.clone() },
            eip2335::Failure::NotAKey => KeystoreError::NotAKey { path: name.clone() },
        });
    }
    // EigenLayer's Go tools leave out what the library insists on; neither takes part in the decryption.
    document.entry("version").or_insert(json!(3));
    document
        .entry("id")
        .or_insert(json!("00000000-0000-0000-0000-000000000000"));
    let mut normalised = tempfile::NamedTempFile::new().map_err(file)?;
    normalised
        .write_all(Value::Object(document).to_string().as_bytes())
        .map_err(file)?;
    let key = eth_keystore::decrypt_key(normalised.path(), password)
        .map(Zeroizing::new)
        .map_err(|error| match error {
            eth_keystore::KeystoreError::MacMismatch => KeystoreError::WrongPassword { path: name.clone() },
            other => malformed(other.to_string()),
        })?;
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(
        key.as_slice()
            .try_into()
            .map_err(|_| KeystoreError::NotAKey { path: name.clone() })?,
    );
    SecretKey::from_be_bytes(&bytes).map_err(|_| KeystoreError::NotAKey { path: name })
}

/// Writes a BLS keystore that only its owner may read. Never overwrites.
pub fn store(path: &Path, key: &SecretKey, password: &str) -> Result<(), KeystoreError> {
    let name = path.display().to_string();
    let file = |source| KeystoreError::File {
        path: name.clone(),
        source,
    };
    let folder = tempfile::tempdir().map_err(file)?;
    let bytes = key.to_be_bytes();
    eth_keystore::encrypt_key(
        folder.path(),
        &mut rand_08::rngs::OsRng,
        bytes.as_slice(),
        password,
        Some("key"),
    )
    .map_err(|error| KeystoreError::Malformed {
        path: name.clone(),
        problem: error.to_string(),
    })?;
    let mut document: Map<String, Value> = serde_json::from_slice(&fs::read(folder.path().join("key")).map_err(file)?)
        .map_err(|error| KeystoreError::Malformed {
            path: name.clone(),
            problem: error.to_string(),
        })?;
    let public = key.public_key().g1();
    document.insert("pubKey".into(), json!(format!("E([{},{}])", public.x, public.y)));
    let mut target = match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(KeystoreError::Exists { path: name }),
        Err(error) => return Err(file(error)),
    };
    target
        .write_all(Value::Object(document).to_string().as_bytes())
        .map_err(file)?;
    target.sync_all().map_err(file)?;
    target.set_permissions(fs::Permissions::from_mode(0o600)).map_err(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        let mut bytes = [0; 32];
        bytes[31] = 7;
        SecretKey::from_be_bytes(&bytes).expect("below the group order")
    }

    #[test]
    fn what_is_stored_opens_again_and_only_with_its_password() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("bls.json");
        store(&path, &key(), "correct").expect("stored");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
        let opened = load(&path, "correct").expect("opens");
        assert_eq!(*opened.to_be_bytes(), *key().to_be_bytes());
        assert!(matches!(load(&path, "wrong"), Err(KeystoreError::WrongPassword { .. })));
        assert!(matches!(
            store(&path, &key(), "again"),
            Err(KeystoreError::Exists { .. })
        ));
    }

    #[test]
    fn a_keystore_of_the_go_tools_has_no_id_and_no_version() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("bls.json");
        store(&path, &key(), "correct").expect("stored");
        let mut document: Map<String, Value> = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        document.remove("id");
        document.remove("version");
        fs::write(&path, Value::Object(document).to_string()).expect("written");
        load(&path, "correct").expect("opens");
    }

    #[test]
    fn files_that_are_no_keystores_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("bls.json");
        assert!(matches!(load(&path, ""), Err(KeystoreError::File { .. })));
        fs::write(&path, "not json").expect("written");
        assert!(matches!(load(&path, ""), Err(KeystoreError::Malformed { .. })));
        fs::write(&path, vec![b' '; 70_000]).expect("written");
        assert!(matches!(load(&path, ""), Err(KeystoreError::TooLarge { .. })));
    }
}
