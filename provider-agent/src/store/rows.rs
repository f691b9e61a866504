//! Rows as values.

use alloy::sol_types::SolValue;
use avs::terms::Terms;
use bindings::OrderTerms;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use workload::{Assignment, LeaseId};

use crate::bidding::OpenOrder;

/// The columns of [`lease`].
pub(super) const LEASE_COLUMNS: &str = "id, terms, leased_block, supplier, start, closed_block, closed_reason, undone_block, \
     assignment, ready, removed, paid";

/// A lease that is, was, or (before a reorganisation) had been this provider's.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// What was ordered.
    pub terms: Terms,
    /// The lease on the canonical chain; `None` when there is none, or it is another supplier's.
    pub leased: Option<Leased>,
    /// The newest block that remained when a reorganisation took the lease away.
    pub undone_block: Option<u64>,
    /// What the engine decided; there once the manifest was applied.
    pub assignment: Option<Assignment>,
    /// Whether it ever ran whole.
    pub ready: bool,
    /// Whether workload and manifest are gone.
    pub removed: bool,
    /// Whether everything was paid out.
    pub paid: bool,
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

/// An order, whoever won it.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRow {
    /// What was ordered.
    pub terms: Terms,
}

impl Lease {
    /// Unix seconds of its ordered end, where it lives.
    pub fn end(&self) -> Option<u64> {
        self.leased.map(|leased| leased.start + u64::from(self.terms.duration))
    }
}

fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}

fn stored_terms(row: &Row<'_>, column: usize) -> rusqlite::Result<Terms> {
    let bytes: Vec<u8> = row.get(column)?;
    OrderTerms::abi_decode(&bytes)
        .map(Terms::from)
        .map_err(|error| broken(column, error))
}

fn stored_id(row: &Row<'_>) -> rusqlite::Result<u64> {
    row.get::<_, [u8; 8]>(0).map(u64::from_be_bytes)
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
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
    let assignment = match row.get::<_, Option<String>>(8)? {
        Some(text) => Some(serde_json::from_str::<Assignment>(&text).map_err(|error| broken(8, error))?),
        None => None,
    };
    Ok(Lease {
        id: LeaseId(stored_id(row)?),
        terms: stored_terms(row, 1)?,
        leased,
        undone_block: number(row, 7)?,
        assignment,
        ready: row.get(9)?,
        removed: row.get(10)?,
        paid: row.get(11)?,
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
