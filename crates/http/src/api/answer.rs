//! Answers: JSON, and errors in words.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chancery_api::ErrorBody;
use chancery_authority::Failure;
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::OperationError;
use crate::request_id::RequestId;

/// Longest request body, in bytes.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// A value as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json(StatusCode::OK, body),
            Err(error) => ApiError::failed(&error).into_response(),
        }
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// How a request ended, in a word for metrics; put into the answer's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome(pub(super) &'static str);

/// Seconds after which a busy server may be asked again.
const BUSY_S: u64 = 3;
/// Seconds after which something that is away may be asked for again.
const AWAY_S: u64 = 30;
/// Seconds after which a full disk may have been made room on.
const FULL_S: u64 = 300;

/// A request that was not answered with what it asked for.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "refused", message)
    }

    /// Another leader of the same controller has asked since.
    pub(super) fn stale_term(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "stale-term", message)
    }

    /// Nobody is known by what was presented. What was wrong with it is not told.
    pub(super) fn unauthorized() -> Self {
        let message = "no credential that is valid here: send an API token or a service-account token as \
                       \"Authorization: Bearer TOKEN\", or a client certificate";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn too_large(most: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("a body has at most {most} octets here"))
    }

    /// Asked too often.
    pub(super) fn slow_down(message: impl Into<String>, wait: Duration) -> Self {
        let retry_after = Some(wait.as_secs().saturating_add(1));
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "slow-down", message) }
    }

    /// Too much is under way.
    pub(super) fn busy() -> Self {
        let message = "too many requests are under way; try again in a second";
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message) }
    }

    /// A failure as strangers are told of it: our own faults are for the log.
    pub(super) fn of_failure(failure: Failure, id: &RequestId) -> Self {
        match failure {
            Failure::Internal(error) => {
                tracing::error!(request.id = %id, error, "a cluster's request failed");
                let message = format!("an internal error; the server's log tells of request {id}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
            }
            passing @ (Failure::Busy | Failure::NoSpace(_) | Failure::Unavailable(_)) => passing.into(),
        }
    }

    pub(super) fn failed(error: &impl std::error::Error) -> Self {
        tracing::error!(%error, "an operator's request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let wait = match &failure {
            Failure::Busy => BUSY_S,
            Failure::NoSpace(_) => FULL_S,
            Failure::Unavailable(_) => AWAY_S,
            Failure::Internal(_) => return Self::failed(&failure),
        };
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", failure.to_string());
        Self { retry_after: Some(wait), ..error }
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Refused(message) => Self::refused(message),
            OperationError::Failed(_) => Self::failed(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, retry_after } = self;
        let body = ErrorBody { code: code.to_owned(), message };
        // Two texts always serialize; an empty body would only be less friendly.
        let mut response = json(status, serde_json::to_vec(&body).unwrap_or_default());
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Outcome(code));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Reads a body as JSON; an empty one stands for `{}`.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    if body.len() > BODY_MAX {
        return Err(ApiError::invalid("the body is too long"));
    }
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}
