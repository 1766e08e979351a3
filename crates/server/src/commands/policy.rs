//! `chancery policy`: what it decides, and whether a file would be taken.

use std::{path::Path, sync::Arc};

use chancery_acme::order::ProfileName;
use chancery_authority::ports::Clock as _;
use chancery_pki::{Name, NameSet, Usages, profile::RequestedAttribute};
use chancery_policy::{
    Claims, Content, Decision, Door, Outcome as Verdict, Reported, Request, Requester, SubjectAttribute,
};
use serde::Serialize;

use crate::{
    cli::{Claim, ExplainArgs, PolicyCommand},
    config::{self, Config, v1::Tls},
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, json, line, marked},
    system::SystemClock,
    wiring::settings,
};

/// The ACME directory that is meant where none is named.
const DIRECTORY: &str = "default";

pub(crate) fn run(command: PolicyCommand, config: Option<&Path>, output: Format) -> Outcome {
    match command {
        PolicyCommand::Explain(args) => explain(&args, config, output),
        PolicyCommand::Check { file } => {
            let file = match file {
                Some(file) => file,
                None => config::load(config)?.policy,
            };
            check(&file, output)
        }
    }
}

fn check(file: &Path, output: Format) -> Outcome {
    let policy = settings::policy(file).map_err(Failed::refused)?;
    let checked = Checked {
        file: file.display().to_string(),
        rules: policy.rules().len(),
        policy_sha256: policy.hash().to_string(),
        cautions: policy.cautions().map(|caution| caution.to_string()).collect(),
    };
    if output == Format::Json {
        json(&checked)?;
        return Ok(Exit::Ok);
    }
    let Checked { file, rules, policy_sha256, cautions } = checked;
    let rules = if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
    marked(Mark::Good, format!("{file}: {rules}, SHA-256 {policy_sha256}"))?;
    for caution in cautions {
        marked(Mark::Note, caution)?;
    }
    Ok(Exit::Ok)
}

/// A policy that would be taken, as shown to programs.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    rules: usize,
    policy_sha256: String,
    cautions: Vec<String>,
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

/// Who would ask, as the words of the command line say.
fn requester(args: &ExplainArgs) -> Result<Requester, Failed> {
    let mut requester = Requester::at(args.door);
    match (args.door, &args.directory) {
        (Door::Acme, directory) => requester.directory = Some(directory.as_deref().unwrap_or(DIRECTORY).to_owned()),
        (_, None) => {}
        (door, Some(_)) => {
            return Err(Failed::failed(format_args!("--directory speaks of the door acme, and --door says {door}")));
        }
    }
    let set = |claims: &mut Claims, name: &str, value: &str| match claims.set(name, value) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Failed::failed(format_args!("the claim {name} is given twice"))),
        Err(error) => Err(Failed::failed(format_args!("{name}: {error}"))),
    };
    for (name, value) in [("account", &args.account), ("eab", &args.eab)] {
        value.iter().try_for_each(|value| set(&mut requester.proven, name, value))?;
    }
    args.claims.iter().try_for_each(|claim| set(&mut requester.proven, &claim.name, &claim.value))?;
    args.claimed.iter().try_for_each(|claim| set(&mut requester.claimed, &claim.name, &claim.value))?;
    if !args.reported.is_empty() {
        let mut reported = Reported::default();
        for Claim { name, value } in &args.reported {
            match reported.set(name, value) {
                Ok(None) => {}
                Ok(Some(_)) => return Err(Failed::failed(format_args!("{name} is reported twice"))),
                Err(error) => return Err(Failed::failed(format_args!("{name}: {error}"))),
            }
        }
        requester.reported = Some(Arc::new(reported));
    }
    if args.door == Door::Acme && requester.proven.account.is_none() {
        requester.proven.account = Some("(any)".to_owned());
    }
    Ok(requester)
}

/// The profile that is given, or else the one that such a request would be made under.
fn profile(args: &ExplainArgs, config: Option<&Config>) -> Result<ProfileName, Failed> {
    let Some(config) = config else { return Ok(args.profile.clone().unwrap_or_else(|| "server".to_owned())) };
    let say = || format!("say which profile with --profile: {}", all(config.profiles.keys()));
    let name = args.directory.as_deref().unwrap_or(DIRECTORY);
    let directory = config.directories.get(name);
    if args.door == Door::Acme && directory.is_none() {
        let known = all(config.directories.keys());
        return Err(Failed::failed(format_args!(
            "there is no directory \"{name}\"; say which with --directory: {known}"
        )));
    }
    match (&args.profile, args.door) {
        (Some(profile), _) if config.profiles.contains_key(profile) => Ok(profile.clone()),
        (Some(profile), _) => Err(Failed::failed(format_args!("there is no profile \"{profile}\"; {}", say()))),
        (None, Door::Acme) => {
            directory.and_then(|directory| directory.profiles.first().cloned()).ok_or_else(|| Failed::failed(say()))
        }
        (None, Door::OwnTls) => match &config.tls {
            Tls::Own { profile, .. } => Ok(profile.clone()),
            Tls::Brought { .. } => Err(Failed::failed(say())),
        },
        (None, Door::CertManager | Door::KubernetesSigner) => {
            let cluster = args.claims.iter().find(|claim| claim.name == "cluster");
            let cluster = cluster.and_then(|claim| config.clusters.get(&claim.value));
            cluster.and_then(|cluster| cluster.settings.profiles.first().cloned()).ok_or_else(|| Failed::failed(say()))
        }
        (None, Door::Mesh | Door::Api) => Err(Failed::failed(say())),
    }
}

fn all<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn decide(args: &ExplainArgs, config: Option<&Path>) -> Result<Decision, Failed> {
    let parsed = args
        .names
        .iter()
        .map(|name| {
            let read = name.parse::<Name>();
            read.map_err(|error| Failed::failed(format_args!("\"{name}\": {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let names = NameSet::new(parsed).map_err(Failed::failed)?;
    let requester = requester(args)?;
    // Without --policy the configuration also knows the profiles, and which is asked for by default.
    let loaded = match &args.policy {
        Some(_) => None,
        None => Some(config::load(config)?),
    };
    let file = match (&args.policy, &loaded) {
        (Some(file), _) => file.clone(),
        (None, Some(config)) => config.policy.clone(),
        (None, None) => return Err(Failed::failed("say which policy with --policy FILE")),
    };
    let profile = profile(args, loaded.as_ref())?;
    let policy = settings::policy(&file).map_err(Failed::refused)?;
    let usages = Usages::from_words(args.usages.iter().map(String::as_str)).map_err(Failed::failed)?;
    let asked = chancery_pki::Content { usages, is_ca: args.ca, ..chancery_pki::Content::default() };
    let subject = args.subject.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let known = loaded.as_ref().and_then(|config| config.profiles.get(&profile));
    let attribute = |asked: &RequestedAttribute| {
        let value = asked.value.clone().unwrap_or_default();
        let needs_no_grant = known.is_some_and(|profile| profile.gives_attribute(&asked.kind, &value));
        SubjectAttribute { kind: asked.kind.clone(), value, needs_no_grant }
    };
    let attributes: Vec<SubjectAttribute> = args.subject.iter().map(attribute).collect();
    // Without a configuration nobody knows what the profile gives.
    let usages = known.map_or_else(|| asked.usages.to_words().collect(), |profile| profile.usages_in_words(&asked));
    Ok(policy.evaluate(&Request {
        requester: &requester,
        names: &names,
        profile: &profile,
        key: args.key,
        lifetime: args.lifetime,
        content: Content { usages: &usages, is_ca: args.ca, subject: &subject, attributes: &attributes },
        now: args.time.unwrap_or_else(|| SystemClock.now()),
    }))
}

fn explain(args: &ExplainArgs, config: Option<&Path>, output: Format) -> Outcome {
    let decision = decide(args, config)?;
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{cli, commands::init};

    const POLICY: &str = r#"version: v1
rules:
  - { name: acme, allow: { names: [acme.test] }, for: { door: acme, directory: internal, account: AbC, eab: key-1 } }
  - { name: cert-manager, allow: { names: [cert-manager.test] }, for: { door: cert-manager, cluster: prod, namespace: shop } }
  - { name: kubernetes-signer, allow: { names: [kubernetes-signer.test] }, for: { door: kubernetes-signer, cluster: prod } }
  - { name: mesh, allow: { names: [mesh.test] }, for: { door: mesh, namespace: shop, service-account: web } }
  - { name: api, allow: { names: [api.test] }, for: { door: api, user: ann } }
  - { name: own-tls, allow: { names: [own-tls.test] }, for: { door: own-tls } }
  - { name: short, allow: { names: [short.test] }, when: 'request.lifetime <= duration("24h")' }
  - { name: weekdays, allow: { names: [weekdays.test] }, when: 'request.time.getDayOfWeek() in [1, 2, 3, 4, 5]' }
  - { name: self, allow: { names: [self.test] }, when: 'requester.claimed.user == "eve"' }
  - { name: curves, allow: { names: [curves.test], keys: [P-256] } }
"#;

    fn parsed(words: &str) -> Result<ExplainArgs, clap::Error> {
        let words = ["chancery", "policy", "explain"].into_iter().chain(words.split(' '));
        match cli::Cli::try_parse_from(words)?.command {
            cli::Command::Policy(PolicyCommand::Explain(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn decided(policy: &str, words: &str) -> Result<Decision, Failed> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, policy).unwrap();
        decide(&ExplainArgs { policy: Some(file), ..parsed(words).unwrap() }, None)
    }

    fn outcome(words: &str) -> (Verdict, Option<String>) {
        let decision = decided(POLICY, words).unwrap();
        (decision.outcome, decision.rule().map(str::to_owned))
    }

    #[test]
    fn a_requester_of_every_door_with_every_claim_can_be_asked_for() {
        for (door, claims) in [
            ("acme", "--directory internal --account AbC --eab key-1"),
            ("acme", "--directory internal --claim account=AbC --claim eab=key-1"),
            ("cert-manager", "--claim cluster=prod --claim namespace=shop"),
            ("kubernetes-signer", "--claim cluster=prod"),
            ("mesh", "--claim namespace=shop --claim service-account=web"),
            ("api", "--claim user=ann"),
        ] {
            let allowed = outcome(&format!("{door}.test --door {door} {claims}"));
            assert_eq!(allowed, (Verdict::Allow, Some(door.to_owned())), "{door}");
            let merely_said = claims.replace("--claim ", "--claimed ");
            if merely_said != claims {
                assert_eq!(outcome(&format!("{door}.test --door {door} {merely_said}")).0, Verdict::Deny, "{door}");
            }
            assert_eq!(outcome(&format!("{door}.test --door {door}")).0, Verdict::Deny, "{door}");
        }
        assert_eq!(outcome("own-tls.test --door own-tls"), (Verdict::Allow, Some("own-tls".to_owned())));
        assert_eq!(outcome("own-tls.test").0, Verdict::Deny, "without --door it is an ACME account");
        assert_eq!(outcome("self.test --claimed user=eve"), (Verdict::Allow, Some("self".to_owned())));
        assert_eq!(outcome("self.test --claim user=eve").0, Verdict::Deny);
    }

    #[test]
    fn the_servers_own_certificate_is_explained_by_the_rule_that_init_writes() {
        let decision = decided(&init::policy_text("localhost", true), "localhost --door own-tls").unwrap();
        assert_eq!(decision.explain(), "order allowed: 1 name\n  localhost    allowed    rule own-certificate");
    }

    #[test]
    fn conditions_see_the_lifetime_the_time_and_the_key_that_are_given() {
        for (words, expected) in [
            ("short.test", Verdict::Undecided),
            ("short.test --lifetime 24h", Verdict::Allow),
            ("short.test --lifetime 1d1s", Verdict::Deny),
            ("weekdays.test --time 2026-11-27T23:59:59Z", Verdict::Allow),
            ("weekdays.test --time 2026-11-28T00:00:00Z", Verdict::Deny),
            ("curves.test", Verdict::Undecided),
            ("curves.test --key P-256", Verdict::Allow),
            ("curves.test --key ed25519", Verdict::Deny),
        ] {
            assert_eq!(outcome(words).0, expected, "{words}");
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_refused_with_those_that_are() {
        for (words, told) in [
            ("--door telnet", "acme, cert-manager, kubernetes-signer, mesh, api and own-tls"),
            ("--claim team=x", "account, eab, cluster, namespace, service-account and user"),
            ("--claimed team=x", "account, eab, cluster, namespace, service-account and user"),
            ("--claim cluster", "write NAME=VALUE"),
            ("--claim cluster=", "an empty claim is no claim"),
            ("--key p256", "RSA-2048, RSA-3072, RSA-4096, P-256, P-384, P-521 or Ed25519"),
            ("--lifetime soon", "w, d, h, m or s"),
            ("--lifetime 0s", "at least one second"),
            ("--time today", "2026-11-25T10:00:00Z"),
        ] {
            let refused = parsed(&format!("a.test {words}")).unwrap_err().to_string();
            assert!(refused.contains(told), "{words}: {refused}");
        }
        for (words, told) in [
            ("--claim eab=a --claim eab=b", "the claim eab is given twice"),
            ("--account a --claim account=b", "the claim account is given twice"),
            ("--door mesh --directory internal", "--directory speaks of the door acme, and --door says mesh"),
        ] {
            let refused = decided(POLICY, &format!("a.test {words}")).unwrap_err().to_string();
            assert_eq!(refused, told, "{words}");
        }
    }
}
