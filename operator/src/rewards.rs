//! `operator rewards`: what the operator earned, and how it gets it.
//!
//! The market's commission reaches operators in three steps, each open to anyone: the commission split collects and submits
//! their share to EigenLayer ([`distribute`]); EigenLayer posts a root of everybody's earnings; the operator claims against it
//! ([`claim`]). What it earned by proving answers wrong it withdraws from the split ([`withdraw_challenges`]).

pub(crate) mod amounts;
mod claim;
mod distribute;
mod overview;
mod sending;

use std::path::PathBuf;

use alloy::primitives::Address;
use alloy::providers::RootProvider;
use bindings::ICommissionSplit;
use chain::Endpoints;
use chain::network::Network;
use clap::{Args, Subcommand};
use eyre::WrapErr as _;

pub use amounts::Amount;
pub use claim::{Claimed, WithdrawnRewards, claim, withdraw_challenges};
pub use distribute::{Distributed, distribute};
pub use overview::{Overview, overview};

use crate::commands::{self, File};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub enum RewardsCommand {
    /// Show what waits for operators, what was submitted for this one, and which roots can be claimed against
    #[command(after_help = "Example:\n  operator rewards show --config operator.toml --json")]
    Show {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Claim earnings from EigenLayer with a claim file
    #[command(after_help = "\
The claim file is the JSON that EigenLayer's tools print for an earner; on a devnet, `devnet rewards` writes it. What it proves \
and was claimed before is left out, so the command may be run again.

The operator's own account must not be in use by `operator run` meanwhile. To claim while it runs, name another account once \
with EigenLayer's setClaimerFor, and pass its key.

Examples:
  operator rewards claim --config operator.toml --claim claim.json
  operator rewards claim --config operator.toml --claim claim.json --recipient 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
  operator rewards claim --config operator.toml --claim claim.json --key claimer.json --password-file claimer.password")]
    Claim {
        #[command(flatten)]
        file: File,
        /// Claim file
        #[arg(long, value_name = "FILE")]
        claim: PathBuf,
        /// Who receives the tokens; the operator's address when absent
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<Address>,
        #[command(flatten)]
        account: Account,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Withdraw what the operator's account earned by proving answers wrong
    #[command(after_help = "\
Only the account that earned it can withdraw it: stop `operator run` or `operator watch` of the same account meanwhile.

Example:
  operator rewards withdraw-challenges --config operator.toml")]
    WithdrawChallenges {
        #[command(flatten)]
        file: File,
        /// Who receives the tokens; the operator's address when absent
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<Address>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Collect the commission and submit the operators' share to EigenLayer; anyone may, once a day and token
    #[command(after_help = "\
Examples:
  operator rewards distribute --config operator.toml
  operator rewards distribute --config operator.toml --token SPON --key other.json --password-file other.password")]
    Distribute {
        #[command(flatten)]
        file: File,
        /// Only this payment token
        #[arg(long, value_name = "SYMBOL")]
        token: Option<String>,
        #[command(flatten)]
        account: Account,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Who sends the transaction.
#[derive(Debug, Clone, Default, Args)]
pub struct Account {
    /// Keystore of the account that sends, in place of the operator's
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the password of that keystore
    #[arg(long, value_name = "FILE", requires = "key")]
    pub password_file: Option<PathBuf>,
}

/// Runs a command and prints its result.
pub async fn execute(command: RewardsCommand) -> eyre::Result<bool> {
    match command {
        RewardsCommand::Show { file, json } => {
            let overview = overview(&file.load()?).await?;
            commands::print(&overview, overview.to_string(), json)
        }
        RewardsCommand::Claim {
            file,
            claim: path,
            recipient,
            account,
            json,
        } => {
            let claimed = claim(&file.load()?, &path, recipient, &account).await?;
            commands::print(&claimed, claimed.to_string(), json)
        }
        RewardsCommand::WithdrawChallenges { file, recipient, json } => {
            let withdrawn = withdraw_challenges(&file.load()?, recipient).await?;
            commands::print(&withdrawn, withdrawn.to_string(), json)
        }
        RewardsCommand::Distribute {
            file,
            token,
            account,
            json,
        } => {
            let distributed = distribute(&file.load()?, token.as_deref(), &account).await?;
            commands::print(&distributed, distributed.to_string(), json)
        }
    }
}

/// Where a network's rewards are, read from the chain.
struct Rewards {
    network: Network,
    endpoints: Endpoints,
    provider: RootProvider,
    split: Address,
    /// EigenLayer's.
    coordinator: Address,
}

impl Rewards {
    async fn open(config: &Config) -> eyre::Result<Self> {
        let network = config.network()?;
        let endpoints = Endpoints::new(&config.rpc_settings(&network))?;
        endpoints.verify().await?;
        let provider = endpoints.provider();
        let split = network.contracts.commission_split;
        let commission = ICommissionSplit::new(split, &provider);
        let coordinator = commission.rewardsCoordinator().call().await;
        let coordinator = coordinator.wrap_err_with(|| format!("the commission split {split} cannot be read"))?;
        Ok(Self {
            network,
            endpoints,
            provider,
            split,
            coordinator,
        })
    }

    fn split(&self) -> ICommissionSplit::ICommissionSplitInstance<&RootProvider> {
        ICommissionSplit::new(self.split, &self.provider)
    }
}
