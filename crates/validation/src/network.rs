//! The port on the network: pools, time, retries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chancery_acme::{challenge::ChallengeKind, problem::Problem};
use chancery_authority::ports::{Evidence, Validation, ValidationError, Validator};
use chancery_egress::{Dialer, Host};
use chancery_pki::Name;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    counters::Counters,
    dns01, http01,
    look::{Look, Miss},
    tls::Connectors,
    tls_alpn01,
};

/// How many looks of one challenge type there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// At a time.
    pub at_once: usize,
    /// Waiting for their turn; who comes after that is turned away.
    pub waiting: usize,
}

/// The validator's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationSettings {
    /// For http-01.
    pub http_01: Pool,
    /// For dns-01.
    pub dns_01: Pool,
    /// For tls-alpn-01.
    pub tls_alpn_01: Pool,
    /// Longest one look takes.
    pub look: Duration,
    /// The pauses between looks that end with a passing fault: one more look than pauses.
    pub pauses: Vec<Duration>,
}

impl Default for ValidationSettings {
    fn default() -> Self {
        let pool = Pool { at_once: 256, waiting: 4096 };
        Self {
            http_01: pool,
            dns_01: pool,
            tls_alpn_01: pool,
            look: Duration::from_secs(10),
            pauses: [1, 2, 4, 8].map(Duration::from_secs).to_vec(),
        }
    }
}

/// A bounded pool with a bounded queue.
#[derive(Debug)]
struct Seats {
    seats: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Seats {
    fn new(pool: Pool) -> Self {
        let seats = Semaphore::new(pool.at_once.clamp(1, Semaphore::MAX_PERMITS));
        Self { seats, waiting: AtomicUsize::new(0), most_waiting: pool.waiting }
    }

    /// A seat, or `None` if too many wait or none is free in time.
    async fn take(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        if let Ok(seat) = self.seats.try_acquire() {
            return Some(seat);
        }
        let _queued = Queued::enter(&self.waiting, self.most_waiting)?;
        timeout_at(deadline, self.seats.acquire()).await.ok()?.ok()
    }
}

/// A place in the queue; given up when dropped, however the wait ends.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn enter(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let queued = Self(waiting);
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at challenges over the network.
pub struct NetworkValidator {
    dialer: Dialer,
    connectors: Connectors,
    http_01: Seats,
    dns_01: Seats,
    tls_alpn_01: Seats,
    look: Duration,
    pauses: Vec<Duration>,
    counters: Arc<Counters>,
}

impl NetworkValidator {
    /// A validator that goes out through `dialer`.
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up.
    pub fn new(dialer: Dialer, settings: ValidationSettings) -> Result<Self, rustls::Error> {
        let ValidationSettings { http_01, dns_01, tls_alpn_01, look, pauses } = settings;
        Ok(Self {
            dialer,
            connectors: Connectors::new()?,
            http_01: Seats::new(http_01),
            dns_01: Seats::new(dns_01),
            tls_alpn_01: Seats::new(tls_alpn_01),
            look,
            pauses,
            counters: Arc::default(),
        })
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    const fn seats(&self, kind: ChallengeKind) -> &Seats {
        match kind {
            ChallengeKind::Http01 => &self.http_01,
            ChallengeKind::Dns01 => &self.dns_01,
            ChallengeKind::TlsAlpn01 => &self.tls_alpn_01,
        }
    }

    /// Looks until there is a verdict or no time.
    async fn validate_uncounted(&self, validation: &Validation) -> Result<Evidence, ValidationError> {
        let deadline = Instant::now() + validation.within;
        let mut looks: usize = 0;
        let mut pauses = self.pauses.iter();
        loop {
            let miss = match self.one_look(validation, deadline).await {
                Ok(summary) => return Ok(Evidence { summary: format!("{}: {summary}", validation.kind) }),
                Err(Miss::Final(problem)) => return Err(ValidationError::Failed(problem)),
                Err(miss) => miss,
            };
            looks = looks.saturating_add(1);
            let next = pauses.next().map(|pause| Instant::now() + *pause);
            match (next, miss) {
                (Some(next), _) if next < deadline => sleep_until(next).await,
                (_, Miss::Elsewhere(problem)) => return Err(ValidationError::Failed(problem)),
                (_, Miss::Passing(problem) | Miss::Final(problem)) => {
                    let detail = match looks {
                        1 => problem.detail,
                        _ => format!("{} (looked {looks} times)", problem.detail),
                    };
                    return Err(ValidationError::Failed(Problem { detail, ..problem }));
                }
                (_, Miss::Busy) => return Err(ValidationError::Busy),
            }
        }
    }

    /// One look, which holds a seat while it lasts, and none while it pauses.
    async fn one_look(&self, validation: &Validation, deadline: Instant) -> Look {
        let _seat = self.seats(validation.kind).take(deadline).await.ok_or(Miss::Busy)?;
        self.counters.of(validation.kind).looks.increment();
        let until = deadline.min(Instant::now() + self.look);
        match timeout_at(until, Box::pin(self.look(validation, until))).await {
            Ok(look) => look,
            Err(_) => Err(Miss::late(&validation.name)),
        }
    }

    async fn look(&self, validation: &Validation, deadline: Instant) -> Look {
        let Validation { name, kind, token, key_authorization, within: _ } = validation;
        match (kind, name, host(name)) {
            (ChallengeKind::Dns01, Name::Dns(base) | Name::Wildcard(base), _) => {
                dns01::look(&self.dialer, base, key_authorization, deadline).await
            }
            (ChallengeKind::Http01, _, Some(host)) => {
                http01::look(&self.dialer, &self.connectors.https, &host, *token, key_authorization, deadline).await
            }
            (ChallengeKind::TlsAlpn01, _, Some(host)) => {
                tls_alpn01::look(&self.dialer, &self.connectors.acme_tls, name, &host, key_authorization, deadline)
                    .await
            }
            _ => Err(Miss::wrong(format_args!("{kind} cannot show control of {name}"))),
        }
    }
}

/// Whom to dial for a name; nobody for wildcards and names that are no hosts.
fn host(name: &Name) -> Option<Host> {
    match name {
        Name::Dns(name) => Some(Host::Name(name.as_str().into())),
        Name::Ip(address) => Some(Host::from(*address)),
        Name::Wildcard(_) | Name::Spiffe(_) | Name::Uri(_) | Name::Email(_) | Name::Other(_) | Name::CommonName(_) => {
            None
        }
    }
}

#[async_trait]
impl Validator for NetworkValidator {
    async fn validate(&self, validation: &Validation) -> Result<Evidence, ValidationError> {
        let outcome = self.validate_uncounted(validation).await;
        let counters = self.counters.of(validation.kind);
        match &outcome {
            Ok(_) => counters.valid.increment(),
            Err(ValidationError::Failed(_)) => counters.failed.increment(),
            Err(ValidationError::Busy) => counters.busy.increment(),
        }
        outcome
    }

    fn may_validate(&self, name: &Name, kind: ChallengeKind) -> bool {
        if !kind.suits(name) {
            return false;
        }
        let Some(host) = host(name) else { return true };
        let ports = self.dialer.zone_of(&host).ports();
        match kind {
            ChallengeKind::Dns01 => true,
            ChallengeKind::Http01 => self.dialer.may_dial(&host, ports.http).is_ok(),
            ChallengeKind::TlsAlpn01 => self.dialer.may_dial(&host, ports.tls_alpn).is_ok(),
        }
    }
}
