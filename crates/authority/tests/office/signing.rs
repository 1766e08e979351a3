//! Signing for objects of Kubernetes: once for each UID, within the credential's limits, by policy.

use std::{collections::BTreeMap, time::Duration};

use chancery_authority::{
    Limits, Refusal,
    api_token::MakeApiToken,
    credential::Credential,
    issue::IssueRejection,
    issue_once::IssueOnceRejection,
    ports::{CertificateQuery, Store as _},
    records::RevocationReason,
    revoke::RevokeRejection,
    sign_for_request::{ObjectKind, RequestRef, SignForRequest, SignRejection, Signed, SignedFor, UsageRejection},
    terms::{Lease, Term},
};
use chancery_ledger::Leaf;
use chancery_pki::{Lifetime, certificate::Certificate};
use chancery_policy::{NameLimits, Reported};
use chancery_testkit::{
    memory::{Commit, Failing},
    office::{TestOffice, csr, names_of, token_for},
};

use crate::{certificates, leaves, ledger_is_clean};

/// What a CertificateRequest in the namespace `shop` asks for, with a new key.
fn request(uid: &str, names: &[&str]) -> SignForRequest {
    SignForRequest {
        kind: ObjectKind::CertificateRequest,
        uid: uid.to_owned(),
        csr: csr(names).der().to_vec(),
        names: None,
        profile: None,
        lifetime: None,
        usages: Vec::new(),
        is_ca: false,
        reported: Reported {
            namespace: Some("shop".to_owned()),
            name: Some("web-1".to_owned()),
            certificate: Some("web".to_owned()),
            ..Reported::default()
        },
        term: None,
    }
}

/// A CertificateRequest in the namespace `shop`.
const fn named(uid: &str) -> RequestRef<'_> {
    RequestRef { kind: ObjectKind::CertificateRequest, namespace: Some("shop"), uid }
}

/// In a term of no Lease.
fn in_term(uid: &str, number: u64) -> SignForRequest {
    SignForRequest { term: Some(Term { number, lease: None }), ..request(uid, &["a.test"]) }
}

fn issued(signed: Signed) -> SignedFor {
    match signed {
        Signed::Issued(signed) => *signed,
        other => panic!("{other:?}"),
    }
}

async fn refused(ca: &TestOffice, credential: &Credential, asked: SignForRequest) -> SignRejection {
    match ca.office.sign_for_request(credential, asked).await {
        Err(Refusal::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

async fn whole(ca: &TestOffice) -> Credential {
    ca.credential(token_for("prod-eu")).await.0
}

async fn in_namespace(ca: &TestOffice, namespace: &str) -> Credential {
    let limited = MakeApiToken { namespaces: Some([namespace.to_owned()].into()), ..token_for("prod-eu") };
    ca.credential(limited).await.0
}

#[tokio::test]
async fn a_request_leads_to_one_certificate_however_often_by_whichever_credential_and_after_a_restart() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let asked = request("1", &["a.test"]);
    let first = issued(ca.office.sign_for_request(&credential, asked.clone()).await.unwrap());
    assert_eq!(issued(ca.office.sign_for_request(&credential, asked.clone()).await.unwrap()), first);
    let other = whole(&ca).await;
    assert_eq!(issued(ca.office.sign_for_request(&other, asked.clone()).await.unwrap()), first);
    // What changes about the object on the way does not make it another request.
    let mut changed = asked.clone();
    changed.reported.namespace_labels = BTreeMap::from([("team".to_owned(), "new".to_owned())]);
    assert_eq!(issued(ca.office.sign_for_request(&credential, changed).await.unwrap()), first);
    let found = ca.office.signed_for_request(&credential, named("1")).await.unwrap();
    assert_eq!(found.map(issued), Some(first.clone()));
    let ca = ca.restarted(8);
    assert_eq!(issued(ca.office.sign_for_request(&credential, asked).await.unwrap()), first);
    assert_eq!((ca.signer.signatures(), certificates(&ca).await.len()), (1, 1));
    let origin = first.record.origin.clone().unwrap();
    assert_eq!(
        (&*origin.cluster, origin.namespace.as_deref(), origin.certificate.as_deref()),
        ("prod-eu", Some("shop"), Some("web"))
    );
    // Another UID, or another door, is another request.
    ca.office.sign_for_request(&credential, request("2", &["a.test"])).await.unwrap();
    let kind = ObjectKind::CertificateSigningRequest;
    ca.office.sign_for_request(&credential, SignForRequest { kind, ..request("1", &["b.test"]) }).await.unwrap();
    assert_eq!(ca.signer.signatures(), 3);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn something_else_under_the_same_uid_is_refused() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    ca.office.sign_for_request(&credential, request("1", &["a.test"])).await.unwrap();
    let rejection = refused(&ca, &credential, request("1", &["a.test"])).await;
    assert!(
        matches!(rejection, SignRejection::Once(IssueOnceRejection::OtherRequest { .. })),
        "another key: {rejection}"
    );
    assert_eq!(ca.signer.signatures(), 1);
}

#[tokio::test]
async fn a_tenant_cannot_use_up_anothers_uid() {
    let ca = TestOffice::default();
    let (cluster, in_shop) = (whole(&ca).await, in_namespace(&ca, "shop").await);
    ca.office.sign_for_request(&in_shop, request("1", &["a.test"])).await.unwrap();
    let payments = in_namespace(&ca, "payments").await;
    let mut asked = request("1", &["b.test"]);
    asked.reported.namespace = Some("payments".to_owned());
    for credential in [&payments, &cluster] {
        issued(ca.office.sign_for_request(credential, asked.clone()).await.unwrap());
    }
    let names = async |credential, namespace| {
        let found = ca.office.signed_for_request(credential, RequestRef { namespace, ..named("1") }).await.unwrap();
        found.map(|signed| issued(signed).record.names.to_string())
    };
    let (of_shop, of_payments) = (Some("a.test".to_owned()), Some("b.test".to_owned()));
    // One namespace's credential means its own.
    for namespace in [None, Some("shop")] {
        assert_eq!(names(&in_shop, namespace).await, of_shop);
    }
    assert_eq!((names(&payments, None).await, names(&payments, Some("shop")).await), (of_payments.clone(), None));
    assert_eq!((names(&cluster, Some("shop")).await, names(&cluster, Some("payments")).await), (of_shop, of_payments));
    assert_eq!(names(&cluster, None).await, None, "what has no namespace is something else");
}

#[tokio::test]
async fn whichever_credential_asked_each_of_its_cluster_and_namespace_gets_reads_reports_and_revokes_and_no_other() {
    let ca = TestOffice::default();
    let several = async |namespaces: &[&str]| {
        let namespaces = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
        ca.credential(MakeApiToken { namespaces: Some(namespaces), ..token_for("prod-eu") }).await.0
    };
    let ours = [whole(&ca).await, in_namespace(&ca, "shop").await, several(&["dev", "shop"]).await];
    let others = [in_namespace(&ca, "payments").await, several(&["dev", "payments"]).await];
    for (at, asker) in ours.iter().enumerate() {
        for (to, reader) in ours.iter().enumerate() {
            let uid = format!("{at}{to}");
            let asked = request(&uid, &["a.test"]);
            let first = issued(ca.office.sign_for_request(asker, asked.clone()).await.unwrap());
            assert_eq!(issued(ca.office.sign_for_request(reader, asked.clone()).await.unwrap()), first);
            let found = ca.office.signed_for_request(reader, named(&uid)).await.unwrap();
            assert_eq!(found.map(issued), Some(first), "{} reads what {} got", reader.name(), asker.name());
            for other in &others {
                for namespace in [Some("shop"), Some("payments"), Some("dev"), None] {
                    let named = RequestRef { namespace, ..named(&uid) };
                    assert_eq!(ca.office.signed_for_request(other, named).await.unwrap(), None);
                    let unknown = Err(Refusal::Rejected(UsageRejection::Unknown));
                    assert_eq!(ca.office.report_usage(other, named, Vec::new()).await, unknown);
                    let unknown = Err(Refusal::Rejected(RevokeRejection::Unknown));
                    assert_eq!(ca.office.revoke_for_request(other, named, None).await, unknown);
                }
            }
            ca.office.report_usage(reader, named(&uid), vec!["Secret shop/web".to_owned()]).await.unwrap();
            ca.office.revoke_for_request(reader, named(&uid), None).await.unwrap();
        }
    }
    assert_eq!(ca.signer.signatures(), 9);
    assert!(certificates(&ca).await.iter().all(|one| one.revocation.is_some() && one.used_by.len() == 1));
}

#[tokio::test]
async fn the_root_comes_apart_from_the_chain() {
    let ca = TestOffice::under_a_root_of(Duration::from_secs(3_000 * 86_400));
    let credential = whole(&ca).await;
    let signed = issued(ca.office.sign_for_request(&credential, request("1", &["a.test"])).await.unwrap());
    let [issuer] = signed.chain.issuers.as_slice() else { panic!("{:?}", signed.chain.issuers) };
    let (leaf, issuer, root) = (
        Certificate::from_der(&signed.chain.certificate).unwrap(),
        Certificate::from_der(issuer).unwrap(),
        Certificate::from_der(&signed.root).unwrap(),
    );
    assert_eq!((leaf.issuer(), issuer.issuer()), (issuer.subject(), root.subject()));
    assert_eq!(root.issuer(), root.subject());
    // An issuer that is its own root is the root, and no intermediate.
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let signed = issued(ca.office.sign_for_request(&credential, request("1", &["a.test"])).await.unwrap());
    assert!(signed.chain.issuers.is_empty());
    let root = Certificate::from_der(&signed.root).unwrap();
    assert_eq!(Certificate::from_der(&signed.chain.certificate).unwrap().issuer(), root.subject());
}

#[tokio::test]
async fn a_life_that_is_asked_for_is_granted_to_the_second_and_asked_again_is_the_same() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let lifetime = Lifetime::from_seconds(7 * 86_400).unwrap();
    let asked = SignForRequest { lifetime: Some(lifetime), ..request("1", &["a.test"]) };
    let first = issued(ca.office.sign_for_request(&credential, asked.clone()).await.unwrap());
    assert_eq!(first.record.validity.lifetime_seconds(), 7 * 86_400);
    ca.clock.advance(Duration::from_secs(90));
    assert_eq!(issued(ca.office.sign_for_request(&credential, asked).await.unwrap()), first);
    let long = Lifetime::from_seconds(400 * 86_400).unwrap();
    let rejection =
        refused(&ca, &credential, SignForRequest { lifetime: Some(long), ..request("2", &["a.test"]) }).await;
    assert!(
        matches!(rejection, SignRejection::Once(IssueOnceRejection::Issue(IssueRejection::Validity(_)))),
        "never cut: {rejection}"
    );
}

#[tokio::test]
async fn a_leader_whose_time_is_over_signs_nothing() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    ca.office.sign_for_request(&credential, in_term("1", 3)).await.unwrap();
    ca.office.sign_for_request(&credential, in_term("2", 5)).await.unwrap();
    let rejection = refused(&ca, &credential, in_term("3", 4)).await;
    assert!(matches!(rejection, SignRejection::StaleTerm { term: 4, seen: 5 }), "{rejection}");
    // One that speaks for a namespace alone cannot shut out that of the whole cluster.
    let limited = MakeApiToken { namespaces: Some(["shop".to_owned()].into()), ..token_for("prod-eu") };
    let (limited, _) = ca.credential(limited).await;
    ca.office.sign_for_request(&limited, in_term("4", u64::MAX)).await.unwrap();
    ca.office.sign_for_request(&credential, in_term("5", 5)).await.unwrap();
    // Nor can one with fewer names or profiles.
    let names = Some(NameLimits::parse(&["**.test"]).unwrap());
    let (limited, _) = ca.credential(MakeApiToken { names, ..token_for("prod-eu") }).await;
    ca.office.sign_for_request(&limited, in_term("7", u64::MAX)).await.unwrap();
    ca.office.sign_for_request(&credential, in_term("8", 5)).await.unwrap();
    ca.office.sign_for_request(&credential, SignForRequest { term: None, ..request("6", &["a.test"]) }).await.unwrap();
    assert_eq!(ca.signer.signatures(), 7);
}

#[tokio::test]
async fn a_lease_that_was_made_anew_counts_from_the_beginning_once_the_old_leader_has_been_silent() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    ca.office.sign_for_request(&credential, in_term("1", 7)).await.unwrap();
    ca.clock.advance(Duration::from_secs(200));
    ca.office.sign_for_request(&credential, in_term("2", 7)).await.unwrap();
    ca.clock.advance(Duration::from_secs(200));
    let told = refused(&ca, &credential, in_term("3", 1)).await.to_string();
    assert!(told.contains("it asks in term 1, and term 7 has asked within the last 5 minutes"), "{told}");
    ca.clock.advance(Duration::from_secs(100));
    ca.office.sign_for_request(&credential, in_term("3", 1)).await.unwrap();
    // And from then on it is the one that counts.
    ca.office.sign_for_request(&credential, in_term("4", 2)).await.unwrap();
    assert!(matches!(refused(&ca, &credential, in_term("5", 1)).await, SignRejection::StaleTerm { term: 1, seen: 2 }));
}

#[tokio::test]
async fn terms_of_two_leases_are_not_compared_and_a_lease_that_was_made_anew_ends_the_old_one() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let of = |uid, name: &str, lease: &str, number| {
        let lease = Lease { name: name.to_owned(), uid: lease.to_owned() };
        SignForRequest { term: Some(Term { number, lease: Some(lease) }), ..request(uid, &["a.test"]) }
    };
    ca.office.sign_for_request(&credential, of("1", "a/issuer", "x", 7)).await.unwrap();
    ca.office.sign_for_request(&credential, of("2", "b/issuer", "y", 1)).await.unwrap();
    ca.office.sign_for_request(&credential, of("3", "a/issuer", "x", 7)).await.unwrap();
    let rejection = refused(&ca, &credential, of("4", "a/issuer", "x", 6)).await;
    assert!(matches!(rejection, SignRejection::StaleTerm { term: 6, seen: 7 }), "{rejection}");
    ca.office.sign_for_request(&credential, of("5", "a/issuer", "z", 1)).await.unwrap();
    let rejection = refused(&ca, &credential, of("6", "a/issuer", "x", 8)).await;
    assert!(matches!(rejection, SignRejection::StaleLease), "{rejection}");
    assert_eq!(ca.signer.signatures(), 4);
}

#[tokio::test]
async fn a_credential_for_several_namespaces_reports_which_and_proves_none() {
    let policy = r#"
version: v1
rules:
  - name: proven
    allow: { names: ["*.test"] }
    for: { cluster: prod-eu, namespace: shop }
  - name: reported
    allow: { names: ["*.reported.test"] }
    for: { cluster: prod-eu }
    when: requester.reported.namespace == "shop"
"#;
    let ca = TestOffice::new(policy, Limits::default());
    let both = MakeApiToken { namespaces: Some(["shop".to_owned(), "dev".to_owned()].into()), ..token_for("prod-eu") };
    let (both, _) = ca.credential(both).await;
    let rejection = refused(&ca, &both, request("1", &["a.test"])).await;
    assert!(
        matches!(rejection, SignRejection::Once(IssueOnceRejection::Issue(IssueRejection::Policy(_)))),
        "{rejection}"
    );
    issued(ca.office.sign_for_request(&both, request("2", &["a.reported.test"])).await.unwrap());
    issued(ca.office.sign_for_request(&in_namespace(&ca, "shop").await, request("3", &["a.test"])).await.unwrap());
}

#[tokio::test]
async fn what_lies_outside_of_the_credentials_limits_is_refused_in_words_whatever_policy_says() {
    let ca = TestOffice::default();
    let limited = MakeApiToken {
        namespaces: Some(["shop".to_owned()].into()),
        names: Some(NameLimits::parse(&["**.shop.test"]).unwrap()),
        ..token_for("prod-eu")
    };
    let (credential, _) = ca.credential(limited).await;
    let mut elsewhere = request("1", &["a.shop.test"]);
    elsewhere.reported.namespace = Some("payments".to_owned());
    let told = refused(&ca, &credential, elsewhere.clone()).await.to_string();
    let name = credential.name();
    assert_eq!(told, format!("{name} may not speak for the namespace \"payments\": it speaks for shop alone"));
    elsewhere.reported.namespace = None;
    let told = refused(&ca, &credential, elsewhere).await.to_string();
    assert!(told.contains("an object without a namespace"), "{told}");
    let asked = SignForRequest { profile: Some("gateway".to_owned()), ..request("1", &["a.shop.test"]) };
    let told = refused(&ca, &credential, asked).await.to_string();
    assert_eq!(told, format!("profile gateway is not among those that {name} of cluster prod-eu may ask for: server"));
    let told = refused(&ca, &credential, request("1", &["a.shop.test", "a.test", "b.test"])).await.to_string();
    assert_eq!(
        told,
        format!(
            "the limits of the credential leave out a.test: {name} may ask for **.shop.test alone; \
             b.test: {name} may ask for **.shop.test alone"
        )
    );
    assert_eq!(ca.signer.signatures(), 0);
    let signed = issued(ca.office.sign_for_request(&credential, request("1", &["a.shop.test"])).await.unwrap());
    assert!(
        signed.record.requester.contains("(namespace shop, reports certificate web)"),
        "{}",
        signed.record.requester
    );
}

#[tokio::test]
async fn policy_tells_a_proven_namespace_from_a_reported_one_and_reads_what_is_reported() {
    let ca = TestOffice::new(
        r#"version: v1
rules:
  - name: proven
    allow: { names: ["*.proven.test"] }
    for: { door: cert-manager, cluster: prod-eu, namespace: shop }
  - name: reported
    allow: { names: ["*.reported.test"] }
    for: { cluster: prod-eu }
    when: 'requester.reported.namespace == "shop" && requester.reported.namespace_labels["team"] == "web"'
  - name: not-by-hand
    deny: { names: ["*.reported.test"] }
    when: 'requester.reported.username != "system:serviceaccount:cert-manager:cert-manager"'
    because: only cert-manager asks for these
  - name: noted
    warn: { names: ["**.test"] }
    when: '"note" in requester.reported.annotations'
    because: somebody left a note
"#,
        Limits::default(),
    );
    let everywhere = whole(&ca).await;
    let limited = MakeApiToken { namespaces: Some(["shop".to_owned()].into()), ..token_for("prod-eu") };
    let (in_shop, _) = ca.credential(limited).await;
    let mut number = 0;
    let mut ask = |name: &str, labels: &[(&str, &str)], username: &str| {
        number += 1;
        let mut asked = request(&number.to_string(), &[name]);
        asked.reported.username = Some(username.to_owned());
        asked.reported.namespace_labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        asked
    };
    const US: &str = "system:serviceaccount:cert-manager:cert-manager";
    let told = refused(&ca, &everywhere, ask("a.proven.test", &[], US)).await;
    assert!(matches!(told, SignRejection::Once(IssueOnceRejection::Issue(IssueRejection::Policy(_)))), "{told}");
    ca.office.sign_for_request(&in_shop, ask("a.proven.test", &[], US)).await.unwrap();
    refused(&ca, &everywhere, ask("a.reported.test", &[], US)).await;
    refused(&ca, &everywhere, ask("a.reported.test", &[("team", "web")], "eve")).await;
    let mut noted = ask("a.reported.test", &[("team", "web")], US);
    noted.reported.annotations = BTreeMap::from([("note".to_owned(), "lines\nof text".to_owned())]);
    let signed = issued(ca.office.sign_for_request(&everywhere, noted).await.unwrap());
    assert_eq!(signed.warnings, ["rule noted warns: somebody left a note"]);
    // The ledger tells proven from reported.
    let told = leaves(&ca).await;
    let claims = told.iter().filter_map(|leaf| match leaf {
        Leaf::Intent(intent) => Some(&intent.requester.claims),
        _ => None,
    });
    let namespaces: Vec<Vec<(&str, bool)>> = claims
        .map(|claims| {
            let of = claims.iter().filter(|claim| claim.name.contains("namespace") && claim.value == "shop");
            of.map(|claim| (&*claim.name, claim.proven)).collect()
        })
        .collect();
    let reported = ("reported.namespace", false);
    assert_eq!(namespaces, [vec![("namespace", true), reported], vec![reported]]);
}

#[tokio::test]
async fn refusals_that_are_repeated_leave_one_record_in_an_hour() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let before = leaves(&ca).await.len();
    for uid in ["1", "1", "2", "3"] {
        refused(&ca, &credential, request(uid, &["denied.test"])).await;
    }
    assert_eq!(leaves(&ca).await.len() - before, 1);
    let (jobs, commits) = (ca.store.jobs().len(), ca.store.commits());
    refused(&ca, &credential, request("4", &["denied.test"])).await;
    assert_eq!((ca.store.jobs().len(), ca.store.commits()), (jobs, commits));
}

#[tokio::test]
async fn a_csr_that_cannot_be_read_or_names_nothing_is_refused() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let asked = SignForRequest { csr: b"nonsense".to_vec(), ..request("1", &["a.test"]) };
    assert!(matches!(refused(&ca, &credential, asked).await, SignRejection::Csr(_)));
    let mut nameless = rcgen::CertificateParams::new(Vec::new()).unwrap();
    nameless.distinguished_name = rcgen::DistinguishedName::new();
    let pair = rcgen::KeyPair::generate().unwrap();
    let nameless = nameless.serialize_request(&pair).unwrap().der().to_vec();
    let asked = SignForRequest { csr: nameless, ..request("1", &["a.test"]) };
    assert!(matches!(refused(&ca, &credential, asked).await, SignRejection::NoNames));
    let mut asked = request("1", &["a.test"]);
    asked.reported.username = Some("x".repeat(10_000));
    assert!(matches!(refused(&ca, &credential, asked).await, SignRejection::Reported(_)));
}

#[tokio::test]
async fn what_a_request_led_to_is_revoked_by_its_own_cluster_and_reported_where_it_is_used() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let signed = issued(ca.office.sign_for_request(&credential, request("1", &["a.test"])).await.unwrap());
    let places = vec!["Secret shop/web-tls".to_owned(), "Gateway shop/public".to_owned()];
    for _ in 0..2 {
        ca.office.report_usage(&credential, named("1"), places.clone()).await.unwrap();
    }
    let record = ca.store.certificate(signed.record.id).await.unwrap().unwrap().value;
    assert_eq!(record.used_by, places);
    let commits = ca.store.commits();
    ca.office.report_usage(&credential, named("1"), places).await.unwrap();
    assert_eq!(ca.store.commits(), commits, "the same report writes nothing");
    for bad in [vec!["x".to_owned(); 17], vec!["x".repeat(257)], vec![String::new()], vec!["a\nb".to_owned()]] {
        let refused = ca.office.report_usage(&credential, named("1"), bad).await;
        assert_eq!(refused, Err(Refusal::Rejected(UsageRejection::Places)));
    }
    // A credential of another namespace sees nothing of it.
    let other = MakeApiToken { namespaces: Some(["payments".to_owned()].into()), ..token_for("prod-eu") };
    let (other, _) = ca.credential(other).await;
    assert_eq!(ca.office.signed_for_request(&other, named("1")).await.unwrap(), None);
    assert_eq!(
        ca.office.report_usage(&other, named("1"), Vec::new()).await,
        Err(Refusal::Rejected(UsageRejection::Unknown))
    );
    let unknown = Err(Refusal::Rejected(RevokeRejection::Unknown));
    assert_eq!(ca.office.revoke_for_request(&other, named("1"), None).await, unknown);
    assert_eq!(ca.office.revoke_for_request(&credential, named("2"), None).await, unknown);
    ca.office.revoke_for_request(&credential, named("1"), Some(4)).await.unwrap();
    let record = ca.store.certificate(signed.record.id).await.unwrap().unwrap().value;
    assert_eq!(record.revocation.unwrap().reason, Some(RevocationReason::Superseded));
    let Some(Leaf::Revocation(told)) = leaves(&ca).await.pop() else { panic!("a revocation is recorded") };
    assert_eq!(told.by, format!("cluster prod-eu, {}", credential.name()));
    let again = ca.office.revoke_for_request(&credential, named("1"), Some(4)).await;
    assert!(matches!(again, Err(Refusal::Rejected(RevokeRejection::AlreadyRevoked { .. }))), "{again:?}");
}

#[tokio::test]
async fn what_was_perhaps_signed_is_revoked_too_and_asked_again_leads_to_another_certificate() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    let asked = request("1", &["a.test"]);
    ca.store.fail_next(Commit::Certificate, Failing::Lost);
    assert_eq!(ca.office.sign_for_request(&credential, asked.clone()).await.unwrap(), Signed::UnderWay);
    assert_eq!(ca.office.signed_for_request(&credential, named("1")).await.unwrap(), Some(Signed::UnderWay));
    // Where it is used is nobody's to say yet: that would be written over what its signature is recorded over.
    let used = ca.office.report_usage(&credential, named("1"), vec!["Secret shop/web".to_owned()]).await;
    assert_eq!(used, Err(Refusal::Rejected(UsageRejection::Unknown)));
    ca.clock.advance(Duration::from_secs(61));
    ca.run_due_jobs().await;
    assert_eq!(ca.office.signed_for_request(&credential, named("1")).await.unwrap(), None);
    ca.office.revoke_for_request(&credential, named("1"), None).await.unwrap();
    let [lost] = certificates(&ca).await.try_into().unwrap();
    assert!(lost.revocation.is_some());
    let signed = issued(ca.office.sign_for_request(&credential, asked).await.unwrap());
    assert_ne!(signed.record.serial, lost.serial);
    ledger_is_clean(&ca).await;
}

#[tokio::test]
async fn certificates_are_found_by_who_asked_for_them() {
    let ca = TestOffice::default();
    let credential = whole(&ca).await;
    for (uid, namespace) in [("1", "shop"), ("2", "payments")] {
        let mut asked = request(uid, &[&format!("{namespace}.test")]);
        asked.reported.namespace = Some(namespace.to_owned());
        ca.office.sign_for_request(&credential, asked).await.unwrap();
    }
    let found = async |namespace: Option<&str>, certificate: Option<&str>| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let query = CertificateQuery::Origin {
            cluster: "prod-eu".to_owned(),
            namespace: text(namespace),
            certificate: text(certificate),
        };
        ca.office.certificates(&query, None, 10).await.unwrap().len()
    };
    assert_eq!(found(None, None).await, 2);
    assert_eq!((found(Some("shop"), None).await, found(Some("shop"), Some("web")).await), (1, 1));
    assert_eq!((found(Some("shop"), Some("we")).await, found(Some("sho"), None).await), (0, 0));
}

#[tokio::test]
async fn a_namespaces_own_credential_reports_nothing_that_the_platform_grants_by() {
    let policy = r#"
version: v1
rules:
  - name: cert-manager-alone
    allow: { names: ["*.test"] }
    for: { cluster: prod-eu }
    when: requester.reported.username == "system:serviceaccount:cert-manager:cert-manager"
"#;
    let ca = TestOffice::new(policy, Limits::default());
    let mut asked = request("1", &["a.test"]);
    asked.reported.username = Some("system:serviceaccount:cert-manager:cert-manager".to_owned());
    let tenant = in_namespace(&ca, "shop").await;
    let rejection = refused(&ca, &tenant, asked.clone()).await;
    assert!(
        matches!(rejection, SignRejection::Once(IssueOnceRejection::Issue(IssueRejection::Policy(_)))),
        "{rejection}"
    );
    issued(ca.office.sign_for_request(&whole(&ca).await, asked).await.unwrap());
}

#[tokio::test]
async fn a_deny_by_what_a_namespaces_credential_may_not_report_holds_for_it_and_an_allow_by_it_does_not() {
    let policy = r#"
version: v1
rules:
  - name: everybody
    allow: { names: ["*.test"] }
    for: { cluster: prod-eu }
  - name: by-label
    allow: { names: ["*.test", "*.labelled"] }
    when: requester.reported.namespace_labels["team"] == "web"
  - name: restricted
    deny: { names: ["b.test"] }
    when: requester.reported.namespace_labels["env"] == "restricted"
  - name: not-the-old-issuer
    deny: { names: ["c.test"] }
    when: requester.reported.namespace == "shop" && requester.reported.issuer == "old"
  - name: not-of-another-namespace
    deny: { names: ["d.test"] }
    when: requester.reported.namespace != "shop" && requester.reported.issuer == "old"
"#;
    let ca = TestOffice::new(policy, Limits::default());
    let (controller, tenant) = (whole(&ca).await, in_namespace(&ca, "shop").await);
    let ask = |uid: &str, name: &str| {
        let mut asked = request(uid, &[name]);
        asked.reported.namespace_labels =
            BTreeMap::from([("env".to_owned(), "restricted".to_owned()), ("team".to_owned(), "web".to_owned())]);
        asked
    };
    for credential in [&controller, &tenant] {
        let told = refused(&ca, credential, ask("1", "b.test")).await.to_string();
        assert!(told.contains("rule restricted"), "{told}");
    }
    let told = refused(&ca, &tenant, ask("2", "c.test")).await.to_string();
    assert!(told.contains("rule not-the-old-issuer") && told.contains("only a controller"), "{told}");
    issued(ca.office.sign_for_request(&controller, ask("2", "c.test")).await.unwrap());
    // What it may say decides by itself.
    issued(ca.office.sign_for_request(&tenant, ask("3", "d.test")).await.unwrap());
    // A rule that may not be heard grants nothing, and is no reason against what another one grants.
    issued(ca.office.sign_for_request(&tenant, ask("4", "a.test")).await.unwrap());
    let told = refused(&ca, &tenant, ask("5", "a.labelled")).await.to_string();
    assert!(told.contains("no rule allows it"), "{told}");
    issued(ca.office.sign_for_request(&controller, ask("5", "a.labelled")).await.unwrap());
}

#[tokio::test]
async fn a_namespaces_credential_does_not_say_whose_pods_are() {
    let policy = r#"
version: v1
rules:
  - name: workloads
    allow: { spiffe: ["spiffe://cluster.test/ns/*/sa/*"], names: ["*.test"] }
    for: { cluster: prod-eu, door: kubernetes-signer }
"#;
    let ca = TestOffice::new(policy, Limits::default());
    let mut asked = SignForRequest { kind: ObjectKind::PodCertificateRequest, ..request("1", &["a.test"]) };
    asked.names = Some(names_of(&["spiffe://cluster.test/ns/kube-system/sa/admin"]));
    let tenant = in_namespace(&ca, "shop").await;
    let rejection = refused(&ca, &tenant, asked.clone()).await;
    assert!(matches!(rejection, SignRejection::NotForPods { .. }), "{rejection}");
    assert_eq!(ca.signer.signatures(), 0);
    // A controller of the whole cluster is asked further.
    let rejection = refused(&ca, &whole(&ca).await, asked).await;
    assert!(!matches!(rejection, SignRejection::NotForPods { .. }), "{rejection}");
}

#[tokio::test]
async fn a_certificate_that_was_revoked_or_has_ended_is_not_handed_out_again() {
    let ca = TestOffice::default();
    let cluster = whole(&ca).await;
    let (first, second) = (request("1", &["a.test"]), request("2", &["a.test"]));
    for asked in [&first, &second] {
        issued(ca.office.sign_for_request(&cluster, asked.clone()).await.unwrap());
    }
    let told = async |asked| match ca.office.sign_for_request(&cluster, asked).await.unwrap() {
        Signed::Ended { why } => why,
        other => panic!("{other:?}"),
    };
    ca.office.revoke_for_request(&cluster, named("1"), None).await.unwrap();
    let why = told(first).await;
    assert!(why.starts_with("the certificate of this request was revoked at "), "{why}");
    ca.clock.advance(Duration::from_secs(400 * 86_400));
    let why = told(second).await;
    assert!(why.starts_with("the certificate of this request ended at "), "{why}");
}
