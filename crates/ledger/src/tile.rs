//! Tiles (C2SP tlog-tiles): the tree in pieces of 256 hashes, and where each piece lies.
//!
//! Tile *n* of level *l* holds up to 256 hashes, each the root of 256^l leaves. Only complete
//! subtrees are in tiles, so a hash once written never changes. [`Tiled`] makes the tree's inner
//! nodes from tiles, and with them proofs.

use std::{fmt, str::FromStr};

use crate::tree::{Frontier, Hash, Nodes};

/// Hashes in a full tile, and entries in a full bundle.
pub const WIDTH: u16 = 256;

/// Tree levels that one tile spans: 2^8 = 256.
const HEIGHT: u32 = 8;

/// Highest tile level of a tree of 2^64 leaves.
const MAX_LEVEL: u8 = 7;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The log entries themselves, as a [bundle](crate::bundle).
    Entries,
    /// Hashes, at this level; level 0 are the leaves' own.
    Hashes(u8),
}

/// Which tile: layer, index within it, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    layer: Layer,
    index: u64,
    // INVARIANT: 1..=256.
    width: u16,
}

/// There is no such tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a tile: tile/<level>/<index> or tile/entries/<index>, the index as x001/x234/067, \
     then .p/<width> where it is not full"
)]
pub struct NotATile;

impl Tile {
    /// A tile by layer, index and width.
    ///
    /// # Errors
    ///
    /// [`NotATile`] for a width outside 1 to 256, and a level above 7.
    pub const fn new(layer: Layer, index: u64, width: u16) -> Result<Self, NotATile> {
        if width == 0 || width > WIDTH {
            return Err(NotATile);
        }
        if let Layer::Hashes(level) = layer
            && level > MAX_LEVEL
        {
            return Err(NotATile);
        }
        Ok(Self { layer, index, width })
    }

    /// The tile of a layer as it is in a tree of `size` leaves; none where that tile is empty.
    #[must_use]
    pub const fn in_tree(layer: Layer, index: u64, size: u64) -> Option<Self> {
        let row = row_width(layer, size);
        let Some(begin) = index.checked_mul(WIDTH as u64) else { return None };
        if begin >= row {
            return None;
        }
        let left = row - begin;
        #[expect(clippy::cast_possible_truncation, reason = "less than 256 in that branch")]
        let width = if left >= WIDTH as u64 { WIDTH } else { left as u16 };
        Some(Self { layer, index, width })
    }

    /// What it holds.
    #[must_use]
    pub const fn layer(&self) -> Layer {
        self.layer
    }

    /// Its index within the layer.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Whether it is full, and so will never change.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == WIDTH
    }
}

/// The path below the log's prefix: `tile/0/x001/234`, `tile/entries/067.p/8`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Layer::Entries => f.write_str("tile/entries/")?,
            Layer::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        // Groups of three digits from the left; all but the last begin with an x.
        let digits = self.index.to_string();
        let groups = digits.len().div_ceil(3);
        let padded = format!("{:0>width$}", self.index, width = groups * 3);
        for (number, group) in padded.as_bytes().chunks(3).enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            if number + 1 < groups {
                f.write_str("x")?;
            }
            f.write_str(std::str::from_utf8(group).map_err(|_| fmt::Error)?)?;
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for Tile {
    type Err = NotATile;

    /// Reads a path, and only the one spelling that [`Display`](fmt::Display) writes.
    fn from_str(path: &str) -> Result<Self, NotATile> {
        let rest = path.strip_prefix("tile/").ok_or(NotATile)?;
        let (layer, rest) = rest.split_once('/').ok_or(NotATile)?;
        let layer = match layer {
            "entries" => Layer::Entries,
            level => Layer::Hashes(decimal(level).ok_or(NotATile)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, decimal(width).ok_or(NotATile)?),
            None => (rest, WIDTH),
        };
        let mut digits = String::with_capacity(20);
        for group in index.split('/') {
            digits.push_str(group.strip_prefix('x').unwrap_or(group));
        }
        let index = if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None };
        let tile = Self::new(layer, index.ok_or(NotATile)?, width)?;
        // One tile, one path: padding, x and .p/256 are all settled by writing it again.
        if tile.to_string() == path { Ok(tile) } else { Err(NotATile) }
    }
}

/// The hash tiles that appear or grow when a tree grows from `old` to `new` leaves, each as it is in
/// the new tree, lowest level first.
pub fn grown(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    (0..=MAX_LEVEL).flat_map(move |level| {
        let layer = Layer::Hashes(level);
        let (before, after) = (row_width(layer, old), row_width(layer, new));
        let first = before / u64::from(WIDTH);
        let end = if after > before { after.div_ceil(u64::from(WIDTH)) } else { first };
        (first..end).filter_map(move |index| Tile::in_tree(layer, index, new))
    })
}

/// The root of a tile's hashes: for a full tile, its hash in the tile above.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.append(*hash);
    }
    frontier.root()
}

/// The hashes of a tile, one after the other.
#[must_use]
pub fn encode(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(Hash::octets).collect()
}

/// A hash tile has the wrong length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tile} has {found} bytes, not {expected}")]
pub struct WrongTileLength {
    /// Which tile.
    pub tile: Tile,
    /// Its length in bytes.
    pub found: usize,
    /// What its width asks for.
    pub expected: usize,
}

/// Reads a hash tile.
///
/// # Errors
///
/// [`WrongTileLength`] unless there are 32 bytes for each of its hashes.
pub fn decode(tile: Tile, bytes: &[u8]) -> Result<Vec<Hash>, WrongTileLength> {
    let expected = usize::from(tile.width) * 32;
    if bytes.len() != expected {
        return Err(WrongTileLength { tile, found: bytes.len(), expected });
    }
    Ok(bytes.as_chunks::<32>().0.iter().copied().map(Hash::from_octets).collect())
}

/// Inner nodes of a tree of `size` leaves, from its tiles.
///
/// `read` gives the hashes of a tile; it is asked for the tiles of exactly this size (and may answer
/// a partial one from a longer one).
#[derive(Debug, Clone)]
pub struct Tiled<F> {
    size: u64,
    read: F,
}

impl<F> Tiled<F> {
    /// Over the tiles of a tree of `size` leaves.
    #[must_use]
    pub const fn new(size: u64, read: F) -> Self {
        Self { size, read }
    }
}

/// Why a node could not be had from tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TiledError<E> {
    /// The tree has no such complete subtree.
    #[error("a tree of {size} leaves has no complete subtree {index} at level {level}")]
    Outside {
        /// The level.
        level: u32,
        /// The index within the level.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tile is shorter than it should be.
    #[error("{0} is too short")]
    Short(Tile),
    /// A tile could not be read.
    #[error("a tile could not be read")]
    Read(#[source] E),
}

impl<F, E> Nodes for Tiled<F>
where
    F: Fn(Tile) -> Result<Vec<Hash>, E>,
{
    type Error = TiledError<E>;

    fn node(&self, level: u32, index: u64) -> Result<Hash, TiledError<E>> {
        let outside = TiledError::Outside { level, index, size: self.size };
        let end = index.checked_add(1).and_then(|end| end.checked_mul(1u64.checked_shl(level)?));
        if end.is_none_or(|end| end > self.size) {
            return Err(outside);
        }
        let (tile_level, height) = (level / HEIGHT, level % HEIGHT);
        let Ok(tile_level) = u8::try_from(tile_level) else { return Err(outside) };
        // `index << height` cannot overflow: the whole subtree ends within `size`.
        let first = index << height;
        let Some(tile) = Tile::in_tree(Layer::Hashes(tile_level), first / u64::from(WIDTH), self.size) else {
            return Err(outside);
        };
        let hashes = (self.read)(tile).map_err(TiledError::Read)?;
        usize::try_from(first % u64::from(WIDTH))
            .ok()
            .and_then(|begin| hashes.get(begin..begin + (1 << height)))
            .map(root_of)
            .ok_or(TiledError::Short(tile))
    }
}

/// How many hashes (or entries) a layer has in a tree of `size` leaves.
const fn row_width(layer: Layer, size: u64) -> u64 {
    match layer {
        Layer::Entries => size,
        Layer::Hashes(level) if level <= MAX_LEVEL => size >> (HEIGHT * level as u32),
        Layer::Hashes(_) => 0,
    }
}

/// A decimal number without sign or leading zeros.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
