//! The directory (RFC 8555 §7.1.1; profiles: draft-ietf-acme-profiles §3).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::urls::Urls;

/// The directory object. What is not offered is not named: no `newAuthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Where nonces are had.
    pub new_nonce: String,
    /// Where accounts are made.
    pub new_account: String,
    /// Where orders are placed.
    pub new_order: String,
    /// Where certificates are revoked.
    pub revoke_cert: String,
    /// Where accounts are given another key.
    pub key_change: String,
    /// Below which it stands when certificates are best replaced (RFC 9773 §3).
    pub renewal_info: String,
    /// About the server.
    pub meta: Meta,
}

/// The directory's `meta`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The terms that a new account must agree to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,
    /// A page about the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// What CAA records call this server (RFC 8659 §4.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caa_identities: Vec<String>,
    /// Whether a new account needs an external account binding (RFC 8555 §7.1.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external_account_required: bool,
    /// The profiles that an order may name, each with a line about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, String>,
}

impl Directory {
    /// The directory at these URLs.
    #[must_use]
    pub fn at(urls: &Urls, meta: Meta) -> Self {
        Self {
            new_nonce: urls.new_nonce(),
            new_account: urls.new_account(),
            new_order: urls.new_order(),
            revoke_cert: urls.revoke_cert(),
            key_change: urls.key_change(),
            renewal_info: urls.renewal_info(),
            meta,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_names_what_is_offered_and_nothing_else() {
        let urls = Urls::new("https://ca.example", "default");
        let bare = serde_json::to_value(Directory::at(&urls, Meta::default())).expect("serializes");
        assert_eq!(
            bare,
            serde_json::json!({
                "newNonce": "https://ca.example/acme/default/new-nonce",
                "newAccount": "https://ca.example/acme/default/new-account",
                "newOrder": "https://ca.example/acme/default/new-order",
                "revokeCert": "https://ca.example/acme/default/revoke-cert",
                "keyChange": "https://ca.example/acme/default/key-change",
                "renewalInfo": "https://ca.example/acme/default/renewal-info",
                "meta": {},
            })
        );
        let meta = Meta {
            terms_of_service: Some("https://ca.example/terms".into()),
            website: Some("https://ca.example".into()),
            caa_identities: vec!["ca.example".into()],
            external_account_required: true,
            profiles: BTreeMap::from([("server".into(), "TLS servers, 90 days".into())]),
        };
        let full = serde_json::to_value(Directory::at(&urls, meta.clone())).expect("serializes");
        assert_eq!(
            full["meta"],
            serde_json::json!({
                "termsOfService": "https://ca.example/terms",
                "website": "https://ca.example",
                "caaIdentities": ["ca.example"],
                "externalAccountRequired": true,
                "profiles": {"server": "TLS servers, 90 days"},
            })
        );
        assert_eq!(serde_json::from_value::<Directory>(full).expect("reads back").meta, meta);
    }
}
