//! Typed reading of the positioned tree. Nothing stops at the first error: every reader notes its problem and returns
//! `None`, so that one report names everything that is wrong with a file.

use crate::report::{MAXIMUM_PROBLEMS, Position, Problem, Report, Warning, quoted, shortened_path, shown_line};
use crate::tree::{Content, Entry, Node, TreeError};

/// Collects what is wrong with one file.
pub(crate) struct Decoder<'t> {
    lines: Vec<&'t str>,
    problems: Vec<Problem>,
    omitted: usize,
    warnings: Vec<Warning>,
}

/// A value of the file and the way to it.
#[derive(Clone)]
pub(crate) struct Value<'t> {
    node: &'t Node,
    pub(crate) path: String,
    /// Whether its text must not be repeated in messages.
    secret: bool,
}

/// A mapping whose keys are known beforehand; [`Mapping::finish`] refuses those that nobody asked for.
pub(crate) struct Mapping<'t> {
    entries: &'t [Entry],
    position: Position,
    path: String,
    secret: bool,
    known: Vec<&'static str>,
}

impl<'t> Decoder<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            lines: text.lines().collect(),
            problems: Vec::new(),
            omitted: 0,
            warnings: Vec::new(),
        }
    }

    /// Notes a problem at a place.
    pub(crate) fn problem(
        &mut self,
        position: Position,
        path: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) {
        if self.problems.len() >= MAXIMUM_PROBLEMS {
            self.omitted += 1;
            return;
        }
        let line = usize::try_from(position.line)
            .ok()
            .and_then(|line| self.lines.get(line.checked_sub(1)?));
        // In these sections a mistyped line may hold its secret anywhere.
        let line = line.filter(|_| !path.contains(".credentials") && !path.contains(".env"));
        self.problems.push(Problem {
            position,
            path: shortened_path(path),
            found: found.into(),
            expected: expected.into(),
            hint,
            source_line: line.map(|line| shown_line(line)),
        });
    }

    pub(crate) fn tree_problem(&mut self, error: TreeError) {
        self.problem(error.position, "", error.found, error.expected, error.hint);
    }

    /// Notes something that is accepted but may not be what was meant.
    pub(crate) fn warn(&mut self, value: &Value<'_>, message: impl Into<String>) {
        self.warn_at(value.position(), &value.path, message);
    }

    pub(crate) fn warn_at(&mut self, position: Position, path: &str, message: impl Into<String>) {
        if self.warnings.len() < MAXIMUM_PROBLEMS {
            self.warnings.push(Warning {
                position,
                path: shortened_path(path),
                message: message.into(),
            });
        }
    }

    pub(crate) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The warnings, if nothing was wrong; otherwise the report, in the order of the file.
    pub(crate) fn finish(mut self, file: &str) -> Result<Vec<Warning>, Report> {
        self.warnings.sort_by_key(|warning| warning.position);
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        self.problems.sort_by_key(|problem| problem.position);
        let (problems, warnings) = (self.problems, self.warnings);
        Err(Report {
            file: file.to_owned(),
            problems,
            omitted: self.omitted,
            warnings,
        })
    }
}

impl<'t> Value<'t> {
    pub(crate) fn root(node: &'t Node) -> Self {
        Self {
            node,
            path: String::new(),
            secret: false,
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.node.position
    }

    /// The same value, whose text messages must not repeat.
    pub(crate) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.is_null()
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self.node.content, Content::Scalar { .. })
    }

    pub(crate) fn is_sequence(&self) -> bool {
        matches!(self.node.content, Content::Sequence(_))
    }

    fn found(&self) -> String {
        if self.secret {
            self.node.kind().to_owned()
        } else {
            self.node.description()
        }
    }

    /// Notes that this value is not what may stand here.
    pub(crate) fn refuse(&self, decoder: &mut Decoder<'_>, expected: impl Into<String>) {
        decoder.problem(self.position(), &self.path, self.found(), expected, None);
    }

    pub(crate) fn refuse_with_hint(
        &self,
        decoder: &mut Decoder<'_>,
        expected: impl Into<String>,
        hint: impl Into<String>,
    ) {
        decoder.problem(self.position(), &self.path, self.found(), expected, Some(hint.into()));
    }

    /// The text of a scalar; a number is its own text, so that no value passes through a float.
    pub(crate) fn text(&self, decoder: &mut Decoder<'_>, expected: &str) -> Option<&'t str> {
        match &self.node.content {
            Content::Scalar { text, .. } if !self.node.is_null() => Some(text),
            _ => {
                self.refuse(decoder, expected);
                None
            }
        }
    }

    /// A text that a function accepts; its refusal says what was expected and, maybe, how to correct it.
    pub(crate) fn parse<T>(
        &self,
        decoder: &mut Decoder<'_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let text = self.text(decoder, expected)?;
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(refusal) => {
                let expected = refusal.expected.unwrap_or_else(|| expected.to_owned());
                decoder.problem(self.position(), &self.path, self.found(), expected, refusal.hint);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, decoder: &mut Decoder<'_>) -> Option<bool> {
        self.parse(decoder, "true or false", |text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            "yes" | "on" => Err(Refusal::default().hint("write true")),
            "no" | "off" => Err(Refusal::default().hint("write false")),
            _ => Err(Refusal::default()),
        })
    }

    /// The items of a list.
    pub(crate) fn items(&self, decoder: &mut Decoder<'_>, expected: &str) -> Option<Vec<Value<'t>>> {
        let Content::Sequence(items) = &self.node.content else {
            self.refuse(decoder, expected);
            return None;
        };
        let item = |(index, node): (usize, &'t std::rc::Rc<Node>)| Value {
            node,
            path: format!("{}[{index}]", self.path),
            secret: self.secret,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A mapping with fixed keys.
    pub(crate) fn mapping(&self, decoder: &mut Decoder<'_>, expected: &str) -> Option<Mapping<'t>> {
        let entries = self.entries_of_mapping(decoder, expected)?;
        let (path, secret) = (self.path.clone(), self.secret);
        Some(Mapping {
            entries,
            position: self.position(),
            path,
            secret,
            known: Vec::new(),
        })
    }

    /// The entries of a mapping whose keys are names that its user chose: key, the key's place, value.
    pub(crate) fn named(
        &self,
        decoder: &mut Decoder<'_>,
        expected: &str,
    ) -> Option<Vec<(&'t str, Position, Value<'t>)>> {
        let entries = self.entries_of_mapping(decoder, expected)?;
        let named = |entry: &'t Entry| {
            (
                entry.key.as_str(),
                entry.position,
                entry_value(entry, &self.path, self.secret),
            )
        };
        Some(entries.iter().map(named).collect())
    }

    fn entries_of_mapping(&self, decoder: &mut Decoder<'_>, expected: &str) -> Option<&'t [Entry]> {
        match &self.node.content {
            Content::Mapping(entries) => Some(entries),
            _ => {
                self.refuse(decoder, expected);
                None
            }
        }
    }
}

fn entry_value<'t>(entry: &'t Entry, parent: &str, secret: bool) -> Value<'t> {
    let path = if parent.is_empty() {
        entry.key.clone()
    } else {
        format!("{parent}.{}", entry.key)
    };
    Value {
        node: &entry.value,
        path,
        secret,
    }
}

impl<'t> Mapping<'t> {
    /// The value under a key, if there is one that is not null.
    pub(crate) fn optional(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(entry_value(entry, &self.path, self.secret)).filter(|value| !value.is_null())
    }

    /// The value under a key; its absence is a problem.
    pub(crate) fn required(&mut self, decoder: &mut Decoder<'_>, key: &'static str, what: &str) -> Option<Value<'t>> {
        let value = self.optional(key);
        if value.is_none() {
            let place = self
                .entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| entry.position);
            let found = if place.is_some() {
                format!("nothing under `{key}`")
            } else {
                format!("no `{key}`")
            };
            decoder.problem(
                place.unwrap_or(self.position),
                &self.path,
                found,
                format!("`{key}`: {what}"),
                None,
            );
        }
        value
    }

    /// The value under any of several spellings of one key; two of them are a problem.
    pub(crate) fn any_of(&mut self, decoder: &mut Decoder<'_>, keys: &[&'static str]) -> Option<Value<'t>> {
        let mut first: Option<(&'static str, Value<'t>)> = None;
        for key in keys {
            let Some(value) = self.optional(key) else { continue };
            match &first {
                None => first = Some((key, value)),
                Some((other, _)) => {
                    let expected = format!("only one of them: they mean the same (`{}` is preferred)", keys[0]);
                    let found = format!("`{key}` beside `{other}`");
                    decoder.problem(value.position(), &self.path, found, expected, None);
                }
            }
        }
        first.map(|(_, value)| value)
    }

    /// Accepts a key that this network knows but does not act on.
    pub(crate) fn unsupported(&mut self, decoder: &mut Decoder<'_>, key: &'static str, consequence: &str) {
        if let Some(value) = self.optional(key) {
            decoder.warn(&value, format!("`{key}` is accepted but has no effect: {consequence}"));
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Refuses every key that was not asked for.
    pub(crate) fn finish(self, decoder: &mut Decoder<'_>) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let expected = format!("one of {}", self.known.join(", "));
            let hint = nearest(&entry.key, &self.known).map(|near| format!("did you mean `{near}`?"));
            let found = format!("the unknown key {}", quoted(&entry.key));
            decoder.problem(entry.position, &self.path, found, expected, hint);
        }
    }
}

/// Why a text was refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was expected, where the reader knows better than its caller.
    pub(crate) expected: Option<String>,
    /// How to correct it.
    pub(crate) hint: Option<String>,
}

impl Refusal {
    pub(crate) fn expected(expected: impl Into<String>) -> Self {
        Self {
            expected: Some(expected.into()),
            hint: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The candidate that a mistyped name most likely stood for.
pub(crate) fn nearest<'c>(name: &str, candidates: &[&'c str]) -> Option<&'c str> {
    const LONGEST_COMPARED: usize = 64;
    if name.len() > LONGEST_COMPARED {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    candidates
        .iter()
        .filter(|candidate| candidate.len() <= LONGEST_COMPARED)
        .map(|candidate| (edit_distance(&wanted, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, removed or replaced to make one text the other (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_find_their_neighbour() {
        let keys = ["image", "command", "args", "env", "expose", "pull_policy"];
        assert_eq!(nearest("imgae", &keys), Some("image"));
        assert_eq!(nearest("pullPolicy", &keys), Some("pull_policy"));
        assert_eq!(nearest("ports", &keys), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
