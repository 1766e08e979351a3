//! No secret is in anything that a whole run writes: logs at their loudest, answers, metrics, the output of every
//! command, the data folder, a backup. What is searched for is there in plain, in hexadecimal, in base64 and base64url
//! wherever it begins, and as the numbers that a debugger prints. The search shows on every run that it finds things.

mod search;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    encoding::AsBigEndian as _,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chancery_harness::{
    Result,
    client::{AccountKey, Answer, Client, b64, challenge, csr_with},
    responder::Responder,
    server::{Server, Setup, free_port},
    wire::{RawAnswer, Wire},
};
use http_body_util::Full;
use hyper::Request;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use self::search::Search;
use crate::{flow, rfc9113};

const PASSPHRASE: &str = "planted passphrase 9fK2 of the key files";
const LOUD_WITH_TEAMS: &str = "
[log]
level = \"trace\"
format = \"json\"

[[directory]]
name = \"teams\"
authority = \"issuing\"
profiles = [\"server\"]
external_account = \"required\"
preauthorized = true

[[cluster]]
name = \"prod-eu\"
authority = \"issuing\"
profiles = [\"server\"]
";
const VARIABLE: &str = "CHANCERY_TEST_PASSPHRASE";

/// Where the server has its passphrase from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    File,
    Environment,
    Credential,
}

#[tokio::test]
async fn nothing_that_a_run_writes_holds_a_secret_with_a_passphrase_from_a_file() -> Result<()> {
    nothing_holds_a_secret(From::File).await
}

#[tokio::test]
async fn nothing_that_a_run_writes_holds_a_secret_with_a_passphrase_from_the_environment() -> Result<()> {
    nothing_holds_a_secret(From::Environment).await
}

#[tokio::test]
async fn nothing_that_a_run_writes_holds_a_secret_with_a_passphrase_from_a_credential() -> Result<()> {
    nothing_holds_a_secret(From::Credential).await
}

async fn nothing_holds_a_secret(from: From) -> Result<()> {
    let mut run = Run::start(from).await?;
    run.issue("seen.test").await?;
    run.refusals().await?;
    run.eab_keys().await?;
    run.cluster_tokens().await?;
    run.planted_in_requests().await?;
    run.planted_on_other_doors().await?;
    run.commands().await?;
    run.broken_configurations().await?;
    run.server.stop().await?;
    run.judge()
}

/// A server at its loudest, and everything that anybody was told.
struct Run {
    server: Server,
    responder: Responder,
    client: Client,
    plain: String,
    from: From,
    search: Search,
    told: Vec<u8>,
    /// Where systemd would put credentials, outside of what is searched.
    _credentials: tempfile::TempDir,
}

impl Run {
    async fn start(from: From) -> Result<Self> {
        let responder = Responder::start().await?;
        let credentials = tempfile::tempdir()?;
        let environment = match from {
            From::File => Vec::new(),
            From::Environment => vec![(VARIABLE.to_owned(), PASSPHRASE.to_owned())],
            From::Credential => vec![("CREDENTIALS_DIRECTORY".to_owned(), credentials.path().display().to_string())],
        };
        let mut server = Server::prepare(&Setup {
            http_port: responder.port(),
            configuration: LOUD_WITH_TEAMS.to_owned(),
            passphrase: Some(PASSPHRASE.to_owned()),
            environment,
            ..Setup::default()
        })
        .await?;
        let plain = format!("127.0.0.1:{}", free_port().await?);
        let mut config = fs::read_to_string(server.configuration())?;
        config = config.replacen("[listen]\n", &format!("[listen]\nplain = \"{plain}\"\n"), 1);
        let file = server.passphrase_file();
        let by_file = format!("passphrase = {{ file = \"{}\" }}", file.display());
        assert!(config.contains(&by_file), "{config}");
        match from {
            From::File => {}
            From::Environment => {
                config = config.replace(&by_file, &format!("passphrase = {{ env = \"{VARIABLE}\" }}"));
                fs::remove_file(&file)?;
            }
            From::Credential => {
                config = config.replace(&by_file, "passphrase = { credential = \"chancery-passphrase\" }");
                fs::rename(&file, credentials.path().join("chancery-passphrase"))?;
            }
        }
        fs::write(server.configuration(), config)?;
        server.serve().await?;

        let mut search = Search::default();
        search.secret("the passphrase", PASSPHRASE);
        let keys = server.path().join("keys");
        search.secret("the issuing key", p256_scalar(&decrypted(&keys.join("issuing.key"), PASSPHRASE)?)?);
        search.secret("the ledger's key", ed25519_seed(&decrypted(&keys.join("ledger.key"), PASSPHRASE)?)?);
        search.secret("the key of EAB keys", ed25519_seed(&decrypted(&keys.join("eab.key"), PASSPHRASE)?)?);
        let offline = server.everything().join("ca-offline-root");
        let offline_passphrase = fs::read_to_string(offline.join("passphrase"))?;
        let root = decrypted(&offline.join("root.key"), offline_passphrase.trim())?;
        search.secret("the root's passphrase", offline_passphrase.trim());
        search.secret("the root's key", p256_scalar(&root)?);
        let tls = PrivatePkcs8KeyDer::from_pem_slice(&fs::read(server.path().join("tls.pem"))?)?;
        search.secret("the TLS key", p256_scalar(tls.secret_pkcs8_der())?);

        let mut client = Client::connect(server.target()?).await?;
        let account = rcgen::KeyPair::generate()?;
        search.secret("an account's key", p256_scalar(&account.serialize_der())?);
        client.key = AccountKey::from_pkcs8(&account.serialize_der())?;
        client.register().await?;
        Ok(Self { server, responder, client, plain, from, search, told: Vec::new(), _credentials: credentials })
    }

    /// Remembers what somebody was told.
    fn tell(&mut self, told: impl AsRef<[u8]>) {
        self.told.extend_from_slice(told.as_ref());
        self.told.push(b'\n');
    }

    fn tell_answer(&mut self, answer: &Answer) {
        self.tell(format!("{} {:?}", answer.status, answer.headers));
        self.tell(&answer.body);
    }

    /// A certificate, from the order to the revocation.
    async fn issue(&mut self, name: &str) -> Result<()> {
        let placed = self.client.new_order(&[name]).await?.expect_status(201)?;
        self.tell_answer(&placed);
        let order = placed.json();
        let url = order["authorizations"][0].as_str().ok_or("no URL")?;
        let authorization = self.client.read(url).await?.expect_status(200)?;
        let (url, token) = challenge(&authorization.json(), "http-01")?;
        self.responder.put(&token, self.client.key_authorization(&token));
        let answered = self.client.post(&url, &json!({})).await?.expect_status(200)?;
        self.tell_answer(&answered);
        let key = rcgen::KeyPair::generate()?;
        self.search.secret("a certificate's key", p256_scalar(&key.serialize_der())?);
        let finalized = flow::finalize_with(&mut self.client, &order, &csr_with(&key, &[name])?).await?;
        let finalized = finalized.expect_status(200)?;
        let pem = self.client.read(&finalized.text("certificate")?).await?.expect_status(200)?;
        self.tell_answer(&pem);
        let url = self.client.resource("revokeCert");
        let certificate = b64(flow::chain(&pem.body)?.remove(0));
        let revoked = self.client.post(&url, &json!({"certificate": certificate, "reason": 4})).await?;
        self.tell_answer(&revoked.expect_status(200)?);
        Ok(())
    }

    /// What policy, the protocol and the network refuse.
    async fn refusals(&mut self) -> Result<()> {
        let refused = self.client.new_order(&["secret.denied.test", "outside.example"]).await?;
        self.tell_answer(&refused);
        let placed = self.client.new_order(&["fails.test"]).await?.expect_status(201)?;
        let url = placed.json()["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
        let (url, token) = challenge(&self.client.read(&url).await?.json(), "http-01")?;
        self.search.secret("what an inner service said", "planted-body-of-an-inner-service");
        self.responder.put(&token, "planted-body-of-an-inner-service".to_owned());
        let failed = self.client.post(&url, &json!({})).await?.expect_status(200)?;
        assert_eq!(failed.text("status")?, "invalid");
        self.tell_answer(&failed);
        Ok(())
    }

    /// EAB keys: made, used rightly and wrongly, shown, limited, revoked. Only the command that made one shows its secret.
    async fn eab_keys(&mut self) -> Result<()> {
        for (id, further) in [("seen-team", &["--accounts", "2"][..]), ("revoked-team", &[])] {
            let (id, key) = self.server.eab_key(id, further).await?;
            self.search.secret("the secret of an EAB key", &key);
            self.search.secret("the secret of an EAB key", URL_SAFE_NO_PAD.decode(&key)?);
            let target = self.server.target()?.other_directory("teams");
            let mut client = Client::connect(target.clone()).await?;
            // Whoever takes the one for the other, and whoever sends it where a contact belongs.
            self.tell_answer(&client.register_bound(&key, &b64([7; 64])).await?);
            let url = client.resource("newAccount");
            self.tell_answer(&client.post(&url, &json!({"externalAccountBinding": key})).await?);
            self.tell_answer(&client.post(&url, &json!({"externalAccountBinding": {"protected": key}})).await?);
            let bound = client.register_bound(&id, &key).await?.expect_status(201)?;
            self.tell_answer(&bound);
            let order = client.new_order(&["seen.test"]).await?.expect_status(201)?;
            self.tell_answer(&flow::finalize(&mut client, &order.json(), &["seen.test"]).await?.0.expect_status(200)?);
            let mut stranger = Client::connect(target).await?;
            self.tell_answer(&stranger.register_bound(&id, &b64([9; 64])).await?);
        }
        for command in [
            "eab list",
            "eab list --output json",
            "eab show seen-team",
            "eab limit seen-team --accounts 3 --name **.test",
            "eab revoke revoked-team --accounts --yes",
        ] {
            let output = self.server.command(&command.split(' ').collect::<Vec<_>>()).await?;
            assert!(output.status.success(), "{command}: {output:?}");
            self.tell(&output.stdout);
            self.tell(&output.stderr);
        }
        Ok(())
    }

    /// API tokens of a cluster: made, used rightly and wrongly, listed, revoked. Only the command that made one shows it.
    async fn cluster_tokens(&mut self) -> Result<()> {
        let made = self.server.json(&["cluster", "token", "create", "prod-eu", "--comment", "seen.test"]).await?;
        let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or("no text");
        let (token, id) = (text("/secret")?, text("/token/id")?);
        self.search.secret("an API token", &token);
        let base = self.server.directory().split("/acme/").next().unwrap_or_default().to_owned();
        let (bearer, basic) = (format!("Bearer {token}"), format!("Basic {}", STANDARD.encode(format!("x:{token}"))));
        let path = format!("/api/v1/signing-requests/certificate-request/{token}");
        let query = format!("/api/v1/signer?token={token}");
        for (method, path, headers, status) in [
            ("GET", "/api/v1/signer", vec![("authorization", bearer.as_str())], 200),
            ("POST", "/api/v1/signing-requests", vec![("authorization", bearer.as_str())], 400),
            ("GET", "/api/v1/signer", vec![("authorization", bearer.as_str()), ("cookie", bearer.as_str())], 200),
            // Where it does not belong.
            ("GET", "/api/v1/signer", vec![("authorization", basic.as_str())], 401),
            ("GET", "/api/v1/signer", vec![("authorization", token.as_str())], 401),
            ("GET", "/api/v1/signer", vec![("x-api-key", token.as_str())], 401),
            ("GET", query.as_str(), vec![], 401),
            ("GET", path.as_str(), vec![("authorization", bearer.as_str())], 404),
        ] {
            let answer = self.client.send_with(method, &format!("{base}{path}"), &headers, b"{".to_vec()).await?;
            assert_eq!(answer.status, status, "{method} {path}");
            self.tell_answer(&answer);
        }
        for command in [&["cluster", "token", "list"][..], &["cluster", "token", "revoke", &id, "--yes"]] {
            let output = self.server.command(command).await?;
            assert!(output.status.success(), "{command:?}: {output:?}");
            self.tell(&output.stdout);
            self.tell(&output.stderr);
        }
        let (url, headers) = (format!("{base}/api/v1/signer"), [("authorization", bearer.as_str())]);
        let refused = self.client.send_with("GET", &url, &headers, Vec::new()).await?;
        self.tell_answer(&refused.expect_status(401)?);
        Ok(())
    }

    /// Requests that carry what they should not.
    async fn planted_in_requests(&mut self) -> Result<()> {
        let new_account = self.client.resource("newAccount");
        let new_order = self.client.resource("newOrder");
        let directory = self.server.directory();
        let private = rcgen::KeyPair::generate()?;
        let scalar = p256_scalar(&private.serialize_der())?;
        self.search.secret("a private key that was sent", &scalar);
        let mut answers = Vec::new();

        // A private JWK, as the key of a request and in a payload.
        let mut stranger = Client::connect(self.server.target()?).await?;
        stranger.key = AccountKey::from_pkcs8(&private.serialize_der())?;
        let mut jwk = stranger.key.jwk();
        jwk["d"] = json!(b64(&scalar));
        let nonce = stranger.take_nonce().await?;
        let protected = json!({"alg": "ES256", "jwk": jwk, "nonce": nonce, "url": new_account});
        let body = stranger.key.jws(&protected, "{}")?;
        answers.push(stranger.send("POST", &new_account, Some("application/jose+json"), body).await?);
        answers.push(self.client.post(&new_order, &json!({"identifiers": jwk})).await?);
        answers.push(self.client.post(&new_order, &json!({"identifiers": [], "profile": b64(&scalar)})).await?);

        // A private key where a JWS and where a CSR belongs.
        let pem = private.serialize_pem().into_bytes();
        answers.push(self.client.send("POST", &new_order, Some("application/jose+json"), pem.clone()).await?);
        answers.push(self.client.send("POST", &new_order, Some("application/x-pem-file"), pem.clone()).await?);
        let placed = self.client.new_order(&["pem.test"]).await?.expect_status(201)?;
        for sent in [b64(&pem), String::from_utf8(pem)?, b64(private.serialize_der())] {
            answers.push(self.client.post(&placed.text("finalize")?, &json!({ "csr": sent })).await?);
        }

        // Credentials of others, in headers, in the URL, in a payload.
        let headers = [
            ("authorization", "Bearer planted-bearer-token-5e1b"),
            ("cookie", "session=planted-cookie-8c2d"),
            ("x-api-key", "planted-api-key-77aa"),
            ("proxy-authorization", "Basic cGxhbnRlZC11c2VyOnBsYW50ZWQtcGFzc3dvcmQ="),
            ("content-type", "application/jose+json"),
        ];
        for (name, secret) in [
            ("a bearer token", "planted-bearer-token-5e1b"),
            ("a cookie", "planted-cookie-8c2d"),
            ("an API key", "planted-api-key-77aa"),
            ("a password", "planted-password"),
            ("a token in a query", "planted-query-token-03f4"),
            ("a token in a path", "planted-path-token-b6b6"),
            ("a password in a payload", "planted-payload-password-1d1d"),
        ] {
            self.search.secret(name, secret);
        }
        let query = format!("{directory}?token=planted-query-token-03f4");
        let path = directory.replace("/directory", "/order/planted-path-token-b6b6");
        for url in [&directory, &new_order, &query, &path] {
            answers.push(self.client.send_with("GET", url, &headers, Vec::new()).await?);
            answers.push(self.client.send_with("POST", url, &headers, b"{}".to_vec()).await?);
        }
        answers.push(
            self.client
                .post(&new_order, &json!({"identifiers": [], "password": "planted-payload-password-1d1d"}))
                .await?,
        );
        answers.push(self.client.post(&new_order, &json!({"identifiers": "planted-payload-password-1d1d"})).await?);
        for answer in &answers {
            self.tell_answer(answer);
        }

        let mut sender = rfc9113::connect(Wire::connect(&self.server.target()?, &["h2"]).await?).await?;
        for url in [&directory, &query, &path] {
            let request =
                headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
            let (answer, body) = rfc9113::send(&mut sender, request.body(Full::default())?).await?;
            self.tell(format!("{answer:?}"));
            self.tell(&body);
        }
        Ok(())
    }

    /// The same to where no TLS is spoken.
    async fn planted_on_other_doors(&mut self) -> Result<()> {
        let request = "GET /metrics?token=planted-query-token-03f4 HTTP/1.1\r\nHost: localhost\r\n\
            Authorization: Bearer planted-bearer-token-5e1b\r\nCookie: session=planted-cookie-8c2d\r\n\
            Connection: close\r\n\r\n";
        let mut socket = UnixStream::connect(self.server.path().join("chancery.sock")).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut said = Vec::new();
        socket.read_to_end(&mut said).await?;
        assert!(String::from_utf8_lossy(&said).contains("chancery_http_requests_total"));
        self.tell(&said);
        for path in ["/metrics", "/healthz", "/readyz", "/v1/status", "/planted-path-token-b6b6"] {
            let mut plain = TcpStream::connect(&self.plain).await?;
            plain.write_all(request.replace("/metrics", path).as_bytes()).await?;
            let mut said = Vec::new();
            plain.read_to_end(&mut said).await?;
            self.tell(&said);
        }
        let mut tls = Wire::plain(&self.server.target()?).await?;
        tls.write(request.as_bytes()).await;
        self.tell(tls.rest().await?);
        let mut broken = Wire::connect(&self.server.target()?, &["http/1.1"]).await?;
        broken.write(request.replace("HTTP/1.1", "HTTP/7").as_bytes()).await;
        let said = broken.rest().await?;
        assert!(RawAnswer::parse(&said).is_none_or(|answer| answer.status == 400));
        self.tell(said);
        Ok(())
    }

    /// Every command that an operator has.
    async fn commands(&mut self) -> Result<()> {
        let backup = self.server.scratch("backups")?.join("one").display().to_string();
        let csr = self.server.scratch("requests")?.join("issuing.csr").display().to_string();
        for command in [
            "status",
            "check",
            "reload",
            "certificate list",
            "certificate export",
            "account list",
            "ledger verify",
            "ledger show 0",
            "ledger key",
            "authority show",
            "authority csr --subject CN=Again --out",
            "policy check",
            "policy explain seen.test secret.denied.test",
            "policy explain localhost --door own-tls",
            "backup",
            "--help",
        ] {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            match command.split(' ').next() {
                Some("backup") => arguments.push(&backup),
                Some("authority") if command.ends_with("--out") => arguments.push(&csr),
                _ => {}
            }
            let output = self.server.command(&arguments).await?;
            // What policy refuses is an answer too.
            let refuses = command.contains("secret.denied.test");
            assert_eq!(output.status.code(), Some(if refuses { 3 } else { 0 }), "{command}: {output:?}");
            self.tell(&output.stdout);
            self.tell(&output.stderr);
        }
        Ok(())
    }

    /// Configurations that are refused and hold a secret: a passphrase where its place belongs, a typing error.
    async fn broken_configurations(&mut self) -> Result<()> {
        let good = fs::read_to_string(self.server.configuration())?;
        let line = good.lines().find(|line| line.starts_with("passphrase = ")).ok_or("no passphrase")?.to_owned();
        let secret = "planted-in-a-configuration-6b0e";
        self.search.secret("a secret in a broken configuration", secret);
        for broken in [
            format!("passphrase = \"{secret}\""),
            format!("passphrase = {secret}"),
            format!("passphrase = [\"{secret}\"]"),
            format!("passphrase = {{ text = \"{secret}\" }}"),
            format!("passphrase = {{ env = \"{secret}\" }}"),
            format!("passphrase = {{ credential = \"{secret}\" }}"),
            format!("passphrase = {{ credential = \"{secret}/\" }}"),
            format!("passphrase = {{ env = [\"{secret}\"] }}"),
            format!("passphrase = {{ env = \"{secret} }}"),
            format!("passphrase = {{ env = \"{VARIABLE}\" }}\nsecret = \"{secret}\""),
            format!("passphrase = {{ env = \"{VARIABLE}\" }}\n# {secret}\nnonsense"),
        ] {
            fs::write(self.server.configuration(), good.replace(&line, &broken))?;
            for command in ["reload", "check"] {
                let output = self.server.command(&[command]).await?;
                self.tell(&output.stdout);
                self.tell(&output.stderr);
                assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{broken}");
            }
        }
        fs::write(self.server.configuration(), good)?;
        Ok(())
    }

    /// Searches everything that was written and said.
    fn judge(self) -> Result<()> {
        let Self { server, from, mut search, told, .. } = self;
        fs::write(server.scratch("told")?.join("told"), told)?;
        // Not secret, and there to show that the search sees what it looks through.
        search.secret("a name", "seen.test");
        let found = search.below(server.everything())?;
        let of = |what: &str| -> BTreeSet<PathBuf> {
            found.iter().filter(|found| found.what == what).map(|found| found.file.clone()).collect()
        };
        let is_below = |files: &BTreeSet<PathBuf>, place: &str| files.iter().any(|file| file.starts_with(place));
        let named = of("a name");
        for place in ["server.log", "told/told", "ca/store", "backups/one"] {
            assert!(is_below(&named, place), "the search does not see what is in {place}: {named:?}");
        }
        // The places that these secrets have, and that are theirs alone.
        let places: &[(&str, &str)] = match from {
            From::File => &[("the passphrase", "passphrase"), ("the TLS key", "ca/tls.pem")],
            From::Environment | From::Credential => &[("the TLS key", "ca/tls.pem")],
        };
        let places = places.iter().chain(&[("the root's passphrase", "ca-offline-root/passphrase")]);
        let places: BTreeSet<(&str, PathBuf)> = places.map(|(what, file)| (*what, PathBuf::from(file))).collect();
        let seen: BTreeSet<(&str, PathBuf)> = found
            .iter()
            .filter(|found| found.what != "a name")
            .map(|found| (&*found.what, found.file.clone()))
            .collect();
        assert_eq!(seen, places, "{found:#?}");
        Ok(())
    }
}

/// The private key of a key file, by a reading of its format that shares no code with the server's.
fn decrypted(file: &Path, passphrase: &str) -> Result<Vec<u8>> {
    let stored: Value = serde_json::from_slice(&fs::read(file)?)?;
    let text = |pointer: &str| stored.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let octets = |pointer: &str| STANDARD.decode(text(pointer));
    let number = |pointer: &str| stored.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let (memory, passes) =
        (u32::try_from(number("/derivation/memory_kib"))?, u32::try_from(number("/derivation/passes"))?);
    let params = argon2::Params::new(memory, passes, 1, Some(32)).map_err(|error| error.to_string())?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let (salt, nonce) = (octets("/derivation/salt")?, octets("/cipher/nonce")?);
    let mut key = [0; 32];
    argon2.hash_password_into(passphrase.as_bytes(), &salt, &mut key).map_err(|error| error.to_string())?;
    let parts = [
        text("/format").into_bytes(),
        text("/name").into_bytes(),
        text("/role").into_bytes(),
        text("/kind").into_bytes(),
        octets("/public_key")?,
        text("/derivation/algorithm").into_bytes(),
        [memory.to_be_bytes(), passes.to_be_bytes()].concat(),
        salt,
        text("/cipher/algorithm").into_bytes(),
        nonce.clone(),
    ];
    let mut authenticated = Vec::new();
    for part in parts {
        authenticated.extend(u32::try_from(part.len())?.to_be_bytes());
        authenticated.extend(part);
    }
    let failed = |_| format!("{} does not open", file.display());
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(failed)?);
    let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(failed)?;
    let mut octets = octets("/cipher/ciphertext")?;
    Ok(key.open_in_place(nonce, Aad::from(authenticated), &mut octets).map_err(failed)?.to_vec())
}

/// The private number of a P-256 key in PKCS#8.
fn p256_scalar(pkcs8: &[u8]) -> Result<Vec<u8>> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).map_err(|_| "no P-256 key")?;
    Ok(pair.private_key().as_be_bytes().map_err(|_| "no private key")?.as_ref().to_vec())
}

/// The seed of an Ed25519 key in PKCS#8.
fn ed25519_seed(pkcs8: &[u8]) -> Result<Vec<u8>> {
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| "no Ed25519 key")?;
    let seed = pair.seed().map_err(|_| "no seed")?;
    Ok(seed.as_be_bytes().map_err(|_| "no seed")?.as_ref().to_vec())
}
