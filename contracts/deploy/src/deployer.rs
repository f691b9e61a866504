//! Sends one transaction after the other from one key, each confirmed before the next depends on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes, hex};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use serde::Deserialize;

use crate::DeployError;

/// How long one transaction may take to be mined.
const MINED_DEADLINE: Duration = Duration::from_secs(120);

/// Where bytecode comes from.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// Foundry's `out`.
    pub contracts: PathBuf,
    /// EigenLayer's `bytecode`, as `script/setup` recorded it.
    pub eigenlayer: PathBuf,
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytecode,
}

#[derive(Deserialize)]
struct Bytecode {
    object: String,
}

impl Artifacts {
    pub(crate) fn ours(&self, name: &str) -> Result<Bytes, DeployError> {
        read(&self.contracts.join(format!("{name}.sol")).join(format!("{name}.json")))
    }

    pub(crate) fn eigenlayer(&self, name: &str) -> Result<Bytes, DeployError> {
        read(&self.eigenlayer.join(format!("{name}.json")))
    }
}

fn read(path: &Path) -> Result<Bytes, DeployError> {
    let malformed = |problem: String| DeployError::Artifact {
        path: path.display().to_string(),
        problem,
    };
    let text = std::fs::read(path)
        .map_err(|error| malformed(format!("{error}; run script/setup and `forge build` in contracts/")))?;
    let artifact: Artifact = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    hex::decode(&artifact.bytecode.object)
        .map(Bytes::from)
        .map_err(|_| malformed("its bytecode is not linked hex".into()))
}

pub(crate) struct Deployer<P> {
    pub(crate) provider: P,
    pub(crate) artifacts: Artifacts,
    wallet: EthereumWallet,
    pub(crate) address: Address,
    chain_id: u64,
    nonce: u64,
    /// Read once: bytecode by name.
    codes: BTreeMap<String, Bytes>,
}

impl<P: Provider> Deployer<P> {
    pub(crate) async fn new(provider: P, signer: PrivateKeySigner, artifacts: Artifacts) -> Result<Self, DeployError> {
        let address = signer.address();
        let chain_id = provider.get_chain_id().await?;
        let nonce = provider.get_transaction_count(address).pending().await?;
        Ok(Self {
            provider,
            artifacts,
            wallet: signer.into(),
            address,
            chain_id,
            nonce,
            codes: BTreeMap::new(),
        })
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The address of the contract that the `ahead`-th next transaction creates, counted from zero.
    pub(crate) fn next_address(&self, ahead: u64) -> Address {
        self.address.create(self.nonce + ahead)
    }

    /// Deploys one of our contracts.
    pub(crate) async fn deploy(&mut self, name: &str, arguments: Vec<u8>) -> Result<Address, DeployError> {
        let code = self.artifacts.ours(name)?;
        self.create(name, code, arguments).await
    }

    /// Deploys one of ours behind an ERC-1967 proxy that it initialises.
    pub(crate) async fn deploy_proxied(
        &mut self,
        name: &str,
        arguments: Vec<u8>,
        initialise: Vec<u8>,
    ) -> Result<Address, DeployError> {
        let implementation = self.deploy(name, arguments).await?;
        let code = self.artifacts.ours("ERC1967Proxy")?;
        let arguments = (implementation, Bytes::from(initialise)).abi_encode_params();
        self.create(&format!("proxy of {name}"), code, arguments).await
    }

    /// Deploys one of EigenLayer's contracts.
    pub(crate) async fn deploy_eigenlayer(&mut self, name: &str, arguments: Vec<u8>) -> Result<Address, DeployError> {
        let code = match self.codes.get(name) {
            Some(code) => code.clone(),
            None => {
                let code = self.artifacts.eigenlayer(name)?;
                self.codes.insert(name.to_owned(), code.clone());
                code
            }
        };
        self.create(name, code, arguments).await
    }

    async fn create(&mut self, what: &str, code: Bytes, arguments: Vec<u8>) -> Result<Address, DeployError> {
        let mut input = code.to_vec();
        input.extend(arguments);
        let expected = self.next_address(0);
        let receipt = self
            .send(what, TransactionRequest::default().with_deploy_code(input))
            .await?;
        debug_assert_eq!(receipt.contract_address, Some(expected), "nonces are ours alone");
        Ok(expected)
    }

    /// Calls a contract in a transaction.
    pub(crate) async fn call(
        &mut self,
        what: &str,
        to: Address,
        call: &impl SolCall,
    ) -> Result<TransactionReceipt, DeployError> {
        self.send(
            what,
            TransactionRequest::default().with_to(to).with_input(call.abi_encode()),
        )
        .await
    }

    async fn send(&mut self, what: &str, request: TransactionRequest) -> Result<TransactionReceipt, DeployError> {
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
                    data.and_then(|data| bindings::describe_revert(&data))
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
