//! A disk that fails when a test says so, and a model of what a power cut leaves.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::disk::{Disk, RealDisk, folder_of};

/// What is done to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    /// A write behind what is there.
    Append,
    Truncate,
    Sync,
    /// A sync after an append.
    SyncAppended,
    SyncFolder,
    Rename,
    Remove,
}

/// A failure to come: the operation, what its path must contain, the error, and how many octets of
/// a write reach the file all the same.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) operation: Operation,
    pub(crate) path: &'static str,
    pub(crate) error: io::ErrorKind,
    pub(crate) written: usize,
    /// Every time, not once.
    pub(crate) always: bool,
}

impl Fault {
    pub(crate) fn once(operation: Operation, path: &'static str, error: io::ErrorKind) -> Self {
        Self { operation, path, error, written: 0, always: false }
    }
}

/// The real disk, with faults, and with a model of what is durable: contents at their last sync,
/// names at their folder's last sync.
#[derive(Debug)]
pub(crate) struct TestDisk {
    state: Mutex<State>,
    /// While it is shut, syncs wait.
    gate: (Mutex<Gate>, Condvar),
    /// Whether a sync of a file does what it says.
    honest: bool,
}

#[derive(Debug, Default)]
struct Gate {
    /// Syncs of files whose path contains this, where it is not empty; else of appended ones.
    path: &'static str,
    shut: bool,
    waiting: usize,
}

#[derive(Debug, Default)]
struct State {
    faults: Vec<Fault>,
    free: Option<u64>,
    operations: Vec<(Operation, PathBuf)>,
    /// Operations until the power is cut.
    left: Option<u64>,
    fail_in: Option<(usize, io::ErrorKind)>,
    panic_at: Option<Operation>,
    cut: bool,
    next_node: u64,
    /// Files that were appended to since their last sync.
    appended: HashSet<PathBuf>,
    nodes: HashMap<PathBuf, u64>,
    contents: HashMap<u64, Vec<u8>>,
    names: BTreeMap<PathBuf, BTreeMap<PathBuf, Named>>,
}

#[derive(Debug, Clone, Copy)]
enum Named {
    Folder,
    File(u64),
}

impl TestDisk {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::default()), gate: Default::default(), honest: true }
    }

    /// One whose syncs of files do nothing and say that they did.
    pub(crate) fn lying() -> Self {
        Self { honest: false, ..Self::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Panics at the next such operation.
    pub(crate) fn panic_at(&self, operation: Operation) {
        self.state().panic_at = Some(operation);
    }

    /// Lets syncs of appended files wait until [`Self::open_gate`].
    pub(crate) fn shut_gate(&self) {
        self.gate.0.lock().unwrap_or_else(PoisonError::into_inner).shut = true;
    }

    /// Lets syncs of files whose path contains this wait.
    pub(crate) fn shut_gate_at(&self, path: &'static str) {
        let mut gate = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        (gate.path, gate.shut) = (path, true);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.0.lock().unwrap_or_else(PoisonError::into_inner).shut = false;
        self.gate.1.notify_all();
    }

    /// Blocks until a sync waits at the gate.
    pub(crate) fn wait_for_a_sync(&self) {
        let mut gate = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        while gate.waiting == 0 {
            gate = self.gate.1.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pass_gate(&self, path: &Path, appended: bool) {
        let mut gate = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = if gate.path.is_empty() { appended } else { path.to_string_lossy().contains(gate.path) };
        if !held {
            return;
        }
        gate.waiting += 1;
        self.gate.1.notify_all();
        while gate.shut {
            gate = self.gate.1.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.waiting -= 1;
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn set_free(&self, free: u64) {
        self.state().free = Some(free);
    }

    /// Cuts the power before the operation after so many more.
    pub(crate) fn cut_after(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// It was a kill after all: what was written is there, and durable is what was synced.
    pub(crate) fn go_on(&self) {
        let mut state = self.state();
        (state.left, state.cut) = (None, false);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Fails the operation after so many more, whatever it is; removals do not count.
    pub(crate) fn fail_at(&self, operations: usize, error: io::ErrorKind) {
        self.state().fail_in = Some((operations, error));
    }

    /// What was done since the last call.
    pub(crate) fn operations(&self) -> Vec<(Operation, PathBuf)> {
        std::mem::take(&mut self.state().operations)
    }

    /// Puts what is durable of `root` into the new folder `target`.
    pub(crate) fn leave(&self, root: &Path, target: &Path) {
        let state = self.state();
        fs::create_dir_all(target).expect("a new folder");
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for (path, named) in state.names.get(&folder).into_iter().flatten() {
                let to = target.join(path.strip_prefix(root).expect("below the root"));
                match named {
                    Named::Folder => {
                        fs::create_dir(&to).expect("a new folder");
                        folders.push(path.clone());
                    }
                    Named::File(node) => {
                        let content = state.contents.get(node).map_or(&[][..], Vec::as_slice);
                        fs::write(&to, content).expect("a new file");
                    }
                }
            }
        }
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(target, fs::Permissions::from_mode(0o700)).expect("our own folder");
    }

    /// The failure that is due, if one is.
    fn enter(&self, operation: Operation, path: &Path) -> io::Result<Option<Fault>> {
        let mut state = self.state();
        if let Some(left) = &mut state.left {
            if *left == 0 {
                state.cut = true;
            } else {
                *left -= 1;
            }
        }
        if state.cut {
            return Err(io::Error::other("the power is off"));
        }
        state.operations.push((operation, path.to_owned()));
        if operation != Operation::Remove
            && let Some((left, error)) = state.fail_in
        {
            state.fail_in = left.checked_sub(1).map(|left| (left, error));
            if left == 0 {
                return Err(error.into());
            }
        }
        let text = path.display().to_string();
        if state.panic_at == Some(operation) {
            state.panic_at = None;
            unreachable!("a test asked for this panic");
        }
        let due = state.faults.iter().position(|fault| fault.operation == operation && text.contains(fault.path));
        Ok(due.map(|at| if state.faults[at].always { state.faults[at].clone() } else { state.faults.remove(at) }))
    }

    fn checked(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.enter(operation, path)? {
            Some(fault) => Err(fault.error.into()),
            None => Ok(()),
        }
    }
}

/// sled writes its snapshots past our disk: under another name, synced, then renamed. Its settings it
/// does not sync, and it can do without them.
fn is_synced_by_sled(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("snap.") && !name.ends_with(".generating")
}

impl State {
    fn node(&mut self, path: &Path) -> u64 {
        if let Some(node) = self.nodes.get(path) {
            return *node;
        }
        self.next_node += 1;
        self.nodes.insert(path.to_owned(), self.next_node);
        self.next_node
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.checked(Operation::Create, path)?;
        let mut state = self.state();
        let file = RealDisk.create(path)?;
        state.nodes.remove(path);
        state.node(path);
        Ok(file)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        let operation = if offset == 0 { Operation::Write } else { Operation::Append };
        if operation == Operation::Append {
            self.state().appended.insert(path.to_owned());
        }
        match self.enter(operation, path)? {
            None => RealDisk.write_at(file, path, bytes, offset),
            Some(fault) => {
                RealDisk.write_at(file, path, &bytes[..fault.written.min(bytes.len())], offset)?;
                Err(fault.error.into())
            }
        }
    }

    fn truncate(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        self.checked(Operation::Truncate, path)?;
        RealDisk.truncate(file, path, length)
    }

    fn sync(&self, _: &File, path: &Path) -> io::Result<()> {
        let appended = self.state().appended.remove(path);
        self.pass_gate(path, appended);
        self.checked(if appended { Operation::SyncAppended } else { Operation::Sync }, path)?;
        if self.honest {
            let mut state = self.state();
            let node = state.node(path);
            let content = fs::read(path)?;
            state.contents.insert(node, content);
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.checked(Operation::SyncFolder, path)?;
        let mut state = self.state();
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.insert(entry.path(), Named::Folder);
                continue;
            }
            let node = state.node(&entry.path());
            if self.honest && is_synced_by_sled(&entry.path()) {
                let content = fs::read(entry.path())?;
                state.contents.insert(node, content);
            }
            names.insert(entry.path(), Named::File(node));
        }
        state.names.insert(path.to_owned(), names);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.checked(Operation::Rename, from)?;
        let mut state = self.state();
        RealDisk.rename(from, to)?;
        // A folder takes everything below it along.
        let moved: Vec<PathBuf> = state.nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let node = state.nodes.remove(&path).expect("just seen");
            let rest = path.strip_prefix(from).expect("just seen");
            let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            state.nodes.insert(new, node);
        }
        let folders: Vec<PathBuf> = state.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for folder in folders {
            let names = state.names.remove(&folder).expect("just seen");
            let new = |path: &Path| to.join(path.strip_prefix(from).expect("below it"));
            let names = names.into_iter().map(|(path, named)| (new(&path), named)).collect();
            state.names.insert(new(&folder), names);
        }
        debug_assert!(folder_of(to).is_dir());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.checked(Operation::Remove, path)?;
        let mut state = self.state();
        RealDisk.remove(path)?;
        state.nodes.remove(path);
        Ok(())
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let free = self.state().free;
        free.map_or_else(|| RealDisk.free(path), Ok)
    }
}
