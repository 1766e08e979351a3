//! The settings of the use cases, from the configuration and what it names.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use chancery_authority::{
    checkpoint::LedgerSettings,
    ports::KeyId,
    settings::{Authority, Directory, Limits, OwnTls, Settings},
};
use chancery_pki::{
    KeyKind, PublicKey, Timestamp,
    content::AS_PROFILE,
    key::{BlockList, SignatureAlgorithm},
};
use chancery_policy::{Content, Format, Outcome, Policy, Request, Requester};

use super::{WiringError, chains, read_text};
use crate::config::{Config, v1};

/// Reads a policy file.
pub(crate) fn policy(path: &Path) -> Result<Policy, WiringError> {
    let text = read_text(path)?;
    let name = path.display().to_string();
    Policy::parse(&text, Format::of_file(&name), &name).map_err(WiringError::Policy)
}

/// Keys that are never certified: the published ones, and those of the configuration's list.
fn block_list(path: Option<&Path>) -> Result<BlockList, WiringError> {
    let mut list = BlockList::published();
    if let Some(path) = path {
        let own = BlockList::parse(&read_text(path)?)
            .map_err(|source| WiringError::BlockList { path: path.to_owned(), source })?;
        list.extend(own);
    }
    Ok(list)
}

/// Puts the settings together.
pub(crate) fn settings(
    config: &Config,
    issuing: &[(KeyId, PublicKey)],
    ledger: &KeyId,
    now: Timestamp,
) -> Result<Settings, WiringError> {
    let mut authorities = Vec::new();
    for (authority, (key, public)) in config.authorities.iter().zip(issuing) {
        authorities.push(Arc::new(Authority {
            id: authority.id.clone(),
            key: key.clone(),
            algorithm: SignatureAlgorithm::default_for(public.kind()),
            chains: chains::load(authority, public, now)?,
        }));
    }
    let policy = policy(&config.policy)?;
    for caution in policy.cautions() {
        tracing::warn!(policy = %config.policy.display(), "{caution}");
    }
    let directories: BTreeMap<_, _> = config
        .directories
        .values()
        .map(|directory| (directory.name.clone(), Arc::new(directory_settings(directory))))
        .collect();
    Ok(Settings {
        authorities,
        directories,
        clusters: config
            .clusters
            .iter()
            .map(|(name, cluster)| (name.clone(), Arc::new(cluster.settings.clone())))
            .collect(),
        profiles: config.profiles.iter().map(|(name, profile)| (name.clone(), Arc::new(profile.clone()))).collect(),
        policy: Arc::new(policy),
        block_list: Arc::new(block_list(config.blocked_keys.as_deref())?),
        own_tls: match &config.tls {
            v1::Tls::Own { names: _, authority, profile } => {
                Some(OwnTls { profile: profile.clone(), authority: authority.clone() })
            }
            v1::Tls::Brought { .. } => None,
        },
        ledger: Some(LedgerSettings {
            key: ledger.clone(),
            origin: config.ledger.origin.clone(),
            every: config.ledger.checkpoint_every,
        }),
        limits: limits(&config.limits, &config.validation),
    })
}

/// Whether the policy lets the server have the certificate that it serves with. Without that the
/// next renewal would fail, long after whoever changed the policy has gone home.
pub(crate) fn own_certificate_is_allowed(
    config: &Config,
    settings: &Settings,
    now: Timestamp,
) -> Result<(), WiringError> {
    let v1::Tls::Own { names, profile, authority: _ } = &config.tls else { return Ok(()) };
    let profile_of_it = settings.profiles.get(profile);
    let lifetime = profile_of_it.map(|profile| profile.lifetime());
    let usages = profile_of_it.map(|profile| profile.usages_in_words(&AS_PROFILE)).unwrap_or_default();
    let decision = settings.policy.evaluate(&Request {
        requester: &Requester::own_tls(),
        names,
        profile,
        key: Some(KeyKind::P256),
        lifetime,
        content: Content { usages: &usages, ..Content::default() },
        now,
    });
    if decision.outcome == Outcome::Allow { Ok(()) } else { Err(WiringError::OwnCertificate(decision.explain())) }
}

fn directory_settings(directory: &v1::Directory) -> Directory {
    let v1::Directory {
        name,
        tenant,
        authority,
        profiles,
        external_account,
        preauthorized,
        challenges,
        terms_of_service,
        website,
        caa_identities,
        order_lifetime,
        authorization_lifetime,
    } = directory.clone();
    Directory {
        name,
        tenant,
        authority,
        external_account,
        preauthorized,
        challenges,
        profiles,
        terms_of_service,
        website,
        caa_identities,
        order_lifetime,
        authorization_lifetime,
    }
}

/// The limits of the use cases; those of the listener and of the validator are theirs.
fn limits(limits: &v1::Limits, validation: &v1::Validation) -> Limits {
    Limits {
        pending_orders_per_account: limits.pending_orders_per_account,
        unproven_accounts: limits.unproven_accounts,
        unproven_account_lifetime: limits.unproven_account_lifetime,
        eab_keys: limits.eab_keys,
        keep_ended_eab_keys: limits.keep_ended_eab_keys,
        validation_time: validation.time,
        answer_wait: validation.answer_wait,
        waiting_answers: limits.places.waiting_answers,
        waiting_answers_per_account: limits.places.waiting_answers_per_account,
        work_at_once: limits.work_at_once,
        settle_after: limits.settle_after,
        keep_ended_orders: limits.keep_ended_orders,
        keep_expired_certificates: limits.keep_expired_certificates,
        keep_expired_light: limits.keep_expired_light,
        issuer_alarm: limits.issuer_alarm,
    }
}
