//! What travels, as JSON. Times are RFC 3339 in UTC; ids are as in URLs; digests and serials are hex.

use serde::{Deserialize, Serialize};

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Since when it runs.
    pub started: String,
    /// Whether it issues; if not, why not, one sentence each.
    pub not_issuing: Vec<String>,
    /// What an operator should see to before it hurts, one sentence each.
    pub alarms: Vec<String>,
    /// Its ACME directories.
    pub directories: Vec<DirectoryView>,
    /// Its issuing authorities.
    pub authorities: Vec<AuthorityView>,
    /// The policy file in force.
    pub policy_file: String,
    /// SHA-256 of that file as it was loaded.
    pub policy_sha256: String,
    /// How many leaves the ledger has.
    pub ledger_size: u64,
    /// The ledger's root, in base64 as checkpoints write it.
    pub ledger_root: String,
    /// What checkpoints are verified with (C2SP signed-note): name, hash and key.
    pub ledger_verifier_key: Option<String>,
    /// The last signed checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// The certificate that HTTPS serves with.
    pub tls: Option<TlsView>,
    /// Connections that are open now.
    pub connections: u64,
    /// Jobs that run now.
    pub jobs_running: u64,
}

/// One ACME directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryView {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The profiles it offers; the first is the default.
    pub profiles: Vec<String>,
}

/// One issuing authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityView {
    /// Its name in the configuration.
    pub id: String,
    /// The subject of the certificate that issues.
    pub subject: String,
    /// When that certificate ends.
    pub not_after: String,
    /// Whether it is a development authority.
    pub development: bool,
}

/// The last signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
}

/// The certificate that HTTPS serves with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsView {
    /// Whether our own authority issued it (it then renews itself), or it was brought.
    pub own: bool,
    /// The names it holds, or the file it came from.
    pub names: Vec<String>,
    /// When it ends.
    pub not_after: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Entries after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many; never more than [`PAGE_MAX`](crate::PAGE_MAX).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountList {
    /// The accounts.
    pub accounts: Vec<AccountView>,
    /// What to send as `after` for the next page; nothing if this is the last.
    pub next: Option<String>,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its id.
    pub id: String,
    /// Its directory.
    pub directory: String,
    /// Its status, as ACME says it.
    pub status: String,
    /// Its contacts.
    pub contacts: Vec<String>,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub key_sha256: String,
    /// What kind of key.
    pub key_kind: String,
    /// Since when it exists.
    pub created: String,
    /// The EAB key it was made with.
    pub eab_key: Option<String>,
}

/// Which certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFilter {
    /// Those that hold this name, letter for letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those that hold a DNS name at or below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
    /// Those of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Those with this key: SHA-256 of the SubjectPublicKeyInfo, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<String>,
    /// Those that end before this time, the earliest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_before: Option<String>,
    /// Those that this Kubernetes cluster asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Of those, the ones of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of those, the ones of this Certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Whether each comes with its PEM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pem: bool,
    /// Entries after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A page of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateList {
    /// The certificates.
    pub certificates: Vec<CertificateView>,
    /// What to send as `after` for the next page; nothing if this is the last.
    pub next: Option<String>,
}

/// One certificate of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// Its id.
    pub id: String,
    /// Who issued it.
    pub authority: String,
    /// Its serial number.
    pub serial: String,
    /// What it names.
    pub names: Vec<String>,
    /// Its first second.
    pub not_before: String,
    /// Its last second.
    pub not_after: String,
    /// The profile it was made by.
    pub profile: String,
    /// Who asked for it.
    pub requester: String,
    /// The account that asked for it.
    pub account: Option<String>,
    /// The order it fulfils.
    pub order: Option<String>,
    /// Whose it is, where the directory said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The Kubernetes cluster that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The namespace there, proven or reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Certificate there, as it was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Where it is used, as the cluster reports it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// `issued`, `intended` (on its way), or `possibly issued` (a signature may exist).
    pub state: String,
    /// Its revocation.
    pub revoked: Option<RevocationView>,
    /// The order that was placed last to replace it (RFC 9773 §5), whatever became of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
    /// SHA-256 of its key's SubjectPublicKeyInfo.
    pub key_sha256: String,
    /// What was decided when it was issued, where one certificate is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionView>,
    /// The certificate, where it was asked for and a signature is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// What of it cannot be shown, and why, where one certificate is asked for: the ledger's record does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// What policy decided, as the ledger recorded it before the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// The index of the ledger's record (the intent's leaf).
    pub ledger_index: u64,
    /// When it was decided.
    pub at: String,
    /// SHA-256 of the policy that decided.
    pub policy_sha256: String,
    /// Each name with the rule that allowed it.
    pub names: Vec<NameRuleView>,
    /// The EAB key by which the names were pre-authorised, where nobody had to show control of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preauthorized_by: Option<String>,
}

/// A name and the rule that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRuleView {
    /// The name, with its type: `dns:a.example`.
    pub name: String,
    /// The rule's name.
    pub rule: Option<String>,
}

/// Which part of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuanceQuery {
    /// The record to begin with.
    #[serde(default)]
    pub from: u64,
    /// At most this many records; never more than [`PAGE_MAX`](crate::PAGE_MAX).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What the ledger says of issuances in a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuanceList {
    /// How far each got there. One that is `intended` here comes again where its outcome is recorded.
    pub issuances: Vec<IssuanceView>,
    /// Revocations that are recorded there.
    pub revocations: Vec<RecordedRevocation>,
    /// What to send as `from` for the next part.
    pub next: u64,
    /// How many records the ledger has.
    pub size: u64,
}

/// One issuance, as the ledger recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuanceView {
    /// The index of the ledger's record of its intent.
    pub ledger_index: u64,
    /// The certificate's id.
    pub certificate: String,
    /// Who issued it.
    pub authority: String,
    /// Its serial number.
    pub serial: String,
    /// What it names.
    pub names: Vec<String>,
    /// `issued`, `intended` (no outcome so far), or `possibly issued` (a signature may exist).
    pub state: String,
    /// The certificate, where a signature is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
}

/// A revocation, as the ledger recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRevocation {
    /// Who issued the certificate.
    pub authority: String,
    /// The certificate's serial number.
    pub serial: String,
    /// Since when, and why.
    #[serde(flatten)]
    pub revocation: RevocationView,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationView {
    /// Since when.
    pub at: String,
    /// Why (RFC 5280 §5.3.1), if it was said.
    pub reason: Option<String>,
}

/// Revoke a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The CRLReason code (RFC 5280 §5.3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u64>,
}

/// It is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The certificate as it stands now.
    pub certificate: CertificateView,
}

/// Back up into a folder of the server's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// An absolute path; it must not exist, or be empty.
    pub folder: String,
}

/// The backup is complete and synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Where.
    pub folder: String,
    /// How many leaves of the ledger it holds.
    pub ledger_size: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// The new configuration is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changed, one sentence each.
    pub changed: Vec<String>,
    /// What changed in the files but needs a restart, one sentence each.
    pub needs_restart: Vec<String>,
    /// SHA-256 of the policy in force.
    pub policy_sha256: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A word for programs: `not-found`, `refused`, `invalid`, `busy`, `failed`; at the door of clusters also
    /// `unauthorized`, `too-large`, `slow-down` and `stale-term`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}
