//! Who sends a transaction, and that only one process at a time does with one key.

use std::path::PathBuf;
use std::sync::Arc;

use alloy::primitives::Address;
use alloy::signers::local::PrivateKeySigner;
use chain::{Call, Endpoints, Included, TransactionSettings, Transactions};
use daemon::{DirectoryLock, Secret};
use eyre::WrapErr as _;
use tokio_util::sync::CancellationToken;

use super::Account;
use crate::config::Config;
use crate::keys;
use crate::store::OperatorStore;

/// An account that sends, with where it keeps what it sent.
pub(super) struct Sender {
    signer: PrivateKeySigner,
    folder: PathBuf,
    endpoints: Endpoints,
    _lock: DirectoryLock,
}

impl Sender {
    /// The operator's account, or the one named in its place. `account` is absent for what only the operator's can do.
    pub(super) async fn open(config: &Config, account: Option<&Account>, endpoints: &Endpoints) -> eyre::Result<Self> {
        let key = account.and_then(|account| account.key.as_ref());
        let password_file = account.and_then(|account| account.password_file.as_deref());
        let (signer, folder) = match key {
            None => (keys::account(&config.keys).await?, config.data_dir.clone()),
            Some(path) => {
                let password = password_file.map(Secret::from_file).transpose()?;
                let signer = chain::keys::from_file(path, password.as_ref()).await?;
                let folder = config.data_dir.join(format!("sender-{:#x}", signer.address()));
                (signer, folder)
            }
        };
        let lock = DirectoryLock::acquire(&folder).wrap_err_with(|| match (key, account) {
            (None, None) => "the operator's account is in use: stop its `operator run` or `operator watch` meanwhile",
            (None, Some(_)) => {
                "the operator's account is in use: stop `operator run` meanwhile, or pass --key of another account"
            }
            (Some(_), _) => "another process sends with this key",
        })?;
        Ok(Self {
            signer,
            folder,
            endpoints: endpoints.clone(),
            _lock: lock,
        })
    }

    pub(super) fn address(&self) -> Address {
        self.signer.address()
    }

    /// Sends a call and waits until it is in a block.
    pub(super) async fn send(&self, call: Call) -> eyre::Result<Included> {
        let store = OperatorStore::open(&self.folder)?;
        let decoder: chain::reverts::RevertDecoder = Arc::new(|data: &[u8]| describe_revert(data));
        let (transactions, actor) = Transactions::new(
            &self.endpoints,
            self.signer.clone(),
            store.database().clone(),
            TransactionSettings::default(),
            Some(decoder),
        );
        let stop = CancellationToken::new();
        let sending = tokio::spawn(actor.run(stop.clone()));
        let label = call.label.clone();
        let included = transactions.submit(call).await;
        stop.cancel();
        let sent = sending.await.wrap_err("sending was cut short")?;
        let included = included.wrap_err_with(|| format!("could not {label}"))?;
        sent?;
        Ok(included)
    }
}

/// A sentence for a revert of EigenLayer or of ours.
pub(super) fn describe_revert(data: &[u8]) -> Option<String> {
    eigenlayer::rewards::describe_revert(data)
        .or_else(|| eigenlayer::contracts::describe_revert(data))
        .map(str::to_owned)
        .or_else(|| bindings::describe_revert(data))
}
