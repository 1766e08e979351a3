//! `chancery store`: what is done while the server is stopped.

use std::path::Path;

use chancery_authority::ports::Clock as _;
use chancery_store_sled::{
    Options, Retained,
    backup::{self, Restore},
    check,
};

use super::{ledger, serve::STORE};
use crate::{
    cli::StoreCommand,
    config::{self, Config},
    exit::{Exit, Failed, Outcome},
    files,
    output::{Mark, agreed, line, marked, working},
    system::SystemClock,
};

/// How the store of this configuration is opened now.
pub(crate) fn options(config: &Config) -> Options {
    let now = SystemClock.now();
    let limits = &config.limits;
    let retained =
        Retained { full: now.before(limits.keep_expired_certificates), light: now.before(limits.keep_expired_light) };
    Options { retained, ..Options::default() }
}

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
    let rebuilt =
        working("making the index anew", || check::rebuild(&store, &options(config))).map_err(Failed::damaged)?;
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
    let key = ledger::verifier(config)?;
    let kept = checkpoint.map(|file| ledger::kept_checkpoint(file, &key)).transpose()?;
    let question =
        format!("Restore {} into {}? Nonces and open orders become void.", backup.display(), target.display());
    if !yes && !agreed(&question)? {
        return Err(Failed::refused("nothing was done; --yes answers the question"));
    }
    let what = Restore { backup, target: &target, with_bundles, kept, key: Some(key), now: SystemClock.now() };
    let report = working("restoring", || backup::restore(what, &options(config)).map_err(Failed::failed))?;
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
    for path in &report.disbelieved {
        marked(Mark::Note, format!("{}: not signed by the ledger's key, or too long; not believed", path.display()))?;
    }
    for path in &report.missing_policies {
        let text = "the text of a policy that was in force is in neither place; put it here if you have it";
        marked(Mark::Note, format!("{}: {text}", path.display()))?;
    }
    // Records that are lost look like records that were cut off: whoever restored says that it was no cut.
    let accept: String = report.lossy.iter().map(|name| format!(" --accept-restore {name}")).collect();
    line(format!("\nnext: chancery ledger verify{accept}, then chancery serve"))?;
    Ok(Exit::Ok)
}
