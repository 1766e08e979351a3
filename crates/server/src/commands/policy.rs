//! `chancery policy`: what it decides, and whether a file would be taken.

use std::path::Path;

use chancery_authority::ports::Clock as _;
use chancery_pki::{KeyKind, Name, NameSet};
use chancery_policy::{Outcome as Verdict, Request, Requester};
use serde::Serialize;

use crate::{
    cli::{ExplainArgs, PolicyCommand},
    config,
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, json, line, marked},
    system::SystemClock,
    wiring::settings,
};

pub(crate) fn run(command: PolicyCommand, config: Option<&Path>, output: Format) -> Outcome {
    match command {
        PolicyCommand::Explain(args) => explain(&args, config, output),
        PolicyCommand::Check { file } => {
            let file = match file {
                Some(file) => file,
                None => config::load(config)?.policy,
            };
            let policy = settings::policy(&file).map_err(Failed::refused)?;
            marked(
                Mark::Good,
                format!("{}: {} rules, SHA-256 {}", file.display(), policy.rules().len(), policy.hash()),
            )?;
            Ok(Exit::Ok)
        }
    }
}

/// A decision, as shown to programs.
#[derive(Debug, Serialize)]
struct Shown {
    outcome: &'static str,
    summary: String,
    names: Vec<ShownName>,
    warnings: Vec<String>,
    suggestion: Option<String>,
    policy_sha256: String,
}

/// One name's verdict.
#[derive(Debug, Serialize)]
struct ShownName {
    name: String,
    outcome: &'static str,
    rule: Option<String>,
    because: Option<String>,
}

fn explain(args: &ExplainArgs, config: Option<&Path>, output: Format) -> Outcome {
    let ExplainArgs { names, profile, policy, directory, account, eab, key } = args;
    let parsed = names
        .iter()
        .map(|name| {
            let read = if name.starts_with("spiffe://") {
                name.parse().map(Name::Spiffe)
            } else {
                Name::ip(name).or_else(|_| Name::dns(name))
            };
            read.map_err(|error| Failed::failed(format_args!("\"{name}\": {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let names = NameSet::new(parsed).map_err(Failed::failed)?;
    let key = key
        .as_deref()
        .map(|key| key.parse::<KeyKind>().map_err(|error| Failed::failed(format_args!("--key {key}: {error}"))))
        .transpose()?;
    // Without --policy the configuration also knows the directory's default profile.
    let loaded = match policy {
        Some(_) => None,
        None => Some(config::load(config)?),
    };
    let file = match (policy, &loaded) {
        (Some(file), _) => file.clone(),
        (None, Some(config)) => config.policy.clone(),
        (None, None) => return Err(Failed::failed("say which policy with --policy FILE")),
    };
    let profile = match (profile, &loaded) {
        (Some(profile), _) => profile.clone(),
        (None, Some(config)) => config
            .directories
            .get(directory)
            .and_then(|directory| directory.profiles.first().cloned())
            .ok_or_else(|| Failed::failed(format_args!("there is no directory \"{directory}\"; see --directory")))?,
        (None, None) => "server".to_owned(),
    };
    let policy = settings::policy(&file).map_err(Failed::refused)?;
    let requester = Requester::acme(directory, account.as_deref().unwrap_or("(any)"), eab.as_deref());
    let request = Request {
        requester: &requester,
        names: &names,
        profile: &profile,
        key,
        lifetime: None,
        now: SystemClock.now(),
    };
    let decision = policy.evaluate(&request);
    if output == Format::Json {
        json(&Shown {
            outcome: decision.outcome.as_str(),
            summary: decision.summary(),
            names: decision
                .names
                .iter()
                .map(|verdict| ShownName {
                    name: verdict.name.to_string(),
                    outcome: verdict.outcome.as_str(),
                    rule: verdict.rule.as_ref().map(ToString::to_string),
                    because: verdict.because.clone(),
                })
                .collect(),
            warnings: decision.warnings.iter().map(|warning| warning.rule.to_string()).collect(),
            suggestion: decision.suggestion.clone(),
            policy_sha256: decision.policy.to_string(),
        })?;
    } else {
        line(decision.explain())?;
    }
    Ok(match decision.outcome {
        Verdict::Allow | Verdict::Undecided => Exit::Ok,
        Verdict::Hold | Verdict::Deny => Exit::Refused,
    })
}
