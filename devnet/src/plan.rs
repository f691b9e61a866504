//! The network as data: `anvil-config/devnet.toml`.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::primitives::{Address, keccak256};
use alloy::signers::local::PrivateKeySigner;
use deploy::Parameters;
use eyre::{WrapErr as _, ensure};
use serde::Deserialize;

/// Names of the accounts that hold the roles of `contracts/deploy/parameters/devnet.toml`.
pub const ROLE_HOLDERS: [&str; 4] = ["governor", "token-lister", "verifier", "guardian"];

/// What a devnet consists of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How many of the parameter file's quorums the network has; all when absent.
    #[serde(default)]
    pub quorums: Option<usize>,
    /// Blocks in which an order takes bids that asks for no other number; the parameter file's when absent.
    #[serde(default)]
    pub bid_window: Option<u16>,
    pub chain: Chain,
    #[serde(default)]
    pub operators: Vec<Operator>,
    #[serde(default)]
    pub aggregators: Vec<Aggregator>,
    #[serde(default)]
    pub providers: Vec<Provider>,
    #[serde(default)]
    pub users: Vec<User>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Seconds between blocks.
    pub block_time: u64,
    /// Port to try first; zero takes any.
    pub port: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    pub name: String,
    pub restake: Restake,
}

/// Whole tokens.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restake {
    pub ether: u64,
    pub spon: u64,
}

impl Restake {
    /// In the order of the parameter file's quorums.
    pub fn by_quorum(self) -> [u64; 2] {
        [self.ether, self.spon]
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregator {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub name: String,
    pub region: String,
    pub trust_tier: u8,
    /// Whole SPON.
    pub stake: u64,
    /// Host ports for tenants, `first-last`.
    pub ports: String,
    pub capacity: Capacity,
    pub price: Price,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    pub cpu: String,
    pub memory: String,
    pub storage: String,
}

/// Whole tokens an hour, per CPU and per GiB.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub cpu: String,
    pub memory: String,
    pub storage: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    /// Whole tokens, of every payment token.
    pub tokens: u64,
}

impl Plan {
    /// Reads a plan.
    pub fn load(path: &Path) -> eyre::Result<Self> {
        let text =
            std::fs::read_to_string(path).wrap_err_with(|| format!("cannot read the plan {}", path.display()))?;
        Self::parse(&text).wrap_err_with(|| format!("the plan {} cannot be used", path.display()))
    }

    /// The plan in the tree.
    pub fn built_in() -> Self {
        Self::parse(include_str!("../../anvil-config/devnet.toml"))
            .expect("the plan in the tree is valid: a test loads it")
    }

    /// What the plan's network is deployed with.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::devnet();
        if let Some(count) = self.quorums {
            parameters = parameters.with_quorums(count);
        }
        parameters.market.bid_window = self.bid_window.unwrap_or(parameters.market.bid_window);
        parameters
    }

    fn parse(text: &str) -> eyre::Result<Self> {
        let plan: Self = toml::from_str(text)?;
        let (most, asked) = (Parameters::devnet().quorums.quorum.len(), plan.quorums.unwrap_or(1));
        ensure!(
            (1..=most).contains(&asked),
            "quorums = {asked}: the parameter file has {most}, and a network needs one"
        );
        let mut names = BTreeSet::new();
        for name in plan.names() {
            ensure!(
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{name:?} is no name: letters, digits and dashes"
            );
            ensure!(
                !ROLE_HOLDERS.contains(&name),
                "the name {name} is a role's holder: keys derive from names"
            );
            ensure!(
                names.insert(name),
                "the name {name} is given twice: keys derive from names"
            );
        }
        Ok(plan)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let operators = self.operators.iter().map(|operator| &operator.name);
        let aggregators = self.aggregators.iter().map(|aggregator| &aggregator.name);
        let providers = self.providers.iter().map(|provider| &provider.name);
        let users = self.users.iter().map(|user| &user.name);
        operators
            .chain(aggregators)
            .chain(providers)
            .chain(users)
            .map(String::as_str)
    }
}

/// The development key of a name.
pub fn key(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(format!("spheron devnet {name}")))
        .expect("a hash is a key but for odds of 2^-128")
}

/// The address of a name's key.
pub fn address(name: &str) -> Address {
    key(name).address()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_in_the_tree_is_valid() {
        let plan = Plan::built_in();
        assert_eq!(
            (plan.operators.len(), plan.aggregators.len(), plan.providers.len()),
            (4, 2, 2)
        );
    }

    #[test]
    fn a_plan_may_have_another_bid_window_than_the_parameter_file() {
        let window = |text: &str| Plan::parse(text).expect("valid").parameters().market.bid_window;
        let rest = "[chain]\nblock_time = 1\nport = 0\n";
        assert_eq!(window(rest), Parameters::devnet().market.bid_window);
        assert_eq!(window(&format!("bid_window = 7\n{rest}")), 7);
    }

    #[test]
    fn the_plan_with_one_quorum_is_valid() {
        let plan = Plan::parse(include_str!("../../anvil-config/one-quorum.toml")).expect("valid");
        assert_eq!(plan.parameters().quorums.quorum.len(), 1);
        assert!(Plan::parse("quorums = 0\n[chain]\nblock_time = 1\nport = 0\n").is_err());
        assert!(Plan::parse("quorums = 3\n[chain]\nblock_time = 1\nport = 0\n").is_err());
    }

    /// The parameter file names addresses.
    #[test]
    fn the_roles_are_held_by_development_accounts() {
        let governance = Parameters::devnet().governance;
        let held = [
            governance.governor,
            governance.token_lister,
            governance.verifier,
            governance.guardian,
        ];
        assert_eq!(held, ROLE_HOLDERS.map(address));
    }

    #[test]
    fn names_that_would_share_a_key_are_refused() {
        let reserved = "[chain]\nblock_time = 1\nport = 0\n[[aggregators]]\nname = \"guardian\"\n";
        assert!(
            Plan::parse(reserved)
                .expect_err("reserved")
                .to_string()
                .contains("role's holder")
        );

        let twice = "[chain]\nblock_time = 1\nport = 0\n[[aggregators]]\nname = \"a\"\n[[aggregators]]\nname = \"a\"\n";
        assert!(
            Plan::parse(twice)
                .expect_err("twice")
                .to_string()
                .contains("given twice")
        );
        assert!(Plan::parse("[chain]\nblock_time = 1\nport = 0\nports = 1\n").is_err());
    }
}
