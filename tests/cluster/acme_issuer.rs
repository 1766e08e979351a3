//! cert-manager's own `acme` issuer against our directories: accounts by key, orders without a challenge, dns-01 by a real
//! name server, and what it does when the server says no, is busy, or was not heard.
#![expect(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod accounts;
mod busy;
mod dns01;
mod renewal_information;
mod replay;
mod suite;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{Result, until};
use kube::{Api, api::DynamicObject};
use serde_json::{Value, json};

use crate::conformance::Ground;

/// How an `acme` issuer is written, beside the account's key.
struct Acme<'a> {
    /// The directory's URL.
    directory: &'a str,
    /// Roots that it trusts, in PEM.
    roots: &'a str,
    /// An EAB key: its id and its secret.
    key: Option<(&'a str, &'a str)>,
    /// More of its specification.
    more: Value,
}

impl Ground {
    /// Makes a new EAB key of the directory `teams` at the shared server, with these limits.
    async fn team_key(&self, name: &str, limits: &[&str]) -> Result<(String, String)> {
        let id = format!("{}-{name}", self.namespace);
        self.issuing.real.server().eab_key(&id, &[&["--directory", "teams"], limits].concat()).await
    }

    /// An issuer of this namespace at the shared server's directory `teams`, with a key of its own; it is ready.
    async fn team_issuer(&self, name: &str, limits: &[&str], more: Value) -> Result<Value> {
        let (id, secret) = self.team_key(name, limits).await?;
        let real = self.issuing.real;
        let directory = real.server().directory_of("teams");
        let acme = Acme { directory: &directory, roots: real.root(), key: Some((&id, &secret)), more };
        self.acme_issuer(name, &acme).await?;
        self.until_acme_issuer_is_ready(name).await
    }

    /// Applies an issuer of this namespace and the Secret with its EAB key.
    async fn acme_issuer(&self, name: &str, acme: &Acme<'_>) -> Result<()> {
        let documents = acme_issuer("Issuer", &self.namespace, name, acme);
        self.issuing.plane.apply_documents(&self.namespace, documents).await?;
        Ok(())
    }

    async fn until_acme_issuer_is_ready(&self, name: &str) -> Result<Value> {
        let issuers = self.issuing.plane.objects("cert-manager.io/v1", "Issuer", &self.namespace).await?;
        until(&issuers, name, until::condition("Ready", "True")).await?;
        Ok(json!({ "group": "cert-manager.io", "kind": "Issuer", "name": name }))
    }

    /// The namespace's ACME orders, as cert-manager keeps them.
    async fn orders(&self) -> Result<Api<DynamicObject>> {
        self.issuing.plane.objects("acme.cert-manager.io/v1", "Order", &self.namespace).await
    }

    /// Waits until an order of the namespace is in this state, and gives it. There is one order.
    async fn order_in(&self, state: &str) -> Result<DynamicObject> {
        let orders = self.orders().await?;
        until::any(&orders, &format!("order that is {state}"), |order| order.data["status"]["state"] == state).await
    }
}

/// An issuer, and the Secret with its EAB key.
fn acme_issuer(kind: &str, namespace: &str, name: &str, acme: &Acme<'_>) -> Vec<Value> {
    let mut spec = json!({
        "server": acme.directory,
        "caBundle": STANDARD.encode(acme.roots),
        "privateKeySecretRef": { "name": format!("{name}-account") },
    });
    json_patch::merge(&mut spec, &acme.more);
    let mut documents = Vec::new();
    if let Some((id, secret)) = acme.key {
        spec["externalAccountBinding"] =
            json!({ "keyID": id, "keySecretRef": { "name": format!("{name}-eab"), "key": "key" } });
        documents.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("{name}-eab"), "namespace": namespace },
            "stringData": { "key": secret },
        }));
    }
    documents.push(json!({
        "apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": { "name": name }, "spec": { "acme": spec },
    }));
    documents
}
