//! §11.1: an account's key is not a certificate's.

use chancery_harness::client::AccountKey;

use super::*;

#[tokio::test]
async fn a_csr_with_the_key_of_any_account_is_bad() -> Result<()> {
    let site = site().await?;
    let shared = rcgen::KeyPair::generate()?;
    let mut owner = site.stranger().await?;
    owner.key = AccountKey::from_pkcs8(&shared.serialize_der())?;
    owner.register().await?;
    let mut other = site.client().await?;
    for (client, name) in [(&mut owner, "own-key.test"), (&mut other, "others-key.test")] {
        let ready = flow::ready(site, client, &[name]).await?;
        let refused = flow::finalize_with(client, &ready.order, &csr_with(&shared, &[name])?).await?;
        problem(&refused, 400, "badCSR");
        assert_eq!(client.read(&ready.url).await?.text("status")?, "ready");
        flow::finalize(client, &ready.order, &[name]).await?.0.expect_status(200)?;
    }
    Ok(())
}
