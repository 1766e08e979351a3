//! JWK thumbprints (RFC 7638) and key authorizations (RFC 8555 §8.1).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::challenge::Token;
use chancery_pki::{KeyKind, PublicKey, key::KeyParts};

/// The canonical JWK of a key: the required members alone, in lexicographic order (RFC 7638 §3.2).
#[must_use]
pub fn canonical_jwk(key: &PublicKey) -> String {
    let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    match key.parts() {
        KeyParts::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(e), encode(n)),
        KeyParts::Ec { x, y } => {
            let curve = match key.kind() {
                KeyKind::P384 => "P-384",
                KeyKind::P521 => "P-521",
                KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => "P-256",
            };
            format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y))
        }
        KeyParts::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(x)),
    }
}

/// The thumbprint of a key in base64url (RFC 7638 §3).
#[must_use]
pub fn thumbprint(key: &PublicKey) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical_jwk(key).as_bytes()))
}

/// Token, dot, thumbprint (RFC 8555 §8.1).
#[must_use]
pub fn key_authorization(token: Token, key: &PublicKey) -> String {
    format!("{token}.{}", thumbprint(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7638_has_the_thumbprint_that_the_rfc_gives() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3\
                 oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA\
                 ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-\
                 kEgU8awapJzKnqDKgw";
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let key = PublicKey::from_rsa(&decode(n), &decode("AQAB")).expect("a good key");
        assert_eq!(canonical_jwk(&key), format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#));
        assert_eq!(thumbprint(&key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
