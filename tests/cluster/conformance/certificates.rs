//! The suite's Certificates, asked from an issuer of the whole cluster and from one of a namespace.

use chancery_cluster_tests::Result;
use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{CASES, Case, Ground, Issued, Trust, faults};

/// Below it everything is allowed to the cluster.
const DOMAIN: &str = "cluster.test";
/// How many Certificates are asked for at once.
const AT_ONCE: usize = 8;

/// Every case that an issuer does not pass, and why.
pub(crate) async fn failed(
    ground: &Ground,
    issuer: &Value,
    cases: &[&Case],
    domain: &str,
    trust: &Trust<'_>,
) -> Vec<String> {
    stream::iter(cases)
        .map(|case| async move {
            let outcome = ground.passes(case.name, issuer, &(case.spec)(domain), trust).await;
            outcome.err().map(|error| format!("{}: {error}", case.name))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |failed| failed)
        .collect()
        .await
}

fn trust(ground: &Ground) -> Trust<'static> {
    Trust { root: ground.issuing.real.root(), acme: false }
}

#[tokio::test]
async fn an_issuer_of_the_whole_cluster_passes_every_case_of_the_suite() -> Result<()> {
    let Some(ground) = Ground::new("suite").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let cases: Vec<&Case> = CASES.iter().collect();
    let failed = failed(&ground, &issuer, &cases, DOMAIN, &trust(&ground)).await;
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test]
async fn an_issuer_of_a_namespace_passes_every_case_of_the_suite() -> Result<()> {
    let Some(ground) = Ground::new("suite-tenant").await? else { return Ok(()) };
    let issuer = ground.namespaced_issuer().await?;
    let cases: Vec<&Case> = CASES.iter().collect();
    let failed = failed(&ground, &issuer, &cases, DOMAIN, &trust(&ground)).await;
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test]
async fn whatever_is_not_as_asked_for_is_found() -> Result<()> {
    let Some(ground) = Ground::new("found").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let spec = json!({ "dnsNames": ["found.cluster.test"] });
    let mut issued = ground.passes("found", &issuer, &spec, &trust(&ground)).await?;
    let spec = issued.certificate.data["spec"].clone();
    for (change, words) in [
        (json!({ "dnsNames": ["other.cluster.test"] }), "OpenSSL"),
        (json!({ "dnsNames": ["found.cluster.test", "other.cluster.test"] }), "alternative names"),
        (json!({ "emailAddresses": ["found@cluster.test"] }), "alternative names"),
        (json!({ "commonName": "test-common-name-1" }), "common name"),
        (json!({ "literalSubject": "CN=found" }), "subject"),
        (json!({ "isCA": true }), "CA"),
        (json!({ "duration": "2161h" }), "it lives"),
        (json!({ "renewBefore": "1h" }), "it is renewed"),
        (json!({ "usages": ["digital signature"] }), "key usages"),
        (json!({ "usages": ["digital signature", "key encipherment", "client auth"] }), "extended key usages"),
        (json!({ "privateKey": { "algorithm": "ECDSA" } }), "kind of key"),
    ] {
        issued.certificate.data["spec"] = spec.clone();
        json_patch::merge(&mut issued.certificate.data["spec"], &change);
        let found = faults(&issued, &trust(&ground))?;
        assert!(found.iter().any(|fault| fault.starts_with(words)), "{change}: {found:?}");
    }
    issued.certificate.data["spec"] = spec;
    let own = issued.octets("tls.crt")?.to_vec();
    let other =
        ground.passes("other", &issuer, &json!({ "dnsNames": ["found.cluster.test"] }), &trust(&ground)).await?;
    for (key, octets, words) in [
        ("tls.crt", other.octets("tls.crt")?.to_vec(), "the key"),
        ("tls.crt", [own.clone(), ground.issuing.real.root().into()].concat(), "the root is in the chain"),
        ("ca.crt", own.clone(), "ca.crt"),
        ("more.crt", own, "keys of the Secret"),
    ] {
        let mut changed = Issued { certificate: issued.certificate.clone(), secret: issued.secret.clone() };
        changed.secret.data.get_or_insert_default().insert(key.to_owned(), k8s_openapi::ByteString(octets));
        let found = faults(&changed, &trust(&ground))?;
        assert!(found.iter().any(|fault| fault.starts_with(words)), "{key}: {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_was_lost_is_issued_again_for_the_same_key_where_that_is_kept() -> Result<()> {
    let Some(ground) = Ground::new("reuse").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let spec = json!({ "dnsNames": ["reuse.cluster.test"], "privateKey": { "rotationPolicy": "Never" } });
    let first = ground.passes("reuse", &issuer, &spec, &trust(&ground)).await?;
    let lost = json!({ "data": { "tls.crt": "" } });
    ground.secrets.patch("reuse-tls", &PatchParams::default(), &Patch::Merge(&lost)).await?;
    let second = ground.issued("reuse", 2).await?;
    assert_eq!(faults(&second, &trust(&ground))?, Vec::<String>::new());
    assert_eq!(first.octets("tls.key")?, second.octets("tls.key")?);
    assert_ne!(first.octets("tls.crt")?, second.octets("tls.crt")?);

    // Without the Secret the key is gone, too.
    ground.secrets.delete("reuse-tls", &DeleteParams::default()).await?;
    let third = ground.issued("reuse", 3).await?;
    assert_eq!(faults(&third, &trust(&ground))?, Vec::<String>::new());
    assert_ne!(second.octets("tls.key")?, third.octets("tls.key")?);
    Ok(())
}

#[tokio::test]
async fn a_dns_name_that_is_added_leads_to_a_new_certificate_with_both() -> Result<()> {
    let Some(ground) = Ground::new("add").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    ground.passes("add", &issuer, &json!({ "dnsNames": ["one.cluster.test"] }), &trust(&ground)).await?;
    ground.ask("add", &issuer, &json!({ "dnsNames": ["one.cluster.test", "two.cluster.test"] })).await?;
    let both = ground.issued("add", 2).await?;
    assert_eq!(faults(&both, &trust(&ground))?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_renewal_is_a_new_certificate_and_the_server_tells_both_apart() -> Result<()> {
    let Some(ground) = Ground::new("renew").await? else { return Ok(()) };
    let issuer = ground.cluster_issuer().await?;
    let spec = json!({ "dnsNames": ["renew.cluster.test"], "privateKey": { "algorithm": "ECDSA" } });
    let first = ground.passes("renew", &issuer, &spec, &trust(&ground)).await?;
    ground.renew("renew").await?;
    let second = ground.issued("renew", 2).await?;
    assert_eq!(faults(&second, &trust(&ground))?, Vec::<String>::new());
    assert_ne!(first.octets("tls.crt")?, second.octets("tls.crt")?);
    assert_ne!(first.octets("tls.key")?, second.octets("tls.key")?, "keys are rotated unless they are to be kept");
    let server = ground.issuing.real.server();
    let listed = server
        .json(&[
            "certificate",
            "list",
            "--cluster",
            "plane",
            "--namespace",
            &ground.namespace,
            "--certificate",
            "renew",
        ])
        .await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    Ok(())
}
