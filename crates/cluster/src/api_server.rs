//! A cluster's API server, as far as it tells whom a token speaks for.

use std::{path::Path, time::Duration};

use http::Request;
use http_body_util::Limited;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube_client::{Api, Client, Config, api::PostParams, client::Body};
use secrecy::{ExposeSecret as _, SecretString};

use crate::claims::account_of;

/// How long a connection, and an answer, may take.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer that is read, in octets, whatever it says of itself.
pub(crate) const ANSWER_MAX: usize = 256 * 1024;

/// The API server of a cluster.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    url: String,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The API server could not be asked, or not understood.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiServerFault {
    /// Its address, CA or token do not fit.
    #[error("the API server {url} cannot be asked: {why}")]
    Configuration {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
    /// It did not answer, or not with what was asked for.
    #[error("the API server {url} did not answer: {why}")]
    Answer {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
}

impl ApiServer {
    /// The API server at this URL, whose certificate stands below one of `ca` (DER), asked with the token in a file.
    /// The file is read again when its token is replaced.
    ///
    /// # Errors
    ///
    /// [`ApiServerFault::Configuration`].
    pub fn new(url: &str, ca: Vec<Vec<u8>>, token: &Path) -> Result<Self, ApiServerFault> {
        let fault = |why: String| ApiServerFault::Configuration { url: url.to_owned(), why };
        let mut config = Config::new(url.parse().map_err(|error: http::uri::InvalidUri| fault(error.to_string()))?);
        config.root_cert = Some(ca);
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        config.auth_info.token_file = Some(token.display().to_string());
        let client = Client::try_from(config).map_err(|error| fault(error.to_string()))?;
        Ok(Self::with_client(client, url))
    }

    /// An API server behind a client that is there already. Needs an async runtime around it.
    #[must_use]
    pub fn with_client(client: Client, url: &str) -> Self {
        // Nothing of what it sends is kept beyond the limit: neither keys, nor reviews, nor its words on a failure.
        let bounded = tower::service_fn(move |request: Request<Body>| {
            let client = client.clone();
            async move { client.send(request).await.map(|answer| answer.map(|body| Limited::new(body, ANSWER_MAX))) }
        });
        Self { client: Client::new(bounded, "default"), url: url.to_owned() }
    }

    fn silent(&self, why: impl std::fmt::Display) -> ApiServerFault {
        ApiServerFault::Answer { url: self.url.clone(), why: why.to_string() }
    }

    /// Namespace and name of the service account that a token speaks for, if it holds and is meant for the audience.
    ///
    /// # Errors
    ///
    /// [`ApiServerFault`].
    pub(crate) async fn review(
        &self,
        token: &SecretString,
        audience: &str,
    ) -> Result<Result<(String, String), String>, ApiServerFault> {
        let spec =
            TokenReviewSpec { audiences: Some(vec![audience.to_owned()]), token: token.expose_secret().to_owned() };
        let asked = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = tokio::time::timeout(ANSWER, reviews.create(&PostParams::default(), &asked)).await;
        let answer = answer.map_err(|_| self.silent("it took too long"))?.map_err(|error| self.silent(error))?;
        let Some(status) = answer.status else { return Err(self.silent("a review without a status")) };
        if status.authenticated != Some(true) {
            return Ok(Err("the API server does not take the token".to_owned()));
        }
        // A server that knows no audiences answers with none: then the token may be meant for anybody.
        if !status.audiences.unwrap_or_default().iter().any(|one| one == audience) {
            return Ok(Err("the API server takes the token, but not for our audience".to_owned()));
        }
        let user = status.user.and_then(|user| user.username).unwrap_or_default();
        Ok(match account_of(&user) {
            Some((namespace, name)) => Ok((namespace.to_owned(), name.to_owned())),
            None => Err("the token is no service account's".to_owned()),
        })
    }

    /// The keys by which tokens are signed, as a JWK set.
    ///
    /// # Errors
    ///
    /// [`ApiServerFault`].
    pub(crate) async fn keys(&self) -> Result<String, ApiServerFault> {
        let request = Request::get("/openid/v1/jwks").body(Vec::new()).map_err(|error| self.silent(error))?;
        let answer = tokio::time::timeout(ANSWER, self.client.request_text(request)).await;
        answer.map_err(|_| self.silent("it took too long"))?.map_err(|error| self.silent(error))
    }
}
