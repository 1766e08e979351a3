//! What the store keeps beside the ACME resources: certificates, jobs, idempotency outcomes.

mod eab_key;

use std::{collections::BTreeMap, fmt, str::FromStr};

use chancery_acme::{
    account::TenantName,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::ProfileName,
};
use chancery_pki::{NameSet, SerialNumber, SpkiDigest, Timestamp, Validity};
use chancery_policy::{CERTIFICATE_FACT, Door, Fact, NAMESPACE_FACT, Requester};

pub use crate::api_token::{ApiToken, ApiTokenId};

pub use eab_key::{EabKey, EabKeyEnded, EabKeyId, EabLimits, NotAnEabKeyId};

/// The name of an authority, as the configuration gives it: letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(Box<str>);

/// The text cannot name an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an authority's name has 1 to 63 lower-case letters, digits and inner hyphens")]
pub struct NotAnAuthorityId;

impl AuthorityId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AuthorityId {
    type Err = NotAnAuthorityId;

    fn from_str(text: &str) -> Result<Self, NotAnAuthorityId> {
        let plain = text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if text.is_empty() || text.len() > 63 || !plain || text.starts_with('-') || text.ends_with('-') {
            return Err(NotAnAuthorityId);
        }
        Ok(Self(text.into()))
    }
}

/// A value with the version under which the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Its version; a put must name it.
    pub version: Version,
}

/// The version of a stored value: the sequence of the commit that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A leaf of the ledger, from the view of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeafRef {
    /// The leaf at this index of the tree. Loaded records hold nothing else.
    At(u64),
    /// The n-th leaf of the [`Changes`](crate::changes::Changes) that carry this record; the store resolves it.
    InThisCommit(usize),
}

/// How long and how fully a certificate's record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retention {
    /// A full record, searchable by every index.
    Full,
    /// A light record: found by serial, key and requester, dropped soon after its end.
    Light,
}

/// One line of the inventory. The certificate's bytes stand in the ledger, once: the TBS in the
/// intent leaf, the signature in the signature leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRecord {
    /// Its identity; the 128 bits of its serial number.
    pub id: CertificateId,
    /// Who issued it.
    pub authority: AuthorityId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// What it names.
    pub names: NameSet,
    /// Its key.
    pub key: SpkiDigest,
    /// From when to when it holds.
    pub validity: Validity,
    /// The profile it was made by.
    pub profile: ProfileName,
    /// Who asked for it, as policy saw it, in one line.
    pub requester: String,
    /// The account that asked for it, at the ACME door.
    pub account: Option<AccountId>,
    /// The order it fulfils, at the ACME door.
    pub order: Option<OrderId>,
    /// Whose it is, where tenants are told apart.
    pub tenant: Option<TenantName>,
    /// Which object of which cluster it was asked for by, at the doors of Kubernetes.
    pub origin: Option<ClusterOrigin>,
    /// Where it is used, as the requester reports it: at most [`USED_BY_MAX`] places.
    pub used_by: Vec<String>,
    /// Which of the authority's chains goes with it.
    pub chain: u16,
    /// The CRL shard its CRL URL names, if it names one; fixed when it is issued.
    pub crl_shard: Option<u16>,
    /// How long its record is kept.
    pub retention: Retention,
    /// How far its issuance got.
    pub state: CertificateState,
    /// Its revocation, if it is revoked.
    pub revocation: Option<Revocation>,
    /// The order that was placed last to replace it (RFC 9773 §5); it counts unless that is gone or invalid.
    pub replaced_by: Option<OrderId>,
    /// When its intent was recorded.
    pub recorded: Timestamp,
}

/// Most places at which one certificate is reported to be used.
pub const USED_BY_MAX: usize = 16;
/// Longest name of such a place, in octets.
pub const USED_BY_OCTETS_MAX: usize = 256;

/// Where in Kubernetes a certificate was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterOrigin {
    /// The cluster, proven.
    pub cluster: String,
    /// The namespace, proven or reported; none for what has none.
    pub namespace: Option<String>,
    /// The Certificate, as reported, where there is one.
    pub certificate: Option<String>,
}

impl ClusterOrigin {
    /// The origin that these facts tell of, as [`Requester::facts`] and [`Requester::reported_facts`] list them; none
    /// without a proven cluster.
    #[must_use]
    pub fn of_facts<'a>(facts: impl IntoIterator<Item = (&'a str, &'a str, bool)>) -> Option<Self> {
        let (mut cluster, mut proven, mut reported, mut certificate) = (None, None, None, None);
        for (name, value, is_proven) in facts {
            let place = match (name, is_proven) {
                ("cluster", true) => &mut cluster,
                ("namespace", true) => &mut proven,
                (NAMESPACE_FACT, false) => &mut reported,
                (CERTIFICATE_FACT, false) => &mut certificate,
                _ => continue,
            };
            *place = Some(value.to_owned());
        }
        Some(Self { cluster: cluster?, namespace: proven.or(reported), certificate })
    }

    pub(crate) fn of(requester: &Requester) -> Option<Self> {
        let facts = requester.facts().chain(requester.reported_facts());
        Self::of_facts(facts.map(|Fact { name, value, proven }| (name, value, proven)))
    }
}

/// How far an issuance got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState {
    /// The intent is durable; a signature may exist or not.
    Intended {
        /// The intent leaf.
        intent: LeafRef,
    },
    /// Signed, checked, durable.
    Issued {
        /// The intent leaf.
        intent: LeafRef,
        /// The signature leaf.
        signature: LeafRef,
    },
    /// Given up with an unknown outcome: a signature may exist, so it can be revoked.
    PossiblyIssued {
        /// The intent leaf.
        intent: LeafRef,
    },
}

impl CertificateState {
    /// The word that commands and exports show.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Intended { .. } => "intended",
            Self::Issued { .. } => "issued",
            Self::PossiblyIssued { .. } => "possibly issued",
        }
    }

    /// The intent leaf.
    #[must_use]
    pub const fn intent(&self) -> LeafRef {
        match self {
            Self::Intended { intent } | Self::Issued { intent, .. } | Self::PossiblyIssued { intent } => *intent,
        }
    }
}

/// That a certificate is revoked (RFC 5280 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Since when.
    pub at: Timestamp,
    /// Why, if it was said.
    pub reason: Option<RevocationReason>,
}

/// Why a certificate is revoked (RFC 5280 §5.3.1): those that a subscriber may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// 0
    Unspecified,
    /// 1
    KeyCompromise,
    /// 3
    AffiliationChanged,
    /// 4
    Superseded,
    /// 5
    CessationOfOperation,
    /// 9
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// Those that are permitted.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The CRLReason code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The name in RFC 5280.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    /// From its code, if it is one of the permitted.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| u64::from(reason.code()) == code)
    }
}

/// A job: work that is owed, with the time from which it is due. One job per key; scheduling
/// again moves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is owed; also its identity.
    pub kind: JobKind,
    /// When it is due.
    pub due: Timestamp,
    /// How often it was tried.
    pub attempt: u32,
}

/// What may be owed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Look whether a challenge is fulfilled, and decide.
    Validate {
        /// The authorization whose challenge is `processing`.
        authorization: AuthorizationId,
    },
    /// Settle an issuance whose signature never became durable.
    Settle {
        /// The certificate.
        certificate: CertificateId,
    },
    /// Drop an order that ended, with its authorizations and its place in the account's count.
    PruneOrder {
        /// The order.
        order: OrderId,
    },
    /// Drop an account that never was granted a certificate.
    PruneAccount {
        /// The account.
        account: AccountId,
    },
    /// Make the open orders of an account that ended invalid.
    CancelOrders {
        /// The account.
        account: AccountId,
    },
    /// Drop an EAB key whose time is over and with which no account was made.
    PruneEabKey {
        /// The key.
        key: EabKeyId,
    },
    /// Stop the accounts that were made with an EAB key that was revoked with them.
    StopAccounts {
        /// The key.
        key: EabKeyId,
    },
    /// Drop the records of certificates whose retention is over.
    PruneCertificates,
    /// Drop an API token that ended.
    PruneApiToken {
        /// The token.
        token: ApiTokenId,
    },
    /// Sign a checkpoint of the ledger.
    Checkpoint,
    /// Renew the server's own TLS certificate.
    RenewOwnTls,
}

/// Under which key a request may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey {
    /// The door.
    pub door: String,
    /// The credential, or the cluster that it speaks for and the namespace.
    pub credential: String,
    /// The requester's own identifier of the request (a UID).
    pub uid: String,
}

/// A request cannot be named so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request's identifier, and what it is asked with, have 1 to 256 octets each and no control characters")]
pub struct NotAnIdempotencyKey;

impl IdempotencyKey {
    /// The key of a request.
    ///
    /// # Errors
    ///
    /// [`NotAnIdempotencyKey`]: ledger and store keep its parts apart by control characters.
    pub fn new(door: Door, credential: &str, uid: &str) -> Result<Self, NotAnIdempotencyKey> {
        let fits = |text: &str| (1..=256).contains(&text.len()) && !text.contains(char::is_control);
        if !fits(credential) || !fits(uid) {
            return Err(NotAnIdempotencyKey);
        }
        Ok(Self { door: door.to_string(), credential: credential.to_owned(), uid: uid.to_owned() })
    }
}

/// What became of a request that may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256 of the request: the same key with another request is refused.
    pub request: [u8; 32],
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// What became of it.
    pub outcome: IdempotencyOutcome,
    /// When.
    pub at: Timestamp,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdempotencyOutcome {
    /// The intent is recorded; not settled yet.
    Pending {
        /// The certificate on its way.
        certificate: CertificateId,
    },
    /// A certificate was issued.
    Issued {
        /// Which.
        certificate: CertificateId,
    },
    /// It was refused.
    Refused {
        /// By which rule.
        rule: String,
    },
    /// It waits for an approval.
    Held,
    /// It was given up with an unknown outcome; the next try gets a new serial.
    Abandoned {
        /// The serial that may exist.
        certificate: CertificateId,
    },
}

/// By what and under what certificates are issued, as the ledger's leaves last had it: one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// The issuing certificates: each one's authority and SHA-256, with its key's digest.
    pub issuing: BTreeMap<(AuthorityId, [u8; 32]), SpkiDigest>,
    /// SHA-256 of the policy.
    pub policy: Option<[u8; 32]>,
    /// Each profile's SHA-256.
    pub profiles: BTreeMap<ProfileName, [u8; 32]>,
}
