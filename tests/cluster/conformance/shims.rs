//! The suite's Ingresses, Gateways and ListenerSets: annotations on them become Certificates, which are issued as asked.

use chancery_cluster_tests::{Result, until};
use serde_json::{Value, json};

use super::{CERT_MANAGER, Ground, Trust, faults};

/// Annotations that name an issuer, and these further ones.
fn annotations(issuer: &Value, more: &Value) -> Value {
    let mut all = json!({
        "cert-manager.io/issuer": issuer["name"],
        "cert-manager.io/issuer-kind": issuer["kind"],
        "cert-manager.io/issuer-group": issuer["group"],
    });
    json_patch::merge(&mut all, more);
    all
}

/// Annotations about fields of the Certificate.
fn fields(domain: &str) -> Value {
    json!({
        "cert-manager.io/common-name": domain,
        "cert-manager.io/duration": "999h",
        "cert-manager.io/renew-before": "111h",
        "cert-manager.io/usages": "digital signature,server auth",
        "cert-manager.io/private-key-algorithm": "ECDSA",
    })
}

fn ingress(name: &str, host: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "tls": [{ "hosts": [host], "secretName": format!("{name}-tls") }],
            "rules": [{
                "host": host,
                "http": { "paths": [{
                    "path": "/", "pathType": "Prefix", "backend": { "service": { "name": "web", "port": { "number": 80 } } },
                }] },
            }],
        },
    })
}

fn listener(name: &str, host: &str, secret: &str) -> Value {
    json!({
        "name": name, "hostname": host, "port": 443, "protocol": "HTTPS",
        "tls": { "mode": "Terminate", "certificateRefs": [{ "name": secret }] },
    })
}

fn gateway(name: &str, listeners: &[Value], annotations: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "gatewayClassName": "none", "listeners": listeners },
    })
}

impl Ground {
    /// Applies an object, waits for the Certificate of this name that it leads to, and holds it against itself.
    async fn leads_to(&self, object: Value, certificate: &str) -> Result<Value> {
        self.issuing.plane.apply_documents(&self.namespace, vec![object]).await?;
        let issued = self.issued(certificate, 1).await?;
        let found = faults(&issued, &Trust { root: self.issuing.real.root(), acme: false })?;
        if found.is_empty() { Ok(issued.certificate.data["spec"].clone()) } else { Err(found.join("\n").into()) }
    }
}

/// What the annotations of [`fields`] have become.
fn has_the_fields(spec: &Value, domain: &str) {
    assert_eq!(spec["dnsNames"], json!([domain]));
    assert_eq!(spec["commonName"], domain);
    assert_eq!((&spec["duration"], &spec["renewBefore"]), (&json!("999h0m0s"), &json!("111h0m0s")));
    assert_eq!(spec["usages"], json!(["digital signature", "server auth"]));
}

#[tokio::test]
async fn an_annotated_ingress_gets_its_certificate() -> Result<()> {
    let Some(ground) = Ground::new("ingress").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let object = ingress("plain", "plain.cluster.test", &annotations(&issuer, &json!({})));
    let spec = ground.leads_to(object, "plain-tls").await?;
    assert_eq!((&spec["dnsNames"], &spec["issuerRef"]), (&json!(["plain.cluster.test"]), &issuer));
    Ok(())
}

#[tokio::test]
async fn an_ingress_says_by_annotations_what_its_certificate_is_like() -> Result<()> {
    let Some(ground) = Ground::new("ingress-fields").await? else { return Ok(()) };
    let issuer = ground.namespaced_issuer().await?;
    let object = ingress("fields", "fields.cluster.test", &annotations(&issuer, &fields("fields.cluster.test")));
    has_the_fields(&ground.leads_to(object, "fields-tls").await?, "fields.cluster.test");
    Ok(())
}

#[tokio::test]
async fn an_annotated_gateway_gets_its_certificate() -> Result<()> {
    let Some(ground) = Ground::new("gateway").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let listeners = [listener("https", "gateway.cluster.test", "gateway-tls")];
    let spec =
        ground.leads_to(gateway("gateway", &listeners, &annotations(&issuer, &json!({}))), "gateway-tls").await?;
    assert_eq!((&spec["dnsNames"], &spec["issuerRef"]), (&json!(["gateway.cluster.test"]), &issuer));
    Ok(())
}

#[tokio::test]
async fn a_gateway_says_by_annotations_what_its_certificate_is_like() -> Result<()> {
    let Some(ground) = Ground::new("gateway-fields").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let listeners = [listener("https", "gateway.cluster.test", "gateway-tls")];
    let annotations = annotations(&issuer, &fields("gateway.cluster.test"));
    has_the_fields(
        &ground.leads_to(gateway("gateway", &listeners, &annotations), "gateway-tls").await?,
        "gateway.cluster.test",
    );
    Ok(())
}

#[tokio::test]
async fn listeners_of_a_gateway_that_share_a_secret_share_a_certificate() -> Result<()> {
    let Some(ground) = Ground::new("gateway-shared").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let mut other = listener("other", "two.cluster.test", "shared-tls");
    other["port"] = json!(8443);
    let listeners = [listener("one", "one.cluster.test", "shared-tls"), other];
    let spec = ground.leads_to(gateway("gateway", &listeners, &annotations(&issuer, &json!({}))), "shared-tls").await?;
    assert_eq!(spec["dnsNames"], json!(["one.cluster.test", "two.cluster.test"]));
    Ok(())
}

#[tokio::test]
async fn an_annotated_listener_set_gets_its_certificate() -> Result<()> {
    let Some(ground) = Ground::new("listener-set").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let mut parent = gateway("parent", &[json!({ "name": "http", "port": 80, "protocol": "HTTP" })], &json!({}));
    parent["spec"]["allowedListeners"] = json!({ "namespaces": { "from": "Same" } });
    ground.issuing.plane.apply_documents(&ground.namespace, vec![parent]).await?;
    let set = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet",
        "metadata": { "name": "set", "annotations": annotations(&issuer, &json!({})) },
        "spec": {
            "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "parent" },
            "listeners": [listener("https", "set.cluster.test", "set-tls")],
        },
    });
    let spec = ground.leads_to(set, "set-tls").await?;
    assert_eq!((&spec["dnsNames"], &spec["issuerRef"]), (&json!(["set.cluster.test"]), &issuer));
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_named_without_its_group_is_not_ours() -> Result<()> {
    let Some(ground) = Ground::new("shim-group").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let without = json!({ "cert-manager.io/issuer": issuer["name"] });
    ground.issuing.plane.apply_documents(&ground.namespace, vec![ingress("web", "web.cluster.test", &without)]).await?;
    let requests = &ground.requests;
    let waits = |object: Option<&kube::api::DynamicObject>| {
        object.is_some_and(|object| until::conditions_of(object).any(|condition| condition["reason"] == "Pending"))
    };
    // cert-manager's own, which waits for an issuer of its own of that name.
    let seen = until(requests, "web-tls-1", waits).await?;
    assert_eq!(seen.data["spec"]["issuerRef"]["group"], json!("cert-manager.io"), "{CERT_MANAGER}");
    let ours =
        seen.metadata.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some("chancery-issuer"));
    assert!(!ours, "{seen:?}");
    Ok(())
}
