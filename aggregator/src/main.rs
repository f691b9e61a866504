use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aggregator::config::{Config, ENVIRONMENT_PREFIX};
use aggregator::start::start;
use clap::{Parser, Subcommand};
use daemon::telemetry::LogArguments;

/// How long work in flight may take after a signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
const CONFIGURATION_INVALID: u8 = 2;

/// Collects operators' signatures, checks the quorum, posts the response.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  aggregator config example > aggregator.toml\n  aggregator config check --config aggregator.toml\n  aggregator run --config aggregator.toml"
)]
struct Arguments {
    #[command(flatten)]
    log: LogArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the aggregator until SIGINT or SIGTERM
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Checks a configuration, or shows an example
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Reports every problem of a configuration; nothing is started
    Check {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
    /// Prints a commented configuration with every default
    Example,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stdout = &mut std::io::stdout();
    let printed = match arguments.command {
        Command::Run { config } => return run(&arguments.log, &config),
        Command::Config(ConfigCommand::Check { config, json }) => {
            daemon::config::check::<Config>(Some(&config), ENVIRONMENT_PREFIX, json, stdout)
        }
        Command::Config(ConfigCommand::Example) => {
            use std::io::Write;
            write!(stdout, "{}", daemon::config::example::<Config>()).map(|()| true)
        }
    };
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::from(CONFIGURATION_INVALID),
    }
}

fn run(log: &LogArguments, file: &std::path::Path) -> ExitCode {
    use std::io::Write;
    if let Err(error) = daemon::telemetry::initialise(log) {
        let _ = writeln!(std::io::stderr(), "{error}");
        return ExitCode::from(CONFIGURATION_INVALID);
    }
    daemon::tls::install_provider();
    match daemon::config::load::<Config>(Some(file), ENVIRONMENT_PREFIX) {
        Ok(config) => daemon::process::run(DRAIN_DEADLINE, |shutdown| start(config, shutdown)),
        Err(report) => {
            let _ = writeln!(std::io::stderr(), "{report}");
            ExitCode::from(CONFIGURATION_INVALID)
        }
    }
}
