//! A CA for a team over the real door: its depth and its names are ours, whatever its CSR says. OpenSSL is the offline
//! root above, the team below, and whoever verifies.

use std::{fs, path::Path};

use crate::{
    Controller,
    content::{asked, openssl, written},
    token,
};
use chancery_api::{RefusalReason, SigningState};
use chancery_harness::{
    Result,
    client::{Target, trust},
    server::{POLICY, Server, Setup},
};

const TEAM_CAS: &str = r#"
[[cluster]]
name = "prod-eu"
authority = "issuing"
profiles = ["server", "team-ca", "team-ca-too-deep"]

[[profile]]
name = "team-ca"
lifetime = "10d"
names = ["dns", "common-name"]
subject = "requested"
requested_attributes = ["O=Example"]
ca = { path_len = 0, permitted_dns = ["team.cluster.test"], forbidden = ["ip", "email", "uri"] }

[[profile]]
name = "team-ca-too-deep"
lifetime = "10d"
names = ["dns", "common-name"]
subject = "requested"
requested_attributes = ["O=Example"]
ca = { path_len = 1 }
"#;

const RULES: &str = r#"  - name: team-cas
    allow: { common_names: ["Team *"], ca: true }
    for: { cluster: prod-eu }
  - name: leaves
    allow: { names: ["**.cluster.test"], common_names: ["Leaf *"] }
    for: { cluster: prod-eu }
"#;

/// An issuing certificate that may have one CA below it, by a root that is kept offline.
async fn installed(server: &Server, folder: &Path) -> Result<()> {
    let file = |name: &str| folder.join(name).display().to_string();
    let out = file("issuing.csr");
    server.printed(&["authority", "csr", "--subject", "O=Example, CN=Example Issuing CA 1", "--out", &out]).await?;
    let root = "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 30 -subj /O=Example/CN=Root \
                -addext keyUsage=critical,keyCertSign,cRLSign";
    openssl(&root.split_whitespace().collect::<Vec<_>>(), folder)?;
    let extensions = "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    signed(folder, "issuing", "root", 20, extensions)?;
    server
        .printed(&["authority", "install", "--yes", "--chain", &file("issuing.pem"), "--root", &file("root.pem")])
        .await?;
    Ok(())
}

/// `{name}.csr` becomes `{name}.pem`, signed by `{by}`.
fn signed(folder: &Path, name: &str, by: &str, days: u32, extensions: &str) -> Result<()> {
    fs::write(folder.join("signed.ext"), extensions)?;
    let command = format!(
        "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days {days} -extfile signed.ext -out {name}.pem"
    );
    openssl(&command.split_whitespace().collect::<Vec<_>>(), folder)?;
    Ok(())
}

/// Whether OpenSSL takes a leaf that `by` signs for this name, with these certificates between it and the root.
fn is_taken(folder: &Path, by: &str, between: &str, name: &str) -> Result<bool> {
    let csr =
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /O=Team";
    openssl(&csr.split_whitespace().collect::<Vec<_>>(), folder)?;
    let extensions = format!(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName={name}\n"
    );
    signed(folder, "leaf", by, 1, &extensions)?;
    let command = format!(
        "verify -x509_strict -purpose sslserver -no-CApath -no-CAstore -CAfile root.pem -untrusted {between} leaf.pem"
    );
    Ok(openssl(&command.split_whitespace().collect::<Vec<_>>(), folder).is_ok())
}

#[tokio::test]
async fn a_teams_ca_signs_for_its_own_names_and_no_other_ca_whatever_its_csr_asked_for() -> Result<()> {
    let setup = Setup { policy: format!("{POLICY}{RULES}"), configuration: TEAM_CAS.to_owned(), ..Setup::default() };
    let mut server = Server::prepare(&setup).await?;
    let folder = server.scratch("team-ca")?;
    installed(&server, &folder).await?;
    server.serve().await?;
    let (secret, _) = token(&server, &[]).await?;
    let roots = [fs::read(server.root_pem()?)?, fs::read(folder.join("root.pem"))?].concat();
    let target = Target { tls: trust(&roots)?, ..server.target()? };
    let mut controller = Controller::of(&server, target, Some(format!("Bearer {secret}"))).await?;
    let for_a_ca = |uid: &str, csr: &str, profile: &str, is_ca: bool| {
        let usages: &[&str] = if is_ca { &["cert sign", "crl sign"] } else { &[] };
        let mut request = asked(uid, csr, usages, is_ca);
        request["profile"] = profile.into();
        request
    };

    // As cert-manager writes it, with a depth that nobody gave.
    let echo = "basicConstraints=critical,CA:TRUE,pathlen:5\nkeyUsage=critical,keyCertSign,cRLSign";
    let csr = written(&folder, "O=Example\nCN=Team Red", echo)?;
    let team = controller.signed(&for_a_ca("1", &csr, "team-ca", true)).await?;
    fs::copy(folder.join("key.pem"), folder.join("team.key"))?;
    fs::write(folder.join("team.pem"), &team.chain)?;
    assert_eq!(team.root, fs::read_to_string(folder.join("root.pem"))?);
    let extensions = "basicConstraints,keyUsage,nameConstraints";
    let shown = openssl(&["x509", "-in", "team.pem", "-noout", "-subject", "-ext", extensions], &folder)?;
    for piece in
        ["O = Example, CN = Team Red", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "DNS:team.cluster.test"]
    {
        assert!(shown.contains(piece), "{piece}: {shown}");
    }
    assert!(is_taken(&folder, "team", "team.pem", "DNS:web.team.cluster.test")?);
    for name in [
        "DNS:web.cluster.test",
        "DNS:web.team.cluster.test,DNS:web.cluster.test",
        "IP:10.0.0.1",
        "DNS:web.team.cluster.test,IP:::1",
        "email:alice@team.cluster.test",
        "URI:https://web.team.cluster.test/",
        "URI:spiffe://team.cluster.test/ns/istio-system/sa/istiod",
    ] {
        assert!(!is_taken(&folder, "team", "team.pem", name)?, "{name}");
    }
    // A CA of the team's own stands one too deep.
    let own = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr -subj /O=Own";
    openssl(&own.split_whitespace().collect::<Vec<_>>(), &folder)?;
    let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    signed(&folder, "own", "team", 1, extensions)?;
    fs::write(
        folder.join("both.pem"),
        [fs::read(folder.join("own.pem"))?, fs::read(folder.join("team.pem"))?].concat(),
    )?;
    assert!(!is_taken(&folder, "own", "both.pem", "DNS:web.team.cluster.test")?);

    let wider = format!("{echo}\nnameConstraints=critical,permitted;DNS:cluster.test");
    for (uid, subject, extensions, profile, is_ca, reason, told) in [
        ("2", "O=Example\nCN=Leaf CA", echo, "team-ca", true, RefusalReason::Policy, "cn:Leaf CA"),
        ("3", "O=Example\nCN=Team Red", echo, "server", true, RefusalReason::Profile, "server"),
        ("4", "O=Example\nCN=Team Red", echo, "team-ca", false, RefusalReason::Csr, "basicConstraints"),
        ("5", "O=Example\nCN=Team Red", echo, "team-ca-too-deep", true, RefusalReason::Profile, "pathLen"),
        ("6", "O=Example\nCN=Team Red", wider.as_str(), "team-ca", true, RefusalReason::Profile, "team.cluster.test"),
        // Whoever has our issuer's name would issue in it.
        ("7", "O=Example\nCN=Example Issuing CA 1", echo, "team-ca", true, RefusalReason::Policy, "Issuing CA"),
    ] {
        let csr = written(&folder, subject, extensions)?;
        match controller.sign(&for_a_ca(uid, &csr, profile, is_ca)).await? {
            SigningState::Refused { reason: found, message, .. } => {
                assert!(message.contains(told), "{uid}: {message}");
                assert_eq!(found, reason, "{uid}: {message}");
            }
            other => panic!("{uid}: {other:?}"),
        }
    }
    let shown = server.json(&["certificate", "list", "--cluster", "prod-eu"]).await?;
    assert_eq!(shown.as_array().map(Vec::len), Some(1), "{shown}");
    server.stop().await?;
    Ok(())
}
