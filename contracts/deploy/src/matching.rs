//! What decides matches, and what stands behind it: task manager, quorum verifier, the rule on chain, disputes, slasher, the
//! commission's split.

use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use alloy::sol_types::{SolCall, SolValue};
use bindings::{
    ICommissionSplit, IEscrow, IMatchingDisputes, IMatchingServiceManager, IMatchingTaskManager, IOrderBook,
    IProviderRegistry,
};
use chain::network::Token;

use crate::contracts::{IAllocationManagerSlashing, IRewardsCoordinator};
use crate::deployer::Deployer;
use crate::market::{Market, list_tokens};
use crate::middleware::Middleware;
use crate::{DeployError, Parameters, execute};

/// Wad of one millionth.
const MILLIONTH: u64 = 1_000_000_000_000;

/// Addresses of what decides matches.
pub(crate) struct Matching {
    pub(crate) quorum_verifier: Address,
    pub(crate) task_manager: Address,
    pub(crate) rule: Address,
    pub(crate) disputes: Address,
    pub(crate) slasher: Address,
    pub(crate) commission_split: Address,
}

/// Deploys it all; [`govern`] wires it.
pub(crate) async fn deploy_matching<P: Provider>(
    deployer: &mut Deployer<P>,
    market: &Market,
    middleware: &Middleware,
    parameters: &Parameters,
) -> Result<Matching, DeployError> {
    let service_manager = middleware.service_manager;
    let eigenlayer = &middleware.eigenlayer;
    let (authority, coordinator) = (market.access_manager, eigenlayer.registry_coordinator);
    let quorums = &parameters.quorums;
    let numbers: Vec<U256> = (0..quorums.quorum.len()).map(U256::from).collect();
    let thresholds: Vec<U256> = quorums
        .quorum
        .iter()
        .map(|quorum| U256::from(quorum.threshold))
        .collect();
    let arguments = (coordinator, numbers, thresholds, U256::from(quorums.maximum_stake_age)).abi_encode_params();
    let quorum_verifier = deployer.deploy("BlsQuorumVerifier", arguments).await?;
    // Behind no proxy: who opens leases changes only by the order book's own, long delay.
    let arguments = (authority, market.order_book, quorum_verifier).abi_encode_params();
    let task_manager = deployer.deploy("MatchingTaskManager", arguments).await?;
    let rule = deployer.deploy("MatchingRule", Vec::new()).await?;
    let challenge_blocks = U256::from(parameters.disputes.challenge_blocks);
    let arguments = (authority, task_manager, challenge_blocks).abi_encode_params();
    let disputes = deployer.deploy("MatchingDisputes", arguments).await?;
    let fraction = U256::from(parameters.disputes.slash_fraction) * U256::from(MILLIONTH);
    let arguments = (authority, disputes, service_manager, quorum_verifier, fraction).abi_encode_params();
    let slasher = deployer.deploy("AllocationSlasher", arguments).await?;
    let arguments = (
        authority,
        market.escrow,
        eigenlayer.rewards_coordinator,
        service_manager,
        coordinator,
    )
        .abi_encode_params();
    let commission_split = deployer.deploy("CommissionSplit", arguments).await?;
    Ok(Matching {
        quorum_verifier,
        task_manager,
        rule,
        disputes,
        slasher,
        commission_split,
    })
}

/// All that governance decides at the start, in one transaction of the access manager.
pub(crate) async fn govern<P: Provider>(
    deployer: &mut Deployer<P>,
    market: &Market,
    middleware: &Middleware,
    matching: &Matching,
    parameters: &Parameters,
) -> Result<Vec<Token>, DeployError> {
    let mut calls: Vec<(Address, Vec<u8>)> = Vec::new();
    for (role, proposed) in [
        (IOrderBook::Collaborator::TaskManager, matching.task_manager),
        (IOrderBook::Collaborator::ProviderRegistry, market.provider_registry),
        (IOrderBook::Collaborator::PaymentTokens, market.payment_tokens),
        (IOrderBook::Collaborator::Disputes, matching.disputes),
    ] {
        calls.push((
            market.order_book,
            IOrderBook::proposeCollaboratorCall { role, proposed }.abi_encode(),
        ));
    }
    calls.push((
        matching.task_manager,
        IMatchingTaskManager::addMatchingParametersCall {
            parameters: first_version(matching.rule, parameters),
        }
        .abi_encode(),
    ));
    let top = IOrderBook::setTopGpusCall {
        ids: parameters.top_gpu_ids()?,
    };
    calls.push((market.order_book, top.abi_encode()));
    let tokens = list_tokens(&mut calls, market, parameters)?;
    back_answers(&mut calls, middleware, matching);
    split_commission(&mut calls, market, matching, &tokens, parameters)?;
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

fn first_version(rule: Address, parameters: &Parameters) -> bindings::MatchingParameters {
    let matching = &parameters.matching;
    bindings::MatchingParameters {
        weights: [
            matching.price,
            matching.region,
            matching.feedback,
            matching.availability,
            matching.slashes,
            matching.trust_tier,
            matching.stake,
            matching.randomness,
        ],
        stakeCap: alloy::primitives::Uint::from(matching.stake_cap),
        rankLimit: matching.rank_limit,
        chunkSize: matching.chunk_size,
        rule,
    }
}

/// Who acts in the service's name: the slasher for a wrong answer, the split for the operators' rewards.
fn back_answers(calls: &mut Vec<(Address, Vec<u8>)>, middleware: &Middleware, matching: &Matching) {
    let (eigenlayer, service_manager) = (&middleware.eigenlayer, middleware.service_manager);
    let named = IMatchingDisputes::setSlasherCall {
        verifier: matching.quorum_verifier,
        slasher: matching.slasher,
    };
    calls.push((matching.disputes, named.abi_encode()));
    let appointed = IMatchingServiceManager::setAppointeeCall {
        appointee: matching.slasher,
        target: eigenlayer.allocation_manager,
        selector: IAllocationManagerSlashing::slashOperatorCall::SELECTOR.into(),
    };
    calls.push((service_manager, appointed.abi_encode()));
    let appointed = IMatchingServiceManager::setAppointeeCall {
        appointee: matching.commission_split,
        target: eigenlayer.rewards_coordinator,
        selector: IRewardsCoordinator::createOperatorDirectedOperatorSetRewardsSubmissionCall::SELECTOR.into(),
    };
    calls.push((service_manager, appointed.abi_encode()));
}

/// Where the commission goes: the escrow's foundation becomes the split.
fn split_commission(
    calls: &mut Vec<(Address, Vec<u8>)>,
    market: &Market,
    matching: &Matching,
    tokens: &[Token],
    parameters: &Parameters,
) -> Result<(), DeployError> {
    let commission = &parameters.commission;
    let token = tokens.iter().find(|token| token.symbol == commission.reward_token);
    let token = token.ok_or_else(|| DeployError::UnknownRewardToken {
        token: commission.reward_token.clone(),
    })?;
    let split = matching.commission_split;
    let shares = ICommissionSplit::setSharesCall {
        reserveShare: commission.reserve_share,
        operatorShare: commission.operator_share,
    };
    let reward = ICommissionSplit::setRewardCall {
        token: token.id,
        amount: commission.reward,
    };
    let foundation = IEscrow::setFoundationCall { newFoundation: split };
    calls.push((split, shares.abi_encode()));
    calls.push((split, reward.abi_encode()));
    calls.push((market.escrow, foundation.abi_encode()));
    calls.push((
        matching.disputes,
        IMatchingDisputes::setReserveCall { reserve: split }.abi_encode(),
    ));
    Ok(())
}
