//! Logs: lines with a sequence per service, gaps where the ring has moved on, and a cursor from which to resume.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which logs to send, as query parameters. All are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// One service; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only what comes after it.
    #[serde(default, skip_serializing_if = "LogCursor::is_start")]
    pub cursor: LogCursor,
    /// Without a cursor for a service: only its last lines, this many. All that is kept without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Goes on with what is written from now on.
    #[serde(default)]
    pub follow: bool,
}

/// Per service, the sequence of the last line that was seen. As text: `database:17,web:512`; empty means the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogCursor(BTreeMap<String, u64>);

/// Text that is not a cursor.
#[derive(Debug, thiserror::Error)]
#[error("expected a log cursor: `service:sequence`, several separated by commas, at most {MOST_SERVICES}")]
pub struct MalformedCursor;

/// A manifest has fewer services.
const MOST_SERVICES: usize = 256;

/// A service's name is a DNS label.
const LONGEST_SERVICE_NAME: usize = 63;

impl LogCursor {
    /// Whether nothing was seen yet.
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }

    /// The sequence of the last line of `service` that was seen.
    pub fn after(&self, service: &str) -> Option<u64> {
        self.0.get(service).copied()
    }

    /// Whether there is room for a service: it is known, or its name is one that a manifest can have and there are not more
    /// than a manifest can have. Whoever keeps a cursor of what somebody else sends asks first.
    pub fn has_room_for(&self, service: &str) -> bool {
        let can_be_new = !service.is_empty() && service.len() <= LONGEST_SERVICE_NAME && self.0.len() < MOST_SERVICES;
        can_be_new || self.0.contains_key(service)
    }

    /// Moves forward, never back. Returns whether it moved: what does not move it was seen before.
    pub fn advance(&mut self, service: &str, sequence: u64) -> bool {
        match self.0.get_mut(service) {
            Some(seen) if *seen >= sequence => false,
            Some(seen) => {
                *seen = sequence;
                true
            }
            None => {
                self.0.insert(service.to_owned(), sequence);
                true
            }
        }
    }
}

impl fmt::Display for LogCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (service, sequence)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(formatter, "{separator}{service}:{sequence}")?;
        }
        Ok(())
    }
}

impl FromStr for LogCursor {
    type Err = MalformedCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut cursor = BTreeMap::new();
        for part in text.split(',') {
            let (service, sequence) = part.split_once(':').ok_or(MalformedCursor)?;
            let sequence = sequence.parse().map_err(|_| MalformedCursor)?;
            if service.is_empty() || service.len() > LONGEST_SERVICE_NAME || cursor.len() >= MOST_SERVICES {
                return Err(MalformedCursor);
            }
            cursor.insert(service.to_owned(), sequence);
        }
        Ok(Self(cursor))
    }
}

impl TryFrom<String> for LogCursor {
    type Error = MalformedCursor;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LogCursor> for String {
    fn from(cursor: LogCursor) -> Self {
        cursor.to_string()
    }
}

/// One line of a log stream's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LogItem {
    /// A line that a container wrote.
    Line(LogLine),
    /// Lines that are gone.
    Gap(LogGap),
    /// Nothing: shows that the connection lives. Sent at least every 15 seconds while following.
    Heartbeat,
    /// The last item of every stream that the provider ended on purpose.
    End {
        /// Why.
        reason: LogEnd,
    },
    /// An item of a newer provider.
    #[serde(other)]
    Unknown,
}

/// A line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Strictly ascending within a service, from 1.
    pub sequence: u64,
    /// The service.
    pub service: String,
    /// Which of its containers, from 0.
    pub replica: u32,
    /// RFC 3339, by the provider's clock.
    pub timestamp: String,
    /// Where the container wrote it.
    pub stream: OutputStream,
    /// The line without its end. Bytes that are not UTF-8 are replaced; what is longer than the provider's limit is cut.
    pub text: String,
}

/// Lines that are gone: overwritten in the ring, or never read because the agent was down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    /// The service.
    pub service: String,
    /// Sequence of the first line that is missing.
    pub from: u64,
    /// Sequence of the last line that is missing; `from - 1` where it is not known how many there were.
    pub to: u64,
}

/// Where a container wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a log stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEnd {
    /// All there is was sent, and nothing more was asked for.
    Complete,
    /// The lease ended, so that nothing more will come.
    LeaseClosed,
    /// The account has another owner, or the certificate was revoked.
    AccessEnded,
    /// The agent stops; resume from the cursor.
    ShuttingDown,
    /// A reason of a newer provider.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_has_room_for_the_services_of_a_manifest() {
        let mut cursor = LogCursor::default();
        assert!(!cursor.has_room_for("") && !cursor.has_room_for(&"x".repeat(64)));
        for number in 0..MOST_SERVICES {
            let service = format!("s{number}");
            assert!(cursor.has_room_for(&service));
            cursor.advance(&service, 1);
        }
        assert!(!cursor.has_room_for("another") && cursor.has_room_for("s0"));
    }

    #[test]
    fn a_cursor_moves_forward_only() {
        let mut cursor = LogCursor::default();
        assert!(cursor.advance("web", 3));
        assert!(!cursor.advance("web", 3));
        assert!(!cursor.advance("web", 2));
        assert!(cursor.advance("database", 0));
        assert_eq!(cursor.to_string(), "database:0,web:3");
    }

    #[test]
    fn items_look_as_documented() {
        let line = LogItem::Line(LogLine {
            sequence: 7,
            service: "web".to_owned(),
            replica: 0,
            timestamp: "2026-11-22T17:30:00.000000001Z".to_owned(),
            stream: OutputStream::Stderr,
            text: "hello".to_owned(),
        });
        let json = serde_json::to_string(&line).expect("json");
        assert_eq!(
            json,
            r#"{"kind":"line","sequence":7,"service":"web","replica":0,"timestamp":"2026-11-22T17:30:00.000000001Z","stream":"stderr","text":"hello"}"#
        );
        assert_eq!(serde_json::from_str::<LogItem>(&json).expect("parse"), line);
        let newer: LogItem = serde_json::from_str(r#"{"kind":"metric","value":1}"#).expect("parse");
        assert_eq!(newer, LogItem::Unknown);
    }

    proptest! {
        #[test]
        fn any_cursor_survives_its_text(entries in proptest::collection::btree_map("[a-z0-9-]{1,63}", any::<u64>(), 0..20)) {
            let cursor = LogCursor(entries);
            prop_assert_eq!(cursor.to_string().parse::<LogCursor>().expect("own text"), cursor);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = text.parse::<LogCursor>();
        }
    }
}
