//! EAB keys: making, listing, limiting, revoking them.

use std::time::Duration;

use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use bytes::Bytes;
use chancery_acme::urls::Urls;
use chancery_api::{
    EabKeyList, EabKeyMade, EabKeyView, EabLimitsChange, EabNamesView, MakeEabKeyRequest, PageQuery,
    RevokeEabKeyRequest,
};
use chancery_authority::{
    Refusal,
    eab_keys::{ChangeEabLimits, EabKeyRejection, EabKeyState, LIFE_MAX, MadeEabKey, MakeEabKey},
    records::{EabKey, EabKeyId, EabLimits},
};
use chancery_pki::Timestamp;
use chancery_policy::NameScope;

use super::{
    ApiState, Caller,
    answer::{ApiError, Json, read},
    inventory::{asked, named, page, parsed},
    process::called,
};

/// How long accounts are made with a key where it is not said.
const USUAL_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How many accounts a key makes where it is not said.
const USUAL_ACCOUNTS: u64 = 1;

pub(super) async fn make(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<EabKeyMade>, ApiError> {
    let MakeEabKeyRequest { id, directory, owner, limits } = read(&body)?;
    let id =
        parsed::<EabKeyId>("id", id.as_deref(), "an id: letters, digits, hyphens, dots and underscores, at most 64")?;
    let now = api.office.now();
    let ChangeEabLimits { names, profiles, accounts, expires } = change_of(limits, now)?;
    // Whoever sends a list that came out empty does not mean every name.
    if names.as_ref().is_some_and(Option::is_none) {
        return Err(ApiError::invalid(
            "names is empty; leave it out where policy alone shall decide, or name what the key is for",
        ));
    }
    let limits = EabLimits {
        names: names.flatten(),
        profiles: profiles.unwrap_or_default(),
        accounts: accounts.unwrap_or(USUAL_ACCOUNTS),
        expires: expires.unwrap_or_else(|| now.after(USUAL_LIFE)),
    };
    let by = called(caller);
    let made = api.office.make_eab_key(MakeEabKey { id, owner, directory, limits }, &by).await.map_err(refused)?;
    let MadeEabKey { key, secret } = made;
    tracing::info!(by, eab.key = %key.id, acme.directory = key.directory, "EAB key made");
    Ok(Json(EabKeyMade {
        directory_url: Urls::new(&api.operator.external_url(), &key.directory).directory(),
        key: view(EabKeyState { key, used: 0 }, now),
        hmac_key: secret.to_base64url().to_string(),
    }))
}

pub(super) async fn list(
    State(ApiState(api)): State<ApiState>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<EabKeyList>, ApiError> {
    let PageQuery { after, limit } = asked(query)?;
    let after = parsed::<EabKeyId>("after", after.as_deref(), "the id of an EAB key")?;
    let limit = page(limit)?;
    let found = api.office.eab_keys(after.as_ref(), limit).await?;
    let next = (found.len() == limit).then(|| found.last().map(|state| state.key.id.to_string())).flatten();
    let now = api.office.now();
    Ok(Json(EabKeyList { keys: found.into_iter().map(|state| view(state, now)).collect(), next }))
}

pub(super) async fn show(
    State(ApiState(api)): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<EabKeyView>, ApiError> {
    let id = id_of(&named(id)?)?;
    let found =
        api.office.eab_key(&id).await?.ok_or_else(|| refused(Refusal::Rejected(EabKeyRejection::Unknown { id })))?;
    Ok(Json(view(found, api.office.now())))
}

pub(super) async fn limit(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<EabKeyView>, ApiError> {
    let id = id_of(&named(id)?)?;
    let now = api.office.now();
    let change = change_of(read(&body)?, now)?;
    let by = called(caller);
    let limited = api.office.limit_eab_key(&id, change, &by).await.map_err(refused)?;
    tracing::info!(by, eab.key = %id, "EAB key limited");
    Ok(Json(view(limited, now)))
}

pub(super) async fn revoke(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<EabKeyView>, ApiError> {
    let id = id_of(&named(id)?)?;
    let RevokeEabKeyRequest { accounts } = read(&body)?;
    let by = called(caller);
    let revoked = api.office.revoke_eab_key(&id, accounts, &by).await.map_err(refused)?;
    tracing::info!(by, eab.key = %id, accounts, "EAB key revoked");
    Ok(Json(view(revoked, api.office.now())))
}

fn id_of(text: &str) -> Result<EabKeyId, ApiError> {
    // What cannot be an id is none that there is.
    text.parse().map_err(|_| ApiError::not_found(format!("there is no EAB key \"{}\"", text.escape_debug())))
}

fn change_of(change: EabLimitsChange, now: Timestamp) -> Result<ChangeEabLimits, ApiError> {
    let EabLimitsChange { names, profiles, accounts, expires_in_seconds } = change;
    let scope = |EabNamesView { names, wildcards, addresses }: EabNamesView| {
        let scope = NameScope::parse(&names, &wildcards, &addresses);
        let scope = scope.map_err(|fault| ApiError::invalid(format!("names: {fault}")))?;
        Ok::<_, ApiError>((!scope.is_empty()).then_some(scope))
    };
    let within = |seconds: u64| {
        let life = Duration::from_secs(seconds);
        let allowed = !life.is_zero() && life <= LIFE_MAX;
        allowed
            .then(|| now.after(life))
            .ok_or_else(|| ApiError::invalid("a key expires after now and within ten years"))
    };
    Ok(ChangeEabLimits {
        names: names.map(scope).transpose()?,
        profiles,
        accounts,
        expires: expires_in_seconds.map(within).transpose()?,
    })
}

fn view(state: EabKeyState, now: Timestamp) -> EabKeyView {
    let closed = state.closed(now);
    let EabKeyState { key, used } = state;
    let EabKey { id, salt: _, owner, directory, limits, created, revoked, accounts_stopped: _ } = key;
    let EabLimits { names, profiles, accounts, expires } = limits;
    EabKeyView {
        id: id.to_string(),
        owner,
        directory,
        state: closed.unwrap_or("open").to_owned(),
        names: names.map(|scope| EabNamesView {
            names: scope.names(),
            wildcards: scope.wildcards(),
            addresses: scope.addresses(),
        }),
        profiles,
        accounts,
        accounts_made: used,
        created: created.to_string(),
        expires: expires.to_string(),
        revoked: revoked.map(|at| at.to_string()),
    }
}

fn refused(refusal: Refusal<EabKeyRejection>) -> ApiError {
    use EabKeyRejection as R;
    match refusal {
        Refusal::Failed(failure) => failure.into(),
        Refusal::Rejected(rejection) => match rejection {
            R::Unknown { .. } => ApiError::not_found(rejection.to_string()),
            R::Id(_)
            | R::UnknownDirectory { .. }
            | R::UnknownProfile { .. }
            | R::Owner
            | R::NoNames
            | R::Accounts { .. }
            | R::Expires { .. } => ApiError::invalid(rejection.to_string()),
            R::Taken { .. } | R::Off { .. } | R::Revoked { .. } | R::TooMany { .. } => {
                ApiError::refused(rejection.to_string())
            }
        },
    }
}
