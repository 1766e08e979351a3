//! What an issuer's server is asked with, once the issuer has been checked.

use std::sync::Arc;

use chancery_api::{RemoteClient, SignerInfo};
use tokio::sync::Notify;

use crate::resource::IssuerSpec;

/// A checked issuer: its client, and the settings that the client was made from.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) client: Arc<RemoteClient>,
    pub(crate) spec: Arc<IssuerSpec>,
    /// What the server said when it was asked last.
    pub(crate) info: Arc<SignerInfo>,
    /// Wakes whoever checks the issuer.
    pub(crate) trouble: Arc<Notify>,
}

impl Signer {
    /// The issuer is to be looked at again at once: its server does not take its credential, or is not reached.
    pub(crate) fn report_trouble(&self) {
        self.trouble.notify_one();
    }
}
