//! One deployment order and one parameter file for devnets, testnets and production.
//!
//! [`deploy`] takes EigenLayer's core as given, and brings up the market, the registries, the middleware of our service and
//! the task manager, wired and listed. Whoever deploys governs until it hands its role on.

mod contracts;
mod deployer;
mod market;
mod matching;
mod matchmaker;
mod middleware;
mod parameters;

use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::{RpcError, TransportErrorKind};
use chain::network::{Contracts, Network};

pub use deployer::Artifacts;
pub use matchmaker::deploy_matchmaker;
pub use parameters::{EigenLayerDelays, Parameters, UnsafeParameters};

use contracts::{IAccessManager, IAllocationManagerDelays, IDelegationManagerDelays};
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
    #[error("the parameters are unsafe")]
    Unsafe(#[from] UnsafeParameters),
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
    let deployed_at = deployer.provider.get_block_number().await?;
    let market = market::deploy_market(&mut deployer, parameters).await?;
    let (middleware, service_manager) = middleware::deploy_middleware(&mut deployer, core, &market, parameters).await?;
    let matching = matching::deploy_matching(&mut deployer, &market, &middleware, service_manager, parameters).await?;
    let tokens = matching::govern(
        &mut deployer,
        &market,
        &middleware,
        service_manager,
        &matching,
        parameters,
    )
    .await?;
    Ok(Network {
        name: parameters.name.clone(),
        chain_id: deployer.chain_id(),
        rpc: Vec::new(),
        deployed_at,
        contracts: Contracts {
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
        },
        eigenlayer: middleware,
        tokens,
        aggregators: Vec::new(),
    })
}

fn named(core: &Core, name: &str) -> Result<Address, DeployError> {
    core.get(name)
        .copied()
        .ok_or_else(|| DeployError::MissingCore { name: name.to_owned() })
}

async fn execute<P: Provider>(
    deployer: &mut Deployer<P>,
    access_manager: Address,
    what: &str,
    calls: Vec<(Address, Vec<u8>)>,
) -> Result<(), DeployError> {
    let data = calls
        .into_iter()
        .map(|(target, data)| {
            Bytes::from(
                IAccessManager::executeCall {
                    target,
                    data: data.into(),
                }
                .abi_encode(),
            )
        })
        .collect();
    deployer
        .call(what, access_manager, &IAccessManager::multicallCall { data })
        .await?;
    Ok(())
}

fn whole(tokens: u64) -> U256 {
    U256::from(tokens) * U256::from(10u64.pow(18))
}
