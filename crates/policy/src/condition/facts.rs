//! The variables of conditions, and their values for a request.

use std::sync::{
    LazyLock, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use cel::{
    common::{
        types::{CelBool, CelDuration, CelList, CelString, CelTimestamp},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp, name::NAMES_MAX};
use chrono::{DateTime, TimeDelta};

use crate::{
    entries::Entries,
    evaluate::{Content, Request},
    reported::{GROUPS_MAX, ReportKind, Reported},
    requester::{ClaimKind, Claims, Requester},
    spelling::nearest,
};

pub(super) const ROOTS: [&str; 2] = ["request", "requester"];
pub(super) const NAMES: &str = "request.names";
const PROFILE: &str = "request.profile";
const TIME: &str = "request.time";
pub(super) const KEY: &str = "request.key";
const LIFETIME: &str = "request.lifetime";
pub(super) const USAGES: &str = "request.usages";
const IS_CA: &str = "request.is_ca";
const SUBJECT: &str = "request.subject";
pub(super) const DOOR: &str = "requester.door";
const DIRECTORY: &str = "requester.directory";
pub(super) const GROUPS: &str = "requester.reported.groups";
pub(super) const LABELS: &str = "requester.reported.namespace_labels";
pub(super) const ANNOTATIONS: &str = "requester.reported.annotations";
/// Steps to walk through all groups.
pub(super) const GROUPS_COST: u64 = 64;
const _: () = assert!(GROUPS_MAX == 64);
/// Steps to walk through all names.
pub(super) const NAMES_COST: u64 = 100;
const _: () = assert!(NAMES_MAX == 100);
/// Steps to walk through all usages: nine of keys, and the purposes of a profile twice over.
pub(super) const USAGES_COST: u64 = 41;

/// Every variable that there is.
pub(super) static VARIABLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let claims = ["proven", "claimed"].into_iter().flat_map(|whose| {
        ClaimKind::ALL.into_iter().map(move |kind| format!("requester.{whose}.{}", kind.in_conditions()))
    });
    let reports = ReportKind::ALL.into_iter().map(|kind| format!("requester.reported.{}", kind.in_conditions()));
    let facts = [NAMES, PROFILE, TIME, KEY, LIFETIME, USAGES, IS_CA, SUBJECT, DOOR, DIRECTORY];
    let facts = facts.into_iter().chain([GROUPS, LABELS, ANNOTATIONS]).map(str::to_owned);
    facts.chain(claims).chain(reports).collect()
});

pub(super) fn nearest_variable(path: &str) -> Option<&'static str> {
    let variables = || VARIABLES.iter().map(String::as_str);
    // `service-account` is read as a subtraction.
    let cut = variables().find(|variable| variable.starts_with(&format!("{path}_")));
    // A claim named without saying whether it is proven: suggest the proven one.
    let last = path.rsplit('.').next().unwrap_or_default();
    let claim = variables()
        .find(|variable| variable.starts_with("requester.proven.") && variable.ends_with(&format!(".{last}")));
    let fact = variables().find(|variable| !variable.contains(".claimed.") && variable.ends_with(&format!(".{last}")));
    cut.or_else(|| nearest(path, variables())).or(claim).or(fact)
}

/// The facts of a request, made for CEL when they are asked for.
pub(crate) struct Facts<'a> {
    requester: &'a Requester,
    request_names: &'a NameSet,
    profile: &'a str,
    key: Option<KeyKind>,
    lifetime: Option<Lifetime>,
    now: Timestamp,
    content: Content<'a>,
    names: OnceLock<CelList<'static>>,
    usages: OnceLock<CelList<'static>>,
    pub(super) key_was_missed: AtomicBool,
    pub(super) lifetime_was_missed: AtomicBool,
    pub(super) withheld_was_read: AtomicBool,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(request: &Request<'a>) -> Self {
        let Request { requester, names, profile, key, lifetime, content, now } = *request;
        Self {
            requester,
            request_names: names,
            profile,
            key,
            lifetime,
            now,
            content,
            names: OnceLock::new(),
            usages: OnceLock::new(),
            key_was_missed: AtomicBool::new(false),
            lifetime_was_missed: AtomicBool::new(false),
            withheld_was_read: AtomicBool::new(false),
        }
    }
}

impl<'a> Facts<'a> {
    fn reported(&self) -> Option<&'a Reported> {
        self.requester.reported.as_deref()
    }

    /// Nothing where it is withheld: then the condition has no answer, unless the rest of it alone decides.
    fn unless<'b>(&'b self, withheld: bool, value: impl FnOnce() -> CowVal<'b, 'b>) -> Option<CowVal<'b, 'b>> {
        self.withheld_was_read.fetch_or(withheld, Ordering::Relaxed);
        (!withheld).then(value)
    }
}

impl VariableResolver for Facts<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let text = |text: &'b str| Some(CowVal::owned(CelString::from(text)));
        let withheld = self.reported().is_some_and(|reported| reported.withheld);
        match variable {
            NAMES => {
                let list = self.names.get_or_init(|| {
                    let each = |name: &Name| -> Box<dyn Val> { Box::new(CelString::from(name.to_string())) };
                    CelList::from(self.request_names.iter().map(each).collect::<Vec<_>>())
                });
                Some(CowVal::Borrowed(list))
            }
            USAGES => {
                let list = self.usages.get_or_init(|| {
                    let each = |usage: &String| -> Box<dyn Val> { Box::new(CelString::from(usage.clone())) };
                    CelList::from(self.content.usages.iter().map(each).collect::<Vec<_>>())
                });
                Some(CowVal::Borrowed(list))
            }
            IS_CA => Some(CowVal::owned(CelBool::from(self.content.is_ca))),
            SUBJECT => text(self.content.subject),
            PROFILE => text(self.profile),
            TIME => DateTime::from_timestamp_millis(self.now.unix_millis())
                .map(|time| CowVal::owned(CelTimestamp::from(time.fixed_offset()))),
            KEY => {
                let key = self.key.map(KeyKind::as_str);
                self.key_was_missed.fetch_or(key.is_none(), Ordering::Relaxed);
                key.and_then(text)
            }
            LIFETIME => {
                self.lifetime_was_missed.fetch_or(self.lifetime.is_none(), Ordering::Relaxed);
                let seconds = TimeDelta::seconds(i64::from(self.lifetime?.seconds()));
                Some(CowVal::owned(CelDuration::from(seconds)))
            }
            DOOR => text(self.requester.door.as_str()),
            DIRECTORY => text(self.requester.directory.as_deref().unwrap_or_default()),
            GROUPS => self.unless(withheld, || {
                let groups = self.reported().map(|reported| reported.groups.as_slice()).unwrap_or_default();
                let each = |group: &'b String| -> Box<dyn Val + 'b> { Box::new(CelString::from(group.as_str())) };
                CowVal::owned(CelList::from(groups.iter().map(each).collect::<Vec<_>>()))
            }),
            LABELS => self.unless(withheld, || {
                CowVal::owned(Entries(self.reported().map(|reported| &reported.namespace_labels)))
            }),
            ANNOTATIONS => Some(CowVal::owned(Entries(self.reported().map(|reported| &reported.annotations)))),
            other => {
                let (whose, claim) = other.strip_prefix("requester.")?.split_once('.')?;
                if whose == "reported" {
                    let kind = ReportKind::ALL.into_iter().find(|kind| kind.in_conditions() == claim)?;
                    let withheld = self.reported().is_some_and(|reported| reported.withholds(kind));
                    let fact = self.reported().and_then(|reported| reported.of(kind)).unwrap_or_default();
                    return self.unless(withheld, || CowVal::owned(CelString::from(fact)));
                }
                let claims: &'b Claims = match whose {
                    "proven" => &self.requester.proven,
                    "claimed" => &self.requester.claimed,
                    _ => return None,
                };
                let kind = ClaimKind::ALL.into_iter().find(|kind| kind.in_conditions() == claim)?;
                text(claims.of(kind).unwrap_or_default())
            }
        }
    }
}
