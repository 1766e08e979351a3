//! Our own JSON API: the types that travel, and the client.
//!
//! The server's routes and the command line share these types, so that neither can drift.
//! [`Client`] speaks over the server's local socket, [`RemoteClient`] over HTTPS; neither retries by itself.

mod client;
mod eab;
mod remote;
mod signing;
mod tokens;
mod types;

pub use client::{Client, ClientError};
pub use eab::{
    EabKeyList, EabKeyMade, EabKeyView, EabLimitsChange, EabNamesView, MakeEabKeyRequest, RevokeEabKeyRequest,
};
pub use remote::{Credential, RemoteClient, RemoteError, RemoteSettings, RemoteSetupError, Roots, SERVERS_MAX};
pub use signing::{
    IssuerRef, LeaseRef, Origin, PodRef, RefusalReason, RequestKind, RequestQuery, RequestRef, SignedCertificate,
    SignerInfo, SignerProfile, SigningRequest, SigningState, UsageReport,
};
pub use tokens::{MadeToken, MakeTokenRequest, TokenList, TokenView};
pub use types::{
    AccountList, AccountView, AuthorityView, BackedUp, BackupRequest, CertificateFilter, CertificateList,
    CertificateView, CheckpointView, DecisionView, DirectoryView, ErrorBody, IssuanceList, IssuanceQuery, IssuanceView,
    NameRuleView, PageQuery, RecordedRevocation, Reloaded, RevocationView, RevokeRequest, Revoked, Status, TlsView,
};

/// Most entries that one page may hold.
pub const PAGE_MAX: usize = 500;

/// Name of the socket's file in the data folder.
pub const SOCKET_NAME: &str = "chancery.sock";
