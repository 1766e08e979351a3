//! `chancery store`: what is done while the server is stopped.

use std::{path::Path, time::Duration};

use chancery_authority::ports::Clock as _;
use chancery_store_sled::{
    Options,
    backup::{self, Restore},
    check,
};

use super::{ledger, serve::STORE, wait_for};
use crate::{
    cli::StoreCommand,
    config::{self, Config},
    exit::{Exit, Failed, Outcome},
    files,
    output::{Mark, agreed, line, marked, working},
    system::SystemClock,
};

/// How long to wait for a server that is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn run(command: StoreCommand, config: Option<&Path>) -> Outcome {
    let config = config::load(config)?;
    files::check_private_folder(&config.data).map_err(Failed::refused)?;
    match command {
        StoreCommand::Rebuild { yes } => rebuild(&config, yes),
        StoreCommand::Restore { backup, with_bundles, checkpoint, yes } => {
            restore(&config, &backup, with_bundles.as_deref(), checkpoint.as_deref(), yes)
        }
    }
}

fn rebuild(config: &Config, yes: bool) -> Outcome {
    let store = config.data.join(STORE);
    let question =
        format!("Make the index of {} anew? Open orders and pending authorizations are forgotten.", store.display());
    if !yes && !agreed(&question)? {
        return Err(Failed::refused("nothing was done; --yes answers the question"));
    }
    let rebuilt = working("making the index anew", || check::rebuild(&store, LOCK_WAIT)).map_err(Failed::damaged)?;
    marked(
        Mark::Good,
        format!(
            "the index was made anew from {} records: {} certificates ({} revocations), {} accounts, {} orders",
            rebuilt.leaves, rebuilt.certificates, rebuilt.revocations, rebuilt.accounts, rebuilt.orders
        ),
    )?;
    Ok(Exit::Ok)
}

fn restore(
    config: &Config,
    backup: &Path,
    with_bundles: Option<&Path>,
    checkpoint: Option<&Path>,
    yes: bool,
) -> Outcome {
    let target = config.data.join(STORE);
    let kept = match checkpoint {
        Some(file) => Some(ledger::kept_checkpoint(file, &ledger::verifier(config)?)?),
        None => None,
    };
    let question = format!(
        "Restore {} into {}? Nonces, open orders and single-use EAB keys become void.",
        backup.display(),
        target.display()
    );
    if !yes && !agreed(&question)? {
        return Err(Failed::refused("nothing was done; --yes answers the question"));
    }
    let what = Restore { backup, target: &target, with_bundles, kept, now: SystemClock.now() };
    let report = working("restoring", || {
        wait_for(async { backup::restore(what, Options::default()).await.map_err(Failed::failed) })
    })?;
    marked(Mark::Good, format!("restored {} records; epoch {} begins", report.from_backup, report.epoch))?;
    if report.recovered > 0 {
        marked(Mark::Good, format!("{} newer records were recovered", report.recovered))?;
    }
    if report.missing > 0 {
        let text = format!(
            "{} records that a checkpoint speaks of are lost: certificates among them exist and are not in the inventory",
            report.missing
        );
        marked(Mark::Note, text)?;
    }
    if report.void_orders > 0 {
        marked(Mark::Note, format!("{} open orders are void", report.void_orders))?;
    }
    line("\nnext: chancery ledger verify, then chancery serve")?;
    Ok(Exit::Ok)
}
