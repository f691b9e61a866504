//! Who may ask about which lease: the keys of the account's current owner, as the chain has them now.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use async_trait::async_trait;
use daemon::causes::with_causes;
use gateway::wire::{self, ErrorBody, ErrorCode, UpdateStatus, path};
use gateway::{Admission, Peer, PinnedFingerprints, RateLimiter};
use http::request::Parts;
use manifest::{Catalog, Manifest, OrderRequest};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use workload::LeaseId;

/// Leases whose chain state is kept for its short life.
const REMEMBERED_LEASES: usize = 4096;
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

/// A lease whose owner is asking. Handlers take it with `axum::Extension<Granted>`.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Which.
    pub lease: LeaseId,
    /// As it was when access was granted.
    pub on_chain: Arc<OnChainLease>,
}

type Remembered = (Instant, Option<Arc<OnChainLease>>);

/// [`LeaseAccess`] with a short memory and bounds.
#[derive(Debug)]
pub struct Access {
    chain: Arc<dyn LeaseAccess>,
    lifetime: Duration,
    remembered: Mutex<HashMap<LeaseId, Remembered>>,
    lookups: Semaphore,
}

impl Access {
    /// Believes what the chain said for `lifetime`.
    pub fn new(chain: Arc<dyn LeaseAccess>, lifetime: Duration) -> Self {
        Self {
            chain,
            lifetime,
            remembered: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
        }
    }

    /// The lease, if `peer` holds a key of its account's current owner.
    pub async fn grant(&self, peer: Peer, lease: LeaseId) -> Result<Granted, ErrorBody> {
        let Some(on_chain) = self.lease(lease).await? else {
            let message = format!("this provider has no lease {lease}");
            return Err(ErrorBody::new(ErrorCode::UnknownLease, message));
        };
        let message = match &on_chain.owner_keys {
            Some(keys) if keys.contains(&peer.fingerprint) => return Ok(Granted { lease, on_chain }),
            Some(keys) => format!(
                "lease {lease} belongs to {}, whose key on chain is {keys}; this client's is {}",
                on_chain.owner, peer.fingerprint
            ),
            None => format!(
                "lease {lease} belongs to {}, who has no key on chain (or revoked it); publish one with `spheron init`",
                on_chain.owner
            ),
        };
        Err(ErrorBody::new(ErrorCode::NotYours, message))
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
        if let Some((at, known)) = self.remembered().get(&lease)
            && at.elapsed() < self.lifetime
        {
            return Ok(known.clone());
        }
        // The answer is as old as the question.
        let asked_at = Instant::now();
        let known = self.bounded(self.chain.lease(lease)).await?.map(Arc::new);
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_LEASES {
            remembered.retain(|_, (at, _)| at.elapsed() < self.lifetime);
            if remembered.len() >= REMEMBERED_LEASES {
                remembered.clear();
            }
        }
        remembered.insert(lease, (asked_at, known.clone()));
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

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<LeaseId, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
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
