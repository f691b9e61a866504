//! `operator run` and `operator watch`: opens keys and store, binds the HTTP server, and starts to follow the chain.

use std::sync::Arc;
use std::time::Duration;

use alloy::providers::{Provider as _, RootProvider};
use alloy::signers::local::PrivateKeySigner;
use avs::response::Domain;
use chain::network::Network;
use chain::{Call, Endpoints, RpcSettings, Transactions};
use daemon::health::{Component, Gate};
use daemon::{DirectoryLock, Health, Metrics, Shutdown};
use eigenlayer::registration::{self, Addresses};
use eyre::WrapErr as _;

use crate::aggregators::Aggregators;
use crate::api;
use crate::chain::{Market, Windows, revert_decoder};
use crate::config::Config;
use crate::eigen_metrics::EigenMetrics;
use crate::follow::{Following, Known, first_reads};
use crate::keys;
use crate::matchmaker::Matchmaker;
use crate::metrics::{OperatorMetrics, WatchMetrics};
use crate::sign::{QuorumMember, Signing, Surroundings};
use crate::stakes::Stakes;
use crate::store::OperatorStore;
use crate::tasks::Tasks;
use crate::watch::{Watch, Watcher};

/// How often the account's balance is looked at, and a socket that could not be updated is tried again.
const BALANCE_LOOK: Duration = Duration::from_secs(60);

/// What the process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Signing, and watching unless configured otherwise.
    Run,
    /// Watching only.
    Watch,
}

/// Starts an operator that signs; returns once it listens.
pub async fn start(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    begin(config, shutdown, Duty::Run).await
}

/// Starts a watcher that signs nothing; returns once it listens.
pub async fn start_watching(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    begin(config, shutdown, Duty::Watch).await
}

async fn begin(config: Config, shutdown: Shutdown, duty: Duty) -> eyre::Result<()> {
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    let network = config.network()?;
    let rpc = config.rpc_settings(&network);
    let process = Process {
        store: OperatorStore::open(&config.data_dir)?,
        endpoints: Endpoints::new(&rpc)?,
        health: Health::new(),
        metrics: Metrics::new(),
        counts: OperatorMetrics::default(),
        eigen: EigenMetrics::default(),
        config,
        network,
        shutdown,
    };
    process.report();
    let account = process.account().await?;
    let signer = match duty {
        Duty::Run => Some(process.signer(account.as_ref()).await?),
        Duty::Watch => None,
    };
    if let (Duty::Run, Some(account)) = (duty, &account) {
        process.keep_socket(account);
    }
    process.serve().await?;
    let deployed_at = process.network.deployed_at;
    let shutdown = process.shutdown.clone();
    shutdown.spawn_critical("following the chain", async move {
        let _lock = lock;
        process.follow(rpc, deployed_at, account, signer, duty).await
    });
    Ok(())
}

/// What everything in this process shares.
struct Process {
    config: Config,
    network: Network,
    store: OperatorStore,
    endpoints: Endpoints,
    health: Health,
    metrics: Metrics,
    counts: OperatorMetrics,
    eigen: EigenMetrics,
    shutdown: Shutdown,
}

/// An account with the one actor that sends its transactions.
#[derive(Clone)]
struct Account {
    signer: PrivateKeySigner,
    transactions: Transactions,
}

/// Who signs: a member of the quorum, a matchmaker, or both.
struct Signer {
    quorum: Option<QuorumMember>,
    /// A key of its own, where one is configured; else the operator's account.
    matchmaker: Option<Account>,
}

impl Process {
    fn report(&self) {
        self.endpoints.report_health(self.health.component("rpc", Gate::None));
        self.metrics
            .register("operator", |registry| self.counts.register(registry));
        self.eigen.list_tokens(&self.network);
        self.metrics.register_unprefixed(|registry| {
            self.eigen.register(registry);
            self.endpoints.register_metrics(registry);
        });
        let store_health = self
            .store
            .database()
            .clone()
            .report_health(self.health.component("store", Gate::None));
        let token = self.shutdown.token();
        self.shutdown.spawn("store health", async move {
            token.run_until_cancelled(store_health).await;
        });
        let draining = (self.shutdown.token(), self.health.clone());
        self.shutdown.spawn("draining", async move {
            draining.0.cancelled().await;
            draining.1.drain();
        });
    }

    /// The operator's account, where one is configured.
    async fn account(&self) -> eyre::Result<Option<Account>> {
        if self.config.keys.ecdsa.is_none() {
            return Ok(None);
        }
        let signer = keys::account(&self.config.keys).await?;
        Ok(Some(self.open(signer, "transactions")))
    }

    /// Starts the actor that sends an account's transactions. That it ends keeps nobody from signing.
    fn open(&self, signer: PrivateKeySigner, name: &'static str) -> Account {
        let component = self.health.component(name, Gate::None);
        component.ok();
        let (transactions, actor) = Transactions::new(
            &self.endpoints,
            signer.clone(),
            self.store.database().clone(),
            self.config.transactions.clone(),
            Some(revert_decoder()),
        );
        self.metrics.register(name, |registry| {
            transactions.register_metrics(registry);
        });
        let actor = actor.with_health(component);
        let token = self.shutdown.token();
        self.shutdown.spawn(name, async move {
            if let Err(error) = actor.run(token).await {
                tracing::error!("nothing more is sent from this account: {error}");
            }
        });
        Account { signer, transactions }
    }

    async fn signer(&self, account: Option<&Account>) -> eyre::Result<Signer> {
        let own = keys::matchmaker(&self.config.matchmaker).await?;
        let matchmaker = match (own, account) {
            // One actor for one key.
            (Some(key), Some(account)) if key.address() == account.signer.address() => Some(account.clone()),
            (Some(key), _) => Some(self.open(key, "matchmaker_transactions")),
            (None, account) => account.cloned(),
        };
        // Who was named as the matchmaker needs no place in the quorum.
        if self.config.keys.bls.is_none() && self.config.matchmaker.ecdsa.is_some() {
            return Ok(Signer {
                quorum: None,
                matchmaker,
            });
        }
        let key = keys::bls(&self.config.keys).await?;
        let urls = self.config.aggregator_urls(&self.network);
        eyre::ensure!(
            !urls.is_empty(),
            "no aggregator is known; set `aggregators` in the configuration, or have the network file name some"
        );
        let aggregators = Aggregators::new(&urls, self.counts.clone()).wrap_err("cannot make the HTTP client")?;
        let operator_id = key.public_key().operator_id();
        tracing::info!(%operator_id, aggregators = aggregators.count(), "operator");
        let stakes = Stakes::new(
            self.endpoints.provider(),
            &self.network,
            operator_id,
            self.eigen.clone(),
        );
        let membership = stakes.watch(self.health.component("membership", Gate::None));
        let token = self.shutdown.token();
        self.shutdown.spawn("watching the stakes", async move {
            token.run_until_cancelled(membership).await;
        });
        Ok(Signer {
            quorum: Some(QuorumMember { key, aggregators }),
            matchmaker,
        })
    }

    async fn serve(&self) -> eyre::Result<()> {
        let router = daemon::http::operations_router(self.health.clone(), self.metrics.clone())
            .merge(api::node_router(self.health.clone()));
        let (listener, bound) = daemon::http::bind(self.config.http.listen, "health and metrics").await?;
        api::write_addresses(&self.config.data_dir, bound)
            .wrap_err("cannot write addresses.json into the data directory")?;
        let serving = daemon::http::serve(listener, router, self.shutdown.token());
        self.shutdown.spawn_critical("HTTP", serving);
        Ok(())
    }

    async fn follow(
        self,
        rpc: RpcSettings,
        deployed_at: u64,
        account: Option<Account>,
        signer: Option<Signer>,
        duty: Duty,
    ) -> eyre::Result<()> {
        let caught_up = self.health.component("chain", Gate::Ready);
        let market = Arc::new(Market::new(
            self.endpoints.provider(),
            self.network.contracts.order_book,
            self.network.contracts.task_manager,
        ));
        let reads = first_reads(&market, &caught_up);
        let Some((head, windows)) = self.shutdown.token().run_until_cancelled(reads).await else {
            return Ok(());
        };
        let watches = duty == Duty::Watch || self.config.watch.enabled;
        let watch = match watches {
            true => Some(self.watch(&market, windows, account).await),
            false => None,
        };
        let following = Following {
            signing: signer.map(|signer| self.signing(&market, signer)),
            watch,
            market,
            store: self.store.clone(),
            metrics: self.counts.clone(),
            shutdown: self.shutdown.clone(),
            caught_up,
            known: Known {
                tasks: Tasks::default(),
                recent: Default::default(),
                windows,
                beginning: 0,
            },
        };
        following
            .run(self.endpoints, rpc, deployed_at, head, self.metrics)
            .await
    }

    fn domain(&self) -> Domain {
        Domain {
            chain_id: self.network.chain_id,
            task_manager: self.network.contracts.task_manager,
        }
    }

    fn signing(&self, market: &Arc<Market>, signer: Signer) -> Signing {
        let Signer { quorum, matchmaker } = signer;
        let matchmaker = matchmaker.map(|Account { signer, transactions }| {
            Matchmaker::new(
                signer,
                transactions,
                self.endpoints.provider(),
                self.network.contracts.task_manager,
            )
        });
        let around = Surroundings {
            market: market.clone(),
            store: self.store.clone(),
            domain: self.domain(),
            metrics: self.counts.clone(),
            eigen: self.eigen.clone(),
            shutdown: self.shutdown.clone(),
        };
        Signing::new(around, quorum, matchmaker)
    }

    async fn watch(&self, market: &Arc<Market>, windows: Windows, account: Option<Account>) -> Watch {
        let component = self.health.component("watch", Gate::None);
        if windows.challenge == 0 {
            tracing::warn!("the network names no disputes contract: answers are not recomputed");
        }
        self.watch_the_balance(component, account.as_ref());
        let counts = WatchMetrics::default();
        self.metrics.register("operator", |registry| counts.register(registry));
        let watcher = Watcher {
            market: market.clone(),
            domain: self.domain(),
            registries: Addresses::from(&self.network),
            network: self.network.clone(),
            windows,
            transactions: account.map(|account| account.transactions),
            metrics: counts,
            eigen: self.eigen.clone(),
        };
        Watch::new(watcher, self.config.watch.match_unanswered, self.shutdown.clone())
    }

    /// A watcher without money finds wrong answers and can do nothing about them.
    fn watch_the_balance(&self, component: Component, account: Option<&Account>) {
        let Some(address) = account.map(|account| account.signer.address()) else {
            tracing::info!("no account is configured (keys.ecdsa): wrong answers are reported, and not challenged");
            component.ok();
            return;
        };
        let (provider, token) = (self.endpoints.provider(), self.shutdown.token());
        let looking = async move {
            loop {
                match provider.get_balance(address).await {
                    Ok(balance) if balance.is_zero() => component.degraded(format!(
                        "wrong answers are only reported: {address} has no money for gas; fund it"
                    )),
                    Ok(_) => component.ok(),
                    Err(error) => tracing::debug!(%error, "the balance cannot be read"),
                }
                tokio::time::sleep(BALANCE_LOOK).await;
            }
        };
        self.shutdown.spawn("watching the balance", async move {
            token.run_until_cancelled(looking).await;
        });
    }

    /// The socket on chain follows the configuration.
    fn keep_socket(&self, account: &Account) {
        let wanted = self.config.registration.socket.clone();
        if wanted.is_empty() {
            return;
        }
        let (network, provider, account) = (self.network.clone(), self.endpoints.provider(), account.clone());
        let token = self.shutdown.token();
        let keeping = Box::pin(async move {
            let addresses = Addresses::from(&network);
            while let Err(error) = update_socket(&provider, &addresses, &account, &wanted).await {
                tracing::warn!("the socket on chain is not known to be {wanted:?} yet: {error:#}");
                tokio::time::sleep(BALANCE_LOOK).await;
            }
        });
        self.shutdown.spawn("updating the socket", async move {
            token.run_until_cancelled(keeping).await;
        });
    }
}

async fn update_socket(
    provider: &RootProvider,
    addresses: &Addresses,
    account: &Account,
    wanted: &str,
) -> eyre::Result<()> {
    let standing = registration::observe(provider, addresses, account.signer.address(), &[]).await?;
    if let Some(call) = registration::socket_update(&standing, wanted, addresses) {
        let included = account
            .transactions
            .submit(Call::new(call.label, call.to, call.data))
            .await?;
        tracing::info!(
            socket = wanted,
            block = included.block.number,
            "the socket on chain is updated"
        );
    }
    Ok(())
}
