//! The shapes of format 1. From the first release on they never change: a changed record gets a format 2 beside them.
//!
//! A record's identity is in its key alone.

mod eab_key;

use std::{borrow::Cow, net::IpAddr};

use chancery_acme::{
    account::{Account, AccountStatus, ExternalAccount, TermsAgreed},
    authorization::{Authorization, AuthorizationState},
    challenge::{Challenge, ChallengeKind, ChallengeState, Token},
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::{Order, OrderState},
    problem::{Problem, ProblemType, Subproblem},
    renewal_info::UniqueIdentifier,
};
use chancery_authority::records::{
    ApiToken, ApiTokenId, CertificateRecord, CertificateState, ClusterOrigin, IdempotencyKey, IdempotencyOutcome,
    IdempotencyRecord, InForce, LeafRef, Retention, Revocation, RevocationReason, Version, Versioned,
};
use chancery_pki::{CommonName, Name, NameSet, PublicKey, SerialNumber, SpkiDigest, Timestamp, Validity};
use chancery_policy::NameLimits;
use serde::{Deserialize, Serialize};

use super::{OrderRow, Owed, Record};

type Shaped<T> = Result<T, &'static str>;

const fn time(at: i64) -> Timestamp {
    Timestamp::from_unix_millis(at)
}

#[derive(Serialize, Deserialize)]
pub(crate) enum NameShape<'a> {
    Dns(&'a str),
    Wildcard(&'a str),
    Ip(IpAddr),
    Spiffe(&'a str),
    Uri(&'a str),
    Email(&'a str),
    /// As it is shown, kind and value.
    Other(Cow<'a, str>),
    CommonName(&'a str),
}

fn name(of: &Name) -> NameShape<'_> {
    match of {
        Name::Dns(dns) => NameShape::Dns(dns.as_str()),
        Name::Wildcard(base) => NameShape::Wildcard(base.as_str()),
        Name::Ip(address) => NameShape::Ip(*address),
        Name::Spiffe(id) => NameShape::Spiffe(id.as_str()),
        Name::Uri(uri) => NameShape::Uri(uri.as_str()),
        Name::Email(address) => NameShape::Email(address.as_str()),
        Name::Other(name) => NameShape::Other(name.to_string().into()),
        Name::CommonName(name) => NameShape::CommonName(name.as_str()),
    }
}

fn name_from(shape: &NameShape<'_>) -> Shaped<Name> {
    Ok(match shape {
        NameShape::Dns(dns) => Name::Dns(dns.parse().map_err(|_| "a DNS name is none")?),
        NameShape::Wildcard(base) => Name::Wildcard(base.parse().map_err(|_| "a wildcard's base is no name")?),
        NameShape::Ip(address) => Name::Ip(*address),
        NameShape::Spiffe(id) => Name::Spiffe(id.parse().map_err(|_| "a SPIFFE ID is none")?),
        NameShape::Uri(uri) => Name::Uri(uri.parse().map_err(|_| "a URI is none")?),
        NameShape::Email(address) => Name::Email(address.parse().map_err(|_| "an e-mail address is none")?),
        NameShape::Other(name) => Name::Other(name.parse().map_err(|_| "a name of another kind is none")?),
        NameShape::CommonName(name) => Name::CommonName(CommonName::new(name).map_err(|_| "a common name is none")?),
    })
}

fn names(of: &NameSet) -> Vec<NameShape<'_>> {
    of.iter().map(name).collect()
}

fn names_from(shapes: &[NameShape<'_>]) -> Shaped<NameSet> {
    let names: Vec<Name> = shapes.iter().map(name_from).collect::<Shaped<_>>()?;
    NameSet::new(names).map_err(|_| "the names are no set")
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ProblemShape<'a> {
    kind: &'a str,
    detail: &'a str,
    status: Option<u16>,
    #[serde(borrow)]
    subproblems: Vec<SubproblemShape<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SubproblemShape<'a> {
    kind: &'a str,
    detail: &'a str,
    #[serde(borrow)]
    name: Option<NameShape<'a>>,
}

fn problem(of: &Problem) -> ProblemShape<'_> {
    let Problem { kind, detail, status, subproblems } = of;
    let subproblems = subproblems.iter().map(|sub| {
        let Subproblem { kind, detail, name: of } = sub;
        SubproblemShape { kind: kind.token(), detail, name: of.as_ref().map(name) }
    });
    ProblemShape { kind: kind.token(), detail, status: *status, subproblems: subproblems.collect() }
}

fn problem_from(shape: &ProblemShape<'_>) -> Shaped<Problem> {
    let kind = |token| ProblemType::from_token(token).ok_or("a problem type is unknown");
    let ProblemShape { kind: token, detail, status, subproblems } = shape;
    let subproblems = subproblems.iter().map(|sub| {
        let SubproblemShape { kind: token, detail, name } = sub;
        let name = name.as_ref().map(name_from).transpose()?;
        Ok(Subproblem { kind: kind(token)?, detail: (*detail).to_owned(), name })
    });
    let subproblems = subproblems.collect::<Shaped<_>>()?;
    Ok(Problem { kind: kind(token)?, detail: (*detail).to_owned(), status: *status, subproblems })
}

#[derive(Serialize, Deserialize)]
pub(crate) struct AccountShape<'a> {
    directory: &'a str,
    spki: &'a [u8],
    #[serde(borrow)]
    contacts: Vec<&'a str>,
    status: AccountStatusShape,
    terms_agreed: Option<(&'a str, i64)>,
    created: i64,
    proven: bool,
    external: Option<(&'a str, &'a str)>,
}

#[derive(Serialize, Deserialize)]
enum AccountStatusShape {
    Valid,
    Deactivated(i64),
    Revoked(i64),
}

impl Record for Account {
    type Shape<'a> = AccountShape<'a>;

    fn shape(&self) -> AccountShape<'_> {
        let Self { id: _, directory, key, contacts, status, terms_agreed, created, proven, external } = self;
        AccountShape {
            directory,
            spki: key.spki(),
            contacts: contacts.iter().map(String::as_str).collect(),
            status: match status {
                AccountStatus::Valid => AccountStatusShape::Valid,
                AccountStatus::Deactivated { at } => AccountStatusShape::Deactivated(at.unix_millis()),
                AccountStatus::Revoked { at } => AccountStatusShape::Revoked(at.unix_millis()),
            },
            terms_agreed: terms_agreed.as_ref().map(|agreed| {
                let TermsAgreed { url, at } = agreed;
                (url.as_str(), at.unix_millis())
            }),
            created: created.unix_millis(),
            proven: *proven,
            external: external.as_ref().map(|external| {
                let ExternalAccount { key_id, binding } = external;
                (key_id.as_str(), binding.as_str())
            }),
        }
    }

    fn from_shape(id: [u8; 16], shape: AccountShape<'_>) -> Shaped<Self> {
        let AccountShape { directory, spki, contacts, status, terms_agreed, created, proven, external } = shape;
        Ok(Self {
            id: AccountId::from_random(id),
            directory: directory.to_owned(),
            key: PublicKey::from_spki(spki).map_err(|_| "an account's key is refused")?,
            contacts: contacts.into_iter().map(str::to_owned).collect(),
            status: match status {
                AccountStatusShape::Valid => AccountStatus::Valid,
                AccountStatusShape::Deactivated(at) => AccountStatus::Deactivated { at: time(at) },
                AccountStatusShape::Revoked(at) => AccountStatus::Revoked { at: time(at) },
            },
            terms_agreed: terms_agreed.map(|(url, at)| TermsAgreed { url: url.to_owned(), at: time(at) }),
            created: time(created),
            proven,
            external: external
                .map(|(key_id, binding)| ExternalAccount { key_id: key_id.to_owned(), binding: binding.to_owned() }),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OrderShape<'a> {
    account: [u8; 16],
    directory: &'a str,
    tenant: Option<&'a str>,
    #[serde(borrow)]
    names: Vec<NameShape<'a>>,
    profile: &'a str,
    not_before: Option<i64>,
    not_after: Option<i64>,
    /// Key identifier and serial number.
    replaces: Option<(&'a [u8], &'a [u8])>,
    authorizations: AuthorizationsShape,
    state: OrderStateShape<'a>,
    created: i64,
    expires: i64,
    claimed: bool,
    pruning: Option<(i64, u32)>,
    #[serde(borrow)]
    settled: Vec<SettledShape<'a>>,
}

/// The ids of an order's authorizations.
#[derive(Serialize, Deserialize)]
enum AuthorizationsShape {
    /// As many as this, each with the id that its place gives it.
    InTheirPlaces(u16),
    Listed(Vec<[u8; 16]>),
}

fn authorizations(order: OrderId, ids: &[AuthorizationId]) -> AuthorizationsShape {
    match u16::try_from(ids.len()) {
        Ok(count) if ids.iter().zip(0..).all(|(id, place)| *id == order.authorization(place)) => {
            AuthorizationsShape::InTheirPlaces(count)
        }
        _ => AuthorizationsShape::Listed(ids.iter().map(AuthorizationId::octets).collect()),
    }
}

/// An authorization that settled with its order; what the order says already is left out.
#[derive(Serialize, Deserialize)]
struct SettledShape<'a> {
    /// Its place among the order's.
    place: u16,
    version: u64,
    state: AuthorizationStateShape,
    expires: i64,
    #[serde(borrow)]
    challenges: Vec<ChallengeShape<'a>>,
}

#[derive(Serialize, Deserialize)]
enum OrderStateShape<'a> {
    Pending,
    Ready,
    Processing([u8; 16]),
    Valid([u8; 16]),
    #[serde(borrow)]
    Invalid(ProblemShape<'a>),
}

impl Record for OrderRow {
    type Shape<'a> = OrderShape<'a>;

    fn shape(&self) -> OrderShape<'_> {
        let Self { order, claimed, pruning, settled } = self;
        let Order {
            id,
            account,
            directory,
            tenant,
            names: of,
            profile,
            not_before,
            not_after,
            replaces,
            authorizations: ids,
            state,
            created,
            expires,
        } = order;
        let settled = settled.iter().filter_map(|Versioned { value, version }| {
            let Authorization { id, account: _, order: _, name: _, state, expires, challenges } = value;
            let place = ids.iter().position(|of| of == id).and_then(|place| u16::try_from(place).ok())?;
            Some(SettledShape {
                place,
                version: version.0,
                state: authorization_state(*state),
                expires: expires.unix_millis(),
                challenges: challenges.iter().map(challenge).collect(),
            })
        });
        OrderShape {
            account: account.octets(),
            directory,
            tenant: tenant.as_deref(),
            names: names(of),
            profile,
            not_before: not_before.map(Timestamp::unix_millis),
            not_after: not_after.map(Timestamp::unix_millis),
            replaces: replaces.as_ref().map(|replaced| (replaced.key_identifier(), replaced.serial_der())),
            authorizations: authorizations(*id, ids),
            state: match state {
                OrderState::Pending => OrderStateShape::Pending,
                OrderState::Ready => OrderStateShape::Ready,
                OrderState::Processing { certificate } => OrderStateShape::Processing(certificate.octets()),
                OrderState::Valid { certificate } => OrderStateShape::Valid(certificate.octets()),
                OrderState::Invalid { error } => OrderStateShape::Invalid(problem(error)),
            },
            created: created.unix_millis(),
            expires: expires.unix_millis(),
            claimed: *claimed,
            pruning: pruning.map(|Owed { due, attempt }| (due.unix_millis(), attempt)),
            settled: settled.collect(),
        }
    }

    fn from_shape(id: [u8; 16], shape: OrderShape<'_>) -> Shaped<Self> {
        let OrderShape {
            account,
            directory,
            tenant,
            names,
            profile,
            not_before,
            not_after,
            replaces,
            authorizations,
            state,
            created,
            expires,
            claimed,
            pruning,
            settled,
        } = shape;
        let (id, account) = (OrderId::from_octets(id), AccountId::from_random(account));
        let order = Order {
            id,
            account,
            directory: directory.to_owned(),
            tenant: tenant.map(str::to_owned),
            names: names_from(&names)?,
            profile: profile.to_owned(),
            not_before: not_before.map(time),
            not_after: not_after.map(time),
            replaces: replaces
                .map(|(key, serial)| UniqueIdentifier::new(key, serial))
                .transpose()
                .map_err(|_| "what an order replaces is no certificate")?,
            authorizations: match authorizations {
                AuthorizationsShape::InTheirPlaces(count) => (0..count).map(|place| id.authorization(place)).collect(),
                AuthorizationsShape::Listed(ids) => ids.into_iter().map(AuthorizationId::from_octets).collect(),
            },
            state: match state {
                OrderStateShape::Pending => OrderState::Pending,
                OrderStateShape::Ready => OrderState::Ready,
                OrderStateShape::Processing(id) => {
                    OrderState::Processing { certificate: CertificateId::from_random(id) }
                }
                OrderStateShape::Valid(id) => OrderState::Valid { certificate: CertificateId::from_random(id) },
                OrderStateShape::Invalid(error) => OrderState::Invalid { error: problem_from(&error)? },
            },
            created: time(created),
            expires: time(expires),
        };
        let settled = settled.into_iter().map(|settled| {
            let SettledShape { place, version, state, expires, challenges } = settled;
            let place = usize::from(place);
            let value = Authorization {
                id: *order.authorizations.get(place).ok_or("an authorization has no place in its order")?,
                account,
                order: id,
                name: order.names.iter().nth(place).cloned().ok_or("an authorization has no name in its order")?,
                state: authorization_state_from(&state),
                expires: time(expires),
                challenges: challenges.iter().map(challenge_from).collect::<Shaped<_>>()?,
            };
            Ok(Versioned { value, version: Version(version) })
        });
        let settled = settled.collect::<Shaped<_>>()?;
        let pruning = pruning.map(|(due, attempt)| Owed { due: time(due), attempt });
        Ok(Self { order, claimed, pruning, settled })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct AuthorizationShape<'a> {
    account: [u8; 16],
    order: [u8; 16],
    #[serde(borrow)]
    name: NameShape<'a>,
    state: AuthorizationStateShape,
    expires: i64,
    challenges: Vec<ChallengeShape<'a>>,
}

#[derive(Serialize, Deserialize)]
enum AuthorizationStateShape {
    Pending,
    Valid,
    Invalid,
    Deactivated,
    Revoked,
}

const fn authorization_state(of: AuthorizationState) -> AuthorizationStateShape {
    match of {
        AuthorizationState::Pending => AuthorizationStateShape::Pending,
        AuthorizationState::Valid => AuthorizationStateShape::Valid,
        AuthorizationState::Invalid => AuthorizationStateShape::Invalid,
        AuthorizationState::Deactivated => AuthorizationStateShape::Deactivated,
        AuthorizationState::Revoked => AuthorizationStateShape::Revoked,
    }
}

const fn authorization_state_from(shape: &AuthorizationStateShape) -> AuthorizationState {
    match shape {
        AuthorizationStateShape::Pending => AuthorizationState::Pending,
        AuthorizationStateShape::Valid => AuthorizationState::Valid,
        AuthorizationStateShape::Invalid => AuthorizationState::Invalid,
        AuthorizationStateShape::Deactivated => AuthorizationState::Deactivated,
        AuthorizationStateShape::Revoked => AuthorizationState::Revoked,
    }
}

#[derive(Serialize, Deserialize)]
struct ChallengeShape<'a> {
    kind: ChallengeKindShape,
    token: [u8; 16],
    #[serde(borrow)]
    state: ChallengeStateShape<'a>,
}

#[derive(Serialize, Deserialize)]
enum ChallengeKindShape {
    Http01,
    Dns01,
    TlsAlpn01,
}

#[derive(Serialize, Deserialize)]
enum ChallengeStateShape<'a> {
    Pending,
    Processing(i64),
    Valid(i64),
    #[serde(borrow)]
    Invalid(ProblemShape<'a>),
}

fn challenge(of: &Challenge) -> ChallengeShape<'_> {
    let Challenge { kind, token, state } = of;
    ChallengeShape {
        kind: match kind {
            ChallengeKind::Http01 => ChallengeKindShape::Http01,
            ChallengeKind::Dns01 => ChallengeKindShape::Dns01,
            ChallengeKind::TlsAlpn01 => ChallengeKindShape::TlsAlpn01,
        },
        token: token.octets(),
        state: match state {
            ChallengeState::Pending => ChallengeStateShape::Pending,
            ChallengeState::Processing { since } => ChallengeStateShape::Processing(since.unix_millis()),
            ChallengeState::Valid { validated } => ChallengeStateShape::Valid(validated.unix_millis()),
            ChallengeState::Invalid { error } => ChallengeStateShape::Invalid(problem(error)),
        },
    }
}

fn challenge_from(shape: &ChallengeShape<'_>) -> Shaped<Challenge> {
    let ChallengeShape { kind, token, state } = shape;
    Ok(Challenge {
        kind: match kind {
            ChallengeKindShape::Http01 => ChallengeKind::Http01,
            ChallengeKindShape::Dns01 => ChallengeKind::Dns01,
            ChallengeKindShape::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        },
        token: Token::from_random(*token),
        state: match state {
            ChallengeStateShape::Pending => ChallengeState::Pending,
            ChallengeStateShape::Processing(since) => ChallengeState::Processing { since: time(*since) },
            ChallengeStateShape::Valid(validated) => ChallengeState::Valid { validated: time(*validated) },
            ChallengeStateShape::Invalid(error) => ChallengeState::Invalid { error: problem_from(error)? },
        },
    })
}

impl Record for Authorization {
    type Shape<'a> = AuthorizationShape<'a>;

    fn shape(&self) -> AuthorizationShape<'_> {
        let Self { id: _, account, order, name: of, state, expires, challenges } = self;
        AuthorizationShape {
            account: account.octets(),
            order: order.octets(),
            name: name(of),
            state: authorization_state(*state),
            expires: expires.unix_millis(),
            challenges: challenges.iter().map(challenge).collect(),
        }
    }

    fn from_shape(id: [u8; 16], shape: AuthorizationShape<'_>) -> Shaped<Self> {
        let AuthorizationShape { account, order, name, state, expires, challenges } = shape;
        Ok(Self {
            id: AuthorizationId::from_octets(id),
            account: AccountId::from_random(account),
            order: OrderId::from_octets(order),
            name: name_from(&name)?,
            state: authorization_state_from(&state),
            expires: time(expires),
            challenges: challenges.iter().map(challenge_from).collect::<Shaped<_>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CertificateShape<'a> {
    authority: &'a str,
    /// Where it is not the identity.
    serial: Option<[u8; 16]>,
    #[serde(borrow)]
    names: Vec<NameShape<'a>>,
    key: [u8; 32],
    /// First and last second, in seconds.
    validity: (i64, i64),
    profile: &'a str,
    /// Without what says the account, where it begins so.
    requester: RequesterShape<'a>,
    account: Option<[u8; 16]>,
    order: Option<[u8; 16]>,
    tenant: Option<&'a str>,
    #[serde(borrow)]
    origin: Option<OriginShape<'a>>,
    #[serde(borrow)]
    used_by: Vec<&'a str>,
    chain: u16,
    crl_shard: Option<u16>,
    light: bool,
    state: CertificateStateShape,
    revocation: Option<(i64, Option<u8>)>,
    replaced_by: Option<[u8; 16]>,
    recorded: i64,
}

/// Cluster, namespace, Certificate.
type OriginShape<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

#[derive(Serialize, Deserialize)]
enum RequesterShape<'a> {
    Whole(&'a str),
    /// The account at the ACME door, and what follows.
    Account(&'a str),
}

/// How the line about an account's request begins.
fn account_line(account: &AccountId) -> String {
    format!("acme account {account}")
}

fn requester<'a>(line: &'a str, account: Option<&AccountId>) -> RequesterShape<'a> {
    match account.and_then(|account| line.strip_prefix(account_line(account).as_str())) {
        Some(rest) => RequesterShape::Account(rest),
        None => RequesterShape::Whole(line),
    }
}

fn requester_from(shape: &RequesterShape<'_>, account: Option<&AccountId>) -> Shaped<String> {
    match (shape, account) {
        (RequesterShape::Whole(line), _) => Ok((*line).to_owned()),
        (RequesterShape::Account(rest), Some(account)) => Ok(account_line(account) + rest),
        (RequesterShape::Account(_), None) => Err("a requester is an account that is not there"),
    }
}

#[derive(Serialize, Deserialize)]
enum CertificateStateShape {
    Intended { intent: u64 },
    Issued { intent: u64, signature: u64 },
    PossiblyIssued { intent: u64 },
}

/// A leaf's index; a commit's own leaves are resolved before a record is stored.
const fn index(leaf: LeafRef) -> u64 {
    match leaf {
        LeafRef::At(index) => index,
        LeafRef::InThisCommit(_) => u64::MAX,
    }
}

impl Record for CertificateRecord {
    type Shape<'a> = CertificateShape<'a>;

    fn shape(&self) -> CertificateShape<'_> {
        let Self {
            id,
            authority,
            serial,
            names: of,
            key,
            validity,
            profile,
            requester: line,
            account,
            order,
            tenant,
            origin,
            used_by,
            chain,
            crl_shard,
            retention,
            state,
            revocation,
            replaced_by,
            recorded,
        } = self;
        CertificateShape {
            authority: authority.as_str(),
            serial: Some(serial.to_u128().to_be_bytes()).filter(|serial| *serial != id.octets()),
            names: names(of),
            key: key.0,
            validity: (validity.not_before().unix_seconds(), validity.not_after().unix_seconds()),
            profile,
            requester: requester(line, account.as_ref()),
            account: account.map(|id| id.octets()),
            order: order.map(|id| id.octets()),
            tenant: tenant.as_deref(),
            origin: origin.as_ref().map(|origin| {
                let ClusterOrigin { cluster, namespace, certificate } = origin;
                (cluster.as_str(), namespace.as_deref(), certificate.as_deref())
            }),
            used_by: used_by.iter().map(String::as_str).collect(),
            chain: *chain,
            crl_shard: *crl_shard,
            light: match retention {
                Retention::Full => false,
                Retention::Light => true,
            },
            state: match *state {
                CertificateState::Intended { intent } => CertificateStateShape::Intended { intent: index(intent) },
                CertificateState::Issued { intent, signature } => {
                    CertificateStateShape::Issued { intent: index(intent), signature: index(signature) }
                }
                CertificateState::PossiblyIssued { intent } => {
                    CertificateStateShape::PossiblyIssued { intent: index(intent) }
                }
            },
            revocation: revocation
                .map(|Revocation { at, reason }| (at.unix_millis(), reason.map(RevocationReason::code))),
            replaced_by: replaced_by.map(|id| id.octets()),
            recorded: recorded.unix_millis(),
        }
    }

    fn from_shape(id: [u8; 16], shape: CertificateShape<'_>) -> Shaped<Self> {
        let CertificateShape {
            authority,
            serial,
            names,
            key,
            validity,
            profile,
            requester,
            account,
            order,
            tenant,
            origin,
            used_by,
            chain,
            crl_shard,
            light,
            state,
            revocation,
            replaced_by,
            recorded,
        } = shape;
        let account = account.map(AccountId::from_random);
        let (first, last) = validity;
        let validity = Validity::new(Timestamp::from_unix_seconds(first), Timestamp::from_unix_seconds(last))
            .map_err(|_| "a validity ends before it begins")?;
        let revocation = match revocation {
            None => None,
            Some((at, None)) => Some(Revocation { at: time(at), reason: None }),
            Some((at, Some(code))) => {
                let reason = RevocationReason::from_code(u64::from(code)).ok_or("a revocation reason is unknown")?;
                Some(Revocation { at: time(at), reason: Some(reason) })
            }
        };
        Ok(Self {
            id: CertificateId::from_random(id),
            authority: authority.parse().map_err(|_| "an authority's name is none")?,
            serial: SerialNumber::from_u128(u128::from_be_bytes(serial.unwrap_or(id)))
                .ok_or("a serial number is zero")?,
            names: names_from(&names)?,
            key: SpkiDigest(key),
            validity,
            profile: profile.to_owned(),
            requester: requester_from(&requester, account.as_ref())?,
            account,
            order: order.map(OrderId::from_octets),
            tenant: tenant.map(str::to_owned),
            origin: origin.map(|(cluster, namespace, certificate)| ClusterOrigin {
                cluster: cluster.to_owned(),
                namespace: namespace.map(str::to_owned),
                certificate: certificate.map(str::to_owned),
            }),
            used_by: used_by.into_iter().map(str::to_owned).collect(),
            chain,
            crl_shard,
            retention: if light { Retention::Light } else { Retention::Full },
            state: match state {
                CertificateStateShape::Intended { intent } => {
                    CertificateState::Intended { intent: LeafRef::At(intent) }
                }
                CertificateStateShape::Issued { intent, signature } => {
                    CertificateState::Issued { intent: LeafRef::At(intent), signature: LeafRef::At(signature) }
                }
                CertificateStateShape::PossiblyIssued { intent } => {
                    CertificateState::PossiblyIssued { intent: LeafRef::At(intent) }
                }
            },
            revocation,
            replaced_by: replaced_by.map(OrderId::from_octets),
            recorded: time(recorded),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ApiTokenShape<'a> {
    cluster: &'a str,
    comment: &'a str,
    sha256: [u8; 32],
    #[serde(borrow)]
    namespaces: Option<Vec<&'a str>>,
    #[serde(borrow)]
    profiles: Option<Vec<&'a str>>,
    names: Option<Vec<String>>,
    created: i64,
    expires: i64,
    revoked: Option<i64>,
}

impl Record for ApiToken {
    type Shape<'a> = ApiTokenShape<'a>;

    fn shape(&self) -> ApiTokenShape<'_> {
        let Self { id: _, cluster, comment, sha256, namespaces, profiles, names, created, expires, revoked } = self;
        ApiTokenShape {
            cluster,
            comment,
            sha256: *sha256,
            namespaces: namespaces.as_ref().map(|namespaces| namespaces.iter().map(String::as_str).collect()),
            profiles: profiles.as_ref().map(|profiles| profiles.iter().map(String::as_str).collect()),
            names: names.as_ref().map(|names| names.patterns().collect()),
            created: created.unix_millis(),
            expires: expires.unix_millis(),
            revoked: revoked.map(Timestamp::unix_millis),
        }
    }

    fn from_shape(id: [u8; 16], shape: ApiTokenShape<'_>) -> Shaped<Self> {
        let ApiTokenShape { cluster, comment, sha256, namespaces, profiles, names, created, expires, revoked } = shape;
        let names = names.map(|names| NameLimits::parse(&names)).transpose();
        Ok(Self {
            id: ApiTokenId::from_octets(id),
            cluster: cluster.to_owned(),
            comment: comment.to_owned(),
            sha256,
            namespaces: namespaces.map(|namespaces| namespaces.into_iter().map(str::to_owned).collect()),
            profiles: profiles.map(|profiles| profiles.into_iter().map(str::to_owned).collect()),
            names: names.map_err(|_| "a token's names are no patterns")?,
            created: time(created),
            expires: time(expires),
            revoked: revoked.map(time),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct InForceShape<'a> {
    /// Authority, certificate and key.
    #[serde(borrow)]
    issuing: Vec<(&'a str, [u8; 32], [u8; 32])>,
    policy: Option<[u8; 32]>,
    #[serde(borrow)]
    profiles: Vec<(&'a str, [u8; 32])>,
}

impl Record for InForce {
    type Shape<'a> = InForceShape<'a>;

    fn shape(&self) -> InForceShape<'_> {
        let Self { issuing, policy, profiles } = self;
        let issuing = issuing.iter().map(|((authority, certificate), key)| (authority.as_str(), *certificate, key.0));
        InForceShape {
            issuing: issuing.collect(),
            policy: *policy,
            profiles: profiles.iter().map(|(name, hash)| (name.as_str(), *hash)).collect(),
        }
    }

    fn from_shape(_: [u8; 16], shape: InForceShape<'_>) -> Shaped<Self> {
        let InForceShape { issuing, policy, profiles } = shape;
        let issuing = issuing.into_iter().map(|(authority, certificate, key)| {
            let authority = authority.parse().map_err(|_| "an authority's name is none")?;
            Ok(((authority, certificate), SpkiDigest(key)))
        });
        Ok(Self {
            issuing: issuing.collect::<Shaped<_>>()?,
            policy,
            profiles: profiles.into_iter().map(|(name, hash)| (name.to_owned(), hash)).collect(),
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IdempotencyShape<'a> {
    door: &'a str,
    credential: &'a str,
    uid: &'a str,
    request: [u8; 32],
    attempt: u32,
    #[serde(borrow)]
    outcome: IdempotencyOutcomeShape<'a>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
enum IdempotencyOutcomeShape<'a> {
    Pending([u8; 16]),
    Issued([u8; 16]),
    Refused(&'a str),
    Held,
    Abandoned([u8; 16]),
}

impl Record for IdempotencyRecord {
    type Shape<'a> = IdempotencyShape<'a>;

    fn shape(&self) -> IdempotencyShape<'_> {
        let Self { key: IdempotencyKey { door, credential, uid }, request, attempt, outcome, at } = self;
        IdempotencyShape {
            door,
            credential,
            uid,
            request: *request,
            attempt: *attempt,
            outcome: match outcome {
                IdempotencyOutcome::Pending { certificate } => IdempotencyOutcomeShape::Pending(certificate.octets()),
                IdempotencyOutcome::Issued { certificate } => IdempotencyOutcomeShape::Issued(certificate.octets()),
                IdempotencyOutcome::Refused { rule } => IdempotencyOutcomeShape::Refused(rule),
                IdempotencyOutcome::Held => IdempotencyOutcomeShape::Held,
                IdempotencyOutcome::Abandoned { certificate } => {
                    IdempotencyOutcomeShape::Abandoned(certificate.octets())
                }
            },
            at: at.unix_millis(),
        }
    }

    fn from_shape(_: [u8; 16], shape: IdempotencyShape<'_>) -> Shaped<Self> {
        let IdempotencyShape { door, credential, uid, request, attempt, outcome, at } = shape;
        let id = CertificateId::from_random;
        Ok(Self {
            key: IdempotencyKey { door: door.to_owned(), credential: credential.to_owned(), uid: uid.to_owned() },
            request,
            attempt,
            outcome: match outcome {
                IdempotencyOutcomeShape::Pending(certificate) => {
                    IdempotencyOutcome::Pending { certificate: id(certificate) }
                }
                IdempotencyOutcomeShape::Issued(certificate) => {
                    IdempotencyOutcome::Issued { certificate: id(certificate) }
                }
                IdempotencyOutcomeShape::Refused(rule) => IdempotencyOutcome::Refused { rule: rule.to_owned() },
                IdempotencyOutcomeShape::Held => IdempotencyOutcome::Held,
                IdempotencyOutcomeShape::Abandoned(certificate) => {
                    IdempotencyOutcome::Abandoned { certificate: id(certificate) }
                }
            },
            at: time(at),
        })
    }
}
