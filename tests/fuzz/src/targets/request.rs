//! HTTP requests as text, so that they can be kept and mutated: a request line, headers, an empty line, a body.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use tower::{Service, ServiceExt as _};

/// An answer, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn shown(&self) -> String {
        format!("{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

pub(super) type Octets = Full<Bytes>;

/// Reads the text; `None` where hyper would not have let such a request through.
pub(super) fn read(octets: &[u8]) -> Option<Request<Octets>> {
    let end = octets.windows(2).position(|pair| pair == b"\n\n").map_or(octets.len(), |at| at + 1);
    let (head, body) = octets.split_at(end);
    let mut lines = head.split(|octet| *octet == b'\n');
    let line = lines.next()?;
    let at = line.iter().position(|octet| *octet == b' ')?;
    let (method, target) = (line.get(..at)?, line.get(at + 1..)?);
    let mut request = Request::new(Full::from(body.strip_prefix(b"\n").unwrap_or(body).to_vec()));
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::try_from(target).ok()?;
    for line in lines.filter(|line| !line.is_empty()) {
        let at = line.iter().position(|octet| *octet == b':')?;
        let (name, value) = (line.get(..at)?, line.get(at + 1..)?.trim_ascii());
        request.headers_mut().append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(request)
}

/// Sends a request to a router.
pub(super) async fn send<R, B>(router: R, request: Request<Octets>) -> Answer
where
    R: Service<Request<Octets>, Response = Response<B>, Error = Infallible>,
    B: Body,
    B::Error: std::fmt::Debug,
{
    let Ok(response) = router.oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}
