//! One order through its whole life with the shipped binaries, every stage checked on chain or over HTTP rather than
//! believed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use bindings::{IEscrow, ILeases, IMatchingTaskManager, IOrderBook, OrderState};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use crate::network::Devnet;

/// How long the demo waits for any one stage.
const STAGE_DEADLINE: Duration = Duration::from_secs(90);
/// How often the chain and the agents are asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The outcome, as `script/devnet demo --json` prints it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    pub passed: bool,
    pub stages: Vec<Stage>,
    pub url: Option<String>,
    pub http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A stage that was reached.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub name: &'static str,
    /// Block in which it happened, or that was the latest when it was seen.
    pub block: u64,
    /// Milliseconds since the order was asked for.
    pub ms: u64,
}

/// The command line of one user.
#[derive(Clone, Debug)]
pub struct Spheron {
    pub program: PathBuf,
    pub network: PathBuf,
    pub home: PathBuf,
}

impl Spheron {
    /// The command line as a user of the plan.
    pub fn user(devnet: &Devnet, name: &str) -> Self {
        Self {
            program: devnet.options.binaries.join("spheron"),
            network: devnet.network_file(),
            home: devnet.options.directory.join(name).join("home"),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--network")
            .arg(&self.network)
            .arg("--home")
            .arg(&self.home)
            .arg("--json")
            .args(arguments);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end and reads its result.
    pub async fn json(&self, arguments: &[&str]) -> eyre::Result<Value> {
        let shown = || format!("spheron {}", arguments.join(" "));
        let output = tokio::time::timeout(STAGE_DEADLINE, self.command(arguments).output())
            .await
            .map_err(|_| eyre::eyre!("`{}` did not end within {} s", shown(), STAGE_DEADLINE.as_secs()))?
            .wrap_err_with(|| format!("cannot run {}", self.program.display()))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`{}` ended with {}: {}{}",
            shown(),
            output.status,
            complaint,
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout)
            .wrap_err_with(|| format!("`{}` printed no JSON; stderr: {complaint}", shown()))
    }
}

/// Runs the demo with a user of the plan.
pub async fn run(devnet: &Devnet, file: &Path, user: &str) -> Outcome {
    let mut outcome = Outcome::default();
    match Demo::new(devnet, user).live(file, &mut outcome).await {
        Ok(()) => outcome.passed = true,
        Err(error) => outcome.error = Some(format!("{error:#}")),
    }
    outcome
}

struct Demo<'a> {
    devnet: &'a Devnet,
    spheron: Spheron,
    user: String,
    started: Instant,
}

impl<'a> Demo<'a> {
    fn new(devnet: &'a Devnet, user: &str) -> Self {
        Self {
            devnet,
            spheron: Spheron::user(devnet, user),
            user: user.to_owned(),
            started: Instant::now(),
        }
    }

    async fn live(mut self, file: &Path, outcome: &mut Outcome) -> eyre::Result<()> {
        let key = self.devnet.options.directory.join(&self.user).join("ecdsa.key");
        let opened = self
            .spheron
            .json(&[
                "init",
                "--key",
                &key.display().to_string(),
                "--token",
                "uSPON",
                "--deposit",
                "1000",
            ])
            .await?;
        tracing::info!(account = %opened["account"], address = %opened["address"], "account opened and funded");

        let contracts = &self.devnet.network.contracts;
        let from = self.devnet.anvil.provider.get_block_number().await?;
        self.started = Instant::now();
        let shown = file.display().to_string();
        let mut deploy = self
            .spheron
            .command(&["deploy", &shown])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;

        let created = self
            .event::<IOrderBook::OrderCreated>(contracts.order_book, from, None, "the order", Some(&mut deploy))
            .await?;
        let order = created.1.orderId;
        let close_block = u64::from(created.1.closeBlock);
        self.reached(outcome, "order", created.0);
        let of_order = Some(B256::from(U256::from(order)));
        let bid = self
            .event::<IOrderBook::BidPlaced>(contracts.order_book, from, of_order, "a bid", Some(&mut deploy))
            .await?;
        self.reached(outcome, "bid", bid.0);
        self.until("the close block", async || {
            Ok((self.block().await? >= close_block).then_some(()))
        })
        .await?;
        self.reached(outcome, "close", close_block);
        let signed_at = self
            .until("a quorum of signatures at an aggregator", async || {
                self.quorum_signed(close_block).await
            })
            .await?;
        self.reached(outcome, "signed", signed_at);
        let of_task = Some(B256::from(U256::from(close_block)));
        let responded = self
            .event::<IMatchingTaskManager::TaskResponded>(contracts.task_manager, from, of_task, "the response", None)
            .await?;
        self.reached(outcome, "responded", responded.0);
        let leased = self
            .event::<IOrderBook::LeaseCreated>(contracts.order_book, from, of_order, "the lease", None)
            .await?;
        self.reached(outcome, "leased", leased.0);
        // How many blocks that took is for `script/bench latency` to judge: a busy machine is not a broken network.
        let supplier = leased.1.supplier;

        let id = order.to_string();
        self.until("the provider to hold the manifest", async || {
            Ok((self.spheron.json(&["lease", "show", &id]).await?["manifest"] == "stored").then_some(()))
        })
        .await?;
        self.reached_now(outcome, "manifest").await?;
        let output = tokio::time::timeout(STAGE_DEADLINE, deploy.wait_with_output())
            .await
            .wrap_err("`spheron deploy` did not end")??;
        ensure!(
            output.status.success(),
            "`spheron deploy` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let deployed: Value =
            serde_json::from_slice(&output.stdout).wrap_err("`spheron deploy --json` printed no JSON")?;
        ensure!(
            deployed["state"] == "running",
            "`spheron deploy` says {}",
            deployed["state"]
        );
        self.reached_now(outcome, "running").await?;

        let url = deployed["services"]
            .as_array()
            .and_then(|services| services.iter().find_map(|service| service["urls"][0].as_str()));
        let url = url.ok_or_eyre("`spheron deploy` names no URL")?.to_owned();
        let status = self.http(&url).await?;
        (outcome.url, outcome.http_status) = (Some(url), Some(status));
        self.reached_now(outcome, "http").await?;

        self.close_and_pay(outcome, order, supplier, from).await
    }

    /// Closes the lease as its user, waits for the provider to be paid, and checks the money to the unit.
    async fn close_and_pay(&self, outcome: &mut Outcome, order: u64, supplier: u32, from: u64) -> eyre::Result<()> {
        let contracts = &self.devnet.network.contracts;
        let provider = &self.devnet.anvil.provider;
        let book = IOrderBook::new(contracts.order_book, provider);
        let escrow = IEscrow::new(contracts.escrow, provider);
        let (account, token) = (u32::try_from(order >> 32)?, u8::try_from((order >> 24) & 0xff)?);
        let of_order = Some(B256::from(U256::from(order)));

        self.spheron.json(&["lease", "close", &order.to_string()]).await?;
        let closed = self
            .event::<ILeases::LeaseClosed>(contracts.order_book, from, of_order, "the lease to be closed", None)
            .await?;
        ensure!(
            closed.1.reason == OrderState::ClosedByUser,
            "the lease was closed with reason {:?}",
            closed.1.reason
        );
        self.reached(outcome, "closed", closed.0);

        let payee = book.supplierOwner(supplier).call().await?;
        self.until("the provider to be paid", async || {
            let word = book.order(order).call().await?;
            Ok(
                (word.settledFor == word.duration && escrow.creditOf(payee, token).call().await? <= U256::ONE)
                    .then_some(()),
            )
        })
        .await?;
        let word = book.order(order).call().await?;
        let schedule = escrow.feeSchedule(word.feeSchedule).call().await?;
        let gross = U256::from(word.rate) * U256::from(word.duration) / U256::from(36_000);
        let share = |basis_points: u16| gross * U256::from(basis_points) / U256::from(10_000);
        let expected = gross - share(schedule.commission + schedule.providerFee);
        if !expected.is_zero() {
            // The logs of a block may be there a moment after its state.
            self.event::<IOrderBook::LeaseSettled>(contracts.order_book, from, of_order, "the settlement", None)
                .await?;
        }
        let mut paid = U256::ZERO;
        let settled = self
            .logs::<IOrderBook::LeaseSettled>(contracts.order_book, from, of_order)
            .await?;
        let last = settled.last().map(|(block, _)| *block).unwrap_or(closed.0);
        for (_, event) in settled {
            paid += event.amount;
        }
        ensure!(
            paid == expected,
            "the provider was paid {paid} units, {expected} are due for {} s",
            word.duration
        );
        let after = escrow.balances(account, token).call().await?;
        ensure!(
            after.locked.is_zero(),
            "{} units are still locked in account {account}",
            after.locked
        );
        self.reached(outcome, "paid", last);
        Ok(())
    }

    async fn http(&self, url: &str) -> eyre::Result<u16> {
        let client = reqwest::Client::new();
        self.until(&format!("{url} to answer"), async || {
            let Ok(answer) = client.get(url).timeout(Duration::from_secs(10)).send().await else {
                return Ok(None);
            };
            let status = answer.status().as_u16();
            let body = answer.text().await.unwrap_or_default();
            if status == 200 {
                ensure!(
                    body.contains("Hello from a lease"),
                    "{url} answers, but not what the image serves: {body:?}"
                );
                return Ok(Some(status));
            }
            Ok(None)
        })
        .await
    }

    /// The block in which an aggregator held enough signatures for the close block's task.
    async fn quorum_signed(&self, close_block: u64) -> eyre::Result<Option<u64>> {
        for aggregator in self.devnet.aggregator_urls() {
            let Ok(answer) = reqwest::get(format!("{aggregator}/v1/tasks?close_block={close_block}")).await else {
                continue;
            };
            let Ok(answer) = answer.json::<Value>().await else {
                continue;
            };
            let reached = answer["tasks"]
                .as_array()
                .is_some_and(|tasks| tasks.iter().any(|task| task["quorum_reached"] == true));
            if reached {
                return Ok(Some(close_block));
            }
        }
        Ok(None)
    }

    async fn block(&self) -> eyre::Result<u64> {
        Ok(self.devnet.anvil.provider.get_block_number().await?)
    }

    async fn logs<E: SolEvent>(&self, address: Address, from: u64, topic: Option<B256>) -> eyre::Result<Vec<(u64, E)>> {
        let mut filter = Filter::new()
            .address(address)
            .event_signature(E::SIGNATURE_HASH)
            .from_block(from);
        if let Some(topic) = topic {
            filter = filter.topic1(topic);
        }
        let logs = self.devnet.anvil.provider.get_logs(&filter).await?;
        logs.iter()
            .map(|log: &Log| {
                Ok((
                    log.block_number.ok_or_eyre("a mined log has a block")?,
                    E::decode_log(&log.inner)?.data,
                ))
            })
            .collect()
    }

    async fn event<E: SolEvent>(
        &self,
        address: Address,
        from: u64,
        topic: Option<B256>,
        what: &str,
        mut beside: Option<&mut tokio::process::Child>,
    ) -> eyre::Result<(u64, E)> {
        let deadline = Instant::now() + STAGE_DEADLINE;
        loop {
            if let Some(found) = self.logs::<E>(address, from, topic).await?.pop() {
                return Ok(found);
            }
            if let Some(child) = beside.as_deref_mut()
                && let Some(status) = child.try_wait()?
            {
                let mut complaint = String::new();
                if let Some(stderr) = child.stderr.as_mut() {
                    tokio::io::AsyncReadExt::read_to_string(stderr, &mut complaint)
                        .await
                        .ok();
                }
                bail!("`spheron deploy` ended with {status} while {what} was awaited: {complaint}");
            }
            ensure!(
                Instant::now() < deadline,
                "{what} was not seen within {} s",
                STAGE_DEADLINE.as_secs()
            );
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> eyre::Result<Option<T>>) -> eyre::Result<T> {
        let deadline = Instant::now() + STAGE_DEADLINE;
        loop {
            if let Some(found) = ask().await? {
                return Ok(found);
            }
            ensure!(
                Instant::now() < deadline,
                "waited {} s for {what}",
                STAGE_DEADLINE.as_secs()
            );
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn reached(&self, outcome: &mut Outcome, name: &'static str, block: u64) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        eprintln_stage(name, block, ms);
        outcome.stages.push(Stage { name, block, ms });
    }

    async fn reached_now(&self, outcome: &mut Outcome, name: &'static str) -> eyre::Result<()> {
        let block = self.block().await?;
        self.reached(outcome, name, block);
        Ok(())
    }
}

fn eprintln_stage(name: &str, block: u64, ms: u64) {
    use std::io::Write as _;
    // Progress for people; nothing depends on it being written.
    writeln!(std::io::stderr(), "  {name:<10} block {block:<6} {ms:>7} ms").ok();
}
