//! The port `Validator`: looks whether a name's holder has fulfilled a challenge, through the one guarded dialer.
//!
//! Passing faults (a resolver that fails, a connection that is refused) are tried again within the
//! validation's time; a definite wrong answer is final. Each kind of challenge has a bounded pool
//! of its own, so that slow targets of one kind cannot starve the others. What a remote sent never
//! stands in an error.

mod dns01;
mod http01;
mod tls_alpn01;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chancery_acme::{
    challenge::ChallengeKind,
    problem::{Problem, ProblemType},
};
use chancery_authority::ports::{Evidence, Validation, ValidationError, Validator};
use chancery_egress::{DialError, Dialer, Host, LookupError, LookupFailure};
use chancery_pki::Name;
use tokio::{sync::Semaphore, time::Instant};

/// The pauses before the second, third, … try; from then on the last one.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];

/// How much the validator does at once.
#[derive(Debug, Clone, Copy)]
pub struct ValidationSettings {
    /// Most validations of each kind at a time.
    pub at_once: usize,
    /// Longest one try.
    pub try_timeout: Duration,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        Self { at_once: 256, try_timeout: Duration::from_secs(10) }
    }
}

/// Looks over the network.
pub struct NetworkValidator {
    dialer: Dialer,
    settings: ValidationSettings,
    pools: [Arc<Semaphore>; 3],
    tls: Arc<rustls::ClientConfig>,
    redirect_tls: Arc<rustls::ClientConfig>,
}

/// How one try ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Miss {
    problem: Problem,
    transient: bool,
}

impl Miss {
    fn is_final(kind: ProblemType, detail: impl std::fmt::Display) -> Self {
        Self { problem: Problem::new(kind, detail), transient: false }
    }

    fn passing(kind: ProblemType, detail: impl std::fmt::Display) -> Self {
        Self { problem: Problem::new(kind, detail), transient: true }
    }

    fn lookup(error: &LookupError) -> Self {
        // A record that is not there yet may be on its way through the zone's secondaries.
        let not_there = matches!(error.failure, LookupFailure::NoSuchName | LookupFailure::NoRecords);
        Self { problem: Problem::new(ProblemType::Dns, error), transient: error.is_transient() || not_there }
    }

    fn dial(error: &DialError) -> Self {
        let kind = match error {
            DialError::Lookup(_) => ProblemType::Dns,
            DialError::Refused { .. }
            | DialError::Connect { .. }
            | DialError::Busy { .. }
            | DialError::Timeout { .. } => ProblemType::Connection,
        };
        let detail = match error {
            DialError::Refused { .. } => {
                format!("{error}; an operator can allow the very range for a zone of the configuration")
            }
            _ => error.to_string(),
        };
        Self { problem: Problem::new(kind, detail), transient: error.is_transient() }
    }
}

impl NetworkValidator {
    /// A validator that goes out through this dialer.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn new(dialer: Dialer, settings: ValidationSettings) -> Result<Self, rustls::Error> {
        let pool = || Arc::new(Semaphore::new(settings.at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self {
            dialer,
            settings,
            pools: [pool(), pool(), pool()],
            tls: tls_alpn01::client()?,
            redirect_tls: http01::redirect_client()?,
        })
    }

    fn pool(&self, kind: ChallengeKind) -> &Semaphore {
        let [http, dns, tls] = &self.pools;
        match kind {
            ChallengeKind::Http01 => http,
            ChallengeKind::Dns01 => dns,
            ChallengeKind::TlsAlpn01 => tls,
        }
    }

    async fn try_once(&self, validation: &Validation, deadline: Instant) -> Result<Evidence, Miss> {
        match validation.kind {
            ChallengeKind::Http01 => http01::look(&self.dialer, &self.redirect_tls, validation, deadline).await,
            ChallengeKind::Dns01 => dns01::look(&self.dialer, validation, deadline).await,
            ChallengeKind::TlsAlpn01 => tls_alpn01::look(&self.dialer, &self.tls, validation, deadline).await,
        }
    }
}

#[async_trait]
impl Validator for NetworkValidator {
    async fn validate(&self, validation: &Validation) -> Result<Evidence, ValidationError> {
        let Ok(_place) = self.pool(validation.kind).try_acquire() else {
            return Err(ValidationError::Busy);
        };
        let deadline = Instant::now() + validation.within;
        let [.., last_pause] = PAUSES;
        let mut pauses = PAUSES.into_iter();
        loop {
            let until = deadline.min(Instant::now() + self.settings.try_timeout);
            let miss = match tokio::time::timeout_at(until, self.try_once(validation, until)).await {
                Ok(Ok(evidence)) => return Ok(evidence),
                Ok(Err(miss)) => miss,
                Err(_elapsed) => {
                    Miss::passing(ProblemType::Connection, format_args!("{} did not answer in time", validation.name))
                }
            };
            let pause = pauses.next().unwrap_or(last_pause);
            if !miss.transient || Instant::now() + pause >= deadline {
                return Err(ValidationError::Failed(miss.problem));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// The host that a name is looked for at: a wildcard's base.
fn host_of(name: &Name) -> Result<Host, Miss> {
    let text = match name {
        Name::Dns(name) => name.to_string(),
        Name::Wildcard(base) => base.to_string(),
        Name::Ip(address) => return Ok(Host::Ip(*address)),
        Name::Spiffe(id) => {
            return Err(Miss::is_final(ProblemType::Malformed, format_args!("no challenge shows control of {id}")));
        }
    };
    text.parse().map_err(|error: chancery_egress::HostRejection| Miss::is_final(ProblemType::Malformed, error))
}
