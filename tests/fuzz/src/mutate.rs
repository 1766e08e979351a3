//! From a sample to something like it, by chance from a seed.

use std::ops::Range;

use rand::{Rng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    elements::{self, Content, Element},
    tree::Tree,
};

/// What a sample looks like inside, so that a change can be made where a reader looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Nothing is known.
    Octets,
    /// Text: names, times.
    Text,
    /// Text whose lines mean something: YAML, TOML, HTTP.
    Lines,
    /// JSON.
    Json,
    /// DER.
    Der,
}

/// Octets at which numbers and lengths change their meaning.
const EDGES: [u8; 11] = [0, 1, 2, 0x1f, 0x30, 0x7f, 0x80, 0x81, 0x82, 0xfe, 0xff];
/// Texts that two readers may take for different things.
const NASTY: [&str; 30] = [
    "\0",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\u{a0}",
    "\u{ad}",
    "\u{200b}",
    "\u{200d}",
    "\u{202e}",
    "\u{feff}",
    "\u{3002}",
    "\u{ff0e}",
    "\u{130}",
    "\u{212a}",
    "\u{17f}",
    "\u{df}",
    "\u{301}",
    "\u{430}",
    "\u{10ffff}",
    "%00",
    "%2e",
    "\\",
    "\"",
    "'",
    "<",
    "*",
    "..",
    "-",
    "\u{1f600}",
];
/// Most elements of a sample that are repeated at once.
const REPEAT_MAX: usize = 300;

/// Makes inputs.
pub(crate) struct Mutator {
    pub(crate) chance: ChaCha8Rng,
    pub(crate) form: Form,
    pub(crate) words: &'static [&'static [u8]],
    pub(crate) longest: usize,
}

impl Mutator {
    /// Something like `input`, perhaps with parts of `other`.
    pub(crate) fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut octets = input.to_vec();
        // Mostly one change: what is changed in many places is rarely taken.
        let changes = if self.chance.random() { 1 } else { self.chance.random_range(1..=5) };
        for _ in 0..changes {
            let by_form = self.chance.random_ratio(3, 5);
            let changed = match self.form {
                Form::Json if by_form => self.json(&octets),
                Form::Der if by_form => self.der(&octets, other),
                Form::Lines if by_form => Some(self.lines(&octets, other)),
                Form::Text | Form::Lines if self.chance.random() => Some(self.text(&octets)),
                _ => None,
            };
            match changed {
                Some(changed) => octets = changed,
                None => self.octets(&mut octets, other),
            }
        }
        octets.truncate(self.longest);
        octets
    }

    /// A place in something of this length, its end included.
    fn place(&mut self, length: usize) -> usize {
        self.chance.random_range(0..=length)
    }

    /// A part of something of this length, mostly short.
    fn part(&mut self, length: usize) -> Range<usize> {
        let start = self.place(length);
        let most = if self.chance.random_ratio(1, 8) { length - start } else { (length - start).min(16) };
        start..start + self.place(most)
    }

    fn word(&mut self) -> Vec<u8> {
        if self.words.is_empty() || self.chance.random_ratio(1, 4) {
            return NASTY.choose(&mut self.chance).map_or_else(Vec::new, |text| text.as_bytes().to_vec());
        }
        self.words.choose(&mut self.chance).map_or_else(Vec::new, |word| word.to_vec())
    }

    fn octets(&mut self, octets: &mut Vec<u8>, other: &[u8]) {
        let length = octets.len();
        match self.chance.random_range(0..12) {
            0 | 1 => {
                let (at, bit) = (self.place(length), self.chance.random_range(0..8));
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= 1 << bit;
                }
            }
            2 => {
                let (at, edge) = (self.place(length), *EDGES.choose(&mut self.chance).unwrap_or(&0));
                if let Some(octet) = octets.get_mut(at) {
                    *octet = edge;
                }
            }
            3 => {
                let part = self.part(length);
                octets.drain(part);
            }
            4 => {
                let (at, count) = (self.place(length), self.chance.random_range(1..=8));
                let random: Vec<u8> = (0..count).map(|_| self.chance.random()).collect();
                octets.splice(at..at, random);
            }
            5 => {
                let (part, at) = (self.part(length), self.place(length));
                let copy = octets.get(part).unwrap_or_default().to_vec();
                octets.splice(at..at, copy);
            }
            6 => octets.truncate(self.place(length)),
            7 => {
                let (at, from) = (self.place(length), self.place(other.len()));
                octets.truncate(at);
                octets.extend_from_slice(other.get(from..).unwrap_or_default());
            }
            8 => {
                let (at, word) = (self.place(length), self.word());
                octets.splice(at..at, word);
            }
            9 => {
                let (at, word) = (self.place(length), self.word());
                octets.splice(at..length.min(at + word.len()), word);
            }
            10 => self.number(octets),
            _ => {
                let (at, count) = (self.place(length), self.chance.random_range(1..=64));
                let octet = octets.get(at).copied().unwrap_or(b'a');
                let count = if self.chance.random_ratio(1, 16) { self.longest } else { count };
                octets.splice(at..at, std::iter::repeat_n(octet, count));
            }
        }
    }

    /// What may be a length: one more, one less, twice, the largest.
    fn number(&mut self, octets: &mut [u8]) {
        let width = *[1, 2, 3, 4, 8].choose(&mut self.chance).unwrap_or(&1);
        let Some(last) = octets.len().checked_sub(width) else { return };
        let at = self.place(last);
        let Some(field) = octets.get_mut(at..at + width) else { return };
        let number = field.iter().fold(0u64, |number, octet| number << 8 | u64::from(*octet));
        let changed = match self.chance.random_range(0..5) {
            0 => number.wrapping_add(1),
            1 => number.wrapping_sub(1),
            2 => number.wrapping_mul(2),
            3 => u64::MAX,
            _ => 0,
        };
        let octets = changed.to_be_bytes();
        field.copy_from_slice(octets.get(8 - width..).unwrap_or_default());
    }

    fn text(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut chars: Vec<char> = String::from_utf8_lossy(octets).chars().collect();
        let at = self.place(chars.len());
        match self.chance.random_range(0..4) {
            0 => {
                if let Some(char) = chars.get_mut(at) {
                    let other =
                        if char.is_uppercase() { char.to_lowercase().next() } else { char.to_uppercase().next() };
                    *char = other.unwrap_or(*char);
                }
            }
            1 => {
                let random = char::from_u32(self.chance.random_range(0..0x3_0000)).unwrap_or('a');
                chars.insert(at, random);
            }
            2 => {
                let word = String::from_utf8_lossy(&self.word()).chars().collect::<Vec<_>>();
                chars.splice(at..at, word);
            }
            _ => {
                let part = self.part(chars.len());
                let copy = chars.get(part).unwrap_or_default().to_vec();
                chars.splice(at..at, copy);
            }
        }
        chars.into_iter().collect::<String>().into_bytes()
    }

    fn lines(&mut self, octets: &[u8], other: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = octets.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
        let (at, to) = (self.place(lines.len().saturating_sub(1)), self.place(lines.len()));
        let Some(line) = lines.get(at).cloned() else { return self.word() };
        match self.chance.random_range(0..8) {
            0 => {
                lines.remove(at);
            }
            1 => lines.insert(to, line),
            2 => {
                let times = self.chance.random_range(2..REPEAT_MAX);
                lines.splice(to..to, std::iter::repeat_n(line, times));
            }
            3 => {
                let other: Vec<&[u8]> = other.split_inclusive(|octet| *octet == b'\n').collect();
                lines.splice(to..to, other.choose(&mut self.chance).map(|line| line.to_vec()));
            }
            4 => {
                // Indented otherwise.
                let indented = if self.chance.random() {
                    [&b"  "[..], &line].concat()
                } else {
                    line.strip_prefix(b"  ").unwrap_or(&line).to_vec()
                };
                lines.splice(at..=at, [indented]);
            }
            5 => {
                let (after, word) = (self.place(line.len()), self.word());
                let mut line = line;
                line.splice(after..after, word);
                lines.splice(at..=at, [line]);
            }
            6 => {
                // The value behind the key is another one.
                let key = line.iter().position(|octet| matches!(octet, b':' | b'=')).map_or(0, |at| at + 1);
                let value = self.word();
                let line = [line.get(..key).unwrap_or_default(), b" ", &value, b"\n"].concat();
                lines.splice(at..=at, [line]);
            }
            _ => {
                let word = self.word();
                lines.splice(to..to, [[&word[..], b"\n"].concat()]);
            }
        }
        lines.concat()
    }

    fn json(&mut self, octets: &[u8]) -> Option<Vec<u8>> {
        let mut tree = Tree::read(octets)?;
        let number = self.chance.random_range(0..tree.count());
        let value = tree.nth(number)?;
        match self.chance.random_range(0..6) {
            0 => *value = self.leaf(),
            1 => {
                let levels = self.chance.random_range(1..40);
                for _ in 0..levels {
                    let inner = std::mem::replace(value, Tree::Other("null".to_owned()));
                    *value = Tree::Array(vec![inner]);
                }
            }
            _ => match value {
                Tree::Object(members) => self.members(members),
                Tree::Array(items) => self.items(items),
                Tree::Text(text) => {
                    let changed = self.text(text.as_bytes());
                    *text = String::from_utf8_lossy(&changed).into_owned();
                }
                Tree::Other(_) => *value = self.leaf(),
            },
        }
        Some(tree.to_string().into_bytes())
    }

    fn members(&mut self, members: &mut Vec<(String, Tree)>) {
        let (at, to) = (self.place(members.len().saturating_sub(1)), self.place(members.len()));
        let word = String::from_utf8_lossy(&self.word()).into_owned();
        let Some((name, value)) = members.get(at).cloned() else {
            let value = self.leaf();
            members.push((word, value));
            return;
        };
        match self.chance.random_range(0..6) {
            0 => {
                members.remove(at);
            }
            1 => members.insert(to, (name, value)),
            2 => {
                let other = self.leaf();
                members.insert(to, (name, other));
            }
            3 => {
                members.splice(at..=at, [(word, value)]);
            }
            4 => {
                let value = self.leaf();
                members.insert(to, (word, value));
            }
            _ => {
                let count = self.chance.random_range(1..REPEAT_MAX);
                members.extend((0..count).map(|number| (format!("{name}{number}"), value.clone())));
            }
        }
    }

    fn items(&mut self, items: &mut Vec<Tree>) {
        let (at, to) = (self.place(items.len().saturating_sub(1)), self.place(items.len()));
        let Some(item) = items.get(at).cloned() else {
            let item = self.leaf();
            items.push(item);
            return;
        };
        match self.chance.random_range(0..4) {
            0 => {
                items.remove(at);
            }
            1 => items.insert(to, item),
            2 => {
                let times = self.chance.random_range(1..REPEAT_MAX);
                items.extend(std::iter::repeat_n(item, times));
            }
            _ => {
                let item = self.leaf();
                items.insert(to, item);
            }
        }
    }

    fn leaf(&mut self) -> Tree {
        const RAW: [&str; 14] = [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "1",
            "1.5",
            "1e999",
            "01",
            "18446744073709551616",
            "{}",
            "[]",
            "\"\\ud800\"",
            "\"\\u0000\"",
        ];
        if self.chance.random() {
            let word = self.word();
            return Tree::Text(String::from_utf8_lossy(&word).into_owned());
        }
        Tree::Other((*RAW.choose(&mut self.chance).unwrap_or(&"null")).to_owned())
    }

    fn der(&mut self, octets: &[u8], other: &[u8]) -> Option<Vec<u8>> {
        let mut all = elements::read(octets).filter(|all| !all.is_empty())?;
        let number = self.chance.random_range(0..elements::count(&all));
        let foreign = elements::read(other).filter(|all| !all.is_empty()).and_then(|mut all| {
            let number = self.chance.random_range(0..elements::count(&all));
            let (row, at) = elements::nth(&mut all, number)?;
            row.get(at).cloned()
        });
        let (row, at) = elements::nth(&mut all, number)?;
        let length = row.len();
        let element = row.get_mut(at)?;
        match self.chance.random_range(0..11) {
            0 => {
                row.remove(at);
            }
            1 => {
                let copy = element.clone();
                row.insert(self.chance.random_range(0..=length), copy);
            }
            2 => row.swap(at, self.chance.random_range(0..length)),
            3 => *element = foreign?,
            4 => row.insert(self.chance.random_range(0..=length), foreign?),
            5 => {
                element.tag = if self.chance.random() { *EDGES.choose(&mut self.chance)? } else { self.chance.random() }
            }
            6 => element.long_length = self.chance.random_range(1..4),
            7 => {
                let inner = std::mem::replace(&mut element.content, Content::Octets(Vec::new()));
                let inner = Element { tag: element.tag, long_length: 0, content: inner };
                element.tag = *[0x30, 0x31, 0x04, 0xa0, 0xa3].choose(&mut self.chance)?;
                element.content = Content::Elements(Vec::new(), vec![inner]);
            }
            8 => element.content = Content::Octets(self.word()),
            9 => {
                let (copy, times) = (element.clone(), self.chance.random_range(1..REPEAT_MAX));
                row.extend(std::iter::repeat_n(copy, times));
            }
            _ => {
                let mut inside = match &element.content {
                    Content::Octets(octets) => octets.clone(),
                    Content::Elements(prefix, inner) => [prefix.clone(), elements::write(inner)].concat(),
                };
                self.octets(&mut inside, other);
                element.content = Content::Octets(inside);
            }
        }
        Some(elements::write(&all))
    }
}
