//! The Merkle tree of RFC 6962 §2.1 over SHA-256.
//!
//! Three things: hashes, a [`Frontier`] that grows a tree in memory of O(log n), and proofs that a
//! caller makes over whatever keeps the inner nodes ([`Nodes`]) and anyone verifies.
//!
//! Making and verifying are written after different texts (the recursive definitions of RFC 6962
//! §2.1.1 and §2.1.2; the loops of RFC 9162 §2.1.3.2 and §2.1.4.2), so that neither hides the
//! other's mistake.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Largest tree that is read back: leaves carry indexes as JSON numbers (RFC 8785 §3.2.2.3).
const MAX_SIZE: u64 = (1 << 53) - 1;

/// A SHA-256 hash in the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The root of a tree without leaves (RFC 6962 §2.1: SHA-256 of nothing).
    #[must_use]
    pub fn of_nothing() -> Self {
        sha256(&[])
    }

    /// A leaf's hash: SHA-256(0x00 || entry).
    #[must_use]
    pub fn of_leaf(entry: &[u8]) -> Self {
        sha256(&[&[0], entry])
    }

    /// An inner node's hash: SHA-256(0x01 || left || right).
    #[must_use]
    pub fn of_node(left: &Self, right: &Self) -> Self {
        let mut input = [1u8; 65];
        let (l, r) = input[1..].split_at_mut(32);
        l.copy_from_slice(&left.0);
        r.copy_from_slice(&right.0);
        sha256(&[&input])
    }

    /// From its octets.
    #[must_use]
    pub const fn from_octets(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// From a slice of exactly 32 octets.
    #[must_use]
    pub fn from_slice(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }

    /// Its octets.
    #[must_use]
    pub const fn octets(&self) -> [u8; 32] {
        self.0
    }

    /// Its octets, borrowed.
    #[must_use]
    pub const fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Base64, as checkpoints write it.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let output = if let [only] = parts {
        digest(&SHA256, only)
    } else {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        context.finish()
    };
    Hash(output.as_ref().try_into().expect("SHA-256 gives 32 octets"))
}

/// A tree that only grows: its size and the roots of its complete subtrees, largest first.
///
/// At most 64 hashes, whatever the size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    // INVARIANT: one per set bit of `size`, from the highest to the lowest.
    peaks: Vec<Hash>,
}

/// The bytes are no frontier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a tree frontier: {size} bytes do not fit a tree of {leaves} leaves")]
pub struct NotAFrontier {
    /// How many bytes there are.
    pub size: usize,
    /// How many leaves they claim.
    pub leaves: u64,
}

impl Frontier {
    /// Adds a leaf by its hash ([`Hash::of_leaf`]) and says which index it got.
    pub fn append(&mut self, leaf: Hash) -> u64 {
        let index = self.size;
        let mut node = leaf;
        for _ in 0..index.trailing_ones() {
            let left = self.peaks.pop().expect("one peak per set bit");
            node = Hash::of_node(&left, &node);
        }
        self.peaks.push(node);
        self.size = index.checked_add(1).expect("no tree gets 2^64 leaves");
        index
    }

    /// How many leaves there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root hash (RFC 6962 §2.1).
    #[must_use]
    pub fn root(&self) -> Hash {
        self.peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| Hash::of_node(&left, &right))
            .unwrap_or_else(Hash::of_nothing)
    }

    /// For keeping: the size in eight octets, big-endian, then the peaks.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 32 * self.peaks.len());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for peak in &self.peaks {
            bytes.extend_from_slice(&peak.0);
        }
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`NotAFrontier`] where the length does not fit the size.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAFrontier> {
        let Some((size, peaks)) = bytes.split_first_chunk::<8>() else {
            return Err(NotAFrontier { size: bytes.len(), leaves: 0 });
        };
        let size = u64::from_be_bytes(*size);
        let (peaks, rest) = peaks.as_chunks::<32>();
        if !rest.is_empty() || u32::try_from(peaks.len()) != Ok(size.count_ones()) || size > MAX_SIZE {
            return Err(NotAFrontier { size: bytes.len(), leaves: size });
        }
        Ok(Self { size, peaks: peaks.iter().copied().map(Hash).collect() })
    }
}

/// Something that knows the hashes of complete subtrees: tiles, mostly ([`crate::tile::Tiled`]).
///
/// A closure `Fn(level, index) -> Result<Hash, E>` is one too.
pub trait Nodes {
    /// Why a hash could not be had.
    type Error;

    /// The root of the leaves `index << level .. (index + 1) << level`; level 0 is the leaf hash.
    ///
    /// # Errors
    ///
    /// Whatever keeps the source from answering.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

impl<F, E> Nodes for F
where
    F: Fn(u32, u64) -> Result<Hash, E>,
{
    type Error = E;

    fn node(&self, level: u32, index: u64) -> Result<Hash, E> {
        self(level, index)
    }
}

/// Why no proof was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// There is no such leaf in such a tree.
    #[error("a tree of {size} leaves has no leaf {index}")]
    NoSuchLeaf {
        /// The leaf asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is the larger one.
    #[error("a tree of {old} leaves is not older than one of {new}")]
    Backwards {
        /// The older tree's size.
        old: u64,
        /// The newer tree's size.
        new: u64,
    },
    /// A hash could not be had.
    #[error("a tree node could not be read")]
    Nodes(#[source] E),
}

/// The root of the first `size` leaves.
///
/// # Errors
///
/// [`ProofError::Nodes`] where a hash could not be had.
pub fn root_at<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, ProofError<N::Error>> {
    if size == 0 { Ok(Hash::of_nothing()) } else { subtree(nodes, 0, size) }
}

/// The audit path of a leaf (RFC 6962 §2.1.1), lowest first.
///
/// # Errors
///
/// [`ProofError::NoSuchLeaf`], or [`ProofError::Nodes`] where a hash could not be had.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let (mut begin, mut end) = (0, size);
    let mut path = Vec::new();
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(nodes, begin, middle)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the first `old` of `new` leaves are unchanged (RFC 6962 §2.1.2); empty where one
/// of the trees is empty or both are the same.
///
/// # Errors
///
/// [`ProofError::Backwards`], or [`ProofError::Nodes`] where a hash could not be had.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, ProofError<N::Error>> {
    if old > new {
        return Err(ProofError::Backwards { old, new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut begin, mut end) = (0, new);
    let mut path = Vec::new();
    // `begin` moves on exactly when a left subtree lies wholly in the old tree: then the rest is no
    // longer known to the verifier (RFC 6962's flag b is `begin == 0`).
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            path.push(subtree(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(subtree(nodes, begin, middle)?);
            begin = middle;
        }
    }
    if begin != 0 {
        path.push(subtree(nodes, begin, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that the leaf with this hash is number `index` of the tree with this root
/// (RFC 9162 §2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_node(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree `new` begins with the tree `old` (RFC 9162 §2.1.4.2). Each is
/// a size and a root.
///
/// Everything begins with the empty tree, and a tree with itself; both need an empty path.
#[must_use]
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return false;
    }
    if old_size == 0 {
        return path.is_empty() && *old_root == Hash::of_nothing();
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    // A complete old tree is the first node of its own proof.
    let mut rest = path.iter().copied();
    let Some(first) = (if old_size.is_power_of_two() { Some(*old_root) } else { rest.next() }) else {
        return false;
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::of_node(&sibling, &old_hash);
            new_hash = Hash::of_node(&sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::of_node(&new_hash, &sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// The largest power of two smaller than `n` (RFC 6962 §2.1), for n > 1.
const fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// MTH(D[begin:end]), for a range that occurs in the tree's own recursion.
fn subtree<N: Nodes>(nodes: &N, begin: u64, end: u64) -> Result<Hash, ProofError<N::Error>> {
    let width = end - begin;
    if width.is_power_of_two() {
        let level = width.ilog2();
        return nodes.node(level, begin >> level).map_err(ProofError::Nodes);
    }
    let middle = begin + split(width);
    let left = subtree(nodes, begin, middle)?;
    let right = subtree(nodes, middle, end)?;
    Ok(Hash::of_node(&left, &right))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;

    type Oracle = MemoryBackedTree<Sha256, Vec<u8>>;

    fn entry(number: u64) -> Vec<u8> {
        format!("entry {number}").into_bytes()
    }

    fn oracle(size: u64) -> Oracle {
        let mut tree = Oracle::new();
        for number in 0..size {
            tree.push(entry(number));
        }
        tree
    }

    fn oracle_root(tree: &Oracle) -> Hash {
        Hash::from_slice(tree.root().as_bytes()).expect("32 octets")
    }

    /// Complete subtrees from the leaves themselves.
    fn nodes() -> impl Nodes<Error = Infallible> {
        |level: u32, index: u64| {
            let mut frontier = Frontier::default();
            for number in index << level..(index + 1) << level {
                frontier.append(Hash::of_leaf(&entry(number)));
            }
            Ok(frontier.root())
        }
    }

    fn bytes(path: &[Hash]) -> Vec<u8> {
        path.iter().flat_map(Hash::octets).collect()
    }

    fn oracle_head(size: u64, root: Hash) -> RootHash<Sha256> {
        RootHash::new(root.octets().into(), size)
    }

    #[test]
    fn the_root_is_ct_merkles_after_every_append_up_to_six_hundred() {
        let (mut ours, mut theirs) = (Frontier::default(), Oracle::new());
        assert_eq!(ours.root(), oracle_root(&theirs));
        for number in 0..600 {
            assert_eq!(ours.append(Hash::of_leaf(&entry(number))), number);
            theirs.push(entry(number));
            assert_eq!(ours.root(), oracle_root(&theirs), "at {} leaves", number + 1);
            assert!(ours.peaks.len() <= 10);
        }
    }

    #[test]
    fn a_frontier_kept_and_read_back_goes_on_as_before() {
        let mut frontier = Frontier::default();
        for number in 0..100 {
            let mut copy = Frontier::from_bytes(&frontier.to_bytes()).expect("our own bytes");
            assert_eq!(copy, frontier);
            copy.append(Hash::of_leaf(&entry(number)));
            frontier.append(Hash::of_leaf(&entry(number)));
            assert_eq!(copy.root(), frontier.root());
        }
    }

    #[test]
    fn a_frontier_with_a_hash_too_few_or_too_many_is_refused() {
        let mut frontier = Frontier::default();
        for number in 0..5 {
            frontier.append(Hash::of_leaf(&entry(number)));
        }
        let bytes = frontier.to_bytes();
        for length in 0..bytes.len() {
            assert!(Frontier::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(Frontier::from_bytes(&[bytes, vec![0; 32]].concat()).is_err());
        assert!(Frontier::from_bytes(&[vec![0xff; 8], vec![0; 64 * 32]].concat()).is_err());
    }

    #[test]
    fn inclusion_proofs_are_ct_merkles_and_each_verifies_the_others() {
        for size in (1..70).chain([127, 128, 129, 200, 255, 256, 257, 300]) {
            let tree = oracle(size);
            let root = oracle_root(&tree);
            for index in 0..size {
                let path = inclusion_proof(&nodes(), index, size).expect("within the tree");
                let theirs = tree.prove_inclusion(usize::try_from(index).expect("small"));
                assert_eq!(bytes(&path), theirs.as_bytes(), "leaf {index} of {size}");
                let leaf = Hash::of_leaf(&entry(index));
                assert!(verify_inclusion(&leaf, index, size, &path, &root), "leaf {index} of {size}");
                oracle_head(size, root)
                    .verify_inclusion(&entry(index), index, &InclusionProof::from_bytes(bytes(&path)))
                    .expect("ct-merkle accepts it");
            }
        }
    }

    #[test]
    fn consistency_proofs_satisfy_ct_merkle_and_its_proofs_satisfy_us() {
        for new in (1..50).chain([127, 128, 129, 200, 256, 257, 300]) {
            let tree = oracle(new);
            let new_root = oracle_root(&tree);
            for old in 1..new {
                let old_root = root_at(&nodes(), old).expect("in memory");
                let path = consistency_proof(&nodes(), old, new).expect("grows");
                assert!(verify_consistency((old, &old_root), (new, &new_root), &path), "{old} to {new}");
                oracle_head(new, new_root)
                    .verify_consistency(
                        &oracle_head(old, old_root),
                        &ConsistencyProof::try_from_bytes(bytes(&path)).expect("whole hashes"),
                    )
                    .expect("ct-merkle accepts it");
                let theirs = tree.prove_consistency(usize::try_from(new - old).expect("small"));
                assert_eq!(theirs.as_bytes(), bytes(&path), "{old} to {new}");
            }
        }
    }

    #[test]
    fn a_proof_in_a_smaller_tree_is_none_in_a_larger_one() {
        for size in 1..20u64 {
            let root = root_at(&nodes(), size).expect("in memory");
            let path = inclusion_proof(&nodes(), 0, size).expect("within");
            let leaf = Hash::of_leaf(&entry(0));
            let higher = (size + 1..40).filter(|larger| larger.next_power_of_two() > size.next_power_of_two());
            for larger in higher {
                assert!(!verify_inclusion(&leaf, 0, larger, &path, &root), "{size} as {larger}");
            }
        }
    }

    #[test]
    fn there_is_no_proof_for_a_leaf_outside_or_backwards_in_time() {
        assert_eq!(inclusion_proof(&nodes(), 5, 5), Err(ProofError::NoSuchLeaf { index: 5, size: 5 }));
        assert_eq!(consistency_proof(&nodes(), 6, 5), Err(ProofError::Backwards { old: 6, new: 5 }));
    }

    #[test]
    fn every_tree_begins_with_the_empty_one_and_with_itself() {
        let root = root_at(&nodes(), 9).expect("in memory");
        let nothing = Hash::of_nothing();
        assert!(verify_consistency((0, &nothing), (9, &root), &[]));
        assert!(verify_consistency((9, &root), (9, &root), &[]));
        assert!(!verify_consistency((0, &root), (9, &root), &[]), "that is not the empty tree's root");
        assert!(!verify_consistency((9, &nothing), (9, &root), &[]));
        assert!(!verify_consistency((9, &root), (8, &root), &[]));
        assert!(!verify_consistency((9, &root), (9, &root), &[root]), "nothing may be left over");
    }

    proptest! {
        #[test]
        fn a_proof_changed_anywhere_proves_nothing(
            size in 2u64..200, at: prop::sample::Index, other: prop::sample::Index, bit in 0usize..256, how in 0..5
        ) {
            let root = root_at(&nodes(), size).expect("in memory");
            let index = at.index(usize::try_from(size).expect("small")) as u64;
            let leaf = Hash::of_leaf(&entry(index));
            let path = inclusion_proof(&nodes(), index, size).expect("within");
            let (mut changed, mut at, mut changed_leaf) = (path.clone(), index, leaf);
            match how {
                0 => {
                    let mut octets = path[other.index(path.len())].octets();
                    octets[bit / 8] ^= 1 << (bit % 8);
                    changed[other.index(path.len())] = Hash::from_octets(octets);
                }
                1 => drop(changed.remove(other.index(path.len()))),
                2 => changed.insert(other.index(path.len() + 1), root),
                3 => at = (index + 1 + other.index(usize::try_from(size - 1).expect("small")) as u64) % size,
                _ => changed_leaf = Hash::of_leaf(b"another"),
            }
            prop_assert!(!verify_inclusion(&changed_leaf, at, size, &changed, &root));
        }

        #[test]
        fn a_changed_past_has_no_consistency_proof(old in 1u64..100, more in 1u64..100, drop_at: prop::sample::Index) {
            let new = old + more;
            let (old_root, new_root) = (root_at(&nodes(), old).expect("in memory"), root_at(&nodes(), new).expect("in memory"));
            let path = consistency_proof(&nodes(), old, new).expect("grows");
            let other = Hash::of_leaf(b"another");
            prop_assert!(!verify_consistency((old, &other), (new, &new_root), &path));
            prop_assert!(!verify_consistency((old, &old_root), (new, &other), &path));
            let mut short = path.clone();
            short.remove(drop_at.index(path.len()));
            prop_assert!(!verify_consistency((old, &old_root), (new, &new_root), &short));
        }

        #[test]
        fn no_sizes_and_no_path_make_a_verification_panic(
            a: u64, b: u64, path in prop::collection::vec(any::<[u8; 32]>(), 0..70), from: Vec<u8>
        ) {
            let path: Vec<Hash> = path.into_iter().map(Hash::from_octets).collect();
            let hash = Hash::of_nothing();
            let _ = verify_inclusion(&hash, a, b, &path, &hash);
            let _ = verify_consistency((a, &hash), (b, &hash), &path);
            if let Ok(mut frontier) = Frontier::from_bytes(&from) {
                frontier.append(hash);
            }
        }
    }
}
