//! The operator's two keys: loaded by configuration, made by `keys new`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, hex};
use alloy::signers::local::PrivateKeySigner;
use avs::bn254::SecretKey;
use daemon::Secret;
use daemon::secret::SecretError;
use eigenlayer::keystore::{self, KeystoreError};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use crate::config::{Keys, MatchmakerKey};

const ECDSA_FILE: &str = "operator.ecdsa.json";
const BLS_FILE: &str = "operator.bls.json";
const PASSWORD_FILE: &str = "operator.password";

/// Why a key cannot be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("no ECDSA key is configured; set keys.ecdsa (`operator keys new --out DIR` makes one)")]
    NoAccount,
    #[error("no BLS key is configured; set keys.bls (`operator keys new --out DIR` makes one)")]
    NoBls,
    #[error("the operator's account cannot be opened")]
    Account(#[from] chain::keys::KeyError),
    #[error("the BLS key cannot be opened")]
    Bls(#[from] KeystoreError),
    #[error("no password for the BLS keystore is configured; set keys.bls_password_file")]
    NoPassword,
    #[error("the password cannot be read")]
    Password(#[from] SecretError),
    #[error("{} exists already; nothing was written, because a key that is overwritten is lost", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the system gives no random numbers: {0}")]
    Randomness(String),
    #[error("the decryption was cut short")]
    CutShort,
}

/// The key that signs answers.
pub async fn bls(keys: &Keys) -> Result<SecretKey, KeysError> {
    let path = keys.bls.clone().ok_or(KeysError::NoBls)?;
    let password = password(keys.bls_password.as_ref(), keys.bls_password_file.as_deref())?;
    let password = password.ok_or(KeysError::NoPassword)?;
    let opened = tokio::task::spawn_blocking(move || keystore::load(&path, password.expose()));
    Ok(opened.await.map_err(|_| KeysError::CutShort)??)
}

/// The account that is the operator on EigenLayer.
pub async fn account(keys: &Keys) -> Result<PrivateKeySigner, KeysError> {
    let path = keys.ecdsa.as_deref().ok_or(KeysError::NoAccount)?;
    let password = password(keys.ecdsa_password.as_ref(), keys.ecdsa_password_file.as_deref())?;
    Ok(chain::keys::from_file(path, password.as_ref()).await?)
}

/// The key of a single matchmaker, where one is configured.
pub async fn matchmaker(key: &MatchmakerKey) -> Result<Option<PrivateKeySigner>, KeysError> {
    let Some(path) = key.ecdsa.as_deref() else {
        return Ok(None);
    };
    let password = password(key.ecdsa_password.as_ref(), key.ecdsa_password_file.as_deref())?;
    Ok(Some(chain::keys::from_file(path, password.as_ref()).await?))
}

fn password(given: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, KeysError> {
    Ok(match (given, file) {
        (Some(secret), _) => Some(secret.clone()),
        (None, Some(path)) => Some(Secret::from_file(path)?),
        (None, None) => None,
    })
}

/// What `keys new` made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NewKeys {
    /// The operator's address.
    pub address: Address,
    pub ecdsa: PathBuf,
    /// Keccak of the G1 key: the operator's id in EigenLayer's registries.
    pub operator_id: B256,
    pub bls: PathBuf,
    /// Opens both keystores.
    pub password_file: PathBuf,
}

/// Makes both keystores in a folder, which is created where missing. Without a password file, a password is made too.
/// Overwrites nothing.
pub fn create(folder: &Path, password_file: Option<&Path>) -> Result<NewKeys, KeysError> {
    let (ecdsa, bls) = (folder.join(ECDSA_FILE), folder.join(BLS_FILE));
    let new_password = password_file.is_none().then(|| folder.join(PASSWORD_FILE));
    for path in [Some(&ecdsa), Some(&bls), new_password.as_ref()].into_iter().flatten() {
        if path.exists() {
            return Err(KeysError::Exists(path.clone()));
        }
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| KeysError::Write { path, source }
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed(folder))?;
    let (password, password_file) = match (password_file, new_password) {
        (Some(path), _) => (Secret::from_file(path)?, path.to_owned()),
        (None, path) => {
            let path = path.unwrap_or_else(|| folder.join(PASSWORD_FILE));
            let password = Secret::new(hex::encode(*random::<32>()?));
            write_private(&path, password.expose()).map_err(failed(&path))?;
            (password, path)
        }
    };
    let key =
        SecretKey::from_random_bytes(&*random::<64>()?).map_err(|error| KeysError::Randomness(error.to_string()))?;
    keystore::store(&bls, &key, password.expose())?;
    let (address, ecdsa) = chain::keys::create_keystore(folder, ECDSA_FILE, &password)?;
    Ok(NewKeys {
        address,
        ecdsa,
        operator_id: key.public_key().operator_id(),
        bls,
        password_file,
    })
}

fn random<const LENGTH: usize>() -> Result<Zeroizing<[u8; LENGTH]>, KeysError> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    OsRng
        .try_fill_bytes(bytes.as_mut_slice())
        .map_err(|error| KeysError::Randomness(error.to_string()))?;
    Ok(bytes)
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use daemon::causes::with_causes;

    use super::*;

    #[tokio::test]
    async fn new_keys_are_private_open_with_their_password_and_are_never_overwritten() {
        let folder = tempfile::tempdir().expect("folder");
        let out = folder.path().join("keys");
        let made = create(&out, None).expect("made");
        for path in [&made.ecdsa, &made.bls, &made.password_file] {
            let mode = fs::metadata(path).expect("there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        let keys = Keys {
            ecdsa: Some(made.ecdsa.clone()),
            ecdsa_password_file: Some(made.password_file.clone()),
            ecdsa_password: None,
            bls: Some(made.bls.clone()),
            bls_password_file: Some(made.password_file.clone()),
            bls_password: None,
        };
        assert_eq!(account(&keys).await.expect("opens").address(), made.address);
        let opened = bls(&keys).await.expect("opens");
        assert_eq!(opened.public_key().operator_id(), made.operator_id);
        assert!(matches!(create(&out, None), Err(KeysError::Exists(_))));

        let wrong = Keys {
            ecdsa_password: Some(Secret::new("wrong")),
            bls_password: Some(Secret::new("wrong")),
            ..keys
        };
        let refused = account(&wrong).await.expect_err("encrypted");
        assert!(with_causes(&refused).contains("the password is wrong"), "{refused:?}");
        assert!(matches!(
            bls(&wrong).await,
            Err(KeysError::Bls(KeystoreError::WrongPassword { .. }))
        ));
        let matchmaker_key = MatchmakerKey {
            ecdsa: Some(made.ecdsa.clone()),
            ecdsa_password_file: Some(made.password_file.clone()),
            ecdsa_password: None,
        };
        let opened = matchmaker(&matchmaker_key).await.expect("opens").expect("configured");
        assert_eq!(opened.address(), made.address);
    }
}
