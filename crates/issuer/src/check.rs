//! Whether an issuer would sign now: its settings, what they refer to, and its server's own word.

use std::{sync::Arc, time::Duration};

use chancery_api::{RemoteClient, RemoteError, RemoteSettings, SignerInfo};
use chancery_egress::Dialer;
use k8s_openapi::jiff::Timestamp;
use url::Url;

use crate::{
    board::IssuerKey,
    clients::{Clients, Shared},
    clock,
    credentials::{AllowedServers, Material, Reader, Trouble, servers},
    resource::IssuerSpec,
};

/// Longest that dialling a server takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that a server takes to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest that reading what an issuer refers to takes.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// When a token that could not be renewed is asked for again.
const READ_AGAIN: Duration = Duration::from_secs(30);
/// How far clocks may differ before that is worth a word.
const SKEW_S: i64 = 60;

/// Checks issuers.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) reader: Reader,
    pub(crate) allowed: AllowedServers,
    pub(crate) dialer: Dialer,
    pub(crate) clients: Clients,
}

/// An issuer that would sign now.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) client: Arc<RemoteClient>,
    /// What its server says of itself.
    pub(crate) info: Arc<SignerInfo>,
}

/// What an issuer is asked with.
#[derive(Debug)]
pub(crate) struct Made {
    shared: Arc<Shared>,
    until: Option<Timestamp>,
    ends: Option<Timestamp>,
}

impl Made {
    /// When its credential is to be read again at the latest.
    pub(crate) const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// Whether it is a token that has not ended.
    fn lives(&self) -> bool {
        self.ends.is_some_and(|ends| clock::now() < ends)
    }
}

impl Checker {
    /// Checks an issuer; `before` is kept where nothing has changed, and with it its connections. What the issuer refers
    /// to is read where `reread` says so, or a token is running out.
    ///
    /// # Errors
    ///
    /// [`Trouble`], in words for whoever wrote the issuer or runs its server.
    pub(crate) async fn check(
        &self,
        key: &IssuerKey,
        spec: &IssuerSpec,
        before: &mut Option<Made>,
        reread: bool,
    ) -> Result<Checked, Trouble> {
        if !spec.default_duration_fits() {
            let text = spec.default_duration.as_deref().unwrap_or_default();
            return Err(Trouble::settings(format!("spec.defaultDuration \"{text}\" is none from 1m to 87600h")));
        }
        let servers = servers(key, spec, &self.allowed)?;
        let unchanged = before.as_ref().is_some_and(|made| made.shared.asks(&servers));
        let due = before.as_ref().and_then(Made::until).is_some_and(|until| clock::now() >= until);
        if reread || due || !unchanged {
            let read = tokio::time::timeout(READ_TIMEOUT, self.reader.read(key, spec)).await;
            let read = read.unwrap_or_else(|_| Err(Trouble::moment("the API server does not answer".to_owned())));
            match (read, &mut *before) {
                (Ok(material), _) => {
                    let (until, ends) = (material.until, material.ends);
                    let fits = before.as_ref().filter(|made| made.shared.fits(&servers, &material));
                    let shared = match fits {
                        Some(made) => Arc::clone(&made.shared),
                        None => self.clients.get(&servers, material, |material| self.client(&servers, material))?,
                    };
                    *before = Some(Made { shared, until, ends });
                }
                // A token that is only due is good for a while.
                (Err(trouble), Some(made)) if trouble.transient && unchanged && made.lives() => {
                    tracing::warn!(issuer = %key, "{}; the credential that is there is used on", trouble.message);
                    made.until = clock::now().saturating_add(READ_AGAIN).ok();
                }
                (Err(trouble), _) => return Err(trouble),
            }
        }
        let client = before.as_ref().map(|made| Arc::clone(&made.shared.client));
        let client = client.ok_or_else(|| Trouble::passing("there is no client".to_owned()))?;
        let info = client.signer().await.map_err(|error| trouble(&error))?;
        accept(key, spec, &info)?;
        Ok(Checked { client, info: Arc::new(info) })
    }

    fn client(&self, servers: &[Url], material: &Material) -> Result<RemoteClient, Trouble> {
        let settings = RemoteSettings {
            servers: servers.to_vec(),
            roots: material.roots.clone(),
            credential: material.credential.clone(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
        };
        RemoteClient::new(&settings, self.dialer.clone()).map_err(|error| Trouble::settings(error.to_string()))
    }
}

fn trouble(error: &RemoteError) -> Trouble {
    use RemoteError as E;
    let transient = matches!(error, E::Unreachable { .. } | E::Busy { .. } | E::Unreadable { .. });
    Trouble { reason: "Pending", message: error.to_string(), transient }
}

/// Whether the server would sign for this issuer.
fn accept(key: &IssuerKey, spec: &IssuerSpec, info: &SignerInfo) -> Result<(), Trouble> {
    if let Some(profile) = &spec.profile
        && !info.profiles.iter().any(|offered| offered.name == *profile)
    {
        let offered: Vec<&str> = info.profiles.iter().map(|offered| offered.name.as_str()).collect();
        return Err(Trouble::passing(format!(
            "the profile \"{profile}\" is not among those that the credential may ask for: {}",
            offered.join(", ")
        )));
    }
    if let (Some(namespace), Some(allowed)) = (&key.namespace, &info.namespaces)
        && !allowed.iter().any(|allowed| **allowed == **namespace)
    {
        return Err(Trouble::passing(format!("the credential does not speak for the namespace \"{namespace}\"")));
    }
    if !info.not_issuing.is_empty() {
        return Err(Trouble::passing(format!("the server issues nothing now: {}", info.not_issuing.join(" "))));
    }
    if let Ok(there) = info.now.parse::<Timestamp>() {
        let apart = there.duration_since(clock::now()).as_secs();
        if apart.abs() > SKEW_S {
            tracing::warn!(issuer = %key, clock.apart_s = apart, "the server's clock and this one differ");
        }
    }
    Ok(())
}
