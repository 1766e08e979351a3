//! `chancery ledger`: verification and single records, on files, also beside a running server.

use std::path::Path;

use chancery_ledger::{
    Leaf, SignedCheckpoint, VerifierKey,
    verify::{Compared, Finding, Restore, RestoreName},
};
use chancery_pki::key::KeyParts;
use chancery_signer::KeyFile;
use chancery_store_sled::{
    OpenError,
    check::{self, Knowledge},
};
use serde::Serialize;

use super::serve::STORE;
use crate::{
    cli::LedgerCommand,
    config::{self, Config},
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, json, line, marked, working},
};

pub(crate) fn run(command: LedgerCommand, config: Option<&Path>, output: Format) -> Outcome {
    let config = config::load(config)?;
    match command {
        LedgerCommand::Verify { checkpoint, verifier_key, accept_restore } => {
            let key = verifier_key.map_or_else(|| verifier(&config), Ok)?;
            verify(&config, &key, checkpoint.as_deref(), accept_restore, output)
        }
        LedgerCommand::Key => {
            let verifier_key = verifier(&config)?.to_string();
            match output {
                Format::Json => json(&ShownKey { verifier_key })?,
                Format::Text => line(verifier_key)?,
            }
            Ok(Exit::Ok)
        }
        LedgerCommand::Show { index } => show(&config, index),
    }
}

/// The key that checkpoints of this ledger are signed with. Its file says it in the clear.
pub(crate) fn verifier(config: &Config) -> Result<VerifierKey, Failed> {
    let file = KeyFile::read(&config.ledger.key).map_err(Failed::failed)?;
    let KeyParts::Ed25519 { x } = file.public_key().parts() else {
        return Err(Failed::failed("the ledger's key is no Ed25519 key, which checkpoints need"));
    };
    let octets = <[u8; 32]>::try_from(x).map_err(Failed::failed)?;
    VerifierKey::new(&config.ledger.origin, octets).map_err(Failed::failed)
}

/// A checkpoint that was kept elsewhere, its signature verified.
pub(crate) fn kept_checkpoint(file: &Path, key: &VerifierKey) -> Result<SignedCheckpoint, Failed> {
    let shown = file.display();
    let bytes = std::fs::read(file).map_err(|error| Failed::failed(format_args!("{shown}: {error}")))?;
    let signed = SignedCheckpoint::parse(&bytes).map_err(|error| Failed::refused(format_args!("{shown}: {error}")))?;
    signed.verify(key).map_err(|error| Failed::refused(format_args!("{shown}: {error}")))?;
    Ok(signed)
}

/// The ledger's verifier key, for programs.
#[derive(Debug, Serialize)]
struct ShownKey {
    verifier_key: String,
}

/// What a verification found, for programs.
#[derive(Debug, Serialize)]
struct Shown {
    clean: bool,
    size: u64,
    root: Option<String>,
    records: std::collections::BTreeMap<&'static str, u64>,
    sealed: u64,
    checkpoints: Vec<ShownCheckpoint>,
    restores: Vec<ShownRestore>,
    findings: Vec<String>,
    findings_total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// A checkpoint that was compared.
#[derive(Debug, Serialize)]
struct ShownCheckpoint {
    label: String,
    outcome: String,
}

/// A restore that the ledger speaks of.
#[derive(Debug, Serialize)]
struct ShownRestore {
    record: u64,
    name: String,
    lost: u64,
    accepted: bool,
}

fn verify(
    config: &Config,
    key: &VerifierKey,
    checkpoint: Option<&Path>,
    accepted: Vec<RestoreName>,
    output: Format,
) -> Outcome {
    let kept = match checkpoint {
        Some(file) => vec![(file.display().to_string(), kept_checkpoint(file, key)?.unverified().clone())],
        None => Vec::new(),
    };
    let store = config.data.join(STORE);
    let knowledge = Knowledge { kept, key: Some(key.clone()), accepted };
    let verified =
        working("reading the whole ledger", || check::verify(&store, knowledge)).map_err(out_of_reach_or_damaged)?;
    let report = &verified.report;
    // The store's own checkpoint: the walk compared its root, its signature is looked at here.
    let signature = match &verified.checkpoint {
        None => Ok("there is no checkpoint yet".to_owned()),
        Some(note) => match SignedCheckpoint::parse(note.as_bytes()) {
            Err(error) => Err(format!("the store's own checkpoint does not read: {error}")),
            Ok(signed) => match signed.verify(key) {
                Ok(checkpoint) => {
                    Ok(format!("the checkpoint of {} records is signed by the ledger's key", checkpoint.size()))
                }
                Err(error) => Err(format!("the store's own checkpoint: {error}")),
            },
        },
    };
    let mut findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    findings.extend(signature.clone().err());
    let clean = report.is_clean() && signature.is_ok();
    let compared = |compared: &Compared| match compared {
        Compared::Same => "the ledger still holds everything that it covers".to_owned(),
        Compared::RestoredSince { restore } => {
            format!("a backup was restored since; record {restore} names this very checkpoint")
        }
        Compared::Superseded { restore } => {
            format!("a backup was restored since; record {restore} names a later checkpoint")
        }
        Compared::Different => "the ledger holds something else".to_owned(),
        Compared::Unknown => "nothing can be said: records before it are missing".to_owned(),
    };
    if output == Format::Json {
        json(&Shown {
            clean,
            size: report.size,
            root: report.root.map(|root| root.to_string()),
            records: report.counts.clone(),
            sealed: report.sealed,
            checkpoints: report
                .checkpoints
                .iter()
                .map(|(label, outcome)| ShownCheckpoint { label: label.clone(), outcome: compared(outcome) })
                .collect(),
            restores: report
                .restores
                .iter()
                .map(|restore| ShownRestore {
                    record: restore.name.index,
                    name: restore.name.to_string(),
                    lost: restore.lost(),
                    accepted: restore.accepted,
                })
                .collect(),
            findings,
            findings_total: report.findings_total + u64::from(signature.is_err()),
            unread: verified.unread.as_ref().map(|unread| unread.first.clone()),
        })?;
    } else {
        let root = report.root.map_or_else(|| "unknown".to_owned(), |root| root.to_string());
        line(format!("{} records, root {root}", report.size))?;
        let counts: Vec<String> = report.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        line(format!("  {}", counts.join(", ")))?;
        for (label, outcome) in &report.checkpoints {
            let mark = if matches!(outcome, Compared::Same) { Mark::Good } else { Mark::Note };
            let mark = if matches!(outcome, Compared::Different) { Mark::Bad } else { mark };
            marked(mark, format!("checkpoint {label}: {}", compared(outcome)))?;
        }
        for restore in &report.restores {
            let lost = match restore.lost() {
                // What came after the last checkpoint nobody can count.
                0 => "no record is missing that a checkpoint known then covers".to_owned(),
                lost => format!("the last {lost} of {} records were lost", restore.checkpoint.size),
            };
            marked(Mark::Note, format!("record {}: a backup was restored; {lost}", restore.name.index))?;
        }
        match &signature {
            Ok(text) => marked(Mark::Good, text)?,
            Err(text) => marked(Mark::Bad, text)?,
        }
        for finding in &report.findings {
            marked(Mark::Bad, finding.to_string())?;
        }
        if clean {
            let lost = report.restores.iter().map(Restore::lost).sum::<u64>();
            let text = match (report.restores.is_empty(), lost) {
                (true, _) => "nothing was changed, dropped or moved".to_owned(),
                (false, 0) => "nothing was changed or moved, and nothing dropped that a checkpoint covers".to_owned(),
                (false, lost) => format!(
                    "nothing was changed or moved, and nothing dropped that a checkpoint covers but the {lost} records \
                     of the restores that you accepted"
                ),
            };
            marked(Mark::Good, text)?;
        }
    }
    if clean {
        return Ok(Exit::Ok);
    }
    let asks = report.findings.iter().all(Finding::asks);
    if asks && signature.is_ok() {
        return Err(Failed::refused(
            "records of the past are gone, and only you can say whether a restore of yours lost them: if so, name its \
             record by --accept-restore; if not, the ledger was truncated",
        ));
    }
    let total = report.findings_total + u64::from(signature.is_err());
    if let (Some(unread), false, true) = (&verified.unread, verified.is_damaged(), signature.is_ok()) {
        return Err(Failed::failed(format_args!(
            "the ledger could not be read whole, and what could not be read is not known to be damaged: {}; see to that \
             and verify again",
            unread.first
        )));
    }
    Err(Failed::damaged(format_args!(
        "the ledger does not verify: {total} findings; a backup heals it (chancery store restore)"
    )))
}

fn out_of_reach_or_damaged(error: OpenError) -> Failed {
    if error.is_damage() { Failed::damaged(error) } else { Failed::failed(error) }
}

fn show(config: &Config, index: u64) -> Outcome {
    let bytes = check::leaf(&config.data.join(STORE), index)
        .map_err(out_of_reach_or_damaged)?
        .ok_or_else(|| Failed::failed(format_args!("the ledger has no record {index} yet")))?;
    // A leaf is canonical JSON already; shown, it is only spread out.
    Leaf::decode(&bytes).map_err(|error| Failed::damaged(format_args!("record {index}: {error}")))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(Failed::damaged)?;
    json(&value)?;
    Ok(Exit::Ok)
}
