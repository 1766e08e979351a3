//! `chancery init`: a data folder with everything that a first start needs.

use std::path::{Path, PathBuf};

use chancery_authority::{
    ceremony,
    ports::{Clock as _, Entropy as _, KeyId},
};
use chancery_pki::{
    KeyKind, PublicKey, SerialNumber, Timestamp, certificate, chain, distinguished_name::DistinguishedName,
};
use chancery_policy::{Format, Policy};
use chancery_signer::{Cost, KeyFile, KeyRole, KeySigner, Passphrase};

use super::wait_for;
use crate::{
    cli::{InitArgs, IssuingKeyKind},
    config::{Source, v1},
    exit::{Exit, Failed, Outcome},
    files::{self, PRIVATE, PUBLIC},
    output::{Mark, line, marked},
    system::{SystemClock, SystemEntropy},
    wiring::keys,
};

/// How long the throw-away root and its intermediate live.
const DEVELOPMENT_LIFE: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);
/// Octets of chance in a passphrase that is made up.
const PASSPHRASE_OCTETS: usize = 32;

pub(crate) fn run(args: &InitArgs) -> Outcome {
    let InitArgs { folder, url, listen, key, passphrase_file, development, root_folder } = args;
    let folder = std::path::absolute(folder)?;
    let config_path = folder.join("chancery.toml");
    let config_text = config_text(&Sample {
        url,
        listen: listen.map(|listen| listen.to_string()),
        passphrase_file: passphrase_file.as_deref().map(std::path::absolute).transpose()?,
        development: *development,
    });
    // Checked before anything is made, so that a slip in an argument leaves nothing behind.
    let config = v1::parse(Source::new(config_path.clone(), config_text.clone())).map_err(Failed::refused)?;
    let policy_text = policy_text(&config.listen.host, *development);
    Policy::parse(&policy_text, Format::Yaml, "policy.yaml").map_err(Failed::refused)?;

    let made = |what: &Path, error: std::io::Error| Failed::failed(format_args!("{}: {error}", what.display()));
    files::make_private_folder(&folder).map_err(|error| made(&folder, error))?;
    let passphrase = match passphrase_file {
        Some(file) => Passphrase::from_file(file).map_err(Failed::failed)?,
        None => make_passphrase(&folder.join("passphrase"))?,
    };
    for inner in ["keys", "chains"] {
        let inner = folder.join(inner);
        files::make_private_folder(&inner).map_err(|error| made(&inner, error))?;
    }
    files::write_new(&folder.join("policy.yaml"), policy_text.as_bytes(), PRIVATE)
        .map_err(|error| made(&folder.join("policy.yaml"), error))?;

    let kind = key_kind(*key);
    let issuing_path = folder.join("keys/issuing.key");
    let issuing = make_key(&issuing_path, "issuing", KeyRole::Issuing, kind, &passphrase)?;
    marked(Mark::Good, format!("issuing key     {} ({kind})", issuing_path.display()))?;
    let ledger_path = folder.join("keys/ledger.key");
    make_key(&ledger_path, "ledger", KeyRole::Ledger, KeyKind::Ed25519, &passphrase)?;
    marked(Mark::Good, format!("ledger key      {} ({})", ledger_path.display(), KeyKind::Ed25519))?;
    // Last, so that a folder with a configuration is a whole one.
    files::write_new(&config_path, config_text.as_bytes(), PRIVATE).map_err(|error| made(&config_path, error))?;
    marked(Mark::Good, format!("policy          {}", folder.join("policy.yaml").display()))?;
    marked(Mark::Good, format!("configuration   {}", config_path.display()))?;
    if passphrase_file.is_none() {
        let text = format!(
            "passphrase      {} was made up and lies beside the keys;\nbetter keep it elsewhere: \
             see [signer] in the configuration",
            folder.join("passphrase").display()
        );
        marked(Mark::Note, text)?;
    }
    let shown = config_path.display();
    if *development {
        let root_folder = match root_folder {
            Some(folder) => std::path::absolute(folder)?,
            None => beside(&folder, "-offline-root"),
        };
        development_chain(&folder, &root_folder, &issuing)?;
        line("\nnext:")?;
        line(format!("  chancery serve --config {shown}"))?;
    } else {
        line("\nnext: have your root sign the intermediate, then start")?;
        line(format!(
            "  chancery authority csr --config {shown} --subject \"O=Example, CN=Example Issuing CA 1\" --out issuing.csr"
        ))?;
        line(
            "  (sign issuing.csr with the offline root as a CA: basicConstraints CA:TRUE, pathlen:0, keyCertSign, cRLSign)",
        )?;
        line(format!("  chancery authority install --config {shown} --chain issuing.pem --root root.pem"))?;
        line(format!("  chancery serve --config {shown}"))?;
    }
    Ok(Exit::Ok)
}

fn make_key(
    path: &Path,
    name: &str,
    role: KeyRole,
    kind: KeyKind,
    passphrase: &Passphrase,
) -> Result<PublicKey, Failed> {
    KeyFile::create(path, name, role, kind, passphrase, Cost::STANDARD).map_err(Failed::failed)
}

fn make_passphrase(path: &Path) -> Result<Passphrase, Failed> {
    let octets: [u8; PASSPHRASE_OCTETS] = SystemEntropy.octets32();
    let text = zeroize::Zeroizing::new(format!("{}\n", hex::encode(octets)));
    files::write_new(path, text.as_bytes(), PRIVATE)
        .map_err(|error| Failed::failed(format_args!("{}: {error}", path.display())))?;
    Passphrase::from_file(path).map_err(Failed::failed)
}

/// Makes the root in a folder of its own, and the intermediate under it in the data folder.
fn development_chain(folder: &Path, root_folder: &Path, issuing: &PublicKey) -> Result<(), Failed> {
    let made = |what: &Path, error: std::io::Error| Failed::failed(format_args!("{}: {error}", what.display()));
    files::make_private_folder(root_folder).map_err(|error| made(root_folder, error))?;
    let passphrase = make_passphrase(&root_folder.join("passphrase"))?;
    let key_path = root_folder.join("root.key");
    make_key(&key_path, "root", KeyRole::Root, KeyKind::P256, &passphrase)?;
    let root_key = keys::open(&key_path, KeyRole::Root, &passphrase).map_err(Failed::failed)?;
    let signer = KeySigner::new(vec![root_key]).map_err(Failed::failed)?;
    let now = SystemClock.now();
    let (root, intermediate) = wait_for(sign_development(&signer, issuing, now))?;
    let chain = [intermediate, root];
    // The same check that `authority install` makes.
    chain::install(&chain, issuing, now).map_err(Failed::failed)?;
    let [intermediate, root] = &chain;
    let root_pem = certificate::to_pem([root.as_slice()]);
    files::write_new(&root_folder.join("root.pem"), root_pem.as_bytes(), PUBLIC)
        .map_err(|error| made(root_folder, error))?;
    let chain_path = folder.join("chains/issuing.pem");
    let chain_pem = certificate::to_pem([intermediate.as_slice(), root.as_slice()]);
    files::write_new(&chain_path, chain_pem.as_bytes(), PUBLIC).map_err(|error| made(&chain_path, error))?;
    marked(
        Mark::Good,
        format!("throw-away root {} (for clients: {})", root_folder.display(), root_folder.join("root.pem").display()),
    )?;
    marked(Mark::Good, format!("intermediate    {}", chain_path.display()))?;
    Ok(())
}

async fn sign_development(
    signer: &KeySigner,
    issuing: &PublicKey,
    now: Timestamp,
) -> Result<(Vec<u8>, Vec<u8>), Failed> {
    let name = |text: &str| text.parse::<DistinguishedName>().map_err(Failed::failed);
    let root_name = name("O=Chancery Development, CN=Chancery Development Root")?;
    let issuing_name = name("O=Chancery Development, CN=Chancery Development Issuing CA")?;
    let serial = || SerialNumber::from_random(SystemEntropy.octets16());
    let key = KeyId("root".into());
    // A little before now, for clients whose clock is slow.
    let validity = (now.before(std::time::Duration::from_secs(3_600)), DEVELOPMENT_LIFE);
    let root =
        ceremony::development_root(signer, &key, &root_name, serial(), validity).await.map_err(Failed::failed)?;
    let intermediate =
        ceremony::development_intermediate(signer, (&key, &root_name), (issuing, &issuing_name), serial(), validity)
            .await
            .map_err(Failed::failed)?;
    Ok((root, intermediate))
}

const fn key_kind(kind: IssuingKeyKind) -> KeyKind {
    match kind {
        IssuingKeyKind::P256 => KeyKind::P256,
        IssuingKeyKind::P384 => KeyKind::P384,
        IssuingKeyKind::Rsa2048 => KeyKind::Rsa2048,
        IssuingKeyKind::Rsa3072 => KeyKind::Rsa3072,
        IssuingKeyKind::Rsa4096 => KeyKind::Rsa4096,
        IssuingKeyKind::Ed25519 => KeyKind::Ed25519,
    }
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    folder.with_file_name(name)
}

/// What a fresh configuration depends on.
struct Sample<'a> {
    url: &'a str,
    listen: Option<String>,
    passphrase_file: Option<PathBuf>,
    development: bool,
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn config_text(sample: &Sample<'_>) -> String {
    let Sample { url, listen, passphrase_file, development } = sample;
    let mut text = String::from(
        "# Made by `chancery init`. Every key is documented in docs/samples/chancery.toml.\n\
         # Relative paths start at this folder. After a change: chancery reload\n\
         version = \"v1\"\n\n[listen]\n",
    );
    text.push_str(&format!("url = {}\n", quoted(url)));
    if let Some(listen) = listen {
        text.push_str(&format!("https = {}\n", quoted(listen)));
    }
    text.push_str("\n[[authority]]\nid = \"issuing\"\nkey = \"keys/issuing.key\"\nchains = [\"chains/issuing.pem\"]\n");
    if *development {
        text.push_str("development = true\n");
    }
    let passphrase =
        passphrase_file.as_ref().map_or_else(|| "passphrase".to_owned(), |file| file.display().to_string());
    text.push_str(&format!("\n[signer]\npassphrase = {{ file = {} }}\n", quoted(&passphrase)));
    let profiles = if *development { "[\"server\", \"minutes\"]" } else { "[\"server\"]" };
    text.push_str(&format!("\n[[directory]]\nname = \"default\"\nauthority = \"issuing\"\nprofiles = {profiles}\n"));
    text.push_str("\n[[profile]]\nname = \"server\"\nlifetime = \"90d\"\nlifetime_max = \"90d1h\"\n");
    if *development {
        text.push_str(
            "\n# To watch renewals: certbot --preferred-profile minutes\n[[profile]]\nname = \"minutes\"\n\
             lifetime = \"10m\"\nlifetime_max = \"15m\"\nlifetime_min = \"5m\"\nbackdate = \"1m\"\n",
        );
    }
    text.push_str("\n[policy]\nfile = \"policy.yaml\"\n");
    if *development {
        text.push_str(
            "\n# For a test domain (RFC 6761) whose names lead to this machine, on ports that need no root:\n\
             #[[zone]]\n#name = \"test\"\n#domains = [\"test\"]\n#allow = [\"127.0.0.0/8\"]\n#http_port = 5002\n\
             #tls_alpn_port = 5001\n#fixed_hosts = { \"**.test\" = [\"127.0.0.1\"] }\n",
        );
    }
    text
}

pub(super) fn policy_text(host: &str, development: bool) -> String {
    let own = if host.parse::<std::net::IpAddr>().is_ok() {
        let bits = if host.contains(':') { 128 } else { 32 };
        format!("addresses: [\"{host}/{bits}\"]")
    } else {
        format!("names: [\"{host}\"]")
    };
    let mut text = format!(
        "# Who may have which names. What no rule allows is refused; deny wins over allow.\n\
         # Try it: chancery policy explain www.example.com      Put it in force: chancery reload\n\
         version: v1\nrules:\n  \
         - name: own-certificate\n    allow: {{ {own} }}\n    for: {{ door: own-tls }}\n"
    );
    if development {
        text.push_str(
            "  - name: test-domain\n    allow: { names: [\"**.test\"], profiles: [server, minutes] }\n    for: { door: acme }\n",
        );
    } else {
        text.push_str(
            "  # Names below apps.example.com for every ACME client that proves control of them:\n  \
             # - name: platform-hosts\n  #   allow: { names: [\"**.apps.example.com\"], profile: server }\n  \
             #   for: { door: acme }\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_taken_by_the_server() {
        for (url, development) in [
            ("https://ca.example.com", false),
            ("https://localhost:14000", true),
            ("https://[::1]:14000", true),
            ("https://127.0.0.1:14000", true),
        ] {
            let text = config_text(&Sample {
                url,
                listen: Some("127.0.0.1:14000".to_owned()),
                passphrase_file: Some("/a \"b\"/p".into()),
                development,
            });
            let config = v1::parse(Source::new("/data/chancery.toml".into(), text)).unwrap();
            let policy = policy_text(&config.listen.host, development);
            Policy::parse(&policy, Format::Yaml, "policy.yaml").unwrap_or_else(|errors| panic!("{errors}\n{policy}"));
        }
    }
}
