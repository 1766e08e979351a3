//! The cases of cert-manager's conformance suite for CertificateSigningRequests, each with an issuer of the cluster and
//! with one of a namespace: what is asked for is asked of the server, and is what stands in the status.

use chancery_cluster_tests::{Result, SigningServer, controller};
use kube::api::PostParams;
use rcgen::{DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Test, leaf, params};

/// One case: a name for it, the names that are asked for, and what is changed of the object.
struct Case {
    name: &'static str,
    key: KeyPair,
    names: &'static [&'static str],
    common_name: Option<&'static str>,
    object: Value,
    seconds: u64,
    is_ca: bool,
}

const QUARTER: u64 = 90 * 24 * 3600;

fn cases() -> Result<Vec<Case>> {
    let usual = |name, names, object| -> Result<Case> {
        let key = KeyPair::generate()?;
        Ok(Case { name, key, names, common_name: None, object, seconds: QUARTER, is_ca: false })
    };
    let plain = |name, names| usual(name, names, json!({}));
    let key = |name, key| Ok::<_, chancery_cluster_tests::Error>(Case { key, ..plain(name, &["key.example.test"])? });
    let usages = |usages: &[&str]| json!({ "spec": { "usages": usages } });
    let annotation = |key: &str, value: &str| json!({ "metadata": { "annotations": { (format!("experimental.cert-manager.io/{key}")): value } } });
    let ca = json!({
        "metadata": { "annotations": { "experimental.cert-manager.io/request-is-ca": "true" } },
        "spec": { "usages": ["cert sign", "digital signature"] },
    });
    Ok(vec![
        key("rsa", KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?)?,
        key("p256", KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)?,
        key("p384", KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)?,
        key("ed25519", KeyPair::generate_for(&PKCS_ED25519)?)?,
        plain("one-host", &["a.example.test"])?,
        plain("two-hosts", &["a.example.test", "b.example.test"])?,
        plain("wildcard", &["*.example.test"])?,
        plain("wildcard-and-apex", &["*.example.test", "example.test"])?,
        plain("address", &["10.1.2.3"])?,
        plain("host-and-address", &["a.example.test", "10.1.2.3"])?,
        plain("uri", &["spiffe://cluster.local/ns/sandbox/sa/foo"])?,
        plain("host-and-uri", &["a.example.test", "spiffe://cluster.local/ns/sandbox/sa/foo"])?,
        plain("mailbox", &["alice@example.test"])?,
        plain(
            "long-host",
            &["0123456789012345678901234567890123456789012345678901234567890.very-long-label.example.test"],
        )?,
        Case { common_name: Some("a.example.test"), ..plain("common-name", &["a.example.test"])? },
        Case {
            common_name: Some("a.example.test"),
            ..plain("common-name-and-address", &["a.example.test", "10.1.2.3"])?
        },
        usual("client", &["a.example.test"], usages(&["client auth", "digital signature"]))?,
        usual("client-and-server", &["a.example.test"], usages(&["client auth", "server auth"]))?,
        usual("key-encipherment", &["a.example.test"], usages(&["key encipherment", "server auth"]))?,
        Case {
            seconds: 3600,
            ..usual("seconds", &["a.example.test"], json!({ "spec": { "expirationSeconds": 3600 } }))?
        },
        Case { seconds: 5400, ..usual("duration", &["a.example.test"], annotation("request-duration", "1h30m"))? },
        Case { seconds: 600, ..usual("shortest", &["a.example.test"], annotation("request-duration", "10m"))? },
        Case { is_ca: true, ..usual("ca", &["a.example.test"], ca)? },
    ])
}

impl Case {
    fn csr(&self) -> Result<String> {
        let mut params = params(self.names)?;
        if let Some(common_name) = self.common_name {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        Ok(params.serialize_request(&self.key)?.pem()?)
    }
}

/// Asks for all, then looks at all.
async fn holds(test: &Test, server: &SigningServer, signer_name: &str) -> Result<()> {
    let cases = cases()?;
    assert_eq!(cases.len(), 23);
    for case in &cases {
        let mut object = json!({ "spec": { "signerName": signer_name } });
        json_patch::merge(&mut object, &case.object);
        test.ask(case.name, &case.csr()?, &object).await?;
        test.approve(case.name).await?;
    }
    for case in &cases {
        let chain = test.until_issued(case.name).await?;
        let der = leaf(&chain)?;
        let (_, certificate) = X509Certificate::from_der(&der)?;
        let name = case.name;
        assert_eq!(certificate.public_key().raw, case.key.subject_public_key_info(), "{name}");
        assert_eq!(certificate.is_ca(), case.is_ca, "{name}");
        let san = certificate.subject_alternative_name()?.ok_or("no names")?;
        assert_eq!(san.value.general_names.len(), case.names.len(), "{name}");
        let common_name = certificate.subject().iter_common_name().next().and_then(|value| value.as_str().ok());
        assert_eq!(common_name, case.common_name, "{name}");
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "{name}: the root is left out");
        let object = test.requests().await?.get(&test.named(name)).await?;
        let asked = server.asked();
        let asked = asked.iter().find(|asked| Some(&asked.uid) == object.metadata.uid.as_ref()).ok_or("not asked")?;
        assert_eq!((asked.lifetime_s, asked.is_ca), (Some(case.seconds), case.is_ca), "{name}");
        assert_eq!(Some(&asked.usages), object.spec.usages.as_ref(), "{name}");
        assert_eq!(asked.origin.username.as_deref(), Some("administrator"), "{name}");
        let issuer = asked.origin.issuer.as_ref().ok_or("no signer")?;
        assert_eq!((issuer.kind.as_str(), issuer.name.as_str()), ("Signer", signer_name), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn an_issuer_of_the_cluster_signs_each_of_the_cases() -> Result<()> {
    let Some(test) = Test::ready("kcsr-cluster", &json!({})).await? else { return Ok(()) };
    holds(&test, &test.server, &test.signer_name()).await?;
    assert!(test.server.asked().iter().all(|asked| asked.origin.namespace.is_none()));
    Ok(())
}

#[tokio::test]
async fn an_issuer_of_a_namespace_signs_each_of_the_cases() -> Result<()> {
    let Some(test) = Test::without_issuer("kcsr-namespaced").await? else { return Ok(()) };
    let (issuing, namespace) = (test.issuing, &test.namespace);
    let signer_name = test.make_own_issuer().await?;
    holds(&test, &issuing.allowed, &signer_name).await?;
    let ours = issuing.allowed.asked().into_iter().filter(|asked| asked.origin.name.starts_with(namespace.as_str()));
    assert!(ours.into_iter().all(|asked| asked.origin.namespace.as_ref() == Some(namespace)));
    Ok(())
}

#[tokio::test]
async fn an_issuer_of_a_namespace_has_no_settings_that_are_the_clusters() -> Result<()> {
    let Some(test) = Test::without_issuer("kcsr-cel").await? else { return Ok(()) };
    let issuers = test.issuing.plane.objects("chancery.dev/v1", "ChanceryIssuer", &test.namespace).await?;
    for more in [
        json!({ "publishRoots": true }),
        json!({ "podCertificates": { "trustDomain": "cluster.local" } }),
        json!({ "registrationAuthority": {
            "serviceAccount": { "namespace": "istio-system", "name": "istiod" }, "trustDomain": "cluster.local",
        } }),
    ] {
        let mut issuer = controller::issuer("ChanceryIssuer", "own", "https://ca.example", "x");
        json_patch::merge(&mut issuer, &json!({ "spec": more }));
        let refused = issuers.create(&PostParams::default(), &serde_json::from_value(issuer)?).await;
        let words = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(words.contains("for a ChanceryClusterIssuer alone"), "{more}: {words}");
    }
    Ok(())
}
