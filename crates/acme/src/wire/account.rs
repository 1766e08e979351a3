//! Accounts and their list of orders (RFC 8555 §7.1.2, §7.1.2.1, §7.3).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{account, urls::Urls};

/// The payload of newAccount (§7.3). Its `orders` and whatever else it holds are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewAccount {
    /// Contact URLs.
    #[serde(default)]
    pub contact: Option<Vec<String>>,
    /// Whether the client agrees to the terms of service.
    #[serde(default)]
    pub terms_of_service_agreed: Option<bool>,
    /// Whether only an account that exists already is wanted.
    #[serde(default)]
    pub only_return_existing: Option<bool>,
    /// The external account binding, word for word; what it must be is [`eab`](crate::eab)'s to say (§7.3.4).
    #[serde(default)]
    pub external_account_binding: Option<Box<RawValue>>,
}

/// The payload of an account update (§7.3.2) or deactivation (§7.3.6).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountUpdate {
    /// The new contact URLs, in place of the old.
    #[serde(default)]
    pub contact: Option<Vec<String>>,
    /// Whether the client agrees to the terms of service that are in force now (§7.3.3).
    #[serde(default)]
    pub terms_of_service_agreed: Option<bool>,
    /// The wish to end the account.
    #[serde(default)]
    pub status: Option<String>,
}

/// The payload of a key change's inner JWS (§7.3.5).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyChange {
    /// The account's URL.
    pub account: String,
    /// The key that the account has, as JWK.
    pub old_key: Box<RawValue>,
}

/// An account object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// `valid`, `deactivated` or `revoked`.
    pub status: String,
    /// Contact URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// Whether its holder agreed to the terms of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_of_service_agreed: Option<bool>,
    /// The binding to an external account, as it was verified (§7.3.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<Box<RawValue>>,
    /// Where its orders are listed.
    pub orders: String,
}

impl Account {
    /// The account as its holder sees it.
    #[must_use]
    pub fn of(account: &account::Account, urls: &Urls) -> Self {
        let account::Account {
            id,
            directory: _,
            key: _,
            contacts,
            status,
            terms_agreed,
            created: _,
            proven: _,
            external,
        } = account;
        let status = match status {
            account::AccountStatus::Valid => "valid",
            account::AccountStatus::Deactivated { .. } => "deactivated",
            account::AccountStatus::Revoked { .. } => "revoked",
        };
        Self {
            status: status.to_owned(),
            contact: contacts.clone(),
            terms_of_service_agreed: terms_agreed.as_ref().map(|_| true),
            external_account_binding: external
                .as_ref()
                .and_then(|external| RawValue::from_string(external.binding.clone()).ok()),
            orders: urls.orders(*id),
        }
    }
}

/// A page of an account's orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Their URLs.
    pub orders: Vec<String>,
}
