//! A running devnet: what it starts, in which order, and how it goes away again.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy::primitives::Address;
use chain::network::Network;
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::json;

use crate::agents::{self, Agent, Role, Surroundings};
use crate::anvil::{Anvil, Recording};
use crate::children::{Process, Spawner};
use crate::plan::{self, Plan};
use crate::{bootstrap, images, rewards};

/// How long all operators may take to opt in.
const OPT_IN_DEADLINE: Duration = Duration::from_secs(120);

/// Where things are, and what differs from the plan.
#[derive(Clone, Debug)]
pub struct Options {
    pub plan: Plan,
    /// Everything the devnet writes goes here.
    pub directory: PathBuf,
    /// The agents' and the command line's binaries.
    pub binaries: PathBuf,
    /// The repository: contracts' artifacts, recorded deployment, examples.
    pub repository: PathBuf,
    /// Docker socket; the environment's when absent.
    pub docker_socket: Option<String>,
    /// RPC endpoint per agent, where a test puts a proxy between.
    pub rpc: BTreeMap<String, String>,
    /// Text put at the end of an agent's configuration file.
    pub extra_config: BTreeMap<String, String>,
    /// Start the providers (which need a Docker engine).
    pub with_providers: bool,
}

impl Options {
    /// The plan in the tree, in a directory.
    pub fn new(directory: PathBuf, binaries: PathBuf, repository: PathBuf) -> Self {
        Self {
            plan: Plan::built_in(),
            directory,
            binaries,
            repository,
            docker_socket: None,
            rpc: BTreeMap::new(),
            extra_config: BTreeMap::new(),
            with_providers: true,
        }
    }

    fn tool(&self, name: &str) -> eyre::Result<PathBuf> {
        let path = self.repository.join(".local/bin").join(name);
        ensure!(path.exists(), "{} is missing: run script/setup", path.display());
        Ok(path)
    }
}

/// A running devnet. Dropping it kills its processes; [`Devnet::stop`] also removes its containers.
#[derive(Debug)]
pub struct Devnet {
    pub options: Options,
    /// Labels the devnet's containers, networks and volumes.
    pub id: String,
    pub anvil: Anvil,
    pub network: Network,
    pub agents: BTreeMap<String, Agent>,
    pub images: Vec<String>,
    /// What each step of the start took.
    pub steps: Vec<(String, Duration)>,
    spawner: Spawner,
    client: reqwest::Client,
}

/// `devnet.json`: a network file, with what is the devnet's own beside it.
#[derive(Debug, Serialize)]
struct DevnetFile<'a> {
    #[serde(flatten)]
    network: &'a Network,
    devnet: &'a str,
    directory: &'a PathBuf,
    /// Development keys, worthless anywhere else.
    accounts: BTreeMap<String, serde_json::Value>,
    agents: BTreeMap<&'a str, serde_json::Value>,
}

impl Devnet {
    /// Starts everything and returns when every agent is ready.
    pub async fn start(options: Options, progress: impl Fn(&str)) -> eyre::Result<Self> {
        fs::create_dir_all(&options.directory)
            .wrap_err_with(|| format!("cannot create {}", options.directory.display()))?;
        let mut timing = Timing::new(&progress);
        let id = agents::devnet_id(&options.directory);
        let spawner = Spawner::new();
        let ((anvil, recording), images) = tokio::try_join!(start_chain(&options, &spawner), load_images(&options))?;
        timing.step("chain with EigenLayer");
        let network = bootstrap::deploy(&anvil, &recording, &options)
            .await
            .wrap_err("deploying the contracts")?;
        timing.step("contracts deployed");
        bootstrap::fund(&anvil, &network, &options.plan)
            .await
            .wrap_err("funding the accounts")?;
        timing.step("accounts funded");

        let agents = members(&options);
        let mut devnet = Self {
            id,
            anvil,
            network,
            agents: agents.into_iter().map(|agent| (agent.name.clone(), agent)).collect(),
            images,
            steps: Vec::new(),
            spawner,
            client: reqwest::Client::new(),
            options,
        };
        devnet.write_file()?;
        devnet.write_agents()?;
        let fast_blocks = devnet.anvil.mine_fast();
        devnet.start_role(Role::Aggregator).await?;
        devnet.network.aggregators = devnet.aggregator_urls();
        devnet.write_file()?;
        timing.step("aggregators started");
        let opting_in = devnet.opt_in()?;
        if devnet.options.with_providers {
            devnet.start_providers().await?;
            timing.step("providers registered");
        }
        opted_in(opting_in).await.wrap_err("operators opting in")?;
        // Operators' accounts are in use from here on.
        let Options { plan, directory, .. } = &devnet.options;
        rewards::name_claimer(&devnet.anvil, &devnet.network, plan, directory).await?;
        timing.step("operators opted in");
        devnet.start_role(Role::Operator).await?;
        devnet.all_ready().await?;
        drop(fast_blocks);
        // After the fast blocks, in which no refresh stays young; transactions are still mined as they come.
        bootstrap::refresh_stakes(&devnet.anvil, &devnet.network, &devnet.options.plan).await?;
        devnet.anvil.mine_every(devnet.options.plan.chain.block_time).await?;
        timing.step("everybody ready");
        devnet.write_file()?;
        devnet.steps = timing.steps;
        Ok(devnet)
    }

    /// The network file of this devnet.
    pub fn network_file(&self) -> PathBuf {
        self.options.directory.join("devnet.json")
    }

    pub fn agent(&mut self, name: &str) -> eyre::Result<&mut Agent> {
        self.agents
            .get_mut(name)
            .ok_or_else(|| eyre::eyre!("the devnet has no agent {name}"))
    }

    /// Starts an agent again and waits until it is ready.
    pub async fn restart(&mut self, name: &str) -> eyre::Result<()> {
        let (spawner, client) = (self.spawner.clone(), self.client.clone());
        let agent = self.agent(name)?;
        agent.stop().await?;
        agent.start(&spawner)?;
        agent.ready(&client).await?;
        Ok(())
    }

    /// Starts an agent without waiting for it.
    pub fn launch(&mut self, name: &str) -> eyre::Result<()> {
        let spawner = self.spawner.clone();
        self.agent(name)?.start(&spawner)
    }

    /// Runs another of an agent's daemons in place of `run`, without waiting for it.
    pub fn launch_as(&mut self, name: &str, command: &str) -> eyre::Result<()> {
        let spawner = self.spawner.clone();
        self.agent(name)?.start_as(&spawner, command)
    }

    /// Waits until an agent is ready.
    pub async fn wait_ready(&mut self, name: &str) -> eyre::Result<()> {
        let client = self.client.clone();
        self.agent(name)?.ready(&client).await.map(drop)
    }

    /// Base URL of an agent's health, metrics and API.
    pub fn http(&self, name: &str) -> eyre::Result<String> {
        let agent = self
            .agents
            .get(name)
            .ok_or_else(|| eyre::eyre!("the devnet has no agent {name}"))?;
        let bound = agent
            .bound()
            .and_then(|bound| bound.http)
            .ok_or_else(|| eyre::eyre!("{name} does not listen"))?;
        Ok(format!("http://{bound}"))
    }

    /// Where the aggregators take signatures.
    pub fn aggregator_urls(&self) -> Vec<String> {
        let aggregators = self.agents.values().filter(|agent| agent.role == Role::Aggregator);
        aggregators
            .filter_map(|agent| Some(format!("http://{}", agent.bound()?.http?)))
            .collect()
    }

    /// Whether every process still runs; the last words of one that does not.
    pub fn check_processes(&mut self) -> eyre::Result<()> {
        if self.anvil.process.ended().is_some() {
            bail!("{}", self.anvil.process.last_words());
        }
        for agent in self.agents.values_mut() {
            if let Some(process) = &mut agent.process
                && process.ended().is_some()
            {
                bail!("{}", process.last_words());
            }
        }
        Ok(())
    }

    /// Stops everything in order, agents first, and removes the devnet's containers, networks, volumes and firewall rules.
    pub async fn stop(mut self) -> eyre::Result<()> {
        let mut failures = Vec::new();
        let stops = self
            .agents
            .values_mut()
            .map(|agent| async { agent.stop().await.map_err(|error| (agent.name.clone(), error)) });
        for outcome in futures::future::join_all(stops).await {
            if let Err((name, error)) = outcome {
                failures.push(format!("{name}: {error:#}"));
            }
        }
        if self.options.with_providers
            && let Err(error) = self.remove_workloads().await
        {
            failures.push(format!("{error:#}"));
        }
        if let Err(error) = self.anvil.process.stop().await {
            failures.push(format!("{error:#}"));
        }
        fs::remove_file(self.network_file()).ok();
        ensure!(
            failures.is_empty(),
            "not everything stopped cleanly: {}",
            failures.join("; ")
        );
        Ok(())
    }

    /// Removes what the devnet's providers left on the engine.
    pub async fn remove_workloads(&self) -> eyre::Result<()> {
        let providers: Vec<Address> = self
            .options
            .plan
            .providers
            .iter()
            .map(|provider| plan::address(&provider.name))
            .collect();
        crate::sweep::remove(&self.id, &providers, self.options.docker_socket.as_deref()).await
    }

    async fn start_role(&mut self, role: Role) -> eyre::Result<()> {
        let (spawner, client) = (self.spawner.clone(), self.client.clone());
        let mut starting: Vec<&mut Agent> = self.agents.values_mut().filter(|agent| agent.role == role).collect();
        for agent in &mut starting {
            agent.start(&spawner)?;
        }
        match role {
            // A provider is ready only once it is registered, which needs the address of its gateway.
            Role::Provider => try_join_all(starting.into_iter().map(Agent::listening)).await?,
            Role::Operator | Role::Aggregator => {
                try_join_all(starting.into_iter().map(|agent| agent.ready(&client))).await?
            }
        };
        Ok(())
    }

    /// Every operator begins to opt in with the shipped command.
    fn opt_in(&self) -> eyre::Result<Vec<Process>> {
        let operators = self.options.plan.operators.iter();
        operators
            .map(|operator| {
                let agent = self
                    .agents
                    .get(&operator.name)
                    .ok_or_eyre("an operator of the plan is an agent")?;
                let mut arguments = vec!["opt-in".to_owned()];
                for (quorum, tokens) in self.network.eigenlayer.quorums.iter().zip(operator.restake.by_quorum()) {
                    arguments.extend([
                        "--deposit".into(),
                        format!("{}={tokens}{}", quorum.number, "0".repeat(18)),
                    ]);
                }
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                agent.launch(&self.spawner, &arguments)
            })
            .collect()
    }

    async fn start_providers(&mut self) -> eyre::Result<()> {
        for provider in &self.options.plan.providers {
            let folder = &self
                .agents
                .get(&provider.name)
                .ok_or_eyre("a provider of the plan is an agent")?
                .folder;
            bootstrap::provider_identity(folder)?;
        }
        self.start_role(Role::Provider).await?;
        bootstrap::register_providers(self)
            .await
            .wrap_err("registering the providers")
    }

    async fn all_ready(&mut self) -> eyre::Result<()> {
        let client = self.client.clone();
        let running = self.agents.values_mut().filter(|agent| agent.process.is_some());
        try_join_all(running.map(|agent| agent.ready(&client))).await?;
        Ok(())
    }

    fn write_agents(&self) -> eyre::Result<()> {
        let surroundings = Surroundings {
            devnet: self.id.clone(),
            docker_socket: self.options.docker_socket.clone(),
            rpc: self.options.rpc.clone(),
            extra_config: self.options.extra_config.clone(),
        };
        let agents: Vec<&Agent> = self.agents.values().collect();
        agents::write_folders(&self.options.plan, &agents, &surroundings)?;
        for user in &self.options.plan.users {
            let folder = self.options.directory.join(&user.name);
            fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot create {}", folder.display()))?;
            let key = alloy::primitives::hex::encode_prefixed(plan::key(&user.name).to_bytes());
            agents::secret_file(&folder.join("ecdsa.key"), &key)?;
        }
        Ok(())
    }

    /// Writes `devnet.json`, whole or not at all: other programs read it while it changes.
    pub fn write_file(&self) -> eyre::Result<()> {
        let account = |name: &str| {
            let key = plan::key(name);
            (
                name.to_owned(),
                json!({"address": key.address(), "private_key": key.to_bytes()}),
            )
        };
        let file = DevnetFile {
            network: &self.network,
            devnet: &self.id,
            directory: &self.options.directory,
            accounts: self.agents.keys().map(String::as_str)
                .chain(self.options.plan.users.iter().map(|user| user.name.as_str()))
                .chain(plan::ROLE_HOLDERS)
                .map(account)
                .collect(),
            agents: self
                .agents
                .values()
                .map(|agent| {
                    let bound = agent.bound().unwrap_or_default();
                    let about = json!({"role": agent.role, "pid": bound.pid, "http": bound.http, "gateway": bound.gateway, "log": agent.log});
                    (agent.name.as_str(), about)
                })
                .collect(),
        };
        self.write_targets()?;
        let path = self.network_file();
        let draft = path.with_extension("json.draft");
        agents::secret_file(&draft, &serde_json::to_string_pretty(&file)?)?;
        fs::rename(&draft, &path).wrap_err_with(|| format!("cannot write {}", path.display()))
    }

    /// Where Prometheus finds the agents' metrics (`file_sd_configs` in `anvil-config/prometheus`).
    fn write_targets(&self) -> eyre::Result<()> {
        let targets: Vec<serde_json::Value> = self
            .agents
            .values()
            .filter_map(|agent| {
                let http = agent.bound()?.http?;
                Some(json!({"targets": [http], "labels": {"job": agent.role, "agent": agent.name}}))
            })
            .collect();
        let path = self.options.directory.join("prometheus-targets.json");
        let draft = path.with_extension("json.draft");
        fs::write(&draft, serde_json::to_string_pretty(&targets)?)
            .and_then(|()| fs::rename(&draft, &path))
            .wrap_err_with(|| format!("cannot write {}", path.display()))
    }
}

async fn opted_in(mut running: Vec<Process>) -> eyre::Result<()> {
    for process in &mut running {
        let status = process.finished(OPT_IN_DEADLINE).await?;
        ensure!(status.success(), "{}", process.last_words());
    }
    Ok(())
}

fn members(options: &Options) -> Vec<Agent> {
    let plan = &options.plan;
    let agent = |name: &str, role| Agent::new(name, role, &options.directory, &options.binaries);
    let operators = plan
        .operators
        .iter()
        .map(|operator| agent(&operator.name, Role::Operator));
    let aggregators = plan
        .aggregators
        .iter()
        .map(|aggregator| agent(&aggregator.name, Role::Aggregator));
    let providers = plan
        .providers
        .iter()
        .filter(|_| options.with_providers)
        .map(|provider| agent(&provider.name, Role::Provider));
    operators.chain(aggregators).chain(providers).collect()
}

async fn start_chain(options: &Options, spawner: &Spawner) -> eyre::Result<(Anvil, Recording)> {
    let recording = Recording::load(&options.repository.join(".local/eigenlayer"))?;
    let log = options.directory.join("logs/anvil.log");
    let chain = &options.plan.chain;
    let anvil = Anvil::start(spawner, options.tool("anvil")?, recording.chain_id, chain.port, log).await?;
    anvil.replay(&recording).await?;
    Ok((anvil, recording))
}

async fn load_images(options: &Options) -> eyre::Result<Vec<String>> {
    if !options.with_providers {
        return Ok(Vec::new());
    }
    let docker = crate::sweep::engine(options.docker_socket.as_deref()).await?;
    images::load_all(&docker, &options.repository.join("examples/images")).await
}

/// What each step took.
struct Timing<'a> {
    steps: Vec<(String, Duration)>,
    last: Instant,
    progress: &'a dyn Fn(&str),
}

impl<'a> Timing<'a> {
    fn new(progress: &'a impl Fn(&str)) -> Self {
        Self {
            steps: Vec::new(),
            last: Instant::now(),
            progress,
        }
    }

    fn step(&mut self, name: &str) {
        let took = self.last.elapsed();
        (self.progress)(&format!("{name:<24} {:>6} ms", took.as_millis()));
        self.steps.push((name.to_owned(), took));
        self.last = Instant::now();
    }
}
