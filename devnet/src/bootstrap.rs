//! What a devnet does once: deploy, hand out development money, register the providers.

use std::path::Path;
use std::process::Stdio;

use alloy::primitives::{Address, Bytes, U256, address, b256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use bindings::standard::IERC20;
use bindings::{IBlsQuorumVerifier, IProviderRegistry};
use chain::network::Network;
use deploy::{Artifacts, Governance};
use eyre::{OptionExt as _, WrapErr as _, ensure};
use futures::future::try_join_all;
use gateway::Identity;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::anvil::{Anvil, Recording};
use crate::network::{Devnet, Options};
use crate::plan::{self, Plan};

/// Anvil's first development account deployed EigenLayer's core in the recording. It deploys our contracts and holds the devnet's
/// tokens; it governs nothing.
pub const DEPLOYER: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// More than a refresh of a devnet's operators takes.
const REFRESH_GAS: u64 = 5_000_000;
/// Ether for gas, per account.
const GAS_MONEY: u64 = 1_000;

/// The deployer's well-known key.
pub fn deployer() -> PrivateKeySigner {
    let key = b256!("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    PrivateKeySigner::from_bytes(&key).expect("anvil's first development key")
}

/// Deploys our contracts and the middleware over the replayed core.
pub async fn deploy(anvil: &Anvil, recording: &Recording, options: &Options) -> eyre::Result<Network> {
    let mut network = ::deploy::deploy(
        anvil.provider.clone(),
        deployer(),
        artifacts(options),
        &recording.addresses,
        &options.plan.parameters(),
    )
    .await?;
    network.rpc = vec![anvil.url.clone()];
    for holder in plan::ROLE_HOLDERS {
        anvil.set_balance(plan::address(holder), GAS_MONEY).await?;
    }
    Ok(network)
}

fn artifacts(options: &Options) -> Artifacts {
    Artifacts {
        contracts: options.repository.join("contracts/out"),
        eigenlayer: options.repository.join(".local/eigenlayer/bytecode"),
        permit2: options.repository.join(".local/permit2/Permit2.json"),
    }
}

/// Notes every operator's stake, so that it is young enough to count; from then on it is the aggregators' work.
pub async fn refresh_stakes(anvil: &Anvil, network: &Network, plan: &Plan) -> eyre::Result<()> {
    let names = plan.operators.iter().map(|operator| plan::address(&operator.name));
    let mut operators: Vec<Address> = names.collect();
    operators.sort_unstable();
    for quorum in &network.eigenlayer.quorums {
        let refresh = IBlsQuorumVerifier::refreshCall {
            quorum: quorum.number,
            operators: operators.clone(),
        };
        // Estimated now, the gas is too little when an operator's allocation takes effect in the refresh's own block.
        send_with_gas(
            anvil,
            DEPLOYER,
            network.contracts.quorum_verifier,
            refresh.abi_encode(),
            REFRESH_GAS,
        )
        .await
        .wrap_err_with(|| format!("refreshing the stakes of quorum {}", quorum.number))?;
    }
    Ok(())
}

/// Deploys the contract of a single matchmaker, with its bond, and makes governance's decisions about it; it has yet to name it.
/// Transactions must be mined as they come.
pub async fn deploy_matchmaker(
    anvil: &Anvil,
    network: &Network,
    options: &Options,
    name: &str,
) -> eyre::Result<Address> {
    let parameters = options.plan.parameters();
    let deployed = ::deploy::deploy_matchmaker(
        anvil.provider.clone(),
        deployer(),
        artifacts(options),
        network,
        plan::address(name),
        &parameters,
    );
    let contract = deployed.await?;
    let decisions = ::deploy::matchmaker_decisions(network, contract, &parameters)?;
    decide(anvil, network, decisions)
        .await
        .wrap_err("deciding about the matchmaker")?;
    Ok(contract)
}

/// Ether for everybody, stake for operators and providers, payment tokens for users.
pub async fn fund(anvil: &Anvil, network: &Network, plan: &Plan) -> eyre::Result<()> {
    let operators = plan.operators.iter().map(|operator| &operator.name);
    let aggregators = plan.aggregators.iter().map(|aggregator| &aggregator.name);
    let providers = plan.providers.iter().map(|provider| &provider.name);
    let users = plan.users.iter().map(|user| &user.name);
    for name in operators.chain(aggregators).chain(providers).chain(users) {
        anvil.set_balance(plan::address(name), GAS_MONEY).await?;
    }
    for operator in &plan.operators {
        let to = plan::address(&operator.name);
        for (quorum, tokens) in network.eigenlayer.quorums.iter().zip(operator.restake.by_quorum()) {
            give(anvil, quorum.token, to, tokens, 18).await?;
        }
    }
    for provider in &plan.providers {
        give(
            anvil,
            network.contracts.spon,
            plan::address(&provider.name),
            provider.stake,
            18,
        )
        .await?;
    }
    for user in &plan.users {
        for token in &network.tokens {
            give(
                anvil,
                token.address,
                plan::address(&user.name),
                user.tokens,
                token.decimals,
            )
            .await?;
        }
    }
    Ok(())
}

async fn give(anvil: &Anvil, token: Address, to: Address, whole: u64, decimals: u8) -> eyre::Result<()> {
    let amount = U256::from(whole) * U256::from(10).pow(U256::from(decimals));
    as_deployer(anvil, token, IERC20::transferCall { to, value: amount }.abi_encode()).await
}

/// Sends from the deployer's account, which anvil has unlocked.
pub async fn as_deployer(anvil: &Anvil, to: Address, input: Vec<u8>) -> eyre::Result<()> {
    send_as(anvil, DEPLOYER, to, input).await
}

/// Sends from an account that anvil has unlocked, and waits for the receipt.
pub async fn send_as(anvil: &Anvil, from: Address, to: Address, input: Vec<u8>) -> eyre::Result<()> {
    sent(
        anvil,
        json!({"from": from, "to": to, "input": Bytes::from(input)}),
        from,
        to,
    )
    .await
}

async fn send_with_gas(anvil: &Anvil, from: Address, to: Address, input: Vec<u8>, gas: u64) -> eyre::Result<()> {
    let transaction = json!({"from": from, "to": to, "input": Bytes::from(input), "gas": format!("{gas:#x}")});
    sent(anvil, transaction, from, to).await
}

async fn sent(anvil: &Anvil, transaction: Value, from: Address, to: Address) -> eyre::Result<()> {
    let transaction = json!([transaction]);
    let receipt = anvil.call("eth_sendTransactionSync", transaction).await?;
    ensure!(receipt["status"] == "0x1", "a transaction of {from} to {to} reverted");
    Ok(())
}

/// Calls a restricted function as whoever holds its role: at once, or after its delay, which passes at once here.
pub async fn govern(anvil: &Anvil, network: &Network, target: Address, call: &impl SolCall) -> eyre::Result<()> {
    decide(anvil, network, vec![(target, call.abi_encode())]).await
}

/// Many calls at once, see [`govern`].
async fn decide(anvil: &Anvil, network: &Network, calls: Vec<::deploy::Call>) -> eyre::Result<()> {
    let keys = plan::ROLE_HOLDERS.map(plan::key).to_vec();
    let governance = Governance::new(anvil.provider.clone(), network, keys);
    if let Some(announced) = governance.begin(calls).await? {
        anvil.reach(announced.due).await?;
        governance.finish(announced).await?;
    }
    Ok(())
}

/// A certificate for a provider's gateway, kept when it is there already.
pub fn provider_identity(folder: &Path) -> eyre::Result<()> {
    Identity::load_or_create(&folder.join("identity.pem")).wrap_err("the gateway's certificate")?;
    Ok(())
}

/// Every provider registers with the shipped command line, then the verifier gives it its tier.
pub async fn register_providers(devnet: &Devnet) -> eyre::Result<()> {
    let plan = &devnet.options.plan;
    try_join_all(plan.providers.iter().map(|provider| register(devnet, provider))).await?;
    let registry = IProviderRegistry::new(devnet.network.contracts.provider_registry, &devnet.anvil.provider);
    for provider in &plan.providers {
        let id = registry.providerOf(plan::address(&provider.name)).call().await?;
        ensure!(
            id != 0,
            "{} is not registered although `spheron provider register` said so",
            provider.name
        );
        let verified = IProviderRegistry::setVerifiedCall {
            id,
            trustTier: provider.trust_tier,
            compliance: 0,
            attributes: alloy::primitives::Uint::ZERO,
        };
        govern(
            &devnet.anvil,
            &devnet.network,
            devnet.network.contracts.provider_registry,
            &verified,
        )
        .await?;
    }
    Ok(())
}

async fn register(devnet: &Devnet, provider: &plan::Provider) -> eyre::Result<()> {
    let agent = devnet
        .agents
        .get(&provider.name)
        .ok_or_eyre("a provider of the plan is an agent")?;
    let gateway = agent
        .bound()
        .and_then(|bound| bound.gateway)
        .ok_or_eyre("the agent's gateway listens")?;
    let output = Command::new(devnet.options.binaries.join("spheron"))
        .arg("--network")
        .arg(devnet.network_file())
        .arg("--home")
        .arg(agent.folder.join("home"))
        .args([
            "--json",
            "provider",
            "register",
            "--name",
            &provider.name,
            "--gateway",
            &format!("https://{gateway}"),
        ])
        .args([
            "--region",
            &provider.region,
            "--tokens",
            "SPON,uSPON,USDT",
            "--stake",
            &provider.stake.to_string(),
        ])
        .arg("--certificate")
        .arg(agent.folder.join("identity.pem"))
        .arg("--key")
        .arg(agent.folder.join("ecdsa.key"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .wrap_err("cannot run spheron")?;
    ensure!(
        output.status.success(),
        "`spheron provider register` for {} ended with {}: {}",
        provider.name,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice::<Value>(&output.stdout).wrap_err("`spheron provider register --json` printed no JSON")?;
    Ok(())
}
