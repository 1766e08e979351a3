//! Real ACME clients against the real binary: certbot, lego, instant-acme, and our own where a
//! test needs to see every answer.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod dns01;
mod eab;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Output,
};

use chancery_harness::{
    Result,
    client::{authorizations, b64, challenge, csr_with},
    responder::Responder,
    server::{Server, Setup, free_port, succeeded},
};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use serde_json::{Value, json};
use tokio::process::Command;

/// A program that a test needs, or a loud word that the test is skipped.
fn program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        // Straight to the stream: what a passing test prints through the macro is kept from everybody.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: there is no {name} on this machine (tests/run provides it; {variable} names another)"
        );
    }
    found
}

async fn openssl_verifies(server: &Server, leaf: &Path, chain: &Path) -> Result<()> {
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(server.root_pem()?)
        .arg("-untrusted")
        .arg(chain)
        .arg(leaf)
        .output()
        .await?;
    succeeded(&output)
}

#[tokio::test]
async fn instant_acme_obtains_a_certificate_that_openssl_verifies() -> Result<()> {
    let responder = Responder::start().await?;
    let server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let (account, _credentials) = Account::builder_with_root(server.root_pem()?)?
        .create(
            &NewAccount {
                contact: &["mailto:a@example.test"],
                terms_of_service_agreed: true,
                only_return_existing: false,
            },
            server.directory(),
            None,
        )
        .await?;
    let names = [Identifier::Dns("one.test".to_owned()), Identifier::Dns("two.test".to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut pending = order.authorizations();
    while let Some(authorization) = pending.next().await {
        let mut authorization = authorization?;
        assert_eq!(authorization.status, AuthorizationStatus::Pending);
        let mut challenge = authorization.challenge(ChallengeType::Http01).ok_or("no http-01")?;
        responder.put(&challenge.token.clone(), challenge.key_authorization().as_str().to_owned());
        challenge.set_ready().await?;
    }
    assert_eq!(order.poll_ready(&RetryPolicy::default()).await?, OrderStatus::Ready);
    order.finalize().await?;
    let pem = order.poll_certificate(&RetryPolicy::default()).await?;
    let folder = server.scratch("instant-acme")?;
    fs::write(folder.join("chain.pem"), &pem)?;
    openssl_verifies(&server, &folder.join("chain.pem"), &folder.join("chain.pem")).await
}

#[tokio::test]
async fn a_flow_is_five_posts_and_needs_no_polling() -> Result<()> {
    let responder = Responder::start().await?;
    let server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    let order = client.new_order(&["five.test"]).await?.expect_status(201)?;
    let authorization = client.read(&authorizations(&order.json())[0]).await?.expect_status(200)?.json();
    let (url, token) = challenge(&authorization, "http-01")?;
    responder.put(&token, client.key_authorization(&token));
    let answered = client.post(&url, &json!({})).await?.expect_status(200)?;
    assert_eq!(answered.text("status")?, "valid");
    let finalize = order.text("finalize")?;
    let csr = csr_with(&rcgen::KeyPair::generate()?, &["five.test"])?;
    let valid = client.post(&finalize, &json!({ "csr": b64(&csr) })).await?.expect_status(200)?;
    assert_eq!(valid.text("status")?, "valid");
    client.read(&valid.text("certificate")?).await?.expect_status(200)?;
    // A finalize that is repeated is refused and leads to nothing (RFC 8555 §7.4).
    let again = client.post(&finalize, &json!({ "csr": b64(&csr) })).await?;
    assert_eq!((again.status, again.problem().as_str()), (403, "orderNotReady"));
    Ok(())
}

#[tokio::test]
async fn a_refusal_names_the_rule_for_each_name_that_is_refused() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    let mut client = server.client().await?;
    let refused = client.new_order(&["fine.test", "secret.denied.test", "outside.example.com"]).await?;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "rejectedIdentifier"));
    let problem = refused.json();
    let subproblems = problem.get("subproblems").and_then(Value::as_array).ok_or("no subproblems")?;
    let text = serde_json::to_string(subproblems)?;
    assert_eq!(subproblems.len(), 2, "{text}");
    assert!(text.contains("not-this-one") && text.contains("TEST-1") && !text.contains("fine.test"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    let certificate = client.obtain(&responder, "kept.test").await?;
    let before = client.read(&certificate).await?.expect_status(200)?.body;
    assert!(server.stop().await?.success());
    server.serve().await?;
    client.nonce = None;
    assert_eq!(client.read(&certificate).await?.expect_status(200)?.body, before);
    server.kill().await?;
    server.serve().await?;
    client.nonce = None;
    assert_eq!(client.read(&certificate).await?.expect_status(200)?.body, before);
    let verified = server.printed(&["ledger", "verify"]).await?;
    assert!(!verified.is_empty());
    Ok(())
}

struct Certbot {
    program: PathBuf,
    folder: PathBuf,
    root: PathBuf,
    directory: String,
}

impl Certbot {
    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let at = |name: &str| self.folder.join(name);
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--config-dir")
            .arg(at("etc"))
            .arg("--work-dir")
            .arg(at("work"))
            .arg("--logs-dir")
            .arg(at("log"))
            .arg("--non-interactive")
            .env("REQUESTS_CA_BUNDLE", &self.root)
            .output()
            .await?;
        Ok(output)
    }

    /// Obtains a certificate for these names over http-01, answered at this port.
    async fn obtain(&self, port: u16, names: &[&str]) -> Result<Output> {
        let port = port.to_string();
        let mut arguments = vec!["certonly", "--server", &self.directory, "--agree-tos", "-m", "a@example.test"];
        arguments.extend(["--no-eff-email", "--standalone", "--http-01-port", &port, "--http-01-address", "127.0.0.1"]);
        arguments.extend(names.iter().flat_map(|name| ["-d", name]));
        self.run(&arguments).await
    }

    /// Revokes a certificate and keeps its files.
    async fn revoke(&self, which: &[&str], reason: &str) -> Result<()> {
        let arguments = ["revoke", "--server", &self.directory, "--reason", reason, "--no-delete-after-revoke"];
        succeeded(&self.run(&[&arguments, which].concat()).await?)
    }
}

/// A server, certbot beside it, and the port where it looks for http-01; nothing where there is no certbot.
async fn certbot_over_http_01() -> Result<Option<(Server, Certbot, u16)>> {
    let Some(program) = program("CHANCERY_CERTBOT", "certbot") else { return Ok(None) };
    let port = free_port().await?;
    let server = Server::start(&Setup { http_port: port, ..Setup::default() }).await?;
    let (folder, root, directory) = (server.scratch("certbot")?, server.root_pem()?, server.directory());
    Ok(Some((server, Certbot { program, folder, root, directory }, port)))
}

#[tokio::test]
async fn certbot_obtains_renews_and_revokes_over_http_01() -> Result<()> {
    let Some((server, certbot, port)) = certbot_over_http_01().await? else { return Ok(()) };
    let output = certbot.obtain(port, &["h1.test", "h2.test"]).await?;
    succeeded(&output)?;
    let live = certbot.folder.join("etc/live/h1.test");
    openssl_verifies(&server, &live.join("cert.pem"), &live.join("chain.pem")).await?;
    let first = fs::read(live.join("cert.pem"))?;
    succeeded(&certbot.run(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]).await?)?;
    assert_ne!(fs::read(live.join("cert.pem"))?, first);
    certbot.revoke(&["--cert-name", "h1.test"], "superseded").await?;
    let listed = server.printed(&["certificate", "list", "--name", "h1.test", "--output", "json"]).await?;
    assert!(listed.contains("superseded"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn certbot_replaces_what_an_operator_revoked_since_its_renewal_information_says_so() -> Result<()> {
    let Some((server, certbot, port)) = certbot_over_http_01().await? else { return Ok(()) };
    for name in ["ari.test", "fine.test"] {
        succeeded(&certbot.obtain(port, &[name]).await?)?;
    }
    let certificate = |name: &str| fs::read(certbot.folder.join("etc/live").join(name).join("cert.pem"));
    let (revoked, fine) = (certificate("ari.test")?, certificate("fine.test")?);
    let listed = server.json(&["certificate", "list", "--name", "ari.test"]).await?;
    let serial = listed[0]["serial"].as_str().ok_or("no serial")?;
    server.printed(&["certificate", "revoke", serial, "--reason", "superseded", "--yes"]).await?;
    succeeded(&certbot.run(&["renew", "--no-random-sleep-on-renew"]).await?)?;
    assert_ne!(certificate("ari.test")?, revoked, "certbot was to replace it");
    assert_eq!(certificate("fine.test")?, fine, "and nothing else");
    let log = fs::read_to_string(certbot.folder.join("log/letsencrypt.log"))?;
    assert!(log.contains("/renewal-info/") && !log.contains("error occurred requesting ACME Renewal"), "{log}");
    Ok(())
}

#[tokio::test]
async fn certbot_revokes_by_the_certificates_own_key() -> Result<()> {
    let Some((server, certbot, port)) = certbot_over_http_01().await? else { return Ok(()) };
    succeeded(&certbot.obtain(port, &["own.test"]).await?)?;
    let live = certbot.folder.join("etc/live/own.test");
    let (cert, key) = (live.join("cert.pem").display().to_string(), live.join("privkey.pem").display().to_string());
    certbot.revoke(&["--cert-path", &cert, "--key-path", &key], "keycompromise").await?;
    let listed = server.printed(&["certificate", "list", "--name", "own.test", "--output", "json"]).await?;
    assert!(listed.contains("keyCompromise"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn lego_obtains_a_certificate_over_tls_alpn_01() -> Result<()> {
    let Some(program) = program("CHANCERY_LEGO", "lego") else { return Ok(()) };
    let port = free_port().await?;
    let server = Server::start(&Setup { tls_alpn_port: port, ..Setup::default() }).await?;
    let folder = server.scratch("lego")?;
    let output = Command::new(program)
        .args(["--server", &server.directory(), "--accept-tos", "--email", "a@example.test", "--path"])
        .arg(&folder)
        .args(["--tls", "--tls.port", &format!("127.0.0.1:{port}"), "-d", "t1.test", "run"])
        .env("LEGO_CA_CERTIFICATES", server.root_pem()?)
        .output()
        .await?;
    succeeded(&output)?;
    let certificates = folder.join("certificates");
    openssl_verifies(&server, &certificates.join("t1.test.crt"), &certificates.join("t1.test.issuer.crt")).await
}
