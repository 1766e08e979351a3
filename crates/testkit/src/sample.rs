//! Records as tests need them: whole, plausible, told apart by a number.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use chancery_acme::{
    account::{Account, AccountStatus},
    authorization::{Authorization, AuthorizationState},
    challenge::{Challenge, ChallengeKind, ChallengeState, Token},
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    order::{Order, OrderState},
};
use chancery_authority::records::{CertificateRecord, CertificateState, LeafRef, Retention};
use chancery_ledger::{
    Leaf,
    leaf::{CrlPublished, Refusal, Requester},
};
use chancery_pki::{KeyKind, Name, NameSet, PublicKey, SerialNumber, SpkiDigest, Timestamp, Validity};

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
        terms_agreed: Some(now()),
        created: now(),
        proven: false,
        external: None,
    }
}

/// A pending order of an account, for one name, with its authorization.
#[must_use]
pub fn order(number: u64, account: AccountId, name: &str) -> (Order, Authorization) {
    let id = OrderId::from_random(octets(number));
    let authorization = Authorization {
        id: AuthorizationId::from_random(octets(number)),
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
        names: names([name]),
        profile: "server".to_owned(),
        not_before: None,
        not_after: None,
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
        chain: 0,
        crl_shard: None,
        retention: Retention::Full,
        state: CertificateState::Intended { intent: LeafRef::InThisCommit(0) },
        revocation: None,
        recorded: now(),
    }
}

/// A leaf told apart by a number, so that order and loss show.
#[must_use]
pub fn leaf(number: u64) -> Leaf {
    Leaf::from(CrlPublished { at: now(), authority: "issuing".to_owned(), number, sha256: [0; 32], shard: 0 })
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
    })
}
