//! §7.1.1: the directory.

use super::*;

#[tokio::test]
async fn the_directory_names_what_works_and_nothing_else() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let answer = client.get(&site.server.directory()).await?.expect_status(200)?;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let directory = answer.json();
    let base = site.server.directory().replace("/directory", "/");
    for member in ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"] {
        let url = directory[member].as_str().ok_or_else(|| format!("no {member}"))?;
        assert!(url.starts_with(&base), "{url}");
    }
    assert_eq!(directory.get("newAuthz"), None, "what does not work is not advertised");
    assert!(directory["meta"]["profiles"]["server"].is_string(), "{directory}");
    assert_eq!(directory["meta"].get("externalAccountRequired"), None);
    Ok(())
}

#[tokio::test]
async fn a_directory_with_terms_and_a_website_says_where_they_are() -> Result<()> {
    let site = site().await?;
    let target = site.target()?.other_directory("terms");
    let client = Client::connect(target).await?;
    assert_eq!(client.directory["meta"]["termsOfService"], "https://example.test/terms-1");
    assert_eq!(client.directory["meta"]["website"], "https://example.test/");
    assert!(client.resource("newOrder").contains("/acme/terms/"));
    Ok(())
}
