//! One deployment order and one parameter file for devnets, testnets and production.
//!
//! [`deploy`] takes EigenLayer's core as given, and brings up the market, the registries, the middleware of our service and
//! the task manager, wired and listed. Whoever deploys governs until it hands its role on.

mod contracts;
mod deployer;
mod parameters;

use std::collections::BTreeMap;

use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use alloy::transports::{RpcError, TransportErrorKind};
use bindings::{IEscrow, IMatchingServiceManager, IMatchingTaskManager, IOrderBook, IPaymentTokens, IProviderRegistry};
use chain::network::{Contracts, EigenLayer, Network, Quorum, Token};

pub use deployer::Artifacts;
pub use parameters::{EigenLayerDelays, Parameters, UnsafeParameters};

use contracts::{
    IAccessManager, IAllocationManagerDelays, IDelegationManagerDelays, IInitialise, IProxyAdmin, IRegistryCoordinator,
    IStrategyFactory,
};
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
    let named = |name: &str| {
        core.get(name)
            .copied()
            .ok_or_else(|| DeployError::MissingCore { name: name.to_owned() })
    };
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
    let market = deploy_market(&mut deployer, parameters).await?;
    let (middleware, service_manager) = deploy_middleware(&mut deployer, core, &market, parameters).await?;
    let (quorum_verifier, task_manager) =
        deploy_task_manager(&mut deployer, &market, middleware.registry_coordinator, parameters).await?;
    let tokens = govern(&mut deployer, &market, task_manager, parameters).await?;
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
            task_manager,
            quorum_verifier,
            service_manager,
            spon: market.spon,
        },
        eigenlayer: middleware,
        tokens,
        aggregators: Vec::new(),
    })
}

struct Market {
    access_manager: Address,
    escrow: Address,
    order_book: Address,
    payment_tokens: Address,
    provider_registry: Address,
    certificate_registry: Address,
    stake_manager: Address,
    spon: Address,
    /// By symbol.
    development_tokens: BTreeMap<String, Address>,
}

async fn deploy_market<P: Provider>(
    deployer: &mut Deployer<P>,
    parameters: &Parameters,
) -> Result<Market, DeployError> {
    let governor = deployer.address;
    let access_manager = deployer.deploy("AccessManager", governor.abi_encode()).await?;
    let supply = whole(parameters.spon.supply);
    let spon = deployer.deploy("Spon", (governor, supply).abi_encode_params()).await?;
    let mut development_tokens = BTreeMap::new();
    for token in &parameters.development_tokens {
        let arguments = (
            &token.name,
            &token.symbol,
            U256::from(token.decimals),
            U256::from(1_000_000_000u64),
        )
            .abi_encode_params();
        development_tokens.insert(
            token.symbol.clone(),
            deployer.deploy("DevelopmentToken", arguments).await?,
        );
    }

    // The two halves of the core name each other: the second one's address follows from the nonce.
    let order_book = deployer.next_address(1);
    let escrow = deployer
        .deploy("Escrow", (access_manager, order_book, governor).abi_encode_params())
        .await?;
    let windows = &parameters.market;
    let given = IOrderBook::Parameters {
        bidWindow: windows.bid_window,
        maximumBidWindow: windows.maximum_bid_window,
        responseWindow: windows.response_window,
        challengeWindow: windows.challenge_window,
        bidLimit: windows.bid_limit,
        paramsVersion: 1,
    };
    deployer
        .deploy("OrderBook", (access_manager, escrow, given).abi_encode_params())
        .await?;

    let certificate_registry = deployer.deploy("CertificateRegistry", Vec::new()).await?;
    let initialise = IInitialise::initialize_0Call {
        authority: access_manager,
    }
    .abi_encode();
    let payment_tokens = deployer
        .deploy_proxied("PaymentTokens", escrow.abi_encode(), initialise)
        .await?;
    // Stake manager and registry name each other too: implementation and proxy of the one, then of the other.
    let provider_registry = deployer.next_address(3);
    let initialise = IInitialise::initialize_1Call {
        authority: access_manager,
        minimumStake: whole(parameters.stake.minimum).to(),
        thawPeriod: parameters.stake.thaw_period,
    };
    let stake_manager = deployer
        .deploy_proxied(
            "StakeManager",
            (spon, provider_registry).abi_encode_params(),
            initialise.abi_encode(),
        )
        .await?;
    let initialise = IInitialise::initialize_2Call {
        authority: access_manager,
        collaborator: stake_manager,
    };
    deployer
        .deploy_proxied("ProviderRegistry", order_book.abi_encode(), initialise.abi_encode())
        .await?;
    Ok(Market {
        access_manager,
        escrow,
        order_book,
        payment_tokens,
        provider_registry,
        certificate_registry,
        stake_manager,
        spon,
        development_tokens,
    })
}

/// EigenLayer's middleware for our service manager, in the order that works: proxies first because the implementations name
/// each other, then the service's permissions, then the quorums.
async fn deploy_middleware<P: Provider>(
    deployer: &mut Deployer<P>,
    core: &Core,
    market: &Market,
    parameters: &Parameters,
) -> Result<(EigenLayer, Address), DeployError> {
    let named = |name: &str| {
        core.get(name)
            .copied()
            .ok_or_else(|| DeployError::MissingCore { name: name.to_owned() })
    };
    let (governor, allocation_manager) = (deployer.address, named("allocation_manager")?);

    let arguments = (allocation_manager, named("permission_controller")?).abi_encode_params();
    let initialise = IInitialise::initialize_0Call {
        authority: market.access_manager,
    }
    .abi_encode();
    let service_manager = deployer
        .deploy_proxied("MatchingServiceManager", arguments, initialise)
        .await?;

    let admin = deployer.deploy_eigenlayer("ProxyAdmin", Vec::new()).await?;
    let empty = (named("empty_contract")?, admin, Bytes::new()).abi_encode_params();
    let mut proxies = [Address::ZERO; 5];
    for proxy in &mut proxies {
        *proxy = deployer
            .deploy_eigenlayer("TransparentUpgradeableProxy", empty.clone())
            .await?;
    }
    let [coordinator, stakes, keys, indices, sockets] = proxies;
    let stakes_arguments = (
        coordinator,
        named("delegation_manager")?,
        named("avs_directory")?,
        allocation_manager,
    )
        .abi_encode_params();
    for (name, proxy, arguments) in [
        ("StakeRegistry", stakes, stakes_arguments),
        ("BLSApkRegistry", keys, coordinator.abi_encode()),
        ("IndexRegistry", indices, coordinator.abi_encode()),
        ("SocketRegistry", sockets, coordinator.abi_encode()),
    ] {
        let implementation = deployer.deploy_eigenlayer(name, arguments).await?;
        deployer
            .call(name, admin, &IProxyAdmin::upgradeCall { proxy, implementation })
            .await?;
    }
    let arguments = (
        stakes,
        keys,
        indices,
        sockets,
        allocation_manager,
        named("pauser_registry")?,
        "v1.3.1",
    )
        .abi_encode_params();
    let implementation = deployer
        .deploy_eigenlayer("SlashingRegistryCoordinator", arguments)
        .await?;
    let initialise = IRegistryCoordinator::initializeCall {
        initialOwner: governor,
        churnApprover: governor,
        ejector: governor,
        initialPausedStatus: U256::ZERO,
        avs: service_manager,
    };
    let upgrade = IProxyAdmin::upgradeAndCallCall {
        proxy: coordinator,
        implementation,
        data: initialise.abi_encode().into(),
    };
    deployer.call("SlashingRegistryCoordinator", admin, &upgrade).await?;
    let connect = IMatchingServiceManager::connectCall {
        registryCoordinator: coordinator,
        metadataUri: String::new(),
    };
    execute(
        deployer,
        market.access_manager,
        "service connected",
        vec![(service_manager, connect.abi_encode())],
    )
    .await?;

    let mut quorums = Vec::new();
    for (number, quorum) in (0u8..).zip(&parameters.quorums.quorum) {
        let token = quorum_token(market, quorum)?;
        let factory = named("strategy_factory")?;
        deployer
            .call("strategy", factory, &IStrategyFactory::deployNewStrategyCall { token })
            .await?;
        let strategy = IStrategyFactory::new(factory, &deployer.provider)
            .deployedStrategies(token)
            .call()
            .await?;
        let create = IRegistryCoordinator::createSlashableStakeQuorumCall {
            operatorSetParams: IRegistryCoordinator::OperatorSetParam {
                maxOperatorCount: parameters.quorums.maximum_operators,
                // Nobody is churned out: a full quorum refuses (EigenLayer's defaults for the thresholds).
                kickBIPsOfOperatorStake: 15_000,
                kickBIPsOfTotalStake: 100,
            },
            minimumStake: quorum.minimum_stake.to(),
            strategyParams: vec![IRegistryCoordinator::StrategyParams {
                strategy,
                multiplier: whole(1).to(),
            }],
            lookAheadPeriod: parameters.quorums.look_ahead,
        };
        deployer.call(&format!("quorum {number}"), coordinator, &create).await?;
        quorums.push(Quorum {
            number,
            name: quorum.name.clone(),
            strategy,
            token,
        });
    }
    let eigenlayer = EigenLayer {
        delegation_manager: named("delegation_manager")?,
        strategy_manager: named("strategy_manager")?,
        allocation_manager,
        registry_coordinator: coordinator,
        stake_registry: stakes,
        bls_apk_registry: keys,
        index_registry: indices,
        socket_registry: sockets,
        operator_state_retriever: named("operator_state_retriever")?,
        quorums,
    };
    Ok((eigenlayer, service_manager))
}

fn quorum_token(market: &Market, quorum: &parameters::Quorum) -> Result<Address, DeployError> {
    if quorum.token == "SPON" {
        return Ok(market.spon);
    }
    let unknown = || DeployError::UnknownToken {
        quorum: quorum.name.clone(),
        token: quorum.token.clone(),
    };
    market
        .development_tokens
        .get(&quorum.token)
        .copied()
        .map_or_else(|| quorum.token.parse().map_err(|_| unknown()), Ok)
}

async fn deploy_task_manager<P: Provider>(
    deployer: &mut Deployer<P>,
    market: &Market,
    coordinator: Address,
    parameters: &Parameters,
) -> Result<(Address, Address), DeployError> {
    let quorums = &parameters.quorums;
    let numbers: Vec<U256> = (0..quorums.quorum.len()).map(U256::from).collect();
    let thresholds: Vec<U256> = quorums
        .quorum
        .iter()
        .map(|quorum| U256::from(quorum.threshold))
        .collect();
    let arguments = (coordinator, numbers, thresholds, U256::from(quorums.maximum_stake_age)).abi_encode_params();
    let verifier = deployer.deploy("BlsQuorumVerifier", arguments).await?;
    // Behind no proxy: who opens leases changes only by the order book's own, long delay.
    let arguments = (market.access_manager, market.order_book, verifier).abi_encode_params();
    let task_manager = deployer.deploy("MatchingTaskManager", arguments).await?;
    Ok((verifier, task_manager))
}

/// All that governance decides at the start, in one transaction of the access manager.
async fn govern<P: Provider>(
    deployer: &mut Deployer<P>,
    market: &Market,
    task_manager: Address,
    parameters: &Parameters,
) -> Result<Vec<Token>, DeployError> {
    let mut calls: Vec<(Address, Vec<u8>)> = Vec::new();
    for (role, proposed) in [
        (IOrderBook::Collaborator::TaskManager, task_manager),
        (IOrderBook::Collaborator::ProviderRegistry, market.provider_registry),
        (IOrderBook::Collaborator::PaymentTokens, market.payment_tokens),
    ] {
        calls.push((
            market.order_book,
            IOrderBook::proposeCollaboratorCall { role, proposed }.abi_encode(),
        ));
    }
    let matching = &parameters.matching;
    let weights = [
        matching.price,
        matching.region,
        matching.feedback,
        matching.availability,
        matching.slashes,
        matching.trust_tier,
        matching.stake,
        matching.randomness,
    ];
    let version = bindings::MatchingParameters {
        weights,
        stakeCap: alloy::primitives::Uint::from(matching.stake_cap),
        rankLimit: matching.rank_limit,
        chunkSize: matching.chunk_size,
    };
    calls.push((
        task_manager,
        IMatchingTaskManager::addMatchingParametersCall { parameters: version }.abi_encode(),
    ));
    let tokens = list_tokens(&mut calls, market, parameters);
    for region in &parameters.catalogue.regions {
        calls.push((
            market.provider_registry,
            IProviderRegistry::addRegionCall { name: region.clone() }.abi_encode(),
        ));
    }
    for (vendor, model, vram) in &parameters.catalogue.gpus {
        let call = IProviderRegistry::addGpuModelCall {
            vendor: vendor.clone(),
            model: model.clone(),
            vram: *vram,
        };
        calls.push((market.provider_registry, call.abi_encode()));
    }
    execute(deployer, market.access_manager, "governance", calls).await?;
    Ok(tokens)
}

/// One fee schedule per payment token, because the match fee is in the token's units. Schedules count from one, tokens from
/// zero.
fn list_tokens(calls: &mut Vec<(Address, Vec<u8>)>, market: &Market, parameters: &Parameters) -> Vec<Token> {
    let fees = &parameters.fees;
    let spon = Token {
        id: 0,
        symbol: "SPON".into(),
        address: market.spon,
        decimals: 18,
    };
    // SPON pays no facilitation fee: the whitepaper contradicts itself here, see ARCHITECTURE.md.
    let mut listed = vec![(spon, 0, 0, parameters.spon.match_fee)];
    for (id, token) in (1u8..).zip(parameters.development_tokens.iter().filter(|token| token.payment)) {
        let address = market.development_tokens[&token.symbol];
        let token_ = Token {
            id,
            symbol: token.symbol.clone(),
            address,
            decimals: token.decimals,
        };
        listed.push((token_, fees.user, fees.provider, token.match_fee));
    }
    for (schedule, (token, user, provider, match_fee)) in (1u16..).zip(&listed) {
        let frozen = bindings::FeeSchedule {
            commission: fees.commission,
            userFee: *user,
            providerFee: *provider,
            matchFee: match_fee.to(),
        };
        calls.push((
            market.escrow,
            IEscrow::addFeeScheduleCall { schedule: frozen }.abi_encode(),
        ));
        let list = IPaymentTokens::listCall {
            token: token.address,
            symbol: token.symbol.clone(),
            feeSchedule: schedule,
        };
        calls.push((market.payment_tokens, list.abi_encode()));
    }
    listed.into_iter().map(|(token, ..)| token).collect()
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
