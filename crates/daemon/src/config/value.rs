//! The types that can stand in a configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use url::Url;

use super::{FromConfig, Node, Origin, Problems, Value, node};
use crate::Secret;

/// Implements [`FromConfig`] for a type that is written as text and implements `FromStr` and `Display`:
/// `daemon::config_from_text!(PortRange, "a port range such as 30000-30999");`
#[macro_export]
macro_rules! config_from_text {
    ($type:ty, $kind:literal) => {
        impl $crate::config::FromConfig for $type {
            fn kind() -> String {
                $kind.to_owned()
            }

            fn from_node(node: &$crate::config::Node, problems: &mut $crate::config::Problems) -> Option<Self> {
                use $crate::config::Value;
                let (Value::Text(text) | Value::Untyped(text)) = &node.value else {
                    problems.wrong_type($kind, &node.value);
                    return None;
                };
                match text.trim().parse() {
                    Ok(value) => Some(value),
                    Err(error) => {
                        problems.here(format!("expected {}: {error}", $kind));
                        None
                    }
                }
            }

            fn example(&self) -> Option<String> {
                Some(format!("{:?}", self.to_string()))
            }
        }
    };
}

config_from_text!(Url, "a URL");
config_from_text!(SocketAddr, "an address with port such as 127.0.0.1:8080");
config_from_text!(IpAddr, "an IP address");
config_from_text!(Address, "an address of 20 bytes in hexadecimal");
config_from_text!(B256, "32 bytes in hexadecimal");
config_from_text!(ByteSize, "a size such as 512MiB");

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FromConfig for $type {
            fn kind() -> String {
                format!("an integer from {} to {}", <$type>::MIN, <$type>::MAX)
            }

            fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
                let parsed = match &node.value {
                    Value::Integer(integer) => <$type>::try_from(*integer).ok(),
                    Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
                    other => {
                        problems.wrong_type(&Self::kind(), other);
                        return None;
                    }
                };
                if parsed.is_none() {
                    problems.here(format!("expected {}", Self::kind()));
                }
                parsed
            }

            fn example(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, usize, i64, u128);

impl FromConfig for f64 {
    fn kind() -> String {
        "a number".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let number = match &node.value {
            Value::Float(number) => Some(*number),
            Value::Integer(integer) => Some(*integer as f64),
            Value::Untyped(text) => text.trim().parse().ok(),
            _ => None,
        };
        let finite = number.filter(|number: &f64| number.is_finite());
        if finite.is_none() {
            problems.here(format!("expected {}, found {}", Self::kind(), node.value.kind()));
        }
        finite
    }

    fn example(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl FromConfig for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let boolean = match &node.value {
            Value::Boolean(boolean) => Some(*boolean),
            Value::Untyped(text) => text.trim().parse().ok(),
            _ => None,
        };
        if boolean.is_none() {
            problems.wrong_type(&Self::kind(), &node.value);
        }
        boolean
    }

    fn example(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl FromConfig for String {
    fn kind() -> String {
        "text".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Text(text) | Value::Untyped(text) => Some(text.clone()),
            other => {
                problems.wrong_type(&Self::kind(), other);
                None
            }
        }
    }

    fn example(&self) -> Option<String> {
        Some(toml::Value::String(self.clone()).to_string())
    }
}

/// A relative path in the file starts from the file's directory, one in an environment variable from the working
/// directory.
impl FromConfig for PathBuf {
    fn kind() -> String {
        "a path".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = String::from_node(node, problems)?;
        if text.is_empty() {
            problems.here("expected a path, found nothing");
            return None;
        }
        match node.origin {
            Origin::File { .. } => Some(problems.directory().join(text)),
            Origin::Environment(_) | Origin::Absent => Some(PathBuf::from(text)),
        }
    }

    fn example(&self) -> Option<String> {
        Some(toml::Value::String(self.display().to_string()).to_string())
    }
}

/// Amounts of tokens: decimal or 0x-hexadecimal, as text where they exceed TOML's 64 bits.
impl FromConfig for U256 {
    fn kind() -> String {
        "an amount in base units (an integer, in quotes where large)".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let amount = match &node.value {
            Value::Integer(integer) => u128::try_from(*integer).ok().map(U256::from),
            Value::Text(text) | Value::Untyped(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        if amount.is_none() {
            problems.here(format!("expected {}", Self::kind()));
        }
        amount
    }

    fn example(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

/// `250ms`, `12s`, `5m`, `1h`, `2d`: always with a unit, so that nobody takes seconds for milliseconds.
impl FromConfig for Duration {
    fn kind() -> String {
        "a duration with unit such as 250ms, 12s, 5m, 1h or 2d".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let duration = match &node.value {
            Value::Text(text) | Value::Untyped(text) => parse_duration(text.trim()),
            other => {
                problems.wrong_type(&Self::kind(), other);
                return None;
            }
        };
        if duration.is_none() {
            problems.here(format!("expected {}", Self::kind()));
        }
        duration
    }

    fn example(&self) -> Option<String> {
        let milliseconds = self.as_millis();
        let (unit, factor) = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
            .into_iter()
            .find(|(_, factor)| milliseconds > 0 && milliseconds.is_multiple_of(*factor))
            .unwrap_or(("ms", 1));
        Some(format!("\"{}{unit}\"", milliseconds / factor))
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len()
        - text
            .trim_start_matches(|character: char| character.is_ascii_digit())
            .len();
    let amount: u64 = text[..digits].parse().ok()?;
    let milliseconds = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(amount.checked_mul(milliseconds)?))
}

/// A size in bytes, written with a binary or decimal unit: `512MiB`, `10GB`, `4096B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl std::str::FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .find(|(unit, _)| text.ends_with(unit))
            .ok_or("it has no unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)")?;
        let amount: u64 = text[..text.len() - unit.len()]
            .trim()
            .parse()
            .map_err(|_| "it does not start with a whole number")?;
        amount.checked_mul(factor).map(Self).ok_or("it does not fit 64 bits")
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, factor) = SIZE_UNITS
            .into_iter()
            .take(4)
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(formatter, "{}{unit}", self.0 / factor)
    }
}

/// `{ file = "path" }` or `{ env = "NAME" }`; never the secret itself, which would end in backups and in version control.
impl FromConfig for Secret {
    fn kind() -> String {
        "{ file = \"path\" } or { env = \"NAME\" }".to_owned()
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let read = match &node.value {
            Value::Untyped(text) if !text.is_empty() => return Some(Self::new(text.clone())),
            Value::Table(entries) => match entries.iter().next() {
                Some((key, child)) if entries.len() == 1 && key == "file" => {
                    Self::from_file(&PathBuf::from_node(child, problems)?)
                }
                Some((key, child)) if entries.len() == 1 && key == "env" => {
                    Self::from_env(&String::from_node(child, problems)?)
                }
                _ => {
                    problems.here(format!("expected exactly {}", Self::kind()));
                    return None;
                }
            },
            _ => {
                problems.here(format!(
                    "a secret does not stand in the file itself: expected {}",
                    Self::kind()
                ));
                return None;
            }
        };
        read.map_err(|error| problems.here(error.to_string())).ok()
    }
}

impl<T: FromConfig> FromConfig for Option<T> {
    fn kind() -> String {
        format!("optional: {}", T::kind())
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::from_node(node, problems).map(Some)
    }

    fn absent(_problems: &mut Problems) -> Option<Self> {
        Some(None)
    }

    fn example(&self) -> Option<String> {
        self.as_ref().and_then(T::example)
    }

    fn example_section(path: &str, out: &mut String) -> bool {
        T::example_section(path, out)
    }
}

impl<T: FromConfig> FromConfig for Vec<T> {
    fn kind() -> String {
        format!("a list, each {}", T::kind())
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let owned;
        let items = match &node.value {
            Value::List(items) => items,
            Value::Untyped(text) => {
                owned = untyped_list(text, &node.origin);
                &owned
            }
            other => {
                problems.wrong_type(&Self::kind(), other);
                return None;
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            problems.enter(&index.to_string());
            problems.remember(item);
            values.push(T::from_node(item, problems));
            problems.leave();
        }
        values.into_iter().collect()
    }

    fn example(&self) -> Option<String> {
        let items: Option<Vec<String>> = self.iter().map(T::example).collect();
        Some(format!("[{}]", items?.join(", ")))
    }
}

/// The list in an environment variable: a TOML list where it starts like one, else separated by commas.
fn untyped_list(text: &str, origin: &Origin) -> Vec<Node> {
    let text = text.trim();
    if text.starts_with('[') {
        let mut syntax = Vec::new();
        let document = node::parse(&format!("list = {text}"), &mut syntax);
        if let (true, Value::Table(mut entries)) = (syntax.is_empty(), document.value)
            && let Some(Node {
                value: Value::List(items),
                ..
            }) = entries.remove("list")
        {
            return items
                .into_iter()
                .map(|item| Node {
                    value: item.value,
                    origin: origin.clone(),
                })
                .collect();
        }
    }
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| Node {
            value: Value::Untyped(item.to_owned()),
            origin: origin.clone(),
        })
        .collect()
}

impl<T: FromConfig> FromConfig for BTreeMap<String, T> {
    fn kind() -> String {
        format!("a section of {}", T::kind())
    }

    fn from_node(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            problems.wrong_type(&Self::kind(), &node.value);
            return None;
        };
        let mut values = Vec::with_capacity(entries.len());
        for (key, child) in entries {
            problems.enter(key);
            problems.remember(child);
            values.push(T::from_node(child, problems).map(|value| (key.clone(), value)));
            problems.leave();
        }
        values.into_iter().collect()
    }

    fn absent(_problems: &mut Problems) -> Option<Self> {
        Some(Self::new())
    }
}
