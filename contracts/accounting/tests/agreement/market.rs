//! The market as it is deployed, behind real proxies and a real access manager, beside its model. Addresses play task manager,
//! disputes and slasher: to the market they are only callers. Feeds answer what they are told.

use std::collections::{BTreeMap, BTreeSet};

use accounting::{
    Status, Who,
    model::{Amount, GpuPool, Market, Pool, Schedule, Supplier, Token, Windows, brackets::Feed},
};
use alloy_primitives::{Address, U256, address, aliases::U40};
use alloy_sol_types::SolCall;

use crate::{
    abi::{IOrderBook, IProviderRegistry, IStakeManager, IToken},
    cast::address_of_key,
    chain::{Chain, ChainError, Refused, State},
    deployment::{configure, deploy},
    words::capacity_word,
};

pub(crate) const FIRST_BLOCK: u64 = 1_000;
pub(crate) const FIRST_TIME: u64 = 1_800_000_000;

/// Ids of the suppliers. The registry knows the providers; fizz nodes are added in its name.
pub(crate) const PROVIDER_1: u32 = 1;
pub(crate) const PROVIDER_2: u32 = 2;
pub(crate) const FIZZ_1: u32 = 900;
pub(crate) const FIZZ_2: u32 = 901;

/// Where Permit2 is on every chain.
pub(crate) const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");

pub(crate) const MINIMUM_STAKE: u128 = 1_000 * WHOLE;
pub(crate) const THAW_PERIOD: u64 = 7 * 86_400;
pub(crate) const WHOLE: u128 = 10_u128.pow(18);

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) people: BTreeMap<Who, Address>,
    pub(crate) book: Address,
    pub(crate) escrow: Address,
    pub(crate) registry: Address,
    pub(crate) stakes: Address,
    pub(crate) payment_tokens: Address,
    /// By token id.
    pub(crate) tokens: Vec<Address>,
    pub(crate) feeds: Vec<Address>,
}

impl Addresses {
    pub(crate) fn of(&self, who: Who) -> Address {
        self.people[&who]
    }
}

/// A deployed market and its model, as they begin.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) state: State,
    pub(crate) addresses: Addresses,
    pub(crate) model: Market,
}

/// The windows that traces run under: those of the contracts' own tests, a devnet's, and long ones.
pub(crate) fn all_windows() -> [Windows; 3] {
    let windows = |hold, grace, low_funds| Windows {
        bid: 2,
        longest_bid: 20,
        response: 50,
        matching: 30,
        hold,
        grace,
        low_funds,
        bid_limit: 512,
        params_version: 1,
    };
    [windows(600, 3_600, 7_200), windows(60, 60, 120), windows(86_400, 1, 1)]
}

/// A token and its feed. The first is SPON, whose supply is fixed.
pub(crate) struct Listing {
    pub(crate) symbol: &'static str,
    pub(crate) decimals: u8,
    pub(crate) whole_supply: u128,
    pub(crate) whole_each: u128,
    pub(crate) schedule: u16,
    pub(crate) feed: Feed,
    pub(crate) cap: u128,
}

pub(crate) fn listings() -> [Listing; 3] {
    let feed = |decimals, answer: i128, heartbeat| Feed {
        decimals,
        heartbeat,
        minimum: answer / 100,
        maximum: answer * 100,
        answer,
        updated_at: FIRST_TIME,
        broken: false,
    };
    [
        Listing {
            symbol: "SPON",
            decimals: 18,
            whole_supply: 1_000_000_000,
            whole_each: 10_000_000,
            schedule: 2,
            feed: feed(8, 37_123_456, 86_400),
            cap: u128::MAX,
        },
        Listing {
            symbol: "CENTS",
            decimals: 6,
            whole_supply: 1_000_000_000_000,
            whole_each: 10_000_000_000,
            schedule: 4,
            feed: feed(18, WHOLE as i128, 1_000_000),
            cap: 30_000_000_000 * 1_000_000,
        },
        // Enough that an account's 112 bits overflow.
        Listing {
            symbol: "HUGE",
            decimals: 18,
            whole_supply: 10_u128.pow(17),
            whole_each: 6 * 10_u128.pow(15),
            schedule: 6,
            feed: feed(0, 7, 1_000_000),
            cap: u128::MAX,
        },
    ]
}

/// Schedules that tokens begin with, each with the commission of the rebated class.
pub(crate) fn schedules() -> [(Schedule, u32); 3] {
    let schedule = |commission, user_fee, provider_fee, gateway_share, match_fee| Schedule {
        commission,
        user_fee,
        provider_fee,
        gateway_share,
        match_fee,
    };
    [
        (schedule(2_000, 0, 0, 1_000, WHOLE / 100), 1_500),
        (schedule(2_000, 200, 200, 2_500, 1_230), 1_000),
        (schedule(1_999, 201, 199, 3_333, 17), 7),
    ]
}

/// Deploys everything and lists, registers and funds everybody, in both.
pub(crate) fn begin(windows: &Windows) -> Result<Beginning, ChainError> {
    let mut chain = Chain::new(State::default());
    chain.set_block(FIRST_BLOCK, FIRST_TIME);
    let governor = address_of_key(Who::Governor);
    let addresses = deploy(&mut chain, windows, governor)?;
    configure(&mut chain, &addresses, governor);
    let suppliers = add_suppliers(&mut chain, &addresses, governor);
    let (holdings, trusting) = hand_out(&mut chain, &addresses, governor);
    let tokens = listings().into_iter().map(|listing| Token {
        decimals: listing.decimals,
        permits: listing.symbol == "SPON",
        status: Status::Enabled,
        schedule: listing.schedule,
        feed: listing.feed,
        kept_price: None,
        cap: listing.cap.into(),
    });
    let model = Market {
        windows: windows.clone(),
        now: FIRST_TIME,
        block: FIRST_BLOCK,
        paused: false,
        top_gpus: BTreeSet::from([9]),
        foundation: Who::Foundation1,
        tokens: tokens.collect(),
        schedules: paired_schedules(),
        suppliers,
        accounts: BTreeMap::new(),
        orders: BTreeMap::new(),
        credits: BTreeMap::new(),
        holdings,
        trusting,
        allowances: BTreeMap::new(),
        permit_nonces: BTreeMap::new(),
        used_permits: BTreeSet::new(),
        feedback: BTreeMap::new(),
        nonces: BTreeMap::new(),
        donated: BTreeMap::new(),
        outcomes: Vec::new(),
    };
    Ok(Beginning {
        state: chain.state(),
        addresses,
        model,
    })
}

fn paired_schedules() -> BTreeMap<u16, Schedule> {
    let pairs = (1_u16..)
        .zip(schedules())
        .flat_map(|(number, (schedule, rebated_commission))| {
            let rebated = Schedule {
                commission: rebated_commission,
                ..schedule.clone()
            };
            [(2 * number, schedule), (2 * number + 1, rebated)]
        });
    pairs.collect()
}

// --------------------------------------------------------- suppliers and money

/// Two staked providers, the first in the rebated class, and a fizz node behind each.
fn add_suppliers(chain: &mut Chain, addresses: &Addresses, governor: Address) -> BTreeMap<u32, Supplier> {
    let gpus = |entries: [(u8, u32); 4]| {
        entries.map(|(id, count)| GpuPool {
            id,
            pool: Pool::all_free(count),
        })
    };
    let supplier = |owner, gateway, rebated, cpu, gpus| Supplier {
        owner,
        gateway,
        suspended: false,
        rebated,
        cpu: Pool::all_free(cpu),
        memory: Pool::all_free(65_536),
        storage: Pool::all_free(40_960),
        gpus,
        last_bid: (0, 0, 0),
    };
    let suppliers = BTreeMap::from([
        (
            PROVIDER_1,
            supplier(
                Who::Provider1,
                None,
                true,
                10_000,
                gpus([(7, 4), (9, 8), (7, 2), (0, 0)]),
            ),
        ),
        (
            PROVIDER_2,
            supplier(
                Who::Provider2,
                None,
                false,
                1_000,
                gpus([(9, 2), (0, 0), (0, 0), (3, 1)]),
            ),
        ),
        (
            FIZZ_1,
            supplier(
                Who::Fizz1,
                Some(PROVIDER_1),
                false,
                1_600,
                gpus([(7, 1), (0, 0), (0, 0), (0, 0)]),
            ),
        ),
        (
            FIZZ_2,
            supplier(Who::Fizz2, Some(PROVIDER_2), true, 800, gpus([(0, 0); 4])),
        ),
    ]);
    for (id, supplier) in &suppliers {
        let owner = addresses.of(supplier.owner);
        match supplier.gateway {
            None => add_provider(chain, addresses, governor, owner, *id),
            Some(gateway) => {
                let call = IOrderBook::addSupplierCall {
                    supplier: *id,
                    owner,
                    gateway,
                };
                chain.must(addresses.registry, addresses.book, call);
            }
        }
        set_fee_class(chain, addresses, *id, supplier.rebated).expect("the supplier is known");
        let capacity = capacity_word(supplier);
        chain.must(owner, addresses.book, IOrderBook::setCapacityCall { capacity });
    }
    suppliers
}

fn add_provider(chain: &mut Chain, addresses: &Addresses, governor: Address, owner: Address, id: u32) {
    let call = IProviderRegistry::registerCall {
        name: format!("provider {id}"),
        gateway: "https://provider.example:8443".to_owned(),
        region: 1,
        zone: 0,
        tokens: u32::MAX,
    };
    assert_eq!(chain.must(owner, addresses.registry, call), id, "id of the provider");
    let (spon, amount) = (addresses.tokens[0], U256::from(MINIMUM_STAKE));
    chain.must(governor, spon, IToken::transferCall { to: owner, amount });
    let spender = addresses.stakes;
    chain.must(owner, spon, IToken::approveCall { spender, amount });
    chain.must(owner, spender, IStakeManager::stakeCall { provider: id, amount });
}

/// A provider's class follows its trust tier; of a fizz node the registry would say it.
pub(crate) fn set_fee_class(
    chain: &mut Chain,
    addresses: &Addresses,
    supplier: u32,
    rebated: bool,
) -> Result<alloy_primitives::Bytes, Refused> {
    if supplier == PROVIDER_1 || supplier == PROVIDER_2 {
        let call = IProviderRegistry::setVerifiedCall {
            id: supplier,
            trustTier: if rebated { 1 } else { 2 },
            compliance: 0,
            attributes: U40::ZERO,
        };
        chain.send(addresses.of(Who::Governor), addresses.registry, call.abi_encode())
    } else {
        let call = IOrderBook::setFeeClassCall { supplier, rebated };
        chain.send(addresses.registry, addresses.book, call.abi_encode())
    }
}

/// Users hold every token and let the escrow take it; Sam and the stranger hold some and do not. All but the stranger let
/// Permit2 take it.
fn hand_out(
    chain: &mut Chain,
    addresses: &Addresses,
    governor: Address,
) -> (BTreeMap<(Who, u8), Amount>, BTreeSet<Who>) {
    let mut holdings = BTreeMap::new();
    for (id, listing) in (0_u8..).zip(listings()) {
        let token = addresses.tokens[usize::from(id)];
        for who in Who::SIGNERS {
            let amount = listing.whole_each * 10_u128.pow(u32::from(listing.decimals));
            let to = addresses.of(who);
            let call = IToken::transferCall {
                to,
                amount: U256::from(amount),
            };
            chain.must(governor, token, call);
            holdings.insert((who, id), Amount::from(amount));
            let mut approve = |spender| {
                let amount = U256::MAX;
                chain.must(to, token, IToken::approveCall { spender, amount });
            };
            if Who::USERS.contains(&who) {
                approve(addresses.escrow);
            }
            if who != Who::Stranger {
                approve(PERMIT2);
            }
        }
    }
    (holdings, BTreeSet::from(Who::USERS))
}
