//! Opting in and out of the service's operator sets.
//!
//! Level-triggered: [`observe`] reads where the operator stands, [`next_step`] says what is missing. Nothing is remembered
//! between calls, so that a restart (or a second run) goes on where the chain is. The order of the steps is the one that
//! works on the real contracts: register as operator, deposit, wait for the allocation delay to be configured, allocate,
//! wait for the allocation to take effect, and only then register for the sets (registering earlier records a stake of zero).

use alloy::contract::Error as ContractError;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::Provider;
use alloy::sol_types::{SolCall, SolValue};
use avs::bn254::{PointError, SecretKey};
use chain::network::Network;

use crate::contracts::{
    G1Point, IAllocationManager, IBlsApkRegistry, IDelegationManager, IErc20, ISlashingRegistryCoordinator,
    ISocketRegistry, IStakeRegistry, IStrategy, IStrategyManager, OperatorSet, PubkeyRegistrationParams,
};

/// The magnitude of an operator that was never slashed (EigenLayer `WAD`).
const WHOLE_MAGNITUDE: u64 = 1_000_000_000_000_000_000;

/// EigenLayer's contracts and the service's registries.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub delegation_manager: Address,
    pub strategy_manager: Address,
    pub allocation_manager: Address,
    pub registry_coordinator: Address,
    pub stake_registry: Address,
    pub bls_apk_registry: Address,
    pub operator_state_retriever: Address,
    pub socket_registry: Address,
    /// The account the service has in EigenLayer.
    pub service_manager: Address,
}

impl From<&Network> for Addresses {
    fn from(network: &Network) -> Self {
        let eigenlayer = &network.eigenlayer;
        Self {
            delegation_manager: eigenlayer.delegation_manager,
            strategy_manager: eigenlayer.strategy_manager,
            allocation_manager: eigenlayer.allocation_manager,
            registry_coordinator: eigenlayer.registry_coordinator,
            stake_registry: eigenlayer.stake_registry,
            bls_apk_registry: eigenlayer.bls_apk_registry,
            operator_state_retriever: eigenlayer.operator_state_retriever,
            socket_registry: eigenlayer.socket_registry,
            service_manager: network.contracts.service_manager,
        }
    }
}

/// What the operator brings to one quorum.
#[derive(Clone, Debug)]
pub struct QuorumStake {
    /// Quorum number, which is the operator set's id.
    pub quorum: u8,
    pub strategy: Address,
    /// Shares the operator must have in the strategy; what is missing is deposited from its own balance. Token units.
    pub deposit: U256,
}

/// What opting in shall reach.
#[derive(Clone, Debug)]
pub struct OptIn {
    pub operator: Address,
    pub quorums: Vec<QuorumStake>,
    /// Blocks before an allocation takes effect; chosen at registration.
    pub allocation_delay: u32,
    pub metadata_uri: String,
    /// Where the operator can be reached; recorded on chain.
    pub socket: String,
}

/// Where the operator stands in one quorum.
#[derive(Clone, Debug)]
pub struct QuorumStanding {
    pub quorum: u8,
    pub strategy: Address,
    pub token: Address,
    pub balance: U256,
    pub allowance: U256,
    pub shares: U256,
    /// Magnitude allocated to the set and in effect, 1e18 being the whole.
    pub allocated: u64,
    /// Change of the allocation that is not in effect yet, and the block at which it will be.
    pub pending: Option<(i128, u32)>,
    /// Magnitude not allocated to any set.
    pub allocatable: u64,
    pub member: bool,
    /// Still slashable for the set: true also for a while after leaving it.
    pub slashable: bool,
    /// Stake the middleware counts now.
    pub registered_stake: U256,
    /// Stake the middleware would count at a refresh (zero before the operator is a member), and the least it takes.
    pub weight: U256,
    pub minimum_stake: U256,
}

/// Where the operator stands.
#[derive(Clone, Debug)]
pub struct Standing {
    pub block: u64,
    pub is_operator: bool,
    /// `None` until EigenLayer's configuration delay has passed.
    pub allocation_delay: Option<u32>,
    pub deallocation_delay: u32,
    pub registered: bool,
    /// Where others reach it, as it is on chain; empty before registration.
    pub socket: String,
    pub quorums: Vec<QuorumStanding>,
}

/// A call that takes the operator one step further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub to: Address,
    pub data: Bytes,
    /// What it does, for people.
    pub label: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Send(Call),
    /// Nothing to send: EigenLayer lets time pass first. `until` where the block is known.
    Wait {
        until: Option<u64>,
        reason: String,
    },
    Done,
}

/// Why the operator cannot opt in as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Impossible {
    #[error(
        "quorum {quorum}: {missing} token units are missing to deposit {deposit}: fund the operator's address with token {token}"
    )]
    NotEnoughTokens {
        quorum: u8,
        token: Address,
        deposit: U256,
        missing: U256,
    },
    #[error(
        "quorum {quorum}: nothing is allocated to the service and nothing is left to allocate in strategy {strategy}: free some of its magnitude first"
    )]
    NothingToAllocate { quorum: u8, strategy: Address },
    #[error("quorum {quorum}: the allocated stake of {stake} is below the minimum of {minimum}: deposit more")]
    BelowMinimum { quorum: u8, stake: U256, minimum: U256 },
    #[error("quorum {quorum}: no stake in strategy {strategy}: deposit with --deposit {quorum}=AMOUNT")]
    NoStake { quorum: u8, strategy: Address },
}

/// Reads where an operator stands.
pub async fn observe<P: Provider>(
    provider: &P,
    addresses: &Addresses,
    operator: Address,
    quorums: &[(u8, Address)],
) -> Result<Standing, ContractError> {
    let delegation = IDelegationManager::new(addresses.delegation_manager, provider);
    let allocation = IAllocationManager::new(addresses.allocation_manager, provider);
    let coordinator = ISlashingRegistryCoordinator::new(addresses.registry_coordinator, provider);
    let stakes = IStakeRegistry::new(addresses.stake_registry, provider);

    let block = provider.get_block_number().await?;
    let is_operator = delegation.isOperator(operator).call().await?;
    let delay = allocation.getAllocationDelay(operator).call().await?;
    let registered = coordinator.getOperatorStatus(operator).call().await? == 1;
    let operator_id = coordinator.getOperatorId(operator).call().await?;
    let sockets = ISocketRegistry::new(addresses.socket_registry, provider);
    let socket = sockets.getOperatorSocket(operator_id).call().await?;
    let mut standings = Vec::with_capacity(quorums.len());
    for &(quorum, strategy) in quorums {
        let set = OperatorSet {
            avs: addresses.service_manager,
            id: quorum.into(),
        };
        let token = IStrategy::new(strategy, provider).underlyingToken().call().await?;
        let erc20 = IErc20::new(token, provider);
        let held = allocation.getAllocation(operator, set.clone(), strategy).call().await?;
        standings.push(QuorumStanding {
            quorum,
            strategy,
            token,
            balance: erc20.balanceOf(operator).call().await?,
            allowance: erc20.allowance(operator, addresses.strategy_manager).call().await?,
            shares: delegation
                .getOperatorShares(operator, vec![strategy])
                .call()
                .await?
                .first()
                .copied()
                .unwrap_or_default(),
            allocated: held.currentMagnitude,
            pending: (held.pendingDiff != 0).then_some((held.pendingDiff, held.effectBlock)),
            allocatable: allocation.getAllocatableMagnitude(operator, strategy).call().await?,
            member: allocation.isMemberOfOperatorSet(operator, set.clone()).call().await?,
            slashable: allocation.isOperatorSlashable(operator, set).call().await?,
            registered_stake: U256::from(stakes.getCurrentStake(operator_id, quorum).call().await?),
            weight: U256::from(stakes.weightOfOperatorForQuorum(quorum, operator).call().await?),
            minimum_stake: U256::from(stakes.minimumStakeForQuorum(quorum).call().await?),
        });
    }
    Ok(Standing {
        block,
        is_operator,
        allocation_delay: delay._0.then_some(delay._1),
        deallocation_delay: allocation.DEALLOCATION_DELAY().call().await?,
        registered,
        socket,
        quorums: standings,
    })
}

/// The registration data of a BLS key: `abi.encode(uint8 0, string socket, (signature, G1 key, G2 key))`, the signature being
/// the proof that the operator holds the key.
pub async fn registration_data<P: Provider>(
    provider: &P,
    addresses: &Addresses,
    operator: Address,
    key: &SecretKey,
    socket: &str,
) -> Result<Bytes, RegistrationDataError> {
    let coordinator = ISlashingRegistryCoordinator::new(addresses.registry_coordinator, provider);
    let message = coordinator.pubkeyRegistrationMessageHash(operator).call().await?;
    let public = key.public_key();
    let params = PubkeyRegistrationParams {
        pubkeyRegistrationSignature: key.sign_point(&message.into())?.point().into(),
        pubkeyG1: public.g1().into(),
        pubkeyG2: public.g2().into(),
    };
    Ok((U256::ZERO, socket.to_owned(), params).abi_encode_params().into())
}

/// Why the registration data could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationDataError {
    #[error("the registry coordinator did not answer")]
    Contract(#[from] ContractError),
    #[error("the registry coordinator asks to sign something that is not a point of the curve")]
    NotAPoint(#[from] PointError),
}

/// Whether the key an operator registered on chain, if any, is this one.
pub async fn registered_key_is<P: Provider>(
    provider: &P,
    addresses: &Addresses,
    operator: Address,
    key: &SecretKey,
) -> Result<Option<bool>, ContractError> {
    let registry = IBlsApkRegistry::new(addresses.bls_apk_registry, provider);
    let coordinator = ISlashingRegistryCoordinator::new(addresses.registry_coordinator, provider);
    if coordinator.getOperatorId(operator).call().await?.is_zero() {
        return Ok(None);
    }
    let registered = registry.getRegisteredPubkey(operator).call().await?;
    Ok(Some(registered._0 == G1Point::from(key.public_key().g1())))
}

/// The next step of opting in. `registration_data` as made by [`registration_data`].
pub fn next_step(
    wanted: &OptIn,
    standing: &Standing,
    addresses: &Addresses,
    registration_data: &Bytes,
) -> Result<Step, Impossible> {
    if standing.quorums.iter().all(|quorum| quorum.member) {
        return Ok(socket_update(standing, &wanted.socket, addresses).map_or(Step::Done, Step::Send));
    }
    if !standing.is_operator {
        let call = IDelegationManager::registerAsOperatorCall {
            initDelegationApprover: Address::ZERO,
            allocationDelay: wanted.allocation_delay,
            metadataURI: wanted.metadata_uri.clone(),
        };
        return Ok(send(
            addresses.delegation_manager,
            &call,
            "register as an EigenLayer operator".into(),
        ));
    }
    if let Some(step) = next_deposit(wanted, standing, addresses)? {
        return Ok(step);
    }
    if standing.allocation_delay.is_none() {
        let reason = "EigenLayer's allocation configuration delay after registering as an operator".into();
        return Ok(Step::Wait { until: None, reason });
    }
    if let Some(step) = next_allocation(wanted, standing, addresses)? {
        return Ok(step);
    }
    for quorum in &standing.quorums {
        // The registry's own weight is zero until the operator is a member: before that, it follows from the allocation.
        let stake = quorum.shares * U256::from(quorum.allocated) / U256::from(WHOLE_MAGNITUDE);
        if !quorum.member && stake < quorum.minimum_stake {
            return Err(Impossible::BelowMinimum {
                quorum: quorum.quorum,
                stake,
                minimum: quorum.minimum_stake,
            });
        }
        if !quorum.member && quorum.slashable {
            let reason = format!(
                "quorum {}: the operator left it recently and may come back after the deallocation delay",
                quorum.quorum
            );
            return Ok(Step::Wait { until: None, reason });
        }
    }
    let missing: Vec<u32> = standing
        .quorums
        .iter()
        .filter(|quorum| !quorum.member)
        .map(|quorum| quorum.quorum.into())
        .collect();
    let call = IAllocationManager::registerForOperatorSetsCall {
        operator: wanted.operator,
        params: IAllocationManager::RegisterParams {
            avs: addresses.service_manager,
            operatorSetIds: missing,
            data: registration_data.clone(),
        },
    };
    Ok(send(
        addresses.allocation_manager,
        &call,
        "register for the service's operator sets with the BLS key".into(),
    ))
}

/// The call that makes the socket on chain the wanted one, if a registered operator needs it. An empty one is none: operators
/// push, so nobody has to reach them.
pub fn socket_update(standing: &Standing, wanted: &str, addresses: &Addresses) -> Option<Call> {
    let differs = standing.registered && !wanted.is_empty() && standing.socket != wanted;
    differs.then(|| Call {
        to: addresses.registry_coordinator,
        data: ISlashingRegistryCoordinator::updateSocketCall {
            socket: wanted.to_owned(),
        }
        .abi_encode()
        .into(),
        label: "update the socket on chain".to_owned(),
    })
}

fn next_deposit(wanted: &OptIn, standing: &Standing, addresses: &Addresses) -> Result<Option<Step>, Impossible> {
    for stake in &wanted.quorums {
        let Some(quorum) = standing.quorums.iter().find(|standing| standing.quorum == stake.quorum) else {
            continue;
        };
        if quorum.shares.is_zero() && stake.deposit.is_zero() {
            return Err(Impossible::NoStake {
                quorum: quorum.quorum,
                strategy: quorum.strategy,
            });
        }
        let missing = stake.deposit.saturating_sub(quorum.shares);
        if missing.is_zero() {
            continue;
        }
        if quorum.balance < missing {
            let (deposit, missing) = (stake.deposit, missing - quorum.balance);
            return Err(Impossible::NotEnoughTokens {
                quorum: quorum.quorum,
                token: quorum.token,
                deposit,
                missing,
            });
        }
        if quorum.allowance < missing {
            let call = IErc20::approveCall {
                spender: addresses.strategy_manager,
                amount: missing,
            };
            return Ok(Some(send(
                quorum.token,
                &call,
                format!("quorum {}: allow EigenLayer to take the deposit", quorum.quorum),
            )));
        }
        let call = IStrategyManager::depositIntoStrategyCall {
            strategy: quorum.strategy,
            token: quorum.token,
            amount: missing,
        };
        return Ok(Some(send(
            addresses.strategy_manager,
            &call,
            format!("quorum {}: deposit {missing} token units", quorum.quorum),
        )));
    }
    Ok(None)
}

fn next_allocation(wanted: &OptIn, standing: &Standing, addresses: &Addresses) -> Result<Option<Step>, Impossible> {
    let mut params = Vec::new();
    let mut waiting: Option<u32> = None;
    for quorum in standing.quorums.iter().filter(|quorum| !quorum.member) {
        match quorum.pending {
            Some((_, effect)) => waiting = waiting.max(Some(effect)),
            None if quorum.allocated > 0 => {}
            None if quorum.allocatable == 0 => {
                return Err(Impossible::NothingToAllocate {
                    quorum: quorum.quorum,
                    strategy: quorum.strategy,
                });
            }
            None => params.push(IAllocationManager::AllocateParams {
                operatorSet: OperatorSet {
                    avs: addresses.service_manager,
                    id: quorum.quorum.into(),
                },
                strategies: vec![quorum.strategy],
                newMagnitudes: vec![quorum.allocatable],
            }),
        }
    }
    if !params.is_empty() {
        let call = IAllocationManager::modifyAllocationsCall {
            operator: wanted.operator,
            params,
        };
        return Ok(Some(send(
            addresses.allocation_manager,
            &call,
            "allocate slashable stake to the service".into(),
        )));
    }
    Ok(waiting.map(|effect| Step::Wait {
        until: Some(effect.into()),
        reason: "the allocation takes effect".into(),
    }))
}

/// The next step of opting out: leave the sets, then take the allocations back. Stake stays slashable for the deallocation
/// delay.
pub fn next_step_out(operator: Address, standing: &Standing, addresses: &Addresses) -> Step {
    let member: Vec<u32> = standing
        .quorums
        .iter()
        .filter(|quorum| quorum.member)
        .map(|quorum| quorum.quorum.into())
        .collect();
    if !member.is_empty() {
        let call = IAllocationManager::deregisterFromOperatorSetsCall {
            params: IAllocationManager::DeregisterParams {
                operator,
                avs: addresses.service_manager,
                operatorSetIds: member,
            },
        };
        return send(
            addresses.allocation_manager,
            &call,
            "leave the service's operator sets".into(),
        );
    }
    let held = standing
        .quorums
        .iter()
        .filter(|quorum| quorum.allocated > 0 && quorum.pending.is_none());
    let params: Vec<_> = held
        .map(|quorum| IAllocationManager::AllocateParams {
            operatorSet: OperatorSet {
                avs: addresses.service_manager,
                id: quorum.quorum.into(),
            },
            strategies: vec![quorum.strategy],
            newMagnitudes: vec![0],
        })
        .collect();
    if !params.is_empty() {
        let call = IAllocationManager::modifyAllocationsCall { operator, params };
        return send(addresses.allocation_manager, &call, "take the allocations back".into());
    }
    match standing
        .quorums
        .iter()
        .filter_map(|quorum| quorum.pending)
        .map(|(_, effect)| effect)
        .max()
    {
        Some(effect) => Step::Wait {
            until: Some(effect.into()),
            reason: "EigenLayer's deallocation delay: the stake is still slashable".into(),
        },
        None => Step::Done,
    }
}

fn send(to: Address, call: &impl SolCall, label: String) -> Step {
    Step::Send(Call {
        to,
        data: call.abi_encode().into(),
        label,
    })
}

#[cfg(test)]
mod tests;
