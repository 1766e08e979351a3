//! Writing system calls that fail with EIO or ENOSPC, while the server starts and while it works.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use chancery_harness::{Result, responder::Responder, server::Server};

use crate::{
    chance::Chance,
    flows::{self, Load, Tally},
    program,
    strace::{self, Attached, Fault},
    tell,
};

const CLIENTS: usize = 4;
/// Longest that a server whose journal failed may take to end.
const ENDS: Duration = Duration::from_secs(20);

/// Every call by which commits, sweeps and starts change what is on the disk. Not ftruncate: neither a commit nor a
/// sweep makes it, which was tried, it was never met. A start notes in the lock's file whose it is, for people alone;
/// and a write that found no room is taken back, where the store's own tests fail it.
const CALLS: [&str; 8] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "sync_file_range",
    "openat",
    "rename,renameat,renameat2",
    "unlink,unlinkat",
    "mkdir,mkdirat",
];

/// What a fault struck of the journal, by the paths in the trace.
#[derive(Debug, Default)]
struct Struck {
    written: bool,
    synced: bool,
}

impl Struck {
    fn of(lines: &[String]) -> Self {
        let of_journal = |call: &str| lines.iter().any(|line| line.contains(call) && line.contains(".journal"));
        Self { written: of_journal("pwrite64("), synced: of_journal("fdatasync(") }
    }

    /// Whether the server must end. What was not synced may be on the disk or not, whatever the error says; a write
    /// that found no room is taken back.
    fn is_fatal(&self, error: &str) -> bool {
        self.synced || (self.written && error == "EIO")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_call_that_fails_under_load_loses_nothing_acknowledged() -> Result<()> {
    let Some(strace) = program("strace", "it makes system calls fail") else { return Ok(()) };
    let mut chance = Chance::of("failing calls");
    let (mut server, responder) = flows::server().await?;
    let (mut tally, mut ended, mut went_on) = (Tally::default(), 0, 0);
    let mut hits: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for calls in CALLS {
        for error in ["EIO", "ENOSPC"] {
            // The journal's calls come with every group, those of a sweep once for each file.
            let of_journal = matches!(calls, "pwrite64" | "fdatasync");
            let firsts = [1, 2 + chance.below(5), 7 + chance.below(40)];
            for first in firsts.into_iter().take(if of_journal { 3 } else { 2 }) {
                let fault = Fault { calls, instead: format!("error={error}"), when: first.to_string() };
                let before = fs::read_to_string(server.log())?.len();
                let load = Load::start(&server, &responder, CLIENTS, &format!("s{}", chance.below(1 << 30))).await?;
                load.until(20, Duration::from_secs(10)).await;
                load.strike();
                let trace = server.scratch("trace")?.join("trace");
                let process = server.process().ok_or("the server does not run")?;
                let attached = Attached::to(process, &strace, &fault, trace).await?;
                load.until(usize::MAX, Duration::from_millis(1000)).await;
                // A stop sweeps once more, and signs a last checkpoint.
                let stopped = if of_journal { None } else { server.stop().await.ok() };
                let lines = attached.detach().await?;
                let struck = Struck::of(&lines);
                let log = fs::read_to_string(server.log())?.split_off(before);
                let context = format!("{fault:?}\n{}\n{log}", lines.join("\n"));
                // Rule 4: after a failed write or sync of the journal nothing more is acknowledged, and the process ends.
                let within = if struck.is_fatal(error) { ENDS } else { Duration::ZERO };
                let status = match stopped {
                    Some(status) => Some(status),
                    None => server.ended(within).await?,
                };
                match status {
                    Some(status) if status.success() => went_on += 1,
                    Some(status) => {
                        ended += 1;
                        assert_eq!(status.code(), Some(1), "{context}");
                        let log = fs::read_to_string(server.log())?.split_off(before);
                        assert!(log.contains("the store has stopped"), "{context}\n{log}");
                        assert!(!log.contains("panicked"), "{context}");
                    }
                    None => {
                        assert!(!struck.is_fatal(error), "it went on after its journal failed: {context}");
                        went_on += 1;
                        server.kill().await?;
                    }
                }
                *hits.entry((calls, error)).or_default() += usize::from(!lines.is_empty());
                let mut witness = load.end().await?;
                server.serve().await.map_err(|error| format!("{error}\nafter {context}"))?;
                tally.add(witness.check(&server).await.map_err(|error| format!("{error}\nafter {context}"))?);
            }
        }
    }
    server.printed(&["ledger", "verify"]).await?;
    tell(&format!(
        "failing calls under load: {ended} ended the server in words, {went_on} did not; {} certificates acknowledged, \
         {} finalizes interrupted",
        tally.acknowledged, tally.interrupted
    ));
    let never: Vec<_> = hits.iter().filter(|(_, hits)| **hits == 0).map(|(fault, _)| fault).collect();
    assert!(never.is_empty(), "never made to fail: {never:?} of {hits:?}");
    Ok(())
}

/// One start with a fault, of a store that a kill left behind.
async fn start_with(strace: &Path, fault: &Fault, server: &mut Server, responder: &Responder) -> Result<(bool, usize)> {
    let load = Load::start(server, responder, CLIENTS, "st").await?;
    load.until(12, Duration::from_secs(10)).await;
    load.strike();
    server.kill().await?;
    let mut witness = load.end().await?;
    let before = fs::read_to_string(server.log())?.len();
    let trace = server.scratch("trace")?.join("trace");
    // Of an earlier start.
    let _ = fs::remove_file(&trace);
    let started = server.serve_under(&strace::wrapper(strace, fault, &trace)).await;
    let log = fs::read_to_string(server.log())?.split_off(before);
    assert!(!log.contains("panicked"), "{fault:?}: {log}");
    match &started {
        Ok(()) => server.kill().await?,
        Err(_) => assert!(!log.trim().is_empty(), "{fault:?}: it ended without a word"),
    }
    server.serve().await.map_err(|error| format!("{error}\nafter {fault:?}\n{log}"))?;
    witness.check(server).await.map_err(|error| format!("{error}\nafter {fault:?}\n{log}"))?;
    Ok((started.is_ok(), strace::struck(&trace).len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_call_that_fails_at_a_start_leaves_the_next_start_clean() -> Result<()> {
    let Some(strace) = program("strace", "it makes system calls fail") else { return Ok(()) };
    let (mut server, responder) = flows::server().await?;
    let (mut refused, mut started, mut struck) = (0, 0, 0);
    for calls in CALLS.into_iter().filter(|calls| *calls != "openat") {
        for (error, first) in [("EIO", 1), ("ENOSPC", 1), ("EIO", 2), ("EIO", 3)] {
            let fault = Fault { calls, instead: format!("error={error}"), when: first.to_string() };
            let (went_on, hits) = start_with(&strace, &fault, &mut server, &responder).await?;
            struck += usize::from(hits > 0);
            if went_on { started += 1 } else { refused += 1 }
        }
    }
    tell(&format!("failing calls at a start: {struck} struck, {refused} starts ended in words, {started} went on"));
    assert!(struck >= 10 && refused >= 4, "{struck} {refused}");
    Ok(())
}
