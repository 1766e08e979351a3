//! §7.3.3: changes of the terms of service.

use std::fs;

use super::*;

#[tokio::test]
async fn changed_terms_are_told_at_new_order_and_finalize_until_the_account_agrees_to_them() -> Result<()> {
    let terms = |number: u8| format!("https://example.test/terms-{number}");
    let directory = "\n[[directory]]\nname = \"changing\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n";
    let site = own(&format!("{directory}terms_of_service = \"{}\"\n", terms(1))).await?;
    let mut client = Client::connect(site.target()?.other_directory("changing")).await?;
    client.register().await?;
    let (account, new_account) = (client.kid.clone().ok_or("registered")?, client.resource("newAccount"));
    let ready = flow::ready(&site, &mut client, &["terms.test"]).await?;
    for number in [2, 3] {
        let config = fs::read_to_string(site.server.configuration())?;
        assert!(config.contains(&terms(number - 1)));
        fs::write(site.server.configuration(), config.replace(&terms(number - 1), &terms(number)))?;
        site.server.printed(&["reload"]).await?;
        let refused = [
            client.new_order(&["more.terms.test"]).await?,
            flow::finalize(&mut client, &ready.order, &["terms.test"]).await?.0,
        ];
        for answer in refused {
            assert_eq!(problem(&answer, 403, "userActionRequired")["instance"], terms(number));
            assert_eq!(answer.links("terms-of-service"), [terms(number)]);
        }
        assert_eq!(client.read(&ready.url).await?.expect_status(200)?.text("status")?, "ready");
        client.post(&account, &json!({"termsOfServiceAgreed": false})).await?.expect_status(200)?;
        problem(&client.new_order(&["more.terms.test"]).await?, 403, "userActionRequired");
        // Once by the account's own URL, once as a client does that registers again.
        if number == 2 {
            client.post(&account, &json!({"termsOfServiceAgreed": true})).await?.expect_status(200)?;
        } else {
            client.kid = None;
            let found = client.post(&new_account, &json!({"termsOfServiceAgreed": true})).await?.expect_status(200)?;
            assert_eq!(found.location()?, account);
            client.kid = Some(account.clone());
        }
        client.new_order(&["more.terms.test"]).await?.expect_status(201)?;
    }
    flow::finalize(&mut client, &ready.order, &["terms.test"]).await?.0.expect_status(200)?;
    Ok(())
}
