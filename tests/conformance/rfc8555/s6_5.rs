//! §6.5: nonces.

use super::*;

#[tokio::test]
async fn a_missing_unknown_or_reused_nonce_is_a_bad_nonce_with_a_fresh_one_that_works() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let used = client.take_nonce().await?;
    client.nonce = Some(used.clone());
    client.read(&url).await?.expect_status(200)?;
    for nonce in [Some(used), Some("AAAA".to_owned()), Some(b64([7; 30])), Some(String::new()), None] {
        let mut protected = json!({"alg": "ES256", "kid": url, "url": url});
        if let Some(nonce) = nonce {
            protected["nonce"] = json!(nonce);
        }
        client.nonce = None;
        problem(&post_with(&mut client, &url, &protected, "").await?, 400, "badNonce");
        assert!(client.nonce.is_some(), "a fresh one comes along");
        client.read(&url).await?.expect_status(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_nonce_is_spent_even_if_the_request_fails() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    // Fails for its payload, for its URL, for its signature.
    for (payload, signed) in [("{", url.clone()), ("", format!("{url}x")), ("", url.clone())] {
        let nonce = client.take_nonce().await?;
        let protected = json!({"alg": "ES256", "kid": url, "url": signed, "nonce": nonce});
        let mut body = client.key.jws(&protected, payload)?;
        if signed == url && payload.is_empty() {
            let other = chancery_harness::client::AccountKey::generate()?;
            body = other.jws(&protected, payload)?;
        }
        let failed = post_raw(&mut client, &url, body).await?;
        assert!((400..500).contains(&failed.status) && failed.problem() != "badNonce", "{failed:?}");
        let again = json!({"alg": "ES256", "kid": url, "url": url, "nonce": nonce});
        problem(&post_with(&mut client, &url, &again, "").await?, 400, "badNonce");
    }
    Ok(())
}

#[tokio::test]
async fn a_nonce_that_is_not_base64url_is_malformed() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    for nonce in ["AAA=", "not base64url", "AA+/", "ä"] {
        let protected = json!({"alg": "ES256", "kid": url, "url": url, "nonce": nonce});
        problem(&post_with(&mut client, &url, &protected, "").await?, 400, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_to_a_post_brings_a_nonce_that_works_errors_too() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let mut gone = site.client().await?;
    let gone_url = gone.kid.clone().ok_or("registered")?;
    gone.post(&gone_url, &json!({"status": "deactivated"})).await?.expect_status(200)?;
    let directory = site.server.directory();
    let ready = flow::ready(site, &mut client, &["nonce.test"]).await?;
    flow::finalize(&mut client, &ready.order, &["nonce.test"]).await?.0.expect_status(200)?;
    let finalize = ready.order["finalize"].as_str().ok_or("no URL")?.to_owned();
    let mut statuses = Vec::new();
    for case in 0..9 {
        let jose = Some("application/jose+json");
        let answer = match case {
            0 => client.send("POST", &url, jose, b"{}".to_vec()).await?,
            1 => client.send("POST", &url, Some("text/plain"), Vec::new()).await?,
            2 => client.send("POST", &url, jose, vec![b' '; 65 * 1024]).await?,
            3 => client.send("POST", &format!("{directory}/nothing"), jose, Vec::new()).await?,
            4 => gone.read(&gone_url).await?,
            5 => client.new_order(&["fine-nonce.test"]).await?,
            6 => client.new_order(&["outside.example"]).await?,
            7 => client.post(&finalize, &json!({"csr": b64(csr(&["nonce.test"])?)})).await?,
            _ => client.read(&flow::unknown_of(&ready.url)).await?,
        };
        let nonce = answer.header("replay-nonce").ok_or_else(|| format!("none with {}", answer.status))?;
        client.nonce = Some(nonce.to_owned());
        client.read(&url).await?.expect_status(200)?;
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [400, 415, 413, 404, 401, 201, 400, 403, 404]);
    Ok(())
}
