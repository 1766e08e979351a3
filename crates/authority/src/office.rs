//! The office: the ports and the settings in one place, shared by every door.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use chancery_acme::{
    account::{Account, DirectoryName},
    authorization::Authorization,
    id::{AccountId, AuthorizationId, OrderId},
    order::{Order, OrderStatus},
};
use chancery_pki::{SpkiDigest, Timestamp};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{Notify, watch},
};

use crate::{
    changes::{Change, Changes, Committed},
    failure::Failure,
    ports::{Clock, CommitError, Entropy, Signer, Store, Validator},
    records::{AuthorityId, Retention, Versioned},
    settings::Settings,
    terms::{Over, Term, Terms},
    waits::Waits,
};

/// How often a use case starts again from its load when another request was first.
pub(crate) const ATTEMPTS: usize = 8;
/// Steps of a policy's conditions that may be taken on a thread that others wait for: some 1 ms.
const STEPS_INLINE: u64 = 20_000;

/// Most refusals remembered as recorded within their hour; past it refusals are counted, not recorded.
const REFUSALS_REMEMBERED: usize = 4096;

/// The world, as the use cases see it.
#[derive(Clone)]
pub struct Ports {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Whoever holds the private keys.
    pub signer: Arc<dyn Signer>,
    /// Whoever looks whether challenges are fulfilled.
    pub validator: Arc<dyn Validator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

/// The certificate authority. Cheap to clone.
#[derive(Clone)]
pub struct Office {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) ports: Ports,
    settings: ArcSwap<Settings>,
    jobs_changed: Notify,
    /// Until when the worker believes that nothing is due, in Unix milliseconds.
    quiet_until: AtomicI64,
    /// The clock was in doubt when jobs were last looked up.
    doubted: AtomicBool,
    /// Whoever records what is in force, from the look at the settings to their being in force.
    recording: tokio::sync::Mutex<()>,
    /// The authorizations whose challenges are being looked at by this process.
    validations: Mutex<HashSet<AuthorizationId>>,
    waits: Waits,
    refusals: Mutex<RememberedRefusals>,
    counters: Counters,
    /// In which hour it was last said of an authority that it cuts its certificates' lives.
    cuts_told: Mutex<HashMap<AuthorityId, i64>>,
    holds: Mutex<BTreeMap<Hold, Arc<str>>>,
    /// How many works go on whose request may be gone.
    working: watch::Sender<usize>,
    /// In which terms of leadership clusters' controllers ask.
    terms: Mutex<Terms>,
    /// Up to which end one kind of records was pruned by this process.
    pruned: Mutex<Option<(Retention, Timestamp)>>,
}

/// A reason to issue nothing that stands until it is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// What is stored was found to be damaged.
    Damaged,
    /// What is in force could not be recorded.
    Unrecorded,
}

/// What the use cases count.
#[derive(Debug, Default)]
pub struct Counters {
    /// Certificates that end with their issuer, earlier than their profile would have it.
    pub cut_by_issuer: AtomicU64,
    /// Validations and issuances that were not begun since too many went on.
    pub work_turned_away: AtomicU64,
}

#[derive(Default)]
struct RememberedRefusals {
    hour: i64,
    seen: HashSet<[u8; 32]>,
}

/// Some of an account's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersPage {
    /// Their ids.
    pub orders: Vec<OrderId>,
    /// After which one the next page begins; none where this is the last.
    pub next: Option<OrderId>,
}

impl Office {
    /// An office over these ports.
    #[must_use]
    pub fn new(ports: Ports, settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                ports,
                settings: ArcSwap::from_pointee(settings),
                jobs_changed: Notify::new(),
                quiet_until: AtomicI64::new(i64::MAX),
                doubted: AtomicBool::new(false),
                recording: tokio::sync::Mutex::new(()),
                validations: Mutex::default(),
                waits: Waits::default(),
                refusals: Mutex::new(RememberedRefusals::default()),
                counters: Counters::default(),
                cuts_told: Mutex::default(),
                holds: Mutex::default(),
                working: watch::Sender::new(0),
                terms: Mutex::default(),
                pruned: Mutex::default(),
            }),
        }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.load_full()
    }

    pub(crate) fn put_settings(&self, settings: Settings) {
        self.inner.settings.store(Arc::new(settings));
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.ports.clock.now()
    }

    /// Now, for what is issued: not by a clock that is in doubt, and not while issuance is held.
    pub(crate) fn issuing_time(&self) -> Result<Timestamp, Failure> {
        let now = self.trusted_time()?;
        self.held().into_iter().next().map_or(Ok(now), |why| Err(Failure::Unavailable(why)))
    }

    /// Now, for what is decided, dropped or put off by it: not by a clock that is in doubt.
    pub(crate) fn trusted_time(&self) -> Result<Timestamp, Failure> {
        match self.inner.ports.clock.doubt() {
            None => Ok(self.now()),
            Some(why) => Err(Failure::Unavailable(why)),
        }
    }

    /// Whether the clock was in doubt when this was last asked, and whether it is now.
    pub(crate) fn doubt_then_and_now(&self) -> (bool, bool) {
        let now = self.inner.ports.clock.doubt().is_some();
        (self.inner.doubted.swap(now, Ordering::SeqCst), now)
    }

    /// What followed from the end of a doubt could not be done: as if it had not ended.
    pub(crate) fn doubt_again(&self) {
        self.inner.doubted.store(true, Ordering::SeqCst);
    }

    /// For whoever records what is in force and puts it in force: one at a time.
    pub(crate) async fn recording(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.recording.lock().await
    }

    /// The source of chance.
    #[must_use]
    pub fn entropy(&self) -> &dyn Entropy {
        &*self.inner.ports.entropy
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.ports.store
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.inner.ports
    }

    pub(crate) fn pruned(&self) -> MutexGuard<'_, Option<(Retention, Timestamp)>> {
        self.inner.pruned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops issuance until [`Self::lift`]; everything else goes on.
    pub fn hold(&self, hold: Hold, why: &str) {
        self.holds().insert(hold, why.into());
    }

    /// That reason is gone.
    pub fn lift(&self, hold: Hold) {
        self.holds().remove(&hold);
    }

    /// Why issuance is stopped, for each reason.
    #[must_use]
    pub fn held(&self) -> Vec<String> {
        self.holds().values().map(ToString::to_string).collect()
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<Hold, Arc<str>>> {
        self.inner.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that has to be done whether or not anybody still waits for it.
    ///
    /// # Errors
    ///
    /// [`Failure::Busy`], where so much goes on already: clients that go away take no more than that.
    pub(crate) fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<tokio::task::JoinHandle<T>, Failure> {
        struct Working(Office);
        impl Drop for Working {
            fn drop(&mut self) {
                self.0.inner.working.send_modify(|count| *count -= 1);
            }
        }
        let most = self.settings().limits.work_at_once;
        let begins = self.inner.working.send_if_modified(|count| {
            let free = *count < most;
            *count += usize::from(free);
            free
        });
        if !begins {
            self.inner.counters.work_turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::Busy);
        }
        let working = Working(self.clone());
        Ok(tokio::spawn(async move {
            let done = work.await;
            drop(working);
            done
        }))
    }

    /// How many validations and issuances go on, be their clients there or not.
    #[must_use]
    pub fn working(&self) -> usize {
        *self.inner.working.borrow()
    }

    /// Asks the policy; in another's place where that may take long, so that no request waits for its thread.
    pub(crate) fn ask_policy<T>(settings: &Settings, ask: impl FnOnce() -> T) -> T {
        let several = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if settings.policy.steps() > STEPS_INLINE && several() { tokio::task::block_in_place(ask) } else { ask() }
    }

    /// Waits until nothing goes on any more whose request is gone: validations and issuances under way.
    pub async fn finished(&self) {
        let mut working = self.inner.working.subscribe();
        // The sender lives as long as we do.
        let _ = working.wait_for(|count| *count == 0).await;
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Counts a certificate whose life was cut; whether it is the first of its authority within the hour.
    pub(crate) fn count_cut_by_issuer(&self, authority: &AuthorityId, now: Timestamp) -> bool {
        self.inner.counters.cut_by_issuer.fetch_add(1, Ordering::Relaxed);
        let hour = now.unix_seconds() / 3600;
        let mut told = self.inner.cuts_told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(authority.clone(), hour) != Some(hour)
    }

    /// Told whenever a job was scheduled that may be due before the ones known.
    #[must_use]
    pub fn jobs_changed(&self) -> &Notify {
        &self.inner.jobs_changed
    }

    /// An account of a directory, whatever its status.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn account(&self, directory: &str, id: AccountId) -> Result<Option<Account>, Failure> {
        match self.store().account(id).await? {
            Some(found) if found.value.directory == directory => self.as_it_counts(found.value).await.map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// The account of a key at a directory, whatever its status.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn account_by_key(
        &self,
        directory: &DirectoryName,
        key: &SpkiDigest,
    ) -> Result<Option<Account>, Failure> {
        match self.store().account_by_key(directory, key).await? {
            Some(found) => self.as_it_counts(found.value).await.map(Some),
            None => Ok(None),
        }
    }

    /// An order, unless it is unknown or another account's.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn order(&self, account: AccountId, id: OrderId) -> Result<Option<Order>, Failure> {
        Ok(self.own_order(account, id).await?.map(|order| order.value))
    }

    pub(crate) async fn own_order(&self, account: AccountId, id: OrderId) -> Result<Option<Versioned<Order>>, Failure> {
        Ok(self.store().order(id).await?.filter(|order| order.value.account == account))
    }

    /// A page of an account's orders after `after`, in the order of their ids, those that are invalid left out
    /// (RFC 8555 §7.1.2.1). At most `limit` are looked at, so a page may hold fewer although more follow.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn orders(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrdersPage, Failure> {
        let page = self.store().orders_of(account, after, limit).await?;
        let next = page.last().copied().filter(|_| page.len() == limit);
        let now = self.now();
        let mut orders = Vec::with_capacity(page.len());
        for id in page {
            // One that was pruned since has ended.
            let order = self.store().order(id).await?;
            if order.is_some_and(|order| order.value.status(now) != OrderStatus::Invalid) {
                orders.push(id);
            }
        }
        Ok(OrdersPage { orders, next })
    }

    /// An authorization, unless it is unknown or another account's.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn authorization(
        &self,
        account: AccountId,
        id: AuthorizationId,
    ) -> Result<Option<Authorization>, Failure> {
        Ok(self.own_authorization(account, id).await?.map(|authorization| authorization.value))
    }

    pub(crate) async fn own_authorization(
        &self,
        account: AccountId,
        id: AuthorizationId,
    ) -> Result<Option<Versioned<Authorization>>, Failure> {
        Ok(self.store().authorization(id).await?.filter(|found| found.value.account == account))
    }

    /// All authorizations of an order.
    pub(crate) async fn authorizations_of(&self, order: &Order) -> Result<Vec<Versioned<Authorization>>, Failure> {
        let mut all = Vec::with_capacity(order.authorizations.len());
        for id in &order.authorizations {
            // One that was pruned has expired with its order.
            if let Some(found) = self.store().authorization(*id).await? {
                all.push(found);
            }
        }
        Ok(all)
    }

    pub(crate) async fn commit(&self, changes: Changes) -> Result<Committed, CommitError> {
        let earliest = changes
            .items
            .iter()
            .filter_map(|change| match change {
                Change::Schedule(job) => Some(job.due.unix_millis()),
                _ => None,
            })
            .min();
        let committed = self.store().commit(changes).await?;
        if earliest.is_some_and(|due| due < self.inner.quiet_until.load(Ordering::SeqCst)) {
            self.inner.jobs_changed.notify_one();
        }
        Ok(committed)
    }

    /// When the next job is due. Until then [`Self::jobs_changed`] tells only of jobs due earlier. None while the
    /// clock is in doubt: then no job becomes due by it.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be read.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, Failure> {
        // Whoever schedules while we read tells, whatever the time: no job falls between.
        self.inner.quiet_until.store(i64::MAX, Ordering::SeqCst);
        if self.trusted_time().is_err() {
            return Ok(None);
        }
        let due = self.store().next_due().await?;
        self.inner.quiet_until.store(due.map_or(i64::MAX, Timestamp::unix_millis), Ordering::SeqCst);
        Ok(due)
    }

    pub(crate) fn waits(&self) -> &Waits {
        &self.inner.waits
    }

    pub(crate) fn validations(&self) -> MutexGuard<'_, HashSet<AuthorizationId>> {
        self.inner.validations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal is the first of its kind within its hour, and so gets a leaf.
    pub(crate) fn first_refusal(&self, digest: [u8; 32], now: Timestamp) -> bool {
        let hour = now.unix_seconds() / 3600;
        let mut refusals = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.hour != hour {
            *refusals = RememberedRefusals { hour, seen: HashSet::new() };
        }
        refusals.seen.len() < REFUSALS_REMEMBERED && refusals.seen.insert(digest)
    }

    /// Remembers in which term of leadership somebody asks, unless it is over.
    pub(crate) fn ask_in(&self, term: &Term, whose: String) -> Result<(), Over> {
        self.inner.terms.lock().unwrap_or_else(PoisonError::into_inner).ask(whose, term, self.now())
    }

    /// That refusal was not recorded: the next one of its kind is the first.
    pub(crate) fn forget_refusal(&self, digest: &[u8; 32]) {
        self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner).seen.remove(digest);
    }
}
