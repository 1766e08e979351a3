//! Requests that lie: about what they ask for, about whom they are for, and about whom they are meant for.

use chancery_cluster_tests::{Result, controller, until};
use kube::{ResourceExt as _, api::PostParams};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use super::{Ground, approval::set, message, ready_with};

/// A CSR for one name, with what a test does to it.
fn csr(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<String> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
}

/// The `certificate` and the name of what the server has issued for the namespace.
async fn recorded(ground: &Ground) -> Result<Vec<Value>> {
    let server = ground.issuing.real.server();
    let listed = server.json(&["certificate", "list", "--cluster", "plane", "--namespace", &ground.namespace]).await?;
    Ok(listed.as_array().cloned().unwrap_or_default())
}

#[tokio::test]
async fn a_csr_that_asks_for_something_else_than_its_request_says_is_never_signed() -> Result<()> {
    let Some(ground) = Ground::new("disagree").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signs = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // cert-manager's webhook takes none of these.
    for (name, pem, more) in [
        ("ca", csr("ca.cluster.test", ca)?, json!({})),
        (
            "no-ca",
            csr("no-ca.cluster.test", |params| params.is_ca = IsCa::ExplicitNoCa)?,
            json!({ "spec": { "isCA": true } }),
        ),
        ("usages", csr("usages.cluster.test", signs)?, json!({})),
        (
            "garbage",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(),
            json!({}),
        ),
    ] {
        let answer = ground.request(name, &pem, &issuer, &more).await;
        let Err(kube::Error::Api(status)) = answer else { return Err(format!("{name} was taken: {answer:?}").into()) };
        assert!(status.message.contains("webhook.cert-manager.io"), "{name}: {}", status.message);
    }
    // What the webhook lets pass: extensions that the request's specification knows nothing of, a second CSR behind the
    // first, usages that no profile gives.
    let must_staple = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]);
    let staple = |params: &mut CertificateParams| params.custom_extensions.push(must_staple);
    let two = [csr("first.cluster.test", |_| ())?, csr("second.cluster.test", |_| ())?].concat();
    let usages = json!({ "spec": { "usages": ["digital signature", "code signing"] } });
    for (name, pem, more, words) in [
        ("staple", csr("staple.cluster.test", staple)?, json!({}), "must-staple"),
        ("two", two, json!({}), "one"),
        ("code", csr("code.cluster.test", |_| ())?, usages, "code signing"),
        ("elsewhere", csr("www.elsewhere.example", |_| ())?, json!({}), "www.elsewhere.example"),
        ("short", csr("short.cluster.test", |_| ())?, json!({ "spec": { "duration": "1m" } }), "10m"),
        ("long", csr("long.cluster.test", |_| ())?, json!({ "spec": { "duration": "87600h" } }), "90d"),
    ] {
        ground.request(name, &pem, &issuer, &more).await?;
        let failed = until(&ground.requests, name, ready_with("Failed")).await?;
        assert!(failed.data["status"]["failureTime"].is_string(), "{name}");
        assert!(message(&failed).contains(words), "{name}: {}", message(&failed));
    }
    assert_eq!(recorded(&ground).await?, Vec::<Value>::new());
    Ok(())
}

#[tokio::test]
async fn a_ca_gets_the_constraints_of_its_profile_and_no_others() -> Result<()> {
    let Some(ground) = Ground::new("constraints").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let spec = json!({
        "isCA": true, "dnsNames": ["wide.ca.cluster.test"],
        "nameConstraints": { "permitted": { "dnsDomains": ["example.com"] } },
    });
    ground.ask("wide", &issuer, &spec).await?;
    let failed = ground.request_of("wide", "Failed").await?;
    assert!(message(&failed).contains("name constraints are set by profile"), "{}", message(&failed));
    // One without a rule that says so is none, whatever names it has.
    ground.ask("rule", &issuer, &json!({ "isCA": true, "dnsNames": ["rule.cluster.test"] })).await?;
    let failed = ground.request_of("rule", "Failed").await?;
    assert!(message(&failed).starts_with("Policy refuses"), "{}", message(&failed));
    Ok(())
}

#[tokio::test]
async fn whoever_writes_a_certificates_name_on_a_request_is_not_believed() -> Result<()> {
    let Some(ground) = Ground::new("forged").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    ground.ask("victim", &issuer, &json!({ "dnsNames": ["victim.cluster.test"] })).await?;
    let victim = ground.issued("victim", 1).await?.certificate;
    let annotations = json!({
        "cert-manager.io/certificate-name": "victim", "cert-manager.io/certificate-revision": "7",
        "cert-manager.io/private-key-secret-name": "victim-tls", "chancery.dev/profile": "teams",
    });
    let owner = |uid: &str, controller: bool| {
        json!([{
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "victim", "uid": uid, "controller": controller,
        }])
    };
    let uid = victim.uid().ok_or("no UID")?;
    // One that is there, or what it owns would be collected.
    let map = "{ apiVersion: v1, kind: ConfigMap, metadata: { name: victim } }";
    let map = ground.issuing.plane.apply_in(&ground.namespace, map).await?;
    let of_a_map = map.first().and_then(kube::ResourceExt::uid).ok_or("no UID")?;
    for (name, owners) in [
        ("annotated", json!([])),
        ("not-controlled", owner(&uid, false)),
        (
            "of-another-kind",
            json!([{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "victim", "uid": of_a_map, "controller": true,
            }]),
        ),
    ] {
        let host = format!("{name}.cluster.test");
        let more = json!({ "metadata": { "annotations": annotations, "ownerReferences": owners } });
        ground.request(name, &csr(&host, |_| ())?, &issuer, &more).await?;
        until(&ground.requests, name, ready_with("Issued")).await?;
    }
    let all = recorded(&ground).await?;
    assert_eq!(all.len(), 4, "{all:?}");
    let of_the_victim: Vec<&Value> = all.iter().filter(|one| one["certificate"] == "victim").collect();
    assert_eq!(of_the_victim.len(), 1, "{all:?}");
    assert!(of_the_victim.iter().all(|one| one.to_string().contains("victim.cluster.test")), "{all:?}");
    assert!(all.iter().all(|one| one["profile"] == "kubernetes"), "{all:?}");
    Ok(())
}

#[tokio::test]
async fn a_reference_that_looks_like_ours_is_not_ours() -> Result<()> {
    let Some(ground) = Ground::new("alike").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let name = issuer["name"].clone();
    let group = "chancery.dev";
    let mut made = Vec::new();
    for (number, (group, kind)) in [
        (group, "chanceryclusterissuer"),
        (group, "ChanceryClusterIssuers"),
        (group, "ChanceryClusterIssuer "),
        ("Chancery.dev", "ChanceryClusterIssuer"),
        ("chancery.dev.", "ChanceryClusterIssuer"),
        ("chancery.dev.evil.example", "ChanceryClusterIssuer"),
        ("xchancery.dev", "ChanceryClusterIssuer"),
        ("cert-manager.io", "ChanceryClusterIssuer"),
        ("", "ChanceryClusterIssuer"),
    ]
    .into_iter()
    .enumerate()
    {
        let reference = json!({ "group": group, "kind": kind, "name": name });
        let request = format!("alike-{number}");
        match ground.request(&request, &csr("alike.cluster.test", |_| ())?, &reference, &json!({})).await {
            Ok(_) => made.push(request),
            // The webhook knows which kinds its own group has.
            Err(kube::Error::Api(status)) => assert!(status.message.contains("kind"), "{}", status.message),
            Err(error) => return Err(error.into()),
        }
    }
    assert!(made.len() >= 7, "{made:?}");
    // What came behind them is done.
    ground.ask("after", &issuer, &json!({ "dnsNames": ["after.cluster.test"] })).await?;
    ground.issued("after", 1).await?;
    for request in made {
        let seen = ground.requests.get(&request).await?;
        let ours = seen.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some("chancery-issuer"));
        assert!(!ours, "{request}: {seen:?}");
    }
    assert_eq!(recorded(&ground).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_secret_of_another_namespace_cannot_be_named() -> Result<()> {
    let Some(ground) = Ground::new("other-secret").await? else { return Ok(()) };
    let real = ground.issuing.real;
    ground.issuing.may_read_credentials(&ground.namespace).await?;
    ground.cluster_issuer().await?;
    let issuers = ground.issuing.plane.objects("chancery.dev/v1", "ChanceryIssuer", &ground.namespace).await?;
    let beside = controller::NAMESPACE;
    for (name, reference) in [
        ("slash", json!({ "name": format!("{beside}/conformance") })),
        ("dots", json!({ "name": format!("../../{beside}/secrets/conformance") })),
        ("escaped", json!({ "name": format!("..%2f..%2f{beside}%2fsecrets%2fconformance") })),
        ("query", json!({ "name": "conformance?fieldManager=x" })),
        // A field that the definition does not have.
        ("namespace", json!({ "name": "conformance", "namespace": beside })),
    ] {
        let mut issuer = controller::issuer("ChanceryIssuer", name, &real.url(), real.root());
        issuer["spec"]["credentials"] = json!({ "tokenSecretRef": reference });
        match issuers.create(&PostParams::default(), &serde_json::from_value(issuer)?).await {
            Ok(kept) => {
                assert_eq!(kept.data.pointer("/spec/credentials/tokenSecretRef/namespace"), None);
                let refused = until(&issuers, name, until::condition("Ready", "False")).await?;
                assert!(message(&refused).contains("Secret"), "{name}: {}", message(&refused));
            }
            Err(kube::Error::Api(status)) => assert_eq!(status.code, 422, "{name}: {}", status.message),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_denial_stands_above_everything_that_is_written_beside_it() -> Result<()> {
    let Some(ground) = Ground::new("denied").await? else { return Ok(()) };
    // Nobody approves for an issuer of this name but this test.
    let real = ground.issuing.real;
    ground.issuing.may_read_credentials(&ground.namespace).await?;
    ground.issuing.token(&ground.namespace, "unapproved", real.token()).await?;
    let issuer = controller::issuer("ChanceryIssuer", "unapproved", &real.url(), real.root());
    ground.issuing.plane.apply_documents(&ground.namespace, vec![issuer]).await?;
    let reference = json!({ "group": "chancery.dev", "kind": "ChanceryIssuer", "name": "unapproved" });
    let forged = json!({ "metadata": { "annotations": { "cert-manager.io/approved": "true", "approved": "true" } } });
    ground.request("denied", &csr("denied.cluster.test", |_| ())?, &reference, &forged).await?;
    set(&ground.requests, "denied", &["Denied"]).await??;
    let denied = until(&ground.requests, "denied", ready_with("Denied")).await?;
    assert_eq!(message(&denied), "The CertificateRequest was denied by an approval controller");
    assert!(denied.data["status"]["failureTime"].is_string());
    assert_eq!(recorded(&ground).await?, Vec::<Value>::new());
    Ok(())
}
