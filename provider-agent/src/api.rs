//! The manifest gateway: what users ask about their leases at this provider, over TLS with keys that are on chain.
//!
//! Who may ask is decided per request, before its body is read ([`access`]): the key must be one that the current owner of
//! the lease's account has published, or somebody who may spend of that account now. A manifest must have the hash that is on chain, and the order terms derived from it
//! must be those that were ordered: the hash alone would let an order for one CPU bring a manifest for eight.

pub mod access;
mod logs;
pub mod status;
mod streams;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use daemon::causes::with_causes;
use gateway::wire::{
    Difference, ErrorBody, ErrorCode, LeaseStatus, LogQuery, ManifestReceipt, NDJSON, ProviderStatus, path,
};
use gateway::{Identity, Limits, Peer, Server, ServerMetrics};
use http::{StatusCode, header};
use manifest::{OrderRequest, SaltedManifest};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workload::LeaseId;

use self::access::{Access, Gatekeeper, Granted, LeaseAccess, Proposed};
use self::status::Workloads;
use self::streams::Streams;
use crate::manifests::{Manifests, ManifestsError, StoredManifest};
use crate::wording;

/// What the gateway is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long the provider waits for a lease's manifest: shown to its owner.
    pub manifest_timeout: Duration,
    /// The host in published addresses.
    pub public_host: String,
    /// What clients may hold.
    pub limits: Limits,
    /// In the long run a peer may ask once in this time.
    pub request_interval: Duration,
    /// Requests of one peer at once.
    pub request_burst: u32,
    /// Log streams of one peer at once.
    pub streams_per_peer: usize,
    /// Log streams at once.
    pub streams: usize,
    /// How long what the chain said about a lease is believed; the time in which a new owner, a revoked key or the
    /// end of a right counts.
    pub access_lifetime: Duration,
    /// How often open streams are checked against the chain.
    pub access_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            manifest_timeout: Duration::from_secs(300),
            public_host: "127.0.0.1".to_owned(),
            limits: Limits::default(),
            request_interval: Duration::from_millis(100),
            request_burst: 50,
            streams_per_peer: 16,
            streams: 256,
            access_lifetime: Duration::from_secs(2),
            access_period: Duration::from_secs(5),
        }
    }
}

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct Shared {
    access: Arc<Access>,
    workloads: Arc<dyn Workloads>,
    manifests: Manifests,
    about: watch::Receiver<ProviderStatus>,
    streams: Arc<Streams>,
    settings: Settings,
    stop: CancellationToken,
}

/// The gateway's parts, put together. `about` is what the provider says about itself; `stop` ends streams.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// Over the chain, the engine and the store.
    pub fn new(
        chain: Arc<dyn LeaseAccess>,
        workloads: Arc<dyn Workloads>,
        manifests: Manifests,
        about: watch::Receiver<ProviderStatus>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        let access = Arc::new(Access::new(chain, settings.access_lifetime));
        let streams = Streams::new(settings.streams, settings.streams_per_peer);
        Self {
            shared: Arc::new(Shared {
                access,
                workloads,
                manifests,
                about,
                streams,
                settings,
                stop,
            }),
        }
    }

    /// Ready to serve on a listener.
    pub fn server(&self, identity: &Identity, metrics: ServerMetrics) -> Result<Server, rustls::Error> {
        let settings = &self.shared.settings;
        let gatekeeper = Gatekeeper::new(
            self.shared.access.clone(),
            settings.request_interval,
            settings.request_burst,
        );
        Ok(Server::new(identity, self.router())?
            .with_limits(settings.limits.clone())
            .with_admission(Arc::new(gatekeeper))
            .with_metrics(metrics))
    }

    fn router(&self) -> Router {
        Router::new()
            .route(path::STATUS, get(provider_status))
            .route(path::LEASE, get(lease_status))
            .route(path::MANIFEST, get(get_manifest).put(put_manifest))
            .route(path::LOGS, get(get_logs))
            .fallback(|| async { ErrorBody::new(ErrorCode::NotFound, "this gateway has no such path") })
            .method_not_allowed_fallback(|| async {
                ErrorBody::new(ErrorCode::MethodNotAllowed, "this path does not take that method")
            })
            .with_state(self.shared.clone())
    }
}

async fn provider_status(State(shared): State<Arc<Shared>>) -> Json<ProviderStatus> {
    Json(shared.about.borrow().clone())
}

async fn lease_status(
    State(shared): State<Arc<Shared>>,
    Extension(granted): Extension<Granted>,
) -> Result<Json<LeaseStatus>, ErrorBody> {
    let on_chain = &granted.on_chain;
    let lost = |error: ManifestsError| match error.is_lost_manifest() {
        true => Ok(None),
        false => Err(store_failed(&error)),
    };
    let last_good = match shared.manifests.last_applied(on_chain.workload).await {
        Ok(last_good) => last_good,
        Err(error) => lost(error)?,
    };
    // What runs, or is to run: after an update that went wrong that is the one before.
    let stored = match on_chain.setback.is_some() && last_good.is_some() {
        true => last_good.clone(),
        false => match stored_for(&shared, &granted).await {
            Ok(stored) => stored,
            Err(error) => lost(error)?,
        },
    };
    let workload = match on_chain.replaced_by {
        // What runs is another lease's by now.
        Some(_) => None,
        None => shared
            .workloads
            .status(on_chain.workload)
            .await
            .map_err(|error| engine_failed(&error))?,
    };
    let proposed = shared.access.said_of_update(granted.lease).await?;
    Ok(Json(status::lease_status(
        &granted,
        proposed,
        stored.as_ref(),
        last_good.map(|last_good| last_good.hash),
        workload.as_ref(),
        &shared.settings,
    )))
}

/// The manifest that was ordered with a lease.
async fn stored_for(shared: &Shared, granted: &Granted) -> Result<Option<StoredManifest>, ManifestsError> {
    let ordered = granted.on_chain.order.terms.manifest_hash;
    shared.manifests.get(granted.on_chain.workload, ordered).await
}

async fn get_manifest(
    State(shared): State<Arc<Shared>>,
    Extension(granted): Extension<Granted>,
) -> Result<Response, ErrorBody> {
    let missing = || {
        ErrorBody::new(
            ErrorCode::NoManifest,
            format!(
                "this provider holds no manifest for lease {}; send it with `spheron lease send`",
                granted.lease
            ),
        )
    };
    match stored_for(&shared, &granted).await {
        Ok(Some(stored)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            Ok((headers, stored.salted.encode()).into_response())
        }
        Ok(None) => Err(missing()),
        Err(error) if error.is_lost_manifest() => Err(missing()),
        Err(error) => Err(store_failed(&error)),
    }
}

async fn put_manifest(
    State(shared): State<Arc<Shared>>,
    Extension(granted): Extension<Granted>,
    body: Bytes,
) -> Result<Json<ManifestReceipt>, ErrorBody> {
    if let Some(reason) = &granted.on_chain.closed {
        let message = format!("lease {} is over ({reason}); it takes no manifest", granted.lease);
        return Err(ErrorBody::new(ErrorCode::LeaseClosed, message));
    }
    let salted = SaltedManifest::decode(&body)
        .map_err(|error| ErrorBody::new(ErrorCode::InvalidManifest, with_causes(&error)))?;
    let on_chain = &granted.on_chain;
    let for_update = salted.hash() != on_chain.order.terms.manifest_hash;
    let update = match for_update {
        true => Some(proposed_with(&shared, granted.lease, &salted, &on_chain.order).await?),
        false => None,
    };
    check_terms(&shared, &salted, update.as_ref().unwrap_or(&on_chain.order)).await?;
    // What was ordered and what is proposed may both be waited for.
    let proposed = shared.access.said_of_update(granted.lease).await?;
    let keep = [
        Some(on_chain.order.terms.manifest_hash),
        proposed.map(|proposed| proposed.manifest_hash),
    ];
    let keep: Vec<_> = keep.into_iter().flatten().collect();
    let already_stored = shared
        .manifests
        .put(on_chain.workload, &salted, &keep)
        .await
        .map_err(|error| store_failed(&error))?;
    if !for_update {
        shared.workloads.manifest_sent(granted.lease, on_chain.workload).await;
    }
    tracing::info!(lease = %granted.lease, already_stored, for_update, "manifest taken");
    Ok(Json(ManifestReceipt {
        lease: granted.lease.0.into(),
        manifest_hash: salted.hash(),
        already_stored,
        for_update,
    }))
}

/// The update that this is the manifest of.
async fn proposed_with(
    shared: &Shared,
    lease: LeaseId,
    salted: &SaltedManifest,
    ordered: &OrderRequest,
) -> Result<OrderRequest, ErrorBody> {
    match shared.access.proposal(lease).await? {
        Proposed::Update(update) if update.terms.manifest_hash == salted.hash() => Ok(*update),
        Proposed::Update(update) => Err(wrong_hash(salted, &[ordered, &update])),
        Proposed::Nothing => Err(wrong_hash(salted, &[ordered])),
        Proposed::NotSeenYet => {
            let message = "this provider has not seen the proposed update yet; send its manifest again in a moment";
            Err(ErrorBody::new(ErrorCode::ChainUnavailable, message).retry_after(1))
        }
    }
}

async fn get_logs(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Extension(granted): Extension<Granted>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, ErrorBody> {
    let Query(query) = query.map_err(|rejection| ErrorBody::new(ErrorCode::BadRequest, rejection.body_text()))?;
    let body = logs::stream(shared, peer, granted, query).await?;
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// Whatever else it says is only worth looking at if it is the manifest that was ordered or proposed.
fn wrong_hash(salted: &SaltedManifest, expected: &[&OrderRequest]) -> ErrorBody {
    let found = salted.hash();
    let on_chain: Vec<_> = expected
        .iter()
        .map(|order| order.terms.manifest_hash.to_string())
        .collect();
    let on_chain = on_chain.join(" or ");
    let message = format!(
        "this manifest's hash is {found}, on chain is {on_chain}: it is another manifest, or another salt; nothing was stored"
    );
    let difference = Difference {
        field: "manifest hash".to_owned(),
        on_chain,
        from_manifest: found.to_string(),
    };
    ErrorBody::new(ErrorCode::ManifestHashMismatch, message).with_differences(vec![difference])
}

/// What it asks for, by the same code with which it was ordered.
async fn check_terms(shared: &Shared, salted: &SaltedManifest, ordered: &OrderRequest) -> Result<(), ErrorBody> {
    let refused = |error: &dyn Error| {
        ErrorBody::new(
            ErrorCode::TermsMismatch,
            format!("the manifest is no order here: {}", with_causes(error)),
        )
    };
    let (_, requirements) = ordered.terms.unpack().map_err(|error| refused(&error))?;
    let catalog = shared.access.catalog(&salted.manifest).await?;
    let derived = manifest::derive(salted, &catalog, requirements.params_version).map_err(|error| refused(&error))?;
    let differences: Vec<_> = manifest::differences(&derived, ordered)
        .into_iter()
        .map(|difference| Difference {
            field: difference.field.to_owned(),
            on_chain: wording::field(&difference.on_chain, ordered.token, &catalog),
            from_manifest: wording::field(&difference.derived, derived.token, &catalog),
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = differences
        .iter()
        .map(|one| {
            format!(
                "{} (ordered {}, manifest {})",
                one.field, one.on_chain, one.from_manifest
            )
        })
        .collect();
    let message = format!(
        "the manifest differs from what was ordered in {}; nothing was stored",
        list.join(", ")
    );
    Err(ErrorBody::new(ErrorCode::TermsMismatch, message).with_differences(differences))
}

fn store_failed(error: &ManifestsError) -> ErrorBody {
    tracing::error!(error = with_causes(error), "manifest store");
    ErrorBody::new(
        ErrorCode::Internal,
        "the provider cannot use its manifest store; nothing was changed",
    )
}

fn engine_failed(error: &workload::Error) -> ErrorBody {
    tracing::warn!(error = with_causes(error), "container engine");
    ErrorBody::new(
        ErrorCode::Overloaded,
        "the provider's container engine does not answer; what runs goes on",
    )
    .retry_after(5)
}
