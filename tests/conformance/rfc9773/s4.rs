//! §4: getting renewal information.

use super::*;

/// Start and end of the suggested window, and now, in seconds.
fn window(told: &Value) -> Result<(i64, i64)> {
    let at = |member: &str| -> Result<i64> {
        let text = told["suggestedWindow"][member].as_str().ok_or_else(|| format!("no {member} in {told}"))?;
        Ok(text.parse::<jiff::Timestamp>()?.as_second())
    };
    Ok((at("start")?, at("end")?))
}

#[tokio::test]
async fn s4_1_anybody_reads_when_a_certificate_is_best_replaced_and_what_is_none_is_400_or_404() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["window.ari.test"]).await?;
    let identifier = identifier(&issued)?;
    let mut stranger = site.stranger().await?;
    let url = renewal_info(&stranger, &identifier);
    let answer = stranger.get(&url).await?.expect_status(200)?;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let ask_again: i64 = answer.header("retry-after").ok_or("no Retry-After")?.parse()?;
    let (start, end) = window(&answer.json())?;
    let chain = issued.chain()?;
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(chain[0].as_ref())?;
    let validity = leaf.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!(validity.not_before.timestamp() < start && start < end && end < validity.not_after.timestamp());
    assert!((1..=life / 20).contains(&ask_again), "{ask_again}");
    let (key, serial) = identifier.split_once('.').ok_or("two parts")?;
    for malformed in [key.to_owned(), format!("{identifier}="), format!("{key}."), format!("{key}.{serial}.x")] {
        problem(&stranger.get(&renewal_info(&client, &malformed)).await?, 400, "malformed");
    }
    for unknown in [format!("{key}.AQI"), format!("{}.{serial}", b64([7; 20]))] {
        problem(&stranger.get(&renewal_info(&client, &unknown)).await?, 404, "malformed");
    }
    for method in ["POST", "PUT", "DELETE"] {
        problem(&stranger.send(method, &url, Some("application/jose+json"), b"{}".to_vec()).await?, 405, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn s4_2_the_window_of_a_certificate_that_an_operator_revoked_is_over() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let issued = flow::issued(site, &mut client, &["revoked.ari.test"]).await?;
    let url = renewal_info(&client, &identifier(&issued)?);
    let (before, _) = window(&client.get(&url).await?.expect_status(200)?.json())?;
    let listed = site.server.json(&["certificate", "list", "--name", "revoked.ari.test"]).await?;
    let serial = listed[0]["serial"].as_str().ok_or("no serial")?;
    site.server.printed(&["certificate", "revoke", serial, "--reason", "superseded", "--yes"]).await?;
    let (start, end) = window(&client.get(&url).await?.expect_status(200)?.json())?;
    let chain = issued.chain()?;
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(chain[0].as_ref())?;
    // Certificates are dated back by more than it takes to get here.
    let begins = leaf.validity().not_before.timestamp();
    assert!(begins < start && start < end && end <= begins + 2 && end < before, "{start} {end}");
    Ok(())
}
