//! EigenLayer's core, deployed from nothing. The order follows the package's own `deploy_core_contracts`, with three
//! differences: delays are not zero, pausers exist, and the beacon of the pods is a beacon.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, Bytes};
use eyre::{ContextCompat, WrapErr};

use crate::chain::Anvil;
use crate::parameters::Parameters;
use crate::source::Source;

/// Where the linked coordinator expects its libraries: (path in the compiler's input, contract).
const LIBRARIES: [(&str, &str); 2] = [
    ("src/libraries/QuorumBitmapHistoryLib.sol", "QuorumBitmapHistoryLib"),
    ("src/libraries/SignatureCheckerLib.sol", "SignatureCheckerLib"),
];

/// One recorded step, before its raw form is fetched.
#[derive(Debug)]
pub struct Step {
    /// What it does, for people who read a recording or a failed replay.
    pub purpose: String,
    pub hash: B256,
}

/// What a deployment left behind.
#[derive(Debug, Default)]
pub struct Deployment {
    pub steps: Vec<Step>,
    /// Every contract by the name its users look it up under.
    pub addresses: BTreeMap<String, Address>,
}

/// Deploys everything, and links the registry coordinator in `source` against the libraries deployed here.
pub fn deploy(anvil: &Anvil, source: &mut Source, parameters: &Parameters) -> eyre::Result<Deployment> {
    let mut deployer = Deployer {
        anvil,
        source,
        parameters,
        deployment: Deployment::default(),
    };
    deployer.core()?;
    deployer.shared_with_the_middleware()?;
    let deployment = deployer.deployment;

    let mut libraries = Vec::new();
    for (path, name) in LIBRARIES {
        libraries.push((
            path,
            *deployment
                .addresses
                .get(&key(name))
                .wrap_err("a library was not deployed")?,
        ));
    }
    source.link_coordinator(&libraries)?;
    Ok(deployment)
}

struct Deployer<'a> {
    anvil: &'a Anvil,
    source: &'a Source,
    parameters: &'a Parameters,
    deployment: Deployment,
}

impl Deployer<'_> {
    fn core(&mut self) -> eyre::Result<()> {
        let owner = self.parameters.chain.deployer.to_string();
        let version = self.parameters.contracts.version.clone();
        let delays = self.parameters.delays.clone();
        let rewards = self.parameters.rewards.clone();
        let genesis = self.parameters.contracts.pod_genesis_time.to_string();
        // No beacon chain: pods can be created by nobody, everything else works without them.
        let beacon_deposit = Address::ZERO.to_string();
        let unpaused = "0".to_owned();

        let admin = self.create("ProxyAdmin", &[])?;
        let empty = self.create("EmptyContract", &[])?;
        let mut proxy = |name: &str| self.create_as(name, "TransparentUpgradeableProxy", &[&empty, &admin, "0x"]);
        let delegation = proxy("DelegationManager")?;
        proxy("AVSDirectory")?;
        let strategies = proxy("StrategyManager")?;
        let allocations = proxy("AllocationManager")?;
        proxy("RewardsCoordinator")?;
        let factory = proxy("StrategyFactory")?;
        let pods = proxy("EigenPodManager")?;
        let permissions = proxy("PermissionController")?;

        let pauser = self.create("PauserRegistry", &[&format!("[{owner}]"), &owner])?;
        let withdrawal = delays.withdrawal.to_string();
        self.implement(
            "DelegationManager",
            &[
                &strategies,
                &pods,
                &allocations,
                &pauser,
                &permissions,
                &withdrawal,
                &version,
            ],
            &[&owner, &unpaused],
        )?;
        self.implement(
            "StrategyManager",
            &[&delegation, &pauser, &version],
            // The factory may whitelist what it deploys.
            &[&owner, &factory, &unpaused],
        )?;
        self.implement("PermissionController", &[&version], &[])?;
        self.implement("AVSDirectory", &[&delegation, &pauser, &version], &[&owner, &unpaused])?;
        self.implement(
            "AllocationManager",
            &[
                &delegation,
                &pauser,
                &permissions,
                &delays.deallocation.to_string(),
                &delays.allocation_configuration.to_string(),
                &version,
            ],
            &[&owner, &unpaused],
        )?;
        let construction = format!(
            "({delegation},{strategies},{allocations},{pauser},{permissions},{},{},{},{},{},\"{version}\")",
            rewards.calculation_interval,
            rewards.maximum_duration,
            rewards.maximum_retroactive_length,
            rewards.maximum_future_length,
            rewards.genesis_timestamp,
        );
        self.implement(
            "RewardsCoordinator",
            &[&construction],
            &[
                &owner,
                &unpaused,
                &owner,
                &rewards.activation_delay.to_string(),
                &rewards.default_split.to_string(),
            ],
        )?;

        let strategy = self.create_as(
            "StrategyBaseImplementation",
            "StrategyBase",
            &[&strategies, &pauser, &version],
        )?;
        let strategy_beacon = self.create_as("StrategyBeacon", "UpgradeableBeacon", &[&strategy])?;
        self.implement(
            "StrategyFactory",
            &[&strategies, &pauser, &version],
            &[&owner, &unpaused, &strategy_beacon],
        )?;

        let pod = self.create_as(
            "EigenPodImplementation",
            "EigenPod",
            &[&beacon_deposit, &pods, &genesis, &version],
        )?;
        let pod_beacon = self.create_as("EigenPodBeacon", "UpgradeableBeacon", &[&pod])?;
        self.implement(
            "EigenPodManager",
            &[&beacon_deposit, &pod_beacon, &delegation, &pauser, &version],
            &[&owner, &unpaused],
        )?;
        Ok(())
    }

    /// Without state, the same for every service: the libraries of its coordinator, and the reader of its registries.
    fn shared_with_the_middleware(&mut self) -> eyre::Result<()> {
        for (_, library) in LIBRARIES {
            self.create(library, &[])?;
        }
        self.create("OperatorStateRetriever", &[])?;
        Ok(())
    }

    fn create(&mut self, contract: &str, arguments: &[&str]) -> eyre::Result<String> {
        self.create_as(contract, contract, arguments)
    }

    /// Deploys a contract and remembers its address under a name; returns the address as the ABI coder reads it.
    fn create_as(&mut self, name: &str, contract: &str, arguments: &[&str]) -> eyre::Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let data = self
            .source
            .contract(contract)?
            .deployment(&arguments)
            .wrap_err_with(|| format!("encoding {name}"))?;
        let address = self
            .send(format!("deploy {name}"), None, &data)?
            .wrap_err_with(|| format!("deploying {name} created no contract"))?;
        self.deployment.addresses.insert(key(name), address);
        Ok(address.to_string())
    }

    /// Deploys an implementation and puts it behind its proxy; `initialization` empty means no initialize call.
    fn implement(&mut self, contract: &str, construction: &[&str], initialization: &[&str]) -> eyre::Result<()> {
        let implementation = self.create_as(&format!("{contract}Implementation"), contract, construction)?;
        let proxy = self.deployment.addresses[&key(contract)].to_string();
        let admin = self.deployment.addresses[&key("ProxyAdmin")];
        let proxy_admin = self.source.contract("ProxyAdmin")?;
        let data = if initialization.is_empty() {
            proxy_admin.call("upgrade", &[proxy, implementation])?
        } else {
            let arguments: Vec<String> = initialization.iter().map(|&argument| argument.to_owned()).collect();
            let initialize = self.source.contract(contract)?.call("initialize", &arguments)?;
            proxy_admin.call("upgradeAndCall", &[proxy, implementation, initialize.to_string()])?
        };
        self.send(format!("upgrade {contract}"), Some(admin), &data)?;
        Ok(())
    }

    fn send(&mut self, purpose: String, to: Option<Address>, data: &Bytes) -> eyre::Result<Option<Address>> {
        let chain = &self.parameters.chain;
        let receipt = self
            .anvil
            .send(chain.deployer, to, data, chain.maximum_fee_per_gas)
            .wrap_err_with(|| format!("could not {purpose}"))?;
        self.deployment.steps.push(Step {
            purpose,
            hash: receipt.transaction_hash,
        });
        Ok(receipt.contract_address)
    }
}

/// `AllocationManager` -> `allocation_manager`, `AVSDirectory` -> `avs_directory`.
fn key(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut key = String::new();
    for (index, character) in characters.iter().enumerate() {
        let after_lower = index > 0 && characters[index - 1].is_lowercase();
        let before_lower = characters.get(index + 1).is_some_and(|next| next.is_lowercase());
        if character.is_uppercase() && index > 0 && (after_lower || before_lower) {
            key.push('_');
        }
        key.extend(character.to_lowercase());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn keys_split_words_and_keep_abbreviations_whole() {
        assert_eq!(key("AllocationManager"), "allocation_manager");
        assert_eq!(key("AVSDirectory"), "avs_directory");
        assert_eq!(
            key("AllocationManagerImplementation"),
            "allocation_manager_implementation"
        );
    }
}
