//! The process as its operator sees it: status, reload, backup.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chancery_acme::urls::Urls;
use chancery_api::{AuthorityView, BackedUp, CheckpointView, DirectoryView, Reloaded, Status, TlsView};
use chancery_authority::{Authority, Office, Settings, office::Hold, ports::KeyId};
use chancery_cluster::Identity;
use chancery_egress::{Dialer, ZoneTable};
use chancery_http::api::{OperationError, Operator};
use chancery_ledger::verify::Finding;
use chancery_pki::{PublicKey, Timestamp, distinguished_name::show};
use chancery_store_sled::SledStore;

use crate::{
    cli::ServeArgs,
    config::{self, Config},
    listeners::Connections,
    service,
    system::TrustedClock,
    tls::{Keeper, Served, TlsError},
    wiring::{identity::identities, settings},
    workers::Counts,
};

/// How long before its end the alarm about the server's own certificate is raised.
const TLS_ALARM: Duration = Duration::from_secs(7 * 86_400);
/// How often what is stored is read where not all of it can be read, and the pauses between: each twice the one before.
const SCRUBS: u32 = 10;
const SCRUB_PAUSE: Duration = Duration::from_secs(5);

/// The running process.
pub(crate) struct Process {
    pub(crate) office: Office,
    pub(crate) store: Arc<SledStore>,
    pub(crate) clock: Arc<TrustedClock>,
    pub(crate) dialer: Dialer,
    pub(crate) identity: Arc<Identity>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) served: Arc<Served>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) jobs: Arc<Counts>,
    pub(crate) issuing: Vec<(KeyId, PublicKey)>,
    pub(crate) ledger: KeyId,
    /// Whether the signer has the key that EAB keys are derived from.
    pub(crate) binds: bool,
    pub(crate) args: ServeArgs,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) started: Timestamp,
    /// What reading everything that is stored found.
    pub(crate) scrubbed: ArcSwap<Vec<String>>,
    /// As it was at the start; what the file says since is taken at the next one.
    pub(crate) requests_at_once: usize,
    /// One reload at a time.
    pub(crate) reloading: tokio::sync::Mutex<()>,
}

/// The configuration with what the command line says instead.
pub(crate) fn load_config(file: Option<&Path>, args: &ServeArgs) -> Result<Config, config::LoadError> {
    let mut config = config::load(file)?;
    let ServeArgs { listen, plain, log_level, log_format, make_data_folder: _, new_eab_key: _ } = args;
    if let Some(listen) = listen {
        config.listen.https = *listen;
    }
    if let Some(plain) = plain {
        config.listen.plain = Some(*plain);
    }
    if let Some(level) = log_level {
        config.log.level.clone_from(level);
    }
    if let Some(format) = log_format {
        config.log.format = *format;
    }
    Ok(config)
}

#[async_trait]
impl Operator for Process {
    fn external_url(&self) -> String {
        self.config.load().listen.url.clone()
    }

    async fn not_issuing(&self) -> Vec<String> {
        let mut why = Vec::new();
        let now = self.office.now();
        if let Err(fault) = self.clock.check() {
            why.push(fault.to_string());
        }
        for authority in &self.office.settings().authorities {
            if authority.current(now).is_none() {
                why.push(format!("no issuing certificate of authority {} is valid now", authority.id));
            }
        }
        if self.store.metrics().low_space.load(Ordering::Relaxed) != 0 {
            why.push("the disk is too full; issuance is stopped until there is space".to_owned());
        }
        if let Err(error) = self.office.store().tree_head().await {
            why.push(error.to_string());
        }
        why.extend(self.office.held());
        why
    }

    async fn status(&self) -> Result<Status, OperationError> {
        let config = self.config.load_full();
        let settings = self.office.settings();
        let now = self.office.now();
        let read = |error: chancery_authority::ports::StoreError| OperationError::Failed(error.to_string());
        let head = self.office.store().tree_head().await.map_err(read)?;
        let checkpoint = self.office.store().checkpoint().await.map_err(read)?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.to_string(),
            not_issuing: self.not_issuing().await,
            alarms: self.alarms(),
            directories: settings
                .directories
                .values()
                .map(|directory| DirectoryView {
                    name: directory.name.clone(),
                    url: Urls::new(&config.listen.url, &directory.name).directory(),
                    profiles: directory.profiles.clone(),
                })
                .collect(),
            authorities: authority_views(&config, &settings, now),
            policy_file: config.policy.display().to_string(),
            policy_sha256: settings.policy.hash().to_string(),
            ledger_size: head.size,
            ledger_root: chancery_ledger::Hash::from_slice(&head.root).map(|root| root.to_string()).unwrap_or_default(),
            ledger_verifier_key: settings
                .ledger
                .as_ref()
                .and_then(|ledger| self.office.ledger_verifier(ledger).ok())
                .map(|key| key.to_string()),
            checkpoint: checkpoint.map(|note| CheckpointView { note }),
            tls: self.served.shown().map(|shown| TlsView {
                own: shown.own,
                names: shown.names,
                not_after: shown.not_after.map(|end| end.to_string()),
            }),
            connections: self.connections.count(),
            jobs_running: self.jobs.running.load(Ordering::Relaxed),
        })
    }

    async fn reload(&self, by: &str) -> Result<Reloaded, OperationError> {
        let _one = self.reloading.lock().await;
        service::reloading();
        let taken = self.take(by).await;
        // With what is in force now, be it what was in force before.
        service::ready();
        match &taken {
            Ok((reloaded, Ok(()))) if reloaded.changed.is_empty() => tracing::info!(by, "reload: nothing changed"),
            Ok((reloaded, Ok(()))) => tracing::info!(by, changed = reloaded.changed.join("; "), "reloaded"),
            Ok((reloaded, Err(error))) => tracing::warn!(
                by, changed = reloaded.changed.join("; "), %error,
                "reloaded but for the TLS certificate; the one that was served goes on"
            ),
            Err(error) => tracing::warn!(by, %error, "reload refused; what was in force stays"),
        }
        let (reloaded, tls) = taken?;
        tls.map_err(|error| {
            OperationError::Failed(format!("policy, profiles, directories and zones are in force, but: {error}"))
        })?;
        Ok(reloaded)
    }

    async fn backup(&self, folder: &Path) -> Result<BackedUp, OperationError> {
        let began = std::time::Instant::now();
        let (store, folder) = (Arc::clone(&self.store), folder.to_owned());
        let shown = folder.display().to_string();
        let done = tokio::task::spawn_blocking(move || store.backup(&folder))
            .await
            .map_err(|error| OperationError::Failed(error.to_string()))?;
        let ledger_size = done.map_err(|error| OperationError::Refused(error.to_string()))?.leaves;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(BackedUp { folder: shown, ledger_size, milliseconds })
    }

    async fn observe(&self) {}
}

impl Process {
    /// What an operator should see to before it hurts.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let now = self.office.now();
        let settings = self.office.settings();
        let mut alarms: Vec<String> = self.scrubbed.load().as_ref().clone();
        alarms.extend(settings.authorities.iter().filter_map(|authority| issuer_alarm(authority, &settings, now)));
        if let Some((shown, end)) = self.served.shown().and_then(|shown| shown.not_after.map(|end| (shown, end)))
            && now.after(TLS_ALARM) > end
        {
            let who =
                if shown.own { "renewing it has failed so far, see the log" } else { "bring a new one and reload" };
            alarms.push(format!("the server's own TLS certificate ends at {end}: {who}"));
        }
        alarms
    }

    /// Reads everything that is stored; where not all of it can be read now, again after a pause, with an alarm
    /// meanwhile and at the end. What is not read is not known to be damaged, so issuance goes on.
    pub(crate) async fn scrub_patiently(self: Arc<Self>) {
        let mut pause = SCRUB_PAUSE;
        for left in (0..SCRUBS).rev() {
            let process = Arc::clone(&self);
            let scrubbed = tokio::task::spawn_blocking(move || process.scrub()).await;
            let Err(why) = scrubbed.unwrap_or_else(|error| Err(error.to_string())) else { return };
            let then = if left == 0 { "look with: chancery ledger verify" } else { "it is tried again" };
            let alarm =
                format!("not all of what is stored could be read, so damage would not be noticed: {why}; {then}");
            tracing::warn!("{alarm}");
            self.scrubbed.store(Arc::new(vec![alarm]));
            if left > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }

    /// Reads everything that is stored and remembers what does not read or does not fit. For a
    /// thread of its own: it takes as long as it takes.
    ///
    /// # Errors
    ///
    /// What could not be read for now, where nothing else is wrong.
    fn scrub(&self) -> Result<(), String> {
        let scrubbed = self.store.scrub(self.office.now());
        if let Some(why) = &scrubbed.unread
            && scrubbed.index.is_ok()
            && scrubbed.missing.is_empty()
        {
            return Err(why.clone());
        }
        if scrubbed.is_clean() {
            self.scrubbed.store(Arc::default());
            let leaves = scrubbed.ledger.as_ref().map_or(0, |report| report.size);
            tracing::info!(
                ledger.size = leaves,
                index.entries = scrubbed.index_entries,
                "everything that is stored reads well"
            );
            return Ok(());
        }
        let (mut found, mut texts) = (Vec::new(), Vec::new());
        match &scrubbed.ledger {
            Ok(report) => {
                for finding in &report.findings {
                    match finding {
                        // Nothing that is decided now depends on it.
                        Finding::PolicyText { .. } => {
                            texts.push(format!(
                                "{finding}; put the text there again, from a backup or from your own records"
                            ));
                        }
                        _ => found.push(format!("the ledger is damaged: {finding}; restore it from a backup")),
                    }
                }
            }
            Err(damage) => found.push(format!("the ledger is damaged: {damage}; restore it from a backup")),
        }
        if let Err(damage) = &scrubbed.index {
            found.push(format!("the index is damaged: {damage}; make it anew: chancery store rebuild"));
        }
        if !scrubbed.missing.is_empty() {
            let count = scrubbed.missing.len();
            found.push(format!(
                "the index has lost {count} certificates that the ledger holds; make it anew: chancery store rebuild"
            ));
        }
        for what in found.iter().chain(&texts) {
            tracing::error!("{what}");
        }
        // What is damaged may be the record by which something must not be issued.
        if let Some(first) = found.first() {
            let more = match found.len() {
                1 => String::new(),
                count => format!(" (and {} more, see the status)", count - 1),
            };
            self.office.hold(Hold::Damaged, &format!("{first}{more}"));
        }
        found.extend(texts);
        self.scrubbed.store(Arc::new(found));
        Ok(())
    }

    /// Reads everything first and puts it in force only if all of it is sound. Where it is, this may still not hold
    /// for the TLS certificate, of which it says that apart.
    async fn take(&self, by: &str) -> Result<(Reloaded, Result<(), TlsError>), OperationError> {
        let refused = |error: &dyn std::fmt::Display| OperationError::Refused(error.to_string());
        let old = self.config.load_full();
        let file: PathBuf = old.file.clone();
        let new = load_config(Some(&file), &self.args).map_err(|error| refused(&error))?;
        let mut needs_restart = needs_restart(&old, &new);
        if old
            .authorities
            .iter()
            .map(|authority| (&authority.id, &authority.key))
            .ne(new.authorities.iter().map(|authority| (&authority.id, &authority.key)))
        {
            return Err(refused(&"authorities and their keys change only with a restart; nothing was taken"));
        }
        if new.takes_bindings() && (!self.binds || old.eab_key != new.eab_key) {
            let what = "external_account takes a key (signer.eab_key) that is made and loaded at a start alone: restart; \
                        nothing was taken";
            return Err(refused(&what));
        }
        let now = self.office.now();
        let mut settings =
            settings::settings(&new, &self.issuing, &self.ledger, now).map_err(|error| refused(&error))?;
        // The door has as many places as at its start, and some must be left for others.
        let places = self.requests_at_once;
        if settings.limits.waiting_answers >= places {
            settings.limits.waiting_answers = places / 2;
            settings.limits.waiting_answers_per_account = settings.limits.waiting_answers_per_account.min(places / 2);
            needs_restart.push(format!(
                "limits.waiting_answers is {} until then, half of limits.requests_at_once as it was at the start",
                places / 2
            ));
        }
        let zones = ZoneTable::new(new.zones.iter().cloned()).map_err(|error| refused(&error))?;
        settings::own_certificate_is_allowed(&new, &settings, now).map_err(|error| refused(&error))?;
        Keeper::check(&new).map_err(|error| refused(&error))?;
        let identities = identities(&new).map_err(|error| refused(&error))?;
        let changed = changes(&old, &new, &self.office.settings(), &settings);
        let policy_sha256 = settings.policy.hash().to_string();

        let failed = |failure: chancery_authority::Failure| OperationError::Failed(failure.to_string());
        self.office.replace_settings(settings, by).await.map_err(failed)?;
        self.dialer.set_zones(zones);
        self.identity.replace(identities);
        self.clock.confirm();
        self.config.store(Arc::new(new.clone()));
        // The rest stands whatever becomes of this; a certificate that is served already goes on.
        let tls = self.keeper.take(new.tls).await;
        Ok((Reloaded { changed, needs_restart, policy_sha256 }, tls))
    }
}

/// What is wrong with the end of an authority's issuing chain. What is issued ends with the chain that issues now,
/// even where another one lasts longer.
fn issuer_alarm(authority: &Authority, settings: &Settings, now: Timestamp) -> Option<String> {
    let (id, last, end) = (&authority.id, authority.ends()?, authority.issues_until(now)?);
    if now.after(settings.issuer_alarm()) <= end {
        return None;
    }
    let what = if last > end {
        "another of its chains lasts longer: name that one first"
    } else {
        "have the root sign a new one (chancery authority csr)"
    };
    Some(format!("the issuing certificate of authority {id} ends at {end}, and nothing is issued beyond it: {what}"))
}

fn authority_views(config: &Config, settings: &Settings, now: Timestamp) -> Vec<AuthorityView> {
    let current = settings.authorities.iter().filter_map(|authority| {
        let chain = authority.current(now).map(|(_, chain)| chain).or_else(|| authority.chains.first())?;
        let development = config
            .authorities
            .iter()
            .find(|configured| configured.id == authority.id)
            .is_some_and(|found| found.development);
        Some(AuthorityView {
            id: authority.id.to_string(),
            subject: show(chain.issuing().subject()),
            not_after: chain.issuing().validity().not_after().to_string(),
            development,
        })
    });
    current.collect()
}

/// What a reload takes, one sentence each.
fn changes(old: &Config, new: &Config, before: &Settings, after: &Settings) -> Vec<String> {
    let mut changed = Vec::new();
    if before.policy.hash() != after.policy.hash() {
        changed.push(format!("policy: {} rules", after.policy.rules().len()));
    }
    let mut named = |what: &str, before: Vec<(String, String)>, after: Vec<(String, String)>| {
        for (name, value) in &after {
            match before.iter().find(|(other, _)| other == name) {
                None => changed.push(format!("{what} {name} is new")),
                Some((_, other)) if other != value => changed.push(format!("{what} {name} changed")),
                Some(_) => {}
            }
        }
        for (name, _) in before.iter().filter(|(name, _)| !after.iter().any(|(other, _)| other == name)) {
            changed.push(format!("{what} {name} is gone"));
        }
    };
    let profiles = |settings: &Settings| {
        settings.profiles.iter().map(|(name, profile)| (name.clone(), profile.hash().to_string())).collect()
    };
    named("profile", profiles(before), profiles(after));
    let directories =
        |config: &Config| config.directories.iter().map(|(name, value)| (name.clone(), format!("{value:?}"))).collect();
    named("directory", directories(old), directories(new));
    let clusters =
        |config: &Config| config.clusters.iter().map(|(name, value)| (name.clone(), format!("{value:?}"))).collect();
    named("cluster", clusters(old), clusters(new));
    let zones = |config: &Config| config.zones.iter().map(|zone| (zone.name.clone(), format!("{zone:?}"))).collect();
    named("zone", zones(old), zones(new));
    let chains = |settings: &Settings| {
        let chains = settings.authorities.iter().map(|authority| {
            let chains = authority.chains.iter().map(|chain| hex::encode(chain.issuing().der()));
            (authority.id.to_string(), chains.collect::<Vec<_>>().join(" "))
        });
        chains.collect()
    };
    named("chain of authority", chains(before), chains(after));
    if before.limits != after.limits {
        changed.push("limits changed".to_owned());
    }
    if old.tls != new.tls {
        changed.push("TLS certificate changed".to_owned());
    }
    changed
}

/// What stands differently in the file and is taken at the next start alone.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    let mut tell = |differs: bool, what: &str| {
        if differs {
            changed.push(format!("{what} changed"));
        }
    };
    tell(old.data != new.data, "data");
    tell(old.listen != new.listen, "[listen]");
    tell(old.passphrase != new.passphrase, "signer.passphrase");
    tell(old.ledger.key != new.ledger.key, "ledger.key");
    tell(old.ledger.origin != new.ledger.origin, "ledger.origin");
    tell(old.log != new.log, "[log]");
    let pools = |config: &Config| {
        let validation = &config.validation;
        (validation.at_once, validation.at_once_per_target, validation.connect_timeout, validation.lookup_timeout)
    };
    tell(pools(old) != pools(new), "[validation]: at_once, at_once_per_target, connect_timeout or lookup_timeout");
    let listener = |config: &Config| {
        let limits = &config.limits;
        (
            (limits.connections, limits.connections_per_address),
            (limits.places.requests_at_once, limits.places.arriving_requests_per_address),
            (limits.handshake_timeout, limits.header_timeout, limits.body_timeout, limits.stop_timeout),
            (limits.new_accounts_per_address_per_hour, limits.orders_per_account_per_hour),
            (limits.cluster_requests_at_once, limits.requests_per_credential_per_second),
            limits.documentation.clone(),
        )
    };
    tell(listener(old) != listener(new), "[limits]: connections, requests, timeouts, rates or documentation");
    changed
}

#[cfg(test)]
mod tests {
    use chancery_testkit::office::{ISSUER_LIFE, TestOffice, start};

    use super::*;

    #[test]
    fn the_alarm_about_an_issuers_end_comes_early_enough_for_the_longest_life() {
        let test = TestOffice::default();
        let settings = test.office.settings();
        let authority = &settings.authorities[0];
        let end = authority.ends().expect("it has a chain");
        assert_eq!(issuer_alarm(authority, &settings, start()), None);
        let early = settings.issuer_alarm();
        assert!(early < ISSUER_LIFE);
        assert_eq!(issuer_alarm(authority, &settings, end.before(early)), None);
        let alarm =
            issuer_alarm(authority, &settings, end.before(early).after(Duration::from_secs(1))).expect("an alarm");
        assert!(alarm.contains(&end.to_string()) && alarm.contains("have the root sign a new one"), "{alarm}");
        assert!(issuer_alarm(authority, &settings, end.after(Duration::from_secs(1))).is_some(), "after its end too");
    }

    #[test]
    fn a_chain_that_ends_first_and_stands_first_is_an_alarm_although_another_lasts() {
        let long = TestOffice::default().office.settings();
        let short = TestOffice::under_a_root_of(Duration::from_secs(30 * 86_400)).office.settings();
        let chains =
            |settings: &[&Settings]| settings.iter().flat_map(|one| one.authorities[0].chains.clone()).collect();
        let of = |chains| {
            let Authority { id, key, algorithm, chains: _ } = &*long.authorities[0];
            Authority { id: id.clone(), key: key.clone(), algorithm: *algorithm, chains }
        };
        let first_short = of(chains(&[&short, &long]));
        // What the metric shows, too.
        assert_eq!(first_short.issues_until(start()), short.authorities[0].ends());
        assert_eq!(first_short.issues_until(short.authorities[0].ends().unwrap().after(TLS_ALARM)), first_short.ends());
        let alarm = issuer_alarm(&first_short, &long, start()).expect("an alarm");
        assert!(alarm.contains("name that one first"), "{alarm}");
        assert_eq!(issuer_alarm(&of(chains(&[&long, &short])), &long, start()), None);
    }
}
