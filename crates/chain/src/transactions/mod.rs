//! Sending transactions: one actor per key.
//!
//! [`Transactions::submit`] simulates the call against the pending block (at `latest`, `block.number` is still the block
//! before, whose own blockhash is 0), then hands it to the actor, which gives it a nonce, signs it, stores it, and only
//! then sends it. The actor looks for receipts itself, sends again, raises fees at the same nonce, cancels what is of no
//! use any more, and after a restart goes on where it was. A nonce that another program used with the key (a person's command)
//! is left to it, and what waited there is sent under another one. Many of them in a short time stop the actor: a second
//! process stays at work with the key, and the two would act against each other.

mod actor;
mod fees;
mod ledger;
mod sending;
mod table;

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Log, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::TransportError;
use daemon::config::{Problems, Validate};
use daemon::{Store, StoreError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use crate::reverts::{self, RevertDecoder};
use crate::{BlockReference, Endpoints};
pub use actor::{ActorError, TransactionActor};
use actor::{Command, Outcome, Submission};
pub use table::MIGRATION;

/// Submissions that may wait for the actor.
const QUEUE_LENGTH: usize = 256;
/// Added to an estimate, in percent: storage may be warmer while estimating than when included.
const GAS_MARGIN_PERCENT: u64 = 20;
/// Added as well: what is included before may change what a call does (a payout hold that ends makes closing a lease credit two
/// accounts more). Gas that is not used is not paid for.
const GAS_MARGIN: u64 = 80_000;

daemon::section! {
    /// How transactions are sent.
    #[derive(PartialEq)]
    pub struct TransactionSettings {
        /// Most wei per gas ever offered, base fee and priority fee together.
        pub max_fee_per_gas: u128 = 500_000_000_000,
        /// Least wei per gas offered to whoever builds the block.
        pub min_priority_fee_per_gas: u128 = 1_000_000,
        /// After how many blocks without inclusion both fees are raised by an eighth.
        pub raise_after_blocks: u64 = 2,
        /// How deep a transaction must lie before it is forgotten; until then it is sent again if a reorganisation drops it.
        pub confirmations: u64 = 12,
        /// How often to look for a receipt while one is awaited.
        pub poll_interval: Duration = Duration::from_millis(100),
        /// How long a caller waits for inclusion; the transaction itself lives on.
        pub wait: Duration = Duration::from_secs(120),
    }
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            max_fee_per_gas: 500_000_000_000,
            min_priority_fee_per_gas: 1_000_000,
            raise_after_blocks: 2,
            confirmations: 12,
            poll_interval: Duration::from_millis(100),
            wait: Duration::from_secs(120),
        }
    }
}

impl Validate for TransactionSettings {
    fn problems(&self, problems: &mut Problems) {
        if self.max_fee_per_gas < self.min_priority_fee_per_gas {
            problems.invalid("max_fee_per_gas", "is below min_priority_fee_per_gas");
        }
        if self.raise_after_blocks == 0 {
            problems.invalid("raise_after_blocks", "must be at least 1");
        }
        if self.poll_interval < Duration::from_millis(10) {
            problems.invalid("poll_interval", "must be at least 10ms");
        }
    }
}

/// How much gas a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gas {
    /// A fifth more than the node estimates.
    Estimate,
    /// This much.
    Limit(u64),
}

/// What to do on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names what is done, for logs, and makes it unique: while a call with this label waits, another one with it joins
    /// it instead of being sent a second time. For example `respond/1234`.
    pub label: String,
    /// The contract.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
    /// Wei sent along.
    pub value: U256,
    /// Gas limit.
    pub gas: Gas,
    /// Whether to try it against the pending block first. Without it a call that reverts costs its gas.
    pub simulate: bool,
    /// The last block in which it is of use: when that has passed, it is replaced by an empty transaction.
    pub valid_until: Option<u64>,
    /// How long to wait for inclusion, where not as configured.
    pub wait: Option<Duration>,
}

impl Call {
    /// A call without value, with estimated gas, simulated first, of use for ever.
    pub fn new(label: impl Into<String>, to: Address, data: impl Into<Bytes>) -> Self {
        Self {
            label: label.into(),
            to,
            data: data.into(),
            value: U256::ZERO,
            gas: Gas::Estimate,
            simulate: true,
            valid_until: None,
            wait: None,
        }
    }

    /// Sends wei along.
    pub fn with_value(self, value: U256) -> Self {
        Self { value, ..self }
    }

    /// Uses this gas limit instead of an estimate.
    pub fn with_gas_limit(self, limit: u64) -> Self {
        Self {
            gas: Gas::Limit(limit),
            ..self
        }
    }

    /// Sends it untried. Needs a gas limit to have an effect: an estimate is a trial.
    pub fn without_simulation(self) -> Self {
        Self {
            simulate: false,
            ..self
        }
    }

    /// Gives it up when this block has passed without it.
    pub fn valid_until(self, block: u64) -> Self {
        Self {
            valid_until: Some(block),
            ..self
        }
    }

    /// Waits this long for inclusion.
    pub fn wait(self, wait: Duration) -> Self {
        Self {
            wait: Some(wait),
            ..self
        }
    }
}

/// A transaction in a block, with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// Its hash.
    pub hash: B256,
    /// The block; it may still be reorganised away, see [`crate::confirmations`].
    pub block: BlockReference,
    /// Gas it used.
    pub gas_used: u64,
    /// Wei per gas it paid.
    pub gas_price: u128,
    /// What it emitted.
    pub logs: Vec<Log>,
}

/// Why a call has not had its effect.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It would revert now; nothing was sent.
    #[error("{label} would be refused by the contract: {reason}")]
    WouldRevert {
        /// The call.
        label: String,
        /// As a sentence.
        reason: String,
        /// The revert data, for code that has to tell errors apart.
        data: Bytes,
    },
    /// It was included and reverted; the gas is spent.
    #[error("{label} was refused by the contract in block {block}: {reason} (transaction {hash})")]
    Reverted {
        /// The call.
        label: String,
        /// The block's height.
        block: u64,
        /// The transaction.
        hash: B256,
        /// As a sentence.
        reason: String,
    },
    /// It could not be stored, so it was not sent.
    #[error("{label} was not sent, because it cannot be recorded first")]
    Store {
        /// The call.
        label: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The chain cannot be reached; nothing was sent.
    #[error("{label} was not sent, because the chain cannot be read: {reason}")]
    Rpc {
        /// The call.
        label: String,
        /// Why.
        reason: String,
    },
    /// The node does not take it: too little money for gas and value, more gas than a block has.
    #[error("the node does not take {label} from {sender}: {reason}")]
    Refused {
        /// The call.
        label: String,
        /// Who pays.
        sender: Address,
        /// What the node said.
        reason: String,
    },
    /// The wait is over. It is stored and goes on being sent.
    #[error("{label} is not included after {waited:?}; it goes on being sent")]
    TimedOut {
        /// The call.
        label: String,
        /// How long.
        waited: Duration,
    },
    /// It was of no use any more, or was cancelled; an empty transaction took its place, or another program's.
    #[error("{label} was given up before it was included")]
    Cancelled {
        /// The call.
        label: String,
    },
    /// Another process keeps using this key. Nothing more is sent.
    #[error(
        "another process keeps sending transactions with the key {sender} (nonce {nonce} and many before it are not ours); stop it, or \
         use another key"
    )]
    ForeignNonce {
        /// The key's address.
        sender: Address,
        /// The nonce.
        nonce: u64,
    },
    /// The actor has ended, because the process stops.
    #[error("{label} was not awaited: this process is stopping. What was stored is sent at the next start")]
    Stopped {
        /// The call.
        label: String,
    },
}

/// Counts of what became of transactions.
#[derive(Debug, Clone, Default)]
pub struct TransactionMetrics {
    /// Transactions sent for the first time
    sent: Counter,
    /// Fees raised
    raised: Counter,
    /// Transactions included with success
    included: Counter,
    /// Transactions included that reverted
    reverted: Counter,
    /// Transactions replaced by an empty one
    cancelled: Counter,
    /// Nonces that other programs used with this key
    foreign: Counter,
}

impl TransactionMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("sent", "Transactions sent for the first time", self.sent.clone());
        registry.register("raised", "Fees raised", self.raised.clone());
        registry.register("included", "Transactions included with success", self.included.clone());
        registry.register("reverted", "Transactions included that reverted", self.reverted.clone());
        registry.register(
            "cancelled",
            "Transactions replaced by an empty one",
            self.cancelled.clone(),
        );
        registry.register(
            "foreign",
            "Nonces that other programs used with this key",
            self.foreign.clone(),
        );
    }
}

/// Sends transactions of one key. Clones talk to the same actor.
#[derive(Clone)]
pub struct Transactions {
    commands: mpsc::Sender<Command>,
    provider: RootProvider,
    sender: Address,
    settings: TransactionSettings,
    decoder: Option<RevertDecoder>,
    metrics: TransactionMetrics,
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Transactions")
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

impl Transactions {
    /// The handle, and the actor to run as a critical task. `store` must have [`MIGRATION`]; `decoder` makes sentences of
    /// reverts (`bindings::describe_revert`).
    pub fn new(
        endpoints: &Endpoints,
        signer: PrivateKeySigner,
        store: Store,
        settings: TransactionSettings,
        decoder: Option<RevertDecoder>,
    ) -> (Self, TransactionActor) {
        let (commands, receiver) = mpsc::channel(QUEUE_LENGTH);
        let metrics = TransactionMetrics::default();
        let handle = Self {
            commands,
            provider: endpoints.provider(),
            sender: signer.address(),
            settings: settings.clone(),
            decoder,
            metrics: metrics.clone(),
        };
        let actor = TransactionActor::new(endpoints.clone(), signer, store, settings, receiver, metrics);
        (handle, actor)
    }

    /// The address transactions are sent from.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// Registers the actor's metrics: `metrics.register("transactions", |registry| transactions.register_metrics(registry))`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Sends `call` and waits until it is in a block.
    pub async fn submit(&self, call: Call) -> Result<Included, SubmitError> {
        let label = call.label.clone();
        let wait = call.wait.unwrap_or(self.settings.wait);
        let submission = self.prepare(call).await?;
        let intent = (submission.call.to, submission.call.data.clone(), submission.call.value);
        let (reply, outcome) = oneshot::channel();
        let stopped = || SubmitError::Stopped { label: label.clone() };
        self.commands
            .send(Command::Submit(Box::new(submission), reply))
            .await
            .map_err(|_| stopped())?;
        let outcome = tokio::time::timeout(wait, outcome)
            .await
            .map_err(|_| SubmitError::TimedOut {
                label: label.clone(),
                waited: wait,
            })?
            .map_err(|_| stopped())?;
        match outcome {
            Outcome::Included {
                included,
                succeeded: true,
            } => Ok(included),
            Outcome::Included {
                included,
                succeeded: false,
            } => {
                let reason = self.reason_of_revert(intent, included.block.number).await;
                Err(SubmitError::Reverted {
                    label,
                    block: included.block.number,
                    hash: included.hash,
                    reason,
                })
            }
            Outcome::Cancelled => Err(SubmitError::Cancelled { label }),
            Outcome::Refused(reason) => Err(SubmitError::Refused {
                label,
                sender: self.sender,
                reason,
            }),
            Outcome::Foreign(nonce) => Err(SubmitError::ForeignNonce {
                sender: self.sender,
                nonce,
            }),
            Outcome::Store(source) => Err(SubmitError::Store { label, source }),
        }
    }

    /// Gives up the waiting call with this label: an empty transaction takes its place, unless it is too late. Whoever
    /// waits for it is told which.
    pub async fn cancel(&self, label: &str) {
        // An actor that has ended sends nothing anyway.
        let _ = self.commands.send(Command::Cancel(label.to_owned())).await;
    }

    /// Tries `call` against the pending block and returns the gas it needs, sending nothing.
    pub async fn estimate(&self, call: &Call) -> Result<u64, SubmitError> {
        self.provider
            .estimate_gas(self.request(call))
            .await
            .map_err(|error| self.failed_trial(call, &error))
    }

    async fn prepare(&self, call: Call) -> Result<Submission, SubmitError> {
        let (gas_limit, offer, taken) = tokio::join!(
            self.gas_limit(&call),
            sending::market(&self.provider, &self.settings),
            sending::taken(&self.provider, self.sender),
        );
        let unread = |error: TransportError| SubmitError::Rpc {
            label: call.label.clone(),
            reason: error.to_string(),
        };
        let (fees, head) = offer.map_err(unread)?;
        let taken = taken.map_err(unread)?;
        Ok(Submission {
            gas_limit: gas_limit?,
            fees,
            head,
            taken,
            call,
        })
    }

    async fn gas_limit(&self, call: &Call) -> Result<u64, SubmitError> {
        match call.gas {
            Gas::Estimate => {
                let estimate = self.estimate(call).await?;
                Ok(estimate.saturating_add(estimate / 100 * GAS_MARGIN_PERCENT + GAS_MARGIN))
            }
            Gas::Limit(limit) => {
                if call.simulate {
                    let request = self.request(call).with_gas_limit(limit);
                    self.provider
                        .call(request)
                        .await
                        .map_err(|error| self.failed_trial(call, &error))?;
                }
                Ok(limit)
            }
        }
    }

    fn request(&self, call: &Call) -> TransactionRequest {
        TransactionRequest::default()
            .with_from(self.sender)
            .with_to(call.to)
            .with_input(call.data.clone())
            .with_value(call.value)
    }

    fn failed_trial(&self, call: &Call, error: &TransportError) -> SubmitError {
        let label = call.label.clone();
        if let Some(data) = reverts::data_of(error) {
            return SubmitError::WouldRevert {
                label,
                reason: reverts::describe(&data, self.decoder.as_ref()),
                data,
            };
        }
        match error.as_error_resp() {
            Some(response) => SubmitError::Refused {
                label,
                sender: self.sender,
                reason: response.message.to_string(),
            },
            None => SubmitError::Rpc {
                label,
                reason: error.to_string(),
            },
        }
    }

    /// Tries it again where it stood; best effort, because what came before it in its block is missing.
    async fn reason_of_revert(&self, (to, data, value): (Address, Bytes, U256), block: u64) -> String {
        let request = TransactionRequest::default()
            .with_from(self.sender)
            .with_to(to)
            .with_input(data)
            .with_value(value);
        let before = BlockNumberOrTag::Number(block.saturating_sub(1));
        match self.provider.call(request).block(before.into()).await {
            Err(error) => match reverts::data_of(&error) {
                Some(data) => reverts::describe(&data, self.decoder.as_ref()),
                None => "the reason could not be read back".to_owned(),
            },
            Ok(_) => "because of what was included before it, or of too little gas".to_owned(),
        }
    }
}
