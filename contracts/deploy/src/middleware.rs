//! EigenLayer's middleware for our service, and its quorums.

use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider;
use alloy::sol_types::{SolCall, SolValue};
use bindings::IMatchingServiceManager;
use chain::network::{EigenLayer, Quorum};

use crate::contracts::{IInitialise, IOwnable, IProxyAdmin, IRegistryCoordinator, IStrategyFactory};
use crate::deployer::Deployer;
use crate::market::Market;
use crate::{Core, DeployError, Parameters, execute, named, parameters, whole};

/// What [`deploy_middleware`] deployed.
pub(crate) struct Middleware {
    pub(crate) eigenlayer: EigenLayer,
    pub(crate) service_manager: Address,
    pub(crate) proxy_admin: Address,
}

/// EigenLayer's middleware for our service manager, in the order that works: proxies first because the implementations name
/// each other, then the service's permissions, then the quorums.
pub(crate) async fn deploy_middleware<P: Provider>(
    deployer: &mut Deployer<P>,
    core: &Core,
    market: &Market,
    parameters: &Parameters,
) -> Result<Middleware, DeployError> {
    let named = |name: &str| named(core, name);
    let (deploying, allocation_manager) = (deployer.address, named("allocation_manager")?);

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
        initialOwner: deploying,
        // Nobody is churned out (it takes a signature, which the manager cannot make), and ejections go its way.
        churnApprover: market.access_manager,
        ejector: market.access_manager,
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
        let strategy = IStrategyFactory::new(factory, deployer.provider())
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
    // What owns the middleware from here on is who the access manager lets.
    for (what, owned) in [("coordinator's owner", coordinator), ("proxy admin's owner", admin)] {
        let handed = IOwnable::transferOwnershipCall {
            newOwner: market.access_manager,
        };
        deployer.call(what, owned, &handed).await?;
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
        rewards_coordinator: named("rewards_coordinator")?,
        quorums,
    };
    Ok(Middleware {
        eigenlayer,
        service_manager,
        proxy_admin: admin,
    })
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
