//! dns-01 (RFC 8555 §8.4) against a DNS server of the test's own.

use chancery_harness::{client::Client, dns::Dns};

use super::*;

/// The zone of which [`Setup::resolver`] is the resolver.
const OWNER: &str = "_acme-challenge.dns.test";

async fn start(dns: &Dns) -> Result<Server> {
    Server::start(&Setup { resolver: Some(dns.address()), ..Setup::default() }).await
}

/// An order for one name: the URL of its dns-01 challenge, and the value to publish.
async fn order(client: &mut Client, name: &str) -> Result<(String, String)> {
    let order = client.new_order(&[name]).await?.expect_status(201)?;
    let authorization = client.read(&authorizations(&order.json())[0]).await?.expect_status(200)?.json();
    let (url, token) = challenge(&authorization, "dns-01")?;
    Ok((url, client.dns_value(&token)))
}

/// Answers a challenge and reads it until it has its verdict.
async fn verdict(client: &mut Client, url: &str) -> Result<Value> {
    let mut challenge = client.post(url, &json!({})).await?.expect_status(200)?;
    // Every answer waits for the verdict for some seconds, so this asks a few times only.
    while challenge.text("status")? == "processing" {
        challenge = client.post(url, &json!({})).await?.expect_status(200)?;
    }
    Ok(challenge.json())
}

#[tokio::test]
async fn certbot_obtains_a_name_with_its_wildcard_and_renews_both_over_dns_01() -> Result<()> {
    let Some(program) = program("CHANCERY_CERTBOT", "certbot") else { return Ok(()) };
    let dns = Dns::start().await?;
    let server = start(&dns).await?;
    let folder = server.scratch("certbot")?;
    let script = |name: &str, line: &str| -> Result<String> {
        let file = folder.join(name);
        let zone = dns.folder().display();
        fs::write(&file, format!("set -e\nowner=\"{zone}/_acme-challenge.$CERTBOT_DOMAIN\"\n{line}\n"))?;
        Ok(format!("sh {}", file.display()))
    };
    let publish = script("publish.sh", "mkdir -p \"$owner\"; : > \"$owner/$CERTBOT_VALIDATION\"")?;
    let withdraw = script("withdraw.sh", "rm \"$owner/$CERTBOT_VALIDATION\"")?;
    let certbot = Certbot { program, folder, root: server.root_pem()?, directory: server.directory() };
    let output = certbot
        .run(&[
            "certonly",
            "--server",
            &certbot.directory,
            "--agree-tos",
            "-m",
            "a@example.test",
            "--no-eff-email",
            "--manual",
            "--preferred-challenges",
            "dns",
            "--manual-auth-hook",
            &publish,
            "--manual-cleanup-hook",
            &withdraw,
            "-d",
            "dns.test",
            "-d",
            "*.dns.test",
        ])
        .await?;
    succeeded(&output)?;
    let live = certbot.folder.join("etc/live/dns.test");
    openssl_verifies(&server, &live.join("cert.pem"), &live.join("chain.pem")).await?;
    let first = fs::read(live.join("cert.pem"))?;
    let names = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(live.join("cert.pem"))
        .output()
        .await?;
    let names = String::from_utf8_lossy(&names.stdout).into_owned();
    assert!(names.contains("DNS:dns.test, DNS:*.dns.test"), "{names}");
    let asked = dns.questions(OWNER);
    assert!(asked.iter().any(|question| question.answers == 2), "both values stood at one name: {asked:?}");
    assert_eq!(fs::read_dir(dns.folder().join(OWNER))?.count(), 0, "what certbot published it took away again");

    succeeded(&certbot.run(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]).await?)?;
    assert_ne!(fs::read(live.join("cert.pem"))?, first);
    assert!(dns.questions(OWNER).len() > asked.len(), "a renewal is validated anew");
    openssl_verifies(&server, &live.join("cert.pem"), &live.join("chain.pem")).await
}

#[tokio::test]
async fn a_cname_at_acme_challenge_is_followed() -> Result<()> {
    let dns = Dns::start().await?;
    let server = start(&dns).await?;
    let mut client = server.client().await?;
    let (url, value) = order(&mut client, "alias.dns.test").await?;
    dns.cname("_acme-challenge.alias.dns.test", "alias.validations.example")?;
    dns.txt("alias.validations.example", &value);
    let challenge = verdict(&mut client, &url).await?;
    assert_eq!(challenge["status"], "valid", "{challenge}");
    Ok(())
}

#[tokio::test]
async fn an_answer_too_large_for_udp_is_fetched_over_tcp() -> Result<()> {
    let dns = Dns::start().await?;
    let server = start(&dns).await?;
    let mut client = server.client().await?;
    let (url, value) = order(&mut client, "large.dns.test").await?;
    let owner = "_acme-challenge.large.dns.test";
    for number in 0..200 {
        dns.txt(owner, &format!("left over from another validation, {number}"));
    }
    // The last of them, so that it is not in what fits into a datagram.
    dns.txt(owner, &value);
    let challenge = verdict(&mut client, &url).await?;
    assert_eq!(challenge["status"], "valid", "{challenge}");
    let transports: Vec<bool> = dns.questions(owner).iter().map(|question| question.over_tcp).collect();
    assert_eq!(transports, [false, true], "UDP first, then TCP");
    Ok(())
}

#[tokio::test]
async fn a_resolver_that_fails_for_a_while_is_asked_again() -> Result<()> {
    let dns = Dns::start().await?;
    let server = start(&dns).await?;
    let mut client = server.client().await?;
    let (url, value) = order(&mut client, "late.dns.test").await?;
    let owner = "_acme-challenge.late.dns.test";
    dns.txt(owner, &value);
    // More than one look asks, so that it takes a second look.
    let failing = 5;
    dns.fail(failing);
    let challenge = verdict(&mut client, &url).await?;
    assert_eq!(challenge["status"], "valid", "{challenge}");
    assert!(dns.questions(owner).len() > failing);
    Ok(())
}

#[tokio::test]
async fn a_value_that_is_not_there_fails_the_challenge_with_a_dns_problem_and_no_remote_bytes() -> Result<()> {
    let dns = Dns::start().await?;
    let server = Server::start(&Setup {
        resolver: Some(dns.address()),
        configuration: "\n[validation]\ntime = \"1s\"\n".to_owned(),
        ..Setup::default()
    })
    .await?;
    let mut client = server.client().await?;
    let (absent, _) = order(&mut client, "absent.dns.test").await?;
    let challenge = verdict(&mut client, &absent).await?;
    assert_eq!(challenge["status"], "invalid", "{challenge}");
    assert_eq!(challenge["error"]["type"], "urn:ietf:params:acme:error:dns", "{challenge}");
    let (other, _) = order(&mut client, "other.dns.test").await?;
    dns.txt("_acme-challenge.other.dns.test", "something-that-stood-there");
    let challenge = verdict(&mut client, &other).await?;
    assert_eq!(challenge["error"]["type"], "urn:ietf:params:acme:error:incorrectResponse", "{challenge}");
    assert!(!challenge.to_string().contains("something-that-stood-there"), "{challenge}");
    Ok(())
}
