//! The key an agent sends transactions with.

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use alloy::signers::k256::elliptic_curve::rand_core::OsRng;
use alloy::signers::local::PrivateKeySigner;
use daemon::Secret;
use daemon::config::{Problems, Validate};
use zeroize::Zeroizing;

daemon::section! {
    /// The secp256k1 key transactions are signed with: a keystore and its password, or (devnets only) a raw key.
    pub struct KeySettings {
        /// A keystore file as geth writes it (version 3).
        pub keystore: Option<PathBuf>,
        /// The keystore's password.
        pub password: Option<Secret>,
        /// The key itself, 32 bytes in hexadecimal, in a file with mode 0600 or in the environment. For devnets.
        pub raw: Option<Secret>,
    }
}

impl Validate for KeySettings {
    fn problems(&self, problems: &mut Problems) {
        match (&self.keystore, &self.password, &self.raw) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => {}
            (Some(_), None, None) => problems.invalid("password", "is missing: the keystore is encrypted"),
            (Some(_), _, Some(_)) => problems.invalid("raw", "give either `keystore` or `raw`, not both"),
            (None, Some(_), _) => problems.invalid("keystore", "is missing: there is a password but no keystore"),
            (None, None, None) => problems.invalid("keystore", "is missing: give `keystore` and `password`"),
        }
        if let Some(path) = self.keystore.as_ref().filter(|path| !path.is_file()) {
            problems.invalid("keystore", format!("there is no file {}", path.display()));
        }
    }
}

/// Why a key could not be loaded. No message carries any part of a key or password.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The keystore file is missing, is not a keystore, or the password is wrong.
    #[error("cannot open the keystore {path}: {reason}")]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Not a secp256k1 private key.
    #[error("the raw key is not a private key (expected 32 bytes in hexadecimal, not zero)")]
    Raw,
    /// Neither a keystore with password nor a raw key was given.
    #[error("no key is configured; set key.keystore and key.password")]
    Missing,
}

/// Loads the configured key. Decrypting a keystore takes a second of computing, on a thread made for that.
pub async fn load(settings: &KeySettings) -> Result<PrivateKeySigner, KeyError> {
    match (&settings.keystore, &settings.password, &settings.raw) {
        (Some(path), Some(password), _) => {
            let (path, password) = (path.clone(), password.clone());
            let file = path.clone();
            tokio::task::spawn_blocking(move || from_keystore(&path, &password))
                .await
                .unwrap_or_else(|_| {
                    Err(KeyError::Keystore {
                        path: file,
                        reason: "the decryption was cut short".to_owned(),
                    })
                })
        }
        (_, _, Some(raw)) => from_raw(raw),
        _ => Err(KeyError::Missing),
    }
}

/// Opens a geth-V3 keystore. Blocks.
pub fn from_keystore(path: &Path, password: &Secret) -> Result<PrivateKeySigner, KeyError> {
    PrivateKeySigner::decrypt_keystore(path, password.expose()).map_err(|error| {
        let reason = match error.to_string() {
            text if text.to_ascii_lowercase().contains("mac mismatch") => "the password is wrong".to_owned(),
            text => text,
        };
        KeyError::Keystore {
            path: path.to_owned(),
            reason,
        }
    })
}

/// Opens a key file, whichever it is: a keystore (JSON), which needs its password, or a raw key that only its owner may
/// read. Decrypting takes a second of computing, on a thread made for that.
pub async fn from_file(path: &Path, password: Option<&Secret>) -> Result<PrivateKeySigner, KeyError> {
    let failed = |reason: String| KeyError::Keystore {
        path: path.to_owned(),
        reason,
    };
    let content = Secret::from_file(path).map_err(|error| failed(error.to_string()))?;
    if !content.expose().trim_start().starts_with('{') {
        return from_raw(&content);
    }
    let password = password
        .cloned()
        .ok_or_else(|| failed("it is encrypted and no password is configured".to_owned()))?;
    let file = path.to_owned();
    tokio::task::spawn_blocking(move || from_keystore(&file, &password))
        .await
        .unwrap_or_else(|_| Err(failed("the decryption was cut short".to_owned())))
}

/// Reads a key of 32 bytes in hexadecimal.
pub fn from_raw(raw: &Secret) -> Result<PrivateKeySigner, KeyError> {
    let digits = raw.expose().trim().trim_start_matches("0x");
    let mut bytes = Zeroizing::new([0u8; 32]);
    alloy::primitives::hex::decode_to_slice(digits, bytes.as_mut_slice()).map_err(|_| KeyError::Raw)?;
    PrivateKeySigner::from_bytes(&B256::from_slice(bytes.as_slice())).map_err(|_| KeyError::Raw)
}

/// Writes a new geth-V3 keystore of a new key into `directory`, mode 0600, and returns its address and file. Blocks.
pub fn create_keystore(directory: &Path, name: &str, password: &Secret) -> Result<(Address, PathBuf), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    let failed = |reason: String| KeyError::Keystore {
        path: path.clone(),
        reason,
    };
    if path.exists() {
        return Err(failed("the file exists already".to_owned()));
    }
    let (signer, _) = PrivateKeySigner::new_keystore(directory, &mut OsRng, password.expose(), Some(name))
        .map_err(|error| failed(error.to_string()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(error.to_string()))?;
    Ok((signer.address(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    #[test]
    fn a_raw_key_gives_its_address_and_never_shows_itself() {
        let signer = from_raw(&Secret::new(RAW)).expect("valid");
        assert_eq!(
            signer.address().to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
        assert!(!format!("{signer:?}").contains("ac0974"));
        for wrong in ["", "0x00", "zz", &"0".repeat(64)] {
            let error = from_raw(&Secret::new(wrong)).expect_err("not a key").to_string();
            assert!(error.contains("32 bytes"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_key_file_is_a_keystore_or_a_raw_key() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("temporary directory");
        let raw = directory.path().join("raw");
        std::fs::write(&raw, RAW).expect("written");
        std::fs::set_permissions(&raw, std::fs::Permissions::from_mode(0o600)).expect("mode");
        let signer = from_file(&raw, None).await.expect("a raw key");
        assert_eq!(signer.address(), from_raw(&Secret::new(RAW)).expect("valid").address());
        std::fs::set_permissions(&raw, std::fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(from_file(&raw, None).await.is_err());

        let password = Secret::new("hunter2");
        let (address, path) = create_keystore(directory.path(), "keystore", &password).expect("create");
        assert_eq!(
            from_file(&path, Some(&password)).await.expect("opens").address(),
            address
        );
        let error = from_file(&path, None).await.expect_err("no password").to_string();
        assert!(error.contains("no password"), "{error}");
    }

    #[test]
    fn a_keystore_opens_with_its_password_only() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (address, path) =
            create_keystore(directory.path(), "operator.json", &Secret::new("hunter2")).expect("create");
        assert_eq!(
            from_keystore(&path, &Secret::new("hunter2")).expect("open").address(),
            address
        );
        let error = from_keystore(&path, &Secret::new("hunter3"))
            .expect_err("wrong password")
            .to_string();
        assert!(
            error.contains("the password is wrong") && !error.contains("hunter"),
            "{error}"
        );
        assert!(create_keystore(directory.path(), "operator.json", &Secret::new("x")).is_err());
    }
}
