//! The agent put together: what is bound, what runs beside what, and in which order it starts.

mod listening;
mod parts;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::listening::{bind_gateway, write_addresses};
use self::parts::Shared;
use ::chain::network::Network;
use ::chain::{Endpoints, Follow, Follower, RpcSettings, TransactionSettings, Transactions};
use alloy::signers::local::PrivateKeySigner;
use avs::words::{Capacity, ScoreCard};
use daemon::causes::with_causes;
use daemon::health::{Component, Gate};
use daemon::{DirectoryLock, Health, Metrics, Shutdown};
use eyre::{WrapErr as _, bail};
use gateway::wire::{ProviderStatus, ResourceAmounts, VERSION};
use gateway::{Identity, ServerMetrics};
use serde_json::json;
use tokio::sync::watch;
use url::Url;
use workload::{Docker, Engine};

use crate::api::status::EngineWorkloads;
use crate::api::{Gateway, Settings};
use crate::bidder::prices_of;
use crate::chain::Market;
use crate::chain::access::ChainAccess;
use crate::config::Config;
use crate::docker::{Ground, watch_engine};
use crate::follow::{self, Seen, follow};
use crate::funds::Windows;
use crate::manifests::Manifests;
use crate::metrics::ProviderMetrics;
use crate::registration::{await_registration, check_certificate, ensure_capacity, ensure_certificate};
use crate::store::{Store, topics};

/// How long tasks may take to finish when the process stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How often what the agent says about itself is brought up to date.
const ABOUT_EVERY: Duration = Duration::from_secs(5);
/// How often whether the provider is still active is read.
const STANDING_EVERY: Duration = Duration::from_secs(30);
/// How often what needs the chain at the start is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What runs from the start, whether or not the provider is registered.
struct Agent {
    config: Config,
    shutdown: Shutdown,
    health: Health,
    metrics: Metrics,
    counts: ProviderMetrics,
    endpoints: Endpoints,
    rpc: RpcSettings,
    market: Market,
    signer: PrivateKeySigner,
    identity: Identity,
    store: Store,
    manifests: Manifests,
    engine: Arc<dyn Engine>,
    ground: watch::Receiver<Ground>,
    supplier: watch::Sender<Option<u32>>,
    seen: watch::Sender<Seen>,
    left: watch::Sender<Option<Capacity>>,
    windows: watch::Sender<Windows>,
    about: watch::Sender<ProviderStatus>,
}

/// Runs the agent until a signal, or until something without which it is of no use ends. What runs for leases goes on
/// running: stopping the agent is not their end.
pub fn run(config: Config) -> eyre::Result<ExitCode> {
    daemon::tls::install_provider();
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    let status = daemon::process::run(DRAIN_DEADLINE, |shutdown| start(config, shutdown));
    drop(lock);
    Ok(status)
}

async fn start(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    let agent = Agent::prepare(config, shutdown.clone()).await?;
    agent.serve().await?;
    let (health, stop) = (agent.health.clone(), shutdown.token());
    shutdown.spawn("readiness", async move {
        stop.cancelled().await;
        health.drain();
    });
    shutdown.spawn_critical("the agent", agent.work());
    Ok(())
}

impl Agent {
    async fn prepare(config: Config, shutdown: Shutdown) -> eyre::Result<Self> {
        let network = Network::load(&config.network)?;
        let rpc = rpc_settings(&config, &network)?;
        let endpoints = Endpoints::new(&rpc)?;
        let signer = config.keys.load().await?;
        let identity = Identity::load_or_create(&config.identity_file())?;
        let store = Store::open(&config.data_dir)?;
        let manifests = Manifests::open(&config.data_dir)?;
        let health = Health::new();
        let metrics = Metrics::new();
        let counts = ProviderMetrics::default();
        metrics.register("provider", |registry| counts.register(registry));
        endpoints.report_health(health.component("rpc", Gate::None));
        for (name, database) in [("store", store.database()), ("manifests", manifests.store())] {
            let (database, component) = (database.clone(), health.component(name, Gate::Ready));
            let stop = shutdown.token();
            shutdown.spawn("health of a store", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = database.report_health(component) => {}
                }
            });
        }

        let settings = config
            .engine
            .settings(signer.address(), config.data_dir.join("workloads"));
        let engine: Arc<dyn Engine> = Arc::new(Docker::new(settings)?);
        let (ground_sender, ground) = watch::channel(Ground::default());
        shutdown.spawn_critical(
            "the watch over the engine",
            watch_engine(
                engine.clone(),
                config.engine.allow_unisolated,
                ground_sender,
                health.component("engine", Gate::Ready),
                counts.clone(),
                shutdown.token(),
            ),
        );
        let about = ProviderStatus {
            version: VERSION,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            chain_id: network.chain_id,
            provider: 0,
            bidding: false,
            leases: 0,
            total: ResourceAmounts::default(),
            free: ResourceAmounts::default(),
        };
        let market = Market::new(endpoints.provider(), Arc::new(network), signer.address());
        Ok(Self {
            config,
            shutdown,
            health,
            metrics,
            counts,
            endpoints,
            rpc,
            market,
            signer,
            identity,
            store,
            manifests,
            engine,
            ground,
            supplier: watch::Sender::new(None),
            seen: watch::Sender::new(Seen::default()),
            left: watch::Sender::new(None),
            windows: watch::Sender::new(Windows::default()),
            about: watch::Sender::new(about),
        })
    }

    /// Binds, serves, and says where.
    async fn serve(&self) -> eyre::Result<()> {
        let (http, http_address) = daemon::http::bind(self.config.http.listen, "health and metrics").await?;
        let (gateway, gateway_address) = bind_gateway(self.config.gateway.listen, &self.config.data_dir).await?;
        let router = daemon::http::operations_router(self.health.clone(), self.metrics.clone());
        let stop = self.shutdown.token();
        self.shutdown
            .spawn_critical("health and metrics", daemon::http::serve(http, router, stop.clone()));

        let access = ChainAccess::new(
            self.market.clone(),
            self.store.clone(),
            self.supplier.subscribe(),
            self.windows.subscribe(),
        );
        let settings = Settings {
            manifest_timeout: self.config.leases.manifest_timeout,
            public_host: self.config.engine.public_host.clone(),
            ..Settings::default()
        };
        let server_metrics = ServerMetrics::default();
        self.metrics
            .register("gateway", |registry| server_metrics.register(registry));
        let server = Gateway::new(
            Arc::new(access),
            Arc::new(EngineWorkloads(self.engine.clone(), self.store.clone())),
            self.manifests.clone(),
            self.about.subscribe(),
            settings,
            stop.clone(),
        )
        .server(&self.identity, server_metrics)?;
        self.shutdown.spawn_critical("the gateway", server.serve(gateway, stop));
        let addresses = json!({
            "http": http_address.to_string(),
            "gateway": gateway_address.to_string(),
            "pid": std::process::id(),
        });
        write_addresses(&self.config.data_dir, &addresses.to_string());
        Ok(())
    }

    /// Everything that needs a registered provider.
    async fn work(self) -> eyre::Result<()> {
        let stop = self.shutdown.token();
        let registration = self.health.component("registration", Gate::Ready);
        let chain = self.health.component("chain", Gate::Ready);
        let transactions_health = self.health.component("transactions", Gate::Ready);
        let certificate = self.health.component("certificate", Gate::Ready);
        let capacity = self.health.component("capacity", Gate::None);
        let own_key = self.identity.fingerprint();
        let Some(own) = await_registration(&self.market, own_key, &registration, &stop).await else {
            return Ok(());
        };
        tracing::info!(provider = own, address = %self.market.owner(), "registered");
        let Some((parameters, prices)) = self.read_market(&registration).await? else {
            return Ok(());
        };
        self.compare_url(own).await;
        registration.ok();
        self.supplier.send_replace(Some(own));

        let shared = Shared {
            own,
            windows: Windows {
                grace: parameters.graceWindow.into(),
                low_funds: parameters.lowFundsWindow.into(),
            },
            transactions: self.start_transactions(transactions_health),
            prices,
            parameters,
        };
        self.windows.send_replace(shared.windows);
        self.follow_chain(own).await?;
        self.shutdown
            .spawn_critical("the leases' caretaker", self.caretaker(&shared).run(stop.clone()));
        self.shutdown
            .spawn_critical("the cashier", self.cashier(&shared).run(stop.clone()));
        self.shutdown
            .spawn_critical("the updater", self.updater(&shared).run(stop.clone()));

        ensure_certificate(&self.market, &shared.transactions, own_key, &certificate, &stop).await;
        let wanted = (own, self.config.capacity.offered());
        ensure_capacity(
            &self.market,
            self.engine.as_ref(),
            &shared.transactions,
            wanted,
            &capacity,
            &stop,
        )
        .await;

        self.shutdown
            .spawn_critical("the bidder", self.bidder(shared).run(stop.clone()));
        self.keep_about(own, chain, registration, certificate).await;
        Ok(())
    }

    /// What sends with the agent's key.
    fn start_transactions(&self, health: Component) -> Transactions {
        let (transactions, actor) = Transactions::new(
            &self.endpoints,
            self.signer.clone(),
            self.store.database().clone(),
            TransactionSettings::default(),
            Some(Arc::new(bindings::describe_revert)),
        );
        self.metrics
            .register("transactions", |registry| transactions.register_metrics(registry));
        self.shutdown
            .spawn_critical("transactions", actor.with_health(health).run(self.shutdown.token()));
        transactions
    }

    async fn follow_chain(&self, own: u32) -> eyre::Result<()> {
        let history = self.store.history().await?;
        let following = Follow {
            addresses: vec![self.market.network().contracts.order_book],
            topics: topics(),
            start_block: self.market.network().deployed_at,
        };
        let follower = Follower::new(&self.endpoints, &self.rpc, following, history)?;
        self.metrics
            .register("follower", |registry| follower.register_metrics(registry));
        self.shutdown.spawn_critical(
            "the chain's follower",
            follow(
                follower,
                self.store.clone(),
                own,
                self.seen.clone(),
                self.shutdown.token(),
            ),
        );
        Ok(())
    }

    /// The market's windows and the prices in it. A price list for what the network does not have is a mistake that only
    /// its author can correct.
    async fn read_market(
        &self,
        component: &Component,
    ) -> eyre::Result<
        Option<(
            bindings::IOrderBook::Parameters,
            std::collections::BTreeMap<u8, crate::pricing::Prices>,
        )>,
    > {
        let stop = self.shutdown.token();
        loop {
            match tokio::try_join!(self.market.parameters(), self.market.gpu_models()) {
                Ok((parameters, gpus)) => match prices_of(&self.config.pricing, self.market.network(), &gpus) {
                    Ok(prices) => return Ok(Some((parameters, prices))),
                    Err(problems) => bail!("the prices cannot be used: {}", problems.join("; ")),
                },
                Err(error) => component.degraded(with_causes(&error)),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn check_standing(&self, own: u32, registration: &Component) {
        match self.market.standing(own).await.map(|standing| ScoreCard::unpack(standing.score_card)) {
            Ok(Ok(card)) if card.active => registration.ok(),
            Ok(_) => registration.degraded(
                "the provider is not active, and its bids would not count: it needs the minimum stake (`spheron provider update \
                 --stake`) and must not be suspended",
            ),
            // Whether the chain answers is another component.
            Err(error) => tracing::debug!(error = with_causes(&error), "the score card cannot be read"),
        }
    }

    async fn compare_url(&self, own: u32) {
        let Some(configured) = &self.config.gateway.public_url else {
            return;
        };
        match self.market.registered(own).await {
            Ok(provider) if Url::parse(&provider.gateway).ok().as_ref() != Some(configured) => tracing::warn!(
                registered = provider.gateway,
                %configured,
                "the registry has another gateway URL than gateway.public_url; run `spheron provider update --gateway`"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = with_causes(&error), "the registered gateway URL cannot be read"),
        }
    }

    /// Keeps up to date what the gateway and the health report say.
    async fn keep_about(&self, own: u32, chain: Component, registration: Component, certificate: Component) {
        let mut looked_at: Option<Instant> = None;
        let stop = self.shutdown.token();
        let mut seen = self.seen.subscribe();
        let total = self.config.capacity.offered();
        let total = ResourceAmounts {
            milli_cpu: total.milli_cpu,
            memory_bytes: total.memory_bytes,
            storage_bytes: total.storage_bytes,
            gpus: Vec::new(),
        };
        let mut reachability = self.endpoints.reachability();
        // The newest block that was seen, and when.
        let mut newest = (0, Instant::now());
        loop {
            let Seen { head, caught_up, .. } = *seen.borrow_and_update();
            if head != newest.0 {
                newest = (head, Instant::now());
            }
            let is_reachable = reachability.borrow_and_update().is_reachable();
            match follow::problem(is_reachable, caught_up, newest.1.elapsed(), self.rpc.stale_after) {
                Some(problem) => chain.degraded(problem),
                None => chain.ok(),
            }
            if looked_at.is_none_or(|at| at.elapsed() >= STANDING_EVERY) {
                looked_at = Some(Instant::now());
                self.check_standing(own, &registration).await;
                check_certificate(&self.market, self.identity.fingerprint(), &certificate).await;
            }
            let leases = self.store.unfinished_leases(own).await.unwrap_or_default();
            let live = leases
                .iter()
                .filter(|lease| lease.leased.is_some_and(|leased| leased.closed.is_none()))
                .count();
            let free = self.left.borrow().map(|left| amounts(&left)).unwrap_or_default();
            self.about.send_modify(|about| {
                about.provider = own;
                about.bidding = self.counts.bidding.get() == 1;
                about.leases = u32::try_from(live).unwrap_or(u32::MAX);
                about.total = total.clone();
                about.free = free;
            });
            tokio::select! {
                () = stop.cancelled() => return,
                _ = seen.changed(), if !caught_up => {}
                _ = reachability.changed() => {}
                () = tokio::time::sleep(ABOUT_EVERY) => {}
            }
        }
    }
}

fn amounts(left: &Capacity) -> ResourceAmounts {
    ResourceAmounts {
        milli_cpu: u64::from(left.cpu_free) * avs::words::CPU_UNIT_MILLIS,
        memory_bytes: u64::from(left.memory_free) * avs::words::MEMORY_UNIT_BYTES,
        storage_bytes: u64::from(left.storage_free) * avs::words::STORAGE_UNIT_BYTES,
        gpus: Vec::new(),
    }
}

/// The network's endpoints, or those that are configured instead.
pub fn rpc_settings(config: &Config, network: &Network) -> eyre::Result<RpcSettings> {
    let urls = if config.rpc.is_empty() {
        let listed = network.rpc.iter().map(|url| url.parse::<Url>());
        listed
            .collect::<Result<_, _>>()
            .wrap_err("the network file names an endpoint that is no URL")?
    } else {
        config.rpc.clone()
    };
    Ok(RpcSettings {
        chain_id: Some(network.chain_id),
        ..RpcSettings::new(urls)
    })
}
