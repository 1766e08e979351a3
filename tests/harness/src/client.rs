//! A small ACME client over one kept-alive connection. It signs what it is told, so that tests
//! can send what no real client would; it retries nothing.

use std::sync::Arc;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{Result, responder::Responder};

/// base64url without padding.
#[must_use]
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A P-256 account key.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl AccountKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// If the crypto library cannot make one.
    pub fn generate() -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| "no key could be made")?;
        Ok(Self { pair, random: SystemRandom::new() })
    }

    /// A key from PKCS#8, as other libraries write it.
    ///
    /// # Errors
    ///
    /// If it is no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| "no P-256 key")?;
        Ok(Self { pair, random: SystemRandom::new() })
    }

    /// Its JWK, members in the order of RFC 7638.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"crv": "P-256", "kty": "EC", "x": b64(point.get(1..33).unwrap_or_default()), "y": b64(point.get(33..).unwrap_or_default())})
    }

    /// Its thumbprint (RFC 7638).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk.get("x").unwrap_or(&Value::Null),
            jwk.get("y").unwrap_or(&Value::Null)
        );
        b64(digest(&SHA256, canonical.as_bytes()))
    }

    /// Signs `protected.payload`.
    ///
    /// # Errors
    ///
    /// If the crypto library cannot sign.
    pub fn sign(&self, protected: &str, payload: &str) -> Result<String> {
        let message = format!("{protected}.{payload}");
        let signature = self.pair.sign(&self.random, message.as_bytes()).map_err(|_| "signing failed")?;
        Ok(b64(signature.as_ref()))
    }

    /// A flattened JWS over a payload with the given protected header.
    ///
    /// # Errors
    ///
    /// If the crypto library cannot sign.
    pub fn jws(&self, protected: &Value, payload: &str) -> Result<Vec<u8>> {
        let protected = b64(protected.to_string());
        let payload = b64(payload);
        let signature = self.sign(&protected, &payload)?;
        Ok(format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#).into_bytes())
    }
}

/// An external account binding (RFC 8555 §7.3.4) of a key's JWK by HS256, for the newAccount resource at `url`; with the
/// identifier and the MAC key (base64url) of an EAB key.
///
/// # Errors
///
/// If the MAC key is not base64url.
pub fn binding(jwk: &Value, url: &str, key_id: &str, mac_key: &str) -> Result<Value> {
    let protected = b64(json!({"alg": "HS256", "kid": key_id, "url": url}).to_string());
    let payload = b64(jwk.to_string());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(mac_key)?);
    let mac = b64(hmac::sign(&key, format!("{protected}.{payload}").as_bytes()));
    Ok(json!({"protected": protected, "payload": payload, "signature": mac}))
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The `Location` header.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn location(&self) -> Result<String> {
        Ok(self.header("location").ok_or_else(|| format!("no Location in {self:?}"))?.to_owned())
    }

    /// The targets of the links with this relation (RFC 8288).
    #[must_use]
    pub fn links(&self, relation: &str) -> Vec<String> {
        let suffix = format!(">;rel=\"{relation}\"");
        let links = self.headers.get_all("link").iter().filter_map(|link| link.to_str().ok());
        links.filter_map(|link| Some(link.strip_prefix('<')?.strip_suffix(&suffix)?.to_owned())).collect()
    }

    /// A text member of the JSON body.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn text(&self, member: &str) -> Result<String> {
        let json = self.json();
        let text = json.get(member).and_then(Value::as_str);
        Ok(text
            .ok_or_else(|| format!("no {member} in {} {}", self.status, String::from_utf8_lossy(&self.body)))?
            .to_owned())
    }

    /// The problem type behind the ACME prefix; empty where the body is no problem document.
    #[must_use]
    pub fn problem(&self) -> String {
        let json = self.json();
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or_default().to_owned()
    }

    /// Itself if the status is `expected`.
    ///
    /// # Errors
    ///
    /// Status and body otherwise.
    pub fn expect_status(self, expected: u16) -> Result<Self> {
        if self.status == expected {
            return Ok(self);
        }
        Err(format!("status {} instead of {expected}: {}", self.status, String::from_utf8_lossy(&self.body)).into())
    }
}

/// A TLS client configuration that trusts the certificates of a PEM text alone.
///
/// # Errors
///
/// If the PEM holds no certificate.
pub fn trust(pem: &[u8]) -> Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Where the server is and whom to trust.
#[derive(Clone)]
pub struct Target {
    /// `host:port` to connect to.
    pub address: String,
    /// The name that its certificate must have.
    pub host: String,
    /// The directory's URL.
    pub directory: String,
    /// TLS.
    pub tls: Arc<rustls::ClientConfig>,
}

impl Target {
    /// The same server's other ACME directory of this name.
    #[must_use]
    pub fn other_directory(self, name: &str) -> Self {
        Self { directory: self.directory.replace("/acme/default/", &format!("/acme/{name}/")), ..self }
    }
}

/// The client: one connection, one account key.
pub struct Client {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// The account's key.
    pub key: AccountKey,
    /// The account's URL once it has one.
    pub kid: Option<String>,
    /// The nonce for the next request.
    pub nonce: Option<String>,
    /// The directory object.
    pub directory: Value,
}

impl Client {
    /// Connects and reads the directory.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn connect(target: Target) -> Result<Self> {
        let mut client =
            Self { target, sender: None, key: AccountKey::generate()?, kid: None, nonce: None, directory: Value::Null };
        let url = client.target.directory.clone();
        client.directory = client.get(&url).await?.expect_status(200)?.json();
        Ok(client)
    }

    /// A URL of the directory.
    #[must_use]
    pub fn resource(&self, name: &str) -> String {
        self.directory.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let usable = self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        if !usable {
            let stream = TcpStream::connect(&self.target.address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(self.target.host.clone())?;
            let stream = TlsConnector::from(Arc::clone(&self.target.tls)).connect(name, stream).await?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "no connection".into())
    }

    /// Sends one request as it is.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn send(&mut self, method: &str, url: &str, content_type: Option<&str>, body: Vec<u8>) -> Result<Answer> {
        let content_type = content_type.map(|content_type| (CONTENT_TYPE.as_str(), content_type));
        self.send_with(method, url, content_type.as_slice(), body).await
    }

    /// Sends one request with these headers, and the `Host` of the URL if none of them is that.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn send_with(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let (host, path) = split(url)?;
        let mut request = Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case(HOST.as_str())) {
            request = request.header(HOST, host);
        }
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from(body)))?;
        let sender = self.sender().await?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some(nonce) = parts.headers.get("replay-nonce").and_then(|value| value.to_str().ok()) {
            self.nonce = Some(nonce.to_owned());
        }
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// GET.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn get(&mut self, url: &str) -> Result<Answer> {
        self.send("GET", url, None, Vec::new()).await
    }

    /// A nonce: the one that came with the last answer, or a new one.
    ///
    /// # Errors
    ///
    /// If the server gives none.
    pub async fn take_nonce(&mut self) -> Result<String> {
        if self.nonce.is_none() {
            let url = self.resource("newNonce");
            self.send("HEAD", &url, None, Vec::new()).await?;
        }
        self.nonce.take().ok_or_else(|| "the server gave no nonce".into())
    }

    /// The protected header of a request by the account, or by the bare key before there is one.
    ///
    /// # Errors
    ///
    /// If the server gives no nonce.
    pub async fn protected(&mut self, url: &str) -> Result<Value> {
        let nonce = self.take_nonce().await?;
        Ok(match &self.kid {
            Some(kid) => json!({"alg": "ES256", "kid": kid, "nonce": nonce, "url": url}),
            None => json!({"alg": "ES256", "jwk": self.key.jwk(), "nonce": nonce, "url": url}),
        })
    }

    /// A signed POST with this payload, word for word.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn post_text(&mut self, url: &str, payload: &str) -> Result<Answer> {
        let protected = self.protected(url).await?;
        let body = self.key.jws(&protected, payload)?;
        self.send("POST", url, Some("application/jose+json"), body).await
    }

    /// A signed POST with a JSON payload.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn post(&mut self, url: &str, payload: &Value) -> Result<Answer> {
        self.post_text(url, &payload.to_string()).await
    }

    /// POST-as-GET.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn read(&mut self, url: &str) -> Result<Answer> {
        self.post_text(url, "").await
    }

    /// Registers the account.
    ///
    /// # Errors
    ///
    /// Status and body, if it was refused.
    pub async fn register(&mut self) -> Result<()> {
        let url = self.resource("newAccount");
        self.kid = None;
        let answer = self.post(&url, &json!({"termsOfServiceAgreed": true})).await?;
        if answer.status != 200 && answer.status != 201 {
            return Err(format!("newAccount: {} {}", answer.status, String::from_utf8_lossy(&answer.body)).into());
        }
        self.kid = Some(answer.location()?);
        Ok(())
    }

    /// Asks for an account with an external account binding; the account is kept where one is made.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn register_bound(&mut self, key_id: &str, mac_key: &str) -> Result<Answer> {
        let url = self.resource("newAccount");
        self.kid = None;
        let binding = binding(&self.key.jwk(), &url, key_id, mac_key)?;
        let answer = self.post(&url, &json!({"externalAccountBinding": binding})).await?;
        if answer.status == 201 {
            self.kid = Some(answer.location()?);
        }
        Ok(answer)
    }

    /// Places an order for DNS names.
    ///
    /// # Errors
    ///
    /// Whatever the network says.
    pub async fn new_order(&mut self, names: &[&str]) -> Result<Answer> {
        let identifiers: Vec<Value> = names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let url = self.resource("newOrder");
        self.post(&url, &json!({"identifiers": identifiers})).await
    }

    /// The URL of a new certificate for one name, over http-01.
    ///
    /// # Errors
    ///
    /// The answer that was not the one expected.
    pub async fn obtain(&mut self, responder: &Responder, name: &str) -> Result<String> {
        let order = self.new_order(&[name]).await?.expect_status(201)?;
        for url in authorizations(&order.json()) {
            let authorization = self.read(&url).await?.expect_status(200)?;
            let (url, token) = challenge(&authorization.json(), "http-01")?;
            responder.put(&token, self.key_authorization(&token));
            self.post(&url, &json!({})).await?.expect_status(200)?;
        }
        let asked = json!({ "csr": b64(csr(&[name])?) });
        self.post(&order.text("finalize")?, &asked).await?.expect_status(200)?.text("certificate")
    }

    /// The key authorization of a token.
    #[must_use]
    pub fn key_authorization(&self, token: &str) -> String {
        format!("{token}.{}", self.key.thumbprint())
    }

    /// What the TXT record of a token holds (RFC 8555 §8.4).
    #[must_use]
    pub fn dns_value(&self, token: &str) -> String {
        b64(digest(&SHA256, self.key_authorization(token).as_bytes()))
    }
}

fn split(url: &str) -> Result<(String, String)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or("not a URL")?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    Ok((host.to_owned(), if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
}

/// A challenge of an authorization object: its URL and token.
///
/// # Errors
///
/// If the authorization offers none of that type.
pub fn challenge(authorization: &Value, kind: &str) -> Result<(String, String)> {
    let challenges = authorization.get("challenges").and_then(Value::as_array).ok_or("no challenges")?;
    let found = challenges
        .iter()
        .find(|challenge| challenge.get("type").and_then(Value::as_str) == Some(kind))
        .ok_or_else(|| format!("no {kind} in {authorization}"))?;
    let text = |member: &str| found.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((text("url"), text("token")))
}

/// The URLs of an order's authorizations.
#[must_use]
pub fn authorizations(order: &Value) -> Vec<String> {
    let list = order.get("authorizations").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

/// A CSR with a new P-256 key for DNS names, in DER.
///
/// # Errors
///
/// If it cannot be made.
pub fn csr(names: &[&str]) -> Result<Vec<u8>> {
    let key = rcgen::KeyPair::generate()?;
    csr_with(&key, names)
}

/// A CSR with a given key for DNS names, in DER.
///
/// # Errors
///
/// If it cannot be made.
pub fn csr_with(key: &rcgen::KeyPair, names: &[&str]) -> Result<Vec<u8>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
