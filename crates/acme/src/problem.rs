//! Problem documents (RFC 8555 §6.7, RFC 9457).

use chancery_pki::Name;

use crate::authorization::{Authorization, AuthorizationStatus};

/// The prefix of every error type of RFC 8555.
pub const URN: &str = "urn:ietf:params:acme:error:";

/// One table for the types: variant, token on the wire, HTTP status.
macro_rules! problem_types {
    ($($(#[$doc:meta])* $variant:ident $token:literal $status:literal;)+) => {
        /// The error types of RFC 8555 §6.7 and its extensions.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$doc])* $variant,)+ }

        impl ProblemType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The token after the URN prefix; also the label in metrics.
            #[must_use]
            pub const fn token(self) -> &'static str {
                match self { $(Self::$variant => $token,)+ }
            }

            /// The HTTP status it is answered with unless its [`Problem`] says otherwise.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// From its token.
            #[must_use]
            pub fn from_token(token: &str) -> Option<Self> {
                match token { $($token => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

problem_types! {
    /// The account does not exist.
    AccountDoesNotExist "accountDoesNotExist" 400;
    /// Another order replaces the certificate already (RFC 9773 §7.4).
    AlreadyReplaced "alreadyReplaced" 409;
    /// The certificate is revoked already.
    AlreadyRevoked "alreadyRevoked" 400;
    /// The CSR is unacceptable.
    BadCsr "badCSR" 400;
    /// The nonce is unacceptable.
    BadNonce "badNonce" 400;
    /// The key is unsupported or weak.
    BadPublicKey "badPublicKey" 400;
    /// The revocation reason is not allowed.
    BadRevocationReason "badRevocationReason" 400;
    /// The signature algorithm is unsupported.
    BadSignatureAlgorithm "badSignatureAlgorithm" 400;
    /// CAA forbids issuance.
    Caa "caa" 403;
    /// Several errors; see the subproblems.
    Compound "compound" 400;
    /// The validation target could not be reached.
    Connection "connection" 400;
    /// A DNS query failed.
    Dns "dns" 400;
    /// An external account binding is needed.
    ExternalAccountRequired "externalAccountRequired" 403;
    /// The validation target answered something else.
    IncorrectResponse "incorrectResponse" 403;
    /// A contact URL is invalid.
    InvalidContact "invalidContact" 400;
    /// The profile is unknown or not permitted.
    InvalidProfile "invalidProfile" 400;
    /// The request is malformed.
    Malformed "malformed" 400;
    /// The order is not ready.
    OrderNotReady "orderNotReady" 403;
    /// Too many requests.
    RateLimited "rateLimited" 429;
    /// Policy refuses the identifier.
    RejectedIdentifier "rejectedIdentifier" 400;
    /// We failed.
    ServerInternal "serverInternal" 500;
    /// TLS with the validation target failed.
    Tls "tls" 400;
    /// The client may not do that.
    Unauthorized "unauthorized" 403;
    /// The contact's scheme is unsupported.
    UnsupportedContact "unsupportedContact" 400;
    /// The identifier's type is unsupported.
    UnsupportedIdentifier "unsupportedIdentifier" 400;
    /// The person must do something first.
    UserActionRequired "userActionRequired" 403;
}

/// What went wrong, for people and for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which error.
    pub kind: ProblemType,
    /// What was refused, by which rule, and what to do; never a secret, never a remote's bytes.
    pub detail: String,
    /// Another status than [`ProblemType::status`].
    pub status: Option<u16>,
    /// One problem for each identifier (§6.7.1).
    pub subproblems: Vec<Subproblem>,
}

/// A problem with one identifier (RFC 8555 §6.7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subproblem {
    /// Which error.
    pub kind: ProblemType,
    /// In words.
    pub detail: String,
    /// The identifier, where it could be read.
    pub name: Option<Name>,
}

impl Problem {
    /// A problem with the type's own status and no subproblems.
    #[must_use]
    pub fn new(kind: ProblemType, detail: impl std::fmt::Display) -> Self {
        Self { kind, detail: detail.to_string(), status: None, subproblems: Vec::new() }
    }

    /// The same with another HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The same with subproblems.
    #[must_use]
    pub fn with_subproblems(mut self, subproblems: Vec<Subproblem>) -> Self {
        self.subproblems = subproblems;
        self
    }

    /// The HTTP status to answer with.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        self.status.unwrap_or_else(|| self.kind.status())
    }

    /// An order's error once one of its authorizations has ended: a failed challenge's own
    /// problem where there is one.
    #[must_use]
    pub fn authorization_ended(authorization: &Authorization, ended: AuthorizationStatus) -> Self {
        use crate::challenge::ChallengeState;
        let failed = authorization.challenges.iter().find_map(|challenge| match &challenge.state {
            ChallengeState::Invalid { error } => Some(error.clone()),
            ChallengeState::Pending | ChallengeState::Processing { .. } | ChallengeState::Valid { .. } => None,
        });
        let name = &authorization.name;
        let (kind, why) = match (failed, ended) {
            (Some(error), _) => (error.kind, error.detail),
            (None, AuthorizationStatus::Deactivated) => {
                (ProblemType::Unauthorized, "its authorization was deactivated".to_owned())
            }
            (None, AuthorizationStatus::Revoked) => {
                (ProblemType::Unauthorized, "its authorization was revoked".to_owned())
            }
            (None, _) => {
                (ProblemType::Unauthorized, "its authorization expired before all names were validated".to_owned())
            }
        };
        let subproblem = Subproblem { kind, detail: why.clone(), name: Some(name.clone()) };
        Self::new(kind, format_args!("{name}: {why}")).with_subproblems(vec![subproblem])
    }
}
