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
//! sentences   what contracts refuse, with dates, symbols and whole tokens
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
mod sentences;
mod serving;
mod session;
mod signatures;

use std::ffi::OsString;
use std::process::ExitCode;

pub use arguments::Arguments;
pub use failure::Failure;

use crate::output::Output;

/// Runs the command that the arguments (with the program's name first) ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::read(&given) {
        Ok(arguments) => arguments,
        Err(error) => return unusable(&given, &error),
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

/// A command line that is none, or that asks for help.
fn unusable(given: &[OsString], error: &clap::Error) -> ExitCode {
    // Help goes to stdout, mistakes to stderr; a closed pipe is no reason to complain about either.
    error.print().ok();
    let status = u8::try_from(error.exit_code()).unwrap_or(failure::FAILED);
    // Nothing was parsed, so the flag is looked for as it was written; what follows `--` is no flag.
    let json = given
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--json");
    if json && error.use_stderr() {
        let text = error.render().to_string();
        // The usage and the tips that follow are for people.
        let message = text.split("\n\n").next().unwrap_or_default();
        let message = message.trim_start_matches("error: ").trim_end();
        let output = Output::new(true);
        output.line(&serde_json::json!({"error": {"message": message, "status": status}}).to_string());
        output.finish();
    }
    ExitCode::from(status)
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
