//! The command line. Each setting of `run` is a flag and an environment variable.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use url::Url;

use crate::{
    discovery::Feature,
    renew::Renew,
    resource::{self, RateLimit, go_duration},
};

/// cert-manager issuer in front of a Chancery server.
#[derive(Debug, Parser)]
#[command(name = "chancery-issuer", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve CertificateRequests that refer to a ChanceryIssuer or ChanceryClusterIssuer
    Run(Box<Run>),
    /// Print the custom resource definitions as YAML
    Crds,
    /// Have every Certificate of chosen issuers renewed, at a chosen pace, as after a change of the root
    Renew(Box<Renew>),
}

/// Settings of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Namespace where the Secrets, ConfigMaps and service accounts of cluster issuers lie [default: own namespace]
    #[arg(long, env = "CHANCERY_ISSUER_CLUSTER_RESOURCE_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) cluster_resource_namespace: Option<String>,
    /// Own namespace, where the lease lies [default: that of the kubeconfig or of the pod]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Name of this process among others that may lead [default: the host's name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// A server that issuers of a namespace may name; give it once for each. Without any, none of them works
    #[arg(
        long = "allowed-server",
        env = "CHANCERY_ISSUER_ALLOWED_SERVERS",
        value_name = "URL",
        value_delimiter = ',',
        value_parser = https
    )]
    pub(crate) allowed_servers: Vec<Url>,
    /// Audience of the tokens that are minted for servers
    #[arg(long, env = "CHANCERY_ISSUER_TOKEN_AUDIENCE", value_name = "AUDIENCE", default_value = "chancery")]
    pub(crate) token_audience: String,
    /// A special range of addresses that servers may be reached at, such as 127.0.0.0/8; give it once for each
    #[arg(long = "allow-address", env = "CHANCERY_ISSUER_ALLOW_ADDRESSES", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) allow_addresses: Vec<IpNet>,
    /// An address of a server that DNS is not asked for, such as ca.corp.example=10.0.0.7; give it once for each
    #[arg(
        long = "fixed-host",
        env = "CHANCERY_ISSUER_FIXED_HOSTS",
        value_name = "NAME=ADDRESS",
        value_delimiter = ',',
        value_parser = fixed_host
    )]
    pub(crate) fixed_hosts: Vec<(String, IpAddr)>,
    /// A DNS server to ask, address and port; give it once for each [default: the system's]
    #[arg(long = "resolver", env = "CHANCERY_ISSUER_RESOLVERS", value_name = "ADDRESS", value_delimiter = ',')]
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Work without asking others: for a single replica
    #[arg(long, env = "CHANCERY_ISSUER_NO_LEADER_ELECTION")]
    pub(crate) no_leader_election: bool,
    /// Name of the lease
    #[arg(long, env = "CHANCERY_ISSUER_LEASE_NAME", value_name = "NAME", default_value = "chancery-issuer")]
    pub(crate) lease_name: String,
    /// Where /healthz, /readyz and /metrics answer, in plain HTTP
    #[arg(long, env = "CHANCERY_ISSUER_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9402")]
    pub(crate) listen: SocketAddr,
    /// Write the address that is listened on into this file, for port 0
    #[arg(long, env = "CHANCERY_ISSUER_LISTEN_FILE", value_name = "FILE", hide = true)]
    pub(crate) listen_file: Option<PathBuf>,
    /// How log lines look
    #[arg(long, env = "CHANCERY_ISSUER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level, or target=level, separated by commas
    #[arg(long, env = "CHANCERY_ISSUER_LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub(crate) log_level: String,
    /// How often an issuer's server is asked each second, where the issuer does not say
    #[arg(
        long,
        env = "CHANCERY_ISSUER_REQUESTS_PER_SECOND",
        value_name = "NUMBER",
        default_value = "200",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(crate) requests_per_second: u32,
    /// How often at once after a pause, where the issuer does not say
    #[arg(
        long,
        env = "CHANCERY_ISSUER_BURST",
        value_name = "NUMBER",
        default_value = "200",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(crate) burst: u32,
    /// Requests that servers are asked for at a time; one issuer has half of these places at most
    #[arg(
        long,
        env = "CHANCERY_ISSUER_CONCURRENCY",
        value_name = "NUMBER",
        default_value = "64",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub(crate) concurrency: u16,
    /// Requests that are kept in memory, of 4 KiB each; more wait in the API server
    #[arg(
        long,
        env = "CHANCERY_ISSUER_MAX_ACTIVE",
        value_name = "NUMBER",
        default_value = "20000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) max_active: u32,
    /// What is served beside cert-manager's requests; give it once for each. Each needs rights of its own
    #[arg(long = "feature", env = "CHANCERY_ISSUER_FEATURES", value_name = "FEATURE", value_delimiter = ',')]
    pub(crate) features: Vec<Feature>,
    /// Name of the ConfigMap with roots in each namespace with the label chancery.dev/roots
    #[arg(
        long,
        env = "CHANCERY_ISSUER_ROOT_CONFIG_MAP",
        value_name = "NAME",
        default_value = "chancery-roots",
        value_parser = config_map_name
    )]
    pub(crate) root_config_map: String,
    /// For how long a request stays unapproved before an event says what is missing, such as 5m
    #[arg(
        long,
        env = "CHANCERY_ISSUER_UNAPPROVED_AFTER",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = duration
    )]
    pub(crate) unapproved_after: Duration,
    /// For how long after its approval a request is tried again before it fails, such as 1h
    #[arg(
        long,
        env = "CHANCERY_ISSUER_RETRY_BUDGET",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = duration
    )]
    pub(crate) retry_budget: Duration,
}

impl Run {
    /// The limit of an issuer that does not say its own.
    pub(crate) const fn rate(&self) -> RateLimit {
        RateLimit { requests_per_second: self.requests_per_second, burst: Some(self.burst) }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(settings) => crate::run::run(*settings),
        Command::Renew(settings) => crate::renew::renew(&settings),
        Command::Crds => definitions_as_yaml()
            .and_then(|yaml| std::io::stdout().write_all(yaml.as_bytes()).map_err(|error| error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _nobody_listens = writeln!(std::io::stderr(), "chancery-issuer: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Our custom resource definitions as YAML, one document each.
///
/// # Errors
///
/// None that a definition of ours can lead to; in words.
pub fn definitions_as_yaml() -> Result<String, String> {
    let mut yaml = String::new();
    for definition in resource::definitions() {
        yaml.push_str("---\n");
        yaml.push_str(&serde_saphyr::to_string(&definition).map_err(|error| error.to_string())?);
    }
    Ok(yaml)
}

fn https(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if url.scheme() == "https" && url.host().is_some() && url.username().is_empty() && url.query().is_none() {
        Ok(url)
    } else {
        Err("an https URL without user and query is wanted".to_owned())
    }
}

fn fixed_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("NAME=ADDRESS is wanted")?;
    Ok((name.to_owned(), address.parse().map_err(|error| format!("{error}"))?))
}

/// A DNS subdomain (RFC 1123), as names of ConfigMaps are.
fn config_map_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let fits = text.len() <= 253 && text.split('.').all(label);
    if fits { Ok(text.to_owned()) } else { Err("lower-case letters, digits, dots and hyphens are wanted".to_owned()) }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    go_duration(text).ok_or_else(|| "a duration such as 90s, 30m or 1h is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_those_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds/chancery-issuer.yaml");
        let committed = std::fs::read_to_string(path).expect("it is committed");
        let printed = definitions_as_yaml().expect("YAML");
        assert!(
            committed == printed,
            "deploy/crds/chancery-issuer.yaml differs; write it anew: chancery-issuer crds > deploy/crds/chancery-issuer.yaml"
        );
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
