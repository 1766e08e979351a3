//! Who asks: the door it came through, what it proved, what it merely claims, and what is reported about it.

use std::{fmt, str::FromStr, sync::Arc};

use crate::reported::{ReportKind, Reported};

/// A way into the authority, each with its own proof of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// ACME (RFC 8555): an account key.
    Acme,
    /// cert-manager's external issuer: a Kubernetes service account.
    CertManager,
    /// Kubernetes signers (CertificateSigningRequest, PodCertificateRequest).
    KubernetesSigner,
    /// The mesh endpoint: a workload's token.
    Mesh,
    /// The REST API: a signed-in user.
    Api,
    /// The server's own TLS certificate.
    OwnTls,
}

impl Door {
    /// Every door.
    pub const ALL: [Self; 6] =
        [Self::Acme, Self::CertManager, Self::KubernetesSigner, Self::Mesh, Self::Api, Self::OwnTls];

    /// As a policy spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::CertManager => "cert-manager",
            Self::KubernetesSigner => "kubernetes-signer",
            Self::Mesh => "mesh",
            Self::Api => "api",
            Self::OwnTls => "own-tls",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such door: the doors are acme, cert-manager, kubernetes-signer, mesh, api and own-tls")]
pub struct UnknownDoor;

impl FromStr for Door {
    type Err = UnknownDoor;

    fn from_str(text: &str) -> Result<Self, UnknownDoor> {
        Self::ALL.into_iter().find(|door| door.as_str() == text).ok_or(UnknownDoor)
    }
}

/// Which claim; the order is that of rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ClaimKind {
    Account,
    Eab,
    Cluster,
    Namespace,
    ServiceAccount,
    User,
}

impl ClaimKind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Account, Self::Eab, Self::Cluster, Self::Namespace, Self::ServiceAccount, Self::User];

    /// As a policy's `for` spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Eab => "eab",
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service-account",
            Self::User => "user",
        }
    }

    /// As a condition spells it: CEL identifiers have no hyphens.
    pub(crate) const fn in_conditions(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::Account | Self::Eab | Self::Cluster | Self::Namespace | Self::User => self.as_str(),
        }
    }
}

/// What is said about a requester. A claim that is absent, or empty, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Claims {
    /// The ACME account's id.
    pub account: Option<String>,
    /// The external account binding's key id (RFC 8555 §7.3.4).
    pub eab: Option<String>,
    /// The Kubernetes cluster.
    pub cluster: Option<String>,
    /// The Kubernetes namespace.
    pub namespace: Option<String>,
    /// The Kubernetes service account, without its namespace.
    pub service_account: Option<String>,
    /// The signed-in user.
    pub user: Option<String>,
}

/// The text names no claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such claim: the claims are account, eab, cluster, namespace, service-account and user")]
pub struct UnknownClaim;

impl Claims {
    /// Sets a claim by its name, as a policy's `for` spells it; what it said before.
    ///
    /// # Errors
    ///
    /// [`UnknownClaim`], which lists those that there are.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<String>, UnknownClaim> {
        let kind = ClaimKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownClaim)?;
        let Self { account, eab, cluster, namespace, service_account, user } = self;
        let claim = match kind {
            ClaimKind::Account => account,
            ClaimKind::Eab => eab,
            ClaimKind::Cluster => cluster,
            ClaimKind::Namespace => namespace,
            ClaimKind::ServiceAccount => service_account,
            ClaimKind::User => user,
        };
        Ok(claim.replace(value.to_owned()))
    }

    pub(crate) fn of(&self, kind: ClaimKind) -> Option<&str> {
        let Self { account, eab, cluster, namespace, service_account, user } = self;
        let claim = match kind {
            ClaimKind::Account => account,
            ClaimKind::Eab => eab,
            ClaimKind::Cluster => cluster,
            ClaimKind::Namespace => namespace,
            ClaimKind::ServiceAccount => service_account,
            ClaimKind::User => user,
        };
        claim.as_deref().filter(|text| !text.is_empty())
    }
}

/// Who asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requester {
    /// Where it came in.
    pub door: Door,
    /// The ACME directory it used, if its door has any.
    pub directory: Option<String>,
    /// What was verified: by signature, MAC, token or certificate.
    pub proven: Claims,
    /// What the requester says without proof. A rule's `for` never reads it.
    pub claimed: Claims,
    /// What a trusted controller reports about the object that asks. A rule's `for` never reads it.
    pub reported: Option<Arc<Reported>>,
}

/// One fact about a requester, as records and pages list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Which claim, as a policy's `for` spells it.
    pub name: &'static str,
    /// What it says.
    pub value: &'a str,
    /// Whether it was verified.
    pub proven: bool,
}

impl Requester {
    /// An ACME account; account and external binding are proven by the account's signature.
    #[must_use]
    pub fn acme(directory: &str, account: &str, eab: Option<&str>) -> Self {
        let proven = Claims { account: Some(account.to_owned()), eab: eab.map(str::to_owned), ..Claims::default() };
        Self { directory: Some(directory.to_owned()), proven, ..Self::at(Door::Acme) }
    }

    /// The server itself, for its own listener.
    #[must_use]
    pub fn own_tls() -> Self {
        Self::at(Door::OwnTls)
    }

    /// Somebody at a door of whom nothing is known.
    #[must_use]
    pub fn at(door: Door) -> Self {
        Self { door, directory: None, proven: Claims::default(), claimed: Claims::default(), reported: None }
    }

    /// What is reported as one text each, as records list it beside the claims: `reported.namespace`.
    pub fn reported_facts(&self) -> impl Iterator<Item = Fact<'_>> {
        let facts = self.reported.iter().flat_map(|reported| reported.facts());
        facts.map(|(name, value)| Fact { name, value, proven: false })
    }

    /// Every claim there is, the proven ones first; door, directory and what is reported are not among them.
    pub fn facts(&self) -> impl Iterator<Item = Fact<'_>> {
        let all = |claims, proven| facts_of(claims, proven);
        all(&self.proven, true).chain(all(&self.claimed, false))
    }
}

fn facts_of(claims: &Claims, proven: bool) -> impl Iterator<Item = Fact<'_>> {
    ClaimKind::ALL
        .into_iter()
        .filter_map(move |kind| claims.of(kind).map(|value| Fact { name: kind.as_str(), value, proven }))
}

/// `acme account AbC (eab platform-team)`: the door, the first claim, the others in brackets.
impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.door)?;
        let mut first = true;
        let mut open = false;
        for Fact { name, value, proven } in self.facts() {
            // Claims come from outside: nothing in them may move a terminal's cursor.
            let value = value.escape_debug();
            let claimed = if proven { "" } else { "claims " };
            if first && proven {
                write!(f, " {name} {value}")?;
                first = false;
                continue;
            }
            f.write_str(if open { ", " } else { " (" })?;
            write!(f, "{claimed}{name} {value}")?;
            open = true;
        }
        for kind in [ReportKind::Namespace, ReportKind::Certificate] {
            let said = self.reported.as_ref().and_then(|reported| reported.of(kind));
            // What is proven need not be reported as well.
            if kind == ReportKind::Namespace && said == self.proven.of(ClaimKind::Namespace) {
                continue;
            }
            let Some(value) = said.map(str::escape_debug) else { continue };
            f.write_str(if open { ", " } else { " (" })?;
            write!(f, "reports {} {value}", kind.in_conditions())?;
            open = true;
        }
        if open { f.write_str(")") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_reads_as_door_account_and_what_else_is_known() {
        let acme = Requester::acme("default", "AbC", Some("platform-team"));
        assert_eq!(acme.to_string(), "acme account AbC (eab platform-team)");
        assert_eq!(Requester::acme("default", "AbC", None).to_string(), "acme account AbC");
        assert_eq!(Requester::own_tls().to_string(), "own-tls");
        let mut workload = Requester { door: Door::CertManager, ..Requester::own_tls() };
        workload.proven.cluster = Some("prod-eu".to_owned());
        workload.proven.namespace = Some("istio-ingress".to_owned());
        workload.claimed.user = Some("eve\u{1b}[2J".to_owned());
        assert_eq!(
            workload.to_string(),
            "cert-manager cluster prod-eu (namespace istio-ingress, claims user eve\\u{1b}[2J)"
        );
    }

    #[test]
    fn what_is_reported_reads_as_such_unless_it_is_proven() {
        let mut workload = Requester::at(Door::CertManager);
        workload.proven.cluster = Some("prod-eu".to_owned());
        let mut reported = Reported::default();
        for (name, value) in [("namespace", "shop"), ("certificate", "web"), ("username", "ann")] {
            reported.set(name, value).expect("a fact");
        }
        workload.reported = Some(Arc::new(reported));
        let told = "cert-manager cluster prod-eu (reports namespace shop, reports certificate web)";
        assert_eq!(workload.to_string(), told);
        let facts: Vec<_> = workload.reported_facts().map(|fact| (fact.name, fact.value, fact.proven)).collect();
        let expected = [
            ("reported.namespace", "shop", false),
            ("reported.username", "ann", false),
            ("reported.certificate", "web", false),
        ];
        assert_eq!(facts, expected);
        workload.proven.namespace = Some("shop".to_owned());
        let told = "cert-manager cluster prod-eu (namespace shop, reports certificate web)";
        assert_eq!(workload.to_string(), told);
    }

    #[test]
    fn every_claim_is_set_by_its_name_and_the_refusal_of_another_lists_them() {
        let mut claims = Claims::default();
        for kind in ClaimKind::ALL {
            assert_eq!(claims.set(kind.as_str(), "first"), Ok(None));
            assert_eq!(claims.set(kind.as_str(), kind.as_str()), Ok(Some("first".to_owned())));
            assert_eq!(claims.of(kind), Some(kind.as_str()));
            assert!(UnknownClaim.to_string().contains(kind.as_str()));
        }
        assert_eq!(claims.set("service_account", "x"), Err(UnknownClaim), "that is how conditions spell it");
    }

    #[test]
    fn an_empty_claim_is_no_claim() {
        let nobody = Requester::acme("default", "", None);
        assert_eq!(nobody.facts().count(), 0);
    }
}
