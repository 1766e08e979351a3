//! Clients that issuers with the same servers, roots and credential share, and with them their connections.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use chancery_api::{Credential, RemoteClient, Roots};
use secrecy::ExposeSecret as _;
use url::Url;

use crate::credentials::{Material, Trouble};

/// A client, and what it was made of.
pub(crate) struct Shared {
    pub(crate) client: Arc<RemoteClient>,
    servers: Vec<Url>,
    material: Material,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.client).finish()
    }
}

impl Shared {
    /// Whether it was made for these servers.
    pub(crate) fn asks(&self, servers: &[Url]) -> bool {
        self.servers == servers
    }

    /// Whether a client made of these would be the same.
    pub(crate) fn fits(&self, servers: &[Url], material: &Material) -> bool {
        self.asks(servers) && self.material.is_same(material)
    }
}

/// The clients that some issuer has.
#[derive(Clone, Default)]
pub(crate) struct Clients {
    seed: RandomState,
    known: Arc<Mutex<HashMap<u64, Vec<Weak<Shared>>>>>,
}

impl Clients {
    /// The client for these; made if nobody has it.
    ///
    /// # Errors
    ///
    /// That of `make`.
    pub(crate) fn get(
        &self,
        servers: &[Url],
        material: Material,
        make: impl FnOnce(&Material) -> Result<RemoteClient, Trouble>,
    ) -> Result<Arc<Shared>, Trouble> {
        let key = self.key(servers, &material);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&key).into_iter().flatten().filter_map(Weak::upgrade);
        if let Some(shared) = found.into_iter().find(|shared| shared.fits(servers, &material)) {
            return Ok(shared);
        }
        let client = Arc::new(make(&material)?);
        let shared = Arc::new(Shared { client, servers: servers.to_vec(), material });
        if known.len().is_power_of_two() {
            known.retain(|_, clients| clients.iter().any(|client| client.strong_count() > 0));
        }
        let clients = known.entry(key).or_default();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&shared));
        Ok(shared)
    }

    /// What finds a client; it is compared in full then.
    fn key(&self, servers: &[Url], material: &Material) -> u64 {
        let mut hasher = self.seed.build_hasher();
        servers.hash(&mut hasher);
        match &material.roots {
            Roots::Platform => {}
            Roots::Bundle(pem) => pem.hash(&mut hasher),
        }
        match &material.credential {
            Credential::Token(token) => token.expose_secret().hash(&mut hasher),
            Credential::Certificate { chain, .. } => chain.hash(&mut hasher),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use chancery_api::RemoteSettings;
    use chancery_egress::{DialSettings, Dialer, ZoneSpec, ZoneTable};

    use super::*;

    fn material(token: &str) -> Material {
        Material {
            roots: Roots::Platform,
            credential: Credential::Token(token.to_owned().into()),
            until: None,
            ends: None,
        }
    }

    fn make(material: &Material) -> Result<RemoteClient, Trouble> {
        let zones = ZoneTable::new([ZoneSpec { name: "default".to_owned(), ..ZoneSpec::default() }]).expect("a zone");
        let settings = RemoteSettings {
            servers: vec!["https://ca.example".parse().expect("a URL")],
            roots: material.roots.clone(),
            credential: material.credential.clone(),
            connect_timeout: std::time::Duration::from_secs(1),
            timeout: std::time::Duration::from_secs(1),
        };
        RemoteClient::new(&settings, Dialer::new(zones, DialSettings::default()))
            .map_err(|error| Trouble::settings(error.to_string()))
    }

    #[tokio::test]
    async fn a_hundred_issuers_of_one_credential_have_one_client_and_it_goes_with_the_last() {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let clients = Clients::default();
        let servers: Vec<Url> = vec!["https://ca.example".parse().expect("a URL")];
        let all: Vec<_> = (0..100).map(|_| clients.get(&servers, material("one"), make).expect("a client")).collect();
        let first = all.first().expect("a hundred");
        assert!(all.iter().all(|other| Arc::ptr_eq(first, other)));
        let other = clients.get(&servers, material("another"), make).expect("a client");
        assert!(!Arc::ptr_eq(first, &other), "another credential");
        let gone = Arc::downgrade(first);
        drop(all);
        assert_eq!(gone.strong_count(), 0, "nothing is kept for nobody");
    }
}
