//! The client of the local socket: one connection, one request at a time.

use std::{
    io,
    path::{Path, PathBuf},
};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::eab::{EabKeyList, EabKeyMade, EabKeyView, EabLimitsChange, MakeEabKeyRequest, RevokeEabKeyRequest};
use crate::tokens::{MadeToken, MakeTokenRequest, TokenList, TokenView};
use crate::types::{
    AccountList, BackedUp, BackupRequest, CertificateFilter, CertificateList, CertificateView, ErrorBody, IssuanceList,
    IssuanceQuery, PageQuery, Reloaded, RevokeRequest, Revoked, Status,
};

/// Longest answer that is read, in bytes: a page of certificates with their PEM stays far below.
const ANSWER_MAX: usize = 16 << 20;

/// Speaks to the running server over its local socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    sender: http1::SendRequest<Full<Bytes>>,
}

/// A call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no server listens on {}: {source}; start it with `chancery serve`", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {} broke: {why}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        why: String,
    },
    /// The server said no.
    #[error("{}", body.message)]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        body: ErrorBody,
    },
    /// The answer is not what this client expects: another version, most likely.
    #[error("the server's answer cannot be read: {why}; are server and command of the same version?")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

impl Client {
    /// Connects to the socket of a running server.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] if nobody listens there.
    pub async fn local(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| ClientError::NotRunning { socket: socket.to_owned(), source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Broken { socket: socket.to_owned(), why: error.to_string() })?;
        // The connection ends with the sender; what breaks it is told to the request that is under way.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { socket: socket.to_owned(), sender })
    }

    /// How the server is.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn status(&mut self) -> Result<Status, ClientError> {
        self.get("/v1/status", &()).await
    }

    /// Takes the configuration's files again.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if they are broken; what was in force stays.
    pub async fn reload(&mut self) -> Result<Reloaded, ClientError> {
        self.post("/v1/reload", &serde_json::Map::new()).await
    }

    /// Backs up while the server runs.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the folder cannot take it.
    pub async fn backup(&mut self, request: &BackupRequest) -> Result<BackedUp, ClientError> {
        self.post("/v1/backup", request).await
    }

    /// A page of accounts.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn accounts(&mut self, page: &PageQuery) -> Result<AccountList, ClientError> {
        self.get("/v1/accounts", page).await
    }

    /// A page of certificates.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn certificates(&mut self, filter: &CertificateFilter) -> Result<CertificateList, ClientError> {
        self.get("/v1/certificates", filter).await
    }

    /// What the ledger says of issuances, in a part of it.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn issuances(&mut self, part: &IssuanceQuery) -> Result<IssuanceList, ClientError> {
        self.get("/v1/issuances", part).await
    }

    /// One certificate, by its id or by its serial number, with its PEM.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none.
    pub async fn certificate(&mut self, id: &str) -> Result<CertificateView, ClientError> {
        self.get(&format!("/v1/certificates/{}", path_segment(id)), &()).await
    }

    /// Revokes a certificate.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none, or it is revoked already.
    pub async fn revoke(&mut self, id: &str, request: &RevokeRequest) -> Result<Revoked, ClientError> {
        self.post(&format!("/v1/certificates/{}/revoke", path_segment(id)), request).await
    }

    /// Makes an API token for a cluster.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is no such cluster, or it may not have what was asked for.
    pub async fn make_token(&mut self, request: &MakeTokenRequest) -> Result<MadeToken, ClientError> {
        self.post("/v1/cluster-tokens", request).await
    }

    /// A page of the API tokens of all clusters.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn tokens(&mut self, page: &PageQuery) -> Result<TokenList, ClientError> {
        self.get("/v1/cluster-tokens", page).await
    }

    /// Revokes an API token.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none, or it is revoked already.
    pub async fn revoke_token(&mut self, id: &str) -> Result<TokenView, ClientError> {
        self.post(&format!("/v1/cluster-tokens/{}/revoke", path_segment(id)), &serde_json::Map::new()).await
    }

    /// Makes an EAB key; the answer alone tells its secret.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if its id is taken, or it asks for what cannot be.
    pub async fn make_eab_key(&mut self, request: &MakeEabKeyRequest) -> Result<EabKeyMade, ClientError> {
        self.post("/v1/eab-keys", request).await
    }

    /// A page of EAB keys.
    ///
    /// # Errors
    ///
    /// [`ClientError`] as for every call.
    pub async fn eab_keys(&mut self, page: &PageQuery) -> Result<EabKeyList, ClientError> {
        self.get("/v1/eab-keys", page).await
    }

    /// One EAB key.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none.
    pub async fn eab_key(&mut self, id: &str) -> Result<EabKeyView, ClientError> {
        self.get(&format!("/v1/eab-keys/{}", path_segment(id)), &()).await
    }

    /// Gives an EAB key other limits.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none, it is revoked, or it asks for what cannot be.
    pub async fn limit_eab_key(&mut self, id: &str, change: &EabLimitsChange) -> Result<EabKeyView, ClientError> {
        self.post(&format!("/v1/eab-keys/{}/limit", path_segment(id)), change).await
    }

    /// Revokes an EAB key.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if there is none, or it is revoked already.
    pub async fn revoke_eab_key(&mut self, id: &str, request: &RevokeEabKeyRequest) -> Result<EabKeyView, ClientError> {
        self.post(&format!("/v1/eab-keys/{}/revoke", path_segment(id)), request).await
    }

    async fn get<A: DeserializeOwned>(&mut self, path: &str, query: &impl Serialize) -> Result<A, ClientError> {
        let query = query_string(query)?;
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        self.call(Method::GET, &target, Bytes::new()).await
    }

    async fn post<A: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(unreadable)?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<A: DeserializeOwned>(&mut self, method: Method, target: &str, body: Bytes) -> Result<A, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(unreadable)?;
        let broken = |socket: &Path, error: &dyn std::fmt::Display| ClientError::Broken {
            socket: socket.to_owned(),
            why: error.to_string(),
        };
        self.sender.ready().await.map_err(|error| broken(&self.socket, &error))?;
        let answer = self.sender.send_request(request).await.map_err(|error| broken(&self.socket, &error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| broken(&self.socket, &error))?
            .to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(unreadable);
        }
        let body = serde_json::from_slice(&body)
            .map_err(|_| ClientError::Unreadable { why: format!("status {status} without words") })?;
        Err(ClientError::Refused { status, body })
    }
}

fn unreadable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unreadable { why: error.to_string() }
}

/// The members of a flat object as a query string; null ones are left out.
fn query_string(query: &impl Serialize) -> Result<String, ClientError> {
    let serde_json::Value::Object(members) = serde_json::to_value(query).map_err(unreadable)? else {
        return Ok(String::new());
    };
    let mut text = String::new();
    for (key, value) in members {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(value) => value,
            other => other.to_string(),
        };
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&key);
        text.push('=');
        encode_into(&mut text, &value);
    }
    Ok(text)
}

/// One segment of a path, whatever is in it.
pub(crate) fn path_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text);
    encoded
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
fn encode_into(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(octet));
        } else {
            out.push('%');
            for nibble in [octet >> 4, octet & 0xf] {
                out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_a_query_with_everything_odd_encoded() {
        let filter = CertificateFilter {
            name: Some("*.a b/&=ü.example".to_owned()),
            pem: true,
            limit: Some(3),
            ..CertificateFilter::default()
        };
        assert_eq!(query_string(&filter).unwrap(), "name=%2A.a%20b%2F%26%3D%C3%BC.example&pem=true&limit=3");
    }

    #[test]
    fn an_empty_filter_is_no_query() {
        assert_eq!(query_string(&CertificateFilter::default()).unwrap(), "");
        assert_eq!(query_string(&()).unwrap(), "");
    }

    #[tokio::test]
    async fn a_socket_where_nobody_listens_is_said_so_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let error = Client::local(&folder.path().join("none.sock")).await.unwrap_err().to_string();
        assert!(error.contains("none.sock") && error.contains("chancery serve"), "{error}");
    }
}
