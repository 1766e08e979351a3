//! Conditions: CEL expressions, capped, since the language itself has no cost limit.

use std::collections::HashMap;

use cel::{Context, Program, Value};
use jiff::tz::TimeZone;

use crate::{evaluate::Request, requester::Claims};

/// Longest condition, in octets.
const SOURCE_MAX: usize = 4096;
/// Deepest nesting of macros: a request has at most 100 names, so 100 × 100 steps at the most.
const NESTING_MAX: usize = 2;
const MACROS: [&str; 5] = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];

/// A compiled condition.
#[derive(Debug)]
pub struct Condition {
    program: Program,
    needs_key: bool,
    needs_lifetime: bool,
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// A fact that it needs is not there yet.
    Undecided,
    /// It could not be evaluated, which is a deny.
    Error(String),
}

impl Condition {
    /// Compiles a condition and tries it on sample facts.
    ///
    /// # Errors
    ///
    /// In words, for people.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_MAX {
            return Err(format!("the condition has {} octets, more than {SOURCE_MAX}", source.len()));
        }
        if nesting(source) > NESTING_MAX {
            return Err(format!("macros are nested more than {NESTING_MAX} deep, which could take very long"));
        }
        let program = Program::compile(source).map_err(|error| error.to_string())?;
        let condition = Self {
            program,
            needs_key: source.contains("request.key"),
            needs_lifetime: source.contains("request.lifetime"),
        };
        let sample = |_: &Claims, name: &str| Value::from(format!("sample-{name}"));
        let facts = Facts {
            names: vec!["a.example.com".to_owned()],
            profile: "server".to_owned(),
            key: "P-256".to_owned(),
            lifetime: 86_400,
            unix_seconds: 1_795_600_000,
            door: "acme".to_owned(),
            directory: "sample".to_owned(),
        };
        let none = Claims::default();
        match condition.run(&facts, (&none, &none), sample) {
            Ok(Value::Bool(_)) => Ok(condition),
            Ok(other) => Err(format!("the condition is no yes or no; on sample facts it gives {other:?}")),
            Err(error) => Err(error),
        }
    }

    /// Evaluates it on a request.
    #[must_use]
    pub fn evaluate(&self, request: &Request<'_>) -> Verdict {
        if (self.needs_key && request.key.is_none()) || (self.needs_lifetime && request.lifetime.is_none()) {
            return Verdict::Undecided;
        }
        let facts = Facts {
            names: request.names.iter().map(ToString::to_string).collect(),
            profile: request.profile.to_owned(),
            key: request.key.map(|key| key.to_string()).unwrap_or_default(),
            lifetime: request.lifetime.map(|lifetime| i64::from(lifetime.seconds())).unwrap_or_default(),
            unix_seconds: request.now.unix_seconds(),
            door: request.requester.door.to_string(),
            directory: request.requester.directory.clone().unwrap_or_default(),
        };
        // A claim that is not there is the empty text, which equals no claim that is.
        let claim = |claims: &Claims, name: &str| Value::from(claims.claim(name).unwrap_or_default().to_owned());
        match self.run(&facts, (&request.requester.proven, &request.requester.claimed), claim) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::Fails,
            Ok(_) => Verdict::Error("it gives neither true nor false".to_owned()),
            Err(error) => Verdict::Error(error),
        }
    }

    fn run(
        &self,
        facts: &Facts,
        claims: (&Claims, &Claims),
        claim: impl Fn(&Claims, &str) -> Value,
    ) -> Result<Value, String> {
        let at = jiff::Timestamp::from_second(facts.unix_seconds).map_err(|error| error.to_string())?;
        let time = timestamp(&at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%SZ").to_string())?;
        let names: Vec<Value> = facts.names.iter().cloned().map(Value::from).collect();
        let request: HashMap<String, Value> = HashMap::from([
            ("names".to_owned(), Value::from(names)),
            ("profile".to_owned(), Value::from(facts.profile.clone())),
            ("key".to_owned(), Value::from(facts.key.clone())),
            ("lifetime".to_owned(), Value::Int(facts.lifetime)),
            ("time".to_owned(), time),
        ]);
        let all = |of: &Claims| -> Value {
            let map: HashMap<String, Value> =
                Claims::NAMES.iter().map(|name| (name.replace('-', "_"), claim(of, name))).collect();
            Value::from(map)
        };
        let requester: HashMap<String, Value> = HashMap::from([
            ("door".to_owned(), Value::from(facts.door.clone())),
            ("directory".to_owned(), Value::from(facts.directory.clone())),
            ("proven".to_owned(), all(claims.0)),
            ("claimed".to_owned(), all(claims.1)),
        ]);
        let mut context = Context::default();
        context.add_variable_from_value("request", Value::from(request));
        context.add_variable_from_value("requester", Value::from(requester));
        self.program.execute(&context).map_err(|error| error.to_string())
    }
}

struct Facts {
    names: Vec<String>,
    profile: String,
    key: String,
    lifetime: i64,
    unix_seconds: i64,
    door: String,
    directory: String,
}

/// A timestamp value, by CEL's own function.
fn timestamp(text: &str) -> Result<Value, String> {
    let mut context = Context::default();
    context.add_variable_from_value("text", Value::from(text.to_owned()));
    let program = Program::compile("timestamp(text)").map_err(|error| error.to_string())?;
    program.execute(&context).map_err(|error| error.to_string())
}

/// How deep macros are nested, seen from the text: string literals are passed over.
fn nesting(source: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut open: Vec<bool> = Vec::new();
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in source.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '(' => {
                    let before = source.get(..=at).unwrap_or_default();
                    let is_macro = MACROS.iter().any(|name| before.ends_with(name));
                    open.push(is_macro);
                    if is_macro {
                        depth += 1;
                        deepest = deepest.max(depth);
                    }
                }
                ')' => depth -= usize::from(open.pop() == Some(true)),
                _ => {}
            },
        }
    }
    deepest
}
