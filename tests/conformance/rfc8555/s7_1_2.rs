//! §7.1.2: account objects and their orders.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn an_account_always_has_its_orders_url() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let account = client.read(&url).await?.expect_status(200)?.json();
    assert_eq!(account["status"], "valid");
    let orders = account["orders"].as_str().ok_or("no orders")?;
    assert_eq!(client.read(orders).await?.expect_status(200)?.json(), json!({"orders": []}));
    Ok(())
}

#[tokio::test]
async fn s7_1_2_1_orders_come_in_pages_each_once_and_those_that_are_invalid_not_at_all() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let mut placed = BTreeSet::new();
    for number in 0..102 {
        let order = client.new_order(&[&format!("h{number}.page.test")]).await?.expect_status(201)?;
        if number == 1 {
            let authorization = order.json()["authorizations"][0].as_str().unwrap_or_default().to_owned();
            client.post(&authorization, &json!({"status": "deactivated"})).await?.expect_status(200)?;
        } else {
            placed.insert(order.location()?);
        }
    }
    placed.insert(flow::issued(site, &mut client, &["valid.page.test"]).await?.order);
    let mut seen = Vec::new();
    let mut next = vec![format!("{}/orders", client.kid.clone().ok_or("registered")?)];
    let mut pages = 0;
    while let Some(url) = next.pop() {
        let page = client.read(&url).await?.expect_status(200)?;
        let orders: Vec<String> = serde_json::from_value(page.json()["orders"].clone())?;
        seen.extend(orders);
        next = page.links("next");
        pages += 1;
    }
    assert_eq!(seen.len(), placed.len(), "each once");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), placed);
    assert_eq!(pages, 2);
    Ok(())
}
