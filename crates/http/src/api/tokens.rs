//! API tokens of clusters, over the local socket.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
};
use bytes::Bytes;
use chancery_api::{MadeToken, MakeTokenRequest, PageQuery, TokenList, TokenView};
use chancery_authority::{
    Refusal,
    api_token::{ApiToken, ApiTokenId, ApiTokenRejection, MakeApiToken},
};
use chancery_pki::Timestamp;
use chancery_policy::NameLimits;
use secrecy::ExposeSecret as _;

use super::{
    ApiState, Caller,
    answer::{ApiError, Json, read},
    inventory::{asked, page, parsed},
    process::called,
};

pub(super) async fn make(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<MadeToken>, ApiError> {
    let MakeTokenRequest { cluster, comment, lifetime_s, namespaces, profiles, names } = read(&body)?;
    let names = names.map(|names| NameLimits::parse(&names)).transpose();
    let asked = MakeApiToken {
        cluster,
        comment,
        life: Duration::from_secs(lifetime_s),
        namespaces: namespaces.map(|namespaces| namespaces.into_iter().collect::<BTreeSet<_>>()),
        profiles,
        names: names.map_err(|fault| ApiError::invalid(fault.to_string()))?,
    };
    let (token, secret) = api.office.make_api_token(asked, &called(caller)).await.map_err(refused)?;
    let token = view(token, api.office.now());
    Ok(Json(MadeToken { secret: secret.expose_secret().to_owned(), token }))
}

pub(super) async fn list(
    State(ApiState(api)): State<ApiState>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<TokenList>, ApiError> {
    let PageQuery { after, limit } = asked(query)?;
    let after = parsed::<ApiTokenId>("after", after.as_deref(), "a token's id")?;
    let limit = page(limit)?;
    let found = api.office.api_tokens(after, limit).await?;
    let next = (found.len() == limit).then(|| found.last().map(|token| token.id.to_string())).flatten();
    let now = api.office.now();
    Ok(Json(TokenList { tokens: found.into_iter().map(|token| view(token, now)).collect(), next }))
}

pub(super) async fn revoke(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TokenView>, ApiError> {
    let Path(text) = id.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let unknown = || ApiError::not_found(format!("there is no token \"{}\"", text.escape_debug()));
    let id: ApiTokenId = text.parse().map_err(|_| unknown())?;
    let token = api.office.revoke_api_token(id, &called(caller)).await.map_err(refused)?;
    Ok(Json(view(token, api.office.now())))
}

fn refused(refusal: Refusal<ApiTokenRejection>) -> ApiError {
    use ApiTokenRejection as R;
    match refusal {
        Refusal::Failed(failure) => failure.into(),
        Refusal::Rejected(rejection) => match rejection {
            R::Unknown(_) => ApiError::not_found(rejection.to_string()),
            R::AlreadyRevoked { .. } | R::TooMany => ApiError::refused(rejection.to_string()),
            R::UnknownCluster { .. }
            | R::Profile { .. }
            | R::Namespace { .. }
            | R::NotANamespace(_)
            | R::Nothing(_)
            | R::TooManyNamespaces
            | R::Comment
            | R::Life => ApiError::invalid(rejection.to_string()),
        },
    }
}

fn view(token: ApiToken, now: Timestamp) -> TokenView {
    let state = match token.revoked {
        Some(_) => "revoked",
        None if token.holds(now) => "valid",
        None => "expired",
    };
    let ApiToken { id, cluster, comment, sha256: _, namespaces, profiles, names, created, expires, revoked } = token;
    TokenView {
        id: id.to_string(),
        cluster,
        comment,
        state: state.to_owned(),
        created: created.to_string(),
        expires: expires.to_string(),
        revoked: revoked.map(|at| at.to_string()),
        namespaces: namespaces.map(|namespaces| namespaces.into_iter().collect()),
        profiles,
        names: names.map(|names| names.patterns().collect()),
    }
}
