//! The real binary as an operator meets it: starts, stops, refusals, reloads, backups.
//! What ACME clients see is in tests/interop and tests/conformance.

#[path = "serving/ledger.rs"]
mod ledger;
#[path = "serving/reload.rs"]
mod reload;
#[path = "serving/tls.rs"]
mod tls;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Output,
    time::Duration,
};

use chancery_harness::{
    Result,
    client::{Client, authorizations, challenge},
    responder::Responder,
    server::{POLICY, Server, Setup, free_port},
};
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
async fn a_policy_that_grants_by_annotations_is_taken_and_whoever_checks_it_is_told() -> Result<()> {
    let rule = "  - name: by-team\n    allow: { names: [a.test] }\n    \
                when: requester.reported.annotations[\"team\"] == \"web\"\n";
    let mut server = Server::start(&Setup { policy: format!("{POLICY}{rule}"), ..Setup::default() }).await?;
    server.stop().await?;
    let told = format!("rule by-team (line {}) allows by annotations", POLICY.lines().count() + 1);
    let log = fs::read_to_string(server.log())?;
    assert_eq!(log.matches(&told).count(), 1, "{log}");
    let shown = server.json(&["policy", "check"]).await?;
    assert_eq!(shown["cautions"].as_array().map(Vec::len), Some(1), "{shown}");
    for command in [["policy", "check"].as_slice(), &["check"]] {
        let said = server.printed(command).await?;
        assert_eq!(said.matches(&format!("! {told}")).count(), 1, "{said}");
    }
    Ok(())
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
