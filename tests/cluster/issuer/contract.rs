//! What a request is told, and what is never done.

use std::process::Command;

use chancery_cluster_tests::{
    Result, controller,
    controller::{reasons_told, touched},
    signing_server::Behaviour,
    until,
};
use chancery_harness::server::succeeded;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Test, chain, label, message, pem, ready, until_event};

/// T1.
#[tokio::test]
async fn a_reference_that_is_not_exactly_ours_is_never_written_to() -> Result<()> {
    let Some(test) = Test::ready("foreign").await? else { return Ok(()) };
    test.issuing
        .plane
        .apply(
            r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: foreignissuers.chancery.dev, annotations: { api-approved.kubernetes.io: unapproved } }
spec:
  group: chancery.dev
  scope: Namespaced
  names: { plural: foreignissuers, singular: foreignissuer, kind: ForeignIssuer }
  versions: [{ name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }]
"#,
        )
        .await?;
    let mut uids = Vec::new();
    for (name, group, kind) in [
        ("our-group-foreign-kind", "chancery.dev", "ForeignIssuer"),
        // The webhook takes no other kinds without a group.
        ("no-group", "", "Issuer"),
        ("foreign-group", "cert-manager.io", "ClusterIssuer"),
    ] {
        let reference = json!({ "spec": { "issuerRef": { "group": group, "kind": kind } } });
        uids.push((name, test.ask_with(name, &pem("a.example.test")?, &reference).await?));
    }
    // The webhook takes an approval only for a kind that exists.
    test.approve("our-group-foreign-kind").await?;
    test.barrier().await?;
    for (name, uid) in uids {
        let seen = test.requests.get(name).await?;
        assert!(!touched(&seen), "{name}: {seen:?}");
        assert_eq!(reasons_told(test.issuing.plane, &uid).await?, Vec::<String>::new(), "{name}");
        assert_eq!(test.server.asked_for(&uid), 0, "{name}");
    }
    Ok(())
}

/// T2.
#[tokio::test]
async fn nothing_is_written_and_nobody_asked_before_approval() -> Result<()> {
    let Some(test) = Test::ready("unapproved").await? else { return Ok(()) };
    let uid = test.ask("web").await?;
    test.barrier().await?;
    let seen = test.requests.get("web").await?;
    assert!(!touched(&seen) && ready(&seen).is_none(), "{seen:?}");
    assert_eq!(test.server.asked_for(&uid), 0);
    Ok(())
}

/// T3 and T4.
#[tokio::test]
async fn a_denial_is_answered_with_its_time_whatever_stood_there_before() -> Result<()> {
    let Some(test) = Test::ready("denied").await? else { return Ok(()) };
    for before in [None, Some(("Unknown", "Initializing")), Some(("False", "Pending"))] {
        let name = before.map_or("only", |(_, reason)| reason).to_lowercase();
        let uid = test.ask(&name).await?;
        if let Some((status, reason)) = before {
            test.add_condition(&name, "Ready", status, reason).await?;
        }
        test.deny(&name).await?;
        let denied = test.until_ready(&name, "False", "Denied").await?;
        assert_eq!(message(&denied), "The CertificateRequest was denied by an approval controller");
        let time = denied.data["status"]["failureTime"].as_str().ok_or("no failureTime")?.to_owned();
        label(&test.requests, &name, "again").await?;
        test.barrier().await?;
        let later = test.requests.get(&name).await?;
        assert_eq!(later.data["status"]["failureTime"], time.as_str(), "once");
        assert_eq!(test.server.asked_for(&uid), 0);
    }
    Ok(())
}

/// T5.
#[tokio::test]
async fn a_request_waits_for_its_issuer_and_goes_on_as_soon_as_that_is_ready() -> Result<()> {
    let Some(test) = Test::without_issuer("absent").await? else { return Ok(()) };
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    let waiting = test.until_ready("web", "False", "Pending").await?;
    assert!(message(&waiting).contains("no ChanceryClusterIssuer"), "{}", message(&waiting));
    test.issuing.ready_cluster_issuer(&test.namespace, &test.server).await?;
    let issued = test.until_ready("web", "True", "Issued").await?;
    assert_eq!(message(&issued), "Certificate fetched from issuer successfully");
    assert_eq!(test.server.asked_for(&uid), 1);
    let at = |object: &kube::api::DynamicObject| -> Result<k8s_openapi::jiff::Timestamp> {
        let time = ready(object).and_then(|ready| ready["lastTransitionTime"].as_str()).ok_or("no time")?;
        Ok(time.parse()?)
    };
    let issuer = test.issuers().await?.get(&test.namespace).await?;
    let late = at(&issued)?.duration_since(at(&issuer)?);
    // Times of conditions are whole seconds.
    assert!(late.as_secs() <= 2, "{late:?} after the issuer");
    Ok(())
}

/// T6.
#[tokio::test]
async fn an_issuer_that_has_changed_signs_nothing_before_it_is_checked() -> Result<()> {
    let Some(test) = Test::ready("stale").await? else { return Ok(()) };
    let issuers = test.issuers().await?;
    let profile = |name: serde_json::Value| json!({ "spec": { "profile": name } });
    let patched = issuers
        .patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&profile(json!("no-such-profile"))))
        .await?;
    assert_eq!(patched.metadata.generation, Some(2));
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    test.until_ready("web", "False", "Pending").await?;
    let refused = until(&issuers, &test.namespace, until::condition("Ready", "False")).await?;
    assert!(message(&refused).contains("no-such-profile"), "{}", message(&refused));
    assert_eq!(test.server.asked_for(&uid), 0);
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&profile(json!("server")))).await?;
    test.until_ready("web", "True", "Issued").await?;
    assert_eq!(test.server.asked().last().and_then(|asked| asked.profile.clone()), Some("server".to_owned()));
    Ok(())
}

/// T7.
#[tokio::test]
async fn what_can_never_be_signed_fails_with_its_time_and_the_rule() -> Result<()> {
    let Some(test) = Test::ready("never").await? else { return Ok(()) };
    let output = Command::new("openssl")
        .args(["req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "/dev/null", "-subj", "/"])
        .args(["-addext", "subjectAltName=DNS:weak.example.test"])
        .output()?;
    succeeded(&output)?;
    let weak = test.ask_with("weak", &String::from_utf8(output.stdout)?, &json!({})).await?;
    test.approve("weak").await?;
    let failed = test.until_ready("weak", "False", "Failed").await?;
    assert!(message(&failed).contains("key"), "{}", message(&failed));
    assert_eq!(test.server.asked_for(&weak), 0, "nobody is asked for what cannot be");

    test.server.behave(Behaviour::Refuse("web.example.test is not among *.shop.example".to_owned()));
    let refused = test.ask("web").await?;
    test.approve("web").await?;
    let failed = test.until_ready("web", "False", "Failed").await?;
    assert!(failed.data["status"]["failureTime"].is_string());
    let words = message(&failed);
    assert!(words.contains("no-such-names") && words.contains("not among *.shop.example"), "{words}");
    test.server.behave(Behaviour::Sign);
    label(&test.requests, "web", "again").await?;
    test.barrier().await?;
    assert_eq!(test.server.asked_for(&refused), 1, "never again");
    assert_eq!(reasons_told(test.issuing.plane, &refused).await?, ["PermanentError"]);
    Ok(())
}

/// T12.
#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_never_handed_on_and_not_left_valid() -> Result<()> {
    let Some(test) = Test::ready("lies").await? else { return Ok(()) };
    // What a controller that dies was about to do, the next one does not know.
    let controller = test.issuing.controller.read().await;
    test.revoke_what_is_deleted().await?;
    for (name, behaviour) in [
        ("wrong-key", Behaviour::WrongKey),
        ("expired", Behaviour::Expired),
        ("foreign-chain", Behaviour::ForeignChain),
        ("too-long", Behaviour::TooLong),
        ("other-names", Behaviour::OtherNames),
    ] {
        test.server.behave(behaviour);
        let uid = test.ask(name).await?;
        test.approve(name).await?;
        let failed = test.until_ready(name, "False", "Failed").await?;
        let status = &failed.data["status"];
        assert!(status["failureTime"].is_string() && status.get("certificate").is_none(), "{name}: {status}");
        assert_eq!(test.server.asked_for(&uid), 1, "{name}");
        controller.until_it_prints(|line| line.contains(&uid) && line.contains("ERROR")).await?;
        test.server.until("its revocation", |server| server.revoked().contains(&(uid.clone(), Some(5)))).await?;
    }
    Ok(())
}

/// T13 and T14.
#[tokio::test]
async fn what_has_its_outcome_is_not_touched_again() -> Result<()> {
    let Some(test) = Test::ready("finished").await? else { return Ok(()) };
    let issued = test.issue("issued").await?;
    test.server.behave(Behaviour::Refuse("no".to_owned()));
    let failed = test.ask("failed").await?;
    test.approve("failed").await?;
    test.until_ready("failed", "False", "Failed").await?;
    test.server.behave(Behaviour::Sign);
    let mut before = Vec::new();
    for name in ["issued", "failed"] {
        before.push((name, label(&test.requests, name, "again").await?.resource_version()));
    }
    // Another profile is another generation of the issuer.
    let patch = json!({ "spec": { "profile": "server" } });
    test.issuers().await?.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    test.barrier().await?;
    for (name, version) in before {
        assert_eq!(test.requests.get(name).await?.resource_version(), version, "{name}");
    }
    assert_eq!((test.server.asked_for(&issued), test.server.asked_for(&failed)), (1, 1));
    Ok(())
}

/// T17 and T20.
#[tokio::test]
async fn annotations_choose_nothing_and_a_ca_is_asked_for_as_one() -> Result<()> {
    let Some(test) = Test::ready("tenant").await? else { return Ok(()) };
    let annotations = json!({ "metadata": { "annotations": {
        "chancery.dev/profile": "intermediate",
        "team": "web",
    } } });
    test.ask_with("web", &pem("web.example.test")?, &annotations).await?;
    test.approve("web").await?;
    test.until_ready("web", "True", "Issued").await?;
    let asked = test.server.asked();
    let asked = asked.last().ok_or("nobody was asked")?;
    assert_eq!(asked.profile, None, "the issuer names none");
    assert_eq!(asked.origin.annotations.get("team").map(String::as_str), Some("web"));
    assert_eq!(asked.origin.namespace.as_deref(), Some(test.namespace.as_str()));
    assert_eq!(asked.origin.username.as_deref(), Some("administrator"));
    assert_eq!(asked.origin.certificate, None, "nothing but an owner that is there says whom it is for");
    assert!(asked.term.is_some_and(|term| term > 0));
    let lease = asked.lease.as_ref().ok_or("a term of no Lease")?;
    let leases = Api::<Lease>::namespaced(test.issuing.plane.client().await?, controller::NAMESPACE);
    assert_eq!(leases.get("chancery-issuer").await?.metadata.uid.as_ref(), Some(&lease.uid));
    assert_eq!(lease.name, format!("{}/chancery-issuer", controller::NAMESPACE));
    assert_eq!(asked.lifetime_s, Some(90 * 24 * 3600));

    test.server.behave(Behaviour::Refuse("no CA is issued here".to_owned()));
    let mut params = rcgen::CertificateParams::new(["ca.example.test".to_owned()])?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&rcgen::KeyPair::generate()?)?.pem()?;
    let is_ca = json!({ "spec": { "isCA": true, "usages": ["cert sign", "digital signature"] } });
    test.ask_with("ca", &csr, &is_ca).await?;
    test.approve("ca").await?;
    let failed = test.until_ready("ca", "False", "Failed").await?;
    assert!(message(&failed).contains("no CA is issued here"), "{}", message(&failed));
    assert!(test.server.asked().last().is_some_and(|asked| asked.is_ca && asked.usages.len() == 2));
    Ok(())
}

#[tokio::test]
async fn a_certificate_becomes_ready_and_its_secret_holds_chain_and_root() -> Result<()> {
    let Some(test) = Test::ready("certificate").await? else { return Ok(()) };
    test.issuing.approved_by_cert_manager(&test.namespace).await?;
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "web" },
        "spec": {
            "secretName": "web-tls", "dnsNames": ["web.example.test"], "issuerRef": test.issuer_ref(),
            "privateKey": { "algorithm": "ECDSA", "size": 256 },
        },
    });
    test.issuing.plane.apply_documents(&test.namespace, vec![certificate]).await?;
    let certificates = test.issuing.plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    until(&certificates, "web", until::condition("Ready", "True")).await?;
    let secrets: Api<Secret> = Api::namespaced(test.issuing.plane.client().await?, &test.namespace);
    let data = secrets.get("web-tls").await?.data.ok_or("an empty Secret")?;
    let text = |key: &str| -> Result<String> { Ok(String::from_utf8(data.get(key).ok_or(key.to_owned())?.0.clone())?) };
    let requests = test.requests.list(&kube::api::ListParams::default()).await?;
    let request = requests.items.first().ok_or("no request")?;
    assert_eq!(text("tls.crt")?, chain(request)?);
    assert_eq!(text("ca.crt")?.trim(), test.server.root().replace('\r', "").trim());
    let asked = test.server.asked();
    let origin = &asked.last().ok_or("nobody was asked")?.origin;
    assert_eq!((origin.certificate.as_deref(), origin.secret.as_deref()), (Some("web"), Some("web-tls")));
    assert_eq!(origin.namespace_labels.get("kubernetes.io/metadata.name"), Some(&test.namespace));
    let uid = request.uid().ok_or("no UID")?;
    let used = [(uid.clone(), vec![format!("Secret {}/web-tls", test.namespace)])];
    test.server.until("a word of where it is used", |server| server.used() == used).await?;
    // Events come a moment later.
    until_event(test.issuing.plane.client().await?, &test.namespace, &uid).await?;
    assert_eq!(reasons_told(test.issuing.plane, &uid).await?, ["Issued"]);
    Ok(())
}
