//! Version 1 of the configuration.

mod check;
mod cluster;
mod profile;
mod spec;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use chancery_acme::{challenge::ChallengeKind, order::ProfileName};
use chancery_authority::{records::AuthorityId, settings::ExternalAccountRule};
use chancery_egress::ZoneSpec;
use chancery_pki::{NameSet, profile::Profile};

pub(crate) use check::parse;
pub(crate) use cluster::{Cluster, TokenCheck};

/// The configuration, checked. Paths are absolute.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The file that it came from.
    pub(crate) file: PathBuf,
    /// The data folder.
    pub(crate) data: PathBuf,
    pub(crate) listen: Listen,
    pub(crate) tls: Tls,
    pub(crate) authorities: Vec<Authority>,
    pub(crate) passphrase: Passphrase,
    pub(crate) blocked_keys: Option<PathBuf>,
    /// The key that the secrets of EAB keys are derived from; needed where a directory takes bindings.
    pub(crate) eab_key: PathBuf,
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) profiles: BTreeMap<ProfileName, Profile>,
    pub(crate) policy: PathBuf,
    pub(crate) zones: Vec<ZoneSpec>,
    pub(crate) validation: Validation,
    pub(crate) limits: Limits,
    pub(crate) ledger: Ledger,
    pub(crate) log: Log,
}

impl Config {
    /// Whether any directory takes external account bindings.
    pub(crate) fn takes_bindings(&self) -> bool {
        self.directories.values().any(Directory::takes_bindings)
    }
}

impl Directory {
    /// Whether it takes external account bindings.
    pub(crate) fn takes_bindings(&self) -> bool {
        self.external_account != ExternalAccountRule::Off
    }
}

/// Where to listen, and how others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Scheme, host and port as clients see them, without a slash at the end.
    pub(crate) url: String,
    /// The host in it.
    pub(crate) host: String,
    pub(crate) https: SocketAddr,
    /// Health and metrics over plain HTTP.
    pub(crate) plain: Option<SocketAddr>,
}

/// What HTTPS serves with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// A certificate from our own authority, renewed by itself.
    Own { names: NameSet, authority: AuthorityId, profile: ProfileName },
    /// Files that someone else renews.
    Brought { certificate: PathBuf, key: PathBuf },
}

/// An issuing authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) id: AuthorityId,
    pub(crate) key: PathBuf,
    pub(crate) chains: Vec<PathBuf>,
    pub(crate) development: bool,
}

/// Where the passphrase of the key files comes from. Never a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passphrase {
    File(PathBuf),
    Environment(String),
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// An ACME directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) authority: AuthorityId,
    pub(crate) profiles: Vec<ProfileName>,
    pub(crate) external_account: ExternalAccountRule,
    /// Only where every account comes with a binding.
    pub(crate) preauthorized: bool,
    pub(crate) challenges: Vec<ChallengeKind>,
    pub(crate) terms_of_service: Option<String>,
    pub(crate) website: Option<String>,
    pub(crate) caa_identities: Vec<String>,
    pub(crate) order_lifetime: Duration,
    pub(crate) authorization_lifetime: Duration,
}

/// How validations go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validation {
    pub(crate) time: Duration,
    pub(crate) answer_wait: Duration,
    pub(crate) at_once: usize,
    pub(crate) at_once_per_target: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) lookup_timeout: Duration,
}

/// How much, how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) places: Places,
    pub(crate) handshake_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) stop_timeout: Duration,
    pub(crate) new_accounts_per_address_per_hour: u32,
    pub(crate) orders_per_account_per_hour: u32,
    pub(crate) cluster_requests_at_once: usize,
    pub(crate) requests_per_credential_per_second: u32,
    pub(crate) pending_orders_per_account: u64,
    pub(crate) unproven_accounts: u64,
    pub(crate) unproven_account_lifetime: Duration,
    pub(crate) eab_keys: u64,
    pub(crate) keep_ended_eab_keys: Duration,
    pub(crate) work_at_once: usize,
    pub(crate) settle_after: Duration,
    pub(crate) keep_ended_orders: Duration,
    pub(crate) keep_expired_certificates: Duration,
    pub(crate) keep_expired_light: Duration,
    pub(crate) issuer_alarm: Duration,
    /// A page about the limits.
    pub(crate) documentation: Option<String>,
}

/// Places for ACME's signed requests, and for answers that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) requests_at_once: usize,
    pub(crate) arriving_requests_per_address: usize,
    /// Fewer than the requests at once: who waits keeps a place, and there must be some for others.
    pub(crate) waiting_answers: usize,
    pub(crate) waiting_answers_per_account: usize,
}

/// The audit ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) key: PathBuf,
    /// Its name in checkpoints (C2SP tlog-checkpoint).
    pub(crate) origin: String,
    pub(crate) checkpoint_every: Duration,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// A level, or directives as `tracing_subscriber` reads them.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

/// For people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}
