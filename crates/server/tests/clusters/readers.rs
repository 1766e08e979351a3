//! Who sees what a request led to: each credential of its cluster that speaks for its namespace, whichever asked, and
//! no other.

use std::fs;

use chancery_api::{SignedCertificate, SigningState};
use chancery_harness::{Result, server::Server};
use josekit::{
    jws::{JwsHeader, RS256},
    jwt::{self, JwtPayload},
};
use serde_json::{Value, json};

use crate::{Controller, request, setup, token};

const OTHER_CLUSTER: &str = r#"
[[cluster]]
name = "prod-us"
authority = "issuing"
profiles = ["server"]
"#;

/// A token of `[[cluster]]` prod-eu's keys, for an account.
fn account_token(key: &josekit::jwk::alg::rsa::RsaKeyPair, account: &str) -> Result<String> {
    let mut header = JwsHeader::new();
    header.set_key_id("one");
    let mut payload = JwtPayload::new();
    payload.set_issuer("https://kubernetes.test");
    payload.set_audience(vec!["chancery/prod-eu"]);
    payload.set_subject(format!("system:serviceaccount:{account}"));
    #[expect(clippy::disallowed_methods, reason = "the server goes by the real time")]
    let now = std::time::SystemTime::now();
    payload.set_expires_at(&(now + std::time::Duration::from_secs(600)));
    Ok(jwt::encode_with_signer(&payload, &header, &RS256.signer_from_der(key.to_der_private_key())?)?)
}

/// What a credential is answered when it reads, reports and revokes.
async fn looks(reader: &mut Controller, path: &str, query: &str) -> Result<(Option<SignedCertificate>, [u16; 3])> {
    let read = reader.call("GET", &format!("{path}{query}"), "").await?;
    let report = json!({"used_by": ["Secret shop/web"]}).to_string();
    let reported = reader.call("POST", &format!("{path}/usage{query}"), &report).await?;
    let revoked = reader.call("POST", &format!("{path}/revoke{query}"), r#"{"reason": 4}"#).await?;
    let signed = match serde_json::from_slice(&read.body) {
        Ok(SigningState::Issued(signed)) => Some(signed),
        _ => None,
    };
    Ok((signed, [read.status, reported.status, revoked.status]))
}

#[tokio::test]
async fn whoever_asked_each_credential_of_its_namespace_reads_reports_and_revokes_and_no_other() -> Result<()> {
    let accounts = r#"token = { issuer = "https://kubernetes.test", audience = "chancery/prod-eu", accounts = ["chancery/issuer"], own_namespace_account = "tenant", keys = "prod-eu.jwks" }"#;
    let mut server = Server::prepare(&setup(&format!("{accounts}\n{OTHER_CLUSTER}"))).await?;
    let key = RS256.generate_key_pair(2048)?;
    let mut public = key.to_jwk_public_key();
    public.set_key_id("one");
    fs::write(server.path().join("prod-eu.jwks"), json!({"keys": [Value::from(public.as_ref().clone())]}).to_string())?;
    server.serve().await?;
    let (dev, shop, payments) = (["--namespace", "dev"], ["--namespace", "shop"], ["--namespace", "payments"]);
    let mut ours = vec![
        ("a token of the cluster", token(&server, &[]).await?.0),
        ("a token of the namespace", token(&server, &shop).await?.0),
        ("a token of two namespaces", token(&server, &[dev, shop].concat()).await?.0),
        ("the cluster's account", account_token(&key, "chancery:issuer")?),
        ("the namespace's own account", account_token(&key, "shop:tenant")?),
    ];
    let mut others = vec![
        ("a token of another namespace", token(&server, &payments).await?.0),
        ("a token of two other namespaces", token(&server, &[dev, payments].concat()).await?.0),
        ("another namespace's own account", account_token(&key, "payments:tenant")?),
    ];
    let us = server.json(&["cluster", "token", "create", "prod-us"]).await?;
    others.push(("another cluster", us["secret"].as_str().ok_or("no secret")?.to_owned()));
    let mut controllers = Vec::new();
    for (who, secret) in ours.drain(..).chain(others) {
        controllers.push((who, Controller::with_token(&server, &secret).await?));
    }
    let theirs = controllers.split_off(5);
    let (mut ours, mut others) = (controllers, theirs);

    for asker in 0..ours.len() {
        for reader in 0..ours.len() {
            let uid = format!("{asker}-{reader}");
            let asked = request(&uid, &["web.cluster.test"])?;
            let first = ours[asker].1.signed(&asked).await?;
            let path = format!("/api/v1/signing-requests/certificate-request/{uid}");
            let strangers = if reader == 0 { &mut others[..] } else { &mut [] };
            for (who, other) in strangers {
                for query in ["", "?namespace=shop", "?namespace=payments", "?namespace=dev"] {
                    let seen = looks(other, &path, query).await?;
                    assert_eq!(seen, (None, [404, 404, 404]), "{who}{query}");
                }
            }
            let (who, reader) = &mut ours[reader];
            assert_eq!(reader.signed(&asked).await?, first, "{who}: one certificate for each UID");
            let seen = looks(reader, &path, "?namespace=shop").await?;
            assert_eq!(seen, (Some(first), [200, 204, 204]), "{who} of what {asker} got");
        }
    }
    let listed = server.json(&["certificate", "list", "--cluster", "prod-eu", "--namespace", "shop"]).await?;
    let listed = listed.as_array().ok_or("no list")?;
    assert_eq!(listed.len(), 25, "one certificate for each UID");
    assert!(listed.iter().all(|one| one["used_by"] == json!(["Secret shop/web"]) && !one["revoked"].is_null()));
    server.stop().await?;
    Ok(())
}
