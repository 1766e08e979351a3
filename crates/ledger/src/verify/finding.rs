//! What can be wrong with a ledger, each in one sentence that names the record.

use chancery_pki::tbs::NotATbs;

use super::RestoreName;
use crate::{leaf::LeafError, tree::Hash};

/// One thing that is wrong. Records are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// Records are not there.
    #[error("records {from} to {last} are missing", last = to.saturating_sub(1))]
    Missing {
        /// The first.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// Records could not be read.
    #[error("records {from} to {last} cannot be read: {reason}", last = to.saturating_sub(1))]
    Unreadable {
        /// The first.
        from: u64,
        /// One past the last.
        to: u64,
        /// What the reader said.
        reason: String,
    },
    /// A record came where another was due.
    #[error("record {index} comes again where record {expected} is due")]
    OutOfOrder {
        /// The index it came with.
        index: u64,
        /// The index that was due.
        expected: u64,
    },
    /// The bytes are no leaf.
    #[error("record {index} is damaged: {error}")]
    NotALeaf {
        /// The record.
        index: u64,
        /// What is wrong with it.
        error: LeafError,
    },
    /// The record's hash is not the one that was kept of it.
    #[error("record {index} was changed: its hash is not the one in its tile")]
    Changed {
        /// The record.
        index: u64,
    },
    /// The record stands where another belongs.
    #[error("record {index} was moved: it belongs to {belongs}")]
    Moved {
        /// Where it stands.
        index: u64,
        /// Where its hash was kept.
        belongs: u64,
    },
    /// A tile of the levels above the records' own hashes does not follow from those below it.
    #[error(
        "the tile {tile}, which covers records from {index} on, is not what follows from the tiles below it: {reason}"
    )]
    TileDiffers {
        /// The first record that it covers.
        index: u64,
        /// Its path in the log (C2SP tlog-tiles).
        tile: String,
        /// What is wrong.
        reason: String,
    },
    /// The TBS of an intent cannot be read.
    #[error("intent {index} holds no certificate to be signed: {error}")]
    TbsUnreadable {
        /// The intent.
        index: u64,
        /// What is wrong.
        error: NotATbs,
    },
    /// The serial of an intent is not the one in its TBS.
    #[error("intent {index} names another serial number than its certificate")]
    SerialDiffers {
        /// The intent.
        index: u64,
    },
    /// Two intents for one certificate id.
    #[error("intent {index} is for the same certificate as intent {first}")]
    CertificateTwice {
        /// The later intent.
        index: u64,
        /// The earlier one.
        first: u64,
    },
    /// Two intents with the same serial under one authority.
    #[error("intent {index} uses serial {serial} of authority {authority} a second time")]
    SerialTwice {
        /// The later intent.
        index: u64,
        /// The authority.
        authority: String,
        /// The serial.
        serial: String,
    },
    /// A signature or abandonment that follows from nothing.
    #[error("record {index} settles a certificate that was never recorded (it names intent {intent})")]
    IntentMissing {
        /// The record.
        index: u64,
        /// The intent it names.
        intent: u64,
    },
    /// A signature or abandonment that names another intent than its certificate's.
    #[error("record {index} names intent {names}, but its certificate was recorded in {intent}")]
    IntentOfOther {
        /// The record.
        index: u64,
        /// The intent it names.
        names: u64,
        /// The intent of its certificate.
        intent: u64,
    },
    /// A second signature.
    #[error("record {index} is a second signature for intent {intent}")]
    SignedTwice {
        /// The record.
        index: u64,
        /// The intent.
        intent: u64,
    },
    /// A second abandonment.
    #[error("record {index} abandons intent {intent} a second time")]
    AbandonedTwice {
        /// The record.
        index: u64,
        /// The intent.
        intent: u64,
    },
    /// Both.
    #[error("intent {intent} was both signed and abandoned, see record {index}")]
    SignedAndAbandoned {
        /// The later record.
        index: u64,
        /// The intent.
        intent: u64,
    },
    /// Intent and signature do not give the certificate whose hash was recorded.
    #[error("record {index} and intent {intent} do not give the certificate that was recorded")]
    CertificateDiffers {
        /// The signature.
        index: u64,
        /// The intent.
        intent: u64,
    },
    /// A revocation of a certificate that was never recorded.
    #[error("record {index} revokes a certificate that was never recorded")]
    RevokedUnknown {
        /// The record.
        index: u64,
    },
    /// A revocation whose authority or serial is not its certificate's.
    #[error("record {index} revokes the certificate of intent {intent}, but names another authority or serial")]
    RevokedOther {
        /// The record.
        index: u64,
        /// The intent of the certificate.
        intent: u64,
    },
    /// A CRL number that did not grow.
    #[error("record {index} gives CRL number {number} after {last}")]
    CrlNumberWentBack {
        /// The record.
        index: u64,
        /// Its number.
        number: u64,
        /// The one before.
        last: u64,
    },
    /// A restore that does not stand where it says.
    #[error("record {index} says that {says} records were restored before it")]
    RestoreMisplaced {
        /// The record.
        index: u64,
        /// What it says.
        says: u64,
    },
    /// What was restored does not continue the checkpoint that the restore names.
    #[error("the records restored before {index} are not those of the checkpoint of {size} records that it names")]
    RestoreUnproven {
        /// The restore.
        index: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// A restore that lost records, and that nobody vouches for: whoever cut the ledger's end off could
    /// have written it.
    #[error(
        "record {} says that a backup was restored and that the last {lost} of {size} records were lost with it; \
         a truncated ledger looks the same, so accept this restore if you made it (--accept-restore {name})",
        name.index
    )]
    RestoreLost {
        /// The restore.
        name: RestoreName,
        /// How many records it lost.
        lost: u64,
        /// How many the last checkpoint before it covers.
        size: u64,
    },
    /// A restore whose checkpoint the ledger's key has not signed.
    #[error(
        "the restore in record {} names a checkpoint of {size} records that the ledger's key has not signed: {reason}; \
         accept this restore if you made it (--accept-restore {name})",
        name.index
    )]
    RestoreUnsigned {
        /// The restore.
        name: RestoreName,
        /// The checkpoint's size.
        size: u64,
        /// What is wrong with its signature.
        reason: String,
    },
    /// A checkpoint that covers records which a restore lost, and which that restore does not name.
    #[error(
        "checkpoint {label} of {size} records can no longer be compared: the restore in record {restore} lost records \
         that it covers, and names a later checkpoint; compare one that was kept since"
    )]
    Superseded {
        /// What the checkpoint is called.
        label: String,
        /// Its size.
        size: u64,
        /// The restore.
        restore: u64,
    },
    /// Larger matter that a record names is not there, or is not what it names.
    #[error("the policy that record {index} put in force ({sha256}) has no text any more: {reason}")]
    PolicyText {
        /// The record.
        index: u64,
        /// The hash that it names.
        sha256: String,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint's root is another one.
    #[error(
        "checkpoint {label} of {size} records has another root: a record from {unchanged} on was changed, \
         removed, added or moved"
    )]
    Forked {
        /// What the checkpoint is called.
        label: String,
        /// Its size.
        size: u64,
        /// Its root.
        expected: Hash,
        /// The root of as many records here, if there are as many.
        found: Option<Hash>,
        /// Up to here another checkpoint proves that nothing was changed.
        unchanged: u64,
    },
    /// A checkpoint covers more records than there are.
    #[error("checkpoint {label} covers {size} records, but there are {found}: the last {lost} are gone", lost = size.saturating_sub(*found))]
    Truncated {
        /// What the checkpoint is called.
        label: String,
        /// Its size.
        size: u64,
        /// How many records there are.
        found: u64,
    },
}

impl Finding {
    /// Whether it is no damage but a question: whoever made the restore that it speaks of can answer it.
    #[must_use]
    pub const fn asks(&self) -> bool {
        matches!(self, Self::RestoreLost { .. } | Self::Superseded { .. })
    }

    /// A short name for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Unreadable { .. } => "unreadable",
            Self::OutOfOrder { .. } => "out-of-order",
            Self::NotALeaf { .. } => "damaged",
            Self::Changed { .. } => "changed",
            Self::Moved { .. } => "moved",
            Self::TileDiffers { .. } => "tile-differs",
            Self::TbsUnreadable { .. } => "tbs-unreadable",
            Self::SerialDiffers { .. } => "serial-differs",
            Self::CertificateTwice { .. } => "certificate-twice",
            Self::SerialTwice { .. } => "serial-twice",
            Self::IntentMissing { .. } => "intent-missing",
            Self::IntentOfOther { .. } => "intent-of-other",
            Self::SignedTwice { .. } => "signed-twice",
            Self::AbandonedTwice { .. } => "abandoned-twice",
            Self::SignedAndAbandoned { .. } => "signed-and-abandoned",
            Self::CertificateDiffers { .. } => "certificate-differs",
            Self::RevokedUnknown { .. } => "revoked-unknown",
            Self::RevokedOther { .. } => "revoked-other",
            Self::CrlNumberWentBack { .. } => "crl-number-went-back",
            Self::RestoreMisplaced { .. } => "restore-misplaced",
            Self::RestoreUnproven { .. } => "restore-unproven",
            Self::RestoreLost { .. } => "restore-lost",
            Self::RestoreUnsigned { .. } => "restore-unsigned",
            Self::Superseded { .. } => "superseded",
            Self::PolicyText { .. } => "policy-text",
            Self::Forked { .. } => "forked",
            Self::Truncated { .. } => "truncated",
        }
    }

    /// The record it is about; for a fork the first that may have been changed, for a truncation the
    /// first that is gone.
    #[must_use]
    pub const fn index(&self) -> u64 {
        match self {
            Self::Missing { from: index, .. }
            | Self::Unreadable { from: index, .. }
            | Self::OutOfOrder { index, .. }
            | Self::NotALeaf { index, .. }
            | Self::Changed { index }
            | Self::Moved { index, .. }
            | Self::TileDiffers { index, .. }
            | Self::TbsUnreadable { index, .. }
            | Self::SerialDiffers { index }
            | Self::CertificateTwice { index, .. }
            | Self::SerialTwice { index, .. }
            | Self::IntentMissing { index, .. }
            | Self::IntentOfOther { index, .. }
            | Self::SignedTwice { index, .. }
            | Self::AbandonedTwice { index, .. }
            | Self::SignedAndAbandoned { index, .. }
            | Self::CertificateDiffers { index, .. }
            | Self::RevokedUnknown { index }
            | Self::RevokedOther { index, .. }
            | Self::CrlNumberWentBack { index, .. }
            | Self::RestoreMisplaced { index, .. }
            | Self::RestoreUnproven { index, .. }
            | Self::RestoreLost { name: RestoreName { index, .. }, .. }
            | Self::RestoreUnsigned { name: RestoreName { index, .. }, .. }
            | Self::Superseded { restore: index, .. }
            | Self::PolicyText { index, .. }
            | Self::Forked { unchanged: index, .. }
            | Self::Truncated { found: index, .. } => *index,
        }
    }
}
