//! What ends a plane when the process that started it ends, however it does: killed, or by returning from `main`, which
//! drops nothing that tests share. Each program leads a process group, which ends with it: nginx and Istio's agent start
//! processes of their own.

use std::{
    io::Write as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::Result;

/// Reads what runs and what has ended. Its input ends with us, and then it kills what still runs and removes the folder.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
running=
while read -r what process; do
  case $what in
    started) running="$running -$process" ;;
    ended) rest=; for other in $running; do [ "$other" = "-$process" ] || rest="$rest $other"; done; running=$rest ;;
  esac
done
[ -z "$running" ] || kill -9 $running
rm -rf "$0" 2>/dev/null || { sleep 1; rm -rf "$0"; }
"#;

/// A shell that outlives this process by a moment.
pub(crate) struct Guard {
    input: Mutex<ChildStdin>,
}

impl Guard {
    /// Watches over a folder, and over what [`Self::started`] tells it.
    pub(crate) fn over(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("no shell can be started to end the control plane with this process: {error}"))?;
        let input = shell.stdin.take().ok_or("a shell without input")?;
        Ok(Self { input: Mutex::new(input) })
    }

    /// The group of this process is to end with us.
    pub(crate) fn started(&self, process: u32) -> Result<()> {
        self.say("started", process)
    }

    /// This one has ended; its number may be another's now.
    pub(crate) fn ended(&self, process: u32) {
        // A guard that has gone kills nothing either.
        let _ = self.say("ended", process);
    }

    fn say(&self, what: &str, process: u32) -> Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(writeln!(input, "{what} {process}")?)
    }
}
