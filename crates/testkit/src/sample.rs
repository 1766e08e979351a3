//! Records as tests need them: whole, plausible, told apart by a number.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use chancery_acme::{
    account::{Account, AccountStatus, TermsAgreed},
    authorization::{Authorization, AuthorizationState},
    challenge::{Challenge, ChallengeKind, ChallengeState, Token},
    id::{AccountId, CertificateId, OrderId},
    order::{Order, OrderState},
};
use chancery_authority::{
    changes::{Change, Changes, Put},
    records::{
        ApiToken, ApiTokenId, AuthorityId, CertificateRecord, CertificateState, EabKey, EabLimits, InForce, LeafRef,
        Retention, Versioned,
    },
};
use chancery_ledger::{
    Leaf,
    leaf::{
        Abandoned, AccountFacts, ApiToken as ApiTokenLeaf, ApiTokenFacts, AuthorityInstalled, AuthorityRetired,
        CrlPublished, Decision, Idempotency, Intent, NameRule, Outcome, PolicyActivated, ProfileRef, Refusal,
        Requester, Revocation, Signature, Terms, TokenAction,
    },
};
use chancery_pki::{KeyKind, Name, NameSet, PublicKey, SerialNumber, SpkiDigest, Timestamp, Validity};
use chancery_policy::NameLimits;
use chancery_policy::NameScope;

/// 2026-11-25T09:46:40Z.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_795_600_000)
}

/// 16 octets that a number decides, spread over the whole range.
#[must_use]
pub fn octets(number: u64) -> [u8; 16] {
    let mut out = [0; 16];
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    out.iter_mut().zip(spread.to_be_bytes().into_iter().chain(number.to_be_bytes())).for_each(|(to, from)| *to = from);
    out
}

/// A new P-256 key.
///
/// # Panics
///
/// Where the machine has no randomness.
#[must_use]
pub fn key() -> PublicKey {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).expect("a key");
    let (_, point) = pair.public_key().as_ref().split_first().expect("a point");
    let (x, y) = point.split_at(point.len() / 2);
    PublicKey::from_ec(KeyKind::P256, x, y).expect("a sound key")
}

/// A set of names.
///
/// # Panics
///
/// Where one of them is none.
#[must_use]
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> NameSet {
    NameSet::new(names.into_iter().map(|name| name.parse::<Name>().expect("a name"))).expect("a set")
}

/// An account with this number and a new key.
#[must_use]
pub fn account(number: u64) -> Account {
    Account {
        id: AccountId::from_random(octets(number)),
        directory: "default".to_owned(),
        key: key(),
        contacts: vec!["mailto:admin@example.com".to_owned()],
        status: AccountStatus::Valid,
        terms_agreed: Some(TermsAgreed { url: "https://example.com/terms".to_owned(), at: now() }),
        created: now(),
        proven: false,
        external: None,
    }
}

/// An EAB key with this id, limited in every way.
///
/// # Panics
///
/// Where the id is none.
#[must_use]
pub fn eab_key(id: &str) -> EabKey {
    let names = NameScope::parse(&["pay.example.com", "**.pay.example.com"], &["*.pay.example.com"], &["10.0.0.0/8"]);
    EabKey {
        id: id.parse().expect("an id"),
        salt: [7; 16],
        owner: "Payments \"team\"".to_owned(),
        directory: "default".to_owned(),
        limits: EabLimits {
            names: Some(names.expect("patterns")),
            profiles: vec!["server".to_owned()],
            accounts: 3,
            expires: now().after(std::time::Duration::from_secs(3600)),
        },
        created: now(),
        revoked: None,
        accounts_stopped: None,
    }
}

/// The id of an account's order with this number.
#[must_use]
pub fn order_id(account: AccountId, number: u64) -> OrderId {
    OrderId::new(account, octets(number))
}

/// A pending order of an account, for one name, with its authorization.
#[must_use]
pub fn order(number: u64, account: AccountId, name: &str) -> (Order, Authorization) {
    let id = order_id(account, number);
    let authorization = Authorization {
        id: id.authorization(0),
        account,
        order: id,
        name: name.parse().expect("a name"),
        state: AuthorizationState::Pending,
        expires: now().after(std::time::Duration::from_secs(3600)),
        challenges: vec![Challenge {
            kind: ChallengeKind::Http01,
            token: Token::from_random(octets(number)),
            state: ChallengeState::Pending,
        }],
    };
    let order = Order {
        id,
        account,
        directory: "default".to_owned(),
        tenant: Some("payments".to_owned()),
        names: names([name]),
        profile: "server".to_owned(),
        not_before: None,
        not_after: None,
        replaces: None,
        authorizations: vec![authorization.id],
        state: OrderState::Pending,
        created: now(),
        expires: authorization.expires,
    };
    (order, authorization)
}

/// The record of a certificate whose intent is leaf 0 of its commit; lives for 90 days and `number` seconds.
///
/// # Panics
///
/// Never: the validity does not end before it begins.
#[must_use]
pub fn certificate(number: u64, in_names: &[&str]) -> CertificateRecord {
    let id = octets(number);
    let end = now().after(std::time::Duration::from_secs(90 * 86_400 + number));
    CertificateRecord {
        id: CertificateId::from_random(id),
        authority: "issuing".parse().expect("a name"),
        serial: SerialNumber::from_u128(u128::from_be_bytes(id)).expect("not zero"),
        names: names(in_names.iter().copied()),
        key: SpkiDigest([u8::try_from(number % 251).expect("below 256"); 32]),
        validity: Validity::new(now(), end).expect("ends after it begins"),
        profile: "server".to_owned(),
        requester: "account 1".to_owned(),
        account: None,
        order: None,
        tenant: Some("payments".to_owned()),
        origin: None,
        used_by: Vec::new(),
        chain: 0,
        crl_shard: None,
        retention: Retention::Full,
        state: CertificateState::Intended { intent: LeafRef::InThisCommit(0) },
        revocation: None,
        replaced_by: None,
        recorded: now(),
    }
}

/// An API token with every limit that there is.
///
/// # Panics
///
/// Never: its pattern is one.
#[must_use]
pub fn api_token(number: u64) -> ApiToken {
    ApiToken {
        id: ApiTokenId::from_octets(octets(number)),
        cluster: "prod-eu".to_owned(),
        comment: format!("token {number}"),
        sha256: [u8::try_from(number % 251).expect("below 256"); 32],
        namespaces: Some(["payments".to_owned(), "shop".to_owned()].into()),
        profiles: Some(vec!["server".to_owned()]),
        names: Some(NameLimits::parse(&["**.shop.example.com", "10.0.0.0/8"]).expect("patterns")),
        created: now(),
        expires: now().after(std::time::Duration::from_secs(86_400)),
        revoked: None,
    }
}

/// What the ledger says of an API token: that it was made, or that it was revoked.
#[must_use]
pub fn api_token_leaf(token: &ApiToken) -> Leaf {
    let list = |names: &NameLimits| names.patterns().collect();
    let facts = token.revoked.is_none().then(|| ApiTokenFacts {
        cluster: token.cluster.clone(),
        comment: token.comment.clone(),
        expires: token.expires,
        names: token.names.as_ref().map(list),
        namespaces: token.namespaces.as_ref().map(|namespaces| namespaces.iter().cloned().collect()),
        profiles: token.profiles.clone(),
        sha256: token.sha256,
    });
    let action = if facts.is_some() { TokenAction::Created } else { TokenAction::Revoked };
    let at = token.revoked.unwrap_or(token.created);
    Leaf::from(ApiTokenLeaf { action, at, by: "uid 0".to_owned(), facts, token: token.id.octets() })
}

/// A leaf told apart by a number, so that order and loss show.
#[must_use]
pub fn leaf(number: u64) -> Leaf {
    Leaf::from(CrlPublished { at: now(), authority: "issuing".to_owned(), number, sha256: [0; 32], shard: 0 })
}

/// The text of the policy with this number.
#[must_use]
pub fn policy_text(number: u8) -> Vec<u8> {
    format!("version: v1 # {number}").into_bytes()
}

/// What is in force: two issuing certificates, a policy and a profile, of this number all but one.
#[must_use]
pub fn in_force(number: u8) -> InForce {
    let authority: AuthorityId = "issuing".parse().expect("a name");
    InForce {
        issuing: [0, number].map(|of| ((authority.clone(), [of; 32]), SpkiDigest([7; 32]))).into(),
        policy: Some(sha256(&policy_text(number))),
        profiles: [("server".to_owned(), [number; 32])].into(),
    }
}

/// The leaves by which `is` takes the place of what was in force, and the record of it.
#[must_use]
pub fn put_in_force(was: Option<&Versioned<InForce>>, is: InForce) -> Changes {
    let nothing = InForce::default();
    let old = was.map_or(&nothing, |was| &was.value);
    let mut changes = Changes::new();
    for ((authority, certificate), key) in is.issuing.iter().filter(|(which, _)| !old.issuing.contains_key(which)) {
        let (authority, certificate) = (authority.to_string(), *certificate);
        changes = changes.leaf(AuthorityInstalled { at: now(), authority, certificate, key: key.0 }.into());
    }
    for ((authority, certificate), key) in old.issuing.iter().filter(|(which, _)| !is.issuing.contains_key(which)) {
        let (authority, certificate) = (authority.to_string(), *certificate);
        changes = changes.leaf(AuthorityRetired { at: now(), authority, certificate, key: key.0 }.into());
    }
    let profiles = is.profiles.iter().map(|(name, hash)| ProfileRef { hash: *hash, name: name.clone() }).collect();
    let policy = is.policy.expect("a sample has one");
    changes
        .leaf(PolicyActivated { at: now(), by: "a test".to_owned(), policy, profiles }.into())
        .with(Change::InForce(Put { replaces: was.map(|was| was.version), value: is }))
}

/// A leaf that is longer than any may be.
#[must_use]
pub fn too_large_leaf() -> Leaf {
    Leaf::from(Refusal {
        at: now(),
        because: "x".repeat(70_000),
        door: "acme".to_owned(),
        names: Vec::new(),
        names_left_out: 0,
        policy: [0; 32],
        requester: Requester { claims: Vec::new(), summary: "account 1".to_owned() },
        rule: None,
        tenant: None,
    })
}

/// A certificate as it goes through a store: its record, and the leaves that speak of it.
#[derive(Debug, Clone)]
pub struct Issuance {
    /// The record; its intent is leaf 0 of the commit that brings it.
    pub record: CertificateRecord,
    /// The intent.
    pub intent: Leaf,
    signature: Vec<u8>,
    sha256: [u8; 32],
}

impl Issuance {
    /// The signature leaf, once it is known where the intent stands.
    #[must_use]
    pub fn signature(&self, intent: u64) -> Leaf {
        Leaf::from(Signature {
            at: now(),
            certificate: self.record.id.octets(),
            intent,
            sha256: self.sha256,
            signature: self.signature.clone(),
        })
    }

    /// The leaf that gives it up.
    #[must_use]
    pub fn abandoned(&self, intent: u64) -> Leaf {
        let certificate = self.record.id.octets();
        Leaf::from(Abandoned { at: now(), certificate, intent, why: "no-signature".to_owned() })
    }

    /// The leaf that revokes it.
    #[must_use]
    pub fn revocation(&self, reason: Option<u8>) -> Leaf {
        Leaf::from(Revocation {
            at: now(),
            authority: self.record.authority.to_string(),
            by: "account 1".to_owned(),
            certificate: self.record.id.octets(),
            reason,
            serial: self.record.serial,
        })
    }
}

/// An issuance of a real certificate, for an account and its order, under an idempotency key.
///
/// # Panics
///
/// Where it cannot be made.
#[must_use]
pub fn issuance(
    number: u64,
    name: &str,
    account: Option<&Account>,
    order: Option<OrderId>,
    uid: Option<&str>,
) -> Issuance {
    issuance_of(number, &[name], account, order, uid)
}

/// The same for several names of any kind; a common name of its own stands in the subject.
///
/// # Panics
///
/// Where it cannot be made.
#[must_use]
pub fn issuance_of(
    number: u64,
    in_names: &[&str],
    account: Option<&Account>,
    order: Option<OrderId>,
    uid: Option<&str>,
) -> Issuance {
    // Midnight of the day of `now`, as rcgen takes it.
    let begin = Timestamp::from_unix_seconds(1_795_564_800);
    let end = Timestamp::from_unix_seconds(1_803_340_800);
    let mut record = certificate(number, in_names);
    record.validity = Validity::new(begin, end).expect("ends after it begins");
    record.account = account.map(|account| account.id);
    record.order = order;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in record.names.iter() {
        let text = |text: &str| text.to_owned().try_into().expect("ASCII");
        params.subject_alt_names.push(match name {
            Name::Dns(_) | Name::Wildcard(_) => rcgen::SanType::DnsName(text(&name.to_string())),
            Name::Ip(address) => rcgen::SanType::IpAddress(*address),
            Name::Spiffe(_) | Name::Uri(_) => rcgen::SanType::URI(text(&name.to_string())),
            Name::Email(address) => rcgen::SanType::Rfc822Name(text(address.as_str())),
            Name::Other(other) => {
                let type_id = other.type_id().arcs().map(u64::from).collect();
                rcgen::SanType::OtherName((type_id, other.value().into()))
            }
            Name::CommonName(own) => {
                params.distinguished_name.push(rcgen::DnType::CommonName, own.as_str());
                continue;
            }
        });
    }
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&record.serial.der_content()));
    params.not_before = rcgen::date_time_ymd(2026, 11, 25);
    params.not_after = rcgen::date_time_ymd(2027, 2, 23);
    let key = rcgen::KeyPair::generate().expect("a key");
    let signed = params.self_signed(&key).expect("a certificate");
    let der = signed.der().to_vec();
    record.key = SpkiDigest(sha256(&rcgen::PublicKeyData::subject_public_key_info(&key)));
    let (_, content) = split_der(&der);
    let (tbs, _) = split_der(content);
    let signature = last_bit_string(content, tbs);
    let intent = Leaf::from(Intent {
        account: record.account.map(|id| id.octets()),
        account_facts: account.map(|account| AccountFacts {
            contacts: account.contacts.clone(),
            created: account.created,
            directory: account.directory.clone(),
            eab: None,
            spki: account.key.spki().to_vec(),
            terms: account.terms_agreed.as_ref().map(|agreed| Terms { at: agreed.at, url: agreed.url.clone() }),
        }),
        at: now(),
        authority: record.authority.to_string(),
        certificate: record.id.octets(),
        chain: "0".to_owned(),
        crl_shard: None,
        decision: Decision {
            names: record.names.iter().map(judged).collect(),
            outcome: Outcome::Allow,
            preauthorized_by: None,
            warnings: Vec::new(),
            warnings_left_out: 0,
        },
        door: "acme".to_owned(),
        idempotency: uid.map(|uid| Idempotency {
            attempt: 1,
            key: format!("request\nc\n{uid}"),
            request: Some([7; 32]),
        }),
        order: order.map(|id| id.octets()),
        policy: [3; 32],
        profile: ProfileRef { hash: [4; 32], name: record.profile.clone() },
        replaces: None,
        requester: Requester { claims: Vec::new(), summary: record.requester.clone() },
        retention: "full".to_owned(),
        serial: record.serial,
        tbs: content.get(..tbs).expect("just measured").to_vec(),
        tenant: record.tenant.clone(),
    });
    Issuance { record, intent, signature, sha256: sha256(&der) }
}

/// As the ledger writes the names that were judged.
fn judged(name: &Name) -> NameRule {
    let name = match name {
        Name::Dns(_) | Name::Wildcard(_) => format!("dns:{name}"),
        Name::Ip(_) => format!("ip:{name}"),
        Name::Email(_) => format!("email:{name}"),
        Name::Uri(_) => format!("uri:{name}"),
        Name::Spiffe(_) | Name::Other(_) | Name::CommonName(_) => name.to_string(),
    };
    NameRule { name, rule: Some("all".to_owned()) }
}

/// How long the first DER element is with its header, and its content.
fn split_der(der: &[u8]) -> (usize, &[u8]) {
    let first = usize::from(*der.get(1).expect("a length"));
    let (header, length) = if first < 0x80 {
        (2, first)
    } else {
        let octets = der.get(2..2 + (first & 0x7f)).expect("a long length");
        (2 + octets.len(), octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
    };
    (header + length, der.get(header..header + length).expect("as long as it says"))
}

/// The octets of the signature: the BIT STRING after TBS and algorithm, without its count of unused bits.
fn last_bit_string(content: &[u8], tbs: usize) -> Vec<u8> {
    let rest = content.get(tbs..).expect("follows the TBS");
    let (algorithm, _) = split_der(rest);
    let (_, bits) = split_der(rest.get(algorithm..).expect("follows the algorithm"));
    bits.get(1..).expect("a count of unused bits").to_vec()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
