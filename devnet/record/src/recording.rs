//! What is written: the transactions to replay, the bytecode of everything, and the state they lead to.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use alloy_dyn_abi::FunctionExt;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use eyre::{ContextCompat, WrapErr, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chain::{Anvil, Receipt};
use crate::core::Deployment;
use crate::parameters::Parameters;
use crate::source::{Contract, Source};

/// How a devnet runs anvil: what a recording has to survive.
const DEVNET: [&str; 6] = [
    "--block-time",
    "1",
    "--prune-history",
    "300",
    "--slots-in-an-epoch",
    "2",
];

/// `core.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recording {
    /// Grows when a reader of the old form would misread the new one.
    pub format: u32,
    pub chain_id: u64,
    pub parameters: Parameters,
    /// Every deployed contract; proxies under the contract's name, what they run under `..._implementation`.
    pub addresses: BTreeMap<String, Address>,
    /// Code hashes after the replay, by address: what `verify` compares.
    pub code_hashes: BTreeMap<Address, B256>,
    /// In order, all from the deployer at nonces 0, 1, 2 ...
    pub transactions: Vec<Transaction>,
}

/// One signed transaction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Transaction {
    pub purpose: String,
    pub raw: Bytes,
}

impl Recording {
    /// Fetches the raw form of every step and the code of every contract.
    pub fn of(anvil: &Anvil, deployment: Deployment, parameters: Parameters) -> eyre::Result<Self> {
        let transactions = deployment
            .steps
            .into_iter()
            .map(|step| {
                let raw = anvil.request("eth_getRawTransactionByHash", json!([step.hash]))?;
                Ok(Transaction {
                    purpose: step.purpose,
                    raw,
                })
            })
            .collect::<eyre::Result<_>>()?;
        let mut code_hashes = BTreeMap::new();
        for address in deployment.addresses.values() {
            code_hashes.insert(*address, keccak256(anvil.code(*address)?));
        }
        let chain_id = parameters.chain.id;
        Ok(Self {
            format: 1,
            chain_id,
            parameters,
            addresses: deployment.addresses,
            code_hashes,
            transactions,
        })
    }

    /// Replays into a fresh anvil run as a devnet runs it, checks every contract and delay, and returns how long the replay
    /// took.
    pub fn verify(&self, anvil_program: &Path, source: &Source) -> eyre::Result<Duration> {
        let chain_id = self.chain_id.to_string();
        let arguments = [&DEVNET[..], &["--chain-id", &chain_id]].concat();
        let anvil = Anvil::start(anvil_program, &arguments)?;
        let started = Instant::now();
        self.replay(&anvil)?;
        let took = started.elapsed();

        for (address, expected) in &self.code_hashes {
            let found = keccak256(anvil.code(*address)?);
            ensure!(found == *expected, "{address} has other code after the replay");
        }
        let delays = &self.parameters.delays;
        self.expect(
            &anvil,
            source,
            ("AllocationManager", "allocation_manager"),
            "DEALLOCATION_DELAY",
            delays.deallocation,
        )?;
        let configuration = delays.allocation_configuration;
        let allocations = ("AllocationManager", "allocation_manager");
        self.expect(
            &anvil,
            source,
            allocations,
            "ALLOCATION_CONFIGURATION_DELAY",
            configuration,
        )?;
        let delegation = ("DelegationManager", "delegation_manager");
        self.expect(
            &anvil,
            source,
            delegation,
            "minWithdrawalDelayBlocks",
            delays.withdrawal,
        )?;
        Ok(took)
    }

    fn replay(&self, anvil: &Anvil) -> eyre::Result<()> {
        anvil.request::<Value>("evm_setAutomine", json!([true]))?;
        for transaction in &self.transactions {
            let receipt: Receipt = anvil
                .request("eth_sendRawTransactionSync", json!([transaction.raw]))
                .wrap_err_with(|| format!("replaying: {}", transaction.purpose))?;
            ensure!(
                receipt.status == alloy_primitives::U64::from(1),
                "reverted in the replay: {}",
                transaction.purpose
            );
        }
        anvil.request::<Value>("evm_setIntervalMining", json!([1]))?;
        Ok(())
    }

    fn expect(
        &self,
        anvil: &Anvil,
        source: &Source,
        (contract, key): (&str, &str),
        getter: &str,
        expected: u32,
    ) -> eyre::Result<()> {
        let contract = source.contract(contract)?;
        let address = *self
            .addresses
            .get(key)
            .wrap_err_with(|| format!("no {key} in the recording"))?;
        let answer = anvil.view(address, &contract.call(getter, &[])?)?;
        let values = contract.function(getter)?.abi_decode_output(&answer)?;
        let found = values
            .first()
            .and_then(|value| value.as_uint())
            .wrap_err("not a number")?
            .0;
        ensure!(
            found == alloy_primitives::U256::from(expected),
            "{getter} is {found}, not {expected}"
        );
        Ok(())
    }
}

/// A compiler artifact in Foundry's form, which `vm.getCode` and `vm.deployCode` take by path.
pub fn artifact(contract: &Contract) -> Value {
    json!({
        "contractName": contract.name,
        "abi": contract.abi,
        "bytecode": {"object": contract.creation},
        "deployedBytecode": {"object": contract.runtime},
    })
}

/// The recorded state as genesis allocations, which `vm.loadAllocs` takes: every deployed contract with its storage, no
/// balances, and nothing of anvil's own accounts and system contracts.
pub fn allocations(anvil: &Anvil, addresses: &BTreeMap<String, Address>) -> eyre::Result<Value> {
    let dump: Bytes = anvil.request("anvil_dumpState", json!([]))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&dump[..])
        .read_to_string(&mut text)
        .wrap_err("anvil's dump is not gzip")?;
    let state: Value = serde_json::from_str(&text).wrap_err("anvil's dump is not JSON")?;
    let accounts: BTreeMap<Address, Value> =
        serde_json::from_value(state["accounts"].clone()).wrap_err("anvil's dump has no accounts")?;
    let allocations = addresses
        .iter()
        .map(|(name, address)| {
            let account = accounts
                .get(address)
                .wrap_err_with(|| format!("anvil's dump lacks {name}"))?;
            let allocation =
                json!({"nonce": "0x1", "balance": "0x0", "code": account["code"], "storage": account["storage"]});
            Ok((address.to_string(), allocation))
        })
        .collect::<eyre::Result<serde_json::Map<_, _>>>()?;
    Ok(allocations.into())
}
