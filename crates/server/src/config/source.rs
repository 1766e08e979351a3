//! The file's text, and where in it something stands: line, column and key.

use std::{fmt, ops::Range, path::PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::spelling::nearest;

/// The file and its text.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
}

/// What is wrong in the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub(crate) file: PathBuf,
    /// Line and column, counted from 1.
    pub(crate) place: Option<(usize, usize)>,
    /// The key, as `section[2].key`.
    pub(crate) key: String,
    /// What was found and what was expected.
    pub(crate) what: String,
    /// The nearest valid spelling.
    pub(crate) nearest: Option<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, key, what, nearest } = self;
        write!(f, "{}", file.display())?;
        if let Some((line, column)) = place {
            write!(f, ":{line}:{column}")?;
        }
        if key.is_empty() {
            write!(f, ": {what}")?;
        } else {
            write!(f, ": {key}: {what}")?;
        }
        match nearest {
            Some(nearest) => write!(f, "; did you mean \"{nearest}\"?"),
            None => Ok(()),
        }
    }
}

impl Source {
    pub(crate) const fn new(file: PathBuf, text: String) -> Self {
        Self { file, text }
    }

    /// Something stands at `span` that was not expected there.
    pub(crate) fn fault(
        &self,
        span: Range<usize>,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Box<ConfigError> {
        self.say(span, format!("found {found}, expected {expected}"))
    }

    /// The same, where the expected is one of a few words.
    pub(crate) fn unknown(&self, span: Range<usize>, found: &str, kind: &str, known: &[&str]) -> Box<ConfigError> {
        let expected = match known {
            [] => format!("{kind}, and there is none"),
            known => {
                format!("{kind}: {}", known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
            }
        };
        let mut error = self.fault(span, format_args!("\"{found}\""), expected);
        error.nearest = nearest(found, known.iter().copied()).map(str::to_owned);
        error
    }

    /// What is wrong at `span`, in words of its own.
    pub(crate) fn say(&self, span: Range<usize>, what: impl Into<String>) -> Box<ConfigError> {
        Box::new(ConfigError {
            file: self.file.clone(),
            place: Some(self.place(span.start)),
            key: self.key(&span),
            what: what.into(),
            nearest: None,
        })
    }

    /// What is wrong, without a place: something is missing as a whole.
    pub(crate) fn lacks(&self, key: &str, what: impl Into<String>) -> Box<ConfigError> {
        Box::new(ConfigError {
            file: self.file.clone(),
            place: None,
            key: key.to_owned(),
            what: what.into(),
            nearest: None,
        })
    }

    /// What the TOML reader had to say.
    pub(crate) fn of_toml(&self, error: &toml::de::Error) -> Box<ConfigError> {
        let message = error.message().trim_end_matches('\n').replace('\n', ", ");
        let Some(span) = error.span() else {
            return self.lacks("", message);
        };
        let mut place = self.say(span, String::new());
        let Some((word, known)) = unknown_word(&message) else {
            place.what = without_text(&message);
            return place;
        };
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        place.nearest = nearest(word, known.iter().copied()).map(str::to_owned);
        place.what = match known.as_slice() {
            [] => format!("found \"{word}\", which is not known here"),
            known => format!("found \"{word}\", expected one of: {}", known.join(", ")),
        };
        place
    }

    /// Line and column of an offset, counted from 1, in characters.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// The path of the key that holds `span`, or stands there.
    fn key(&self, span: &Range<usize>) -> String {
        let Ok(table) = DeTable::parse(&self.text) else {
            return String::new();
        };
        key_in_table(table.get_ref(), span).unwrap_or_default()
    }
}

/// What serde says of a wrong type, without the text that it found: the place is enough, and what stands where
/// the source of a passphrase belongs may be the passphrase.
fn without_text(message: &str) -> String {
    match (message.find(" \""), message.rfind("\", expected ")) {
        (Some(from), Some(to)) if from < to => {
            [message.get(..from), message.get(to + 1..)].into_iter().flatten().collect()
        }
        _ => message.to_owned(),
    }
}

/// The word and the rest of serde's `unknown field` and `unknown variant` messages.
fn unknown_word(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    rest.split_once('`')
}

fn key_in_table(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let mut headed = None;
    for (key, value) in table {
        let name = key.get_ref();
        if let Some(inner) = key_in_value(value.get_ref(), span) {
            let dot = if inner.starts_with('[') { "" } else { "." };
            return Some(format!("{name}{dot}{inner}"));
        }
        if holds(&key.span(), span) || holds(&value.span(), span) {
            headed = Some(name.to_string());
        }
    }
    headed
}

fn key_in_value(value: &DeValue<'_>, span: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => key_in_table(table, span),
        DeValue::Array(array) => array.iter().enumerate().find_map(|(index, item)| {
            let place = index + 1;
            match key_in_value(item.get_ref(), span) {
                Some(inner) => Some(format!("[{place}].{inner}")),
                None => holds(&item.span(), span).then(|| format!("[{place}]")),
            }
        }),
        _ => None,
    }
}

const fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.start < outer.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("c.toml".into(), text.to_owned())
    }

    fn key_of(text: &str, needle: &str) -> String {
        let start = text.find(needle).unwrap();
        source(text).key(&(start..start + needle.len()))
    }

    #[test]
    fn a_key_is_named_with_its_path_and_the_number_of_its_section() {
        let text = "a = 1\n[t]\nb = \"x\"\n[[l]]\nc = 1\n[[l]]\nc = { d = [\"p\", \"q\"] }\n";
        assert_eq!(key_of(text, "\"x\""), "t.b");
        assert_eq!(key_of(text, "\"q\""), "l[2].c.d[2]");
        assert_eq!(key_of(text, "[t]"), "t");
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = source("a = \"ü\"\nbb = 2\n");
        assert_eq!(text.place(0), (1, 1));
        assert_eq!(text.place(text.text.find("bb").unwrap()), (2, 1));
        assert_eq!(text.place(text.text.find('2').unwrap()), (2, 6));
    }
}
