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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, convert::Infallible};

    use proptest::prelude::*;

    use super::*;
    use crate::tree::{consistency_proof, inclusion_proof, root_at, verify_consistency, verify_inclusion};

    fn leaf(number: u64) -> Hash {
        Hash::of_leaf(&number.to_be_bytes())
    }

    /// All tiles of a tree of `size` leaves, from the definition in C2SP tlog-tiles: MTH(D[...]).
    fn tiles(size: u64) -> HashMap<Tile, Vec<Hash>> {
        let mut tiles = HashMap::new();
        let mut row: Vec<Hash> = (0..size).map(leaf).collect();
        for level in 0.. {
            if row.is_empty() {
                break;
            }
            for (index, hashes) in row.chunks(256).enumerate() {
                let width = u16::try_from(hashes.len()).expect("a chunk of 256");
                tiles.insert(Tile::new(Layer::Hashes(level), index as u64, width).expect("in range"), hashes.to_vec());
            }
            row = row.chunks_exact(256).map(root_of).collect();
        }
        tiles
    }

    fn tiled(size: u64) -> impl Nodes<Error = TiledError<Infallible>> {
        let tiles = tiles(size);
        Tiled::new(size, move |tile| Ok(tiles[&tile].clone()))
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |layer, index, width| Tile::new(layer, index, width).expect("in range").to_string();
        assert_eq!(path(Layer::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Layer::Entries, 1_234_067, 8), "tile/entries/x001/x234/067.p/8");
        assert_eq!(path(Layer::Entries, 0, 256), "tile/entries/000");
        assert_eq!(path(Layer::Hashes(2), 999, 1), "tile/2/999.p/1");
        assert_eq!(path(Layer::Hashes(1), 1000, 255), "tile/1/x001/000.p/255");
    }

    #[test]
    fn a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts() {
        let widths = |level| {
            let mut full = 0;
            let mut partial = None;
            for tile in grown(0, 70_000).filter(|tile| tile.layer() == Layer::Hashes(level)) {
                if tile.is_full() { full += 1 } else { partial = Some(tile.width()) }
            }
            (full, partial)
        };
        assert_eq!(widths(0), (273, Some(112)));
        assert_eq!(widths(1), (1, Some(17)));
        assert_eq!(widths(2), (0, Some(1)));
        assert_eq!(widths(3), (0, None));
        let of_256: Vec<String> = grown(0, 256).map(|tile| tile.to_string()).collect();
        assert_eq!(of_256, ["tile/0/000", "tile/1/000.p/1"]);
    }

    #[test]
    fn growing_step_by_step_writes_the_same_tiles_as_growing_at_once() {
        let mut written: HashMap<(Layer, u64), u16> = HashMap::new();
        let steps = [0, 1, 255, 256, 257, 600, 600, 66_000, 70_000];
        for pair in steps.windows(2) {
            for tile in grown(pair[0], pair[1]) {
                written.insert((tile.layer(), tile.index()), tile.width());
            }
        }
        let at_once: HashMap<(Layer, u64), u16> =
            grown(0, 70_000).map(|tile| ((tile.layer(), tile.index()), tile.width())).collect();
        assert_eq!(written, at_once);
    }

    #[test]
    fn proofs_over_tiles_verify_in_a_tree_of_three_levels() {
        let size = 66_311;
        let nodes = tiled(size);
        let mut frontier = Frontier::default();
        let mut roots = HashMap::new();
        for number in 0..size {
            frontier.append(leaf(number));
            roots.insert(number + 1, frontier.root());
        }
        let root = frontier.root();
        assert_eq!(root_at(&nodes, size).expect("all tiles are there"), root);
        for index in [0, 1, 255, 256, 65_535, 65_536, 66_303, 66_310] {
            let path = inclusion_proof(&nodes, index, size).expect("all tiles are there");
            assert!(verify_inclusion(&leaf(index), index, size, &path, &root), "leaf {index}");
        }
        for old in [1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 66_310] {
            let path = consistency_proof(&nodes, old, size).expect("all tiles are there");
            assert!(verify_consistency((old, &roots[&old]), (size, &root), &path), "from {old}");
        }
    }

    #[test]
    fn nodes_outside_the_tree_and_short_tiles_are_errors() {
        let nodes = Tiled::new(300, |_| Ok::<_, Infallible>(vec![leaf(0); 3]));
        assert!(matches!(nodes.node(0, 300), Err(TiledError::Outside { .. })));
        assert!(matches!(nodes.node(9, 0), Err(TiledError::Outside { .. })));
        assert!(matches!(nodes.node(64, 0), Err(TiledError::Outside { .. })));
        assert!(matches!(nodes.node(63, u64::MAX), Err(TiledError::Outside { .. })));
        assert!(matches!(nodes.node(0, 4), Err(TiledError::Short(_))));
        assert!(nodes.node(1, 0).is_ok());
    }

    #[test]
    fn a_tile_reads_back_and_another_length_is_refused() {
        let tile = Tile::new(Layer::Hashes(0), 0, 3).expect("in range");
        let bytes = encode(&[leaf(0), leaf(1), leaf(2)]);
        assert_eq!(decode(tile, &bytes), Ok(vec![leaf(0), leaf(1), leaf(2)]));
        assert_eq!(decode(tile, &bytes[1..]), Err(WrongTileLength { tile, found: 95, expected: 96 }));
    }

    #[test]
    fn a_tile_has_one_path_only() {
        for path in [
            "tile/0/67",
            "tile/0/0067",
            "tile/0/x000/067",
            "tile/0/x001",
            "tile/00/067",
            "tile/8/067",
            "tile/0/067.p/0",
            "tile/0/067.p/256",
            "tile/0/067.p/08",
            "tile/0/067.p/",
            "tile/0/",
            "tile/0/x01/067",
            "tile/0/001/067",
            "tile/0/+67",
            "tile/entries/067/",
            "/tile/0/067",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/entry/067",
        ] {
            assert_eq!(path.parse::<Tile>(), Err(NotATile), "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_path_reads_back(level in 0u8..=7, entries: bool, index: u64, width in 1u16..=256) {
            let layer = if entries { Layer::Entries } else { Layer::Hashes(level) };
            let tile = Tile::new(layer, index, width).expect("in range");
            prop_assert_eq!(tile.to_string().parse::<Tile>(), Ok(tile));
        }

        #[test]
        fn arbitrary_text_is_no_tile_or_its_own_path(text in "(tile/)?(entries|[0-9]{1,2})?/?[x0-9/]{0,20}(.p/[0-9]{0,4})?|.{0,30}") {
            if let Ok(tile) = text.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }
    }
}
