//! The contracts, deployed and set up as governance does it before the market opens.

use std::collections::BTreeMap;

use accounting::{Who, model::Windows};
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolValue};

use crate::{
    abi::{
        IConstructors, IEscrow, IManaged, IManagedRegistry, IManagedStakes, IOrderBook, IPaymentTokens,
        IProviderRegistry,
    },
    cast::address_of_key,
    chain::{Chain, ChainError, permit2_code},
    feed::{feed_code, put_answer},
    market::{Addresses, MINIMUM_STAKE, PERMIT2, THAW_PERIOD, WHOLE, listings, schedules},
    words::fee_schedule,
};

pub(crate) fn deploy(chain: &mut Chain, windows: &Windows, governor: Address) -> Result<Addresses, ChainError> {
    let mut people: BTreeMap<Who, Address> = Who::ALL.into_iter().map(|who| (who, address_of_key(who))).collect();
    people.insert(Who::Nobody, Address::ZERO);
    let manager = chain.deploy(governor, "AccessManager", &governor.abi_encode())?;

    let mut tokens = Vec::new();
    let mut feeds = Vec::new();
    for (id, listing) in listings().into_iter().enumerate() {
        let token = if listing.symbol == "SPON" {
            let supply = U256::from(listing.whole_supply) * U256::from(WHOLE);
            chain.deploy(governor, "Spon", &(governor, supply).abi_encode_params())?
        } else {
            let call = IConstructors::developmentTokenCall {
                name: listing.symbol.to_owned(),
                symbol: listing.symbol.to_owned(),
                decimals: listing.decimals,
                wholeSupply: U256::from(listing.whole_supply),
            };
            chain.deploy(governor, "DevelopmentToken", &call.abi_encode()[4..])?
        };
        tokens.push(token);
        let feed = Address::repeat_byte(0xf0 + id as u8);
        chain.put_code(feed, feed_code());
        put_answer(chain, feed, &listing.feed);
        feeds.push(feed);
    }

    chain.put_code(PERMIT2, permit2_code()?);
    let book_to_come = chain.next_address(governor, 1);
    let escrow_arguments = (manager, book_to_come, people[&Who::Foundation1], PERMIT2);
    let escrow = chain.deploy(governor, "Escrow", &escrow_arguments.abi_encode_params())?;
    let given = IOrderBook::Parameters {
        bidWindow: windows.bid,
        maximumBidWindow: windows.longest_bid,
        responseWindow: windows.response,
        matchWindow: windows.matching,
        challengeWindow: windows.hold,
        graceWindow: windows.grace,
        lowFundsWindow: windows.low_funds,
        bidLimit: windows.bid_limit as u16,
        paramsVersion: windows.params_version,
    };
    let book = chain.deploy(governor, "OrderBook", &(manager, escrow, given).abi_encode_params())?;
    assert_eq!(book, book_to_come, "the order book's address was predicted wrong");

    let stakes_to_come = chain.next_address(governor, 3);
    let initialize = IManagedRegistry::initializeCall {
        authority: manager,
        stakeManager: stakes_to_come,
    };
    let registry = deploy_proxied(
        chain,
        governor,
        "ProviderRegistry",
        &book.abi_encode(),
        initialize.abi_encode(),
    )?;
    let initialize = IManagedStakes::initializeCall {
        authority: manager,
        minimumStake: MINIMUM_STAKE,
        thawPeriod: THAW_PERIOD,
    };
    let arguments = (tokens[0], registry).abi_encode_params();
    let stakes = deploy_proxied(chain, governor, "StakeManager", &arguments, initialize.abi_encode())?;
    assert_eq!(
        stakes, stakes_to_come,
        "the stake manager's address was predicted wrong"
    );
    let initialize = IManaged::initializeCall { authority: manager };
    let payment_tokens = deploy_proxied(
        chain,
        governor,
        "PaymentTokens",
        &escrow.abi_encode(),
        initialize.abi_encode(),
    )?;

    people.insert(Who::Escrow, escrow);
    let addresses = Addresses {
        people,
        book,
        escrow,
        registry,
        stakes,
        payment_tokens,
        tokens,
        feeds,
    };
    Ok(addresses)
}

/// Everything as governance does it before the market opens.
pub(crate) fn configure(chain: &mut Chain, addresses: &Addresses, governor: Address) {
    let collaborators = [
        (IOrderBook::Collaborator::TaskManager, addresses.of(Who::TaskManager)),
        (IOrderBook::Collaborator::ProviderRegistry, addresses.registry),
        (IOrderBook::Collaborator::PaymentTokens, addresses.payment_tokens),
        (IOrderBook::Collaborator::Disputes, addresses.of(Who::Disputes)),
        (IOrderBook::Collaborator::Slasher, addresses.of(Who::Slasher)),
    ];
    for (role, proposed) in collaborators {
        chain.must(
            governor,
            addresses.book,
            IOrderBook::proposeCollaboratorCall { role, proposed },
        );
    }
    for (schedule, rebated_commission) in schedules() {
        let call = IEscrow::addFeeScheduleCall {
            schedule: fee_schedule(&schedule),
            rebatedCommission: rebated_commission as u16,
        };
        chain.must(governor, addresses.escrow, call);
    }
    for (id, listing) in listings().into_iter().enumerate() {
        let call = IPaymentTokens::listCall {
            token: addresses.tokens[id],
            symbol: listing.symbol.to_owned(),
            feeSchedule: listing.schedule,
            feed: IPaymentTokens::PriceFeed {
                feed: addresses.feeds[id],
                heartbeat: listing.feed.heartbeat as u32,
                minimumPrice: listing.feed.minimum.unsigned_abs(),
                maximumPrice: listing.feed.maximum.unsigned_abs(),
            },
            cap: listing.cap,
        };
        chain.must(governor, addresses.payment_tokens, call);
    }
    chain.must(
        governor,
        addresses.registry,
        IProviderRegistry::addRegionCall {
            name: "eu-west".to_owned(),
        },
    );
    let ids = U256::ONE << 9;
    chain.must(governor, addresses.book, IOrderBook::setTopGpusCall { ids });
}

fn deploy_proxied(
    chain: &mut Chain,
    governor: Address,
    name: &str,
    arguments: &[u8],
    initialize: Vec<u8>,
) -> Result<Address, ChainError> {
    let implementation = chain.deploy(governor, name, arguments)?;
    let call = IConstructors::proxyCall {
        implementation,
        data: initialize.into(),
    };
    chain.deploy(governor, "ERC1967Proxy", &call.abi_encode()[4..])
}
