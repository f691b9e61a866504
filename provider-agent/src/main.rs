//! Bids for orders, runs the leases it wins, serves their owners

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use daemon::telemetry::LogArguments;
use provider_agent::config::{Config, ENVIRONMENT_PREFIX};

/// Bids for orders on the compute market, runs the leases it wins, and serves their owners.
#[derive(Debug, Parser)]
#[command(name = "provider-agent", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArguments,
}

const EXAMPLES: &str = "Examples:
  provider-agent config example > provider.toml     a commented configuration to start from
  provider-agent config check --config provider.toml
  spheron provider register ...                      once, with the same key and certificate
  provider-agent run --config provider.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until it is asked to stop; workloads go on running
    Run(File),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say every problem of the configuration; exit status 2 if there is one
    Check {
        #[command(flatten)]
        file: File,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a commented configuration
    Example,
}

#[derive(Debug, Args)]
struct File {
    /// The configuration file; environment variables SPHERON_PROVIDER__SECTION__KEY override it
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    // The engine's client logs requests, which hold tenants' secrets, at finer levels.
    arguments.log.filter.push_str(",bollard=info");
    if let Err(error) = daemon::telemetry::initialise(&arguments.log) {
        return failed(&error.into());
    }
    match carry_out(arguments.command) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn carry_out(command: Command) -> eyre::Result<ExitCode> {
    match command {
        Command::Run(file) => match daemon::config::load::<Config>(Some(&file.config), ENVIRONMENT_PREFIX) {
            Ok(config) => provider_agent::agent::run(config),
            Err(report) => {
                tracing::error!("{report}");
                Ok(ExitCode::from(2))
            }
        },
        Command::Config(ConfigCommand::Check { file, json }) => {
            let is_valid = provider_agent::check::check(&file.config, json, &mut std::io::stdout().lock())?;
            Ok(ExitCode::from(if is_valid { 0 } else { 2 }))
        }
        Command::Config(ConfigCommand::Example) => {
            write!(std::io::stdout(), "{}", daemon::config::example::<Config>())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn failed(error: &eyre::Report) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
