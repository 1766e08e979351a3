//! PodCertificateRequests that are signed, and those that wait.

use chancery_cluster_tests::{Result, controller::touched, signing_server::Behaviour, until};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{PodCertificateRequest, PodCertificateRequestStatus},
        core::v1::{Node, Pod, ServiceAccount},
    },
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use super::{Test, leaf, public_key};

/// A pod on the node `node-1`, in the namespace of the test; nothing runs it.
pub(super) struct PodTest {
    pub(super) test: Test,
    pod: Pod,
    account: ServiceAccount,
    node: Node,
}

impl PodTest {
    /// With an issuer for pods.
    pub(super) async fn ready(beginning: &str) -> Result<Option<Self>> {
        Self::with(beginning, &json!({ "podCertificates": { "trustDomain": "cluster.local" } })).await
    }

    /// With an issuer that says this.
    pub(super) async fn with(beginning: &str, issuer: &Value) -> Result<Option<Self>> {
        let Some(test) = Test::ready(beginning, issuer).await? else { return Ok(None) };
        Self::of(test).await.map(Some)
    }

    pub(super) async fn of(test: Test) -> Result<Self> {
        let client = test.client().await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &test.namespace);
        let account = json!({ "metadata": { "name": "shop" } });
        let account = accounts.create(&PostParams::default(), &serde_json::from_value(account)?).await?;
        // All tests share it.
        let nodes: Api<Node> = Api::all(client.clone());
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } });
        let node = nodes.patch("node-1", &PatchParams::apply("tests"), &Patch::Apply(&node)).await?;
        let pods: Api<Pod> = Api::namespaced(client, &test.namespace);
        let pod = json!({
            "metadata": { "name": "web" },
            "spec": {
                "serviceAccountName": "shop", "nodeName": "node-1",
                "containers": [{ "name": "web", "image": "registry.example.com/web" }],
            },
        });
        let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        Ok(Self { test, pod, account, node })
    }

    pub(super) async fn requests(&self) -> Result<Api<PodCertificateRequest>> {
        Ok(Api::namespaced(self.test.client().await?, &self.test.namespace))
    }

    /// What the node of the pod asks for, with this changed; its UID.
    pub(super) async fn ask(&self, name: &str, csr: Vec<u8>, more: &Value) -> Result<String> {
        let mut request = json!({
            "metadata": { "name": name },
            "spec": {
                "signerName": self.test.signer_name(),
                "podName": "web", "podUID": self.pod.metadata.uid,
                "serviceAccountName": "shop", "serviceAccountUID": self.account.metadata.uid,
                "nodeName": "node-1", "nodeUID": self.node.metadata.uid,
                "stubPKCS10Request": ByteString(csr),
            },
        });
        json_patch::merge(&mut request, more);
        let made = self.requests().await?.create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        Ok(made.uid().ok_or("an object without a UID")?)
    }

    /// Waits for an outcome.
    pub(super) async fn until_ended(&self, name: &str) -> Result<PodCertificateRequestStatus> {
        let ended = |object: Option<&PodCertificateRequest>| {
            object
                .and_then(|object| object.status.as_ref())
                .is_some_and(|status| !status.conditions.iter().flatten().count().eq(&0))
        };
        let object = until(&self.requests().await?, name, ended).await?;
        Ok(object.status.ok_or("no status")?)
    }

    /// Waits for a refusal: type, reason and message.
    pub(super) async fn until_refused(&self, name: &str) -> Result<(String, String, String)> {
        let status = self.until_ended(name).await?;
        let PodCertificateRequestStatus { begin_refresh_at, certificate_chain, conditions, not_after, not_before } =
            status;
        assert!(begin_refresh_at.is_none() && certificate_chain.is_none(), "{name}");
        assert!(not_after.is_none() && not_before.is_none(), "{name}");
        let conditions = conditions.unwrap_or_default();
        let [condition] = conditions.as_slice() else { return Err(format!("{conditions:?}").into()) };
        Ok((condition.type_.clone(), condition.reason.clone(), condition.message.clone()))
    }
}

/// A CSR that is but a stub for its key, in DER.
pub(super) fn stub(key: &KeyPair) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Type and reason of the one condition.
pub(super) fn said(status: &PodCertificateRequestStatus) -> Vec<(&str, &str)> {
    let conditions = status.conditions.iter().flatten();
    conditions.map(|condition| (condition.type_.as_str(), condition.reason.as_str())).collect()
}

#[tokio::test]
async fn a_pod_gets_the_identity_of_its_service_account_and_the_api_server_takes_the_times() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr").await? else { return Ok(()) };
    for (name, most) in [("hour", Some(3600)), ("usual", None), ("month", Some(30 * 86_400))] {
        let key = KeyPair::generate()?;
        let uid = pods.ask(name, stub(&key)?, &json!({ "spec": { "maxExpirationSeconds": most } })).await?;
        let status = pods.until_ended(name).await?;
        assert_eq!(said(&status), [("Issued", "Issued")], "{status:?}");
        let chain = status.certificate_chain.ok_or("no chain")?;
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "the root is left out");
        let der = leaf(&chain)?;
        let (_, certificate) = X509Certificate::from_der(&der)?;
        assert_eq!(certificate.public_key().raw, key.subject_public_key_info());
        assert_eq!(certificate.subject().iter().count(), 0);
        let san = certificate.subject_alternative_name()?.ok_or("no names")?;
        let id = format!("spiffe://cluster.local/ns/{}/sa/shop", pods.test.namespace);
        assert_eq!(san.value.general_names, [GeneralName::URI(&id)]);
        let seconds = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            time.map(|time| time.0.as_second()).ok_or("a time is missing")
        };
        let (begins, ends) = (seconds(status.not_before)?, seconds(status.not_after)?);
        let refresh = seconds(status.begin_refresh_at)?;
        let validity = certificate.validity();
        assert_eq!((begins, ends), (validity.not_before.timestamp(), validity.not_after.timestamp()));
        assert_eq!(ends - begins, i64::from(most.unwrap_or(86_400)), "{name}");
        assert!(refresh >= begins + 600 && refresh <= ends - 600, "{name}");
        let asked = pods.test.server.asked().into_iter().find(|asked| asked.uid == uid).ok_or("not asked")?;
        assert_eq!((asked.names, asked.origin.namespace), (vec![id], Some(pods.test.namespace.clone())));
        let pod = asked.origin.pod.ok_or("no pod")?;
        assert_eq!((pod.name.as_str(), pod.service_account.as_str(), pod.node.as_str()), ("web", "shop", "node-1"));
        assert!(asked.origin.namespace_labels.contains_key("kubernetes.io/metadata.name"));
    }
    Ok(())
}

#[tokio::test]
async fn what_a_csr_names_is_nothing_to_a_pods_certificate() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-names").await? else { return Ok(()) };
    let mut params = super::params(&["evil.example.test", "spiffe://cluster.local/ns/kube-system/sa/admin"])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    let csr = params.serialize_request(&KeyPair::generate()?)?.der().to_vec();
    // The API server may refuse it; if it does not, it changes nothing.
    if pods.ask("web", csr, &json!({})).await.is_err() {
        return Ok(());
    }
    let status = pods.until_ended("web").await?;
    let chain = status.certificate_chain.ok_or("no chain")?;
    let der = leaf(&chain)?;
    let (_, certificate) = X509Certificate::from_der(&der)?;
    let san = certificate.subject_alternative_name()?.ok_or("no names")?;
    let id = format!("spiffe://cluster.local/ns/{}/sa/shop", pods.test.namespace);
    assert_eq!(
        (san.value.general_names.as_slice(), certificate.subject().iter().count()),
        ([GeneralName::URI(&id)].as_slice(), 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_request_waits_for_an_issuer_and_for_a_server_that_is_busy() -> Result<()> {
    let Some(test) = Test::without_issuer("pcr-waits").await? else { return Ok(()) };
    let pods = PodTest::of(test).await?;
    let uid = pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.barrier("waits").await?;
    assert!(!touched(&pods.requests().await?.get("web").await?));
    pods.test.server.behave(Behaviour::Status(503));
    pods.test.make_issuer(&json!({ "podCertificates": { "trustDomain": "cluster.local" } })).await?;
    pods.test.server.until_asked(&uid, 2).await?;
    assert!(!touched(&pods.requests().await?.get("web").await?));
    pods.test.server.behave(Behaviour::Sign);
    assert_eq!(said(&pods.until_ended("web").await?), [("Issued", "Issued")]);
    Ok(())
}

#[tokio::test]
async fn a_profile_that_backdates_too_far_is_the_operators_trouble_and_fails_no_pod() -> Result<()> {
    let Some(test) = Test::without_issuer("pcr-backdate").await? else { return Ok(()) };
    let pods = PodTest::of(test).await?;
    pods.test.server.backdate(3600);
    pods.test.make_issuer(&json!({ "podCertificates": { "trustDomain": "cluster.local" } })).await?;
    let uid = pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.until_told(&uid, "IssuerNotReady").await?;
    assert!(!touched(&pods.requests().await?.get("web").await?));
    assert_eq!(pods.test.server.asked_for(&uid), 0);
    // A short life begins a twentieth of it ago at most.
    pods.ask("short", stub(&KeyPair::generate()?)?, &json!({ "spec": { "maxExpirationSeconds": 4500 } })).await?;
    assert_eq!(said(&pods.until_ended("short").await?), [("Issued", "Issued")]);
    Ok(())
}

#[tokio::test]
async fn a_controller_that_dies_between_signing_and_writing_leads_to_no_second_certificate() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-dies").await? else { return Ok(()) };
    pods.test.server.behave(Behaviour::Hold);
    let uid = pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.server.until_asked(&uid, 1).await?;
    pods.test.controller_dies_before_the_answer("pcr-after-a-death").await?;
    let status = pods.until_ended("web").await?;
    let signed = pods.test.server.issued();
    assert_eq!(signed.len(), 1, "one issuance");
    let kept = signed.get(&uid).ok_or("another UID")?;
    assert_eq!(leaf(&status.certificate_chain.ok_or("no chain")?)?, leaf(&kept.chain)?);
    Ok(())
}

#[tokio::test]
async fn what_was_signed_for_a_deleted_request_never_lands_on_its_successor() -> Result<()> {
    let Some(pods) = PodTest::ready("pcr-successor").await? else { return Ok(()) };
    let requests = pods.requests().await?;
    pods.test.server.behave(Behaviour::Hold);
    let first = pods.ask("web", stub(&KeyPair::generate()?)?, &json!({})).await?;
    pods.test.server.until_asked(&first, 1).await?;
    requests.delete("web", &DeleteParams::default()).await?;
    until::gone(&requests, "web", &first).await?;
    let key = KeyPair::generate()?;
    let second = pods.ask("web", stub(&key)?, &json!({})).await?;
    pods.test.server.behave(Behaviour::Sign);
    pods.test.server.release();
    let chain = pods.until_ended("web").await?.certificate_chain.ok_or("no chain")?;
    assert_eq!(public_key(&chain)?, key.subject_public_key_info());
    assert_eq!((pods.test.server.issued().len(), pods.test.server.asked_for(&second)), (2, 1));
    Ok(())
}
