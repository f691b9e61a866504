//! Tracing: everything a binary has to say goes to stderr, because stdout is its result.

use std::fmt;
use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{self, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::terminal;

/// What is said of one thing, at most: an RPC endpoint or a registry must not fill the disk with one answer. A backtrace fits.
const LONGEST_VALUE_BYTES: usize = 32 * 1024;

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
                    .fmt_fields(harmless_fields())
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

/// The fields of an event on one line. Their values are anybody's: tenants, registries and RPC endpoints have their say in
/// reasons and errors. They command no terminal, and what they say never looks like another event.
fn harmless_fields() -> impl for<'writer> FormatFields<'writer> {
    format::debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = harmless(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            // A name that is a word of the language is written with this before it.
            name if writer.has_ansi_escapes() => {
                let name = name.trim_start_matches("r#");
                write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
            }
            name => write!(writer, "{}={value}", name.trim_start_matches("r#")),
        }
    })
    .delimited(" ")
}

/// Without what commands a terminal, and with every line but the first one indented.
fn harmless(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if text.len() >= LONGEST_VALUE_BYTES {
            text.push_str("...");
            break;
        }
        match letter {
            '\n' => text.push_str("\n    "),
            '\t' => text.push(letter),
            letter if terminal::commands(letter) => text.extend(letter.escape_default()),
            letter => text.push(letter),
        }
    }
    text
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("(no message)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(place, %backtrace, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What an event looks like.
    fn logged(ansi: bool, event: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(harmless_fields())
            .with_writer(move || writer.clone())
            .with_ansi(ansi)
            .without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
        let bytes = written.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn what_others_say_commands_no_terminal_and_is_no_event_of_its_own() {
        let said = "no\u{1b}[2J\u{9b}m\u{202e}\r\n2026-01-01T00:00:00Z  INFO lease closed";
        let line = logged(false, || {
            tracing::warn!(error = %said, quoted = said, number = 7, r#type = "x", "cannot: {said}");
        });
        assert!(!line.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{line:?}");
        assert!(line.lines().skip(1).all(|line| line.starts_with("    ")), "{line}");
        assert!(
            line.contains("number=7 type=\"x\"") && line.contains("error=no\\u{1b}[2J"),
            "{line}"
        );
    }

    #[test]
    fn colours_are_ours_alone() {
        let line = logged(true, || tracing::warn!(error = %"\u{1b}[31m", "x"));
        assert!(
            line.contains("\u{1b}[3merror") && !line.contains("\u{1b}[31m"),
            "{line:?}"
        );
    }

    #[test]
    fn nobody_fills_a_disk_with_one_answer() {
        let line = logged(false, || tracing::warn!(error = %"A".repeat(1 << 20), "x"));
        assert!(line.len() < LONGEST_VALUE_BYTES + 200, "{}", line.len());
    }
}
