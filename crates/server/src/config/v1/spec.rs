//! What stands in the file, letter for letter. Every key is documented in `docs/samples/chancery.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    pub(super) version: Text,
    pub(super) data: Option<Text>,
    pub(super) listen: ListenSpec,
    #[serde(default)]
    pub(super) tls: TlsSpec,
    #[serde(default)]
    pub(super) authority: Vec<Spanned<AuthoritySpec>>,
    #[serde(default)]
    pub(super) signer: SignerSpec,
    #[serde(default)]
    pub(super) directory: Vec<Spanned<DirectorySpec>>,
    #[serde(default)]
    pub(super) cluster: Vec<Spanned<ClusterSpec>>,
    #[serde(default)]
    pub(super) profile: Vec<Spanned<ProfileSpec>>,
    pub(super) policy: PolicySpec,
    #[serde(default)]
    pub(super) zone: Vec<Spanned<ZoneSpec>>,
    #[serde(default)]
    pub(super) validation: ValidationSpec,
    #[serde(default)]
    pub(super) limits: LimitsSpec,
    #[serde(default)]
    pub(super) ledger: LedgerSpec,
    #[serde(default)]
    pub(super) log: LogSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenSpec {
    pub(super) url: Text,
    pub(super) https: Option<Text>,
    pub(super) plain: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSpec {
    pub(super) names: Option<Vec<Text>>,
    pub(super) authority: Option<Text>,
    pub(super) profile: Option<Text>,
    pub(super) certificate: Option<Text>,
    pub(super) key: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthoritySpec {
    pub(super) id: Text,
    pub(super) key: Text,
    pub(super) chains: Spanned<Vec<Text>>,
    #[serde(default)]
    pub(super) development: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignerSpec {
    pub(super) passphrase: Option<Spanned<PassphraseSpec>>,
    pub(super) blocked_keys: Option<Text>,
    pub(super) eab_key: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "one of: { file = \"PATH\" }, { env = \"VARIABLE\" }, { credential = \"NAME\" }"
)]
pub(super) struct PassphraseSpec {
    pub(super) file: Option<Text>,
    pub(super) env: Option<Text>,
    pub(super) credential: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectorySpec {
    pub(super) name: Text,
    pub(super) tenant: Option<Text>,
    pub(super) authority: Text,
    pub(super) profiles: Spanned<Vec<Text>>,
    pub(super) external_account: Option<Text>,
    pub(super) preauthorized: Option<Spanned<bool>>,
    pub(super) challenges: Option<Spanned<Vec<Text>>>,
    pub(super) terms_of_service: Option<Text>,
    pub(super) website: Option<Text>,
    #[serde(default)]
    pub(super) caa_identities: Vec<Text>,
    pub(super) order_lifetime: Option<Text>,
    pub(super) authorization_lifetime: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterSpec {
    pub(super) name: Text,
    pub(super) authority: Text,
    pub(super) profiles: Spanned<Vec<Text>>,
    pub(super) tenant: Option<Text>,
    pub(super) namespaces: Option<Spanned<Vec<Text>>>,
    pub(super) names: Option<Spanned<Vec<Text>>>,
    pub(super) token: Option<Spanned<ClusterTokenSpec>>,
    pub(super) client_certificates: Option<Spanned<ClientCertificatesSpec>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTokenSpec {
    pub(super) issuer: Text,
    pub(super) audience: Text,
    #[serde(default)]
    pub(super) accounts: Vec<Text>,
    pub(super) own_namespace_account: Option<Text>,
    pub(super) own_namespace_profiles: Option<Spanned<Vec<Text>>>,
    pub(super) own_namespace_names: Option<Spanned<Vec<Text>>>,
    pub(super) check: Option<Text>,
    pub(super) keys: Option<Text>,
    pub(super) api_server: Option<Text>,
    pub(super) api_server_ca: Option<Text>,
    pub(super) api_server_token: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCertificatesSpec {
    pub(super) ca: Text,
    pub(super) names: Spanned<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileSpec {
    pub(super) name: Text,
    pub(super) description: Option<Text>,
    pub(super) lifetime: Option<Text>,
    pub(super) lifetime_max: Option<Text>,
    pub(super) lifetime_min: Option<Text>,
    pub(super) backdate: Option<Text>,
    pub(super) keys: Option<Vec<Text>>,
    pub(super) names: Option<Vec<Text>>,
    pub(super) key_usages: Option<Vec<Text>>,
    pub(super) extended_key_usages: Option<Vec<Text>>,
    #[serde(default)]
    pub(super) requested_key_usages: Vec<Text>,
    #[serde(default)]
    pub(super) requested_extended_key_usages: Vec<Text>,
    pub(super) ca: Option<CaSpec>,
    pub(super) subject: Option<Text>,
    pub(super) subject_attributes: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub(super) requested_attributes: Vec<Text>,
    pub(super) policies: Option<Vec<Text>>,
    pub(super) ca_issuers: Option<Vec<Text>>,
    pub(super) ocsp: Option<Vec<Text>>,
    pub(super) crl: Option<CrlSpec>,
    #[serde(default)]
    pub(super) must_staple: bool,
    pub(super) records: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaSpec {
    #[serde(default)]
    pub(super) path_len: u8,
    #[serde(default)]
    pub(super) permitted_dns: Vec<Text>,
    #[serde(default)]
    pub(super) excluded_dns: Vec<Text>,
    #[serde(default)]
    pub(super) permitted_ips: Vec<Text>,
    #[serde(default)]
    pub(super) excluded_ips: Vec<Text>,
    #[serde(default)]
    pub(super) permitted_emails: Vec<Text>,
    #[serde(default)]
    pub(super) excluded_emails: Vec<Text>,
    #[serde(default)]
    pub(super) permitted_uris: Vec<Text>,
    #[serde(default)]
    pub(super) excluded_uris: Vec<Text>,
    #[serde(default)]
    pub(super) forbidden: Vec<Text>,
    #[serde(default)]
    pub(super) unconstrained: Vec<Text>,
    #[serde(default)]
    pub(super) extended_key_usages: Vec<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrlSpec {
    pub(super) url: Text,
    pub(super) shards: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicySpec {
    pub(super) file: Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZoneSpec {
    pub(super) name: Text,
    #[serde(default)]
    pub(super) domains: Vec<Text>,
    #[serde(default)]
    pub(super) networks: Vec<Text>,
    #[serde(default)]
    pub(super) only: Vec<Text>,
    #[serde(default)]
    pub(super) allow: Vec<Text>,
    #[serde(default)]
    pub(super) deny: Vec<Text>,
    #[serde(default)]
    pub(super) resolvers: Vec<Text>,
    #[serde(default)]
    pub(super) fixed_hosts: BTreeMap<String, Vec<Text>>,
    pub(super) http_port: Option<u16>,
    pub(super) https_port: Option<u16>,
    pub(super) tls_alpn_port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidationSpec {
    pub(super) time: Option<Text>,
    pub(super) answer_wait: Option<Text>,
    pub(super) at_once: Option<Spanned<usize>>,
    pub(super) at_once_per_target: Option<Spanned<usize>>,
    pub(super) connect_timeout: Option<Text>,
    pub(super) lookup_timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSpec {
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) connections_per_address: Option<Spanned<usize>>,
    pub(super) requests_at_once: Option<Spanned<usize>>,
    pub(super) arriving_requests_per_address: Option<Spanned<usize>>,
    pub(super) waiting_answers: Option<Spanned<usize>>,
    pub(super) waiting_answers_per_account: Option<Spanned<usize>>,
    pub(super) handshake_timeout: Option<Text>,
    pub(super) header_timeout: Option<Text>,
    pub(super) body_timeout: Option<Text>,
    pub(super) stop_timeout: Option<Text>,
    pub(super) new_accounts_per_address_per_hour: Option<Spanned<u32>>,
    pub(super) orders_per_account_per_hour: Option<Spanned<u32>>,
    pub(super) cluster_requests_at_once: Option<Spanned<usize>>,
    pub(super) requests_per_credential_per_second: Option<Spanned<u32>>,
    pub(super) pending_orders_per_account: Option<Spanned<u64>>,
    pub(super) unproven_accounts: Option<Spanned<u64>>,
    pub(super) unproven_account_lifetime: Option<Text>,
    pub(super) eab_keys: Option<Spanned<u64>>,
    pub(super) keep_ended_eab_keys: Option<Text>,
    pub(super) work_at_once: Option<Spanned<usize>>,
    pub(super) settle_after: Option<Text>,
    pub(super) keep_ended_orders: Option<Text>,
    pub(super) keep_expired_certificates: Option<Text>,
    pub(super) keep_expired_light: Option<Text>,
    pub(super) issuer_alarm: Option<Text>,
    pub(super) documentation: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LedgerSpec {
    pub(super) key: Option<Text>,
    pub(super) origin: Option<Text>,
    pub(super) checkpoint_every: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogSpec {
    pub(super) level: Option<Text>,
    pub(super) format: Option<Text>,
}
