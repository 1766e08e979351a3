//! The journal: what is acknowledged is in here, synced.
//!
//! A segment is a header and frames, one frame a group of commits. A frame names its store and
//! epoch, the sequences it holds, the hash of the frame before it, and carries leaves and whole
//! resulting values, so applying it twice changes nothing. The last frame of the last segment may
//! be torn by a power cut; anything else that does not read is damage, and is named.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::disk::{self, Disk};

const SEGMENT_MAGIC: [u8; 4] = *b"CHJ1";
const FRAME_MAGIC: [u8; 4] = *b"CHF1";
/// Magic, store id, epoch, first sequence, first leaf, hash of the frame before, CRC32C.
pub(crate) const SEGMENT_HEADER: usize = 4 + 16 + 8 + 8 + 8 + 32 + 4;
/// Magic, length of the body, CRC32C of the body.
const FRAME_HEADER: usize = 12;
/// A frame's body without leaves and values.
const FRAME_BODY_MIN: usize = 16 + 8 + 8 + 4 + 32 + 8 + 4 + 4;
/// How a deletion is told from a value.
const DELETED: u32 = u32::MAX;
/// The preallocated file that urgent commits go to when the disk is full.
pub(crate) const RESERVE: &str = "reserve";
/// How large it is, in bytes: some thousand revocations or settlements.
pub(crate) const RESERVE_BYTES: u64 = 2 << 20;

/// Which store, and which of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) store: [u8; 16],
    /// Counts the restores.
    pub(crate) epoch: u64,
}

/// Where the next frame continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) leaf: u64,
    pub(crate) previous: [u8; 32],
}

impl Place {
    /// Where an empty store begins.
    pub(crate) const START: Self = Self { sequence: 1, leaf: 0, previous: [0; 32] };
}

/// Resulting values by key; `None` is a deletion.
pub(crate) type Results = BTreeMap<Box<[u8]>, Option<Arc<[u8]>>>;

/// What a group of commits led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first_sequence: u64,
    /// How many commits: their sequences follow each other.
    pub(crate) commits: u32,
    pub(crate) first_leaf: u64,
    pub(crate) leaves: Vec<Arc<[u8]>>,
    pub(crate) results: Results,
}

impl Frame {
    /// A frame that changes nothing.
    pub(crate) const fn nothing() -> Self {
        Self { first_sequence: 0, commits: 0, first_leaf: 0, leaves: Vec::new(), results: Results::new() }
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.commits) - 1
    }
}

/// Something stored does not read: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The first byte that is wrong, where that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub why: String,
}

impl Damage {
    pub(crate) fn new(file: &Path, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), offset: None, why: why.into() }
    }

    pub(crate) fn at(file: &Path, offset: usize, why: impl Into<String>) -> Self {
        Self { offset: u64::try_from(offset).ok(), ..Self::new(file, why) }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl std::error::Error for Damage {}

/// Why the journal was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl ReadError {
    /// For what must be there: where it is not, that is damage.
    pub(crate) fn missing_or_io(path: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Damage::new(path, "it is missing").into()
        } else {
            Self::io(path)(error)
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 octets")
}

/// Writes a frame; its hash is the `previous` of the next one.
pub(crate) fn encode_frame(origin: Origin, previous: &[u8; 32], frame: &Frame) -> (Vec<u8>, [u8; 32]) {
    let Frame { first_sequence, commits, first_leaf, leaves, results } = frame;
    let size = leaves.iter().map(|leaf| leaf.len() + 4).sum::<usize>()
        + results
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len()) + 6)
            .sum::<usize>();
    let mut out = Vec::with_capacity(FRAME_HEADER + FRAME_BODY_MIN + size);
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&origin.store);
    out.extend_from_slice(&origin.epoch.to_le_bytes());
    out.extend_from_slice(&first_sequence.to_le_bytes());
    out.extend_from_slice(&commits.to_le_bytes());
    out.extend_from_slice(previous);
    out.extend_from_slice(&first_leaf.to_le_bytes());
    out.extend_from_slice(&count(leaves.len()).to_le_bytes());
    for leaf in leaves {
        out.extend_from_slice(&count(leaf.len()).to_le_bytes());
        out.extend_from_slice(leaf);
    }
    out.extend_from_slice(&count(results.len()).to_le_bytes());
    for (key, value) in results {
        let length = u16::try_from(key.len()).expect("keys are short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&value.as_ref().map_or(DELETED, |value| count(value.len())).to_le_bytes());
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let body = out.get(FRAME_HEADER..).unwrap_or_default();
    let (length, crc, hash) = (count(body.len()), crc32c::crc32c(body), sha256(body));
    if let Some(place) = out.get_mut(4..8) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    if let Some(place) = out.get_mut(8..12) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    (out, hash)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a group's size is bounded far below 4 GiB")
}

/// Reads little-endian fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(found)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        self.u32().and_then(|length| usize::try_from(length).ok())
    }
}

/// The body of a whole, undamaged frame at the front of `bytes`, and how long the frame is.
fn whole_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut fields = Fields(bytes);
    if fields.array::<4>()? != FRAME_MAGIC {
        return None;
    }
    let length = fields.length()?;
    let crc = fields.u32()?;
    let body = fields.take(length)?;
    (length >= FRAME_BODY_MIN && crc32c::crc32c(body) == crc).then_some((body, FRAME_HEADER + length))
}

fn decode_frame(body: &[u8]) -> Option<(Origin, [u8; 32], Frame)> {
    let mut fields = Fields(body);
    let origin = Origin { store: fields.array()?, epoch: fields.u64()? };
    let first_sequence = fields.u64()?;
    let commits = fields.u32()?;
    let previous = fields.array()?;
    let first_leaf = fields.u64()?;
    let mut leaves = Vec::new();
    for _ in 0..fields.u32()? {
        let length = fields.length()?;
        leaves.push(fields.take(length)?.into());
    }
    let mut results = Results::new();
    for _ in 0..fields.u32()? {
        let length = u16::from_le_bytes(fields.array()?);
        let key = fields.take(usize::from(length))?.into();
        let value = match fields.u32()? {
            DELETED => None,
            length => Some(fields.take(usize::try_from(length).ok()?)?.into()),
        };
        results.insert(key, value);
    }
    let sound = fields.0.is_empty() && commits > 0;
    sound.then_some((origin, previous, Frame { first_sequence, commits, first_leaf, leaves, results }))
}

fn encode_header(origin: Origin, place: Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEGMENT_HEADER);
    out.extend_from_slice(&SEGMENT_MAGIC);
    out.extend_from_slice(&origin.store);
    out.extend_from_slice(&origin.epoch.to_le_bytes());
    out.extend_from_slice(&place.sequence.to_le_bytes());
    out.extend_from_slice(&place.leaf.to_le_bytes());
    out.extend_from_slice(&place.previous);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

fn decode_header(bytes: &[u8]) -> Option<(Origin, Place)> {
    let header = bytes.get(..SEGMENT_HEADER)?;
    let (sealed, crc) = header.split_at_checked(SEGMENT_HEADER - 4)?;
    if crc32c::crc32c(sealed).to_le_bytes() != crc {
        return None;
    }
    let mut fields = Fields(header);
    if fields.array::<4>()? != SEGMENT_MAGIC {
        return None;
    }
    let origin = Origin { store: fields.array()?, epoch: fields.u64()? };
    Some((origin, Place { sequence: fields.u64()?, leaf: fields.u64()?, previous: fields.array()? }))
}

/// The path of the segment that begins at a sequence.
pub(crate) fn segment_path(folder: &Path, first_sequence: u64) -> PathBuf {
    folder.join(format!("{first_sequence:020}.journal"))
}

/// The segments of a folder, in order.
pub(crate) fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".journal"));
        if let Some(first) = first.filter(|first| first.len() == 20).and_then(|first| first.parse().ok()) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// How the last segment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The last segment.
    pub(crate) path: PathBuf,
    /// Its sound part, in bytes.
    pub(crate) sound: u64,
    /// Bytes of a torn frame after it.
    pub(crate) torn: u64,
}

/// What reading the whole journal led to.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(crate) origin: Origin,
    /// Where its first segment begins.
    pub(crate) first: Place,
    /// Where the next frame goes.
    pub(crate) next: Place,
    pub(crate) tail: Tail,
    /// Every segment: its first sequence and its path, in order.
    pub(crate) segments: Vec<(u64, PathBuf)>,
    /// The bytes of all of them.
    pub(crate) bytes: u64,
}

/// What stands in a journal's folder.
#[derive(Debug)]
pub(crate) enum Found {
    /// No segment at all.
    Nothing,
    /// The very first segment of a store, and that without its whole header: a kill during the first
    /// start leaves it, and so does damage.
    Unbegun(PathBuf),
    /// A journal.
    Journal(Journal),
}

impl Found {
    /// The journal, for whoever makes none where there is none: there a segment without a header is damage.
    pub(crate) fn begun(self) -> Result<Option<Journal>, ReadError> {
        match self {
            Self::Nothing => Ok(None),
            Self::Unbegun(path) => Err(headless(&path)),
            Self::Journal(journal) => Ok(Some(journal)),
        }
    }
}

fn headless(path: &Path) -> ReadError {
    Damage::at(path, 0, "the segment's header does not read").into()
}

/// Reads every segment in order and hands on every frame.
///
/// `live` is for reading beside a running store: then what does not read at the end of the last
/// segment is being written, and whatever comes after it is of no interest.
pub(crate) fn read(
    folder: &Path,
    live: bool,
    mut visit: impl FnMut(Frame) -> Result<(), ReadError>,
) -> Result<Found, ReadError> {
    let segments = segments(folder).map_err(|error| ReadError::missing_or_io(folder, error))?;
    let mut so_far: Option<(Origin, Place, Place)> = None;
    let mut tail = None;
    let mut total = 0;
    for (number, (named, path)) in segments.iter().enumerate() {
        let is_last = number + 1 == segments.len();
        let bytes = fs::read(path).map_err(ReadError::io(path))?;
        total += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some((origin, place)) = decode_header(&bytes) else {
            if segments.len() == 1 && *named == Place::START.sequence && bytes.len() <= SEGMENT_HEADER {
                return Ok(Found::Unbegun(path.clone()));
            }
            // A segment is made before its first frame: one without a sound header holds nothing
            // that was ever acknowledged, if it is the last and nothing valid stands in it.
            if is_last && (live || next_whole_frame(&bytes, 0).is_none()) && so_far.is_some() {
                let torn = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                tail = Some(Tail { path: path.clone(), sound: 0, torn });
                break;
            }
            return Err(headless(path));
        };
        let (expected_origin, first, mut next) = so_far.unwrap_or((origin, place, place));
        if place.sequence != *named || origin != expected_origin || place != next {
            return Err(Damage::at(path, 0, "the segment does not continue the one before it").into());
        }
        let mut at = SEGMENT_HEADER;
        let mut torn = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((body, length)) = whole_frame(rest) else {
                // Preallocated room, or room the file system gave and nothing was written to.
                if rest.iter().all(|byte| *byte == 0) {
                    break;
                }
                if !is_last {
                    return Err(Damage::at(path, at, "a frame does not read, and the journal goes on after it").into());
                }
                if !live && let Some(valid) = next_whole_frame(rest, 1) {
                    let why = format!("a frame does not read, and a valid one follows at byte {}", at + valid);
                    return Err(Damage::at(path, at, why).into());
                }
                torn = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                break;
            };
            let Some((frame_origin, previous, frame)) = decode_frame(body) else {
                return Err(Damage::at(path, at, "a frame's checksum holds, but its content does not read").into());
            };
            let found = Place { sequence: frame.first_sequence, leaf: frame.first_leaf, previous };
            if frame_origin != origin || found != next {
                return Err(Damage::at(path, at, "a frame does not continue the one before it").into());
            }
            next = Place {
                sequence: frame.last_sequence() + 1,
                leaf: frame.first_leaf + u64::from(count(frame.leaves.len())),
                previous: sha256(body),
            };
            visit(frame)?;
            at += length;
        }
        so_far = Some((origin, first, next));
        tail = Some(Tail { path: path.clone(), sound: u64::try_from(at).unwrap_or(u64::MAX), torn });
    }
    let (Some((origin, first, next)), Some(tail)) = (so_far, tail) else { return Ok(Found::Nothing) };
    Ok(Found::Journal(Journal { origin, first, next, tail, segments, bytes: total }))
}

/// Where the next undamaged frame begins, from `from` on.
fn next_whole_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let candidates = bytes.windows(4).enumerate().skip(from).filter(|(_, window)| **window == FRAME_MAGIC);
    candidates.map(|(at, _)| at).find(|at| bytes.get(*at..).and_then(whole_frame).is_some())
}

/// Writes a segment's header, synced; says how long it is.
fn write_header(disk: &dyn Disk, file: &File, path: &Path, origin: Origin, place: Place) -> io::Result<u64> {
    let header = encode_header(origin, place);
    disk.write_at(file, path, &header, 0)?;
    disk.sync(file, path)?;
    Ok(u64::try_from(header.len()).unwrap_or(u64::MAX))
}

/// The segment that frames are appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) first_sequence: u64,
    pub(crate) path: PathBuf,
    file: File,
    length: u64,
    /// The end of the preallocated room, if this was the reserve.
    limit: Option<u64>,
}

/// How the beginning of a segment failed.
#[derive(Debug)]
pub(crate) enum BeginError {
    /// Nothing is left of it: the segment before goes on.
    Untouched(io::Error),
    /// A segment may now stand where the journal has not come to, and another one may be begun behind
    /// it: a frame that went to the segment before would make that one damage.
    Failed(String),
}

impl From<BeginError> for io::Error {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Untouched(error) => error,
            BeginError::Failed(why) => Self::other(why),
        }
    }
}

/// How an append failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// There is no room; provably nothing is left of the write.
    NoSpace,
    /// The file system has become read-only and took nothing; what is synced stays, and can be read.
    ReadOnly,
    /// What is on the disk is not known.
    Failed(String),
}

impl Active {
    /// Begins a segment: its header is synced, and so is its name.
    pub(crate) fn begin(disk: &dyn Disk, folder: &Path, origin: Origin, place: Place) -> Result<Self, BeginError> {
        let path = segment_path(folder, place.sequence);
        let file = disk.create(&path).map_err(BeginError::Untouched)?;
        let begun = write_header(disk, &file, &path, origin, place)
            .and_then(|length| disk.sync_folder(folder).map(|()| length));
        let length = begun.map_err(|error| {
            // Nothing was acknowledged in it, and its name is wanted for the next try: gone for good, or not at all.
            match disk.remove(&path).and_then(|()| disk.sync_folder(folder)) {
                Ok(()) => BeginError::Untouched(error),
                Err(left) => BeginError::Failed(format!(
                    "the segment {} could not be begun ({error}), nor taken back ({left})",
                    path.display()
                )),
            }
        })?;
        Ok(Self { first_sequence: place.sequence, path, file, length, limit: None })
    }

    /// Begins a segment in the preallocated reserve. It has its header before it has a segment's name: one
    /// that was named first would be a segment without a header, in the place of one that nothing was
    /// appended to yet.
    pub(crate) fn begin_in_reserve(
        disk: &dyn Disk,
        folder: &Path,
        origin: Origin,
        place: Place,
    ) -> Result<Self, BeginError> {
        let path = segment_path(folder, place.sequence);
        let reserve = folder.join(RESERVE);
        let opened = OpenOptions::new().read(true).write(true).open(&reserve);
        let file = opened.map_err(BeginError::Untouched)?;
        let limit = file.metadata().map_err(BeginError::Untouched)?.len();
        let length = write_header(disk, &file, &reserve, origin, place).map_err(BeginError::Untouched)?;
        // From here on it stands, or may stand, under the name of a segment.
        disk.rename(&reserve, &path).and_then(|()| disk.sync_folder(folder)).map_err(|error| {
            BeginError::Failed(format!("the journal's reserve {} could not be entered: {error}", reserve.display()))
        })?;
        Ok(Self { first_sequence: place.sequence, path, file, length, limit: Some(limit) })
    }

    /// Begins the journal of a new store. What a kill during its first start left behind goes first.
    pub(crate) fn begin_first(disk: &dyn Disk, folder: &Path, origin: Origin) -> io::Result<Self> {
        let left = segment_path(folder, Place::START.sequence);
        if left.exists() {
            disk.remove(&left)?;
        }
        Ok(Self::begin(disk, folder, origin, Place::START)?)
    }

    /// Takes over the last segment of a journal that was read: its sound part is copied to a new
    /// file and synced, since the page cache may hold what the disk never got.
    pub(crate) fn take_over(disk: &dyn Disk, folder: &Path, journal: &Journal) -> io::Result<Self> {
        let Tail { path, sound, torn: _ } = &journal.tail;
        let first_sequence = journal.segments.last().map_or(journal.next.sequence, |(first, _)| *first);
        if *sound == 0 {
            // Its header was torn: nothing was ever in it.
            disk.remove(path)?;
            return Ok(Self::begin(disk, folder, journal.origin, journal.next)?);
        }
        let mut content = fs::read(path)?;
        content.truncate(usize::try_from(*sound).unwrap_or(usize::MAX));
        disk::write_durably(disk, path, &content)?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { first_sequence, path: path.clone(), file, length: *sound, limit: None })
    }

    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    pub(crate) const fn is_reserve(&self) -> bool {
        self.limit.is_some()
    }

    /// Appends a frame and syncs it.
    ///
    /// A write that fails for want of room is taken back by cutting the file to where it was: the
    /// part that was written is still in the page cache alone, no sync was asked for, so no sync can
    /// have been lost. Every other failure leaves the disk in a state that nobody knows.
    pub(crate) fn append(&mut self, disk: &dyn Disk, frame: &[u8]) -> Result<(), AppendError> {
        let size = u64::try_from(frame.len()).unwrap_or(u64::MAX);
        if self.limit.is_some_and(|limit| self.length.saturating_add(size) > limit) {
            return Err(AppendError::NoSpace);
        }
        if let Err(error) = disk.write_at(&self.file, &self.path, frame, self.length) {
            let no_room = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if no_room && self.limit.is_none() && disk.truncate(&self.file, &self.path, self.length).is_ok() {
                return Err(AppendError::NoSpace);
            }
            if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
                return Err(AppendError::ReadOnly);
            }
            return Err(AppendError::Failed(format!("writing {} failed: {error}", self.path.display())));
        }
        if let Err(error) = disk.sync(&self.file, &self.path) {
            return Err(AppendError::Failed(format!("syncing {} failed: {error}", self.path.display())));
        }
        self.length += size;
        Ok(())
    }
}

/// Makes the reserve if it is not there.
pub(crate) fn make_reserve(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    let path = folder.join(RESERVE);
    if path.exists() {
        return Ok(());
    }
    // Written, not merely promised: room that is only promised may still need metadata when it is used.
    disk::write_durably(disk, &path, &vec![0; usize::try_from(RESERVE_BYTES).unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { store: [7; 16], epoch: 1 };

    fn frame(place: Place, leaves: &[&[u8]]) -> Frame {
        let mut results = Results::new();
        results.insert(b"key".as_slice().into(), Some(place.sequence.to_le_bytes().as_slice().into()));
        results.insert(b"gone".as_slice().into(), None);
        let leaves = leaves.iter().map(|leaf| Arc::from(*leaf)).collect();
        Frame { first_sequence: place.sequence, commits: 2, first_leaf: place.leaf, leaves, results }
    }

    /// Three frames in one segment; returns where each of them begins.
    fn written(folder: &Path) -> (PathBuf, Vec<usize>) {
        let disk = disk::RealDisk;
        let mut active = Active::begin(&disk, folder, ORIGIN, Place::START).expect("a new folder");
        let mut place = Place::START;
        let mut starts = Vec::new();
        for _ in 0..3 {
            starts.push(usize::try_from(active.length()).expect("small"));
            let (bytes, hash) = encode_frame(ORIGIN, &place.previous, &frame(place, &[b"leaf"]));
            active.append(&disk, &bytes).expect("room");
            place = Place { sequence: place.sequence + 2, leaf: place.leaf + 1, previous: hash };
        }
        (active.path, starts)
    }

    fn read_all(folder: &Path) -> Result<(Vec<Frame>, Journal), ReadError> {
        let mut frames = Vec::new();
        let journal = read(folder, false, |frame| {
            frames.push(frame);
            Ok(())
        })?;
        Ok((frames, journal.begun()?.expect("a segment")))
    }

    #[test]
    fn frames_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().expect("a folder");
        written(folder.path());
        let (frames, journal) = read_all(folder.path()).expect("sound");
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1], frame(Place { sequence: 3, leaf: 1, previous: [0; 32] }, &[b"leaf"]));
        assert_eq!((journal.next.sequence, journal.next.leaf, journal.tail.torn), (7, 3, 0));
    }

    #[test]
    fn a_last_frame_cut_anywhere_is_torn_and_everything_before_it_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, starts) = written(folder.path());
        let whole = fs::read(&path).expect("readable");
        for length in starts[2] + 1..whole.len() {
            fs::write(&path, &whole[..length]).expect("writable");
            let (frames, journal) = read_all(folder.path()).expect("torn, not damaged");
            assert_eq!((frames.len(), usize::try_from(journal.tail.sound)), (2, Ok(starts[2])), "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_byte_before_the_last_frame_is_damage_that_names_file_and_offset() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, starts) = written(folder.path());
        let whole = fs::read(&path).expect("readable");
        for at in 0..starts[2] {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).expect("writable");
            let begins = starts.iter().copied().rfind(|start| *start <= at).unwrap_or(0);
            match read_all(folder.path()) {
                Err(ReadError::Damaged(damage)) => {
                    assert_eq!((&damage.file, damage.offset), (&path, Some(begins as u64)), "flipped at {at}");
                }
                other => panic!("flipped at {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_torn_frame_in_a_segment_that_is_not_the_last_is_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, starts) = written(folder.path());
        let (_, journal) = read_all(folder.path()).expect("sound");
        Active::begin(&disk::RealDisk, folder.path(), ORIGIN, journal.next).expect("a second segment");
        let whole = fs::read(&path).expect("readable");
        fs::write(&path, &whole[..starts[2] + 5]).expect("writable");
        assert!(matches!(read_all(folder.path()), Err(ReadError::Damaged(_))));
    }

    #[test]
    fn frames_of_another_store_or_a_lost_frame_do_not_continue_the_journal() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, starts) = written(folder.path());
        let whole = fs::read(&path).expect("readable");
        let without_second = [&whole[..starts[1]], &whole[starts[2]..]].concat();
        fs::write(&path, without_second).expect("writable");
        assert!(matches!(read_all(folder.path()), Err(ReadError::Damaged(_))));
    }

    #[test]
    fn zeroes_after_the_last_frame_are_room_not_damage() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, _) = written(folder.path());
        let mut whole = fs::read(&path).expect("readable");
        whole.resize(whole.len() + 4096, 0);
        fs::write(&path, whole).expect("writable");
        let (frames, journal) = read_all(folder.path()).expect("sound");
        assert_eq!((frames.len(), journal.tail.torn), (3, 0));
    }
}
