//! PodCertificateRequests: the controller says the names, and what the API server would not take is not signed.

use std::{sync::Arc, time::Duration};

use chancery_authority::{
    Authority, Refusal, Settings,
    pod_certificate::PodRejection,
    sign_for_request::{ObjectKind, SignForRequest, SignRejection, Signed},
};
use chancery_pki::{KeyKind, Lifetime, profile::ProfileSpec};
use chancery_policy::Reported;
use chancery_testkit::office::{TestOffice, names_of, token_for};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::{CLUSTER_POLICY, held, kubernetes, office_with, texts};

const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// An office whose one cluster may have this profile.
async fn office_of(profile: ProfileSpec) -> TestOffice {
    let name = profile.name.clone();
    let ca = office_with(CLUSTER_POLICY, profile).await;
    let old = ca.office.settings();
    let Authority { id, key, algorithm, chains } = &**old.authorities.first().unwrap();
    let authority = Authority { id: id.clone(), key: key.clone(), algorithm: *algorithm, chains: chains.clone() };
    let clusters = old.clusters.iter().map(|(named, cluster)| {
        let mut cluster = (**cluster).clone();
        cluster.profiles = vec![name.clone()];
        (named.clone(), Arc::new(cluster))
    });
    let settings = Settings {
        clusters: clusters.collect(),
        authorities: vec![Arc::new(authority)],
        directories: old.directories.clone(),
        profiles: old.profiles.clone(),
        policy: Arc::clone(&old.policy),
        block_list: Arc::clone(&old.block_list),
        own_tls: None,
        ledger: old.ledger.clone(),
        limits: old.limits.clone(),
    };
    ca.office.replace_settings(settings, "a test").await.unwrap();
    ca
}

/// What a pod's node asks for, by a CSR that names nothing.
fn stub(uid: &str) -> SignForRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    SignForRequest {
        kind: ObjectKind::PodCertificateRequest,
        uid: uid.to_owned(),
        csr: params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec(),
        names: Some(names_of(&[ID])),
        profile: None,
        lifetime: Some(Lifetime::from_seconds(86_401).unwrap()),
        usages: Vec::new(),
        is_ca: false,
        reported: Reported { namespace: Some("shop".to_owned()), ..Reported::default() },
        term: None,
    }
}

async fn sign(ca: &TestOffice, asked: SignForRequest) -> Result<Signed, SignRejection> {
    let (credential, _) = ca.credential(token_for("prod-eu")).await;
    match ca.office.sign_for_request(&credential, asked).await {
        Ok(signed) => Ok(signed),
        Err(Refusal::Rejected(rejection)) => Err(rejection),
        Err(Refusal::Failed(failure)) => panic!("{failure}"),
    }
}

#[tokio::test]
async fn a_pods_certificate_names_what_its_controller_says_and_nothing_of_its_csr() {
    let ca = office_of(kubernetes()).await;
    let named = CertificateParams::new(["evil.test".to_owned()]).unwrap();
    let csr = named.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    for (uid, csr) in [("empty", stub("empty").csr), ("full", csr)] {
        let signed = sign(&ca, SignForRequest { csr, ..stub(uid) }).await.unwrap();
        let Signed::Issued(signed) = signed else { panic!("{signed:?}") };
        let held = held(&signed.chain.certificate);
        assert_eq!((held.names, held.critical_names), (texts(&[&format!("uri:{ID}")]), Some(true)), "{uid}");
        assert_eq!(held.subject, "", "{uid}");
        let validity = &signed.record.validity;
        assert_eq!(validity.not_after().since(validity.not_before()), Duration::from_secs(86_400));
    }
}

#[tokio::test]
async fn what_the_api_server_would_not_take_for_a_pod_is_refused_before_it_is_signed() {
    use PodRejection as P;
    let ca = office_of(kubernetes()).await;
    let life = |seconds| Some(Lifetime::from_seconds(seconds).unwrap());
    let refused = async |asked| match sign(&ca, asked).await {
        Err(SignRejection::Pod(rejection)) => rejection,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(SignForRequest { lifetime: None, ..stub("1") }).await, P::NoLife);
    // From its first second to its last there is one second less than it lives.
    let short = refused(SignForRequest { lifetime: life(3600), ..stub("2") }).await;
    assert!(matches!(short, P::Life { .. }), "{short}");
    assert_eq!(refused(SignForRequest { is_ca: true, ..stub("3") }).await, P::Ca);
    let mut empty = CertificateParams::default();
    empty.distinguished_name = DistinguishedName::new();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let csr = empty.serialize_request(&rsa).unwrap().der().to_vec();
    let key = refused(SignForRequest { csr, ..stub("4") }).await;
    assert_eq!(key, P::Key { kind: KeyKind::Rsa2048 });
    assert!(key.to_string().contains("P-256"), "{key}");
    assert!(matches!(sign(&ca, SignForRequest { names: None, ..stub("5") }).await, Err(SignRejection::NoNames)));
    let kind = ObjectKind::CertificateSigningRequest;
    assert!(matches!(sign(&ca, SignForRequest { kind, ..stub("6") }).await, Err(SignRejection::NamesApart)));
    assert_eq!(ca.signer.signatures(), 0);
    assert!(sign(&ca, SignForRequest { lifetime: life(3601), ..stub("7") }).await.is_ok());
}

#[tokio::test]
async fn a_profile_that_backdates_by_more_than_five_minutes_signs_for_no_pod() {
    let ca = office_of(ProfileSpec { backdate: Duration::from_secs(3600), ..kubernetes() }).await;
    let refused = sign(&ca, stub("1")).await.expect_err("longer ago than the API server takes").to_string();
    assert!(refused.contains("kubernetes lets a certificate begin 3600 s before"), "{refused}");
    assert_eq!(ca.signer.signatures(), 0);
    // Of a short life a twentieth at most has passed.
    let short = SignForRequest { lifetime: Some(Lifetime::from_seconds(3700).unwrap()), ..stub("2") };
    assert!(sign(&ca, short).await.is_ok());
}
