//! What a trusted controller reports about a Kubernetes object: neither proven by its credential nor
//! said by the requester.
//!
//! A condition reads it as `requester.reported.…`; a rule's `for` never does. Tenants write annotations,
//! and a namespace's labels are written by whoever may edit namespaces: know who that is before a rule
//! grants by them.

use std::collections::BTreeMap;

/// Most groups that are reported with one request.
pub(crate) const GROUPS_MAX: usize = 64;
/// Most labels, and most annotations.
pub(crate) const ENTRIES_MAX: usize = 128;
/// Longest single fact, in octets.
pub(crate) const FACT_MAX: usize = 512;
/// Longest annotation, in octets.
pub(crate) const ANNOTATION_MAX: usize = 8 * 1024;
/// Most octets of labels, and of annotations, keys included.
pub(crate) const ENTRIES_OCTETS_MAX: usize = 64 * 1024;

/// What is reported about an object. What is absent, or empty, says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reported {
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The object's own name.
    pub name: Option<String>,
    /// The kind of the issuer it refers to; `Signer` for a signer's name.
    pub issuer_kind: Option<String>,
    /// The name of the issuer or signer.
    pub issuer: Option<String>,
    /// Who made the object.
    pub username: Option<String>,
    /// The Certificate that it was made for.
    pub certificate: Option<String>,
    /// The Secret that the Certificate writes.
    pub secret: Option<String>,
    /// The pod that it was made for.
    pub pod: Option<String>,
    /// What that pod runs as.
    pub service_account: Option<String>,
    /// What that pod runs on.
    pub node: Option<String>,
    /// The groups of whoever made the object.
    pub groups: Vec<String>,
    /// The labels of its namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// The object's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether the rest was left out since it is not the credential's to say: a condition that needs it is no
    /// reason to allow, and one to deny. What a
    /// tenant writes into the object anyway is there: `namespace`, `name`, `certificate`, `secret`, `annotations`.
    pub withheld: bool,
}

/// More is reported than is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooMuchReported {
    /// One fact is too long, or holds control characters.
    #[error("what is reported as {what} has more than {most} octets, or control characters")]
    Fact {
        /// Which.
        what: &'static str,
        /// The longest that is taken.
        most: usize,
    },
    /// There are too many of them.
    #[error("more than {most} {what} are reported")]
    Many {
        /// Of what.
        what: &'static str,
        /// The most that are taken.
        most: usize,
    },
    /// All of them together are too long.
    #[error("the {what} that are reported have more than {most} octets together")]
    Long {
        /// Which.
        what: &'static str,
        /// The most that is taken.
        most: usize,
    },
}

/// Nothing of this name is reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "nothing of that name is reported: there are namespace, name, issuer-kind, issuer, username, certificate, secret, pod, service-account, node, group, namespace-label.KEY and annotation.KEY"
)]
pub struct UnknownReport;

/// The facts that are one text each; the order is that of rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportKind {
    Namespace,
    Name,
    IssuerKind,
    Issuer,
    Username,
    Certificate,
    Secret,
    Pod,
    ServiceAccount,
    Node,
}

impl ReportKind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Name,
        Self::IssuerKind,
        Self::Issuer,
        Self::Username,
        Self::Certificate,
        Self::Secret,
        Self::Pod,
        Self::ServiceAccount,
        Self::Node,
    ];

    /// As a condition spells it: CEL identifiers have no hyphens.
    pub(crate) const fn in_conditions(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Name => "name",
            Self::IssuerKind => "issuer_kind",
            Self::Issuer => "issuer",
            Self::Username => "username",
            Self::Certificate => "certificate",
            Self::Secret => "secret",
            Self::Pod => "pod",
            Self::ServiceAccount => "service_account",
            Self::Node => "node",
        }
    }

    /// As records list it, beside claims.
    const fn in_records(self) -> &'static str {
        match self {
            Self::Namespace => NAMESPACE_FACT,
            Self::Name => "reported.name",
            Self::IssuerKind => "reported.issuer-kind",
            Self::Issuer => "reported.issuer",
            Self::Username => "reported.username",
            Self::Certificate => CERTIFICATE_FACT,
            Self::Secret => "reported.secret",
            Self::Pod => "reported.pod",
            Self::ServiceAccount => "reported.service-account",
            Self::Node => "reported.node",
        }
    }
}

/// How records name the reported namespace.
pub const NAMESPACE_FACT: &str = "reported.namespace";
/// How records name the reported Certificate.
pub const CERTIFICATE_FACT: &str = "reported.certificate";

impl Reported {
    /// Whether all of it is short and plain enough to be taken.
    ///
    /// # Errors
    ///
    /// [`TooMuchReported`]: nothing is cut off, since a rule might refuse by just that.
    pub fn check(&self) -> Result<(), TooMuchReported> {
        let plain = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
        for kind in ReportKind::ALL {
            if !plain(self.of(kind).unwrap_or_default(), FACT_MAX) {
                return Err(TooMuchReported::Fact { what: kind.in_conditions(), most: FACT_MAX });
            }
        }
        if self.groups.len() > GROUPS_MAX {
            return Err(TooMuchReported::Many { what: "groups", most: GROUPS_MAX });
        }
        if !self.groups.iter().all(|group| plain(group, FACT_MAX)) {
            return Err(TooMuchReported::Fact { what: "groups", most: FACT_MAX });
        }
        let maps = [("labels", &self.namespace_labels, FACT_MAX), ("annotations", &self.annotations, ANNOTATION_MAX)];
        for (what, map, most) in maps {
            if map.len() > ENTRIES_MAX {
                return Err(TooMuchReported::Many { what, most: ENTRIES_MAX });
            }
            // An annotation may well have lines.
            if !map.iter().all(|(key, value)| plain(key, FACT_MAX) && value.len() <= most) {
                return Err(TooMuchReported::Fact { what, most });
            }
            if map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > ENTRIES_OCTETS_MAX {
                return Err(TooMuchReported::Long { what, most: ENTRIES_OCTETS_MAX });
            }
        }
        Ok(())
    }

    /// What of it a credential may report that a tenant may hold; the rest is marked as withheld.
    #[must_use]
    pub fn of_a_tenant(self) -> Self {
        let Self { namespace, name, certificate, secret, annotations, .. } = self;
        Self { namespace, name, certificate, secret, annotations, withheld: true, ..Self::default() }
    }

    /// Whether a fact was withheld.
    pub(crate) const fn withholds(&self, kind: ReportKind) -> bool {
        use ReportKind as K;
        match kind {
            K::Namespace | K::Name | K::Certificate | K::Secret => false,
            K::IssuerKind | K::Issuer | K::Username | K::Pod | K::ServiceAccount | K::Node => self.withheld,
        }
    }

    /// Sets a fact by its name: `namespace`, `issuer-kind`, …, `group` (again and again), `namespace-label.KEY` and
    /// `annotation.KEY`. What it said before.
    ///
    /// # Errors
    ///
    /// [`UnknownReport`], which lists those that there are.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>, UnknownReport> {
        if name == "group" {
            self.groups.push(value.to_owned());
            return Ok(None);
        }
        for (prefix, map) in [("namespace-label.", &mut self.namespace_labels), ("annotation.", &mut self.annotations)]
        {
            if let Some(key) = name.strip_prefix(prefix).filter(|key| !key.is_empty()) {
                return Ok(map.insert(key.to_owned(), value.to_owned()));
            }
        }
        let kind = ReportKind::ALL.into_iter().find(|kind| kind.in_conditions().replace('_', "-") == name);
        Ok(self.slot(kind.ok_or(UnknownReport)?).replace(value.to_owned()))
    }

    /// The facts that are one text each, as records list them.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        ReportKind::ALL.into_iter().filter_map(|kind| self.of(kind).map(|value| (kind.in_records(), value)))
    }

    pub(crate) fn of(&self, kind: ReportKind) -> Option<&str> {
        let fact = match kind {
            ReportKind::Namespace => &self.namespace,
            ReportKind::Name => &self.name,
            ReportKind::IssuerKind => &self.issuer_kind,
            ReportKind::Issuer => &self.issuer,
            ReportKind::Username => &self.username,
            ReportKind::Certificate => &self.certificate,
            ReportKind::Secret => &self.secret,
            ReportKind::Pod => &self.pod,
            ReportKind::ServiceAccount => &self.service_account,
            ReportKind::Node => &self.node,
        };
        fact.as_deref().filter(|text| !text.is_empty())
    }

    const fn slot(&mut self, kind: ReportKind) -> &mut Option<String> {
        match kind {
            ReportKind::Namespace => &mut self.namespace,
            ReportKind::Name => &mut self.name,
            ReportKind::IssuerKind => &mut self.issuer_kind,
            ReportKind::Issuer => &mut self.issuer,
            ReportKind::Username => &mut self.username,
            ReportKind::Certificate => &mut self.certificate,
            ReportKind::Secret => &mut self.secret,
            ReportKind::Pod => &mut self.pod,
            ReportKind::ServiceAccount => &mut self.service_account,
            ReportKind::Node => &mut self.node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_is_set_by_its_name_and_the_refusal_of_another_lists_them() {
        let mut reported = Reported::default();
        for kind in ReportKind::ALL {
            let name = kind.in_conditions().replace('_', "-");
            assert_eq!(reported.set(&name, "first"), Ok(None));
            assert_eq!(reported.set(&name, &name), Ok(Some("first".to_owned())));
            assert_eq!(reported.of(kind), Some(&*name));
            assert!(UnknownReport.to_string().contains(&name));
        }
        for group in ["a", "b"] {
            assert_eq!(reported.set("group", group), Ok(None));
        }
        assert_eq!(reported.set("namespace-label.example.com/team", "payments"), Ok(None));
        assert_eq!(reported.set("annotation.a", "1"), Ok(None));
        assert_eq!(reported.groups, ["a", "b"]);
        assert_eq!(reported.namespace_labels.get("example.com/team").map(String::as_str), Some("payments"));
        assert_eq!(reported.check(), Ok(()));
        for unknown in ["label.a", "annotation.", "issuer_kind", ""] {
            assert_eq!(reported.set(unknown, "x"), Err(UnknownReport), "{unknown}");
        }
    }

    #[test]
    fn more_than_is_taken_is_refused_and_not_cut() {
        let long = "x".repeat(FACT_MAX + 1);
        let entry = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let many = |count: usize, value: &str| (0..count).map(|at| (format!("key-{at}"), value.to_owned())).collect();
        for (reported, told) in [
            (Reported { username: Some(long.clone()), ..Reported::default() }, "username"),
            (Reported { namespace: Some("a\nb".to_owned()), ..Reported::default() }, "namespace"),
            (Reported { groups: vec![String::new(); GROUPS_MAX + 1], ..Reported::default() }, "more than 64 groups"),
            (Reported { groups: vec![long.clone()], ..Reported::default() }, "groups"),
            (Reported { namespace_labels: entry("a", &long), ..Reported::default() }, "labels"),
            (Reported { annotations: entry(&long, "a"), ..Reported::default() }, "annotations"),
            (Reported { annotations: many(ENTRIES_MAX + 1, ""), ..Reported::default() }, "more than 128 annotations"),
            (Reported { annotations: many(9, &"x".repeat(ANNOTATION_MAX)), ..Reported::default() }, "together"),
        ] {
            let refused = reported.check().expect_err(told).to_string();
            assert!(refused.contains(told), "{refused}");
        }
        let most = Reported {
            annotations: entry("a", &"\n".repeat(ANNOTATION_MAX)),
            groups: vec!["x".repeat(FACT_MAX); GROUPS_MAX],
            ..Reported::default()
        };
        assert_eq!(most.check(), Ok(()));
    }
}
