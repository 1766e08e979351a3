//! Verification beside a running server, the scrub behind a start, and the rebuild of the index:
//! one walk with three outputs.

use std::{collections::BTreeMap, convert::Infallible, fs, io, path::Path, sync::Arc};

use chancery_acme::{account::Account, authorization::Authorization, id::CertificateId};
use chancery_authority::records::{ApiToken, CertificateRecord, EabKey, IdempotencyRecord, InForce};
use chancery_ledger::{
    Checkpoint, SignedCheckpoint, VerifierKey, Walker,
    leaf::{Intent, PolicyActivated},
    verify::{Report, RestoreName, Visit},
};
use chancery_pki::Timestamp;

use crate::{
    disk::{Disk, RealDisk},
    folder::{self, Folder},
    index::Index,
    journal::{self, Damage, Place},
    key::{self, class},
    opening::OpenError,
    options::Options,
    rebuild::{self, Rebuilt},
    record::{self, OrderRow, RecordError},
    store::SledStore,
    view::View,
    walk,
};

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What the walk over all leaves found.
    pub report: Report,
    /// The store's own last checkpoint, as a signed note; whoever has the key verifies it.
    pub checkpoint: Option<String>,
    /// What could not be read at all.
    pub unread: Option<Unread>,
}

/// Files that could not be read (rights, too many open files, a fault on the way to the disk): each is a finding of the
/// report, and nothing is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub files: u64,
    /// The first, and why.
    pub first: String,
}

impl Verified {
    /// Whether anything was found that is not merely unread.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.report.findings_total > self.unread.as_ref().map_or(0, |unread| unread.files)
    }
}

/// What a scrub found.
#[derive(Debug)]
pub struct Scrubbed {
    /// The ledger; an error where its files could not be brought together.
    pub ledger: Result<Report, Damage>,
    /// Entries of the index that were read.
    pub index_entries: u64,
    /// The first entry of the index that does not read.
    pub index: Result<(), Damage>,
    /// Certificates that the ledger holds and the index has lost: they were not dropped for their age.
    pub missing: Vec<CertificateId>,
    /// What could not be read for now (too many open files, no memory, a fault on the way to the disk): the ledger is
    /// not known to be damaged then, whatever stands there.
    pub unread: Option<String>,
}

impl Scrubbed {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.unread.is_none()
            && self.missing.is_empty()
            && self.index.is_ok()
            && self.ledger.as_ref().is_ok_and(Report::is_clean)
    }
}

/// What a verification may rely on.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// Checkpoints that were kept elsewhere (verified by the caller), each with a label for people.
    pub kept: Vec<(String, Checkpoint)>,
    /// The key that signs this ledger's checkpoints.
    pub key: Option<VerifierKey>,
    /// Restores that lost records and that whoever asks has made: the records that tell of them.
    pub accepted: Vec<RestoreName>,
}

/// Walks the whole ledger of the store in `path`, up to the last synced frame, and compares it with
/// the store's own checkpoint and with what is known from elsewhere; each policy that was ever in
/// force must have its text. Works beside a running server and changes nothing.
///
/// # Errors
///
/// [`OpenError`] where the files cannot be brought together at all; what is wrong with single
/// leaves stands in the report.
pub fn verify(path: &Path, knowledge: Knowledge) -> Result<Verified, OpenError> {
    let folder = Folder::new(path);
    folder.check()?;
    folder.origin()?;
    let Knowledge { kept, key, accepted } = knowledge;
    let mut walker = Walker::default();
    for (label, checkpoint) in kept {
        walker.expect(label, checkpoint);
    }
    for restore in accepted {
        walker.accept_restore(restore);
    }
    if let Some(key) = key {
        walker.signed_by(key);
    }
    let mut policies = Policies::default();
    let mut unread: Option<Unread> = None;
    let mut note = |first| unread.get_or_insert(Unread { files: 0, first }).files += 1;
    let (report, checkpoint) = verify_folder(&folder, walker, &mut policies, |policies| policies, &mut note)?;
    Ok(Verified { report, checkpoint, unread })
}

fn verify_folder<V: Visit<Error = Infallible>>(
    folder: &Folder,
    mut walker: Walker,
    visitor: &mut V,
    policies: impl FnOnce(&mut V) -> &mut Policies,
    unread: &mut dyn FnMut(String),
) -> Result<(Report, Option<String>), OpenError> {
    // Before the leaves: they only grow, so none of these can be ahead of them.
    let own = folder::read_checkpoint(folder)?;
    let contents = walk::contents(folder, true)?;
    if let Some(own) = &own
        && let Ok(signed) = SignedCheckpoint::parse(own.note.as_bytes())
    {
        walker.expect_own(folder.checkpoint().display().to_string(), signed.unverified().clone());
    }
    match walk::walk_noting(folder, &contents, &mut walker, visitor, unread) {
        Ok(()) => {}
        Err(never) => match never {},
    }
    policies(visitor).compare(folder, &mut walker, unread);
    Ok((walker.finish(), own.map(|own| own.note)))
}

/// The policies that were ever in force, each with the first record that says so.
#[derive(Default)]
struct Policies(BTreeMap<[u8; 32], u64>);

impl Policies {
    /// Each must have its text: a file under its hash.
    fn compare(&self, folder: &Folder, walker: &mut Walker, unread: &mut dyn FnMut(String)) {
        for (policy, index) in &self.0 {
            let path = folder.blob(policy);
            let reason = match fs::read(&path) {
                Ok(text) if journal::sha256(&text) == *policy => continue,
                Ok(_) => format!("{} was changed: its hash is another one", path.display()),
                Err(error) => {
                    let reason = format!("{}: {error}", path.display());
                    if error.kind() != io::ErrorKind::NotFound {
                        unread(reason.clone());
                    }
                    reason
                }
            };
            walker.blame_policy_text(*index, hex::encode(policy), reason);
        }
    }
}

impl Visit for Policies {
    type Error = Infallible;

    fn on_policy_activated(&mut self, index: u64, activated: &PolicyActivated) -> Result<(), Infallible> {
        self.0.entry(activated.policy).or_insert(index);
        Ok(())
    }
}

/// How far a store has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Leaves of its ledger.
    pub leaves: u64,
    /// Those of them that are in bundles already.
    pub in_bundles: u64,
    /// How many its last checkpoint covers.
    pub checkpoint: Option<u64>,
}

/// How far the store in `path` has come, up to the last synced frame. Works beside a running server
/// and changes nothing.
///
/// # Errors
///
/// [`OpenError`] where the files cannot be brought together.
pub fn position(path: &Path) -> Result<Position, OpenError> {
    let folder = Folder::new(path);
    folder.check()?;
    folder.origin()?;
    let checkpoint = folder::read_checkpoint(&folder)?.map(|kept| kept.tree_size);
    let contents = walk::contents(&folder, true)?;
    let in_bundles = contents.swept();
    let rest = u64::try_from(contents.rest.len()).unwrap_or(u64::MAX);
    Ok(Position { leaves: in_bundles + rest, in_bundles, checkpoint })
}

/// One leaf of the store in `path`, up to the last synced frame; `None` past the end. Works beside a
/// running server and changes nothing.
///
/// # Errors
///
/// [`OpenError`] where the files cannot be brought together.
pub fn leaf(path: &Path, index: u64) -> Result<Option<Vec<u8>>, OpenError> {
    let folder = Folder::new(path);
    folder.check()?;
    folder.origin()?;
    let contents = walk::contents(&folder, true)?;
    Ok(walk::leaf(&folder, &contents, index)?)
}

/// Makes the index of the store in `path` anew, from its ledger. No server may run on it. Rows whose
/// retention is over do not return ([`Options::retained`]).
///
/// # Errors
///
/// [`OpenError`], also where the ledger itself is damaged: then only a backup helps.
pub fn rebuild(path: &Path, options: &Options) -> Result<Rebuilt, OpenError> {
    let folder = Folder::new(path);
    folder.check()?;
    let _lock = folder.lock(options.lock_wait)?;
    let origin = folder.origin()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let journal = journal::read(&folder.journal(), false, |_| Ok(()))?.begun()?;
    let first = journal.map_or(Place::START.sequence, |journal| journal.first.sequence);
    let (_, rebuilt) = rebuild::rebuild_index(&folder, &disk, origin, first - 1, options)?;
    Ok(rebuilt)
}

impl SledStore {
    /// Reads everything that is stored, and says what does not read or does not fit. Rows of
    /// certificates that ended before `now` may have been dropped. Takes as long as that takes and is
    /// in nobody's way: for a thread of its own.
    #[must_use]
    pub fn scrub(&self, now: Timestamp) -> Scrubbed {
        let mut rows = Rows { view: &self.shared.view, now, missing: Vec::new(), policies: Policies::default() };
        let mut walker = Walker::default();
        // Nobody is there to ask: what a restore lost is `ledger verify`'s to tell.
        walker.accept_every_restore();
        let mut unread = None;
        let mut note = |what: String| {
            unread.get_or_insert(what);
        };
        let ledger = match verify_folder(&self.shared.folder, walker, &mut rows, |rows| &mut rows.policies, &mut note) {
            Ok((report, _)) => Ok(report),
            Err(OpenError::Damaged(damage)) => Err(damage),
            Err(error) => {
                if !error.is_damage() {
                    note(error.to_string());
                }
                Err(Damage::new(self.shared.folder.root(), error.to_string()))
            }
        };
        let (index_entries, index) = read_all(&self.shared.view.index);
        // A frame that was on its way to be synced is in the file before its rows can be seen.
        let mut missing = rows.missing;
        missing.retain(|id| matches!(self.shared.view.get(&key::certificate(*id)), Ok(None)));
        Scrubbed { ledger, index_entries, index, missing, unread }
    }
}

/// Looks whether each certificate of the ledger has its row.
struct Rows<'a> {
    view: &'a View,
    now: Timestamp,
    missing: Vec<CertificateId>,
    policies: Policies,
}

impl Visit for Rows<'_> {
    type Error = Infallible;

    fn on_intent(&mut self, _: u64, intent: &Intent) -> Result<(), Infallible> {
        let id = CertificateId::from_random(intent.certificate);
        // What does not read is told of by whoever reads all of the index.
        if matches!(self.view.get(&key::certificate(id)), Ok(None)) && !rebuild::has_ended(intent, self.now) {
            self.missing.push(id);
        }
        Ok(())
    }

    fn on_policy_activated(&mut self, index: u64, activated: &PolicyActivated) -> Result<(), Infallible> {
        self.policies.on_policy_activated(index, activated)
    }
}

/// Reads every entry of the index.
fn read_all(index: &Index) -> (u64, Result<(), Damage>) {
    let mut entries = 0;
    let read = index.each(|key, value| {
        entries += 1;
        decodes(key, value)
            .map_err(|error| Damage::new(&index.file(), format!("the entry {}: {error}", hex::encode(key))))
    });
    (entries, read.map(drop))
}

/// Whether an entry is what its class says.
fn decodes(key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    match key.first().copied() {
        Some(class::ACCOUNT) => record::decode::<Account>(key, value).map(drop),
        Some(class::ORDER) => record::decode::<OrderRow>(key, value).map(drop),
        Some(class::AUTHORIZATION) => record::decode::<Authorization>(key, value).map(drop),
        Some(class::CERTIFICATE) => record::decode::<CertificateRecord>(key, value).map(drop),
        Some(class::IDEMPOTENCY) => record::decode::<IdempotencyRecord>(key, value).map(drop),
        Some(class::API_TOKEN) => record::decode::<ApiToken>(key, value).map(drop),
        Some(class::EAB_KEY) => record::decode::<EabKey>(key, value).map(drop),
        Some(class::IN_FORCE) => record::decode::<InForce>(key, value).map(drop),
        Some(class::COUNTER | class::CRL_NUMBER) => record::decode_number(value).map(drop),
        _ => Ok(()),
    }
}
