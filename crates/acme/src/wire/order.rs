//! Orders (RFC 8555 §7.1.3, §7.4; profiles: draft-ietf-acme-profiles §4).

use chancery_pki::{
    Name, NameRejection, NameSet, Timestamp,
    name::{NAMES_MAX, NAMES_OCTETS_MAX},
};
use serde::{Deserialize, Serialize};

use super::{
    Identifier, IdentifierRejection, NotBase64Url,
    json::{NotThisJson, Object},
    problem::Problem,
};
use crate::{
    order::{self, OrderState, OrderStatus},
    problem::{self, ProblemType},
    renewal_info::{NotAUniqueIdentifier, UniqueIdentifier},
    urls::Urls,
};

/// The payload of newOrder (§7.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewOrder {
    identifiers: Vec<Object<Identifier>>,
    #[serde(default)]
    not_before: Option<String>,
    #[serde(default)]
    not_after: Option<String>,
    /// The profile that is asked for.
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    replaces: Option<String>,
}

/// Why a newOrder payload is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewOrderRejection {
    /// No identifiers.
    #[error("an order names at least one identifier")]
    NoIdentifiers,
    /// Too many identifiers.
    #[error("{count} identifiers are more than the {max} that one order may have", max = NAMES_MAX)]
    TooManyIdentifiers {
        /// How many were given.
        count: usize,
    },
    /// Identifiers that are too long together.
    #[error(
        "identifiers of {octets} octets together are longer than the {max} that one order may have; order several certificates",
        max = NAMES_OCTETS_MAX
    )]
    IdentifiersTooLong {
        /// How many octets were given.
        octets: usize,
    },
    /// A time that is none.
    #[error("{member} is not a time as RFC 3339 writes it, to the millisecond at most, such as 2026-11-25T10:00:00Z")]
    NotATime {
        /// Which member.
        member: &'static str,
    },
    /// What is to be replaced is named in no way that names a certificate.
    #[error("replaces: {0}")]
    Replaces(NotAUniqueIdentifier),
    /// Some identifiers cannot be read; every one of them is here.
    #[error("{} of {} identifiers cannot be taken", refused.len(), count)]
    Identifiers {
        /// How many were given.
        count: usize,
        /// Those that are refused, and why.
        refused: Vec<(Identifier, IdentifierRejection)>,
    },
}

impl NewOrder {
    /// The names that are asked for, duplicates folded (point 25 of §7.1.4: the same each time).
    ///
    /// # Errors
    ///
    /// [`NewOrderRejection`] with every identifier that cannot be read, not only the first.
    pub fn names(&self) -> Result<NameSet, NewOrderRejection> {
        let count = self.identifiers.len();
        if count > NAMES_MAX {
            return Err(NewOrderRejection::TooManyIdentifiers { count });
        }
        let mut names: Vec<Name> = Vec::with_capacity(count);
        let mut refused = Vec::new();
        for Object(identifier) in &self.identifiers {
            match identifier.name() {
                Ok(name) => names.push(name),
                Err(why) => refused.push((identifier.clone(), why)),
            }
        }
        if !refused.is_empty() {
            return Err(NewOrderRejection::Identifiers { count, refused });
        }
        NameSet::new(names).map_err(|rejection| match rejection {
            NameRejection::TooManyNames { count } => NewOrderRejection::TooManyIdentifiers { count },
            NameRejection::NamesTooLong { octets } => NewOrderRejection::IdentifiersTooLong { octets },
            _ => NewOrderRejection::NoIdentifiers,
        })
    }

    /// The `notBefore` that is asked for.
    ///
    /// # Errors
    ///
    /// [`NewOrderRejection::NotATime`].
    pub fn not_before(&self) -> Result<Option<Timestamp>, NewOrderRejection> {
        time("notBefore", self.not_before.as_deref())
    }

    /// The `notAfter` that is asked for.
    ///
    /// # Errors
    ///
    /// [`NewOrderRejection::NotATime`].
    pub fn not_after(&self) -> Result<Option<Timestamp>, NewOrderRejection> {
        time("notAfter", self.not_after.as_deref())
    }

    /// The certificate that is to be replaced (RFC 9773 §5).
    ///
    /// # Errors
    ///
    /// [`NewOrderRejection::Replaces`].
    pub fn replaces(&self) -> Result<Option<UniqueIdentifier>, NewOrderRejection> {
        self.replaces.as_deref().map(str::parse).transpose().map_err(NewOrderRejection::Replaces)
    }
}

fn time(member: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, NewOrderRejection> {
    text.map(str::parse).transpose().map_err(|_| NewOrderRejection::NotATime { member })
}

/// The payload of finalize (§7.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finalize {
    csr: String,
}

impl Finalize {
    /// The CSR in DER.
    ///
    /// # Errors
    ///
    /// [`NotBase64Url`].
    pub fn csr(&self) -> Result<Vec<u8>, NotBase64Url> {
        super::base64url("csr", &self.csr)
    }

    /// From a payload.
    ///
    /// # Errors
    ///
    /// [`NotThisJson`].
    pub fn parse(payload: &[u8]) -> Result<Self, NotThisJson> {
        super::json::payload(payload)
    }
}

/// An order object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// `pending`, `ready`, `processing`, `valid` or `invalid`.
    pub status: String,
    /// When it ends unless it is valid by then.
    pub expires: String,
    /// What it names.
    pub identifiers: Vec<Identifier>,
    /// The `notBefore` that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// The `notAfter` that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// The profile its certificate is made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The certificate that it replaces (RFC 9773 §5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Why it is invalid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Its authorizations.
    pub authorizations: Vec<String>,
    /// Where it is finalized.
    pub finalize: String,
    /// Its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

impl Order {
    /// The order as its account sees it at `now`.
    #[must_use]
    pub fn of(order: &order::Order, now: Timestamp, urls: &Urls) -> Self {
        let order::Order {
            id,
            account: _,
            directory: _,
            tenant: _,
            names,
            profile,
            not_before,
            not_after,
            replaces,
            authorizations,
            state,
            created: _,
            expires,
        } = order;
        let status = order.status(now);
        let (error, certificate) = match state {
            OrderState::Valid { certificate } => (None, Some(urls.certificate(*certificate))),
            OrderState::Invalid { error } => (Some(Problem::of(error)), None),
            OrderState::Pending | OrderState::Ready if status == OrderStatus::Invalid => {
                let expired = problem::Problem::new(
                    ProblemType::OrderNotReady,
                    format_args!("the order expired at {expires}; place a new one"),
                );
                (Some(Problem::of(&expired)), None)
            }
            OrderState::Pending | OrderState::Ready | OrderState::Processing { .. } => (None, None),
        };
        Self {
            status: status.as_str().to_owned(),
            expires: expires.to_string(),
            identifiers: names.iter().map(Identifier::of).collect(),
            not_before: not_before.map(|at| at.to_string()),
            not_after: not_after.map(|at| at.to_string()),
            profile: Some(profile.clone()),
            replaces: replaces.as_ref().map(ToString::to_string),
            error,
            authorizations: authorizations.iter().map(|id| urls.authorization(*id)).collect(),
            finalize: urls.finalize(*id),
            certificate,
        }
    }
}
