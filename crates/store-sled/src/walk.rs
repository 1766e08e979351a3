//! The one walk over bundles and journal: verification, the scrub and the rebuild are three ears of it.
//!
//! It only reads, and works beside a running server: what is being written at the journal's end is
//! not yet part of the ledger, and a sweep that moves leaves meanwhile makes it begin again.

use std::sync::Arc;

use chancery_ledger::{
    Walker,
    tile::{self, Layer, Tile},
    verify::Visit,
};

use crate::{
    bundles::{self, State},
    folder::Folder,
    journal::{self, Damage, ReadError},
};

/// How often a walk begins again because a sweep changed the files under it.
const ATTEMPTS: usize = 8;

/// What the folder holds: how far its bundles go, and the leaves after them.
pub(crate) struct Contents {
    pub(crate) state: Option<State>,
    /// Leaves of the journal that no bundle has yet.
    pub(crate) rest: Vec<Arc<[u8]>>,
}

impl Contents {
    /// Leaves in bundles.
    pub(crate) fn swept(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.frontier.size())
    }
}

/// Looks how far bundles and journal go. `live` as in [`journal::read`].
pub(crate) fn contents(folder: &Folder, live: bool) -> Result<Contents, ReadError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match contents_once(folder, live) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) if live => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        Damage::new(&folder.journal(), "it begins after the last leaf in the ledger's bundles").into()
    }))
}

/// `None` where bundles and journal do not meet.
fn contents_once(folder: &Folder, live: bool) -> Result<Option<Contents>, ReadError> {
    let state = bundles::read_state(&folder.ledger())?;
    let swept = state.as_ref().map_or(0, |state| state.frontier.size());
    let mut rest = Vec::new();
    let journal = journal::read(&folder.journal(), live, |frame| {
        let known = usize::try_from(swept.saturating_sub(frame.first_leaf)).unwrap_or(usize::MAX);
        rest.extend(frame.leaves.into_iter().skip(known));
        Ok(())
    })?;
    let first = journal.begun()?.map_or(swept, |journal| journal.first.leaf);
    Ok((first <= swept).then_some(Contents { state, rest }))
}

/// Feeds every leaf to the walker and, through it, to whoever listens. Bundles that do not read are
/// named in the walker's findings, and the walk goes on after them.
pub(crate) fn walk<V: Visit>(
    folder: &Folder,
    contents: &Contents,
    walker: &mut Walker,
    visitor: &mut V,
) -> Result<(), V::Error> {
    walk_noting(folder, contents, walker, visitor, &mut |_| {})
}

/// As [`walk`], and says of each file that could not be read that it was the reading that failed: it may read well
/// the next time, and is not known to be damaged.
pub(crate) fn walk_noting<V: Visit>(
    folder: &Folder,
    contents: &Contents,
    walker: &mut Walker,
    visitor: &mut V,
    unread: &mut dyn FnMut(String),
) -> Result<(), V::Error> {
    let mut note = |error: &ReadError| {
        if let ReadError::Io { .. } = error {
            unread(error.to_string());
        }
    };
    let size = contents.swept();
    let mut number = 0;
    while let Some(tile) = Tile::in_tree(Layer::Entries, number, size) {
        let begin = number * u64::from(tile::WIDTH);
        match read_now(folder, tile) {
            Ok((entries, hashes)) => {
                for ((entry, kept), index) in entries.iter().zip(hashes).zip(begin..).take(usize::from(tile.width())) {
                    walker.feed_to(index, entry, Some(kept), visitor)?;
                }
            }
            Err(error) => {
                note(&error);
                walker.skip(begin + u64::from(tile.width()), error.to_string());
            }
        }
        number += 1;
    }
    for (leaf, index) in contents.rest.iter().zip(size..) {
        walker.feed_to(index, leaf, None, visitor)?;
    }
    upper_tiles(folder, size, walker, &mut note);
    Ok(())
}

/// The tiles above the records' own hashes: each hash in them follows from the whole tile below it.
fn upper_tiles(folder: &Folder, size: u64, walker: &mut Walker, note: &mut dyn FnMut(&ReadError)) {
    let width = u64::from(tile::WIDTH);
    let read = |tile| bundles::read_hashes(&folder.ledger(), tile);
    for level in 1..=7u8 {
        for number in 0.. {
            let Some(tile) = Tile::in_tree(Layer::Hashes(level), number, size) else { break };
            let hashes = match read(tile) {
                Ok(hashes) => hashes,
                // A sweep may have put a wider one in its place.
                Err(_) if !tile.is_full() && swept_further(folder, size) => continue,
                Err(error) => {
                    note(&error);
                    walker.blame_tile(tile, error.to_string());
                    continue;
                }
            };
            for (row, hash) in (number * width..).zip(hashes) {
                // What does not read is named where its own level is walked.
                let Ok(below) = Tile::new(Layer::Hashes(level - 1), row, tile::WIDTH) else { break };
                let Ok(lower) = read(below) else { continue };
                if tile::root_of(&lower) != hash {
                    walker.blame_tile(tile, format!("{below} has another hash than the one it keeps of it"));
                    break;
                }
            }
        }
    }
}

fn swept_further(folder: &Folder, size: u64) -> bool {
    bundles::read_state(&folder.ledger()).is_ok_and(|state| state.is_some_and(|state| state.frontier.size() > size))
}

/// One leaf; `None` past the end.
pub(crate) fn leaf(folder: &Folder, contents: &Contents, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let swept = contents.swept();
    let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(after) = index.checked_sub(swept) {
        return Ok(contents.rest.get(place(after)).map(|leaf| leaf.to_vec()));
    }
    let width = u64::from(tile::WIDTH);
    let Some(tile) = Tile::in_tree(Layer::Entries, index / width, swept) else { return Ok(None) };
    Ok(read_now(folder, tile)?.0.get(place(index % width)).cloned())
}

/// A bundle as wide as it was, or wider where a sweep has gone on meanwhile.
fn read_now(folder: &Folder, tile: Tile) -> Result<(Vec<Vec<u8>>, Vec<chancery_ledger::Hash>), ReadError> {
    let found = bundles::read_bundle(&folder.ledger(), tile);
    if found.is_ok() || tile.is_full() {
        return found;
    }
    let now = bundles::read_state(&folder.ledger())?.map_or(0, |state| state.frontier.size());
    match Tile::in_tree(Layer::Entries, tile.index(), now) {
        Some(wider) if wider != tile => bundles::read_bundle(&folder.ledger(), wider),
        _ => found,
    }
}
