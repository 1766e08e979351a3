//! Where the resources of one directory stand, as absolute URLs (RFC 8555 §7.1).
//!
//! They begin with the configured external URL, never with what a request's Host header says.
//! Everything after it is made of fixed words and opaque identifiers.

use std::fmt::Display;

use crate::{
    challenge::ChallengeKind,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
};

/// The URLs of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    base: Box<str>,
}

impl Urls {
    /// The URLs of `directory` on a server whose external URL (scheme, host and port) is `external`.
    #[must_use]
    pub fn new(external: &str, directory: &str) -> Self {
        Self { base: format!("{}/acme/{directory}", external.trim_end_matches('/')).into() }
    }

    fn under(&self, path: impl Display) -> String {
        format!("{}/{path}", self.base)
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> String {
        self.under("directory")
    }

    /// newNonce.
    #[must_use]
    pub fn new_nonce(&self) -> String {
        self.under("new-nonce")
    }

    /// newAccount.
    #[must_use]
    pub fn new_account(&self) -> String {
        self.under("new-account")
    }

    /// newOrder.
    #[must_use]
    pub fn new_order(&self) -> String {
        self.under("new-order")
    }

    /// revokeCert.
    #[must_use]
    pub fn revoke_cert(&self) -> String {
        self.under("revoke-cert")
    }

    /// keyChange.
    #[must_use]
    pub fn key_change(&self) -> String {
        self.under("key-change")
    }

    /// renewalInfo: what is behind a slash after it names a certificate (RFC 9773 §4.1).
    #[must_use]
    pub fn renewal_info(&self) -> String {
        self.under("renewal-info")
    }

    /// An account; also the `kid` of its requests.
    #[must_use]
    pub fn account(&self, id: AccountId) -> String {
        self.under(format_args!("account/{id}"))
    }

    /// The account that a `kid` names, if it is letter for letter an account URL of this directory.
    #[must_use]
    pub fn account_id(&self, kid: &str) -> Option<AccountId> {
        kid.strip_prefix(&*self.base)?.strip_prefix("/account/")?.parse().ok()
    }

    /// The orders of an account.
    #[must_use]
    pub fn orders(&self, account: AccountId) -> String {
        self.under(format_args!("account/{account}/orders"))
    }

    /// The orders of an account that come after `after`.
    #[must_use]
    pub fn orders_after(&self, account: AccountId, after: OrderId) -> String {
        self.under(format_args!("account/{account}/orders?after={after}"))
    }

    /// An order.
    #[must_use]
    pub fn order(&self, id: OrderId) -> String {
        self.under(format_args!("order/{id}"))
    }

    /// Where an order is finalized.
    #[must_use]
    pub fn finalize(&self, id: OrderId) -> String {
        self.under(format_args!("order/{id}/finalize"))
    }

    /// An authorization.
    #[must_use]
    pub fn authorization(&self, id: AuthorizationId) -> String {
        self.under(format_args!("authorization/{id}"))
    }

    /// A challenge of an authorization.
    #[must_use]
    pub fn challenge(&self, authorization: AuthorizationId, kind: ChallengeKind) -> String {
        self.under(format_args!("challenge/{authorization}/{kind}"))
    }

    /// A certificate with its first chain.
    #[must_use]
    pub fn certificate(&self, id: CertificateId) -> String {
        self.under(format_args!("certificate/{id}"))
    }

    /// A certificate with another chain, counted from 1.
    #[must_use]
    pub fn alternate(&self, id: CertificateId, chain: usize) -> String {
        self.under(format_args!("certificate/{id}/{chain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_is_an_account_url_of_this_very_directory_letter_for_letter() {
        let urls = Urls::new("https://ca.example:14000/", "default");
        let id = AccountId::from_random([7; 16]);
        let kid = urls.account(id);
        assert_eq!(kid, format!("https://ca.example:14000/acme/default/account/{id}"));
        assert_eq!(urls.account_id(&kid), Some(id));
        let other = Urls::new("https://ca.example:14000", "other");
        assert_eq!(other.account_id(&kid), None);
        for wrong in [
            format!("{kid}/"),
            format!("{kid}?"),
            format!("{kid}="),
            kid.replace("https", "http"),
            kid.replace("ca.example", "CA.example"),
            kid.replace("default/account", "default//account"),
            id.to_string(),
        ] {
            assert_eq!(urls.account_id(&wrong), None, "{wrong}");
        }
    }
}
