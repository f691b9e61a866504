//! `spheron account history`: every payment and fee of an account, from the chain's events, and whether the sums are what the
//! contract holds.

mod events;
mod people;
mod showing;
mod telling;

use std::collections::{BTreeMap, BTreeSet};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use avs::words::OrderId;
use bindings::Order;
use eyre::{OptionExt as _, WrapErr as _};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::arguments::History;
use crate::chain::read;
use crate::failure::Failure;
use crate::ledger::{Event, Facts, Ledger, Place};
use crate::log_pages::TOPICS_AT_ONCE;
use crate::session::Session;

/// Orders and blocks that are read at the same time.
const READS_AT_ONCE: usize = 16;
/// How often the balances are read again because a block came in between.
const ATTEMPTS: usize = 20;

/// What the chain holds for an account, all as of one block.
struct Held {
    block: u64,
    time: u64,
    /// Unlocked, locked and the nonce of the last order, by token.
    tokens: BTreeMap<u8, (U256, U256, u32)>,
}

pub(super) async fn run(session: &Session<'_>, arguments: &History) -> eyre::Result<()> {
    let named = arguments.lease.map(OrderId::unpack);
    if let (Some(account), Some(lease)) = (arguments.account, named)
        && lease.account != account
    {
        return Err(Failure::bad_input(format!(
            "order {} belongs to account {}, not to {account}",
            lease.pack()?,
            lease.account
        ))
        .into());
    }
    let account = session
        .account(arguments.account.or(named.map(|lease| lease.account)))
        .await?;
    if let Some(lease) = arguments.lease {
        session.order(lease).await?;
        let token = session.token_of(lease)?;
        if let Some(wanted) = arguments.token.as_deref().filter(|wanted| *wanted != token.symbol) {
            let problem = format!("order {lease} is paid in {}, not in {wanted}", token.symbol);
            return Err(Failure::bad_input(problem).into());
        }
    }
    let owner = session.owner_of(account).await?;
    let opened = session.opened_at(account).await?;
    let held = held(session, account).await?;
    let ids = ids(account, &held)?;
    session.output.step(format!(
        "reading the blocks {opened} to {} for account {account} and its {} orders",
        held.block,
        ids.len()
    ));
    let mut events = account_events(session, account, opened, held.block).await?;
    events.extend(order_events(session, &ids, opened, held.block).await?);
    let facts = facts(session, &events).await?;
    let placed = times(session, events).await?;
    let mut ledger = Ledger::replay(placed, &facts);
    compare(&mut ledger, &held);
    showing::show(session, arguments, account, owner, &ledger, &held).await
}

/// The balances and the block they are of. Blocks may come in between: then they are read again.
async fn held(session: &Session<'_>, account: u32) -> eyre::Result<Held> {
    for _ in 0..ATTEMPTS {
        let (block, time) = session.chain.head().await?;
        let mut tokens = BTreeMap::new();
        for token in &session.chain.network.tokens {
            let balance = session.balance(account, token.id).await?;
            tokens.insert(token.id, (balance.unlocked, balance.locked, balance.nonce));
        }
        if session.chain.head().await?.0 == block {
            return Ok(Held { block, time, tokens });
        }
    }
    eyre::bail!("blocks come faster than the endpoint answers: balances and history cannot be read as of one block")
}

/// Every order that the account ever made.
fn ids(account: u32, held: &Held) -> eyre::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for (token, (.., last)) in &held.tokens {
        for nonce in 1..=*last {
            let id = OrderId {
                account,
                token: *token,
                nonce,
            };
            ids.push(id.pack()?);
        }
    }
    Ok(ids)
}

async fn account_events(session: &Session<'_>, account: u32, from: u64, to: u64) -> eyre::Result<Vec<(Log, Event)>> {
    let escrow = session.chain.network.contracts.escrow;
    let indexed = B256::from(U256::from(account));
    let money = Filter::new()
        .address(escrow)
        .event_signature(events::OF_ACCOUNTS.to_vec())
        .topic1(indexed);
    // The third operand of a transfer is the token, which is the account.
    let handed_over = Filter::new()
        .address(escrow)
        .event_signature(events::TRANSFER)
        .topic3(indexed);
    let mut found = session.chain.logs_in(&money, from..=to).await?;
    found.extend(session.chain.logs_in(&handed_over, from..=to).await?);
    events::read(found)
}

async fn order_events(session: &Session<'_>, ids: &[u64], from: u64, to: u64) -> eyre::Result<Vec<(Log, Event)>> {
    let book = session.chain.network.contracts.order_book;
    let mut found = Vec::new();
    for ids in ids.chunks(TOPICS_AT_ONCE) {
        let topics: Vec<B256> = ids.iter().map(|id| B256::from(U256::from(*id))).collect();
        let filter = Filter::new()
            .address(book)
            .event_signature(events::OF_ORDERS.to_vec())
            .topic1(topics);
        found.extend(session.chain.logs_in(&filter, from..=to).await?);
    }
    events::read(found)
}

/// Fee schedules, and who serves which lease.
async fn facts(session: &Session<'_>, events: &[(Log, Event)]) -> eyre::Result<Facts> {
    let book = session.order_book();
    let leased: BTreeSet<u64> = events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Leased { .. }))
        .filter_map(|(_, event)| event.order())
        .collect();
    let words: Vec<(u64, Order)> = stream::iter(leased)
        .map(async |id| eyre::Ok((id, session.order(id).await?)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let suppliers: BTreeSet<u32> = words.iter().map(|(_, word)| word.supplier).collect();
    let shared: BTreeMap<u32, bool> = stream::iter(suppliers)
        .map(async |id| eyre::Ok((id, read(book.supplierTerms(id)).await?.gateway != 0)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut schedules: BTreeSet<u16> = words.iter().map(|(_, word)| word.feeSchedule).collect();
    schedules.extend(events.iter().filter_map(|(_, event)| match event {
        Event::Ordered { schedule, .. } => Some(*schedule),
        _ => None,
    }));
    let schedules = stream::iter(schedules)
        .map(async |id| eyre::Ok((id, session.fee_schedule(id).await?)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let lease = |(id, word): &(u64, Order)| {
        let shared = shared.get(&word.supplier).copied().unwrap_or_default();
        (*id, (word.feeSchedule, shared))
    };
    Ok(Facts {
        schedules,
        leases: words.iter().map(lease).collect(),
        payout_hold: session.windows().await?.payout_hold,
    })
}

/// Events with the times of their blocks, which not every endpoint tells with a log.
async fn times(session: &Session<'_>, events: Vec<(Log, Event)>) -> eyre::Result<Vec<(Place, Event)>> {
    let untold: BTreeSet<u64> = events
        .iter()
        .filter(|(log, _)| log.block_timestamp.is_none())
        .filter_map(|(log, _)| log.block_number)
        .collect();
    let times: BTreeMap<u64, u64> = stream::iter(untold)
        .map(async |number| {
            let block = session
                .chain
                .provider
                .get_block_by_number(BlockNumberOrTag::Number(number))
                .await
                .wrap_err("cannot read the chain")?;
            let block = block.ok_or_else(|| eyre::eyre!("the RPC endpoint does not have block {number}"))?;
            eyre::Ok((number, block.header.timestamp))
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    events
        .into_iter()
        .map(|(log, event)| {
            let block = log.block_number.ok_or_eyre("a log of a block has its number")?;
            let place = Place {
                block,
                index: log.log_index.ok_or_eyre("a log of a block has its place")?,
                time: log.block_timestamp.or(times.get(&block).copied()).unwrap_or_default(),
                transaction: log.transaction_hash.unwrap_or_default(),
            };
            Ok((place, event))
        })
        .collect()
}

/// Notes every token in which the replay ends with something else than the contract holds.
fn compare(ledger: &mut Ledger, held: &Held) {
    for (token, (unlocked, locked, _)) in &held.tokens {
        let sums = ledger.tokens.get(token).copied().unwrap_or_default();
        let is = |replayed: i128, held: U256| i128::try_from(held).is_ok_and(|held| held == replayed);
        if !is(sums.unlocked, *unlocked) || !is(sums.locked, *locked) {
            ledger.problems.push(format!(
                "token {token}: the events add up to {} units unlocked and {} locked, the contract holds {unlocked} and {locked}",
                sums.unlocked, sums.locked
            ));
        }
    }
}
