//! §7.5.1: answering challenges.

use super::*;

#[tokio::test]
async fn an_answer_is_200_with_the_challenge_and_what_else_is_in_it_is_ignored() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let order = client.new_order(&["extra.test"]).await?.expect_status(201)?.json();
    let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
    site.responder.put(&token, client.key_authorization(&token));
    let sent = json!({"keyAuthorization": "of an old draft", "more": {"x": [1]}});
    let answered = client.post(&url, &sent).await?.expect_status(200)?;
    assert_eq!((answered.text("status")?.as_str(), answered.text("url")?), ("valid", url));
    assert!(answered.json()["validated"].is_string(), "{answered:?}");
    assert_eq!(answered.links("up"), [order["authorizations"][0].as_str().unwrap_or_default()]);
    Ok(())
}

#[tokio::test]
async fn answering_again_changes_nothing_whether_it_was_valid_or_invalid() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    for (name, right) in [("again-valid.test", true), ("again-invalid.test", false)] {
        let order = client.new_order(&[name]).await?.expect_status(201)?.json();
        let (url, token) = first_challenge(&mut client, &order, "http-01").await?;
        site.responder.put(&token, if right { client.key_authorization(&token) } else { "wrong".to_owned() });
        let first = client.post(&url, &json!({})).await?.expect_status(200)?;
        // The other way round now; nobody looks again.
        site.responder.put(&token, if right { "wrong".to_owned() } else { client.key_authorization(&token) });
        let again = client.post(&url, &json!({})).await?.expect_status(200)?;
        assert_eq!(again.json(), first.json());
        assert_eq!(first.text("status")?, if right { "valid" } else { "invalid" });
    }
    Ok(())
}

#[tokio::test]
async fn of_a_valid_authorization_the_challenge_that_was_validated_is_shown_and_the_others_undo_nothing() -> Result<()>
{
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["beside.test"]).await?;
    let url = ready.order["authorizations"][0].as_str().ok_or("no URL")?.to_owned();
    let authorization = client.read(&url).await?.json();
    let statuses: Vec<(&str, &str)> = authorization["challenges"]
        .as_array()
        .ok_or("no challenges")?
        .iter()
        .map(|each| (each["type"].as_str().unwrap_or_default(), each["status"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(statuses, [("http-01", "valid")], "RFC 8555 §7.1.4");
    // Answering another one is too late and undoes nothing.
    let (validated, _) = challenge(&authorization, "http-01")?;
    let late = client.post(&validated.replace("http-01", "dns-01"), &json!({})).await?;
    assert!(late.status < 500, "{late:?}");
    assert_eq!(client.read(&url).await?.text("status")?, "valid");
    Ok(())
}

#[tokio::test]
async fn a_look_that_takes_longer_is_processing_with_a_time_to_come_back_of_at_least_a_second() -> Result<()> {
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let setup = chancery_harness::server::Setup {
        http_port: target.local_addr()?.port(),
        configuration: "\n[validation]\nanswer_wait = \"50ms\"\n".to_owned(),
        ..chancery_harness::server::Setup::default()
    };
    let server = chancery_harness::server::Server::start(&setup).await?;
    let mut client = server.client().await?;
    let placed = client.new_order(&["slow.test"]).await?.expect_status(201)?;
    let (url, token) = first_challenge(&mut client, &placed.json(), "http-01").await?;
    let answered = client.post(&url, &json!({})).await?.expect_status(200)?;
    assert_eq!(answered.text("status")?, "processing");
    let authorization = client.read(&answered.links("up")[0]).await?;
    assert_eq!(authorization.text("status")?, "pending");
    for answer in [&answered, &client.read(&url).await?, &authorization] {
        let wait: u64 = answer.header("retry-after").ok_or("no Retry-After")?.parse()?;
        assert!(wait >= 1);
    }
    // The validator has been waiting here.
    let (mut asked, _) = target.accept().await?;
    let body = client.key_authorization(&token);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    tokio::io::AsyncWriteExt::write_all(&mut asked, answer.as_bytes()).await?;
    while client.read(&placed.location()?).await?.text("status")? == "pending" {}
    assert_eq!(client.read(&placed.location()?).await?.text("status")?, "ready");
    Ok(())
}

#[tokio::test]
async fn while_a_look_is_under_way_further_answers_are_processing_at_once_and_other_accounts_are_served() -> Result<()>
{
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let setup = chancery_harness::server::Setup {
        http_port: target.local_addr()?.port(),
        configuration: "\n[validation]\nanswer_wait = \"30s\"\n".to_owned(),
        ..chancery_harness::server::Setup::default()
    };
    let server = chancery_harness::server::Server::start(&setup).await?;
    let (mut client, mut other) = (server.client().await?, server.client().await?);
    let placed = client.new_order(&["tarpit.test"]).await?.expect_status(201)?;
    let (url, token) = first_challenge(&mut client, &placed.json(), "http-01").await?;
    let protected = client.protected(&url).await?;
    let (mut sender, to, body) =
        (Client::connect(server.target()?).await?, url.clone(), client.key.jws(&protected, "{}")?);
    let first = tokio::spawn(async move { post_raw(&mut sender, &to, body).await.map_err(|error| error.to_string()) });
    let (mut asked, _) = target.accept().await?;
    let meanwhile = async {
        for _ in 0..50 {
            let again = client.post(&url, &json!({})).await?.expect_status(200)?;
            assert_eq!(again.text("status")?, "processing");
            assert!(again.header("retry-after").is_some());
        }
        other.new_order(&["prompt.test"]).await?.expect_status(201)
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), meanwhile).await.map_err(|_| "somebody had to wait")??;
    assert!(!first.is_finished(), "the first answer waits for the verdict");
    let body = client.key_authorization(&token);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    tokio::io::AsyncWriteExt::write_all(&mut asked, answer.as_bytes()).await?;
    assert_eq!(first.await??.text("status")?, "valid");
    Ok(())
}
