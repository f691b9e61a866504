//! One deployment order and one parameter file for devnets, testnets and production.
//!
//! [`deploy`] takes EigenLayer's core as given, and brings up the market, the registries, the middleware of our service and
//! the task manager, wired and listed. Whoever deploys governs until its last transaction, which gives every restricted function to
//! its role ([`roles`]) and every role to its holder. From then on [`Governance`] is how anything is decided.

mod contracts;
mod deployer;
mod governance;
mod market;
mod matching;
mod matchmaker;
mod middleware;
mod parameters;
pub mod roles;
mod sender;

use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes, FixedBytes, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::{RpcError, TransportErrorKind};
use bindings::{IMatchingTaskManager, IOrderBook};
use chain::network::{Contracts, Network, Roles};

pub use contracts::IAccessManager;
pub use deployer::Artifacts;
pub use governance::{Announced, Call, Governance};
pub use matchmaker::{deploy_matchmaker, matchmaker_decisions};
pub use parameters::{EigenLayerDelays, Parameters, UnsafeParameters};

use contracts::{IAllocationManagerDelays, IDelegationManagerDelays};
use deployer::Deployer;

/// EigenLayer's core on the chain deployed to, by the names of its recording.
pub type Core = BTreeMap<String, Address>;

/// Why a deployment failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("artifact {path} cannot be used: {problem}")]
    Artifact { path: String, problem: String },
    #[error("{what}: {problem}")]
    Transaction { what: String, problem: String },
    #[error("the chain did not answer")]
    Chain(#[from] RpcError<TransportErrorKind>),
    #[error("EigenLayer's core did not answer")]
    Core(#[from] alloy::contract::Error),
    #[error("EigenLayer's core has no {name} among its addresses")]
    MissingCore { name: String },
    #[error("the token {token} of quorum {quorum:?} is neither a development token nor an address")]
    UnknownToken { quorum: String, token: String },
    #[error("the challengers' reward is in {token}, which is no payment token of the parameters")]
    UnknownRewardToken { token: String },
    #[error("the bond covers {token}, which is no payment token of the network")]
    UnknownCoverage { token: String },
    #[error("no contract is at {address}, which the parameters name as Permit2")]
    NoPermit2 { address: Address },
    #[error("the parameters are unsafe")]
    Unsafe(#[from] UnsafeParameters),
    #[error("no key given here holds the role {role}, which may call {selector} of {target}")]
    NobodyMay {
        selector: FixedBytes<4>,
        target: Address,
        role: String,
    },
    #[error("the task manager has versions 1 to {known} of the matching parameters, not {version}: add it first")]
    UnknownVersion { version: u16, known: u16 },
    #[error(
        "the verifier {verifier} has no slasher, its wrong answers would cost nothing: MatchingDisputes.setSlasher first"
    )]
    NoSlasher { verifier: Address },
}

/// Deploys everything and returns the network file's content, without RPC endpoints and aggregators.
pub async fn deploy<P: Provider + Clone>(
    provider: P,
    signer: PrivateKeySigner,
    artifacts: Artifacts,
    core: &Core,
    parameters: &Parameters,
) -> Result<Network, DeployError> {
    let named = |name: &str| named(core, name);
    let delays = EigenLayerDelays {
        deallocation: IAllocationManagerDelays::new(named("allocation_manager")?, &provider)
            .DEALLOCATION_DELAY()
            .call()
            .await?,
        withdrawal: IDelegationManagerDelays::new(named("delegation_manager")?, &provider)
            .minWithdrawalDelayBlocks()
            .call()
            .await?,
    };
    parameters.check(delays)?;

    let mut deployer = Deployer::new(provider, signer, artifacts).await?;
    let deployed_at = deployer.provider().get_block_number().await?;
    let market = market::deploy_market(&mut deployer, parameters).await?;
    let middleware = middleware::deploy_middleware(&mut deployer, core, &market, parameters).await?;
    let matching = matching::deploy_matching(&mut deployer, &market, &middleware, parameters).await?;
    let tokens = matching::govern(&mut deployer, &market, &middleware, &matching, parameters).await?;
    let service_manager = middleware.service_manager;
    let contracts = Contracts {
        access_manager: market.access_manager,
        escrow: market.escrow,
        order_book: market.order_book,
        payment_tokens: market.payment_tokens,
        provider_registry: market.provider_registry,
        certificate_registry: market.certificate_registry,
        stake_manager: market.stake_manager,
        task_manager: matching.task_manager,
        quorum_verifier: matching.quorum_verifier,
        matching_rule: matching.rule,
        disputes: matching.disputes,
        slasher: matching.slasher,
        commission_split: matching.commission_split,
        service_manager,
        spon: market.spon,
    };
    check_wiring(deployer.provider(), &contracts).await?;
    hand_over(&mut deployer, &contracts, middleware.proxy_admin, parameters).await?;
    let governance = &parameters.governance;
    Ok(Network {
        name: parameters.name.clone(),
        chain_id: deployer.chain_id(),
        rpc: Vec::new(),
        deployed_at,
        contracts,
        roles: Roles {
            governor: governance.governor,
            token_lister: governance.token_lister,
            verifier: governance.verifier,
            guardian: governance.guardian,
        },
        eigenlayer: middleware.eigenlayer,
        tokens,
        aggregators: Vec::new(),
    })
}

/// What no contract checks because it concerns two of them.
async fn check_wiring<P: Provider>(provider: &P, contracts: &Contracts) -> Result<(), DeployError> {
    let in_force = IOrderBook::new(contracts.order_book, provider)
        .parameters()
        .call()
        .await?;
    governance::known_version(provider, contracts, in_force.paramsVersion).await?;
    let decides = IMatchingTaskManager::new(contracts.task_manager, provider)
        .quorumVerifier()
        .call()
        .await?;
    governance::has_slasher(provider, contracts, decides).await
}

/// The deployer's last transaction.
async fn hand_over<P: Provider>(
    deployer: &mut Deployer<P>,
    contracts: &Contracts,
    proxy_admin: Address,
    parameters: &Parameters,
) -> Result<(), DeployError> {
    let governed = [
        ("OrderBook", contracts.order_book),
        ("Escrow", contracts.escrow),
        ("PaymentTokens", contracts.payment_tokens),
        ("ProviderRegistry", contracts.provider_registry),
        ("StakeManager", contracts.stake_manager),
        ("MatchingTaskManager", contracts.task_manager),
        ("MatchingDisputes", contracts.disputes),
        ("AllocationSlasher", contracts.slasher),
        ("CommissionSplit", contracts.commission_split),
        ("MatchingServiceManager", contracts.service_manager),
        ("ProxyAdmin", proxy_admin),
    ];
    let manager = contracts.access_manager;
    let calls = roles::hand_over(manager, &governed, &parameters.governance, deployer.address);
    let handed = governance::multicall(calls);
    deployer.sender.call("hand-over to the roles", manager, handed).await?;
    Ok(())
}

fn named(core: &Core, name: &str) -> Result<Address, DeployError> {
    core.get(name)
        .copied()
        .ok_or_else(|| DeployError::MissingCore { name: name.to_owned() })
}

/// Restricted calls of a deployer that still governs, in one transaction.
async fn execute<P: Provider>(
    deployer: &mut Deployer<P>,
    access_manager: Address,
    what: &str,
    calls: Vec<(Address, Vec<u8>)>,
) -> Result<(), DeployError> {
    let executed = calls.into_iter().map(|(target, data)| {
        let data = Bytes::from(data);
        IAccessManager::executeCall { target, data }.abi_encode()
    });
    deployer
        .sender
        .call(what, access_manager, governance::multicall(executed))
        .await?;
    Ok(())
}

fn whole(tokens: u64) -> U256 {
    U256::from(tokens) * U256::from(10u64.pow(18))
}
