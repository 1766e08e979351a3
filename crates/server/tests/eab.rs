//! EAB keys as an operator meets them, on the real binary: what survives a kill and a rebuild, what a reload may turn on.

use std::fs;

use chancery_harness::{
    Result,
    client::Client,
    server::{Server, Setup},
};
use serde_json::{Value, json};

const TEAMS: &str = "\n[[directory]]\nname = \"teams\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n\
    external_account = \"required\"\npreauthorized = true\n";

async fn start() -> Result<Server> {
    Server::start(&Setup { configuration: TEAMS.to_owned(), ..Setup::default() }).await
}

async fn stranger(server: &Server) -> Result<Client> {
    Client::connect(server.target()?.other_directory("teams")).await
}

async fn bound(server: &Server, (id, key): &(String, String)) -> Result<Client> {
    let mut client = stranger(server).await?;
    client.register_bound(id, key).await?.expect_status(201)?;
    Ok(client)
}

#[tokio::test]
async fn revoking_a_key_with_its_accounts_stops_them_even_if_the_server_is_killed_right_after() -> Result<()> {
    let mut server = start().await?;
    let key = server.eab_key("team", &["--accounts", "5"]).await?;
    let other = server.eab_key("other", &[]).await?;
    let mut accounts = Vec::new();
    for _ in 0..5 {
        let mut client = bound(&server, &key).await?;
        let order = client.new_order(&["a.test"]).await?.expect_status(201)?;
        accounts.push((client, order));
    }
    let mut bystander = bound(&server, &other).await?;
    server.printed(&["eab", "revoke", "team", "--accounts", "--yes"]).await?;
    server.kill().await?;
    server.serve().await?;
    for (client, order) in &mut accounts {
        client.nonce = None;
        // The stored job runs in the background; each refusal says so once it did.
        let mut refused = client.read(&order.location()?).await?;
        for _ in 0..5_000 {
            if refused.status != 200 {
                break;
            }
            refused = client.read(&order.location()?).await?;
        }
        assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthorized"));
    }
    bystander.nonce = None;
    bystander.new_order(&["b.test"]).await?.expect_status(201)?;
    let listed = server.json(&["account", "list"]).await?;
    let of = |status: &str| listed.as_array().map(|all| all.iter().filter(|one| one["status"] == status).count());
    assert_eq!((of("revoked"), of("valid")), (Some(5), Some(1)), "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_rebuild_of_the_index_has_keys_and_uses_and_accounts_again_and_unused_secrets_are_good() -> Result<()> {
    let mut server = start().await?;
    let used = server.eab_key("used", &[]).await?;
    let unused = server.eab_key("unused", &["--name", "**.test", "--accounts", "2"]).await?;
    let revoked = server.eab_key("revoked", &[]).await?;
    server.printed(&["eab", "revoke", "revoked", "--yes"]).await?;
    let mut client = bound(&server, &used).await?;
    let before = server.json(&["eab", "list"]).await?;
    server.stop().await?;
    server.printed(&["store", "rebuild", "--yes"]).await?;
    server.serve().await?;
    assert_eq!(server.json(&["eab", "list"]).await?, before);
    client.nonce = None;
    assert_eq!(client.new_order(&["a.test"]).await?.expect_status(201)?.text("status")?, "ready");
    for (key, status) in [(&used, 403), (&revoked, 403), (&unused, 201)] {
        let answer = stranger(&server).await?.register_bound(&key.0, &key.1).await?;
        assert_eq!(answer.status, status, "{}", key.0);
    }
    Ok(())
}

#[tokio::test]
async fn keys_take_a_directory_that_takes_them_and_a_restart_that_makes_their_own_key() -> Result<()> {
    let mut server = Server::start(&Setup::default()).await?;
    let key_file = server.path().join("keys/eab.key");
    assert!(!key_file.exists(), "whoever uses none has nothing to keep");
    let refused = server.command(&["eab", "create", "--owner", "a team"]).await?;
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("external_account"), "{said}");
    let config = fs::read_to_string(server.configuration())? + TEAMS;
    fs::write(server.configuration(), config)?;
    let refused = server.command(&["reload"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && said.contains("restart"), "{said}");
    server.stop().await?;
    server.serve().await?;
    assert!(key_file.exists());
    let made = server.json(&["eab", "create", "--owner", "a team"]).await?;
    assert_eq!(made["key"]["directory"], "teams", "the only one that takes such keys");
    assert_eq!(made["key"]["id"].as_str().map(str::len), Some(32), "{made}");
    // The same key after the next start, so that what was given out stays good.
    let (id, secret) = (made["key"]["id"].as_str().unwrap_or_default(), made["hmac_key"].as_str().unwrap_or_default());
    server.stop().await?;
    server.serve().await?;
    stranger(&server).await?.register_bound(id, secret).await?.expect_status(201)?;
    let shown: Value = server.json(&["eab", "show", id]).await?;
    assert_eq!(shown["accounts_made"], json!(1));
    Ok(())
}

#[tokio::test]
async fn a_lost_key_of_eab_keys_is_not_replaced_in_silence_while_one_that_was_given_out_still_holds() -> Result<()> {
    let mut server = start().await?;
    let (id, secret) = server.eab_key("team", &["--accounts", "2"]).await?;
    server.stop().await?;
    let (key, kept) = (server.path().join("keys/eab.key"), server.path().join("kept"));
    fs::rename(&key, &kept)?;
    let refused = server.command(&["serve"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && said.contains("eab.key") && said.contains("\"team\""), "{said}");
    assert!(!key.exists());
    fs::rename(&kept, &key)?;
    server.serve().await?;
    stranger(&server).await?.register_bound(&id, &secret).await?.expect_status(201)?;
    // Once nothing holds any more there is nothing to lose.
    server.printed(&["eab", "revoke", "team", "--yes"]).await?;
    server.stop().await?;
    fs::remove_file(&key)?;
    server.serve().await?;
    assert!(key.exists());
    Ok(())
}
