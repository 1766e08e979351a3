//! Accounts by key (RFC 8555 §7.3.4) and orders without a challenge: certbot and lego with what `eab create` prints.

use super::*;

/// A directory whose accounts come with a key and whose orders are pre-authorised.
const TEAMS: &str = "\n[[directory]]\nname = \"teams\"\nauthority = \"issuing\"\nprofiles = [\"server\", \"minutes\"]\n\
    external_account = \"required\"\npreauthorized = true\n";

async fn start() -> Result<Server> {
    // Nothing listens where http-01 and tls-alpn-01 would be looked for.
    Server::start(&Setup { configuration: TEAMS.to_owned(), ..Setup::default() }).await
}

/// What `eab create` prints for people: the words after this label.
fn printed(shown: &str, label: &str) -> Result<String> {
    let found = shown.lines().find_map(|line| line.trim_start().strip_prefix(label));
    Ok(found.ok_or_else(|| format!("no {label} in {shown}"))?.trim().to_owned())
}

async fn names_of(certificate: &Path) -> Result<String> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(certificate)
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A hook that says that it was called.
fn hook(folder: &Path) -> Result<(String, PathBuf)> {
    let (script, called) = (folder.join("hook.sh"), folder.join("called"));
    fs::write(&script, format!("touch {}\nexit 1\n", called.display()))?;
    Ok((format!("sh {}", script.display()), called))
}

#[tokio::test]
async fn certbot_registers_with_a_key_and_obtains_and_renews_without_any_challenge_a_wildcard_too() -> Result<()> {
    let Some(program) = program("CHANCERY_CERTBOT", "certbot") else { return Ok(()) };
    let server = start().await?;
    let shown = server.printed(&["eab", "create", "payments", "--owner", "Payments"]).await?;
    let (kid, key) = (printed(&shown, "key identifier")?, printed(&shown, "MAC key")?);
    assert_eq!(printed(&shown, "directory")?, server.directory_of("teams"));
    assert!(!key.contains(['=', '+', '/']), "base64url without padding: {key}");
    let folder = server.scratch("certbot")?;
    let (hook, called) = hook(&folder)?;
    let certbot = |folder: PathBuf| -> Result<Certbot> {
        Ok(Certbot {
            program: program.clone(),
            folder,
            root: server.root_pem()?,
            directory: server.directory_of("teams"),
        })
    };
    let first = certbot(folder)?;
    // As one argument: a key that begins with a hyphen would be taken for an option.
    let mac_key = format!("--eab-hmac-key={key}");
    let arguments = |directory| {
        let mut arguments = vec!["certonly", "--server", directory, "--agree-tos", "-m", "a@example.test"];
        arguments.extend(["--no-eff-email", "--eab-kid", &kid, &mac_key, "--manual", "--manual-auth-hook"]);
        arguments.extend([hook.as_str(), "--preferred-challenges", "dns", "--preferred-profile", "minutes"]);
        arguments.extend(["-d", "pay.test", "-d", "*.wild.test"]);
        arguments
    };
    succeeded(&first.run(&arguments(&first.directory)).await?)?;
    let live = first.folder.join("etc/live/pay.test");
    openssl_verifies(&server, &live.join("cert.pem"), &live.join("chain.pem")).await?;
    let names = names_of(&live.join("cert.pem")).await?;
    assert!(names.contains("DNS:pay.test") && names.contains("DNS:*.wild.test"), "{names}");
    let before = fs::read(live.join("cert.pem"))?;
    succeeded(&first.run(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]).await?)?;
    assert_ne!(fs::read(live.join("cert.pem"))?, before);
    assert!(!called.exists(), "nobody was asked to show control");
    let listed = server.json(&["certificate", "list", "--name", "pay.test"]).await?;
    let profiles: Vec<&str> =
        listed.as_array().ok_or("no list")?.iter().filter_map(|one| one["profile"].as_str()).collect();
    assert_eq!(profiles, ["minutes", "minutes"]);
    assert!(listed[0]["requester"].as_str().unwrap_or_default().contains("eab payments"), "{listed}");

    // Another host with the same key: it was for one account.
    let second = certbot(server.scratch("certbot-2")?)?;
    let output = second.run(&arguments(&second.directory)).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("used up"), "{said}");
    Ok(())
}

#[tokio::test]
async fn lego_registers_with_a_key_and_obtains_and_renews_without_any_challenge_and_a_revoked_key_is_refused_in_words()
-> Result<()> {
    let Some(program) = program("CHANCERY_LEGO", "lego") else { return Ok(()) };
    let server = start().await?;
    let (kid, key) = server.eab_key("shop", &["--wildcard", "*.wild.test", "--name", "**.shop.test"]).await?;
    let port = free_port().await?;
    let lego = async |folder: &Path, names: &[&str], rest: &[&str]| {
        let mut command = Command::new(&program);
        command.args([
            "--server",
            &server.directory_of("teams"),
            "--accept-tos",
            "--email",
            "a@example.test",
            "--path",
        ]);
        command.arg(folder).args(["--eab", "--kid", &kid, &format!("--hmac={key}")]);
        command.args(["--http", "--http.port", &format!("127.0.0.1:{port}")]);
        command.args(names.iter().flat_map(|name| ["-d", name])).args(rest);
        command.env("LEGO_CA_CERTIFICATES", server.root_pem()?);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(command.output().await?)
    };
    let folder = server.scratch("lego")?;
    let names = ["a.shop.test", "*.wild.test"];
    succeeded(&lego(&folder, &names, &["run"]).await?)?;
    let certificates = folder.join("certificates");
    let (leaf, issuer) = (certificates.join("a.shop.test.crt"), certificates.join("a.shop.test.issuer.crt"));
    openssl_verifies(&server, &leaf, &issuer).await?;
    let before = fs::read(&leaf)?;
    succeeded(&lego(&folder, &names, &["renew", "--days", "400", "--no-random-sleep"]).await?)?;
    assert_ne!(fs::read(&leaf)?, before);
    // Beyond the key's names, whatever policy says.
    let output = lego(&folder, &["else.test"], &["run"]).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("limited to"), "{said}");

    server.printed(&["eab", "revoke", "shop", "--yes"]).await?;
    // What it made goes on; a new account is not made.
    succeeded(&lego(&folder, &names, &["renew", "--days", "400", "--no-random-sleep"]).await?)?;
    let output = lego(&server.scratch("lego-2")?, &names, &["run"]).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("revoked"), "{said}");
    Ok(())
}
