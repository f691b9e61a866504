//! The market: order book and escrow, registries, stake, tokens.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use alloy::sol_types::{SolCall, SolValue};
use bindings::{IEscrow, IOrderBook, IPaymentTokens};
use chain::network::Token;

use crate::contracts::IInitialise;
use crate::deployer::Deployer;
use crate::{DeployError, Parameters, whole};

/// Addresses of the market's contracts.
pub(crate) struct Market {
    pub(crate) access_manager: Address,
    pub(crate) escrow: Address,
    pub(crate) order_book: Address,
    pub(crate) payment_tokens: Address,
    pub(crate) provider_registry: Address,
    pub(crate) certificate_registry: Address,
    pub(crate) stake_manager: Address,
    pub(crate) spon: Address,
    /// By symbol.
    pub(crate) development_tokens: BTreeMap<String, Address>,
}

pub(crate) async fn deploy_market<P: Provider>(
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
        matchWindow: windows.match_window,
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

/// One fee schedule per payment token, because the match fee is in the token's units. Schedules count from one, tokens from
/// zero.
pub(crate) fn list_tokens(calls: &mut Vec<(Address, Vec<u8>)>, market: &Market, parameters: &Parameters) -> Vec<Token> {
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
