//! From an HTTP request to [`Verified`]: the one way in for everything that is signed.
//!
//! The order is: content type, size, envelope, nonce, `url`, account, signature; a key that comes along is looked
//! at only as often as its address may have that done. The nonce is
//! spent as soon as it was seen (RFC 8555 §6.5: once it has appeared in a request it is invalid),
//! but whether it was good is told last, to those alone who signed. The account is loaded for
//! every request, so one that was deactivated stops at once. No handler sees a body that did not
//! come through here: [`Verified`] is made in this module alone.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use chancery_acme::{
    account::{Account, AccountStatus},
    jwk,
    problem::ProblemType,
    wire::{self, json},
};
use chancery_authority::{
    Office,
    at_work::{AtWork, Working},
};
use chancery_pki::PublicKey;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::{
    directory::Known,
    jws::{Jws, JwsRejection, SignedBy},
    nonce::{NonceRejection, Nonces},
    problem::{Fault, overloaded},
    rates::{Buckets, bucket_of},
    route::Accepts,
    verify::Verifiers,
};
use crate::acme::ClientAddress;

/// Largest body, in octets; an order of a hundred long names fits.
pub(crate) const BODY_MAX: usize = 64 * 1024;

/// What the front needs.
pub(crate) struct Front {
    pub(crate) nonces: Nonces,
    pub(crate) verifiers: Arc<Verifiers>,
    /// The configured external URL without a slash at its end.
    pub(crate) external: Box<str>,
    /// How long a body may take to arrive.
    pub(crate) body_time: Duration,
    /// How fast one address may have keys looked at that nobody has looked at yet.
    pub(crate) brought_keys: Buckets<u64>,
    /// A page about the limits.
    pub(crate) documentation: Option<Box<str>>,
    /// Where requests are counted.
    pub(crate) at_work: AtWork,
}

/// Who signed a request, proven.
pub(crate) enum Signer {
    /// An account, valid now.
    Account(Account),
    /// The holder of a key that came along.
    Key(PublicKey),
}

/// A request that is genuine: its signature, `url`, nonce and account are good. Its payload can
/// only be had by saying what it must be.
pub(crate) struct Signed<B> {
    by: B,
    payload: Vec<u8>,
}

/// A genuine request with its payload read. Made by [`Signed`] alone.
pub(crate) struct Verified<T, B = Account> {
    /// Who signed.
    pub(crate) by: B,
    /// What was asked.
    pub(crate) body: T,
    _made_here: (),
}

/// The payload of a key change: the key that the account is said to have, and the new one, whose holder has signed.
pub(crate) struct NewKey {
    pub(crate) old: PublicKey,
    pub(crate) key: PublicKey,
}

/// The payload of POST-as-GET (RFC 8555 §6.3): nothing at all.
pub(crate) struct PostAsGet;

impl Front {
    /// Lets a request through, or says what is wrong with it. It is at work from when its body is here.
    pub(crate) async fn admit(
        &self,
        office: &Office,
        directory: &Known,
        parts: &Parts,
        body: Body,
        accepts: Accepts,
    ) -> Result<(Signed<Signer>, Working), Fault> {
        check_content_type(&parts.headers)?;
        let body = self.read(body).await?;
        let working = self.at_work.enter();
        let jws = Jws::parse(&body)?;
        drop(body);
        let nonce = match &jws.nonce {
            Some(nonce) => self.nonces.spend(nonce, office.now()),
            None => Err(NonceRejection::Missing),
        };
        let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
        if jws.url.strip_prefix(&*self.external) != Some(asked) {
            return Err(Fault::new(
                ProblemType::Unauthorized,
                format_args!(
                    "the url in the protected header is not the URL of this request, {}{asked}",
                    self.external
                ),
            ));
        }
        match (&jws.by, accepts) {
            (SignedBy::Kid(_), Accepts::Account | Accepts::Either)
            | (SignedBy::Jwk(_), Accepts::Key | Accepts::Either) => {}
            (SignedBy::Kid(_), Accepts::Key) => {
                return Err(Fault::new(
                    ProblemType::Malformed,
                    "newAccount is signed with jwk, not kid (RFC 8555 §6.2)",
                ));
            }
            (SignedBy::Jwk(_), Accepts::Account) => {
                return Err(Fault::new(
                    ProblemType::Malformed,
                    "this request is signed with kid, not jwk (RFC 8555 §6.2)",
                ));
            }
        }
        let by = jws.by.clone();
        let (jws, by) = match by {
            SignedBy::Kid(kid) => {
                let account = match directory.urls.account_id(&kid) {
                    Some(id) => office.account(&directory.name, id).await?,
                    None => None,
                };
                let account = account.ok_or_else(|| {
                    Fault::new(ProblemType::AccountDoesNotExist, "no account of this directory has the URL in kid")
                })?;
                (self.verifiers.verify(jws, &account.key).await?, Signer::Account(account))
            }
            SignedBy::Jwk(jwk) => {
                // Looking at a key costs more than anything else that a stranger can ask for.
                if let Some(ClientAddress(address)) = parts.extensions.get()
                    && let Err(wait) = self.brought_keys.take(bucket_of(*address))
                {
                    let detail = match accepts {
                        Accepts::Key => {
                            "too many requests from your address bring a key of their own; ask again later, and keep \
                             the account's URL, with which none has to be brought"
                        }
                        Accepts::Account | Accepts::Either => {
                            "too many requests from your address bring a key of their own; ask again later"
                        }
                    };
                    return Err(Fault::too_fast(detail, wait, self.documentation.as_deref()));
                }
                let turn = self.verifiers.turn().await.ok_or_else(overloaded)?;
                let (jws, key) = self.verifiers.verify_with_own_key(jws, jwk, turn).await?;
                (jws, Signer::Key(key))
            }
        };
        nonce?;
        if let Signer::Account(account) = &by {
            check_status(account)?;
        }
        Ok((Signed { by, payload: jws.payload }, working))
    }

    /// Reads a key change (RFC 8555 §7.3.5): the payload is a JWS of its own, signed by the new key, which comes along.
    /// That its holder asks for this account and names its key is checked here; that nobody has the new key is not.
    pub(crate) async fn key_change(
        &self,
        directory: &Known,
        client: Option<ClientAddress>,
        outer: Signed<Account>,
    ) -> Result<Verified<NewKey>, Fault> {
        let malformed = |detail: &str| Err(Fault::new(ProblemType::Malformed, detail));
        let inner = Jws::parse(&outer.payload)?;
        if inner.nonce.is_some() {
            return malformed("the inner JWS of a key change holds no nonce (RFC 8555 §7.3.5)");
        }
        if inner.url != directory.urls.key_change() {
            return malformed("the url of the inner JWS is not that of the request around it (RFC 8555 §7.3.5)");
        }
        let SignedBy::Jwk(jwk) = inner.by.clone() else {
            return malformed("the inner JWS of a key change is signed with jwk, not kid (RFC 8555 §7.3.5)");
        };
        if let Some(ClientAddress(address)) = client
            && let Err(wait) = self.brought_keys.take(bucket_of(address))
        {
            let detail = "too many requests from your address bring a key of their own; ask again later";
            return Err(Fault::too_fast(detail, wait, self.documentation.as_deref()));
        }
        let turn = self.verifiers.turn().await.ok_or_else(overloaded)?;
        let (inner, key) = self.verifiers.verify_with_own_key(inner, jwk, turn).await?;
        let wire::KeyChange { account, old_key } = json::payload(&inner.payload)?;
        if account != directory.urls.account(outer.by.id) {
            return malformed("account is not the URL of the account that signs the request (RFC 8555 §7.3.5)");
        }
        let old = jwk::public_key(old_key.get()).map_err(JwsRejection::from)?;
        Ok(Verified { by: outer.by, body: NewKey { old, key }, _made_here: () })
    }

    /// Reads a body that is neither too large nor too slow.
    pub(crate) async fn read(&self, body: Body) -> Result<Bytes, Fault> {
        let collected = tokio::time::timeout(self.body_time, Limited::new(body, BODY_MAX).collect()).await;
        match collected {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let too_large = format!("the body is larger than {BODY_MAX} octets");
                Err(Fault::with_status(ProblemType::Malformed, StatusCode::PAYLOAD_TOO_LARGE, too_large))
            }
            Ok(Err(_)) => Err(Fault::new(ProblemType::Malformed, "the body ended early")),
            Err(_elapsed) => {
                let late = format!("the body took longer than {} seconds", self.body_time.as_secs());
                Err(Fault::with_status(ProblemType::Malformed, StatusCode::REQUEST_TIMEOUT, late))
            }
        }
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Fault> {
    let mut given = headers.get_all(CONTENT_TYPE).iter();
    let is_jose = given.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"application/jose+json"));
    if is_jose && given.next().is_none() {
        return Ok(());
    }
    Err(Fault::with_status(
        ProblemType::Malformed,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the content type of signed requests is application/jose+json (RFC 8555 §6.2)",
    ))
}

fn check_status(account: &Account) -> Result<(), Fault> {
    match account.status {
        AccountStatus::Valid => Ok(()),
        AccountStatus::Deactivated { at } => Err(Fault::with_status(
            ProblemType::Unauthorized,
            StatusCode::UNAUTHORIZED,
            format_args!("this account was deactivated at {at}; register a new key"),
        )),
        AccountStatus::Revoked { at } => Err(Fault::with_status(
            ProblemType::Unauthorized,
            StatusCode::UNAUTHORIZED,
            format_args!("this account was revoked at {at}; ask the operator of this server"),
        )),
    }
}

impl Signed<Signer> {
    /// Signed by an account. The front has refused everything else where a route wants one.
    pub(crate) fn by_account(self) -> Result<Signed<Account>, Fault> {
        match self.by {
            Signer::Account(by) => Ok(Signed { by, payload: self.payload }),
            Signer::Key(_) => Err(Fault::new(ProblemType::Malformed, "this request is signed with kid, not jwk")),
        }
    }

    /// Signed by a key that came along.
    pub(crate) fn by_key(self) -> Result<Signed<PublicKey>, Fault> {
        match self.by {
            Signer::Key(by) => Ok(Signed { by, payload: self.payload }),
            Signer::Account(_) => Err(Fault::new(ProblemType::Malformed, "this request is signed with jwk, not kid")),
        }
    }
}

impl<B> Signed<B> {
    /// The account behind it, where there is one.
    pub(crate) const fn signer(&self) -> &B {
        &self.by
    }

    /// A read: the payload is empty, and `{}` is not (RFC 8555 §6.3).
    pub(crate) fn empty(self) -> Result<Verified<PostAsGet, B>, Fault> {
        if self.payload.is_empty() {
            Ok(Verified { by: self.by, body: PostAsGet, _made_here: () })
        } else {
            Err(Fault::new(ProblemType::Malformed, "this resource is read with an empty payload (RFC 8555 §6.3)"))
        }
    }

    /// A write: the payload is a JSON object.
    pub(crate) fn object<T: DeserializeOwned>(self) -> Result<Verified<T, B>, Fault> {
        if self.payload.is_empty() {
            return Err(Fault::new(ProblemType::Malformed, "this resource takes a JSON object, not an empty payload"));
        }
        let body = json::payload(&self.payload)?;
        Ok(Verified { by: self.by, body, _made_here: () })
    }

    /// A read or a write: an empty payload is `None`.
    pub(crate) fn empty_or_object<T: DeserializeOwned>(self) -> Result<Verified<Option<T>, B>, Fault> {
        let body = if self.payload.is_empty() { None } else { Some(json::payload(&self.payload)?) };
        Ok(Verified { by: self.by, body, _made_here: () })
    }
}
