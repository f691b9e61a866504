//! Rows as values.

use alloy::sol_types::SolValue;
use alloy_primitives::B256;
use avs::terms::Terms;
use bindings::OrderTerms;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use workload::{Assignment, LeaseId};

use crate::bidding::OpenOrder;

/// The columns of [`lease`]. What was decided for a workload stands with its first lease.
pub(super) const LEASE_COLUMNS: &str = "id, terms, leased_block, supplier, start, closed_block, closed_reason, undone_block, \
     EXISTS (SELECT 1 FROM assignments WHERE workload = coalesce(orders.workload, orders.id)), \
     coalesce((SELECT first.ready FROM orders first WHERE first.id = coalesce(orders.workload, orders.id)), ready), \
     removed, paid, workload, \
     (SELECT duration FROM extensions WHERE lease = orders.id ORDER BY block DESC, position DESC LIMIT 1), \
     switched_at, setback";

/// A lease that is, was, or (before a reorganisation) had been this provider's.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// The first lease of the workload that it runs: itself, unless it came from an update.
    pub workload: LeaseId,
    /// What was ordered.
    pub terms: Terms,
    /// Seconds that it lasts, with every extension.
    pub duration: u32,
    /// The lease on the canonical chain; `None` when there is none, or it is another supplier's.
    pub leased: Option<Leased>,
    /// The newest block that remained when a reorganisation took the lease away.
    pub undone_block: Option<u64>,
    /// Whether a manifest of its workload was applied.
    pub was_applied: bool,
    /// Whether its workload ever ran whole.
    pub ready: bool,
    /// Whether workload and manifest are gone.
    pub removed: bool,
    /// Whether everything was paid out.
    pub paid: bool,
    /// Of a lease that came from an update: Unix seconds (of a block) at which its manifest began to take the place of the one
    /// before.
    pub switched_at: Option<u64>,
    /// Why its manifest was taken back and the one before runs again.
    pub setback: Option<String>,
}

/// A lease on the canonical chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// The block it began in.
    pub block: u64,
    /// Unix seconds of its start.
    pub start: u64,
    /// Its end, if it came already.
    pub closed: Option<Closed>,
}

/// The end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The block it ended in.
    pub block: u64,
    /// `OrderState` as a number.
    pub reason: u8,
}

/// What the engine decided for a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignments {
    /// The manifest that it was last told to run, and what was decided for it.
    pub in_force: Option<(B256, Assignment)>,
    /// What was decided for the manifest that was asked about.
    pub asked: Option<Assignment>,
}

/// An order, whoever won it.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRow {
    /// What was ordered.
    pub terms: Terms,
}

impl Lease {
    /// Unix seconds of its end, as ordered and extended, where it lives or lived.
    pub fn end(&self) -> Option<u64> {
        self.leased.map(|leased| leased.start + u64::from(self.duration))
    }

    /// Whether it is on the chain and not over there.
    pub fn is_live(&self) -> bool {
        self.leased.is_some_and(|leased| leased.closed.is_none())
    }

    /// Whether it came from an update of another lease.
    pub fn is_update(&self) -> bool {
        self.workload != self.id
    }
}

pub(super) fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}

pub(super) fn stored_terms(row: &Row<'_>, column: usize) -> rusqlite::Result<Terms> {
    let bytes: Vec<u8> = row.get(column)?;
    OrderTerms::abi_decode(&bytes)
        .map(Terms::from)
        .map_err(|error| broken(column, error))
}

fn stored_id(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, [u8; 8]>(0).map(u64::from_be_bytes)
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .and_then(|number| u64::try_from(number).ok()))
}

pub(super) fn open_order(row: &Row<'_>) -> rusqlite::Result<OpenOrder> {
    Ok(OpenOrder {
        id: stored_id(row)?,
        terms: stored_terms(row, 1)?,
        close_block: number(row, 2)?.unwrap_or_default(),
        bid_for: number(row, 3)?,
    })
}

pub(super) fn lease(row: &Row<'_>, own: u32) -> rusqlite::Result<Lease> {
    let is_ours = row.get::<_, Option<u32>>(3)? == Some(own);
    let closed = match (number(row, 5)?, row.get::<_, Option<u8>>(6)?) {
        (Some(block), Some(reason)) => Some(Closed { block, reason }),
        _ => None,
    };
    let leased = match (number(row, 2)?, number(row, 4)?) {
        (Some(block), Some(start)) if is_ours => Some(Leased { block, start, closed }),
        _ => None,
    };
    let (id, terms) = (LeaseId(stored_id(row)?), stored_terms(row, 1)?);
    let workload = row.get::<_, Option<[u8; 8]>>(12)?;
    Ok(Lease {
        id,
        workload: workload.map_or(id, |first| LeaseId(u64::from_be_bytes(first))),
        duration: row.get::<_, Option<u32>>(13)?.unwrap_or(terms.duration),
        terms,
        leased,
        undone_block: number(row, 7)?,
        was_applied: row.get(8)?,
        ready: row.get(9)?,
        removed: row.get(10)?,
        paid: row.get(11)?,
        switched_at: number(row, 14)?,
        setback: row.get(15)?,
    })
}

pub(super) fn assignments(connection: &Connection, workload: LeaseId, hash: B256) -> rusqlite::Result<Assignments> {
    let mut statement =
        connection.prepare_cached("SELECT hash, assignment FROM assignments WHERE workload = ?1 ORDER BY turn DESC")?;
    let found = statement.query_map([workload.0.to_be_bytes()], |row| {
        let text: String = row.get(1)?;
        let assignment = serde_json::from_str::<Assignment>(&text).map_err(|error| broken(1, error))?;
        Ok((B256::from(row.get::<_, [u8; 32]>(0)?), assignment))
    })?;
    let found: Vec<_> = found.collect::<Result<_, _>>()?;
    Ok(Assignments {
        asked: found
            .iter()
            .find(|(of, _)| *of == hash)
            .map(|(_, assignment)| assignment.clone()),
        in_force: found.into_iter().next(),
    })
}

pub(super) fn order(connection: &Connection, order: u64) -> rusqlite::Result<Option<OrderRow>> {
    connection
        .prepare_cached("SELECT id, terms FROM orders WHERE id = ?1")?
        .query_row([order.to_be_bytes()], |row| {
            Ok(OrderRow {
                terms: stored_terms(row, 1)?,
            })
        })
        .optional()
}
