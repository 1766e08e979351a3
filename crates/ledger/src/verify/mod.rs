//! The walker: reads leaves in order, checks each against the rules and all of them against
//! checkpoints, and hands them on.
//!
//! `ledger verify`, the scrub behind a start and `store rebuild` are this one walk; they differ in
//! where the records come from (bundles, then the journal) and in who listens ([`Visit`]).
//!
//! What it proves: every record decodes and is the only spelling of itself; every signature
//! belongs to an earlier intent, and both give the certificate whose hash was recorded; no serial
//! and no certificate twice; no intent both signed and abandoned; revocations speak of known
//! certificates; CRL numbers grow; and the records have the roots that checkpoints say. What only
//! a checkpoint can tell (a record left out at the end, or replaced by a well-formed other one)
//! needs one, best one that was kept elsewhere.
//!
//! Memory: some 100 bytes a certificate, plus the TBS of each one that is neither signed nor
//! abandoned yet.

mod finding;
mod visit;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    ops::Range,
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use chancery_pki::{SerialNumber, tbs};
pub use finding::Finding;
pub use visit::{Unheard, Visit};

use crate::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    leaf::{Abandoned, CrlPublished, Intent, Leaf, OldCheckpoint, PolicyActivated, Restored, Revocation, Signature},
    note::VerifierKey,
    tile::{Layer, Tile},
    tree::{Frontier, Hash, sha256, verify_consistency},
};

/// Findings that are kept in words; more are only counted.
const MAX_FINDINGS: usize = 1000;

/// Reads a ledger from its first record to its last.
#[derive(Debug, Default)]
pub struct Walker {
    next: u64,
    /// `None` once records are missing: then no root can be had any more.
    tree: Tree,
    expected: Vec<Expected>,
    /// Records that were missing, unreadable or no leaves: what refers to them is not judged.
    holes: Vec<Range<u64>>,
    /// Records whose hash is not the one kept of them.
    mismatched: Vec<Mismatch>,
    certificates: HashMap<[u8; 16], Certificate>,
    serials: HashSet<[u8; 16]>,
    /// The TBS of certificates that are not settled yet.
    open: HashMap<[u8; 16], Vec<u8>>,
    crl_numbers: BTreeMap<(String, u32), u64>,
    restores: Vec<Restore>,
    accepted: Accepted,
    signed_by: Option<VerifierKey>,
    counts: BTreeMap<&'static str, u64>,
    findings: Vec<Finding>,
    findings_total: u64,
}

/// Which restores are believed although records were lost with them.
#[derive(Debug)]
enum Accepted {
    Every,
    These(Vec<RestoreName>),
}

impl Default for Accepted {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

/// The tree as far as it is known.
#[derive(Debug)]
struct Tree(Option<Frontier>);

impl Default for Tree {
    fn default() -> Self {
        Self(Some(Frontier::default()))
    }
}

#[derive(Debug)]
struct Expected {
    label: String,
    checkpoint: Checkpoint,
    reached: Option<Hash>,
    /// A restore may say why it does not fit.
    may_be_explained: bool,
}

#[derive(Debug)]
struct Mismatch {
    index: u64,
    found: Hash,
    kept: Hash,
}

/// What is remembered of a certificate: 32 bytes with its id.
#[derive(Debug, Clone, Copy)]
struct Certificate {
    intent: u64,
    /// Half of [`serial_key`]: enough to tell a wrong revocation from a right one.
    binding: [u8; 7],
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Signed,
    Abandoned,
}

/// A restore as whoever made it names it: its record and that record's leaf hash, `INDEX:HASH`. The
/// index alone would name whatever stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreName {
    /// The record.
    pub index: u64,
    /// Its leaf hash (RFC 6962 §2.1).
    pub hash: Hash,
}

impl fmt::Display for RestoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.index, self.hash)
    }
}

/// A restore's name that does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a restore is named INDEX:HASH, as the command that made it and the finding that asks for it print it")]
pub struct NotARestoreName;

impl FromStr for RestoreName {
    type Err = NotARestoreName;

    fn from_str(text: &str) -> Result<Self, NotARestoreName> {
        let (index, hash) = text.split_once(':').ok_or(NotARestoreName)?;
        let hash = STANDARD.decode(hash).ok().and_then(|octets| octets.try_into().ok()).ok_or(NotARestoreName)?;
        Ok(Self { index: index.parse().map_err(|_| NotARestoreName)?, hash: Hash::from_octets(hash) })
    }
}

/// A restore that the ledger speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// The record that says so; as many records were brought back as stand before it.
    pub name: RestoreName,
    /// The last checkpoint known of the epoch before.
    pub checkpoint: OldCheckpoint,
    /// Whether somebody vouched for it; without that a loss is a finding.
    pub accepted: bool,
}

impl Restore {
    /// How many records of that checkpoint were not brought back.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.checkpoint.size.saturating_sub(self.name.index)
    }
}

/// What became of a checkpoint that a walk was to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The records have its root.
    Same,
    /// A backup was restored since, and the record of that names this very checkpoint.
    RestoredSince {
        /// The record that says so.
        restore: u64,
    },
    /// A backup was restored since, and the record of that names a later checkpoint, so that this one
    /// can no longer be proved or disproved: a finding, whoever vouches for the restore.
    Superseded {
        /// The record that says so.
        restore: u64,
    },
    /// The records have another root, or there are too few; see the findings.
    Different,
    /// Records before it are missing, so nothing can be said.
    Unknown,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many records there are: one past the last index.
    pub size: u64,
    /// Their root, unless records are missing.
    pub root: Option<Hash>,
    /// How many leaves there are of each kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// The intents that are neither signed nor abandoned yet, in order.
    pub open: Vec<u64>,
    /// How many records the largest checkpoint that fits covers; nothing seals those after it yet.
    pub sealed: u64,
    /// The checkpoints that were compared, by label.
    pub checkpoints: Vec<(String, Compared)>,
    /// The restores that the ledger speaks of.
    pub restores: Vec<Restore>,
    /// What is wrong, by record; at most 1000.
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub findings_total: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings_total == 0
    }
}

impl Walker {
    /// Compares the records with a (verified!) checkpoint on the way. `label` says which one it is,
    /// for people: a path, mostly.
    pub fn expect(&mut self, label: impl Into<String>, checkpoint: Checkpoint) {
        self.compare_with(Expected { label: label.into(), checkpoint, reached: None, may_be_explained: true });
    }

    /// The same for the last checkpoint that the ledger's own store keeps: a restore begins with one that its
    /// records have, so that no restore explains one that they have not.
    pub fn expect_own(&mut self, label: impl Into<String>, checkpoint: Checkpoint) {
        self.compare_with(Expected { label: label.into(), checkpoint, reached: None, may_be_explained: false });
    }

    fn compare_with(&mut self, mut expected: Expected) {
        if let Some(frontier) = &self.tree.0
            && frontier.size() == expected.checkpoint.size()
        {
            expected.reached = Some(frontier.root());
        }
        self.expected.push(expected);
    }

    /// Believes this restore although records were lost with it: whoever says so made it. A restore that
    /// nobody accepts and that lost records is a finding, since one forged record would else excuse any
    /// truncated past.
    pub fn accept_restore(&mut self, name: RestoreName) {
        if let Accepted::These(these) = &mut self.accepted {
            these.push(name);
        }
    }

    /// Believes every restore: for a walk that has nobody to ask, and whose matter is not the past.
    pub fn accept_every_restore(&mut self) {
        self.accepted = Accepted::Every;
    }

    /// The key that signs this ledger's checkpoints: the one that a restore names must be signed by it.
    pub fn signed_by(&mut self, key: VerifierKey) {
        self.signed_by = Some(key);
    }

    /// The index of the record that is due.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next record, when nobody listens.
    pub fn feed(&mut self, index: u64, entry: &[u8]) {
        match self.feed_to(index, entry, None, &mut Unheard) {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Takes the next record and hands it to `visitor` if it breaks no rule.
    ///
    /// `kept` is the hash that a level 0 tile keeps of it, if there is one: with it a changed or
    /// moved record is named, without it a checkpoint only tells that there is one.
    ///
    /// # Errors
    ///
    /// What the visitor says; the record itself has been taken.
    pub fn feed_to<V: Visit>(
        &mut self,
        index: u64,
        entry: &[u8],
        kept: Option<Hash>,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        if index < self.next {
            self.found(Finding::OutOfOrder { index, expected: self.next });
            return Ok(());
        }
        if index > self.next {
            let from = self.next;
            self.found(Finding::Missing { from, to: index });
            self.leave_out(index);
        }
        let hash = Hash::of_leaf(entry);
        if let Some(kept) = kept
            && kept != hash
        {
            self.mismatch(Mismatch { index, found: hash, kept });
        }
        let sound = match Leaf::decode(entry) {
            Ok(leaf) => self.judge(index, hash, leaf),
            Err(error) => {
                self.hole(index..index.saturating_add(1));
                self.found(Finding::NotALeaf { index, error });
                None
            }
        };
        self.append(hash);
        sound.map_or(Ok(()), |sound| sound.hand_to(visitor, index))
    }

    /// Goes on at `to`, because the records up to there cannot be read (a damaged bundle, say).
    pub fn skip(&mut self, to: u64, reason: impl Into<String>) {
        if to > self.next {
            let from = self.next;
            self.found(Finding::Unreadable { from, to, reason: reason.into() });
            self.leave_out(to);
        }
    }

    /// Says that a tile above the records' own hashes is damaged: records can still be read and
    /// compared, but proofs made from it would be wrong.
    pub fn blame_tile(&mut self, tile: Tile, reason: impl Into<String>) {
        let level = match tile.layer() {
            Layer::Entries => 0,
            Layer::Hashes(level) => level,
        };
        let index = tile.index().checked_shl(8 * (u32::from(level) + 1)).unwrap_or(u64::MAX);
        self.found(Finding::TileDiffers { index, tile: tile.to_string(), reason: reason.into() });
    }

    /// Says that the text of the policy that a record put in force is not there, or is another one.
    pub fn blame_policy_text(&mut self, index: u64, sha256: impl Into<String>, reason: impl Into<String>) {
        self.found(Finding::PolicyText { index, sha256: sha256.into(), reason: reason.into() });
    }

    /// Ends the walk.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.settle_mismatches();
        let sealed = self.fitting().max().unwrap_or(0);
        let checkpoints = self.compare();
        let mut open: Vec<u64> =
            self.open.keys().filter_map(|id| self.certificates.get(id)).map(|certificate| certificate.intent).collect();
        open.sort_unstable();
        self.findings.sort_by_key(Finding::index);
        Report {
            size: self.next,
            root: self.tree.0.as_ref().map(Frontier::root),
            counts: self.counts,
            open,
            sealed,
            checkpoints,
            restores: self.restores,
            findings: self.findings,
            findings_total: self.findings_total,
        }
    }

    fn found(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    fn leave_out(&mut self, to: u64) {
        self.hole(self.next..to);
        self.tree.0 = None;
        self.next = to;
    }

    fn append(&mut self, hash: Hash) {
        self.next = self.next.saturating_add(1);
        let Some(frontier) = &mut self.tree.0 else { return };
        frontier.append(hash);
        for expected in &mut self.expected {
            if expected.checkpoint.size() == frontier.size() {
                expected.reached = Some(frontier.root());
            }
        }
    }

    fn mismatch(&mut self, mismatch: Mismatch) {
        if self.mismatched.len() < MAX_FINDINGS {
            self.mismatched.push(mismatch);
        } else {
            self.found(Finding::Changed { index: mismatch.index });
        }
    }

    /// Two records that were exchanged each have the other's hash.
    fn settle_mismatches(&mut self) {
        let mismatched = std::mem::take(&mut self.mismatched);
        let belongs: HashMap<Hash, u64> = mismatched.iter().map(|at| (at.kept, at.index)).collect();
        for Mismatch { index, found, .. } in mismatched {
            self.found(match belongs.get(&found) {
                Some(belongs) => Finding::Moved { index, belongs: *belongs },
                None => Finding::Changed { index },
            });
        }
    }

    /// Sizes of the checkpoints whose roots the records have.
    fn fitting(&self) -> impl Iterator<Item = u64> {
        self.expected
            .iter()
            .filter(|expected| expected.reached == Some(expected.checkpoint.root()))
            .map(|expected| expected.checkpoint.size())
    }

    fn compare(&mut self) -> Vec<(String, Compared)> {
        let whole = self.tree.0.is_some();
        let unchanged: Vec<u64> = self.fitting().collect();
        let expected = std::mem::take(&mut self.expected);
        let mut compared = Vec::with_capacity(expected.len());
        for Expected { label, checkpoint, reached, may_be_explained } in expected {
            let (size, root) = (checkpoint.size(), checkpoint.root());
            let outcome = if reached == Some(root) {
                Compared::Same
            } else if !whole && reached.is_none() {
                Compared::Unknown
            } else if may_be_explained {
                self.explained(size, root).unwrap_or(Compared::Different)
            } else {
                Compared::Different
            };
            if outcome == Compared::Different {
                let label = label.clone();
                self.found(if reached.is_none() && size > self.next {
                    Finding::Truncated { label, size, found: self.next }
                } else {
                    let unchanged = unchanged.iter().copied().filter(|before| *before <= size).max().unwrap_or(0);
                    Finding::Forked { label, size, expected: root, found: reached, unchanged }
                });
            }
            if let Compared::Superseded { restore } = outcome {
                self.found(Finding::Superseded { label: label.clone(), size, restore });
            }
            compared.push((label, outcome));
        }
        compared
    }

    /// Whether a restore says why a checkpoint of the epoch before no longer fits: it covers records
    /// that were not brought back. It excuses only what it names, and only where it is accepted: one that
    /// nobody accepts is a finding itself.
    fn explained(&self, size: u64, root: Hash) -> Option<Compared> {
        let since = || self.restores.iter().filter(|restore| restore.name.index < size);
        let named = since().find(|restore| restore.checkpoint.size == size && restore.checkpoint.root == root.octets());
        let named = named.map(|restore| Compared::RestoredSince { restore: restore.name.index });
        let later = || since().find(|restore| restore.checkpoint.size > size);
        named.or_else(|| later().map(|restore| Compared::Superseded { restore: restore.name.index }))
    }

    fn accepts(&self, name: RestoreName) -> bool {
        match &self.accepted {
            Accepted::Every => true,
            Accepted::These(these) => these.contains(&name),
        }
    }

    /// INVARIANT: holes come in order, and those that touch are one.
    fn hole(&mut self, hole: Range<u64>) {
        match self.holes.last_mut() {
            Some(last) if last.end == hole.start => last.end = hole.end,
            _ => self.holes.push(hole),
        }
    }

    fn is_hole(&self, index: u64) -> bool {
        let after = self.holes.partition_point(|hole| hole.end <= index);
        self.holes.get(after).is_some_and(|hole| hole.contains(&index))
    }

    /// The leaf, if it breaks no rule.
    fn judge(&mut self, index: u64, hash: Hash, leaf: Leaf) -> Option<Sound> {
        *self.counts.entry(leaf.kind()).or_default() += 1;
        let mut certificate = Vec::new();
        let verdict = match &leaf {
            Leaf::Intent(intent) => self.judge_intent(index, intent),
            Leaf::Signature(signature) => self.judge_signature(index, signature).map(|der| certificate = der),
            Leaf::Abandoned(abandoned) => self.judge_abandoned(index, abandoned),
            Leaf::Revocation(revocation) => self.judge_revocation(index, revocation),
            Leaf::CrlPublished(crl) => self.judge_crl(index, crl),
            Leaf::Restored(restored) => self.judge_restored(RestoreName { index, hash }, restored),
            Leaf::Refusal(_)
            | Leaf::EabKey(_)
            | Leaf::ApiToken(_)
            | Leaf::AccountAgreed(_)
            | Leaf::AccountDeactivated(_)
            | Leaf::AccountKeyChanged(_)
            | Leaf::PolicyActivated(PolicyActivated { .. })
            | Leaf::AuthorityInstalled(_)
            | Leaf::AuthorityRetired(_) => Ok(()),
        };
        match verdict {
            Ok(()) => Some(Sound { leaf, certificate }),
            Err(Broken::Rule(finding)) => {
                self.found(finding);
                None
            }
            Err(Broken::Before) => None,
        }
    }

    fn judge_intent(&mut self, index: u64, intent: &Intent) -> Result<(), Broken> {
        if let Some(first) = self.certificates.get(&intent.certificate) {
            return Err(Finding::CertificateTwice { index, first: first.intent }.into());
        }
        let key = serial_key(&intent.authority, intent.serial);
        let [binding @ .., _, _, _, _, _, _, _, _, _] = key;
        // The certificate is known from here on, whatever else is wrong with it: what follows it
        // is judged by itself.
        self.certificates.insert(intent.certificate, Certificate { intent: index, binding, state: State::Open });
        self.open.insert(intent.certificate, intent.tbs.clone());
        if !self.serials.insert(key) {
            let (authority, serial) = (intent.authority.clone(), intent.serial.to_string());
            return Err(Finding::SerialTwice { index, authority, serial }.into());
        }
        match tbs::serial(&intent.tbs) {
            Ok(Some(serial)) if serial == intent.serial => Ok(()),
            Ok(_) => Err(Finding::SerialDiffers { index }.into()),
            Err(error) => Err(Finding::TbsUnreadable { index, error }.into()),
        }
    }

    fn judge_signature(&mut self, index: u64, signature: &Signature) -> Result<Vec<u8>, Broken> {
        let certificate = self.certificate_of(index, signature.certificate, signature.intent)?;
        let intent = certificate.intent;
        match certificate.state {
            State::Open => certificate.state = State::Signed,
            State::Signed => return Err(Finding::SignedTwice { index, intent }.into()),
            State::Abandoned => return Err(Finding::SignedAndAbandoned { index, intent }.into()),
        }
        let tbs = self.open.remove(&signature.certificate).unwrap_or_default();
        let der = tbs::assemble(&tbs, &signature.signature).ok();
        der.filter(|der| sha256(&[der]).octets() == signature.sha256)
            .ok_or_else(|| Finding::CertificateDiffers { index, intent }.into())
    }

    fn judge_abandoned(&mut self, index: u64, abandoned: &Abandoned) -> Result<(), Broken> {
        let certificate = self.certificate_of(index, abandoned.certificate, abandoned.intent)?;
        let intent = certificate.intent;
        match certificate.state {
            State::Open => certificate.state = State::Abandoned,
            State::Signed => return Err(Finding::SignedAndAbandoned { index, intent }.into()),
            State::Abandoned => return Err(Finding::AbandonedTwice { index, intent }.into()),
        }
        self.open.remove(&abandoned.certificate);
        Ok(())
    }

    /// The certificate that a record settles, which must be the one of the intent it names.
    fn certificate_of(&mut self, index: u64, id: [u8; 16], names: u64) -> Result<&mut Certificate, Broken> {
        let hole = self.is_hole(names);
        match self.certificates.get_mut(&id) {
            Some(certificate) if certificate.intent == names => Ok(certificate),
            Some(certificate) => Err(Finding::IntentOfOther { index, names, intent: certificate.intent }.into()),
            None if hole => Err(Broken::Before),
            None => Err(Finding::IntentMissing { index, intent: names }.into()),
        }
    }

    fn judge_revocation(&self, index: u64, revocation: &Revocation) -> Result<(), Broken> {
        let Some(certificate) = self.certificates.get(&revocation.certificate) else {
            let unknown = Finding::RevokedUnknown { index };
            return Err(if self.holes.is_empty() { unknown.into() } else { Broken::Before });
        };
        let key = serial_key(&revocation.authority, revocation.serial);
        if key.starts_with(&certificate.binding) {
            Ok(())
        } else {
            Err(Finding::RevokedOther { index, intent: certificate.intent }.into())
        }
    }

    fn judge_crl(&mut self, index: u64, crl: &CrlPublished) -> Result<(), Broken> {
        let last = self.crl_numbers.entry((crl.authority.clone(), crl.shard)).or_default();
        if crl.number <= *last {
            return Err(Finding::CrlNumberWentBack { index, number: crl.number, last: *last }.into());
        }
        *last = crl.number;
        Ok(())
    }

    fn judge_restored(&mut self, name: RestoreName, restored: &Restored) -> Result<(), Broken> {
        let index = name.index;
        let accepted = self.accepts(name);
        let restore = Restore { name, checkpoint: restored.checkpoint.clone(), accepted };
        let (lost, size) = (restore.lost(), restore.checkpoint.size);
        self.restores.push(restore);
        if lost > 0 && !accepted {
            self.found(Finding::RestoreLost { name, lost, size });
        }
        if !accepted && let Some(reason) = self.signed_by.as_ref().and_then(|key| unsigned(restored, key)) {
            self.found(Finding::RestoreUnsigned { name, size, reason });
        }
        if restored.backup_size != index {
            return Err(Finding::RestoreMisplaced { index, says: restored.backup_size }.into());
        }
        let Some(frontier) = &self.tree.0 else { return Ok(()) };
        let OldCheckpoint { size, root, .. } = &restored.checkpoint;
        let path: Vec<Hash> = restored.consistency.iter().copied().map(Hash::from_octets).collect();
        let proven = if *size > index {
            path.is_empty()
        } else {
            verify_consistency((*size, &Hash::from_octets(*root)), (index, &frontier.root()), &path)
        };
        if proven { Ok(()) } else { Err(Finding::RestoreUnproven { index, size: *size }.into()) }
    }
}

/// What is wrong with the signature of the checkpoint that a restore names. One that knew of none names
/// an empty tree, which explains nothing.
fn unsigned(restored: &Restored, key: &VerifierKey) -> Option<String> {
    let OldCheckpoint { origin, root, size } = &restored.checkpoint;
    let Some(note) = &restored.note else {
        return (*size > 0).then(|| "its note is not in the record".to_owned());
    };
    let signed = match SignedCheckpoint::parse(note.as_bytes()) {
        Ok(signed) => signed,
        Err(error) => return Some(error.to_string()),
    };
    match signed.verify(key) {
        Ok(found) if (found.origin(), found.size(), found.root().octets()) == (origin.as_str(), *size, *root) => None,
        Ok(found) => Some(format!("its note is of another checkpoint, of {} records", found.size())),
        Err(error) => Some(error.to_string()),
    }
}

/// Why a leaf is not handed on.
enum Broken {
    /// It breaks a rule.
    Rule(Finding),
    /// What it refers to is in a hole, which has its own finding.
    Before,
}

impl From<Finding> for Broken {
    fn from(finding: Finding) -> Self {
        Self::Rule(finding)
    }
}

/// A leaf that breaks no rule, and for a signature the certificate.
struct Sound {
    leaf: Leaf,
    certificate: Vec<u8>,
}

impl Sound {
    fn hand_to<V: Visit>(&self, visitor: &mut V, index: u64) -> Result<(), V::Error> {
        match &self.leaf {
            Leaf::Intent(leaf) => visitor.on_intent(index, leaf),
            Leaf::Signature(leaf) => visitor.on_signature(index, leaf, &self.certificate),
            Leaf::Abandoned(leaf) => visitor.on_abandoned(index, leaf),
            Leaf::Refusal(leaf) => visitor.on_refusal(index, leaf),
            Leaf::Revocation(leaf) => visitor.on_revocation(index, leaf),
            Leaf::CrlPublished(leaf) => visitor.on_crl_published(index, leaf),
            Leaf::EabKey(leaf) => visitor.on_eab_key(index, leaf),
            Leaf::ApiToken(leaf) => visitor.on_api_token(index, leaf),
            Leaf::AccountAgreed(leaf) => visitor.on_account_agreed(index, leaf),
            Leaf::AccountDeactivated(leaf) => visitor.on_account_deactivated(index, leaf),
            Leaf::AccountKeyChanged(leaf) => visitor.on_account_key_changed(index, leaf),
            Leaf::PolicyActivated(leaf) => visitor.on_policy_activated(index, leaf),
            Leaf::AuthorityInstalled(leaf) => visitor.on_authority_installed(index, leaf),
            Leaf::AuthorityRetired(leaf) => visitor.on_authority_retired(index, leaf),
            Leaf::Restored(leaf) => visitor.on_restored(index, leaf),
        }
    }
}

/// Authority and serial in 16 octets.
fn serial_key(authority: &str, serial: SerialNumber) -> [u8; 16] {
    let hash = sha256(&[&serial.to_u128().to_be_bytes(), authority.as_bytes()]).octets();
    let [a @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash;
    a
}

#[cfg(test)]
mod tests;
