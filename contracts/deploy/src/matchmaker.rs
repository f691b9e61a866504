//! One matchmaker in place of the quorum.

use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use bindings::standard::IERC20;
use bindings::{IMatchingDisputes, ISingleMatchmaker};
use chain::network::Network;

use crate::deployer::{Artifacts, Deployer};
use crate::{Call, DeployError, Parameters, roles, whole};

/// Deploys the contract of a matchmaker with its bond, from whoever holds SPON. It decides nothing until governance has made the
/// [`matchmaker_decisions`] about it, and names it as the task manager's verifier, from a block on.
pub async fn deploy_matchmaker<P: Provider + Clone>(
    provider: P,
    signer: PrivateKeySigner,
    artifacts: Artifacts,
    network: &Network,
    matchmaker: Address,
    parameters: &Parameters,
) -> Result<Address, DeployError> {
    let settings = &parameters.matchmaker;
    let contracts = &network.contracts;
    let mut deployer = Deployer::new(provider, signer, artifacts).await?;
    let arguments = (
        contracts.access_manager,
        contracts.disputes,
        contracts.spon,
        matchmaker,
        whole(settings.slash_amount),
    )
        .abi_encode_params();
    let contract = deployer.deploy("SingleMatchmaker", arguments).await?;
    let bond: U256 = whole(settings.bond);
    let approve = IERC20::approveCall {
        spender: contract,
        value: bond,
    };
    deployer.call("the bond's approval", contracts.spon, &approve).await?;
    deployer
        .call("the bond", contract, &ISingleMatchmaker::depositCall { amount: bond })
        .await?;
    Ok(contract)
}

/// What governance decides about a matchmaker's contract before it names it: who slashes it, and what its bond covers. Its own
/// functions go to their roles along with it; until then they are the admin's.
pub fn matchmaker_decisions(
    network: &Network,
    contract: Address,
    parameters: &Parameters,
) -> Result<Vec<Call>, DeployError> {
    let contracts = &network.contracts;
    let named = IMatchingDisputes::setSlasherCall {
        verifier: contract,
        slasher: contract,
    };
    let mut calls = vec![(contracts.disputes, named.abi_encode())];
    for (symbol, units) in &parameters.matchmaker.coverage {
        let token = network
            .token(symbol)
            .ok_or_else(|| DeployError::UnknownCoverage { token: symbol.clone() })?;
        let covered = ISingleMatchmaker::setCoverageCall {
            token: token.id,
            unitsPerSpon: *units,
        };
        calls.push((contract, covered.abi_encode()));
    }
    let assigned = roles::assignments("SingleMatchmaker", contract);
    calls.extend(assigned.into_iter().map(|data| (contracts.access_manager, data)));
    Ok(calls)
}
