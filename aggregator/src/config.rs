//! The aggregator's configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alloy::signers::local::PrivateKeySigner;
use chain::keys::{self, KeyError};
use chain::network::Network;
use chain::{RpcSettings, TransactionSettings};
use daemon::Secret;
use daemon::config::{Problems, Validate};
use daemon::secret::SecretError;
use url::Url;

use crate::collect::StragglerSettings;

/// Environment variables that override the file start with this.
pub const ENVIRONMENT_PREFIX: &str = "SPHERON_AGGREGATOR";

daemon::section! {
    /// The aggregator.
    pub struct Config {
        /// Network file: chain id, endpoints, contract addresses.
        pub network: PathBuf,
        /// JSON-RPC endpoints (http or https), best first, in place of the network file's. Give two or more: reads fall
        /// over from one to the next.
        pub rpc: Vec<Url> = Vec::new(),
        /// Database and lock are kept here. One process per directory.
        pub data_dir: PathBuf = PathBuf::from("data"),
        /// Where operators send signatures; health and metrics are served there too.
        pub http: HttpSettings,
        /// The key responses are sent with: it pays the gas and is credited the match fees.
        pub keys: KeySettings,
        /// How signatures are collected.
        pub collect: CollectSettings,
        /// Orders that nobody will answer any more.
        pub expire: ExpireSettings,
        /// Stakes that have to be fresh for an answer to be taken.
        pub refresh: RefreshSettings,
        /// The aggregate key of all operators.
        pub prove_key: ProveKeySettings,
        /// How the chain is read.
        pub chain: ChainSettings,
        /// How transactions are sent.
        pub transactions: TransactionSettings = TransactionSettings::default(),
    }
}

daemon::section! {
    /// Where to listen.
    pub struct HttpSettings {
        /// Address and port; port 0 takes any free one, which is then in `<data_dir>/addresses.json`.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9190)),
    }
}

daemon::section! {
    /// The key that sends transactions.
    pub struct KeySettings {
        /// A keystore as geth writes it (version 3), or a file (mode 0600) with the raw key in hexadecimal.
        pub ecdsa: PathBuf,
        /// The keystore's password, in a file with mode 0600.
        pub ecdsa_password_file: Option<PathBuf>,
        /// The keystore's password, where it does not come from a file.
        pub ecdsa_password: Option<Secret>,
    }
}

daemon::section! {
    /// How signatures are collected.
    #[derive(PartialEq)]
    pub struct CollectSettings {
        /// Longest wait in milliseconds for further signers once the quorum is there. Nobody is waited for when all signed,
        /// nor those who missed the last tasks.
        pub straggler_wait_ms: u64 = 50,
        /// What a millisecond of delay is worth, in gas: each operator that is missing costs 16300 gas, and is waited for
        /// only while the wait costs less. 0: as long as allowed.
        pub delay_gas_per_ms: u64 = 1000,
        /// Submissions that may wait for the collector before senders are told to come again.
        pub queue_length: usize = 4096,
        /// Megabytes that submissions may take together until they are answered; senders beyond that come again later.
        pub receive_megabytes: usize = 32,
        /// Submissions that one address (IPv4 address or IPv6 /64) may have unanswered; it may also take no more than a
        /// quarter of the megabytes. Raise it where operators come through one proxy.
        pub source_in_flight: usize = 256,
        /// Those of them in one operator's name.
        pub operator_in_flight: usize = 64,
    }
}

daemon::section! {
    /// Expiring orders, so that users' money unlocks by itself. Costs gas and earns nothing.
    #[derive(PartialEq)]
    pub struct ExpireSettings {
        /// Whether to do it.
        pub enabled: bool = true,
        /// Most orders in one transaction.
        pub batch: usize = 50,
    }
}

daemon::section! {
    /// Refreshing the operators' stakes, without which a quorum verifier with an age limit takes no answer. Costs gas and
    /// earns nothing by itself; aggregators take turns.
    #[derive(PartialEq)]
    pub struct RefreshSettings {
        /// Whether to do it.
        pub enabled: bool = true,
        /// Age from which stakes are refreshed, in percent of the oldest that is taken. Each aggregator adds up to half of
        /// what is left, by its address.
        pub at_percent: u64 = 50,
    }
}

daemon::section! {
    /// Proving on chain, once for every change of the operators, that the aggregate key of all of them is one key: every
    /// answer that all sign then costs about 10000 gas less.
    #[derive(PartialEq)]
    pub struct ProveKeySettings {
        /// Whether to do it.
        pub enabled: bool = true,
        /// Blocks for which the operators must have been the same.
        pub settle_blocks: u64 = 16,
    }
}

daemon::section! {
    /// How the chain is read.
    #[derive(PartialEq)]
    pub struct ChainSettings {
        /// How long one call to one endpoint may take.
        pub timeout: Duration = Duration::from_secs(5),
        /// How often to look for a new block while blocks come irregularly.
        pub poll_interval: Duration = Duration::from_millis(100),
        /// With no new block for this long, another endpoint is tried.
        pub stale_after: Duration = Duration::from_secs(60),
    }
}

impl Validate for Config {
    fn problems(&self, problems: &mut Problems) {
        match Network::load(&self.network) {
            Err(error) => problems.invalid("network", error.to_string()),
            Ok(network) => {
                for url in &network.rpc {
                    if let Err(error) = url.parse::<Url>() {
                        problems.invalid("network", format!("its endpoint {url:?} is no URL: {error}"));
                    }
                }
            }
        }
        if let Some(url) = self.rpc.iter().find(|url| !matches!(url.scheme(), "http" | "https")) {
            problems.invalid("rpc", format!("only http and https are spoken, not {}", url.scheme()));
        }
    }
}

impl Validate for HttpSettings {}

impl Validate for KeySettings {
    fn problems(&self, problems: &mut Problems) {
        if !self.ecdsa.is_file() {
            problems.invalid("ecdsa", format!("there is no file {}", self.ecdsa.display()));
        }
        match (&self.ecdsa_password_file, &self.ecdsa_password) {
            (Some(_), Some(_)) => problems.invalid(
                "ecdsa_password",
                "give either `ecdsa_password_file` or `ecdsa_password`, not both",
            ),
            (Some(path), None) if !path.is_file() => {
                problems.invalid("ecdsa_password_file", format!("there is no file {}", path.display()));
            }
            _ => {}
        }
    }
}

impl Validate for CollectSettings {
    fn problems(&self, problems: &mut Problems) {
        if self.straggler_wait_ms > 10_000 {
            problems.invalid("straggler_wait_ms", "is longer than 10 s: responses would be late");
        }
        if self.queue_length == 0 {
            problems.invalid("queue_length", "must be at least 1");
        }
        if !(2..=4_096).contains(&self.receive_megabytes) {
            problems.invalid("receive_megabytes", "must be 2 to 4096");
        }
        if self.source_in_flight == 0 {
            problems.invalid("source_in_flight", "must be at least 1");
        }
        if self.operator_in_flight == 0 {
            problems.invalid("operator_in_flight", "must be at least 1");
        }
    }
}

impl CollectSettings {
    pub(crate) fn stragglers(&self) -> StragglerSettings {
        StragglerSettings {
            longest_wait: Duration::from_millis(self.straggler_wait_ms),
            delay_gas_per_millisecond: self.delay_gas_per_ms,
        }
    }
}

impl Validate for RefreshSettings {
    fn problems(&self, problems: &mut Problems) {
        if !(1..=90).contains(&self.at_percent) {
            problems.invalid("at_percent", "must be 1 to 90");
        }
    }
}

impl Validate for ProveKeySettings {}

impl Validate for ExpireSettings {
    fn problems(&self, problems: &mut Problems) {
        if !(1..=200).contains(&self.batch) {
            problems.invalid("batch", "must be 1 to 200");
        }
    }
}

impl Validate for ChainSettings {
    fn problems(&self, problems: &mut Problems) {
        if self.timeout.is_zero() {
            problems.invalid("timeout", "must be longer than zero");
        }
        if self.poll_interval < Duration::from_millis(10) {
            problems.invalid("poll_interval", "must be at least 10ms");
        }
    }
}

/// Why the key could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeyError {
    #[error("cannot read the key")]
    Secret(#[from] SecretError),
    #[error("cannot use the key")]
    Key(#[from] KeyError),
    #[error("{path} is an encrypted keystore; set keys.ecdsa_password_file")]
    PasswordMissing { path: PathBuf },
    #[error("reading the key was cut short")]
    Interrupted,
}

impl KeySettings {
    /// Loads the key; decrypting a keystore computes for a second, on a thread made for that.
    ///
    /// # Errors
    /// When a file is not readable (or readable by everybody), or the password is wrong.
    pub async fn load(&self) -> Result<PrivateKeySigner, LoadKeyError> {
        let settings = self.clone();
        tokio::task::spawn_blocking(move || settings.load_now())
            .await
            .unwrap_or(Err(LoadKeyError::Interrupted))
    }

    fn load_now(&self) -> Result<PrivateKeySigner, LoadKeyError> {
        let content = Secret::from_file(&self.ecdsa)?;
        if !content.expose().trim_start().starts_with('{') {
            return Ok(keys::from_raw(&content)?);
        }
        let from_file = self.ecdsa_password_file.as_deref().map(Secret::from_file).transpose()?;
        let password = from_file.or_else(|| self.ecdsa_password.clone());
        let password = password.ok_or_else(|| LoadKeyError::PasswordMissing {
            path: self.ecdsa.clone(),
        })?;
        Ok(keys::from_keystore(&self.ecdsa, &password)?)
    }
}

impl Config {
    /// How the chain is read, with the network's endpoints unless others are given.
    pub fn rpc_settings(&self, network: &Network) -> RpcSettings {
        let urls = if self.rpc.is_empty() {
            network.rpc.iter().filter_map(|url| url.parse().ok()).collect()
        } else {
            self.rpc.clone()
        };
        RpcSettings {
            urls,
            chain_id: Some(network.chain_id),
            timeout: self.chain.timeout,
            poll_interval: self.chain.poll_interval,
            stale_after: self.chain.stale_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_in_one_report() {
        let text = "network = \"absent.json\"\n[keys]\necdsa = \"absent.key\"\n[collect]\nqueue_length = 0\n\
                    [expire]\nbatch = 0\n[refresh]\nat_percent = 95\n[chain]\npoll_interval = \"1ms\"\nunknown = 1\n";
        let report = daemon::config::parse::<Config>("aggregator.toml", text, ENVIRONMENT_PREFIX, &[])
            .expect_err("nothing in it is right");
        let text = report.to_string();
        for key in [
            "keys.ecdsa",
            "collect.queue_length",
            "expire.batch",
            "refresh.at_percent",
            "chain.poll_interval",
            "chain.unknown",
            "network",
        ] {
            assert!(text.contains(key), "{key} is not named:\n{text}");
        }
    }

    #[test]
    fn the_example_names_every_section() {
        let example = daemon::config::example::<Config>();
        for section in [
            "[http]",
            "[keys]",
            "[collect]",
            "[expire]",
            "[refresh]",
            "[prove_key]",
            "[chain]",
            "[transactions]",
        ] {
            assert!(example.contains(section), "{section} is missing:\n{example}");
        }
        assert!(example.contains("straggler_wait_ms = 50"), "{example}");
    }
}
