//! Configuration: one commented TOML file per agent, environment variables over it, and every problem of both in one
//! report, before anything binds.
//!
//! serde stops at the first error, so the tree is read field by field instead. A binary declares its structs with
//! [`section!`](crate::section), which makes the reader, the list of known keys and the commented example file from one
//! declaration, and implements [`Validate`] for what the types cannot say:
//!
//! ```
//! use daemon::config::{Problems, Validate};
//!
//! daemon::section! {
//!     /// Where the chain is read.
//!     pub struct Rpc {
//!         /// JSON-RPC endpoints; reads fall over from one to the next.
//!         pub urls: Vec<url::Url>,
//!         /// How long one call may take.
//!         pub timeout: std::time::Duration = std::time::Duration::from_secs(5),
//!     }
//! }
//!
//! impl Validate for Rpc {
//!     fn problems(&self, problems: &mut Problems) {
//!         if self.urls.is_empty() {
//!             problems.invalid("urls", "needs at least one endpoint");
//!         }
//!     }
//! }
//!
//! daemon::section! {
//!     /// The agent.
//!     pub struct Agent {
//!         /// Where the chain is read.
//!         pub rpc: Rpc,
//!     }
//! }
//! impl Validate for Agent {}
//!
//! let environment = [("SPHERON_AGENT__RPC__URLS".to_owned(), "http://a.example/,http://b.example/".to_owned())];
//! let agent: Agent = daemon::config::parse("agent.toml", "[rpc]\ntimeout = \"2s\"\n", "SPHERON_AGENT", &environment)?;
//! assert_eq!(agent.rpc.urls.len(), 2);
//!
//! let report = daemon::config::parse::<Agent>("agent.toml", "[rpc]\ntimeout = 2\nurl = 1\n", "SPHERON_AGENT", &[]);
//! assert_eq!(report.unwrap_err().problems().len(), 3);
//! # Ok::<(), daemon::config::Report>(())
//! ```

mod node;
mod section;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use node::{Node, Origin, Value};
pub use section::Section;
#[doc(hidden)]
pub use section::{read_field, read_section, write_example_field, write_example_section};
pub use value::ByteSize;

/// No configuration is longer; what is, was not meant to be one.
const LONGEST_FILE_BYTES: u64 = 1 << 20;

/// A type that can stand in a configuration.
pub trait FromConfig: Sized {
    /// What it is, for messages and the example file: `a URL`.
    fn kind() -> String;

    /// Reads it, or says what is wrong and returns nothing.
    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self>;

    /// What it is when its key is not there and it has no default.
    fn absent(problems: &mut Problems) -> Option<Self> {
        problems.here(format!("is missing (expected {})", Self::kind()));
        None
    }

    /// As it would stand in a file; nothing where it has no such form (sections).
    fn example(&self) -> Option<String> {
        None
    }

    /// Appends the commented example of a section; plain values have none.
    fn example_section(_path: &str, _out: &mut String) -> bool {
        false
    }
}

/// What the types of a section cannot say about it. Runs only on a section all of whose fields could be read.
pub trait Validate {
    /// Reports every problem with [`Problems::invalid`], by key.
    fn problems(&self, problems: &mut Problems) {
        let _ = problems;
    }
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its sections: `rpc.urls`. Empty for the file as a whole.
    pub path: String,
    /// Where.
    pub origin: Origin,
    /// What, and what was expected.
    pub message: String,
}

/// Collects problems while a configuration is read.
#[derive(Debug)]
pub struct Problems {
    found: Vec<Problem>,
    path: Vec<String>,
    origins: BTreeMap<String, Origin>,
    directory: PathBuf,
}

impl Problems {
    /// Reports a problem with `key` of the section that is being validated.
    pub fn invalid(&mut self, key: &str, message: impl Into<String>) {
        self.enter(key);
        self.here(message);
        self.leave();
    }

    /// Reports a problem with the value that is being read.
    pub fn here(&mut self, message: impl Into<String>) {
        let path = self.path.join(".");
        let origin = self.nearest_origin();
        self.found.push(Problem {
            path,
            origin,
            message: message.into(),
        });
    }

    /// Reports that the value being read is of another type than `expected`.
    pub fn wrong_type(&mut self, expected: &str, found: &Value) {
        self.here(format!("expected {expected}, found {}", found.kind()));
    }

    /// The directory that relative paths in the file start from: the file's own.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn enter(&mut self, key: &str) {
        self.path.push(key.to_owned());
    }

    pub(crate) fn leave(&mut self) {
        self.path.pop();
    }

    pub(crate) fn remember(&mut self, node: &Node) {
        self.origins.insert(self.path.join("."), node.origin.clone());
    }

    pub(crate) fn unknown_key(&mut self, key: &str, node: &Node, known: &[&str]) {
        self.enter(key);
        self.remember(node);
        self.here(format!("is not a known key; known here: {}", known.join(", ")));
        self.leave();
    }

    fn nearest_origin(&self) -> Origin {
        (0..=self.path.len())
            .rev()
            .find_map(|length| self.origins.get(&self.path[..length].join(".")))
            .cloned()
            .unwrap_or(Origin::Absent)
    }
}

/// Every problem of a configuration. `Display` has one line for each.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    file: String,
    problems: Vec<Problem>,
}

impl Report {
    /// In the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// As JSON, for `config check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|problem| {
                let (line, column) = match problem.origin {
                    Origin::File { line, column } => (Some(line), Some(column)),
                    _ => (None, None),
                };
                let variable = match &problem.origin {
                    Origin::Environment(name) => Some(name),
                    _ => None,
                };
                serde_json::json!({
                    "key": problem.path, "message": problem.message,
                    "line": line, "column": column, "variable": variable,
                })
            })
            .collect();
        serde_json::json!({ "file": self.file, "valid": false, "problems": problems })
    }

    fn of_file(path: &Path, message: String) -> Self {
        let problem = Problem {
            path: String::new(),
            origin: Origin::Absent,
            message,
        };
        Self {
            file: path.display().to_string(),
            problems: vec![problem],
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(
            formatter,
            "{count} problem{} in the configuration:",
            if count == 1 { "" } else { "s" }
        )?;
        for problem in &self.problems {
            write!(formatter, "\n  ")?;
            match &problem.origin {
                Origin::File { line, column } => write!(formatter, "{}:{line}:{column}: ", self.file)?,
                Origin::Environment(name) => write!(formatter, "environment variable {name}: ")?,
                Origin::Absent => write!(formatter, "{}: ", self.file)?,
            }
            if !problem.path.is_empty() {
                write!(formatter, "`{}` ", problem.path)?;
            }
            write!(formatter, "{}", problem.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Report {}

/// Reads `file` (none: the environment alone) with the process's environment over it.
///
/// `PREFIX__SECTION__KEY=value` overrides `key` of `[section]`; lists are separated by commas. Relative paths in the file
/// start from the file's directory.
pub fn load<T: FromConfig>(file: Option<&Path>, prefix: &str) -> Result<T, Report> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let Some(path) = file else {
        return read("(environment)", Path::new("."), "", prefix, &environment);
    };
    let text = read_bounded(path).map_err(|reason| Report::of_file(path, reason))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    read(&path.display().to_string(), directory, &text, prefix, &environment)
}

/// [`load`] from text and a given environment; relative paths start from the working directory.
pub fn parse<T: FromConfig>(
    name: &str,
    text: &str,
    prefix: &str,
    environment: &[(String, String)],
) -> Result<T, Report> {
    read(name, Path::new(""), text, prefix, environment)
}

fn read<T: FromConfig>(
    name: &str,
    directory: &Path,
    text: &str,
    prefix: &str,
    environment: &[(String, String)],
) -> Result<T, Report> {
    let mut found = Vec::new();
    let mut root = node::parse(text, &mut found);
    let broken = !found.is_empty();
    node::overlay(&mut root, prefix, environment, &mut found);
    let mut problems = Problems {
        found,
        path: Vec::new(),
        origins: BTreeMap::new(),
        directory: directory.to_owned(),
    };
    // A file that is not TOML was read only in part: what seems missing or unknown in it need not be.
    let value = if broken {
        None
    } else {
        T::from_node(&root, &mut problems)
    };
    match value {
        Some(value) if problems.found.is_empty() => Ok(value),
        _ => Err(Report {
            file: name.to_owned(),
            problems: problems.found,
        }),
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(LONGEST_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > LONGEST_FILE_BYTES {
        return Err(format!(
            "is longer than {LONGEST_FILE_BYTES} bytes; this is not a configuration file"
        ));
    }
    Ok(text)
}

/// The body of `config check`: writes the verdict to `out` (stdout) and returns whether the configuration is valid.
pub fn check<T: FromConfig>(
    file: Option<&Path>,
    prefix: &str,
    json: bool,
    out: &mut dyn Write,
) -> std::io::Result<bool> {
    match load::<T>(file, prefix) {
        Ok(_) if json => writeln!(out, "{}", serde_json::json!({ "valid": true, "problems": [] })).map(|()| true),
        Ok(_) => writeln!(out, "the configuration is valid").map(|()| true),
        Err(report) if json => writeln!(out, "{}", report.to_json()).map(|()| false),
        Err(report) => writeln!(out, "{report}").map(|()| false),
    }
}

/// The body of `config example`: the whole commented file with its defaults.
pub fn example<T: FromConfig>() -> String {
    let mut out = String::new();
    T::example_section("", &mut out);
    out
}

#[cfg(test)]
mod tests;
