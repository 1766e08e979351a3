//! The real binary as an operator meets it: starts, stops, refusals, reloads, backups.
//! What ACME clients see is in tests/interop and tests/conformance.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Output,
    time::Duration,
};

use chancery_authority::{changes::Changes, ports::Store as _};
use chancery_harness::{
    Result,
    client::{Client, authorizations, challenge},
    responder::Responder,
    server::{POLICY, Server, Setup, free_port},
};
use chancery_ledger::leaf::CrlPublished;
use chancery_pki::Timestamp;
use chancery_store_sled::{Options, SledStore};
use serde_json::{Value, json};

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn pem_of(client: &mut Client, certificate: &str) -> Result<String> {
    let pem = client.read(certificate).await?.expect_status(200)?;
    Ok(String::from_utf8(pem.body.to_vec())?)
}

#[tokio::test]
async fn a_server_starts_says_where_it_is_answers_and_stops_in_order() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    let status = server.json(&["status"]).await?;
    assert_eq!(status["directories"][0]["url"], server.directory());
    assert_eq!(status["not_issuing"], json!([]));
    assert_eq!(status["tls"]["names"], json!(["localhost"]));
    let socket = server.path().join("chancery.sock");
    let metadata = fs::symlink_metadata(&socket)?;
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    assert!(server.stop().await?.success());
    assert!(!socket.exists(), "the socket goes with the server");
    let log = fs::read_to_string(server.log())?;
    assert!(log.contains(&server.directory()) && log.contains("certbot certonly"), "{log}");
    let output = server.command(&["status"]).await?;
    assert_eq!(output.status.code(), Some(4), "{}", error_of(&output));
    Ok(())
}

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
async fn a_reload_has_no_more_answers_wait_than_there_were_places_for_requests_at_the_start() -> Result<()> {
    let narrow = "[limits]\nrequests_at_once = 100\n".to_owned();
    let server = Server::start(&Setup { configuration: narrow, ..Setup::default() }).await?;
    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config.replace("requests_at_once = 100", "requests_at_once = 1000"))?;
    let reloaded = server.json(&["reload"]).await?;
    let needs_restart = reloaded["needs_restart"].to_string();
    assert!(needs_restart.contains("limits.waiting_answers is 50 until then"), "{reloaded}");
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_answered_although_the_server_was_told_to_stop() -> Result<()> {
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let http_port = target.local_addr()?.port();
    let mut server = Server::start(&Setup { http_port, ..Setup::default() }).await?;
    let mut client = server.client().await?;
    let order = client.new_order(&["slow.test"]).await?.expect_status(201)?;
    let authorization = client.read(&authorizations(&order.json())[0]).await?.expect_status(200)?;
    let (url, _) = challenge(&authorization.json(), "http-01")?;
    let process = server.process().and_then(|id| i32::try_from(id).ok()).ok_or("it runs")?;
    let empty = json!({});
    let answered = client.post(&url, &empty);
    let stopped = async {
        // The validator is here, so the client's request is under way.
        let (mut asked, _) = target.accept().await?;
        let process = rustix::process::Pid::from_raw(process).ok_or("a process")?;
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        let refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        while fs::read_to_string(server.log())?.matches("stopping").count() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::io::AsyncWriteExt::write_all(&mut asked, refused).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let (answered, stopped) = tokio::join!(answered, stopped);
    stopped?;
    assert_eq!(answered?.status, 200);
    drop(client);
    assert!(server.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_hangup_takes_the_new_policy_as_reload_does() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    let before = server.json(&["status"]).await?["policy_sha256"].clone();
    fs::write(server.path().join("policy.yaml"), POLICY.replace("TEST-1", "TEST-2"))?;
    let process = server.process().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(process.ok_or("it runs")?, rustix::process::Signal::HUP)?;
    let taken = async {
        while server.json(&["status"]).await?["policy_sha256"] == before {}
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.map_err(|_| "it was not taken")??;
    Ok(())
}

#[tokio::test]
async fn a_reload_that_takes_all_but_the_certificate_says_in_the_log_what_is_in_force() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    let policy = POLICY.replace("[localhost]", "[localhost, other.test]");
    fs::write(server.path().join("policy.yaml"), policy)?;
    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config + "\n[tls]\nnames = [\"localhost\", \"other.test\"]\n")?;
    // Nothing can be kept where a folder stands.
    fs::remove_file(server.path().join("tls.pem"))?;
    fs::create_dir(server.path().join("tls.pem"))?;
    let before = server.json(&["status"]).await?;
    let output = server.command(&["reload"]).await?;
    assert!(!output.status.success());
    assert!(error_of(&output).contains("are in force, but:"), "{}", error_of(&output));
    let after = server.json(&["status"]).await?;
    assert_ne!(after["policy_sha256"], before["policy_sha256"]);
    assert_eq!(after["tls"], before["tls"]);
    let log = fs::read_to_string(server.log())?;
    assert!(log.contains("reloaded but for the TLS certificate") && !log.contains("what was in force stays"), "{log}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_behind_a_start_is_an_alarm_until_it_reads_and_issuance_goes_on() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    let first = server.json(&["status"]).await?["policy_sha256"].as_str().unwrap_or_default().to_owned();
    fs::write(server.path().join("policy.yaml"), POLICY.replace("TEST-1", "TEST-2"))?;
    server.printed(&["reload"]).await?;
    server.stop().await?;
    // A link to itself: it is there, and reading it fails, as with too many open files.
    let (text, away) = (server.path().join("store/blobs").join(first), server.scratch("away")?.join("text"));
    fs::rename(&text, &away)?;
    std::os::unix::fs::symlink(&text, &text)?;
    server.serve().await?;
    // Each look takes a process, so this is no busy loop.
    let alarmed = async |wanted: bool| {
        let looks = async {
            loop {
                let status = server.json(&["status"]).await?;
                if status["alarms"].to_string().contains("could be read") == wanted {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(status);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), looks).await.map_err(|_| format!("alarms: {wanted} is wanted"))?
    };
    let status = alarmed(true).await?;
    assert_eq!(status["not_issuing"], json!([]));
    server.client().await?.new_order(&["a.test"]).await?.expect_status(201)?;
    fs::remove_file(&text)?;
    fs::rename(&away, &text)?;
    alarmed(false).await?;
    Ok(())
}

#[tokio::test]
async fn a_policy_that_forgets_the_servers_own_name_is_refused_before_a_renewal_fails() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    fs::write(server.path().join("policy.yaml"), POLICY.replace("[localhost]", "[elsewhere.test]"))?;
    let output = server.command(&["reload"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(error_of(&output).contains("door: own-tls"), "{}", error_of(&output));
    Ok(())
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused_in_one_sentence() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    let other = format!("127.0.0.1:{}", free_port().await?);
    let output = server.command(&["serve", "--listen", &other]).await?;
    assert_eq!(output.status.code(), Some(1));
    let error = error_of(&output);
    let last = error.lines().last().unwrap_or_default();
    assert!(last.starts_with("chancery:") && last.contains("in use by another process"), "{error}");
    server.json(&["status"]).await?;
    Ok(())
}

#[tokio::test]
async fn folders_and_keys_that_others_can_read_are_refused_with_what_to_type() -> Result<()> {
    let server = Server::prepare(&Setup::default()).await?;
    let cases: [(&str, u32, u32); 3] =
        [("", 0o700, 0o755), ("keys/issuing.key", 0o600, 0o640), ("passphrase", 0o600, 0o644)];
    for (name, good, bad) in cases {
        let path = server.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(bad))?;
        let output = server.command(&["serve"]).await?;
        assert_eq!(output.status.code(), Some(3), "{name}: {}", error_of(&output));
        assert!(error_of(&output).contains("chmod"), "{name}: {}", error_of(&output));
        fs::set_permissions(&path, fs::Permissions::from_mode(good))?;
    }
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

#[tokio::test]
async fn a_broken_policy_is_refused_with_its_place_and_the_old_one_stays_then_a_good_one_is_taken() -> Result<()> {
    let responder = Responder::start().await?;
    let server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    let policy = server.path().join("policy.yaml");
    for broken in ["version: v1\nruls: []\n", "not a policy", "version: v1\nrules: []\n"] {
        fs::write(&policy, broken)?;
        let output = server.command(&["reload"]).await?;
        assert_eq!(output.status.code(), Some(3), "{broken}");
        assert!(!error_of(&output).is_empty());
    }
    client.obtain(&responder, "still.test").await?;

    fs::write(&policy, POLICY.replace("secret.denied.test", "fresh.test"))?;
    let reloaded = server.json(&["reload"]).await?;
    assert!(reloaded["changed"].to_string().contains("policy"), "{reloaded}");
    let refused = client.new_order(&["fresh.test"]).await?;
    assert_eq!(refused.problem(), "rejectedIdentifier");

    let config = fs::read_to_string(server.configuration())?;
    fs::write(server.configuration(), config.replace("[[directory]]", "[[diretory]]"))?;
    let output = server.command(&["reload"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(error_of(&output).contains("did you mean \"directory\"?"), "{}", error_of(&output));
    fs::write(server.configuration(), &config)?;
    let second = "[[directory]]\nname = \"second\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n\n[[profile]]";
    fs::write(server.configuration(), config.replacen("[[profile]]", second, 1))?;
    let reloaded = server.json(&["reload"]).await?;
    assert_eq!(reloaded["changed"], json!(["directory second is new"]));
    let answer = client.get(&server.directory().replace("/default/", "/second/")).await?;
    assert_eq!(answer.status, 200);
    Ok(())
}

#[tokio::test]
async fn certificates_and_accounts_are_listed_shown_exported_and_revoked_on_the_command_line() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::prepare(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let config = fs::read_to_string(server.configuration())?;
    let config = config.replace("[[directory]]\n", "[[directory]]\ntenant = \"payments\"\n");
    fs::write(server.configuration(), config)?;
    server.serve().await?;
    let mut client = server.client().await?;
    let url = client.obtain(&responder, "listed.test").await?;
    let pem = pem_of(&mut client, &url).await?;
    let list = server.json(&["certificate", "list", "--name", "listed.test"]).await?;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    let serial = list[0]["serial"].as_str().unwrap_or_default().to_owned();
    let shown = server.json(&["certificate", "show", &serial]).await?;
    assert!(pem.starts_with(shown["pem"].as_str().unwrap_or("?")), "what is shown is what the client got");
    let export = server.printed(&["certificate", "export"]).await?;
    assert_eq!(export.matches("BEGIN CERTIFICATE").count(), 2, "the client's and the server's own");
    let shown_to_people = server.printed(&["certificate", "show", &serial]).await?;
    assert!(shown_to_people.contains("allowed     dns:listed.test by rule "), "{shown_to_people}");
    assert!(shown_to_people.contains("tenant      payments"), "{shown_to_people}");
    let index = shown["decision"]["ledger_index"].to_string();
    let record: Value = serde_json::from_str(&server.printed(&["ledger", "show", &index]).await?)?;
    assert_eq!((&record["kind"], &record["body"]["serial"]), (&json!("intent"), &json!(serial)));
    assert_eq!(server.json(&["account", "list"]).await?.as_array().map(Vec::len), Some(1));

    let output = server.command(&["certificate", "revoke", &serial]).await?;
    assert_eq!(output.status.code(), Some(3), "without a terminal nobody agreed");
    server.printed(&["certificate", "revoke", &serial, "--reason", "superseded", "--yes"]).await?;
    let shown = server.json(&["certificate", "show", &serial]).await?;
    assert_eq!(shown["revoked"]["reason"], "superseded");
    let export = server.printed(&["certificate", "export"]).await?;
    assert!(export.contains(&format!("# serial {serial} was revoked at ")), "{export}");
    assert_eq!(export.matches("BEGIN CERTIFICATE").count(), 2);
    let output = server.command(&["certificate", "revoke", &serial, "--yes"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(error_of(&output).contains("was revoked at"), "{}", error_of(&output));
    Ok(())
}

#[tokio::test]
async fn a_backup_is_restored_into_an_empty_folder_and_the_ledger_verifies_before_and_after() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    client.obtain(&responder, "kept.test").await?;
    let backup = server.scratch("backups")?.join("one");
    let backup = backup.display().to_string();
    server.printed(&["backup", &backup]).await?;
    let output = server.command(&["backup", &backup]).await?;
    assert_eq!(output.status.code(), Some(3), "never over another backup");
    server.printed(&["ledger", "verify"]).await?;
    server.stop().await?;

    let kept = server.scratch("elsewhere")?.join("checkpoint");
    let checkpoint = fs::read_to_string(server.path().join("store/checkpoint"))?;
    let note = checkpoint.split_once('\n').map(|(_, note)| note.to_owned()).unwrap_or_default();
    fs::write(&kept, note)?;
    let output = server.command(&["store", "restore", &backup, "--yes"]).await?;
    assert_ne!(output.status.code(), Some(0), "a store that is there is not overwritten");
    fs::rename(server.path().join("store"), server.path().join("store.lost"))?;
    server.printed(&["store", "restore", &backup, "--yes", "--checkpoint", &kept.display().to_string()]).await?;
    server.printed(&["ledger", "verify", "--checkpoint", &kept.display().to_string()]).await?;
    server.printed(&["store", "rebuild", "--yes"]).await?;
    server.serve().await?;
    let list = server.json(&["certificate", "list", "--name", "kept.test"]).await?;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    server.client().await?.obtain(&responder, "after.test").await?;
    server.stop().await?;

    // The machine is lost, and with it what came after the backup; a checkpoint of that was kept elsewhere.
    let checkpoint = fs::read_to_string(server.path().join("store/checkpoint"))?;
    let note = checkpoint.split_once('\n').map(|(_, note)| note.to_owned()).unwrap_or_default();
    fs::write(&kept, note)?;
    fs::remove_dir_all(server.path().join("store"))?;
    let kept = kept.display().to_string();
    let restored = server.printed(&["store", "restore", &backup, "--yes", "--checkpoint", &kept]).await?;
    assert!(restored.contains("are lost"), "{restored}");
    let verify = ["ledger", "verify", "--checkpoint", &kept];
    let refused = server.command(&verify).await?;
    assert_eq!(refused.status.code(), Some(3), "a cut ledger looks the same: {}", error_of(&refused));
    let named = restored.split_whitespace().skip_while(|word| *word != "--accept-restore").nth(1);
    let named = named.ok_or("the restore does not say how to accept it")?.trim_end_matches(',');
    let accepted = server.printed(&[&verify[..], &["--accept-restore", named]].concat()).await?;
    assert!(accepted.contains("restores that you accepted"), "{accepted}");
    let (index, _) = named.split_once(':').ok_or("INDEX:HASH")?;
    let other = format!("{index}:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    let refused = server.command(&[&verify[..], &["--accept-restore", &other]].concat()).await?;
    assert_eq!(refused.status.code(), Some(3), "another record in its place is another restore");
    server.serve().await?;
    server.client().await?.obtain(&responder, "again.test").await?;
    Ok(())
}

#[tokio::test]
async fn a_decision_is_explained_for_the_profile_that_its_door_asks_for_by_itself() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    server.stop().await?;
    let own = server.printed(&["policy", "explain", "localhost", "--door", "own-tls"]).await?;
    assert!(own.starts_with("order allowed: 1 name\n  localhost    allowed    rule own"), "{own}");
    server.printed(&["policy", "explain", "a.test"]).await?;
    for (words, told) in [
        (["--door", "mesh"].as_slice(), "say which profile with --profile: "),
        (&["--profile", "else"], "there is no profile \"else\"; say which profile with --profile: "),
        (&["--directory", "else"], "there is no directory \"else\"; say which with --directory: default"),
        (&["--directory", "else", "--profile", "server"], "there is no directory \"else\""),
    ] {
        let output = server.command(&[&["policy", "explain", "a.test"], words].concat()).await?;
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(error_of(&output).contains(told), "{words:?}: {}", error_of(&output));
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_kept_elsewhere_is_verified_with_the_key_that_was_kept_with_it() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    server.client().await?.obtain(&responder, "sealed.test").await?;
    let key = server.printed(&["ledger", "key"]).await?.trim().to_owned();
    assert_eq!(server.json(&["status"]).await?["ledger_verifier_key"], key);
    assert_eq!(server.json(&["ledger", "key"]).await?["verifier_key"], key);
    assert!(server.printed(&["status"]).await?.contains(&format!("verified with {key}\n")));
    server.stop().await?;
    let elsewhere = server.scratch("elsewhere")?.join("checkpoint");
    let checkpoint = fs::read_to_string(server.path().join("store/checkpoint"))?;
    fs::write(&elsewhere, checkpoint.split_once('\n').map(|(_, note)| note).unwrap_or_default())?;
    let elsewhere = elsewhere.display().to_string();
    let verify = ["ledger", "verify", "--checkpoint", &elsewhere];
    server.printed(&verify).await?;

    // Whoever owns the machine has put another key in the place of the ledger's.
    let mut other = Server::start(&Setup::default()).await?;
    other.stop().await?;
    fs::copy(other.path().join("keys/ledger.key"), server.path().join("keys/ledger.key"))?;
    let forged = server.printed(&["ledger", "key"]).await?.trim().to_owned();
    assert_ne!(forged, key);
    let refused = server.command(&verify).await?;
    assert_eq!(refused.status.code(), Some(3), "the machine's key did not sign it: {}", error_of(&refused));
    let verified = server.printed(&[&verify[..], &["--verifier-key", &key]].concat()).await?;
    assert!(verified.contains("the ledger still holds everything that it covers"), "{verified}");
    let refused = server.command(&[&verify[..], &["--verifier-key", &forged]].concat()).await?;
    assert_eq!(refused.status.code(), Some(3), "{}", error_of(&refused));
    let refused = server.command(&[&verify[..], &["--verifier-key", "nonsense"]].concat()).await?;
    assert_eq!(refused.status.code(), Some(2), "{}", error_of(&refused));
    assert!(error_of(&refused).contains("a verifier key is name+hash+key"), "{}", error_of(&refused));
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_the_ledger_is_found_named_and_never_served() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    server.client().await?.obtain(&responder, "sealed.test").await?;
    server.stop().await?;
    let bundle = first_file_below(&server.path().join("store/ledger/tile/entries"))?;
    let mut content = fs::read(&bundle)?;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&bundle, content)?;
    let output = server.command(&["ledger", "verify"]).await?;
    assert_eq!(output.status.code(), Some(5), "{}", error_of(&output));
    let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &error_of(&output);
    assert!(told.contains(&name), "{told} does not name {name}");
    // What cannot be read at all is another matter: it may be whole.
    fs::remove_file(&bundle)?;
    fs::create_dir(&bundle)?;
    let output = server.command(&["ledger", "verify"]).await?;
    assert_eq!(output.status.code(), Some(1), "{}", error_of(&output));
    let why = error_of(&output);
    assert!(why.contains("is not known to be damaged") && why.contains(&name), "{why}");
    // It excuses nothing else that is wrong.
    let checkpoint = server.path().join("store/checkpoint");
    let note = fs::read_to_string(&checkpoint)?;
    let root = note.lines().nth(3).unwrap_or_default().to_owned();
    let other = if root.starts_with('A') { "B" } else { "A" };
    fs::write(&checkpoint, note.replace(&root, &format!("{other}{}", &root[1..])))?;
    let output = server.command(&["ledger", "verify"]).await?;
    assert_eq!(output.status.code(), Some(5), "{}", error_of(&output));
    Ok(())
}

#[tokio::test]
async fn damage_that_a_start_does_not_meet_is_found_behind_it_and_nothing_is_issued_any_more() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    // More records than a bundle holds: a start checks the last one.
    let url = client.obtain(&responder, "first.test").await?;
    let first = pem_of(&mut client, &url).await?;
    for number in 0..130 {
        client.obtain(&responder, &format!("host{number}.test")).await?;
    }
    server.stop().await?;
    let bundle = server.path().join("store/ledger/tile/entries/000");
    let mut content = fs::read(&bundle)?;
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&bundle, content)?;

    server.serve().await?;
    // Each look takes a process, so this is no busy loop.
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let status = server.json(&["status"]).await?;
            if status["not_issuing"] != json!([]) {
                return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(status);
            }
        }
    });
    let status = found.await??;
    let why = status["not_issuing"][0].as_str().unwrap_or_default();
    assert!(why.contains("the ledger is damaged") && why.contains("restore it from a backup"), "{status}");
    let mut client = server.client().await?;
    let refused = client.new_order(&["late.test"]).await?;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "serverInternal"));
    // Why is the operator's to know.
    let log = fs::read_to_string(server.log())?;
    assert!(log.contains("the ledger is damaged") && log.contains("issuance is not possible now"), "{log}");
    // What was issued can be read and revoked.
    let list = server.json(&["certificate", "list", "--name", "first.test"]).await?;
    let serial = list[0]["serial"].as_str().unwrap_or_default().to_owned();
    let shown = server.json(&["certificate", "show", &serial]).await?;
    assert!(first.starts_with(shown["pem"].as_str().unwrap_or("?")));
    server.printed(&["certificate", "revoke", &serial, "--yes"]).await?;
    Ok(())
}

/// What a clock that was a day ahead leaves behind: one more record, of that time.
async fn recorded_a_day_ahead(server: &Server) -> Result<()> {
    let path = server.path().join("store");
    let store = tokio::task::spawn_blocking(move || SledStore::open(&path, Options::default())).await??;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let at = Timestamp::from_unix_seconds(now.tv_sec + 86_400);
    let leaf = CrlPublished { at, authority: "issuing".to_owned(), number: 1, sha256: [0; 32], shard: 0 };
    store.commit(Changes { leaves: vec![leaf.into()], ..Changes::default() }).await?;
    Ok(tokio::task::spawn_blocking(move || store.stop()).await?)
}

#[tokio::test]
async fn a_clock_behind_what_was_recorded_stops_issuance_in_words_at_every_start_and_reading_goes_on() -> Result<()> {
    let responder = Responder::start().await?;
    let mut server = Server::start(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let mut client = server.client().await?;
    let url = client.obtain(&responder, "before.test").await?;
    let pem = pem_of(&mut client, &url).await?;
    let order = client.new_order(&["open.test"]).await?.expect_status(201)?.location()?;
    server.stop().await?;
    recorded_a_day_ahead(&server).await?;

    for start in ["the first", "one after a change of policy and a revocation", "one more"] {
        let _ = fs::remove_file(server.log());
        server.serve().await?;
        let status = server.json(&["status"]).await?;
        let why = status["not_issuing"][0].as_str().unwrap_or_default().to_owned();
        assert!(
            why.starts_with("this machine's clock says 2") && why.contains("but something was recorded at 2"),
            "{start}: {status}"
        );
        assert!(why.contains("nothing is issued until the clock is right (see: timedatectl)"), "{start}: {why}");
        client.nonce = None;
        let refused = client.new_order(&["after.test"]).await?;
        assert_eq!((refused.status, refused.problem().as_str()), (503, "serverInternal"), "{start}");
        assert!(refused.header("retry-after").is_some(), "{start}: {refused:?}");
        let log = fs::read_to_string(server.log())?;
        assert!(log.contains("but something was recorded at") && !log.contains("panicked"), "{start}: {log}");
        // What was issued and ordered before can be read, by clients and by operators.
        assert_eq!(pem_of(&mut client, &url).await?, pem, "{start}");
        assert_eq!(client.read(&order).await?.expect_status(200)?.text("status")?, "pending", "{start}");
        let listed = server.json(&["certificate", "list", "--name", "before.test"]).await?;
        let serial = listed[0]["serial"].as_str().unwrap_or_default();
        // Whatever is recorded by the wrong clock does not make it right.
        if start == "the first" {
            server.printed(&["certificate", "revoke", serial, "--yes"]).await?;
            fs::write(server.path().join("policy.yaml"), POLICY.replace("secret.denied.test", "fresh.test"))?;
        }
        server.stop().await?;
    }
    Ok(())
}

fn first_file_below(folder: &Path) -> Result<std::path::PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Ok(found) = first_file_below(&path) {
                return Ok(found);
            }
        } else {
            return Ok(path);
        }
    }
    Err(format!("no file below {}", folder.display()).into())
}

#[tokio::test]
async fn slow_and_silent_connections_are_cut_and_nobody_else_notices() -> Result<()> {
    let limits = "\n[limits]\nhandshake_timeout = \"1s\"\nheader_timeout = \"1s\"\nconnections_per_address = 3\n";
    let server = Server::start(&Setup { configuration: limits.to_owned(), ..Setup::default() }).await?;
    let address = server.target()?.address;
    let silent = |address: String| {
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            // Not even a ClientHello: the server hangs up by itself.
            stream.write_all(&[0x16, 0x03])?;
            Ok::<_, std::io::Error>(stream.read(&mut [0; 64]).is_ok_and(|read| read == 0))
        })
    };
    let held: Vec<_> = (0..3).map(|_| silent(address.clone())).collect();
    for held in held {
        assert!(held.await??, "a connection that says nothing is closed");
    }
    server.client().await?;
    Ok(())
}

#[tokio::test]
async fn no_core_can_be_dumped_and_no_secret_is_in_a_log_a_metric_or_the_store() -> Result<()> {
    let responder = Responder::start().await?;
    let plain = format!("127.0.0.1:{}", free_port().await?);
    let mut server = Server::prepare(&Setup { http_port: responder.port(), ..Setup::default() }).await?;
    let config = fs::read_to_string(server.configuration())?;
    let url = config.lines().find(|line| line.starts_with("url = ")).unwrap_or_default().to_owned();
    let config = config.replacen(&url, &format!("{url}\nplain = \"{plain}\""), 1)
        + "\n[log]\nlevel = \"trace\"\nformat = \"json\"\n";
    fs::write(server.configuration(), config)?;
    server.serve().await?;
    server.client().await?.obtain(&responder, "quiet.test").await?;
    let process = server.process().ok_or("it runs")?;
    let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    let mut seen = http_get(&plain, "/metrics")?;
    assert!(seen.contains("chancery_store_commits_total") && seen.contains("chancery_clock_trusted 1"), "{seen}");
    assert!(http_get(&plain, "/readyz")?.ends_with("ready\n"));
    assert!(http_get(&plain, "/v1/status")?.starts_with("HTTP/1.1 404"));
    seen += &server.printed(&["status"]).await?;
    server.stop().await?;
    let log = fs::read_to_string(server.log())?;
    assert!(log.lines().filter(|line| line.starts_with('{')).all(|line| serde_json::from_str::<Value>(line).is_ok()));
    seen += &log;
    let passphrase = fs::read_to_string(server.path().join("passphrase"))?;
    let tls = fs::read_to_string(server.path().join("tls.pem"))?;
    let tls_key = tls.lines().nth(1).unwrap_or_default();
    assert!(tls_key.len() > 40);
    for secret in [passphrase.trim(), tls_key] {
        assert!(!seen.contains(secret), "a secret is in a log or metric");
        let found = files_with(&server.path().join("store"), secret.as_bytes())?;
        assert!(found.is_empty(), "a secret is in {found:?}");
    }
    Ok(())
}

fn http_get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn files_with(folder: &Path, needle: &[u8]) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle)?);
        } else if fs::read(&path)?.windows(needle.len()).any(|window| window == needle) {
            found.push(path);
        }
    }
    Ok(found)
}
