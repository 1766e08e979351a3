//! What many tests do on the way to what they are about.

use chancery_harness::{
    Result,
    client::{Answer, Client, authorizations, b64, challenge, csr_with},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::sites::Site;

/// An order that is ready.
pub(crate) struct Ready {
    pub(crate) url: String,
    pub(crate) order: Value,
}

/// A certificate.
pub(crate) struct Issued {
    /// The URL of its order.
    pub(crate) order: String,
    /// Its own URL.
    pub(crate) certificate: String,
    /// With its chain.
    pub(crate) pem: String,
    pub(crate) key: rcgen::KeyPair,
}

impl Issued {
    /// The certificate itself, as revokeCert wants it (RFC 8555 §7.6).
    pub(crate) fn base64url(&self) -> Result<String> {
        Ok(b64(self.chain()?.first().ok_or("no certificate")?))
    }

    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        chain(self.pem.as_bytes())
    }
}

/// The certificates of a PEM text.
pub(crate) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<_, _>>()?)
}

/// Fulfils and answers one challenge of every authorization of an order.
pub(crate) async fn fulfil(site: &Site, client: &mut Client, order: &Value) -> Result<()> {
    for url in authorizations(order) {
        let authorization = client.read(&url).await?.expect_status(200)?.json();
        let name = authorization["identifier"]["value"].as_str().unwrap_or_default().to_owned();
        let kind = if authorization["wildcard"] == true { "dns-01" } else { "http-01" };
        let (url, token) = challenge(&authorization, kind)?;
        if kind == "dns-01" {
            site.dns.txt(&format!("_acme-challenge.{name}"), &client.dns_value(&token));
        } else {
            site.responder.put(&token, client.key_authorization(&token));
        }
        let answered = client.post(&url, &json!({})).await?.expect_status(200)?.json();
        assert_eq!(answered["status"], "valid", "{answered}");
    }
    Ok(())
}

/// An order for these DNS names whose authorizations are all valid.
pub(crate) async fn ready(site: &Site, client: &mut Client, names: &[&str]) -> Result<Ready> {
    let placed = client.new_order(names).await?.expect_status(201)?;
    let url = placed.location()?;
    fulfil(site, client, &placed.json()).await?;
    let order = client.read(&url).await?.expect_status(200)?.json();
    assert_eq!(order["status"], "ready", "{order}");
    Ok(Ready { url, order })
}

/// Finalizes an order with a new key for these names.
pub(crate) async fn finalize(client: &mut Client, order: &Value, names: &[&str]) -> Result<(Answer, rcgen::KeyPair)> {
    let key = rcgen::KeyPair::generate()?;
    let answer = finalize_with(client, order, &csr_with(&key, names)?).await?;
    Ok((answer, key))
}

/// Finalizes an order with this CSR.
pub(crate) async fn finalize_with(client: &mut Client, order: &Value, csr: &[u8]) -> Result<Answer> {
    let url = order["finalize"].as_str().ok_or("no finalize URL")?;
    client.post(url, &json!({ "csr": b64(csr) })).await
}

/// A certificate for these DNS names.
pub(crate) async fn issued(site: &Site, client: &mut Client, names: &[&str]) -> Result<Issued> {
    let Ready { url, order } = ready(site, client, names).await?;
    let (answer, key) = finalize(client, &order, names).await?;
    let certificate = answer.expect_status(200)?.text("certificate")?;
    let pem = client.read(&certificate).await?.expect_status(200)?;
    Ok(Issued { order: url, certificate, pem: String::from_utf8(pem.body.to_vec())?, key })
}

/// That an answer is this problem (RFC 8555 §6.7); returns the document.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, kind: &str) -> Value {
    let document = answer.json();
    assert_eq!((answer.status, answer.problem().as_str()), (status, kind), "{document}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(document["status"], status, "{document}");
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{document}");
    document
}

/// The same URL with an id that nobody has.
pub(crate) fn unknown_of(url: &str) -> String {
    let mut segments: Vec<&str> = url.split('/').collect();
    // scheme, "", host, "acme", directory, kind, id
    segments[6] = "AAAAAAAAAAAAAAAAAAAAAA";
    segments.join("/")
}
