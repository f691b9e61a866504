//! The command line.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use daemon::telemetry::LogArguments;
use eyre::WrapErr as _;
use serde::Serialize;

use crate::config::{self, Config, ENVIRONMENT_PREFIX};
use crate::keys;
use crate::membership::{self, Deposit};
use crate::rewards::{self, RewardsCommand};

/// Restakers run this: it opts in to the matching service on EigenLayer, and answers its tasks.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about, long_about = None, after_help = "\
Examples:
  operator keys new --out keys
  operator config example > operator.toml
  operator opt-in --config operator.toml --deposit 0=1000000000000000000 --deposit 1=1000000000000000000000
  operator run --config operator.toml")]
pub struct Arguments {
    #[command(flatten)]
    pub log: LogArguments,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the chain, answer tasks, send signatures to the aggregators
    #[command(after_help = "Example:\n  operator run --config operator.toml")]
    Run(File),
    /// Recompute every answer on chain, challenge wrong ones, match orders that nobody answered; signs nothing
    #[command(after_help = "\
Needs no stake and no BLS key. Wrong answers are challenged, and orders that nobody answered matched, from the account of
keys.ecdsa: it pays the gas, and earns the challengers' rewards and the match fees. `operator run` does the same unless
watch.enabled is false.

Example:
  operator watch --config operator.toml")]
    Watch(File),
    /// Join every quorum of the service, waiting out EigenLayer's delays
    #[command(after_help = "\
Steps that are done already are skipped, so an interrupted command is simply run again. Deposits are in the token's smallest
unit: with 18 decimals, 1000000000000000000 is one whole token.

Examples:
  operator opt-in --config operator.toml --deposit 0=1000000000000000000 --deposit 1=1000000000000000000000
  operator opt-in --config operator.toml --json")]
    OptIn {
        #[command(flatten)]
        file: File,
        /// Stake to have in a quorum, in the token's smallest unit; what is missing is deposited from the operator's account
        #[arg(long, value_name = "QUORUM=UNITS")]
        deposit: Vec<Deposit>,
        /// Print where the operator stands afterwards as JSON
        #[arg(long)]
        json: bool,
    },
    /// Leave every quorum of the service, and wait until the stake is free
    #[command(after_help = "\
Stake stays slashable through EigenLayer's deallocation delay: the block and the rough time at which it is free are shown.

Examples:
  operator opt-out --config operator.toml
  operator opt-out --config operator.toml --no-wait")]
    OptOut {
        #[command(flatten)]
        file: File,
        /// Return once everything is sent; `status` shows when the stake is free
        #[arg(long)]
        no_wait: bool,
        /// Print where the operator stands afterwards as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show where the operator stands: stake, membership, registered key, slashings
    #[command(after_help = "Example:\n  operator status --config operator.toml --json")]
    Status {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show and claim earnings
    #[command(subcommand)]
    Rewards(RewardsCommand),
    /// Make keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make an account and a BLS key, each in a keystore only you may read; overwrites nothing
    #[command(after_help = "\
Without --password-file a password is made and written beside the keystores.

Examples:
  operator keys new --out keys
  operator keys new --out keys --password-file /run/secrets/operator-password --json")]
    New {
        /// Folder for the keystores
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// File with the password that shall open both
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every problem of the configuration; exit status 2 if there is one
    #[command(after_help = "Example:\n  operator config check --config operator.toml")]
    Check {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a commented configuration file with the defaults
    #[command(after_help = "Example:\n  operator config example > operator.toml")]
    Example,
}

#[derive(Debug, Args)]
pub struct File {
    /// Configuration file
    #[arg(long = "config", value_name = "FILE")]
    pub path: PathBuf,
}

impl File {
    /// Reads it; every problem is in the error.
    pub fn load(&self) -> Result<Config, daemon::config::Report> {
        config::load(&self.path)
    }
}

/// Runs any command but `run` and `watch`, and prints its result. Returns whether it succeeded.
pub async fn execute(command: Command) -> eyre::Result<bool> {
    match command {
        Command::Run(_) | Command::Watch(_) => eyre::bail!("`run` and `watch` are no commands that end"),
        Command::OptIn { file, deposit, json } => {
            let status = membership::opt_in(&file.load()?, &deposit).await?;
            print(&status, status.to_string(), json)
        }
        Command::OptOut { file, no_wait, json } => {
            let status = membership::opt_out(&file.load()?, !no_wait).await?;
            print(&status, status.to_string(), json)
        }
        Command::Status { file, json } => {
            let status = membership::status(&file.load()?).await?;
            print(&status, status.to_string(), json)
        }
        Command::Rewards(command) => rewards::execute(command).await,
        Command::Keys(KeysCommand::New {
            out,
            password_file,
            json,
        }) => {
            let made = tokio::task::spawn_blocking(move || keys::create(&out, password_file.as_deref())).await??;
            let text = format!(
                "address      {}\noperator id  {}\n\n[keys]\necdsa = {:?}\necdsa_password_file = {:?}\nbls = {:?}\n\
                 bls_password_file = {:?}",
                made.address, made.operator_id, made.ecdsa, made.password_file, made.bls, made.password_file
            );
            print(&made, text, json)
        }
        Command::Config(ConfigCommand::Check { file, json }) => {
            let mut out = std::io::stdout();
            let valid = daemon::config::check::<Config>(Some(&file.path), ENVIRONMENT_PREFIX, json, &mut out)?;
            if valid && !json {
                write!(out, "{}", remarks(&file.load()?))?;
            }
            Ok(valid)
        }
        Command::Config(ConfigCommand::Example) => {
            write!(std::io::stdout(), "{}", daemon::config::example::<Config>())?;
            Ok(true)
        }
    }
}

/// What a valid configuration does not say of itself.
fn remarks(config: &Config) -> &'static str {
    match config.keys.bls {
        None => "for `operator watch` only: keys.bls is not set\nkeystores were not opened\n",
        Some(_) => "keystores were not opened\n",
    }
}

pub(crate) fn print(result: &impl Serialize, text: String, json: bool) -> eyre::Result<bool> {
    let text = match json {
        true => serde_json::to_string_pretty(result)?,
        false => text,
    };
    writeln!(std::io::stdout(), "{text}").wrap_err("cannot write the result")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let arguments = Arguments::try_parse_from([
            "operator",
            "opt-in",
            "--deposit",
            "0=5",
            "--deposit",
            "1=6",
            "--config",
            "operator.toml",
        ]);
        let Ok(Command::OptIn { deposit, .. }) = arguments.map(|arguments| arguments.command) else {
            panic!("opt-in with two deposits is understood")
        };
        assert_eq!(deposit.len(), 2);
    }
}
