//! The command line: nouns, then verbs. What each does is in [`commands`](crate::commands).

use std::{net::SocketAddr, path::PathBuf};

use chancery_ledger::{VerifierKey, verify::RestoreName};
use chancery_pki::{
    KeyKind, Lifetime, Timestamp,
    profile::{NotARequestedAttribute, RequestedAttribute},
};
use chancery_policy::{Claims, Door, Reported};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    config::{duration, v1::LogFormat},
    exit::EXIT_CODES,
    output::Format,
};

/// Chancery, a certificate authority for the inside of a company: ACME over HTTPS, an audit ledger
/// that proves itself, and a policy that says who may have which names.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, after_help = EXIT_CODES, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration [default: ./chancery.toml, then /etc/chancery/chancery.toml]
    #[arg(long, global = true, env = "CHANCERY_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    /// Lines for people, or JSON for programs
    #[arg(long, global = true, env = "CHANCERY_OUTPUT", value_enum, default_value = "text", hide_env_values = true)]
    pub(crate) output: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a data folder with configuration, policy and keys
    #[command(after_help = "Examples:
  chancery init /var/lib/chancery --url https://ca.example.com
  chancery init ./try --development --url https://localhost:14000")]
    Init(InitArgs),
    /// The issuing authority: its CSR, its chain
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Run the server
    #[command(after_help = "Example:
  chancery serve --config /var/lib/chancery/chancery.toml")]
    Serve(ServeArgs),
    /// Look whether everything that the server needs is there and fits; change nothing
    #[command(after_help = "Example:
  chancery check --config /var/lib/chancery/chancery.toml")]
    Check,
    /// The issuance policy
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The audit ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// The store, while the server is stopped
    #[command(subcommand)]
    Store(StoreCommand),
    /// Back up the running server's store into a folder
    #[command(after_help = "Example:
  chancery backup /backup/chancery-2026-11-25")]
    Backup(BackupArgs),
    /// Have the running server take its files again: policy, profiles, directories, zones
    #[command(after_help = "Example:
  chancery reload")]
    Reload,
    /// Certificates of the running server
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Kubernetes clusters that ask the running server: their API tokens
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// ACME accounts of the running server
    #[command(subcommand)]
    Account(AccountCommand),
    /// Keys by which accounts are made (external account binding) on the running server
    #[command(subcommand)]
    Eab(EabCommand),
    /// How the running server is
    #[command(after_help = "Example:
  chancery status --output json")]
    Status,
    /// Print a completion script for a shell
    #[command(after_help = "Example:
  chancery completion bash > /etc/bash_completion.d/chancery")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to make; it must not exist, or be empty
    pub(crate) folder: PathBuf,
    /// The URL under which clients reach the server
    #[arg(long, env = "CHANCERY_URL", default_value = "https://localhost:14000", hide_env_values = true)]
    pub(crate) url: String,
    /// Where to listen [default: every address, on the port of the URL]
    #[arg(long, env = "CHANCERY_LISTEN", value_name = "ADDRESS:PORT", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// The kind of the issuing key
    #[arg(long, value_enum, default_value = "p256")]
    pub(crate) key: IssuingKeyKind,
    /// A file with the passphrase for the key files; without it one is made up and kept in the folder
    #[arg(long, env = "CHANCERY_PASSPHRASE_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Also make a throw-away root, offline beside the folder, and an intermediate under it
    #[arg(long)]
    pub(crate) development: bool,
    /// Where the throw-away root is kept [default: the folder's name with "-offline-root"]
    #[arg(long, value_name = "FOLDER", requires = "development")]
    pub(crate) root_folder: Option<PathBuf>,
}

/// What kinds of issuing key there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IssuingKeyKind {
    P256,
    P384,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Ed25519,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Write the intermediate's CSR, for the offline root to sign
    #[command(after_help = "Example:
  chancery authority csr --subject \"O=Example Corporation, CN=Example Issuing CA 1\" --out issuing.csr")]
    Csr {
        /// The subject that the CSR asks for
        #[arg(long, value_name = "NAME")]
        subject: String,
        /// Where to write it (PEM); "-" is standard output
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
        /// Which authority, where there are several
        #[arg(long, value_name = "ID")]
        authority: Option<String>,
    },
    /// Install the certificate that the root signed
    #[command(after_help = "Example:
  chancery authority install --chain issuing.pem --root root.pem")]
    Install {
        /// The issuing certificate and those above it, in any order (PEM)
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
        /// The root (PEM), if it is not in that file: with it the topmost signature is verified too
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// Which authority, where there are several
        #[arg(long, value_name = "ID")]
        authority: Option<String>,
        /// Replace a chain that is installed already
        #[arg(long)]
        yes: bool,
    },
    /// Show the authorities, their keys and chains
    #[command(after_help = "Example:
  chancery authority show --output json")]
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen, instead of listen.https
    #[arg(long, env = "CHANCERY_LISTEN", value_name = "ADDRESS:PORT", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where to answer health and metrics, instead of listen.plain
    #[arg(long, env = "CHANCERY_PLAIN", value_name = "ADDRESS:PORT", hide_env_values = true)]
    pub(crate) plain: Option<SocketAddr>,
    /// What to log, instead of log.level
    #[arg(long, env = "CHANCERY_LOG_LEVEL", value_name = "LEVEL", hide_env_values = true)]
    pub(crate) log_level: Option<String>,
    /// How to log, instead of log.format
    #[arg(long, env = "CHANCERY_LOG_FORMAT", value_enum, hide_env_values = true)]
    pub(crate) log_format: Option<LogFormat>,
    /// Make the data folder if it is not there, as on a fresh volume; the folder that it lies in must be there
    #[arg(long)]
    pub(crate) make_data_folder: bool,
    /// Make another signer.eab_key where the file is lost: the EAB keys that were given out stop working
    #[arg(long)]
    pub(crate) new_eab_key: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what the policy decides for names and a requester, and why
    #[command(after_help = "Examples:
  chancery policy explain www.example.com '*.apps.example.com' --profile server
  chancery policy explain pay.apps.example.com --key P-256 --lifetime 90d
  chancery policy explain ca.example.com --door own-tls
  chancery policy explain pay.example.com --door mesh --claim namespace=shop --profile server")]
    Explain(Box<ExplainArgs>),
    /// Look whether a policy file would be taken
    #[command(after_help = "Example:
  chancery policy check policy.yaml")]
    Check {
        /// The file [default: the one of the configuration]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The names that would be asked for
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The profile that would be asked for [default: the first that the door offers]
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// The policy file [default: the one of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The door that the request comes in by: acme, cert-manager, kubernetes-signer, mesh, api or own-tls
    #[arg(long, default_value_t = Door::Acme)]
    pub(crate) door: Door,
    /// The ACME directory [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) directory: Option<String>,
    /// The account's id
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) account: Option<String>,
    /// The EAB key that the account was made with
    #[arg(long, value_name = "KEY")]
    pub(crate) eab: Option<String>,
    /// What the requester has proved: its account, eab, cluster, namespace, service-account or user; may be given
    /// several times
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    pub(crate) claims: Vec<Claim>,
    /// What the requester merely says, which a condition alone can read; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    pub(crate) claimed: Vec<Claim>,
    /// What a cluster's controller reports, which a condition alone can read: namespace, name, issuer-kind, issuer,
    /// username, certificate, secret, pod, service-account, node, group, namespace-label.KEY or annotation.KEY; may be
    /// given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = report)]
    pub(crate) reported: Vec<Claim>,
    /// The kind of the certificate's key, as if it were at finalize
    #[arg(long, value_name = "KIND")]
    pub(crate) key: Option<KeyKind>,
    /// How long the certificate would live, such as 90d or 12h, as if it were at finalize
    #[arg(long, value_parser = lifetime)]
    pub(crate) lifetime: Option<Lifetime>,
    /// What the certificate would be used for, in Kubernetes' words such as "client auth"; may be given several times
    /// [default: what the profile gives]
    #[arg(long = "usage", value_name = "WORDS")]
    pub(crate) usages: Vec<String>,
    /// As if a CA's certificate were asked for
    #[arg(long)]
    pub(crate) ca: bool,
    /// An attribute of the subject that would be asked for, such as "O=Example Corporation"; may be given several times
    #[arg(long, value_name = "TYPE=VALUE", value_parser = attribute)]
    pub(crate) subject: Vec<RequestedAttribute>,
    /// When it would be asked for, such as 2026-11-25T10:00:00Z [default: now]
    #[arg(long)]
    pub(crate) time: Option<Timestamp>,
}

/// What is said about a requester.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) name: String,
    pub(crate) value: String,
}

fn claim(text: &str) -> Result<Claim, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as namespace=shop")?;
    Claims::default().set(name, value).map_err(|error| error.to_string())?;
    if value.is_empty() {
        return Err("an empty claim is no claim; leave it out".to_owned());
    }
    Ok(Claim { name: name.to_owned(), value: value.to_owned() })
}

fn report(text: &str) -> Result<Claim, String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as namespace=shop")?;
    Reported::default().set(name, value).map_err(|error| error.to_string())?;
    Ok(Claim { name: name.to_owned(), value: value.to_owned() })
}

fn attribute(text: &str) -> Result<RequestedAttribute, String> {
    let read: RequestedAttribute = text.parse().map_err(|error: NotARequestedAttribute| error.to_string())?;
    if read.kind.stands_for_a_name() {
        return Err(
            "common names and e-mail addresses are names: ask for them as such, like \"cn:Payments CA\"".to_owned()
        );
    }
    if read.value.is_none() {
        return Err("write TYPE=VALUE, such as O=Example Corporation".to_owned());
    }
    Ok(read)
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    let written = duration::parse(text).map_err(|_| "write a number and a unit: w, d, h, m or s, such as 90d")?;
    Lifetime::from_seconds(written.as_secs()).map_err(|error| error.to_string())
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Prove that no record was changed, dropped or moved; also beside a running server
    #[command(after_help = "Examples:
  chancery ledger verify
  chancery ledger verify --checkpoint checkpoint-2026-11-01.txt --verifier-key \"$(cat ledger.key)\"
  chancery ledger verify --accept-restore 20852163:QJIlIh2Sm0hCTBnXbx8f2bhMK8J9GWNzs3qu/6Av0bA=")]
    Verify {
        /// A checkpoint that was kept elsewhere: the ledger must still hold everything it covers
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// The ledger's verifier key as it was kept elsewhere (see ledger key), instead of the one that this machine
        /// holds
        #[arg(long, value_name = "NAME+HASH+KEY")]
        verifier_key: Option<VerifierKey>,
        /// The record of a restore that lost records and that you made; may be given several times
        #[arg(long, value_name = "INDEX:HASH")]
        accept_restore: Vec<RestoreName>,
    },
    /// Print the key that checkpoints are verified with, to keep it elsewhere
    #[command(after_help = "Example:
  chancery ledger key > ledger.key")]
    Key,
    /// Show one record
    #[command(after_help = "Example:
  chancery ledger show 0")]
    Show {
        /// Its index, counted from 0
        index: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Make the index anew from the ledger
    #[command(after_help = "Example:
  chancery store rebuild --yes")]
    Rebuild {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Bring a backup back into an empty store folder
    #[command(after_help = "Example:
  chancery store restore /backup/chancery-2026-11-25 --with-bundles /old-disk/chancery/store")]
    Restore {
        /// The backup's folder
        backup: PathBuf,
        /// A folder with newer bundles of the same ledger, to recover what the backup lacks
        #[arg(long, value_name = "FOLDER")]
        with_bundles: Option<PathBuf>,
        /// The newest checkpoint that was kept elsewhere: what it covers beyond the backup is reported as lost
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The folder to make; it must not exist, or be empty
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateCommand {
    /// List certificates
    #[command(after_help = "Examples:
  chancery certificate list --name www.example.com
  chancery certificate list --below apps.example.com --output json
  chancery certificate list --expires-before 2026-12-31T00:00:00Z
  chancery certificate list --cluster prod-eu --namespace payments")]
    List(CertificateListArgs),
    /// Show one certificate
    #[command(after_help = "Example:
  chancery certificate show 3f1c9a77e0d24b5c8f00aa11bb22cc33")]
    Show {
        /// Its id or its serial number
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Print every certificate ever signed as PEM; those possibly signed are marked
    #[command(after_help = "Example:
  chancery certificate export > certificates.pem")]
    Export,
    /// Revoke a certificate
    #[command(after_help = "Example:
  chancery certificate revoke 3f1c9a77e0d24b5c8f00aa11bb22cc33 --reason keyCompromise --yes")]
    Revoke {
        /// Its id or its serial number
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why (RFC 5280 §5.3.1)
        #[arg(long, value_enum)]
        reason: Option<Reason>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// The reasons that may be given (RFC 5280 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub(crate) enum Reason {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

#[derive(Debug, Args)]
pub(crate) struct CertificateListArgs {
    /// Those that hold this name, letter for letter
    #[arg(long, group = "which")]
    pub(crate) name: Option<String>,
    /// Those that hold a DNS name at or below this one
    #[arg(long, group = "which", value_name = "DOMAIN")]
    pub(crate) below: Option<String>,
    /// Those of this account
    #[arg(long, group = "which", value_name = "ID", allow_hyphen_values = true)]
    pub(crate) account: Option<String>,
    /// Those with this key: SHA-256 of its SubjectPublicKeyInfo, hexadecimal
    #[arg(long, group = "which", value_name = "SHA256")]
    pub(crate) key: Option<String>,
    /// Those that end before this time (RFC 3339), the earliest first
    #[arg(long, group = "which", value_name = "TIME")]
    pub(crate) expires_before: Option<String>,
    /// Those that this Kubernetes cluster asked for
    #[arg(long, group = "which", value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Of those, the ones of this namespace
    #[arg(long, requires = "cluster", value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Of those, the ones of this Certificate
    #[arg(long, requires = "namespace", value_name = "NAME")]
    pub(crate) certificate: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EabCommand {
    /// Make a key for a team; its secret is shown once, as certbot, lego and cert-manager want it
    #[command(after_help = "Examples:
  chancery eab create payments --directory teams --owner \"Payments, on call 4711\"
  chancery eab create payments-k8s --directory teams --owner Payments --accounts 3 --expires-in 7d \\
    --name '**.pay.example.com' --wildcard '*.pay.example.com' --profile server")]
    Create(EabCreateArgs),
    /// List the keys, those that ended too
    #[command(after_help = "Example:
  chancery eab list --output json")]
    List {
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one key, without its secret
    #[command(after_help = "Example:
  chancery eab show payments")]
    Show {
        /// Its id
        id: String,
    },
    /// Give a key other limits; they hold for the accounts that it made, too
    #[command(after_help = "Examples:
  chancery eab limit payments --accounts 5
  chancery eab limit payments --name '**.pay.example.com' --expires-in 30d
  chancery eab limit payments --any-name --any-profile")]
    Limit(EabLimitArgs),
    /// Revoke a key: no account is made with it any more
    #[command(after_help = "Examples:
  chancery eab revoke payments --yes
  chancery eab revoke payments --accounts --yes")]
    Revoke {
        /// Its id
        id: String,
        /// Stop the accounts that it made, too: they can do nothing any more, and their open orders become invalid
        #[arg(long)]
        accounts: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EabCreateArgs {
    /// Its id, the kid of bindings and what a policy's eab is compared with [default: one of chance]
    pub(crate) id: Option<String>,
    /// The ACME directory it is for [default: the only one that takes such keys]
    #[arg(long, value_name = "NAME")]
    pub(crate) directory: Option<String>,
    /// Whose it is, in one line
    #[arg(long)]
    pub(crate) owner: String,
    #[command(flatten)]
    pub(crate) names: EabNamesArgs,
    /// A profile that its accounts may ask for; may be given several times [default: those of the directory]
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
    /// How many accounts may be made with it
    #[arg(long, default_value_t = 1)]
    pub(crate) accounts: u64,
    /// How long accounts may be made with it, such as 30d or 12h
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = life)]
    pub(crate) expires_in: std::time::Duration,
}

/// The names that a key is limited to, in the patterns of a policy.
#[derive(Debug, Args)]
pub(crate) struct EabNamesArgs {
    /// Names that its accounts may have, such as pay.example.com or **.pay.example.com; may be given several times
    /// [default: those that policy allows]
    #[arg(long = "name", value_name = "PATTERN")]
    pub(crate) names: Vec<String>,
    /// A wildcard name that they may have, letter for letter; may be given several times
    #[arg(long = "wildcard", value_name = "NAME")]
    pub(crate) wildcards: Vec<String>,
    /// A range of addresses that they may have; may be given several times
    #[arg(long = "address", value_name = "RANGE")]
    pub(crate) addresses: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EabLimitArgs {
    /// Its id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) names: EabNamesArgs,
    /// Leave the names to policy alone
    #[arg(long, conflicts_with_all = ["names", "wildcards", "addresses"])]
    pub(crate) any_name: bool,
    /// A profile that its accounts may ask for; may be given several times
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
    /// Leave the profiles to the directory alone
    #[arg(long, conflicts_with = "profiles")]
    pub(crate) any_profile: bool,
    /// How many accounts may be made with it, in all
    #[arg(long)]
    pub(crate) accounts: Option<u64>,
    /// How long from now accounts may be made with it, such as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub(crate) expires_in: Option<std::time::Duration>,
}

fn life(text: &str) -> Result<std::time::Duration, String> {
    duration::parse(text).map_err(|_| "write a number and a unit: w, d, h, m or s, such as 30d".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// API tokens, with which a cluster's controller asks
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once
    #[command(after_help = "Examples:
  chancery cluster token create prod-eu --comment \"chancery-issuer of prod-eu\"
  chancery cluster token create prod-eu --namespace payments --name '**.payments.example.com' --lifetime 30d")]
    Create(TokenCreateArgs),
    /// List the tokens, those that ended lately too; never a token itself
    #[command(after_help = "Example:
  chancery cluster token list --output json")]
    List {
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Revoke a token: from the next request on it is not taken any more
    #[command(after_help = "Example:
  chancery cluster token revoke 8q7AbX294gOLUJnBRkuRgQ --yes")]
    Revoke {
        /// Its id
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// The cluster that it is to speak for, as the configuration names it
    pub(crate) cluster: String,
    /// What it is for, one line
    #[arg(long, default_value = "")]
    pub(crate) comment: String,
    /// How long it is to hold, such as 90d or 12h
    #[arg(long, value_parser = lifetime, default_value = "365d")]
    pub(crate) lifetime: Lifetime,
    /// A namespace that it is to speak for; may be given several times [default: all]
    #[arg(long = "namespace", value_name = "NAME")]
    pub(crate) namespaces: Vec<String>,
    /// A profile that may be asked for with it; may be given several times [default: the cluster's]
    #[arg(long = "profile", value_name = "NAME")]
    pub(crate) profiles: Vec<String>,
    /// A pattern of names that may be asked for with it, as a policy writes it; may be given several times [default: any]
    #[arg(long = "name", value_name = "PATTERN")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List accounts
    #[command(after_help = "Example:
  chancery account list --output json")]
    List {
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}
