//! Watching and the single matchmaker, end to end on a real anvil with the real contracts: a lie is proven and costs the bond, an
//! order that nobody answered is matched, and an operator that governance named answers by itself.

mod quorum;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::signers::SignerSync as _;
use avs::dispute;
use avs::response::{Domain, MatchResponse, OrderMatch, encode, matches_hash};
use bindings::{IMatchingDisputes, IMatchingTaskManager, IOrderBook, ISingleMatchmaker, OrderState, Task};
use chain::network::Network;
use daemon::Shutdown;
use devnet::anvil::{Anvil, Recording};
use devnet::children::Spawner;
use devnet::traffic::Traffic;
use devnet::{Options, bootstrap, plan};
use eyre::{OptionExt as _, WrapErr as _, ensure, eyre};
use operator::store::OperatorStore;
use serde_json::json;

/// What hangs fails, and says so.
const TEST_DEADLINE: Duration = Duration::from_secs(240);
const WAIT: Duration = Duration::from_secs(60);
/// Blocks until a verifier that is named now decides.
const NAMED_AHEAD: u64 = 170;
const MATCHMAKER: &str = "matchmaker";
const WATCHER: &str = "watcher";
const SUPPLIER: &str = "supplier";
const USER: &str = "user";

/// A chain with our contracts, on which one matchmaker decides.
struct Market {
    folder: tempfile::TempDir,
    /// What it spawned lives as long as it does.
    _spawner: Spawner,
    anvil: Anvil,
    network: Network,
    options: Options,
    /// Contract of the matchmaker; nobody's where a quorum decides.
    matchmaker: Address,
    account: u32,
}

impl Market {
    /// A market without operators, decided by a matchmaker.
    async fn of_a_matchmaker() -> eyre::Result<Self> {
        let mut market = Self::start(|options| options.plan.operators.clear()).await?;
        let (anvil, network) = (&market.anvil, &market.network);
        market.matchmaker = bootstrap::deploy_matchmaker(anvil, network, &market.options, MATCHMAKER).await?;
        let from = anvil.provider.get_block_number().await? + NAMED_AHEAD;
        let named = IMatchingTaskManager::setQuorumVerifierCall {
            verifier: market.matchmaker,
            fromBlock: from as u32,
        };
        bootstrap::govern(anvil, network, network.contracts.task_manager, &named).await?;
        anvil.call("anvil_mine", json!([NAMED_AHEAD])).await?;
        anvil.mine_every(1).await?;
        Ok(market)
    }

    /// A chain with our contracts, a supplier, and a user with money. A block comes with every transaction.
    async fn start(change: impl FnOnce(&mut Options)) -> eyre::Result<Self> {
        let folder = tempfile::Builder::new().prefix("spheron-watch-").tempdir()?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let mut options = Options::new(folder.path().to_owned(), PathBuf::new(), repository);
        options.plan.providers.clear();
        change(&mut options);
        let recording = Recording::load(&options.repository.join(".local/eigenlayer"))?;
        let program = options.repository.join(".local/bin/anvil");
        ensure!(program.exists(), "{} is missing: run script/setup", program.display());
        let spawner = Spawner::new();
        let log = folder.path().join("anvil.log");
        let anvil = Anvil::start(&spawner, program, recording.chain_id, 0, log).await?;
        anvil.replay(&recording).await?;
        let network = bootstrap::deploy(&anvil, &recording, &options)
            .await
            .wrap_err("deploying (contracts/out must be of these sources: `forge build` in contracts)")?;
        let traffic = Traffic::of(&anvil, &network)?;
        traffic.supplier(SUPPLIER, 100).await?;
        let account = traffic.accounts(USER, 1, 1_000).await?[0];
        for name in [MATCHMAKER, WATCHER] {
            anvil.set_balance(plan::address(name), 100).await?;
        }
        std::fs::write(folder.path().join("devnet.json"), serde_json::to_string(&network)?)?;
        Ok(Self {
            folder,
            _spawner: spawner,
            anvil,
            network,
            options,
            matchmaker: Address::ZERO,
            account,
        })
    }

    /// The configuration of an operator without a BLS key.
    fn config(&self, name: &str, text: &str) -> eyre::Result<operator::config::Config> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let mut key = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.join("ecdsa.key"))?;
        let hexadecimal = alloy::primitives::hex::encode(plan::key(name).to_bytes());
        std::io::Write::write_all(&mut key, hexadecimal.as_bytes())?;
        let file = folder.join("operator.toml");
        let head = "network = \"../devnet.json\"\ndata_dir = \"data\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n";
        std::fs::write(&file, format!("{head}{text}"))?;
        Ok(operator::config::load(&file)?)
    }

    /// An order of this number (from 1) with one bid; returns its id and close block. Blocks come with transactions while it does,
    /// so that the bid is in time, and every second afterwards.
    async fn order(&self, number: u64) -> eyre::Result<(u64, u32)> {
        self.anvil.mine_at_once().await?;
        let traffic = Traffic::of(&self.anvil, &self.network)?;
        let book = self.network.contracts.order_book;
        let call = traffic.order(self.account, 4, number);
        traffic.send(plan::address(USER), book, &call).await?;
        let order_id = u64::from(self.account) << 32 | u64::from(traffic.token.id) << 24 | number;
        let bid = IOrderBook::placeBidCall {
            orderId: order_id,
            fizz: 0,
            rate: alloy::primitives::Uint::from(1_000_000),
        };
        traffic.send(plan::address(SUPPLIER), book, &bid).await?;
        let close_block = self.book().order(order_id).call().await?.closeBlock;
        self.anvil.mine_every(1).await?;
        Ok((order_id, close_block))
    }

    fn book(&self) -> IOrderBook::IOrderBookInstance<&alloy::providers::DynProvider> {
        IOrderBook::new(self.network.contracts.order_book, &self.anvil.provider)
    }

    async fn hash_of(&self, block: u32) -> eyre::Result<B256> {
        eventually(&format!("block {block} to be mined"), async || {
            let found = self.anvil.provider.get_block_by_number(u64::from(block).into()).await?;
            Ok(found.map(|found| found.header.hash))
        })
        .await
    }

    /// "Nobody bid", which is a lie, and its digest.
    async fn lie(&self, order_id: u64, close_block: u32) -> eyre::Result<(Task, Vec<U256>, B256)> {
        let nobody = OrderMatch {
            order_id,
            resources: U256::ZERO,
            rest_hash: B256::ZERO,
            ranks: Vec::new(),
        };
        let task = Task {
            closeBlock: close_block,
            closeBlockHash: self.hash_of(close_block).await?,
            chunk: 0,
            paramsVersion: 1,
        };
        let matches = encode(&[nobody])?;
        let domain = Domain {
            chain_id: self.network.chain_id,
            task_manager: self.network.contracts.task_manager,
        };
        let digest = MatchResponse {
            close_block,
            close_block_hash: task.closeBlockHash,
            chunk: 0,
            params_version: 1,
            matches_hash: matches_hash(&matches),
        }
        .digest(&domain);
        Ok((task, matches, digest))
    }

    /// The matchmaker lies. Returns the name of its answer.
    async fn matchmaker_lies(&self, order_id: u64, close_block: u32) -> eyre::Result<B256> {
        let (task, matches, digest) = self.lie(order_id, close_block).await?;
        let signature = plan::key(MATCHMAKER).sign_hash_sync(&digest)?;
        let call = IMatchingTaskManager::respondCall {
            task,
            matches,
            proof: signature.as_bytes().to_vec().into(),
        };
        let traffic = Traffic::of(&self.anvil, &self.network)?;
        let task_manager = self.network.contracts.task_manager;
        traffic.send(plan::address(USER), task_manager, &call).await?;
        let signatories = dispute::matchmaker_signatories(close_block, plan::address(MATCHMAKER));
        Ok(dispute::verdict(digest, close_block, signatories))
    }

    /// Waits until the watcher proved an answer wrong and had these signers slashed.
    async fn punished(&self, verdict: B256, signers: &[Address]) -> eyre::Result<()> {
        let disputes = IMatchingDisputes::new(self.network.contracts.disputes, &self.anvil.provider);
        let proven = eventually("the lie to be proven", async || {
            let found = disputes.verdictOf(verdict).call().await?;
            Ok((found.provenAt != 0).then_some(found))
        })
        .await?;
        ensure!(proven.challenger == plan::address(WATCHER), "the watcher proved it");
        for signer in signers {
            eventually(&format!("{signer} to be slashed"), async || {
                Ok(disputes.isSlashed(verdict, *signer).call().await?.then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    async fn bond(&self) -> eyre::Result<U256> {
        let contract = ISingleMatchmaker::new(self.matchmaker, &self.anvil.provider);
        Ok(contract.bond().call().await?.counting)
    }

    async fn leased(&self, order_id: u64) -> eyre::Result<()> {
        let book = self.book();
        eventually(&format!("a lease for order {order_id}"), async || {
            let state = book.order(order_id).call().await?.state;
            Ok((state == OrderState::Leased).then_some(()))
        })
        .await
    }
}

/// Looks again and again; what never comes is named.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> eyre::Result<Option<T>>) -> eyre::Result<T> {
    let waiting = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(WAIT, waiting).await;
    waited.map_err(|_| eyre!("waited {} s in vain for {what}", WAIT.as_secs()))?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_is_proven_and_paid_for_and_nobody_waits_in_vain() -> eyre::Result<()> {
    daemon::tls::install_provider();
    let mut market = Box::pin(Market::of_a_matchmaker()).await?;
    let shutdown = Shutdown::new();
    let ran = tokio::time::timeout(TEST_DEADLINE, Box::pin(run(&market, &shutdown))).await;
    shutdown.request();
    market.anvil.process.stop().await?;
    ran.map_err(|_| eyre!("the test did not end within {} s", TEST_DEADLINE.as_secs()))?
}

async fn run(market: &Market, shutdown: &Shutdown) -> eyre::Result<()> {
    let watcher = market.config(WATCHER, "[keys]\necdsa = \"ecdsa.key\"\n")?;
    operator::run::start_watching(watcher, shutdown.clone()).await?;
    proves_the_lie(market).await?;
    matches_what_nobody_answered(market).await?;

    let text = "[keys]\necdsa = \"ecdsa.key\"\n\n[matchmaker]\necdsa = \"ecdsa.key\"\n\n[watch]\nenabled = false\n";
    let named = market.config(MATCHMAKER, text)?;
    operator::run::start(named, shutdown.clone()).await?;
    let bond = market.bond().await?;
    let (order_id, close_block) = market.order(3).await?;
    market.hash_of(close_block).await?;
    // Else the watcher may take a late matchmaker for one that does not answer.
    let slow_blocks = market.anvil.mine_slowly().await?;
    market.leased(order_id).await?;
    drop(slow_blocks);
    market.anvil.mine_every(1).await?;
    let tasks = IMatchingTaskManager::new(market.network.contracts.task_manager, &market.anvil.provider);
    ensure!(!tasks.matchedByRule(order_id).call().await?, "the matchmaker answered");
    ensure!(tasks.answeredAt(close_block, 0).call().await? != 0);
    // The watcher looked at it too, and found nothing wrong.
    market.hash_of(close_block + 6).await?;
    ensure!(market.bond().await? == bond, "nobody was slashed for the truth");
    waits_for_coverage(market).await
}

/// What the bond does not cover is not signed, so that it can be answered once it does.
async fn waits_for_coverage(market: &Market) -> eyre::Result<()> {
    let (anvil, network) = (&market.anvil, &market.network);
    let contract = ISingleMatchmaker::new(market.matchmaker, &anvil.provider);
    let token = Traffic::of(anvil, network)?.token.id;
    let cover = |units| ISingleMatchmaker::setCoverageCall {
        token,
        unitsPerSpon: units,
    };
    let units = contract.coverage(token).call().await?;
    bootstrap::govern(anvil, network, market.matchmaker, &cover(U256::ZERO)).await?;
    let (order_id, close_block) = market.order(4).await?;
    market.hash_of(close_block + 3).await?;
    let tasks = IMatchingTaskManager::new(network.contracts.task_manager, &anvil.provider);
    ensure!(
        tasks.answeredAt(close_block, 0).call().await? == 0,
        "an order in a token without coverage was answered"
    );
    let store = OperatorStore::open(&market.folder.path().join(MATCHMAKER).join("data"))?;
    let hash = market.hash_of(close_block).await?;
    ensure!(
        store.signed_orders(hash, 0).await?.is_none(),
        "an answer that the contract refuses was signed"
    );
    // The response window is open for as long as this takes.
    let _slow_blocks = anvil.mine_slowly().await?;
    bootstrap::govern(anvil, network, market.matchmaker, &cover(units)).await?;
    market.leased(order_id).await?;
    ensure!(
        tasks.answeredAt(close_block, 0).call().await? != 0,
        "the matchmaker answered"
    );
    ensure!(store.signed_orders(hash, 0).await? == Some([order_id].into()));
    Ok(())
}

async fn proves_the_lie(market: &Market) -> eyre::Result<()> {
    let bond = market.bond().await?;
    let (order_id, close_block) = market.order(1).await?;
    market.hash_of(close_block).await?;
    // It can be challenged for a few blocks only.
    let slow_blocks = market.anvil.mine_slowly().await?;
    let verdict = market.matchmaker_lies(order_id, close_block).await?;
    market.punished(verdict, &[plan::address(MATCHMAKER)]).await?;
    drop(slow_blocks);
    ensure!(market.bond().await? < bond, "the bond was cut");
    Ok(())
}

async fn matches_what_nobody_answered(market: &Market) -> eyre::Result<()> {
    let (order_id, close_block) = market.order(2).await?;
    market.hash_of(close_block).await?;
    let response_window = market.book().parameters().call().await?.responseWindow;
    // The window in which the rule may be run is not long.
    let slow_blocks = market.anvil.mine_slowly().await?;
    market.anvil.call("anvil_mine", json!([response_window])).await?;
    market.leased(order_id).await?;
    drop(slow_blocks);
    let tasks = IMatchingTaskManager::new(market.network.contracts.task_manager, &market.anvil.provider);
    ensure!(tasks.matchedByRule(order_id).call().await?, "the rule on chain decided");
    let supplier = market.book().supplierOf(plan::address(SUPPLIER)).call().await?;
    let lease = market.book().order(order_id).call().await?;
    (lease.supplier == supplier)
        .then_some(())
        .ok_or_eyre("the only bidder got it")
}
