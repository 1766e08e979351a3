//! The ledger and the store: backups, checkpoints, damage, and clocks that disagree with what was recorded.

use std::{fs, path::Path, time::Duration};

use chancery_authority::{changes::Changes, ports::Store as _};
use chancery_harness::{
    Result,
    responder::Responder,
    server::{POLICY, Server, Setup},
};
use chancery_ledger::leaf::CrlPublished;
use chancery_pki::Timestamp;
use chancery_store_sled::{Options, SledStore};
use serde_json::json;

use super::{error_of, pem_of};

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
