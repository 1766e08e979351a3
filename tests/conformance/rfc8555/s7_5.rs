//! §7.5: authorizations and challenges.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn every_challenge_has_a_url_of_its_own_its_state_and_a_token_of_128_bits() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["one.offer.test", "two.offer.test"]).await?.expect_status(201)?.json();
    let (mut tokens, mut urls) = (BTreeSet::new(), BTreeSet::new());
    for url in chancery_harness::client::authorizations(&order) {
        let authorization = client.read(&url).await?.expect_status(200)?.json();
        assert_eq!(authorization["status"], "pending");
        let challenges = authorization["challenges"].as_array().ok_or("no challenges")?;
        let kinds: BTreeSet<&str> = challenges.iter().filter_map(|each| each["type"].as_str()).collect();
        assert_eq!(kinds, BTreeSet::from(["dns-01", "http-01", "tls-alpn-01"]));
        for challenge in challenges {
            assert_eq!(challenge["status"], "pending");
            let token = challenge["token"].as_str().ok_or("no token")?;
            // 22 characters of 6 bits hold 128 bits (§8.3).
            assert!(token.len() >= 22, "{token}");
            assert!(token.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)), "{token}");
            assert!(tokens.insert(token.to_owned()), "unique");
            let own = challenge["url"].as_str().ok_or("no URL")?;
            assert!(urls.insert(own.to_owned()));
            let read = client.read(own).await?.expect_status(200)?;
            assert_eq!(read.json(), *challenge);
            assert_eq!(read.links("up"), [url.as_str()]);
        }
    }
    Ok(())
}
