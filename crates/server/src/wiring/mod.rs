//! From a checked configuration to what the use cases need: keys, chains, policy, settings.

pub(crate) mod chains;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod settings;

/// Something that the configuration names is not there or does not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] crate::files::FolderFault),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] chancery_signer::PassphraseError),
    /// A key file.
    #[error(transparent)]
    KeyFile(#[from] chancery_signer::KeyFileError),
    /// Keys that do not go together.
    #[error(transparent)]
    Keys(#[from] chancery_signer::KeysRejected),
    /// A key with another role than its place needs.
    #[error("the key file {path} holds a key for {found}, but it stands where one for {needed} belongs", path = path.display())]
    Role {
        /// The file.
        path: std::path::PathBuf,
        /// What it is for.
        found: chancery_signer::KeyRole,
        /// What is needed.
        needed: chancery_signer::KeyRole,
    },
    /// No certificate is installed yet.
    #[error(
        "authority \"{authority}\" has no certificate yet: there is no {}\n\
         make its CSR (chancery authority csr), have the root sign it, then: chancery authority install --chain FILE",
        path.display()
    )]
    NotInstalled {
        /// The authority.
        authority: String,
        /// Where the chain would be.
        path: std::path::PathBuf,
    },
    /// A chain does not fit.
    #[error("the chain {path} of authority \"{authority}\": {why}", path = path.display())]
    Chain {
        /// The authority.
        authority: String,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// Self-signed outside development.
    #[error(
        "the issuing certificate in {path} of authority \"{authority}\" is self-signed: \
         an issuer stands under an offline root (set development = true for a toy)",
        path = path.display()
    )]
    SelfSigned {
        /// The authority.
        authority: String,
        /// The file.
        path: std::path::PathBuf,
    },
    /// What the credentials of a cluster are told by.
    #[error("cluster \"{cluster}\": {why}")]
    Cluster {
        /// The cluster.
        cluster: String,
        /// What does not fit.
        why: String,
    },
    /// The policy.
    #[error("the policy is not taken:\n{0}")]
    Policy(chancery_policy::PolicyErrors),
    /// The policy does not allow the server's own certificate.
    #[error(
        "the policy does not allow the server's own certificate: {0}\n\
         add a rule like: allow {{ names: [HOST] }} for {{ door: own-tls }}, or bring a certificate, see [tls]"
    )]
    OwnCertificate(String),
    /// The block list.
    #[error("{}: {source}", path.display())]
    BlockList {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: chancery_pki::key::BlockListError,
    },
    /// The ledger's key is not of the one kind that checkpoints know.
    #[error("the ledger's key {} is no Ed25519 key, which checkpoints need", .0.display())]
    LedgerKey(std::path::PathBuf),
    /// The key of EAB keys is gone, and some were given out.
    #[error(
        "the key {path} (signer.eab_key) is not there, and every EAB key is derived from it: \"{key}\" and others that \
         were given out would stop working. Bring the file back from where the keys are kept; if it is lost for good, \
         start once with --new-eab-key, and give out other EAB keys",
        path = path.display()
    )]
    EabKeyLost {
        /// The file.
        path: std::path::PathBuf,
        /// One that was given out and may still be used.
        key: String,
    },
    /// The key of EAB keys is not of the one kind that they are derived from.
    #[error("the key {} (signer.eab_key) is no Ed25519 key, which EAB keys are derived from", .0.display())]
    EabKey(std::path::PathBuf),
}

/// Reads a text file.
pub(crate) fn read_text(path: &std::path::Path) -> Result<String, WiringError> {
    std::fs::read_to_string(path).map_err(|source| WiringError::Read { path: path.to_owned(), source })
}
