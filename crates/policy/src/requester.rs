//! Who asks: typed claims, those that the door proved apart from those that were merely said.

use std::{fmt, str::FromStr};

/// Where a request enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The ACME server.
    Acme,
    /// The cert-manager external issuer.
    CertManager,
    /// Kubernetes signers.
    KubernetesSigner,
    /// The Istio CA endpoint.
    Mesh,
    /// The REST API and the command line.
    Api,
    /// The server's own TLS certificate.
    OwnTls,
}

impl Door {
    /// All doors.
    pub const ALL: [Self; 6] =
        [Self::Acme, Self::CertManager, Self::KubernetesSigner, Self::Mesh, Self::Api, Self::OwnTls];

    /// As a policy file writes it.
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

/// No door of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the doors are acme, cert-manager, kubernetes-signer, mesh, api and own-tls")]
pub struct UnknownDoor;

impl FromStr for Door {
    type Err = UnknownDoor;

    fn from_str(text: &str) -> Result<Self, UnknownDoor> {
        Self::ALL.into_iter().find(|door| door.as_str() == text).ok_or(UnknownDoor)
    }
}

macro_rules! claims {
    ($($(#[$doc:meta])* $field:ident = $text:literal,)*) => {
        /// Facts about a requester.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Claims { $($(#[$doc])* pub $field: Option<String>,)* }

        impl Claims {
            /// The names of all claims, as policy files write them.
            pub const NAMES: &'static [&'static str] = &[$($text,)*];

            /// The claims that are there, by name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
                [$(($text, self.$field.as_deref()),)*].into_iter().filter_map(|(name, value)| Some((name, value?)))
            }

            /// A claim by name.
            #[must_use]
            pub fn claim(&self, name: &str) -> Option<&str> {
                match name { $($text => self.$field.as_deref(),)* _ => None }
            }
        }
    };
}

claims! {
    /// The ACME account's id.
    account = "account",
    /// The external account binding's key id.
    eab = "eab",
    /// The Kubernetes cluster.
    cluster = "cluster",
    /// The Kubernetes namespace.
    namespace = "namespace",
    /// The Kubernetes service account.
    service_account = "service-account",
}

/// One fact about a requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Which claim.
    pub name: &'static str,
    /// Whether the door proved it.
    pub proven: bool,
    /// What it says.
    pub value: &'a str,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// Through which door.
    pub door: Door,
    /// At which ACME directory.
    pub directory: Option<String>,
    /// What the door proved. Rules look at these alone.
    pub proven: Claims,
    /// What was merely said; conditions can see it, apart.
    pub claimed: Claims,
}

impl Requester {
    /// An ACME account.
    #[must_use]
    pub fn acme(directory: &str, account: &str, eab: Option<&str>) -> Self {
        Self {
            door: Door::Acme,
            directory: Some(directory.to_owned()),
            proven: Claims { account: Some(account.to_owned()), eab: eab.map(str::to_owned), ..Claims::default() },
            claimed: Claims::default(),
        }
    }

    /// The server itself, for its own listener.
    #[must_use]
    pub fn own_tls() -> Self {
        Self { door: Door::OwnTls, directory: None, proven: Claims::default(), claimed: Claims::default() }
    }

    /// All facts, proven ones first.
    pub fn facts(&self) -> impl Iterator<Item = Fact<'_>> {
        self.proven
            .iter()
            .map(|(name, value)| Fact { name, proven: true, value })
            .chain(self.claimed.iter().map(|(name, value)| Fact { name, proven: false, value }))
    }
}

/// One line for people: `acme account 5Zq… (eab platform-team)`.
impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.door.fmt(f)?;
        if let Some(directory) = &self.directory {
            write!(f, " {directory}")?;
        }
        for (name, value) in self.proven.iter() {
            write!(f, " {name} {value}")?;
        }
        Ok(())
    }
}
