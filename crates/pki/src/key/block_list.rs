//! Keys whose private half others know, by digest.
//!
//! Debian's weak keys (CVE-2008-0166) come in through here, in both forms in which lists of them are published: those
//! of the packages `openssl-blacklist` and `openssl-blacklist-extra`, and those of
//! <https://github.com/CVE-2008-0166/dwk_blocklists>, which know more sizes and the curves. They can be given as they
//! are. They are not built in, since those for three architectures and the sizes that we accept alone have some
//! hundred thousand lines. A list is read once and asked for every key.

use std::collections::HashSet;

use aws_lc_rs::digest;

use super::{KeyParts, KeyRejection, PublicKey, SpkiDigest};

/// Octets of a line of Debian's lists: the lower 80 bits of a SHA-1.
const DEBIAN_OCTETS: usize = 10;

/// A set of keys that are refused wherever they come from.
#[derive(Debug, Clone, Default)]
pub struct BlockList {
    /// SHA-256 of a SubjectPublicKeyInfo, of an RSA modulus or of a point's x coordinate: 64 digits do not tell which.
    digests: HashSet<[u8; 32]>,
    /// The last ten octets of SHA-1 over `Modulus=`, the modulus in upper-case hexadecimal and a
    /// line feed: what `openssl rsa -modulus | sha1sum | cut -c 21-40` shows.
    debian: HashSet<[u8; DEBIAN_OCTETS]>,
}

/// A line of the list says nothing that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of the block list is neither a SHA-256 of a SubjectPublicKeyInfo, an RSA modulus or an x coordinate (64 hexadecimal digits) nor a line of openssl-blacklist (20 hexadecimal digits)"
)]
pub struct BlockListError {
    /// The line, counted from one.
    pub line: usize,
}

impl BlockList {
    /// Keys that anybody can sign with: those whose private half is printed in a standard, and
    /// the first points of each curve. They do turn up where an example was copied.
    #[must_use]
    pub fn published() -> Self {
        Self::parse(include_str!("published.txt")).expect("the list is part of this crate and tested")
    }

    /// Reads a list: one digest a line, `#` begins a comment, empty lines count for nothing.
    ///
    /// # Errors
    ///
    /// [`BlockListError`] with the first line that is no digest.
    pub fn parse(text: &str) -> Result<Self, BlockListError> {
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate() {
            list.add_line(line).ok_or(BlockListError { line: number + 1 })?;
        }
        Ok(list)
    }

    fn add_line(&mut self, line: &str) -> Option<()> {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            return Some(());
        }
        let octets = hex::decode(entry).ok()?;
        if let Ok(digest) = <[u8; 32]>::try_from(octets.as_slice()) {
            self.digests.insert(digest);
        } else {
            self.debian.insert(octets.as_slice().try_into().ok()?);
        }
        Some(())
    }

    /// Adds one key by its digest.
    pub fn insert(&mut self, digest: SpkiDigest) {
        self.digests.insert(digest.0);
    }

    /// Adds everything that another list holds.
    pub fn extend(&mut self, other: Self) {
        let Self { digests, debian } = other;
        self.digests.extend(digests);
        self.debian.extend(debian);
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len() + self.debian.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Asks whether the key may be used.
    ///
    /// # Errors
    ///
    /// [`KeyRejection::Blocked`] if it is listed.
    pub fn check(&self, key: &PublicKey) -> Result<(), KeyRejection> {
        if self.digests.contains(&key.digest().0) || self.holds_number_of(key) {
            return Err(KeyRejection::Blocked);
        }
        // An SHA-1 of half a kilobyte is only worth its time where there is a list to look it up in.
        if let (KeyParts::Rsa { n, .. }, false) = (key.parts(), self.debian.is_empty()) {
            let line = format!("Modulus={}\n", hex::encode_upper(n));
            let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, line.as_bytes());
            let listed = sha1.as_ref().last_chunk::<DEBIAN_OCTETS>().is_some_and(|end| self.debian.contains(end));
            if listed {
                return Err(KeyRejection::Blocked);
            }
        }
        Ok(())
    }

    /// Whether modulus or x coordinate is listed, as the number's octets without leading zeros.
    fn holds_number_of(&self, key: &PublicKey) -> bool {
        let number = match key.parts() {
            KeyParts::Rsa { n, .. } => n,
            KeyParts::Ec { x, .. } => x,
            KeyParts::Ed25519 { .. } => return false,
        };
        let zeros = number.iter().take_while(|octet| **octet == 0).count();
        number
            .get(zeros..)
            .is_some_and(|number| self.digests.contains(digest::digest(&digest::SHA256, number).as_ref()))
    }
}
