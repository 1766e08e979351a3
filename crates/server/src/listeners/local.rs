//! The local socket: a Unix socket in the data folder, for the user that the server runs as and for root.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::Router;
use chancery_http::api::Caller;
use http::Extensions;
use tokio::{
    net::{UnixListener, UnixStream},
    time::sleep,
};

use super::{
    Stopping, Timeouts,
    serve::{Version, connection},
};

/// Longest path of a Unix socket on Linux, in octets (unix(7)).
const PATH_MAX: usize = 107;

/// The local socket. Its file goes when this does.
pub(crate) struct Local {
    socket: UnixListener,
    path: PathBuf,
    us: u32,
}

impl Local {
    /// Makes the socket. Whoever calls holds the lock of the store, so a socket that is there was
    /// left behind.
    pub(crate) fn bind(path: &Path) -> Result<Self, String> {
        use std::os::unix::ffi::OsStrExt as _;
        let octets = path.as_os_str().as_bytes().len();
        if octets > PATH_MAX {
            return Err(format!(
                "the local socket {} has a path of {octets} octets, more than the {PATH_MAX} that Linux allows; \
                 choose a data folder with a shorter path",
                path.display()
            ));
        }
        let fault = |error: io::Error| format!("the local socket {}: {error}", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        // The folder is 0700 already, so nobody else reaches it between these two lines.
        let socket = UnixListener::bind(path).map_err(fault)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(fault)?;
        Ok(Self { socket, path: path.to_owned(), us: rustix::process::geteuid().as_raw() })
    }

    /// Accepts connections until the server stops.
    pub(crate) async fn run(self, router: Router, timeouts: Timeouts, mut stopping: Stopping) {
        loop {
            let accepted = tokio::select! {
                () = stopping.stopped() => return,
                accepted = self.socket.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(uid) = self.permitted(&stream) else { continue };
            let mut extensions = Extensions::new();
            extensions.insert(Caller::Local { uid });
            tokio::spawn(connection(stream, Version::Http1, router.clone(), extensions, timeouts, stopping.clone()));
        }
    }

    /// The user at the other end, if it is ours or root.
    fn permitted(&self, stream: &UnixStream) -> Option<u32> {
        let uid = stream.peer_cred().ok()?.uid();
        if uid == self.us || uid == 0 {
            return Some(uid);
        }
        tracing::warn!(uid, "another user was turned away from the local socket");
        None
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
