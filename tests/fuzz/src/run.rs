//! Reads the kept samples of a target and what chance makes of them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt, fs,
    hash::{BuildHasher as _, RandomState},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};

use crate::{Target, Verdict, mutate::Mutator};

/// The seed of a test.
const SEED: u64 = 8555;
/// Most inputs that are mutated further because they were refused in a new way.
const POOL_MAX: usize = 1024;
/// Most time of this processor that one input may take. A good CSR with an RSA-4096 key takes some 3 ms.
const TIME_MAX: Duration = Duration::from_millis(400);
/// Most tries at making an input shorter.
const SHORTENINGS_MAX: usize = 3_000;

/// What a run has seen.
#[derive(Debug, Clone)]
pub struct Report {
    name: &'static str,
    seed: u64,
    kept: usize,
    mutated: u64,
    taken: u64,
    reasons: usize,
    slowest: Duration,
    most_memory: u64,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, kept, mutated, taken, reasons, slowest, most_memory, took } = self;
        write!(
            f,
            "{name}: {kept} kept and {mutated} mutated inputs (seed {seed}) in {took:.1?}, {taken} taken, refused in \
             {reasons} ways; the slowest took {slowest:.1?}, the largest {} KiB",
            most_memory / 1024
        )
    }
}

/// The kept samples of a target, by name.
///
/// # Panics
///
/// If they cannot be read.
#[must_use]
pub fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let octets = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, octets)
        })
        .collect()
}

/// How long, and from which seed.
struct Length {
    seed: u64,
    until: Option<Instant>,
    mutations: u64,
}

impl Length {
    fn of(target: &Target) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
        };
        let seconds = number("CHANCERY_FUZZ_SECONDS").map(Duration::from_secs);
        let seed = number("CHANCERY_FUZZ_SEED");
        match seconds {
            None => Self { seed: seed.unwrap_or(SEED), until: None, mutations: target.mutations },
            Some(seconds) => Self {
                seed: seed.unwrap_or_else(|| RandomState::new().hash_one(target.name)),
                until: Some(Instant::now() + seconds),
                mutations: u64::MAX,
            },
        }
    }

    fn over(&self, done: u64) -> bool {
        done >= self.mutations || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

impl Target {
    /// Reads the kept samples, then mutations of them.
    ///
    /// # Panics
    ///
    /// If something that must hold does not: with the seed, and the file that the input was written to, in `found`.
    #[must_use]
    pub fn run(&self, found: &Path) -> Report {
        let length = Length::of(self);
        let mut report = Report {
            name: self.name,
            seed: length.seed,
            kept: 0,
            mutated: 0,
            taken: 0,
            reasons: 0,
            slowest: Duration::ZERO,
            most_memory: 0,
            took: Duration::ZERO,
        };
        let began = processor_time();
        let mut reasons = BTreeSet::new();
        let mut pool = Vec::new();
        for (path, octets) in corpus(self.name) {
            match self.execute(&octets, found, &mut report) {
                Ok(Verdict::Taken) => {}
                Ok(Verdict::Refused(why)) => drop(reasons.insert(plain(&why))),
                Err(fault) => panic!("{}: {}: {fault}", self.name, path.display()),
            }
            report.kept += 1;
            pool.push(octets);
        }
        assert!(report.taken > 0, "{}: no kept sample is taken, so nothing behind the first check is seen", self.name);
        assert!(!reasons.is_empty(), "{}: no kept sample is refused", self.name);
        report.taken = 0;

        let chance = ChaCha8Rng::seed_from_u64(length.seed);
        let mut mutator = Mutator { chance, form: self.form, words: self.words, longest: self.longest };
        while !length.over(report.mutated) {
            // New ways to be refused are looked at more often.
            let recent = pool.len().saturating_sub(16);
            let from = if mutator.chance.random_ratio(1, 4) { &pool[recent..] } else { &pool[..] };
            let (one, other) = (from.choose(&mut mutator.chance), pool.choose(&mut mutator.chance));
            let octets = mutator.mutate(one.expect("samples"), other.expect("samples"));
            report.mutated += 1;
            match self.execute(&octets, found, &mut report) {
                Ok(Verdict::Taken) => {}
                Ok(Verdict::Refused(why)) => {
                    if reasons.insert(plain(&why)) && pool.len() < POOL_MAX {
                        pool.push(octets);
                    }
                }
                Err(fault) => self.give_up(&octets, &fault, found, &report),
            }
        }
        report.reasons = reasons.len();
        report.took = processor_time().saturating_sub(began);
        report
    }

    /// Reads one input, its time and memory watched.
    fn execute(&self, octets: &[u8], found: &Path, report: &mut Report) -> Result<Verdict, String> {
        if std::env::var_os("CHANCERY_FUZZ_TRACE").is_some() {
            keep(&found.join(format!("{}-running", self.name)), octets);
        }
        let (verdict, took, memory) = self.measure(octets)?;
        report.slowest = report.slowest.max(took);
        report.most_memory = report.most_memory.max(memory);
        report.taken += u64::from(verdict == Verdict::Taken);
        Ok(verdict)
    }

    fn measure(&self, octets: &[u8]) -> Result<(Verdict, Duration, u64), String> {
        watch_panics();
        let strays = STRAYS.load(Ordering::SeqCst);
        let began = processor_time();
        let mut outcome = None;
        WATCHED.set(true);
        let memory = allocation_counter::measure(|| {
            outcome = Some(panic::catch_unwind(AssertUnwindSafe(|| (self.read)(octets))));
        });
        WATCHED.set(false);
        let took = processor_time().saturating_sub(began);
        let Some(Ok(verdict)) = outcome else { return Err(PANIC.with_borrow(String::clone)) };
        if STRAYS.load(Ordering::SeqCst) != strays {
            return Err(STRAY.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        if took > TIME_MAX {
            return Err(format!("{} octets took {took:?}, longer than {TIME_MAX:?}", octets.len()));
        }
        if memory.bytes_max > self.memory {
            let max = self.memory;
            return Err(format!("{} octets took {} octets of memory, more than {max}", octets.len(), memory.bytes_max));
        }
        Ok((verdict, took, memory.bytes_max))
    }

    fn give_up(&self, octets: &[u8], fault: &str, found: &Path, report: &Report) -> ! {
        let shortest = self.shorten(octets, fault);
        let digest = Sha256::digest(&shortest);
        let name: String = digest.iter().take(6).map(|octet| format!("{octet:02x}")).collect();
        let path = found.join(format!("{}-{name}", self.name));
        keep(&path, &shortest);
        panic!(
            "{}: mutation {} from seed {}: {fault}\nthe input, made shorter, is in {}; with the repair it belongs into \
             tests/fuzz/corpus/{}/",
            self.name,
            report.mutated,
            report.seed,
            path.display(),
            self.name,
        );
    }

    /// As short as it goes while the same fault shows.
    fn shorten(&self, octets: &[u8], fault: &str) -> Vec<u8> {
        let mut shortest = octets.to_vec();
        let mut tries = 0;
        let mut chunk = shortest.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < shortest.len() && tries < SHORTENINGS_MAX {
                let mut shorter = shortest.clone();
                shorter.drain(at..(at + chunk).min(shortest.len()));
                tries += 1;
                match self.measure(&shorter) {
                    Err(other) if plain(&other) == plain(fault) => shortest = shorter,
                    _ => at += chunk,
                }
            }
            chunk /= 2;
        }
        shortest
    }
}

fn keep(path: &Path, octets: &[u8]) {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, octets));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The words of a refusal without what they quote of the input.
fn plain(why: &str) -> String {
    let outside = why.split(['"', '`']).step_by(2);
    outside.flat_map(str::chars).filter(char::is_ascii_alphabetic).take(100).collect()
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

thread_local! {
    /// Whether this thread reads an input now.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// The last panic of this thread while it read one.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics on other threads: those that work for the code under test, which may hide them.
static STRAYS: AtomicU64 = AtomicU64::new(0);
static STRAY: Mutex<String> = Mutex::new(String::new());

/// Keeps the words of panics instead of printing thousands of them.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.to_string();
            if WATCHED.get() {
                PANIC.set(text);
                return;
            }
            // A target that gives up panics too, on the thread of its test, which has a name.
            if std::thread::current().name().is_none_or(|name| name.starts_with("tokio")) {
                STRAYS.fetch_add(1, Ordering::SeqCst);
                *STRAY.lock().unwrap_or_else(PoisonError::into_inner) = format!("a thread beside it: {text}");
            }
            before(info);
        }));
    });
}
