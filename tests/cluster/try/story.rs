//! What is shown, in this order.

use std::fs;

use chancery_cluster_tests::{
    CertManager, Company, Issuing, Plane, Result, Visitor, company,
    nginx::{Backend, IngressController},
    until,
    visitor::first_of,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::Teller;

/// The host of `deploy/examples/nginx-ingress.yaml`.
const WIKI: &str = "wiki.apps.example.com";

pub(crate) async fn tell(teller: &Teller) -> Result<()> {
    let plane = teller
        .step("etcd, kube-apiserver and kube-controller-manager, as processes on loopback", async {
            Plane::shared().await?.ok_or_else(|| "there is no Kubernetes control plane on this machine".into())
        })
        .await?;
    teller
        .step("cert-manager: controllers and webhook, with the rights that its chart gives them", async {
            CertManager::shared(plane).await?.ok_or_else(|| "there is no cert-manager on this machine".into())
        })
        .await?;
    let issuing = teller
        .step("chancery-issuer, with the rights of deploy/issuer-rbac.yaml and no others", async {
            Issuing::shared().await?.ok_or_else(|| "the controller cannot run on this machine".into())
        })
        .await?;
    let mut company = teller
        .step(
            "the server, and deploy/examples/cluster-issuer.yaml: ChanceryClusterIssuer company is Ready",
            Box::pin(Company::start(issuing)),
        )
        .await?;
    let paid = teller
        .step("deploy/examples/certificate.yaml: Certificate web in payments is Ready", async {
            company.apply_example("certificate.yaml", |_| {}).await?;
            company.issued("payments", "web").await
        })
        .await?;
    let wiki = teller
        .step("deploy/examples/nginx-ingress.yaml: ingress-shim made Certificate wiki-tls, and it is Ready", async {
            company.apply_example("nginx-ingress.yaml", |_| {}).await?;
            company.issued("wiki", "wiki-tls").await
        })
        .await?;

    recorded(teller, &company, "web", &paid).await?;
    served(teller, &company, &wiki).await?;
    refused(teller, &company).await?;

    teller.heading("The same in a cluster of yours");
    teller.lines([
        "install:   docs/operations/install-on-kubernetes.md (two charts, five lines)",
        "gateways:  docs/operations/gateways.md (Istio, Gateway API, NGINX)",
    ]);
    let status = company.server.stop().await?;
    if !status.success() {
        return Err(format!("the server ended with {status} when it was told to stop").into());
    }
    Ok(())
}

/// The rule that allowed a certificate, and the ledger's record of it.
async fn recorded(teller: &Teller, company: &Company, certificate: &str, secret: &Secret) -> Result<()> {
    let der = first_of(company::chain(secret)?)?;
    let (_, parsed) = X509Certificate::from_der(&der)?;
    // DER begins a number whose first bit is set with an empty octet, which is not the serial's.
    let serial = parsed.raw_serial().strip_prefix(&[0]).unwrap_or(parsed.raw_serial());
    let serial: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = company.server.printed(&["certificate", "show", &serial]).await?;
    teller.heading(&format!(
        "The rule that allowed the Certificate {certificate}, and what was recorded before the signature"
    ));
    let policy = fs::read_to_string(company.server.path().join("policy.yaml"))?;
    teller.lines(rule_of(&policy, "payments"));
    let told = ["allowed ", "policy ", "recorded "];
    teller.lines(shown.lines().filter(|line| told.iter().any(|word| line.starts_with(word))));
    if !shown.lines().any(|line| line.starts_with("allowed ") && line.ends_with("by rule payments")) {
        return Err(format!("the record does not name the rule payments:\n{shown}").into());
    }

    let index = shown
        .lines()
        .find_map(|line| line.strip_prefix("recorded ")?.rsplit(' ').next())
        .ok_or_else(|| format!("the record does not say where the ledger has it:\n{shown}"))?;
    let record: Value = serde_json::from_str(&company.server.printed(&["ledger", "show", index]).await?)?;
    let at = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or("nothing");
    if at("/body/serial") != serial {
        return Err(format!("ledger record {index} is not that of serial {serial}:\n{record}").into());
    }
    teller.heading("In the ledger");
    let facts = format!(
        "record {index}: {} of serial {serial}, by the door {}, profile {}, decision {}",
        at("/kind"),
        at("/body/door"),
        at("/body/profile/name"),
        at("/body/decision/outcome"),
    );
    teller.lines([facts.as_str()]);
    teller.lines(company.server.printed(&["ledger", "verify"]).await?.lines());
    Ok(())
}

/// The lines of a rule in a policy.
fn rule_of<'a>(policy: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let first = format!("  - name: {name}");
    let mut lines = policy.lines().skip_while(move |line| *line != first);
    let named = lines.next();
    named.into_iter().chain(lines.take_while(|line| !line.starts_with("  - ")))
}

/// What nginx serves for the Ingress, as clients see it that trust the root alone.
async fn served(teller: &Teller, company: &Company, secret: &Secret) -> Result<()> {
    let backend = Backend::start().await?;
    let visitor = Visitor::trusting_only(&company.server.root_pem()?)?;
    teller.heading("The Ingress wiki, as it is served");
    let Some(mut controller) = IngressController::serve(company.plane(), "wiki", "wiki", &backend).await? else {
        return Err("nginx is needed to serve the Ingress".into());
    };
    let door = controller.door(WIKI);
    let certificate = first_of(company::chain(secret)?)?;
    visitor.until_served(&door, &certificate).await?;
    let (_, parsed) = X509Certificate::from_der(&certificate)?;
    let lines = [
        format!("nginx serves {door}, from the Secret wiki-tls"),
        format!("issued by {}, until {}", parsed.issuer(), parsed.validity().not_after),
        "rustls and openssl s_client, trusting only the company's root, verify it; it is the Secret's, byte for byte"
            .to_owned(),
    ];
    teller.lines(lines.iter().map(String::as_str));
    let renewed = first_of(company::chain(&company.renew("wiki", "wiki-tls").await?)?)?;
    controller.follow().await?;
    let after = visitor.until_served(&door, &renewed).await?;
    let line = format!("renewed, and {} ms after the reload the new one is served", after.as_millis());
    teller.lines([line.as_str()]);
    Ok(())
}

/// What a team sees that asks for another team's name.
async fn refused(teller: &Teller, company: &Company) -> Result<()> {
    teller.heading("How a refusal reads: the namespace wiki asks for the name of payments");
    let stolen = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "stolen" },
        "spec": {
            "secretName": "stolen-tls", "dnsNames": ["pay.apps.example.com"],
            "privateKey": { "algorithm": "ECDSA", "size": 256 },
            "issuerRef": { "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": "company" },
        },
    });
    company.plane().apply_documents("wiki", vec![stolen]).await?;
    let requests = company.plane().objects("cert-manager.io/v1", "CertificateRequest", "wiki").await?;
    let failed = until(&requests, "stolen-1", |request: Option<&DynamicObject>| {
        request.and_then(ready).is_some_and(|condition| condition.get("reason") == Some(&json!("Failed")))
    })
    .await?;
    let message = ready(&failed).and_then(|condition| condition.get("message")?.as_str()).unwrap_or_default();
    teller.lines(message.lines());
    if !message.contains("pay.apps.example.com") {
        return Err("the refusal does not name the name".into());
    }
    Ok(())
}

fn ready(request: &DynamicObject) -> Option<&Value> {
    until::conditions_of(request).find(|condition| condition.get("type") == Some(&json!("Ready")))
}
