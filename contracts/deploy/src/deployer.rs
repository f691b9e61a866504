//! Deploys contracts from their artifacts, one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, Bytes, hex};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use serde::Deserialize;

use crate::DeployError;
use crate::sender::Sender;

/// Where bytecode comes from.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// Foundry's `out`.
    pub contracts: PathBuf,
    /// EigenLayer's `bytecode`, as `script/setup` recorded it.
    pub eigenlayer: PathBuf,
    /// Permit2's code, as `script/setup` fetched it.
    pub permit2: PathBuf,
}

/// Copies what comes after it into the new contract: PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN.
/// The length goes into its second and third byte.
const DEPLOYING_PREFIX: [u8; 10] = [0x61, 0, 0, 0x80, 0x60, 10, 0x3d, 0x39, 0x3d, 0xf3];

#[derive(Deserialize)]
struct DeployedCode {
    bytecode: Bytes,
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

    /// What creates a Permit2. Its code caches no domain, so that it is right at any address.
    fn permit2(&self) -> Result<Bytes, DeployError> {
        let malformed = |problem: String| DeployError::Artifact {
            path: self.permit2.display().to_string(),
            problem,
        };
        let text = std::fs::read(&self.permit2).map_err(|error| malformed(format!("{error}; run script/setup")))?;
        let deployed: DeployedCode = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        let length = u16::try_from(deployed.bytecode.len()).map_err(|error| malformed(error.to_string()))?;
        let mut code = DEPLOYING_PREFIX.to_vec();
        code[1..3].copy_from_slice(&length.to_be_bytes());
        code.extend_from_slice(&deployed.bytecode);
        Ok(code.into())
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
    pub(crate) sender: Sender<P>,
    pub(crate) artifacts: Artifacts,
    pub(crate) address: Address,
    /// Read once: bytecode by name.
    codes: BTreeMap<String, Bytes>,
}

impl<P: Provider> Deployer<P> {
    pub(crate) async fn new(provider: P, signer: PrivateKeySigner, artifacts: Artifacts) -> Result<Self, DeployError> {
        let sender = Sender::new(provider, signer).await?;
        Ok(Self {
            address: sender.address,
            sender,
            artifacts,
            codes: BTreeMap::new(),
        })
    }

    pub(crate) fn provider(&self) -> &P {
        &self.sender.provider
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.sender.chain_id
    }

    /// The address of the contract that the `ahead`-th next transaction creates, counted from zero.
    pub(crate) fn next_address(&self, ahead: u64) -> Address {
        self.sender.next_address(ahead)
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

    /// Deploys Uniswap's Permit2, where it is not at its canonical address.
    pub(crate) async fn deploy_permit2(&mut self) -> Result<Address, DeployError> {
        let code = self.artifacts.permit2()?;
        self.create("Permit2", code, Vec::new()).await
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
            .sender
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
        self.sender.call(what, to, call.abi_encode()).await
    }
}
