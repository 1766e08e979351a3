//! Accounts and certificates.

use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use bytes::Bytes;
use chancery_acme::{
    account::{Account, AccountStatus},
    id::{AccountId, CertificateId},
};
use chancery_api::{
    AccountList, AccountView, CertificateFilter, CertificateList, CertificateView, DecisionView, IssuanceList,
    IssuanceQuery, IssuanceView, NameRuleView, PAGE_MAX, PageQuery, RecordedRevocation, RevocationView, RevokeRequest,
    Revoked,
};
use chancery_authority::{
    Failure, Office, Refusal,
    inventory::{Issuance, IssuanceOutcome},
    ports::CertificateQuery,
    records::{CertificateRecord, RevocationReason},
    revoke::RevokeRejection,
};
use chancery_ledger::leaf;
use chancery_pki::{Name, SerialNumber, SpkiDigest, Timestamp, certificate::pem_block};

use super::{
    ApiState, Caller,
    answer::{ApiError, Json, read},
    process::called,
};

/// How many entries a page has where nothing else is asked for.
const PAGE: usize = 100;

pub(super) async fn accounts(
    State(ApiState(api)): State<ApiState>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<AccountList>, ApiError> {
    let PageQuery { after, limit } = asked(query)?;
    let after = parsed::<AccountId>("after", after.as_deref(), "an account's id")?;
    let limit = page(limit)?;
    let found = api.office.accounts(after, limit).await?;
    let next = (found.len() == limit).then(|| found.last().map(|account| account.id.to_string())).flatten();
    Ok(Json(AccountList { accounts: found.into_iter().map(account_view).collect(), next }))
}

pub(super) async fn certificates(
    State(ApiState(api)): State<ApiState>,
    query: Result<Query<CertificateFilter>, QueryRejection>,
) -> Result<Json<CertificateList>, ApiError> {
    let CertificateFilter {
        name,
        below,
        account,
        key_sha256,
        expires_before,
        cluster,
        namespace,
        certificate,
        pem,
        after,
        limit,
    } = asked(query)?;
    let wanted = match cluster {
        Some(cluster) if [&name, &below, &account, &key_sha256, &expires_before].into_iter().all(Option::is_none) => {
            if certificate.is_some() && namespace.is_none() {
                return Err(ApiError::invalid("certificate: say in which namespace, too"));
            }
            CertificateQuery::Origin { cluster, namespace, certificate }
        }
        None if namespace.is_some() || certificate.is_some() => {
            return Err(ApiError::invalid("namespace, certificate: say of which cluster, too"));
        }
        Some(_) => {
            return Err(ApiError::invalid("cluster: not beside name, below, account, key_sha256, expires_before"));
        }
        None => wanted(&api.office, name, below, account.as_deref(), key_sha256, expires_before.as_deref())?,
    };
    let after = parsed::<CertificateId>("after", after.as_deref(), "a certificate's id")?;
    let limit = page(limit)?;
    let found = api.office.certificates(&wanted, after, limit).await?;
    let next = (found.len() == limit).then(|| found.last().map(|record| record.id.to_string())).flatten();
    let mut certificates = Vec::with_capacity(found.len());
    for record in &found {
        certificates.push(view(&api.office, record, pem).await?);
    }
    Ok(Json(CertificateList { certificates, next }))
}

pub(super) async fn certificate(
    State(ApiState(api)): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<CertificateView>, ApiError> {
    let record = find(&api.office, &named(id)?).await?;
    let mut shown = view(&api.office, &record, false).await?;
    // The row is shown, and leads to a revocation, where the ledger's record does not read.
    let mut unread = Vec::new();
    let mut told = |what: &str, failure: Failure| match failure {
        Failure::Internal(error) => {
            tracing::error!(certificate.serial = %record.serial, error, "{what} cannot be shown");
            unread.push(format!("{what} cannot be shown: {error}"));
            Ok(())
        }
        passing @ (Failure::Busy | Failure::NoSpace(_) | Failure::Unavailable(_)) => Err(passing),
    };
    match decision(&api.office, &record).await {
        Ok(decision) => shown.decision = Some(decision),
        Err(failure) => told("what was decided", failure)?,
    }
    match pem_of(&api.office, &record).await {
        Ok(pem) => shown.pem = pem,
        Err(failure) => told("the certificate", failure)?,
    }
    shown.unread = (!unread.is_empty()).then(|| unread.join("; "));
    Ok(Json(shown))
}

pub(super) async fn issuances(
    State(ApiState(api)): State<ApiState>,
    query: Result<Query<IssuanceQuery>, QueryRejection>,
) -> Result<Json<IssuanceList>, ApiError> {
    let IssuanceQuery { from, limit } = asked(query)?;
    let sighted = api.office.sight(from, page(limit)?).await?;
    Ok(Json(IssuanceList {
        issuances: sighted.issuances.into_iter().map(issuance_view).collect(),
        revocations: sighted.revocations.into_iter().map(recorded_revocation).collect(),
        next: sighted.next,
        size: sighted.size,
    }))
}

pub(super) async fn revoke(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<Revoked>, ApiError> {
    let id = named(id)?;
    let RevokeRequest { reason } = read(&body)?;
    let record = find(&api.office, &id).await?;
    let revoked = api.office.revoke_serial(&record.authority, record.serial, reason, called(caller)).await;
    revoked.map_err(|refusal| match refusal {
        Refusal::Failed(failure) => failure.into(),
        Refusal::Rejected(rejection) => match rejection {
            RevokeRejection::BadReason { .. } => ApiError::invalid(rejection.to_string()),
            RevokeRejection::Unknown => ApiError::not_found(rejection.to_string()),
            RevokeRejection::Unreadable { .. }
            | RevokeRejection::AlreadyRevoked { .. }
            | RevokeRejection::NotPermitted
            | RevokeRejection::Expired { .. } => ApiError::refused(rejection.to_string()),
        },
    })?;
    let record = find(&api.office, &id).await?;
    Ok(Json(Revoked { certificate: view(&api.office, &record, false).await? }))
}

pub(super) fn named(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(name)| name).map_err(|rejection| ApiError::invalid(rejection.body_text()))
}

pub(super) fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| ApiError::invalid(rejection.body_text()))
}

pub(super) fn page(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit {
        None => Ok(PAGE),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(ApiError::invalid(format!("limit is 1 to {PAGE_MAX}, not {limit}"))),
    }
}

pub(super) fn parsed<T: std::str::FromStr>(key: &str, text: Option<&str>, what: &str) -> Result<Option<T>, ApiError> {
    text.map(|text| {
        text.parse().map_err(|_| ApiError::invalid(format!("{key}: \"{}\" is not {what}", text.escape_debug())))
    })
    .transpose()
}

fn wanted(
    office: &Office,
    name: Option<String>,
    below: Option<String>,
    account: Option<&str>,
    key_sha256: Option<String>,
    expires_before: Option<&str>,
) -> Result<CertificateQuery, ApiError> {
    let given = [name.as_deref(), below.as_deref(), account, key_sha256.as_deref(), expires_before];
    let given = given.into_iter().flatten().count();
    if given > 1 {
        return Err(ApiError::invalid("name, below, account, key_sha256, expires_before: at most one of them"));
    }
    if let Some(name) = name {
        let read = name.parse::<Name>().map(CertificateQuery::Name);
        return read.map_err(|error| ApiError::invalid(format!("name: {error}")));
    }
    if let Some(below) = below {
        let read = Name::dns(&below).map_err(|error| ApiError::invalid(format!("below: {error}")))?;
        return Ok(CertificateQuery::Suffix(read.to_string()));
    }
    if let Some(account) = parsed::<AccountId>("account", account, "an account's id")? {
        return Ok(CertificateQuery::Account(account));
    }
    if let Some(key) = key_sha256 {
        let octets = hex::decode(&key).ok().and_then(|octets| <[u8; 32]>::try_from(octets).ok());
        let digest = octets.ok_or_else(|| ApiError::invalid("key_sha256 has 64 hexadecimal digits"))?;
        return Ok(CertificateQuery::Key(SpkiDigest(digest)));
    }
    if let Some(end) = parsed::<Timestamp>("expires_before", expires_before, "a time (RFC 3339)")? {
        let now = office.now();
        return Ok(CertificateQuery::Expiring(now..end.max(now)));
    }
    Ok(CertificateQuery::All)
}

/// By id, or by serial number in hexadecimal.
async fn find(office: &Office, id: &str) -> Result<CertificateRecord, ApiError> {
    let unknown = || ApiError::not_found(format!("there is no certificate \"{}\"", id.escape_debug()));
    let plain = id.replace(':', "").to_ascii_lowercase();
    let by_serial =
        || plain.parse::<SerialNumber>().ok().map(|serial| CertificateId::from_random(serial.to_u128().to_be_bytes()));
    let id = id.parse::<CertificateId>().ok().or_else(by_serial).ok_or_else(unknown)?;
    let found = office.store().certificate(id).await.map_err(Failure::from)?;
    Ok(found.ok_or_else(unknown)?.value)
}

async fn view(office: &Office, record: &CertificateRecord, pem: bool) -> Result<CertificateView, ApiError> {
    let pem = if pem { pem_of(office, record).await? } else { None };
    Ok(CertificateView {
        id: record.id.to_string(),
        authority: record.authority.to_string(),
        serial: record.serial.to_string(),
        names: record.names.iter().map(ToString::to_string).collect(),
        not_before: record.validity.not_before().to_string(),
        not_after: record.validity.not_after().to_string(),
        profile: record.profile.clone(),
        requester: record.requester.clone(),
        account: record.account.map(|id| id.to_string()),
        order: record.order.map(|id| id.to_string()),
        tenant: record.tenant.clone(),
        cluster: record.origin.as_ref().map(|origin| origin.cluster.clone()),
        namespace: record.origin.as_ref().and_then(|origin| origin.namespace.clone()),
        certificate: record.origin.as_ref().and_then(|origin| origin.certificate.clone()),
        used_by: record.used_by.clone(),
        state: record.state.as_str().to_owned(),
        revoked: record.revocation.map(|revocation| RevocationView {
            at: revocation.at.to_string(),
            reason: revocation.reason.map(|reason| RevocationReason::as_str(reason).to_owned()),
        }),
        replaced_by: record.replaced_by.map(|id| id.to_string()),
        key_sha256: record.key.to_string(),
        decision: None,
        pem,
        unread: None,
    })
}

async fn pem_of(office: &Office, record: &CertificateRecord) -> Result<Option<String>, Failure> {
    Ok(office.issued(record).await?.map(|der| pem_block("CERTIFICATE", &der)))
}

/// From the ledger, not from the policy that is in force now.
async fn decision(office: &Office, record: &CertificateRecord) -> Result<DecisionView, Failure> {
    let (ledger_index, intent) = office.intent_of(record).await?;
    let names = intent.decision.names.into_iter();
    Ok(DecisionView {
        ledger_index,
        at: intent.at.to_string(),
        policy_sha256: hex::encode(intent.policy),
        names: names.map(|leaf::NameRule { name, rule }| NameRuleView { name, rule }).collect(),
        preauthorized_by: intent.decision.preauthorized_by,
    })
}

fn issuance_view(issuance: Issuance) -> IssuanceView {
    let Issuance { index, intent, outcome } = issuance;
    let plain = |typed: &leaf::NameRule| match typed.name.split_once(':') {
        Some(("dns" | "ip" | "email" | "uri", name)) => name.to_owned(),
        _ => typed.name.clone(),
    };
    let (state, pem) = match outcome {
        IssuanceOutcome::Open => ("intended", None),
        IssuanceOutcome::Issued(der) => ("issued", Some(pem_block("CERTIFICATE", &der))),
        IssuanceOutcome::PossiblyIssued => ("possibly issued", None),
    };
    IssuanceView {
        ledger_index: index,
        certificate: CertificateId::from_random(intent.certificate).to_string(),
        authority: intent.authority,
        serial: intent.serial.to_string(),
        names: intent.decision.names.iter().map(plain).collect(),
        state: state.to_owned(),
        pem,
    }
}

fn recorded_revocation(leaf: leaf::Revocation) -> RecordedRevocation {
    let reason = leaf.reason.and_then(|code| RevocationReason::from_code(u64::from(code)));
    RecordedRevocation {
        authority: leaf.authority,
        serial: leaf.serial.to_string(),
        revocation: RevocationView {
            at: leaf.at.to_string(),
            reason: reason.map(|reason| RevocationReason::as_str(reason).to_owned()),
        },
    }
}

fn account_view(account: Account) -> AccountView {
    AccountView {
        id: account.id.to_string(),
        directory: account.directory,
        status: match account.status {
            AccountStatus::Valid => "valid",
            AccountStatus::Deactivated { at: _ } => "deactivated",
            AccountStatus::Revoked { at: _ } => "revoked",
        }
        .to_owned(),
        contacts: account.contacts,
        key_sha256: account.key.digest().to_string(),
        key_kind: account.key.kind().to_string(),
        created: account.created.to_string(),
        eab_key: account.external.map(|external| external.key_id),
    }
}
