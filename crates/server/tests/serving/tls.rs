//! The certificate that the server serves itself with, and what it stands under.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    time::Duration,
};

use chancery_harness::{
    Result,
    server::{POLICY, Server, Setup},
};
use serde_json::json;

use super::error_of;

#[tokio::test]
async fn its_own_certificate_outlives_a_restart_and_is_replaced_when_another_name_is_wanted() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    let kept = fs::read(server.path().join("tls.pem"))?;
    assert_eq!(fs::metadata(server.path().join("tls.pem"))?.mode() & 0o777, 0o600);
    server.stop().await?;
    server.serve().await?;
    assert_eq!(fs::read(server.path().join("tls.pem"))?, kept, "a restart issues nothing needlessly");

    let policy = POLICY.replace("[localhost]", "[localhost, other.test]");
    fs::write(server.path().join("policy.yaml"), policy)?;
    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config + "\n[tls]\nnames = [\"localhost\", \"other.test\"]\n")?;
    let reloaded = server.json(&["reload"]).await?;
    assert!(reloaded["changed"].to_string().contains("TLS certificate changed"), "{reloaded}");
    assert_ne!(fs::read(server.path().join("tls.pem"))?, kept);
    let status = server.json(&["status"]).await?;
    assert_eq!(status["tls"]["names"], json!(["localhost", "other.test"]));
    server.client().await?;
    Ok(())
}

#[tokio::test]
async fn a_kept_certificate_that_is_damaged_is_issued_anew_at_the_start() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    fs::write(server.path().join("tls.pem"), "damaged")?;
    server.kill().await?;
    server.serve().await?;
    server.client().await?;
    assert!(fs::read_to_string(server.path().join("tls.pem"))?.contains("BEGIN CERTIFICATE"));
    Ok(())
}

#[tokio::test]
async fn its_own_certificate_is_renewed_by_its_stored_job_while_connections_go_on() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let short = "\n[[profile]]\nname = \"short\"\nlifetime = \"9s\"\nlifetime_min = \"1s\"\nbackdate = \"0s\"\n[tls]\nprofile = \"short\"\n";
    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config + short)?;
    server.serve().await?;
    let mut client = server.client().await?;
    let first = server.json(&["status"]).await?["tls"]["not_after"].clone();
    // Two thirds of nine seconds; each look takes a process, so this is no busy loop.
    let renewed = async {
        while server.json(&["status"]).await?["tls"]["not_after"] == first {}
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    tokio::time::timeout(Duration::from_secs(30), renewed).await.map_err(|_| "it was not renewed")??;
    let listed = server.json(&["certificate", "list", "--name", "localhost"]).await?;
    assert!(listed.as_array().is_some_and(|all| all.len() >= 2), "{listed}");
    client.new_order(&["old-connection.test"]).await?.expect_status(201)?;
    server.client().await?;
    Ok(())
}

#[tokio::test]
async fn a_brought_certificate_is_served_and_one_that_does_not_fit_is_refused() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let folder = server.scratch("brought")?;
    let made = |name: &str| {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
        fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        fs::set_permissions(folder.join(format!("{name}.key")), fs::Permissions::from_mode(0o600))?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    made("localhost")?;
    made("other")?;
    let config = fs::read_to_string(server.configuration())?;
    let tls = |certificate: &str, key: &str| {
        let path = |name: &str| folder.join(name).display().to_string();
        format!("{config}\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", path(certificate), path(key))
    };
    fs::write(server.configuration(), tls("localhost.pem", "other.key"))?;
    let output = server.command(&["check"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stdout).contains("do not belong together"));
    fs::write(server.configuration(), tls("localhost.pem", "localhost.key"))?;
    server.serve().await?;
    assert_eq!(server.json(&["status"]).await?["tls"]["own"], json!(false));
    fs::set_permissions(folder.join("localhost.key"), fs::Permissions::from_mode(0o644))?;
    let output = server.command(&["reload"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(error_of(&output).contains("chmod 600"), "{}", error_of(&output));
    Ok(())
}

#[tokio::test]
async fn a_root_made_by_openssl_signs_the_intermediate_and_the_server_runs_under_it() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    let folder = server.scratch("offline")?;
    let openssl = |arguments: &str| {
        let output = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output()?;
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        Ok::<_, std::io::Error>(())
    };
    let csr = folder.join("issuing.csr");
    // A certificate for some other key.
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out issuing.pem -days 30 -subj /CN=Other",
    )?;
    server
        .printed(&[
            "authority",
            "csr",
            "--subject",
            "O=Example, CN=Example Issuing CA 1",
            "--out",
            &csr.display().to_string(),
        ])
        .await?;
    openssl(
        "req -x509 -newkey rsa:3072 -nodes -keyout root.key -out root.pem -days 30 -subj /O=Example/CN=Root -addext keyUsage=critical,keyCertSign,cRLSign",
    )?;
    let extensions = |basic: &str, usage: &str| {
        let text = format!(
            "basicConstraints={basic}\nkeyUsage=critical,{usage}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        );
        fs::write(folder.join("issuing.ext"), text)
    };
    let sign = "x509 -req -in issuing.csr -CA root.pem -CAkey root.key -CAcreateserial -days 20 -extfile issuing.ext -out issuing.pem";
    let install = async |server: &Server| {
        let (chain, root) = (folder.join("issuing.pem"), folder.join("root.pem"));
        server
            .command(&[
                "authority",
                "install",
                "--yes",
                "--chain",
                &chain.display().to_string(),
                "--root",
                &root.display().to_string(),
            ])
            .await
    };
    let output = install(&server).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(
        error_of(&output).contains("none of the certificates is for this authority's key"),
        "{}",
        error_of(&output)
    );
    for (basic, usage, word) in [
        ("critical,CA:FALSE", "digitalSignature", "is not a CA"),
        ("critical,CA:TRUE", "cRLSign", "may not sign certificates"),
    ] {
        extensions(basic, usage)?;
        openssl(sign)?;
        let output = install(&server).await?;
        assert_eq!(output.status.code(), Some(3));
        assert!(error_of(&output).contains(word), "{}", error_of(&output));
    }
    extensions("critical,CA:TRUE,pathlen:0", "keyCertSign,cRLSign")?;
    openssl(sign)?;
    let output = install(&server).await?;
    assert!(output.status.success(), "{}", error_of(&output));
    server.serve().await?;
    fs::write(folder.join("served.pem"), served_chain(&server).await?)?;
    openssl("verify -x509_strict -CAfile root.pem -untrusted served.pem served.pem")?;
    Ok(())
}

/// The chain that HTTPS serves, as OpenSSL sees it.
async fn served_chain(server: &Server) -> Result<String> {
    let address = server.target()?.address;
    let output = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", "localhost", "-showcerts"])
        .stdin(std::process::Stdio::null())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("BEGIN CERTIFICATE"), "{text}");
    Ok(text)
}
