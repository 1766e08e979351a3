//! §7.2: newNonce.

use super::*;

#[tokio::test]
async fn head_is_200_and_get_204_both_empty_uncacheable_and_with_a_nonce_of_their_own() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let (url, account) = (client.resource("newNonce"), client.kid.clone().ok_or("registered")?);
    let mut nonces = std::collections::BTreeSet::new();
    for (method, status) in [("HEAD", 200), ("GET", 204), ("HEAD", 200), ("GET", 204)] {
        let answer = client.send(method, &url, None, Vec::new()).await?.expect_status(status)?;
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let nonce = answer.header("replay-nonce").ok_or("no nonce")?.to_owned();
        assert!(nonce.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)), "{nonce}");
        assert!(nonces.insert(nonce), "each is another");
    }
    for nonce in nonces {
        client.nonce = Some(nonce);
        client.read(&account).await?.expect_status(200)?;
    }
    Ok(())
}
