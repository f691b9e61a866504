//! stdout is the result, stderr is progress: a spinner on a terminal, plain lines otherwise.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use alloy::primitives::Address;
use daemon::causes::with_causes;
use daemon::terminal;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::failure;

/// Where a command says what it does and what came of it.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    /// On a terminal only.
    spinner: Option<ProgressBar>,
    /// The last step, where it is not shown by the spinner: one line for what lasts long.
    last_step: RefCell<String>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let spinner =
                ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        Self {
            json,
            spinner,
            last_step: RefCell::default(),
        }
    }

    /// Whether the result is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// What is being done now.
    pub(crate) fn step(&self, text: impl Into<String>) {
        let text = text.into();
        match &self.spinner {
            Some(spinner) => spinner.set_message(harmless(&text)),
            None if *self.last_step.borrow() == text => {}
            None => {
                self.note(&text);
                self.last_step.replace(text);
            }
        }
    }

    /// Something that stays to be read.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        match &self.spinner {
            // The spinner is wiped for the line and comes back below it.
            Some(spinner) => spinner.suspend(|| write_line(text)),
            None => write_line(text),
        }
    }

    /// The result, the one thing on stdout: an object for programs, or text for people.
    pub(crate) fn result(&self, value: &Value, text: &str) {
        if self.json {
            self.line(&checksummed(value.clone()).to_string());
        } else {
            self.line(&harmless(text.trim_end_matches('\n')));
        }
    }

    /// One line of a result that has many.
    pub(crate) fn line(&self, text: &str) {
        self.raw(text.as_bytes(), true);
    }

    /// A line that a container wrote, after a label of ours.
    pub(crate) fn log_line(&self, label: &str, text: &str) {
        match std::io::stdout().is_terminal() {
            true => self.line(&format!("{label}{}", coloured(text))),
            false => self.line(&format!("{label}{text}")),
        }
    }

    /// Bytes of a result.
    pub(crate) fn raw(&self, bytes: &[u8], newline: bool) {
        let mut stdout = std::io::stdout().lock();
        let mut write = || {
            stdout.write_all(bytes)?;
            if newline {
                stdout.write_all(b"\n")?;
            }
            stdout.flush()
        };
        match &self.spinner {
            // Whoever closed the pipe wants no more of it.
            Some(spinner) => spinner.suspend(|| write().ok()),
            None => write().ok(),
        };
    }

    /// A failure: a sentence on stderr, and for programs an object on stdout.
    pub(crate) fn failure(&self, report: &eyre::Report, status: u8) {
        let message = with_causes(report.as_ref());
        write_line(&format!("error: {message}"));
        if self.json {
            let mut object = json!({"error": {"message": message, "status": status}});
            if let (Some(details), Some(error)) = (failure::details(report), object.get_mut("error")) {
                error["report"] = details.clone();
            }
            self.line(&checksummed(object).to_string());
        }
    }

    /// Wipes the spinner.
    pub(crate) fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// With every address in the one form that has its checksum: so programs can compare them as text.
fn checksummed(value: Value) -> Value {
    match value {
        Value::String(text) => match address(&text) {
            Some(address) => address.to_checksum(None).into(),
            None => text.into(),
        },
        Value::Array(values) => values.into_iter().map(checksummed).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, checksummed(value)));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

/// The address that a text is: as it is serialised, in small letters.
fn address(text: &str) -> Option<Address> {
    const LENGTH: usize = 42;
    let is_small = |letter: u8| letter.is_ascii_digit() || matches!(letter, b'a'..=b'f');
    let digits = text.strip_prefix("0x").filter(|_| text.len() == LENGTH)?;
    digits.bytes().all(is_small).then(|| text.parse().ok())?
}

fn write_line(text: &str) {
    // Progress for people; nothing depends on it being written.
    writeln!(std::io::stderr(), "{}", harmless(text)).ok();
}

/// Without what commands a terminal: names on chain and messages of providers are anybody's, and go to a terminal.
fn harmless(text: &str) -> String {
    let shown = |letter: char| {
        if terminal::commands(letter) && letter != '\n' {
            ' '
        } else {
            letter
        }
    };
    text.chars().map(shown).collect()
}

/// What somebody else wrote, on one line, without what commands a terminal, and no longer than anybody reads: a line break in a
/// name would let it write lines of ours.
pub(crate) fn plain(text: &str) -> String {
    const LONGEST: usize = 500;
    let shown = |letter: char| if terminal::commands(letter) { ' ' } else { letter };
    text.chars().take(LONGEST).map(shown).collect()
}

/// A line of a container's output as a terminal may have it: colours and tabs stay, every other command goes. Into a file or a
/// pipe it goes as it is.
fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let after = colour(rest);
        if let Some(length) = after {
            shown.push_str(&rest[..length]);
        } else if terminal::commands(letter) && letter != '\t' {
            shown.push(' ');
        } else {
            shown.push(letter);
        }
        rest = &rest[after.unwrap_or(letter.len_utf8())..];
    }
    shown
}

/// The length of the change of colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|letter: char| !letter.is_ascii_digit() && letter != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// Rows as a table with aligned columns; the first row is the header.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values as two aligned columns.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = facts
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), value.clone()])
        .collect();
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = [
            vec!["LEASE".to_owned(), "STATE".to_owned()],
            vec!["4294967297".to_owned(), "up".to_owned()],
        ];
        assert_eq!(table(&rows), "LEASE        STATE\n4294967297   up\n");
    }

    #[test]
    fn addresses_have_their_checksum_and_nothing_else_changes() {
        let (address, hash) = (
            Address::repeat_byte(0xab),
            alloy::primitives::B256::repeat_byte(0xab).to_string(),
        );
        let value = json!({"owner": address, "of": [{"spender": address}], "hash": hash, "text": format!("{address:#x}…"), "n": 7});
        let shown = checksummed(value);
        assert_eq!(shown["owner"], address.to_checksum(None));
        assert_eq!(shown["of"][0]["spender"], address.to_checksum(None));
        assert_eq!(shown["hash"], hash);
        assert_eq!(
            (&shown["text"], &shown["n"]),
            (&json!(format!("{address:#x}…")), &json!(7))
        );
    }

    #[test]
    fn a_terminal_gets_no_commands() {
        assert_eq!(harmless("provider \u{1b}[2Jx\r\nnext"), "provider  [2Jx \nnext");
    }

    #[test]
    fn what_others_write_stays_on_its_line_and_in_its_direction() {
        assert_eq!(plain("p)\nstate   closed\u{202e}x\u{9b}m"), "p) state   closed x m");
        assert_eq!(harmless("a\u{2066}b"), "a b");
        assert_eq!(plain(&"x".repeat(1_000)).len(), 500);
    }

    #[test]
    fn a_terminal_gets_the_colours_of_a_log_and_no_other_command() {
        let colours = "\u{1b}[1;31mred\u{1b}[0m\tgr\u{fc}n";
        assert_eq!(coloured(colours), colours);
        assert_eq!(coloured("\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31"), " ]0;title  [2J [31");
        assert_eq!(coloured("a\r\nb\u{9b}2J\u{202e}"), "a  b 2J ");
    }

    #[test]
    fn a_cause_is_told_once() {
        use eyre::WrapErr as _;
        let report = Err::<(), _>(eyre::eyre!("connection refused"))
            .wrap_err("cannot read the chain")
            .expect_err("error");
        assert_eq!(
            with_causes(report.as_ref()),
            "cannot read the chain: connection refused"
        );
        let report = report.wrap_err("stopped: cannot read the chain");
        assert_eq!(
            with_causes(report.as_ref()),
            "stopped: cannot read the chain: connection refused"
        );
    }
}
