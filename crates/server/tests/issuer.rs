//! The issuing certificate as an operator meets it: its end, its constraints, its replacement. OpenSSL is the root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chancery_harness::{
    Result,
    client::{Client, Target, b64, trust},
    responder::Responder,
    server::{Server, Setup, binary, free_port, succeeded},
};
use serde_json::{Value, json};

const CA: &str = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
                  subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// A root that is kept offline, and the CSR of a server's issuing key.
struct OfflineRoot(PathBuf);

impl OfflineRoot {
    async fn of(server: &Server) -> Result<Self> {
        let root = Self(server.scratch("offline")?);
        let out = root.path("issuing.csr");
        server.printed(&["authority", "csr", "--subject", "O=Example, CN=Example Issuing CA 1", "--out", &out]).await?;
        root.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /O=Example/CN=Root \
             -addext keyUsage=critical,keyCertSign,cRLSign",
        )?;
        Ok(root)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn openssl(&self, arguments: &str) -> Result<String> {
        openssl(&self.0, arguments)
    }

    /// Signs the issuing key for so many days and installs the certificate.
    async fn install(&self, server: &Server, days: u32, extensions: &str) -> Result<Output> {
        fs::write(self.path("issuing.ext"), format!("{CA}{extensions}"))?;
        self.openssl(&format!(
            "x509 -req -in issuing.csr -CA root.pem -CAkey root.key -CAcreateserial -days {days} -extfile issuing.ext \
             -out issuing.pem"
        ))?;
        let (chain, root) = (self.path("issuing.pem"), self.path("root.pem"));
        let output = server.command(&["authority", "install", "--yes", "--chain", &chain, "--root", &root]).await?;
        succeeded(&output)?;
        Ok(output)
    }
}

fn openssl(folder: &Path, arguments: &str) -> Result<String> {
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output()?;
    succeeded(&output)?;
    Ok(printed(&output))
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A client with an account that trusts the offline root too.
async fn client_of(server: &Server, root: &OfflineRoot) -> Result<Client> {
    let roots = [fs::read(server.root_pem()?)?, fs::read(root.path("root.pem"))?].concat();
    let mut client = Client::connect(Target { tls: trust(&roots)?, ..server.target()? }).await?;
    client.register().await?;
    Ok(client)
}

#[tokio::test]
async fn an_issuer_that_ends_before_its_certificates_would_is_an_alarm_a_count_and_a_word_in_the_log() -> Result<()> {
    let responder = Responder::start().await?;
    let plain = format!("127.0.0.1:{}", free_port().await?);
    let mut server = Server::prepare(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let root = OfflineRoot::of(&server).await?;
    root.install(&server, 20, "").await?;
    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config.replacen("[listen]\n", &format!("[listen]\nplain = \"{plain}\"\n"), 1))?;
    server.serve().await?;
    // The server's own certificate has a profile of 90 days, as the client's has.
    let mut client = client_of(&server, &root).await?;
    client.obtain(&responder, "cut.test").await?;

    let status = server.json(&["status"]).await?;
    let end = status["authorities"][0]["not_after"].as_str().unwrap_or_default().to_owned();
    let alarm = status["alarms"][0].as_str().unwrap_or_default().to_owned();
    assert!(alarm.contains(&format!("ends at {end}")) && alarm.contains("nothing is issued beyond it"), "{status}");
    assert_eq!(status["alarms"].as_array().map(Vec::len), Some(1), "{status}");
    let issued = server.json(&["certificate", "list", "--name", "cut.test"]).await?;
    assert_eq!(issued[0]["not_after"], end, "{issued}");
    let metrics = get(&plain, "/metrics")?;
    assert!(metrics.contains("chancery_certificates_cut_by_issuer_total 2\n"), "{metrics}");
    let log = fs::read_to_string(server.log())?;
    assert_eq!(log.matches("certificates end with their issuer").count(), 1, "once an hour: {log}");
    assert!(log.contains(&alarm), "{log}");
    Ok(())
}

#[tokio::test]
async fn names_that_the_issuer_or_policy_refuses_are_all_told_in_subproblems() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let root = OfflineRoot::of(&server).await?;
    let constraints = "permitted;DNS:test,permitted;DNS:localhost,excluded;DNS:out.test";
    root.install(&server, 20, &format!("nameConstraints=critical,{constraints}\n")).await?;
    server.serve().await?;
    let mut client = client_of(&server, &root).await?;
    client.new_order(&["in.test"]).await?.expect_status(201)?;
    let names = ["in.test", "a.out.test", "b.out.test", "secret.denied.test", "elsewhere.example"];
    let refused = client.new_order(&names).await?.expect_status(400)?;
    assert_eq!(refused.problem(), "rejectedIdentifier");
    let mut told: Vec<(String, String)> = Vec::new();
    for subproblem in refused.json()["subproblems"].as_array().ok_or("no subproblems")? {
        assert_eq!(subproblem["type"], "urn:ietf:params:acme:error:rejectedIdentifier");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        told.push((text(&subproblem["identifier"]["value"]), text(&subproblem["detail"])));
    }
    let of = |name: &str| told.iter().filter(|(told, _)| told == name).map(|(_, why)| why.clone()).collect::<Vec<_>>();
    for name in ["a.out.test", "b.out.test"] {
        assert!(
            of(name)[0].contains("DNS:out.test, which is excluded for \"O=Example, CN=Example Issuing CA 1\""),
            "{told:?}"
        );
    }
    assert_eq!(of("secret.denied.test"), ["policy: refused by rule not-this-one: nobody gets this name (TEST-1)"]);
    let both = &of("elsewhere.example")[0];
    assert!(both.contains("no rule allows it") && both.contains("lies outside the names"), "{told:?}");
    assert_eq!(told.len(), 4, "each once, and none that is not refused: {told:?}");
    Ok(())
}

/// Every kind of issuing key, as `chancery init` takes it; how OpenSSL shows such a key, and what it signs with.
const ISSUING_KEYS: [(&str, &str, &str); 6] = [
    ("p256", "NIST CURVE: P-256", "ecdsa-with-SHA256"),
    ("p384", "NIST CURVE: P-384", "ecdsa-with-SHA384"),
    ("rsa2048", "Public-Key: (2048 bit)", "sha256WithRSAEncryption"),
    ("rsa3072", "Public-Key: (3072 bit)", "sha256WithRSAEncryption"),
    ("rsa4096", "Public-Key: (4096 bit)", "sha256WithRSAEncryption"),
    ("ed25519", "ED25519 Public-Key", "ED25519"),
];

#[tokio::test]
async fn a_certificate_under_an_issuing_key_of_every_kind_verifies_up_to_the_root() -> Result<()> {
    let help = Command::new(binary()?).args(["init", "--help"]).output()?;
    let kinds = ISSUING_KEYS.map(|(kind, ..)| kind).join(", ");
    assert!(printed(&help).contains(&format!("[possible values: {kinds}]")), "another kind wants a row: {help:?}");
    let responder = Responder::start().await?;
    for (kind, key, signature) in ISSUING_KEYS {
        let setup = Setup { http_port: responder.port(), key: Some(kind.to_owned()), ..Setup::default() };
        let server = Server::start(&setup).await?;
        let mut client = server.client().await?;
        let url = client.obtain(&responder, "leaf.test").await?;
        let chain = client.read(&url).await?.expect_status(200)?.body;
        let folder = server.scratch("chain")?;
        fs::write(folder.join("chain.pem"), &chain)?;
        fs::copy(server.root_pem()?, folder.join("root.pem"))?;
        openssl(&folder, "verify -x509_strict -CAfile root.pem -untrusted chain.pem chain.pem")?;
        let leaf = openssl(&folder, "x509 -in chain.pem -noout -text -nameopt RFC2253")?;
        assert!(leaf.contains(&format!("Signature Algorithm: {signature}\n")), "{kind}: {leaf}");
        let (_, issuing) = std::str::from_utf8(&chain)?.split_once("-----END CERTIFICATE-----").ok_or("a chain")?;
        fs::write(folder.join("issuing.pem"), issuing)?;
        let issuing = openssl(&folder, "x509 -in issuing.pem -noout -text -nameopt RFC2253")?;
        assert!(issuing.contains(key), "{kind}: {issuing}");
        let subject = openssl(&folder, "x509 -in issuing.pem -noout -subject -nameopt RFC2253")?;
        let issuer = openssl(&folder, "x509 -in chain.pem -noout -issuer -nameopt RFC2253")?;
        assert_eq!(issuer.strip_prefix("issuer="), subject.strip_prefix("subject="), "{kind}");
    }
    Ok(())
}

fn get(address: &str, path: &str) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn constraints_that_rustls_does_not_compare_are_named_at_install_check_and_start() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let root = OfflineRoot::of(&server).await?;
    let word = "which clients built on rustls do not compare";
    for (constraint, refuses) in [
        ("permitted;DNS:test,permitted;DNS:localhost", None),
        ("permitted;URI:cluster.local", Some("every certificate with a SPIFFE ID below it")),
        ("permitted;dirName:allowed\n[allowed]\nO=Example", Some("every certificate below it")),
    ] {
        let installed = printed(&root.install(&server, 20, &format!("nameConstraints=critical,{constraint}\n")).await?);
        let checked = server.printed(&["check"]).await?;
        let _ = fs::remove_file(server.log());
        let _ = fs::remove_file(server.path().join("tls.pem"));
        server.serve().await?;
        let log = fs::read_to_string(server.log())?;
        for told in [&installed, &checked, &log] {
            match refuses {
                None => assert!(!told.contains("rustls"), "{constraint}: {told}"),
                Some(what) => assert!(
                    told.contains(word) && told.contains(what) && told.contains("O=Example, CN=Example Issuing CA 1"),
                    "{constraint}: {told}"
                ),
            }
        }
        // As said: this client is built on rustls.
        let tls = trust(&fs::read(root.path("root.pem"))?)?;
        let client = Client::connect(Target { tls, ..server.target()? }).await;
        assert_eq!(client.is_ok(), refuses != Some("every certificate below it"), "{constraint}: {:?}", client.err());
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_issuing_certificate_that_a_reload_brings_or_takes_away_is_in_the_ledger() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let root = OfflineRoot::of(&server).await?;
    root.install(&server, 20, "").await?;
    let digest = |root: &OfflineRoot| {
        let printed = root.openssl("x509 -in issuing.pem -noout -fingerprint -sha256")?;
        let (_, digest) = printed.trim().split_once('=').ok_or("a fingerprint")?;
        let octets: Vec<u8> = digest.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(b64(octets))
    };
    let first = digest(&root)?;
    server.serve().await?;
    let before = server.json(&["ledger", "verify"]).await?["size"].as_u64().unwrap_or_default();
    root.install(&server, 25, "").await?;
    let second = digest(&root)?;
    let reloaded = server.json(&["reload"]).await?;
    assert_eq!(reloaded["changed"], json!(["chain of authority issuing changed"]));
    assert_eq!(server.json(&["reload"]).await?["changed"], json!([]));
    let after = server.json(&["ledger", "verify"]).await?;
    assert_eq!((after["size"].as_u64(), &after["clean"]), (Some(before + 2), &json!(true)), "{after}");
    for (index, kind, certificate) in
        [(before, "authority-installed", second), (before + 1, "authority-retired", first)]
    {
        let leaf: Value = serde_json::from_str(&server.printed(&["ledger", "show", &index.to_string()]).await?)?;
        assert_eq!((&leaf["kind"], &leaf["body"]["certificate"]), (&json!(kind), &json!(certificate)), "{leaf}");
    }
    // A start says what changed since, and the next one, with nothing new, nothing.
    for (days, leaves) in [(30, vec!["authority-installed", "authority-retired"]), (0, vec![])] {
        let from = server.json(&["ledger", "verify"]).await?["size"].as_u64().unwrap_or_default();
        server.stop().await?;
        if days > 0 {
            root.install(&server, days, "").await?;
        }
        server.serve().await?;
        let size = server.json(&["ledger", "verify"]).await?["size"].as_u64().unwrap_or_default();
        let mut kinds = Vec::new();
        for index in from..size {
            let leaf: Value = serde_json::from_str(&server.printed(&["ledger", "show", &index.to_string()]).await?)?;
            kinds.extend(leaf["kind"].as_str().map(str::to_owned));
        }
        assert_eq!(kinds, leaves);
    }
    Ok(())
}
