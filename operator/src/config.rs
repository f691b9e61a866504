//! The configuration file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use chain::network::{Network, NetworkError};
use chain::{RpcSettings, TransactionSettings};
use daemon::Secret;
use daemon::causes::with_causes;
use daemon::config::{Problems, Validate};
use url::Url;

/// Environment variables start with this.
pub const ENVIRONMENT_PREFIX: &str = "SPHERON_OPERATOR";

daemon::section! {
    /// An operator.
    pub struct Config {
        /// Network file: where the chain is, and which contracts are the network's. Relative paths start from this file's
        /// directory.
        pub network: PathBuf,
        /// JSON-RPC endpoints, best first, in place of the network file's. Give two or more: reads fall over.
        pub rpc: Vec<Url> = Vec::new(),
        /// Where the operator keeps its database. One process at a time, and never on two machines with one BLS key.
        pub data_dir: PathBuf,
        /// Base URLs of the aggregators signatures are sent to, in place of the network file's.
        pub aggregators: Vec<Url> = Vec::new(),
        /// Health, metrics and EigenLayer's node API.
        pub http: Http,
        /// The operator's keys.
        pub keys: Keys,
        /// Recomputing what others answered.
        pub watch: WatchSettings,
        /// For whom governance named as the single matchmaker in place of the quorum; of no effect for everybody else.
        pub matchmaker: MatchmakerKey,
        /// How transactions are sent.
        pub transactions: TransactionSettings = TransactionSettings::default(),
        /// What `opt-in` writes on chain.
        pub registration: Registration,
    }
}

daemon::section! {
    /// Recomputing what others answered. `operator watch` does nothing else; `operator run` does it beside signing. Wrong
    /// answers are challenged and their signers slashed with the account of `keys.ecdsa`, which pays the gas and earns the
    /// challenger's reward; without that account they are reported in log and metrics only.
    #[derive(PartialEq)]
    pub struct WatchSettings {
        /// Whether `operator run` does it.
        pub enabled: bool = true,
        /// Whether to run the rule on chain for orders that nobody answered in time. Earns their match fee.
        pub match_unanswered: bool = true,
    }
}

daemon::section! {
    /// The key of a single matchmaker. Without it, the account of `keys.ecdsa` is used where governance named that one.
    pub struct MatchmakerKey {
        /// A keystore as geth writes it (version 3), or for devnets a raw key.
        pub ecdsa: Option<PathBuf>,
        /// File with the password of that keystore.
        pub ecdsa_password_file: Option<PathBuf>,
        /// The password itself, by environment: SPHERON_OPERATOR__MATCHMAKER__ECDSA_PASSWORD.
        pub ecdsa_password: Option<Secret>,
    }
}

daemon::section! {
    /// Health, metrics and EigenLayer's node API.
    pub struct Http {
        /// Address and port; port 0 takes any free one, which is then in `<data_dir>/addresses.json`.
        pub listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
    }
}

daemon::section! {
    /// The operator's keys, by file. A password stands in a file that only its owner may read, or in the environment.
    pub struct Keys {
        /// The operator's account: a keystore as geth writes it (version 3), or for devnets a raw key. `opt-in`, `opt-out` and
        /// `status` need it; `run` and `watch` dispute wrong answers with it.
        pub ecdsa: Option<PathBuf>,
        /// File with the password of that keystore.
        pub ecdsa_password_file: Option<PathBuf>,
        /// The password itself, by environment: SPHERON_OPERATOR__KEYS__ECDSA_PASSWORD.
        pub ecdsa_password: Option<Secret>,
        /// The key that signs answers: a BLS keystore (BN254), in geth's format or EIP-2335. Only `operator watch` does without.
        pub bls: Option<PathBuf>,
        /// File with the password of that keystore.
        pub bls_password_file: Option<PathBuf>,
        /// The password itself, by environment: SPHERON_OPERATOR__KEYS__BLS_PASSWORD.
        pub bls_password: Option<Secret>,
    }
}

daemon::section! {
    /// What `opt-in` writes on chain.
    pub struct Registration {
        /// Where others reach the operator; operators push, so that an empty one is fine.
        pub socket: String = String::new(),
        /// Where EigenLayer's pages find a description of the operator.
        pub metadata_uri: String = String::new(),
        /// Blocks before a change of the operator's allocations takes effect.
        pub allocation_delay: u32 = 0,
    }
}

impl Validate for Config {
    fn problems(&self, problems: &mut Problems) {
        for (key, urls) in [("rpc", &self.rpc), ("aggregators", &self.aggregators)] {
            if let Some(url) = urls.iter().find(|url| !matches!(url.scheme(), "http" | "https")) {
                problems.invalid(key, format!("only http and https are spoken, not {}", url.scheme()));
            }
        }
        match Network::load(&self.network) {
            Err(error) => problems.invalid("network", with_causes(&error)),
            Ok(network) => {
                if self.rpc.is_empty()
                    && let Err(problem) = urls(&network.rpc)
                {
                    problems.invalid("network", format!("its rpc has {problem}"));
                }
                if self.aggregators.is_empty()
                    && let Err(problem) = urls(&network.aggregators)
                {
                    problems.invalid("network", format!("its aggregators have {problem}"));
                }
            }
        }
    }
}

impl Validate for Http {}
impl Validate for Registration {}
impl Validate for WatchSettings {}

impl Validate for MatchmakerKey {
    fn problems(&self, problems: &mut Problems) {
        let files = [
            ("ecdsa", self.ecdsa.as_deref()),
            ("ecdsa_password_file", self.ecdsa_password_file.as_deref()),
        ];
        for (key, path) in files {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                problems.invalid(key, format!("names {}, and there is no such file", path.display()));
            }
        }
    }
}

impl Validate for Keys {
    fn problems(&self, problems: &mut Problems) {
        let files = [
            ("ecdsa", self.ecdsa.as_deref()),
            ("ecdsa_password_file", self.ecdsa_password_file.as_deref()),
            ("bls", self.bls.as_deref()),
            ("bls_password_file", self.bls_password_file.as_deref()),
        ];
        for (key, path) in files {
            if let Some(path) = path.filter(|path| !path.is_file()) {
                let hint = match key {
                    "bls" | "ecdsa" => "; `operator keys new --out DIR` makes one",
                    _ => "",
                };
                problems.invalid(
                    key,
                    format!("names {}, and there is no such file{hint}", path.display()),
                );
            }
        }
        if self.bls.is_none() && self.ecdsa.is_none() {
            problems.invalid(
                "bls",
                "is missing: answers are signed with it, and `operator watch`, which does without, needs keys.ecdsa",
            );
        }
        if self.bls.is_some() && self.bls_password.is_none() && self.bls_password_file.is_none() {
            problems.invalid(
                "bls_password_file",
                "is missing: a BLS keystore is encrypted (or give the password itself in the environment, as \
                 SPHERON_OPERATOR__KEYS__BLS_PASSWORD)",
            );
        }
    }
}

impl Config {
    /// The network file. It was read once while the configuration was checked.
    pub fn network(&self) -> Result<Network, NetworkError> {
        Network::load(&self.network)
    }

    /// Where the chain is read.
    pub fn rpc_settings(&self, network: &Network) -> RpcSettings {
        let endpoints = if self.rpc.is_empty() {
            urls(&network.rpc).unwrap_or_default()
        } else {
            self.rpc.clone()
        };
        RpcSettings {
            chain_id: Some(network.chain_id),
            ..RpcSettings::new(endpoints)
        }
    }

    /// Where signatures go.
    pub fn aggregator_urls(&self, network: &Network) -> Vec<Url> {
        if self.aggregators.is_empty() {
            urls(&network.aggregators).unwrap_or_default()
        } else {
            self.aggregators.clone()
        }
    }
}

/// Reads the configuration with the environment over it; every problem is in the report.
pub fn load(file: &Path) -> Result<Config, daemon::config::Report> {
    daemon::config::load(Some(file), ENVIRONMENT_PREFIX)
}

fn urls(texts: &[String]) -> Result<Vec<Url>, String> {
    let parse = |text: &String| text.parse().map_err(|_| format!("{text:?}, which is no URL"));
    texts.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_file_is_in_one_report() {
        let text = "network = \"none.json\"\ndata_dir = \"data\"\naggregators = [\"ftp://a\"]\nspeed = 1\n\
                    [keys]\nbls = \"none\"\n[http]\nlisten = \"here\"\n";
        let report = daemon::config::parse::<Config>("operator.toml", text, ENVIRONMENT_PREFIX, &[])
            .expect_err("wrong in many ways")
            .to_string();
        for problem in ["`speed`", "`keys.bls`", "`keys.bls_password_file`", "`http.listen`"] {
            assert!(report.contains(problem), "{problem} is not in {report}");
        }
    }

    #[test]
    fn the_example_names_every_key() {
        let example = daemon::config::example::<Config>();
        for key in [
            "network",
            "data_dir",
            "aggregators",
            "[http]",
            "[keys]",
            "bls_password_file",
            "[watch]",
            "match_unanswered",
            "[matchmaker]",
            "[transactions]",
            "[registration]",
        ] {
            assert!(example.contains(key), "{key} is not in {example}");
        }
    }
}
