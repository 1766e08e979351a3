//! What a condition may say, and how many steps it can take.

use cel::{
    IdedExpr, Program,
    common::ast::{EntryExpr, Expr, LiteralValue},
};
use chancery_pki::{KeyKind, usage};

use super::{
    ConditionFault,
    facts::{
        ANNOTATIONS, DOOR, GROUPS, GROUPS_COST, KEY, LABELS, NAMES, NAMES_COST, ROOTS, USAGES, USAGES_COST, VARIABLES,
        nearest_variable,
    },
};
use crate::{requester::Door, spelling::nearest};

/// Deepest nesting of macros: every name with every name.
const NESTING_MAX: usize = 2;
/// Longest list or map written in a condition.
const LITERAL_MAX: usize = 128;
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
pub(super) const IN: &str = "@in";
const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";

/// What is known of a condition before it is run.
pub(super) struct Walked {
    /// The steps that it takes at most.
    pub(super) steps: u64,
    /// Whether it looks at annotations.
    pub(super) reads_annotations: bool,
}

/// Walks through a condition. What it may not say is refused.
pub(super) fn walk(program: &Program) -> Result<Walked, ConditionFault> {
    let mut walk = Walk { program, scope: Vec::new(), macros: 0, depth: 0, reads_annotations: false };
    let steps = walk.steps(program.expression())?;
    Ok(Walked { steps, reads_annotations: walk.reads_annotations })
}

/// A walk over a condition that counts steps and refuses what a condition may not say.
struct Walk<'p> {
    program: &'p Program,
    /// Variables of the macros around.
    scope: Vec<&'p str>,
    macros: usize,
    depth: usize,
    reads_annotations: bool,
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
    fn variable(&mut self, node: &IdedExpr, path: &str) -> Result<u64, ConditionFault> {
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
            self.reads_annotations |= path == ANNOTATIONS;
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
