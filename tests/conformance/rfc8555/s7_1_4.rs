//! §7.1.4: authorization objects and identifiers.

use super::*;

#[tokio::test]
async fn a_wildcards_authorization_is_for_its_base_and_says_so_and_others_say_nothing() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["*.dns.test", "plain.dns.test"]).await?.expect_status(201)?.json();
    let mut seen = Vec::new();
    for url in chancery_harness::client::authorizations(&order) {
        let authorization = client.read(&url).await?.expect_status(200)?.json();
        seen.push((authorization["identifier"]["value"].clone(), authorization.get("wildcard").cloned()));
    }
    seen.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(seen, [(json!("dns.test"), Some(json!(true))), (json!("plain.dns.test"), None)]);
    Ok(())
}

#[tokio::test]
async fn names_are_answered_in_lower_case_and_twice_the_same_is_once() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["Fold.Test", "fold.test", "FOLD.TEST"]).await?.expect_status(201)?.json();
    assert_eq!(order["identifiers"], json!([{"type": "dns", "value": "fold.test"}]));
    assert_eq!(order["authorizations"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn names_are_in_ascii_and_a_labels_unicode_must_be_valid() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    client.new_order(&["xn--bcher-kva.test"]).await?.expect_status(201)?;
    for name in ["bücher.test", "xn--a.test", "xn--bcher-.test", "a b.test", "a_b.test", "*.*.test", "a.*.test", "*"] {
        problem(&client.new_order(&[name]).await?, 400, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn a_valid_authorization_has_its_end() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["end.test"]).await?;
    let url = ready.order["authorizations"][0].as_str().ok_or("no URL")?;
    let authorization = client.read(url).await?.json();
    assert_eq!(authorization["status"], "valid");
    let end = authorization["expires"].as_str().ok_or("no end")?;
    assert!(end.ends_with('Z') && end.contains('T'), "RFC 3339: {end}");
    Ok(())
}
