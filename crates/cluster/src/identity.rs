//! The port itself: from what is presented to the cluster that it belongs to, and to whom it speaks for there.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use chancery_authority::ports::{CertificateHolder, IdentityError, ServiceAccount, WorkloadIdentity};
use chancery_pki::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, TryAcquireError};

use crate::{
    api_server::ApiServer,
    claims::{Claims, Unverified},
    clients::{ClientAuthority, names_of, unix_time},
    keys::{Keys, Published},
    known::{Known, digest_of},
};

/// Most tokens of one cluster that its API server is being asked about, and most that wait for its keys: a slow one keeps
/// no more waiting.
const LOOKS_AT_ONCE: usize = 32;

/// Slow signatures of one cluster that are looked at at once; more wait.
const SLOW_AT_ONCE: usize = 2;

/// A cluster, as far as credentials of it can be told.
#[derive(Debug, Clone)]
pub struct ClusterIdentity {
    /// Its name.
    pub cluster: String,
    /// How its service-account tokens are looked at; none, they are not taken.
    pub tokens: Option<TokenIdentity>,
    /// Below what its client certificates stand; none, they are not taken.
    pub clients: Option<ClientAuthority>,
}

/// How a cluster's tokens are looked at.
#[derive(Debug, Clone)]
pub struct TokenIdentity {
    /// Who issues them, letter for letter.
    pub issuer: String,
    /// Whom they must be meant for: us.
    pub audience: String,
    /// By what they are told to be good.
    pub check: TokenCheck,
}

/// By what a token is told to be good.
#[derive(Debug, Clone)]
pub enum TokenCheck {
    /// The API server is asked about each that its keys have signed: it also knows those whose pod or account is gone.
    Review(ApiServer),
    /// The cluster's published keys: a token holds until it expires.
    Keys(Published),
}

/// Whom the credentials of the configured clusters speak for.
pub struct Identity {
    clusters: RwLock<Arc<Vec<Cluster>>>,
}

struct Cluster {
    name: String,
    tokens: Option<Tokens>,
    clients: Option<ClientAuthority>,
}

struct Tokens {
    issuer: String,
    audience: String,
    keys: Arc<Keys>,
    /// Who is asked about those that a key has signed.
    reviewer: Option<ApiServer>,
    known: Known<(String, String)>,
    /// Reviews under way.
    reviews: Semaphore,
    /// Looks under way that wait for keys.
    waiting: Semaphore,
    /// Signatures under way on curves that take more than a millisecond.
    slow: Arc<Semaphore>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.clusters().iter().map(|cluster| cluster.name.clone()).collect();
        f.debug_struct("Identity").field("clusters", &names).finish()
    }
}

impl Identity {
    /// Of these clusters. No two may have the same issuer and audience.
    #[must_use]
    pub fn new(clusters: Vec<ClusterIdentity>) -> Self {
        let identity = Self { clusters: RwLock::default() };
        identity.replace(clusters);
        identity
    }

    /// From now on of these.
    pub fn replace(&self, clusters: Vec<ClusterIdentity>) {
        let clusters = clusters.into_iter().map(|cluster| {
            let ClusterIdentity { cluster, tokens, clients } = cluster;
            let tokens = tokens.map(|TokenIdentity { issuer, audience, check }| {
                let (published, reviewer) = match check {
                    TokenCheck::Review(server) => (Published::ApiServer(server.clone()), Some(server)),
                    TokenCheck::Keys(published) => (published, None),
                };
                Tokens {
                    issuer,
                    audience,
                    keys: Keys::new(published),
                    reviewer,
                    known: Known::new(),
                    reviews: Semaphore::new(LOOKS_AT_ONCE),
                    waiting: Semaphore::new(LOOKS_AT_ONCE),
                    slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
                }
            });
            Cluster { name: cluster, tokens, clients }
        });
        let clusters = Arc::new(clusters.collect());
        *self.clusters.write().unwrap_or_else(PoisonError::into_inner) = clusters;
    }

    fn clusters(&self) -> Arc<Vec<Cluster>> {
        Arc::clone(&self.clusters.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether any cluster has client certificates.
    pub(crate) fn has_client_authorities(&self) -> bool {
        self.clusters().iter().any(|cluster| cluster.clients.is_some())
    }

    /// The clusters below whose CA certificates a certificate stands.
    fn clusters_of(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Vec<String> {
        let clusters = self.clusters();
        let takes = |cluster: &&Cluster| cluster.clients.as_ref().is_some_and(|clients| clients.takes(chain, now));
        clusters.iter().filter(takes).map(|cluster| cluster.name.clone()).collect()
    }
}

#[async_trait]
impl WorkloadIdentity for Identity {
    async fn service_account(&self, token: &SecretString, now: Timestamp) -> Result<ServiceAccount, IdentityError> {
        let unverified = Unverified::read(token.expose_secret()).map_err(refused)?;
        let claims = &unverified.claims;
        let clusters = self.clusters();
        let (cluster, tokens) = by_whom(&clusters, claims).map_err(refused)?;
        claims.check_time(now.unix_seconds()).map_err(refused)?;
        let digest = digest_of(token.expose_secret());
        let (namespace, name) = match tokens.known.find(&digest) {
            Some(known) => known,
            None => {
                let account = tokens.check(token, &unverified).await?;
                tokens.known.keep(digest, account.clone(), left(claims, now));
                account
            }
        };
        Ok(ServiceAccount { cluster: cluster.name.clone(), namespace, name })
    }

    async fn asks(&self, token: &SecretString, now: Timestamp) -> Result<Option<String>, IdentityError> {
        let unverified = Unverified::read(token.expose_secret()).map_err(refused)?;
        let claims = &unverified.claims;
        let clusters = self.clusters();
        let (cluster, tokens) = by_whom(&clusters, claims).map_err(refused)?;
        claims.check_time(now.unix_seconds()).map_err(refused)?;
        if tokens.reviewer.is_none() || tokens.known.find(&digest_of(token.expose_secret())).is_some() {
            return Ok(None);
        }
        tokens.verify(&unverified).await?;
        Ok(Some(format!("{}\n{}", cluster.name, claims.sub)))
    }

    fn certificate_holder(&self, chain: &[Vec<u8>], now: Timestamp) -> Result<CertificateHolder, IdentityError> {
        let certificates: Vec<CertificateDer<'_>> =
            chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let cluster = match <[String; 1]>::try_from(self.clusters_of(&certificates, unix_time(now))) {
            Ok([cluster]) => cluster,
            Err(none) if none.is_empty() => {
                return Err(refused("the client certificate stands below no cluster's CA, or does not hold"));
            }
            Err(_) => return Err(refused("the client certificate stands below the CAs of several clusters")),
        };
        let names = chain.first().map(|leaf| names_of(leaf)).unwrap_or_default();
        Ok(CertificateHolder { cluster, names })
    }
}

/// The cluster that a token says it is of. That decides by whom it is looked at: it goes to no other cluster's API server.
fn by_whom<'a>(clusters: &'a [Cluster], claims: &Claims) -> Result<(&'a Cluster, &'a Tokens), &'static str> {
    let of = |cluster: &'a Cluster| {
        let tokens = cluster.tokens.as_ref()?;
        (tokens.issuer == claims.iss && claims.is_for(&tokens.audience)).then_some((cluster, tokens))
    };
    let mut candidates = clusters.iter().filter_map(of);
    let found = candidates.next().ok_or("no cluster has that issuer and audience")?;
    match candidates.next() {
        None => Ok(found),
        Some(_) => Err("the token is meant for several clusters' audiences"),
    }
}

impl Tokens {
    /// That one of the cluster's keys has signed a token. Strangers learn here that theirs are no good, before anybody is
    /// asked about them.
    async fn verify(&self, unverified: &Unverified<'_>) -> Result<(), IdentityError> {
        let (kid, algorithm) = (unverified.kid.as_deref(), unverified.algorithm);
        let verifier = match self.keys.at_hand(kid, algorithm) {
            Some(verifier) => verifier,
            None => {
                let _place = self.waiting.try_acquire().map_err(busy)?;
                let found = self.keys.find(kid, algorithm).await;
                let found = found.map_err(|fault| IdentityError::Unavailable(fault.to_string()))?;
                found.ok_or_else(|| refused("the cluster has no such key"))?
            }
        };
        let (signed, signature) = (unverified.signed.as_bytes(), &unverified.signature);
        let verified = if algorithm.is_slow() {
            // Whoever waits here waits for his turn, strangers and controllers alike.
            let turn = Arc::clone(&self.slow).acquire_owned().await;
            let turn = turn.map_err(|error| IdentityError::Unavailable(error.to_string()))?;
            let (signed, signature) = (signed.to_vec(), signature.clone());
            let verifying = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                verifier.verify(&signed, &signature)
            });
            verifying.await.map_err(|error| IdentityError::Unavailable(error.to_string()))?
        } else {
            verifier.verify(signed, signature)
        };
        verified.map_err(|_| refused("the token's signature does not verify"))
    }

    /// Whom a token speaks for; its times were looked at.
    async fn check(
        &self,
        token: &SecretString,
        unverified: &Unverified<'_>,
    ) -> Result<(String, String), IdentityError> {
        self.verify(unverified).await?;
        let Some(server) = &self.reviewer else { return unverified.claims.account().map_err(refused) };
        let _place = self.reviews.try_acquire().map_err(busy)?;
        let reviewed = server.review(token, &self.audience).await;
        reviewed.map_err(|fault| IdentityError::Unavailable(fault.to_string()))?.map_err(IdentityError::Unknown)
    }
}

fn refused(why: &str) -> IdentityError {
    IdentityError::Unknown(why.to_owned())
}

fn busy(_: TryAcquireError) -> IdentityError {
    IdentityError::Unavailable("too many tokens of that cluster are being looked at".to_owned())
}

/// How long a token holds from now on.
fn left(claims: &Claims, now: Timestamp) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^53")]
    let left = claims.exp - now.unix_seconds() as f64;
    Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(Duration::ZERO)
}
