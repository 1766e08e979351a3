//! The keys of the one tree: a prefix octet for the class, then what orders it.
//!
//! Keys are short, since sled pays for every octet twice. Index keys have no value: what they lead
//! to is in the key.

use chancery_acme::id::{AccountId, AuthorizationId, CertificateId, OrderId};
use chancery_authority::{
    changes::{Claim, Counter},
    records::{
        ApiTokenId, AuthorityId, CertificateRecord, ClusterOrigin, EabKeyId, IdempotencyKey, JobKind, Retention,
    },
};
use chancery_pki::{DnsName, Name, SerialNumber, SpkiDigest, Timestamp};

use crate::journal::sha256;

/// Classes of keys.
pub(crate) mod class {
    /// The store's own bookkeeping in sled; never in a frame.
    pub(crate) const META: u8 = 0;
    pub(crate) const ACCOUNT: u8 = b'A';
    pub(crate) const ACCOUNT_KEY: u8 = b'a';
    pub(crate) const EAB_KEY: u8 = b'B';
    pub(crate) const CERTIFICATE: u8 = b'C';
    pub(crate) const JOB_DUE: u8 = b'D';
    pub(crate) const CERTIFICATE_END: u8 = b'E';
    pub(crate) const IN_FORCE: u8 = b'F';
    pub(crate) const IDEMPOTENCY: u8 = b'I';
    pub(crate) const JOB: u8 = b'J';
    pub(crate) const CERTIFICATE_KEY: u8 = b'K';
    pub(crate) const CLAIM: u8 = b'L';
    pub(crate) const CERTIFICATE_NAME: u8 = b'N';
    pub(crate) const ORDER: u8 = b'O';
    pub(crate) const CERTIFICATE_ORIGIN: u8 = b'P';
    pub(crate) const ACCOUNT_CERTIFICATE: u8 = b'Q';
    pub(crate) const CRL_NUMBER: u8 = b'R';
    pub(crate) const SERIAL: u8 = b'S';
    pub(crate) const API_TOKEN: u8 = b'T';
    pub(crate) const AUTHORIZATION: u8 = b'Z';
    pub(crate) const COUNTER: u8 = b'#';
}

/// Octets of a key digest that its index keeps; the records themselves hold all of it.
const DIGEST: usize = 8;

pub(crate) type Key = Box<[u8]>;

fn key(class: u8, parts: &[&[u8]]) -> Key {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    out.push(class);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into_boxed_slice()
}

/// Where sled's position is kept: the one key of its class.
pub(crate) fn position() -> Key {
    key(class::META, &[b"position"])
}

pub(crate) fn account(id: AccountId) -> Key {
    key(class::ACCOUNT, &[&id.octets()])
}

/// Every directory at which a key has an account begins with this.
pub(crate) fn account_keys(digest: &SpkiDigest) -> Key {
    key(class::ACCOUNT_KEY, &[&digest.0])
}

pub(crate) fn account_key(digest: &SpkiDigest, directory: &str) -> Key {
    key(class::ACCOUNT_KEY, &[&digest.0, directory.as_bytes()])
}

pub(crate) fn order(id: OrderId) -> Key {
    key(class::ORDER, &[&id.octets()])
}

/// Every order of an account begins with this, and by chance another account's.
pub(crate) fn orders_of(account: AccountId) -> Key {
    key(class::ORDER, &[&account.order_prefix()])
}

pub(crate) fn authorization(id: AuthorizationId) -> Key {
    key(class::AUTHORIZATION, &[&id.octets()])
}

pub(crate) fn certificate(id: CertificateId) -> Key {
    key(class::CERTIFICATE, &[&id.octets()])
}

pub(crate) fn certificates_of(account: AccountId) -> Key {
    key(class::ACCOUNT_CERTIFICATE, &[&account.octets()])
}

pub(crate) fn certificate_keys(digest: &SpkiDigest) -> Key {
    key(class::CERTIFICATE_KEY, &[digest.0.get(..DIGEST).unwrap_or_default()])
}

/// When a certificate ends, in whole seconds as its validity has them, so that keys are in the order of time.
pub(crate) fn certificate_end(end: Timestamp, id: Option<CertificateId>) -> Key {
    let id = id.map(|id| id.octets());
    // Up, so that a time within a second comes before the certificates that end with the next.
    let seconds = u64::try_from(end.unix_millis()).unwrap_or(0).div_ceil(1000).to_be_bytes();
    // The year 9999 takes 38 bits.
    key(class::CERTIFICATE_END, &[seconds.get(3..).unwrap_or_default(), id.as_ref().map_or(&[], |id| id.as_slice())])
}

fn time(at: Timestamp) -> [u8; 8] {
    u64::try_from(at.unix_millis()).unwrap_or(0).to_be_bytes()
}

/// A name so that everything at or below it begins alike: labels from the right, each behind a dot.
fn name(name: &Name) -> Vec<u8> {
    match name {
        Name::Dns(dns) => [b"d", labels(dns.as_str()).as_slice(), &[0]].concat(),
        Name::Wildcard(base) => [b"d", labels(base.as_str()).as_slice(), b"*.\0"].concat(),
        Name::Ip(address) => [b"i", address.to_string().as_bytes(), &[0]].concat(),
        Name::Spiffe(id) => [b"s", id.as_str().as_bytes(), &[0]].concat(),
        Name::Uri(uri) => [b"u", uri.as_str().as_bytes(), &[0]].concat(),
        Name::Email(address) => [b"m", address.as_str().as_bytes(), &[0]].concat(),
        Name::Other(other) => [b"o", other.to_string().as_bytes(), &[0]].concat(),
        Name::CommonName(own) => [b"c", own.as_str().as_bytes(), &[0]].concat(),
    }
}

fn labels(dns: &str) -> Vec<u8> {
    dns.rsplit('.').flat_map(|label| label.bytes().chain([b'.'])).collect()
}

/// Names longer than this are indexed by their beginning and a hash of the whole, in octets.
const NAME_MAX: usize = 400;

/// Every certificate with exactly this name begins with this.
pub(crate) fn certificates_named(wanted: &Name) -> Key {
    let mut text = name(wanted);
    if text.len() > NAME_MAX {
        let digest = sha256(&text);
        text.truncate(NAME_MAX);
        text.extend_from_slice(&digest);
        text.push(0);
    }
    key(class::CERTIFICATE_NAME, &[&text])
}

/// Every certificate with a DNS name at or below this one begins with this.
pub(crate) fn certificates_below(suffix: &DnsName) -> Key {
    key(class::CERTIFICATE_NAME, &[b"d", &labels(suffix.as_str())])
}

/// The identity at the end of an index key.
pub(crate) fn trailing_id(key: &[u8]) -> Option<[u8; 16]> {
    key.last_chunk::<16>().copied()
}

pub(crate) fn serial(authority: &AuthorityId, serial: SerialNumber) -> Key {
    key(class::SERIAL, &[&serial.to_u128().to_be_bytes(), authority.as_str().as_bytes()])
}

/// Among the certificates of an account, one whose order does not tell of it.
pub(crate) fn account_certificate(account: AccountId, certificate: CertificateId) -> Key {
    key(class::ACCOUNT_CERTIFICATE, &[&account.octets(), &certificate.octets()])
}

/// Every certificate that a cluster asked for begins with this; with a namespace, of that namespace alone; with a
/// Certificate too, of that alone.
pub(crate) fn certificates_from(cluster: &str, namespace: Option<&str>, certificate: Option<&str>) -> Key {
    let parts = [Some(cluster), namespace, certificate.filter(|_| namespace.is_some())];
    let parts: Vec<&[u8]> = parts.into_iter().flatten().flat_map(|part| [part.as_bytes(), &[0]]).collect();
    key(class::CERTIFICATE_ORIGIN, &parts)
}

/// Among the certificates of a cluster, this one: by namespace, Certificate and id.
pub(crate) fn certificate_from(origin: &ClusterOrigin, id: CertificateId) -> Key {
    let ClusterOrigin { cluster, namespace, certificate } = origin;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let mut from = certificates_from(cluster, Some(&text(namespace)), Some(&text(certificate))).into_vec();
    from.extend_from_slice(&id.octets());
    from.into_boxed_slice()
}

pub(crate) fn api_token(id: ApiTokenId) -> Key {
    key(class::API_TOKEN, &[&id.octets()])
}

/// The index keys of a certificate's record that it alone decides.
pub(crate) fn certificate_index(record: &CertificateRecord) -> Vec<Key> {
    let id = record.id.octets();
    let mut keys = Vec::with_capacity(5);
    match record.retention {
        Retention::Full => keys.extend(record.names.iter().map(|name| {
            let mut named = certificates_named(name).into_vec();
            named.extend_from_slice(&id);
            named.into_boxed_slice()
        })),
        // Found by serial, key and requester alone.
        Retention::Light => {}
    }
    keys.push(key(class::CERTIFICATE_KEY, &[record.key.0.get(..DIGEST).unwrap_or_default(), &id]));
    keys.push(certificate_end(record.validity.not_after(), Some(record.id)));
    keys.extend(record.origin.as_ref().map(|origin| certificate_from(origin, record.id)));
    // For our own authorities the identity is the serial number, and unique with it.
    if record.serial.to_u128().to_be_bytes() != id {
        keys.push(serial(&record.authority, record.serial));
    }
    keys
}

pub(crate) fn idempotency(of: &IdempotencyKey) -> Key {
    let IdempotencyKey { door, credential, uid } = of;
    key(class::IDEMPOTENCY, &[&sha256(&[door.as_bytes(), &[0], credential.as_bytes(), &[0], uid.as_bytes()].concat())])
}

/// An EAB key. What follows its id lies below every character of one, so that keys are in the order of ids.
pub(crate) fn eab_key(id: &EabKeyId) -> Key {
    key(class::EAB_KEY, &[id.as_str().as_bytes(), &[0; 16]])
}

/// The last CRL number of an authority's shard.
pub(crate) fn crl_number(authority: &AuthorityId, shard: u32) -> Key {
    key(class::CRL_NUMBER, &[&shard.to_be_bytes(), authority.as_str().as_bytes()])
}

/// What is in force: the one key of its class.
pub(crate) fn in_force() -> Key {
    key(class::IN_FORCE, &[&[0; 16]])
}

fn job_kind(kind: &JobKind) -> Vec<u8> {
    match kind {
        JobKind::Validate { authorization } => [&[1], authorization.octets().as_slice()].concat(),
        JobKind::Settle { certificate } => [&[2], certificate.octets().as_slice()].concat(),
        JobKind::PruneOrder { order } => [&[3], order.octets().as_slice()].concat(),
        JobKind::PruneAccount { account } => [&[4], account.octets().as_slice()].concat(),
        JobKind::PruneCertificates => vec![5],
        JobKind::Checkpoint => vec![6],
        JobKind::RenewOwnTls => vec![7],
        JobKind::CancelOrders { account } => [&[8], account.octets().as_slice()].concat(),
        JobKind::PruneApiToken { token } => [&[9], token.octets().as_slice()].concat(),
        JobKind::PruneEabKey { key } => [&[20], key.as_str().as_bytes()].concat(),
        JobKind::StopAccounts { key } => [&[21], key.as_str().as_bytes()].concat(),
    }
}

fn job_kind_from(octets: &[u8]) -> Option<JobKind> {
    let (kind, id) = octets.split_first()?;
    let whole = || id.try_into().ok();
    Some(match kind {
        1 => JobKind::Validate { authorization: AuthorizationId::from_octets(whole()?) },
        2 => JobKind::Settle { certificate: CertificateId::from_random(whole()?) },
        3 => JobKind::PruneOrder { order: OrderId::from_octets(whole()?) },
        4 => JobKind::PruneAccount { account: AccountId::from_random(whole()?) },
        5 if id.is_empty() => JobKind::PruneCertificates,
        6 if id.is_empty() => JobKind::Checkpoint,
        7 if id.is_empty() => JobKind::RenewOwnTls,
        8 => JobKind::CancelOrders { account: AccountId::from_random(whole()?) },
        9 => JobKind::PruneApiToken { token: ApiTokenId::from_octets(whole()?) },
        20 => JobKind::PruneEabKey { key: eab_key_id(id)? },
        21 => JobKind::StopAccounts { key: eab_key_id(id)? },
        _ => return None,
    })
}

fn eab_key_id(octets: &[u8]) -> Option<EabKeyId> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}

/// Whether the octets of a job's kind are those of an order's pruning.
pub(crate) fn prunes_order(kind: &[u8]) -> bool {
    matches!(job_kind_from(kind), Some(JobKind::PruneOrder { .. }))
}

pub(crate) fn job(kind: &JobKind) -> Key {
    key(class::JOB, &[&job_kind(kind)])
}

pub(crate) fn job_due(due: Timestamp, kind: &JobKind) -> Key {
    key(class::JOB_DUE, &[&time(due), &job_kind(kind)])
}

/// When a job is due and which it is, from its key in the order of time.
pub(crate) fn due_job(key: &[u8]) -> Option<(Timestamp, JobKind)> {
    let (due, kind) = key.get(1..)?.split_first_chunk::<8>()?;
    let due = i64::try_from(u64::from_be_bytes(*due)).ok()?;
    Some((Timestamp::from_unix_millis(due), job_kind_from(kind)?))
}

pub(crate) fn claim(of: &Claim) -> Key {
    match of {
        Claim::OrderCertificate(order) => key(class::CLAIM, &[&[1], &order.octets()]),
        Claim::EabUse { key_id, account_key } => key(class::CLAIM, &[&[2], &account_key.0, key_id.as_str().as_bytes()]),
    }
}

/// Whether a key is that of a counter of pending orders.
pub(crate) fn counts_pending_orders(key: &[u8]) -> bool {
    key.starts_with(&[class::COUNTER, 1])
}

pub(crate) fn counter(of: &Counter) -> Key {
    match of {
        Counter::PendingOrders(account) => key(class::COUNTER, &[&[1], &account.octets()]),
        Counter::UnprovenAccounts => key(class::COUNTER, &[&[2]]),
        Counter::ApiTokens => key(class::COUNTER, &[&[4]]),
        Counter::EabAccounts(key_id) => key(class::COUNTER, &[&[3], key_id.as_str().as_bytes()]),
        Counter::EabKeys => key(class::COUNTER, &[&[5]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_a_name_begins_like_the_name_and_nothing_else_does() {
        let below = |suffix: &str| certificates_below(&suffix.parse().expect("a name"));
        let named = |text: &str| certificates_named(&text.parse().expect("a name"));
        for inside in ["example.com", "a.example.com", "b.a.example.com", "*.example.com"] {
            assert!(named(inside).starts_with(&below("example.com")), "{inside}");
        }
        for outside in ["notexample.com", "com.example", "example.com.org", "a.example.org"] {
            assert!(!named(outside).starts_with(&below("example.com")), "{outside}");
        }
    }

    #[test]
    fn a_job_reads_back_from_its_place_in_time() {
        let due = Timestamp::from_unix_millis(1_795_600_000_123);
        for kind in [
            JobKind::Settle { certificate: CertificateId::from_random([9; 16]) },
            JobKind::Validate { authorization: AuthorizationId::from_octets([8; 16]) },
            JobKind::PruneCertificates,
            JobKind::Checkpoint,
            JobKind::RenewOwnTls,
            JobKind::CancelOrders { account: AccountId::from_random([7; 16]) },
            JobKind::PruneApiToken { token: ApiTokenId::from_octets([6; 16]) },
            JobKind::PruneEabKey { key: "payments-2026".parse().expect("an id") },
            JobKind::StopAccounts { key: "p".parse().expect("an id") },
        ] {
            assert_eq!(due_job(&job_due(due, &kind)), Some((due, kind)));
        }
    }
}
