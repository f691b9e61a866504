//! The user's folder: the key with its address, the TLS identity, the orders, and what was learned about networks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use daemon::Secret;
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use gateway::Identity;
use serde_json::Value;

use crate::failure::Failure;
use crate::files::{create_folder, read_if_there, write_private};

/// Environment variable with the keystore's password.
const PASSWORD_VARIABLE: &str = "SPHERON_PASSWORD";
/// Longer files are no keys.
const LONGEST_KEY_BYTES: u64 = 64 * 1024;

/// The user's folder.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    folder: PathBuf,
    password_file: Option<PathBuf>,
}

impl Home {
    /// `folder`, or `~/.spheron`.
    pub(crate) fn new(folder: Option<&Path>, password_file: Option<&Path>) -> eyre::Result<Self> {
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => {
                let user = std::env::var_os("HOME").ok_or_eyre("HOME is not set; pass --home FOLDER")?;
                PathBuf::from(user).join(".spheron")
            }
        };
        Ok(Self {
            folder: std::path::absolute(folder)?,
            password_file: password_file.map(Path::to_owned),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn address_file(&self) -> PathBuf {
        self.folder.join("address")
    }

    /// The key's address, without opening the key.
    pub(crate) fn address(&self) -> eyre::Result<Address> {
        let path = self.address_file();
        let text = read_if_there(&path)?.ok_or_else(|| self.no_key())?;
        let text = String::from_utf8_lossy(&text);
        text.trim()
            .parse()
            .map_err(|_| eyre::eyre!("{} holds no address; run `spheron init` again", path.display()))
    }

    /// The key. Opening a keystore takes a second of computing.
    pub(crate) fn signer(&self) -> eyre::Result<PrivateKeySigner> {
        let path = self.key_file();
        ensure!(path.exists(), self.no_key());
        self.open_key(&path)
    }

    fn no_key(&self) -> eyre::Report {
        eyre::eyre!("there is no key in {}; run `spheron init` first", self.folder.display())
    }

    /// Opens a keystore (with the password that was given) or a raw key.
    pub(crate) fn open_key(&self, path: &Path) -> eyre::Result<PrivateKeySigner> {
        let length = fs::metadata(path)
            .wrap_err_with(|| format!("cannot read the key {}", path.display()))?
            .len();
        ensure!(
            length <= LONGEST_KEY_BYTES,
            "{} is too long to be a key",
            path.display()
        );
        let text = Secret::from_file(path)?;
        if text.expose().trim_start().starts_with('{') {
            let password = self.password(format!(
                "the key {} is encrypted and there is no password",
                path.display()
            ))?;
            return Ok(chain::keys::from_keystore(path, &password)?);
        }
        chain::keys::from_raw(&text).wrap_err_with(|| format!("{} is neither a keystore nor a raw key", path.display()))
    }

    /// The password that was given; `missing` says what there is without one.
    fn password(&self, missing: String) -> eyre::Result<Secret> {
        match &self.password_file {
            Some(path) => Ok(Secret::from_file(path)?),
            None => Secret::from_env(PASSWORD_VARIABLE).map_err(|_| {
                Failure::bad_input(format!(
                    "{missing}; pass --password-file FILE or set {PASSWORD_VARIABLE}"
                ))
                .into()
            }),
        }
    }

    /// Takes over a copy of a key, or makes a new keystore, unless there is a key. A key is never overwritten.
    pub(crate) fn initialise_key(&self, given: Option<&Path>) -> eyre::Result<PrivateKeySigner> {
        create_folder(&self.folder)?;
        let path = self.key_file();
        if path.exists() {
            let signer = self.signer()?;
            if let Some(given) = given {
                let other = self.open_key(given)?.address();
                if other != signer.address() {
                    bail!(Failure::bad_input(format!(
                        "{} holds the key of {} already, {} is the key of {other}; use another --home for it",
                        self.folder.display(),
                        signer.address(),
                        given.display()
                    )));
                }
            }
            self.write_address(signer.address())?;
            return Ok(signer);
        }
        let signer = match given {
            Some(given) => {
                let signer = self.open_key(given)?;
                let bytes = zeroize::Zeroizing::new(fs::read(given)?);
                write_private(&path, &bytes)?;
                signer
            }
            None => {
                let missing = format!(
                    "{} holds no key yet: take one over with --key FILE, or choose a password for a new one",
                    self.folder.display()
                );
                let password = self.password(missing)?;
                chain::keys::create_keystore(&self.folder, "key", &password)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                self.signer()?
            }
        };
        self.write_address(signer.address())?;
        Ok(signer)
    }

    fn write_address(&self, address: Address) -> eyre::Result<()> {
        if self.address().is_ok_and(|known| known == address) {
            return Ok(());
        }
        write_private(&self.address_file(), address.to_checksum(None).as_bytes())
    }

    /// The TLS identity; made where there is none.
    pub(crate) fn initialise_identity(&self) -> eyre::Result<Identity> {
        create_folder(&self.folder)?;
        Ok(Identity::load_or_create(&self.folder.join("identity.pem"))?)
    }

    /// The TLS identity.
    pub(crate) fn identity(&self) -> eyre::Result<Identity> {
        let path = self.folder.join("identity.pem");
        ensure!(
            path.exists(),
            "there is no TLS identity in {}; run `spheron init` first",
            self.folder.display()
        );
        Ok(Identity::load(&path)?)
    }

    /// Network files by name.
    pub(crate) fn network_file(&self, name: &str) -> PathBuf {
        self.folder.join("networks").join(format!("{name}.json"))
    }

    /// What was learned about a deployment of the contracts.
    pub(crate) fn cached(&self, deployment: &str, name: &str) -> Option<Value> {
        let bytes = fs::read(self.cache_file(deployment, name)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers something about a deployment. It can be learned again: a failure to write is no failure.
    pub(crate) fn cache(&self, deployment: &str, name: &str, value: &Value) {
        if let Err(error) = write_private(&self.cache_file(deployment, name), value.to_string().as_bytes()) {
            tracing::debug!(%error, "not cached");
        }
    }

    fn cache_file(&self, deployment: &str, name: &str) -> PathBuf {
        self.folder.join("cache").join(deployment).join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    const OTHER: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    fn key_file(folder: &Path, name: &str, key: &str) -> PathBuf {
        let path = folder.join(name);
        write_private(&path, key.as_bytes()).expect("write");
        path
    }

    #[test]
    fn a_key_is_copied_once_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::new(Some(&folder.path().join("home")), None).expect("home");
        assert!(home.address().expect_err("no key").to_string().contains("spheron init"));
        let given = key_file(folder.path(), "one", RAW);
        let address = home.initialise_key(Some(&given)).expect("taken over").address();
        assert_eq!(home.address().expect("known"), address);
        assert_eq!(home.initialise_key(None).expect("kept").address(), address);
        assert_eq!(home.initialise_key(Some(&given)).expect("the same").address(), address);
        let other = key_file(folder.path(), "other", OTHER);
        let refused = home.initialise_key(Some(&other)).expect_err("another key");
        assert_eq!(crate::failure::exit_status(&refused), 2, "{refused}");
        assert_eq!(home.signer().expect("kept").address(), address);
        let mode = fs::metadata(home.key_file()).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn a_new_key_is_encrypted() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let password = key_file(folder.path(), "password", "hunter2\n");
        let home = Home::new(Some(&folder.path().join("home")), Some(&password)).expect("home");
        let address = home.initialise_key(None).expect("made").address();
        assert_eq!(home.signer().expect("opened").address(), address);
        let text = fs::read_to_string(home.key_file()).expect("read");
        assert!(text.trim_start().starts_with('{'), "not a keystore");
    }

    #[test]
    fn a_password_is_asked_for_what_it_is_needed_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::new(Some(&folder.path().join("home")), None).expect("home");
        if std::env::var_os(PASSWORD_VARIABLE).is_some() {
            panic!("{PASSWORD_VARIABLE} is set, so that this cannot be tested; unset it");
        }
        let told = home.initialise_key(None).expect_err("no password").to_string();
        assert!(
            told.contains("holds no key") && told.contains("choose a password") && told.contains("--password-file"),
            "{told}"
        );
        let keystore = key_file(folder.path(), "keystore", "{}");
        let refused = home.open_key(&keystore).expect_err("no password");
        assert!(refused.to_string().contains("keystore is encrypted"), "{refused}");
        assert_eq!(crate::failure::exit_status(&refused), 2);
    }

    #[test]
    fn what_is_cached_is_found_again_for_the_same_deployment_only() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let home = Home::new(Some(folder.path()), None).expect("home");
        home.cache("devnet-01", "account", &Value::from(7));
        assert_eq!(home.cached("devnet-01", "account"), Some(Value::from(7)));
        assert_eq!(home.cached("devnet-02", "account"), None);
    }
}
