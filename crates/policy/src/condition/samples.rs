//! Requests that conditions are tried on before they are taken.

use std::sync::{Arc, LazyLock};

use chancery_pki::{KeyKind, Lifetime, Name, NameSet, Timestamp};

use crate::{
    evaluate::{Content, Request},
    reported::Reported,
    requester::{Claims, Door, Requester},
};

/// A request to try conditions on.
pub(super) struct Sample {
    requester: Requester,
    names: NameSet,
    profile: &'static str,
    key: KeyKind,
    days: u64,
    usages: Vec<String>,
    is_ca: bool,
    subject: &'static str,
    now: Timestamp,
}

impl Sample {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            requester: &self.requester,
            names: &self.names,
            profile: self.profile,
            key: Some(self.key),
            lifetime: Lifetime::from_seconds(self.days * 86_400).ok(),
            content: Content { usages: &self.usages, is_ca: self.is_ca, subject: self.subject, ..Content::default() },
            now: self.now,
        }
    }
}

pub(super) static SAMPLES: LazyLock<[Sample; 3]> = LazyLock::new(|| {
    let names = |texts: &[&str]| {
        let names = texts.iter().map(|text| text.parse::<Name>().expect("a sample name is a name"));
        NameSet::new(names).expect("a sample has a few names")
    };
    let workload = Claims {
        cluster: Some("sample-cluster".to_owned()),
        namespace: Some("sample-namespace".to_owned()),
        service_account: Some("sample-account".to_owned()),
        ..Claims::default()
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let said = Claims { user: Some("sample-user".to_owned()), ..Claims::default() };
    let reported = Reported {
        namespace: Some("sample-namespace".to_owned()),
        username: Some("system:serviceaccount:cert-manager:cert-manager".to_owned()),
        groups: vec!["system:authenticated".to_owned()],
        ..Reported::default()
    };
    let reported = Some(Arc::new(reported));
    [
        Sample {
            requester: Requester::acme("sample", "sample-account", Some("sample-key")),
            names: names(&["a.example.com"]),
            profile: "server",
            key: KeyKind::P256,
            days: 90,
            usages: words(&["digital signature", "server auth"]),
            is_ca: false,
            subject: "",
            now: Timestamp::from_unix_seconds(1_795_600_000),
        },
        Sample {
            requester: Requester { proven: workload, claimed: said, reported, ..Requester::at(Door::CertManager) },
            names: names(&["*.example.com", "10.0.0.1", "b.example.com", "spiffe://example/ns/a/sa/b"]),
            profile: "client",
            key: KeyKind::Rsa4096,
            days: 1,
            usages: words(&["digital signature", "key encipherment", "client auth", "server auth"]),
            is_ca: false,
            subject: "O=Sample, CN=a.example.com",
            now: Timestamp::from_unix_seconds(1_700_000_000),
        },
        Sample {
            requester: Requester::own_tls(),
            names: names(&["ca.example.com", "2001:db8::1"]),
            profile: "tls",
            key: KeyKind::Ed25519,
            days: 7,
            usages: words(&["cert sign", "crl sign"]),
            is_ca: true,
            subject: "CN=Sample CA",
            now: Timestamp::from_unix_seconds(0),
        },
    ]
});
