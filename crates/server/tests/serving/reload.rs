//! New policies and configurations while the server runs, and those that it refuses.

use std::{fs, time::Duration};

use chancery_harness::{
    Result,
    responder::Responder,
    server::{POLICY, Server, Setup},
};
use serde_json::json;

use super::error_of;

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
async fn a_policy_that_forgets_the_servers_own_name_is_refused_before_a_renewal_fails() -> Result<()> {
    let server = Server::start(&Setup::default()).await?;
    fs::write(server.path().join("policy.yaml"), POLICY.replace("[localhost]", "[elsewhere.test]"))?;
    let output = server.command(&["reload"]).await?;
    assert_eq!(output.status.code(), Some(3));
    assert!(error_of(&output).contains("door: own-tls"), "{}", error_of(&output));
    Ok(())
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
