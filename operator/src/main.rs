//! Follows the chain, runs the matching rule, signs the result.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use operator::commands::{self, Arguments, Command};

/// How long a stop may take.
const DRAIN: Duration = Duration::from_secs(5);

/// Exit status of a configuration that cannot be used, as of every agent.
const CONFIGURATION_INVALID: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = daemon::telemetry::initialise(&arguments.log) {
        return fail(&error.into());
    }
    daemon::tls::install_provider();
    match arguments.command {
        Command::Run(file) => match file.load() {
            Ok(config) => daemon::process::run(DRAIN, |shutdown| operator::run::start(config, shutdown)),
            Err(report) => refuse(&report.into()),
        },
        Command::Watch(file) => match file.load() {
            Ok(config) => daemon::process::run(DRAIN, |shutdown| operator::run::start_watching(config, shutdown)),
            Err(report) => refuse(&report.into()),
        },
        command => execute(command),
    }
}

/// Runs a command that ends; Ctrl-C ends it early, and what it did stays done.
fn execute(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = commands::execute(command) => outcome,
            _ = tokio::signal::ctrl_c() => Err(eyre::eyre!("interrupted; run the command again to go on where it stopped")),
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CONFIGURATION_INVALID),
        Err(error) => fail(&error),
    }
}

fn refuse(report: &eyre::Report) -> ExitCode {
    tracing::error!("{report:#}");
    ExitCode::from(CONFIGURATION_INVALID)
}

fn fail(error: &eyre::Report) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
