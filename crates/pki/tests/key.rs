//! Public keys against OpenSSL and against weak keys built by hand.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails fails its test")]
#![expect(clippy::disallowed_methods, reason = "OpenSSL's files, signing keys of the test, and a stopwatch")]

#[path = "support/der.rs"]
mod der;
#[path = "support/openssl.rs"]
mod openssl;

use std::time::Instant;

use chancery_pki::{
    KeyKind, KeyRejection, PublicKey, SignatureAlgorithm,
    key::{BlockList, KeyParts},
};
use der::wrap;
use num_bigint::BigUint;
use openssl::{GENPKEY, OpenSsl};

fn integer(number: &BigUint) -> Vec<u8> {
    let mut content = number.to_bytes_be();
    if content[0] & 0x80 != 0 {
        content.insert(0, 0);
    }
    wrap(0x02, &content)
}

const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const NULL: &[u8] = b"\x05\x00";

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let key = wrap(0x03, &[&[0], key].concat());
    wrap(0x30, &[wrap(0x30, algorithm), key].concat())
}

fn rsa_spki(n: &BigUint, e: &BigUint) -> Vec<u8> {
    spki(&[RSA_ENCRYPTION, NULL].concat(), &wrap(0x30, &[integer(n), integer(e)].concat()))
}

fn f4() -> BigUint {
    BigUint::from(65_537u32)
}

/// Octets that look random and are the same in every run.
fn octets(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32).to_le_bytes()[0]
        })
        .collect()
}

/// Miller and Rabin with a few bases, after trial division: enough for numbers nobody chose against it.
fn is_prime(number: &BigUint) -> bool {
    for small in (3u32..2000).step_by(2) {
        if number % small == BigUint::ZERO {
            return false;
        }
    }
    let one = BigUint::from(1u32);
    let minus_one = number - &one;
    let twos = minus_one.trailing_zeros().unwrap();
    let odd = &minus_one >> twos;
    [2u32, 3, 5].into_iter().all(|base| {
        let mut power = BigUint::from(base).modpow(&odd, number);
        if power == one || power == minus_one {
            return true;
        }
        for _ in 1..twos {
            power = &power * &power % number;
            if power == minus_one {
                return true;
            }
        }
        false
    })
}

fn next_prime(from: &BigUint) -> BigUint {
    let mut candidate = from | BigUint::from(1u32);
    while !is_prime(&candidate) {
        candidate += 2u32;
    }
    candidate
}

/// A prime with the two top bits set, so that products of two have the full size.
fn prime(seed: u64, bits: u64) -> BigUint {
    let mut start = BigUint::from_bytes_be(&octets(seed, usize::try_from(bits / 8).unwrap()));
    start.set_bit(bits - 1, true);
    start.set_bit(bits - 2, true);
    next_prime(&start)
}

#[test]
fn a_key_of_every_kind_that_openssl_makes_is_taken_and_comes_out_octet_for_octet() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let der = openssl.generate(name, options);
        let key = PublicKey::from_spki(&der).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(key.kind().to_string(), name);
        assert_eq!(name.to_lowercase().parse(), Ok(key.kind()));
        assert_eq!(key.spki(), der);
        let again = match key.parts() {
            KeyParts::Rsa { n, e } => PublicKey::from_rsa(n, e),
            KeyParts::Ec { x, y } => PublicKey::from_ec(key.kind(), x, y),
            KeyParts::Ed25519 { x } => PublicKey::from_ed25519(x),
        };
        assert_eq!(again, Ok(key));
    }
}

#[test]
fn the_digest_and_the_subject_public_key_are_those_that_openssl_computes() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let key = PublicKey::from_spki(&openssl.generate(name, options)).expect("accepted");
        openssl.write("spki.der", key.spki());
        let digest = openssl.run("dgst -sha256 -r spki.der");
        assert!(digest.starts_with(key.digest().to_string().as_bytes()));
        // asn1parse's last BIT STRING, without its octet of unused bits.
        let listing = String::from_utf8(openssl.run("asn1parse -inform DER -in spki.der")).expect("text");
        let last = listing.lines().rfind(|line| line.contains("BIT STRING")).expect("a bit string");
        let offset = last.split(':').next().unwrap().trim();
        openssl.run(&format!("asn1parse -inform DER -in spki.der -noout -strparse {offset} -out content"));
        assert_eq!(key.subject_public_key(), openssl.read("content"), "{name}");
    }
}

#[test]
fn signatures_that_openssl_makes_verify_and_altered_ones_do_not() {
    let openssl = OpenSsl::new();
    openssl.write("message", "what is signed");
    for (name, options) in GENPKEY {
        let key = PublicKey::from_spki(&openssl.generate(name, options)).expect("accepted");
        use SignatureAlgorithm as A;
        let digests: &[(&str, A)] = match key.kind() {
            KeyKind::Ed25519 => &[("", A::Ed25519)],
            kind if kind.is_rsa() => &[
                ("-digest sha256", A::RsaPkcs1Sha256),
                ("-digest sha384", A::RsaPkcs1Sha384),
                ("-digest sha512", A::RsaPkcs1Sha512),
            ],
            _ => &[
                ("-digest sha256", A::EcdsaSha256),
                ("-digest sha384", A::EcdsaSha384),
                ("-digest sha512", A::EcdsaSha512),
            ],
        };
        for (digest, algorithm) in digests.iter().copied() {
            openssl.run(&format!("pkeyutl -sign -inkey {name}.key -rawin {digest} -in message -out signature"));
            let mut signature = openssl.read("signature");
            assert!(algorithm.fits(key.kind()));
            assert_eq!(key.verify(algorithm, b"what is signed", &signature), Ok(()), "{name} {algorithm}");
            assert!(key.verify(algorithm, b"what is not signed", &signature).is_err());
            for other in SignatureAlgorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(key.verify(other, b"what is signed", &signature).is_err(), "{name} {other}");
            }
            *signature.last_mut().unwrap() ^= 1;
            assert!(key.verify(algorithm, b"what is signed", &signature).is_err());
        }
    }
}

#[test]
fn algorithm_identifiers_are_those_that_openssl_writes() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let key = PublicKey::from_spki(&openssl.generate(name, options)).expect("accepted");
        let algorithm = SignatureAlgorithm::default_for(key.kind());
        let digest = match algorithm {
            SignatureAlgorithm::EcdsaSha384 => "-sha384",
            SignatureAlgorithm::EcdsaSha512 => "-sha512",
            _ => "-sha256",
        };
        let csr = openssl.run(&format!("req -new -key {name}.key -subj / {digest} -outform DER"));
        let identifier = algorithm.algorithm_identifier_der();
        assert!(csr.windows(identifier.len()).any(|window| window == identifier), "{name}");
        assert_eq!(SignatureAlgorithm::from_algorithm_identifier_der(identifier), Some(algorithm));
    }
    let sha1 = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00";
    assert_eq!(SignatureAlgorithm::from_algorithm_identifier_der(sha1), None);
}

#[test]
fn every_key_with_something_after_it_or_one_flipped_octet_is_refused_or_another_key() {
    let openssl = OpenSsl::new();
    for (name, options) in
        GENPKEY.into_iter().filter(|(name, _)| !name.starts_with("RSA-3") && !name.starts_with("RSA-4"))
    {
        let der = openssl.generate(name, options);
        assert_eq!(PublicKey::from_spki(&[&der[..], &[0]].concat()), Err(KeyRejection::NotDer));
        for at in 0..der.len() {
            assert!(PublicKey::from_spki(&der[..at]).is_err());
            let mut flipped = der.clone();
            flipped[at] ^= 0x10;
            if let Ok(key) = PublicKey::from_spki(&flipped) {
                assert_eq!(key.spki(), flipped, "{name}: octet {at}");
            }
        }
    }
}

#[test]
fn other_encodings_of_a_good_key_are_refused() {
    let openssl = OpenSsl::new();
    let der = openssl.generate("ec", GENPKEY[3].1);
    let compressed = openssl.run("ec -in ec.key -pubout -conv_form compressed -outform DER");
    assert_eq!(PublicKey::from_spki(&compressed), Err(KeyRejection::PointForm));
    let hybrid = openssl.run("ec -in ec.key -pubout -conv_form hybrid -outform DER");
    assert_eq!(PublicKey::from_spki(&hybrid), Err(KeyRejection::PointForm));
    let explicit = openssl.run("ec -in ec.key -pubout -param_enc explicit -outform DER");
    assert_eq!(PublicKey::from_spki(&explicit), Err(KeyRejection::CurveNotNamed));
    // A long form of a length that has a short one.
    let long = [&[0x30, 0x81], &der[1..]].concat();
    assert_eq!(PublicKey::from_spki(&long), Err(KeyRejection::NotDer));

    let algorithm = [RSA_ENCRYPTION, NULL].concat();
    let n = prime(1, 1024) * prime(2, 1024);
    let good = wrap(0x30, &[integer(&n), integer(&f4())].concat());
    assert!(PublicKey::from_spki(&spki(&algorithm, &good)).is_ok());
    assert_eq!(PublicKey::from_spki(&spki(RSA_ENCRYPTION, &good)), Err(KeyRejection::Parameters));
    let padded = [wrap(0x02, &[&[0, 0], &n.to_bytes_be()[..]].concat()), integer(&f4())].concat();
    assert_eq!(PublicKey::from_spki(&spki(&algorithm, &wrap(0x30, &padded))), Err(KeyRejection::NotDer));
    let followed = [&good[..], NULL].concat();
    assert_eq!(PublicKey::from_spki(&spki(&algorithm, &followed)), Err(KeyRejection::NotDer));

    let ed25519 = openssl.generate("ed", GENPKEY[6].1);
    let with_null = spki(b"\x06\x03\x2b\x65\x70\x05\x00", &ed25519[12..]);
    assert_eq!(PublicKey::from_spki(&with_null), Err(KeyRejection::Parameters));
}

#[test]
fn keys_of_other_algorithms_and_curves_are_refused_by_name() {
    let openssl = OpenSsl::new();
    let reject =
        |options: &str| PublicKey::from_spki(&openssl.generate("other", options)).expect_err(options).to_string();
    assert!(reject("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1").contains("1.3.132.0.10"));
    assert!(reject("-algorithm EC -pkeyopt ec_paramgen_curve:P-224").contains("1.3.132.0.33"));
    assert!(reject("-algorithm ED448").contains("1.3.101.113"));
    assert!(reject("-algorithm X25519").contains("1.3.101.110"));
    assert!(reject("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048").contains("RSASSA-PSS"));
    assert!(reject("-algorithm RSA -pkeyopt rsa_keygen_bits:1024").contains("not 1024"));
    assert!(reject("-algorithm RSA -pkeyopt rsa_keygen_bits:2056").contains("not 2056"));
    assert!(reject("-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3").contains("65537"));
}

#[test]
fn jwk_numbers_with_leading_zeros_or_short_coordinates_are_refused() {
    // Trap 3: the same key under another thumbprint.
    let openssl = OpenSsl::new();
    let rsa = PublicKey::from_spki(&openssl.generate("rsa", GENPKEY[0].1)).expect("accepted");
    let KeyParts::Rsa { n, e } = rsa.parts() else { panic!("RSA") };
    assert!(matches!(
        PublicKey::from_rsa(&[&[0], n].concat(), e),
        Err(KeyRejection::LeadingZero { number: "modulus" })
    ));
    assert!(matches!(
        PublicKey::from_rsa(n, &[&[0], e].concat()),
        Err(KeyRejection::LeadingZero { number: "exponent" })
    ));
    let ec = PublicKey::from_spki(&openssl.generate("ec", GENPKEY[3].1)).expect("accepted");
    let KeyParts::Ec { x, y } = ec.parts() else { panic!("EC") };
    let shifted = PublicKey::from_ec(KeyKind::P256, &[x, &y[..1]].concat(), &y[1..]);
    assert_eq!(shifted, Err(KeyRejection::CoordinateLength { kind: KeyKind::P256, expected: 32, found: 33 }));
    assert!(PublicKey::from_ec(KeyKind::P256, &x[1..], y).is_err());
    assert!(PublicKey::from_ec(KeyKind::P256, &[&[0], x].concat(), y).is_err());
    assert_eq!(PublicKey::from_ec(KeyKind::P256, y, x), Err(KeyRejection::NotOnCurve { kind: KeyKind::P256 }));
    assert!(PublicKey::from_ec(KeyKind::P384, x, y).is_err());
    assert_eq!(PublicKey::from_ec(KeyKind::Ed25519, x, y), Err(KeyRejection::NotACurve { kind: KeyKind::Ed25519 }));
}

#[test]
fn points_off_the_curve_are_refused_on_each_curve() {
    let openssl = OpenSsl::new();
    for (name, options) in &GENPKEY[3..6] {
        let mut der = openssl.generate(name, options);
        *der.last_mut().unwrap() ^= 1;
        assert!(matches!(PublicKey::from_spki(&der), Err(KeyRejection::NotOnCurve { .. })), "{name}");
    }
}

#[test]
fn rsa_keys_that_josekit_would_take_are_refused() {
    // Trap 4.
    let (p, q) = (prime(3, 1024), prime(4, 1024));
    let n = &p * &q;
    assert_eq!(n.bits(), 2048);
    assert!(PublicKey::from_spki(&rsa_spki(&n, &f4())).is_ok());
    for exponent in [1u32, 3, 17, 65_535, 65_539] {
        assert_eq!(PublicKey::from_spki(&rsa_spki(&n, &BigUint::from(exponent))), Err(KeyRejection::Exponent));
    }
    assert_eq!(PublicKey::from_spki(&rsa_spki(&n, &(&n - 2u32))), Err(KeyRejection::Exponent));
    assert_eq!(PublicKey::from_spki(&rsa_spki(&(&n + 1u32), &f4())), Err(KeyRejection::SmallFactor { factor: 2 }));
    assert_eq!(PublicKey::from_spki(&rsa_spki(&(&n >> 1u32), &f4())), Err(KeyRejection::ModulusSize { bits: 2047 }));
    assert_eq!(PublicKey::from_spki(&rsa_spki(&(&n << 1u32), &f4())), Err(KeyRejection::ModulusSize { bits: 2049 }));
}

#[test]
fn a_modulus_with_a_small_factor_is_refused_and_the_factor_named() {
    for factor in [3u32, 5, 167, 173, 751, 757, 2003, 4093] {
        let mut cofactor = BigUint::from_bytes_be(&octets(u64::from(factor), 256)) / factor;
        cofactor.set_bit(0, true);
        // The smallest factor is named, so the cofactor must have none below.
        while (3..factor).step_by(2).any(|small| &cofactor % small == BigUint::ZERO) {
            cofactor += 2u32;
        }
        let mut n = &cofactor * factor;
        while n.bits() < 2048 {
            cofactor <<= 1u32;
            cofactor += 1u32;
            while (3..factor).step_by(2).any(|small| &cofactor % small == BigUint::ZERO) {
                cofactor += 2u32;
            }
            n = &cofactor * factor;
        }
        assert_eq!(PublicKey::from_rsa(&n.to_bytes_be(), &[1, 0, 1]), Err(KeyRejection::SmallFactor { factor }));
    }
}

#[test]
fn close_primes_are_refused_and_distant_ones_are_not() {
    for (seed, bits) in [(10, 1024), (11, 1536), (12, 2048)] {
        let p = prime(seed, bits);
        let q = next_prime(&(&p + 2u32));
        let refuse = |n: &BigUint| PublicKey::from_rsa(&n.to_bytes_be(), &[1, 0, 1]);
        assert_eq!(refuse(&(&p * &q)), Err(KeyRejection::ClosePrimes), "neighbours");
        assert_eq!(refuse(&(&p * &p)), Err(KeyRejection::ClosePrimes), "a square");
        // Fermat needs (p - q)² / 8 sqrt(n) rounds, so a gap a little above the quarter root is
        // found after some tens of them, and one of 2^100 times that never.
        let gap = BigUint::from(20u32) << (bits / 2);
        let some_rounds = next_prime(&(&p + &gap));
        assert_eq!(refuse(&(&p * &some_rounds)), Err(KeyRejection::ClosePrimes), "some fifty rounds");
        let far = next_prime(&(&p - (BigUint::from(1u32) << (bits / 2 + 100))));
        assert!(refuse(&(&p * far)).is_ok());
    }
}

#[test]
fn keys_with_the_roca_structure_are_refused_in_every_size() {
    // Nemec et al., CCS 2017: p = k M + (65537^a mod M), M the product of the first primes.
    let mut primes: Vec<u32> = Vec::new();
    for candidate in 2u32.. {
        if primes.iter().all(|prime| candidate % prime != 0) {
            primes.push(candidate);
        }
        if primes.len() == 225 {
            break;
        }
    }
    for (seed, bits, count) in [(20u64, 1024u64, 126), (21, 1536, 126), (22, 2048, 225)] {
        let m: BigUint = primes[..count].iter().map(|prime| BigUint::from(*prime)).product();
        let infineon = |seed: u64| {
            let mut top = BigUint::from_bytes_be(&octets(seed, usize::try_from(bits / 8).unwrap()));
            top.set_bit(bits - 1, true);
            top.set_bit(bits - 2, true);
            let mut k = &top / &m;
            loop {
                let residue = f4().modpow(&BigUint::from_bytes_be(&octets(seed + 100, 8)), &m);
                let candidate = &k * &m + residue;
                if is_prime(&candidate) {
                    return candidate;
                }
                k += 1u32;
            }
        };
        let n = infineon(seed) * infineon(seed + 50);
        assert_eq!(PublicKey::from_rsa(&n.to_bytes_be(), &[1, 0, 1]), Err(KeyRejection::Roca), "{bits}");
    }
}

#[test]
fn ed25519_points_of_small_order_and_encodings_of_no_point_are_refused() {
    let point = |text: &str| PublicKey::from_ed25519(&hex::decode(text).unwrap());
    for small in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ] {
        assert_eq!(point(small), Err(KeyRejection::SmallOrder), "{small}");
    }
    for none in [
        // y = p and y = p + 1 are 0 and 1 once more.
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // y = 2 has no x.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ] {
        assert_eq!(point(none), Err(KeyRejection::NotOnCurve { kind: KeyKind::Ed25519 }), "{none}");
    }
    // RFC 8032 §7.1, test 1.
    assert!(point("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").is_ok());
    assert!(matches!(point("d75a98"), Err(KeyRejection::CoordinateLength { found: 3, .. })));
}

#[test]
fn a_block_list_reads_digests_and_debians_lines_and_refuses_what_is_listed() {
    let openssl = OpenSsl::new();
    let keys: Vec<PublicKey> = [GENPKEY[0], GENPKEY[0], GENPKEY[3], GENPKEY[3]]
        .iter()
        .map(|(name, options)| PublicKey::from_spki(&openssl.generate(name, options)).expect("accepted"))
        .collect();
    openssl.write("rsa.der", keys[0].spki());
    let modulus = openssl.run("rsa -pubin -inform DER -in rsa.der -noout -modulus");
    openssl.write("modulus", modulus);
    let sha1 = String::from_utf8(openssl.run("dgst -sha1 -r modulus")).expect("text");
    openssl.write("ec.der", keys[2].spki());
    let sha256 = String::from_utf8(openssl.run("dgst -sha256 -r ec.der")).expect("text");
    let text = format!("# compromised\n\n{}\n  {}  # shipped with a router\r\n", &sha1[20..40], &sha256[..64]);
    let list = BlockList::parse(&text).expect("both forms");
    assert_eq!(list.len(), 2);
    let verdicts: Vec<bool> = keys.iter().map(|key| list.check(key).is_ok()).collect();
    assert_eq!(verdicts, [false, true, false, true]);
    // The same keys as the lists of CVE-2008-0166/dwk_blocklists have them: SHA-256 of the modulus, and of x.
    let digest_of = |name: &str, hexadecimal: &str| {
        openssl.write(name, hex::decode(hexadecimal.trim_start_matches("00")).expect("hexadecimal"));
        String::from_utf8(openssl.run(&format!("dgst -sha256 -r {name}"))).expect("text")[..64].to_owned()
    };
    let modulus = String::from_utf8(openssl.run("rsa -pubin -inform DER -in rsa.der -noout -modulus")).expect("text");
    let modulus = digest_of("n", modulus.trim().strip_prefix("Modulus=").expect("as OpenSSL prints it"));
    let point = hex::encode(keys[2].spki());
    let x = digest_of("x", &point[point.len() - 128..point.len() - 64]);
    let list = BlockList::parse(&format!("{modulus}\n{x}\n")).expect("their form");
    let verdicts: Vec<bool> = keys.iter().map(|key| list.check(key).is_ok()).collect();
    assert_eq!(verdicts, [false, true, false, true]);
    assert_eq!(BlockList::parse("# x\nabc\n").expect_err("not a digest").line, 2);
    assert_eq!(BlockList::parse(&sha1[..40]).expect_err("a whole SHA-1").line, 1);
}

#[test]
fn keys_that_are_printed_in_standards_are_on_the_built_in_list() {
    let list = BlockList::published();
    assert_eq!(list.len(), 16);
    // RFC 8032 §7.1, test 1, and RFC 7515 §A.3.
    let ed25519 = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    let ed25519 = PublicKey::from_ed25519(&ed25519).expect("a good point");
    assert_eq!(list.check(&ed25519), Err(KeyRejection::Blocked));
    let x = hex::decode("7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445").unwrap();
    let y = hex::decode("c7f144cd1bbd9b7e872cdfedb9eeb9f4b3695d6ea90b24ad8a4623288588e5ad").unwrap();
    let p256 = PublicKey::from_ec(KeyKind::P256, &x, &y).expect("a good point");
    assert_eq!(list.check(&p256), Err(KeyRejection::Blocked));
    let openssl = OpenSsl::new();
    let fresh = PublicKey::from_spki(&openssl.generate("ec", GENPKEY[3].1)).expect("accepted");
    assert_eq!(list.check(&fresh), Ok(()));
}

/// Not a bound that could fail on a busy machine: it prints what the checks cost (`--nocapture`).
#[test]
fn what_a_key_costs() {
    let openssl = OpenSsl::new();
    for (name, options) in GENPKEY {
        let der = openssl.generate(name, options);
        PublicKey::from_spki(&der).expect("warms the tables up");
        let start = Instant::now();
        for _ in 0..50 {
            std::hint::black_box(PublicKey::from_spki(std::hint::black_box(&der))).expect("accepted");
        }
        println!("{name}: {} µs", start.elapsed().as_nanos() / 50_000);
    }
}
