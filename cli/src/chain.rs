//! The chain, for a program that runs once: reads that fall over from one endpoint to the next, and transactions that are
//! sent one after the other and waited for. (Agents use the persisted actor of `::chain` instead.)

mod gas;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ::chain::network::Network;
use ::chain::{Endpoints, RpcSettings, reverts};
use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::contract::{CallBuilder, CallDecoder};
use alloy::eips::BlockNumberOrTag;
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{TransactionBuilder as _, TxSignerSync as _};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::TransportError;
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use url::Url;

use crate::sentences::sentence;

/// How often a receipt is asked for.
const RECEIPT_PERIOD: Duration = Duration::from_millis(50);
/// How long a transaction may take to be included.
const INCLUSION_LIMIT: Duration = Duration::from_secs(300);
/// How often a transaction is signed again because another program used its nonce.
const NONCE_ATTEMPTS: usize = 4;

/// The chain of a network.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) network: Network,
    pub(crate) provider: RootProvider,
    /// What this command sends, oldest first: what an interruption tells.
    journal: Rc<RefCell<Vec<Underway>>>,
    /// Gwei for a unit of gas. What is to be paid for gas is an endpoint's word, and whoever mines the block gets it.
    most_gwei: u64,
}

/// How far a transaction of this command came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Handed to an endpoint that has not answered yet.
    Sending,
    Sent,
    Included,
    Reverted,
}

/// A transaction of this command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Underway {
    pub(crate) purpose: &'static str,
    pub(crate) hash: B256,
    pub(crate) progress: Progress,
}

/// A call to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What it does, for people: `to open an account`.
    purpose: &'static str,
    to: Address,
    data: Bytes,
}

impl Call {
    pub(crate) fn new(purpose: &'static str, to: Address, call: &impl SolCall) -> Self {
        Self {
            purpose,
            to,
            data: call.abi_encode().into(),
        }
    }
}

/// A transaction on its way.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    call: Call,
    nonce: u64,
    pub(crate) hash: B256,
}

/// Why a call was not sent.
enum Refusal {
    /// It would revert as things stand.
    Reverts(String),
    /// Somebody used its nonce.
    NonceTaken,
    Other(eyre::Report),
}

impl Chain {
    /// Prepares the endpoints; the first read connects.
    pub(crate) fn new(network: Network, most_gwei: u64) -> eyre::Result<Self> {
        let urls: Result<Vec<Url>, _> = network.rpc.iter().map(|url| url.parse()).collect();
        let mut settings = RpcSettings::new(
            urls.wrap_err_with(|| format!("network {} has an RPC endpoint that is no URL", network.name))?,
        );
        settings.chain_id = Some(network.chain_id);
        let provider = Endpoints::new(&settings)?.provider();
        Ok(Self {
            network,
            provider,
            journal: Rc::default(),
            most_gwei,
        })
    }

    /// One whose node gives these answers, in the order in which they are asked for.
    #[cfg(test)]
    pub(crate) fn answering(network: Network, answers: &[serde_json::Value]) -> Self {
        let asserter = alloy::providers::mock::Asserter::new();
        for answer in answers {
            asserter.push_success(answer);
        }
        Self {
            network,
            provider: RootProvider::new(alloy::rpc::client::RpcClient::mocked(asserter)),
            journal: Rc::default(),
            most_gwei: 500,
        }
    }

    /// All that this command has sent so far.
    pub(crate) fn journal(&self) -> Vec<Underway> {
        self.journal.borrow().clone()
    }

    fn note_progress(&self, hash: B256, progress: Progress) {
        let mut journal = self.journal.borrow_mut();
        if let Some(found) = journal.iter_mut().find(|underway| underway.hash == hash) {
            found.progress = progress;
        }
    }

    /// Sends calls in order and waits until all are included. Each is tried first, on top of those before it.
    pub(crate) async fn execute(
        &self,
        signer: &PrivateKeySigner,
        calls: Vec<Call>,
    ) -> eyre::Result<Vec<TransactionReceipt>> {
        let mut sent: Vec<Sent> = Vec::with_capacity(calls.len());
        let mut receipts = Vec::with_capacity(calls.len());
        for call in calls {
            let previous = sent.last().map(|sent| sent.nonce);
            let outcome = match self.submit(signer, &call, previous).await {
                // A node that does not try on top of pending transactions needs those before it included.
                Err(Refusal::Reverts(_)) if receipts.len() < sent.len() => {
                    for before in sent.iter().skip(receipts.len()).cloned().collect::<Vec<_>>() {
                        receipts.push(self.receipt(&before).await?);
                    }
                    self.submit(signer, &call, None).await
                }
                outcome => outcome,
            };
            sent.push(outcome.map_err(|refusal| refusal.explain(&call))?);
        }
        for sent in sent.iter().skip(receipts.len()) {
            receipts.push(self.receipt(sent).await?);
        }
        Ok(receipts)
    }

    /// Sends one call without waiting for it.
    pub(crate) async fn send(&self, signer: &PrivateKeySigner, call: &Call) -> eyre::Result<Sent> {
        self.submit(signer, call, None)
            .await
            .map_err(|refusal| refusal.explain(call))
    }

    async fn submit(&self, signer: &PrivateKeySigner, call: &Call, previous: Option<u64>) -> Result<Sent, Refusal> {
        let mut previous = previous;
        for _ in 0..NONCE_ATTEMPTS {
            match self.submit_once(signer, call, previous).await {
                Err(Refusal::NonceTaken) => previous = None,
                outcome => return outcome,
            }
        }
        Err(Refusal::Other(eyre::eyre!(
            "another program sends transactions with the key of {} at the same time; try again when it is done",
            signer.address()
        )))
    }

    async fn submit_once(
        &self,
        signer: &PrivateKeySigner,
        call: &Call,
        previous: Option<u64>,
    ) -> Result<Sent, Refusal> {
        let sender = signer.address();
        let request = TransactionRequest::default()
            .with_from(sender)
            .with_to(call.to)
            .with_input(call.data.clone());
        let nonce = async {
            match previous {
                Some(previous) => Ok(previous + 1),
                None => self.provider.get_transaction_count(sender).pending().await,
            }
        };
        let (nonce, gas, fees, held) = tokio::join!(
            nonce,
            async {
                self.provider
                    .estimate_gas(request)
                    .block(BlockNumberOrTag::Pending.into())
                    .await
            },
            async { self.provider.estimate_eip1559_fees().await },
            // What is on its way is paid for already.
            async { self.provider.get_balance(sender).pending().await },
        );
        let gas = gas.map_err(|error| self.judge(error, sender))?;
        let (nonce, fees, held) = (
            nonce.map_err(|error| self.judge(error, sender))?,
            fees.map_err(|error| self.judge(error, sender))?,
            held.map_err(|error| self.judge(error, sender))?,
        );
        gas::believable(fees.max_fee_per_gas, self.most_gwei).map_err(Refusal::Other)?;
        // What is included before may change what the call does: closing a lease costs two new credits more once its payout
        // hold is over. Gas that is not used is not paid for.
        let gas_limit = gas.saturating_add(gas / 5).saturating_add(80_000);
        // A node that does not look takes the transaction, and never includes it.
        let cost = U256::from(gas_limit) * U256::from(fees.max_fee_per_gas);
        gas::affordable(&self.network, sender, held, cost).map_err(Refusal::Other)?;
        let mut transaction = TxEip1559 {
            chain_id: self.network.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(call.to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: call.data.clone(),
        };
        let signature = signer
            .sign_transaction_sync(&mut transaction)
            .map_err(|error| Refusal::Other(eyre::Report::new(error).wrap_err("cannot sign")))?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let hash = *envelope.tx_hash();
        self.journal.borrow_mut().push(Underway {
            purpose: call.purpose,
            hash,
            progress: Progress::Sending,
        });
        match self.provider.send_raw_transaction(&envelope.encoded_2718()).await {
            Ok(_) => {}
            // An endpoint that broke off may have passed it on; the receipt will tell.
            Err(error) if says(&error, &["already known", "already imported"]) => {}
            Err(error) => {
                self.journal.borrow_mut().retain(|underway| underway.hash != hash);
                return Err(self.judge(error, sender));
            }
        }
        self.note_progress(hash, Progress::Sent);
        Ok(Sent {
            call: call.clone(),
            nonce,
            hash,
        })
    }

    /// Waits until a transaction is included, and fails with the reason if it reverted.
    pub(crate) async fn receipt(&self, sent: &Sent) -> eyre::Result<TransactionReceipt> {
        let deadline = Instant::now() + INCLUSION_LIMIT;
        let receipt = loop {
            if let Some(receipt) = self
                .provider
                .get_transaction_receipt(sent.hash)
                .await
                .wrap_err("cannot read the chain")?
            {
                break receipt;
            }
            ensure!(
                Instant::now() < deadline,
                "the transaction {} {} was sent and not included within {} s; it may still be",
                sent.hash,
                sent.call.purpose,
                INCLUSION_LIMIT.as_secs()
            );
            tokio::time::sleep(RECEIPT_PERIOD).await;
        };
        if receipt.status() {
            self.note_progress(sent.hash, Progress::Included);
            return Ok(receipt);
        }
        self.note_progress(sent.hash, Progress::Reverted);
        let request = TransactionRequest::default()
            .with_from(receipt.from)
            .with_to(sent.call.to)
            .with_input(sent.call.data.clone());
        let before = receipt.block_number.unwrap_or_default().saturating_sub(1);
        let reason = match self
            .provider
            .call(request)
            .block(BlockNumberOrTag::Number(before).into())
            .await
        {
            Err(error) => reverts::data_of(&error).map(|data| sentence(&data, Some(&self.network))),
            Ok(_) => None,
        };
        bail!(
            "the transaction {} {} reverted: {}",
            sent.hash,
            sent.call.purpose,
            reason.unwrap_or_else(|| "because of what was included before it".to_owned())
        )
    }

    fn judge(&self, error: TransportError, sender: Address) -> Refusal {
        if says(
            &error,
            &[
                "nonce too low",
                "replacement transaction underpriced",
                "nonce has already been used",
            ],
        ) {
            return Refusal::NonceTaken;
        }
        if says(&error, &["insufficient funds", "insufficient balance for transfer"]) {
            return Refusal::Other(eyre::eyre!(
                "{sender} has not enough ether on {} for the transaction's gas, beside what it sent before; {}",
                self.network.name,
                gas::way_to_ether(&self.network, sender)
            ));
        }
        if let Some(data) = reverts::data_of(&error) {
            return Refusal::Reverts(sentence(&data, Some(&self.network)));
        }
        Refusal::Other(match error.as_error_resp() {
            Some(response) => eyre::eyre!("the node refused: {}", response.message),
            None => eyre::Report::new(error).wrap_err("cannot reach the chain"),
        })
    }

    /// A name of this deployment of the contracts: devnets come and go with the same addresses and the same chain id.
    pub(crate) async fn deployment(&self) -> eyre::Result<String> {
        let number = BlockNumberOrTag::Number(self.network.deployed_at);
        let block = self
            .provider
            .get_block_by_number(number)
            .await
            .wrap_err("cannot read the chain")?;
        let block = block.ok_or_else(|| {
            eyre::eyre!(
                "the chain at {} has no block {}, in which {} was deployed; is the network file of another chain?",
                self.network.rpc.first().map(String::as_str).unwrap_or_default(),
                self.network.deployed_at,
                self.network.name
            )
        })?;
        let hash = alloy::primitives::hex::encode(&block.header.hash[..6]);
        let name: String = self
            .network
            .name
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric())
            .take(32)
            .collect();
        Ok(format!("{name}-{hash}"))
    }

    /// Number and timestamp of the newest block.
    pub(crate) async fn head(&self) -> eyre::Result<(u64, u64)> {
        let block = self
            .provider
            .get_block_by_number(BlockNumberOrTag::Latest)
            .await
            .wrap_err("cannot read the chain")?;
        let header = block.ok_or_eyre("the chain has no block")?.header;
        Ok((header.number, header.timestamp))
    }
}

impl Refusal {
    fn explain(self, call: &Call) -> eyre::Report {
        let purpose = call.purpose;
        match self {
            Self::Reverts(reason) => {
                eyre::eyre!("the contract refuses the transaction {purpose}: {reason}; nothing was sent")
            }
            Self::NonceTaken => eyre::eyre!("the nonce of the transaction {purpose} was used by another program"),
            Self::Other(report) => report.wrap_err(format!("cannot send the transaction {purpose}")),
        }
    }
}

/// Whether a node's refusal has one of these words: nodes agree on the words, not on the codes.
fn says(error: &TransportError, words: &[&str]) -> bool {
    let Some(response) = error.as_error_resp() else {
        return false;
    };
    let message = response.message.to_ascii_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// A read of a contract, with its revert as a sentence.
pub(crate) async fn read<P: Provider, D: CallDecoder + Unpin>(call: CallBuilder<P, D>) -> eyre::Result<D::CallOutput> {
    call.call().await.map_err(|error| {
        let revert = match &error {
            alloy::contract::Error::TransportError(error) => reverts::data_of(error),
            _ => None,
        };
        match revert {
            Some(data) => eyre::eyre!("the contract refuses: {}", sentence(&data, None)),
            None => eyre::Report::new(error).wrap_err("cannot read the chain"),
        }
    })
}
