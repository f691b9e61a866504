//! The agents: their configuration files, their keys, and where they listen once they run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::primitives::{B256, hex, keccak256};
use avs::bn254::SecretKey;
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::children::{Launch, Process, Spawner};
use crate::plan::{self, Plan};

/// How long an agent may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Opens the keystores of a devnet, which protect nothing.
const DEVELOPMENT_PASSWORD: &str = "devnet";

/// Dollars for a whole coin of the devnet's. Gas is weighed as on any network, and a lease of a few seconds is worth its own:
/// collecting it takes some 10^-4 coins, and it brings some 10^-6 dollars.
const NATIVE_PRICE: &str = "0.0001";

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Operator,
    Aggregator,
    Provider,
}

/// An agent of the devnet, running or not.
#[derive(Debug)]
pub struct Agent {
    pub name: String,
    pub role: Role,
    pub folder: PathBuf,
    pub log: PathBuf,
    program: PathBuf,
    pub process: Option<Process>,
    /// Where it listened when it first ran: others know these addresses, so it comes back to them.
    listened: Option<Bound>,
}

/// What an agent writes about itself once it has bound its sockets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bound {
    /// Health, metrics and, for an aggregator, its API.
    pub http: Option<String>,
    /// A provider's manifest gateway.
    pub gateway: Option<String>,
    pub pid: Option<u32>,
}

impl Agent {
    pub fn new(name: &str, role: Role, directory: &Path, binaries: &Path) -> Self {
        let program = match role {
            Role::Operator => "operator",
            Role::Aggregator => "aggregator",
            Role::Provider => "provider-agent",
        };
        Self {
            name: name.to_owned(),
            role,
            folder: directory.join(name),
            log: directory.join("logs").join(format!("{name}.log")),
            program: binaries.join(program),
            process: None,
            listened: None,
        }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("config.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs `run`, the agent's daemon.
    pub fn start(&mut self, spawner: &Spawner) -> eyre::Result<()> {
        self.start_as(spawner, "run")
    }

    /// Runs one of the agent's daemons.
    pub fn start_as(&mut self, spawner: &Spawner, command: &str) -> eyre::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        // What an earlier run bound says nothing of this one.
        fs::remove_file(self.data().join("addresses.json")).ok();
        self.process = Some(self.launch_with(spawner, &[command], self.listen_again())?);
        Ok(())
    }

    /// The configuration takes any free port; after a restart it must be the one that was announced.
    fn listen_again(&self) -> Vec<(String, String)> {
        let prefix = match self.role {
            Role::Operator => "SPHERON_OPERATOR",
            Role::Aggregator => "SPHERON_AGGREGATOR",
            Role::Provider => "SPHERON_PROVIDER",
        };
        let Bound { http, gateway, .. } = self.listened.clone().unwrap_or_default();
        let sections = [("HTTP", http), ("GATEWAY", gateway)];
        sections
            .into_iter()
            .filter_map(|(section, address)| Some((format!("{prefix}__{section}__LISTEN"), address?)))
            .collect()
    }

    /// Runs one of the agent's other commands.
    pub fn launch(&self, spawner: &Spawner, command: &[&str]) -> eyre::Result<Process> {
        self.launch_with(spawner, command, Vec::new())
    }

    fn launch_with(
        &self,
        spawner: &Spawner,
        command: &[&str],
        environment: Vec<(String, String)>,
    ) -> eyre::Result<Process> {
        let mut arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
        arguments.extend(["--config".into(), self.config().display().to_string()]);
        let launch = Launch {
            name: self.name.clone(),
            program: self.program.clone(),
            arguments,
            environment,
            log: self.log.clone(),
        };
        Process::start(spawner, launch)
    }

    pub async fn stop(&mut self) -> eyre::Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// As a crash would.
    pub fn kill(&mut self) -> eyre::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Where it listens.
    pub fn bound(&self) -> Option<Bound> {
        serde_json::from_slice(&fs::read(self.data().join("addresses.json")).ok()?).ok()
    }

    /// Waits until it has bound its sockets.
    pub async fn listening(&mut self) -> eyre::Result<Bound> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Some(bound) = self.bound() {
                self.listened = Some(bound.clone());
                return Ok(bound);
            }
            self.still_expected(deadline, "listen")?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self, client: &reqwest::Client) -> eyre::Result<Bound> {
        let bound = self.listening().await?;
        let address = bound
            .http
            .as_deref()
            .ok_or_eyre("the agent did not say where its health is served")?;
        let url = format!("http://{address}/readyz");
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            if let Ok(answer) = client.get(&url).send().await
                && answer.status().is_success()
            {
                return Ok(bound);
            }
            self.still_expected(deadline, "become ready")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn still_expected(&mut self, deadline: Instant, what: &str) -> eyre::Result<()> {
        let Some(process) = &mut self.process else {
            bail!("{} is not running", self.name)
        };
        ensure!(
            process.ended().is_none(),
            "waiting for {} to {what}: {}",
            self.name,
            process.last_words()
        );
        ensure!(
            Instant::now() < deadline,
            "{} did not {what} within {} s: {}",
            self.name,
            READY_DEADLINE.as_secs(),
            process.last_words()
        );
        Ok(())
    }
}

/// What the configuration files refer to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Marks the devnet's containers, so that it can remove its own.
    pub devnet: String,
    pub docker_socket: Option<String>,
    /// RPC endpoint per agent where it differs from the network's (a proxy, in tests).
    pub rpc: BTreeMap<String, String>,
    /// Text put at the end of an agent's configuration file.
    pub extra_config: BTreeMap<String, String>,
}

/// Writes the folders of all agents: keys, certificates, configuration.
pub fn write_folders(plan: &Plan, agents: &[&Agent], surroundings: &Surroundings) -> eyre::Result<()> {
    for agent in agents {
        fs::create_dir_all(agent.data()).wrap_err_with(|| format!("cannot create {}", agent.folder.display()))?;
        secret_file(
            &agent.folder.join("ecdsa.key"),
            &hex::encode_prefixed(plan::key(&agent.name).to_bytes()),
        )?;
        let rpc = surroundings
            .rpc
            .get(&agent.name)
            .map(|url| format!("rpc = [\"{url}\"]\n"))
            .unwrap_or_default();
        let head = format!("network = \"../devnet.json\"\n{rpc}data_dir = \"data\"\n");
        let http = "\n[http]\nlisten = \"127.0.0.1:0\"\n";
        let text = match agent.role {
            Role::Operator => {
                secret_file(&agent.folder.join("password"), DEVELOPMENT_PASSWORD)?;
                let keystore = agent.folder.join("bls.json");
                if !keystore.exists() {
                    eigenlayer::keystore::store(&keystore, &bls_key(&agent.name)?, DEVELOPMENT_PASSWORD)?;
                }
                format!(
                    "{head}{http}\n[keys]\necdsa = \"ecdsa.key\"\nbls = \"bls.json\"\nbls_password_file = \"password\"\n"
                )
            }
            Role::Aggregator => format!("{head}{http}\n[keys]\necdsa = \"ecdsa.key\"\n"),
            Role::Provider => {
                let provider = plan
                    .providers
                    .iter()
                    .find(|provider| provider.name == agent.name)
                    .ok_or_eyre("a provider agent stands in the plan")?;
                format!(
                    "{head}identity = \"identity.pem\"\n{http}{}",
                    provider_sections(provider, surroundings)
                )
            }
        };
        let extra = surroundings
            .extra_config
            .get(&agent.name)
            .map(String::as_str)
            .unwrap_or_default();
        fs::write(agent.config(), text + extra)
            .wrap_err_with(|| format!("cannot write {}", agent.config().display()))?;
    }
    Ok(())
}

fn provider_sections(provider: &plan::Provider, surroundings: &Surroundings) -> String {
    let plan::Provider {
        ports, capacity, price, ..
    } = provider;
    let socket = surroundings
        .docker_socket
        .as_ref()
        .map(|socket| format!("socket = \"{socket}\"\n"))
        .unwrap_or_default();
    let prices: String = ["SPON", "uSPON", "USDT"]
        .iter()
        .map(|symbol| {
            format!(
                "\n[pricing.{symbol}]\ncpu_hour = \"{}\"\nmemory_gib_hour = \"{}\"\nstorage_gib_hour = \"{}\"\n",
                price.cpu, price.memory, price.storage
            )
        })
        .collect();
    format!(
        "\n[keys]\necdsa = \"ecdsa.key\"\n\
         \n[gateway]\nlisten = \"127.0.0.1:0\"\n\
         \n[engine]\nkind = \"docker\"\n{socket}ports = \"{ports}\"\npublic_host = \"127.0.0.1\"\nminimum_free = \"512 MiB\"\ndevnet_id = \"{}\"\n\
         \n[capacity]\ncpu = \"{}\"\nmemory = \"{}\"\nstorage = \"{}\"\n{prices}\
         \n[settle]\nnative_price = \"{NATIVE_PRICE}\"\n\
         \n[leases]\nconfirmation_depth = 1\nremoval_depth = 2\n",
        surroundings.devnet, capacity.cpu, capacity.memory, capacity.storage
    )
}

/// The development BLS key of a name.
pub fn bls_key(name: &str) -> eyre::Result<SecretKey> {
    let half = |side: &str| keccak256(format!("spheron devnet BLS {side} {name}"));
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&half("high").0);
    bytes[32..].copy_from_slice(&half("low").0);
    SecretKey::from_random_bytes(&bytes).wrap_err("development BLS key")
}

/// Writes a file only its owner may read.
pub fn secret_file(path: &Path, content: &str) -> eyre::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .wrap_err_with(|| format!("cannot write {}", path.display()))?;
    file.write_all(content.as_bytes())
        .wrap_err_with(|| format!("cannot write {}", path.display()))
}

/// An id for a devnet that differs from others' on the same engine.
pub fn devnet_id(directory: &Path) -> String {
    let hash: B256 = keccak256(directory.as_os_str().as_encoded_bytes());
    hex::encode(&hash[..4])
}
