//! The tree that a configuration is read from: the TOML file, with environment variables laid over it.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::Problem;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A place in the file, both counted from one.
    File {
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// An environment variable.
    Environment(String),
    /// Nowhere: it is not there.
    Absent,
}

/// A value with its origin.
#[derive(Debug, Clone)]
pub struct Node {
    /// What stands there.
    pub value: Value,
    /// Where.
    pub origin: Origin,
}

/// What can stand in a configuration.
#[derive(Clone)]
pub enum Value {
    /// A string in the file.
    Text(String),
    /// The text of an environment variable, which has no type of its own: each reader takes it as its own type.
    Untyped(String),
    /// An integer.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date or time.
    Datetime(String),
    /// `[...]`
    List(Vec<Node>),
    /// `[section]` or `{...}`
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What to call it in a message: never the value itself, which may be a secret.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Untyped(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

/// Shows kinds only, because any text may be a secret in the wrong place.
impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}

/// Parses the file; every syntax error is a problem, and what could be read is returned.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let origin = error.span().map_or(Origin::Absent, |span| place(text, span.start));
        problems.push(Problem {
            path: String::new(),
            origin,
            message: format!("not TOML: {}", error.message()),
        });
    }
    let origin = Origin::File { line: 1, column: 1 };
    Node {
        value: convert_table(text, table.get_ref()),
        origin,
    }
}

fn convert_table(text: &str, table: &DeTable<'_>) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let origin = place(text, key.span().start);
        (
            key.get_ref().to_string(),
            Node {
                value: convert(text, value.get_ref()),
                origin,
            },
        )
    });
    Value::Table(entries.collect())
}

fn convert(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Value::Text(integer.as_str().to_owned()), Value::Integer),
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => Value::Datetime(datetime.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    value: convert(text, item.get_ref()),
                    origin: place(text, item.span().start),
                })
                .collect(),
        ),
        DeValue::Table(table) => convert_table(text, table),
    }
}

fn place(text: &str, offset: usize) -> Origin {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Origin::File { line, column }
}

/// Lays `PREFIX__SECTION__KEY=value` over the tree.
pub(super) fn overlay(root: &mut Node, prefix: &str, environment: &[(String, String)], problems: &mut Vec<Problem>) {
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else {
            continue;
        };
        let keys: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        let origin = Origin::Environment(name.clone());
        if keys.iter().any(String::is_empty) {
            let message = format!("is not of the form {prefix}__SECTION__KEY");
            problems.push(Problem {
                path: String::new(),
                origin,
                message,
            });
            continue;
        }
        insert(
            root,
            &keys,
            Node {
                value: Value::Untyped(text.clone()),
                origin,
            },
        );
    }
}

fn insert(node: &mut Node, keys: &[String], leaf: Node) {
    let Some((first, rest)) = keys.split_first() else {
        *node = leaf;
        return;
    };
    if !matches!(node.value, Value::Table(_)) {
        // The variable names a key inside what the file has as a plain value: the variable wins.
        node.value = Value::Table(BTreeMap::new());
        node.origin = leaf.origin.clone();
    }
    if let Value::Table(entries) = &mut node.value {
        let empty = Node {
            value: Value::Table(BTreeMap::new()),
            origin: leaf.origin.clone(),
        };
        insert(entries.entry(first.clone()).or_insert(empty), rest, leaf);
    }
}
