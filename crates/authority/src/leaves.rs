//! The ledger's leaves, made from what the use cases know. Their plain structs belong to `ledger`.

use chancery_acme::{
    account::{Account, ExternalAccount, TenantName, TermsAgreed},
    id::{AccountId, CertificateId},
};
use chancery_ledger::{Leaf, leaf};
use chancery_pki::{Name, PublicKey, SpkiDigest, Timestamp, profile::Profile, tbs};
use chancery_policy::{Decision, Outcome, Requester, Warning};

use crate::{
    failure::Failure,
    issue::sha256,
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, EabKey, EabKeyId, EabLimits, IdempotencyKey,
        IdempotencyRecord, InForce, LeafRef, Retention, Revocation, RevocationReason,
    },
};

/// Most names that a refusal leaf lists.
const REFUSAL_NAMES: usize = 20;
/// Most octets that the warnings of an intent leaf take together; the longest names must fit beside them
/// ([`NAMES_OCTETS_MAX`](chancery_pki::name::NAMES_OCTETS_MAX)).
const WARNINGS_OCTETS: usize = 2048;
/// What a warning takes beside its texts: `{"because":"","rule":""},`.
const WARNING_FRAME: usize = 25;

/// What an intent leaf is made from.
pub(crate) struct IntentFacts<'a> {
    pub(crate) record: &'a CertificateRecord,
    pub(crate) tbs: &'a [u8],
    pub(crate) profile: &'a Profile,
    pub(crate) requester: &'a Requester,
    pub(crate) decision: &'a Decision,
    pub(crate) account: Option<&'a Account>,
    pub(crate) account_is_new: bool,
    /// The certificate that it replaces.
    pub(crate) replaces: Option<CertificateId>,
    pub(crate) idempotency: Option<&'a IdempotencyRecord>,
    /// The EAB key by which the names were pre-authorised, if they were.
    pub(crate) preauthorized_by: Option<&'a EabKeyId>,
}

/// A certificate is about to be signed.
pub(crate) fn intent(facts: &IntentFacts<'_>) -> Leaf {
    let record = facts.record;
    let account_facts = facts.account.filter(|_| facts.account_is_new).map(account_facts);
    let mut decision = decision(facts.decision);
    decision.preauthorized_by = facts.preauthorized_by.map(ToString::to_string);
    leaf::Intent {
        account: record.account.map(|id| id.octets()),
        account_facts,
        at: record.recorded,
        authority: record.authority.to_string(),
        certificate: record.id.octets(),
        chain: record.chain.to_string(),
        crl_shard: record.crl_shard.map(u32::from),
        decision,
        door: facts.requester.door.to_string(),
        idempotency: facts.idempotency.map(|pending| leaf::Idempotency {
            attempt: pending.attempt,
            key: idempotency_text(&pending.key),
            request: Some(pending.request),
        }),
        order: record.order.map(|id| id.octets()),
        policy: facts.decision.policy.0,
        profile: profile_ref(facts.profile),
        replaces: facts.replaces.map(|id| id.octets()),
        requester: requester(facts.requester),
        retention: match record.retention {
            Retention::Full => "full".to_owned(),
            Retention::Light => "light".to_owned(),
        },
        serial: record.serial,
        tbs: facts.tbs.to_vec(),
        tenant: record.tenant.clone(),
    }
    .into()
}

/// A recorded certificate was signed.
pub(crate) fn signature(
    id: CertificateId,
    intent: u64,
    signature: &[u8],
    certificate: [u8; 32],
    at: Timestamp,
) -> Leaf {
    leaf::Signature { at, certificate: id.octets(), intent, sha256: certificate, signature: signature.to_vec() }.into()
}

/// A recorded certificate was given up with an unknown outcome.
pub(crate) fn abandoned(record: &CertificateRecord, at: Timestamp) -> Result<Leaf, Failure> {
    let LeafRef::At(intent) = record.state.intent() else {
        return Err(Failure::Internal("a loaded record names a leaf of an unfinished commit".to_owned()));
    };
    Ok(leaf::Abandoned { at, certificate: record.id.octets(), intent, why: "no-signature".to_owned() }.into())
}

/// Policy refused.
pub(crate) fn refusal(
    who: &str,
    door: &Requester,
    tenant: Option<TenantName>,
    refused: &Decision,
    at: Timestamp,
) -> Leaf {
    let names: Vec<String> = refused.names.iter().map(|verdict| verdict.name.to_string()).collect();
    let left_out = names.len().saturating_sub(REFUSAL_NAMES);
    leaf::Refusal {
        at,
        because: refused.because().unwrap_or("no rule allows it").to_owned(),
        door: door.door.to_string(),
        names: names.into_iter().take(REFUSAL_NAMES).collect(),
        names_left_out: u32::try_from(left_out).unwrap_or(u32::MAX),
        policy: refused.policy.0,
        requester: leaf::Requester { claims: Vec::new(), summary: who.to_owned() },
        rule: refused.rule().map(str::to_owned),
        tenant,
    }
    .into()
}

/// What makes two refusals the same within an hour: who and by which rule.
pub(crate) fn refusal_digest(who: &str, refused: &Decision) -> [u8; 32] {
    sha256(format!("{who}\n{}", refused.rule().unwrap_or_default()).as_bytes())
}

/// A certificate was revoked.
pub(crate) fn revocation(record: &CertificateRecord, revocation: Revocation, by: &str) -> Leaf {
    leaf::Revocation {
        at: revocation.at,
        authority: record.authority.to_string(),
        by: by.to_owned(),
        certificate: record.id.octets(),
        reason: revocation.reason.map(RevocationReason::code),
        serial: record.serial,
    }
    .into()
}

fn account_facts(account: &Account) -> leaf::AccountFacts {
    leaf::AccountFacts {
        contacts: account.contacts.clone(),
        created: account.created,
        directory: account.directory.clone(),
        eab: account.external.as_ref().map(|external| external.key_id.clone()),
        spki: account.key.spki().to_vec(),
        terms: account.terms_agreed.as_ref().map(terms),
    }
}

/// An EAB key was made.
pub(crate) fn eab_key_created(key: &EabKey, by: &str) -> Leaf {
    leaf::EabKey { grant: Some(grant(key)), ..eab_key(&key.id, leaf::EabAction::Created, by, key.created) }.into()
}

/// An EAB key got other limits.
pub(crate) fn eab_key_limited(key: &EabKey, by: &str, at: Timestamp) -> Leaf {
    leaf::EabKey { grant: Some(grant(key)), ..eab_key(&key.id, leaf::EabAction::Limited, by, at) }.into()
}

/// An EAB key was revoked.
pub(crate) fn eab_key_revoked(id: &EabKeyId, by: &str, at: Timestamp) -> Leaf {
    eab_key(id, leaf::EabAction::Revoked, by, at).into()
}

/// An account was made with an EAB key.
pub(crate) fn eab_key_used(id: &EabKeyId, external: &ExternalAccount, account: &Account) -> Leaf {
    leaf::EabKey {
        account: Some(account.id.octets()),
        account_facts: Some(account_facts(account)),
        binding: Some(external.binding.clone()),
        ..eab_key(id, leaf::EabAction::Used, &format!("acme account {}", account.id), account.created)
    }
    .into()
}

/// An account was stopped, since the EAB key that made it was revoked with its accounts.
pub(crate) fn account_stopped(account: AccountId, key: &EabKeyId, at: Timestamp) -> Leaf {
    let by = format!("the revocation of EAB key {key}");
    leaf::EabKey { account: Some(account.octets()), ..eab_key(key, leaf::EabAction::Stopped, &by, at) }.into()
}

/// The accounts that an EAB key made are stopped, all of them; each of them follows with a leaf of its own.
pub(crate) fn eab_accounts_stopped(id: &EabKeyId, by: &str, at: Timestamp) -> Leaf {
    eab_key(id, leaf::EabAction::Stopped, by, at).into()
}

fn eab_key(id: &EabKeyId, action: leaf::EabAction, by: &str, at: Timestamp) -> leaf::EabKey {
    let (by, key) = (by.to_owned(), id.to_string());
    leaf::EabKey { account: None, account_facts: None, action, at, binding: None, by, grant: None, key }
}

fn grant(key: &EabKey) -> leaf::EabGrant {
    let EabKey { id: _, salt, owner, directory, limits, created: _, revoked: _, accounts_stopped: _ } = key;
    let EabLimits { names, profiles, accounts, expires } = limits;
    leaf::EabGrant {
        accounts: *accounts,
        directory: directory.clone(),
        expires: *expires,
        names: names.as_ref().map(|scope| leaf::EabNames {
            addresses: scope.addresses(),
            names: scope.names(),
            wildcards: scope.wildcards(),
        }),
        owner: owner.clone(),
        profiles: profiles.clone(),
        salt: *salt,
    }
}

fn terms(agreed: &TermsAgreed) -> leaf::Terms {
    leaf::Terms { at: agreed.at, url: agreed.url.clone() }
}

/// An API token was made.
pub(crate) fn api_token_created(token: &ApiToken, by: &str) -> Leaf {
    let ApiToken { id, cluster, comment, sha256, namespaces, profiles, names, created, expires, revoked: _ } = token;
    let facts = leaf::ApiTokenFacts {
        cluster: cluster.clone(),
        comment: comment.clone(),
        expires: *expires,
        names: names.as_ref().map(|names| names.patterns().collect()),
        namespaces: namespaces.as_ref().map(|namespaces| namespaces.iter().cloned().collect()),
        profiles: profiles.clone(),
        sha256: *sha256,
    };
    let action = leaf::TokenAction::Created;
    leaf::ApiToken { action, at: *created, by: by.to_owned(), facts: Some(facts), token: id.octets() }.into()
}

/// An API token was revoked.
pub(crate) fn api_token_revoked(id: ApiTokenId, by: &str, at: Timestamp) -> Leaf {
    let action = leaf::TokenAction::Revoked;
    leaf::ApiToken { action, at, by: by.to_owned(), facts: None, token: id.octets() }.into()
}

/// An account that has a leaf agreed to new terms of service.
pub(crate) fn account_agreed(account: AccountId, agreed: &TermsAgreed) -> Leaf {
    leaf::AccountAgreed { account: account.octets(), terms: terms(agreed) }.into()
}

/// An account that has a leaf ended.
pub(crate) fn account_deactivated(account: AccountId, at: Timestamp) -> Leaf {
    leaf::AccountDeactivated { account: account.octets(), at }.into()
}

/// An account that has a leaf has another key.
pub(crate) fn account_key_changed(account: AccountId, key: &PublicKey, at: Timestamp) -> Leaf {
    leaf::AccountKeyChanged { account: account.octets(), at, spki: key.spki().to_vec() }.into()
}

/// A policy took effect with these profiles.
pub(crate) fn policy_activated(policy: [u8; 32], in_force: &InForce, by: &str, at: Timestamp) -> Leaf {
    let profiles = in_force.profiles.iter().map(|(name, hash)| leaf::ProfileRef { hash: *hash, name: name.clone() });
    leaf::PolicyActivated { at, by: by.to_owned(), policy, profiles: profiles.collect() }.into()
}

/// An issuing certificate came into use: the SHA-256 of the certificate and of its key.
pub(crate) fn authority_installed(
    authority: &AuthorityId,
    certificate: [u8; 32],
    key: SpkiDigest,
    at: Timestamp,
) -> Leaf {
    leaf::AuthorityInstalled { at, authority: authority.to_string(), certificate, key: key.0 }.into()
}

/// An issuing certificate is no longer in use: the SHA-256 of the certificate and of its key.
pub(crate) fn authority_retired(
    authority: &AuthorityId,
    certificate: [u8; 32],
    key: SpkiDigest,
    at: Timestamp,
) -> Leaf {
    leaf::AuthorityRetired { at, authority: authority.to_string(), certificate, key: key.0 }.into()
}

/// The certificate that an intent and its signature make.
pub(crate) fn certificate(id: CertificateId, intent: &Leaf, signature: &Leaf) -> Result<Vec<u8>, Failure> {
    let (Leaf::Intent(intent), Leaf::Signature(signature)) = (intent, signature) else {
        return Err(Failure::Internal(format!("the record of certificate {id} names leaves of other kinds")));
    };
    if intent.certificate != id.octets() || signature.certificate != id.octets() {
        return Err(Failure::Internal(format!("the record of certificate {id} names another certificate's leaves")));
    }
    let der = tbs::assemble(&intent.tbs, &signature.signature)
        .map_err(|error| Failure::Internal(format!("certificate {id} cannot be put together: {error}")))?;
    if sha256(&der) != signature.sha256 {
        return Err(Failure::Internal(format!("certificate {id} is not the one that was signed")));
    }
    Ok(der)
}

/// The idempotency key that an intent was recorded under.
pub(crate) fn idempotency_key(intent: &Leaf) -> Option<IdempotencyKey> {
    let Leaf::Intent(intent) = intent else { return None };
    let text = &intent.idempotency.as_ref()?.key;
    let mut parts = text.splitn(3, '\n').map(str::to_owned);
    Some(IdempotencyKey { door: parts.next()?, credential: parts.next()?, uid: parts.next()? })
}

fn idempotency_text(key: &IdempotencyKey) -> String {
    let IdempotencyKey { door, credential, uid } = key;
    format!("{door}\n{credential}\n{uid}")
}

fn profile_ref(profile: &Profile) -> leaf::ProfileRef {
    leaf::ProfileRef { hash: profile.hash().0, name: profile.name().to_owned() }
}

fn requester(requester: &Requester) -> leaf::Requester {
    let claims = requester
        .facts()
        .chain(requester.reported_facts())
        .map(|fact| leaf::Claim { name: fact.name.to_owned(), proven: fact.proven, value: fact.value.to_owned() })
        .collect();
    leaf::Requester { claims, summary: requester.to_string() }
}

fn decision(decision: &Decision) -> leaf::Decision {
    let warnings = warnings(decision);
    leaf::Decision {
        names: decision
            .names
            .iter()
            .map(|verdict| leaf::NameRule {
                name: typed_name(&verdict.name),
                rule: verdict.rule.as_ref().map(ToString::to_string),
            })
            .collect(),
        outcome: match decision.outcome {
            Outcome::Allow => leaf::Outcome::Allow,
            // An intent is only ever recorded for what is allowed; a refusal has a leaf of its own.
            Outcome::Deny | Outcome::Undecided => leaf::Outcome::Deny,
            Outcome::Hold => leaf::Outcome::Hold,
        },
        preauthorized_by: None,
        warnings_left_out: u32::try_from(decision.warnings.len() - warnings.len()).unwrap_or(u32::MAX),
        warnings,
    }
}

/// The first warnings, as many as there is room for.
fn warnings(decision: &Decision) -> Vec<leaf::Warning> {
    let mut room = WARNINGS_OCTETS;
    let warnings = decision.warnings.iter().map_while(|Warning { rule, because }| {
        let because = because.clone().unwrap_or_default();
        // JSON escapes these two of what a policy may say.
        let escapes = because.bytes().filter(|octet| matches!(octet, b'"' | b'\\')).count();
        room = room.checked_sub(WARNING_FRAME + because.len() + escapes + rule.as_str().len())?;
        Some(leaf::Warning { because, rule: rule.to_string() })
    });
    warnings.collect()
}

fn typed_name(name: &Name) -> String {
    match name {
        Name::Dns(_) | Name::Wildcard(_) => format!("dns:{name}"),
        Name::Ip(_) => format!("ip:{name}"),
        Name::Email(_) => format!("email:{name}"),
        // A URI may begin with any of these words.
        Name::Uri(_) => format!("uri:{name}"),
        // They say what they are.
        Name::Spiffe(_) | Name::Other(_) | Name::CommonName(_) => name.to_string(),
    }
}
