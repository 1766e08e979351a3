//! API tokens: made once, told nowhere, and gone when they are over.

use std::time::Duration;

use chancery_authority::{
    Cluster, Refusal,
    api_token::{ApiTokenRejection, MakeApiToken, TOKEN_PREFIX},
    changes::Counter,
    credential::{NotIdentified, Presented},
    ports::{CertificateHolder, ServiceAccount},
    sign_for_request::{ObjectKind, SignForRequest, SignRejection},
};
use chancery_ledger::Leaf;
use chancery_policy::{NameLimits, Reported};
use chancery_testkit::{
    office::{TestOffice, cluster, csr, token_for},
    ports::TestIdentity,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{DAY, leaves, ledger_is_clean, with_cluster};

async fn is_taken(ca: &TestOffice, token: &SecretString) -> bool {
    ca.office.identify(&Presented::Token(token.clone()), &TestIdentity::default()).await.is_ok()
}

#[tokio::test]
async fn a_token_is_taken_until_it_expires_or_is_revoked_and_nothing_kept_tells_it() {
    let ca = TestOffice::default();
    let asked = MakeApiToken { life: DAY * 30, ..token_for("prod-eu") };
    let (credential, token) = ca.credential(asked.clone()).await;
    assert_eq!(credential.cluster().name, "prod-eu");
    assert!(credential.name().starts_with("API token "), "{}", credential.name());
    assert_eq!((credential.namespaces(), credential.profiles()), (None, ["server".to_owned()].as_slice()));
    let (_, other) = ca.credential(asked).await;
    let text = token.expose_secret();
    assert!(text.starts_with(TOKEN_PREFIX) && text.len() == TOKEN_PREFIX.len() + 64, "the form that scanners know");
    let secret = &text[text.len() - 20..];
    let told = format!("{:?} {:?}", ca.office.api_tokens(None, 10).await.unwrap(), leaves(&ca).await);
    assert!(!told.contains(secret), "a secret is kept");

    ca.clock.advance(DAY * 30 - Duration::from_secs(1));
    assert!(is_taken(&ca, &token).await && is_taken(&ca, &other).await);
    let tokens = ca.office.api_tokens(None, 10).await.unwrap();
    let of_other = tokens.iter().find(|one| credential.name() != format!("API token {}", one.id)).unwrap();
    ca.office.revoke_api_token(of_other.id, "uid 0").await.unwrap();
    assert!(is_taken(&ca, &token).await && !is_taken(&ca, &other).await);
    let again = ca.office.revoke_api_token(of_other.id, "uid 0").await;
    assert!(matches!(again, Err(Refusal::Rejected(ApiTokenRejection::AlreadyRevoked { .. }))), "{again:?}");
    let kinds: Vec<&str> = leaves(&ca).await.iter().map(Leaf::kind).collect();
    assert_eq!(kinds, ["api-token", "api-token", "api-token"]);
    ledger_is_clean(&ca).await;

    // The first expires; long after both are dropped, and their places are free again.
    ca.clock.advance(Duration::from_secs(2));
    assert!(!is_taken(&ca, &token).await);
    assert_eq!(ca.store.counter(&Counter::ApiTokens), 2);
    ca.clock.advance(DAY * 89);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.api_tokens(None, 10).await.unwrap().len(), 2, "they can still be seen");
    ca.clock.advance(DAY * 2);
    ca.run_due_jobs().await;
    assert_eq!(ca.office.api_tokens(None, 10).await.unwrap(), []);
    assert_eq!((ca.store.counter(&Counter::ApiTokens), ca.store.jobs()), (0, Vec::new()));
}

#[tokio::test]
async fn what_is_almost_a_token_is_none() {
    let ca = TestOffice::default();
    let (_, token) = ca.credential(token_for("prod-eu")).await;
    let text = token.expose_secret().to_owned();
    let flipped = |at: usize| {
        let with = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{with}{}", &text[..at], &text[at + 1..])
    };
    let others = [
        flipped(TOKEN_PREFIX.len()),
        flipped(text.len() - 1),
        flipped(text.len() - 30),
        text[..text.len() - 1].to_owned(),
        format!("{text}A"),
        format!("{text}="),
        TOKEN_PREFIX.to_owned(),
        String::new(),
        text.to_uppercase(),
    ];
    for other in others {
        assert!(!is_taken(&ca, &SecretString::from(other.clone())).await, "{other}");
    }
    assert!(is_taken(&ca, &token).await);
}

#[tokio::test]
async fn a_token_that_would_be_of_no_use_or_of_too_much_is_not_made() {
    let ca = TestOffice::default();
    with_cluster(&ca, Cluster { namespaces: Some(["shop".to_owned()].into()), ..cluster() }).await;
    let usual = || token_for("prod-eu");
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (asked, told) in [
        (token_for("prod-us"), "there is no cluster \"prod-us\" in the configuration; there are: prod-eu"),
        (
            MakeApiToken { profiles: Some(list(&["gateway"])), ..usual() },
            "cluster prod-eu may not ask for the profile \"gateway\": it may ask for server",
        ),
        (
            MakeApiToken { namespaces: Some(["payments".to_owned()].into()), ..usual() },
            "cluster prod-eu speaks for the namespaces shop alone, not for \"payments\"",
        ),
        (MakeApiToken { namespaces: Some(["Shop".to_owned()].into()), ..usual() }, "\"Shop\" is no namespace"),
        (MakeApiToken { namespaces: Some([].into()), ..usual() }, "no namespace at all"),
        (MakeApiToken { profiles: Some(Vec::new()), ..usual() }, "no profile at all"),
        (MakeApiToken { comment: "a\nb".to_owned(), ..usual() }, "one line"),
        (MakeApiToken { life: Duration::ZERO, ..usual() }, "a second at least"),
        (MakeApiToken { life: DAY * 36_500, ..usual() }, "ten years at most"),
    ] {
        let refused = ca.office.make_api_token(asked, "a test").await;
        let Err(Refusal::Rejected(rejection)) = refused else { panic!("{told}: {refused:?}") };
        assert!(rejection.to_string().contains(told), "{rejection}");
    }
    assert_eq!(leaves(&ca).await.iter().filter(|leaf| leaf.kind() == "api-token").count(), 0);
}

#[tokio::test]
async fn a_credentials_limits_are_those_of_its_cluster_and_its_own_together() {
    let ca = TestOffice::default();
    let names = NameLimits::parse(&["**.shop.test"]).unwrap();
    let limited = MakeApiToken {
        namespaces: Some(["shop".to_owned(), "payments".to_owned()].into()),
        names: Some(names),
        ..token_for("prod-eu")
    };
    let (_, token) = ca.credential(limited).await;
    with_cluster(&ca, Cluster { namespaces: Some(["shop".to_owned(), "web".to_owned()].into()), ..cluster() }).await;
    let presented = Presented::Token(token.clone());
    let credential = ca.office.identify(&presented, &TestIdentity::default()).await.unwrap();
    assert!(credential.speaks_for(Some("shop")));
    for other in [Some("payments"), Some("web"), None] {
        assert!(!credential.speaks_for(other), "{other:?}");
    }
    // A cluster that is gone from the configuration has no credentials any more.
    let mut settings =
        crate::with(&ca, ca.office.settings().authorities[0].chains.clone(), chancery_testkit::office::POLICY);
    settings.clusters.clear();
    ca.office.replace_settings(settings, "a test").await.unwrap();
    assert!(!is_taken(&ca, &token).await);
}

#[tokio::test]
async fn service_accounts_and_certificates_speak_for_what_the_configuration_says_and_nothing_else() {
    let ca = TestOffice::default();
    let account = |cluster: &str, namespace: &str, name: &str| ServiceAccount {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let holder = |cluster: &str, name: &str| CertificateHolder {
        cluster: cluster.to_owned(),
        names: vec!["other.test".to_owned(), name.to_owned()],
    };
    let identity = TestIdentity {
        accounts: [
            ("whole", account("prod-eu", "chancery", "issuer")),
            ("own", account("prod-eu", "shop", "chancery-tenant")),
            ("stranger", account("prod-eu", "shop", "issuer")),
            ("elsewhere", account("prod-us", "chancery", "issuer")),
        ]
        .map(|(token, account)| (token.to_owned(), account))
        .into(),
        holders: [
            (vec![1], holder("prod-eu", "issuer.prod-eu.test")),
            (vec![2], holder("prod-eu", "issuer.prod-us.test")),
        ]
        .into(),
        ..TestIdentity::default()
    };
    let by_token = async |token: &str| ca.office.identify(&Presented::Token(token.into()), &identity).await;
    let whole = by_token("whole").await.unwrap();
    assert_eq!((whole.name(), whole.namespaces()), ("service account chancery/issuer", None));
    let own = by_token("own").await.unwrap();
    assert_eq!(own.namespaces(), Some(&["shop".to_owned()].into()));
    assert_eq!(own.profiles(), ["server"], "those of the cluster");
    for token in ["stranger", "elsewhere", "nobody"] {
        let refused = by_token(token).await;
        assert!(matches!(refused, Err(NotIdentified::Unknown(_))), "{token}: {refused:?}");
    }
    let by_certificate =
        async |leaf: u8| ca.office.identify(&Presented::Certificate([vec![leaf]].into()), &identity).await;
    assert_eq!(by_certificate(1).await.unwrap().name(), "client certificate of issuer.prod-eu.test");
    for leaf in [2, 3] {
        assert!(matches!(by_certificate(leaf).await, Err(NotIdentified::Unknown(_))), "{leaf}");
    }
    identity.away.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(by_token("whole").await, Err(NotIdentified::Failed(_))), "that is our side's fault");
    identity.away.store(false, std::sync::atomic::Ordering::SeqCst);
    // What each namespace's own account may ask for can be less than what the cluster may.
    let limited = Cluster {
        profiles: vec!["server".to_owned(), "tenants".to_owned()],
        own_namespace_profiles: Some(vec!["tenants".to_owned()]),
        own_namespace_names: Some(NameLimits::parse(&["*.tenants.test"]).unwrap()),
        ..cluster()
    };
    with_cluster(&ca, limited).await;
    assert_eq!(by_token("own").await.unwrap().profiles(), ["tenants"]);
    assert_eq!(by_token("whole").await.unwrap().profiles(), ["server", "tenants"]);
    let asked = |uid: &str, name: &str| SignForRequest {
        kind: ObjectKind::CertificateRequest,
        uid: uid.to_owned(),
        csr: csr(&[name]).der().to_vec(),
        names: None,
        profile: Some("tenants".to_owned()),
        lifetime: None,
        usages: Vec::new(),
        is_ca: false,
        reported: Reported { namespace: Some("shop".to_owned()), ..Reported::default() },
        term: None,
    };
    let own = by_token("own").await.unwrap();
    let refused = ca.office.sign_for_request(&own, asked("1", "a.test")).await.unwrap_err();
    assert!(matches!(refused, Refusal::Rejected(SignRejection::Limits(_))), "{refused:?}");
}
