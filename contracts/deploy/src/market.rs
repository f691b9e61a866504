//! The market: order book and escrow, registries, stake, tokens.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use alloy::sol_types::{SolCall, SolValue};
use bindings::{IEscrow, IOrderBook, IPaymentTokens};
use chain::network::Token;

use crate::contracts::IInitialise;
use crate::deployer::Deployer;
use crate::{DeployError, Parameters, UnsafeParameters, whole};

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
    /// Price feeds of payment tokens, by symbol.
    pub(crate) feeds: BTreeMap<String, Address>,
}

pub(crate) async fn deploy_market<P: Provider>(
    deployer: &mut Deployer<P>,
    parameters: &Parameters,
) -> Result<Market, DeployError> {
    let holder = deployer.address;
    let access_manager = deployer.deploy("AccessManager", holder.abi_encode()).await?;
    let supply = whole(parameters.spon.supply);
    let spon = deployer.deploy("Spon", (holder, supply).abi_encode_params()).await?;
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

    let feeds = deploy_feeds(deployer, parameters).await?;
    let permit2 = match parameters.market.permit2 {
        Some(address) if deployer.provider().get_code_at(address).await?.is_empty() => {
            return Err(DeployError::NoPermit2 { address });
        }
        Some(address) => address,
        None => deployer.deploy_permit2().await?,
    };

    // The two halves of the core name each other: the second one's address follows from the nonce. The foundation is named when
    // the commission's split is there.
    let order_book = deployer.next_address(1);
    let escrow = deployer
        .deploy(
            "Escrow",
            (access_manager, order_book, holder, permit2).abi_encode_params(),
        )
        .await?;
    let windows = &parameters.market;
    let given = IOrderBook::Parameters {
        bidWindow: windows.bid_window,
        maximumBidWindow: windows.maximum_bid_window,
        responseWindow: windows.response_window,
        matchWindow: windows.match_window,
        challengeWindow: windows.challenge_window,
        graceWindow: windows.grace_window,
        lowFundsWindow: windows.low_funds_window,
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
        feeds,
    })
}

/// Price feeds by symbol: those of the parameters, and a settable one of the deployer's where they name a price instead.
async fn deploy_feeds<P: Provider>(
    deployer: &mut Deployer<P>,
    parameters: &Parameters,
) -> Result<BTreeMap<String, Address>, DeployError> {
    let mut feeds = BTreeMap::new();
    for (symbol, listing) in parameters.listings() {
        let feed = match (listing.feed.address, &listing.feed.price) {
            (Some(address), _) => address,
            (None, price) => {
                let price = listing.feed.answer(price.as_deref().unwrap_or_default());
                let price = price.map_err(|problem| UnsafeParameters::Feed {
                    token: symbol.to_owned(),
                    problem,
                })?;
                let description = format!("{symbol} / USD");
                let arguments = (U256::from(listing.feed.decimals), description, price).abi_encode_params();
                deployer.deploy("DevelopmentFeed", arguments).await?
            }
        };
        feeds.insert(symbol.to_owned(), feed);
    }
    Ok(feeds)
}

/// One pair of fee schedules per payment token, because the match fee is in the token's units. Pairs have even ids from two, tokens
/// count from zero.
pub(crate) fn list_tokens(
    calls: &mut Vec<(Address, Vec<u8>)>,
    market: &Market,
    parameters: &Parameters,
) -> Result<Vec<Token>, DeployError> {
    let fees = &parameters.fees;
    let mut tokens = Vec::new();
    for ((id, schedule), (symbol, listing)) in (0u8..).zip((2u16..).step_by(2)).zip(parameters.listings()) {
        let development = parameters
            .development_tokens
            .iter()
            .find(|token| token.symbol == symbol);
        let token = Token {
            id,
            symbol: symbol.to_owned(),
            address: development.map_or(market.spon, |token| market.development_tokens[&token.symbol]),
            decimals: development.map_or(18, |token| token.decimals),
        };
        // SPON pays no facilitation fee: the whitepaper contradicts itself here, see ARCHITECTURE.md.
        let (user, provider) = match development {
            Some(_) => (fees.user, fees.provider),
            None => (0, 0),
        };
        let frozen = bindings::FeeSchedule {
            commission: fees.commission,
            userFee: user,
            providerFee: provider,
            gatewayShare: fees.gateway_share,
            matchFee: listing.match_fee.to(),
        };
        let added = IEscrow::addFeeScheduleCall {
            schedule: frozen,
            rebatedCommission: fees.rebated_commission,
        };
        calls.push((market.escrow, added.abi_encode()));
        let bound = |dollars: &str| {
            let answer = listing.feed.answer(dollars);
            answer
                .map(|answer| answer.to())
                .map_err(|problem| UnsafeParameters::Feed {
                    token: symbol.to_owned(),
                    problem,
                })
        };
        let list = IPaymentTokens::listCall {
            token: token.address,
            symbol: token.symbol.clone(),
            feeSchedule: schedule,
            feed: IPaymentTokens::PriceFeed {
                feed: market.feeds[symbol],
                heartbeat: listing.feed.heartbeat,
                minimumPrice: bound(&listing.feed.minimum)?,
                maximumPrice: bound(&listing.feed.maximum)?,
            },
            cap: (U256::from(listing.cap) * U256::from(10).pow(U256::from(token.decimals))).to(),
        };
        calls.push((market.payment_tokens, list.abi_encode()));
        tokens.push(token);
    }
    Ok(tokens)
}
