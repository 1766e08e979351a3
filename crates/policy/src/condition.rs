//! Conditions: CEL expressions over the facts of a request.
//!
//! CEL has no cost limit, no static types, and would let a condition fail at the first request
//! that meets it. So a condition is read here as strictly as the rest of the file: every variable
//! and function it names must exist, what it loops over is bounded, its steps are counted, and it
//! is run on sample facts before it is taken. A condition that needs a fact which is not there
//! yet is undecided, unless its answer is the same whatever the fact.

use std::{
    fmt,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use cel::{
    Context, Env, ExecutionError, IdedExpr, Program, Value,
    common::{
        ast::{EntryExpr, Expr, LiteralValue},
        types::{CelBool, CelDuration, CelList, CelString, CelTimestamp},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp, name::NAMES_MAX, usage};
use chrono::{DateTime, TimeDelta};

use crate::{
    entries::Entries,
    evaluate::{Content, Request},
    reported::{GROUPS_MAX, ReportKind, Reported},
    requester::{ClaimKind, Claims, Door, Requester},
    spelling::nearest,
};

/// Longest condition, in bytes.
const SOURCE_MAX: usize = 4096;
/// Deepest nesting of macros: every name with every name.
const NESTING_MAX: usize = 2;
/// Longest list or map written in a condition.
const LITERAL_MAX: usize = 128;
/// Most steps of one condition: every name with every name, and a few comparisons each.
const STEPS_MAX: u64 = 200_000;
/// Deepest nesting of anything; the parser refuses more than 96.
const DEPTH_MAX: usize = 96;

/// The functions of CEL that a condition may call, beside the operators. There is no `matches`: a
/// regular expression says less than it seems to, and compiling one at every request is dear.
const FUNCTIONS: [&str; 18] = [
    "contains",
    "duration",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "size",
    "startsWith",
    "string",
    "timestamp",
];
/// CEL's macros, expanded before we see them; named for the nearest spelling.
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];
/// Operators as the parser names them.
const OPERATORS: [&str; 17] = [
    "_?_:_", "_&&_", "_||_", "!_", "-_", "_-_", "_+_", "_*_", "_/_", "_%_", "_==_", "_!=_", "_>=_", "_<=_", "_>_",
    "_<_", "_[_]",
];
const IN: &str = "@in";
const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A checked condition.
pub(crate) struct Condition {
    program: Program,
    steps: u64,
}

/// What a condition says about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    Yes,
    No,
    /// It needs the facts named, which are not there yet.
    Undecided(Missing),
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
        let steps = Walk { program: &program, scope: Vec::new(), macros: 0, depth: 0 }.steps(program.expression())?;
        if steps > STEPS_MAX {
            return Err(ConditionFault::new(format!(
                "could take {steps} steps with {NAMES_MAX} names, more than the {STEPS_MAX} that are allowed"
            )));
        }
        let condition = Self { program, steps };
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

    pub(crate) fn evaluate(&self, facts: &Facts<'_>) -> Truth {
        facts.key_was_missed.store(false, Ordering::Relaxed);
        facts.lifetime_was_missed.store(false, Ordering::Relaxed);
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

/// A walk over a condition that counts steps and refuses what a condition may not say.
struct Walk<'p> {
    program: &'p Program,
    /// Variables of the macros around.
    scope: Vec<&'p str>,
    macros: usize,
    depth: usize,
}

impl<'p> Walk<'p> {
    fn fault(&self, node: &IdedExpr, why: impl Into<String>) -> ConditionFault {
        let at = self.program.source_info().offset_for(node.id).and_then(|(start, _)| usize::try_from(start).ok());
        ConditionFault { at, ..ConditionFault::new(why) }
    }

    fn all(&mut self, nodes: impl IntoIterator<Item = &'p IdedExpr>) -> Result<u64, ConditionFault> {
        nodes.into_iter().try_fold(0u64, |sum, node| Ok(sum.saturating_add(self.steps(node)?)))
    }

    /// The steps that a node takes at most.
    fn steps(&mut self, node: &'p IdedExpr) -> Result<u64, ConditionFault> {
        if self.depth >= DEPTH_MAX {
            return Err(self.fault(node, format!("is nested more than {DEPTH_MAX} deep")));
        }
        self.depth += 1;
        let steps = self.steps_of(node);
        self.depth -= 1;
        steps
    }

    fn steps_of(&mut self, node: &'p IdedExpr) -> Result<u64, ConditionFault> {
        match &node.expr {
            Expr::Literal(_) => Ok(1),
            Expr::Ident(name) => self.variable(node, name),
            Expr::Select(select) => {
                let path = path(node).ok_or_else(|| self.fault(node, "selects a field of something that has none"))?;
                if path.split('.').next().is_some_and(|root| self.scope.contains(&root)) {
                    return Err(self.fault(node, format!("{path:?}: an element of a list has no fields")));
                }
                let steps = self.variable(node, &path)?;
                if select.test {
                    let why = if [".proven.", ".claimed.", ".reported."].iter().any(|whose| path.contains(whose)) {
                        format!("asks has({path}): a claim that is absent is the empty text; compare it with ''")
                    } else {
                        format!("asks has({path}): it is always there when a decision is made")
                    };
                    return Err(self.fault(node, why));
                }
                Ok(steps)
            }
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let known =
                    FUNCTIONS.contains(&name) || OPERATORS.contains(&name) || [IN, NOT_STRICTLY_FALSE].contains(&name);
                if !known {
                    let near = nearest(name, FUNCTIONS.into_iter().chain(MACROS));
                    let why = if name == "matches" {
                        "calls matches: there are no regular expressions here; use names patterns, startsWith, endsWith or contains".to_owned()
                    } else {
                        format!("calls {name:?}, which is not there")
                    };
                    return Err(self.fault(node, why).nearest(near));
                }
                self.check_words(node, name, &call.args)?;
                let own = self.all(call.target.as_deref())?.saturating_add(self.all(&call.args)?);
                Ok(own.saturating_add(1))
            }
            Expr::List(list) => {
                self.check_length(node, list.elements.len())?;
                Ok(self.all(&list.elements)?.saturating_add(1))
            }
            Expr::Map(map) => {
                self.check_length(node, map.entries.len())?;
                let mut steps = 1u64;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(self.fault(node, "makes a value of a type that is not there"));
                    };
                    steps = steps.saturating_add(self.steps(&entry.key)?).saturating_add(self.steps(&entry.value)?);
                }
                Ok(steps)
            }
            Expr::Comprehension(comprehension) => {
                if self.macros >= NESTING_MAX {
                    return Err(self.fault(node, format!("nests macros more than {NESTING_MAX} deep")));
                }
                let Some(size) = range_size(&comprehension.iter_range) else {
                    return Err(self.fault(
                        &comprehension.iter_range,
                        "loops over something else than request.names, request.usages, requester.reported.groups or a list that is \
                         written out",
                    ));
                };
                let variables = std::iter::once(&comprehension.iter_var).chain(&comprehension.iter_var2);
                for name in variables {
                    if ROOTS.contains(&name.as_str()) || self.scope.contains(&name.as_str()) {
                        return Err(self.fault(node, format!("uses the name {name:?} for something else")));
                    }
                }
                let range = self.steps(&comprehension.iter_range)?;
                let init = self.steps(&comprehension.accu_init)?;
                let outside = self.scope.len();
                self.scope.push(&comprehension.accu_var);
                self.scope.push(&comprehension.iter_var);
                self.scope.extend(comprehension.iter_var2.as_deref());
                self.macros += 1;
                let each = self.all([&comprehension.loop_cond, &comprehension.loop_step]);
                let result = self.steps(&comprehension.result);
                self.macros -= 1;
                self.scope.truncate(outside);
                Ok(each?
                    .saturating_mul(size)
                    .saturating_add(range)
                    .saturating_add(init)
                    .saturating_add(result?)
                    .saturating_add(1))
            }
            Expr::Struct(_) => Err(self.fault(node, "makes a value of a type that is not there")),
            Expr::Unspecified => Err(self.fault(node, "is incomplete")),
        }
    }

    /// A variable by its whole path. Walking through all names costs as many steps.
    fn variable(&self, node: &IdedExpr, path: &str) -> Result<u64, ConditionFault> {
        if self.scope.contains(&path) || path.starts_with('@') {
            return Ok(1);
        }
        if path == NAMES {
            return Ok(NAMES_COST);
        }
        if path == USAGES {
            return Ok(USAGES_COST);
        }
        if path == GROUPS {
            return Ok(GROUPS_COST);
        }
        if VARIABLES.iter().any(|variable| variable == path) {
            return Ok(1);
        }
        let wholes = ["requester.proven", "requester.claimed", "requester.reported"];
        let entry =
            [LABELS, ANNOTATIONS].iter().find_map(|map| Some((map, path.strip_prefix(map)?.strip_prefix('.')?)));
        if let Some((map, key)) = entry {
            let why = format!("selects {path:?}: the keys of that map are texts");
            return Err(self.fault(node, why).nearest(Some(format!("{map}[\"{key}\"]"))));
        }
        let near = nearest_variable(path);
        let why = if ROOTS.contains(&path) || wholes.contains(&path) {
            format!("uses {path:?} as a whole; name one of its facts, such as request.profile or requester.proven.eab")
        } else {
            format!("names {path:?}, which is not there")
        };
        Err(self.fault(node, why).nearest(near))
    }

    fn check_length(&self, node: &IdedExpr, length: usize) -> Result<(), ConditionFault> {
        if length > LITERAL_MAX {
            let why = format!("holds a list of {length} elements, more than the {LITERAL_MAX} that are allowed");
            return Err(self.fault(node, why));
        }
        Ok(())
    }

    /// A kind of key, or a door, is compared with words that exist; any other word never matches.
    fn check_words(&self, node: &IdedExpr, function: &str, args: &[IdedExpr]) -> Result<(), ConditionFault> {
        if !["_==_", "_!=_", IN].contains(&function) {
            return Ok(());
        }
        let [left, right] = args else { return Ok(()) };
        for (variable, other) in [(left, right), (right, left)] {
            let words: Vec<&str> = match path(variable).as_deref() {
                Some(KEY) => KeyKind::ALL.iter().map(|kind| kind.as_str()).collect(),
                Some(DOOR) => Door::ALL.iter().map(|door| door.as_str()).collect(),
                Some(USAGES) if function == IN => usage::words().collect(),
                _ => continue,
            };
            let literals: Vec<&IdedExpr> = match &other.expr {
                Expr::List(list) => list.elements.iter().collect(),
                _ => vec![other],
            };
            for literal in literals {
                let Expr::Literal(LiteralValue::String(text)) = &literal.expr else { continue };
                let text = text.inner();
                // A purpose for which there is no word is there by its object identifier.
                let by_oid =
                    path(variable).as_deref() == Some(USAGES) && text.starts_with(|c: char| c.is_ascii_digit());
                if !words.contains(&text) && !by_oid {
                    let bare = |word: &str| word.to_lowercase().replace('-', "");
                    let same = words.iter().find(|word| bare(word) == bare(text)).copied();
                    let near = same.or_else(|| nearest(text, words.iter().copied()));
                    let why = format!(
                        "compares {} with {text:?}, which is none of {}",
                        path(variable).unwrap_or_default(),
                        words.join(", ")
                    );
                    return Err(self.fault(node, why).nearest(near));
                }
            }
        }
        Ok(())
    }
}

/// `a.b.c` for selections upon a variable.
fn path(node: &IdedExpr) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => path(&select.operand).map(|operand| format!("{operand}.{}", select.field)),
        _ => None,
    }
}

/// How many elements a loop has at most.
fn range_size(range: &IdedExpr) -> Option<u64> {
    match &range.expr {
        Expr::Select(_) => match path(range).as_deref() {
            Some(NAMES) => Some(NAMES_COST),
            Some(USAGES) => Some(USAGES_COST),
            Some(GROUPS) => Some(GROUPS_COST),
            _ => None,
        },
        Expr::List(list) => u64::try_from(list.elements.len()).ok(),
        // `map` and `filter` give at most what they loop over.
        Expr::Comprehension(inner) => range_size(&inner.iter_range),
        _ => None,
    }
}

const ROOTS: [&str; 2] = ["request", "requester"];
const NAMES: &str = "request.names";
const PROFILE: &str = "request.profile";
const TIME: &str = "request.time";
const KEY: &str = "request.key";
const LIFETIME: &str = "request.lifetime";
const USAGES: &str = "request.usages";
const IS_CA: &str = "request.is_ca";
const SUBJECT: &str = "request.subject";
const DOOR: &str = "requester.door";
const DIRECTORY: &str = "requester.directory";
const GROUPS: &str = "requester.reported.groups";
const LABELS: &str = "requester.reported.namespace_labels";
const ANNOTATIONS: &str = "requester.reported.annotations";
/// Steps to walk through all groups.
const GROUPS_COST: u64 = 64;
const _: () = assert!(GROUPS_MAX == 64);
/// Steps to walk through all names.
const NAMES_COST: u64 = 100;
const _: () = assert!(NAMES_MAX == 100);
/// Steps to walk through all usages: nine of keys, and the purposes of a profile twice over.
const USAGES_COST: u64 = 41;

/// Every variable that there is.
static VARIABLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let claims = ["proven", "claimed"].into_iter().flat_map(|whose| {
        ClaimKind::ALL.into_iter().map(move |kind| format!("requester.{whose}.{}", kind.in_conditions()))
    });
    let reports = ReportKind::ALL.into_iter().map(|kind| format!("requester.reported.{}", kind.in_conditions()));
    let facts = [NAMES, PROFILE, TIME, KEY, LIFETIME, USAGES, IS_CA, SUBJECT, DOOR, DIRECTORY];
    let facts = facts.into_iter().chain([GROUPS, LABELS, ANNOTATIONS]).map(str::to_owned);
    facts.chain(claims).chain(reports).collect()
});

fn nearest_variable(path: &str) -> Option<&'static str> {
    let variables = || VARIABLES.iter().map(String::as_str);
    // `service-account` is read as a subtraction.
    let cut = variables().find(|variable| variable.starts_with(&format!("{path}_")));
    // A claim named without saying whether it is proven: suggest the proven one.
    let last = path.rsplit('.').next().unwrap_or_default();
    let claim = variables()
        .find(|variable| variable.starts_with("requester.proven.") && variable.ends_with(&format!(".{last}")));
    let fact = variables().find(|variable| !variable.contains(".claimed.") && variable.ends_with(&format!(".{last}")));
    cut.or_else(|| nearest(path, variables())).or(claim).or(fact)
}

/// The facts of a request, made for CEL when they are asked for.
pub(crate) struct Facts<'a> {
    requester: &'a Requester,
    request_names: &'a NameSet,
    profile: &'a str,
    key: Option<KeyKind>,
    lifetime: Option<Lifetime>,
    now: Timestamp,
    content: Content<'a>,
    names: OnceLock<CelList<'static>>,
    usages: OnceLock<CelList<'static>>,
    key_was_missed: AtomicBool,
    lifetime_was_missed: AtomicBool,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(request: &Request<'a>) -> Self {
        let Request { requester, names, profile, key, lifetime, content, now } = *request;
        Self {
            requester,
            request_names: names,
            profile,
            key,
            lifetime,
            now,
            content,
            names: OnceLock::new(),
            usages: OnceLock::new(),
            key_was_missed: AtomicBool::new(false),
            lifetime_was_missed: AtomicBool::new(false),
        }
    }
}

impl<'a> Facts<'a> {
    fn reported(&self) -> Option<&'a Reported> {
        self.requester.reported.as_deref()
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        match variable {
            NAMES => {
                let list = self.names.get_or_init(|| {
                    let each = |name: &Name| -> Box<dyn Val> { Box::new(CelString::from(name.to_string())) };
                    CelList::from(self.request_names.iter().map(each).collect::<Vec<_>>())
                });
                Some(CowVal::Borrowed(list))
            }
            USAGES => {
                let list = self.usages.get_or_init(|| {
                    let each = |usage: &String| -> Box<dyn Val> { Box::new(CelString::from(usage.clone())) };
                    CelList::from(self.content.usages.iter().map(each).collect::<Vec<_>>())
                });
                Some(CowVal::Borrowed(list))
            }
            IS_CA => Some(CowVal::owned(CelBool::from(self.content.is_ca))),
            SUBJECT => text(self.content.subject),
            PROFILE => text(self.profile),
            TIME => DateTime::from_timestamp_millis(self.now.unix_millis())
                .map(|time| CowVal::owned(CelTimestamp::from(time.fixed_offset()))),
            KEY => {
                let key = self.key.map(KeyKind::as_str);
                self.key_was_missed.fetch_or(key.is_none(), Ordering::Relaxed);
                key.and_then(text)
            }
            LIFETIME => {
                self.lifetime_was_missed.fetch_or(self.lifetime.is_none(), Ordering::Relaxed);
                let seconds = TimeDelta::seconds(i64::from(self.lifetime?.seconds()));
                Some(CowVal::owned(CelDuration::from(seconds)))
            }
            DOOR => text(self.requester.door.as_str()),
            DIRECTORY => text(self.requester.directory.as_deref().unwrap_or_default()),
            GROUPS => {
                let groups = self.reported().map(|reported| reported.groups.as_slice()).unwrap_or_default();
                let each = |group: &'b String| -> Box<dyn Val + 'b> { Box::new(CelString::from(group.as_str())) };
                Some(CowVal::owned(CelList::from(groups.iter().map(each).collect::<Vec<_>>())))
            }
            LABELS => Some(CowVal::owned(Entries(self.reported().map(|reported| &reported.namespace_labels)))),
            ANNOTATIONS => Some(CowVal::owned(Entries(self.reported().map(|reported| &reported.annotations)))),
            other => {
                let (whose, claim) = other.strip_prefix("requester.")?.split_once('.')?;
                if whose == "reported" {
                    let kind = ReportKind::ALL.into_iter().find(|kind| kind.in_conditions() == claim)?;
                    return text(self.reported().and_then(|reported| reported.of(kind)).unwrap_or_default());
                }
                let claims: &'b Claims = match whose {
                    "proven" => &self.requester.proven,
                    "claimed" => &self.requester.claimed,
                    _ => return None,
                };
                let kind = ClaimKind::ALL.into_iter().find(|kind| kind.in_conditions() == claim)?;
                text(claims.of(kind).unwrap_or_default())
            }
        }
    }
}

/// A request to try conditions on.
struct Sample {
    requester: Requester,
    names: NameSet,
    profile: &'static str,
    key: KeyKind,
    days: u64,
    usages: Vec<String>,
    is_ca: bool,
    subject: &'static str,
    now: Timestamp,
}

impl Sample {
    fn request(&self) -> Request<'_> {
        Request {
            requester: &self.requester,
            names: &self.names,
            profile: self.profile,
            key: Some(self.key),
            lifetime: Lifetime::from_seconds(self.days * 86_400).ok(),
            content: Content { usages: &self.usages, is_ca: self.is_ca, subject: self.subject, ..Content::default() },
            now: self.now,
        }
    }
}

static SAMPLES: LazyLock<[Sample; 3]> = LazyLock::new(|| {
    let names = |texts: &[&str]| {
        let names = texts.iter().map(|text| text.parse::<Name>().expect("a sample name is a name"));
        NameSet::new(names).expect("a sample has a few names")
    };
    let workload = Claims {
        cluster: Some("sample-cluster".to_owned()),
        namespace: Some("sample-namespace".to_owned()),
        service_account: Some("sample-account".to_owned()),
        ..Claims::default()
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let said = Claims { user: Some("sample-user".to_owned()), ..Claims::default() };
    let reported = Reported {
        namespace: Some("sample-namespace".to_owned()),
        username: Some("system:serviceaccount:cert-manager:cert-manager".to_owned()),
        groups: vec!["system:authenticated".to_owned()],
        ..Reported::default()
    };
    let reported = Some(Arc::new(reported));
    [
        Sample {
            requester: Requester::acme("sample", "sample-account", Some("sample-key")),
            names: names(&["a.example.com"]),
            profile: "server",
            key: KeyKind::P256,
            days: 90,
            usages: words(&["digital signature", "server auth"]),
            is_ca: false,
            subject: "",
            now: Timestamp::from_unix_seconds(1_795_600_000),
        },
        Sample {
            requester: Requester { proven: workload, claimed: said, reported, ..Requester::at(Door::CertManager) },
            names: names(&["*.example.com", "10.0.0.1", "b.example.com", "spiffe://example/ns/a/sa/b"]),
            profile: "client",
            key: KeyKind::Rsa4096,
            days: 1,
            usages: words(&["digital signature", "key encipherment", "client auth", "server auth"]),
            is_ca: false,
            subject: "O=Sample, CN=a.example.com",
            now: Timestamp::from_unix_seconds(1_700_000_000),
        },
        Sample {
            requester: Requester::own_tls(),
            names: names(&["ca.example.com", "2001:db8::1"]),
            profile: "tls",
            key: KeyKind::Ed25519,
            days: 7,
            usages: words(&["cert sign", "crl sign"]),
            is_ca: true,
            subject: "CN=Sample CA",
            now: Timestamp::from_unix_seconds(0),
        },
    ]
});
