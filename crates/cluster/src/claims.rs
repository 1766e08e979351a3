//! Service-account tokens (JWT, RFC 7519; JWS compact serialization, RFC 7515 §7.1): a strict front before anything is
//! verified. Of the header only `alg`, `kid` and `typ` are read, and whatever else changes what a token means is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// Longest token that is read, in octets; a service-account token has some 1,200.
const TOKEN_MAX: usize = 8 * 1024;
/// How far two clocks may be apart, in seconds.
pub(crate) const LEEWAY_S: i64 = 60;

/// The algorithms of tokens that are taken: those that Kubernetes signs with (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(crate) enum Algorithm {
    RS256,
    RS384,
    RS512,
    ES256,
    ES384,
    ES512,
}

impl Algorithm {
    /// Whether a verification takes more than a millisecond.
    pub(crate) const fn is_slow(self) -> bool {
        match self {
            Self::ES384 | Self::ES512 => true,
            Self::RS256 | Self::RS384 | Self::RS512 | Self::ES256 => false,
        }
    }
}

/// What the head of a token says.
#[derive(Debug, Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515 §4.1.11); we understand none.
    crit: Option<serde::de::IgnoredAny>,
    /// Payloads that are not encoded (RFC 7797) are something else.
    b64: Option<serde::de::IgnoredAny>,
}

/// What a token says. It is not verified by being read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    aud: Audiences,
    pub(crate) exp: f64,
    pub(crate) nbf: Option<f64>,
    pub(crate) sub: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Option<Kubernetes>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// What Kubernetes adds.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Kubernetes {
    pub(crate) namespace: Option<String>,
    pub(crate) serviceaccount: Option<Named>,
}

/// Something with a name.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

/// A token, taken apart and not verified.
pub(crate) struct Unverified<'t> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) claims: Claims,
    /// What was signed: header and payload as they stand.
    pub(crate) signed: &'t str,
    pub(crate) signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// Why it is none that could be taken, in words that hold nothing of it.
    pub(crate) fn read(token: &'t str) -> Result<Self, &'static str> {
        if token.len() > TOKEN_MAX {
            return Err("the token is too long");
        }
        let (signed, signature) = token.rsplit_once('.').ok_or("the token is no JWT")?;
        let (header, payload) = signed.split_once('.').ok_or("the token is no JWT")?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "the token is not base64url");
        let header: Header = serde_json::from_slice(&decoded(header)?)
            .map_err(|_| "the token's header is none, or its algorithm is not taken")?;
        let Header { alg, kid, crit, b64 } = header;
        if crit.is_some() || b64.is_some() {
            return Err("the token's header holds extensions");
        }
        // A payload has no dot in it: that would be another serialization.
        let claims = serde_json::from_slice(&decoded(payload)?).map_err(|_| "the token lacks claims")?;
        Ok(Self { algorithm: alg, kid, claims, signed, signature: decoded(signature)? })
    }
}

impl Claims {
    /// Whether the token is meant for this audience.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Audiences::One(one) => one == audience,
            Audiences::Many(many) => many.iter().any(|one| one == audience),
        }
    }

    /// Whether the token holds at this time (RFC 7519 §4.1.4, §4.1.5), in Unix seconds; clocks may differ a little.
    pub(crate) fn check_time(&self, now: i64) -> Result<(), &'static str> {
        let at = |seconds: f64| seconds.is_finite().then_some(seconds);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^53")]
        let (now, leeway) = (now as f64, LEEWAY_S as f64);
        match (at(self.exp), self.nbf.map(at)) {
            (None, _) | (_, Some(None)) => Err("the token's times are none"),
            (Some(exp), _) if now >= exp + leeway => Err("the token has expired"),
            (_, Some(Some(nbf))) if now + leeway < nbf => Err("the token does not hold yet"),
            _ => Ok(()),
        }
    }

    /// The service account that the token is about: `sub`, and what Kubernetes adds, which must agree.
    pub(crate) fn account(&self) -> Result<(String, String), &'static str> {
        let (namespace, name) = account_of(&self.sub).ok_or("the token's subject is no service account")?;
        if let Some(Kubernetes { namespace: of, serviceaccount }) = &self.kubernetes
            && (of.as_ref().is_some_and(|of| of != namespace)
                || serviceaccount.as_ref().is_some_and(|account| account.name != name))
        {
            return Err("the token's claims do not agree");
        }
        Ok((namespace.to_owned(), name.to_owned()))
    }
}

/// Namespace and name in a service account's user name.
pub(crate) fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(payload), part("signature"))
    }

    const PAYLOAD: &str =
        r#"{"iss":"https://issuer","aud":["a","b"],"exp":1000,"nbf":500,"sub":"system:serviceaccount:ns:sa"}"#;

    #[test]
    fn a_token_is_taken_apart_and_what_changes_its_meaning_is_refused() {
        let whole = token(r#"{"alg":"RS256","kid":"k"}"#, PAYLOAD);
        let read = Unverified::read(&whole).unwrap();
        assert_eq!((read.algorithm, read.kid.as_deref()), (Algorithm::RS256, Some("k")));
        assert!(read.claims.is_for("a") && read.claims.is_for("b") && !read.claims.is_for("c"));
        assert_eq!(read.claims.account(), Ok(("ns".to_owned(), "sa".to_owned())));
        assert_eq!(read.signature, b"signature");
        assert!(whole.starts_with(read.signed));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256","kid":"k"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{"kid":"k"}"#,
            r#"{"alg":"RS256","alg":"ES256"}"#,
            r#"{"alg":"RS256","crit":["exp"]}"#,
            r#"{"alg":"RS256","b64":false}"#,
            "[]",
            "",
        ] {
            assert!(Unverified::read(&token(header, PAYLOAD)).is_err(), "{header}");
        }
        for payload in [
            "{}",
            r#"{"iss":"i","aud":"a","sub":"s"}"#,
            r#"{"iss":"i","iss":"j","aud":"a","exp":1,"sub":"s"}"#,
            r#"{"iss":"i","aud":1,"exp":1,"sub":"s"}"#,
        ] {
            assert!(Unverified::read(&token(r#"{"alg":"RS256"}"#, payload)).is_err(), "{payload}");
        }
        let four_parts = format!("{whole}.x");
        for text in ["", ".", "a.b", "..", &four_parts, &"x".repeat(TOKEN_MAX + 1)] {
            assert!(Unverified::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_holds_between_its_times_give_or_take_a_minute() {
        let whole = token(r#"{"alg":"RS256"}"#, PAYLOAD);
        let claims = Unverified::read(&whole).unwrap().claims;
        for (now, holds) in [(439, false), (440, true), (500, true), (1000, true), (1059, true), (1060, false)] {
            assert_eq!(claims.check_time(now).is_ok(), holds, "{now}");
        }
    }

    #[test]
    fn a_subject_that_is_no_service_account_or_disagrees_is_refused() {
        for (sub, kubernetes) in [
            ("system:node:a", ""),
            ("system:serviceaccount:ns", ""),
            ("system:serviceaccount:ns:sa:more", ""),
            ("system:serviceaccount::sa", ""),
            ("system:serviceaccount:ns:sa", r#","kubernetes.io":{"namespace":"other"}"#),
            ("system:serviceaccount:ns:sa", r#","kubernetes.io":{"serviceaccount":{"name":"other","uid":"u"}}"#),
        ] {
            let payload = format!(r#"{{"iss":"i","aud":"a","exp":1,"sub":"{sub}"{kubernetes}}}"#);
            let whole = token(r#"{"alg":"RS256"}"#, &payload);
            assert!(Unverified::read(&whole).unwrap().claims.account().is_err(), "{payload}");
        }
    }
}
