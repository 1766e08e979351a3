//! Answers: JSON, and errors in words.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chancery_api::ErrorBody;
use chancery_authority::Failure;
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

use super::OperationError;

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

/// A request that was not answered with what it asked for.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not-found", message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid", message: message.into() }
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, code: "refused", message: message.into() }
    }

    pub(super) fn failed(error: &impl std::error::Error) -> Self {
        tracing::error!(%error, "an operator's request failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "failed", message: error.to_string() }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let (status, code) = match &failure {
            Failure::Busy | Failure::NoSpace(_) | Failure::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Failure::Internal(_) => return Self::failed(&failure),
        };
        Self { status, code, message: failure.to_string() }
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
        let Self { status, code, message } = self;
        let body = ErrorBody { code: code.to_owned(), message };
        // Two texts always serialize; an empty body would only be less friendly.
        json(status, serde_json::to_vec(&body).unwrap_or_default())
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
