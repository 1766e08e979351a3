//! Kills, failing system calls, flipped bytes and power cuts against the real binary.
//!
//! One question is asked after each: is everything there that was acknowledged, and is nothing
//! there twice? Clients of our own keep what they were told ([`flows`]); what the office signed is
//! read from its ledger by a reader that shares no code with it ([`ledger`]).
//!
//! `CHANCERY_FAULT_KILLS` sets how many kills (60), `CHANCERY_FAULT_SEED` what chance does.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod chance;
mod damage;
mod flows;
mod kill;
mod ledger;
mod power;
mod strace;
mod syscalls;

use std::{io::Write as _, path::PathBuf};

/// A line that is seen whether or not the test passes: what the test macros print is kept from everybody.
fn tell(line: &str) {
    // Whatever the harness has printed before on this line, it begins one of its own.
    let _ = writeln!(std::io::stderr(), "\n{line}");
}

/// A program of the machine; without it the test that wants it is skipped, loudly.
fn program(name: &str, why: &str) -> Option<PathBuf> {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        tell(&format!("SKIPPED: there is no {name} on this machine ({why})"));
    }
    found
}
