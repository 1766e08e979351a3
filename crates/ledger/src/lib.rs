//! The audit ledger: an append-only, tamper-evident list of what a certificate authority did.
//!
//! Every decision and every signature is a **leaf**: one line of canonical JSON. Leaves hang in an
//! RFC 6962 Merkle **tree**, stand in C2SP tlog-tiles **bundles** of 256, and are sealed by signed
//! **checkpoints**. One **walker** reads them in order; verification, the scrub behind a start and
//! the rebuild of the inventory are that one walk with different ears.
//!
//! | module | what it is |
//! |---|---|
//! | [`leaf`] | the records, and their one canonical encoding |
//! | [`tree`] | hashes, the compact [`Frontier`], inclusion and consistency proofs |
//! | [`tile`] | hash tiles: coordinates, paths, proofs over them |
//! | [`bundle`] | entry bundles |
//! | [`note`] | C2SP signed notes and verifier keys (Ed25519) |
//! | [`checkpoint`] | C2SP checkpoints: a tree head as a signed note |
//! | [`verify`] | the walker |
//!
//! What it promises: the same leaf has the same bytes, always; bytes that are not exactly that
//! encoding are no leaf; whatever bytes come in, nothing here panics.
//!
//! What it deliberately does not do: read files or clocks, sign (bytes to sign go out, a signature
//! comes in), decide what belongs into the ledger (`authority` does), or keep anything.
//!
//! # Verifying
//!
//! ```
//! use chancery_ledger::{Frontier, Hash, Walker, leaf::{CrlPublished, Leaf}};
//! use chancery_pki::Timestamp;
//!
//! let leaf = Leaf::from(CrlPublished {
//!     at: Timestamp::from_unix_seconds(1_795_600_000),
//!     authority: "issuing".into(),
//!     number: 7,
//!     sha256: [0; 32],
//!     shard: 0,
//! });
//! let entry = leaf.encode()?;
//! let mut frontier = Frontier::default();
//! frontier.append(Hash::of_leaf(&entry));
//!
//! let mut walker = Walker::default();
//! walker.feed(0, &entry);
//! let report = walker.finish();
//! assert!(report.is_clean());
//! assert_eq!(report.root, Some(frontier.root()));
//! # Ok::<(), chancery_ledger::leaf::EncodeError>(())
//! ```

pub mod bundle;
pub mod checkpoint;
pub mod leaf;
pub mod note;
pub mod tile;
pub mod tree;
pub mod verify;

pub use checkpoint::{Checkpoint, SignedCheckpoint};
pub use leaf::Leaf;
pub use note::VerifierKey;
pub use tree::{Frontier, Hash};
pub use verify::Walker;
