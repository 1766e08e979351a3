//! The rows, by what they look at. A row that depends on others stands behind them.

mod constraints;
mod frame;
mod names;
mod references;
mod subject;
mod usage;

use super::{Part, Row, Subject};

/// All of them.
pub(super) static ALL: [&[Row]; 6] =
    [frame::ROWS, subject::ROWS, names::ROWS, constraints::ROWS, usage::ROWS, references::ROWS];

/// A rule about a part in itself.
const fn rule(part: Part, id: &'static str, source: &'static str, check: fn(&Subject<'_>) -> Option<String>) -> Row {
    Row { id, source, part, depends: false, check }
}

/// A rule that has nothing to add where the encoding or the same part is wrong already.
const fn then(part: Part, id: &'static str, source: &'static str, check: fn(&Subject<'_>) -> Option<String>) -> Row {
    Row { id, source, part, depends: true, check }
}

/// `what`, if it is wrong.
fn no(wrong: bool, what: &str) -> Option<String> {
    wrong.then(|| what.to_owned())
}

/// The first item that was there before.
fn repeated<T: PartialEq>(items: &[T]) -> Option<&T> {
    items.iter().enumerate().find(|(at, item)| items.iter().take(*at).any(|other| other == *item)).map(|(_, item)| item)
}
