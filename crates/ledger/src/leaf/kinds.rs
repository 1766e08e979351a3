//! The kinds of leaves, as plain structs.
//!
//! INVARIANT: the fields of every struct stand in the order of their names' bytes, since that is
//! the order RFC 8785 §3.2.3 asks for and serde writes them as they stand. A test compares every
//! kind with an independent canonicalizer.

use chancery_pki::{SerialNumber, Timestamp};
use serde::{Deserialize, Serialize};

use super::text::{binary, hashes, number, optional_binary, serial, time};

/// A certificate is about to be signed: all that is needed to know what, for whom and why.
///
/// Durable before the signer is asked. What it leads to is a [`Signature`] or an [`Abandoned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The ACME account it is for.
    #[serde(with = "optional_binary", default, skip_serializing_if = "Option::is_none")]
    pub account: Option<[u8; 16]>,
    /// The account's own facts, in its first intent alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_facts: Option<AccountFacts>,
    /// When it was decided.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// Which authority signs.
    pub authority: String,
    /// The certificate's opaque id.
    #[serde(with = "binary")]
    pub certificate: [u8; 16],
    /// Which of the authority's chains goes out with it.
    pub chain: String,
    /// The CRL shard that its URL names, if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_shard: Option<u32>,
    /// What policy said.
    pub decision: Decision,
    /// The door through which it was asked for: `acme`, `api`, ...
    pub door: String,
    /// The idempotency key it answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// The ACME order it is for.
    #[serde(with = "optional_binary", default, skip_serializing_if = "Option::is_none")]
    pub order: Option<[u8; 16]>,
    /// SHA-256 of the policy that decided.
    #[serde(with = "binary")]
    pub policy: [u8; 32],
    /// The profile that shaped it.
    pub profile: ProfileRef,
    /// The id of the certificate that it replaces (RFC 9773 §5).
    #[serde(with = "optional_binary", default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<[u8; 16]>,
    /// Who asked.
    pub requester: Requester,
    /// The profile's retention class: how long its rows are kept.
    pub retention: String,
    /// The serial number.
    #[serde(with = "serial")]
    pub serial: SerialNumber,
    /// The TBSCertificate in DER (RFC 5280 §4.1), exactly as it goes to the signer.
    #[serde(with = "binary")]
    pub tbs: Vec<u8>,
    /// Whose it is, where tenants are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// What is needed to have an account again after a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountFacts {
    /// Contact URLs (RFC 8555 §7.1.2).
    pub contacts: Vec<String>,
    /// When it was made.
    #[serde(with = "time")]
    pub created: Timestamp,
    /// The ACME directory it belongs to.
    pub directory: String,
    /// The EAB key it was bound with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab: Option<String>,
    /// Its public key, as SubjectPublicKeyInfo in DER.
    #[serde(with = "binary")]
    pub spki: Vec<u8>,
    /// The terms of service that it agreed to, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// Terms of service that an account agreed to (RFC 8555 §7.3.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// When it agreed.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The URL at which they stood.
    pub url: String,
}

/// What policy said about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The names, each with the rule that decided it. An intent's names are these.
    pub names: Vec<NameRule>,
    /// The outcome as a whole.
    pub outcome: Outcome,
    /// The EAB key by which the names were pre-authorised, where nobody had to show control of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preauthorized_by: Option<String>,
    /// What was said beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
    /// How many more warnings there were.
    #[serde(default, skip_serializing_if = "none")]
    pub warnings_left_out: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn none(left_out: &u32) -> bool {
    *left_out == 0
}

/// How a decision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Allowed by a rule.
    Allow,
    /// Refused by a rule, or by the absence of one.
    Deny,
    /// Held for approval.
    Hold,
}

/// One name and the rule that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// The name, typed as it is written: `dns:a.example`, `ip:192.0.2.1`, `email:a@example.com`, `spiffe://…`, `uri:…`
    /// for any other URI, `other:OID:…`, `cn:…` for a common name that is a name of its own.
    pub name: String,
    /// The rule's name; none where no rule spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A rule's warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// The rule's reason.
    pub because: String,
    /// The rule's name.
    pub rule: String,
}

/// The idempotency key of a request, and which attempt at it this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// 1 for the first attempt; an abandoned one is followed by another with a new serial.
    pub attempt: u32,
    /// The key: door, credential or cluster, and the request's own id.
    pub key: String,
    /// SHA-256 of the request, so that the key cannot be used for another one.
    #[serde(with = "optional_binary", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<[u8; 32]>,
}

/// A profile, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRef {
    /// SHA-256 of the profile's canonical form.
    #[serde(with = "binary")]
    pub hash: [u8; 32],
    /// Its name.
    pub name: String,
}

/// Who asked: one line for people, claims for machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// What is known of the requester.
    pub claims: Vec<Claim>,
    /// One line for people: `account 5Zq… (eab platform-team)`.
    pub summary: String,
}

/// One fact about a requester.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// What kind of fact: `eab`, `namespace`, `service-account`, ...
    pub name: String,
    /// Whether the door proved it, or the requester merely said so.
    pub proven: bool,
    /// The fact.
    pub value: String,
}

/// A recorded certificate was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// When the signature came back.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The certificate's opaque id.
    #[serde(with = "binary")]
    pub certificate: [u8; 16],
    /// The index of its [`Intent`].
    #[serde(with = "number")]
    pub intent: u64,
    /// SHA-256 of the whole certificate in DER.
    #[serde(with = "binary")]
    pub sha256: [u8; 32],
    /// The signature's own octets (the content of `signatureValue`, RFC 5280 §4.1.1.3).
    #[serde(with = "binary")]
    pub signature: Vec<u8>,
}

/// A recorded certificate was given up. Its serial stays as possibly issued and can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abandoned {
    /// When it was settled.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The certificate's opaque id.
    #[serde(with = "binary")]
    pub certificate: [u8; 16],
    /// The index of its [`Intent`].
    #[serde(with = "number")]
    pub intent: u64,
    /// A short code: `no-signature`, `signer-unknown`, `signature-wrong`, ...
    pub why: String,
}

/// Policy refused: the first refusal per requester, rule and hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The rule's reason, or ours where no rule spoke.
    pub because: String,
    /// The door through which it was asked for.
    pub door: String,
    /// The first of the names asked for.
    pub names: Vec<String>,
    /// How many more there were.
    pub names_left_out: u32,
    /// SHA-256 of the policy that decided.
    #[serde(with = "binary")]
    pub policy: [u8; 32],
    /// Who asked.
    pub requester: Requester,
    /// The rule's name; none where no rule allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Whose it would have been, where tenants are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A certificate was revoked. A second one for the same certificate changes the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The authority that issued it.
    pub authority: String,
    /// Who revoked it, in one line.
    pub by: String,
    /// The certificate's opaque id.
    #[serde(with = "binary")]
    pub certificate: [u8; 16],
    /// The reason code (RFC 5280 §5.3.1), if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u8>,
    /// Its serial number.
    #[serde(with = "serial")]
    pub serial: SerialNumber,
}

/// A CRL got its number; the number is used up whatever became of the CRL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrlPublished {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The authority whose CRL it is.
    pub authority: String,
    /// The CRL number (RFC 5280 §5.2.3).
    #[serde(with = "number")]
    pub number: u64,
    /// SHA-256 of what is signed: the TBSCertList in DER.
    #[serde(with = "binary")]
    pub sha256: [u8; 32],
    /// The shard.
    pub shard: u32,
}

/// Something happened to an external account binding key (RFC 8555 §7.3.4). Its secret is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EabKey {
    /// The account that used it, or that was stopped with it.
    #[serde(with = "optional_binary", default, skip_serializing_if = "Option::is_none")]
    pub account: Option<[u8; 16]>,
    /// That account's own facts, where it was made with the key: it enters the ledger here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_facts: Option<AccountFacts>,
    /// What happened.
    pub action: EabAction,
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The binding as the account sent it, where it was made with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Who did it, in one line.
    pub by: String,
    /// What the key grants from now on, where it was made or got other limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<EabGrant>,
    /// The key's id.
    pub key: String,
}

/// What an EAB key grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EabGrant {
    /// How many accounts may be made with it.
    #[serde(with = "number")]
    pub accounts: u64,
    /// The ACME directory it is for.
    pub directory: String,
    /// Until when accounts are made with it.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// The names that its accounts may have; none where policy alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<EabNames>,
    /// Whose it is, in words.
    pub owner: String,
    /// The profiles that its accounts may ask for; none where the directory alone decides.
    pub profiles: Vec<String>,
    /// What its secret is derived from, beside a key that is not here.
    #[serde(with = "binary")]
    pub salt: [u8; 16],
}

/// Names that an EAB key is limited to, as a policy writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EabNames {
    /// Ranges of addresses.
    pub addresses: Vec<String>,
    /// Patterns over DNS names.
    pub names: Vec<String>,
    /// Wildcard names, letter for letter.
    pub wildcards: Vec<String>,
}

/// What happened to an EAB key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EabAction {
    /// It was made.
    Created,
    /// An account was bound with it.
    Used,
    /// It was revoked.
    Revoked,
    /// It got other limits.
    Limited,
    /// An account that was made with it was stopped, since the key was revoked with its accounts; or all of them were,
    /// where none is named.
    Stopped,
}

/// Something happened to an API token. The token itself is not here: 256 random bits of which only the digest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// What happened.
    pub action: TokenAction,
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// Who did it, in one line.
    pub by: String,
    /// What the token is, where it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ApiTokenFacts>,
    /// The token's id.
    #[serde(with = "binary")]
    pub token: [u8; 16],
}

/// What an API token may be used for, and what it is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenFacts {
    /// The cluster that it speaks for.
    pub cluster: String,
    /// What it is for, in the words of whoever made it.
    pub comment: String,
    /// Until when it holds.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// The patterns of the names that may be asked for with it; absent, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// The namespaces that it speaks for; absent, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The profiles that may be asked for with it; absent, the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// SHA-256 of its secret part.
    #[serde(with = "binary")]
    pub sha256: [u8; 32],
}

/// What happened to an API token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenAction {
    /// It was made.
    Created,
    /// It was revoked.
    Revoked,
}

/// An account that the ledger knows of ended at its holder's wish (RFC 8555 §7.3.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountDeactivated {
    /// The account.
    #[serde(with = "binary")]
    pub account: [u8; 16],
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
}

/// An account that the ledger knows of has another key, by its holder's wish (RFC 8555 §7.3.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountKeyChanged {
    /// The account.
    #[serde(with = "binary")]
    pub account: [u8; 16],
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The new key, as SubjectPublicKeyInfo in DER.
    #[serde(with = "binary")]
    pub spki: Vec<u8>,
}

/// An account that the ledger knows of agreed to terms of service that came later than its first intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountAgreed {
    /// The account.
    #[serde(with = "binary")]
    pub account: [u8; 16],
    /// To which terms, and when.
    pub terms: Terms,
}

/// A policy took effect. Its text is a file of its own, named by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyActivated {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// Who did it, in one line.
    pub by: String,
    /// SHA-256 of the policy.
    #[serde(with = "binary")]
    pub policy: [u8; 32],
    /// The profiles that took effect with it.
    pub profiles: Vec<ProfileRef>,
}

/// An issuing authority's certificate was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityInstalled {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The authority.
    pub authority: String,
    /// SHA-256 of its certificate in DER.
    #[serde(with = "binary")]
    pub certificate: [u8; 32],
    /// SHA-256 of its public key, as SubjectPublicKeyInfo in DER.
    #[serde(with = "binary")]
    pub key: [u8; 32],
}

/// An issuing authority's certificate was retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityRetired {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// The authority.
    pub authority: String,
    /// SHA-256 of its certificate in DER.
    #[serde(with = "binary")]
    pub certificate: [u8; 32],
    /// SHA-256 of its public key, as SubjectPublicKeyInfo in DER.
    #[serde(with = "binary")]
    pub key: [u8; 32],
}

/// A backup was restored: this leaf begins a new epoch in the same tree.
///
/// It follows the last record that was brought back, and names the last checkpoint known of the old
/// epoch, so that whoever kept an old checkpoint can tell a restore from tampering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// When.
    #[serde(with = "time")]
    pub at: Timestamp,
    /// How many leaves were brought back: the index of this leaf.
    #[serde(with = "number")]
    pub backup_size: u64,
    /// The last checkpoint known of the old epoch.
    pub checkpoint: OldCheckpoint,
    /// The consistency proof (RFC 6962 §2.1.2) from that checkpoint to the tree that was brought
    /// back; empty where the checkpoint is not smaller than that tree.
    #[serde(with = "hashes")]
    pub consistency: Vec<[u8; 32]>,
    /// That checkpoint as it was signed (C2SP signed-note), where its note was at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The facts of a checkpoint of an earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldCheckpoint {
    /// The log's origin line.
    pub origin: String,
    /// The root hash.
    #[serde(with = "binary")]
    pub root: [u8; 32],
    /// The number of leaves.
    #[serde(with = "number")]
    pub size: u64,
}
