//! A devnet of a test's own.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use devnet::demo::Spheron;
use devnet::{Devnet, Options};
use eyre::{OptionExt as _, WrapErr as _, ensure, eyre};
use futures::FutureExt as _;
use serde_json::Value;
use tokio::sync::RwLock;

use crate::deployment::{Deployed, expect_success, repository};
use crate::market::DEPOSIT;

/// No test takes longer: what hangs fails with its logs kept.
const TEST_DEADLINE: Duration = Duration::from_secs(400);
/// Host ports of a provider of a test.
const PORTS_PER_PROVIDER: u16 = 20;
/// Blocks of a second each in which an order takes bids: two of the devnet's three are little where three devnets share two cores,
/// and an order without a bid in time has no lease.
const BID_WINDOW: u16 = 5;
/// Below the ports that the kernel hands out and beside those of `script/devnet`.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// Tests share the engine and the machine, except for a few.
static ENGINE: RwLock<()> = RwLock::const_new(());

/// How a test uses the container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Beside other tests.
    Shared,
    /// Alone: because it restarts the engine.
    Alone,
}

/// A running devnet in a folder of its own.
#[derive(Debug)]
pub struct Network {
    pub devnet: Devnet,
    /// Unix seconds of the start.
    pub(crate) began: u64,
}

/// Runs a test on the devnet of the tree, changed by the test. Whatever becomes of the test, the devnet is stopped and what
/// it left on the engine removed; its logs are kept if anything failed.
pub async fn on_devnet(
    sharing: Sharing,
    change: impl FnOnce(&mut Options),
    test: impl AsyncFnOnce(&mut Network) -> eyre::Result<()>,
) -> eyre::Result<()> {
    let (_shared, _alone) = match sharing {
        Sharing::Shared => (Some(ENGINE.read().await), None),
        Sharing::Alone => (None, Some(ENGINE.write().await)),
    };
    daemon::tls::install_provider();
    let folder = tempfile::Builder::new().prefix("spheron-test-").tempdir()?;
    let mut options = Options::new(folder.path().to_owned(), binaries()?, repository());
    options.plan.chain.port = 0;
    options.plan.bid_window = Some(BID_WINDOW);
    for provider in &mut options.plan.providers {
        provider.ports = next_ports();
    }
    change(&mut options);
    let outcome = Box::pin(run(options, test)).await;
    outcome.map_err(|error| {
        let kept = folder.keep();
        error.wrap_err(format!("the test failed; logs are in {}", kept.join("logs").display()))
    })
}

async fn run(options: Options, test: impl AsyncFnOnce(&mut Network) -> eyre::Result<()>) -> eyre::Result<()> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let devnet = Box::pin(Devnet::start(options, |_| {}))
        .await
        .wrap_err("the devnet did not start")?;
    let mut network = Network { devnet, began };
    let checked = {
        let test = AssertUnwindSafe(Box::pin(test(&mut network))).catch_unwind();
        tokio::time::timeout(TEST_DEADLINE, test).await
    };
    let checked = match checked {
        Ok(Ok(checked)) => checked,
        Ok(Err(_)) => Err(eyre!("the test panicked")),
        Err(_) => Err(eyre!("the test did not end within {} s", TEST_DEADLINE.as_secs())),
    };
    let stopped = Box::pin(network.devnet.stop()).await;
    // What the test found comes first: an agent that does not stop is often its consequence.
    checked.and(stopped)
}

impl Network {
    /// The command line of a user of the plan, with an account that holds [`DEPOSIT`] uSPON.
    pub async fn user(&self, name: &str) -> eyre::Result<Spheron> {
        let spheron = Spheron::user(&self.devnet, name);
        let key = self
            .devnet
            .options
            .directory
            .join(name)
            .join("ecdsa.key")
            .display()
            .to_string();
        spheron
            .json(&[
                "init",
                "--key",
                &key,
                "--token",
                "uSPON",
                "--deposit",
                &DEPOSIT.to_string(),
            ])
            .await?;
        Ok(spheron)
    }

    /// Starts `spheron deploy` and leaves it running.
    pub fn deploy(&self, user: &Spheron, file: &Path, flags: &[&str]) -> eyre::Result<tokio::process::Child> {
        let file = file.display().to_string();
        let arguments = [&["deploy", file.as_str()], flags].concat();
        let mut command = user.command(&arguments);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .wrap_err("cannot run spheron")
    }

    /// Runs `spheron deploy` to its end.
    pub async fn deployed(&self, user: &Spheron, file: &Path) -> eyre::Result<Deployed> {
        let child = self.deploy(user, file, &[])?;
        Deployed::read(&expect_success("`spheron deploy`", child).await?)
    }

    /// An agent's `/healthz`.
    pub async fn health(&self, agent: &str) -> eyre::Result<Value> {
        let url = format!("{}/healthz", self.devnet.http(agent)?);
        Ok(reqwest::get(url).await?.json().await?)
    }

    /// An agent's metrics.
    pub async fn metrics(&self, agent: &str) -> eyre::Result<String> {
        let url = format!("{}/metrics", self.devnet.http(agent)?);
        Ok(reqwest::get(url).await?.text().await?)
    }

    /// What an agent has logged.
    pub fn log(&self, agent: &str) -> eyre::Result<String> {
        let path = self.devnet.options.directory.join("logs").join(format!("{agent}.log"));
        std::fs::read_to_string(&path).wrap_err_with(|| path.display().to_string())
    }

    /// What an aggregator knows of the first task of a close block; null before it knows anything.
    pub async fn task(&self, aggregator: &str, close_block: u64) -> eyre::Result<Value> {
        let url = format!("{}/v1/tasks?close_block={close_block}", self.devnet.http(aggregator)?);
        let answer: Value = reqwest::get(url).await?.json().await?;
        Ok(answer["tasks"][0].clone())
    }

    /// Kills an agent and starts it again.
    pub async fn crash(&mut self, agent: &str) -> eyre::Result<()> {
        self.devnet.agent(agent)?.kill()?;
        self.devnet.launch(agent)?;
        self.devnet.wait_ready(agent).await
    }
}

/// Host ports that no other test has: two engines' worth of providers must not meet on this machine.
fn next_ports() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let slots = (PORTS.end - PORTS.start) / PORTS_PER_PROVIDER;
    // Another run of the tests at the same time begins elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(slots)).unwrap_or_default();
    let slot = (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % slots;
    let first = PORTS.start + slot * PORTS_PER_PROVIDER;
    format!("{first}-{}", first + PORTS_PER_PROVIDER - 1)
}

/// The binaries of this build.
pub fn binaries() -> eyre::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .ancestors()
        .nth(2)
        .ok_or_eyre("a test lies in target/PROFILE/deps")?;
    for program in ["spheron", "operator", "aggregator", "provider-agent"] {
        let path = folder.join(program);
        ensure!(
            path.is_file(),
            "{} is missing: build the workspace first (script/test does)",
            path.display()
        );
    }
    Ok(folder.to_owned())
}
