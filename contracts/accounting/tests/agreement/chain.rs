//! A chain in memory: forge's artifacts in an EVM, every call a transaction under the limits of the real one.

use std::{env, fs, io, path::PathBuf};

use alloy_primitives::{Address, Bytes, U256, hex};
use alloy_sol_types::SolCall;
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    context::{
        TxEnv,
        result::{ExecutionResult, Output},
    },
    database::{CacheDB, EmptyDB},
    handler::MainnetContext,
    primitives::{TxKind, hardfork::SpecId},
    state::{AccountInfo, Bytecode},
};

pub(crate) const CHAIN_ID: u64 = 1;
/// What one transaction may take (EIP-7825).
const TRANSACTION_GAS: u64 = 16_777_216;

/// State, to go on from again and again.
pub(crate) type State = CacheDB<EmptyDB>;

pub(crate) struct Chain {
    evm: MainnetEvm<MainnetContext<State>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("{}: the contracts are not built; run `forge build` in contracts", .path.display())]
    NotBuilt {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: Permit2 is missing; run script/setup", .path.display())]
    NoPermit2 {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: not an artifact; run `forge build --force` in contracts", .path.display())]
    NotAnArtifact { path: PathBuf },
}

/// Why a transaction changed nothing: what the contract said.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// A custom error.
    Error(Bytes),
    /// Anything that no contract of ours says on purpose: a panic, no reason, gas.
    Fault(String),
}

impl Chain {
    pub(crate) fn new(state: State) -> Self {
        let evm = Context::mainnet()
            .with_db(state)
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
                cfg.chain_id = CHAIN_ID;
                cfg.disable_nonce_check = true;
                // The registry adds fizz nodes.
                cfg.disable_eip3607 = true;
            })
            .build_mainnet();
        Self { evm }
    }

    pub(crate) fn state(&self) -> State {
        self.evm.ctx.journaled_state.database.clone()
    }

    /// Later transactions are in this block.
    pub(crate) fn set_block(&mut self, number: u64, timestamp: u64) {
        self.evm.ctx.block.number = U256::from(number);
        self.evm.ctx.block.timestamp = U256::from(timestamp);
    }

    // ------------------------------------------------------------- deploying

    /// Deploys an artifact of forge.
    ///
    /// # Panics
    /// If the constructor reverts.
    pub(crate) fn deploy(&mut self, deployer: Address, name: &str, arguments: &[u8]) -> Result<Address, ChainError> {
        let mut code = creation_code(name)?;
        code.extend_from_slice(arguments);
        let result = self
            .evm
            .transact_commit(transaction(deployer, TxKind::Create, code.into()));
        match result.expect("the transaction is well formed") {
            ExecutionResult::Success {
                output: Output::Create(_, Some(address)),
                ..
            } => Ok(address),
            other => panic!("{name} cannot be deployed: {other:?}"),
        }
    }

    /// Where the deployer's next contract but `further` will be.
    pub(crate) fn next_address(&self, deployer: Address, further: u64) -> Address {
        let accounts = &self.evm.ctx.journaled_state.database.cache.accounts;
        let nonce = accounts.get(&deployer).map_or(0, |account| account.info.nonce);
        deployer.create(nonce + further)
    }

    /// Puts code at an address, past everything.
    pub(crate) fn put_code(&mut self, address: Address, code: Vec<u8>) {
        let info = AccountInfo::from_bytecode(Bytecode::new_raw(code.into()));
        self.evm.ctx.journaled_state.database.insert_account_info(address, info);
    }

    /// Writes a storage slot, past everything.
    pub(crate) fn put_storage(&mut self, address: Address, slot: u64, value: U256) {
        let written = self
            .evm
            .ctx
            .journaled_state
            .database
            .insert_account_storage(address, U256::from(slot), value);
        written.unwrap_or_else(|never| match never {});
    }

    // --------------------------------------------------------------- calling

    /// Sends a transaction.
    pub(crate) fn send(&mut self, from: Address, to: Address, data: Vec<u8>) -> Result<Bytes, Refused> {
        let result = self
            .evm
            .transact_commit(transaction(from, TxKind::Call(to), data.into()));
        outcome(result.expect("the transaction is well formed"))
    }

    /// Sends a transaction that must succeed.
    pub(crate) fn must<Call: SolCall>(&mut self, from: Address, to: Address, call: Call) -> Call::Return {
        let output = self.send(from, to, call.abi_encode());
        let output = output.unwrap_or_else(|refused| panic!("{} fails: {refused:?}", Call::SIGNATURE));
        Call::abi_decode_returns(&output).expect("the answer has the declared types")
    }

    /// Asks without changing anything.
    pub(crate) fn ask<Call: SolCall>(&mut self, to: Address, call: Call) -> Call::Return {
        let asked = transaction(Address::repeat_byte(0x22), TxKind::Call(to), call.abi_encode().into());
        let result = self.evm.transact(asked).expect("the transaction is well formed").result;
        let output = outcome(result).unwrap_or_else(|refused| panic!("{} fails: {refused:?}", Call::SIGNATURE));
        Call::abi_decode_returns(&output).expect("the answer has the declared types")
    }
}

fn transaction(from: Address, kind: TxKind, data: Bytes) -> TxEnv {
    let built = TxEnv::builder()
        .caller(from)
        .kind(kind)
        .chain_id(Some(CHAIN_ID))
        .gas_limit(TRANSACTION_GAS)
        .data(data)
        .build();
    built.expect("every field is given")
}

fn outcome(result: ExecutionResult) -> Result<Bytes, Refused> {
    const PANIC: [u8; 4] = [0x4e, 0x48, 0x7b, 0x71];
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } if output.len() >= 4 && !output.starts_with(&PANIC) => {
            Err(Refused::Error(output))
        }
        other => Err(Refused::Fault(format!("{other:?}"))),
    }
}

/// Uniswap's Permit2, as it is after its deployment.
pub(crate) fn permit2_code() -> Result<Vec<u8>, ChainError> {
    let path = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../.local/permit2/Permit2.json"
    ));
    let text = fs::read_to_string(&path).map_err(|source| ChainError::NoPermit2 {
        path: path.clone(),
        source,
    })?;
    let artifact: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let code = artifact.and_then(|artifact| hex::decode(artifact["bytecode"].as_str()?).ok());
    code.ok_or(ChainError::NotAnArtifact { path })
}

/// `ACCOUNTING_ARTIFACTS` names another folder than `contracts/out`: of contracts that somebody broke on purpose, say.
fn creation_code(name: &str) -> Result<Vec<u8>, ChainError> {
    let folder = env::var_os("ACCOUNTING_ARTIFACTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../out")),
        PathBuf::from,
    );
    let path = folder.join(format!("{name}.sol/{name}.json"));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(ChainError::NotBuilt { path, source }),
    };
    let artifact: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let code = artifact.and_then(|artifact| hex::decode(artifact["bytecode"]["object"].as_str()?).ok());
    code.filter(|code| !code.is_empty())
        .ok_or(ChainError::NotAnArtifact { path })
}

impl Refused {
    /// The error's name where it is one of the interfaces, and its words.
    pub(crate) fn explain(&self) -> String {
        match self {
            Self::Error(data) => {
                crate::abi::name_of_error(data).map_or_else(|| data.to_string(), |name| format!("{name} {data}"))
            }
            Self::Fault(reason) => reason.clone(),
        }
    }
}
