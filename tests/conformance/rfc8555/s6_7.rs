//! §6.7: problem documents.

use super::*;

/// The error types of §6.7 and of the registry it made (IANA, ACME Error Types).
const TYPES: [&str; 24] = [
    "accountDoesNotExist",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedIdentifier",
    "userActionRequired",
];

#[tokio::test]
async fn a_refusal_is_a_problem_document_of_a_registered_type_with_words() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let (new_order, revoke) = (client.resource("newOrder"), client.resource("revokeCert"));
    let payload = |name: &str, kind: &str| json!({"identifiers": [{"type": kind, "value": name}]});
    let refused = [
        client.post(&url, &json!({"status": "nonsense"})).await?,
        client.post(&new_order, &payload("outside.example", "dns")).await?,
        client.post(&new_order, &payload("a@b.test", "email")).await?,
        client.post(&new_order, &payload("a..b", "dns")).await?,
        client.post(&new_order, &json!({"identifiers": []})).await?,
        client.post(&revoke, &json!({"certificate": "AAAA"})).await?,
        client.post(&url, &json!({"contact": ["mailto:a@b?subject=x"]})).await?,
        client.get(&url).await?,
        client.get(&format!("{url}/nothing")).await?,
        post_raw(&mut client, &url, b"{".to_vec()).await?,
    ];
    for answer in refused {
        let document = problem(&answer, answer.status, &answer.problem());
        assert!(TYPES.contains(&answer.problem().as_str()), "{document}");
        assert_eq!(document.get("identifier"), None, "identifiers stand in subproblems alone");
        assert!(std::str::from_utf8(&answer.body).is_ok());
    }
    Ok(())
}

#[tokio::test]
async fn s6_7_1_each_refused_identifier_has_its_own_subproblem() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let refused = client.new_order(&["fine.test", "secret.denied.test", "outside.example"]).await?;
    let document = problem(&refused, 400, "rejectedIdentifier");
    let subproblems = document["subproblems"].as_array().ok_or("none")?;
    let about: Vec<&Value> = subproblems.iter().map(|each| &each["identifier"]).collect();
    let dns = |name: &str| json!({"type": "dns", "value": name});
    assert_eq!(about, [&dns("outside.example"), &dns("secret.denied.test")]);
    for each in subproblems {
        assert_eq!(each["type"], urn("rejectedIdentifier"));
        assert!(each["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{each}");
    }
    Ok(())
}

#[tokio::test]
async fn s6_7_1_failures_of_several_kinds_are_compound() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let identifiers = json!([{"type": "email", "value": "a@b.test"}, {"type": "dns", "value": "a..b.test"}]);
    let document = problem(&client.post(&url, &json!({"identifiers": identifiers})).await?, 400, "compound");
    let kinds: Vec<&Value> =
        document["subproblems"].as_array().ok_or("none")?.iter().map(|each| &each["type"]).collect();
    assert_eq!(kinds, [&json!(urn("unsupportedIdentifier")), &json!(urn("malformed"))]);
    Ok(())
}

#[tokio::test]
async fn what_a_client_sent_is_not_echoed_at_length() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let long = "x".repeat(2_000);
    let refused = client.new_order(&[&long]).await?;
    assert_eq!(refused.status, 400);
    assert!(refused.body.len() < 1_000, "{}", refused.body.len());
    Ok(())
}
