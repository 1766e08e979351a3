//! An API server for unit tests: it answers as a test says, without a network.
//!
//! A client polls its answer in the task that asked: an answer that panics breaks that task, and no other.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _};
use kube::Client;
use serde_json::Value;

/// Longest body that is read, in octets.
const BODY_MAX: usize = 1 << 20;

/// A client whose requests are answered by this.
pub(crate) fn client(answer: impl Fn(&Method, &Uri, &[u8]) -> Response + Clone + Send + Sync + 'static) -> Client {
    let router = Router::new().fallback(move |request: Request| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, BODY_MAX).await.unwrap_or_default();
            answer(&head.method, &head.uri, &body)
        }
    });
    Client::new(router, "default")
}

/// An object.
pub(crate) fn object(value: &Value) -> Response {
    with_status(StatusCode::OK, value)
}

/// That it will not have this, or has no such thing.
pub(crate) fn refusal(status: StatusCode, reason: &str) -> Response {
    refusal_in_words(status, reason, "")
}

/// The same, and why.
pub(crate) fn refusal_in_words(status: StatusCode, reason: &str, message: &str) -> Response {
    let value = serde_json::json!({
        "kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": message,
    });
    with_status(status, &value)
}

/// A watch that shows these events.
pub(crate) fn watch(events: impl Stream<Item = Value> + Send + 'static) -> Response {
    Body::from_stream(events.map(|event| Ok::<_, Infallible>(Bytes::from(format!("{event}\n"))))).into_response()
}

/// A watch that shows nothing and does not end.
pub(crate) fn silence() -> Response {
    Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>()).into_response()
}

fn with_status(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
