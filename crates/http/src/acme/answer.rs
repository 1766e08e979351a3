//! Answers, and the headers that every one of them has.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER,
    },
};
use serde::Serialize;

/// The nonce's header (RFC 8555 §6.5.1).
pub(crate) const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// What is sent back.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    content: Content,
    location: Option<String>,
    links: Vec<String>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    preflight: bool,
    /// For metrics: `ok`, or the problem type.
    outcome: &'static str,
}

#[derive(Debug)]
enum Content {
    None,
    Json(Bytes),
    Problem(Bytes),
    Chain(String),
}

impl Answer {
    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            content,
            location: None,
            links: Vec::new(),
            retry_after: None,
            allow: None,
            preflight: false,
            outcome: "ok",
        }
    }

    /// Nothing but a status.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::new(status, Content::None)
    }

    /// A resource.
    pub(crate) fn json(status: StatusCode, resource: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(resource).expect("wire shapes are strings, lists and objects");
        Self::new(status, Content::Json(bytes.into()))
    }

    /// A resource that was written before.
    pub(crate) fn rendered(json: Bytes) -> Self {
        Self::new(StatusCode::OK, Content::Json(json))
    }

    /// A problem document.
    pub(crate) fn problem(problem: &chancery_acme::wire::Problem, outcome: &'static str) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let bytes = serde_json::to_vec(problem).expect("wire shapes are strings, lists and objects");
        Self { outcome, ..Self::new(status, Content::Problem(bytes.into())) }
    }

    /// A certificate with its chain (RFC 8555 §9.1).
    pub(crate) fn chain(pem: String) -> Self {
        Self::new(StatusCode::OK, Content::Chain(pem))
    }

    /// What a browser asks before it sends a signed request (Fetch, CORS preflight).
    pub(crate) fn preflight(methods: &'static str) -> Self {
        Self { preflight: true, ..Self::empty(StatusCode::NO_CONTENT) }.with_allow(methods)
    }

    pub(crate) fn with_location(mut self, url: String) -> Self {
        self.location = Some(url);
        self
    }

    pub(crate) fn with_link(mut self, url: &str, relation: &str) -> Self {
        self.links.push(format!("<{url}>;rel=\"{relation}\""));
        self
    }

    /// Seconds until asking again makes sense; never less than one.
    pub(crate) fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    pub(crate) const fn with_allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) const fn outcome(&self) -> &'static str {
        self.outcome
    }

    /// The response. `nonce` is a fresh one where the answer carries one.
    pub(crate) fn into_response(self, request_id: HeaderValue, nonce: Option<&str>, is_head: bool) -> Response {
        let (body, content_type) = match self.content {
            Content::None => (Body::empty(), None),
            Content::Json(json) => (Body::from(json), Some("application/json")),
            Content::Problem(json) => (Body::from(json), Some("application/problem+json")),
            Content::Chain(pem) => (Body::from(pem), Some("application/pem-certificate-chain")),
        };
        let mut response = Response::new(if is_head { Body::empty() } else { body });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(10);
        headers.insert(crate::request_id::HEADER, request_id);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Link, Location, Replay-Nonce, Retry-After, X-Request-Id"),
        );
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(nonce) = nonce {
            put(headers, REPLAY_NONCE, nonce);
        }
        if let Some(location) = &self.location {
            put(headers, LOCATION, location);
        }
        for link in &self.links {
            put(headers, LINK, link);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Content-Type"));
        }
        response
    }
}

/// Adds a header whose text is made of our own URLs; what cannot be a header is left out.
fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.append(name, value);
    }
}
