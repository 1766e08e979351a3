//! Certificates that are not needed any more: what is deleted while its issuer cannot be asked is not forgotten.
//!
//! A queue in memory, worked off by one task. Each entry is tried until the issuer's server has answered, or it is
//! clear that nothing is to be done. What does not fit, and what is given up, is counted.
//!
//! Requests of Kubernetes' own kinds are deleted as a matter of routine, by kubelets and Kubernetes' cleaners, while what
//! was signed for them is in use: of those, only what was signed and never handed out comes here.

mod signed;
mod under_way;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chancery_api::{RemoteError, RequestKind, RequestRef, RevokeRequest};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::signed::Signed;
use self::under_way::UnderWay;
use crate::{
    board::{IssuerKey, Uid},
    decide::IssuerState,
    dispatch::Desk,
    leader::Leadership,
    metrics::Metrics,
    origin::{Fate, Origins, Whose},
    resource::{CertificateRequest, Disposal},
    signer::Signer,
};

/// Most that wait.
const WAITING_MAX: usize = 8192;
/// Most of one namespace that wait.
const OF_ONE_NAMESPACE: usize = WAITING_MAX / 2;
/// Most requests with a certificate that are remembered, so that a listing shows which of them are gone.
const REMEMBERED_MAX: usize = 50_000;
/// Most requests that are, or may be, signed and have no outcome yet that are remembered: as many as a board has.
const UNWRITTEN_MAX: usize = 20_000;
/// Most that are worked on at a time.
const AT_A_TIME: usize = 8;
/// For how long it is looked whether a Certificate in use gets a newer certificate.
const IN_USE_FOR: Duration = Duration::from_hours(2);
/// For how long a server is asked to revoke.
const ASKED_FOR: Duration = Duration::from_hours(24);
/// The longest wait between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// CRLReason superseded (RFC 5280 §5.3.1).
const SUPERSEDED: u64 = 4;
/// CRLReason cessationOfOperation.
const CESSATION: u64 = 5;

/// Why a certificate may be needed no more.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Its request was deleted: what has become of the Certificate decides.
    Fate(Whose),
    /// Its request was gone before it had the certificate.
    Unused,
}

#[derive(Debug, Clone)]
struct Item {
    signed: Signed,
    /// What the issuer was asked with last, as far as that is known.
    signer: Option<Arc<Signer>>,
    wanted: Wanted,
    since: Instant,
    attempts: u32,
}

/// A request that has its certificate.
#[derive(Debug)]
struct Remembered {
    issuer: IssuerKey,
    whose: Whose,
    listing: u64,
}

#[derive(Debug, Default)]
struct Queue {
    items: HashMap<Uid, Item>,
    due: BinaryHeap<Reverse<(Instant, Uid)>>,
    of_namespaces: HashMap<Box<str>, usize>,
    remembered: HashMap<Uid, Remembered>,
    /// Signed, as far as is known or may be, and without an outcome yet.
    unwritten: HashMap<Uid, HandedOut>,
    /// What is worked on now, and may have been handed out before that began.
    after_a_lost_answer: HashSet<Uid>,
    listing: u64,
}

/// Whether the certificate of a request without an outcome stands in its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandedOut {
    No,
    /// It was written, and no answer has come back.
    Perhaps,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disposals {
    queue: Mutex<Queue>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// A job that goes on: what was known when it began is known until this is dropped.
#[derive(Debug)]
pub(crate) struct Begun<'a> {
    disposals: &'a Disposals,
    uid: Uid,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.disposals.queue().after_a_lost_answer.remove(&self.uid);
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    Done,
    /// Again after a while, for so long in all; whether it is a loss if it never comes to that.
    Again {
        within: Duration,
        loss: bool,
    },
}

/// It is a loss if it never comes to that.
const LOST: Tried = Tried::Again { within: ASKED_FOR, loss: true };

impl Disposals {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { queue: Mutex::default(), changed: Notify::new(), metrics }
    }

    /// A request was signed, or may have been, and has no outcome yet.
    pub(crate) fn signed(&self, uid: &Uid) {
        let mut queue = self.queue();
        // Asked again for what was written before, a server answers the same.
        if queue.unwritten.contains_key(uid) {
            return;
        }
        if queue.unwritten.len() < UNWRITTEN_MAX {
            queue.unwritten.insert(Arc::clone(uid), HandedOut::No);
        } else {
            self.metrics.disposal_dropped();
        }
    }

    /// A job begins. While it goes on the watch may show that its request has the certificate, and then that the request is
    /// gone: whether an earlier write may have handed it out is remembered for the job.
    pub(crate) fn begin(&self, uid: &Uid) -> Begun<'_> {
        let mut queue = self.queue();
        if queue.unwritten.get(uid) == Some(&HandedOut::Perhaps) {
            queue.after_a_lost_answer.insert(Arc::clone(uid));
        }
        Begun { disposals: self, uid: Arc::clone(uid) }
    }

    /// A write that hands out its certificate begins: until its end is known it may be there. How it was before.
    pub(crate) fn handing_out(&self, uid: &str) -> HandedOut {
        let mut queue = self.queue();
        let known = queue.unwritten.get_mut(uid);
        let known = known.map_or(HandedOut::No, |known| std::mem::replace(known, HandedOut::Perhaps));
        if queue.after_a_lost_answer.contains(uid) { HandedOut::Perhaps } else { known }
    }

    /// That write was not taken, and it is as before.
    pub(crate) fn not_taken(&self, uid: &str, before: HandedOut) {
        if let Some(known) = self.queue().unwritten.get_mut(uid) {
            *known = before;
        }
    }

    /// Its certificate is written.
    pub(crate) fn written(&self, uid: &str) {
        self.queue().unwritten.remove(uid);
    }

    /// The watch shows a request; `signer` is its issuer's last one.
    pub(crate) fn observe(&self, request: &CertificateRequest, signer: Option<&Signer>) {
        let Some(uid) = request.metadata.uid.as_deref().filter(|_| request.is("Ready")) else { return };
        let mut queue = self.queue();
        // By a write of ours whose answer was lost, or by whoever led meanwhile.
        queue.unwritten.remove(uid);
        let Some(whose) = Whose::of(request).filter(|_| signer.is_none_or(wants_any)) else { return };
        let listing = queue.listing;
        if let Some(known) = queue.remembered.get_mut(uid) {
            known.listing = listing;
        } else if queue.remembered.len() < REMEMBERED_MAX {
            let issuer = IssuerKey::of(request);
            queue.remembered.insert(uid.into(), Remembered { issuer, whose, listing });
        }
    }

    /// A new listing begins.
    pub(crate) fn listing_begins(&self) {
        self.queue().listing += 1;
    }

    /// The listing is complete: what was remembered and not shown was deleted while nobody watched.
    pub(crate) fn listing_ends(&self, desk: &Desk) {
        let gone: Vec<(Uid, Remembered)> = {
            let mut queue = self.queue();
            let listing = queue.listing;
            queue.remembered.extract_if(|_, known| known.listing != listing).collect()
        };
        for (uid, known) in gone {
            let (kind, who) = (RequestKind::CertificateRequest, known.whose.namespace.clone());
            self.want(desk, Signed { kind, uid, who, issuer: known.issuer }, Wanted::Fate(known.whose));
        }
    }

    /// A request was deleted.
    pub(crate) fn deleted(&self, desk: &Desk, request: &CertificateRequest) {
        let Some(signed) = Signed::of(request) else { return };
        let unwritten = {
            let mut queue = self.queue();
            queue.remembered.remove(&signed.uid);
            queue.unwritten.remove(&signed.uid).is_some()
        };
        let wanted = match Whose::of(request) {
            _ if unwritten && !request.is("Ready") => Wanted::Unused,
            // Whoever asks without a Certificate deletes the request as soon as it has the certificate.
            Some(whose) if request.is("Ready") => Wanted::Fate(whose),
            _ => return,
        };
        self.want(desk, signed, wanted);
    }

    /// A request without an outcome was deleted while nobody watched: if its certificate was written, and the answer lost,
    /// it may have been in use before.
    pub(crate) fn gone(&self, desk: &Desk, request: &CertificateRequest) {
        let Some(signed) = Signed::of(request) else { return };
        let handed_out = self.queue().unwritten.remove(&signed.uid);
        let wanted = match (handed_out, Whose::of(request)) {
            (Some(HandedOut::No), _) => Wanted::Unused,
            (Some(HandedOut::Perhaps), Some(whose)) => Wanted::Fate(whose),
            (Some(HandedOut::Perhaps), None) | (None, _) => return,
        };
        self.want(desk, signed, wanted);
    }

    /// A request is gone, or was denied, and its certificate came too late.
    pub(crate) fn unused(&self, desk: &Desk, signed: Signed) {
        self.queue().unwritten.remove(&signed.uid);
        self.want(desk, signed, Wanted::Unused);
    }

    /// A request has ended without a certificate: if one was signed for it before, nobody uses that.
    pub(crate) fn unused_if_signed(&self, desk: &Desk, signed: Signed) {
        let unwritten = self.queue().unwritten.remove(&signed.uid).is_some();
        if unwritten {
            self.want(desk, signed, Wanted::Unused);
        }
    }

    /// A request of Kubernetes' own is gone, and nobody saw whether it had its certificate: what was signed for it and
    /// surely not handed out is not needed.
    pub(crate) fn unused_unless_handed_out(&self, desk: &Desk, signed: Signed) {
        let handed_out = self.queue().unwritten.remove(&signed.uid);
        if handed_out == Some(HandedOut::No) {
            self.want(desk, signed, Wanted::Unused);
        }
    }

    fn want(&self, desk: &Desk, signed: Signed, wanted: Wanted) {
        let issuer = &signed.issuer;
        let (signer, state) = desk.with(|board| (board.last_signer(issuer), board.issuer(issuer)));
        let known = signer.is_some() || state != IssuerState::Absent;
        if !known || signer.as_ref().is_some_and(|signer| !wants_any(signer)) {
            return;
        }
        let now = Instant::now();
        self.put(Item { signed, signer, wanted, since: now, attempts: 0 }, now);
    }

    fn put(&self, item: Item, due: Instant) {
        let taken = self.queue().put(item, due);
        if taken {
            self.changed.notify_one();
        } else {
            self.metrics.disposal_dropped();
            tracing::warn!("too many certificates are to be revoked at once; some stay valid until they end");
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue().items.len()
    }

    /// Works it off until `stop`.
    pub(crate) async fn work_off(
        self: Arc<Self>,
        desk: Arc<Desk>,
        origins: Origins,
        leadership: Leadership,
        stop: CancellationToken,
    ) {
        let mut under_way = UnderWay::default();
        loop {
            while under_way.len() < AT_A_TIME
                && let Some(item) = self.queue().take(Instant::now())
            {
                let (desk, origins, leadership) = (Arc::clone(&desk), origins.clone(), leadership.clone());
                let (this, tried) = (Arc::clone(&self), item.clone());
                under_way.begin(item, async move { this.attempt(&tried, &desk, &origins, &leadership).await });
            }
            let far = Instant::now() + Duration::from_hours(1);
            let soonest = self.queue().soonest().unwrap_or(far);
            let room = under_way.len() < AT_A_TIME;
            tokio::select! {
                () = stop.cancelled() => {
                    // This process may lead again.
                    let now = Instant::now();
                    under_way.give_up().for_each(|item| self.put(item, now));
                    return;
                }
                Some((item, tried)) = under_way.ended() => {
                    let broken = || {
                        self.metrics.broken();
                        LOST
                    };
                    self.tried(item, tried.unwrap_or_else(broken));
                }
                () = self.changed.notified() => {}
                () = sleep_until(soonest), if room => {}
            }
        }
    }

    fn tried(&self, mut item: Item, tried: Tried) {
        let Tried::Again { within, loss } = tried else { return };
        let now = Instant::now();
        if now.saturating_duration_since(item.since) >= within {
            if loss {
                self.metrics.disposal_dropped();
                tracing::warn!(
                    request.uid = %item.signed.uid, "its certificate could not be revoked for so long that it is given up"
                );
            }
            return;
        }
        item.attempts = item.attempts.saturating_add(1);
        let longest = if loss { PAUSE_MAX } else { in_use_pause(self.waiting()) };
        let pause = pause(item.attempts).min(longest);
        self.put(item, now + pause);
    }

    async fn attempt(&self, item: &Item, desk: &Desk, origins: &Origins, leadership: &Leadership) -> Tried {
        if !leadership.holds() {
            return LOST;
        }
        let Signed { kind, uid, issuer, who: _ } = &item.signed;
        let signer = desk.with(|board| board.last_signer(issuer)).or_else(|| item.signer.clone());
        // Its issuer is there and has not been well yet.
        let Some(signer) = signer else { return LOST };
        let (disposal, reason) = match &item.wanted {
            Wanted::Unused => (signer.spec.on_delete, CESSATION),
            Wanted::Fate(whose) => match origins.fate(whose).await {
                Ok(Fate::Superseded) => (signer.spec.on_superseded, SUPERSEDED),
                Ok(Fate::Deleted) => (signer.spec.on_delete, CESSATION),
                Ok(Fate::InUse { revision: Some(revision) }) if self.queue().has_another(uid, whose, revision) => {
                    (signer.spec.on_superseded, SUPERSEDED)
                }
                // cert-manager may delete a request before its successor is issued.
                Ok(Fate::InUse { .. }) => return Tried::Again { within: IN_USE_FOR, loss: false },
                Err(error) => {
                    tracing::warn!(request.uid = %uid, error = %error, "what a deleted request was for cannot be looked up");
                    return LOST;
                }
            },
        };
        if disposal == Disposal::Keep {
            return Tried::Done;
        }
        if !leadership.holds() {
            return LOST;
        }
        let request = RevokeRequest { reason: Some(reason) };
        let named = RequestRef { kind: *kind, namespace: item.signed.namespace(), uid };
        match signer.client.revoke(named, &request).await {
            Ok(()) => {
                self.metrics.revoked();
                tracing::info!(request.uid = %uid, "its certificate is revoked, as the issuer wants it");
                Tried::Done
            }
            Err(RemoteError::NotFound { .. }) => Tried::Done,
            Err(error) => {
                tracing::warn!(request.uid = %uid, error = %error, "its certificate could not be revoked; trying again");
                LOST
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether another request has the certificate of this revision. cert-manager makes one under the same name and
    /// revision where the Certificate was edited before the first one's certificate was taken in.
    fn has_another(&self, uid: &str, whose: &Whose, revision: i64) -> bool {
        whose.revision == Some(revision)
            && self.remembered.iter().any(|(other, known)| {
                known.whose.revision == Some(revision) && known.whose.uid == whose.uid && **other != *uid
            })
    }

    /// Whether there was room.
    fn put(&mut self, item: Item, due: Instant) -> bool {
        let Signed { uid, who, .. } = &item.signed;
        if let Some(known) = self.items.get_mut(uid) {
            // Told twice: a watch and a write that met its end.
            known.wanted = item.wanted;
            return true;
        }
        let of_namespace = self.of_namespaces.get(who).copied().unwrap_or(0);
        if self.items.len() >= WAITING_MAX || of_namespace >= OF_ONE_NAMESPACE {
            return false;
        }
        self.of_namespaces.insert(who.clone(), of_namespace + 1);
        self.due.push(Reverse((due, Arc::clone(uid))));
        self.items.insert(Arc::clone(uid), item);
        true
    }

    /// The first whose time has come.
    fn take(&mut self, now: Instant) -> Option<Item> {
        if self.soonest()? > now {
            return None;
        }
        let Reverse((_, uid)) = self.due.pop()?;
        let item = self.items.remove(&uid)?;
        let who = &item.signed.who;
        if let Some(count) = self.of_namespaces.get_mut(who) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_namespaces.remove(who);
            }
        }
        Some(item)
    }

    fn soonest(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }
}

fn wants_any(signer: &Signer) -> bool {
    signer.spec.on_delete == Disposal::Revoke || signer.spec.on_superseded == Disposal::Revoke
}

/// The wait before a try: a second, then twice as long each time.
fn pause(attempt: u32) -> Duration {
    Duration::from_secs(1).saturating_mul(1 << attempt.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

/// The longest wait where a Certificate is in use: a newer certificate comes within moments, or not at all. With many
/// of them the API server is spared.
fn in_use_pause(waiting: usize) -> Duration {
    Duration::from_secs(15 + u64::try_from(waiting / 8).unwrap_or(u64::MAX)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{board::Limits, resource::RateLimit};

    pub(super) fn item(uid: &str, namespace: &str) -> Item {
        let (kind, issuer) = (RequestKind::CertificateRequest, IssuerKey { namespace: None, name: "corp".into() });
        Item {
            signed: Signed { kind, uid: uid.into(), who: namespace.into(), issuer },
            signer: None,
            wanted: Wanted::Unused,
            since: Instant::now(),
            attempts: 0,
        }
    }

    #[test]
    fn what_is_due_first_comes_first_and_nothing_before_its_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.put(item("late", "a"), now + Duration::from_secs(9)));
        assert!(queue.put(item("soon", "a"), now));
        assert_eq!(queue.take(now).map(|item| item.signed.uid), Some("soon".into()));
        assert!(queue.take(now).is_none());
        assert_eq!(queue.soonest(), Some(now + Duration::from_secs(9)));
        assert!(queue.take(now + Duration::from_secs(9)).is_some());
        assert!(queue.of_namespaces.is_empty() && queue.items.is_empty());
    }

    #[test]
    fn one_namespace_leaves_room_for_others_and_the_whole_has_an_end() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let fits = |queue: &mut Queue, namespace: &str| {
            (0..WAITING_MAX).filter(|number| queue.put(item(&format!("{namespace}-{number}"), namespace), now)).count()
        };
        assert_eq!(fits(&mut queue, "flood"), OF_ONE_NAMESPACE);
        assert_eq!(fits(&mut queue, "other"), WAITING_MAX - OF_ONE_NAMESPACE);
        assert_eq!(fits(&mut queue, "third"), 0);
        assert!(queue.put(item("flood-0", "flood"), now), "what waits already needs no room");
    }

    fn corp() -> IssuerKey {
        IssuerKey { namespace: None, name: "corp".into() }
    }

    /// A cluster with the issuer `corp`.
    fn desk() -> Desk {
        let rate = RateLimit { requests_per_second: 10, burst: None };
        let desk = Desk::new(Limits { active: 10, concurrency: 4, rate });
        desk.issuer_is(&corp(), IssuerState::Unchecked, None);
        desk
    }

    fn request(uid: &str, owner: &str, ready: &str) -> CertificateRequest {
        serde_json::from_value(json!({
            "metadata": {
                "name": uid, "namespace": "shop", "uid": uid,
                "ownerReferences": [{
                    "apiVersion": "cert-manager.io/v1", "kind": owner, "name": "web", "uid": "c", "controller": true,
                }],
            },
            "spec": {
                "request": "",
                "issuerRef": { "name": "corp", "kind": "ChanceryClusterIssuer", "group": "chancery.dev" },
            },
            "status": { "conditions": [{ "type": "Ready", "status": ready, "reason": "Issued" }] },
        }))
        .expect("a request")
    }

    /// The only one that waits.
    fn wanted(disposals: &Disposals) -> Option<Wanted> {
        let taken = disposals.queue().take(Instant::now() + Duration::from_secs(1));
        assert_eq!(disposals.waiting(), 0);
        taken.map(|item| item.wanted)
    }

    #[test]
    fn what_was_deleted_while_nobody_watched_is_found_by_the_next_listing() {
        let (desk, disposals) = (desk(), Disposals::new(Arc::new(Metrics::new())));
        for uid in ["stays", "goes"] {
            disposals.observe(&request(uid, "Certificate", "True"), None);
        }
        disposals.observe(&request("nobodys", "Pod", "True"), None);
        disposals.listing_begins();
        disposals.observe(&request("stays", "Certificate", "True"), None);
        disposals.listing_ends(&desk);
        let now = Instant::now() + Duration::from_secs(1);
        let item = disposals.queue().take(now).expect("one that is gone");
        assert_eq!((&*item.signed.uid, matches!(item.wanted, Wanted::Fate(_))), ("goes", true));
        assert!(disposals.queue().take(now).is_none());
        // An issuer that never was wants nothing.
        desk.issuer_is(&corp(), IssuerState::Absent, None);
        disposals.deleted(&desk, &request("stays", "Certificate", "True"));
        assert_eq!(disposals.waiting(), 0);
    }

    #[test]
    fn what_was_signed_and_never_handed_out_is_not_needed() {
        let (desk, disposals) = (desk(), Disposals::new(Arc::new(Metrics::new())));
        disposals.signed(&"u".into());
        disposals.deleted(&desk, &request("u", "Pod", "False"));
        assert_eq!(wanted(&disposals), Some(Wanted::Unused));
        // The same while nobody watched.
        disposals.signed(&"u".into());
        disposals.gone(&desk, &request("u", "Pod", "False"));
        assert_eq!(wanted(&disposals), Some(Wanted::Unused));
        // A write that was not taken changes nothing.
        disposals.signed(&"u".into());
        let before = disposals.handing_out("u");
        disposals.not_taken("u", before);
        disposals.gone(&desk, &request("u", "Pod", "False"));
        assert_eq!(wanted(&disposals), Some(Wanted::Unused));
        // Nothing is known of it any more.
        disposals.gone(&desk, &request("u", "Pod", "False"));
        assert_eq!(wanted(&disposals), None);
    }

    #[test]
    fn of_kubernetes_own_what_may_have_been_handed_out_is_left_alone() {
        let (desk, disposals) = (desk(), Disposals::new(Arc::new(Metrics::new())));
        let signed = || Signed::of(&request("u", "Pod", "False")).expect("one of ours");
        disposals.signed(&"u".into());
        disposals.handing_out("u");
        disposals.unused_unless_handed_out(&desk, signed());
        assert_eq!(wanted(&disposals), None);
        assert!(disposals.queue().unwritten.is_empty(), "it is forgotten");
        disposals.signed(&"u".into());
        disposals.unused_unless_handed_out(&desk, signed());
        assert_eq!(wanted(&disposals), Some(Wanted::Unused));
    }

    #[test]
    fn what_was_handed_out_by_a_write_without_an_answer_is_in_use() {
        let (desk, disposals) = (desk(), Disposals::new(Arc::new(Metrics::new())));
        let lost = || {
            disposals.signed(&"u".into());
            disposals.handing_out("u");
        };
        // The watch shows that the request has it, and later that whoever took it has deleted the request.
        lost();
        disposals.observe(&request("u", "Pod", "True"), None);
        disposals.deleted(&desk, &request("u", "Pod", "True"));
        assert_eq!(wanted(&disposals), None);
        assert!(disposals.queue().unwritten.is_empty(), "it is forgotten");
        // Only the end is shown.
        lost();
        disposals.deleted(&desk, &request("u", "Pod", "True"));
        assert_eq!(wanted(&disposals), None);
        // Nothing is shown; asked again meanwhile, the server has answered the same.
        lost();
        disposals.signed(&"u".into());
        disposals.gone(&desk, &request("u", "Pod", "False"));
        assert_eq!(wanted(&disposals), None);
        // What has become of its Certificate decides, if it has one.
        lost();
        disposals.gone(&desk, &request("u", "Certificate", "False"));
        assert!(matches!(wanted(&disposals), Some(Wanted::Fate(_))));
    }

    #[test]
    fn a_request_of_the_same_revision_supersedes_the_one_that_it_replaced() {
        let whose = |certificate: &str, revision| Whose {
            namespace: "shop".into(),
            certificate: "web".into(),
            uid: certificate.into(),
            revision: Some(revision),
        };
        let mut queue = Queue::default();
        let issuer = IssuerKey { namespace: None, name: "corp".into() };
        for (uid, whose) in [("itself", whose("c", 1)), ("older", whose("c", 0)), ("of-another", whose("d", 1))] {
            queue.remembered.insert(uid.into(), Remembered { issuer: issuer.clone(), whose, listing: 0 });
        }
        assert!(!queue.has_another("itself", &whose("c", 1), 1), "nothing else has this revision");
        let next = Remembered { issuer, whose: whose("c", 1), listing: 0 };
        queue.remembered.insert("next".into(), next);
        assert!(queue.has_another("itself", &whose("c", 1), 1));
        assert!(!queue.has_another("older", &whose("c", 0), 1), "a later revision is told by its number");
    }

    #[test]
    fn tries_come_within_seconds_at_first_and_never_stop_for_long() {
        let times: Vec<u64> = (1..=12).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(times, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }
}
