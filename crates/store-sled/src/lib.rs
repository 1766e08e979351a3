//! The store of one process: a synced journal, with sled as the index that can be rebuilt.
//!
//! ```text
//! Changes ─► committer (one thread) ─► journal: one frame for the group, one fdatasync ─► overlay ─► answers
//!    sweeper (another thread) ─► frozen overlay ─► sled ─► leaves to ledger bundles ─► old segments dropped
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | [`store`], `shared`, `queries` | starts the threads; what they and readers share; looks things up |
//! | `opening` | brings together what lies in the folder |
//! | `committer` | checks a group of commits, writes its frame, syncs once, answers |
//! | `apply` | what changes do to keys and values |
//! | `journal` | frames and segments; torn or damaged |
//! | `view` | the overlay over the frozen overlay over sled |
//! | `index`, `absent` | sled, kept at arm's length; what it surely has not |
//! | `sweep` | moves the overlay behind everybody's back |
//! | `bundles` | the ledger's files |
//! | `walk`, [`check`], [`rebuild`] | the one walk over the ledger: verified, scrubbed, made into an index |
//! | [`backup`] | the backup of a running store, and its restore |
//! | `key`, `record` | keys and stored shapes |
//! | `folder`, `disk` | what lies where, and every write |
//!
//! What it promises: what [`commit`](chancery_authority::ports::Store::commit) answered with success
//! is on the disk, and whoever reads sees nothing that a power cut could undo. What is damaged is
//! named, never served. What it deliberately does not do: decide when something has expired
//! (`authority`'s jobs do), or serve two processes.

mod absent;
mod apply;
pub mod backup;
mod bundles;
pub mod check;
mod committer;
mod disk;
mod folder;
mod index;
mod journal;
mod key;
mod metrics;
mod opening;
mod options;
mod queries;
pub mod rebuild;
mod record;
mod shared;
pub mod store;
mod sweep;
mod view;
mod walk;

pub use folder::FolderError;
pub use journal::Damage;
pub use metrics::Metrics;
pub use opening::OpenError;
pub use options::{Options, Retained};
pub use store::SledStore;

#[cfg(test)]
mod tests;
