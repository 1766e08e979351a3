//! A flipped byte: it is found and named, never served; sled is healed from the ledger, the rest from a backup.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chancery_harness::{Result, responder::Responder, server::Server};
use tokio::process::Command;

use crate::{
    chance::Chance,
    flows::{self, Load, Witness},
    tell,
};

const CLIENTS: usize = 4;

/// A store that was stopped, and how to get it back as it was.
struct Kept {
    server: Server,
    witness: Witness,
    copy: PathBuf,
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    // Whatever lay there before.
    let _ = fs::remove_dir_all(to);
    chancery_harness::server::succeeded(&Command::new("cp").arg("-a").arg(from).arg(to).output().await?)
}

impl Kept {
    /// Some certificates, then a stop or a kill, and a copy of the store as it then stands.
    async fn after(certificates: usize, kill: bool) -> Result<Self> {
        let (mut server, responder) = flows::server().await?;
        let witness = issue(&mut server, &responder, certificates, kill).await?;
        let copied = server.scratch("kept")?.join("store");
        copy(&server.path().join("store"), &copied).await?;
        Ok(Self { server, witness, copy: copied })
    }

    fn store(&self) -> PathBuf {
        self.server.path().join("store")
    }

    async fn bring_back(&self) -> Result<()> {
        copy(&self.copy, &self.store()).await
    }
}

async fn issue(server: &mut Server, responder: &Responder, certificates: usize, kill: bool) -> Result<Witness> {
    let load = Load::start(server, responder, CLIENTS, "d").await?;
    load.until(certificates, Duration::from_secs(60)).await;
    load.strike();
    if kill {
        server.kill().await?;
    } else {
        assert!(server.stop().await?.success());
    }
    load.end().await
}

/// The files below a folder that hold anything, by a part of their path.
fn files(folder: &Path, part: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.display().to_string().contains(part) && path.metadata()?.len() > 0 {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn flip(file: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    *bytes.get_mut(at).ok_or("no such byte")? ^= 0x10;
    Ok(fs::write(file, bytes)?)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_journal_is_named_and_nothing_is_served() -> Result<()> {
    let mut chance = Chance::of("journal");
    let mut kept = Kept::after(80, true).await?;
    let mut last_frames = 0;
    for _ in 0..12 {
        kept.bring_back().await?;
        let segments = files(&kept.store(), ".journal")?;
        let segment = segments.last().ok_or("no journal")?;
        let bytes = fs::read(segment)?;
        // Behind the last frame is room that was never written; in the last frame a flipped byte
        // looks like a frame that a power cut tore, and cannot be told from it.
        let end = bytes.windows(4).rposition(|window| window == b"CHF1").ok_or("no frame")?;
        let at = chance.below(end);
        flip(segment, at)?;
        match kept.server.serve().await {
            Ok(()) => return Err(format!("it started with byte {at} of {} flipped", segment.display()).into()),
            Err(error) => {
                let said = error.to_string();
                let said = said.lines().rev().take(4).collect::<Vec<_>>().join("\n");
                assert!(said.contains(&name(segment)) && said.contains("byte"), "{said}");
            }
        }
        last_frames += 1;
    }
    kept.bring_back().await?;
    kept.server.serve().await?;
    kept.witness.check(&kept.server).await?;
    tell(&format!("{last_frames} flipped bytes in the journal: each start refused and named the file"));
    Ok(())
}

/// Reads every row of the inventory out of the index. (An export reads the ledger.)
const INVENTORY: [&str; 4] = ["certificate", "list", "--limit", "100000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_sled_is_never_served_and_a_rebuild_heals_it() -> Result<()> {
    let mut chance = Chance::of("sled");
    let mut kept = Kept::after(120, false).await?;
    kept.server.serve().await?;
    let before = kept.server.printed(&INVENTORY).await?;
    assert!(kept.server.stop().await?.success());
    copy(&kept.store(), &kept.copy).await?;
    let (mut refused, mut named, mut unharmed) = (0, 0, 0);
    for _ in 0..12 {
        kept.bring_back().await?;
        let index = files(&kept.store().join("index"), "")?;
        let file = &index[chance.below(index.len())];
        let bytes = fs::read(file)?;
        // Room that holds nothing but zeros is no part of any record.
        let used: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
        let at = used[chance.below(used.len())];
        flip(file, at)?;
        let context = format!("byte {at} of {}", file.display());
        match kept.server.serve().await {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("index"), "{context}: {error}");
            }
            Ok(()) => {
                let output = kept.server.command(&INVENTORY).await?;
                if output.status.success() {
                    assert_eq!(String::from_utf8_lossy(&output.stdout), before, "{context}");
                    unharmed += 1;
                } else {
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(
                        ["damaged", "rebuild", "does not read"].iter().any(|word| said.contains(word)),
                        "{context}: {said}"
                    );
                    named += 1;
                }
                server_ends(&mut kept.server).await?;
            }
        }
        kept.server.printed(&["store", "rebuild", "--yes"]).await.map_err(|error| format!("{context}: {error}"))?;
        kept.server.serve().await?;
        assert_eq!(kept.server.printed(&INVENTORY).await?, before, "{context}");
        assert!(kept.server.stop().await?.success());
    }
    kept.server.serve().await?;
    kept.witness.check(&kept.server).await?;
    tell(&format!(
        "12 flipped bytes in sled: {refused} starts refused, {named} answers refused, {unharmed} hit nothing that is read; \
         each rebuild healed"
    ));
    Ok(())
}

/// Stops a server that may have found damage.
async fn server_ends(server: &mut Server) -> Result<()> {
    if server.ended(Duration::ZERO).await?.is_none() {
        server.kill().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_ledger_is_named_and_a_backup_heals_it() -> Result<()> {
    let mut chance = Chance::of("ledger");
    let (mut server, responder) = flows::server().await?;
    let load = Load::start(&server, &responder, CLIENTS, "b").await?;
    load.until(300, Duration::from_secs(60)).await;
    load.strike();
    let backup = server.scratch("backups")?.join("one");
    let mut witness = {
        // Beside the load.
        server.printed(&["backup", &backup.display().to_string()]).await?;
        assert!(server.stop().await?.success());
        load.end().await?
    };
    let kept = server.scratch("kept")?.join("store");
    copy(&server.path().join("store"), &kept).await?;
    let mut found = 0;
    for file in &files(&kept.join("ledger"), "tile")? {
        copy(&kept, &server.path().join("store")).await?;
        let file = &server.path().join("store").join(file.strip_prefix(&kept)?);
        let at = chance.below(fs::read(file)?.len());
        flip(file, at)?;
        let output = server.command(&["ledger", "verify"]).await?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!output.status.success(), "byte {at} of {}: {said}", file.display());
        assert!(said.contains("record"), "byte {at} of {}: {said}", file.display());
        found += 1;
    }
    // The last one stays, and the backup heals it; what came after the backup is in the undamaged bundles.
    let damaged = server.scratch("damaged")?.join("store");
    fs::rename(server.path().join("store"), &damaged)?;
    server.printed(&["store", "restore", &backup.display().to_string(), "--yes"]).await?;
    server.printed(&["ledger", "verify"]).await?;
    // And with all that the old disk still had, nothing is missing.
    fs::remove_dir_all(server.path().join("store"))?;
    let (backup, kept) = (backup.display().to_string(), kept.display().to_string());
    server.printed(&["store", "restore", &backup, "--with-bundles", &kept, "--yes"]).await?;
    server.serve().await?;
    witness.is_still_handed_out(&server).await?;
    server.printed(&["ledger", "verify"]).await?;
    tell(&format!("{found} flipped bytes in bundles and tiles: each named; a restore from the backup healed"));
    Ok(())
}
