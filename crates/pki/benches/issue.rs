//! What one certificate costs here: build the TBS, lint it, ask the issuer, sign, verify what came
//! back. `cargo bench -p chancery-pki`.
#![expect(clippy::print_stdout, reason = "a bench shows what it measured")]
#![expect(clippy::disallowed_methods, reason = "a bench takes the time")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use chancery_pki::{
    KeyKind, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp,
    ceremony::{development_intermediate, development_root},
    certificate::{to_pem, verify_issued},
    chain::install,
    content::AS_PROFILE,
    lint::lint,
    profile::{CrlLocation, Profile, ProfileSpec},
    tbs::{LeafRequest, Tbs},
};

/// How long each is repeated.
const ROUND: Duration = Duration::from_millis(300);
/// Rounds, of which the fastest counts: the others were disturbed.
const ROUNDS: usize = 5;

fn measure(what: &str, mut once: impl FnMut()) {
    let mut fastest = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (start, mut count) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND {
            for _ in 0..16 {
                once();
            }
            count += 16;
        }
        fastest = fastest.min(start.elapsed().as_secs_f64() / f64::from(count));
    }
    println!("{what:<44} {:>8.1} µs", fastest * 1e6);
}

fn key() -> (EcdsaKeyPair, PublicKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let (x, y) = pair.public_key().as_ref().get(1..).expect("an uncompressed point").split_at(32);
    let public = PublicKey::from_ec(KeyKind::P256, x, y).expect("a good key");
    (pair, public)
}

fn main() {
    let now = Timestamp::from_unix_seconds(1_795_600_000);
    let year = Duration::from_secs(365 * 86_400);
    let random = SystemRandom::new();
    let ((root, root_key), (pair, issuing_key), (_, leaf_key)) = (key(), key(), key());
    let name = |text: &str| text.parse().expect("a name");
    let (above, below) = (name("O=Example, CN=Root"), name("O=Example, OU=PKI, CN=Issuing CA 1"));
    let serial = SerialNumber::from_random([0xa5; 16]);
    let signed = |document: chancery_pki::ceremony::ToSign| {
        document.assemble(root.sign(&random, document.body()).expect("signed").as_ref())
    };
    let root_der = signed(development_root(&above, &root_key, serial, now, 10 * year));
    let document = development_intermediate(&below, &issuing_key, (&above, &root_key), serial, now, 5 * year);
    let given = [signed(document), root_der];
    let chain = install(&given, &issuing_key, now).expect("a chain");
    let issuer = chain.issuing();

    let mut spec = ProfileSpec::server();
    spec.ca_issuers = vec!["http://pki.example.com/issuing-1.cer".to_owned()];
    spec.ocsp = vec!["http://ocsp.example.com".to_owned()];
    spec.crl = Some(CrlLocation { url: "http://pki.example.com/issuing-1/{shard}.crl".to_owned(), shards: 64 });
    let profile = Profile::new(spec).expect("sound");
    let names = ["www.example.com", "example.com"].map(|name| name.parse().expect("a name"));
    let names = NameSet::new(names).expect("two names");
    let granted = profile.validity(now, (None, None), chain.not_after()).expect("granted");
    let request = LeafRequest {
        names: &names,
        profile: &profile,
        content: &AS_PROFILE,
        key: &leaf_key,
        validity: granted.validity(),
        serial,
        must_staple: false,
        crl_shard: profile.crl_shard(serial),
    };
    let build = || Tbs::build(&request, issuer, SignatureAlgorithm::EcdsaSha256).expect("built");
    let tbs = build();
    let sign = || pair.sign(&random, tbs.der()).expect("signed");
    let der = tbs.assemble(sign().as_ref()).expect("assembled");
    assert_eq!(lint(&tbs, &request, issuer), []);

    measure("the chain permits it", || assert!(black_box(chain.permits(&names, &profile, &AS_PROFILE, now)).is_ok()));
    measure("TBS built", || drop(black_box(build())));
    measure("linted", || drop(black_box(lint(&tbs, &request, issuer))));
    measure("signed (P-256)", || {
        black_box(sign());
    });
    measure("verified, read again and compared (P-256)", || {
        black_box(verify_issued(&der, &tbs, &request, issuer)).expect("the same");
    });
    let chain: Vec<&[u8]> = vec![&der, issuer.der()];
    measure("PEM of two certificates", || drop(black_box(to_pem(chain.iter().copied()))));
    measure("a chain of two installed", || drop(black_box(install(&given, &issuing_key, now))));
}
