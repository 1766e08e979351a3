//! Conditions: CEL expressions over the facts of a request.
//!
//! CEL has no cost limit, no static types, and would let a condition fail at the first request
//! that meets it. So a condition is read here as strictly as the rest of the file: every variable
//! and function it names must exist, what it loops over is bounded, its steps are counted, and it
//! is run on sample facts before it is taken. A condition that needs a fact which is not there
//! yet is undecided, unless its answer is the same whatever the fact.

mod facts;
mod samples;
mod walk;

use std::{
    fmt,
    sync::{Arc, LazyLock, atomic::Ordering},
};

use cel::{Context, Env, ExecutionError, Program, Value};
use chancery_pki::name::NAMES_MAX;

pub(crate) use self::facts::Facts;
use self::{
    samples::SAMPLES,
    walk::{IN, Walked},
};

/// Longest condition, in bytes.
const SOURCE_MAX: usize = 4096;
/// Most steps of one condition: every name with every name, and a few comparisons each.
const STEPS_MAX: u64 = 200_000;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A checked condition.
pub(crate) struct Condition {
    program: Program,
    steps: u64,
    reads_annotations: bool,
}

/// What a condition says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    Yes,
    No,
    /// It needs the facts named, which are not there yet.
    Undecided(Missing),
    /// It needs facts that are withheld: the credential may not report them.
    Withheld,
    /// It cannot be evaluated, in words.
    Failed(String),
}

/// Facts that are not there yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) key: bool,
    pub(crate) lifetime: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.key, self.lifetime) {
            (true, true) => "depends on the key and the lifetime, which are not known yet",
            (false, true) => "depends on the lifetime, which is not known yet",
            (true, false) | (false, false) => "depends on the key, which is not known yet",
        })
    }
}

/// Why a condition is refused, and what was probably meant; `at` is where in its source, in
/// characters from its start, if that is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConditionFault {
    pub(crate) at: Option<usize>,
    pub(crate) why: String,
    pub(crate) nearest: Option<String>,
}

impl ConditionFault {
    fn new(why: impl Into<String>) -> Self {
        Self { at: None, why: why.into(), nearest: None }
    }

    fn nearest(self, nearest: Option<impl Into<String>>) -> Self {
        Self { nearest: nearest.map(Into::into), ..self }
    }
}

impl Condition {
    /// Reads a condition and tries it on sample facts.
    pub(crate) fn compile(source: &str) -> Result<Self, ConditionFault> {
        if source.len() > SOURCE_MAX {
            return Err(ConditionFault::new(format!(
                "has {} bytes, more than the {SOURCE_MAX} that are allowed",
                source.len()
            )));
        }
        if source.trim().is_empty() {
            return Err(ConditionFault::new("is empty"));
        }
        let odd = |c: char| !(c.is_ascii_graphic() || c == ' ' || c == '\n' || c == '\t');
        if let Some(at) = source.chars().position(odd) {
            let character = source.chars().nth(at).unwrap_or_default();
            return Err(ConditionFault {
                at: Some(at),
                why: format!(
                    "holds {character:?} (U+{:04X}); only visible ASCII is taken, since letters can look alike",
                    u32::from(character)
                ),
                nearest: None,
            });
        }
        let program = ENV.compile(source).map_err(|errors| syntax_fault(source, &errors))?;
        let Walked { steps, reads_annotations } = walk::walk(&program)?;
        if steps > STEPS_MAX {
            return Err(ConditionFault::new(format!(
                "could take {steps} steps with {NAMES_MAX} names, more than the {STEPS_MAX} that are allowed"
            )));
        }
        let condition = Self { program, steps, reads_annotations };
        condition.try_on_samples()?;
        Ok(condition)
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.program.source_info().source
    }

    /// How many steps it can take at most.
    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether it looks at annotations, which whoever makes an object writes.
    pub(crate) const fn reads_annotations(&self) -> bool {
        self.reads_annotations
    }

    pub(crate) fn evaluate(&self, facts: &Facts<'_>) -> Truth {
        facts.key_was_missed.store(false, Ordering::Relaxed);
        facts.lifetime_was_missed.store(false, Ordering::Relaxed);
        facts.withheld_was_read.store(false, Ordering::Relaxed);
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(facts);
        let result = self.program.execute(&context);
        let missing = Missing {
            key: facts.key_was_missed.load(Ordering::Relaxed),
            lifetime: facts.lifetime_was_missed.load(Ordering::Relaxed),
        };
        match result {
            // INVARIANT: CEL's logic absorbs an error only where the other side alone decides, so an
            // answer that comes out although a fact was missing is the answer whatever the fact.
            Ok(Value::Bool(true)) => Truth::Yes,
            Ok(Value::Bool(false)) => Truth::No,
            Ok(other) => Truth::Failed(format!("it gives a {}, neither true nor false", other.type_of())),
            Err(_) if facts.withheld_was_read.load(Ordering::Relaxed) => Truth::Withheld,
            Err(_) if missing.key || missing.lifetime => Truth::Undecided(missing),
            Err(error) => Truth::Failed(in_words(&error)),
        }
    }

    /// A condition must answer yes or no to at least one of several very different requests, and
    /// must not fail on any for a reason that lies in the condition itself.
    fn try_on_samples(&self) -> Result<(), ConditionFault> {
        let mut failure = None;
        let mut answered = false;
        for sample in SAMPLES.iter() {
            let facts = Facts::new(&sample.request());
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(&facts);
            match self.program.execute(&context) {
                Ok(Value::Bool(_)) => answered = true,
                Ok(other) => {
                    return Err(ConditionFault::new(format!(
                        "must be true or false, and is of type {}",
                        other.type_of()
                    )));
                }
                Err(error) if depends_on_values(&error) => failure = failure.or(Some(error)),
                Err(error) => return Err(ConditionFault::new(format!("cannot work: {}", in_words(&error)))),
            }
        }
        match failure {
            Some(error) if !answered => {
                Err(ConditionFault::new(format!("fails on every sample request: {}", in_words(&error))))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("source", &self.source()).field("steps", &self.steps).finish()
    }
}

/// Whether another request could fare better with the same condition.
const fn depends_on_values(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::IndexOutOfBounds(_)
            | ExecutionError::NoSuchKey(_)
            | ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::Overflow(..)
            | ExecutionError::FunctionError { .. }
    )
}

/// An evaluation error without the evaluator's own notation.
fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::IndexOutOfBounds(index) => {
            format!("there is no element {} in the list", shown(index))
        }
        ExecutionError::NoSuchKey(key) => format!("there is no entry {key:?}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(..) => "a number became too large".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            let message: String = message.chars().filter(|c| !c.is_control()).take(120).collect();
            format!("{function} failed: {message}")
        }
        ExecutionError::NoSuchOverload(overload) => {
            let types = overload.argument_types().join(" and ");
            format!("{} does not work on {types}", operator(overload.function()))
        }
        ExecutionError::UnsupportedBinaryOperator(name, left, right) => {
            format!("{name} does not work on {} and {}", left.type_of(), right.type_of())
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("a {} and a {} cannot be compared", left.type_of(), right.type_of())
        }
        ExecutionError::UnexpectedType { got, want } => format!("found a {got} where a {want} is needed"),
        ExecutionError::UndeclaredReference(name) => format!("there is no {name}"),
        ExecutionError::DuplicateKey(key) => format!("the entry {} is there twice", shown(key)),
        other => {
            let text = other.to_string();
            text.chars().filter(|c| !c.is_control()).take(120).collect()
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        other => format!("of type {}", other.type_of()),
    }
}

/// `_==_` as people write it.
fn operator(function: &str) -> String {
    match function {
        "_[_]" => "indexing".to_owned(),
        IN => "in".to_owned(),
        "_?_:_" => "? :".to_owned(),
        other => other.trim_matches('_').trim_start_matches('@').to_owned(),
    }
}

fn syntax_fault(source: &str, errors: &cel::ParseErrors) -> ConditionFault {
    let Some(first) = errors.errors.first() else {
        return ConditionFault::new("is not CEL");
    };
    let (line, column) = first.pos;
    let before: usize = source
        .split_inclusive('\n')
        .take(usize::try_from(line - 1).unwrap_or(0))
        .map(|line| line.chars().count())
        .sum();
    let at = usize::try_from(column - 1).ok().map(|column| before + column).filter(|at| *at <= source.len());
    let message = first.msg.trim_start_matches("Syntax error: ");
    let message = message.split(" expecting ").next().unwrap_or_default();
    let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    let why = if message.contains("<EOF>") { "ends too early".to_owned() } else { format!("is not CEL: {message}") };
    ConditionFault { at, why, nearest: None }
}
