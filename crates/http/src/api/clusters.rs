//! The way in for clusters: who asks is found out before anything else is read, and no request goes on without.
//!
//! Strangers cost little: their addresses have so many looks at credentials that nobody has seen lately, and everything
//! that is under way together is bounded. Of what is wrong with a credential nothing is told.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chancery_authority::{
    Failure, Office,
    api_token::TOKEN_PREFIX,
    at_work::AtWork,
    credential::{Credential, NotIdentified, Presented},
    ports::{CertificateHolder, IdentityError, ServiceAccount, WorkloadIdentity},
};
use chancery_pki::Timestamp;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use secrecy::{ExposeSecret as _, SecretString};
use tracing::Instrument as _;

use super::{
    ApiState, Caller,
    answer::{ApiError, Outcome},
};
use crate::{
    acme::{
        ClientAddress, Rate,
        rates::{Buckets, bucket_of},
        under_way::{Arriving, UnderWay},
    },
    request_id::{HEADER, RequestId},
};

/// Largest body: a CSR of the longest kind in PEM, and what is reported about the object.
pub(super) const BODY_MAX: usize = 320 * 1024;
/// Longest credential in a header, in octets; a service-account token has some 1,200.
const TOKEN_MAX: usize = 8 * 1024;
/// Most credentials that are remembered as good.
const SEEN_MAX: usize = 4096;
/// How long they are.
const SEEN_FOR: Duration = Duration::from_secs(60);

/// The client's certificate with its issuers, in DER, as the TLS handshake took it. The server puts it into the
/// request's extensions; that the client holds its key is proved, whom it speaks for is not.
#[derive(Debug, Clone)]
pub struct ClientCertificates(pub Arc<[Vec<u8>]>);

/// How clusters are let in.
#[derive(Clone)]
pub struct ClusterSettings {
    /// Whoever knows whom their tokens and certificates speak for.
    pub identity: Arc<dyn WorkloadIdentity>,
    /// How fast one credential may ask; `None` sets no limit.
    pub requests_per_credential: Option<Rate>,
    /// How fast one address may have credentials looked at that nobody has seen lately; `None` sets no limit.
    pub unseen_per_address: Option<Rate>,
    /// Most requests under way at once; further ones are told to come back. Of those that are still arriving one
    /// credential has at most a quarter, and never more than a quarter of what is free.
    pub in_flight: usize,
    /// How long a request's body may take to arrive.
    pub body_time: Duration,
    /// Where requests are counted, beside those of other doors.
    pub at_work: AtWork,
}

impl ClusterSettings {
    /// The usual limits.
    #[must_use]
    pub fn new(identity: Arc<dyn WorkloadIdentity>) -> Self {
        let rate = |burst: u32, each| Rate { burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN), one_each: each };
        Self {
            identity,
            requests_per_credential: Some(rate(2_000, Duration::from_millis(2))),
            unseen_per_address: Some(rate(60, Duration::from_secs(1))),
            in_flight: 1024,
            body_time: Duration::from_secs(10),
            at_work: AtWork::default(),
        }
    }
}

impl Default for ClusterSettings {
    /// API tokens alone are taken.
    fn default() -> Self {
        Self::new(Arc::new(Nobody))
    }
}

/// Knows nobody.
struct Nobody;

#[async_trait]
impl WorkloadIdentity for Nobody {
    async fn service_account(&self, _: &SecretString, _: Timestamp) -> Result<ServiceAccount, IdentityError> {
        Err(IdentityError::Unknown("no cluster's tokens are taken".to_owned()))
    }

    fn certificate_holder(&self, _: &[Vec<u8>], _: Timestamp) -> Result<CertificateHolder, IdentityError> {
        Err(IdentityError::Unknown("no cluster's certificates are taken".to_owned()))
    }
}

/// The door's own state.
pub(super) struct Clusters {
    identity: Arc<dyn WorkloadIdentity>,
    requests: Buckets<String>,
    unseen: Buckets<u64>,
    /// Looks for which a cluster is asked, by address and by the account whose token its keys have signed.
    asking: Buckets<(u64, String)>,
    under_way: UnderWay,
    shares: RandomState,
    body_time: Duration,
    pub(super) at_work: AtWork,
    /// Credentials that were good, by their digest, and until when that is remembered.
    seen: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Clusters {
    pub(super) fn new(settings: ClusterSettings) -> Self {
        let ClusterSettings { identity, requests_per_credential, unseen_per_address, in_flight, body_time, at_work } =
            settings;
        Self {
            identity,
            requests: Buckets::new(requests_per_credential),
            unseen: Buckets::new(unseen_per_address),
            asking: Buckets::new(unseen_per_address),
            under_way: UnderWay::new(in_flight, in_flight / 4),
            shares: RandomState::new(),
            body_time,
            at_work,
            seen: Mutex::default(),
        }
    }

    /// Finds out who asks, and keeps a place for the request.
    async fn admit(
        &self,
        office: &Office,
        presented: Option<Presented>,
        address: Option<ClientAddress>,
        id: &RequestId,
    ) -> Result<(Arc<Credential>, Arriving<'_>), ApiError> {
        let presented = presented.ok_or_else(ApiError::unauthorized)?;
        let digest = digest_of(&presented);
        let too_often = |wait| ApiError::slow_down("too many credentials from this address", wait);
        let address = address.map(|ClientAddress(address)| bucket_of(address));
        // What costs little to look at counts against an address only where it fails, so that whoever shares the address
        // with a stranger is let in. Looks for which a cluster is asked are counted before, and apart for each account:
        // there the cluster's signature is looked at first, so that no stranger uses up what is an account's.
        let asks = match &presented {
            Presented::Token(token) if !token.expose_secret().starts_with(TOKEN_PREFIX) => {
                self.identity.asks(token, office.now()).await
            }
            Presented::Token(_) | Presented::Certificate(_) => Ok(None),
        };
        let asked = asks.as_ref().is_ok_and(Option::is_some);
        let identified = match asks {
            Ok(account) => {
                if let (Some(account), Some(address)) = (account, address)
                    && !self.was_seen(&digest)
                {
                    self.asking.take((address, account)).map_err(too_often)?;
                }
                office.identify(&presented, &*self.identity).await
            }
            Err(error) => Err(error.into()),
        };
        let credential = match identified {
            Ok(credential) => credential,
            Err(NotIdentified::Unknown(why)) => {
                self.forget(&digest);
                tracing::info!(request.id = %id, why = ?why, "a cluster's credential was not taken");
                if let (false, Some(address)) = (asked, address) {
                    self.unseen.take(address).map_err(too_often)?;
                }
                return Err(ApiError::unauthorized());
            }
            // Strangers are not told what our own configuration lacks.
            Err(NotIdentified::Failed(Failure::Unavailable(why))) => {
                tracing::warn!(request.id = %id, why, "a cluster's credential could not be looked at");
                let told = format!("credentials cannot be looked at now; the server's log tells of request {id}");
                return Err(Failure::Unavailable(told).into());
            }
            Err(NotIdentified::Failed(failure)) => return Err(ApiError::of_failure(failure, id)),
        };
        self.remember(digest);
        let who = format!("{}\n{}", credential.cluster().name, credential.name());
        let share = self.share_of(&who);
        self.requests.take(who).map_err(|wait| ApiError::slow_down("this credential asks too often", wait))?;
        // A place is for work: whoever waits for a slow API server takes none.
        let place = self.under_way.enter(Some(share)).ok_or_else(ApiError::busy)?;
        Ok((Arc::new(credential), place))
    }

    /// By what a credential's share of the places is known.
    fn share_of(&self, who: &str) -> u64 {
        self.shares.hash_one(who)
    }

    fn was_seen(&self, digest: &[u8; 32]) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(digest).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, digest: [u8; 32]) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX && !seen.contains_key(&digest) {
            seen.retain(|_, until| now < *until);
            if seen.len() >= SEEN_MAX {
                return;
            }
        }
        seen.insert(digest, now + SEEN_FOR);
    }

    fn forget(&self, digest: &[u8; 32]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Reads a body that arrives in time and is not too long.
    async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        let late = || ApiError::invalid("the body took too long to arrive");
        let read = tokio::time::timeout(self.body_time, Limited::new(body, BODY_MAX).collect());
        match read.await.map_err(|_| late())? {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(BODY_MAX)),
            Err(_) => Err(ApiError::invalid("the body broke off")),
        }
    }
}

/// Lets a cluster's request in, or answers it.
pub(super) async fn enter(State(ApiState(api)): State<ApiState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = RequestId::new(api.office.entropy());
    let route = word(request.extensions().get::<MatchedPath>().map(MatchedPath::as_str));
    let (presented, address) = (presented(&request), request.extensions().get::<ClientAddress>().copied());
    let mut response = match api.clusters.admit(&api.office, presented, address, &id).await {
        Ok((credential, arriving)) => {
            let span = tracing::info_span!("cluster", request.id = %id, cluster = credential.cluster().name,
                credential = credential.name(), route);
            let (mut head, body) = request.into_parts();
            head.extensions.insert(Caller::Cluster);
            head.extensions.insert(credential);
            head.extensions.insert(id);
            // Only now it leaves its credential's share: slow bodies of one take no other's places.
            match api.clusters.read(body).await {
                Ok(body) => {
                    let _place = arriving.let_in();
                    next.run(Request::from_parts(head, Body::from(body))).instrument(span).await
                }
                Err(error) => error.into_response(),
            }
        }
        Err(error) => error.into_response(),
    };
    let outcome = response.extensions().get::<Outcome>().map_or("ok", |Outcome(outcome)| *outcome);
    response.headers_mut().insert(HEADER, id.header_value());
    api.metrics.answered(route, outcome, response.status().as_u16(), began.elapsed());
    response
}

/// The word for a route in metrics and logs.
fn word(path: Option<&str>) -> &'static str {
    match path.unwrap_or_default() {
        "/api/v1/signing-requests" => "signing-requests",
        "/api/v1/signing-requests/{kind}/{uid}" => "signing-request",
        "/api/v1/signing-requests/{kind}/{uid}/usage" => "signing-request-usage",
        "/api/v1/signing-requests/{kind}/{uid}/revoke" => "signing-request-revoke",
        "/api/v1/signer" => "signer",
        _ => "unknown",
    }
}

/// What a request presents: a token in its one Authorization header, else the connection's certificate.
fn presented(request: &Request) -> Option<Presented> {
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => {
            let ClientCertificates(chain) = request.extensions().get()?;
            Some(Presented::Certificate(Arc::clone(chain)))
        }
        (Some(one), None) => {
            let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
            let fits = scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_MAX).contains(&token.len());
            fits.then(|| Presented::Token(SecretString::from(token)))
        }
        (Some(_), Some(_)) => None,
    }
}

fn digest_of(presented: &Presented) -> [u8; 32] {
    let of = match presented {
        Presented::Token(token) => digest(&SHA256, token.expose_secret().as_bytes()),
        Presented::Certificate(chain) => digest(&SHA256, chain.first().map(Vec::as_slice).unwrap_or_default()),
    };
    let mut out = [0; 32];
    out.copy_from_slice(of.as_ref());
    out
}
