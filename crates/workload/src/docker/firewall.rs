//! The isolation rules: what a lease's containers may not reach.
//!
//! A Docker network isolates little by itself: from inside, every address of the host, every port that listens there,
//! link-local metadata services and other leases' published ports can be reached. So every provider owns two chains,
//! one jumped to from `INPUT` and one from `FORWARD`, each before anything else, and they hold the rules of all its
//! lease networks, told apart by bridge name. Chains are replaced whole, in one transaction of `iptables-restore`;
//! nothing that belongs to anybody else is flushed or rewritten.
//!
//! They are in the table `mangle`, which packets pass before `filter` and where what is dropped is gone whatever other
//! tables (or the other backend of iptables) say. `DOCKER-USER` in `filter`, the engine's place for such rules, leaks:
//! whenever a network is made the engine takes its jump there away and puts it back, and until then everything passes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

/// The table that holds the rules.
const TABLE: &str = "mangle";
/// The table that holds the engine's.
const ENGINE_TABLE: &str = "filter";
/// What all chains of this program begin with.
const CHAIN_PREFIX: &str = "SPHERON-";
/// How long one call of iptables may take, the wait for its lock included.
const COMMAND_DEADLINE: Duration = Duration::from_secs(15);
/// How long iptables itself waits for its lock, in seconds.
const LOCK_WAIT: &str = "10";

/// Where leases may not go: private, link-local, carrier-grade NAT, multicast and reserved ranges, and the metadata
/// services that sit on public addresses.
const DENIED_NETWORKS: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    // IETF assignments; a cloud's metadata service lives at 192.0.0.192.
    "192.0.0.0/24",
    "192.168.0.0/16",
    // Benchmark networks, used inside some data centres.
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Another cloud's host agent.
    "168.63.129.16/32",
];

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum FirewallError {
    /// The program is missing or this user may not use it.
    #[error("`{program}` cannot be run: {problem}; install iptables and run the agent as root")]
    Command { program: &'static str, problem: String },
    /// The engine's own rules for a network are not in the tables we see.
    #[error(
        "the engine's own rules for bridge {bridge} are not in the tables of `{program}`: the engine runs with `--iptables=false`, writes to another backend (see `iptables -V` and `update-alternatives --display iptables`), or runs elsewhere (rootless, another machine)"
    )]
    NoEngineRules { program: &'static str, bridge: String },
    /// The rules were written and are not there.
    #[error("`{program}` accepted the rules of chain {chain}, but they are not in force")]
    NotInForce { program: &'static str, chain: String },
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn list(self) -> &'static str {
        match self {
            Self::V4 => "iptables",
            Self::V6 => "ip6tables",
        }
    }

    fn restore(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
}

/// The rules of one provider.
#[derive(Debug)]
pub(super) struct Firewall {
    input_chain: String,
    forward_chain: String,
    name_servers: Vec<IpAddr>,
    denied_networks: Vec<String>,
    /// One change at a time; other processes are kept out by iptables' own lock.
    turn: Mutex<()>,
}

impl Firewall {
    /// `tag` tells this provider's chains from others'; `name_servers` may be asked for names wherever they are;
    /// `denied_networks` (IPv4) come on top of the built-in ones.
    pub(super) fn new(tag: &str, name_servers: Vec<IpAddr>, denied_networks: Vec<String>) -> Self {
        Self {
            input_chain: format!("{CHAIN_PREFIX}IN-{tag}"),
            forward_chain: format!("{CHAIN_PREFIX}FW-{tag}"),
            name_servers,
            denied_networks,
            turn: Mutex::new(()),
        }
    }

    /// Puts the rules of exactly these bridges in force, and checks that they are. Without bridges, takes away
    /// everything that was put there.
    pub(super) async fn enforce(&self, bridges: &BTreeSet<String>) -> Result<(), FirewallError> {
        let _turn = self.turn.lock().await;
        for family in [Family::V4, Family::V6] {
            let table = list(family, TABLE).await?;
            if bridges.is_empty() {
                self.take_away(family, &table).await?;
                continue;
            }
            self.put(family, &table, bridges).await?;
        }
        Ok(())
    }

    /// Whether the engine's own rules for a bridge are in this machine's tables. Ours say where a lease may not go; what comes in, and
    /// that leases reach the world at all, is up to the engine's.
    pub(super) async fn expect_engine_rules(&self, bridge: &str) -> Result<(), FirewallError> {
        let table = list(Family::V4, ENGINE_TABLE).await?;
        if table
            .rules
            .iter()
            .any(|rule| rule.split(' ').any(|word| word == bridge))
        {
            return Ok(());
        }
        Err(FirewallError::NoEngineRules {
            program: Family::V4.list(),
            bridge: bridge.to_owned(),
        })
    }

    async fn put(&self, family: Family, table: &Table, bridges: &BTreeSet<String>) -> Result<(), FirewallError> {
        let input = input_rules(&self.input_chain, bridges);
        let forward = self.forward_rules(family, bridges);
        if self.in_force(table, &input, &forward).is_ok() {
            return Ok(());
        }

        let mut script = format!(
            "*{TABLE}\n:{} - [0:0]\n:{} - [0:0]\n",
            self.input_chain, self.forward_chain
        );
        for rule in input.iter().chain(&forward) {
            script.push_str(rule);
            script.push('\n');
        }
        for (parent, chain) in self.jumps() {
            if !table.jumps_first(parent, chain) {
                for _ in 0..table.jumps(parent, chain) {
                    script.push_str(&format!("-D {parent} -j {chain}\n"));
                }
                script.push_str(&format!("-I {parent} 1 -j {chain}\n"));
            }
        }
        script.push_str("COMMIT\n");
        restore(family, &script).await?;

        let table = list(family, TABLE).await?;
        self.in_force(&table, &input, &forward)
            .map_err(|chain| FirewallError::NotInForce {
                program: family.list(),
                chain,
            })
    }

    async fn take_away(&self, family: Family, table: &Table) -> Result<(), FirewallError> {
        let mut script = format!("*{TABLE}\n");
        for (parent, chain) in self.jumps() {
            for _ in 0..table.jumps(parent, chain) {
                script.push_str(&format!("-D {parent} -j {chain}\n"));
            }
        }
        let mut is_there = false;
        for chain in [&self.input_chain, &self.forward_chain] {
            if table.has_chain(chain) {
                is_there = true;
                script.push_str(&format!("-F {chain}\n-X {chain}\n"));
            }
        }
        if !is_there {
            return Ok(());
        }
        script.push_str("COMMIT\n");
        restore(family, &script).await
    }

    /// `Err` names the chain whose rules, or the jump to it, are not as they should be.
    fn in_force(&self, table: &Table, input: &[String], forward: &[String]) -> Result<(), String> {
        for (chain, expected) in [(&self.input_chain, input), (&self.forward_chain, forward)] {
            if table.rules_of(chain).ne(expected.iter().map(String::as_str)) {
                return Err(chain.clone());
            }
        }
        for (parent, chain) in self.jumps() {
            if !table.jumps_first(parent, chain) {
                return Err(chain.to_owned());
            }
        }
        Ok(())
    }

    /// Which built-in chain jumps to which of ours.
    fn jumps(&self) -> [(&'static str, &str); 2] {
        [("INPUT", &self.input_chain), ("FORWARD", &self.forward_chain)]
    }

    /// What is routed through the host: answers pass, the rest does not reach denied networks, published ports (their
    /// destination was rewritten, and the host's public address is no way around) or, by IPv6, anything: lease
    /// networks have no IPv6. The lease's own network is `-o` the same bridge.
    fn forward_rules(&self, family: Family, bridges: &BTreeSet<String>) -> Vec<String> {
        let chain = &self.forward_chain;
        let mut rules = Vec::new();
        for bridge in bridges {
            rules.push(format!("-A {chain} -i {bridge} -m conntrack --ctdir REPLY -j RETURN"));
            if family == Family::V6 {
                rules.push(format!("-A {chain} -i {bridge} ! -o {bridge} -j DROP"));
                continue;
            }
            rules.push(format!(
                "-A {chain} -i {bridge} ! -o {bridge} -m conntrack --ctstate DNAT -j DROP"
            ));
            for server in self.name_servers.iter().filter(|server| server.is_ipv4()) {
                for protocol in ["udp", "tcp"] {
                    rules.push(format!(
                        "-A {chain} -d {server}/32 -i {bridge} -p {protocol} -m {protocol} --dport 53 -j RETURN"
                    ));
                }
            }
            for network in DENIED_NETWORKS
                .into_iter()
                .chain(self.denied_networks.iter().map(String::as_str))
            {
                rules.push(format!("-A {chain} -d {network} -i {bridge} ! -o {bridge} -j DROP"));
            }
        }
        rules
    }
}

/// What is addressed to the host itself: only answers, which the engine's port proxy needs.
fn input_rules(chain: &str, bridges: &BTreeSet<String>) -> Vec<String> {
    bridges
        .iter()
        .flat_map(|bridge| {
            [
                format!("-A {chain} -i {bridge} -m conntrack --ctdir REPLY -j RETURN"),
                format!("-A {chain} -i {bridge} -j DROP"),
            ]
        })
        .collect()
}

/// A table, as `iptables -S` prints it.
#[derive(Debug, Default)]
struct Table {
    chains: BTreeSet<String>,
    rules: Vec<String>,
}

impl Table {
    fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("-P" | "-N"), Some(chain)) => {
                    table.chains.insert(chain.to_owned());
                }
                (Some("-A"), Some(_)) => table.rules.push(line.trim_end().to_owned()),
                _ => {}
            }
        }
        table
    }

    fn has_chain(&self, chain: &str) -> bool {
        self.chains.contains(chain)
    }

    fn rules_of<'a>(&'a self, chain: &str) -> impl Iterator<Item = &'a str> {
        let start = format!("-A {chain} ");
        self.rules
            .iter()
            .filter(move |rule| rule.starts_with(&start))
            .map(String::as_str)
    }

    fn jumps(&self, parent: &str, chain: &str) -> usize {
        let jump = format!("-A {parent} -j {chain}");
        self.rules_of(parent).filter(|rule| *rule == jump).count()
    }

    /// Whether the jump stands before everything but other providers' jumps: what comes before could accept.
    fn jumps_first(&self, parent: &str, chain: &str) -> bool {
        let jump = format!("-A {parent} -j {chain}");
        let ours = format!("-A {parent} -j {CHAIN_PREFIX}");
        self.rules_of(parent)
            .take_while(|rule| rule.starts_with(&ours))
            .any(|rule| rule == jump)
    }
}

async fn list(family: Family, table: &str) -> Result<Table, FirewallError> {
    let output = run(family.list(), &["-w", LOCK_WAIT, "-t", table, "-S"], "").await?;
    Ok(Table::parse(&output))
}

async fn restore(family: Family, script: &str) -> Result<(), FirewallError> {
    run(family.restore(), &["-w", LOCK_WAIT, "--noflush"], script).await?;
    Ok(())
}

async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
    let failed = |problem: String| FirewallError::Command { program, problem };
    let work = async {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(COMMAND_DEADLINE, work)
        .await
        .map_err(|_| failed(format!("no answer within {} seconds", COMMAND_DEADLINE.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridges(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn firewall() -> Firewall {
        Firewall::new("0123456789ab", vec!["10.0.0.2".parse().unwrap()], vec![])
    }

    #[test]
    fn chain_names_fit() {
        // iptables takes 28 characters.
        assert!(firewall().forward_chain.len() <= 28);
    }

    #[test]
    fn answers_pass_before_anything_is_dropped() {
        let rules = firewall().forward_rules(Family::V4, &bridges(&["spa", "spb"]));
        for bridge in ["spa", "spb"] {
            let own: Vec<_> = rules
                .iter()
                .filter(|rule| rule.contains(&format!("-i {bridge} ")))
                .collect();
            assert!(own[0].ends_with("--ctdir REPLY -j RETURN"), "{own:?}");
            let name_server = own.iter().position(|rule| rule.contains("10.0.0.2/32")).unwrap();
            let private = own.iter().position(|rule| rule.contains("-d 10.0.0.0/8")).unwrap();
            assert!(name_server < private);
        }
    }

    #[test]
    fn no_rule_concerns_other_interfaces() {
        let bridges = bridges(&["spa"]);
        let firewall = firewall();
        for rule in input_rules("C", &bridges)
            .into_iter()
            .chain(firewall.forward_rules(Family::V4, &bridges))
            .chain(firewall.forward_rules(Family::V6, &bridges))
        {
            assert!(rule.contains(" -i spa "), "{rule}");
        }
    }

    #[test]
    fn tables_are_read() {
        let table = Table::parse(
            "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-N SPHERON-IN-a\n-A INPUT -j SPHERON-IN-b\n-A INPUT -j SPHERON-IN-a\n-A INPUT -i lo -j ACCEPT\n-A FORWARD -j RETURN\n-A FORWARD -j SPHERON-FW-a\n",
        );
        assert!(table.has_chain("INPUT") && table.has_chain("SPHERON-IN-a"));
        assert!(table.jumps_first("INPUT", "SPHERON-IN-a"));
        assert!(!table.jumps_first("FORWARD", "SPHERON-FW-a"));
        assert_eq!(table.jumps("FORWARD", "SPHERON-FW-a"), 1);
        assert_eq!(table.jumps("INPUT", "SPHERON-IN-c"), 0);
    }
}
