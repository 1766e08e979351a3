//! RFC 7301: which HTTP is spoken is agreed on by ALPN.

use chancery_harness::{Result, wire::Wire};

use crate::sites::site;

#[tokio::test]
async fn http_2_is_preferred_and_http_1_1_is_what_remains() -> Result<()> {
    let site = site().await?;
    let target = site.target()?;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        assert_eq!(Wire::connect(&target, offered).await?.alpn().as_deref(), agreed, "{offered:?}");
    }
    Ok(())
}

#[tokio::test]
async fn s3_2_a_client_that_speaks_something_else_is_told_so_in_the_handshake() -> Result<()> {
    let site = site().await?;
    let refused = Wire::connect(&site.target()?, &["acme-tls/1"]).await.err().ok_or("it was taken")?;
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    Ok(())
}
