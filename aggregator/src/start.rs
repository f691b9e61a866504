//! Builds the aggregator from its configuration and starts everything it does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use avs::response::Domain;
use chain::network::Network;
use chain::{Endpoints, Transactions};
use daemon::health::{Component, Gate};
use daemon::{DirectoryLock, Health, Metrics, Shutdown, Store};
use eigenlayer::registration::Addresses;
use eyre::WrapErr;
use tokio::sync::mpsc;

use crate::api::Api;
use crate::chain::NetworkAccess;
use crate::collect::CollectorSettings;
use crate::config::Config;
use crate::expire::Expirer;
use crate::follow;
use crate::metrics::AggregatorMetrics;
use crate::prove_key::KeyProver;
use crate::refresh::Refresher;
use crate::service::{Service, Signals, Surroundings, collector_from};
use crate::store;
use crate::verifiers::Verifiers;

/// Checks that outsiders can cause and that run at the same time. Those a response waits for run beside them.
const CHECKS_AT_ONCE: usize = 2;
/// How long a submission waits for its close block: operators may see it before we do.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Wait before the chain is asked again at the start.
const START_RETRY: Duration = Duration::from_secs(1);

/// Builds everything and starts its tasks; they end with `shutdown`.
///
/// # Errors
/// When the data directory is in use, a file cannot be read or the address is taken.
pub async fn start(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    let network = Network::load(&config.network)?;
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    let store = store::open(&config.data_dir)?;
    let signer = config.keys.load().await.wrap_err("keys.ecdsa")?;
    let rpc = config.rpc_settings(&network);
    let endpoints = Endpoints::new(&rpc)?;

    let (health, metrics) = (Health::new(), Metrics::new());
    endpoints.report_health(health.component("chain", Gate::None));
    let ready = health.component("collector", Gate::Ready);
    let responses = health.component("responses", Gate::None);
    // Nothing is wrong until a response fails.
    responses.ok();
    shutdown.spawn("store health", {
        let (store, component, stop) = (store.clone(), health.component("store", Gate::None), shutdown.token());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = store.report_health(component) => {}
            }
        }
    });

    let (transactions, actor) = Transactions::new(
        &endpoints,
        signer,
        store.clone(),
        config.transactions.clone(),
        Some(Arc::new(bindings::describe_revert)),
    );
    let actor = actor.with_health(health.component("transactions", Gate::None));
    shutdown.spawn_critical("transactions", actor.run(shutdown.token()));
    let counts = AggregatorMetrics::default();
    metrics.register("aggregator", |registry| counts.register(registry));
    metrics.register("transactions", |registry| transactions.register_metrics(registry));

    let domain = Domain {
        chain_id: network.chain_id,
        task_manager: network.contracts.task_manager,
    };
    let (api, inbox) = Api::new(domain, &config.collect, counts.clone());
    let router = api
        .router()
        .merge(daemon::http::operations_router(health.clone(), metrics.clone()));
    let (listener, bound) = daemon::http::bind(config.http.listen, "signatures, health and metrics").await?;
    shutdown.spawn_critical("http", daemon::http::serve(listener, router, shutdown.token()));
    write_addresses(&config.data_dir, bound).wrap_err("cannot write addresses.json")?;

    tracing::info!(address = %transactions.sender(), network = network.name, "aggregator started");
    let parts = Parts {
        config,
        network,
        rpc,
        endpoints,
        store,
        transactions,
        metrics,
        counts,
        ready,
        responses,
        shutdown: shutdown.clone(),
    };
    shutdown.spawn_critical("collector", async move {
        let _lock = lock;
        let stop = parts.shutdown.token();
        let service = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            service = parts.into_service() => service?,
        };
        service.run(inbox, stop).await;
        health.drain();
        eyre::Ok(())
    });
    Ok(())
}

/// Tells devnet and tests where this process listens: readiness is this file and `/readyz`.
fn write_addresses(directory: &Path, http: SocketAddr) -> std::io::Result<()> {
    let text = serde_json::json!({ "http": http.to_string(), "pid": std::process::id() }).to_string();
    let draft = directory.join("addresses.json.draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, directory.join("addresses.json"))
}

struct Parts {
    config: Config,
    network: Network,
    rpc: chain::RpcSettings,
    endpoints: Endpoints,
    store: Store,
    transactions: Transactions,
    metrics: Metrics,
    counts: AggregatorMetrics,
    ready: Component,
    responses: Component,
    shutdown: Shutdown,
}

impl Parts {
    /// Waits for the chain, takes up what the last process left, and starts to follow.
    async fn into_service(self) -> eyre::Result<Service<NetworkAccess>> {
        let (window, match_window) = self.windows().await;
        let settings = CollectorSettings {
            stragglers: self.config.collect.stragglers(),
            response_window: window,
            block_patience: BLOCK_PATIENCE,
            checks_at_once: CHECKS_AT_ONCE,
        };
        let clock = Instant::now();
        let (history, collector) = collector_from(&self.store, settings, clock).await?;

        let (news_sender, news) = mpsc::channel(1);
        let following = follow::Following::new(
            &self.endpoints,
            &self.rpc,
            &self.network,
            self.store.clone(),
            history,
            window,
        )?;
        self.metrics
            .register("follower", |registry| following.follower.register_metrics(registry));
        let stop = self.shutdown.token();
        self.shutdown.spawn_critical("follower", async move {
            following.run(news_sender, stop).await;
            Ok::<(), String>(())
        });

        let provider = self.endpoints.provider();
        let signals = Signals::default();
        self.spawn_jobs(&signals, window + match_window);
        let access = NetworkAccess::new(provider, self.transactions.clone(), &self.network, window);
        let surroundings = Surroundings {
            own_address: self.transactions.sender(),
            store: self.store,
            counts: self.counts,
            ready: self.ready,
            responses: self.responses,
            shutdown: self.shutdown,
            news,
            signals,
        };
        Ok(Service::new(access, collector, clock, surroundings))
    }

    /// What is done beside collecting; nothing waits for any of it. `expire_after` is in blocks after a close block.
    fn spawn_jobs(&self, signals: &Signals, expire_after: u64) {
        let provider = self.endpoints.provider();
        if self.config.expire.enabled {
            let expirer = Expirer {
                provider: provider.clone(),
                transactions: self.transactions.clone(),
                store: self.store.clone(),
                order_book: self.network.contracts.order_book,
                // After the operators' window anyone may still run the rule on chain.
                response_window: expire_after,
                settings: self.config.expire.clone(),
                metrics: self.counts.clone(),
            };
            let job = expirer.run(signals.head.subscribe(), self.shutdown.token());
            self.shutdown.spawn("expiring orders", job);
        }
        let verifiers = Verifiers::new(provider.clone(), self.network.contracts.task_manager);
        if self.config.refresh.enabled {
            let refresher = Refresher {
                provider,
                transactions: self.transactions.clone(),
                verifiers: verifiers.clone(),
                addresses: Addresses::from(&self.network),
                settings: self.config.refresh.clone(),
                metrics: self.counts.clone(),
            };
            let job = refresher.run(signals.head.subscribe(), self.shutdown.token());
            self.shutdown.spawn("refreshing stakes", job);
        }
        if self.config.prove_key.enabled {
            let prover = KeyProver::new(
                verifiers,
                self.transactions.clone(),
                &self.config.prove_key,
                self.counts.clone(),
            );
            let job = prover.run(
                signals.head.subscribe(),
                signals.state.subscribe(),
                signals.responding.subscribe(),
                self.shutdown.token(),
            );
            self.shutdown.spawn("proving the aggregate key", job);
        }
    }

    /// The response window and the match window after it, in blocks.
    async fn windows(&self) -> (u64, u64) {
        let manager =
            bindings::IMatchingTaskManager::new(self.network.contracts.task_manager, self.endpoints.provider());
        loop {
            let (response, matching) = (manager.responseWindow(), manager.matchWindow());
            match tokio::try_join!(response.call(), matching.call()) {
                Ok((response, matching)) => return (response.into(), matching.into()),
                Err(error) => tracing::warn!(%error, "cannot read the windows; trying again"),
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }
}
