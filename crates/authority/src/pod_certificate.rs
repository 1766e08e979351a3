//! What the API server takes as the answer to a PodCertificateRequest (`certificates.k8s.io/v1`, KEP-4317): what it would
//! not take is refused here before anything is signed, counted and recorded.

use std::time::Duration;

use chancery_pki::{KeyKind, Lifetime, profile::Profile};

/// Shortest time from a certificate's first second to its last, in seconds.
const SPAN_MIN_S: u32 = 3600;
/// How long before its issuance a certificate may begin, in seconds: the API server takes five minutes before its own
/// clock, and one of them is for what is between, such as a status that is written at the second attempt.
const BACKDATE_MAX_S: u64 = 240;

/// Why a PodCertificateRequest is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PodRejection {
    /// No life is named.
    #[error("a PodCertificateRequest names no life; its controller has to ask for one of at most maxExpirationSeconds")]
    NoLife,
    /// The life is shorter than the API server takes.
    #[error(
        "a life of {} s is too short for a pod's certificate: Kubernetes takes {SPAN_MIN_S} s from its first second to its \
         last, so ask for {} s or more",
        asked.seconds(), SPAN_MIN_S + 1
    )]
    Life {
        /// What was asked for.
        asked: Lifetime,
    },
    /// The certificate would begin longer ago than the API server takes.
    #[error(
        "profile {profile} lets a certificate begin {backdate_s} s before it is issued; for a pod's that may be at most \
         {BACKDATE_MAX_S} s, since Kubernetes takes 5 minutes when it is written; set backdate of a profile for pods to 4m or less"
    )]
    Backdated {
        /// The profile.
        profile: String,
        /// How long before, in seconds.
        backdate_s: u64,
    },
    /// A kind of key that pods do not have.
    #[error("pods have no {kind} keys; they have RSA-3072, RSA-4096, P-256, P-384, P-521 or Ed25519 ones")]
    Key {
        /// The kind.
        kind: KeyKind,
    },
    /// A CA.
    #[error("a pod gets no CA's certificate")]
    Ca,
}

/// Whether the API server would take what this profile gives.
///
/// # Errors
///
/// The first [`PodRejection`].
pub(crate) fn check(
    kind: KeyKind,
    profile: &Profile,
    lifetime: Option<Lifetime>,
    is_ca: bool,
) -> Result<(), PodRejection> {
    use PodRejection as R;
    if is_ca {
        return Err(R::Ca);
    }
    match kind {
        KeyKind::Rsa2048 => return Err(R::Key { kind }),
        KeyKind::Rsa3072 | KeyKind::Rsa4096 | KeyKind::P256 | KeyKind::P384 | KeyKind::P521 | KeyKind::Ed25519 => {}
    }
    let asked = lifetime.ok_or(R::NoLife)?;
    // A life counts its last second, too.
    if asked.seconds() <= SPAN_MIN_S {
        return Err(R::Life { asked });
    }
    let begins_before = profile.backdate().min(Duration::from_secs(u64::from(asked.seconds()) / 20));
    if begins_before > Duration::from_secs(BACKDATE_MAX_S) {
        let (profile, backdate_s) = (profile.name().to_owned(), begins_before.as_secs());
        return Err(R::Backdated { profile, backdate_s });
    }
    Ok(())
}
