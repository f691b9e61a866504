//! The actor: does what [`super::ledger`] decides, storing before sending.

mod foreign;
mod replacing;
mod submitting;

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::TransportError;
use daemon::health::Component;
use daemon::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::fees::Fees;
use super::ledger::{Ledger, Open, Patience, Standing, Step};
use super::sending::{self, Answer};
use super::table::{self, Attempt, Intent, Row, RowState};
use super::{Call, Included, TransactionMetrics, TransactionSettings};
use crate::{BlockReference, Endpoints};

/// How often to look at the nonce while nothing is awaited: only to notice what other programs send with the same key.
const IDLE_LOOK: Duration = Duration::from_secs(15);
/// How often to look while everything is included but not yet deep.
const SETTLING_LOOK: Duration = Duration::from_secs(1);
/// How long to wait when the chain cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// A call that was tried and priced.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) call: Call,
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
    pub(super) head: u64,
    /// Nonces that were used or waited at in the node's pool, ours included. No more than that by now, where others are at
    /// work.
    pub(super) taken: u64,
}

#[derive(Debug)]
pub(super) enum Command {
    Submit(Box<Submission>, oneshot::Sender<Outcome>),
    Cancel(String),
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Included { included: Included, succeeded: bool },
    Cancelled,
    Refused(String),
    Foreign(u64),
    Store(StoreError),
}

/// Why the actor ended.
#[derive(Debug, thiserror::Error)]
pub enum ActorError {
    /// Two processes use one key, and go on doing so.
    #[error(
        "another process keeps sending transactions with the key {sender}: nonce {nonce} and many before it were used, not by us; \
         stop it, or use another key"
    )]
    ForeignNonce {
        /// The key's address.
        sender: Address,
        /// The newest of them.
        nonce: u64,
    },
    /// What was sent before cannot be loaded.
    #[error("cannot load the transactions of {sender} from the store")]
    Store {
        /// The key's address.
        sender: Address,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Owns the nonces of one key. Run it as a critical task.
pub struct TransactionActor {
    provider: RootProvider,
    endpoints: Endpoints,
    signer: PrivateKeySigner,
    store: Store,
    settings: TransactionSettings,
    commands: mpsc::Receiver<Command>,
    metrics: TransactionMetrics,
    health: Option<Component>,
    ledger: Ledger,
    rows: BTreeMap<u64, Row>,
    waiters: BTreeMap<u64, Vec<oneshot::Sender<Outcome>>>,
}

impl std::fmt::Debug for TransactionActor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TransactionActor")
            .field("sender", &self.signer.address())
            .finish_non_exhaustive()
    }
}

/// What came of looking for a transaction's receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receipt {
    Found,
    /// The endpoint has none of any attempt's.
    None,
    /// The endpoint could not be asked.
    Unknown,
}

impl TransactionActor {
    pub(super) fn new(
        endpoints: Endpoints,
        signer: PrivateKeySigner,
        store: Store,
        settings: TransactionSettings,
        commands: mpsc::Receiver<Command>,
        metrics: TransactionMetrics,
    ) -> Self {
        let ledger = Ledger::new(0, BTreeMap::new(), patience(&settings));
        Self {
            provider: endpoints.provider(),
            endpoints,
            signer,
            store,
            settings,
            commands,
            metrics,
            health: None,
            ledger,
            rows: BTreeMap::new(),
            waiters: BTreeMap::new(),
        }
    }

    /// Shows trouble as this health component.
    pub fn with_health(self, component: Component) -> Self {
        Self {
            health: Some(component),
            ..self
        }
    }

    /// Runs until `stop`, or until another process turns out to use the key all the time.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ActorError> {
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            outcome = self.work() => outcome,
        };
        if let Err(ActorError::ForeignNonce { nonce, .. }) = &outcome {
            self.degraded(format!("another process keeps using this key (nonce {nonce})"));
            for waiter in std::mem::take(&mut self.waiters).into_values().flatten() {
                let _ = waiter.send(Outcome::Foreign(*nonce));
            }
            self.commands.close();
            while let Ok(command) = self.commands.try_recv() {
                if let Command::Submit(_, reply) = command {
                    let _ = reply.send(Outcome::Foreign(*nonce));
                }
            }
        }
        outcome
    }

    async fn work(&mut self) -> Result<(), ActorError> {
        self.resume().await?;
        self.ok();
        loop {
            let pause = if self.ledger.is_waiting() {
                self.settings.poll_interval
            } else if self.ledger.open().is_empty() {
                IDLE_LOOK
            } else {
                SETTLING_LOOK
            };
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Submit(submission, reply)) => self.submit(*submission, reply).await,
                    Some(Command::Cancel(label)) => self.cancel_label(&label).await,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(pause) => self.look().await,
            }
            if let Some(nonce) = self.ledger.contested() {
                let sender = self.signer.address();
                return Err(ActorError::ForeignNonce { sender, nonce });
            }
        }
    }

    /// Goes on where the last process with this key and store stopped.
    async fn resume(&mut self) -> Result<(), ActorError> {
        let sender = self.signer.address();
        let broken = |source| ActorError::Store { sender, source };
        let (rows, stored) = self
            .store
            .read(move |connection| {
                Ok((
                    table::load_open(connection, sender)?,
                    table::next_nonce(connection, sender)?,
                ))
            })
            .await
            .map_err(broken)?;
        let (used, pending, head) = loop {
            match self.nonces().await {
                Ok(nonces) => break nonces,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the nonce of {sender}; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        if stored > 0 && used > stored {
            let sent = used - stored;
            if rows.iter().all(|row| row.state == RowState::Included) {
                tracing::info!(%sender, "{sent} transactions of this account were sent elsewhere while this process was away");
            } else {
                tracing::warn!(
                    %sender, used, stored,
                    "{sent} transactions of this account were sent elsewhere while this process was away, and some of ours wait"
                );
            }
        }
        let mut open = BTreeMap::new();
        for row in rows {
            let nonce = row.intent.nonce;
            let standing = match (row.state, row.block) {
                (RowState::Included, Some(block)) => Standing::Included { block },
                (RowState::Cancelling, _) => Standing::Cancelling,
                _ => Standing::Pending,
            };
            // Sent again at once: nobody knows what the nodes still have of it.
            open.insert(
                nonce,
                Open {
                    id: row.id,
                    valid_until: row.intent.valid_until,
                    standing,
                    sent_at: 0,
                    priced_at: head,
                },
            );
            tracing::info!(label = row.intent.label, nonce, "resuming a transaction");
            self.rows.insert(nonce, row);
        }
        self.ledger = Ledger::new(pending.max(used), open, patience(&self.settings));
        Ok(())
    }

    /// Nonces used in blocks, nonces used or waiting, and the newest block.
    async fn nonces(&self) -> Result<(u64, u64, u64), TransportError> {
        let sender = self.signer.address();
        let head = self.provider.get_block_number().await?;
        let used = self.provider.get_transaction_count(sender).latest().await?;
        let pending = sending::taken(&self.provider, sender).await?;
        Ok((used, pending, head))
    }

    /// One look at the chain, and what follows from it.
    async fn look(&mut self) {
        let sender = self.signer.address();
        let (head, used) = match self.head_and_used(sender).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(%error, endpoint = self.endpoints.current(), "cannot look for receipts");
                tokio::time::sleep(RETRY).await;
                return;
            }
        };
        for step in self.ledger.steps(used, head) {
            match step {
                Step::FindReceipt(nonce) => {
                    self.find_receipt(nonce, head).await;
                }
                Step::SendAgain(nonce) => self.send_again(nonce, head).await,
                Step::Raise(nonce) => self.raise(nonce, head).await,
                Step::Cancel(nonce) => self.cancel(nonce).await,
                Step::Reopen(nonce) => self.reopen(nonce, head).await,
                Step::Forget(nonce) => self.forget(nonce).await,
                // Blocks may come faster than a busy endpoint's receipts: nothing is given up without asking once more.
                Step::Foreign(nonce) => {
                    if self.find_receipt(nonce, head).await == Receipt::None {
                        self.renumber(nonce, head).await;
                    }
                }
                Step::MoveOn(next) => self.move_on(next, head),
                Step::Fill(nonce) => self.fill(nonce).await,
            }
        }
    }

    async fn head_and_used(&self, sender: Address) -> Result<(u64, u64), TransportError> {
        // The head first: a nonce used by then is used in that block or before.
        let head = self.provider.get_block_number().await?;
        let used = self.provider.get_transaction_count(sender).latest().await?;
        Ok((head, used))
    }

    async fn find_receipt(&mut self, nonce: u64, head: u64) -> Receipt {
        let Some(row) = self.rows.get(&nonce) else {
            return Receipt::None;
        };
        for attempt in row.attempts.iter().rev() {
            match self.provider.get_transaction_receipt(attempt.hash).await {
                Ok(Some(receipt)) => {
                    let cancels = attempt.cancels;
                    self.included(nonce, cancels, receipt).await;
                    return Receipt::Found;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, nonce, "cannot look for a receipt");
                    return Receipt::Unknown;
                }
            }
        }
        if let Some(open) = self.ledger.get_mut(nonce)
            && !matches!(open.standing, Standing::Missing { .. })
        {
            open.standing = Standing::Missing { since: head };
        }
        Receipt::None
    }

    async fn included(&mut self, nonce: u64, cancels: bool, receipt: TransactionReceipt) {
        let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else {
            return;
        };
        let Some(row) = self.rows.get_mut(&nonce) else { return };
        row.block = Some(number);
        row.state = RowState::Included;
        let (id, label) = (row.id, row.intent.label.clone());
        if let Some(open) = self.ledger.get_mut(nonce) {
            open.standing = Standing::Included { block: number };
        }
        let succeeded = receipt.status();
        tracing::info!(
            label,
            nonce,
            block = number,
            succeeded,
            cancels,
            gas = receipt.gas_used,
            "included"
        );
        let outcome = if cancels {
            self.metrics.cancelled.inc();
            Outcome::Cancelled
        } else {
            if succeeded {
                self.metrics.included.inc()
            } else {
                self.metrics.reverted.inc()
            };
            let included = Included {
                hash: receipt.transaction_hash,
                block: BlockReference { number, hash },
                gas_used: receipt.gas_used,
                gas_price: receipt.effective_gas_price,
                logs: receipt.inner.logs().to_vec(),
            };
            Outcome::Included { included, succeeded }
        };
        // The waiters first: the record only saves a restart some work.
        for waiter in self.waiters.remove(&nonce).unwrap_or_default() {
            let _ = waiter.send(outcome.clone());
        }
        self.ok();
        self.set_state(id, RowState::Included, Some(number)).await;
    }

    async fn forget(&mut self, nonce: u64) {
        self.ledger.forget(nonce);
        if let Some(row) = self.rows.remove(&nonce) {
            let cancelled = row.attempts.last().is_some_and(|attempt| attempt.cancels);
            let state = if cancelled {
                RowState::Cancelled
            } else {
                RowState::Final
            };
            self.set_state(row.id, state, row.block).await;
        }
    }

    async fn set_state(&self, id: i64, state: RowState, block: Option<u64>) {
        let written = self
            .store
            .write(move |transaction| table::set_state(transaction, id, state, block))
            .await;
        if let Err(error) = written {
            // The chain knows better than the record, and a restart asks the chain.
            tracing::error!(%error, "cannot record what became of a transaction");
        }
    }

    fn sign(&self, intent: &Intent, fees: Fees, cancels: bool) -> Result<Attempt, String> {
        let chain_id = self.endpoints.chain_id().ok_or("the chain id is not known yet")?;
        sending::sign(&self.signer, chain_id, intent, fees, cancels)
    }

    fn note(&mut self, nonce: u64, answer: &Answer) {
        match answer {
            Answer::Taken => {}
            // One of ours was included, or somebody else's: the next look asks for the receipts.
            Answer::NonceTooLow => tracing::debug!(nonce, "the node says that the nonce is used"),
            Answer::Underpriced | Answer::Occupied => {
                tracing::debug!(nonce, "the node wants a higher fee");
                if let Some(open) = self.ledger.get_mut(nonce) {
                    open.priced_at = 0;
                }
            }
            Answer::Refused(reason) => {
                tracing::warn!(nonce, "the node does not take a transaction that waits: {reason}");
                self.degraded(format!("a transaction waits that the node does not take: {reason}"));
            }
            Answer::Unreachable(reason) => tracing::warn!(nonce, "could not be sent, will be sent again: {reason}"),
        }
    }

    fn ok(&self) {
        if let Some(health) = &self.health {
            health.ok();
        }
    }

    fn degraded(&self, reason: String) {
        if let Some(health) = &self.health {
            health.degraded(reason);
        }
    }
}

fn patience(settings: &TransactionSettings) -> Patience {
    Patience {
        raise_after: settings.raise_after_blocks,
        send_again_after: 1,
        forget_after: settings.confirmations,
    }
}
