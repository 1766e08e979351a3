//! Lints: what is looked at before anything is signed. Each is a row: an id, its source, what it
//! finds wrong. Beside it stands, in the tests, a certificate that fails it.
//!
//! The rows read the finished TBS with a parser that did not build it; what they find is a fault
//! of ours, and nothing with a finding is signed.

mod rows;
#[cfg(test)]
mod tests;

use std::fmt;

use x509_parser::{
    certificate::TbsCertificate,
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer,
};

pub use rows::ROWS;

use crate::{
    chain::IssuingCertificate,
    tbs::{LeafRequest, Tbs},
    tlv::Tlv,
};

/// One lint.
pub struct Row {
    /// Its id: stable, for logs and exceptions.
    pub id: &'static str,
    /// Where the rule stands.
    pub source: &'static str,
    /// What it finds wrong, or nothing.
    check: fn(&Subject<'_>) -> Option<String>,
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
pub(crate) struct Subject<'a> {
    /// The TBS, parsed.
    tbs: TbsCertificate<'a>,
    /// Its fields as they lie there.
    fields: Vec<Tlv<'a>>,
    /// What it was made from.
    request: &'a LeafRequest<'a>,
    /// Whose name it bears as issuer.
    issuer: &'a IssuingCertificate,
}

impl<'a> Subject<'a> {
    fn extension(&self, oid: &[u8]) -> Option<&X509Extension<'a>> {
        self.tbs.extensions().iter().find(|extension| extension.oid.as_bytes() == oid)
    }

    fn parsed(&self, oid: &[u8]) -> Option<&ParsedExtension<'a>> {
        self.extension(oid).map(X509Extension::parsed_extension)
    }
}

/// Looks at a TBS by every row.
#[must_use]
pub fn lint(tbs: &Tbs, request: &LeafRequest<'_>, issuer: &IssuingCertificate) -> Vec<Finding> {
    lint_der(tbs.der(), request, issuer)
}

fn lint_der(der: &[u8], request: &LeafRequest<'_>, issuer: &IssuingCertificate) -> Vec<Finding> {
    let unreadable = |what: &str| vec![Finding { id: "tbs_readable", source: "RFC 5280 §4.1", what: what.to_owned() }];
    let (rest, tbs) = match TbsCertificate::from_der(der) {
        Ok(parsed) => parsed,
        Err(error) => return unreadable(&error.to_string()),
    };
    let Some(fields) = Tlv::read_all(der).and_then(|all| all.children()) else {
        return unreadable("it is no row of DER values");
    };
    if !rest.is_empty() {
        return unreadable("there is something behind it");
    }
    let subject = Subject { tbs, fields, request, issuer };
    ROWS.iter()
        .filter_map(|row| (row.check)(&subject).map(|what| Finding { id: row.id, source: row.source, what }))
        .collect()
}
