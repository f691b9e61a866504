//! Single-matchmaker mode: where governance named this operator's key in place of the quorum, it signs the digest with that key
//! and answers by itself.

pub(crate) mod bond;

use std::time::Duration;

use alloy::primitives::{Address, Bytes};
use alloy::providers::{Provider as _, RootProvider};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall as _, SolError as _};
use bindings::{IMatchingTaskManager, ISingleMatchmaker, Task};
use chain::{Call, SubmitError, Transactions};
use daemon::Shutdown;

use crate::aggregators::Sending;
use crate::tasks::Answer;

/// How often a refused answer is tried again: what stood against it (the bond is too small for now) may pass.
const RETRY: Duration = Duration::from_secs(1);

/// The key that decides alone, and where it sends from.
#[derive(Debug)]
pub(crate) struct Matchmaker {
    signer: PrivateKeySigner,
    transactions: Transactions,
    provider: RootProvider,
    task_manager: Address,
}

/// One answer on its way.
struct Response {
    call: Call,
    transactions: Transactions,
    provider: RootProvider,
    close_block: u32,
    chunk: u16,
    /// The last block that takes it.
    until: u64,
}

impl Matchmaker {
    pub(crate) fn new(
        signer: PrivateKeySigner,
        transactions: Transactions,
        provider: RootProvider,
        task_manager: Address,
    ) -> Self {
        Self {
            signer,
            transactions,
            provider,
            task_manager,
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs an answer and sends it until it is taken or of no use. `None` if it cannot be signed.
    pub(crate) fn send(&self, shutdown: &Shutdown, answer: &Answer, until: u64) -> Option<Sending> {
        let proof = proof(&self.signer, answer)
            .inspect_err(|error| tracing::error!(%error, "the answer cannot be signed"))
            .ok()?;
        let task = &answer.response;
        let call = IMatchingTaskManager::respondCall {
            task: Task {
                closeBlock: task.close_block,
                closeBlockHash: task.close_block_hash,
                chunk: task.chunk,
                paramsVersion: task.params_version,
            },
            matches: answer.matches.clone(),
            proof,
        };
        let label = format!("respond/{}/{}", task.close_block, task.chunk);
        let response = Response {
            call: Call::new(label, self.task_manager, call.abi_encode()).valid_until(until),
            transactions: self.transactions.clone(),
            provider: self.provider.clone(),
            close_block: task.close_block,
            chunk: task.chunk,
            until,
        };
        let (sending, stop) = Sending::new(shutdown);
        shutdown.spawn("answer of the matchmaker", async move {
            stop.run_until_cancelled_owned(response.deliver()).await;
        });
        Some(sending)
    }
}

/// The proof of a single matchmaker: its signature (r, s, v) of the digest. Deterministic (RFC 6979): signing again gives the same.
pub(crate) fn proof(signer: &PrivateKeySigner, answer: &Answer) -> alloy::signers::Result<Bytes> {
    let signature = signer.sign_hash_sync(&answer.digest)?;
    Ok(signature.as_bytes().to_vec().into())
}

impl Response {
    async fn deliver(self) {
        let (close_block, chunk) = (self.close_block, self.chunk);
        loop {
            match self.transactions.submit(self.call.clone()).await {
                Ok(included) => {
                    tracing::info!(
                        close_block,
                        chunk,
                        block = included.block.number,
                        gas = included.gas_used,
                        "answered as the matchmaker"
                    );
                    return;
                }
                Err(SubmitError::WouldRevert { data, .. })
                    if data.starts_with(&IMatchingTaskManager::TaskAlreadyAnswered::SELECTOR) =>
                {
                    tracing::debug!(close_block, chunk, "the task is answered");
                    return;
                }
                Err(SubmitError::WouldRevert { data, reason, .. })
                    if data.starts_with(&ISingleMatchmaker::BondTooSmall::SELECTOR) =>
                {
                    tracing::error!(
                        close_block,
                        chunk,
                        "the bond does not cover the answer yet: {reason}; add bond"
                    );
                }
                Err(error @ (SubmitError::ForeignNonce { .. } | SubmitError::Stopped { .. })) => {
                    tracing::error!(close_block, chunk, "not answered: {error}");
                    return;
                }
                Err(error) => tracing::error!(close_block, chunk, "not answered yet: {error}"),
            }
            tokio::time::sleep(RETRY).await;
            if self
                .provider
                .get_block_number()
                .await
                .is_ok_and(|head| head >= self.until)
            {
                tracing::error!(
                    close_block,
                    chunk,
                    "the response window is over: the task was not answered"
                );
                return;
            }
        }
    }
}
