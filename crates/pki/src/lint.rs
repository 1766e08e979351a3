//! Lints: what is looked at before anything is signed. Each is a row: an id, its source, what it
//! finds wrong. Beside each stands, in the tests, a certificate that fails it and no other row.
//!
//! The rows look at the finished TBS through a reader of their own; one of them
//! has a second parser read it too. What they find is a fault of ours, and nothing with a finding
//! is signed.

mod rows;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;

use view::View;

use crate::{
    chain::IssuingCertificate,
    key::SignatureAlgorithm,
    tbs::{LeafRequest, Tbs},
};

/// One lint.
pub struct Row {
    /// Its id: stable, for logs and exceptions.
    pub id: &'static str,
    /// Where the rule stands.
    pub source: &'static str,
    /// What it looks at.
    part: Part,
    /// Whether it has nothing to add where that part, or the encoding, is wrong already.
    depends: bool,
    /// What it finds wrong, or nothing.
    check: fn(&Subject<'_>) -> Option<String>,
}

/// The parts of a TBS that rows look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Encoding,
    Version,
    Serial,
    Algorithm,
    Issuer,
    Validity,
    Subject,
    Key,
    Extensions,
    BasicConstraints,
    Names,
    Constraints,
    KeyUsage,
    ExtendedKeyUsage,
    AuthorityKey,
    SubjectKey,
    CrlUrls,
    Access,
    Policies,
    TlsFeature,
}

/// What a lint found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The lint's id.
    pub id: &'static str,
    /// The rule.
    pub source: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.id, self.what, self.source)
    }
}

/// What the rows look at.
struct Subject<'a> {
    /// The TBS.
    view: View<'a>,
    /// What it was made from.
    request: &'a LeafRequest<'a>,
    /// Whose name it bears as issuer.
    issuer: &'a IssuingCertificate,
    /// How it is to be signed.
    algorithm: SignatureAlgorithm,
}

/// The row that speaks when there is nothing for the others to look at.
const FRAME: (&str, &str) = ("tbs_frame", "RFC 5280 §4.1");

/// Every lint, in the order in which they speak.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    rows::ALL.iter().copied().flatten()
}

/// Looks at a TBS by every row.
#[must_use]
pub fn lint(tbs: &Tbs, request: &LeafRequest<'_>, issuer: &IssuingCertificate) -> Vec<Finding> {
    lint_der(tbs.der(), request, issuer, tbs.algorithm())
}

fn lint_der(
    der: &[u8],
    request: &LeafRequest<'_>,
    issuer: &IssuingCertificate,
    algorithm: SignatureAlgorithm,
) -> Vec<Finding> {
    let Some(view) = View::read(der) else {
        let (id, source) = FRAME;
        return vec![Finding { id, source, what: "it has not the frame of a TBSCertificate".to_owned() }];
    };
    let subject = Subject { view, request, issuer, algorithm };
    let mut findings = Vec::new();
    let mut wrong = Vec::new();
    for row in rows() {
        if row.depends && (wrong.contains(&row.part) || wrong.contains(&Part::Encoding)) {
            continue;
        }
        if let Some(what) = (row.check)(&subject) {
            wrong.push(row.part);
            findings.push(Finding { id: row.id, source: row.source, what });
        }
    }
    findings
}
