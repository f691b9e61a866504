//! What is wrong with a deployment file, and where: one report per file, for people and for programs.

use std::fmt;

use serde::Serialize;

/// The most problems a report lists; what is beyond is counted.
pub(crate) const MAXIMUM_PROBLEMS: usize = 50;

/// The most characters of a source line, of a found value or of a path that a report repeats.
const MAXIMUM_EXCERPT: usize = 120;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// One thing that must be corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it is.
    #[serde(flatten)]
    pub position: Position,
    /// The way to it, for example `services.web.expose[0].port`; empty for the file as a whole.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// How to correct it, where that is not obvious.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself, without what may be a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_line: Option<String>,
}

/// One thing that is accepted but may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where it is.
    #[serde(flatten)]
    pub position: Position,
    /// The way to it.
    pub path: String,
    /// What it means.
    pub message: String,
}

/// Everything that is wrong with one file. `Display` is for people, `Serialize` for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file's name as its reader was given it.
    pub file: String,
    /// In the order of the file; never empty.
    pub problems: Vec<Problem>,
    /// Problems beyond those listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Warnings met before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl std::error::Error for Report {}

impl Report {
    /// A report of a single problem with a file that was not read further.
    pub(crate) fn of_one(
        file: &str,
        position: Position,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let (path, found, expected) = (String::new(), found.into(), expected.into());
        let problem = Problem {
            position,
            path,
            found,
            expected,
            hint: None,
            source_line: None,
        };
        Self {
            file: file.to_owned(),
            problems: vec![problem],
            omitted: 0,
            warnings: Vec::new(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            problem.write(&self.file, formatter)?;
        }
        if self.omitted > 0 {
            write!(formatter, "\n... and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl Problem {
    fn write(&self, file: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{file}:{}: ", self.position)?;
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        write!(formatter, "found {}, expected {}", self.found, self.expected)?;
        if let Some(line) = &self.source_line {
            let number = self.position.line.to_string();
            let gutter = " ".repeat(number.len());
            let before = usize::try_from(self.position.column)
                .unwrap_or(usize::MAX)
                .saturating_sub(1);
            let shown = before.min(line.chars().count());
            write!(
                formatter,
                "\n{gutter} |\n{number} | {line}\n{gutter} | {}^",
                " ".repeat(shown)
            )?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Warning {
    /// One line for people.
    pub fn describe(&self, file: &str) -> String {
        format!("{file}:{}: {}: {}", self.position, self.path, self.message)
    }
}

/// A text as a report may repeat it: quoted, on one line, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

/// A path as a report may repeat it: its end, where it is long.
pub(crate) fn shortened_path(path: &str) -> String {
    let length = path.chars().count();
    if length <= MAXIMUM_EXCERPT {
        return path.to_owned();
    }
    let end: String = path.chars().skip(length - MAXIMUM_EXCERPT).collect();
    format!("...{end}")
}

/// A source line as a report may repeat it: without control characters, without what follows `password:` or an
/// environment variable's `=`, and cut when long.
pub(crate) fn shown_line(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let end_of_public_part = ["password", "secret", "token:", "token="]
        .iter()
        .filter_map(|word| lower.find(word).map(|at| at + word.len()))
        .chain(line.find('=').map(|at| at + 1))
        .min();
    // Symbols of payment tokens are no secrets, and the commonest thing to get wrong beside them is their price.
    let is_payment_token = lower.trim_start().starts_with("token:");
    let (public, hidden) = match end_of_public_part {
        Some(end) if !is_payment_token && !line[end..].trim().is_empty() => (&line[..end], true),
        _ => (line, false),
    };
    let mut shown: String = public
        .chars()
        .take(MAXIMUM_EXCERPT)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if hidden || public.chars().nth(MAXIMUM_EXCERPT).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_without_their_secrets() {
        let check = |line: &str, expected: &str| assert_eq!(shown_line(line), expected);
        check("      port: 80", "      port: 80");
        check("    - DB_PASSWORD=hunter2", "    - DB_PASSWORD...");
        check("    - KEY=hunter2", "    - KEY=...");
        check("    password: hunter2", "    password...");
        check(
            "    credentials: {username: a, password: b}",
            "    credentials: {username: a, password...",
        );
        check("    token: uSPON", "    token: uSPON");
        check("\tbell\u{7}", " bell ");
    }
}
