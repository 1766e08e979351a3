//! §6.1: base64url, and what browsers may read.

use super::*;

#[tokio::test]
async fn padded_base64url_is_malformed_wherever_it_stands() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    for padded in ["protected", "payload", "signature"] {
        let header = client.protected(&url).await?;
        let mut protected = b64(header.to_string());
        let mut payload = b64(json!({"identifiers": [{"type": "dns", "value": "pad.test"}]}).to_string());
        for (member, text) in [("protected", &mut protected), ("payload", &mut payload)] {
            if member == padded {
                text.push('=');
            }
        }
        // Genuine for whoever takes the padding.
        let mut signature = client.key.sign(&protected, &payload)?;
        if padded == "signature" {
            signature.push('=');
        }
        let body = json!({"protected": protected, "payload": payload, "signature": signature});
        problem(&post_raw(&mut client, &url, body.to_string().into_bytes()).await?, 400, "malformed");
    }
    let flow::Ready { url, order } = flow::ready(site, &mut client, &["padded.test"]).await?;
    let finalize = order["finalize"].as_str().ok_or("no URL")?;
    let request = b64(csr(&["padded.test"])?);
    for other in [format!("{request}="), format!("{request}=="), format!(" {request}"), format!("{request}\n")] {
        problem(&client.post(finalize, &json!({ "csr": other })).await?, 400, "malformed");
    }
    assert_eq!(client.read(&url).await?.text("status")?, "ready");
    Ok(())
}

#[tokio::test]
async fn any_origin_may_read_every_answer() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let (directory, nonce, account) = (site.server.directory(), client.resource("newNonce"), client.kid.clone());
    let account = account.ok_or("registered")?;
    let answers = [
        client.get(&directory).await?,
        client.send("HEAD", &nonce, None, Vec::new()).await?,
        client.read(&account).await?,
        client.post(&account, &json!({"status": "nonsense"})).await?,
        client.get(&account).await?,
        client.get(&format!("{directory}/nothing")).await?,
    ];
    for answer in answers {
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
        for header in ["Link", "Location", "Replay-Nonce", "Retry-After"] {
            assert!(exposed.contains(header), "{exposed}");
        }
    }
    let asked = [("origin", "https://page.example"), ("access-control-request-method", "POST")];
    let preflight = client.send_with("OPTIONS", &account, &asked, Vec::new()).await?;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("Content-Type"));
    Ok(())
}
