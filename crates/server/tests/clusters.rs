//! A cluster asks a real server over HTTPS: a certificate that OpenSSL takes, the same one again whatever happens
//! between, and what is refused.

#[path = "clusters/content.rs"]
mod content;
#[path = "clusters/readers.rs"]
mod readers;
#[path = "clusters/team_ca.rs"]
mod team_ca;

use std::{fs, path::Path, process::Command};

use chancery_api::{ErrorBody, RefusalReason, SignedCertificate, SignerInfo, SigningState};
use chancery_harness::{
    Result,
    client::{Answer, Client, Target, csr, trust},
    responder::Responder,
    server::{POLICY, Server, Setup, succeeded},
};
use josekit::{
    jws::{JwsHeader, RS256},
    jwt::{self, JwtPayload},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

const CLUSTER: &str = r#"
[[cluster]]
name = "prod-eu"
authority = "issuing"
profiles = ["server"]
"#;

fn setup(more: &str) -> Setup {
    let rule = "  - name: cluster-names\n    allow: { names: [\"**.cluster.test\"] }\n    for: { cluster: prod-eu }\n";
    Setup { policy: format!("{POLICY}{rule}"), configuration: format!("{CLUSTER}{more}"), ..Setup::default() }
}

/// A token that `chancery cluster token create` printed.
async fn token(server: &Server, more: &[&str]) -> Result<(String, String)> {
    let made = server.json(&[&["cluster", "token", "create", "prod-eu"], more].concat()).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("no text");
    let id = made.pointer("/token/id").ok_or("no id")?;
    Ok((text(made.get("secret").ok_or("no secret")?)?, text(id)?))
}

/// Someone who speaks to the API with this credential.
struct Controller {
    client: Client,
    base: String,
    authorization: Option<String>,
}

impl Controller {
    async fn with_token(server: &Server, token: &str) -> Result<Self> {
        Self::of(server, server.target()?, Some(format!("Bearer {token}"))).await
    }

    async fn of(server: &Server, target: Target, authorization: Option<String>) -> Result<Self> {
        let directory = server.directory();
        let base = directory.split("/acme/").next().unwrap_or_default().to_owned();
        Ok(Self { client: Client::connect(target).await?, base, authorization })
    }

    async fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let authorization = self.authorization.clone();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
        self.client.send_with(method, &url, &headers, body.as_bytes().to_vec()).await
    }

    async fn sign(&mut self, request: &Value) -> Result<SigningState> {
        let answer = self.call("POST", "/api/v1/signing-requests", &request.to_string()).await?.expect_status(200)?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    async fn signed(&mut self, request: &Value) -> Result<SignedCertificate> {
        match self.sign(request).await? {
            SigningState::Issued(signed) => Ok(signed),
            other => Err(format!("{other:?}").into()),
        }
    }
}

fn request(uid: &str, names: &[&str]) -> Result<Value> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(csr(names)?);
    let pem = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>();
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", pem.join("\n"));
    Ok(json!({
        "kind": "certificate-request",
        "uid": uid,
        "csr": pem,
        "origin": {"namespace": "shop", "name": format!("web-{uid}"), "certificate": "web",
            "issuer": {"kind": "ChanceryClusterIssuer", "name": "company"}}
    }))
}

/// OpenSSL says that a leaf stands below the root by way of the intermediates.
fn verifies(folder: &Path, signed: &SignedCertificate, host: &str) -> Result<()> {
    let (chain, root) = (folder.join("chain.pem"), folder.join("root.pem"));
    fs::write(&chain, &signed.chain)?;
    fs::write(&root, &signed.root)?;
    let output = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            host,
            "-no-CApath",
            "-no-CAstore",
        ])
        .args(["-CAfile".as_ref(), root.as_os_str(), "-untrusted".as_ref(), chain.as_os_str(), chain.as_os_str()])
        .output()?;
    succeeded(&output)
}

#[tokio::test]
async fn a_cluster_gets_a_certificate_that_verifies_and_the_same_one_after_kill_9() -> Result<()> {
    let mut server = Server::start(&setup("\n[log]\nlevel = \"trace\"\n")).await?;
    let (secret, id) = token(&server, &["--comment", "a test", "--namespace", "shop"]).await?;
    let mut controller = Controller::with_token(&server, &secret).await?;
    let asked = request("4a1c", &["web.cluster.test"])?;
    let first = controller.signed(&asked).await?;
    let folder = server.scratch("openssl")?;
    verifies(&folder, &first, "web.cluster.test")?;
    assert_eq!(first.root, fs::read_to_string(server.root_pem()?)?, "the offline root, apart from the chain");
    assert!(!first.chain.contains(first.root.trim()));
    assert_eq!(controller.signed(&asked).await?, first);

    server.kill().await?;
    server.serve().await?;
    let mut controller = Controller::with_token(&server, &secret).await?;
    assert_eq!(controller.signed(&asked).await?, first, "by token and UID, after kill -9");
    let got =
        controller.call("GET", "/api/v1/signing-requests/certificate-request/4a1c", "").await?.expect_status(200)?;
    assert_eq!(serde_json::from_slice::<SigningState>(&got.body)?, SigningState::Issued(first.clone()));

    let path = "/api/v1/signing-requests/certificate-request/4a1c";
    let used = json!({"used_by": ["Secret shop/web-tls", "Gateway shop/public"]}).to_string();
    controller.call("POST", &format!("{path}/usage"), &used).await?.expect_status(204)?;
    let listed = server.json(&["certificate", "list", "--cluster", "prod-eu", "--namespace", "shop"]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["used_by"], json!(["Secret shop/web-tls", "Gateway shop/public"]));
    assert_eq!((&listed[0]["certificate"], &listed[0]["serial"]), (&json!("web"), &json!(first.serial)));
    for _ in 0..2 {
        controller.call("POST", &format!("{path}/revoke"), r#"{"reason": 4}"#).await?.expect_status(204)?;
    }
    let shown = server.json(&["certificate", "show", &first.serial]).await?;
    assert_eq!(shown["revoked"]["reason"], "superseded");

    // The same from the ledger alone.
    server.stop().await?;
    server.printed(&["store", "rebuild", "--yes"]).await?;
    server.serve().await?;
    let mut controller = Controller::with_token(&server, &secret).await?;
    let SigningState::Refused { message, .. } = controller.sign(&asked).await? else {
        return Err("a certificate that is revoked, by token and UID, after a rebuild".into());
    };
    assert!(message.contains("was revoked at"), "{message}");
    let listed = server.json(&["certificate", "list", "--cluster", "prod-eu", "--namespace", "shop"]).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");

    server.printed(&["cluster", "token", "revoke", &id, "--yes"]).await?;
    controller.call("GET", "/api/v1/signer", "").await?.expect_status(401)?;
    let tokens = server.json(&["cluster", "token", "list"]).await?;
    assert_eq!((&tokens[0]["state"], &tokens[0]["id"]), (&json!("revoked"), &json!(id)));
    server.stop().await?;

    // Nothing that was written tells the token.
    let secret = secret.trim_start_matches("chancery_");
    let told = String::from_utf8_lossy(&fs::read(server.log())?).into_owned();
    assert!(told.contains("an API token was made") && !told.contains(secret));
    assert!(!tokens.to_string().contains(secret));
    Ok(())
}

#[tokio::test]
async fn what_is_refused_is_said_in_words_and_strangers_are_told_nothing() -> Result<()> {
    let mut server = Server::start(&setup("")).await?;
    let (secret, _) = token(&server, &[]).await?;
    let mut controller = Controller::with_token(&server, &secret).await?;
    let refused = controller.sign(&request("1", &["web.cluster.test", "secret.denied.test"])?).await?;
    let SigningState::Refused { reason: RefusalReason::Policy, message, rule } = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert_eq!(rule.as_deref(), Some("not-this-one"));
    assert!(message.contains("secret.denied.test") && message.contains("TEST-1"), "{message}");
    let mut other_profile = request("2", &["web.cluster.test"])?;
    other_profile["profile"] = json!("gateway");
    let SigningState::Refused { reason: RefusalReason::Profile, message, .. } = controller.sign(&other_profile).await?
    else {
        return Err("a profile that the cluster may not ask for".into());
    };
    assert!(message.contains("profile gateway is not among those that"), "{message}");

    let info = controller.call("GET", "/api/v1/signer", "").await?.expect_status(200)?;
    let info: SignerInfo = serde_json::from_slice(&info.body)?;
    assert_eq!((&*info.cluster, info.namespaces, info.profiles.len()), ("prod-eu", None, 1));
    assert_eq!(info.roots, fs::read_to_string(server.root_pem()?)?);
    assert_eq!(info.not_issuing, Vec::<String>::new());

    for wrong in ["", "chancery_", &format!("{secret}A"), "a.b.c"] {
        let mut stranger = Controller::with_token(&server, wrong).await?;
        let answer = stranger.call("GET", "/api/v1/signer", "").await?.expect_status(401)?;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let error: ErrorBody = serde_json::from_slice(&answer.body)?;
        assert_eq!(error.code, "unauthorized");
    }
    let mut nobody = Controller::of(&server, server.target()?, None).await?;
    nobody.call("POST", "/api/v1/signing-requests", "{}").await?.expect_status(401)?;
    // What operators have is not there, with a credential or without.
    for path in ["/v1/status", "/v1/cluster-tokens", "/metrics", "/api/v1/status"] {
        let expected = if path.starts_with("/api/v1/") { 401 } else { 404 };
        nobody.call("GET", path, "").await?.expect_status(expected)?;
        controller.call("GET", path, "").await?.expect_status(404)?;
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_service_account_is_known_by_the_clusters_keys_in_a_file() -> Result<()> {
    let token = r#"token = { issuer = "https://kubernetes.test", audience = "chancery/prod-eu", accounts = ["chancery/issuer"], own_namespace_account = "tenant", keys = "prod-eu.jwks" }"#;
    let mut server = Server::prepare(&setup(token)).await?;
    let key = RS256.generate_key_pair(2048)?;
    let mut public = key.to_jwk_public_key();
    public.set_key_id("one");
    fs::write(server.path().join("prod-eu.jwks"), json!({"keys": [Value::from(public.as_ref().clone())]}).to_string())?;
    server.printed(&["check"]).await?;
    server.serve().await?;
    let signer = RS256.signer_from_der(key.to_der_private_key())?;
    let of = |account: &str, audience: &str| -> Result<String> {
        let mut header = JwsHeader::new();
        header.set_key_id("one");
        let mut payload = JwtPayload::new();
        payload.set_issuer("https://kubernetes.test");
        payload.set_audience(vec![audience]);
        payload.set_subject(format!("system:serviceaccount:{account}"));
        #[expect(clippy::disallowed_methods, reason = "the server goes by the real time")]
        let now = std::time::SystemTime::now();
        payload.set_expires_at(&(now + std::time::Duration::from_secs(600)));
        Ok(jwt::encode_with_signer(&payload, &header, &signer)?)
    };
    let mut whole = Controller::with_token(&server, &of("chancery:issuer", "chancery/prod-eu")?).await?;
    whole.signed(&request("1", &["web.cluster.test"])?).await?;
    // One namespace's account speaks for that namespace alone.
    let mut shop = Controller::with_token(&server, &of("shop:tenant", "chancery/prod-eu")?).await?;
    shop.signed(&request("2", &["web.cluster.test"])?).await?;
    let mut payments = Controller::with_token(&server, &of("payments:tenant", "chancery/prod-eu")?).await?;
    let refused = payments.sign(&request("3", &["web.cluster.test"])?).await?;
    assert!(matches!(refused, SigningState::Refused { reason: RefusalReason::Policy, .. }), "{refused:?}");
    for (account, audience) in [("chancery:other", "chancery/prod-eu"), ("chancery:issuer", "https://kubernetes.test")]
    {
        let mut other = Controller::with_token(&server, &of(account, audience)?).await?;
        other.call("GET", "/api/v1/signer", "").await?.expect_status(401)?;
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn two_clusters_whose_clients_stand_below_one_ca_are_refused_at_load() -> Result<()> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "clients");
    let key = rcgen::KeyPair::generate()?;
    let first = params.self_signed(&key)?;
    // Another certificate of the same key is the same CA.
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "renewed");
    let second = params.self_signed(&key)?;
    let one = r#"client_certificates = { ca = "one.pem", names = ["issuer.prod-eu.test"] }"#;
    let two = "\n[[cluster]]\nname = \"prod-us\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n\
               client_certificates = { ca = \"two.pem\", names = [\"issuer.prod-us.test\"] }\n";
    let server = Server::prepare(&setup(&format!("{one}{two}"))).await?;
    fs::write(server.path().join("one.pem"), first.pem())?;
    fs::write(server.path().join("two.pem"), second.pem())?;
    for command in ["check", "serve"] {
        let refused = server.command(&[command]).await?;
        let said = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
        assert!(!refused.status.success() && said.contains("give each cluster a CA of its own"), "{command}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_taken_below_the_clusters_ca_and_acme_clients_need_none() -> Result<()> {
    let clients = r#"client_certificates = { ca = "clients.pem", names = ["issuer.prod-eu.test"] }"#;
    let responder = Responder::start().await?;
    let mut server = Server::prepare(&Setup { http_port: responder.port(), ..setup(clients) }).await?;
    let ca = |name: &str| -> Result<(rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>)> {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok((certificate, rcgen::Issuer::new(params, key)))
    };
    let (certificate, issuer) = ca("clients of prod-eu")?;
    fs::write(server.path().join("clients.pem"), certificate.pem())?;
    server.serve().await?;
    let roots = fs::read(server.root_pem()?)?;
    let client = |issuer: &rcgen::Issuer<'static, rcgen::KeyPair>, name: &str| -> Result<Target> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, issuer)?;
        let trusted = trust(&roots)?;
        let mut tls = (*trusted).clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let certified = std::sync::Arc::new(rustls::sign::CertifiedKey::new(chain, key));
        tls.client_auth_cert_resolver = std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        Ok(Target { tls: tls.into(), ..server.target()? })
    };
    let mut controller = Controller::of(&server, client(&issuer, "issuer.prod-eu.test")?, None).await?;
    let signed = controller.signed(&request("1", &["web.cluster.test"])?).await?;
    let shown = server.json(&["certificate", "show", &signed.serial]).await?;
    assert_eq!(shown["cluster"], "prod-eu");
    // Another name of the same authority is nobody, and so is another authority's certificate.
    let mut other = Controller::of(&server, client(&issuer, "other.prod-eu.test")?, None).await?;
    other.call("GET", "/api/v1/signer", "").await?.expect_status(401)?;
    let (_, foreign) = ca("clients of somebody else")?;
    let foreign = client(&foreign, "issuer.prod-eu.test")?;
    let mut stranger = Controller::of(&server, foreign, None).await?;
    stranger.call("GET", "/api/v1/signer", "").await?.expect_status(401)?;
    // ACME goes on as before.
    let mut client = server.client().await?;
    client.obtain(&responder, "plain.test").await?;
    server.stop().await?;
    Ok(())
}
