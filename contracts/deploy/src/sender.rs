//! Sends one transaction after the other from one key, each confirmed before the next depends on it.

use std::time::{Duration, Instant};

use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, B256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;

use crate::{DeployError, contracts};

/// How long one transaction may take to be mined.
const MINED_DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Sender<P> {
    pub(crate) provider: P,
    wallet: EthereumWallet,
    pub(crate) address: Address,
    pub(crate) chain_id: u64,
    nonce: u64,
}

impl<P: Provider> Sender<P> {
    pub(crate) async fn new(provider: P, signer: PrivateKeySigner) -> Result<Self, DeployError> {
        let address = signer.address();
        let chain_id = provider.get_chain_id().await?;
        let nonce = provider.get_transaction_count(address).pending().await?;
        Ok(Self {
            provider,
            wallet: signer.into(),
            address,
            chain_id,
            nonce,
        })
    }

    /// The address of the contract that the `ahead`-th next transaction creates, counted from zero.
    pub(crate) fn next_address(&self, ahead: u64) -> Address {
        self.address.create(self.nonce + ahead)
    }

    /// Calls a contract in a transaction.
    pub(crate) async fn call(
        &mut self,
        what: &str,
        to: Address,
        input: Vec<u8>,
    ) -> Result<TransactionReceipt, DeployError> {
        self.send(what, TransactionRequest::default().with_to(to).with_input(input))
            .await
    }

    pub(crate) async fn send(
        &mut self,
        what: &str,
        request: TransactionRequest,
    ) -> Result<TransactionReceipt, DeployError> {
        let failed = |problem: String| DeployError::Transaction {
            what: what.to_owned(),
            problem,
        };
        let request = request.with_from(self.address);
        let gas = self
            .provider
            .estimate_gas(request.clone())
            .pending()
            .await
            .map_err(|error| {
                let data = error.as_error_resp().and_then(|response| response.as_revert_data());
                failed(
                    data.and_then(|data| {
                        contracts::describe_refusal(&data).or_else(|| bindings::describe_revert(&data))
                    })
                    .unwrap_or_else(|| error.to_string()),
                )
            })?;
        let fees = self.provider.estimate_eip1559_fees().await?;
        let request = request
            .with_nonce(self.nonce)
            .with_chain_id(self.chain_id)
            .with_gas_limit(gas + gas / 4)
            .with_max_fee_per_gas(fees.max_fee_per_gas)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
        let signed = request
            .build(&self.wallet)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let hash = *self
            .provider
            .send_raw_transaction(&signed.encoded_2718())
            .await?
            .tx_hash();
        self.nonce += 1;
        let receipt = self.mined(what, hash).await?;
        if receipt.status() {
            tracing::debug!(what, gas = receipt.gas_used, "deployment step");
            return Ok(receipt);
        }
        Err(failed(format!("transaction {hash} reverted")))
    }

    async fn mined(&self, what: &str, hash: B256) -> Result<TransactionReceipt, DeployError> {
        let deadline = Instant::now() + MINED_DEADLINE;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(receipt) = self.provider.get_transaction_receipt(hash).await? {
                return Ok(receipt);
            }
            if Instant::now() > deadline {
                return Err(DeployError::Transaction {
                    what: what.to_owned(),
                    problem: format!("transaction {hash} was not mined within {} s", MINED_DEADLINE.as_secs()),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}
