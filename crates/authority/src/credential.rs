//! Who asks at the doors of Kubernetes: a credential, bound to a cluster, and what it may ask for at most.
//!
//! Policy decides beside these limits and never past them.

use std::{collections::BTreeSet, sync::Arc};

use chancery_acme::order::ProfileName;
use chancery_pki::{Name, NameSet};
use chancery_policy::NameLimits;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    api_token::{ApiToken, TOKEN_PREFIX},
    failure::Failure,
    issue::NameRefusal,
    office::Office,
    ports::{CertificateHolder, IdentityError, ServiceAccount, WorkloadIdentity},
    settings::{Cluster, Settings},
};

/// What a controller presents.
#[derive(Debug)]
pub enum Presented {
    /// An API token, or a Kubernetes service-account token.
    Token(SecretString),
    /// A client certificate with its issuers, in DER; the handshake has proved its key.
    Certificate(Arc<[Vec<u8>]>),
}

/// Nobody is known by what was presented, or that could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotIdentified {
    /// Nobody. Why is for the log alone.
    Unknown(String),
    /// It could not be found out.
    Failed(Failure),
}

impl From<IdentityError> for NotIdentified {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unknown(why) => Self::Unknown(why),
            IdentityError::Unavailable(_) => Self::Failed(Failure::Unavailable(error.to_string())),
        }
    }
}

impl From<Failure> for NotIdentified {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A credential that was proved, with its limits as they are now. Made by [`Office::identify`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    cluster: Arc<Cluster>,
    name: String,
    namespaces: Option<BTreeSet<String>>,
    profiles: Vec<ProfileName>,
    names: Vec<NameLimits>,
    /// The service account that it is, where that is a namespace's own.
    own_account: Option<String>,
    /// What it reports is a controller's word and not a tenant's own.
    reports: bool,
}

impl Credential {
    /// The cluster that it speaks for.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What it is, in a few words that name it: `API token …`, `service account …`, `client certificate …`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespaces that it may speak for; none, for all.
    #[must_use]
    pub const fn namespaces(&self) -> Option<&BTreeSet<String>> {
        self.namespaces.as_ref()
    }

    /// The profiles that may be asked for with it; the first is what is issued where none is.
    #[must_use]
    pub fn profiles(&self) -> &[ProfileName] {
        &self.profiles
    }

    /// Whether what it reports is a controller's word: a credential that was made for the whole cluster. Others may be in
    /// the hands of a tenant, who would write his own labels, user name and issuer.
    #[must_use]
    pub const fn is_trusted_to_report(&self) -> bool {
        self.reports
    }

    /// Whether it may ask for all that its cluster may.
    pub(crate) fn is_the_whole_clusters(&self) -> bool {
        let Cluster { namespaces, profiles, names, .. } = &*self.cluster;
        self.reports && self.namespaces == *namespaces && self.profiles == *profiles && self.names.iter().eq(names)
    }

    /// The service account that it is, where that is a namespace's own.
    #[must_use]
    pub fn own_account(&self) -> Option<&str> {
        self.own_account.as_deref()
    }

    /// Whether it may speak for a namespace, or for what has none.
    #[must_use]
    pub fn speaks_for(&self, namespace: Option<&str>) -> bool {
        match (&self.namespaces, namespace) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(namespaces), Some(namespace)) => namespaces.contains(namespace),
        }
    }

    /// The names that lie outside of its limits, each with why.
    pub(crate) fn names_refused(&self, names: &NameSet) -> Vec<NameRefusal> {
        let outside = |name: &Name| {
            let limit = self.names.iter().find(|limit| !limit.permit(name))?;
            let because = format!("{} may ask for {limit} alone", self.name);
            Some(NameRefusal { name: name.clone(), because })
        };
        names.iter().filter_map(outside).collect()
    }

    fn of(cluster: &Arc<Cluster>, name: String, namespaces: Option<BTreeSet<String>>) -> Self {
        let reports = namespaces.is_none();
        let namespaces = match (&cluster.namespaces, namespaces) {
            (None, own) => own,
            (Some(all), None) => Some(all.clone()),
            (Some(all), Some(own)) => Some(all.intersection(&own).cloned().collect()),
        };
        Self {
            cluster: Arc::clone(cluster),
            name,
            namespaces,
            profiles: cluster.profiles.clone(),
            names: cluster.names.iter().cloned().collect(),
            own_account: None,
            reports,
        }
    }
}

impl Office {
    /// Whom what was presented speaks for, and for what.
    ///
    /// # Errors
    ///
    /// [`NotIdentified`].
    pub async fn identify(
        &self,
        presented: &Presented,
        identity: &dyn WorkloadIdentity,
    ) -> Result<Credential, NotIdentified> {
        let settings = self.settings();
        match presented {
            Presented::Token(token) if token.expose_secret().starts_with(TOKEN_PREFIX) => {
                let token = self.api_token_of(token).await?;
                by_api_token(&settings, token.ok_or_else(|| unknown("no API token that holds"))?)
            }
            Presented::Token(token) => {
                let account = identity.service_account(token, self.now()).await?;
                by_service_account(&settings, &account)
            }
            Presented::Certificate(chain) => {
                let holder = identity.certificate_holder(chain, self.now())?;
                by_certificate(&settings, &holder)
            }
        }
    }
}

fn unknown(why: impl Into<String>) -> NotIdentified {
    NotIdentified::Unknown(why.into())
}

fn known<'a>(settings: &'a Settings, cluster: &str) -> Result<&'a Arc<Cluster>, NotIdentified> {
    settings.clusters.get(cluster).ok_or_else(|| unknown(format!("the cluster {cluster} is not configured")))
}

fn by_api_token(settings: &Settings, token: ApiToken) -> Result<Credential, NotIdentified> {
    let cluster = known(settings, &token.cluster)?;
    let mut credential = Credential::of(cluster, format!("API token {}", token.id), token.namespaces);
    if let Some(profiles) = token.profiles {
        // The cluster may have lost some since.
        credential.profiles = profiles.into_iter().filter(|profile| cluster.profiles.contains(profile)).collect();
    }
    credential.names.extend(token.names);
    Ok(credential)
}

fn by_service_account(settings: &Settings, account: &ServiceAccount) -> Result<Credential, NotIdentified> {
    let ServiceAccount { cluster, namespace, name } = account;
    let cluster = known(settings, cluster)?;
    let called = format!("service account {namespace}/{name}");
    if cluster.service_accounts.contains(&(namespace.clone(), name.clone())) {
        return Ok(Credential::of(cluster, called, None));
    }
    if cluster.own_namespace_account.as_ref() == Some(name) {
        let mut own = Credential::of(cluster, called, Some(BTreeSet::from([namespace.clone()])));
        own.own_account = Some(name.clone());
        if let Some(profiles) = &cluster.own_namespace_profiles {
            own.profiles.clone_from(profiles);
        }
        own.names.extend(cluster.own_namespace_names.clone());
        return Ok(own);
    }
    Err(unknown(format!("the {called} of cluster {} may not ask for anything here", cluster.name)))
}

fn by_certificate(settings: &Settings, holder: &CertificateHolder) -> Result<Credential, NotIdentified> {
    let cluster = known(settings, &holder.cluster)?;
    match holder.names.iter().find(|name| cluster.client_names.contains(*name)) {
        Some(name) => Ok(Credential::of(cluster, format!("client certificate of {name}"), None)),
        None => Err(unknown(format!("no name of that client certificate may speak for cluster {}", cluster.name))),
    }
}
