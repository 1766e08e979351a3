//! §7.4.2: certificates and their chains.

use std::fs;

use chancery_harness::server::{Server, Setup, succeeded};

use super::*;

#[tokio::test]
async fn the_chain_is_pem_leaf_first_with_nothing_between_and_its_bytes_never_change() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["chain.test"]).await?;
    let answer = client.read(&issued.certificate).await?.expect_status(200)?;
    assert_eq!(answer.header("content-type"), Some("application/pem-certificate-chain"));
    assert_eq!(answer.body, issued.pem.as_bytes());
    let lines: Vec<&str> = issued.pem.split('\n').collect();
    assert_eq!(lines.last(), Some(&""), "ends with a line feed");
    for line in &lines[..lines.len() - 1] {
        let marks = ["-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"].contains(line);
        let base64 = (1..=64).contains(&line.len())
            && line.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+/=".contains(&octet));
        assert!(marks || base64, "{line:?}");
    }
    let chain = issued.chain()?;
    for pair in chain.windows(2) {
        let (_, below) = x509_parser::parse_x509_certificate(&pair[0])?;
        let (_, above) = x509_parser::parse_x509_certificate(&pair[1])?;
        assert_eq!(below.issuer(), above.subject());
        below.verify_signature(Some(above.public_key()))?;
    }
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0])?;
    assert_eq!(
        leaf.public_key().raw,
        rcgen::PublicKeyData::subject_public_key_info(&issued.key),
        "for the key that asked"
    );
    assert!(!leaf.is_ca());
    Ok(())
}

#[tokio::test]
async fn openssl_verifies_the_chain_against_the_root() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["openssl.test"]).await?;
    let file = site.server.scratch("openssl")?.join("chain.pem");
    fs::write(&file, &issued.pem)?;
    let output = tokio::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "openssl.test", "-CAfile"])
        .arg(site.server.root_pem()?)
        .arg("-untrusted")
        .arg(&file)
        .arg(&file)
        .output()
        .await?;
    succeeded(&output)
}

#[tokio::test]
async fn other_chains_are_linked_as_alternates_and_each_can_be_fetched_by_its_account_alone() -> Result<()> {
    let server = under_two_roots().await?;
    let responder = server.1;
    let server = server.0;
    let mut client = server.client().await?;
    let placed = client.new_order(&["two.test"]).await?.expect_status(201)?;
    let (challenge, token) = first_challenge(&mut client, &placed.json(), "http-01").await?;
    responder.put(&token, client.key_authorization(&token));
    client.post(&challenge, &json!({})).await?.expect_status(200)?;
    let (finalized, _) = flow::finalize(&mut client, &placed.json(), &["two.test"]).await?;
    let url = finalized.expect_status(200)?.text("certificate")?;
    let default = client.read(&url).await?.expect_status(200)?;
    let alternates = default.links("alternate");
    assert_eq!(alternates.len(), 1, "{default:?}");
    let alternate = client.read(&alternates[0]).await?.expect_status(200)?;
    assert_eq!(alternate.header("content-type"), Some("application/pem-certificate-chain"));
    assert_eq!(alternate.links("alternate"), [url.as_str()]);
    let (one, other) = (flow::chain(&default.body)?, flow::chain(&alternate.body)?);
    assert_eq!(one[0], other[0], "the same certificate");
    assert_ne!(one[1..], other[1..], "under another chain");
    let mut stranger = server.client().await?;
    problem(&stranger.read(&alternates[0]).await?, 404, "malformed");
    problem(&stranger.read(&url).await?, 404, "malformed");
    assert_eq!(client.get(&alternates[0]).await?.status, 405);
    Ok(())
}

/// A server whose issuing key is certified by two roots made by OpenSSL, under one name.
async fn under_two_roots() -> Result<(Server, chancery_harness::responder::Responder)> {
    let responder = chancery_harness::responder::Responder::start().await?;
    let mut server = Server::prepare(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let folder = server.scratch("roots")?;
    let openssl = |arguments: &str| {
        let output = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output()?;
        succeeded(&output)
    };
    let csr = folder.join("issuing.csr").display().to_string();
    server.printed(&["authority", "csr", "--subject", "O=Example, CN=Example Issuing CA", "--out", &csr]).await?;
    fs::write(
        folder.join("ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )?;
    for name in ["first", "second"] {
        openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}-root.pem \
             -days 300 -subj /O=Example/CN={name} -addext keyUsage=critical,keyCertSign,cRLSign"
        ))?;
        openssl(&format!(
            "x509 -req -in issuing.csr -CA {name}-root.pem -CAkey {name}.key -CAcreateserial -days 200 \
             -extfile ext -out {name}.pem"
        ))?;
    }
    let at = |name: &str| folder.join(name).display().to_string();
    server
        .printed(&["authority", "install", "--yes", "--chain", &at("first.pem"), "--root", &at("first-root.pem")])
        .await?;
    let config = fs::read_to_string(server.configuration())?;
    let chains = "chains = [\"chains/issuing.pem\"";
    assert!(config.contains(chains), "{config}");
    let both = format!("{chains}, \"{}\"", at("second.pem"));
    fs::write(server.configuration(), config.replacen(chains, &both, 1))?;
    server.serve().await?;
    let roots = [fs::read(folder.join("first-root.pem"))?, fs::read(server.root_pem()?)?].concat();
    fs::write(server.root_pem()?, roots)?;
    Ok((server, responder))
}
