//! The power is cut: a real ext4 on a loop device is shut down as xfstests does it, so that all that
//! was not synced is gone, journal of the file system included. Full and read-only disks likewise.

use std::{fs, path::PathBuf, process::Output, time::Duration};

use chancery_harness::{
    Result,
    responder::Responder,
    server::{Server, Setup, succeeded},
};
use tempfile::TempDir;
use tokio::{process::Command, time::interval};

use crate::{
    chance::Chance,
    flows::{self, Load, Tally},
    program,
    strace::{self, Fault},
    tell,
};

const CLIENTS: usize = 4;
/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h): nothing more reaches the disk.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))";

/// A file system of its own, in a file.
struct Volume {
    /// Holds the image and the mount point; unmounted before it goes.
    folder: TempDir,
    mounted: bool,
}

async fn run(command: &str, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(command).args(arguments).output().await?)
}

impl Volume {
    /// `None`, loudly, where a file system cannot be mounted.
    async fn new(mib: u64) -> Result<Option<Self>> {
        for (name, why) in [("mkfs.ext4", "it makes a file system"), ("python3", "it cuts the power")] {
            if program(name, why).is_none() {
                return Ok(None);
            }
        }
        let mut volume = Self { folder: tempfile::tempdir()?, mounted: false };
        fs::create_dir(volume.path())?;
        fs::File::create(volume.image())?.set_len(mib << 20)?;
        succeeded(&run("mkfs.ext4", &["-q", "-F", &volume.image().display().to_string()]).await?)?;
        if let Err(why) = volume.mount().await {
            tell(&format!("SKIPPED: a file system cannot be mounted here (root and a loop device are needed): {why}"));
            return Ok(None);
        }
        Ok(Some(volume))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("volume")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    async fn mount(&mut self) -> Result<()> {
        let (image, path) = (self.image().display().to_string(), self.path().display().to_string());
        succeeded(&run("mount", &["-o", "loop", &image, &path]).await?)?;
        self.mounted = true;
        Ok(())
    }

    async fn unmount(&mut self) -> Result<()> {
        // What traced a process that was killed may hold its files for a moment longer.
        let mut tries = interval(Duration::from_millis(50));
        for _ in 0..200 {
            tries.tick().await;
            let output = run("umount", &[&self.path().display().to_string()]).await?;
            self.mounted = !output.status.success();
            if !self.mounted || !String::from_utf8_lossy(&output.stderr).contains("busy") {
                return succeeded(&output);
            }
        }
        Err("the file system stays busy".into())
    }

    async fn cut_power(&self) -> Result<()> {
        succeeded(&run("python3", &["-c", SHUTDOWN, &self.path().display().to_string()]).await?)
    }

    async fn sync(&self) -> Result<()> {
        succeeded(&run("sync", &["-f", &self.path().display().to_string()]).await?)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            let _ = std::process::Command::new("umount").arg("-l").arg(self.path()).status();
        }
    }
}

/// Load, the power goes, and comes back.
async fn cut(
    volume: &mut Volume,
    server: &mut Server,
    responder: &Responder,
    prefix: &str,
    after: Duration,
) -> Result<flows::Witness> {
    let load = Load::start(server, responder, CLIENTS, prefix).await?;
    load.until(usize::MAX, after).await;
    load.strike_and_hear_no_more();
    volume.cut_power().await?;
    server.kill().await?;
    let witness = load.end().await?;
    volume.unmount().await?;
    volume.mount().await?;
    Ok(witness)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_acknowledged() -> Result<()> {
    let mut chance = Chance::of("power cuts");
    let Some(mut volume) = Volume::new(1024).await? else { return Ok(()) };
    let cuts = std::env::var("CHANCERY_FAULT_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(16);
    let log = Some(volume.folder.path().join("log"));
    let (mut server, responder) =
        flows::server_as(Setup { within: Some(volume.path()), log, ..Setup::default() }).await?;
    // What `init` and the test itself wrote is not what is tried here.
    volume.sync().await?;
    let mut tally = Tally::default();
    for number in 0..cuts {
        let prefix = format!("p{number}");
        let mut witness = cut(&mut volume, &mut server, &responder, &prefix, chance.time_ms(5, 1500)).await?;
        server.serve().await?;
        let log = fs::read_to_string(server.log())?;
        tally.add(witness.check(&server).await.map_err(|error| format!("{error}\nafter cut {number}:\n{log}"))?);
    }
    server.printed(&["ledger", "verify"]).await?;
    assert!(server.stop().await?.success());
    assert!(tally.acknowledged > 0, "nothing was acknowledged: the cuts had nothing to lose");
    tell(&format!(
        "{cuts} power cuts: {} certificates acknowledged, none lost; {} finalizes interrupted ({} then valid, {} then invalid)",
        tally.acknowledged, tally.interrupted, tally.then_valid, tally.then_invalid
    ));
    drop(server);
    volume.unmount().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_without_our_syncs_is_noticed_by_this_very_check() -> Result<()> {
    let Some(strace) = program("strace", "it takes our syncs out") else { return Ok(()) };
    let fault =
        Fault { calls: "fdatasync,fsync,sync_file_range", instead: "retval=0".to_owned(), when: "1+".to_owned() };
    let (mut noticed, mut tried) = (Vec::new(), 0);
    for number in 0..4 {
        let Some(mut volume) = Volume::new(256).await? else { return Ok(()) };
        let (mut server, responder) =
            flows::server_as(Setup { within: Some(volume.path()), ..Setup::default() }).await?;
        assert!(server.stop().await?.success());
        volume.sync().await?;
        let trace = volume.folder.path().join("trace");
        server.serve_under(&strace::wrapper(&strace, &fault, &trace)).await?;
        let prefix = format!("l{number}");
        let mut witness = cut(&mut volume, &mut server, &responder, &prefix, Duration::from_millis(1500)).await?;
        assert!(!strace::struck(&trace).is_empty());
        tried += 1;
        let outcome = match server.serve().await {
            Ok(()) => witness.check(&server).await.map(drop),
            // What the start says of the store, not that something else kept it from starting.
            Err(error) => {
                let said = error.to_string();
                let names = ["journal", "ledger", "index", "store", "checkpoint"];
                assert!(names.iter().any(|what| said.contains(what)), "no start for another reason: {said}");
                Err(said.lines().last().unwrap_or_default().to_owned().into())
            }
        };
        if let Err(what) = outcome {
            noticed.push(what.to_string());
        }
        drop(server);
        volume.unmount().await?;
    }
    let first = noticed.first().map_or("", |what| what.lines().next().unwrap_or_default());
    tell(&format!("power cuts without our syncs: {} of {tried} noticed, the first: {first}", noticed.len()));
    assert_eq!(noticed.len(), tried, "a power cut lost nothing although nothing was synced: the check sees nothing");
    Ok(())
}

/// Fills the disk until so many bytes are left; what fills it.
fn fill(volume: &Volume, leave: u64) -> Result<PathBuf> {
    let path = volume.path().join("ballast");
    let ballast = fs::File::create(&path)?;
    let found = rustix::fs::statvfs(volume.path())?;
    let length = (found.f_bavail * found.f_frsize).saturating_sub(leave);
    rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, length)?;
    // The last blocks of a file system come one by one.
    while leave == 0 && std::io::Write::write(&mut &ballast, &[1; 1 << 16]).is_ok_and(|written| written > 0) {}
    Ok(path)
}

/// Issuance is refused in words and nothing else is: what was issued can be read, and revoked.
async fn only_issuance_stops(server: &Server, witness: &mut flows::Witness) -> Result<()> {
    let client = witness.first_client()?;
    client.nonce = None;
    let refused = client.new_order(&["full.test"]).await?;
    let detail = refused.text("detail")?;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{detail}");
    assert!(detail.contains("disk"), "{detail}");
    let url = client.resource("newNonce");
    assert!(client.get(&url).await?.header("replay-nonce").is_some());
    witness.is_still_handed_out(server).await
}

/// It ends with these words. They are read from a pipe, since the server's log is on the same disk.
async fn refuses_to_start(server: &Server, why: &str) -> Result<()> {
    let output = server.command(&["serve"]).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(why), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_issuance_in_words_and_reading_goes_on() -> Result<()> {
    for leave in [16 << 20, 0] {
        let Some(mut volume) = Volume::new(384).await? else { return Ok(()) };
        let (mut server, responder) =
            flows::server_as(Setup { within: Some(volume.path()), ..Setup::default() }).await?;
        let load = Load::start(&server, &responder, CLIENTS, "before").await?;
        load.until(20, Duration::from_secs(20)).await;
        load.strike();
        let ballast = fill(&volume, leave)?;
        // Whoever was at work is told so.
        let mut witness = load.end().await?;
        only_issuance_stops(&server, &mut witness).await?;
        let serial = witness.serials()?.pop().ok_or("no certificate")?;
        server.printed(&["certificate", "revoke", &serial, "--reason", "superseded", "--yes"]).await?;
        // It goes on by itself when there is room again.
        fs::remove_file(ballast)?;
        witness.issues_again().await?;
        witness.check(&server).await?;
        // The same at a start.
        let ballast = fill(&volume, leave)?;
        server.kill().await?;
        match server.serve().await {
            Ok(()) => only_issuance_stops(&server, &mut witness).await?,
            Err(_) => refuses_to_start(&server, "No space left").await?,
        }
        fs::remove_file(ballast)?;
        if server.process().is_none() {
            server.serve().await?;
        }
        witness.issues_again().await?;
        witness.check(&server).await?;
        server.printed(&["ledger", "verify"]).await?;
        assert!(server.stop().await?.success());
        drop(server);
        volume.unmount().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_stops_issuance_in_words_and_reading_goes_on() -> Result<()> {
    let Some(mut volume) = Volume::new(384).await? else { return Ok(()) };
    let (mut server, responder) = flows::server_as(Setup { within: Some(volume.path()), ..Setup::default() }).await?;
    let load = Load::start(&server, &responder, CLIENTS, "before").await?;
    load.until(20, Duration::from_secs(20)).await;
    // Nothing is under way then: a sync that fails in its middle ends the server, as it must.
    load.strike_and_hear_no_more();
    let mut witness = load.end().await?;
    // What ext4 does by itself after an error of the device.
    succeeded(&run("mount", &["-o", "remount,abort", &volume.path().display().to_string()]).await?)?;
    only_issuance_stops(&server, &mut witness).await?;
    server.kill().await?;
    refuses_to_start(&server, "ead-only").await?;
    volume.unmount().await?;
    volume.mount().await?;
    server.serve().await?;
    witness.check(&server).await?;
    witness.issues_again().await?;
    assert!(server.stop().await?.success());
    drop(server);
    volume.unmount().await
}
