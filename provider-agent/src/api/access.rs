//! Who may ask about which lease, as the chain has it now: the account's current owner, and everybody who has a right to spend
//! of the account in the lease's token. Owners are known by their published keys; others say whose key they have
//! ([`wire::HOLDER`]), and are believed if that address published it.

mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, U256};
use async_trait::async_trait;
use avs::words::OrderId;
use daemon::causes::with_causes;
use gateway::wire::{self, ErrorBody, ErrorCode, UpdateStatus, path};
use gateway::{Admission, Peer, PinnedFingerprints, RateLimiter};
use http::request::Parts;
use manifest::{Catalog, Manifest, OrderRequest};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use workload::LeaseId;

use self::memory::Memory;

/// Leases whose chain state is kept for its short life.
const REMEMBERED_LEASES: usize = 4096;
/// Others than owners whose rights are kept for the same time. They are kept apart: whoever names many addresses makes no lease
/// forgotten.
const REMEMBERED_HOLDERS: usize = 4096;
/// Peers whose request rate is kept.
const REMEMBERED_PEERS: usize = 4096;
/// Questions to the chain at once: strangers may ask about any number of leases.
const LOOKUPS: usize = 16;
/// A chain that takes longer is as good as away.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the gateway asks of the chain.
#[async_trait]
pub trait LeaseAccess: Send + Sync + fmt::Debug + 'static {
    /// A lease of this provider, live or over; `None` for everything else. Look in the agent's own store first: anybody
    /// may ask about any number.
    async fn lease(&self, lease: LeaseId) -> Result<Option<OnChainLease>, ChainUnavailable>;

    /// An address with its keys and its right to spend of an account in a token, at the newest block.
    async fn holder(&self, holder: Address, account: u32, token: u8) -> Result<OnChainHolder, ChainUnavailable>;

    /// The update that stands for a lease, for which its manifest may come.
    async fn proposal(&self, lease: LeaseId) -> Result<Proposed, ChainUnavailable>;

    /// What is to be said of the update that was proposed last for a lease.
    async fn said_of_update(&self, lease: LeaseId) -> Result<Option<UpdateStatus>, ChainUnavailable>;

    /// The network's catalog, with the supplier ids of the addresses that the manifest names
    /// (`manifest::named_suppliers`).
    async fn catalog(&self, manifest: &Manifest) -> Result<Catalog, ChainUnavailable>;
}

/// A lease as the chain has it.
#[derive(Debug, Clone)]
pub struct OnChainLease {
    /// What was ordered.
    pub order: OrderRequest,
    /// The first lease of the workload that it runs: itself, unless it came from an update.
    pub workload: LeaseId,
    /// The lease that an update put in its place.
    pub replaced_by: Option<LeaseId>,
    /// Unix seconds of its end and of the end of its grace, while it lives.
    pub ends: Option<(u64, u64)>,
    /// Whether it is so near to its end that it should be extended.
    pub low_on_funds: bool,
    /// Of a lease that came from an update: why its manifest was taken back, where it was.
    pub setback: Option<String>,
    /// Who owns the lease's account now.
    pub owner: Address,
    /// The owner's published keys; `None` when there are none, or they were revoked.
    pub owner_keys: Option<PinnedFingerprints>,
    /// Unix seconds of its start.
    pub started_at: u64,
    /// Why it is over, in words; `None` while it lives.
    pub closed: Option<String>,
}

/// An address that may have a right to spend of an account.
#[derive(Debug, Clone)]
pub struct OnChainHolder {
    /// The keys that it published; `None` when there are none, or they were revoked.
    pub keys: Option<PinnedFingerprints>,
    /// Its right; all zero where it has none, or the account changed hands since.
    pub right: SpendingRight,
    /// Unix seconds of the block at which this is so.
    pub now: u64,
}

/// A right to spend of an account in a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpendingRight {
    /// Token units that may still be locked.
    pub limit: U256,
    /// Unix seconds from which it is worth nothing.
    pub expiry: u64,
    /// Whether its holder may also close and update leases.
    pub may_close: bool,
}

impl SpendingRight {
    /// Why it is worth nothing (any more), said of its holder.
    fn ended(&self, now: u64) -> Option<&'static str> {
        let nothing_left = self.limit.is_zero() && !self.may_close;
        if nothing_left && self.expiry == 0 {
            Some("has no right to spend of it in the lease's token")
        } else if nothing_left {
            Some("has a right to spend of it in the lease's token, of which nothing is left")
        } else if self.expiry <= now {
            Some("had a right to spend of it in the lease's token, which has expired")
        } else {
            None
        }
    }
}

/// What is proposed in place of a lease.
#[derive(Debug, Clone)]
pub enum Proposed {
    /// Nothing.
    Nothing,
    /// Something that this provider has not seen yet.
    NotSeenYet,
    /// This.
    Update(Box<OrderRequest>),
}

/// The chain cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the chain cannot be read")]
pub struct ChainUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A lease about which somebody asks who may. Handlers take it with `axum::Extension<Granted>`.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Which.
    pub lease: LeaseId,
    /// As it was when access was granted.
    pub on_chain: Arc<OnChainLease>,
}

/// [`LeaseAccess`] with a short memory and bounds.
#[derive(Debug)]
pub struct Access {
    chain: Arc<dyn LeaseAccess>,
    leases: Memory<LeaseId, Option<Arc<OnChainLease>>>,
    holders: Memory<(LeaseId, Address), OnChainHolder>,
    lookups: Semaphore,
}

impl Access {
    /// Believes what the chain said for `lifetime`.
    pub fn new(chain: Arc<dyn LeaseAccess>, lifetime: Duration) -> Self {
        Self {
            chain,
            leases: Memory::new(REMEMBERED_LEASES, lifetime),
            holders: Memory::new(REMEMBERED_HOLDERS, lifetime),
            lookups: Semaphore::new(LOOKUPS),
        }
    }

    /// The lease, if `peer` holds a key of its account's current owner, or of an address that may spend of the account now.
    pub async fn grant(&self, peer: Peer, lease: LeaseId) -> Result<Granted, ErrorBody> {
        let Some(on_chain) = self.lease(lease).await? else {
            let message = format!("this provider has no lease {lease}");
            return Err(ErrorBody::new(ErrorCode::UnknownLease, message));
        };
        let owns = on_chain.owner_keys.is_some_and(|keys| keys.contains(&peer.fingerprint));
        if owns {
            return Ok(Granted { lease, on_chain });
        }
        let refusal = match peer.claimed_holder {
            Some(holder) if holder != on_chain.owner => self.refusal_of_holder(peer, holder, lease).await?,
            _ => Some(not_the_owner(peer, &on_chain)),
        };
        match refusal {
            None => Ok(Granted { lease, on_chain }),
            Some(reason) => {
                let OrderId { account, .. } = OrderId::unpack(lease.0);
                let message = format!(
                    "lease {lease} is for the owner of account {account}, {}, and for who may spend of it: {reason}",
                    on_chain.owner
                );
                Err(ErrorBody::new(ErrorCode::NotYours, message))
            }
        }
    }

    /// Why somebody who says to have the key of `holder`, which does not own the lease's account, may not ask; nothing where it
    /// may.
    async fn refusal_of_holder(
        &self,
        peer: Peer,
        holder: Address,
        lease: LeaseId,
    ) -> Result<Option<String>, ErrorBody> {
        let OrderId { account, token, .. } = OrderId::unpack(lease.0);
        let known = match self.holders.get(&(lease, holder)) {
            Some(known) => known,
            None => {
                let asked_at = Instant::now();
                let known = self.bounded(self.chain.holder(holder, account, token)).await?;
                self.holders.insert((lease, holder), asked_at, known.clone());
                known
            }
        };
        let publish = format!("publish {} with `spheron init`", peer.fingerprint);
        let reason = match &known.keys {
            Some(keys) if keys.contains(&peer.fingerprint) => known.right.ended(known.now).map(|ended| {
                format!(
                    "{holder} {ended}; the owner grants one with `spheron account operator add {holder} \
                     --account {account} --limit AMOUNT --token SYMBOL`"
                )
            }),
            Some(keys) => Some(format!("the key of {holder} on chain is {keys}; {publish}")),
            None => Some(format!("{holder} has no key on chain, or revoked it; {publish}")),
        };
        Ok(reason)
    }

    /// The update that stands for a lease, as of now.
    pub async fn proposal(&self, lease: LeaseId) -> Result<Proposed, ErrorBody> {
        self.bounded(self.chain.proposal(lease)).await
    }

    /// What is to be said of the update that was proposed last for a lease, as of now.
    pub async fn said_of_update(&self, lease: LeaseId) -> Result<Option<UpdateStatus>, ErrorBody> {
        self.bounded(self.chain.said_of_update(lease)).await
    }

    /// The catalog with which a manifest becomes an order.
    pub async fn catalog(&self, manifest: &Manifest) -> Result<Catalog, ErrorBody> {
        self.bounded(self.chain.catalog(manifest)).await
    }

    async fn lease(&self, lease: LeaseId) -> Result<Option<Arc<OnChainLease>>, ErrorBody> {
        if let Some(known) = self.leases.get(&lease) {
            return Ok(known);
        }
        let asked_at = Instant::now();
        let known = self.bounded(self.chain.lease(lease)).await?.map(Arc::new);
        self.leases.insert(lease, asked_at, known.clone());
        Ok(known)
    }

    async fn bounded<T>(&self, question: impl Future<Output = Result<T, ChainUnavailable>>) -> Result<T, ErrorBody> {
        let away = || {
            let message =
                "the provider cannot reach the chain, so that it does not know who may ask; try again shortly";
            ErrorBody::new(ErrorCode::ChainUnavailable, message).retry_after(5)
        };
        let asking = async {
            let _turn = self.lookups.acquire().await.map_err(|_| away())?;
            question.await.map_err(|error| {
                tracing::warn!(error = with_causes(&error), "access to a lease");
                away()
            })
        };
        timeout(LOOKUP_TIMEOUT, asking).await.unwrap_or_else(|_| Err(away()))
    }
}

/// Why whoever does not say to be somebody else may not ask.
fn not_the_owner(peer: Peer, on_chain: &OnChainLease) -> String {
    let own = peer.fingerprint;
    let keys = match &on_chain.owner_keys {
        Some(keys) => format!("the owner's key on chain is {keys}, this client's is {own}"),
        None => format!("the owner has no key on chain, or revoked it; this client's is {own}"),
    };
    match peer.claimed_holder {
        Some(_) => format!("{keys}; publish it with `spheron init`"),
        None => format!(
            "{keys}; the owner publishes it with `spheron init`, and who may spend says whose key it is with the header {}",
            wire::HOLDER
        ),
    }
}

/// Stands before every request.
#[derive(Debug)]
pub struct Gatekeeper {
    access: Arc<Access>,
    rate: RateLimiter,
}

impl Gatekeeper {
    /// One request per peer and `interval` in the long run, `burst` at once.
    pub fn new(access: Arc<Access>, interval: Duration, burst: u32) -> Self {
        Self {
            access,
            rate: RateLimiter::new(interval, burst, REMEMBERED_PEERS),
        }
    }
}

#[async_trait]
impl Admission for Gatekeeper {
    async fn admit(&self, peer: Peer, request: &mut Parts) -> Result<(), ErrorBody> {
        self.rate.check(peer.fingerprint, Instant::now()).map_err(|limited| {
            let seconds = limited.retry_after.as_secs() + 1;
            ErrorBody::new(
                ErrorCode::RateLimited,
                format!("too many requests; ask again in {seconds} s"),
            )
            .retry_after(seconds)
        })?;
        if let Some(lease) = lease_in(request.uri.path())? {
            let granted = self.access.grant(peer, lease).await?;
            request.extensions.insert(granted);
        }
        Ok(())
    }
}

/// The lease that a path is about. Everything below `/v1/leases/` must name one: no handler there runs ungranted.
fn lease_in(request_path: &str) -> Result<Option<LeaseId>, ErrorBody> {
    let (prefix, _) = path::LEASE.split_once('{').unwrap_or((path::LEASE, ""));
    let Some(rest) = request_path.strip_prefix(prefix) else {
        return Ok(None);
    };
    let text = rest.split('/').next().unwrap_or(rest);
    let lease: wire::LeaseId = text
        .parse()
        .map_err(|error: wire::MalformedLeaseId| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    Ok(Some(LeaseId(lease.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_a_lease_names_it() {
        let lease = wire::LeaseId(u64::MAX);
        for path in [path::lease(lease), path::manifest(lease), path::logs(lease)] {
            assert_eq!(lease_in(&path).expect("a lease"), Some(LeaseId(u64::MAX)), "{path}");
        }
        assert_eq!(lease_in(path::STATUS).expect("no lease"), None);
        for path in [
            "/v1/leases/",
            "/v1/leases//manifest",
            "/v1/leases/01",
            "/v1/leases/%31",
            "/v1/leases/1;x/logs",
        ] {
            assert!(lease_in(path).is_err(), "{path}");
        }
    }
}
