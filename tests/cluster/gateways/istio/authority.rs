//! istiod as the company's registration authority: its own certificate and those of the pods come from the server, and each
//! pod gets its own identity.

use std::{fs, path::Path, process::Command};

use chancery_cluster_tests::{
    Company, Result,
    istio::{ISTIOD as ISTIOD_NAME, Identity, Istio, NAMESPACE},
    until,
    visitor::first_of,
};
use chancery_harness::server::succeeded;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::CertificateSigningRequest,
        core::v1::{ConfigMap, Secret},
    },
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::{Value, json};
use tokio::time::timeout;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use super::visitor;

const ISTIOD: &str = "system:serviceaccount:istio-system:istiod";
/// What the agent asks for if nothing is said.
const DAY: i32 = 86_400;

/// A pod's identity.
fn spiffe_id(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// How many certificates that the cluster has asked for hold a name, by the server's inventory.
async fn in_the_inventory(company: &Company, name: &str) -> Result<usize> {
    let listed = ["certificate", "list", "--cluster", "prod-eu", "--limit", "1000"];
    let listed = company.server.json(&listed).await?;
    let holds =
        |certificate: &&Value| certificate["names"].as_array().is_some_and(|names| names.contains(&name.into()));
    Ok(listed.as_array().ok_or("no list")?.iter().filter(holds).count())
}

/// The CSR of a request, as DER.
fn csr_of(request: &CertificateSigningRequest) -> Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0)?;
    Ok(pem.contents)
}

/// What it asks for: its alternative names, and how many other extensions.
fn asked_for(csr: &X509CertificationRequest<'_>) -> (Vec<String>, usize) {
    let (mut names, mut others) = (Vec::new(), 0);
    for extension in csr.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(held) => {
                names.extend(held.general_names.iter().map(|name| match name {
                    GeneralName::URI(uri) => (*uri).to_owned(),
                    other => format!("{other:?}"),
                }));
            }
            _ => others += 1,
        }
    }
    (names, others)
}

/// Why a request has failed.
fn failure(request: &CertificateSigningRequest) -> Option<&str> {
    let conditions = request.status.as_ref()?.conditions.iter().flatten();
    conditions.into_iter().find(|condition| condition.type_ == "Failed")?.message.as_deref()
}

/// That OpenSSL takes a chain for this purpose, knowing the root alone.
fn openssl_accepts(chain: &Path, root: &Path, purpose: &str) -> Result<()> {
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(root)
        .arg("-untrusted")
        .args([chain, chain])
        .output()?;
    succeeded(&output)
}

#[tokio::test]
async fn istiod_serves_a_certificate_of_the_companys_and_has_no_ca_of_its_own() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(istio) = Istio::shared(company).await? else { return Ok(()) };
    let (visitor, door) = (visitor(company)?, istio.door());
    let served = visitor.certificate(&door).await?;
    assert!(served == visitor.certificate_by_openssl(&door).await?, "{door} serves two certificates");
    assert_eq!(in_the_inventory(company, &door.name).await?, 1);

    let client = company.plane().client().await?;
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    for made_by_istio in ["istio-ca-secret", "cacerts"] {
        assert!(secrets.get_opt(made_by_istio).await?.is_none(), "istiod has made {made_by_istio}");
    }
    // By what it publishes, pods know it.
    let namespace = company.plane().namespace("mesh-root").await?;
    let map = until(&Api::<ConfigMap>::namespaced(client, &namespace), "istio-ca-root-cert", until::there()).await?;
    let published = map.data.and_then(|data| data.get("root-cert.pem").cloned()).ok_or("no root")?;
    assert_eq!(first_of(published.as_bytes())?, first_of(&fs::read(company.server.root_pem()?)?)?);
    Ok(())
}

#[tokio::test]
async fn a_pods_agent_gets_its_identity_from_the_company_by_a_request_of_istiods() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(istio) = Istio::shared(company).await? else { return Ok(()) };
    let namespace = company.plane().namespace("mesh").await?;
    let id = spiffe_id(&namespace, "web");
    // istiod deletes its requests: they are watched before there is one.
    let requests = Api::<CertificateSigningRequest>::all(company.plane().client().await?);
    let mut events = watcher(requests, watcher::Config::default()).boxed();
    while !matches!(events.try_next().await?.ok_or("a watch that ended")?, Event::InitDone) {}
    let mut workload = istio.workload(Identity { namespace: &namespace, account: "web", claimed: "web" }).await?;
    let (chain, root) = workload.until_certified().await?;

    let signed = async {
        while let Some(event) = events.try_next().await? {
            let Event::Apply(request) = event else { continue };
            let csr = csr_of(&request)?;
            let is_ours = asked_for(&X509CertificationRequest::from_der(&csr)?.1).0 == [id.as_str()];
            let certificate = request.status.as_ref().and_then(|status| status.certificate.clone());
            if let (true, Some(certificate)) = (is_ours, certificate) {
                return Ok((request, csr, certificate.0));
            }
        }
        Err::<_, chancery_cluster_tests::Error>("a watch that ended".into())
    };
    let (request, csr, certificate) = timeout(until::LIMIT, signed).await??;
    // What signers/registration.rs has istiod ask for.
    let spec = &request.spec;
    assert_eq!(spec.signer_name, "chanceryclusterissuers.chancery.dev/mesh");
    assert_eq!(spec.username.as_deref(), Some(ISTIOD));
    assert_eq!(
        spec.usages.as_deref().unwrap_or_default(),
        ["digital signature", "key encipherment", "server auth", "client auth"]
    );
    assert_eq!(spec.expiration_seconds, Some(DAY));
    assert_eq!(request.metadata.annotations, None);
    let (_, csr) = X509CertificationRequest::from_der(&csr)?;
    assert_eq!(asked_for(&csr).1, 0, "extensions beside the names");
    let subject = &csr.certification_request_info.subject;
    assert_eq!(subject.iter_attributes().count(), 1, "{subject}");
    assert_eq!(subject.iter_organization().next().and_then(|name| name.as_str().ok()), Some(""), "{subject}");

    // The pod has what was signed, and trusts the company's root.
    let held = fs::read(&chain)?;
    assert_eq!(first_of(&held)?, first_of(&certificate)?);
    let company_root = company.server.root_pem()?;
    assert_eq!(first_of(&fs::read(&root)?)?, first_of(&fs::read(&company_root)?)?);
    for purpose in ["sslserver", "sslclient"] {
        openssl_accepts(&chain, &company_root, purpose)?;
    }
    let leaf = first_of(&held)?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf)?;
    let names = leaf.subject_alternative_name()?.ok_or("no names")?;
    assert!(names.critical && names.value.general_names == [GeneralName::URI(&id)], "{names:?}");
    // The last second of a life counts, too.
    let validity = leaf.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp() + 1, i64::from(DAY));
    assert_eq!(in_the_inventory(company, &id).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_pod_that_claims_anothers_identity_gets_no_certificate() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(istio) = Istio::shared(company).await? else { return Ok(()) };
    let namespace = company.plane().namespace("mesh-thief").await?;
    // Its token says who it is; its agent asks for another's name.
    let thief = istio.workload(Identity { namespace: &namespace, account: "thief", claimed: "web" }).await?;
    thief.agent().until_it_prints(|line| line.contains("unable to validate SAN Identities in CSR")).await?;
    for account in ["web", "thief"] {
        assert_eq!(in_the_inventory(company, &spiffe_id(&namespace, account)).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn nobody_but_istiod_gets_istiods_name_although_an_administrator_approves() -> Result<()> {
    let Some(company) = Company::shared().await? else { return Ok(()) };
    let Some(_) = Istio::shared(company).await? else { return Ok(()) };
    let requests = Api::<CertificateSigningRequest>::all(company.plane().client().await?);
    let mut asked = CertificateParams::new([ISTIOD_NAME.to_owned()])?;
    asked.distinguished_name = DistinguishedName::new();
    let csr = asked.serialize_request(&KeyPair::generate()?)?.pem()?;
    let request = serde_json::from_value(json!({
        "metadata": { "generateName": "stolen-" },
        "spec": {
            "signerName": "chanceryclusterissuers.chancery.dev/istiod", "request": ByteString(csr.into_bytes()),
            "usages": ["digital signature", "server auth"], "expirationSeconds": DAY,
        },
    }))?;
    let name = requests.create(&PostParams::default(), &request).await?.name_any();
    let approved = json!({ "type": "Approved", "status": "True", "reason": "Tests", "message": "as the test wants" });
    let patch = Patch::Merge(json!({ "status": { "conditions": [approved] } }));
    requests.patch_approval(&name, &PatchParams::default(), &patch).await?;
    let failed = |request: Option<&CertificateSigningRequest>| request.and_then(failure).is_some();
    let ended = until(&requests, &name, failed).await?;
    let words = failure(&ended).unwrap_or_default();
    assert!(words.starts_with("Policy refuses") && words.contains(ISTIOD_NAME), "{words}");
    assert!(ended.status.is_some_and(|status| status.certificate.is_none()));
    Ok(())
}
