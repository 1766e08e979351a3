//! From what went wrong to the problem document that says so: one exhaustive match for each use
//! case, and one place where a document is made.

use chancery_acme::{
    authorization::AnswerRejection,
    eab::BindingRejection,
    order::FinalizeRejection,
    problem::{Problem, ProblemType, Subproblem},
    renewal_info::NotAUniqueIdentifier,
    wire::{self, IdentifierRejection, NewOrderRejection, json::NotThisJson},
};
use chancery_authority::{
    Failure, Refusal,
    answer_challenge::AnswerChallengeRejection,
    change_key::KeyChangeRejection,
    finalize_order::FinalizeOrderRejection,
    issue::{IssueRejection, RefusedNames, few_told},
    place_order::PlaceOrderRejection,
    register_account::{RegisterRejection, TermsChanged},
    revoke::RevokeRejection,
};
use chancery_pki::{Name, csr::CsrRejection};
use chancery_policy::Decision;
use http::StatusCode;

use super::{
    answer::Answer,
    jws::{Algorithm, JwsRejection},
    nonce::NonceRejection,
};
use crate::request_id::RequestId;

/// Seconds after which a busy server may be asked again.
const BUSY_S: u64 = 3;
/// Seconds after which something that is away may be asked for again.
const AWAY_S: u64 = 30;
/// Seconds after which a full disk may have been made room on.
const FULL_S: u64 = 300;
/// Seconds after which an account with too many open orders may have fewer.
const PENDING_S: u64 = 60;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub(crate) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    problem: Problem,
    algorithms: bool,
    /// A page that a person should see: its URL and its relation.
    page: Option<(String, &'static str)>,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
    /// What stands in the way.
    location: Option<String>,
    /// What happened, for the log alone.
    cause: Option<String>,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Inner {
            problem,
            algorithms: false,
            page: None,
            retry_after: None,
            allow: None,
            location: None,
            cause: None,
        }))
    }
}

impl Fault {
    /// The client's side.
    pub(crate) fn new(kind: ProblemType, detail: impl std::fmt::Display) -> Self {
        Problem::new(kind, detail).into()
    }

    /// The client's side, with another status than the type's own.
    pub(crate) fn with_status(kind: ProblemType, status: StatusCode, detail: impl std::fmt::Display) -> Self {
        Problem::new(kind, detail).with_status(status.as_u16()).into()
    }

    /// Nothing here by that name, or nothing of yours; the two are told apart nowhere (RFC 8555 §10.5).
    pub(crate) fn not_found(what: &str) -> Self {
        Self::with_status(ProblemType::Malformed, StatusCode::NOT_FOUND, format_args!("there is no such {what}"))
    }

    /// A method that the resource does not have.
    pub(crate) fn method(allow: &'static str) -> Self {
        let how = if allow.contains("POST") {
            "ACME reads with POST-as-GET (RFC 8555 §6.3)"
        } else {
            "renewal information is read without a signature (RFC 9773 §4)"
        };
        let detail = format!("this resource answers {allow}; {how}");
        let mut fault = Self::with_status(ProblemType::Malformed, StatusCode::METHOD_NOT_ALLOWED, detail);
        fault.0.allow = Some(allow);
        fault
    }

    /// This client asks too fast (RFC 8555 §6.6).
    pub(crate) fn too_fast(
        detail: impl std::fmt::Display,
        wait: std::time::Duration,
        documentation: Option<&str>,
    ) -> Self {
        let mut fault = Self::new(ProblemType::RateLimited, detail);
        fault.0.retry_after = Some(wait.as_secs() + 1);
        fault.0.page = documentation.map(|url| (url.to_owned(), "help"));
        fault
    }

    /// A person has to read the terms of service first (RFC 8555 §7.3.3).
    fn terms(url: &str, detail: impl std::fmt::Display) -> Self {
        let mut fault = Self::new(ProblemType::UserActionRequired, detail);
        fault.0.page = Some((url.to_owned(), "terms-of-service"));
        fault
    }

    /// The same for a client that takes 429 as final and would come back for 503.
    pub(crate) fn without_429(mut self) -> Self {
        let problem = &mut self.0.problem;
        if problem.status.unwrap_or_else(|| problem.kind.status()) == StatusCode::TOO_MANY_REQUESTS.as_u16() {
            problem.status = Some(StatusCode::SERVICE_UNAVAILABLE.as_u16());
        }
        self
    }

    /// With the URL of what stands in the way.
    pub(crate) fn with_location(mut self, url: String) -> Self {
        self.0.location = Some(url);
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    pub(crate) fn kind(&self) -> ProblemType {
        self.0.problem.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.problem.detail
    }

    /// What happened on our side, where it was ours.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The answer that says so.
    pub(crate) fn into_answer(self, request_id: &RequestId) -> Answer {
        let Inner { problem, algorithms, page, retry_after, allow, location, cause: _ } = *self.0;
        let mut document = wire::Problem::of(&problem);
        if document.status >= 500 {
            document.detail.push_str(&format!(" (request {request_id})"));
        }
        if algorithms {
            document.algorithms = Algorithm::ALL.iter().map(|algorithm| algorithm.as_str().to_owned()).collect();
        }
        let mut answer = match page {
            None => Answer::problem(&document, problem.kind.token()),
            Some((url, relation)) => {
                document.instance = (relation == "terms-of-service").then(|| url.clone());
                Answer::problem(&document, problem.kind.token()).with_link(&url, relation)
            }
        };
        if let Some(seconds) = retry_after {
            answer = answer.with_retry_after(seconds);
        }
        if let Some(url) = location {
            answer = answer.with_location(url);
        }
        match allow {
            Some(methods) => answer.with_allow(methods),
            None => answer,
        }
    }
}

/// Our side: 503 where asking again may help (never 429, which clients take as final), else 500.
impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        // Under load there is nothing to look for, and a line for each would be load of its own: metrics count them.
        let cause = (failure != Failure::Busy).then(|| failure.to_string());
        let (status, detail, wait) = match failure {
            Failure::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "the server is busy; ask again in a few seconds", BUSY_S)
            }
            Failure::NoSpace(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "issuance is stopped, since the server's disk is full; its operator has to make room",
                FULL_S,
            ),
            Failure::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server cannot do this now; its operator finds the reason in the log",
                AWAY_S,
            ),
            Failure::Internal(_) => {
                let detail = "the server failed; its operator finds the reason in the log";
                let mut fault = Self::new(ProblemType::ServerInternal, detail);
                fault.0.cause = cause;
                return fault;
            }
        };
        let mut fault = Self::with_status(ProblemType::ServerInternal, status, detail).retry_after(wait);
        fault.0.cause = cause;
        fault
    }
}

/// Too much is under way at once.
pub(crate) fn overloaded() -> Fault {
    Failure::Busy.into()
}

impl<R> From<Refusal<R>> for Fault
where
    Self: From<R>,
{
    fn from(refusal: Refusal<R>) -> Self {
        match refusal {
            Refusal::Rejected(rejection) => rejection.into(),
            Refusal::Failed(failure) => failure.into(),
        }
    }
}

impl From<JwsRejection> for Fault {
    fn from(rejection: JwsRejection) -> Self {
        use JwsRejection as R;
        let kind = match &rejection {
            R::Envelope(_)
            | R::TooLong { .. }
            | R::NotBase64Url(_)
            | R::Header(_)
            | R::Critical { .. }
            | R::NotOneKey
            | R::NotAJwk(_)
            | R::BadSignature => ProblemType::Malformed,
            R::UnsupportedAlgorithm | R::AlgorithmDoesNotFit { .. } => ProblemType::BadSignatureAlgorithm,
            R::UnsupportedKey(_) | R::PrivateJwk | R::BadKey(_) => ProblemType::BadPublicKey,
        };
        let mut fault = Self::new(kind, rejection);
        fault.0.algorithms = kind == ProblemType::BadSignatureAlgorithm;
        fault
    }
}

impl From<NonceRejection> for Fault {
    fn from(rejection: NonceRejection) -> Self {
        use NonceRejection as R;
        let kind = match rejection {
            R::NotBase64Url => ProblemType::Malformed,
            R::Missing | R::Unknown | R::Spent | R::Expired => ProblemType::BadNonce,
        };
        Self::new(kind, rejection)
    }
}

impl From<NotThisJson> for Fault {
    fn from(rejection: NotThisJson) -> Self {
        Self::new(ProblemType::Malformed, format_args!("the payload cannot be read: {rejection}"))
    }
}

impl From<wire::NotBase64Url> for Fault {
    fn from(rejection: wire::NotBase64Url) -> Self {
        Self::new(ProblemType::Malformed, rejection)
    }
}

impl From<NotAUniqueIdentifier> for Fault {
    fn from(rejection: NotAUniqueIdentifier) -> Self {
        Self::new(ProblemType::Malformed, rejection)
    }
}

impl From<NewOrderRejection> for Fault {
    fn from(rejection: NewOrderRejection) -> Self {
        use NewOrderRejection as R;
        let NewOrderRejection::Identifiers { refused, .. } = &rejection else {
            return match &rejection {
                R::NoIdentifiers
                | R::TooManyIdentifiers { .. }
                | R::IdentifiersTooLong { .. }
                | R::NotATime { .. }
                | R::Replaces(_)
                | R::Identifiers { .. } => Self::new(ProblemType::Malformed, rejection),
            };
        };
        let kind_of = |why: &IdentifierRejection| match why {
            IdentifierRejection::UnsupportedType { .. } => ProblemType::UnsupportedIdentifier,
            IdentifierRejection::NotAName { .. } => ProblemType::Malformed,
        };
        let mut kinds: Vec<ProblemType> = refused.iter().map(|(_, why)| kind_of(why)).collect();
        let subproblems = refused
            .iter()
            // What is no name of ours cannot be shown as an identifier; the detail quotes it.
            .map(|(_, why)| Subproblem { kind: kind_of(why), detail: why.to_string(), name: None })
            .collect();
        kinds.dedup();
        let kind = match kinds.as_slice() {
            [one] => *one,
            _ => ProblemType::Compound,
        };
        Problem::new(kind, &rejection).with_subproblems(subproblems).into()
    }
}

impl From<RegisterRejection> for Fault {
    fn from(rejection: RegisterRejection) -> Self {
        use RegisterRejection as R;
        let kind = match &rejection {
            R::UnknownDirectory { .. } => return Self::not_found("directory"),
            R::DoesNotExist => ProblemType::AccountDoesNotExist,
            R::TermsNotAgreed { url } => return Self::terms(url, &rejection),
            R::UnsupportedContact { .. } => ProblemType::UnsupportedContact,
            R::InvalidContact { .. } => ProblemType::InvalidContact,
            R::TooManyContacts { .. } => ProblemType::InvalidContact,
            R::Deactivated => {
                return Self::with_status(ProblemType::Unauthorized, StatusCode::UNAUTHORIZED, rejection);
            }
            R::BlockedKey => ProblemType::BadPublicKey,
            R::ExternalAccountRequired { .. } => ProblemType::ExternalAccountRequired,
            R::Binding(rejection) => binding_problem(rejection),
            R::NotAuthenticated
            | R::OtherDirectory { .. }
            | R::KeyEnded(_)
            | R::KeyUsedUp { .. }
            | R::KeyUsedBySame { .. } => ProblemType::Unauthorized,
            R::TooManyUnproven { .. } => {
                // The whole server's limit, not this client's: asking again is right.
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return Self::with_status(ProblemType::RateLimited, status, rejection).retry_after(PENDING_S);
            }
        };
        Self::new(kind, rejection)
    }
}

impl From<KeyChangeRejection> for Fault {
    fn from(rejection: KeyChangeRejection) -> Self {
        use KeyChangeRejection as R;
        let kind = match &rejection {
            R::Ended => {
                return Self::with_status(ProblemType::Unauthorized, StatusCode::UNAUTHORIZED, rejection);
            }
            R::OtherOldKey => ProblemType::Malformed,
            R::BlockedKey => ProblemType::BadPublicKey,
            R::Taken { .. } => return Self::with_status(ProblemType::Malformed, StatusCode::CONFLICT, rejection),
        };
        Self::new(kind, rejection)
    }
}

/// RFC 8555 §7.3.4 names no types: what cannot be read is malformed, what speaks of another request is unauthorized, as it
/// is in the request around it (§6.4).
fn binding_problem(rejection: &BindingRejection) -> ProblemType {
    use BindingRejection as R;
    match rejection {
        R::TooLong
        | R::Envelope(_)
        | R::NotBase64Url(_)
        | R::Header(_)
        | R::Critical { .. }
        | R::Algorithm
        | R::NoKeyId
        | R::KeyId
        | R::Jwk
        | R::Nonce
        | R::NoUrl
        | R::NotAKey(_)
        | R::Key(_)
        | R::MacLength { .. } => ProblemType::Malformed,
        R::Url | R::OtherKey => ProblemType::Unauthorized,
    }
}

impl From<PlaceOrderRejection> for Fault {
    fn from(rejection: PlaceOrderRejection) -> Self {
        use PlaceOrderRejection as R;
        let kind = match &rejection {
            R::Terms(TermsChanged { url }) => return Self::terms(url, &rejection),
            R::Policy(decision) => return policy_problem(decision).into(),
            R::Names(refused) => return names_problem(refused).into(),
            R::UnknownProfile { .. } | R::ProfileNotPermitted { .. } => ProblemType::InvalidProfile,
            R::KeyGone(_) => ProblemType::Unauthorized,
            // Clients go on without it where the type is this and the detail names the member.
            R::Validity(_) | R::NothingToReplace | R::NothingInCommon => ProblemType::Malformed,
            R::AlreadyReplaced => ProblemType::AlreadyReplaced,
            R::TooManyPending { .. } => {
                return Self::new(ProblemType::RateLimited, rejection).retry_after(PENDING_S);
            }
        };
        Self::new(kind, rejection)
    }
}

impl From<AnswerChallengeRejection> for Fault {
    fn from(rejection: AnswerChallengeRejection) -> Self {
        use AnswerChallengeRejection as R;
        match rejection {
            R::NotFound | R::Answer(AnswerRejection::NoSuchChallenge { .. }) => Self::not_found("challenge"),
            R::Answer(AnswerRejection::Expired { .. }) => Self::new(ProblemType::Malformed, rejection),
        }
    }
}

impl From<CsrRejection> for Fault {
    fn from(rejection: CsrRejection) -> Self {
        Self::new(ProblemType::BadCsr, rejection)
    }
}

impl From<FinalizeOrderRejection> for Fault {
    fn from(rejection: FinalizeOrderRejection) -> Self {
        use FinalizeOrderRejection as R;
        let kind = match &rejection {
            R::NotFound => return Self::not_found("order"),
            R::AccountEnded => {
                return Self::with_status(ProblemType::Unauthorized, StatusCode::UNAUTHORIZED, rejection);
            }
            R::Terms(TermsChanged { url }) => return Self::terms(url, &rejection),
            // An expired order is invalid (§7.1.6), and so not ready.
            R::Order(FinalizeRejection::NotReady { .. } | FinalizeRejection::Expired { .. }) => {
                ProblemType::OrderNotReady
            }
            R::Order(FinalizeRejection::NamesDiffer { .. }) | R::NoNames | R::AccountKey => ProblemType::BadCsr,
            R::KeyGone(_) | R::ProfileNotPermitted { .. } | R::NoLongerPreauthorized => ProblemType::Unauthorized,
            R::Issue(IssueRejection::Policy(decision)) => return policy_problem(decision).into(),
            R::Issue(IssueRejection::Names(refused)) => return names_problem(refused).into(),
            R::Issue(IssueRejection::Profile(_) | IssueRejection::BlockedKey) => ProblemType::BadCsr,
            R::Issue(IssueRejection::Validity(_)) => ProblemType::Malformed,
        };
        Self::new(kind, rejection)
    }
}

impl From<RevokeRejection> for Fault {
    fn from(rejection: RevokeRejection) -> Self {
        use RevokeRejection as R;
        let kind = match &rejection {
            R::Unknown => {
                return Self::with_status(ProblemType::Malformed, StatusCode::NOT_FOUND, rejection);
            }
            R::Unreadable { .. } | R::Expired { .. } => ProblemType::Malformed,
            R::AlreadyRevoked { .. } => ProblemType::AlreadyRevoked,
            R::BadReason { .. } => ProblemType::BadRevocationReason,
            R::NotPermitted => ProblemType::Unauthorized,
        };
        Self::new(kind, rejection)
    }
}

fn rejected(name: &Name, detail: impl std::fmt::Display) -> Subproblem {
    Subproblem { kind: ProblemType::RejectedIdentifier, detail: detail.to_string(), name: Some(name.clone()) }
}

/// What policy refuses, with a subproblem for each name: its rule, the reason, the way out.
/// The same facts as [`Decision::explain`].
fn policy_problem(decision: &Decision) -> Problem {
    let way_out = decision.way_out();
    let subproblems = decision.refusals().map(|(name, why)| rejected(name, format!("{why}{way_out}"))).collect();
    let detail = format!("policy: {}; {}{way_out}", decision.summary(), few_told(decision.refusals()));
    Problem::new(ProblemType::RejectedIdentifier, detail).with_subproblems(subproblems)
}

/// What is refused by more than policy: one subproblem for each name, with all that is said against it. The detail
/// gives names and reasons too, since it is all that the log and some clients show.
fn names_problem(refused: &RefusedNames) -> Problem {
    let subproblems = refused.by_name().into_iter().map(|(name, why)| rejected(name, why.join("; "))).collect();
    Problem::new(ProblemType::RejectedIdentifier, refused).with_subproblems(subproblems)
}
