//! `chancery check`: is everything there, and does it fit? Nothing is changed.

use std::path::Path;

use chancery_authority::ports::Clock as _;
use chancery_cluster::{Published, TokenCheck, TokenIdentity};
use chancery_pki::distinguished_name::show;
use chancery_policy::Policy;
use chancery_store_sled::check::{self as store_check, Position};

use super::{serve::STORE, wait_for};
use crate::{
    config::{self, v1},
    exit::{Exit, Failed, Outcome},
    files,
    output::{Mark, marked},
    system::SystemClock,
    tls::Keeper,
    wiring::{chains, identity, keys, settings},
};

pub(crate) fn run(config: Option<&Path>) -> Outcome {
    let config = config::load(config)?;
    let mut wrong = 0u32;
    let mut tell = |what: &str, result: Result<String, String>| -> Result<(), Failed> {
        match result {
            Ok(text) => marked(Mark::Good, format!("{what:<15} {text}")),
            Err(text) => {
                wrong += 1;
                marked(Mark::Bad, format!("{what:<15} {text}"))
            }
        }
    };
    tell("configuration", Ok(config.file.display().to_string()))?;
    let folder = files::check_private_folder(&config.data);
    tell("data folder", folder.map(|()| config.data.display().to_string()).map_err(|error| error.to_string()))?;
    let now = SystemClock.now();
    match keys::load(&config) {
        Ok(loaded) => {
            let text = loaded.signer.keys().map(|key| format!("{} ({})", key.name(), key.public_key().kind()));
            tell("keys", Ok(text.collect::<Vec<_>>().join(", ")))?;
            for (authority, (_, public)) in config.authorities.iter().zip(&loaded.issuing) {
                let found = chains::load(authority, public, now);
                let cautions: Vec<String> = found.iter().flatten().flat_map(|chain| chains::cautions(chain)).collect();
                let found = found.map(|chains| {
                    let shown = chains
                        .iter()
                        .map(|chain| format!("{} until {}", show(chain.issuing().subject()), chain.not_after()));
                    shown.collect::<Vec<_>>().join("; ")
                });
                tell(&format!("chain {}", authority.id), found.map_err(|error| error.to_string()))?;
                for caution in cautions {
                    marked(Mark::Note, caution)?;
                }
            }
            // Only once the parts are sound can the whole be asked.
            if let Ok(settings) = settings::settings(&config, &loaded.issuing, &loaded.ledger, now) {
                let allowed = settings::own_certificate_is_allowed(&config, &settings, now);
                let shown = match &config.tls {
                    v1::Tls::Own { names, .. } => format!("from our own authority for {names}"),
                    v1::Tls::Brought { certificate, .. } => certificate.display().to_string(),
                };
                let files = Keeper::check(&config).map_err(|error| error.to_string());
                tell("TLS", files.and_then(|()| allowed.map_err(|error| error.to_string())).map(|()| shown))?;
            }
        }
        Err(error) => tell("keys", Err(error.to_string()))?,
    }
    let policy = settings::policy(&config.policy).map_err(|error| error.to_string());
    let cautions: Vec<_> = policy.iter().flat_map(Policy::cautions).collect();
    let shown = |policy: Policy| format!("{} with {} rules", config.policy.display(), policy.rules().len());
    tell("policy", policy.map(shown))?;
    for caution in cautions {
        marked(Mark::Note, caution.to_string())?;
    }
    if let Err(error) = identity::told_apart(&config) {
        tell("clusters", Err(error.to_string()))?;
    }
    for cluster in config.clusters.values() {
        let told = wait_for(async { Ok(clusters(cluster).await) })?;
        tell(&format!("cluster {}", cluster.settings.name), told)?;
    }
    tell("store", store(&config.data.join(STORE)))?;
    match wrong {
        0 => Ok(Exit::Ok),
        1 => Err(Failed::refused("the server would not start: one thing does not fit")),
        n => Err(Failed::refused(format_args!("the server would not start: {n} things do not fit"))),
    }
}

/// How a cluster's controllers may prove themselves, where all that this needs is there. No API server is asked.
async fn clusters(cluster: &v1::Cluster) -> Result<String, String> {
    let identity = identity::identity(cluster).map_err(|error| error.to_string())?;
    let mut ways = vec!["API tokens".to_owned()];
    if let Some(TokenIdentity { issuer, audience, check }) = &identity.tokens {
        if let TokenCheck::Keys(published @ Published::File(_)) = check {
            published.check().await.map_err(|fault| fault.to_string())?;
        }
        ways.push(format!("service-account tokens of {issuer} for {audience}"));
    }
    if identity.clients.is_some() {
        ways.push("client certificates".to_owned());
    }
    Ok(ways.join(", "))
}

/// How far the store has come, beside a running server too.
fn store(path: &Path) -> Result<String, String> {
    if !path.exists() {
        return Ok("none yet; the first start makes it".to_owned());
    }
    let position = store_check::position(path).map_err(|error| error.to_string())?;
    let Position { leaves, in_bundles, checkpoint } = position;
    let sealed =
        checkpoint.map_or_else(|| "no checkpoint yet".to_owned(), |size| format!("the last checkpoint covers {size}"));
    Ok(format!("{leaves} records, {in_bundles} of them in bundles; {sealed}"))
}
