//! Accounts (RFC 8555 §7.1.2).

use chancery_pki::{PublicKey, Timestamp};

use crate::id::AccountId;

/// The name of an ACME directory of this server, as it stands in `/acme/{directory}/directory`.
pub type DirectoryName = String;

/// The part of a company that a directory serves, where the company tells its parts apart.
pub type TenantName = String;

/// An account: a key, and what its holder told us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its identity, in its URL.
    pub id: AccountId,
    /// The directory at which it registered; it is not known at any other.
    pub directory: DirectoryName,
    /// The key that signs its requests.
    pub key: PublicKey,
    /// `mailto:` URLs, checked.
    pub contacts: Vec<String>,
    /// Whether it may still act.
    pub status: AccountStatus,
    /// The terms of service that it agreed to last, if it did.
    pub terms_agreed: Option<TermsAgreed>,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it stands in the ledger: it was granted a certificate once, or was made with an EAB key. Others are
    /// strangers: they are counted, limited and pruned.
    pub proven: bool,
    /// The external account binding it came with (RFC 8555 §7.3.4): the key's identifier and the JWS word for word.
    pub external: Option<ExternalAccount>,
}

/// An agreement to terms of service (RFC 8555 §7.3, §7.3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsAgreed {
    /// The URL at which they stood; terms at another URL are other terms.
    pub url: String,
    /// When it agreed.
    pub at: Timestamp,
}

/// A verified external account binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The identifier of the EAB key.
    pub key_id: String,
    /// The binding as it was sent, reflected in the account object.
    pub binding: String,
}

/// Whether an account may act (RFC 8555 §7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStatus {
    /// It may.
    Valid,
    /// Its holder ended it.
    Deactivated {
        /// When.
        at: Timestamp,
    },
    /// We ended it.
    Revoked {
        /// When.
        at: Timestamp,
    },
}

impl Account {
    /// Whether it agreed to the terms at this URL.
    #[must_use]
    pub fn has_agreed_to(&self, terms: &str) -> bool {
        self.terms_agreed.as_ref().is_some_and(|agreed| agreed.url == terms)
    }
}
