//! YAML text as a tree in which every node knows its place in the file, bounded in size before anything is decoded.
//!
//! A deployment file is written by whoever sends it: a "bomb" (a few hundred bytes of aliases that expand to gigabytes),
//! endless nesting, or a huge file must cost nothing but an error. Aliases share their node instead of copying it, and
//! the size and depth *after* expansion are what is limited, because decoding walks the expanded tree.

use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::report::{Position, quoted};

/// The largest file that is read, in bytes.
pub const MAXIMUM_FILE_BYTES: usize = 1024 * 1024;

/// The most values in a file, aliases counted as often as they are used.
pub const MAXIMUM_NODES: u64 = 50_000;

/// The most text in a file's values, in bytes, aliases counted as often as they are used.
pub const MAXIMUM_TEXT_BYTES: u64 = 2 * 1024 * 1024;

/// The deepest nesting, aliases included.
pub const MAXIMUM_DEPTH: u32 = 32;

const ALIASES_COUNT: &str = "an alias counts as often as it is used: write the few values that are needed instead";

/// The longest key, in bytes: paths in messages are made of keys.
const MAXIMUM_KEY_BYTES: usize = 256;

/// One value of the file.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) content: Content,
    weight: Weight,
}

/// How large a value is, itself included, aliases expanded.
#[derive(Debug, Clone, Copy)]
struct Weight {
    nodes: u64,
    text_bytes: u64,
    depth: u32,
}

impl Weight {
    fn of_text(text: &str) -> Self {
        Self {
            nodes: 1,
            text_bytes: text.len() as u64,
            depth: 1,
        }
    }

    fn add(&mut self, child: Self) {
        self.nodes = self.nodes.saturating_add(child.nodes);
        self.text_bytes = self.text_bytes.saturating_add(child.text_bytes);
        self.depth = self.depth.max(child.depth.saturating_add(1));
    }
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Content {
    Scalar { text: String, quoted: bool },
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
}

/// One key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) position: Position,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// Whether it is an unquoted nothing: `key:`, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar { text, quoted } => !quoted && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Content::Sequence(_) | Content::Mapping(_) => false,
        }
    }

    /// What it is, for messages that must not repeat what it says.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => "nothing",
            Content::Scalar { .. } => "a text or number",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }

    /// What it is, with its text where it is one.
    pub(crate) fn description(&self) -> String {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => quoted(text),
            _ => self.kind().to_owned(),
        }
    }
}

/// Why the text is no tree: a single problem, because nothing after it can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TreeError {
    pub(crate) position: Position,
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) hint: Option<String>,
}

impl TreeError {
    fn new(position: Position, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            position,
            found: found.into(),
            expected: expected.into(),
            hint: None,
        }
    }

    fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// Reads the one document of a file.
pub(crate) fn read(text: &str) -> Result<Rc<Node>, TreeError> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    let mut last = Position { line: 1, column: 1 };
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax_error(&error))?;
        last = position(&span);
        builder.take(event, last)?;
    }
    builder
        .root
        .ok_or_else(|| TreeError::new(last, "an empty file", "a deployment file with `version: \"1.0\"`"))
}

fn syntax_error(error: &saphyr_parser::ScanError) -> TreeError {
    let marker = error.marker();
    let at = Position {
        line: number(marker.line()),
        column: number(marker.col()).saturating_add(1),
    };
    let found = format!("text that is not valid YAML ({})", error.info());
    TreeError::new(at, found, "YAML with two spaces per level and no tabs")
}

fn position(span: &Span) -> Position {
    Position {
        line: number(span.start.line()),
        column: number(span.start.col()).saturating_add(1),
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    documents: u32,
    /// Values attached so far, aliases not expanded: bounds what unfinished collections hold together.
    values: u64,
}

/// A collection whose end has not been read yet.
struct Open {
    position: Position,
    anchor: usize,
    content: OpenContent,
    weight: Weight,
}

enum OpenContent {
    Sequence(Vec<Rc<Node>>),
    Mapping {
        entries: Vec<Entry>,
        seen: BTreeMap<String, Position>,
        key: Option<(String, Position)>,
    },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), TreeError> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(TreeError::new(at, "a second document", "one document in a file"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), at)?;
                let quoted = style != ScalarStyle::Plain;
                if self.wants_key() {
                    return self.take_key(text.into_owned(), at);
                }
                let weight = Weight::of_text(&text);
                let content = Content::Scalar {
                    text: text.into_owned(),
                    quoted,
                };
                self.complete(
                    Node {
                        position: at,
                        content,
                        weight,
                    },
                    anchor,
                )?;
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), at)?;
                self.open(OpenContent::Sequence(Vec::new()), anchor, at)?;
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), at)?;
                let content = OpenContent::Mapping {
                    entries: Vec::new(),
                    seen: BTreeMap::new(),
                    key: None,
                };
                self.open(content, anchor, at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => self.take_alias(anchor, at)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                content: OpenContent::Mapping { key: None, .. },
                ..
            })
        )
    }

    fn take_key(&mut self, text: String, at: Position) -> Result<(), TreeError> {
        if text.len() > MAXIMUM_KEY_BYTES {
            let expected = format!("a key of at most {MAXIMUM_KEY_BYTES} bytes");
            return Err(TreeError::new(at, format!("a key of {} bytes", text.len()), expected));
        }
        if let Some(Open {
            content: OpenContent::Mapping { seen, key, .. },
            ..
        }) = self.open.last_mut()
        {
            if let Some(first) = seen.get(&text) {
                let found = format!("a second {}", quoted(&text));
                return Err(TreeError::new(
                    at,
                    found,
                    format!("each key once (the first is in line {})", first.line),
                ));
            }
            seen.insert(text.clone(), at);
            *key = Some((text, at));
        }
        Ok(())
    }

    fn open(&mut self, content: OpenContent, anchor: usize, at: Position) -> Result<(), TreeError> {
        if self.wants_key() {
            return Err(TreeError::new(at, "a collection as a key", "a text as a key"));
        }
        if self.open.len() as u64 >= u64::from(MAXIMUM_DEPTH) {
            return Err(too_deep(at));
        }
        self.open.push(Open {
            position: at,
            anchor,
            content,
            weight: Weight::of_text(""),
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), TreeError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = match open.content {
            OpenContent::Sequence(items) => Content::Sequence(items),
            OpenContent::Mapping { entries, .. } => Content::Mapping(entries),
        };
        let node = Node {
            position: open.position,
            content,
            weight: open.weight,
        };
        self.complete(node, open.anchor)
    }

    fn take_alias(&mut self, anchor: usize, at: Position) -> Result<(), TreeError> {
        if self.wants_key() {
            return Err(TreeError::new(at, "an alias as a key", "a text as a key"));
        }
        // The parser refuses names it does not know; an anchor that is not complete yet contains this very alias.
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(TreeError::new(
                at,
                "an alias that contains itself",
                "an alias of something before it",
            ));
        };
        self.attach(node, at)
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), TreeError> {
        let at = node.position;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node, at)
    }

    /// Puts a complete value where the reading stands, and refuses what the whole has grown to.
    fn attach(&mut self, node: Rc<Node>, at: Position) -> Result<(), TreeError> {
        self.values += 1;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        parent.weight.add(node.weight);
        if parent.weight.nodes > MAXIMUM_NODES || self.values > MAXIMUM_NODES {
            return Err(TreeError::new(
                at,
                "too many values",
                format!("at most {MAXIMUM_NODES} values in a file"),
            )
            .with_hint(ALIASES_COUNT));
        }
        if parent.weight.text_bytes > MAXIMUM_TEXT_BYTES {
            let expected = format!("at most {MAXIMUM_TEXT_BYTES} bytes of text in a file's values");
            return Err(TreeError::new(at, "too much text", expected).with_hint(ALIASES_COUNT));
        }
        if parent.weight.depth > MAXIMUM_DEPTH {
            return Err(too_deep(at));
        }
        match &mut parent.content {
            OpenContent::Sequence(items) => items.push(node),
            OpenContent::Mapping { entries, key, .. } => {
                if let Some((key, position)) = key.take() {
                    entries.push(Entry {
                        key,
                        position,
                        value: node,
                    });
                }
            }
        }
        Ok(())
    }
}

fn too_deep(at: Position) -> TreeError {
    TreeError::new(
        at,
        "too many levels",
        format!("at most {MAXIMUM_DEPTH} levels of lists and mappings"),
    )
}

/// Tags of YAML's own types say nothing new here; others ask for behaviour that does not exist.
fn check_tag(tag: Option<&Tag>, at: Position) -> Result<(), TreeError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(TreeError::new(
            at,
            format!("the tag {}", quoted(&tag.to_string())),
            "a value without a tag",
        )),
        _ => Ok(()),
    }
}
