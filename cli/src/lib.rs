//! What users and providers do by hand: the `spheron` command.
//!
//! stdout is the result, stderr is the rest; `--json` changes the format only. Exit status: 0 done, 1 failed, 2 bad input
//! (nothing was sent), 3 nobody can serve the order (its money is back).
//!
//! ```text
//! arguments   the command line            commands/  one file per group of commands
//! home        key, TLS identity, orders   session    what a command works with, opened when it is needed
//! chain       reads and one-shot sends    market     orders, suppliers and accounts as the chain has them
//! ledger      what happened to an account's money, from events: sums that must agree with what the chain holds
//! signatures  orders and closes that somebody else brings in; permits: signed approvals
//! ```

mod accounts;
mod amounts;
mod arguments;
mod brackets;
mod catalog;
mod chain;
mod commands;
mod dates;
mod failure;
mod files;
mod home;
mod ledger;
mod log_pages;
mod market;
mod orders;
mod output;
mod permits;
mod serving;
mod session;
mod signatures;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

pub use arguments::Arguments;
pub use failure::Failure;

use crate::output::Output;

/// Runs the command that the arguments (with the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, mistakes to stderr; a closed pipe is no reason to complain about either.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::FAILED));
        }
    };
    let output = Output::new(arguments.json);
    let outcome = start(&arguments, &output);
    output.finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            let status = failure::exit_status(&report);
            output.failure(&report, status);
            ExitCode::from(status)
        }
    }
}

fn start(arguments: &Arguments, output: &Output) -> eyre::Result<()> {
    let filter = std::env::var("SPHERON_LOG").unwrap_or_else(|_| "error".to_owned());
    let log = daemon::telemetry::LogArguments {
        filter,
        ..Default::default()
    };
    daemon::telemetry::initialise(&log)?;
    daemon::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Box::pin(commands::execute(arguments, output)))
}
