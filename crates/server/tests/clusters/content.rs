//! Certificate content over the real door: each kind of name, subject and usages as they are asked for, written and read
//! back by OpenSSL.

use std::{fs, path::Path, process::Command};

use chancery_api::{RefusalReason, SigningState};
use chancery_harness::{
    Result,
    server::{POLICY, Server, Setup, succeeded},
};
use serde_json::{Value, json};

use crate::{Controller, token};

const CONTENT: &str = r#"
[[cluster]]
name = "prod-eu"
authority = "issuing"
profiles = ["kubernetes"]

[[profile]]
name = "kubernetes"
lifetime = "30d"
names = ["dns", "wildcard", "ip", "spiffe", "uri", "email", "other", "common-name"]
requested_extended_key_usages = ["clientAuth"]
subject = "requested"
requested_attributes = ["O=Example\\, Inc.", "OU"]
ca = { path_len = 0 }
"#;

const RULES: &str = r#"  - name: content
    allow:
      names: ["**.cluster.test"]
      wildcards: ["*.cluster.test"]
      addresses: [10.0.0.0/8]
      spiffe: ["spiffe://cluster.test/ns/*/sa/*"]
      uris: ["https://id.cluster.test/teams/*"]
      emails: ["*@cluster.test"]
      other_names: ["1.3.6.1.4.1.311.20.2.3:*@cluster.test"]
      common_names: ["Payments *"]
      subject: ["OU=team-*"]
    for: { cluster: prod-eu }
  - name: cas
    allow: { names: ["**.cluster.test"], ca: true }
    for: { cluster: prod-eu }
"#;

pub(crate) fn openssl(arguments: &[&str], folder: &Path) -> Result<String> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output()?;
    succeeded(&output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A CSR by `openssl req`, in PEM.
pub(crate) fn written(folder: &Path, subject: &str, extensions: &str) -> Result<String> {
    let config = format!(
        "[req]\ndistinguished_name=dn\nprompt=no\nutf8=yes\nstring_mask=utf8only\nreq_extensions=ext\n[dn]\n{subject}\n[ext]\n{extensions}\n"
    );
    fs::write(folder.join("req.conf"), config)?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem"];
    openssl(&[&["req", "-new", "-config", "req.conf"], &key[..]].concat(), folder)
}

pub(crate) fn asked(uid: &str, csr: &str, usages: &[&str], is_ca: bool) -> Value {
    json!({
        "kind": "certificate-request",
        "uid": uid,
        "csr": csr,
        "usages": usages,
        "is_ca": is_ca,
        "origin": {"namespace": "shop", "name": format!("web-{uid}"), "certificate": "web"}
    })
}

#[tokio::test]
async fn names_subject_and_usages_are_in_the_certificate_as_openssl_reads_it() -> Result<()> {
    let setup = Setup { policy: format!("{POLICY}{RULES}"), configuration: CONTENT.to_owned(), ..Setup::default() };
    let mut server = Server::start(&setup).await?;
    let folder = server.scratch("openssl")?;
    let (secret, _) = token(&server, &[]).await?;
    let mut controller = Controller::with_token(&server, &secret).await?;
    let usages = ["digital signature", "server auth", "client auth"];
    let echo = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth";
    let names = "subjectAltName=DNS:web.cluster.test,DNS:*.cluster.test,IP:10.1.2.3,URI:https://id.cluster.test/teams/a,\
        email:alice@cluster.test,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:upn@cluster.test";
    let whole = "O=Example, Inc.\nOU=team-red\nCN=Payments service";
    let csr = written(&folder, whole, &format!("{names}\n{echo}"))?;
    let signed = controller.signed(&asked("1", &csr, &usages, false)).await?;
    fs::write(folder.join("leaf.pem"), &signed.chain)?;
    let extensions = "subjectAltName,keyUsage,extendedKeyUsage,basicConstraints";
    let shown = openssl(
        &["x509", "-in", "leaf.pem", "-noout", "-subject", "-nameopt", "RFC2253", "-ext", extensions],
        &folder,
    )?;
    for piece in [
        "subject=CN=Payments service,OU=team-red,O=Example\\, Inc.",
        "DNS:web.cluster.test",
        "DNS:*.cluster.test",
        "IP Address:10.1.2.3",
        "URI:https://id.cluster.test/teams/a",
        "email:alice@cluster.test",
        "othername:",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
    ] {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
    assert!(!shown.contains("Key Encipherment") && !shown.contains("CA:TRUE"), "{shown}");
    // OpenSSL 3.0 shows no otherName.
    openssl(&["x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der"], &folder)?;
    let der = fs::read(folder.join("leaf.der"))?;
    assert!(der.windows(16).any(|octets| octets == b"upn@cluster.test"), "the principal name is there");

    // A workload has its SPIFFE ID and no other URI.
    let workload = "subjectAltName=URI:spiffe://cluster.test/ns/shop/sa/web";
    let csr = written(&folder, "O=Example, Inc.", &format!("{workload}\n{echo}"))?;
    let signed = controller.signed(&asked("2", &csr, &usages, false)).await?;
    fs::write(folder.join("leaf.pem"), &signed.chain)?;
    let shown = openssl(&["x509", "-in", "leaf.pem", "-noout", "-ext", "subjectAltName"], &folder)?;
    assert!(shown.contains("URI:spiffe://cluster.test/ns/shop/sa/web"), "{shown}");

    let host = "subjectAltName=DNS:web.cluster.test";
    for (uid, subject, extensions, words, is_ca, reason, told) in [
        ("3", "O=system:masters", host, &usages[..1], false, RefusalReason::Profile, "gives no O=system:masters"),
        ("4", "OU=crew", host, &usages[..1], false, RefusalReason::Policy, "with OU=crew in the subject"),
        ("5", "L=Paris", host, &usages[..1], false, RefusalReason::Profile, "gives no L=Paris"),
        ("6", "CN=Somebody", host, &usages[..1], false, RefusalReason::Policy, "cn:Somebody"),
        ("7", "OU=team-red", host, &["code signing"], false, RefusalReason::Profile, "does not give: code signing"),
        // The issuing certificate's path length is 0.
        ("8", "O=Example, Inc.", host, &[], true, RefusalReason::Profile, "pathLen"),
    ] {
        let csr = written(&folder, subject, extensions)?;
        match controller.sign(&asked(uid, &csr, words, is_ca)).await? {
            SigningState::Refused { reason: found, message, .. } => {
                assert!(message.contains(told), "{uid}: {message}");
                assert_eq!(found, reason, "{uid}: {message}");
            }
            other => panic!("{uid}: {other:?}"),
        }
    }
    server.stop().await?;
    Ok(())
}
