//! The table against the sources and against a deployed manager.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, FixedBytes, U256, address, b256};
use alloy::providers::Provider as _;
use alloy::sol;
use alloy::sol_types::SolCall as _;
use bindings::{ICommissionSplit, IEscrow, IMatchingTaskManager, IOrderBook, IPaymentTokens};
use deploy::roles::{CANCELLABLE, Role, table};
use deploy::{DeployError, IAccessManager, Parameters};
use devnet::{bootstrap, plan};
use eyre::{OptionExt as _, ensure};

use crate::{Deployed, STRANGER, repository, sources};

sol! {
    #[sol(rpc)]
    interface IOwned {
        function owner() external view returns (address);
    }

    interface IRefusals {
        error AccessManagedUnauthorized(address caller);
    }

    interface IUpgradeable {
        function upgradeToAndCall(address implementation, bytes data) external payable;
    }
}

use IRefusals::AccessManagedUnauthorized;

/// Where an ERC-1967 proxy keeps its admin.
const PROXY_ADMIN_SLOT: FixedBytes<32> = b256!("0xb53127684a568b3173ae13b9f8a6016e243e63b6e8ee1178d6a717850b5d6103");

/// Whoever adds a restricted function decides whose it is.
#[test]
fn the_table_names_every_restricted_function_and_no_other() -> eyre::Result<()> {
    let repository = repository();
    let mut expected: BTreeSet<(String, String)> = BTreeSet::new();
    for (contract, functions) in sources::restricted(&repository.join("contracts/src"))? {
        let abi = sources::abi(&repository, &contract)?;
        for function in functions {
            expected.insert((contract.clone(), sources::signature(&abi, &function)?));
        }
    }
    // EigenLayer's, owned by the manager.
    let named = table()
        .into_iter()
        .filter(|restricted| restricted.contract != "ProxyAdmin");
    let named: BTreeSet<(String, String)> = named
        .map(|restricted| (restricted.contract, restricted.function))
        .collect();
    let missing: Vec<_> = expected.difference(&named).collect();
    let unknown: Vec<_> = named.difference(&expected).collect();
    ensure!(
        missing.is_empty(),
        "contracts/deploy/roles.toml names no role for {missing:?}"
    );
    ensure!(
        unknown.is_empty(),
        "no contract restricts {unknown:?} of contracts/deploy/roles.toml"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployed_manager_agrees_with_the_table() -> eyre::Result<()> {
    let mut deployed = Box::pin(Deployed::start()).await?;
    functions_belong_to_their_roles(&deployed).await?;
    roles_belong_to_their_holders(&deployed).await?;
    the_manager_owns_the_middleware(&deployed).await?;
    deployed.anvil.process.stop().await
}

async fn functions_belong_to_their_roles(deployed: &Deployed) -> eyre::Result<()> {
    let manager = IAccessManager::new(deployed.network.contracts.access_manager, &deployed.anvil.provider);
    let governance = Parameters::devnet().governance;
    let mut callers: BTreeSet<Address> = Role::ALL.iter().map(|role| role.holder(&governance).0).collect();
    callers.extend([plan::address(STRANGER), bootstrap::DEPLOYER]);
    for (contract, target) in governed(deployed).await? {
        let of_contract = table().into_iter().filter(|restricted| restricted.contract == contract);
        let mut roles: BTreeMap<FixedBytes<4>, Role> = BTreeMap::new();
        for restricted in of_contract {
            roles.insert(restricted.selector(), restricted.role);
            let (holder, delay) = restricted.role.holder(&governance);
            for caller in &callers {
                let may = manager.canCall(*caller, target, restricted.selector()).call().await?;
                let expected = if *caller == holder {
                    (delay == 0, delay)
                } else {
                    (false, 0)
                };
                ensure!(
                    (may.immediate, may.delay) == expected,
                    "{contract}.{} by {caller}: at once {}, after {} s; {expected:?} was expected",
                    restricted.function,
                    may.immediate,
                    may.delay
                );
            }
        }
        ensure!(!roles.is_empty(), "the table has nothing of {contract}");
        // What is not in the table is nobody's but the admin's.
        let Ok(abi) = sources::abi(&deployed.options.repository, contract) else {
            ensure!(contract == "ProxyAdmin", "{contract} has no artifact");
            continue;
        };
        for function in abi.functions() {
            let expected = roles.get(&function.selector()).copied().unwrap_or(Role::Admin);
            let role = manager
                .getTargetFunctionRole(target, function.selector())
                .call()
                .await?;
            ensure!(
                role == expected.id(),
                "{contract}.{} is role {role}'s, not the {}'s",
                function.signature(),
                expected.name()
            );
        }
    }
    Ok(())
}

async fn roles_belong_to_their_holders(deployed: &Deployed) -> eyre::Result<()> {
    let address = deployed.network.contracts.access_manager;
    let manager = IAccessManager::new(address, &deployed.anvil.provider);
    let governance = Parameters::devnet().governance;
    let everybody: Vec<Address> = plan::ROLE_HOLDERS
        .iter()
        .chain(&[STRANGER])
        .map(|name| plan::address(name))
        .chain([bootstrap::DEPLOYER])
        .collect();
    for role in Role::ALL {
        let (holder, delay) = role.holder(&governance);
        for account in &everybody {
            let held = manager.hasRole(role.id(), *account).call().await?;
            let expected = if *account == holder { (true, delay) } else { (false, 0) };
            ensure!(
                (held.isMember, held.executionDelay) == expected,
                "{account} as {}: {}, {} s; {expected:?} was expected",
                role.name(),
                held.isMember,
                held.executionDelay
            );
        }
        let guardian = if role.is_guarded() { Role::Guardian } else { Role::Admin };
        ensure!(manager.getRoleGuardian(role.id()).call().await? == guardian.id());
        ensure!(manager.getRoleAdmin(role.id()).call().await? == Role::Admin.id());
    }
    for selector in CANCELLABLE {
        ensure!(manager.getTargetFunctionRole(address, selector).call().await? == Role::Governor.id());
    }
    Ok(())
}

/// New code and new parameters of EigenLayer's middleware go the same way as ours.
async fn the_manager_owns_the_middleware(deployed: &Deployed) -> eyre::Result<()> {
    let provider = &deployed.anvil.provider;
    let manager = deployed.network.contracts.access_manager;
    let eigenlayer = &deployed.network.eigenlayer;
    let owner = async |contract| IOwned::new(contract, provider).owner().call().await;
    ensure!(owner(eigenlayer.registry_coordinator).await? == manager);
    ensure!(owner(proxy_admin(deployed, eigenlayer.registry_coordinator).await?).await? == manager);
    for proxy in [
        eigenlayer.stake_registry,
        eigenlayer.bls_apk_registry,
        eigenlayer.index_registry,
        eigenlayer.socket_registry,
    ] {
        ensure!(owner(proxy_admin(deployed, proxy).await?).await? == manager);
    }
    Ok(())
}

async fn proxy_admin(deployed: &Deployed, proxy: Address) -> eyre::Result<Address> {
    let word = deployed
        .anvil
        .provider
        .get_storage_at(proxy, PROXY_ADMIN_SLOT.into())
        .await?;
    Ok(Address::from_word(word.into()))
}

/// What the table names, and where it is.
async fn governed(deployed: &Deployed) -> eyre::Result<Vec<(&'static str, Address)>> {
    let contracts = &deployed.network.contracts;
    let proxies = proxy_admin(deployed, deployed.network.eigenlayer.registry_coordinator).await?;
    let Deployed {
        anvil,
        network,
        options,
        ..
    } = deployed;
    let matchmaker = bootstrap::deploy_matchmaker(anvil, network, options, STRANGER).await?;
    let governed = vec![
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
        ("ProxyAdmin", proxies),
        // Not part of a deployment: its functions are assigned along with governance's decisions about it.
        ("SingleMatchmaker", matchmaker),
    ];
    for restricted in table() {
        ensure!(
            governed.iter().any(|(contract, _)| *contract == restricted.contract),
            "{} is not among the deployed contracts",
            restricted.contract
        );
    }
    Ok(governed)
}

#[tokio::test(flavor = "multi_thread")]
async fn delays_pass_before_anything_happens_and_the_guardian_can_stop_it() -> eyre::Result<()> {
    let mut deployed = Box::pin(Deployed::start()).await?;
    the_guardian_only_stops(&deployed).await?;
    nothing_happens_before_its_delay(&deployed).await?;
    the_guardian_cancels(&deployed).await?;
    a_guardian_that_vetoes_everything_goes(&deployed).await?;
    what_nobody_could_use_is_refused(&deployed).await?;
    deployed.anvil.process.stop().await
}

/// No start, no code, no money.
async fn the_guardian_only_stops(deployed: &Deployed) -> eyre::Result<()> {
    let contracts = &deployed.network.contracts;
    let guardian = plan::address("guardian");
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, contracts.order_book, &IOrderBook::unpauseCall {})
        .await?;
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, contracts.task_manager, &IMatchingTaskManager::resumeCall {})
        .await?;
    let enabled = IPaymentTokens::setStatusCall {
        id: 0,
        status: IPaymentTokens::Status::Enabled,
    };
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, contracts.payment_tokens, &enabled)
        .await?;
    let upgrade = IUpgradeable::upgradeToAndCallCall {
        implementation: contracts.order_book,
        data: Vec::new().into(),
    };
    for proxy in [
        contracts.payment_tokens,
        contracts.provider_registry,
        contracts.stake_manager,
        contracts.service_manager,
    ] {
        deployed
            .refused::<AccessManagedUnauthorized>(guardian, proxy, &upgrade)
            .await?;
    }
    let withdraw = ICommissionSplit::withdrawFoundationCall { token: 0, to: guardian };
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, contracts.commission_split, &withdraw)
        .await?;
    let foundation = IEscrow::setFoundationCall {
        newFoundation: guardian,
    };
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, contracts.escrow, &foundation)
        .await
}

async fn nothing_happens_before_its_delay(deployed: &Deployed) -> eyre::Result<()> {
    let contracts = &deployed.network.contracts;
    let governor = plan::address("governor");
    let call = IOrderBook::setTopGpusCall { ids: U256::from(6) };
    deployed
        .refused::<IAccessManager::AccessManagerNotScheduled>(governor, contracts.order_book, &call)
        .await?;
    let governance = deployed.governance();
    let announced = governance
        .begin(vec![(contracts.order_book, call.abi_encode())])
        .await?
        .ok_or_eyre("the governor has a delay")?;
    let early = governance.finish(announced.clone()).await;
    ensure!(
        matches!(&early, Err(DeployError::Transaction { problem, .. }) if problem.contains("delay")),
        "executed before its delay: {early:?}"
    );
    deployed.anvil.reach(announced.due).await?;
    governance.finish(announced).await?;
    let book = IOrderBook::new(contracts.order_book, &deployed.anvil.provider);
    ensure!(book.topGpus().call().await? == U256::from(6));
    Ok(())
}

async fn the_guardian_cancels(deployed: &Deployed) -> eyre::Result<()> {
    let contracts = &deployed.network.contracts;
    let governance = deployed.governance();
    let manager = contracts.access_manager;
    let stranger = plan::address(STRANGER);
    let foundation = IEscrow::setFoundationCall {
        newFoundation: stranger,
    }
    .abi_encode();
    // A role for somebody without any delay, of which the order book's users would learn too late.
    let granted = IAccessManager::grantRoleCall {
        roleId: Role::Upgrader.id(),
        account: stranger,
        executionDelay: 0,
    };
    let upgrade = IUpgradeable::upgradeToAndCallCall {
        implementation: stranger,
        data: Vec::new().into(),
    };
    let cap = IPaymentTokens::setCapCall { id: 0, cap: 1 };
    for (holder, target, data) in [
        ("governor", contracts.escrow, foundation),
        ("governor", manager, granted.abi_encode()),
        ("governor", contracts.provider_registry, upgrade.abi_encode()),
        ("token-lister", contracts.payment_tokens, cap.abi_encode()),
    ] {
        let announced = governance.begin(vec![(target, data.clone())]).await?;
        let announced = announced.ok_or_eyre("every one of them has a delay")?;
        let cancel = IAccessManager::cancelCall {
            caller: plan::address(holder),
            target,
            data: data.into(),
        };
        deployed
            .refused::<IAccessManager::AccessManagerUnauthorizedCancel>(stranger, manager, &cancel)
            .await?;
        deployed.send("guardian", manager, &cancel).await?;
        deployed.anvil.reach(announced.due).await?;
        let cancelled = governance.finish(announced).await;
        ensure!(
            matches!(&cancelled, Err(DeployError::Transaction { problem, .. }) if problem.contains("cancelled")),
            "executed although cancelled: {cancelled:?}"
        );
    }
    Ok(())
}

/// It cannot cancel its own end.
async fn a_guardian_that_vetoes_everything_goes(deployed: &Deployed) -> eyre::Result<()> {
    let manager = deployed.network.contracts.access_manager;
    let guardian = plan::address("guardian");
    let revoke = IAccessManager::revokeRoleCall {
        roleId: Role::Guardian.id(),
        account: guardian,
    };
    let governance = deployed.governance();
    let announced = governance.begin(vec![(manager, revoke.abi_encode())]).await?;
    let announced = announced.ok_or_eyre("the admin has a delay")?;
    let cancel = IAccessManager::cancelCall {
        caller: plan::address("governor"),
        target: manager,
        data: revoke.abi_encode().into(),
    };
    deployed
        .refused::<IAccessManager::AccessManagerUnauthorizedCancel>(guardian, manager, &cancel)
        .await?;
    deployed.anvil.reach(announced.due).await?;
    governance.finish(announced).await?;
    let book = deployed.network.contracts.order_book;
    deployed
        .refused::<AccessManagedUnauthorized>(guardian, book, &IOrderBook::pauseCall {})
        .await
}

/// What no contract checks because it concerns another one.
async fn what_nobody_could_use_is_refused(deployed: &Deployed) -> eyre::Result<()> {
    let contracts = &deployed.network.contracts;
    let governance = deployed.governance();
    let bidding = IOrderBook::setBiddingCall {
        bidWindow: 3,
        bidLimit: 512,
        paramsVersion: 2,
    };
    let refused = governance
        .begin(vec![(contracts.order_book, bidding.abi_encode())])
        .await;
    ensure!(
        matches!(refused, Err(DeployError::UnknownVersion { version: 2, known: 1 })),
        "orders of a version that nobody matches: {refused:?}"
    );
    let verifier = address!("0x00000000000000000000000000000000000000ff");
    let named = IMatchingTaskManager::setQuorumVerifierCall {
        verifier,
        fromBlock: u32::MAX,
    };
    let refused = governance
        .begin(vec![(contracts.task_manager, named.abi_encode())])
        .await;
    ensure!(
        matches!(refused, Err(DeployError::NoSlasher { verifier: unknown }) if unknown == verifier),
        "a verifier whose lies cost nothing: {refused:?}"
    );
    Ok(())
}
