//! System calls that fail, by strace's own injection.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use chancery_harness::Result;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Longest that attaching or detaching may take.
const MOST: Duration = Duration::from_secs(20);

/// A system call that fails, and when.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// The calls, as strace names them, separated by commas.
    pub(crate) calls: &'static str,
    /// What they do instead: `error=EIO`, or `retval=0` for a lie.
    pub(crate) instead: String,
    /// Which calls of each thread: `3` is the third, `3+` all from the third on.
    pub(crate) when: String,
}

impl Fault {
    fn options(&self, trace: &Path) -> Vec<OsString> {
        let Self { calls, instead, when } = self;
        let mut options: Vec<OsString> = ["-f", "-y", "-s", "0", "-e"].map(OsString::from).to_vec();
        options.push(format!("trace={calls}").into());
        options.push("-e".into());
        options.push(format!("inject={calls}:{instead}:when={when}").into());
        options.push("-o".into());
        options.push(trace.into());
        options
    }
}

/// What to put before a command so that it runs with a fault from its first instruction on. strace
/// becomes a grandchild (`-D`), so that the process that was started is the command.
pub(crate) fn wrapper(strace: &Path, fault: &Fault, trace: &Path) -> Vec<OsString> {
    let mut words = vec![strace.into(), "-D".into()];
    words.extend(fault.options(trace));
    words.push("--".into());
    words
}

/// The lines of a trace whose call was made to fail: name, paths and error stand in them.
pub(crate) fn struck(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).unwrap_or_default();
    text.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
}

/// strace at work on a running process.
pub(crate) struct Attached {
    child: Child,
    trace: PathBuf,
}

impl Attached {
    /// Attaches to every thread of a process; returns once it has.
    pub(crate) async fn to(process: u32, strace: &Path, fault: &Fault, trace: PathBuf) -> Result<Self> {
        let mut child = Command::new(strace)
            .args(fault.options(&trace))
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let attached = async {
            while let Some(line) = said.next_line().await? {
                if line.contains(" attached") {
                    return Ok(());
                }
                if line.contains("attach") {
                    break;
                }
            }
            Err(chancery_harness::Error::from("strace could not attach"))
        };
        timeout(MOST, attached).await??;
        // It says more as threads come and go, and must not wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        Ok(Self { child, trace })
    }

    /// Lets go; what was made to fail.
    pub(crate) async fn detach(mut self) -> Result<Vec<String>> {
        if let Some(id) = self.child.id() {
            // It ends by itself where the process did.
            let _ = Command::new("kill").args(["-INT", &id.to_string()]).status().await;
        }
        timeout(MOST, self.child.wait()).await??;
        Ok(struck(&self.trace))
    }
}
