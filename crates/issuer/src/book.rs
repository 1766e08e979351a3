//! The issuers as they are now, for those who watch other objects than the board does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{board::IssuerKey, decide::IssuerState, signer::Signer};

/// One issuer.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) state: IssuerState,
    /// There while it is ready.
    pub(crate) signer: Option<Arc<Signer>>,
}

impl Known {
    const ABSENT: Self = Self { state: IssuerState::Absent, signer: None };
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    known: Mutex<HashMap<IssuerKey, Known>>,
    changed: watch::Sender<()>,
}

impl Book {
    /// How an issuer is now.
    pub(crate) fn set(&self, key: &IssuerKey, state: &IssuerState, signer: Option<&Arc<Signer>>) {
        if *state == IssuerState::Absent {
            self.lock().remove(key);
        } else {
            self.lock().insert(key.clone(), Known { state: state.clone(), signer: signer.cloned() });
        }
        self.changed.send_replace(());
    }

    /// How an issuer is.
    pub(crate) fn get(&self, key: &IssuerKey) -> Known {
        self.lock().get(key).cloned().unwrap_or(Known::ABSENT)
    }

    /// All that there are.
    pub(crate) fn all(&self) -> Vec<(IssuerKey, Known)> {
        self.lock().iter().map(|(key, known)| (key.clone(), known.clone())).collect()
    }

    /// Tells of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IssuerKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
