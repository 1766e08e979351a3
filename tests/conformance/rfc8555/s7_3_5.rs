//! §7.3.5: another key for an account.

use chancery_harness::client::AccountKey;

use super::*;

/// What the inner JWS is made of, each part to be spoilt.
struct Inner {
    header: Value,
    payload: Value,
}

/// A change that makes it none.
type Spoil<'a> = Box<dyn Fn(&mut Inner) + 'a>;

impl Inner {
    fn of(client: &Client, new: &AccountKey) -> Result<Self> {
        let account = client.kid.clone().ok_or("registered")?;
        Ok(Self {
            header: json!({"alg": "ES256", "jwk": new.jwk(), "url": client.resource("keyChange")}),
            payload: json!({"account": account, "oldKey": client.key.jwk()}),
        })
    }

    /// The outer request, signed by the account's key.
    async fn send(&self, client: &mut Client, signer: &AccountKey) -> Result<Answer> {
        let url = client.resource("keyChange");
        let inner = signer.jws(&self.header, &self.payload.to_string())?;
        client.post(&url, &serde_json::from_slice::<Value>(&inner)?).await
    }
}

#[tokio::test]
async fn the_account_has_the_new_key_from_then_on_and_the_old_one_is_refused() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let kid = client.kid.clone().ok_or("registered")?;
    let ready = flow::ready(site, &mut client, &["rolled.test"]).await?;
    let new = AccountKey::generate()?;
    let changed = Inner::of(&client, &new)?.send(&mut client, &new).await?.expect_status(200)?;
    assert_eq!(changed.text("status")?, "valid");
    assert_eq!(changed.text("orders")?, format!("{kid}/orders"));
    // The old key signs nothing any more, and finds no account.
    problem(&client.read(&kid).await?, 400, "malformed");
    let old = std::mem::replace(&mut client.key, new);
    client.read(&kid).await?.expect_status(200)?;
    flow::finalize(&mut client, &ready.order, &["rolled.test"]).await?.0.expect_status(200)?;
    let mut stranger = Client::connect(site.target()?).await?;
    stranger.key = old;
    let url = stranger.resource("newAccount");
    let none = stranger.post(&url, &json!({"onlyReturnExisting": true})).await?;
    problem(&none, 400, "accountDoesNotExist");
    Ok(())
}

#[tokio::test]
async fn a_key_that_an_account_has_is_409_with_that_accounts_url() -> Result<()> {
    let site = site().await?;
    let (mut client, other) = (site.client().await?, site.client().await?);
    let taken = Inner::of(&client, &other.key)?.send(&mut client, &other.key).await?;
    assert_eq!((taken.status, taken.problem().as_str()), (409, "malformed"));
    assert_eq!(Some(taken.location()?), other.kid);
    Ok(())
}

#[tokio::test]
async fn whatever_is_wrong_with_the_inner_jws_changes_nothing() -> Result<()> {
    let site = site().await?;
    let (mut client, other) = (site.client().await?, site.client().await?);
    let kid = client.kid.clone().ok_or("registered")?;
    let new = AccountKey::generate()?;
    let nonce = client.take_nonce().await?;
    let spoilt: Vec<Spoil<'_>> = vec![
        Box::new(|inner| inner.header["url"] = json!("https://localhost/acme/default/new-order")),
        Box::new(move |inner| inner.header["nonce"] = json!(nonce)),
        Box::new(|inner| inner.payload["account"] = json!(other.kid)),
        Box::new(|inner| inner.payload["oldKey"] = other.key.jwk()),
        Box::new(|inner| inner.payload["oldKey"] = json!({})),
        Box::new(|inner| drop(inner.payload.as_object_mut().map(|payload| payload.remove("account")))),
        Box::new(|inner| drop(inner.header.as_object_mut().map(|header| header.remove("url")))),
        // By kid, which is the account's and not the new key's.
        Box::new(|inner| {
            drop(inner.header.as_object_mut().map(|header| header.remove("jwk")));
            inner.header["kid"] = inner.payload["account"].clone();
        }),
        // Another key than the one that signs.
        Box::new(|inner| inner.header["jwk"] = other.key.jwk()),
    ];
    for (at, spoil) in spoilt.iter().enumerate() {
        let mut inner = Inner::of(&client, &new)?;
        spoil(&mut inner);
        let refused = inner.send(&mut client, &new).await?;
        assert!((400..500).contains(&refused.status), "{at}: {}", refused.status);
        assert!(["malformed", "badPublicKey"].contains(&refused.problem().as_str()), "{at}: {}", refused.problem());
    }
    let url = client.resource("keyChange");
    for payload in [json!({}), json!([]), json!("x"), json!({"protected": "", "payload": "", "signature": ""})] {
        problem(&client.post(&url, &payload).await?, 400, "malformed");
    }
    client.read(&kid).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn a_changed_key_is_there_after_the_index_was_made_anew() -> Result<()> {
    let mut own = own("").await?;
    let mut client = own.client().await?;
    let kid = client.kid.clone().ok_or("registered")?;
    flow::issued(&own, &mut client, &["kept.test"]).await?;
    let new = AccountKey::generate()?;
    Inner::of(&client, &new)?.send(&mut client, &new).await?.expect_status(200)?;
    own.server.stop().await?;
    own.server.printed(&["store", "rebuild", "--yes"]).await?;
    own.server.serve().await?;
    client.nonce = None;
    problem(&client.read(&kid).await?, 400, "malformed");
    client.key = new;
    client.read(&kid).await?.expect_status(200)?;
    Ok(())
}
