//! Whether an issuer would sign now: its settings, what they refer to, and its server's own word.

use std::{sync::Arc, time::Duration};

use chancery_api::{RemoteClient, RemoteError, RemoteSettings, SignerInfo};
use chancery_egress::Dialer;
use k8s_openapi::jiff::Timestamp;
use url::Url;

use crate::{
    board::IssuerKey,
    clock,
    credentials::{AllowedServers, Material, Reader, Trouble, servers},
    resource::IssuerSpec,
};

/// Longest that dialling a server takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that a server takes to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How far clocks may differ before that is worth a word.
const SKEW_S: i64 = 60;

/// Checks issuers.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) reader: Reader,
    pub(crate) allowed: AllowedServers,
    pub(crate) dialer: Dialer,
}

/// An issuer that would sign now.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) client: Arc<RemoteClient>,
    /// What its server says of itself.
    pub(crate) info: Arc<SignerInfo>,
}

/// A client, and what it was made of.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) client: Arc<RemoteClient>,
    servers: Vec<Url>,
    material: Material,
}

impl Made {
    /// When its credential is to be read again at the latest.
    pub(crate) const fn until(&self) -> Option<Timestamp> {
        self.material.until
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
        let servers = servers(key, spec, &self.allowed)?;
        let unchanged = before.as_ref().is_some_and(|made| made.servers == servers);
        let due = before.as_ref().and_then(Made::until).is_some_and(|until| clock::now() >= until);
        if reread || due || !unchanged {
            let material = self.reader.read(key, spec).await?;
            let same = before.as_ref().is_some_and(|made| made.servers == servers && made.material.is_same(&material));
            if same {
                if let Some(made) = before {
                    made.material.until = material.until;
                }
            } else {
                let settings = RemoteSettings {
                    servers: servers.clone(),
                    roots: material.roots.clone(),
                    credential: material.credential.clone(),
                    connect_timeout: CONNECT_TIMEOUT,
                    timeout: TIMEOUT,
                };
                let client = RemoteClient::new(&settings, self.dialer.clone())
                    .map_err(|error| Trouble::settings(error.to_string()))?;
                *before = Some(Made { client: Arc::new(client), servers, material });
            }
        }
        let client = before.as_ref().map(|made| Arc::clone(&made.client));
        let client = client.ok_or_else(|| Trouble::passing("there is no client".to_owned()))?;
        let info = client.signer().await.map_err(|error| trouble(&error))?;
        accept(key, spec, &info)?;
        Ok(Checked { client, info: Arc::new(info) })
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
