//! What concerns the process: health, metrics, status, reload, backup.

use std::{path::Path, sync::Arc};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use chancery_api::{BackedUp, BackupRequest, Reloaded, Status};
use http::{HeaderValue, StatusCode, header};

use super::{
    ApiState, Caller, OperationError,
    answer::{ApiError, Json, read},
};
use crate::metrics::CONTENT_TYPE;

/// Who calls, for the log and the ledger.
pub(super) fn called(caller: Caller) -> String {
    match caller {
        Caller::Local { uid } => format!("uid {uid}"),
        Caller::Plain => "someone".to_owned(),
        Caller::Cluster => "a cluster".to_owned(),
    }
}

/// The process lives and answers.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Certificates are issued; if not, why not.
pub(super) async fn readyz(State(ApiState(api)): State<ApiState>) -> Response {
    let why = api.operator.not_issuing().await;
    if why.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", why.join("\n"))).into_response()
}

pub(super) async fn metrics(State(ApiState(api)): State<ApiState>) -> Response {
    api.operator.observe().await;
    let mut response = api.metrics.encode().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

pub(super) async fn status(State(ApiState(api)): State<ApiState>) -> Result<Json<Status>, ApiError> {
    Ok(Json(api.operator.status().await?))
}

pub(super) async fn reload(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Reloaded>, ApiError> {
    let operator = Arc::clone(&api.operator);
    // A caller who goes away in the middle leaves no reload half taken.
    let reload = tokio::spawn(async move { operator.reload(&called(caller)).await });
    let done = reload.await.map_err(|error| OperationError::Failed(error.to_string()))?;
    Ok(Json(done?))
}

pub(super) async fn backup(
    State(ApiState(api)): State<ApiState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<BackedUp>, ApiError> {
    let BackupRequest { folder } = read(&body)?;
    let folder = Path::new(&folder);
    if !folder.is_absolute() {
        return Err(ApiError::invalid(
            "the folder is an absolute path: server and command may start from different places",
        ));
    }
    let done = api.operator.backup(folder).await?;
    tracing::info!(by = called(caller), folder = %folder.display(), ledger.size = done.ledger_size, "backed up");
    Ok(Json(done))
}
