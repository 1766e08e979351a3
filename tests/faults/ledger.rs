//! The ledger's own files, read without any code of the project: what was signed, and for which order.
//!
//! An intent is recorded before anything is signed, so all intents are a superset of all signatures.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_harness::Result;
use serde_json::Value;

/// What the ledger of a server that was stopped says.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The certificate that each order led to: at most one, however often anybody asked.
    pub(crate) of_order: HashMap<String, String>,
    /// SHA-256 of each certificate with a signature that is known, and the order it was for.
    pub(crate) signed: HashMap<[u8; 32], Option<String>>,
    /// Records in all.
    pub(crate) size: usize,
}

/// Reads every record of the entry bundles below a data folder (C2SP tlog-tiles).
///
/// # Errors
///
/// Two certificates for one order, a serial number twice, or files that do not read.
pub(crate) fn read(data: &Path) -> Result<Ledger> {
    let mut bundles = BTreeMap::new();
    collect(&data.join("store/ledger/tile/entries"), "", &mut bundles)?;
    let mut ledger = Ledger::default();
    let mut serials = HashSet::new();
    let mut intents: HashMap<String, Option<String>> = HashMap::new();
    for bytes in bundles.values().map(fs::read) {
        let bytes = bytes?;
        let mut rest = bytes.as_slice();
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) =
                after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("a bundle ends in an entry")?;
            rest = after;
            ledger.size += 1;
            let leaf: Value = serde_json::from_slice(entry)?;
            let body = &leaf["body"];
            let text = |member: &str| body[member].as_str().map(str::to_owned);
            let certificate = text("certificate").unwrap_or_default();
            match leaf["kind"].as_str().unwrap_or_default() {
                "intent" => {
                    let serial = (text("authority"), text("serial"));
                    if !serials.insert(serial.clone()) {
                        return Err(format!("the serial number {serial:?} was used twice").into());
                    }
                    let order = text("order");
                    if let Some(order) = &order
                        && let Some(other) = ledger.of_order.insert(order.clone(), certificate.clone())
                    {
                        return Err(format!("order {order} led to two certificates: {other} and {certificate}").into());
                    }
                    intents.insert(certificate, order);
                }
                "signature" => {
                    let digest = URL_SAFE_NO_PAD.decode(text("sha256").unwrap_or_default())?;
                    let order = intents.get(&certificate).ok_or("a signature without an intent before it")?.clone();
                    ledger.signed.insert(digest.as_slice().try_into()?, order);
                }
                _ => {}
            }
        }
    }
    if ledger.size == 0 {
        return Err(format!("no record stands in the bundles of {}", data.display()).into());
    }
    Ok(ledger)
}

/// Bundles by their number; of a partial one the widest counts.
fn collect(folder: &Path, prefix: &str, bundles: &mut BTreeMap<String, std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if let Some(number) = name.strip_suffix(".p") {
            let mut widths: Vec<(u32, std::path::PathBuf)> = fs::read_dir(&path)?
                .flatten()
                .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
                .collect();
            widths.sort();
            if let Some((_, widest)) = widths.pop() {
                bundles.entry(format!("{prefix}{number}")).or_insert(widest);
            }
        } else if path.is_dir() {
            collect(&path, &format!("{prefix}{}", name.trim_start_matches('x')), bundles)?;
        } else {
            // A full bundle replaces what is left of a partial one.
            bundles.insert(format!("{prefix}{name}"), path);
        }
    }
    Ok(())
}
