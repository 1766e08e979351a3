//! An answer to finalize that is lost: cert-manager finalizes again, is told that the order is not ready any more, reads
//! it, and takes the one certificate that there is.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use chancery_cluster_tests::Result;
use chancery_harness::{
    client::{Target, trust},
    server::{Server, Setup, free_port},
    wire::Wire,
};
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1 as client,
    server::conn::http1 as server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Acme;
use crate::conformance::{Ground, Trust, faults};

/// Stands between cert-manager and a server, and loses answers.
#[derive(Clone)]
struct Door {
    /// The server behind it.
    behind: Target,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Each finalize and what the server answered to it.
    finalized: Vec<u16>,
    /// Requests whose answer is still to be lost.
    lose: usize,
}

impl Door {
    /// Opens it; its own certificate in PEM.
    fn open(&self, at: SocketAddr) -> Result<String> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der())?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let door = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (door, acceptor) = (door.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let door = door.clone();
                        async move { door.pass(request).await }
                    });
                    // A connection whose answer is lost ends with an error.
                    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(certificate.pem())
    }

    async fn pass(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let finalizes = request.uri().path().ends_with("/finalize");
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        head.headers.insert(HOST, HeaderValue::from_static("localhost"));
        let Ok(wire) = Wire::connect(&self.behind, &["http/1.1"]).await else {
            return Err(io::Error::other("the server behind the door is away"));
        };
        let (mut sender, connection) =
            client::handshake(TokioIo::new(wire.into_stream())).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let sent = sender.send_request(Request::from_parts(head, Full::new(body))).await;
        let (head, body) = sent.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if finalizes {
            state.finalized.push(head.status.as_u16());
            if state.finalized.len() == 1 {
                // This one, and the look at the order with which cert-manager tries to find out.
                state.lose = 2;
            }
        }
        if state.lose > 0 {
            state.lose -= 1;
            return Err(io::Error::other("lost"));
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }

    fn finalized(&self) -> Vec<u16> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).finalized.clone()
    }
}

/// A server whose URL leads to a door in front of it, which is at the address given here.
async fn behind_a_door() -> Result<(Server, Target, SocketAddr)> {
    let configuration = "\n[[directory]]\nname = \"teams\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n\
        external_account = \"required\"\npreauthorized = true\n";
    let policy = "version: v1\nrules:\n  - name: own\n    allow: { names: [localhost] }\n    for: { door: own-tls }\n  \
        - name: team-names\n    allow: { names: [\"**.teams.test\"] }\n    for: { directory: teams }\n";
    let setup = Setup { policy: policy.to_owned(), configuration: configuration.to_owned(), ..Setup::default() };
    let mut server = Server::prepare(&setup).await?;
    let mut target = server.target()?;
    let door = target.address.parse()?;
    let inner = format!("127.0.0.1:{}", free_port().await?);
    let file = server.configuration();
    let listens = format!("https = \"{}\"", target.address);
    let configuration = fs::read_to_string(&file)?;
    if !configuration.contains(&listens) {
        return Err(format!("no {listens} in the configuration").into());
    }
    fs::write(&file, configuration.replace(&listens, &format!("https = \"{inner}\"")))?;
    server.serve().await?;
    target.address = inner;
    target.tls = trust(&fs::read(server.root_pem()?)?)?;
    Ok((server, target, door))
}

#[tokio::test]
async fn a_finalize_whose_answer_was_lost_is_repeated_and_leads_to_the_one_certificate() -> Result<()> {
    let Some(ground) = Ground::new("acme-replay").await? else { return Ok(()) };
    let (server, behind, at) = behind_a_door().await?;
    let door = Door { behind, state: Arc::default() };
    let own = door.open(at)?;
    let root = fs::read_to_string(server.root_pem()?)?;
    let (id, secret) = server.eab_key("team", &[]).await?;
    let directory = server.directory_of("teams");
    let roots = format!("{root}\n{own}");
    let acme = Acme { directory: &directory, roots: &roots, key: Some((&id, &secret)), more: json!({}) };
    ground.acme_issuer("lossy", &acme).await?;
    let issuer = ground.until_acme_issuer_is_ready("lossy").await?;
    ground.ask("web", &issuer, &json!({ "dnsNames": ["web.teams.test"] })).await?;
    let issued = ground.issued("web", 1).await?;
    assert_eq!(faults(&issued, &Trust { root: &root, acme: true })?, Vec::<String>::new());
    assert_eq!(door.finalized(), [200, 403], "what the server answered to finalize");
    let listed = server.json(&["certificate", "list", "--name", "web.teams.test"]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    Ok(())
}
