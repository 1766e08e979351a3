//! The shape of an EAB key. Its id is the record's key in the store, and here too.

use chancery_authority::records::{EabKey, EabLimits};
use chancery_pki::Timestamp;
use chancery_policy::NameScope;
use serde::{Deserialize, Serialize};

use super::{Shaped, time};
use crate::record::Record;

#[derive(Serialize, Deserialize)]
pub(crate) struct EabKeyShape<'a> {
    id: &'a str,
    salt: [u8; 16],
    owner: &'a str,
    directory: &'a str,
    names: Option<NameScopeShape>,
    #[serde(borrow)]
    profiles: Vec<&'a str>,
    accounts: u64,
    expires: i64,
    created: i64,
    revoked: Option<i64>,
    accounts_stopped: Option<i64>,
}

/// Patterns as they are written.
#[derive(Serialize, Deserialize)]
struct NameScopeShape {
    names: Vec<String>,
    wildcards: Vec<String>,
    addresses: Vec<String>,
}

impl Record for EabKey {
    type Shape<'a> = EabKeyShape<'a>;

    fn shape(&self) -> EabKeyShape<'_> {
        let Self { id, salt, owner, directory, limits, created, revoked, accounts_stopped } = self;
        let EabLimits { names, profiles, accounts, expires } = limits;
        EabKeyShape {
            id: id.as_str(),
            salt: *salt,
            owner,
            directory,
            names: names.as_ref().map(|scope| NameScopeShape {
                names: scope.names(),
                wildcards: scope.wildcards(),
                addresses: scope.addresses(),
            }),
            profiles: profiles.iter().map(String::as_str).collect(),
            accounts: *accounts,
            expires: expires.unix_millis(),
            created: created.unix_millis(),
            revoked: revoked.map(Timestamp::unix_millis),
            accounts_stopped: accounts_stopped.map(Timestamp::unix_millis),
        }
    }

    fn from_shape(_: [u8; 16], shape: EabKeyShape<'_>) -> Shaped<Self> {
        let EabKeyShape {
            id,
            salt,
            owner,
            directory,
            names,
            profiles,
            accounts,
            expires,
            created,
            revoked,
            accounts_stopped,
        } = shape;
        let names = names.map(|NameScopeShape { names, wildcards, addresses }| {
            NameScope::parse(&names, &wildcards, &addresses).map_err(|_| "an EAB key's names are no patterns")
        });
        Ok(Self {
            id: id.parse().map_err(|_| "an EAB key's id is none")?,
            salt,
            owner: owner.to_owned(),
            directory: directory.to_owned(),
            limits: EabLimits {
                names: names.transpose()?,
                profiles: profiles.into_iter().map(str::to_owned).collect(),
                accounts,
                expires: time(expires),
            },
            created: time(created),
            revoked: revoked.map(time),
            accounts_stopped: accounts_stopped.map(time),
        })
    }
}
