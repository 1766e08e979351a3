//! RFC 9773, ACME Renewal Information: a module for each section that says something to clients. What needs a clock is
//! tested in `crates/http` and `crates/authority`.

mod s4;
mod s5;

use chancery_harness::{
    Result,
    client::{Client, b64},
};
use serde_json::{Value, json};
use x509_parser::{extensions::ParsedExtension, prelude::FromDer as _};

use crate::{
    flow::{self, Issued, problem},
    sites::site,
};

/// How a client names a certificate (§4.1).
fn identifier(issued: &Issued) -> Result<String> {
    let chain = issued.chain()?;
    let (_, leaf) =
        x509_parser::certificate::X509Certificate::from_der(chain.first().ok_or("no certificate")?.as_ref())?;
    let key = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(of) => of.key_identifier.as_ref().map(|key| key.0.to_vec()),
        _ => None,
    });
    Ok(format!("{}.{}", b64(key.ok_or("no authority key identifier")?), b64(leaf.raw_serial())))
}

/// Where it is told when that certificate is best replaced.
fn renewal_info(client: &Client, identifier: &str) -> String {
    format!("{}/{identifier}", client.resource("renewalInfo"))
}

/// A new order for these DNS names that replaces a certificate.
fn order(names: &[&str], replaces: &str) -> Value {
    let identifiers: Vec<Value> = names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
    json!({"identifiers": identifiers, "replaces": replaces})
}
