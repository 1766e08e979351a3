//! cert-manager is a real one, with the rights that its chart gives it: what the other tests rely on.

use std::{fs, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{CertManager, Plane, Result, until};
use chancery_harness::{client::csr_with, server::succeeded};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Error, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

const CERT_MANAGER: &str = "cert-manager.io/v1";

/// A CA issuer named `ca` in the namespace; its root is self-signed.
async fn ca_issuer(plane: &Plane, namespace: &str) -> Result<()> {
    plane
        .apply_in(
            namespace,
            r#"
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: { name: self-signed }
spec: { selfSigned: {} }
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: { name: root }
spec:
  isCA: true
  commonName: Cluster Test Root
  secretName: root
  privateKey: { algorithm: ECDSA, size: 256 }
  issuerRef: { name: self-signed }
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: { name: ca }
spec: { ca: { secretName: root } }
"#,
        )
        .await?;
    let issuers = plane.objects(CERT_MANAGER, "Issuer", namespace).await?;
    until(&issuers, "ca", until::condition("Ready", "True")).await?;
    Ok(())
}

/// A request as somebody writes one by hand.
fn request(name: &str, issuer: &Value) -> Result<DynamicObject> {
    let csr = csr_with(&rcgen::KeyPair::generate()?, &["request.example.test"])?;
    let pem = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(csr).as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n")
    );
    Ok(serde_json::from_value(json!({
        "apiVersion": CERT_MANAGER, "kind": "CertificateRequest", "metadata": { "name": name },
        "spec": { "request": STANDARD.encode(pem), "issuerRef": issuer },
    }))?)
}

/// What OpenSSL says of a Secret's chain and key.
fn openssl_accepts(secret: &Secret, name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = secret.data.as_ref().ok_or("an empty Secret")?;
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        let bytes = data.get(file).ok_or_else(|| format!("no {file} in the Secret"))?;
        fs::write(folder.path().join(file), &bytes.0)?;
    }
    let openssl = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output()?;
        succeeded(&output)?;
        Ok(output.stdout)
    };
    openssl(&[
        "verify",
        "-x509_strict",
        "-verify_hostname",
        name,
        "-CAfile",
        "ca.crt",
        "-untrusted",
        "tls.crt",
        "tls.crt",
    ])?;
    let certified = openssl(&["x509", "-in", "tls.crt", "-noout", "-pubkey"])?;
    let kept = openssl(&["pkey", "-in", "tls.key", "-pubout"])?;
    assert_eq!(String::from_utf8(certified)?, String::from_utf8(kept)?);
    Ok(())
}

async fn become_ready(plane: &Plane, namespace: &str, certificate: &str) -> Result<DynamicObject> {
    let certificates = plane.objects(CERT_MANAGER, "Certificate", namespace).await?;
    until(&certificates, certificate, until::condition("Ready", "True")).await
}

async fn secret(plane: &Plane, namespace: &str, name: &str) -> Result<Secret> {
    Ok(Api::namespaced(plane.client().await?, namespace).get(name).await?)
}

#[tokio::test]
async fn a_certificate_of_the_ca_issuer_becomes_ready_and_openssl_verifies_its_secret() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
    let namespace = plane.namespace("ca-issuer").await?;
    ca_issuer(plane, &namespace).await?;
    plane
        .apply_in(
            &namespace,
            r#"
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: { name: web }
spec:
  secretName: web
  dnsNames: [web.example.test]
  privateKey: { algorithm: ECDSA, size: 256 }
  issuerRef: { name: ca }
"#,
        )
        .await?;
    become_ready(plane, &namespace, "web").await?;
    openssl_accepts(&secret(plane, &namespace, "web").await?, "web.example.test")?;

    // It asked as the service account that its chart makes, and the webhook wrote that down.
    let requests = plane.objects(CERT_MANAGER, "CertificateRequest", &namespace).await?;
    let made = requests.get("web-1").await?;
    assert_eq!(made.data["spec"]["username"], "system:serviceaccount:cert-manager:cert-manager");
    let approved = until::conditions_of(&made).find(|condition| condition["type"] == "Approved");
    assert_eq!(approved.ok_or("nobody approved it")?["reason"], "cert-manager.io");
    Ok(())
}

#[tokio::test]
async fn a_request_for_a_foreign_issuer_that_nobody_approved_stays_untouched() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(cert_manager) = CertManager::shared(plane).await? else { return Ok(()) };
    let namespace = plane.namespace("foreign").await?;
    // The webhook looks the kind up before it says who may approve.
    plane
        .apply(
            r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: foreignissuers.foreign.example.test }
spec:
  group: foreign.example.test
  scope: Namespaced
  names: { plural: foreignissuers, singular: foreignissuer, kind: ForeignIssuer }
  versions:
    - name: v1
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object } }
"#,
        )
        .await?;
    let requests = plane.objects(CERT_MANAGER, "CertificateRequest", &namespace).await?;
    let foreign = json!({ "group": "foreign.example.test", "kind": "ForeignIssuer", "name": &namespace });
    requests.create(&PostParams::default(), &request("foreign", &foreign)?).await?;

    // cert-manager has seen it and was refused; then one of its own, made later, is done.
    let refused = format!("does not have permissions to set approved/denied conditions for issuer {{{namespace} ");
    cert_manager.controllers().until_it_prints(|line| line.contains(&refused)).await?;
    ca_issuer(plane, &namespace).await?;
    let seen = requests.get("foreign").await?;
    assert_eq!(seen.data.get("status"), None, "{}", serde_json::to_string(&seen)?);
    Ok(())
}

#[tokio::test]
async fn the_webhook_tells_who_asked_and_keeps_what_was_asked() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
    let namespace = plane.namespace("webhook").await?;
    let requests = plane.objects(CERT_MANAGER, "CertificateRequest", &namespace).await?;
    let mut forged = request("forged", &json!({ "name": "nobody" }))?;
    forged.data["spec"]["username"] = "system:serviceaccount:kube-system:somebody-else".into();
    let kept = requests.create(&PostParams::default(), &forged).await?;
    assert_eq!(kept.data["spec"]["username"], "administrator");

    for forged in [
        json!({ "spec": { "username": "system:serviceaccount:kube-system:somebody-else" } }),
        json!({ "spec": { "isCA": true } }),
        json!({ "spec": { "issuerRef": { "name": "another" } } }),
    ] {
        let answer = requests.patch("forged", &PatchParams::default(), &Patch::Merge(&forged)).await;
        let Err(Error::Api(status)) = answer else { return Err(format!("{forged} was taken: {answer:?}").into()) };
        assert!(status.message.contains("webhook.cert-manager.io"), "{}", status.message);
    }
    assert_eq!(requests.get("forged").await?.data["spec"], kept.data["spec"]);
    Ok(())
}

#[tokio::test]
async fn an_annotated_ingress_and_an_annotated_gateway_get_their_certificates() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
    let namespace = plane.namespace("shims").await?;
    ca_issuer(plane, &namespace).await?;
    plane
        .apply_in(
            &namespace,
            r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: ingress, annotations: { cert-manager.io/issuer: ca } }
spec:
  tls: [{ hosts: [ingress.example.test], secretName: ingress-tls }]
  defaultBackend: { service: { name: nothing, port: { number: 80 } } }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: gateway, annotations: { cert-manager.io/issuer: ca } }
spec:
  gatewayClassName: none
  listeners:
    - name: https
      hostname: gateway.example.test
      port: 443
      protocol: HTTPS
      tls: { mode: Terminate, certificateRefs: [{ name: gateway-tls }] }
"#,
        )
        .await?;
    for (name, host) in [("ingress-tls", "ingress.example.test"), ("gateway-tls", "gateway.example.test")] {
        let certificate = become_ready(plane, &namespace, name).await?;
        assert_eq!(certificate.owner_references().len(), 1);
        openssl_accepts(&secret(plane, &namespace, name).await?, host)?;
    }
    Ok(())
}
