//! Who may decide what, on a real anvil with the contracts as they are deployed: the roles' table against sources and chain, delays
//! and their guardian, and what goes on while everything is paused.

mod pause;
mod roles;
mod sources;

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::{SolCall, SolError};
use alloy::transports::TransportError;
use chain::network::Network;
use deploy::Governance;
use devnet::anvil::{Anvil, Recording};
use devnet::children::Spawner;
use devnet::traffic::Traffic;
use devnet::{Options, bootstrap, plan};
use eyre::{WrapErr as _, ensure};
use serde_json::json;

/// Holds no role.
const STRANGER: &str = "stranger";

/// A chain with our contracts and nothing else. A block comes with every transaction.
struct Deployed {
    _folder: tempfile::TempDir,
    /// What it spawned lives as long as it does.
    _spawner: Spawner,
    anvil: Anvil,
    network: Network,
    options: Options,
}

impl Deployed {
    async fn start() -> eyre::Result<Self> {
        daemon::tls::install_provider();
        let folder = tempfile::Builder::new().prefix("spheron-governance-").tempdir()?;
        let mut options = Options::new(folder.path().to_owned(), PathBuf::new(), repository());
        options.plan.operators.clear();
        options.plan.providers.clear();
        let recording = Recording::load(&options.repository.join(".local/eigenlayer"))?;
        let program = options.repository.join(".local/bin/anvil");
        ensure!(program.exists(), "{} is missing: run script/setup", program.display());
        let spawner = Spawner::new();
        let log = folder.path().join("anvil.log");
        let anvil = Anvil::start(&spawner, program, recording.chain_id, 0, log).await?;
        anvil.replay(&recording).await?;
        let network = bootstrap::deploy(&anvil, &recording, &options)
            .await
            .wrap_err("deploying (contracts/out must be of these sources: `forge build` in contracts)")?;
        let deployed = Self {
            _folder: folder,
            _spawner: spawner,
            anvil,
            network,
            options,
        };
        for name in plan::ROLE_HOLDERS.into_iter().chain([STRANGER]) {
            deployed.traffic()?.unlock(name).await?;
        }
        Ok(deployed)
    }

    fn traffic(&self) -> eyre::Result<Traffic<'_>> {
        Traffic::of(&self.anvil, &self.network)
    }

    /// With every holder's key.
    fn governance(&self) -> Governance<alloy::providers::DynProvider> {
        let keys = plan::ROLE_HOLDERS.map(plan::key).to_vec();
        Governance::new(self.anvil.provider.clone(), &self.network, keys)
    }

    async fn send(&self, from: &str, to: Address, call: &impl SolCall) -> eyre::Result<()> {
        self.traffic()?.send(plan::address(from), to, call).await
    }

    async fn govern(&self, target: Address, call: &impl SolCall) -> eyre::Result<()> {
        bootstrap::govern(&self.anvil, &self.network, target, call).await
    }

    /// A call as of the next block, and why it would revert.
    async fn tried(&self, from: Address, to: Address, call: &impl SolCall) -> Result<Bytes, TransportError> {
        let transaction = json!({"from": from, "to": to, "input": Bytes::from(call.abi_encode())});
        let parameters = json!([transaction, "pending"]);
        alloy::providers::Provider::raw_request(&self.anvil.provider, "eth_call".into(), parameters).await
    }

    /// The call must revert with this error.
    async fn refused<E: SolError>(&self, from: Address, to: Address, call: &impl SolCall) -> eyre::Result<()> {
        let what = format!("{} from {from}", short(call));
        let Err(error) = self.tried(from, to, call).await else {
            eyre::bail!("{what} is taken, {} was expected", E::SIGNATURE)
        };
        let data = chain::reverts::data_of(&error).unwrap_or_default();
        ensure!(
            data.starts_with(&E::SELECTOR),
            "{what} is refused with {}, {} was expected",
            bindings::describe_revert(&data).unwrap_or_else(|| error.to_string()),
            E::SIGNATURE
        );
        Ok(())
    }
}

fn short<C: SolCall>(_call: &C) -> &'static str {
    C::SIGNATURE
}

fn repository() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}
