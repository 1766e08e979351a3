//! One program of the plane: what it prints goes to a file, and it ends with what started it.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use crate::{Result, guard::Guard, until};

/// Longest that a program may take to be ready: all cores may be busy with a build.
const START: Duration = Duration::from_secs(120);
/// How often a program is asked. It is not ours and has no other way to tell.
const ASK: Duration = Duration::from_millis(50);
/// How much of what it printed stands in an error, in bytes.
const TAIL: usize = 4000;

/// A program that runs until it is killed or dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    guard: Arc<Guard>,
    /// Where in the log this start begins.
    begin: usize,
}

impl Process {
    /// Starts a program in a process group of its own; what it prints is added to a file.
    pub(crate) fn start(guard: &Arc<Guard>, name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let begin = usize::try_from(file.metadata()?.len())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone()?))
            .stderr(Stdio::from(file))
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", command.get_program().display()))?;
        guard.started(child.id())?;
        Ok(Self { name: name.to_owned(), child, log, guard: Arc::clone(guard), begin })
    }

    /// Asks until the answer is yes. An error if the program ends before, or time is up.
    pub(crate) async fn until(&mut self, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(fault) = self.ended()? {
                return Err(fault.into());
            }
            if ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.fault(&format!("was not ready after {} s", START.as_secs())).into());
            }
            sleep(ASK).await;
        }
    }

    /// How it ended, if it has, and what it printed at last.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        self.guard.ended(self.child.id());
        Ok(Some(self.fault(&format!("ended with {status}"))))
    }

    /// Waits until it has printed this line.
    pub(crate) async fn until_printed(&mut self, line: &str) -> Result<()> {
        let (log, begin) = (self.log.clone(), self.begin);
        self.until(async || printed(&log, begin).lines().any(|printed| printed == line)).await
    }

    /// Waits until it has printed a line like this, for what it tells nobody but its log.
    pub async fn until_it_prints(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + until::LIMIT;
        while !self.printed().lines().any(&wanted) {
            if Instant::now() > deadline {
                return Err(self.fault("did not print what was wanted").into());
            }
            sleep(ASK).await;
        }
        Ok(())
    }

    /// What it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        printed(&self.log, self.begin)
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid().ok_or("a process without a number")?, signal)?)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + until::LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(self.fault("did not end when it was asked to").into());
            }
            sleep(ASK).await;
        }
        Ok(())
    }

    /// Kills it (SIGKILL) and whatever it has started, if they still run.
    pub fn kill(&mut self) {
        // They may have ended by themselves: that is what was wanted.
        let _ = self.pid().map(|leader| kill_process_group(leader, Signal::KILL));
        let _ = self.child.wait();
        self.guard.ended(self.child.id());
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn fault(&self, what: &str) -> String {
        let printed = self.printed();
        let begin = printed.ceil_char_boundary(printed.len().saturating_sub(TAIL));
        format!("{} {what}; it printed at last:\n{}", self.name, printed.get(begin..).unwrap_or_default())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn printed(log: &Path, begin: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(begin..).unwrap_or_default()).into_owned()
}
