//! The configuration: one commented TOML file; every problem of it is found before anything binds.

mod amounts;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::updates::Accept;
use alloy::signers::local::PrivateKeySigner;
use alloy_primitives::Address;
use chain::keys::{self, KeyError};
use daemon::Secret;
use daemon::config::{ByteSize, Problems, Validate};
use url::Url;
use workload::Scope;

pub use amounts::{Cores, Number, PortRange, Price, Quantity};

/// Prefix of the environment variables that override the file.
pub const ENVIRONMENT_PREFIX: &str = "SPHERON_PROVIDER";

/// What is due after this long can be weighed against its gas.
const WEIGHED_INTERVAL: Duration = Duration::from_secs(3600);
/// What is due after this long cannot: a transaction a day in each token is the most that the defaults may waste.
const UNWEIGHED_INTERVAL: Duration = Duration::from_secs(24 * 3600);

daemon::section! {
    /// The provider's agent.
    pub struct Config {
        /// The network file: chain id, RPC endpoints, contract addresses, tokens.
        pub network: PathBuf,
        /// JSON-RPC endpoints instead of the network's. Give two or more: reads fall over from one to the next.
        pub rpc: Vec<Url> = Vec::new(),
        /// Where the agent keeps its state: leases, manifests (encrypted), logs. One process per directory.
        pub data_dir: PathBuf,
        /// The gateway's certificate and key, one PEM file; made if it is not there. Absent: identity.pem in data_dir.
        pub identity: Option<PathBuf>,
        /// Metrics and health.
        pub http: Http,
        /// The gateway that the owners of leases talk to.
        pub gateway: GatewayListener,
        /// The provider's key on chain.
        pub keys: Keys,
        /// What runs the workloads.
        pub engine: Engine,
        /// What is offered on the market. Never more than the machine has.
        pub capacity: Offer,
        /// Prices by token symbol: [pricing.uSPON]. Orders in other tokens get no bid.
        pub pricing: BTreeMap<String, PriceList>,
        /// How bids are made.
        pub bidding: Bidding,
        /// How leases are run.
        pub leases: Leases,
        /// When pay is collected.
        pub settle: Settle,
        /// Which updates of leases are taken, and how.
        pub updates: Updates,
    }
}

daemon::section! {
    /// Metrics and health.
    pub struct Http {
        /// Address of /metrics, /healthz and /readyz; port 0 takes any free one (see data_dir/addresses.json).
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
    }
}

daemon::section! {
    /// The gateway that the owners of leases talk to.
    pub struct GatewayListener {
        /// Address to listen on; port 0 takes any free one.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
        /// The URL that is registered on chain (`spheron provider register --gateway`): a warning is given when the registry has another one.
        pub public_url: Option<Url>,
    }
}

daemon::section! {
    /// The provider's key on chain.
    pub struct Keys {
        /// A keystore as geth writes it (version 3), or for devnets a file with the key itself in hexadecimal; mode 0600.
        pub ecdsa: PathBuf,
        /// The file with the keystore's password.
        pub ecdsa_password_file: Option<PathBuf>,
        /// The keystore's password itself; best given as SPHERON_PROVIDER__KEYS__ECDSA_PASSWORD.
        pub ecdsa_password: Option<Secret>,
    }
}

daemon::section! {
    /// What runs the workloads.
    pub struct Engine {
        /// The kind of engine; docker is the only one.
        pub kind: String = "docker".to_owned(),
        /// Where the engine listens: unix:///var/run/docker.sock or tcp://host:port. Absent: DOCKER_HOST, or the usual socket.
        pub socket: Option<String>,
        /// Host ports that leases get; keep them outside of the ports the kernel hands out (net.ipv4.ip_local_port_range).
        pub ports: PortRange = PortRange { first: 20_000, last: 29_999 },
        /// The host's address on which those ports are published; 0.0.0.0 is all of them.
        pub publish_address: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        /// The host name or address under which users reach those ports.
        pub public_host: String,
        /// Bid and start workloads although the isolation rules are not in force: for a machine without anything to protect.
        pub allow_unisolated: bool = false,
        /// Networks that leases may not reach beside the built-in ones, for example "203.0.113.0/24".
        pub denied_networks: Vec<String> = Vec::new(),
        /// Name servers for workloads. Empty: the engine's own choice, which works only if those are public addresses.
        pub name_servers: Vec<IpAddr> = Vec::new(),
        /// Less free disk than this for images and volumes: no bids.
        pub minimum_free: ByteSize = ByteSize(5 << 30),
        /// Marks what a devnet's agents make, so that the devnet can remove it.
        pub devnet_id: Option<String>,
    }
}

daemon::section! {
    /// What is offered on the market. Never more than the machine has.
    pub struct Offer {
        /// Cores: "4", "0.5" or "500m".
        pub cpu: Cores,
        /// Memory: "8Gi".
        pub memory: Quantity,
        /// Storage: "50Gi".
        pub storage: Quantity,
    }
}

daemon::section! {
    /// Prices in one token, in whole tokens an hour, as text.
    pub struct PriceList {
        /// Of one core.
        pub cpu_hour: Price,
        /// Of one GiB of memory.
        pub memory_gib_hour: Price,
        /// Of one GiB of storage.
        pub storage_gib_hour: Price,
        /// The least that any lease costs.
        pub minimum_hour: Price = Price::ZERO,
        /// Of one GPU, by the model's name in the network's catalogue. Models without a price are not sold.
        pub gpu: BTreeMap<String, Price>,
    }
}

daemon::section! {
    /// How bids are made.
    pub struct Bidding {
        /// Whether to bid at all. Leases that run go on.
        pub enabled: bool = true,
        /// A program that prices an order: it gets the order as JSON on stdin and prints whole tokens an hour, or nothing for no bid.
        pub command: Vec<String> = Vec::new(),
        /// How long it may take; must be under half the bid window.
        pub command_timeout: Duration = Duration::from_secs(1),
    }
}

daemon::section! {
    /// How leases are run.
    pub struct Leases {
        /// A lease whose manifest has not come after this long is closed.
        pub manifest_timeout: Duration = Duration::from_secs(300),
        /// A workload that cannot be started (no such image, wrong architecture) is waited for this long, then its lease is closed.
        pub start_timeout: Duration = Duration::from_secs(900),
        /// Blocks on top of a lease before its workload is started or changed; and after its end and grace before it is stopped.
        pub confirmation_depth: u64 = 3,
        /// Blocks on top of a lease's close before its workload is removed.
        pub removal_depth: u64 = 12,
        /// Blocks for which the disk of a lease is kept that a reorganisation took away.
        pub undone_depth: u64 = 64,
        /// Whether to announce on chain, once before its end and once after each extension, that a lease runs low on funds.
        pub announce_low_funds: bool = true,
    }
}

daemon::section! {
    /// When pay is collected. Never at a loss where prices are known; what a lease earned is due after the interval and at its end.
    pub struct Settle {
        /// Before it is due, pay is collected once it is worth this many times the gas that takes.
        pub minimum_gain_ratio: Number = Number::TWENTY,
        /// Dollars for a whole coin of the chain's own (what gas is paid in). Absent: gas cannot be weighed, and pay is collected once a day.
        pub native_price: Option<Number>,
        /// After this long what a running lease has earned is due: collected as soon as it pays for its gas. Absent: 1h with a
        /// native_price; without one 24h, the end of a lease or not, because every collection may cost more than it brings.
        pub interval: Option<Duration>,
    }
}

daemon::section! {
    /// Which updates of leases are taken, and how. Prices are those of bids, of [pricing] or of the bidding command.
    pub struct Updates {
        /// "same-or-smaller": no more of any resource than the lease has; "if-it-fits": whatever there is room for; "never".
        pub accept: Accept = Accept::IfItFits,
        /// The new manifest stays once all of it has run this long without a restart.
        pub steady_for: Duration = Duration::from_secs(10),
        /// If it has not come to that after this long, the manifest before it runs again, where the updated lease pays for it.
        pub give_up_after: Duration = Duration::from_secs(180),
    }
}

impl Validate for Config {
    fn problems(&self, problems: &mut Problems) {
        if !self.network.is_file() {
            problems.invalid("network", format!("there is no file {}", self.network.display()));
        }
        if let Some(url) = self.rpc.iter().find(|url| !matches!(url.scheme(), "http" | "https")) {
            problems.invalid("rpc", format!("only http and https are spoken, not {}", url.scheme()));
        }
        if self.pricing.is_empty() {
            problems.invalid(
                "pricing",
                "is missing: give at least one [pricing.SYMBOL], or no order gets a bid",
            );
        }
    }
}

impl Validate for Http {}

impl Validate for GatewayListener {
    fn problems(&self, problems: &mut Problems) {
        if self.public_url.as_ref().is_some_and(|url| url.scheme() != "https") {
            problems.invalid("public_url", "must begin with https://");
        }
    }
}

impl Validate for Keys {
    fn problems(&self, problems: &mut Problems) {
        for (key, path) in [
            ("ecdsa", Some(&self.ecdsa)),
            ("ecdsa_password_file", self.ecdsa_password_file.as_ref()),
        ] {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                problems.invalid(key, format!("there is no file {}", path.display()));
            }
        }
        if self.ecdsa_password_file.is_some() && self.ecdsa_password.is_some() {
            problems.invalid("ecdsa_password", "give either a password or a password file, not both");
        }
    }
}

impl Validate for Engine {
    fn problems(&self, problems: &mut Problems) {
        if self.kind != "docker" {
            problems.invalid("kind", format!("{:?} is not known; known is \"docker\"", self.kind));
        }
        if self.public_host.is_empty() || self.public_host.contains(['/', ' ']) {
            problems.invalid(
                "public_host",
                "must be a host name or an address, without scheme and port",
            );
        }
        for problem in self.settings(Address::ZERO, PathBuf::new()).problems() {
            let workload::Error::Settings { setting, problem } = problem else {
                continue;
            };
            let key = match setting {
                "host_ports" => "ports",
                "scope.devnet" => "devnet_id",
                other => other,
            };
            problems.invalid(key, problem);
        }
    }
}

impl Validate for Offer {
    fn problems(&self, problems: &mut Problems) {
        let nothing = [("cpu", self.cpu.0 == 0), ("memory", self.memory.0 == 0)];
        for (key, _) in nothing.into_iter().filter(|(_, nothing)| *nothing) {
            problems.invalid(key, "must be more than nothing: every order asks for some");
        }
        if let Err(error) = self.offered().capacity() {
            problems.invalid("cpu", format!("is part of more than the market can count: {error}"));
        }
    }
}

impl Validate for PriceList {}

impl Validate for Bidding {
    fn problems(&self, problems: &mut Problems) {
        if self.command_timeout.is_zero() {
            problems.invalid("command_timeout", "must be longer than zero");
        }
    }
}

impl Validate for Leases {
    fn problems(&self, problems: &mut Problems) {
        if self.manifest_timeout < Duration::from_secs(1) {
            problems.invalid("manifest_timeout", "must be at least 1s");
        }
        if self.removal_depth == 0 {
            problems.invalid("removal_depth", "must be at least 1: a close may be reorganised away");
        }
        if self.undone_depth < self.removal_depth {
            problems.invalid("undone_depth", "must be at least removal_depth");
        }
    }
}

impl Validate for Settle {
    fn problems(&self, problems: &mut Problems) {
        if self.minimum_gain_ratio.0.digits() < 10u128.saturating_pow(self.minimum_gain_ratio.0.scale().into()) {
            problems.invalid("minimum_gain_ratio", "must be at least 1: less than that is a loss");
        }
        if self.native_price.is_some_and(|price| price.0.is_zero()) {
            problems.invalid(
                "native_price",
                "must be more than zero; leave it out if gas is not to be weighed",
            );
        }
    }
}

impl Validate for Updates {
    fn problems(&self, problems: &mut Problems) {
        if self.give_up_after <= self.steady_for {
            problems.invalid("give_up_after", "must be longer than steady_for");
        }
    }
}

impl Settle {
    /// When pay is collected.
    pub fn terms(&self) -> crate::settling::Terms {
        let usual = self.interval.unwrap_or(WEIGHED_INTERVAL);
        let unweighed = match (self.native_price, self.interval) {
            (None, Some(wanted)) => wanted,
            // The price of a token may be missing too: that is nobody's wish.
            (Some(_), _) | (None, None) => usual.max(UNWEIGHED_INTERVAL),
        };
        crate::settling::Terms {
            minimum_gain_ratio: self.minimum_gain_ratio.0,
            interval_seconds: usual.as_secs(),
            unweighed_interval_seconds: unweighed.as_secs(),
        }
    }

    /// What to set, where gas cannot be weighed against pay.
    pub fn advice(&self) -> Option<String> {
        self.native_price.is_none().then(|| {
            format!(
                "without settle.native_price the gas of collecting pay cannot be weighed: pay is collected every {} seconds at the \
                 earliest, whatever that costs; set settle.native_price to the dollars for a whole coin of the chain's own",
                self.terms().unweighed_interval_seconds
            )
        })
    }
}

impl Config {
    /// The gateway's certificate and key.
    pub fn identity_file(&self) -> PathBuf {
        self.identity
            .clone()
            .unwrap_or_else(|| self.data_dir.join("identity.pem"))
    }
}

impl Engine {
    /// The engine's settings for a provider that keeps its state in `state_directory`.
    pub fn settings(&self, provider: Address, state_directory: PathBuf) -> workload::Settings {
        let scope = Scope {
            provider,
            devnet: self.devnet_id.clone(),
        };
        workload::Settings {
            address: self.socket.clone(),
            publish_address: self.publish_address,
            host_ports: self.ports.first..=self.ports.last,
            allow_unisolated: self.allow_unisolated,
            denied_networks: self.denied_networks.clone(),
            name_servers: self.name_servers.clone(),
            minimum_free_bytes: self.minimum_free.0,
            ..workload::Settings::new(scope, state_directory)
        }
    }
}

impl Offer {
    /// What is offered.
    pub fn offered(&self) -> crate::pricing::Offered {
        crate::pricing::Offered {
            milli_cpu: self.cpu.0,
            memory_bytes: self.memory.0,
            storage_bytes: self.storage.0,
        }
    }
}

impl Keys {
    /// Loads the key.
    pub async fn load(&self) -> Result<PrivateKeySigner, KeyError> {
        let password = match (&self.ecdsa_password, &self.ecdsa_password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(path)) => Some(Secret::from_file(path).map_err(|error| KeyError::Keystore {
                path: self.ecdsa.clone(),
                reason: error.to_string(),
            })?),
            (None, None) => None,
        };
        keys::from_file(&self.ecdsa, password.as_ref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the devnet writes it, but for the paths.
    fn devnet_file(directory: &std::path::Path) -> String {
        let file = |name: &str| {
            let path = directory.join(name);
            std::fs::write(&path, "0x01").expect("write");
            path.display().to_string()
        };
        format!(
            "network = \"{}\"\ndata_dir = \"data\"\nidentity = \"identity.pem\"\n\n[http]\nlisten = \"127.0.0.1:0\"\n\
             \n[keys]\necdsa = \"{}\"\n\n[gateway]\nlisten = \"127.0.0.1:0\"\n\
             \n[engine]\nkind = \"docker\"\nports = \"31000-31099\"\npublic_host = \"127.0.0.1\"\ndevnet_id = \"0a0b0c0d\"\n\
             \n[capacity]\ncpu = \"2\"\nmemory = \"2Gi\"\nstorage = \"10Gi\"\n\
             \n[pricing.uSPON]\ncpu_hour = \"0.02\"\nmemory_gib_hour = \"0.01\"\nstorage_gib_hour = \"0.0001\"\n\
             \n[leases]\nconfirmation_depth = 1\nremoval_depth = 2\n",
            file("devnet.json"),
            file("ecdsa.key")
        )
    }

    #[test]
    fn the_devnets_file_is_valid() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let text = devnet_file(directory.path());
        let config: Config = daemon::config::parse("provider.toml", &text, ENVIRONMENT_PREFIX, &[]).expect("valid");
        assert_eq!(config.capacity.cpu, Cores(2_000));
        assert_eq!(config.capacity.memory, Quantity(2 << 30));
        assert_eq!(config.leases.manifest_timeout, Duration::from_secs(300));
        assert_eq!(config.pricing["uSPON"].cpu_hour.0.to_string(), "0.02");
    }

    #[test]
    fn every_problem_of_a_file_is_in_one_report() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let text = devnet_file(directory.path())
            .replace("kind = \"docker\"", "kind = \"podman\"")
            .replace("31000-31099", "80-90")
            .replace("\"2Gi\"", "\"2 potatoes\"")
            .replace("\"0.02\"", "\"-1\"")
            .replace("removal_depth = 2", "removal_depth = 0")
            + "surprise = 1\n[settle]\nminimum_gain_ratio = \"0.99\"\n[updates]\naccept = \"all\"\n";
        let report =
            daemon::config::parse::<Config>("provider.toml", &text, ENVIRONMENT_PREFIX, &[]).expect_err("wrong");
        let paths: Vec<&str> = report.problems().iter().map(|problem| problem.path.as_str()).collect();
        for expected in [
            "engine.kind",
            "engine.ports",
            "capacity.memory",
            "pricing.uSPON.cpu_hour",
            "leases.removal_depth",
            "leases.surprise",
            "settle.minimum_gain_ratio",
            "updates.accept",
        ] {
            assert!(paths.contains(&expected), "{expected} is not in {report}");
        }
    }

    #[test]
    fn without_a_native_price_pay_is_collected_seldom_and_the_check_says_what_to_set() {
        let settle = |text: &str| {
            let directory = tempfile::tempdir().expect("temporary directory");
            let file = devnet_file(directory.path()) + "[settle]\n" + text;
            let config = daemon::config::parse::<Config>("provider.toml", &file, ENVIRONMENT_PREFIX, &[]);
            let settle = config.expect("valid").settle;
            let terms = settle.terms();
            let intervals = (terms.interval_seconds, terms.unweighed_interval_seconds);
            (intervals, settle.advice().is_some())
        };
        assert_eq!(settle(""), ((3_600, 86_400), true));
        assert_eq!(settle("native_price = \"3000\"\n"), ((3_600, 86_400), false));
        assert_eq!(settle("interval = \"10m\"\n"), ((600, 600), true));
        assert_eq!(
            settle("native_price = \"3000\"\ninterval = \"10m\"\n"),
            ((600, 86_400), false)
        );
    }

    #[test]
    fn the_example_names_every_section() {
        let example = daemon::config::example::<Config>();
        for section in [
            "[http]",
            "[gateway]",
            "[keys]",
            "[engine]",
            "[capacity]",
            "[bidding]",
            "[leases]",
            "[settle]",
            "[updates]",
        ] {
            assert!(example.contains(section), "{section} is not in\n{example}");
        }
    }
}
