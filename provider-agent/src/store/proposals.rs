//! Proposed updates of leases: what the chain says of them, and what was decided here.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Keccak256, U256};
use avs::terms::Terms;
use daemon::StoreError;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use workload::{LeaseId, ResolvedImage};

use super::events::MarketEvent;
use super::{Store, id, rows, signed};

const COLUMNS: &str = "lease, block, position, terms, expiry, ended_block, phase, reason, rate, images";

/// One event that proposed an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalKey {
    /// The lease that is to be replaced.
    pub lease: LeaseId,
    /// The block it was proposed in.
    pub block: u64,
    /// The event's place in the block.
    pub position: i64,
}

/// A proposed update.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Which.
    pub key: ProposalKey,
    /// What the lease is to become.
    pub terms: Terms,
    /// Unix seconds from which it cannot be taken.
    pub expiry: u64,
    /// Whether it was taken, withdrawn or refused on chain.
    pub ended: bool,
    /// What was decided here.
    pub phase: Phase,
    /// The images that were brought here for it, by service.
    pub images: BTreeMap<String, ResolvedImage>,
}

/// What was decided about a proposal. Stored before it is acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing yet.
    Seen,
    /// It would be taken; its manifest has not come yet.
    Awaiting,
    /// Its images are being brought here.
    Staging {
        /// Why that did not work so far, in words, where it did not; it is tried again.
        problem: Option<String>,
    },
    /// It is taken for this rate.
    Accepting {
        /// Token units per 36 000 seconds.
        rate: u128,
    },
    /// It is refused, and the chain is told a little later: another one was refused a moment ago.
    Withheld {
        /// Why, in words.
        reason: String,
    },
    /// It is refused.
    Refusing {
        /// Why, in words.
        reason: String,
    },
    /// It was refused.
    Refused {
        /// Why, in words.
        reason: String,
    },
}

impl Proposal {
    /// What the contract stores of it.
    pub fn hash(&self) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update(self.terms.terms_hash());
        hasher.update(U256::from(self.terms.maximum_rate).to_be_bytes::<32>());
        hasher.update(U256::from(self.terms.duration).to_be_bytes::<32>());
        hasher.finalize()
    }
}

impl Phase {
    /// Why it does not go on, in words.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Withheld { reason } | Self::Refusing { reason } | Self::Refused { reason } => Some(reason),
            Self::Staging { problem } => problem.as_deref(),
            Self::Seen | Self::Awaiting | Self::Accepting { .. } => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Awaiting => "awaiting",
            Self::Staging { .. } => "staging",
            Self::Accepting { .. } => "accepting",
            Self::Withheld { .. } => "withheld",
            Self::Refusing { .. } => "refusing",
            Self::Refused { .. } => "refused",
        }
    }

    fn read(name: &str, reason: Option<String>, rate: Option<String>) -> Self {
        let text = || reason.clone().unwrap_or_default();
        match (name, rate.and_then(|rate| rate.parse().ok())) {
            ("awaiting", _) => Self::Awaiting,
            ("staging", _) => Self::Staging { problem: reason },
            ("accepting", Some(rate)) => Self::Accepting { rate },
            ("withheld", _) => Self::Withheld { reason: text() },
            ("refusing", _) => Self::Refusing { reason: text() },
            ("refused", _) => Self::Refused { reason: text() },
            // What cannot be read is decided again.
            _ => Self::Seen,
        }
    }
}

impl Store {
    /// The last update that was proposed in place of a lease, whatever became of it.
    pub async fn last_proposal(&self, lease: LeaseId) -> Result<Option<Proposal>, StoreError> {
        self.database
            .read(move |connection| {
                connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM proposals WHERE lease = ?1 ORDER BY block DESC, position DESC LIMIT 1"
                    ))?
                    .query_row([id(lease.0)], proposal)
                    .optional()
            })
            .await
    }

    /// The update that made this lease, as it was proposed for the one before, and that one's id.
    pub async fn update_that_made(&self, lease: LeaseId) -> Result<Option<Proposal>, StoreError> {
        self.database
            .read(move |connection| {
                connection
                    .prepare_cached(&format!(
                        "SELECT {COLUMNS} FROM proposals
                         WHERE ended_block = (SELECT leased_block FROM orders WHERE id = ?1)
                           AND lease IN (SELECT id FROM orders WHERE coalesce(workload, id)
                                = (SELECT workload FROM orders WHERE id = ?1))
                         ORDER BY block DESC, position DESC LIMIT 1"
                    ))?
                    .query_row([id(lease.0)], proposal)
                    .optional()
            })
            .await
    }

    /// The open proposals for live leases of supplier `own`: for each lease the last one, unless it ended.
    pub async fn open_proposals(&self, own: u32) -> Result<Vec<Proposal>, StoreError> {
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM proposals
                     WHERE ended_block IS NULL
                       AND lease IN (SELECT id FROM orders
                            WHERE supplier = ?1 AND leased_block IS NOT NULL AND closed_block IS NULL)
                       AND NOT EXISTS (SELECT 1 FROM proposals later WHERE later.lease = proposals.lease
                            AND (later.block, later.position) > (proposals.block, proposals.position))
                     ORDER BY lease"
                ))?;
                let found = statement.query_map([own], proposal)?;
                found.collect()
            })
            .await
    }

    /// When the chain was told last that an update of a lease is refused, Unix seconds of a block.
    pub async fn last_refusal(&self, lease: LeaseId) -> Result<Option<u64>, StoreError> {
        self.database
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT max(refused_at) FROM proposals WHERE lease = ?1")?
                    .query_row([id(lease.0)], |row| rows::number(row, 0))
            })
            .await
    }

    /// Keeps what was decided about a proposal, before it is acted upon. `time` is that of the newest block in Unix seconds.
    pub async fn set_phase(&self, key: ProposalKey, phase: &Phase, time: u64) -> Result<(), StoreError> {
        let name = phase.name();
        let reason = phase.reason().map(str::to_owned);
        let rate = match phase {
            Phase::Accepting { rate } => Some(rate.to_string()),
            _ => None,
        };
        let refused_at = match phase {
            Phase::Refusing { .. } | Phase::Refused { .. } => Some(signed(time)),
            _ => None,
        };
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE proposals SET phase = ?4, reason = ?5, rate = ?6, refused_at = coalesce(?7, refused_at)
                 WHERE lease = ?1 AND block = ?2 AND position = ?3",
                params![
                    id(key.lease.0),
                    signed(key.block),
                    key.position,
                    name,
                    reason,
                    rate,
                    refused_at
                ],
            )
        })
        .await
    }

    /// Keeps which images were brought here for a proposal.
    pub async fn set_images(
        &self,
        key: ProposalKey,
        images: &BTreeMap<String, ResolvedImage>,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(images).unwrap_or_default();
        self.update(move |transaction| {
            transaction.execute(
                "UPDATE proposals SET images = ?4 WHERE lease = ?1 AND block = ?2 AND position = ?3",
                params![id(key.lease.0), signed(key.block), key.position, text],
            )
        })
        .await
    }
}

/// `at` is the block and the event's place in it.
pub(super) fn record(transaction: &Transaction<'_>, at: (i64, i64), event: &MarketEvent) -> rusqlite::Result<()> {
    let (block, position) = at;
    match event {
        MarketEvent::Proposed { order, expiry, terms } => transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO proposals (lease, block, position, terms, expiry)
                 SELECT id, ?2, ?3, ?4, ?5 FROM orders WHERE id = ?1",
            )?
            .execute(params![id(*order), block, position, terms, signed(*expiry)])
            .map(drop),
        MarketEvent::Rejected { order } => end(transaction, *order, block),
        MarketEvent::Updated {
            order,
            updated,
            workload,
        } => {
            // What was taken is the last that was proposed: the contract has compared them.
            transaction
                .prepare_cached(
                    "UPDATE orders SET created_block = ?2, close_block = ?2, workload = ?3, ended_block = NULL,
                        switched_at = NULL, setback = NULL, requeued_block = NULL, requeued_close_block = NULL,
                        terms = coalesce((SELECT terms FROM proposals WHERE lease = ?4
                            ORDER BY block DESC, position DESC LIMIT 1), terms)
                     WHERE id = ?1",
                )?
                .execute(params![id(*updated), block, id(*workload), id(*order)])?;
            end(transaction, *order, block)
        }
        _ => Ok(()),
    }
}

fn end(transaction: &Transaction<'_>, lease: u64, block: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE proposals SET ended_block = ?2 WHERE lease = ?1 AND ended_block IS NULL")?
        .execute(params![id(lease), block])
        .map(drop)
}

fn proposal(row: &Row<'_>) -> rusqlite::Result<Proposal> {
    let images = match row.get::<_, Option<String>>(9)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| rows::broken(9, error))?,
        None => BTreeMap::new(),
    };
    Ok(Proposal {
        key: ProposalKey {
            lease: LeaseId(u64::from_be_bytes(row.get(0)?)),
            block: rows::number(row, 1)?.unwrap_or_default(),
            position: row.get(2)?,
        },
        terms: rows::stored_terms(row, 3)?,
        expiry: rows::number(row, 4)?.unwrap_or_default(),
        ended: row.get::<_, Option<i64>>(5)?.is_some(),
        phase: Phase::read(&row.get::<_, String>(6)?, row.get(7)?, row.get(8)?),
        images,
    })
}
