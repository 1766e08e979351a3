//! YAML and TOML as one tree of texts, lists and maps that knows where everything stands.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde_saphyr::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Deepest nesting of a policy file; the language itself needs five.
const DEPTH_MAX: usize = 16;
/// Most places that are named in a text that is not TOML: each character may be one.
const SYNTAX_FAULTS_MAX: usize = 20;
/// Most values in a file: what a file of the greatest size could hold.
const NODES_MAX: usize = 600_000;

/// A place in the file, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    Truth(bool),
    /// Anything else, that the language has no use for, in words.
    Other(String),
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) at: Position,
}

impl Node {
    /// What this is, for an error.
    pub(crate) fn in_words(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("the text {:?}", shortened(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Truth(value) => format!("the truth value {value}"),
            Value::Other(words) => words.clone(),
        }
    }
}

/// At most 80 characters of a text.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A file that is not even YAML or TOML.
pub(crate) struct SyntaxFault {
    pub(crate) at: Position,
    pub(crate) message: String,
}

pub(crate) fn from_yaml(text: &str) -> Result<Node, Vec<SyntaxFault>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            // What is not written out cannot be reviewed where it stands.
            max_anchors: 0,
            max_aliases: 0,
        },
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        strict_booleans: true,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(node(root)),
        Err(error) => {
            let error = error.without_snippet();
            let at = error.location().map_or(Position::START, |location| position(&location));
            let message = yaml_in_words(&error.to_string());
            Err(vec![SyntaxFault { at, message: format!("not valid YAML: {}", shortened_message(&message)) }])
        }
    }
}

/// The parser's message without its advice to programmers, and without the place, which we say.
fn yaml_in_words(message: &str) -> String {
    let message = message.replace(['\n', '\r'], " ");
    let message = message.split(" at line ").next().unwrap_or_default();
    if message.contains("Anchors") || message.contains("Aliases") || message.contains("erge key") {
        "anchors, aliases and merge keys are not taken; write out what is meant".to_owned()
    } else if message.contains("budget breached") {
        format!("too much of something, or nested more than {DEPTH_MAX} deep")
    } else if message.contains("multiple YAML documents") {
        "there is more than one document in the file".to_owned()
    } else {
        message.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned()
    }
}

fn shortened_message(message: &str) -> String {
    message.chars().take(300).filter(|c| !c.is_control()).collect()
}

fn position(location: &serde_saphyr::Location) -> Position {
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    Position { line: whole(location.line()), column: whole(location.column()) }
}

fn node(spanned: Spanned<Raw>) -> Node {
    let value = match spanned.value {
        Raw::Text(text) => Value::Text(text),
        Raw::Truth(value) => Value::Truth(value),
        Raw::Other(words) => Value::Other(words),
        Raw::List(items) => Value::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (Key { at: position(&key.referenced), text: key.value }, node(value)))
                .collect(),
        ),
    };
    Node { at: position(&spanned.referenced), value }
}

/// YAML as serde hands it over.
enum Raw {
    Text(String),
    Truth(bool),
    Other(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list or a map")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Truth(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Other(format!("the number {value}")))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Other(format!("the number {value}")))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Other(format!("the number {value}")))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Other(format!("the number {value}")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Other(format!("the number {value}")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Other("nothing".to_owned()))
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        self.visit_unit()
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<Raw, E> {
        Ok(Raw::Other("binary data".to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

pub(crate) fn from_toml(text: &str) -> Result<Node, Vec<SyntaxFault>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: &toml::de::Error| SyntaxFault {
            at: error.span().map_or(Position::START, |span| lines.position(text, span.start)),
            message: format!("not valid TOML: {}", shortened_message(&error.message().replace(['\n', '\r'], " "))),
        };
        return Err(errors.iter().take(SYNTAX_FAULTS_MAX).map(fault).collect());
    }
    let at = lines.position(text, table.span().start);
    let Some(value) = toml_table(text, &lines, table.into_inner(), 0) else {
        let message = format!("not valid TOML: more than {DEPTH_MAX} levels of nesting");
        return Err(vec![SyntaxFault { at: Position::START, message }]);
    };
    Ok(Node { at, value })
}

fn toml_table(text: &str, lines: &Lines, table: DeTable<'_>, depth: usize) -> Option<Value> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let span = value.span();
        let key = Key { at: lines.position(text, key.span().start), text: key.into_inner().into_owned() };
        let value =
            Node { at: lines.position(text, span.start), value: toml_value(text, lines, value.into_inner(), depth)? };
        entries.push((key, value));
    }
    Some(Value::Map(entries))
}

fn toml_list(text: &str, lines: &Lines, array: DeArray<'_>, depth: usize) -> Option<Value> {
    let items = array.into_iter().map(|item| {
        let at = lines.position(text, item.span().start);
        Some(Node { at, value: toml_value(text, lines, item.into_inner(), depth)? })
    });
    items.collect::<Option<Vec<Node>>>().map(Value::List)
}

/// `None` for nesting that is too deep.
fn toml_value(text: &str, lines: &Lines, value: DeValue<'_>, depth: usize) -> Option<Value> {
    if depth >= DEPTH_MAX {
        return None;
    }
    match value {
        DeValue::String(string) => Some(Value::Text(string.into_owned())),
        DeValue::Integer(number) => Some(Value::Other(format!("the number {number}"))),
        DeValue::Float(number) => Some(Value::Other(format!("the number {number}"))),
        DeValue::Boolean(value) => Some(Value::Truth(value)),
        DeValue::Datetime(at) => Some(Value::Other(format!("the date {at}"))),
        DeValue::Array(array) => toml_list(text, lines, array, depth + 1),
        DeValue::Table(table) => toml_table(text, lines, table, depth + 1),
    }
}

/// Where the lines of a text begin, and how many characters lie before each block of it, so that a place is found
/// without counting through a line as long as the file.
struct Lines {
    starts: Vec<usize>,
    blocks: Vec<usize>,
}

impl Lines {
    /// Bytes of a block.
    const BLOCK: usize = 128;

    fn of(text: &str) -> Self {
        let mut before = 0;
        let mut blocks = Vec::with_capacity(text.len() / Self::BLOCK + 1);
        for block in text.as_bytes().chunks(Self::BLOCK) {
            blocks.push(before);
            before += characters(block);
        }
        blocks.push(before);
        Self { starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect(), blocks }
    }

    fn position(&self, text: &str, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self.characters_before(text, offset).saturating_sub(self.characters_before(text, start)) + 1;
        Position { line, column }
    }

    fn characters_before(&self, text: &str, offset: usize) -> usize {
        let block = offset / Self::BLOCK;
        let rest = text.as_bytes().get(block * Self::BLOCK..offset).unwrap_or_default();
        self.blocks.get(block).copied().unwrap_or(0) + characters(rest)
    }
}

/// Characters that begin in these bytes of a text.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
