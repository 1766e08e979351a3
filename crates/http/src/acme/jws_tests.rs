//! What the front refuses, and that only what a key signed is verified.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::acme::{
    testing::{ClientKey, b64},
    verify::Verifiers,
};

const URL: &str = "https://ca.example/acme/default/new-order";
const KID: &str = "https://ca.example/acme/default/account/AAAAAAAAAAAAAAAAAAAAAA";

fn good(key: &ClientKey) -> Vec<u8> {
    key.jws(URL, "AAAA", Some(KID), b"{}")
}

fn with_header(key: &ClientKey, header: &Value) -> Vec<u8> {
    key.jws_raw(header.to_string().as_bytes(), b"{}")
}

fn header() -> Value {
    json!({"alg": "ES256", "nonce": "AAAA", "url": URL, "kid": KID})
}

fn envelope(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

async fn verify(body: &[u8], key: &ClientKey) -> Result<Jws, JwsRejection> {
    Verifiers::new().verify(Jws::parse(body)?, &key.public()).await
}

#[tokio::test(start_paused = true)]
async fn strangers_wait_for_their_turn_but_not_for_ever_and_accounts_do_not_wait_for_them() {
    let verifiers = Verifiers::new();
    let mut turns = Vec::new();
    while let Some(turn) = verifiers.turn().await {
        turns.push(turn);
        let cores = std::thread::available_parallelism().expect("known");
        assert!(turns.len() <= cores.get().div_ceil(2), "they leave half of the cores: {}", turns.len());
    }
    let account = ClientKey::p384();
    let jws = Jws::parse(&good(&account)).expect("well formed");
    verifiers.verify(jws, &account.public()).await.expect("genuine");
    drop(turns.pop());
    assert!(verifiers.turn().await.is_some(), "a turn is free again");
}

#[tokio::test]
async fn what_a_key_of_each_kind_signed_is_verified_and_any_changed_bit_is_not() {
    for key in [ClientKey::p256(), ClientKey::p384(), ClientKey::p521(), ClientKey::rsa2048(), ClientKey::ed25519()] {
        let verifiers = Verifiers::new();
        let body = key.jws(URL, "AAAA", None, b"{\"a\":1}");
        for round in ["new verifier", "ready verifier"] {
            let jws = Jws::parse(&body).expect("well formed");
            assert_eq!((&*jws.url, jws.nonce.as_deref(), &*jws.payload), (URL, Some("AAAA"), &b"{\"a\":1}"[..]));
            let SignedBy::Jwk(jwk) = jws.by.clone() else { panic!("a jwk") };
            let turn = verifiers.turn().await.expect("nobody else waits");
            let (_, found) = verifiers.verify_with_own_key(jws, jwk, turn).await.expect(round);
            assert_eq!(found, key.public());
        }
        for at in [0, 9, 31] {
            let mut jws = Jws::parse(&body).expect("well formed");
            jws.signature[at] ^= 1;
            assert!(matches!(verifiers.verify(jws, &key.public()).await, Err(JwsRejection::BadSignature)));
        }
        let mut jws = Jws::parse(&body).expect("well formed");
        jws.signing_input[3] ^= 1;
        assert!(matches!(verifiers.verify(jws, &key.public()).await, Err(JwsRejection::BadSignature)));
        for length in [0, 1, 63, 65, 512] {
            let mut jws = Jws::parse(&body).expect("well formed");
            jws.signature = vec![0; length];
            assert!(matches!(verifiers.verify(jws, &key.public()).await, Err(JwsRejection::BadSignature)), "{length}");
        }
    }
}

#[tokio::test]
async fn a_signature_of_zeros_or_of_another_key_is_refused() {
    let (key, other) = (ClientKey::p256(), ClientKey::p256());
    assert!(matches!(verify(&good(&other), &key).await, Err(JwsRejection::BadSignature)));
    for (r, s) in [(0, 0), (0, 1), (1, 0)] {
        let mut jws = Jws::parse(&good(&key)).expect("well formed");
        jws.signature = [[r; 32], [s; 32]].concat();
        assert!(matches!(Verifiers::new().verify(jws, &key.public()).await, Err(JwsRejection::BadSignature)));
    }
}

#[tokio::test]
async fn ready_verifiers_are_bounded_and_the_ones_in_use_stay() {
    let verifiers = Verifiers::new();
    let keys: Vec<ClientKey> = (0..40).map(|_| ClientKey::p256()).collect();
    for key in &keys {
        let jws = Jws::parse(&good(key)).expect("well formed");
        verifiers.verify(jws, &key.public()).await.expect("genuine");
    }
    assert_eq!(verifiers.kept(), 40);
    verifiers.fill_up(&keys[0].public(), 5000);
    assert!(verifiers.kept() <= 2048, "{}", verifiers.kept());
    let jws = Jws::parse(&good(&keys[1])).expect("well formed");
    verifiers.verify(jws, &keys[1].public()).await.expect("made anew");
}

#[test]
fn trap_1_a_crit_of_any_shape_is_refused() {
    let key = ClientKey::p256();
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null), json!("x")] {
        let mut header = header();
        header["crit"] = crit;
        let rejection = Jws::parse(&with_header(&key, &header)).expect_err("crit");
        assert!(matches!(rejection, JwsRejection::Critical { parameter: "crit" }));
    }
    let mut unencoded = header();
    unencoded["b64"] = json!(false);
    let rejection = Jws::parse(&with_header(&key, &unencoded)).expect_err("b64");
    assert!(matches!(rejection, JwsRejection::Critical { parameter: "b64" }));
}

#[test]
fn trap_2_an_unprotected_header_signatures_both_forms_and_duplicates_are_refused() {
    let key = ClientKey::p256();
    let body = good(&key);
    let mut extra = envelope(&body);
    for (member, value) in
        [("header", json!({"alg": "ES256"})), ("signatures", json!([])), ("header", json!(null)), ("x", json!(1))]
    {
        extra[member] = value;
        assert!(matches!(Jws::parse(extra.to_string().as_bytes()), Err(JwsRejection::Envelope(_))), "{member}");
        extra.as_object_mut().expect("an object").remove(member);
    }
    let general = json!({"payload": extra["payload"], "signatures": [{"protected": extra["protected"], "signature": extra["signature"]}]});
    assert!(matches!(Jws::parse(general.to_string().as_bytes()), Err(JwsRejection::Envelope(_))));
    let compact = format!("{}.{}.{}", extra["protected"], extra["payload"], extra["signature"]).replace('"', "");
    assert!(matches!(Jws::parse(compact.as_bytes()), Err(JwsRejection::Envelope(_))));
    assert!(matches!(Jws::parse(format!("\"{compact}\"").as_bytes()), Err(JwsRejection::Envelope(_))));

    let text = String::from_utf8(body).expect("text");
    let twice = text.replacen('{', r#"{"payload":"e30","#, 1);
    assert!(matches!(Jws::parse(twice.as_bytes()), Err(JwsRejection::Envelope(_))));
    let header = header().to_string();
    for planted in [r#"{"alg":"none","#, r#"{"\u0061lg":"ES256","#, r#"{"x":{"y":1,"y":2},"#] {
        let header = header.replacen('{', planted, 1);
        let rejection = Jws::parse(&key.jws_raw(header.as_bytes(), b"{}")).expect_err("a duplicate");
        assert!(matches!(rejection, JwsRejection::Header(_)), "{planted}");
    }
    let list = format!("[{},{},{}]", extra["protected"], extra["payload"], extra["signature"]);
    assert!(matches!(Jws::parse(list.as_bytes()), Err(JwsRejection::Envelope(_))), "an array is no envelope");
}

#[test]
fn trap_2_alg_outside_the_protected_header_is_no_alg() {
    let key = ClientKey::p256();
    let mut header = header();
    header.as_object_mut().expect("an object").remove("alg");
    assert!(matches!(Jws::parse(&with_header(&key, &header)), Err(JwsRejection::Header(_))));
    let mut body = envelope(&with_header(&key, &header));
    body["header"] = json!({"alg": "ES256"});
    assert!(matches!(Jws::parse(body.to_string().as_bytes()), Err(JwsRejection::Envelope(_))));
}

#[test]
fn exactly_one_of_jwk_and_kid_is_named() {
    let key = ClientKey::p256();
    let mut both = header();
    both["jwk"] = key.jwk();
    assert!(matches!(Jws::parse(&with_header(&key, &both)), Err(JwsRejection::NotOneKey)));
    both["jwk"] = json!(null);
    assert!(matches!(Jws::parse(&with_header(&key, &both)), Err(JwsRejection::NotOneKey)), "null is something too");
    let neither = json!({"alg": "ES256", "nonce": "AAAA", "url": URL});
    assert!(matches!(Jws::parse(&with_header(&key, &neither)), Err(JwsRejection::NotOneKey)));
}

#[test]
fn alg_none_and_macs_and_unknown_ones_are_unsupported_whatever_key_comes_with_them() {
    let key = ClientKey::p256();
    for alg in ["none", "None", "HS256", "HS512", "RS1", "PS256", "ES256K", "", "es256"] {
        let mut header = header();
        header["alg"] = json!(alg);
        let rejection = Jws::parse(&with_header(&key, &header)).expect_err(alg);
        assert!(matches!(rejection, JwsRejection::UnsupportedAlgorithm), "{alg}: {rejection}");
    }
    let secret = json!({"alg": "HS256", "nonce": "AAAA", "url": URL, "jwk": {"kty": "oct", "k": "AAAA"}});
    assert!(matches!(Jws::parse(&with_header(&key, &secret)), Err(JwsRejection::UnsupportedAlgorithm)));
}

#[tokio::test]
async fn an_algorithm_for_another_kind_of_key_is_refused() {
    let (p256, rsa) = (ClientKey::p256(), ClientKey::rsa2048());
    assert!(matches!(verify(&good(&p256), &rsa).await, Err(JwsRejection::AlgorithmDoesNotFit { .. })));
    assert!(matches!(verify(&good(&rsa), &p256).await, Err(JwsRejection::AlgorithmDoesNotFit { .. })));
    assert!(matches!(verify(&good(&p256), &ClientKey::p384()).await, Err(JwsRejection::AlgorithmDoesNotFit { .. })));
}

#[test]
fn base64url_with_padding_white_space_or_bits_left_over_is_malformed_everywhere() {
    let body = envelope(&good(&ClientKey::p256()));
    for member in ["protected", "payload", "signature"] {
        for spoil in ["=", "==", " ", "\n", "+", "/", ".", "é"] {
            let mut spoiled = body.clone();
            spoiled[member] = json!(format!("{}{spoil}", body[member].as_str().expect("a string")));
            assert!(Jws::parse(spoiled.to_string().as_bytes()).is_err(), "{member} with {spoil:?}");
        }
        let mut spoiled = body.clone();
        spoiled[member] = json!("AB"); // 4 bits left over, not zero
        assert!(matches!(Jws::parse(spoiled.to_string().as_bytes()), Err(JwsRejection::NotBase64Url(_))), "{member}");
    }
}

#[test]
fn a_detached_payload_and_a_missing_member_are_malformed() {
    let body = envelope(&good(&ClientKey::p256()));
    for member in ["protected", "payload", "signature"] {
        let mut without = body.clone();
        without.as_object_mut().expect("an object").remove(member);
        assert!(matches!(Jws::parse(without.to_string().as_bytes()), Err(JwsRejection::Envelope(_))), "{member}");
        without[member] = json!(null);
        assert!(matches!(Jws::parse(without.to_string().as_bytes()), Err(JwsRejection::Envelope(_))), "{member}");
    }
}

#[test]
fn an_empty_payload_is_post_as_get_and_stays_empty() {
    let jws = Jws::parse(&ClientKey::p256().jws(URL, "AAAA", Some(KID), b"")).expect("well formed");
    assert_eq!(jws.payload, b"");
}

#[test]
fn members_and_header_parameters_are_bounded() {
    let key = ClientKey::p256();
    for (parameter, max) in [("nonce", 128), ("url", 2048), ("kid", 2048)] {
        let mut header = header();
        header[parameter] = json!("A".repeat(max));
        Jws::parse(&with_header(&key, &header)).expect("long enough for anyone");
        header[parameter] = json!("A".repeat(max + 1));
        let rejection = Jws::parse(&with_header(&key, &header)).expect_err(parameter);
        assert!(matches!(rejection, JwsRejection::TooLong { .. }), "{parameter}: {rejection}");
    }
    let mut wide = header();
    wide["typ"] = json!("A".repeat(9000));
    assert!(matches!(Jws::parse(&with_header(&key, &wide)), Err(JwsRejection::TooLong { member: "protected", .. })));
    let mut deep = header();
    deep["x"] = (0..20).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(Jws::parse(&with_header(&key, &deep)), Err(JwsRejection::Header(_))));
}

#[test]
fn unknown_header_parameters_that_are_not_critical_are_ignored_and_escaped_slashes_are_slashes() {
    let key = ClientKey::p256();
    let mut more = header();
    more["typ"] = json!("JOSE+JSON");
    Jws::parse(&with_header(&key, &more)).expect("ignored (RFC 7515 §4)");
    let escaped = header().to_string().replace('/', "\\/");
    assert_eq!(Jws::parse(&key.jws_raw(escaped.as_bytes(), b"{}")).expect("well formed").url, URL);
}

#[expect(clippy::needless_pass_by_value, reason = "tests build each JWK where they hand it over")]
fn key_of(jwk: Value) -> Result<PublicKey, JwsRejection> {
    Jwk(jwk.to_string().into()).public_key()
}

#[test]
fn a_jwk_is_read_to_the_key_it_is() {
    for key in [ClientKey::p256(), ClientKey::p384(), ClientKey::p521(), ClientKey::rsa2048(), ClientKey::ed25519()] {
        assert_eq!(key_of(key.jwk()).expect("a key"), key.public());
        let mut more = key.jwk();
        more["kid"] = json!("mine");
        more["use"] = json!("sig");
        assert_eq!(key_of(more).expect("what is not the key's is ignored"), key.public());
    }
}

#[test]
fn trap_2_a_jwk_with_private_members_is_refused_even_if_they_are_null() {
    for key in [ClientKey::p256(), ClientKey::rsa2048(), ClientKey::ed25519()] {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            for value in [json!("AAAA"), json!(null), json!([])] {
                let mut jwk = key.jwk();
                jwk[member] = value;
                assert!(matches!(key_of(jwk), Err(JwsRejection::PrivateJwk)), "{member}");
            }
        }
    }
}

fn octets(jwk: &Value, member: &str) -> Vec<u8> {
    wire::base64url("test", jwk[member].as_str().expect("a string")).expect("base64url")
}

#[test]
fn trap_3_one_key_has_one_jwk_shifted_boundaries_and_leading_zeros_are_refused() {
    let ec = ClientKey::p256().jwk();
    let point = [octets(&ec, "x"), octets(&ec, "y")].concat();
    for boundary in [0, 1, 31, 33, 64] {
        let mut shifted = ec.clone();
        shifted["x"] = json!(b64(&point[..boundary]));
        shifted["y"] = json!(b64(&point[boundary..]));
        assert!(matches!(key_of(shifted), Err(JwsRejection::BadKey(_))), "{boundary}");
    }
    for member in ["x", "y"] {
        let mut padded = ec.clone();
        padded[member] = json!(b64([&[0][..], &octets(&ec, member)].concat()));
        assert!(matches!(key_of(padded), Err(JwsRejection::BadKey(_))), "{member}");
    }
    let rsa = ClientKey::rsa2048().jwk();
    for member in ["n", "e"] {
        let mut padded = rsa.clone();
        padded[member] = json!(b64([&[0][..], &octets(&rsa, member)].concat()));
        assert!(matches!(key_of(padded), Err(JwsRejection::BadKey(_))), "{member}");
    }
}

#[test]
fn trap_4_weak_rsa_keys_and_points_off_the_curve_are_refused_before_any_verification() {
    let rsa = ClientKey::rsa2048().jwk();
    let n = octets(&rsa, "n");
    let with = |n: &[u8], e: &[u8]| key_of(json!({"kty": "RSA", "n": b64(n), "e": b64(e)}));
    for e in [&[1][..], &[3], &[1, 0, 0], &[0xff; 256]] {
        assert!(matches!(with(&n, e), Err(JwsRejection::BadKey(_))), "{e:?}");
    }
    let even: Vec<u8> = n.iter().copied().take(255).chain([0]).collect();
    for modulus in [&even[..], &n[..128], &[0xff; 2048], &[], &n[..255]] {
        assert!(matches!(with(modulus, &[1, 0, 1]), Err(JwsRejection::BadKey(_))), "{} octets", modulus.len());
    }
    let mut off = ClientKey::p256().jwk();
    off["y"] = off["x"].clone();
    assert!(matches!(key_of(off), Err(JwsRejection::BadKey(_))));
    let zero = json!({"kty": "EC", "crv": "P-256", "x": b64([0; 32]), "y": b64([0; 32])});
    assert!(matches!(key_of(zero), Err(JwsRejection::BadKey(_))));
    for small in [b64([0; 32]), b64([&[1][..], &[0; 31]].concat())] {
        assert!(matches!(key_of(json!({"kty": "OKP", "crv": "Ed25519", "x": small})), Err(JwsRejection::BadKey(_))));
    }
}

#[test]
fn a_jwk_of_another_type_or_curve_or_with_something_missing_is_refused() {
    for (jwk, unsupported) in [
        (json!({"kty": "oct"}), true),
        (json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}), true),
        (json!({"kty": "OKP", "crv": "X25519", "x": "AA"}), true),
        (json!({"kty": "AKP", "alg": "ML-DSA-44"}), true),
        (json!({}), false),
        (json!([]), false),
        (json!("EC"), false),
        (json!({"kty": 1}), false),
        (json!({"kty": "EC", "crv": "P-256", "x": "AA"}), false),
        (json!({"kty": "EC", "crv": "P-256", "x": ["AA"], "y": "AA"}), false),
        (json!({"kty": "RSA", "n": "AA"}), false),
    ] {
        let rejection = key_of(jwk.clone()).expect_err("refused");
        assert_eq!(matches!(rejection, JwsRejection::UnsupportedKey(_)), unsupported, "{jwk}: {rejection}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_parsed_and_never_a_panic(bytes: Vec<u8>) {
        let _ = Jws::parse(&bytes);
    }

    #[test]
    fn any_header_bytes_and_payload_are_refused_or_parsed(header: Vec<u8>, payload: Vec<u8>) {
        let body = json!({"protected": b64(header), "payload": b64(payload), "signature": "AAAA"});
        let _ = Jws::parse(body.to_string().as_bytes());
    }

    /// A good request with bytes overwritten, cut out or put in is refused, or says exactly what was signed.
    #[test]
    fn a_mutated_request_is_refused_or_says_what_was_signed(edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 1..4)) {
        let key = ClientKey::p256();
        let original = key.jws(URL, "AAAA", None, br#"{"identifiers":[{"type":"dns","value":"a.example"}]}"#);
        let mut body = original.clone();
        for (index, kind, byte) in edits {
            let at = index.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => { body.remove(at); }
                _ => body.insert(at, byte),
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        if let Ok(jws) = Jws::parse(&body) {
            let genuine = Jws::parse(&original).expect("well formed");
            if let Ok(verified) = runtime.block_on(Verifiers::new().verify(jws, &key.public())) {
                prop_assert_eq!(verified.payload, genuine.payload);
                prop_assert_eq!(verified.url, genuine.url);
                prop_assert_eq!(verified.by, genuine.by);
            }
        }
    }
}
