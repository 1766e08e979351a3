//! `chancery authority`: the CSR, the chain, what there is.

use std::path::Path;

use chancery_authority::{
    ceremony,
    ports::{Clock as _, KeyId},
};
use chancery_pki::{
    certificate, chain,
    distinguished_name::{DistinguishedName, show},
};
use chancery_signer::{KeyFile, KeyRole, KeySigner};
use serde::Serialize;

use super::wait_for;
use crate::{
    cli::AuthorityCommand,
    config::{self, Config, v1},
    exit::{Exit, Failed, Outcome},
    files::{self, PUBLIC},
    output::{self, Format, Mark, agreed, json, line, marked},
    system::SystemClock,
    wiring::{chains, keys},
};

pub(crate) fn run(command: AuthorityCommand, config: Option<&Path>, output: Format) -> Outcome {
    let config = config::load(config)?;
    match command {
        AuthorityCommand::Csr { subject, out, authority } => csr(&config, &subject, &out, authority.as_deref()),
        AuthorityCommand::Install { chain, root, authority, yes } => {
            install(&config, &chain, root.as_deref(), authority.as_deref(), yes)
        }
        AuthorityCommand::Show => show_all(&config, output),
    }
}

/// The authority that is meant: the only one, or the one named.
fn chosen<'a>(config: &'a Config, id: Option<&str>) -> Result<&'a v1::Authority, Failed> {
    match (id, config.authorities.as_slice()) {
        (None, [one]) => Ok(one),
        (Some(id), all) => all.iter().find(|authority| authority.id.as_str() == id).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|authority| authority.id.as_str()).collect();
            Failed::failed(format_args!("there is no authority \"{id}\"; there is: {}", known.join(", ")))
        }),
        (None, all) => {
            let known: Vec<&str> = all.iter().map(|authority| authority.id.as_str()).collect();
            Err(Failed::failed(format_args!("say which authority with --authority: {}", known.join(", "))))
        }
    }
}

fn csr(config: &Config, subject: &str, out: &Path, authority: Option<&str>) -> Outcome {
    let authority = chosen(config, authority)?;
    let subject: DistinguishedName = subject.parse().map_err(Failed::failed)?;
    if subject.is_empty() {
        return Err(Failed::refused("an issuer needs a name (RFC 5280 §4.1.2.6); give --subject \"O=..., CN=...\""));
    }
    let passphrase = keys::passphrase(&config.passphrase).map_err(Failed::failed)?;
    let key = keys::open(&authority.key, KeyRole::Issuing, &passphrase).map_err(Failed::failed)?;
    let id = KeyId(key.name().into());
    let signer = KeySigner::new(vec![key]).map_err(Failed::failed)?;
    let der = wait_for(async { ceremony::intermediate_csr(&signer, &id, &subject).await.map_err(Failed::failed) })?;
    let pem = certificate::pem_block("CERTIFICATE REQUEST", &der);
    if out == Path::new("-") {
        output::text(&pem)?;
        return Ok(Exit::Ok);
    }
    files::write_new(out, pem.as_bytes(), PUBLIC)
        .map_err(|error| Failed::failed(format_args!("{}: {error}", out.display())))?;
    marked(Mark::Good, format!("CSR for {subject} in {}", out.display()))?;
    line("\nnext: have the offline root sign it as a CA. With OpenSSL, where the root is:")?;
    line(format!(
        "  openssl x509 -req -in {} -CA root.pem -CAkey root.key -days 1825 -extfile issuing.ext -out issuing.pem",
        out.display()
    ))?;
    line("  with issuing.ext:")?;
    for text in [
        "basicConstraints=critical,CA:TRUE,pathlen:0",
        "keyUsage=critical,keyCertSign,cRLSign",
        "subjectKeyIdentifier=hash",
        "authorityKeyIdentifier=keyid",
    ] {
        line(format!("    {text}"))?;
    }
    line("then: chancery authority install --chain issuing.pem --root root.pem")?;
    Ok(Exit::Ok)
}

fn install(config: &Config, chain_file: &Path, root: Option<&Path>, authority: Option<&str>, yes: bool) -> Outcome {
    let authority = chosen(config, authority)?;
    let mut certificates = Vec::new();
    for file in [Some(chain_file), root].into_iter().flatten() {
        let pem = std::fs::read(file).map_err(|error| Failed::failed(format_args!("{}: {error}", file.display())))?;
        let read = certificate::from_pem(&pem)
            .map_err(|error| Failed::refused(format_args!("{}: {error}", file.display())))?;
        for der in read {
            // The root may be in both files.
            if root.is_none() || !certificates.contains(&der) {
                certificates.push(der);
            }
        }
    }
    let key = KeyFile::read(&authority.key).map_err(Failed::failed)?;
    let chain = chain::install(&certificates, key.public_key(), SystemClock.now()).map_err(Failed::refused)?;
    if chain.is_self_signed() && !authority.development {
        return Err(Failed::refused(
            "this certificate is self-signed: an issuer stands under an offline root (set development = true for a toy)",
        ));
    }
    let target = authority
        .chains
        .first()
        .ok_or_else(|| Failed::failed("the authority has no chain file in the configuration"))?;
    if target.exists() && !yes && !agreed(&format!("{} is there already. Replace it?", target.display()))? {
        return Err(Failed::refused(format_args!("{} is there already; --yes replaces it", target.display())));
    }
    let all = chain.certificates().iter().chain(chain.anchor());
    let pem = certificate::to_pem(all.map(|certificate| certificate.der()));
    files::replace(target, pem.as_bytes(), PUBLIC)
        .map_err(|error| Failed::failed(format_args!("{}: {error}", target.display())))?;
    marked(Mark::Good, format!("installed in {}", target.display()))?;
    show_tree(&chain)?;
    for caution in chains::cautions(&chain) {
        marked(Mark::Note, caution)?;
    }
    if chain.anchor().is_none() {
        marked(
            Mark::Note,
            "the root was not given, so the topmost signature is not verified; give it with --root FILE",
        )?;
    }
    line("\nnext: chancery serve   (or, if the server runs: chancery reload)")?;
    Ok(Exit::Ok)
}

fn show_tree(chain: &chain::Chain) -> Result<(), Failed> {
    let mut indent = String::new();
    for certificate in chain.certificates().iter().chain(chain.anchor()) {
        let root = if certificate.is_self_signed() { "   root" } else { "" };
        line(format!(
            "  {indent}{}   until {}{root}",
            show(certificate.subject()),
            certificate.validity().not_after()
        ))?;
        indent.push_str("  ");
    }
    Ok(())
}

/// An authority, as shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    key_file: String,
    key_kind: String,
    key_sha256: String,
    development: bool,
    chains: Vec<ShownChain>,
    /// What is wrong with the chains.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A chain, as shown.
#[derive(Debug, Serialize)]
struct ShownChain {
    subject: String,
    issuer: String,
    not_after: String,
    path_length: Option<u32>,
    root: Option<String>,
}

fn show_all(config: &Config, output: Format) -> Outcome {
    let now = SystemClock.now();
    let mut shown = Vec::new();
    for authority in &config.authorities {
        let key = KeyFile::read(&authority.key).map_err(Failed::failed)?;
        let (chains, problem) = match chains::load(authority, key.public_key(), now) {
            Ok(chains) => (chains, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        shown.push(Shown {
            id: authority.id.to_string(),
            key_file: authority.key.display().to_string(),
            key_kind: key.public_key().kind().to_string(),
            key_sha256: key.public_key().digest().to_string(),
            development: authority.development,
            chains: chains
                .iter()
                .map(|chain| ShownChain {
                    subject: show(chain.issuing().subject()),
                    issuer: show(chain.issuing().issuer()),
                    not_after: chain.issuing().validity().not_after().to_string(),
                    path_length: chain.issuing().path_length(),
                    root: chain.anchor().map(|root| show(root.subject())),
                })
                .collect(),
            problem,
        });
    }
    if output == Format::Json {
        json(&shown)?;
        return Ok(Exit::Ok);
    }
    for authority in &shown {
        let toy = if authority.development { ", for development" } else { "" };
        line(format!("{} ({} key {}{toy})", authority.id, authority.key_kind, authority.key_file))?;
        for chain in &authority.chains {
            line(format!("  {}   until {}", chain.subject, chain.not_after))?;
            line(format!("    under {}", chain.issuer))?;
        }
        if let Some(problem) = &authority.problem {
            marked(Mark::Bad, problem)?;
        }
    }
    Ok(Exit::Ok)
}
