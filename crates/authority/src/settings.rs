//! What the configuration decides, checked: authorities, directories, profiles, policy, limits.
//!
//! A reload replaces it as one value; a request works with the one it began with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chancery_acme::{
    account::{DirectoryName, TenantName},
    challenge::ChallengeKind,
    order::ProfileName,
};
use chancery_pki::{
    Timestamp,
    chain::Chain,
    key::{BlockList, SignatureAlgorithm},
    profile::Profile,
};
use chancery_policy::{NameLimits, Policy};

use crate::{checkpoint::LedgerSettings, failure::Failure, ports::KeyId, records::AuthorityId};

/// Everything the configuration decides about issuance.
#[derive(Debug)]
pub struct Settings {
    /// The issuing authorities.
    pub authorities: Vec<Arc<Authority>>,
    /// The ACME directories.
    pub directories: BTreeMap<DirectoryName, Arc<Directory>>,
    /// The Kubernetes clusters that may ask.
    pub clusters: BTreeMap<String, Arc<Cluster>>,
    /// The certificate profiles.
    pub profiles: BTreeMap<ProfileName, Arc<Profile>>,
    /// Who may have which names.
    pub policy: Arc<Policy>,
    /// Keys that are never certified and never sign a request.
    pub block_list: Arc<BlockList>,
    /// The profile of the server's own TLS certificate, and the authority that issues it.
    pub own_tls: Option<OwnTls>,
    /// By what the ledger's checkpoints are signed.
    pub ledger: Option<LedgerSettings>,
    /// How much, how long.
    pub limits: Limits,
}

/// By what the server's own TLS certificate is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTls {
    /// The profile.
    pub profile: ProfileName,
    /// The authority.
    pub authority: AuthorityId,
}

/// An issuing authority: one key, under one or several certificates, each with its chain.
#[derive(Debug)]
pub struct Authority {
    /// Its name.
    pub id: AuthorityId,
    /// Its key at the signer.
    pub key: KeyId,
    /// How it signs.
    pub algorithm: SignatureAlgorithm,
    /// Its certificates, each with what lies above it: renewals and cross-signed ones of the same key.
    /// The first that holds issues.
    pub chains: Vec<Arc<Chain>>,
}

/// An ACME directory of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its name in URLs.
    pub name: DirectoryName,
    /// Whose directory it is; orders, certificates and ledger records say so.
    pub tenant: Option<TenantName>,
    /// Who issues.
    pub authority: AuthorityId,
    /// Whether new accounts come with an external account binding (RFC 8555 §7.3.4).
    pub external_account: ExternalAccountRule,
    /// Whether accounts with such a binding need not show control of the names that policy and their EAB key allow.
    pub preauthorized: bool,
    /// The challenge types that are offered.
    pub challenges: Vec<ChallengeKind>,
    /// The profiles that may be asked for; the first is the default.
    pub profiles: Vec<ProfileName>,
    /// The URL of the terms of service, which must then be agreed to.
    pub terms_of_service: Option<String>,
    /// The URL of a page about this directory.
    pub website: Option<String>,
    /// What CAA records may name.
    pub caa_identities: Vec<String>,
    /// How long an order may stay open.
    pub order_lifetime: Duration,
    /// How long a valid authorization holds.
    pub authorization_lifetime: Duration,
}

/// A Kubernetes cluster whose controllers may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, which policy and records show.
    pub name: String,
    /// Who issues.
    pub authority: AuthorityId,
    /// The profiles that may be asked for; the first is what is issued where none is.
    pub profiles: Vec<ProfileName>,
    /// Whose certificates these are, where tenants are told apart.
    pub tenant: Option<TenantName>,
    /// The namespaces that any credential of it may speak for; none sets no limit.
    pub namespaces: Option<BTreeSet<String>>,
    /// The names that may be asked for; none sets no limit beside policy.
    pub names: Option<NameLimits>,
    /// The service accounts that speak for all of it: namespace and name.
    pub service_accounts: BTreeSet<(String, String)>,
    /// The service account that in each namespace speaks for that namespace alone.
    pub own_namespace_account: Option<String>,
    /// The profiles that it may ask for, the first of which is issued where none is; none, those of the cluster.
    pub own_namespace_profiles: Option<Vec<ProfileName>>,
    /// The names that it may ask for, within those of the cluster; none sets no further limit.
    pub own_namespace_names: Option<NameLimits>,
    /// What a client certificate must name to speak for it.
    pub client_names: BTreeSet<String>,
}

/// Whether new accounts come with an external account binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExternalAccountRule {
    /// A binding that comes along is ignored.
    Off,
    /// A binding that comes along is verified, and none need.
    Optional,
    /// No account is made without one.
    Required,
}

impl ExternalAccountRule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Optional, Self::Required];

    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// How much, how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most open orders of one account.
    pub pending_orders_per_account: u64,
    /// Most accounts without any certificate, in all.
    pub unproven_accounts: u64,
    /// How long an account without any certificate is kept.
    pub unproven_account_lifetime: Duration,
    /// Most EAB keys, those that ended and have accounts too.
    pub eab_keys: u64,
    /// How long an EAB key that ended without an account is kept.
    pub keep_ended_eab_keys: Duration,
    /// How long a validation may take in all.
    pub validation_time: Duration,
    /// How long an answer may wait for work that is under way.
    pub answer_wait: Duration,
    /// How many answers may wait so at once, and how many of one account; further ones do not wait. A door must let in
    /// more requests than these in all, since each of these keeps its place while it waits.
    pub waiting_answers: usize,
    /// See [`Self::waiting_answers`].
    pub waiting_answers_per_account: usize,
    /// Most validations and issuances that go on at once, be their clients there or not; further ones are answered busy.
    pub work_at_once: usize,
    /// When an issuance without a durable signature is settled.
    pub settle_after: Duration,
    /// How long an order that ended without a certificate can still be read.
    pub keep_ended_orders: Duration,
    /// How long a certificate's record is kept after its end.
    pub keep_expired_certificates: Duration,
    /// The same for light records.
    pub keep_expired_light: Duration,
    /// How long before an issuer's end the alarm is raised.
    pub issuer_alarm: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            pending_orders_per_account: 300,
            unproven_accounts: 100_000,
            unproven_account_lifetime: Duration::from_secs(7 * DAY),
            eab_keys: 10_000,
            keep_ended_eab_keys: Duration::from_secs(30 * DAY),
            validation_time: Duration::from_secs(30),
            answer_wait: Duration::from_secs(5),
            waiting_answers: 1024,
            waiting_answers_per_account: 64,
            work_at_once: 8192,
            settle_after: Duration::from_secs(60),
            keep_ended_orders: Duration::from_secs(DAY),
            keep_expired_certificates: Duration::from_secs(365 * DAY),
            keep_expired_light: Duration::from_secs(DAY),
            issuer_alarm: Duration::from_secs(180 * DAY),
        }
    }
}

impl Settings {
    /// The authority of this name.
    #[must_use]
    pub fn authority(&self, id: &AuthorityId) -> Option<&Arc<Authority>> {
        self.authorities.iter().find(|authority| authority.id == *id)
    }

    /// The authority and the profile of these names.
    pub(crate) fn offered(
        &self,
        authority: &AuthorityId,
        profile: &ProfileName,
    ) -> Result<(&Arc<Authority>, &Arc<Profile>), Failure> {
        let missing = |what: &str, name: &str| Failure::Unavailable(format!("no {what} named {name}"));
        let found = self.authority(authority).ok_or_else(|| missing("authority", authority.as_str()))?;
        let profile = self.profiles.get(profile).ok_or_else(|| missing("profile", profile))?;
        Ok((found, profile))
    }

    /// How long before an issuing chain's end the alarm is raised: early enough that no profile's life is cut before.
    #[must_use]
    pub fn issuer_alarm(&self) -> Duration {
        let lives = self.profiles.values().map(|profile| Duration::from_secs(profile.lifetime().seconds().into()));
        lives.max().unwrap_or_default().max(self.limits.issuer_alarm)
    }
}

impl Authority {
    /// The chain that issues at `now`: the first that holds, root included, with its place in the list.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> Option<(u16, &Arc<Chain>)> {
        let holds =
            |chain: &Chain| chain.issuing().validity().contains(now) && now.whole_seconds() <= chain.not_after();
        (0u16..).zip(&self.chains).find(|(_, chain)| holds(chain))
    }

    /// The latest end among its chains: a chain ends with whichever of its certificates ends first.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        self.chains.iter().map(|chain| chain.not_after()).max()
    }

    /// The end of the chain that issues at `now`, beyond which nothing is issued even where another chain lasts longer;
    /// where none does, the latest end.
    #[must_use]
    pub fn issues_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.current(now).map(|(_, chain)| chain.not_after()).or_else(|| self.ends())
    }
}
