//! The server under a service manager: what it says, what it is given, and the unit that we ship.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use chancery_harness::{
    Result,
    server::{POLICY, Server, Setup},
};
use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};

fn unit() -> Result<String> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd/chancery.service"))?)
}

/// The settings of the unit's service, each with its values.
fn settings(unit: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut settings = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')) {
        settings.entry(name).or_default().push(value);
    }
    settings
}

/// What systemd's own clock says, in microseconds.
fn monotonic_us() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// The next that is no sign of life.
async fn said(server: &Server) -> Result<String> {
    loop {
        let said = server.notification().await?;
        if said.trim() != "WATCHDOG=1" {
            return Ok(said);
        }
    }
}

/// One reload, as sd_notify(3) has it: RELOADING=1 with the time, then READY=1.
async fn a_reload_is_said(server: &Server, since: i64) -> Result<()> {
    let said_first = said(server).await?;
    let lines: Vec<&str> = said_first.lines().collect();
    let [first, second] = *lines else { return Err(said_first.into()) };
    assert_eq!(first, "RELOADING=1");
    let time: i64 = second.strip_prefix("MONOTONIC_USEC=").ok_or(said_first.clone())?.parse()?;
    assert!((since..=monotonic_us()).contains(&time), "{time} is not between {since} and now");
    assert_eq!(said(server).await?.trim(), "READY=1");
    Ok(())
}

#[tokio::test]
async fn the_service_manager_hears_of_reloads_good_or_bad_of_life_and_of_the_end() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    server.serve_with(&[("WATCHDOG_USEC", "400000")]).await?;
    for _ in 0..3 {
        assert_eq!(server.notification().await?.trim(), "WATCHDOG=1");
    }
    let since = monotonic_us();
    server.printed(&["reload"]).await?;
    a_reload_is_said(&server, since).await?;

    let since = monotonic_us();
    server.signal(Signal::HUP)?;
    a_reload_is_said(&server, since).await?;

    // What is broken is not taken, and the service is ready as it was.
    fs::write(server.path().join("policy.yaml"), "not a policy")?;
    let since = monotonic_us();
    assert_eq!(server.command(&["reload"]).await?.status.code(), Some(3));
    a_reload_is_said(&server, since).await?;
    fs::write(server.path().join("policy.yaml"), POLICY)?;

    server.signal(Signal::TERM)?;
    assert_eq!(said(&server).await?.trim(), "STOPPING=1");
    assert!(server.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_reload_that_takes_long_keeps_neither_signs_of_life_nor_a_stop_waiting() -> Result<()> {
    let mut server = Server::prepare(&Setup::default()).await?;
    server.serve_with(&[("WATCHDOG_USEC", "200000")]).await?;
    // A pipe that nobody writes into: whoever reads it waits.
    let policy = server.path().join("policy.yaml");
    fs::remove_file(&policy)?;
    assert!(std::process::Command::new("mkfifo").arg(&policy).status()?.success());
    server.signal(Signal::HUP)?;
    assert!(said(&server).await?.starts_with("RELOADING=1"));
    for _ in 0..3 {
        assert_eq!(server.notification().await?.trim(), "WATCHDOG=1");
    }
    server.signal(Signal::TERM)?;
    assert_eq!(said(&server).await?.trim(), "STOPPING=1");
    assert!(server.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_sign_of_life_that_is_wanted_of_another_process_is_not_given() -> Result<()> {
    // WATCHDOG_PID names the process that is watched.
    let mut server = Server::prepare(&Setup::default()).await?;
    server.serve_with(&[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")]).await?;
    server.printed(&["reload"]).await?;
    let first = server.notification().await?;
    assert!(first.starts_with("RELOADING=1"), "{first}");
    Ok(())
}

#[tokio::test]
async fn the_passphrase_comes_as_the_credential_that_the_unit_names_and_nothing_else_opens_the_keys() -> Result<()> {
    let unit = unit()?;
    let settings = settings(&unit);
    let [credential] = *settings["LoadCredential"] else { return Err("one credential".into()) };
    let (name, _) = credential.split_once(':').ok_or("a credential and its file")?;

    let mut server = Server::prepare(&Setup::default()).await?;
    let credentials: PathBuf = server.scratch("credentials")?;
    // As systemd lays it down: for its owner alone, and never written again.
    fs::rename(server.path().join("passphrase"), credentials.join(name))?;
    fs::set_permissions(credentials.join(name), fs::Permissions::from_mode(0o400))?;
    let config = fs::read_to_string(server.configuration())?;
    let line =
        config.lines().find(|line| line.starts_with("passphrase")).ok_or("the configuration names a passphrase")?;
    let config = config.replace(line, &format!("passphrase = {{ credential = \"{name}\" }}"));
    fs::write(server.configuration(), config)?;

    let output = server.command(&["serve"]).await?;
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("CREDENTIALS_DIRECTORY is not set"), "{error}");
    server.serve_with(&[("CREDENTIALS_DIRECTORY", &credentials.display().to_string())]).await?;
    // A command beside it, as ExecReload is, needs no passphrase.
    server.printed(&["reload"]).await?;
    server.client().await?;
    Ok(())
}

#[test]
fn the_unit_starts_what_there_is_and_stops_it_no_sooner_than_it_takes() -> Result<()> {
    let unit = unit()?;
    let settings = settings(&unit);
    for (setting, command) in [("ExecStart", "serve"), ("ExecReload", "reload")] {
        let [line] = *settings[setting] else { return Err(format!("one {setting}").into()) };
        let (binary, arguments) = line.split_once(' ').ok_or("a binary and its arguments")?;
        assert_eq!((binary, arguments), ("/usr/local/bin/chancery", command));
        let help = std::process::Command::new(env!("CARGO_BIN_EXE_chancery")).args([arguments, "--help"]).output()?;
        assert!(help.status.success(), "{arguments}");
    }
    let sample = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples/chancery.toml"))?;
    let stop: u64 = sample
        .lines()
        .find_map(|line| line.strip_prefix("stop_timeout = \"")?.strip_suffix("s\"")?.parse().ok())
        .ok_or("a time to stop")?;
    let [waits] = *settings["TimeoutStopSec"] else { return Err("one TimeoutStopSec".into()) };
    assert!(
        waits.parse::<u64>()? > stop + 5,
        "systemd kills after {waits} s, the server may take {stop} s and a little"
    );
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations/first-start.md"))?;
    assert!(docs.contains("deploy/systemd/chancery.service"));
    Ok(())
}
