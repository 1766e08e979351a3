//! ACME (RFC 8555) over HTTP: `/acme/{directory}/…`.
//!
//! One function takes every request, finds its resource in a closed list, lets signed requests
//! in through `front` and nowhere else, calls the use case, and writes the answer with the
//! headers that every answer has. What a use case refuses becomes a problem document in `problem`.
//!
//! URLs begin with the configured external URL; the Host header plays no part. TLS, the accept
//! loop, header limits and the clients' real addresses belong to the server.

mod account;
mod answer;
mod authorization;
mod certificate;
mod directory;
mod front;
pub(crate) mod jws;
mod nonce;
mod order;
mod problem;
pub(crate) mod rates;
mod renewal_info;
mod route;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod under_way;
mod verify;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use chancery_acme::{id::AccountId, problem::ProblemType};
use chancery_authority::{Office, at_work::AtWork};
use http::{HeaderMap, Method, StatusCode, header::USER_AGENT, request::Parts};
use tracing::Instrument as _;

pub use self::rates::{Rate, RateLimits};
use self::{
    answer::Answer,
    directory::{Directories, Known},
    front::{Front, Signed, Signer},
    nonce::Nonces,
    problem::Fault,
    rates::{Buckets, bucket_of},
    route::Resource,
    under_way::UnderWay,
    verify::Verifiers,
};
use crate::{metrics::Metrics, request_id::RequestId};

/// Seconds after which work that is under way may be done.
const SOON_S: u64 = 1;

/// Where a request comes from. The server puts it into the request's extensions; without it there
/// is no limit by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Says that a request came over a connection that is one too many. The server puts it into the request's
/// extensions; whatever was asked, at whatever path, the answer is 503 with a time to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyConnections;

/// What the ACME routes are told by the configuration.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// Scheme, host and port under which clients reach this server.
    pub external_url: String,
    /// How fast each client may ask.
    pub rates: RateLimits,
    /// Most signed requests under way at once; further ones are told to come back. More than may wait for work under
    /// way ([`Limits::waiting_answers`](chancery_authority::Limits)), so that there is always room for others.
    pub in_flight: usize,
    /// Most of them from one address (one /64 of IPv6) whose body or signature is not read yet: who was let in counts
    /// no more, since what it waits for is nothing of its neighbours behind the same address. Fewer where little is
    /// free: a quarter of that.
    pub arriving_per_address: usize,
    /// How long a request's body may take to arrive.
    pub body_time: Duration,
    /// A page about the limits, linked where one was reached.
    pub documentation: Option<String>,
    /// Where signed requests are counted, beside those of other doors.
    pub at_work: AtWork,
}

impl AcmeSettings {
    /// The defaults at this external URL.
    #[must_use]
    pub fn at(external_url: impl Into<String>) -> Self {
        Self {
            external_url: external_url.into(),
            rates: RateLimits::default(),
            in_flight: 2048,
            arriving_per_address: 512,
            body_time: Duration::from_secs(10),
            documentation: None,
            at_work: AtWork::default(),
        }
    }
}

/// The state of the ACME routes. Cheap to clone.
#[derive(Clone)]
pub struct AcmeState(Arc<Acme>);

pub(crate) struct Acme {
    office: Office,
    metrics: Arc<Metrics>,
    front: Front,
    directories: Directories,
    new_accounts: Buckets<u64>,
    new_orders: Buckets<AccountId>,
    under_way: UnderWay,
    documentation: Option<String>,
}

impl AcmeState {
    /// The ACME door of an office.
    #[must_use]
    pub fn new(office: Office, metrics: Arc<Metrics>, settings: AcmeSettings) -> Self {
        let AcmeSettings { external_url, rates, in_flight, arriving_per_address, body_time, documentation, at_work } =
            settings;
        let front = Front {
            nonces: Nonces::new(&office.entropy().octets32()),
            verifiers: Verifiers::new(),
            external: external_url.trim_end_matches('/').into(),
            body_time,
            brought_keys: Buckets::new(rates.brought_keys_per_address),
            at_work,
            documentation: documentation.as_deref().map(Into::into),
        };
        Self(Arc::new(Acme {
            office,
            metrics,
            front,
            directories: Directories::default(),
            new_accounts: Buckets::new(rates.new_accounts_per_address),
            new_orders: Buckets::new(rates.orders_per_account),
            under_way: UnderWay::new(in_flight, arriving_per_address),
            documentation,
        }))
    }
}

/// The routes of every ACME directory, and those beside them; every other path is answered that there is nothing there.
pub fn router(state: AcmeState, beside: Router) -> Router {
    let acme = Router::new().fallback(serve).with_state(state.clone());
    acme.merge(beside).layer(from_fn_with_state(state, turn_away))
}

/// Has [`serve`] answer what comes over a connection too many, also where another route would.
async fn turn_away(state: State<AcmeState>, request: Request, next: Next) -> Response {
    match request.extensions().get::<TooManyConnections>() {
        Some(TooManyConnections) => serve(state, request).await,
        None => next.run(request).await,
    }
}

/// Every ACME request.
async fn serve(State(AcmeState(acme)): State<AcmeState>, request: Request) -> Response {
    let began = Instant::now();
    let id = RequestId::new(acme.office.entropy());
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().strip_prefix("/acme/").unwrap_or_default();
    let (name, resource) = path.split_once('/').unwrap_or((path, ""));
    let directory = acme.directories.find(&acme.office, &acme.front.external, name);
    let found = Resource::parse(resource, parts.uri.query());
    let asked = directory.as_ref().zip(found);
    let route = asked.map_or("unknown", |(_, resource)| resource.as_str());
    let outcome = if parts.extensions.get::<TooManyConnections>().is_some() {
        // Read all the same: a connection that closes with something unread may take its answer along.
        let _ = acme.front.read(body).await;
        Err(problem::overloaded().into())
    } else if let Some((directory, resource)) = asked {
        let span = tracing::info_span!("acme", request.id = %id, acme.resource = route);
        acme.answer(directory, resource, &parts, body).instrument(span).await
    } else {
        Err(Fault::not_found("ACME resource").into())
    };
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(Refused { account, fault }) if takes_429_as_final(&parts.headers) => {
            Refused { account, fault: fault.without_429() }.into_answer(&id, route)
        }
        Err(refused) => refused.into_answer(&id, route),
    };
    let is_directory = found == Some(Resource::Directory);
    if let Some(directory) = &directory
        && (!is_directory || answer.status() != StatusCode::OK)
    {
        answer = answer.with_link(&directory.index, "index");
    }
    let carries_nonce = parts.method == Method::POST || found == Some(Resource::NewNonce);
    let nonce = (carries_nonce && parts.method != Method::OPTIONS).then(|| acme.front.nonces.issue(acme.office.now()));
    acme.metrics.answered(route, answer.outcome(), answer.status().as_u16(), began.elapsed());
    answer.into_response(id.header_value(), nonce.as_deref(), parts.method == Method::HEAD)
}

/// Whether this is cert-manager: for it any 4xx but 400 fails an order, 429 too, and nothing is tried again for an hour or
/// more. Whoever merely says to be it gets another number for the same refusal.
fn takes_429_as_final(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.split_ascii_whitespace().any(|product| product.starts_with("cert-manager"))
}

/// A request that is refused, and whose it was if that is proven.
struct Refused {
    account: Option<AccountId>,
    fault: Fault,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { account: None, fault }
    }
}

impl Refused {
    /// Logs what happened, once: our own failures as errors, decisions about known accounts as
    /// such, and what strangers send only if somebody wants to see it.
    fn into_answer(self, id: &RequestId, route: &'static str) -> Answer {
        let Self { account, fault } = self;
        let problem = fault.kind().token();
        match (fault.cause(), account) {
            (Some(cause), _) => {
                tracing::error!(request.id = %id, acme.resource = route, problem, cause, "a request failed");
            }
            (None, Some(account)) if fault.kind() != ProblemType::ServerInternal => {
                // Debug escapes what clients sent, so that nobody writes lines of his own.
                tracing::info!(request.id = %id, acme.resource = route, account.id = %account, problem, detail = ?fault.detail(), "refused");
            }
            (None, _) => {
                tracing::debug!(request.id = %id, acme.resource = route, problem, detail = ?fault.detail(), "refused");
            }
        }
        fault.into_answer(id)
    }
}

impl Acme {
    async fn answer(
        &self,
        directory: &Known,
        resource: Resource<'_>,
        parts: &Parts,
        body: Body,
    ) -> Result<Answer, Refused> {
        let method = &parts.method;
        let client = parts.extensions.get::<ClientAddress>().copied();
        let enter = || self.under_way.enter(client.map(|ClientAddress(address)| bucket_of(address)));
        if resource.is_public(method) {
            return Ok(match resource {
                Resource::Directory => Answer::rendered(directory.json.clone()),
                Resource::RenewalInfo(certificate) => {
                    // The one unsigned request that reads the store: bounded as those are that are not let in yet.
                    let _arriving = enter().ok_or_else(problem::overloaded)?;
                    renewal_info::renewal_info(self, certificate).await?
                }
                // HEAD says 200, GET says 204 (RFC 8555 §7.2).
                _ if method == Method::HEAD => Answer::empty(StatusCode::OK),
                _ => Answer::empty(StatusCode::NO_CONTENT),
            });
        }
        if method == Method::OPTIONS {
            return Ok(Answer::preflight(resource.methods()));
        }
        if !resource.is_signed(method) {
            return Err(Fault::method(resource.methods()).into());
        }
        let arriving = enter().ok_or_else(problem::overloaded)?;
        self.metrics.in_flight().inc();
        let _counted = Counted(self.metrics.in_flight());
        let (signed, _working) = self.front.admit(&self.office, directory, parts, body, resource.accepts()).await?;
        let _place = arriving.let_in();
        let account = match signed.signer() {
            Signer::Account(account) => Some(account.id),
            Signer::Key(_) => None,
        };
        self.perform(directory, resource, client, signed).await.map_err(|fault| Refused { account, fault })
    }

    /// Does what a genuine request asks for. Every arm says what its payload must be, else there is nothing to work on.
    async fn perform(
        &self,
        directory: &Known,
        resource: Resource<'_>,
        client: Option<ClientAddress>,
        signed: Signed<Signer>,
    ) -> Result<Answer, Fault> {
        match resource {
            Resource::Directory => {
                signed.by_account()?.empty()?;
                Ok(Answer::rendered(directory.json.clone()))
            }
            Resource::NewNonce => {
                signed.by_account()?.empty()?;
                Ok(Answer::empty(StatusCode::NO_CONTENT))
            }
            Resource::NewAccount => account::register(self, directory, client, signed.by_key()?.object()?).await,
            Resource::Account(id) => {
                account::account(self, directory, id, signed.by_account()?.empty_or_object()?).await
            }
            Resource::Orders(id, after) => {
                account::orders(self, directory, id, after, signed.by_account()?.empty()?).await
            }
            Resource::NewOrder => order::place(self, directory, signed.by_account()?.object()?).await,
            Resource::Order(id) => order::order(self, directory, id, signed.by_account()?.empty()?).await,
            Resource::Finalize(id) => order::finalize(self, directory, id, signed.by_account()?.object()?).await,
            Resource::Authorization(id) => {
                authorization::authorization(self, directory, id, signed.by_account()?.empty_or_object()?).await
            }
            Resource::Challenge(id, kind) => {
                authorization::challenge(self, directory, (id, kind), signed.by_account()?.empty_or_object()?).await
            }
            Resource::Certificate(id, chain) => {
                certificate::certificate(self, directory, (id, chain), signed.by_account()?.empty()?).await
            }
            Resource::RevokeCert => certificate::revoke(self, signed.object()?).await,
            Resource::KeyChange => {
                let change = self.front.key_change(directory, client, signed.by_account()?).await?;
                account::change_key(self, directory, change).await
            }
            Resource::RenewalInfo(_) => Err(Fault::method(resource.methods())),
        }
    }
}

/// A request in the gauge of those under way, whichever way it ends.
struct Counted<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
