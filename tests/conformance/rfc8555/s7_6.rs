//! §7.6: revocation.

use chancery_harness::client::AccountKey;

use super::*;

#[tokio::test]
async fn the_issuing_account_revokes_with_an_empty_200_and_again_is_already_revoked() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["mine.revoke.test"]).await?;
    let url = client.resource("revokeCert");
    let sent = json!({"certificate": issued.base64url()?, "reason": 1});
    let revoked = client.post(&url, &sent).await?.expect_status(200)?;
    assert!(revoked.body.is_empty() && revoked.header("content-type").is_none(), "{revoked:?}");
    problem(&client.post(&url, &sent).await?, 400, "alreadyRevoked");
    assert_eq!(reason(site, "mine.revoke.test").await?, "keyCompromise");
    Ok(())
}

/// The reason for which the one certificate of a name was revoked.
async fn reason(site: &crate::sites::Site, name: &str) -> Result<Value> {
    let listed = site.server.printed(&["certificate", "list", "--name", name, "--output", "json"]).await?;
    Ok(serde_json::from_str::<Value>(&listed)?[0]["revoked"]["reason"].clone())
}

#[tokio::test]
async fn the_certificates_own_key_revokes_without_an_account() -> Result<()> {
    let site = site().await?;
    let mut owner = site.client().await?;
    let issued = flow::issued(site, &mut owner, &["key.revoke.test"]).await?;
    let mut holder = site.stranger().await?;
    let url = holder.resource("revokeCert");
    let sent = json!({"certificate": issued.base64url()?});
    problem(&holder.post(&url, &sent).await?, 403, "unauthorized");
    holder.key = AccountKey::from_pkcs8(&issued.key.serialize_der())?;
    assert!(holder.post(&url, &sent).await?.expect_status(200)?.body.is_empty());
    problem(&holder.post(&url, &sent).await?, 400, "alreadyRevoked");
    Ok(())
}

#[tokio::test]
async fn an_account_with_valid_authorizations_for_all_names_revokes_and_one_with_some_does_not() -> Result<()> {
    let site = site().await?;
    let mut owner = site.client().await?;
    let issued = flow::issued(site, &mut owner, &["a.all.test", "b.all.test"]).await?;
    let mut other = site.client().await?;
    let url = other.resource("revokeCert");
    let sent = json!({"certificate": issued.base64url()?});
    problem(&other.post(&url, &sent).await?, 403, "unauthorized");
    flow::ready(site, &mut other, &["a.all.test"]).await?;
    problem(&other.post(&url, &sent).await?, 403, "unauthorized");
    flow::ready(site, &mut other, &["b.all.test"]).await?;
    other.post(&url, &sent).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn a_bad_reason_is_told_with_the_permitted_ones_and_revokes_nothing() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["reason.revoke.test"]).await?;
    let (url, certificate) = (client.resource("revokeCert"), issued.base64url()?);
    for bad in [json!(7), json!(8), json!(11), json!(-1), json!(1.5), json!("1"), json!([1]), json!(1e30)] {
        let sent = json!({"certificate": certificate, "reason": bad});
        let refused = problem(&client.post(&url, &sent).await?, 400, "badRevocationReason");
        let detail = refused["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("1 (keyCompromise)") && detail.contains("4 (superseded)"), "{detail}");
    }
    assert_eq!(reason(site, "reason.revoke.test").await?, Value::Null);
    client.post(&url, &json!({ "certificate": certificate })).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_certificate_is_malformed_and_one_of_another_issuer_is_not_found() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("revokeCert");
    for sent in
        [json!({}), json!([]), json!({"certificate": ""}), json!({"certificate": "AAAA"}), json!({"certificate": 1})]
    {
        problem(&client.post(&url, &sent).await?, 400, "malformed");
    }
    let key = rcgen::KeyPair::generate()?;
    let foreign = rcgen::CertificateParams::new(vec!["foreign.test".to_owned()])?.self_signed(&key)?;
    problem(&client.post(&url, &json!({"certificate": b64(foreign.der())})).await?, 404, "malformed");
    Ok(())
}
