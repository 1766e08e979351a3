//! The envelope of signed requests, its protected header, the key in it.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::{
    eab::{BINDING_MAX, Binding},
    jwk,
};
use chancery_http::fuzzing::{self, Read};
use chancery_pki::key::KeyParts;

use super::{PLAIN, pki};
use crate::{Form, Target, Verdict, tree::Tree};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "jws", read: envelope, form: Form::Json, words: WORDS, mutations: 40_000, ..PLAIN },
    Target {
        name: "protected-header",
        read: protected_header,
        form: Form::Json,
        words: WORDS,
        mutations: 40_000,
        ..PLAIN
    },
    Target { name: "jwk", read: jwk, form: Form::Json, words: KEY_WORDS, ..PLAIN },
    Target { name: "eab", read: binding, form: Form::Json, words: WORDS, mutations: 40_000, ..PLAIN },
    Target { name: "eab-header", read: binding_header, form: Form::Json, words: WORDS, mutations: 40_000, ..PLAIN },
];

/// Where the request around a binding stands.
const NEW_ACCOUNT: &str = "https://ca.example/acme/default/new-account";
/// The key that signs it: that of RFC 7517 §A.1.
const ACCOUNT_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

const WORDS: &[&[u8]] = &[
    b"protected",
    b"payload",
    b"signature",
    b"signatures",
    b"header",
    b"alg",
    b"nonce",
    b"url",
    b"jwk",
    b"kid",
    b"crit",
    b"b64",
    b"x5c",
    b"x5u",
    b"jku",
    b"zip",
    b"typ",
    b"ES256",
    b"ES384",
    b"RS256",
    b"EdDSA",
    b"none",
    b"HS256",
    b"PS256",
    b"e30",
    b"AA==",
    b"AAB",
    b"-_8",
    b"+/8",
    b"{}",
    b"\\u0061",
];
const KEY_WORDS: &[&[u8]] = &[
    b"kty",
    b"crv",
    b"x",
    b"y",
    b"n",
    b"e",
    b"d",
    b"p",
    b"q",
    b"dp",
    b"dq",
    b"qi",
    b"oth",
    b"k",
    b"priv",
    b"kid",
    b"use",
    b"key_ops",
    b"alg",
    b"RSA",
    b"EC",
    b"OKP",
    b"oct",
    b"P-256",
    b"P-384",
    b"P-521",
    b"secp256k1",
    b"Ed25519",
    b"X25519",
    b"AQAB",
    b"AAEAAQ",
    b"AQ",
    b"AA",
];

/// The whole body of a request.
fn envelope(body: &[u8]) -> Verdict {
    match fuzzing::jws(body) {
        Ok(read) => seen_by_others(body, read),
        Err(why) => Verdict::Refused(why),
    }
}

/// The input is the protected header.
fn protected_header(header: &[u8]) -> Verdict {
    let protected = URL_SAFE_NO_PAD.encode(header);
    envelope(format!(r#"{{"protected":"{protected}","payload":"e30","signature":"AAAA"}}"#).as_bytes())
}

/// The input is the key in the protected header.
fn jwk(key: &[u8]) -> Verdict {
    let header = [br#"{"alg":"ES256","nonce":"AAAA","url":"https://ca.example/acme/x","jwk":"#, key, b"}"].concat();
    protected_header(&header)
}

/// The whole external account binding (RFC 8555 §7.3.4).
fn binding(text: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(text) else { return Verdict::refused("not Unicode") };
    let key = jwk::public_key(ACCOUNT_KEY).expect("the key of the RFC");
    let Binding { algorithm, key_id, signing_input, mac } = match Binding::parse(text, NEW_ACCOUNT, &key) {
        Ok(read) => read,
        Err(why) => return Verdict::refused(why),
    };
    assert!(text.len() <= BINDING_MAX);
    let whole = Tree::read(text.as_bytes()).expect("serde_json reads what we took");
    assert!(!whole.has_duplicates(), "a member of the binding appears twice");
    let names: BTreeSet<&str> = whole.members().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["payload", "protected", "signature"]));
    let [protected, payload, signature] =
        ["protected", "payload", "signature"].map(|name| whole.text(name).expect("a string"));
    assert_eq!(signing_input, format!("{protected}.{payload}").as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(&mac), signature, "the MAC has another spelling");
    assert_eq!(mac.len(), algorithm.mac_octets());

    let header = URL_SAFE_NO_PAD.decode(protected).expect("base64url");
    let header = Tree::read(&header).expect("serde_json reads the header that we took");
    assert!(!header.has_duplicates(), "a member of the header appears twice");
    assert_eq!(header.text("alg"), Some(algorithm.as_str()));
    assert_eq!((header.text("kid"), header.text("url")), (Some(&*key_id), Some(NEW_ACCOUNT)));
    for other in ["nonce", "jwk", "crit", "b64"] {
        assert!(header.member(other).is_none(), "{other} was taken");
    }
    let sent = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let sent = Tree::read(&sent).expect("serde_json reads the payload that we took");
    assert!(!sent.has_duplicates() && sent.member("d").is_none());
    let account = Tree::read(ACCOUNT_KEY.as_bytes()).expect("JSON");
    for member in ["kty", "crv", "x", "y"] {
        assert_eq!(sent.text(member), account.text(member), "{member} is another one's");
    }
    Verdict::Taken
}

/// The input is the protected header of a binding.
fn binding_header(header: &[u8]) -> Verdict {
    let (protected, payload) = (URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(ACCOUNT_KEY));
    let mac = URL_SAFE_NO_PAD.encode([7; 32]);
    binding(format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{mac}"}}"#).as_bytes())
}

/// What we took is one thing to every reader of JSON.
fn seen_by_others(body: &[u8], read: Read) -> Verdict {
    let Read { algorithm, nonce, url, kid, key, payload, signing_input, signature } = read;
    let whole = Tree::read(body).expect("serde_json reads what we took");
    assert!(!whole.has_duplicates(), "a member of the envelope appears twice");
    let names: BTreeSet<&str> = whole.members().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["payload", "protected", "signature"]));
    let [protected, payload_text, signature_text] =
        ["protected", "payload", "signature"].map(|name| whole.text(name).expect("a string"));
    assert_eq!(URL_SAFE_NO_PAD.encode(payload), payload_text, "the payload has another spelling");
    assert_eq!(URL_SAFE_NO_PAD.encode(signature), signature_text, "the signature has another spelling");
    assert_eq!(signing_input, format!("{protected}.{payload_text}").as_bytes());

    let header = URL_SAFE_NO_PAD.decode(protected).expect("base64url");
    let header = Tree::read(&header).expect("serde_json reads the header that we took");
    assert!(!header.has_duplicates(), "a member of the header appears twice");
    assert_eq!(header.text("alg"), Some(algorithm));
    assert_eq!(header.text("url"), Some(&*url));
    assert_eq!(header.text("nonce"), nonce.as_deref());
    assert_eq!(header.member("nonce").is_some(), nonce.is_some());
    assert_eq!(header.text("kid"), kid.as_deref());
    assert_eq!(header.member("jwk").is_some(), key.is_some());
    assert_ne!(header.member("jwk").is_some(), header.member("kid").is_some(), "one of jwk and kid");
    assert!(header.member("crit").is_none() && header.member("b64").is_none());

    let key = match key {
        None => return Verdict::Taken,
        Some(Err(why)) => return Verdict::Refused(why),
        Some(Ok(key)) => key,
    };
    let jwk = header.member("jwk").expect("seen above");
    let of = |member: &str| jwk.text(member).expect("a string");
    let (kty, numbers): (&str, Vec<(&str, &[u8])>) = match key.parts() {
        KeyParts::Rsa { n, e } => ("RSA", vec![("n", n), ("e", e)]),
        KeyParts::Ec { x, y } => ("EC", vec![("x", x), ("y", y)]),
        KeyParts::Ed25519 { x } => ("OKP", vec![("x", x)]),
    };
    assert_eq!(of("kty"), kty);
    if kty != "RSA" {
        assert_eq!(of("crv"), key.kind().as_str());
    }
    for (member, number) in numbers {
        // One key, one spelling: its thumbprint is that of the key as it was sent.
        assert_eq!(of(member), URL_SAFE_NO_PAD.encode(number), "{member} has another spelling");
    }
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        assert!(jwk.member(private).is_none(), "a private member was taken");
    }
    pki::key_is_what_others_see(&key);
    Verdict::Taken
}
