//! What an issuer's server is asked with: CA bundle, token or client certificate.
//!
//! A namespaced issuer gets what lies in its own namespace, or a token that is minted for a service account of its own
//! namespace and for the servers' audience; never anything of the controller's. It may name only servers that the
//! operator has allowed, so that nobody draws a credential to a URL of his own.

use std::time::Duration;

use chancery_api::{Credential, Roots, SERVERS_MAX};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{ConfigMap, Secret, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    board::IssuerKey,
    clock,
    resource::{CaBundle, Credentials, IssuerSpec, KeyReference, ServiceAccountReference},
};

/// For how long a token is asked for, in seconds.
const TOKEN_LIFE_S: i64 = 3600;

/// Why an issuer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A word for programs: `Failed` for what only a change of the issuer mends, else `Pending`.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// Whether it may be over in a moment.
    pub(crate) transient: bool,
}

impl Trouble {
    /// Something that a change of the issuer, or of what it refers to, mends.
    pub(crate) fn settings(message: String) -> Self {
        Self { reason: "Failed", message, transient: false }
    }

    /// Something that passes, or is mended elsewhere.
    pub(crate) fn passing(message: String) -> Self {
        Self { reason: "Pending", message, transient: false }
    }

    /// Something that may be over in a moment.
    pub(crate) fn moment(message: String) -> Self {
        Self { reason: "Pending", message, transient: true }
    }
}

/// Which servers namespaced issuers may name.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedServers(pub(crate) Vec<Url>);

impl AllowedServers {
    /// Whether a server stands on the list: same scheme, host and port, and its path at or below.
    fn allow(&self, url: &Url) -> bool {
        self.0.iter().any(|allowed| {
            let path = allowed.path().trim_end_matches('/');
            let below = url.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            allowed.scheme() == url.scheme()
                && allowed.host() == url.host()
                && allowed.port_or_known_default() == url.port_or_known_default()
                && below
        })
    }
}

/// The servers of an issuer.
///
/// # Errors
///
/// [`Trouble`], if one is no URL, or stands not on the list.
pub(crate) fn servers(key: &IssuerKey, spec: &IssuerSpec, allowed: &AllowedServers) -> Result<Vec<Url>, Trouble> {
    if spec.urls.is_empty() || spec.urls.len() > SERVERS_MAX {
        return Err(Trouble::settings(format!("spec.urls needs 1 to {SERVERS_MAX} URLs")));
    }
    let mut servers = Vec::with_capacity(spec.urls.len());
    for text in &spec.urls {
        let url = Url::parse(text).map_err(|error| Trouble::settings(format!("\"{text}\" is no URL: {error}")))?;
        if key.namespace.is_some() && !allowed.allow(&url) {
            return Err(Trouble::settings(format!(
                "the server {} may not be named by issuers of a namespace; the operator allows servers by \
                 --allowed-server of chancery-issuer, or makes a ChanceryClusterIssuer",
                url.host_str().unwrap_or("without a host")
            )));
        }
        servers.push(url);
    }
    Ok(servers)
}

/// What one issuer is asked with.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) roots: Roots,
    pub(crate) credential: Credential,
    /// When to read it again at the latest.
    pub(crate) until: Option<Timestamp>,
    /// When it ends.
    pub(crate) ends: Option<Timestamp>,
}

impl Material {
    /// Whether clients made of both would be the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let roots = match (&self.roots, &other.roots) {
            (Roots::Platform, Roots::Platform) => true,
            (Roots::Bundle(one), Roots::Bundle(other)) => one == other,
            (Roots::Platform | Roots::Bundle(_), _) => false,
        };
        let credentials = match (&self.credential, &other.credential) {
            (Credential::Token(one), Credential::Token(other)) => one.expose_secret() == other.expose_secret(),
            (Credential::Certificate { chain, key }, Credential::Certificate { chain: other, key: other_key }) => {
                chain == other && key.expose_secret() == other_key.expose_secret()
            }
            (Credential::Token(_) | Credential::Certificate { .. }, _) => false,
        };
        roots && credentials
    }
}

/// Something that an issuer refers to and that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Referred {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

/// What an issuer refers to.
pub(crate) fn referred(spec: &IssuerSpec) -> Vec<Referred> {
    let mut referred = Vec::new();
    if let Some(bundle) = &spec.ca_bundle {
        referred.extend(bundle.config_map_ref.as_ref().map(|key| Referred::ConfigMap(key.name.clone())));
        referred.extend(bundle.secret_ref.as_ref().map(|key| Referred::Secret(key.name.clone())));
    }
    let credentials = &spec.credentials;
    referred.extend(credentials.token_secret_ref.as_ref().map(|key| Referred::Secret(key.name.clone())));
    referred
        .extend(credentials.client_certificate_secret_ref.as_ref().map(|secret| Referred::Secret(secret.name.clone())));
    referred
}

/// Reads what issuers refer to.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    /// Where the Secrets of cluster issuers lie.
    pub(crate) cluster_namespace: String,
    /// The audience of tokens where the issuer names none, and the only one for namespaced issuers.
    pub(crate) audience: String,
}

impl Reader {
    /// Where what an issuer refers to lies.
    pub(crate) fn namespace<'a>(&'a self, key: &'a IssuerKey) -> &'a str {
        key.namespace.as_deref().unwrap_or(&self.cluster_namespace)
    }

    /// Reads it all.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: what is missing, and where.
    pub(crate) async fn read(&self, key: &IssuerKey, spec: &IssuerSpec) -> Result<Material, Trouble> {
        let namespace = self.namespace(key);
        let roots = match &spec.ca_bundle {
            None => Roots::Platform,
            Some(bundle) => Roots::Bundle(self.bundle(namespace, bundle).await?),
        };
        let (credential, times) = self.credential(key, namespace, &spec.credentials).await?;
        let (until, ends) = times.unzip();
        Ok(Material { roots, credential, until, ends })
    }

    async fn bundle(&self, namespace: &str, bundle: &CaBundle) -> Result<Vec<u8>, Trouble> {
        match (&bundle.inline, &bundle.config_map_ref, &bundle.secret_ref) {
            (Some(pem), None, None) => Ok(pem.clone().into_bytes()),
            (None, Some(reference), None) => self.config_map(namespace, reference).await,
            (None, None, Some(reference)) => {
                self.secret(namespace, &reference.name, reference.key.as_deref().unwrap_or("ca.crt")).await
            }
            _ => Err(Trouble::settings(
                "spec.caBundle needs exactly one of inline, configMapRef and secretRef".to_owned(),
            )),
        }
    }

    async fn credential(
        &self,
        key: &IssuerKey,
        namespace: &str,
        credentials: &Credentials,
    ) -> Result<(Credential, Option<(Timestamp, Timestamp)>), Trouble> {
        let Credentials { token_secret_ref, client_certificate_secret_ref, service_account } = credentials;
        match (token_secret_ref, client_certificate_secret_ref, service_account) {
            (Some(reference), None, None) => {
                let token =
                    self.secret(namespace, &reference.name, reference.key.as_deref().unwrap_or("token")).await?;
                Ok((Credential::Token(text(token, namespace, &reference.name)?), None))
            }
            (None, Some(reference), None) => {
                let chain = self.secret(namespace, &reference.name, "tls.crt").await?;
                let private = self.secret(namespace, &reference.name, "tls.key").await?;
                Ok((Credential::Certificate { chain, key: text(private, namespace, &reference.name)? }, None))
            }
            (None, None, Some(account)) => self.token(key, namespace, account).await,
            _ => Err(Trouble::settings(
                "spec.credentials needs exactly one of tokenSecretRef, clientCertificateSecretRef and serviceAccount"
                    .to_owned(),
            )),
        }
    }

    async fn config_map(&self, namespace: &str, reference: &KeyReference) -> Result<Vec<u8>, Trouble> {
        let KeyReference { name, key } = reference;
        let key = key.as_deref().unwrap_or("ca.crt");
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| unreadable("ConfigMap", namespace, name, &error))?;
        let found = found.ok_or_else(|| Trouble::passing(format!("there is no ConfigMap {namespace}/{name}")))?;
        let text = found.data.and_then(|mut data| data.remove(key)).map(String::into_bytes);
        let octets = text.or_else(|| found.binary_data.and_then(|mut data| data.remove(key)).map(|octets| octets.0));
        octets.ok_or_else(|| Trouble::passing(format!("the ConfigMap {namespace}/{name} has no key \"{key}\"")))
    }

    async fn secret(&self, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>, Trouble> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| unreadable("Secret", namespace, name, &error))?;
        let found = found.ok_or_else(|| Trouble::passing(format!("there is no Secret {namespace}/{name}")))?;
        let octets = found.data.and_then(|mut data| data.remove(key)).map(|octets| octets.0);
        octets.ok_or_else(|| Trouble::passing(format!("the Secret {namespace}/{name} has no key \"{key}\"")))
    }

    /// A token, when to ask for the next one, and when it ends.
    async fn token(
        &self,
        key: &IssuerKey,
        namespace: &str,
        account: &ServiceAccountReference,
    ) -> Result<(Credential, Option<(Timestamp, Timestamp)>), Trouble> {
        let ServiceAccountReference { name, audience } = account;
        let audience = audience.as_deref().unwrap_or(&self.audience);
        if key.namespace.is_some() && audience != self.audience {
            return Err(Trouble::settings(format!(
                "tokens for issuers of a namespace are minted for the audience \"{}\" alone",
                self.audience
            )));
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.to_owned()]),
                expiration_seconds: Some(TOKEN_LIFE_S),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let minted =
            api.create_token_request(name, &PostParams::default(), &request).await.map_err(|error| match &error {
                kube::Error::Api(status) if status.code == 404 => {
                    Trouble::passing(format!("there is no service account {namespace}/{name}"))
                }
                kube::Error::Api(status) if status.code == 403 => Trouble::passing(format!(
                    "no token is minted for the service account {namespace}/{name}; let the controller create \
                     serviceaccounts/token there"
                )),
                _ => Trouble::moment(format!(
                    "no token is minted for the service account {namespace}/{name} now ({})",
                    short(&error)
                )),
            })?;
        let status = minted.status.unwrap_or_default();
        let token = status.token.ok_or_else(|| Trouble::passing("the API server minted no token".to_owned()))?;
        // Read again when two thirds of its life are over.
        let now = clock::now();
        let ends = status.expiration_timestamp.map_or(now, |ends| ends.0);
        let until = now.saturating_add(ends.duration_since(now) / 3 * 2).unwrap_or(now);
        Ok((Credential::Token(SecretString::from(token)), Some((until, ends))))
    }
}

/// How long until then, at least a second.
pub(crate) fn wait_until(until: Timestamp) -> Duration {
    let left = until.duration_since(clock::now());
    if left.is_negative() { Duration::from_secs(1) } else { left.unsigned_abs().max(Duration::from_secs(1)) }
}

fn text(octets: Vec<u8>, namespace: &str, name: &str) -> Result<SecretString, Trouble> {
    let text = String::from_utf8(octets)
        .map_err(|_| Trouble::passing(format!("what stands in the Secret {namespace}/{name} is not text")))?;
    Ok(SecretString::from(text))
}

fn unreadable(kind: &str, namespace: &str, name: &str, error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) if status.code == 403 => Trouble::passing(format!(
            "the controller may not read the {kind} {namespace}/{name}; give its service account a Role with get, list \
             and watch of it in that namespace"
        )),
        _ => Trouble::moment(format!("the {kind} {namespace}/{name} cannot be read: {}", short(error))),
    }
}

/// An error of the API server's, without what may stand in its body.
fn short(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        other => crate::condition::cut(&other.to_string(), 200),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: Option<&str>) -> IssuerKey {
        IssuerKey { namespace: namespace.map(Into::into), name: "corp".into() }
    }

    fn spec(url: &str) -> IssuerSpec {
        serde_json::from_value(serde_json::json!({
            "urls": [url],
            "credentials": { "tokenSecretRef": { "name": "token" } },
        }))
        .expect("a spec")
    }

    #[test]
    fn a_namespaced_issuer_names_only_servers_that_the_operator_allows() {
        let allowed = AllowedServers(vec![
            Url::parse("https://ca.corp.example").expect("a URL"),
            Url::parse("https://other.example:8443/pki/").expect("a URL"),
        ]);
        for (url, fits) in [
            ("https://ca.corp.example", true),
            ("https://ca.corp.example:443/", true),
            ("https://CA.corp.example/any/path", true),
            ("https://ca.corp.example:8443", false),
            ("http://ca.corp.example", false),
            ("https://ca.corp.example.evil.example", false),
            ("https://ca.corp.example@evil.example", false),
            ("https://other.example:8443/pki", true),
            ("https://other.example:8443/pki/tenant", true),
            ("https://other.example:8443/pkix", false),
            ("https://other.example:8443/pki/../admin", false),
            ("https://other.example:8443/", false),
        ] {
            assert_eq!(servers(&key(Some("shop")), &spec(url), &allowed).is_ok(), fits, "{url}");
        }
        servers(&key(None), &spec("https://anywhere.example"), &allowed).expect("a cluster issuer is the operator's");
        let refused = servers(&key(Some("shop")), &spec("https://evil.example"), &AllowedServers::default());
        assert!(refused.expect_err("no list").message.contains("--allowed-server"));
    }
}
