//! What a host that is validated answers: HTTP, a certificate, DNS.

use std::{cell::LazyCell, collections::BTreeMap, net::IpAddr, time::Duration};

use chancery_egress::{DialSettings, Dialer, Host, ZoneTable, fuzzing::answers};
use chancery_pki::Name;
use chancery_validation::fuzzing::{Read, http_01, tls_alpn_01};
use der::{Decode as _, asn1::OctetString};
use hickory_proto::{
    op::Message,
    rr::{Name as Owner, RData},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncWriteExt as _, duplex},
    runtime::{Builder, Runtime},
};
use url::Url;
use x509_cert::{
    Certificate,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::PLAIN;
use crate::{Form, Target, Verdict};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "http-01", read: response, form: Form::Lines, words: HTTP_WORDS, mutations: 15_000, ..PLAIN },
    Target { name: "tls-alpn-01", read: shown, form: Form::Der, words: CERTIFICATE_WORDS, mutations: 30_000, ..PLAIN },
    Target {
        name: "dns",
        read: message,
        form: Form::Octets,
        words: DNS_WORDS,
        mutations: 40_000,
        longest: 65_535,
        ..PLAIN
    },
];

/// What no problem document may repeat: it would let whoever asks read what only this server can reach.
const CANARY: &str = "CANARY";

const HTTP_WORDS: &[&[u8]] = &[
    CANARY.as_bytes(),
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 302 Found",
    b"HTTP/1.1 100 Continue",
    b"HTTP/2.0 200",
    b"Location: ",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: close",
    b"Content-Length: 18446744073709551616",
    b"Content-Length: -1",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"http://",
    b"https://",
    b"//",
    b"/..",
    b"file:///",
    b"gopher://",
    b"127.0.0.1",
    b"[::1]",
    b"[::ffff:127.0.0.1]",
    b"0x7f.1",
    b"2130706433",
    b"169.254.169.254",
    b"user:pass@",
    b":80",
    b":443",
    b":22",
    b":0",
    b"#fragment",
    b"?query",
    b"\\\\",
    b"%0d%0a",
    b"\x00",
    b"\xff",
    b"xn--",
    b"a.test",
];
const CERTIFICATE_WORDS: &[&[u8]] = &[
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f",
    b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1e\x01",
    b"\x06\x03\x55\x1d\x11",
    b"\x01\x01\xff",
    b"\x01\x01\x00",
    b"\x01\x01\x01",
    b"\x82\x06a.test",
    b"\x82\x06A.TEST",
    b"\x82\x07a.test.",
    b"\x82\x07a.test\x00",
    b"\x82\x08*.a.test",
    b"\x86\x06a.test",
    b"\x04\x20",
    b"\x30\x80",
    b"\x00\x00",
];
const DNS_WORDS: &[&[u8]] = &[
    b"\x0f_acme-challenge\x01a\x04test\x00",
    b"\x01b\x04test\x00",
    b"\xc0\x0c",
    b"\xc0\x00",
    b"\xc0\xff",
    b"\xff\xff",
    b"\x00\x01\x00\x01",
    b"\x00\x05\x00\x01",
    b"\x00\x10\x00\x01",
    b"\x00\x1c\x00\x01",
    b"\x00\x29",
    b"\x00\x00\x00\x00",
    b"\x3f",
    b"\x40",
    b"\x80",
    b"\xff",
    b"\x00\x04\x7f\x00\x00\x01",
    b"\x81\x80",
    b"\x83\x80",
];

/// The name whose challenge it is.
const NAME: &str = "a.test";
const KEY_AUTHORIZATION: &str = "token.thumbprint";

/// A runtime on this thread, and a dialer that dials nothing here.
struct Network {
    runtime: Runtime,
    dialer: Dialer,
    origin: Host,
    url: Url,
}

thread_local! {
    static NETWORK: LazyCell<Network> = const { LazyCell::new(Network::new) };
}

impl Network {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let entered = runtime.enter();
        let dialer = Dialer::new(ZoneTable::new([]).expect("no zones"), DialSettings::default());
        drop(entered);
        let url = format!("http://{NAME}/.well-known/acme-challenge/token").parse().expect("a URL");
        Self { runtime, dialer, origin: NAME.parse().expect("a host"), url }
    }
}

/// A web server's answer, and then its end.
fn response(octets: &[u8]) -> Verdict {
    let read = NETWORK.with(|network| {
        network.runtime.block_on(async {
            let (ours, mut theirs) = duplex(octets.len() + 4096);
            let served = async {
                // A reader that has seen enough may be gone before the end.
                let _ = theirs.write_all(octets).await;
                let _ = theirs.shutdown().await;
            };
            let read = http_01(&network.dialer, &network.origin, &network.url, ours);
            let read = tokio::time::timeout(Duration::from_secs(10), read);
            tokio::join!(read, served).0.expect("an answer that has ended is read to its end")
        })
    });
    match read {
        Ok(Read::Body(body)) => {
            assert!(body.len() <= 512, "{} octets of body were taken", body.len());
            Verdict::Taken
        }
        Ok(Read::Redirect { url, https, host, port }) => {
            // RFC 8555 §8.3 and trap 14: only these schemes and ports, nobody's name and password.
            assert_eq!(url.scheme(), if https { "https" } else { "http" });
            assert_eq!(url.port_or_known_default(), Some(port));
            assert_eq!(port, if https { 443 } else { 80 });
            assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
            assert_eq!(host.to_string().parse(), Ok(host.clone()), "another host when it is shown");
            // Whatever URLs can spell, the guard is asked about the address that is dialled.
            if let Some(url::Host::Ipv6(address)) = url.host() {
                assert_eq!(host, Host::Ip(IpAddr::V6(address).to_canonical()));
            }
            Verdict::Taken
        }
        Err(detail) => {
            assert!(!detail.contains(CANARY), "the remote's bytes are in {detail:?}");
            Verdict::Refused(detail)
        }
    }
}

/// The certificate that a handshake showed.
fn shown(der: &[u8]) -> Verdict {
    let name: Name = NAME.parse().expect("a name");
    match tls_alpn_01(der, &name, KEY_AUTHORIZATION) {
        Ok(()) => {
            // RFC 8737 §3, by a stricter parser, where it can read the certificate at all.
            if let Ok(strict) = Certificate::from_der(der) {
                is_as_rfc_8737_has_it(&strict);
            }
            Verdict::Taken
        }
        Err(flaw) => Verdict::refused(flaw),
    }
}

fn is_as_rfc_8737_has_it(certificate: &Certificate) {
    let extensions = certificate.tbs_certificate().extensions().expect("extensions");
    let with = |oid: &str| extensions.iter().filter(|found| found.extn_id.to_string() == oid).collect::<Vec<_>>();
    let [alternative_name] = *with("2.5.29.17") else { panic!("one subjectAltName") };
    let names = SubjectAltName::from_der(alternative_name.extn_value.as_bytes()).expect("x509-cert reads the names");
    let [GeneralName::DnsName(name)] = &*names.0 else { panic!("one DNS name, not {names:?}") };
    assert!(name.as_str().eq_ignore_ascii_case(NAME), "{name:?}");
    let [identifier] = *with("1.3.6.1.5.5.7.1.31") else { panic!("one acmeIdentifier") };
    assert!(identifier.critical);
    let digest = OctetString::from_der(identifier.extn_value.as_bytes()).expect("an OCTET STRING");
    assert_eq!(digest.as_bytes(), Sha256::digest(KEY_AUTHORIZATION).as_slice());
}

/// A DNS server's message.
fn message(octets: &[u8]) -> Verdict {
    const ASKED: &str = "_acme-challenge.a.test.";
    let read = match answers(octets, ASKED) {
        Ok(read) => read,
        Err(why) => return Verdict::Refused(why),
    };
    let message = Message::from_vec(octets).expect("read before");
    let owner = end_of_cnames(&message, ASKED);
    let records = message.answers.iter().filter(|record| Some(&record.name) == owner.as_ref());
    let (mut v6, mut v4, mut txt) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        match &record.data {
            RData::AAAA(address) => v6.push(IpAddr::V6(address.0)),
            RData::A(address) => v4.push(IpAddr::V4(address.0)),
            RData::TXT(found) => txt.push(found.txt_data.concat()),
            _ => {}
        }
    }
    assert_eq!(read.v6.as_ref().ok(), Some(&v6).filter(|found| !found.is_empty()));
    assert_eq!(read.v4.as_ref().ok(), Some(&v4).filter(|found| !found.is_empty()));
    assert_eq!(read.txt.as_ref().ok(), Some(&txt).filter(|found| !found.is_empty()));
    match (read.v6, read.v4, read.txt) {
        (Err(v6), Err(v4), Err(txt)) => Verdict::Refused(format!("{v6:?} {v4:?} {txt:?}")),
        _ => Verdict::Taken,
    }
}

/// Where the CNAMEs end: the first of each name counts, 16 at most, and no circle.
fn end_of_cnames(message: &Message, from: &str) -> Option<Owner> {
    let mut targets = BTreeMap::new();
    for record in &message.answers {
        if let RData::CNAME(target) = &record.data {
            targets.entry(record.name.to_lowercase()).or_insert_with(|| target.0.clone());
        }
    }
    let mut name = Owner::from_ascii(from).expect("a name");
    for _ in 0..=16 {
        match targets.get(&name.to_lowercase()) {
            Some(target) => name = target.clone(),
            None => return Some(name),
        }
    }
    None
}
