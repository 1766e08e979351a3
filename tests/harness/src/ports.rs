//! Ports for programs that have to be told theirs before they start.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::Ipv4Addr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::net::TcpListener;

use crate::Result;

/// The first port that is handed out, and how many there are: below those that outgoing connections get by themselves
/// (from 32768 on, where nobody changed it). One of these is somebody's before its program has come to bind it, or while
/// that is restarted.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// How many were tried, from a place that is another one in each process.
static TRIED: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 1));

/// A free port of 127.0.0.1, that nobody else in this process is given.
///
/// # Errors
///
/// If there is none.
pub async fn free_port() -> Result<u16> {
    for _ in 0..COUNT {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed) % u64::from(COUNT);
        let port = FIRST + u16::try_from(tried)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return Ok(port);
        }
    }
    Err(format!("none of the ports {FIRST} to {} is free", FIRST + COUNT - 1).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn no_port_is_handed_out_twice_and_one_that_is_taken_is_not_handed_out() -> Result<()> {
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            // Whoever listens at the next one keeps it.
            let next = FIRST + u16::try_from((TRIED.load(Ordering::Relaxed)) % u64::from(COUNT))?;
            let taken = (seen.len() % 2 == 0).then(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, next)));
            let port = free_port().await?;
            assert!((FIRST..FIRST + COUNT).contains(&port) && seen.insert(port), "{port}");
            assert!(taken.is_none_or(|taken| taken.is_err()) || port != next, "{port} was taken");
        }
        Ok(())
    }
}
