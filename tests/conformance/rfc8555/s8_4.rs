//! §8.4: dns-01. More of it, with the real certbot, is in tests/interop.

use super::*;

#[tokio::test]
async fn a_wildcard_is_offered_dns_01_alone() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["*.dns.test"]).await?.expect_status(201)?.json();
    let authorization = client.read(order["authorizations"][0].as_str().ok_or("no URL")?).await?.json();
    let kinds: Vec<&Value> =
        authorization["challenges"].as_array().ok_or("none")?.iter().map(|each| &each["type"]).collect();
    assert_eq!(kinds, [&json!("dns-01")]);
    Ok(())
}

#[tokio::test]
async fn a_wildcard_is_validated_at_its_base_where_any_one_record_may_match() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    site.dns.txt("_acme-challenge.dns.test", "somebody else's");
    site.dns.txt("_acme-challenge.dns.test", "");
    let issued = flow::issued(site, &mut client, &["*.dns.test"]).await?;
    let der = issued.chain()?.remove(0);
    let (_, leaf) = x509_parser::parse_x509_certificate(&der)?;
    let names = leaf.subject_alternative_name()?.ok_or("no names")?.value;
    assert_eq!(names.general_names, [x509_parser::extensions::GeneralName::DNSName("*.dns.test")]);
    Ok(())
}
