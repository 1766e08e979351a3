//! `[[cluster]]`: who of which Kubernetes cluster may ask, and for what at most.

use std::{collections::BTreeMap, path::PathBuf};

use chancery_acme::order::ProfileName;
use chancery_authority::{api_token::is_namespace, settings};
use chancery_pki::profile::Profile;
use chancery_policy::NameLimits;
use toml::Spanned;

use super::{
    Authority,
    check::{At, Checked, known_authority, known_profile},
    spec::{ClientCertificatesSpec, ClusterSpec, ClusterTokenSpec, Text},
};
use crate::config::Source;

/// A cluster: what it may ask for, and how its controllers prove themselves beside API tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) settings: settings::Cluster,
    pub(crate) token: Option<ClusterToken>,
    /// The CA certificates below which its clients' certificates stand.
    pub(crate) client_ca: Option<PathBuf>,
}

/// How the cluster's service-account tokens are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterToken {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) check: TokenCheck,
}

/// By what a token is told to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenCheck {
    /// The cluster's keys, in a file.
    Keys(PathBuf),
    /// The cluster's API server: asked about each token, or for its keys alone.
    ApiServer { url: String, ca: PathBuf, token: PathBuf, review: bool },
}

/// Reads every `[[cluster]]`.
pub(super) fn check_clusters(
    at: &At<'_>,
    specs: Vec<Spanned<ClusterSpec>>,
    authorities: &[Authority],
    profiles: &BTreeMap<ProfileName, Profile>,
) -> Checked<BTreeMap<String, Cluster>> {
    let mut clusters: BTreeMap<String, Cluster> = BTreeMap::new();
    for spec in specs {
        let span = spec.get_ref().name.span();
        let token = spec.get_ref().token.as_ref().map(Spanned::span);
        let checked = check_cluster(at, spec, authorities, profiles)?;
        if let (Some(ours), Some(token)) = (&checked.token, token) {
            let same = |other: &&Cluster| {
                other.token.as_ref().is_some_and(|other| other.issuer == ours.issuer && other.audience == ours.audience)
            };
            if let Some(other) = clusters.values().find(same) {
                let what = format!(
                    "cluster \"{}\" has the same issuer and audience, so that its tokens could not be told from these; \
                     give each cluster an audience of its own, like \"chancery/{}\"",
                    other.settings.name, checked.settings.name
                );
                return Err(at.source.say(token, what));
            }
        }
        if let Some(twice) = clusters.insert(checked.settings.name.clone(), checked) {
            return Err(at.source.say(span, format!("a second cluster is named \"{}\"", twice.settings.name)));
        }
    }
    Ok(clusters)
}

fn check_cluster(
    at: &At<'_>,
    spec: Spanned<ClusterSpec>,
    authorities: &[Authority],
    profiles: &BTreeMap<ProfileName, Profile>,
) -> Checked<Cluster> {
    let source = at.source;
    let ClusterSpec { name, authority, profiles: offered, tenant, namespaces, names, token, client_certificates } =
        spec.into_inner();
    plain(source, &name)?;
    if let Some(tenant) = &tenant {
        plain(source, tenant)?;
    }
    let authority = known_authority(source, &authority, authorities)?;
    if offered.get_ref().is_empty() {
        return Err(source.fault(
            offered.span(),
            "no profile",
            "at least one; the first is issued where none is asked for",
        ));
    }
    let profiles =
        offered.get_ref().iter().map(|text| known_profile(source, text, profiles)).collect::<Checked<_>>()?;
    let namespaces = namespaces
        .map(|list| {
            if list.get_ref().is_empty() {
                return Err(source.fault(list.span(), "no namespace", "at least one; left out, all of them"));
            }
            list.get_ref().iter().map(|text| namespace(source, text)).collect::<Checked<_>>()
        })
        .transpose()?;
    let names = names.map(|list| limits(source, &list)).transpose()?;
    let mut settings = settings::Cluster {
        name: name.into_inner(),
        authority,
        profiles,
        tenant: tenant.map(Spanned::into_inner),
        namespaces,
        names,
        service_accounts: [].into(),
        own_namespace_account: None,
        own_namespace_profiles: None,
        own_namespace_names: None,
        client_names: [].into(),
    };
    let token = token.map(|token| check_token(at, token, &mut settings)).transpose()?;
    let client_ca = client_certificates.map(|clients| check_clients(at, clients, &mut settings)).transpose()?;
    Ok(Cluster { settings, token, client_ca })
}

fn check_token(
    at: &At<'_>,
    spec: Spanned<ClusterTokenSpec>,
    settings: &mut settings::Cluster,
) -> Checked<ClusterToken> {
    let source = at.source;
    let span = spec.span();
    let ClusterTokenSpec {
        issuer,
        audience,
        accounts,
        own_namespace_account,
        own_namespace_profiles,
        own_namespace_names,
        check,
        keys,
        api_server,
        api_server_ca,
        api_server_token,
    } = spec.into_inner();
    for text in [&issuer, &audience] {
        if text.get_ref().is_empty() || text.get_ref().contains(|c: char| c.is_control() || c.is_whitespace()) {
            let expected = "the text that the cluster's tokens hold, letter for letter";
            return Err(source.fault(text.span(), format_args!("\"{}\"", text.get_ref().escape_debug()), expected));
        }
    }
    for account in accounts {
        let known = account.get_ref().split_once('/').filter(|(of, name)| is_namespace(of) && is_account(name));
        let Some((of, name)) = known else {
            let expected = "a service account with its namespace, like \"chancery/chancery-issuer\"";
            return Err(source.fault(account.span(), format_args!("\"{}\"", account.get_ref()), expected));
        };
        settings.service_accounts.insert((of.to_owned(), name.to_owned()));
    }
    if let Some(account) = own_namespace_account {
        if !is_account(account.get_ref()) {
            let expected = "the name of a service account, without a namespace";
            return Err(source.fault(account.span(), format_args!("\"{}\"", account.get_ref()), expected));
        }
        settings.own_namespace_account = Some(account.into_inner());
    }
    let limited = [&own_namespace_profiles, &own_namespace_names].into_iter().flatten().next();
    if let (Some(limited), None) = (limited, &settings.own_namespace_account) {
        return Err(source.say(limited.span(), "this limits own_namespace_account, and there is none"));
    }
    if let Some(list) = own_namespace_profiles {
        if list.get_ref().is_empty() {
            return Err(source.fault(list.span(), "no profile", "at least one; left out, those of the cluster"));
        }
        let offered = |text: &Text| match settings.profiles.contains(text.get_ref()) {
            true => Ok(text.get_ref().clone()),
            false => {
                let offered: Vec<&str> = settings.profiles.iter().map(String::as_str).collect();
                Err(source.unknown(text.span(), text.get_ref(), "a profile of this cluster", &offered))
            }
        };
        let profiles = list.get_ref().iter().map(offered).collect::<Checked<_>>()?;
        settings.own_namespace_profiles = Some(profiles);
    }
    settings.own_namespace_names = own_namespace_names.map(|list| limits(source, &list)).transpose()?;
    if settings.service_accounts.is_empty() && settings.own_namespace_account.is_none() {
        let what =
            "neither accounts nor own_namespace_account: no token of the cluster would be taken; name at least one";
        return Err(source.say(span, what));
    }
    let (issuer, audience) = (issuer.into_inner(), audience.into_inner());
    let review = match &check {
        None => None,
        Some(check) => match &**check.get_ref() {
            "review" => Some(true),
            "keys" => Some(false),
            other => return Err(source.unknown(check.span(), other, "how tokens are checked", &["review", "keys"])),
        },
    };
    let check = match (keys, api_server) {
        (Some(file), None) => {
            if let Some(other) = [&api_server_ca, &api_server_token].into_iter().flatten().next() {
                return Err(source.say(other.span(), "this speaks of an API server, and there is no api_server"));
            }
            if let (Some(true), Some(check)) = (review, &check) {
                return Err(source.say(check.span(), "a review is asked of the API server, and there is no api_server"));
            }
            TokenCheck::Keys(at.path(&file))
        }
        (None, Some(url)) => {
            let parsed: Option<http::Uri> = url.get_ref().parse().ok();
            if !parsed.is_some_and(|url| url.scheme_str() == Some("https") && url.authority().is_some()) {
                let expected = "the https URL of the cluster's API server, like \"https://10.0.0.1:6443\"";
                return Err(source.fault(url.span(), format_args!("\"{}\"", url.get_ref()), expected));
            }
            let (Some(ca), Some(token)) = (api_server_ca, api_server_token) else {
                let what = "api_server needs api_server_ca (the CA of its certificate, PEM) and api_server_token (a file \
                            with a token for it) beside it";
                return Err(source.say(url.span(), what));
            };
            let (ca, token) = (at.path(&ca), at.path(&token));
            TokenCheck::ApiServer { url: url.into_inner(), ca, token, review: review.unwrap_or(true) }
        }
        (Some(_), Some(url)) => return Err(source.say(url.span(), "keys and api_server: one of them decides")),
        (None, None) => {
            return Err(source.say(span, "neither keys (a file with the cluster's keys) nor api_server: one is needed"));
        }
    };
    Ok(ClusterToken { issuer, audience, check })
}

fn check_clients(
    at: &At<'_>,
    spec: Spanned<ClientCertificatesSpec>,
    settings: &mut settings::Cluster,
) -> Checked<PathBuf> {
    let ClientCertificatesSpec { ca, names } = spec.into_inner();
    if names.get_ref().is_empty() {
        let expected = "at least one that a certificate must hold, as common name or alternative name";
        return Err(at.source.fault(names.span(), "no name", expected));
    }
    settings.client_names = names.into_inner().into_iter().map(Spanned::into_inner).collect();
    Ok(at.path(&ca))
}

fn limits(source: &Source, list: &Spanned<Vec<Text>>) -> Checked<NameLimits> {
    let patterns: Vec<&String> = list.get_ref().iter().map(Spanned::get_ref).collect();
    NameLimits::parse(&patterns).map_err(|fault| source.say(list.span(), fault.to_string()))
}

fn namespace(source: &Source, text: &Text) -> Checked<String> {
    if is_namespace(text.get_ref()) {
        return Ok(text.get_ref().clone());
    }
    let expected = "a namespace: 1 to 63 lower-case letters, digits and inner hyphens";
    Err(source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), expected))
}

/// A DNS subdomain (RFC 1123 §2.1), as Kubernetes names service accounts.
fn is_account(text: &str) -> bool {
    text.len() <= 253 && !text.is_empty() && text.split('.').all(is_namespace)
}

fn plain(source: &Source, text: &Text) -> Checked<()> {
    let plain = text.get_ref().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if plain && (1..=63).contains(&text.get_ref().len()) {
        return Ok(());
    }
    let expected = "1 to 63 lower-case letters, digits and hyphens: it stands in every record";
    Err(source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), expected))
}
