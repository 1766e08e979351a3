//! From what stands in the file to what it means. Every Spec is taken apart whole, so that a key
//! that is added there does not compile until it is used here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use chancery_acme::{challenge::ChallengeKind, order::ProfileName};
use chancery_authority::{
    records::AuthorityId,
    settings::{self, ExternalAccountRule},
};
use chancery_egress::{Ports, ZoneSpec, ZoneTable};
use chancery_pki::{Name, NameSet, profile::Profile};
use ipnet::IpNet;
use toml::Spanned;

use super::{
    Authority, Config, Directory, Ledger, Limits, Listen, Log, LogFormat, Passphrase, Places, Tls, Validation,
    cluster::check_clusters,
    profile::profile,
    spec::{self, Spec, Text},
};
use crate::config::{ConfigError, Source, duration};

pub(super) type Checked<T> = Result<T, Box<ConfigError>>;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads and checks a configuration.
#[expect(clippy::needless_pass_by_value, reason = "the source is read once")]
pub(crate) fn parse(source: Source) -> Checked<Config> {
    let spec: Spec = toml::from_str(&source.text).map_err(|error| source.of_toml(&error))?;
    check(&source, spec)
}

fn check(source: &Source, spec: Spec) -> Checked<Config> {
    let Spec {
        version,
        data,
        listen,
        tls,
        authority,
        signer,
        directory,
        cluster,
        profile: profile_specs,
        policy,
        zone,
        validation,
        limits,
        ledger,
        log,
    } = spec;
    if version.get_ref() != "v1" {
        return Err(source.fault(
            version.span(),
            format_args!("\"{}\"", version.get_ref()),
            "\"v1\", the version that this server reads",
        ));
    }
    let base = source.file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    let data = data.map_or_else(|| base.clone(), |data| base.join(data.get_ref()));
    let at = At { source, base: &data };

    let listen = check_listen(source, listen)?;
    let mut profiles: BTreeMap<ProfileName, Profile> = BTreeMap::new();
    for spec in profile_specs {
        let span = spec.get_ref().name.span();
        let checked = profile(source, spec)?;
        if let Some(twice) = profiles.insert(checked.name().to_owned(), checked) {
            return Err(source.say(span, format!("a second profile is named \"{}\"", twice.name())));
        }
    }
    if profiles.is_empty() {
        return Err(source.lacks("profile", "there is no [[profile]]; at least one says what certificates look like"));
    }
    let authorities = check_authorities(&at, authority)?;
    let mut directories = BTreeMap::new();
    for spec in directory {
        let span = spec.get_ref().name.span();
        let checked = check_directory(source, spec, &authorities, &profiles)?;
        if let Some(twice) = directories.insert(checked.name.clone(), checked) {
            return Err(source.say(span, format!("a second directory is named \"{}\"", twice.name)));
        }
    }
    if directories.is_empty() {
        return Err(source.lacks("directory", "there is no [[directory]]; at least one gives ACME clients a URL"));
    }
    let clusters = check_clusters(&at, cluster, &authorities, &profiles)?;
    let tls = check_tls(&at, tls, &listen, &authorities, &profiles)?;
    let spec::SignerSpec { passphrase, blocked_keys, eab_key } = signer;
    let passphrase = check_passphrase(&at, passphrase)?;
    let blocked_keys = blocked_keys.map(|file| at.path(&file));
    let eab_key = eab_key.map_or_else(|| data.join("keys/eab.key"), |file| at.path(&file));
    let spec::PolicySpec { file } = policy;
    let policy = at.path(&file);
    let zones = check_zones(source, zone)?;
    let validation = check_validation(source, validation)?;
    let limits = check_limits(source, limits)?;
    let ledger = check_ledger(&at, ledger, &listen)?;
    let log = check_log(source, log)?;
    Ok(Config {
        file: source.file.clone(),
        data,
        listen,
        tls,
        authorities,
        passphrase,
        blocked_keys,
        eab_key,
        directories,
        clusters,
        profiles,
        policy,
        zones,
        validation,
        limits,
        ledger,
        log,
    })
}

/// The source, and the folder that relative paths start from.
pub(super) struct At<'a> {
    pub(super) source: &'a Source,
    base: &'a Path,
}

impl At<'_> {
    pub(super) fn path(&self, text: &Text) -> PathBuf {
        self.base.join(text.get_ref())
    }
}

fn check_listen(source: &Source, spec: spec::ListenSpec) -> Checked<Listen> {
    let spec::ListenSpec { url, https, plain } = spec;
    let (text, host, port) = external_url(source, &url)?;
    let https = match https {
        Some(https) => socket(source, &https)?,
        None => SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), port),
    };
    let plain = plain.map(|plain| socket(source, &plain)).transpose()?;
    Ok(Listen { url: text, host, https, plain })
}

/// An `https://` URL of host and port alone; without its last slash, with its host and port.
fn external_url(source: &Source, url: &Text) -> Checked<(String, String, u16)> {
    let fault = || {
        let expected = "the URL under which clients reach this server, like \"https://ca.example.com\" \
                        or \"https://ca.example.com:14000\", without a path";
        source.fault(url.span(), format_args!("\"{}\"", url.get_ref()), expected)
    };
    let parsed: http::Uri = url.get_ref().parse().map_err(|_| fault())?;
    let authority = parsed.authority().ok_or_else(fault)?;
    let plain_path = parsed.path_and_query().is_none_or(|path| path.as_str() == "/");
    if parsed.scheme_str() != Some("https")
        || !plain_path
        || authority.as_str().contains('@')
        || authority.port_u16() == Some(0)
    {
        return Err(fault());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if Name::dns(&host).is_err() && Name::ip(&host).is_err() || host.starts_with("*.") {
        return Err(fault());
    }
    let port = authority.port_u16().unwrap_or(443);
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let text = if port == 443 { format!("https://{shown}") } else { format!("https://{shown}:{port}") };
    Ok((text, host, port))
}

fn socket(source: &Source, text: &Text) -> Checked<SocketAddr> {
    text.get_ref().parse().map_err(|_| {
        let expected = "an address and a port, like \"127.0.0.1:9101\" or \"[::]:443\"";
        source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), expected)
    })
}

fn check_authorities(at: &At<'_>, specs: Vec<Spanned<spec::AuthoritySpec>>) -> Checked<Vec<Authority>> {
    let mut authorities: Vec<Authority> = Vec::new();
    for spec in specs {
        let spec::AuthoritySpec { id, key, chains, development } = spec.into_inner();
        let parsed: AuthorityId =
            id.get_ref().parse().map_err(|error: chancery_authority::records::NotAnAuthorityId| {
                at.source.say(id.span(), format!("found \"{}\": {error}", id.get_ref()))
            })?;
        if authorities.iter().any(|other| other.id == parsed) {
            return Err(at.source.say(id.span(), format!("a second authority is named \"{parsed}\"")));
        }
        let key_path = at.path(&key);
        if let Some(other) = authorities.iter().find(|other| other.key == key_path) {
            let what = format!(
                "authority \"{}\" has this key file already; one key is one authority, with several chains",
                other.id
            );
            return Err(at.source.say(key.span(), what));
        }
        if chains.get_ref().is_empty() {
            return Err(at.source.fault(
                chains.span(),
                "no file",
                "at least one PEM file: the issuing certificate, then those above it",
            ));
        }
        let chains = chains.get_ref().iter().map(|chain| at.path(chain)).collect();
        authorities.push(Authority { id: parsed, key: key_path, chains, development });
    }
    if authorities.is_empty() {
        return Err(at.source.lacks("authority", "there is no [[authority]]; at least one issues"));
    }
    Ok(authorities)
}

pub(super) fn known_authority(source: &Source, text: &Text, authorities: &[Authority]) -> Checked<AuthorityId> {
    authorities
        .iter()
        .find(|authority| authority.id.as_str() == text.get_ref())
        .map(|found| found.id.clone())
        .ok_or_else(|| {
            let known: Vec<&str> = authorities.iter().map(|authority| authority.id.as_str()).collect();
            source.unknown(text.span(), text.get_ref(), "the id of an [[authority]]", &known)
        })
}

pub(super) fn known_profile(
    source: &Source,
    text: &Text,
    profiles: &BTreeMap<ProfileName, Profile>,
) -> Checked<ProfileName> {
    if profiles.contains_key(text.get_ref()) {
        return Ok(text.get_ref().clone());
    }
    let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
    Err(source.unknown(text.span(), text.get_ref(), "the name of a [[profile]]", &known))
}

fn check_directory(
    source: &Source,
    spec: Spanned<spec::DirectorySpec>,
    authorities: &[Authority],
    profiles: &BTreeMap<ProfileName, Profile>,
) -> Checked<Directory> {
    let spec::DirectorySpec {
        name,
        tenant,
        authority,
        profiles: offered,
        external_account,
        preauthorized,
        challenges,
        terms_of_service,
        website,
        caa_identities,
        order_lifetime,
        authorization_lifetime,
    } = spec.into_inner();
    let plain = |text: &Text, why: &str| {
        let plain = text.get_ref().bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if plain && (1..=63).contains(&text.get_ref().len()) {
            return Ok(());
        }
        let expected = format!("1 to 63 lower-case letters, digits and hyphens: it stands in {why}");
        Err(source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), expected))
    };
    plain(&name, "URLs")?;
    if let Some(tenant) = &tenant {
        plain(tenant, "every record")?;
    }
    let authority = known_authority(source, &authority, authorities)?;
    if offered.get_ref().is_empty() {
        return Err(source.fault(offered.span(), "no profile", "at least one; the first is the default"));
    }
    let profiles = offered
        .get_ref()
        .iter()
        .map(|profile| known_profile(source, profile, profiles))
        .collect::<Checked<Vec<_>>>()?;
    let external_account = check_external_account(source, external_account.as_ref())?;
    let preauthorized = match preauthorized {
        Some(asked) if *asked.get_ref() && external_account != ExternalAccountRule::Required => {
            return Err(source.say(
                asked.span(),
                "preauthorized needs external_account = \"required\": whoever comes without an EAB key is nobody whom \
                 names could be granted without a challenge",
            ));
        }
        asked => asked.is_some_and(Spanned::into_inner),
    };
    let challenges = match challenges {
        None => ChallengeKind::ALL.to_vec(),
        Some(challenges) if challenges.get_ref().is_empty() => {
            return Err(source.fault(
                challenges.span(),
                "no challenge",
                "at least one: without it nobody proves anything",
            ));
        }
        Some(challenges) => challenges
            .get_ref()
            .iter()
            .map(|text| {
                text.get_ref().parse().map_err(|_| {
                    let known = ChallengeKind::ALL.map(ChallengeKind::as_str);
                    source.unknown(text.span(), text.get_ref(), "a challenge type", &known)
                })
            })
            .collect::<Checked<Vec<_>>>()?,
    };
    Ok(Directory {
        name: name.into_inner(),
        tenant: tenant.map(Spanned::into_inner),
        authority,
        profiles,
        external_account,
        preauthorized,
        challenges,
        terms_of_service: terms_of_service.map(|url| web_url(source, &url)).transpose()?,
        website: website.map(|url| web_url(source, &url)).transpose()?,
        caa_identities: caa_identities.into_iter().map(Spanned::into_inner).collect(),
        order_lifetime: between(source, order_lifetime.as_ref(), DAY * 7, MINUTE, DAY * 30)?,
        authorization_lifetime: between(source, authorization_lifetime.as_ref(), DAY * 7, MINUTE, DAY * 30)?,
    })
}

fn check_external_account(source: &Source, text: Option<&Text>) -> Checked<ExternalAccountRule> {
    let Some(text) = text else { return Ok(ExternalAccountRule::Off) };
    ExternalAccountRule::ALL.into_iter().find(|rule| rule.as_str() == text.get_ref()).ok_or_else(|| {
        let known = ExternalAccountRule::ALL.map(ExternalAccountRule::as_str);
        source.unknown(text.span(), text.get_ref(), "whether accounts come with an EAB key", &known)
    })
}

fn web_url(source: &Source, text: &Text) -> Checked<String> {
    let parsed = text.get_ref().parse::<http::Uri>();
    if parsed.is_ok_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some()) {
        return Ok(text.get_ref().clone());
    }
    Err(source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), "an http or https URL"))
}

fn check_tls(
    at: &At<'_>,
    spec: spec::TlsSpec,
    listen: &Listen,
    authorities: &[Authority],
    profiles: &BTreeMap<ProfileName, Profile>,
) -> Checked<Tls> {
    let source = at.source;
    let spec::TlsSpec { names, authority, profile, certificate, key } = spec;
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            if let Some(other) =
                names.as_ref().and_then(|names| names.first()).or(authority.as_ref()).or(profile.as_ref())
            {
                let what = "a certificate that is brought (certificate, key) needs no names, authority or profile; \
                            keep either the one or the others";
                return Err(source.say(other.span(), what));
            }
            return Ok(Tls::Brought { certificate: at.path(&certificate), key: at.path(&key) });
        }
        (Some(one), None) => return Err(source.say(one.span(), "tls.certificate needs tls.key beside it")),
        (None, Some(one)) => return Err(source.say(one.span(), "tls.key needs tls.certificate beside it")),
        (None, None) => {}
    }
    let parse_name = |text: &str| Name::ip(text).or_else(|_| Name::dns(text));
    let names = match names {
        Some(names) if !names.is_empty() => {
            let parsed = names
                .iter()
                .map(|text| {
                    parse_name(text.get_ref())
                        .map_err(|error| source.say(text.span(), format!("found \"{}\": {error}", text.get_ref())))
                })
                .collect::<Checked<Vec<_>>>()?;
            let first = names.first().map_or(0..0, Spanned::span);
            NameSet::new(parsed).map_err(|error| source.say(first, error.to_string()))?
        }
        _ => {
            let name = parse_name(&listen.host).map_err(|error| source.lacks("tls.names", error.to_string()))?;
            NameSet::new([name]).map_err(|error| source.lacks("tls.names", error.to_string()))?
        }
    };
    let authority = match authority {
        Some(text) => known_authority(source, &text, authorities)?,
        None => match authorities {
            [one] => one.id.clone(),
            _ => {
                return Err(source.lacks(
                    "tls.authority",
                    "there are several authorities; say which one issues the server's own certificate",
                ));
            }
        },
    };
    let profile = match profile {
        Some(text) => known_profile(source, &text, profiles)?,
        None if profiles.contains_key("server") => "server".to_owned(),
        None => {
            return Err(source.lacks(
                "tls.profile",
                "there is no [[profile]] named \"server\"; say which one the server's own certificate is made by",
            ));
        }
    };
    Ok(Tls::Own { names, authority, profile })
}

fn check_passphrase(at: &At<'_>, spec: Option<Spanned<spec::PassphraseSpec>>) -> Checked<Passphrase> {
    const ONE: &str = "one of: { file = \"PATH\" }, { env = \"VARIABLE\" }, { credential = \"NAME\" }";
    let Some(spec) = spec else {
        return Ok(Passphrase::File(at.base.join("passphrase")));
    };
    let span = spec.span();
    let spec::PassphraseSpec { file, env, credential } = spec.into_inner();
    match (file, env, credential) {
        (Some(file), None, None) => Ok(Passphrase::File(at.path(&file))),
        (None, Some(env), None) => Ok(Passphrase::Environment(env.into_inner())),
        (None, None, Some(credential)) => {
            if credential.get_ref().is_empty() || credential.get_ref().contains('/') {
                // Not shown: whoever mistakes the name for the passphrase does not want to read it in a log.
                return Err(at.source.fault(
                    credential.span(),
                    "another text",
                    "the name of a systemd credential, without slashes",
                ));
            }
            Ok(Passphrase::Credential(credential.into_inner()))
        }
        (None, None, None) => Err(at.source.fault(span, "nothing", ONE)),
        _ => Err(at.source.fault(span, "several places", ONE)),
    }
}

fn check_zones(source: &Source, specs: Vec<Spanned<spec::ZoneSpec>>) -> Checked<Vec<ZoneSpec>> {
    let mut zones = Vec::new();
    for spec in specs {
        let span = spec.get_ref().name.span();
        zones.push(check_zone(source, spec)?);
        // The table knows best what goes together; it is asked after each, so that the place is known.
        ZoneTable::new(zones.iter().cloned()).map_err(|error| source.say(span, error.to_string()))?;
    }
    Ok(zones)
}

fn check_zone(source: &Source, spec: Spanned<spec::ZoneSpec>) -> Checked<ZoneSpec> {
    let spec::ZoneSpec {
        name,
        domains,
        networks,
        only,
        allow,
        deny,
        resolvers,
        fixed_hosts,
        http_port,
        https_port,
        tls_alpn_port,
    } = spec.into_inner();
    let usual = Ports::default();
    let nets = |list: Vec<Text>| list.iter().map(|text| network(source, text)).collect::<Checked<Vec<_>>>();
    Ok(ZoneSpec {
        name: name.into_inner(),
        domains: domains.into_iter().map(Spanned::into_inner).collect(),
        networks: nets(networks)?,
        only: nets(only)?,
        allow: nets(allow)?,
        deny: nets(deny)?,
        resolvers: resolvers.iter().map(|text| resolver(source, text)).collect::<Checked<Vec<_>>>()?,
        fixed_hosts: fixed_hosts
            .into_iter()
            .map(|(host, addresses)| {
                let addresses = addresses.iter().map(|text| address(source, text)).collect::<Checked<Vec<_>>>()?;
                Ok((host, addresses))
            })
            .collect::<Checked<_>>()?,
        ports: Ports {
            http: http_port.unwrap_or(usual.http),
            https: https_port.unwrap_or(usual.https),
            tls_alpn: tls_alpn_port.unwrap_or(usual.tls_alpn),
        },
    })
}

fn network(source: &Source, text: &Text) -> Checked<IpNet> {
    let written = text.get_ref();
    written.parse().or_else(|_| written.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        source.fault(
            text.span(),
            format_args!("\"{written}\""),
            "a network or an address, like \"10.0.0.0/8\" or \"fd00::/8\"",
        )
    })
}

fn address(source: &Source, text: &Text) -> Checked<IpAddr> {
    text.get_ref()
        .parse()
        .map_err(|_| source.fault(text.span(), format_args!("\"{}\"", text.get_ref()), "an IP address"))
}

/// An address with its port; without one, port 53.
fn resolver(source: &Source, text: &Text) -> Checked<SocketAddr> {
    let written = text.get_ref();
    written.parse().or_else(|_| written.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53))).map_err(|_| {
        source.fault(
            text.span(),
            format_args!("\"{written}\""),
            "the address of a DNS server, like \"10.0.0.53\" or \"10.0.0.53:53\"",
        )
    })
}

fn check_validation(source: &Source, spec: spec::ValidationSpec) -> Checked<Validation> {
    let spec::ValidationSpec { time, answer_wait, at_once, at_once_per_target, connect_timeout, lookup_timeout } = spec;
    let second = Duration::from_secs(1);
    Ok(Validation {
        time: between(source, time.as_ref(), second * 30, second, MINUTE * 5)?,
        answer_wait: between(source, answer_wait.as_ref(), second * 5, Duration::ZERO, second * 30)?,
        at_once: number(source, at_once, 256, 1, 16_384)?,
        at_once_per_target: number(source, at_once_per_target, 64, 1, 16_384)?,
        connect_timeout: between(source, connect_timeout.as_ref(), second * 5, Duration::from_millis(10), MINUTE)?,
        lookup_timeout: between(source, lookup_timeout.as_ref(), second * 5, Duration::from_millis(10), MINUTE)?,
    })
}

fn check_limits(source: &Source, spec: spec::LimitsSpec) -> Checked<Limits> {
    let spec::LimitsSpec {
        connections,
        connections_per_address,
        requests_at_once,
        arriving_requests_per_address,
        waiting_answers,
        waiting_answers_per_account,
        handshake_timeout,
        header_timeout,
        body_timeout,
        stop_timeout,
        new_accounts_per_address_per_hour,
        orders_per_account_per_hour,
        cluster_requests_at_once,
        requests_per_credential_per_second,
        pending_orders_per_account,
        unproven_accounts,
        unproven_account_lifetime,
        eab_keys,
        keep_ended_eab_keys,
        work_at_once,
        settle_after,
        keep_ended_orders,
        keep_expired_certificates,
        keep_expired_light,
        issuer_alarm,
        documentation,
    } = spec;
    let second = Duration::from_secs(1);
    let usual = settings::Limits::default();
    let long = DAY * 36_525;
    let time = |text: &Option<Text>, usual, least, most| between(source, text.as_ref(), usual, least, most);
    Ok(Limits {
        connections: number(source, connections, 8_192, 1, 1_000_000)?,
        connections_per_address: number(source, connections_per_address, 512, 1, 1_000_000)?,
        places: check_places(
            source,
            (requests_at_once, arriving_requests_per_address),
            (waiting_answers, waiting_answers_per_account),
        )?,
        handshake_timeout: time(&handshake_timeout, second * 10, second, MINUTE)?,
        header_timeout: time(&header_timeout, second * 30, second, HOUR)?,
        body_timeout: time(&body_timeout, second * 10, second, MINUTE)?,
        stop_timeout: time(&stop_timeout, second * 30, second, HOUR)?,
        new_accounts_per_address_per_hour: number(source, new_accounts_per_address_per_hour, 600, 1, u32::MAX)?,
        orders_per_account_per_hour: number(source, orders_per_account_per_hour, 100_000, 1, u32::MAX)?,
        cluster_requests_at_once: number(source, cluster_requests_at_once, 1_024, 1, 1_000_000)?,
        requests_per_credential_per_second: number(source, requests_per_credential_per_second, 500, 1, 1_000_000)?,
        pending_orders_per_account: number(
            source,
            pending_orders_per_account,
            usual.pending_orders_per_account,
            1,
            1_000_000,
        )?,
        unproven_accounts: number(source, unproven_accounts, usual.unproven_accounts, 1, 100_000_000)?,
        unproven_account_lifetime: time(&unproven_account_lifetime, usual.unproven_account_lifetime, MINUTE, long)?,
        eab_keys: number(source, eab_keys, usual.eab_keys, 1, 1_000_000)?,
        keep_ended_eab_keys: time(&keep_ended_eab_keys, usual.keep_ended_eab_keys, MINUTE, long)?,
        work_at_once: number(source, work_at_once, usual.work_at_once, 1, 1_000_000)?,
        settle_after: time(&settle_after, usual.settle_after, second * 5, DAY)?,
        keep_ended_orders: time(&keep_ended_orders, usual.keep_ended_orders, MINUTE, long)?,
        keep_expired_certificates: time(&keep_expired_certificates, usual.keep_expired_certificates, HOUR, long)?,
        keep_expired_light: time(&keep_expired_light, usual.keep_expired_light, MINUTE, long)?,
        issuer_alarm: time(&issuer_alarm, usual.issuer_alarm, Duration::ZERO, long)?,
        documentation: documentation.map(|url| web_url(source, &url)).transpose()?,
    })
}

/// What is not said follows from what is, so that only what is said can contradict itself.
fn check_places(
    source: &Source,
    (requests, arriving): (Option<Spanned<usize>>, Option<Spanned<usize>>),
    (waiting, of_account): (Option<Spanned<usize>>, Option<Spanned<usize>>),
) -> Checked<Places> {
    let at_most = |found: Option<&Spanned<usize>>, most: usize, expected: std::fmt::Arguments<'_>| match found {
        Some(found) if *found.get_ref() > most => Err(source.fault(found.span(), found.get_ref(), expected)),
        _ => Ok(()),
    };
    let all = number(source, requests, 2_048, 2, 1_000_000)?;
    at_most(arriving.as_ref(), all, format_args!("at most as many as limits.requests_at_once ({all})"))?;
    let room = all - 1;
    let fewer = format_args!("fewer than limits.requests_at_once ({all}), so that there is room for others");
    at_most(waiting.as_ref(), room, fewer)?;
    let waiting_answers = number(source, waiting, all / 2, 1, room)?;
    let fewer = format_args!("at most as many as limits.waiting_answers ({waiting_answers})");
    at_most(of_account.as_ref(), waiting_answers, fewer)?;
    Ok(Places {
        requests_at_once: all,
        arriving_requests_per_address: number(source, arriving, (all / 4).max(1), 1, all)?,
        waiting_answers,
        waiting_answers_per_account: number(source, of_account, waiting_answers.min(64), 1, waiting_answers)?,
    })
}

fn check_ledger(at: &At<'_>, spec: spec::LedgerSpec, listen: &Listen) -> Checked<Ledger> {
    let spec::LedgerSpec { key, origin, checkpoint_every } = spec;
    let origin = match origin {
        None => format!("{}/ledger", listen.host),
        Some(text) => {
            let written = text.get_ref();
            if written.is_empty()
                || written.len() > 200
                || written.contains(|c: char| c.is_control() || c.is_whitespace() || c == '+')
            {
                let expected =
                    "a name like \"ca.example.com/ledger\", without spaces and plus signs (C2SP signed-note)";
                return Err(at.source.fault(text.span(), format_args!("\"{}\"", written.escape_debug()), expected));
            }
            written.clone()
        }
    };
    Ok(Ledger {
        key: key.map_or_else(|| at.base.join("keys/ledger.key"), |key| at.path(&key)),
        origin,
        checkpoint_every: between(at.source, checkpoint_every.as_ref(), MINUTE, Duration::from_secs(1), DAY)?,
    })
}

fn check_log(source: &Source, spec: spec::LogSpec) -> Checked<Log> {
    let spec::LogSpec { level, format } = spec;
    let level = match level {
        None => "info".to_owned(),
        Some(level) => {
            tracing_subscriber::EnvFilter::builder().parse(level.get_ref()).map_err(|_| {
                source.unknown(level.span(), level.get_ref(), "a level", &["error", "warn", "info", "debug", "trace"])
            })?;
            level.into_inner()
        }
    };
    let format = match format {
        None => LogFormat::Text,
        Some(format) => match &**format.get_ref() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(source.unknown(format.span(), other, "a format", &["text", "json"])),
        },
    };
    Ok(Log { level, format })
}

/// A duration within bounds, or the usual one.
pub(super) fn between(
    source: &Source,
    text: Option<&Text>,
    usual: Duration,
    least: Duration,
    most: Duration,
) -> Checked<Duration> {
    let Some(text) = text else {
        return Ok(usual);
    };
    let found = format!("\"{}\"", text.get_ref());
    let parsed = duration::parse(text.get_ref())
        .map_err(|_| source.fault(text.span(), &found, "a duration, like \"90d\", \"1h30m\" or \"500ms\""))?;
    if parsed < least || parsed > most {
        let expected = format!("{} to {}", duration::Written(least), duration::Written(most));
        return Err(source.fault(text.span(), &found, expected));
    }
    Ok(parsed)
}

/// A number within bounds, or the usual one.
fn number<T: PartialOrd + Copy + std::fmt::Display>(
    source: &Source,
    found: Option<Spanned<T>>,
    usual: T,
    least: T,
    most: T,
) -> Checked<T> {
    match found {
        None => Ok(usual),
        Some(found) if *found.get_ref() < least || *found.get_ref() > most => {
            Err(source.fault(found.span(), found.get_ref(), format_args!("{least} to {most}")))
        }
        Some(found) => Ok(found.into_inner()),
    }
}
