//! The policy file, `v1`: from text to rules, with everything that is wrong found at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_pki::KeyKind;

use crate::{
    condition::Condition,
    cover,
    error::{Fault, PolicyError, PolicyErrors},
    evaluate::Policy,
    node::{self, Key, Node, Position, Value, shortened},
    pattern::{
        self, AttributePattern, CommonNamePattern, MailPattern, NamePattern, OtherNamePattern, Refused, SpiffePattern,
        UriPattern,
    },
    requester::{ClaimKind, Door},
    rule::{Effect, Rule, RuleName, Target, Who},
    spelling::nearest,
};

/// Largest file, in bytes.
const FILE_MAX: usize = 1024 * 1024;
/// Most rules.
const RULES_MAX: usize = 10_000;
/// Most names, wildcards, addresses and patterns over other names of all rules.
const SELECTORS_MAX: usize = 100_000;
/// Most steps of all conditions together: some 0.1 s, if every rule speaks about one request.
const STEPS_MAX: u64 = 2_000_000;
/// Longest `because`, in characters.
const BECAUSE_MAX: usize = 500;
/// Longest value of a claim in `for`, in characters.
const CLAIM_MAX: usize = 256;
/// Longest name of a rule or profile, in characters.
const NAME_MAX: usize = 100;

const VERSION: &str = "v1";
const FILE_FIELDS: &[&str] = &["version", "rules"];
const RULE_FIELDS: &[&str] = &["name", "allow", "deny", "warn", "for", "when", "because"];
const SELECTORS: [&str; 8] =
    ["names", "wildcards", "addresses", "spiffe", "uris", "emails", "other_names", "common_names"];
const TARGET_FIELDS: &[&str] = &[
    "names",
    "wildcards",
    "addresses",
    "spiffe",
    "uris",
    "emails",
    "other_names",
    "common_names",
    "subject",
    "ca",
    "profile",
    "profiles",
    "keys",
];

/// How a policy is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
}

impl Format {
    /// By a file's ending: `.toml` is TOML, everything else YAML.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        if name.ends_with(".toml") { Self::Toml } else { Self::Yaml }
    }
}

impl Policy {
    /// Reads a policy. `file` is what its errors call it.
    ///
    /// # Errors
    ///
    /// [`PolicyErrors`]: everything that is wrong, each with its place. A text that is not YAML or
    /// TOML at all has the parser's errors alone, the first of them.
    pub fn parse(text: &str, format: Format, file: &str) -> Result<Self, PolicyErrors> {
        let mut reader = Reader { text, file, errors: Vec::new() };
        let rules = reader.file(format);
        if reader.errors.is_empty() { Ok(Self::new(rules, text)) } else { Err(PolicyErrors::new(reader.errors)) }
    }
}

struct Reader<'t> {
    text: &'t str,
    file: &'t str,
    errors: Vec<PolicyError>,
}

/// A text in the file, with its place and its key.
struct Text<'n> {
    text: &'n str,
    at: Position,
    key: String,
}

impl Reader<'_> {
    fn report(&mut self, at: Position, key: &str, fault: Fault) {
        let Position { line, column } = at;
        self.errors.push(PolicyError { file: self.file.to_owned(), line, column, key: key.to_owned(), fault });
    }

    fn file(&mut self, format: Format) -> Vec<Rule> {
        if self.text.len() > FILE_MAX {
            self.report(Position::START, "", Fault::TooLarge { length: self.text.len(), max: FILE_MAX });
            return Vec::new();
        }
        let root = match format {
            Format::Yaml => node::from_yaml(self.text),
            Format::Toml => node::from_toml(self.text),
        };
        let root = match root {
            Ok(root) => root,
            Err(faults) => {
                for fault in faults {
                    self.report(fault.at, "", Fault::Syntax { message: fault.message });
                }
                return Vec::new();
            }
        };
        let Some(fields) = self.fields(&root, "", FILE_FIELDS) else { return Vec::new() };
        match fields.get("version") {
            None if !fields.lacks("version") => {}
            None => {
                let fault = Fault::MissingField { field: "version", expected: "version: v1, the only one there is" };
                self.report(root.at, "", fault);
            }
            Some(node) => {
                if let Some(version) = self.text_of(node, "version", "the text v1")
                    && version.text != VERSION
                {
                    let fault = unknown(version.text, &[VERSION]);
                    self.report(version.at, "version", fault);
                    // Another version may mean anything.
                    return Vec::new();
                }
            }
        }
        let Some(rules) = fields.get("rules") else {
            if !fields.lacks("rules") {
                return Vec::new();
            }
            let fault = Fault::MissingField { field: "rules", expected: "a list of rules, which may be empty" };
            self.report(root.at, "", fault);
            return Vec::new();
        };
        let Value::List(nodes) = &rules.value else {
            let fault = Fault::WrongType { found: rules.in_words(), expected: "a list of rules".to_owned() };
            self.report(rules.at, "rules", fault);
            return Vec::new();
        };
        if nodes.len() > RULES_MAX {
            self.report(rules.at, "rules", Fault::TooMany { what: "rules", count: nodes.len(), max: RULES_MAX });
            return Vec::new();
        }
        let read: Vec<Rule> = nodes.iter().enumerate().filter_map(|(at, node)| self.rule(node, at)).collect();
        self.check_whole(&read, rules.at);
        read
    }

    /// What can be said only about all rules together.
    fn check_whole(&mut self, rules: &[Rule], at: Position) {
        let selectors: usize = rules.iter().map(|rule| rule.target.selectors() + rule.target.subject.len()).sum();
        if selectors > SELECTORS_MAX {
            let fault = Fault::TooMany {
                what: "names, wildcards, addresses and patterns over other names",
                count: selectors,
                max: SELECTORS_MAX,
            };
            self.report(at, "rules", fault);
            return;
        }
        let steps: u64 = rules.iter().filter_map(|rule| rule.when.as_ref()).map(Condition::steps).sum();
        if steps > STEPS_MAX {
            let whole = |steps: u64| usize::try_from(steps).unwrap_or(usize::MAX);
            let what = "possible steps in all conditions together";
            self.report(at, "rules", Fault::TooMany { what, count: whole(steps), max: whole(STEPS_MAX) });
        }
        let mut first: BTreeMap<&str, Position> = BTreeMap::new();
        for (id, rule) in rules.iter().enumerate() {
            let name = rule.name.as_str();
            match first.get(name) {
                None => {
                    first.insert(name, rule.at);
                }
                Some(earlier) => {
                    let fault = Fault::DuplicateName { name: name.to_owned(), line: earlier.line };
                    self.report(rule.at, &format!("rules[{id}].name"), fault);
                }
            }
        }
        let name_of = |id: usize| rules.get(id).map(|rule| rule.name.to_string()).unwrap_or_default();
        let at_of = |id: usize| rules.get(id).map_or(at, |rule| rule.at);
        for (id, earlier) in cover::repeated(rules) {
            let fault = Fault::Repeated { name: name_of(earlier), line: at_of(earlier).line };
            self.report(at_of(id), &format!("rule {:?}", name_of(id)), fault);
        }
        for covered in cover::covered(rules) {
            let by = covered.by.into_iter().map(name_of).collect();
            self.report(at_of(covered.rule), &format!("rule {:?}", name_of(covered.rule)), Fault::Covered { by });
        }
    }

    fn rule(&mut self, node: &Node, at: usize) -> Option<Rule> {
        let key = format!("rules[{at}]");
        let fields = self.fields(node, &key, RULE_FIELDS)?;
        let before = self.errors.len();
        let name = match fields.get("name") {
            None if !fields.lacks("name") => None,
            None => {
                let fault = Fault::MissingField { field: "name", expected: "a name, by which decisions call the rule" };
                self.report(node.at, &key, fault);
                None
            }
            Some(node) => {
                let name_key = format!("{key}.name");
                self.text_of(node, &name_key, "a name").and_then(|text| self.name(&text).then(|| text.text.to_owned()))
            }
        };
        let effects: Vec<(Effect, &Node)> =
            Effect::ALL.into_iter().filter_map(|effect| Some((effect, fields.get(effect.as_str())?))).collect();
        let (effect, target) = match effects.as_slice() {
            [(effect, node)] => (Some(*effect), self.target(node, &format!("{key}.{}", effect.as_str()), *effect)),
            [] if !Effect::ALL.iter().all(|effect| fields.lacks(effect.as_str())) => (None, None),
            several => {
                let found = several.iter().map(|(effect, _)| effect.as_str()).collect();
                self.report(node.at, &key, Fault::Effects { found });
                (None, None)
            }
        };
        let who = fields.get("for").map_or_else(Who::default, |node| self.who(node, &format!("{key}.for")));
        let when = fields.get("when").and_then(|node| self.condition(node, &format!("{key}.when")));
        let because = fields.get("because").and_then(|node| {
            let text = self.text_of(node, &format!("{key}.because"), "a sentence")?;
            self.plain(&text, BECAUSE_MAX).then(|| text.text.to_owned())
        });
        // A rule of which a part is wrong is not compared with others.
        if self.errors.len() > before {
            return None;
        }
        Some(Rule {
            name: RuleName(Arc::from(name?)),
            at: node.at,
            effect: effect?,
            target: target?,
            who,
            when,
            because,
        })
    }

    fn target(&mut self, node: &Node, key: &str, effect: Effect) -> Option<Target> {
        let fields = self.fields(node, key, TARGET_FIELDS)?;
        let mut target = Target::default();
        self.patterns(&fields, key, "names", NamePattern::parse, &mut target.names);
        self.patterns(&fields, key, "wildcards", pattern::wildcard, &mut target.wildcards);
        self.patterns(&fields, key, "addresses", pattern::range, &mut target.addresses);
        self.patterns(&fields, key, "spiffe", SpiffePattern::parse, &mut target.spiffe);
        self.patterns(&fields, key, "uris", UriPattern::parse, &mut target.uris);
        self.patterns(&fields, key, "emails", MailPattern::parse, &mut target.emails);
        self.patterns(&fields, key, "other_names", OtherNamePattern::parse, &mut target.other_names);
        self.patterns(&fields, key, "common_names", CommonNamePattern::parse, &mut target.common_names);
        self.patterns(&fields, key, "subject", AttributePattern::parse, &mut target.subject);
        if let Some(node) = fields.get("ca") {
            target.ca = matches!(node.value, Value::Truth(true));
            if !target.ca {
                let expected = "true, or no ca at all: without it an allow grants no CA".to_owned();
                let fault = Fault::WrongType { found: node.in_words(), expected };
                self.report(node.at, &format!("{key}.ca"), fault);
            }
        }
        if let (Some(_), Some((second, _))) = (fields.get("profile"), fields.entry("profiles")) {
            self.report(second.at, &format!("{key}.profiles"), Fault::ProfileTwice);
        }
        for field in ["profile", "profiles"] {
            if let Some(node) = fields.get(field) {
                let texts = self.texts(node, &format!("{key}.{field}"), "a profile's name or a list of them");
                target.profiles =
                    Some(texts.iter().filter(|text| self.name(text)).map(|text| text.text.to_owned()).collect());
            }
        }
        if let Some(node) = fields.get("keys") {
            let texts = self.texts(node, &format!("{key}.keys"), "a kind of key or a list of them");
            target.keys = Some(texts.iter().filter_map(|text| self.key_kind(text)).collect());
        }
        if effect == Effect::Allow && SELECTORS.iter().all(|field| fields.lacks(field)) {
            self.report(node.at, key, Fault::NothingAllowed);
        }
        Some(target)
    }

    fn patterns<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        field: &str,
        parse: fn(&str) -> Result<T, Refused>,
        into: &mut Vec<T>,
    ) {
        let Some(node) = fields.get(field) else { return };
        for text in self.texts(node, &format!("{key}.{field}"), "a text or a list of texts") {
            match parse(text.text) {
                Ok(pattern) => into.push(pattern),
                Err((why, suggestion)) => {
                    let fault = Fault::Pattern { found: shortened(text.text), why, suggestion };
                    self.report(text.at, &text.key, fault);
                }
            }
        }
    }

    fn key_kind(&mut self, text: &Text<'_>) -> Option<KeyKind> {
        let kind = text.text.parse().ok();
        if kind.is_none() {
            let known = KeyKind::ALL.map(KeyKind::as_str);
            let bare = |word: &str| word.to_lowercase().replace(['-', '_', ' '], "");
            let same = known.into_iter().find(|word| bare(word) == bare(text.text));
            let Fault::UnknownValue { found, nearest, known } = unknown(text.text, &known) else { return None };
            let fault = Fault::UnknownValue { found, nearest: same.map(str::to_owned).or(nearest), known };
            self.report(text.at, &text.key, fault);
        }
        kind
    }

    fn who(&mut self, node: &Node, key: &str) -> Who {
        let claims = ClaimKind::ALL.map(ClaimKind::as_str);
        let known: Vec<&str> = ["door", "directory"].into_iter().chain(claims).collect();
        let mut who = Who::default();
        let Some(fields) = self.fields(node, key, &known) else { return who };
        let texts = "a text or a list of texts";
        if let Some(node) = fields.get("door") {
            let mut doors = Vec::new();
            for text in self.texts(node, &format!("{key}.door"), texts) {
                match text.text.parse() {
                    Ok(door) => doors.push(door),
                    Err(_) => self.report(text.at, &text.key, unknown(text.text, &Door::ALL.map(Door::as_str))),
                }
            }
            who.doors = Some(doors);
        }
        if let Some(node) = fields.get("directory") {
            let texts = self.texts(node, &format!("{key}.directory"), texts);
            who.directories =
                Some(texts.iter().filter(|text| self.exact(text)).map(|text| text.text.to_owned()).collect());
        }
        for kind in ClaimKind::ALL {
            if let Some(node) = fields.get(kind.as_str()) {
                let texts = self.texts(node, &format!("{key}.{}", kind.as_str()), texts);
                let values = texts.iter().filter(|text| self.exact(text)).map(|text| text.text.to_owned()).collect();
                who.claims.push((kind, values));
            }
        }
        who
    }

    fn condition(&mut self, node: &Node, key: &str) -> Option<Condition> {
        let text = self.text_of(node, key, "a condition in CEL, as text")?;
        match Condition::compile(text.text) {
            Ok(condition) => Some(condition),
            Err(fault) => {
                let at = fault.at.and_then(|offset| self.inside(&text, offset)).unwrap_or(text.at);
                self.report(at, key, Fault::Condition { why: fault.why, nearest: fault.nearest });
                None
            }
        }
    }

    /// The place of a character of a text, if the text stands in the file as it is, on one line.
    fn inside(&self, text: &Text<'_>, offset: usize) -> Option<Position> {
        let line = self.text.lines().nth(text.at.line.checked_sub(1)?)?;
        let mut rest = line.chars().skip(text.at.column.checked_sub(1)?);
        let mut column = text.at.column;
        if !rest.as_str_starts(text.text) {
            // One quotation mark before it.
            rest.next().filter(|c| matches!(c, '"' | '\''))?;
            column += 1;
            rest.as_str_starts(text.text).then_some(())?;
        }
        Some(Position { line: text.at.line, column: column + offset })
    }

    /// A value that is compared letter for letter.
    fn exact(&mut self, text: &Text<'_>) -> bool {
        if text.text.contains('*') {
            self.report(text.at, &text.key, Fault::PatternInFor { found: shortened(text.text) });
            return false;
        }
        self.plain(text, CLAIM_MAX)
    }

    fn plain(&mut self, text: &Text<'_>, max: usize) -> bool {
        let length = text.text.chars().count();
        let trimmed = text.text.trim() == text.text;
        if length == 0 || length > max || !trimmed || text.text.chars().any(unshowable) {
            let found = format!("{:?}", shortened(text.text));
            self.report(text.at, &text.key, Fault::BadText { found, max });
            return false;
        }
        true
    }

    /// A rule's or profile's name.
    fn name(&mut self, text: &Text<'_>) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = (1..=NAME_MAX).contains(&text.text.len()) && text.text.chars().all(plain);
        if !good {
            let hyphens = |c: char| if plain(c) { c } else { '-' };
            let near: String = text.text.trim().chars().map(hyphens).take(NAME_MAX).collect();
            let nearest = (!near.trim_matches('-').is_empty() && text.text.is_ascii()).then_some(near);
            self.report(text.at, &text.key, Fault::BadName { found: shortened(text.text), nearest });
        }
        good
    }

    /// The fields of a map; unknown ones are reported.
    fn fields<'n>(&mut self, node: &'n Node, key: &str, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let fault = Fault::WrongType { found: node.in_words(), expected: format!("a map of {}", known.join(", ")) };
            self.report(node.at, key, fault);
            return None;
        };
        let mut misspelled = Vec::new();
        for (field, _) in entries.iter().filter(|(field, _)| !known.contains(&field.text.as_str())) {
            let nearest = nearest(&field.text, known.iter().copied()).map(str::to_owned);
            misspelled.extend(nearest.clone());
            let known = known.iter().map(ToString::to_string).collect();
            self.report(field.at, key, Fault::UnknownField { found: shortened(&field.text), nearest, known });
        }
        Some(Fields { entries, misspelled })
    }

    fn text_of<'n>(&mut self, node: &'n Node, key: &str, expected: &str) -> Option<Text<'n>> {
        match &node.value {
            Value::Text(text) => Some(Text { text, at: node.at, key: key.to_owned() }),
            Value::List(_) | Value::Map(_) | Value::Truth(_) | Value::Other(_) => {
                let found = node.in_words();
                let quotes = if matches!(node.value, Value::Truth(_) | Value::Other(_)) {
                    "; put it in quotes if it is meant as text"
                } else {
                    ""
                };
                self.report(node.at, key, Fault::WrongType { found, expected: format!("{expected}{quotes}") });
                None
            }
        }
    }

    /// One text, or a list of at least one.
    fn texts<'n>(&mut self, node: &'n Node, key: &str, expected: &str) -> Vec<Text<'n>> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.report(node.at, key, Fault::EmptyList);
                Vec::new()
            }
            Value::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| self.text_of(item, &format!("{key}[{at}]"), "a text"))
                .collect(),
            Value::Text(_) | Value::Map(_) | Value::Truth(_) | Value::Other(_) => {
                self.text_of(node, key, expected).into_iter().collect()
            }
        }
    }
}

/// The fields of one map.
struct Fields<'n> {
    entries: &'n [(Key, Node)],
    /// Fields that were probably meant by others that do not exist.
    misspelled: Vec<String>,
}

impl<'n> Fields<'n> {
    fn entry(&self, name: &str) -> Option<&'n (Key, Node)> {
        self.entries.iter().find(|(key, _)| key.text == name)
    }

    fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    /// Whether a field is missing and not just misspelled, which was reported already.
    fn lacks(&self, name: &str) -> bool {
        self.entry(name).is_none() && !self.misspelled.iter().any(|meant| meant == name)
    }
}

/// Whether what is left of an iterator over characters begins with a text.
trait StartsWith {
    fn as_str_starts(&self, text: &str) -> bool;
}

impl<I: Iterator<Item = char> + Clone> StartsWith for I {
    fn as_str_starts(&self, text: &str) -> bool {
        let mut rest = self.clone();
        text.chars().all(|c| rest.next() == Some(c))
    }
}

/// Characters that could make a text look like something else: controls, and those that turn or
/// hide their neighbours.
fn unshowable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn unknown(found: &str, known: &[&str]) -> Fault {
    let near = nearest(found, known.iter().copied());
    Fault::UnknownValue {
        found: shortened(found),
        nearest: near.map(str::to_owned),
        known: known.iter().map(ToString::to_string).collect(),
    }
}
