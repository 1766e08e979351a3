//! The index as a file: every entry, lengths in little-endian, key, value.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256};
use chancery_acme::{id::AccountId, order::OrderState};
use chancery_authority::changes::Counter;

use super::{Copier, EXPORT, PIECE, Sum, hex_sum};
use crate::{
    index::Index,
    journal::{Damage, Results},
    key::{self, class},
    record::{self, OrderRow},
};

/// Entries of an export that go to the index at once.
const BATCH: usize = 4096;

pub(super) enum ExportError {
    Io(io::Error),
    Damaged(Damage),
}

impl From<Damage> for ExportError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Writes every entry of the index: lengths in little-endian, key, value.
pub(super) fn export(index: &Index, copier: &mut Copier<'_>) -> Result<u64, ExportError> {
    let path = copier.to.join(EXPORT);
    let file = copier.disk.create(&path).map_err(ExportError::Io)?;
    let mut context = Context::new(&SHA256);
    let mut pending = Vec::with_capacity(2 * PIECE);
    let mut bytes = 0;
    let mut write_out = |pending: &mut Vec<u8>| {
        context.update(pending);
        copier.disk.write_at(&file, &path, pending, bytes).map_err(ExportError::Io)?;
        bytes += u64::try_from(pending.len()).unwrap_or(u64::MAX);
        pending.clear();
        Ok::<u64, ExportError>(bytes)
    };
    let entries = index.each(|key, value| {
        for part in [key, value] {
            pending.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
        pending.extend_from_slice(key);
        pending.extend_from_slice(value);
        if pending.len() >= PIECE { write_out(&mut pending).map(drop) } else { Ok(()) }
    })?;
    let bytes = write_out(&mut pending)?;
    copier.disk.sync(&file, &path).map_err(ExportError::Io)?;
    copier.sums.insert(EXPORT.to_owned(), Sum { bytes, sha256: hex_sum(context) });
    Ok(entries)
}

/// Reads an export, entry by entry.
fn each_exported<E: From<io::Error>>(
    path: &Path,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    loop {
        let mut lengths = [0; 8];
        match file.read_exact(&mut lengths) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let [a, b, c, d, e, f, g, h] = lengths;
        for (part, length) in [(&mut key, [a, b, c, d]), (&mut value, [e, f, g, h])] {
            part.resize(usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX), 0);
            file.read_exact(part)?;
        }
        visit(&key, &value)?;
    }
}

/// Fills an index from an export, without the orders that are void; says how many those are.
pub(super) fn import(path: &Path, index: &Index) -> io::Result<u64> {
    let mut void = HashSet::new();
    let mut open: BTreeMap<AccountId, i64> = BTreeMap::new();
    each_exported(path, |key, value| {
        if key.first() == Some(&class::ORDER) {
            let order = record::decode::<OrderRow>(key, value).map_err(io::Error::other)?.value.order;
            match order.state {
                OrderState::Pending | OrderState::Ready => drop(void.insert(order.id.octets())),
                OrderState::Processing { .. } => *open.entry(order.account).or_default() += 1,
                OrderState::Valid { .. } | OrderState::Invalid { .. } => {}
            }
        }
        Ok::<(), io::Error>(())
    })?;
    let mut batch = Results::new();
    each_exported(path, |key, value| {
        if !is_void(key, value, &void)? {
            batch.insert(key.into(), Some(value.into()));
        }
        if batch.len() >= BATCH {
            index.write(&batch).map_err(io::Error::other)?;
            batch.clear();
        }
        Ok::<(), io::Error>(())
    })?;
    for (account, count) in open {
        let count = record::encode_number(count.unsigned_abs());
        batch.insert(key::counter(&Counter::PendingOrders(account)), Some(count.into()));
    }
    index.write(&batch).map_err(io::Error::other)?;
    Ok(u64::try_from(void.len()).unwrap_or(u64::MAX))
}

/// Whether an entry speaks of an order that is void.
fn is_void(key: &[u8], value: &[u8], void: &HashSet<[u8; 16]>) -> io::Result<bool> {
    let ends_in_void = || key::trailing_id(key).is_some_and(|id| void.contains(&id));
    Ok(match key.first().copied() {
        Some(class::ORDER) => ends_in_void(),
        Some(class::AUTHORIZATION) => {
            let found =
                record::decode::<chancery_acme::authorization::Authorization>(key, value).map_err(io::Error::other)?;
            void.contains(&found.value.order.octets())
        }
        Some(class::JOB) => key::prunes_order(key.get(1..).unwrap_or_default()) && ends_in_void(),
        Some(class::JOB_DUE) => key::prunes_order(key.get(9..).unwrap_or_default()) && ends_in_void(),
        // Counted anew from the orders that are left.
        Some(class::COUNTER) => key::counts_pending_orders(key),
        _ => false,
    })
}
