//! Reads contracts out of the deployer package's source: its generated bindings carry ABI and bytecode in comments.

use std::path::{Path, PathBuf};

use alloy_dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy_json_abi::{Function, JsonAbi, Param};
use alloy_primitives::{Address, Bytes, hex};
use eyre::{ContextCompat, WrapErr, ensure, eyre};
use serde_json::Value;

/// Contracts whose creation bytecode the bindings carry, by name and file.
const BINDINGS: [(&str, &str); 27] = [
    ("AllocationManager", "core/allocation_manager.rs"),
    ("AVSDirectory", "core/avs_directory.rs"),
    ("BLSApkRegistry", "core/bls_apk_registry.rs"),
    ("DelegationManager", "core/delegation_manager.rs"),
    ("EigenPod", "core/eigen_pod.rs"),
    ("EigenPodManager", "core/eigen_pod_manager.rs"),
    ("EmptyContract", "core/empty_contract.rs"),
    ("IndexRegistry", "core/index_registry.rs"),
    ("InstantSlasher", "core/instant_slasher.rs"),
    ("OperatorStateRetriever", "core/operator_state_retriever.rs"),
    ("PauserRegistry", "core/pauser_registry.rs"),
    ("PermissionController", "core/permission_controller.rs"),
    ("ProxyAdmin", "core/proxy_admin.rs"),
    ("QuorumBitmapHistoryLib", "core/quorum_bitmap_history_lib.rs"),
    ("RewardsCoordinator", "core/rewards_coordinator.rs"),
    ("SignatureCheckerLib", "core/signature_checker_lib.rs"),
    ("SocketRegistry", "core/socket_registry.rs"),
    ("StakeRegistry", "core/stake_registry.rs"),
    ("StrategyBase", "core/strategy_base.rs"),
    ("StrategyFactory", "core/strategy_factory.rs"),
    ("StrategyManager", "core/strategy_manager.rs"),
    ("TransparentUpgradeableProxy", "core/transparent_upgradeable_proxy.rs"),
    ("UpgradeableBeacon", "core/upgradeable_beacon.rs"),
    ("SquaringServiceManager", "deploy/squaring_service_manager.rs"),
    ("SquaringTask", "deploy/squaring_task.rs"),
    // Interfaces, for their ABI.
    ("IStrategy", "core/i_strategy.rs"),
    ("IServiceManager", "core/i_service_manager.rs"),
];

/// The one contract that needs libraries comes as a compiler artifact instead.
const COORDINATOR: &str = "SlashingRegistryCoordinator";
const COORDINATOR_ARTIFACT: &str = "artifacts/eigenlayer-middleware-1.3.1/SlashingRegistryCoordinator.json";

/// One contract as it came out of the compiler.
#[derive(Debug, Clone)]
pub struct Contract {
    pub name: String,
    pub abi: JsonAbi,
    /// Creation code, libraries linked; empty for interfaces.
    pub creation: Bytes,
    /// Runtime code with zeros where immutables go; empty for interfaces.
    pub runtime: Bytes,
}

/// The contracts of the package.
#[derive(Debug)]
pub struct Source {
    directory: PathBuf,
    contracts: Vec<Contract>,
}

impl Source {
    /// Reads every contract but the one that must be linked. `package` is the unpacked package.
    pub fn read(package: &Path) -> eyre::Result<Self> {
        let directory = package.join("src");
        let contracts = BINDINGS
            .iter()
            .map(|(name, file)| {
                let path = directory.join("bindings").join(file);
                let text =
                    std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
                parse_binding(name, &text).wrap_err_with(|| format!("no contract {name} in {}", path.display()))
            })
            .collect::<eyre::Result<_>>()?;
        Ok(Self { directory, contracts })
    }

    /// Adds the registry coordinator, linked against deployed libraries: (source path, address).
    pub fn link_coordinator(&mut self, libraries: &[(&str, Address)]) -> eyre::Result<()> {
        let path = self.directory.join(COORDINATOR_ARTIFACT);
        let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
        let artifact: Value = serde_json::from_str(&text)?;
        self.contracts.push(Contract {
            name: COORDINATOR.into(),
            abi: serde_json::from_value(artifact["abi"].clone())?,
            creation: link(&artifact["bytecode"], libraries)?,
            runtime: link(&artifact["deployedBytecode"], libraries)?,
        });
        Ok(())
    }

    /// Every contract read so far.
    pub fn contracts(&self) -> &[Contract] {
        &self.contracts
    }

    /// One contract by its Solidity name.
    pub fn contract(&self, name: &str) -> eyre::Result<&Contract> {
        self.contracts
            .iter()
            .find(|contract| contract.name == name)
            .wrap_err_with(|| format!("no contract {name}"))
    }
}

impl Contract {
    /// Creation code followed by the constructor's arguments, each written as text and read as the ABI's type.
    pub fn deployment(&self, arguments: &[String]) -> eyre::Result<Bytes> {
        let encoded = match &self.abi.constructor {
            Some(constructor) => constructor.abi_encode_input(&values(&constructor.inputs, arguments)?)?,
            None => {
                ensure!(arguments.is_empty(), "{} takes no constructor arguments", self.name);
                Vec::new()
            }
        };
        Ok([&self.creation[..], &encoded].concat().into())
    }

    /// Calldata of a function, arguments as in [`Contract::deployment`].
    pub fn call(&self, function: &str, arguments: &[String]) -> eyre::Result<Bytes> {
        let function = self.function(function)?;
        Ok(function.abi_encode_input(&values(&function.inputs, arguments)?)?.into())
    }

    /// The function of that name; overloads are not told apart.
    pub fn function(&self, name: &str) -> eyre::Result<&Function> {
        self.abi
            .function(name)
            .and_then(|all| all.first())
            .wrap_err_with(|| format!("{} has no {name}", self.name))
    }
}

fn values(parameters: &[Param], arguments: &[String]) -> eyre::Result<Vec<DynSolValue>> {
    ensure!(
        parameters.len() == arguments.len(),
        "{} arguments for {} parameters",
        arguments.len(),
        parameters.len()
    );
    parameters
        .iter()
        .zip(arguments)
        .map(|(parameter, argument)| {
            let kind: DynSolType = parameter.resolve()?;
            kind.coerce_str(argument)
                .wrap_err_with(|| format!("`{argument}` is not a {} {}", parameter.ty, parameter.name))
        })
        .collect()
}

/// A generated binding has one ABI, as a fenced JSON block, and two `///0x` lines: creation code, then runtime code.
fn parse_binding(name: &str, text: &str) -> eyre::Result<Contract> {
    let abi = text
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("\n```").next())
        .wrap_err("its comments carry no JSON ABI")?;
    let codes: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("///0x"))
        .collect();
    let [creation, runtime] = codes[..] else {
        return Err(eyre!(
            "expected creation and runtime code, found {} lines of code",
            codes.len()
        ));
    };
    Ok(Contract {
        name: name.into(),
        abi: serde_json::from_str(abi)?,
        creation: hex::decode(creation)?.into(),
        runtime: hex::decode(runtime)?.into(),
    })
}

/// Puts library addresses where the compiler left placeholders.
fn link(code: &Value, libraries: &[(&str, Address)]) -> eyre::Result<Bytes> {
    let mut object = code["object"]
        .as_str()
        .wrap_err("the artifact has no bytecode")?
        .trim_start_matches("0x")
        .to_owned();
    let references = code["linkReferences"]
        .as_object()
        .wrap_err("the artifact has no link references")?;
    for (file, places) in references {
        let (_, address) = libraries
            .iter()
            .find(|(path, _)| path == file)
            .wrap_err_with(|| format!("no library for {file}"))?;
        let places = places.as_object().into_iter().flat_map(|by_name| by_name.values());
        for place in places.filter_map(Value::as_array).flatten() {
            let start = place["start"].as_u64().wrap_err("a link reference without start")? as usize * 2;
            object.replace_range(start..start + 40, &hex::encode(address));
        }
    }
    Ok(hex::decode(&object)
        .wrap_err("placeholders are left after linking")?
        .into())
}
