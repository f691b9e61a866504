//! Tracing: everything a binary has to say goes to stderr, because stdout is its result.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Flags every binary flattens into its command line.
#[derive(Debug, Clone, Args)]
pub struct LogArguments {
    /// What to log: a level, or `target=level` pairs separated by commas
    #[arg(
        long = "log",
        env = "SPHERON_LOG",
        default_value = "info",
        global = true,
        value_name = "FILTER"
    )]
    pub filter: String,
    /// How to log
    #[arg(
        long = "log-format",
        env = "SPHERON_LOG_FORMAT",
        default_value = "plain",
        global = true
    )]
    pub format: LogFormat,
}

impl Default for LogArguments {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Plain,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event, coloured on a terminal.
    Plain,
    /// One JSON object per line.
    Json,
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter {filter:?} is not valid (expected for example `info` or `info,chain=debug`)")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else installed a global subscriber.
    #[error("logging was already initialised in this process")]
    AlreadyInitialised(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends tracing events to stderr, and panics too, so that a panic in a task is one log line like any other.
pub fn initialise(arguments: &LogArguments) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&arguments.filter).map_err(|source| TelemetryError::Filter {
        filter: arguments.filter.clone(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    match arguments.format {
        LogFormat::Plain => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(std::io::stderr().is_terminal()),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    }
    .map_err(TelemetryError::AlreadyInitialised)?;
    log_panics();
    Ok(())
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(no message)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, %backtrace, "panic: {message}");
    }));
}
