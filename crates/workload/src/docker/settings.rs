//! How a Docker engine is used.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::Error;
use crate::logs::LogSettings;
use crate::model::Scope;

/// How a Docker engine is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose objects the engine shows and touches.
    pub scope: Scope,
    /// Where the engine listens: `unix:///var/run/docker.sock`, `tcp://127.0.0.1:2375`. `None`: `DOCKER_HOST` from the
    /// environment, or else the usual socket.
    pub address: Option<String>,
    /// Where logs are kept.
    pub state_directory: PathBuf,
    /// The host's address on which ports are published; 0.0.0.0 is all of them.
    pub publish_address: IpAddr,
    /// The host's ports that leases get. Keep them outside of `/proc/sys/net/ipv4/ip_local_port_range`.
    pub host_ports: RangeInclusive<u16>,
    /// Start containers although isolation rules are not in force: for a machine without anything to protect.
    pub allow_unisolated: bool,
    /// Networks that leases may not reach beside the built-in ones, in CIDR notation, IPv4.
    pub denied_networks: Vec<String>,
    /// Name servers for containers, which they may reach wherever they are. Empty: the engine's own choice, which works
    /// only if those are public addresses.
    pub name_servers: Vec<IpAddr>,
    /// Processes and threads per container.
    pub process_limit: u64,
    /// Time a container has to end after it was asked to.
    pub stop_grace: Duration,
    /// How images are pulled.
    pub pull: PullSettings,
    /// Less free space than this, in bytes, on the file system of images and volumes: no bids.
    pub minimum_free_bytes: u64,
    /// How much output is kept.
    pub logs: LogSettings,
}

/// How images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullSettings {
    /// All attempts of one pull together, without the time in which others have their turn.
    pub deadline: Duration,
    /// A pull without any progress for so long is tried again.
    pub idle_deadline: Duration,
    /// Pulls at a time. The leases of one account have at most one less than that between them.
    pub parallel: usize,
    /// A pull below the least throughput for so long gives its turn to another lease's that waits.
    pub slow_after: Duration,
    /// The least throughput, downloading and unpacking.
    pub least_bytes_per_second: u64,
    /// The pause after the first failed attempt; it doubles with each.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for PullSettings {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(20 * 60),
            idle_deadline: Duration::from_secs(2 * 60),
            parallel: 3,
            // Longer than a registry takes to answer, to hand on to its storage and to begin to send.
            slow_after: Duration::from_secs(30),
            // At less than this, what is pulled within the deadline is no larger than 75 MiB: a link that serves people
            // is faster, and a registry that drips to keep others waiting is to be slower.
            least_bytes_per_second: 64 << 10,
            first_pause: Duration::from_secs(2),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// The usual settings for a provider that keeps its state in `state_directory`.
    pub fn new(scope: Scope, state_directory: impl Into<PathBuf>) -> Self {
        Self {
            scope,
            address: None,
            state_directory: state_directory.into(),
            publish_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            host_ports: 20_000..=29_999,
            allow_unisolated: false,
            denied_networks: Vec::new(),
            name_servers: Vec::new(),
            process_limit: 4_096,
            stop_grace: Duration::from_secs(10),
            pull: PullSettings::default(),
            minimum_free_bytes: 5 << 30,
            logs: LogSettings::default(),
        }
    }

    /// Every problem of these settings, each naming the setting and what would be right.
    pub fn problems(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        let mut wrong = |setting, problem: &str| {
            problems.push(Error::Settings {
                setting,
                problem: problem.to_owned(),
            });
        };
        if self.host_ports.is_empty() || *self.host_ports.start() < 1024 {
            wrong(
                "host_ports",
                "must be a range of ports above 1023 with its first port not above its last",
            );
        }
        for network in &self.denied_networks {
            if !is_ipv4_network(network) {
                wrong(
                    "denied_networks",
                    &format!("`{network}` is not an IPv4 network such as 203.0.113.0/24"),
                );
            }
        }
        if let Some(devnet) = &self.scope.devnet
            && (devnet.is_empty()
                || devnet.len() > 64
                || !devnet.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        {
            wrong("scope.devnet", "must have 1 to 64 letters, digits and dashes");
        }
        if self.pull.parallel == 0 {
            wrong("pull.parallel", "must be at least 1");
        }
        if self.pull.slow_after.is_zero() {
            wrong("pull.slow_after", "must be longer than zero");
        }
        if self.process_limit == 0 {
            wrong("process_limit", "must be at least 1");
        }
        problems
    }

    /// Where the engine listens.
    pub(super) fn engine_address(&self) -> String {
        self.address
            .clone()
            .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|address| !address.is_empty()))
            .unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
    }
}

/// The form `iptables -S` prints, because what was put in force is compared with what it prints: the network's own
/// address (no bits behind the prefix) and a prefix length from 1 to 32.
fn is_ipv4_network(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let (Ok(address), Ok(length)) = (address.parse::<Ipv4Addr>(), prefix.parse::<u32>()) else {
        return false;
    };
    (1..=32).contains(&length)
        && prefix == length.to_string()
        && u64::from(address.to_bits()) % (1_u64 << (32 - length)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;

    fn settings() -> Settings {
        let scope = Scope {
            provider: Address::ZERO,
            devnet: None,
        };
        Settings::new(scope, "/nowhere")
    }

    #[test]
    fn the_usual_settings_are_right() {
        assert!(settings().problems().is_empty());
    }

    #[test]
    fn every_problem_is_named() {
        let mut wrong = settings();
        wrong.host_ports = 80..=90;
        wrong.denied_networks = vec!["203.0.113.0/24".into(), "203.0.113.1/24".into(), "x".into()];
        wrong.scope.devnet = Some("a b".into());
        let problems: Vec<String> = wrong.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
