//! What the certificates hold that Kubernetes' requesters ask for: subject, usages, CA, life, each only by profile and
//! policy; and the cases of cert-manager's conformance suite, as far as the content of the certificate goes.
#![expect(clippy::panic, reason = "a helper that fails fails its test")]

mod asked;
mod conformance;
mod pods;
mod refused;

use std::{collections::BTreeSet, sync::Arc};

use chancery_authority::{
    Authority, Refusal, Settings,
    issue_once::{IssueOnce, Once},
};
use chancery_pki::{
    Content, Csr, CsrRules, KeyKind, Lifetime, Usages,
    profile::{CaSpec, ConstrainedKind, ExtendedKeyUsage, KeyUsage, NameKind, Profile, ProfileSpec, SubjectPolicy},
};
use chancery_policy::{Door, Format, Policy, Reported, Requester};
use chancery_testkit::office::TestOffice;
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use asked::Asked;

/// What a cluster may have: hosts below `test`, mailboxes, principal names, workloads, common names; and CAs for `ca.test`.
const CLUSTER_POLICY: &str = r#"version: v1
rules:
  - name: hosts
    allow:
      names: ["**.test", "*.foo-long.bar.com", "**.foo-long.bar.com"]
      wildcards: ["*.a.test", "*.b.foo-long.bar.com"]
      addresses: [10.0.0.0/8, 127.0.0.0/8]
      spiffe: ["spiffe://cluster.local/ns/*/sa/*"]
      uris: ["https://id.test/teams/*"]
      emails: ["alice@example.com", "*@domain.test"]
      other_names: ["1.3.6.1.4.1.311.20.2.3:*@domain.test", "1.3.6.1.4.1.311.20.2.3:*@domain2.test"]
      common_names: ["test-common-name-*", "someCN"]
      subject: ["O=Corp.", "OU=*"]
  - name: cas
    allow: { names: ["**.test"], common_names: ["Payments CA"], ca: true }
  - name: not-this-one
    deny: { names: ["denied.test"] }
    because: nobody gets this name
  - name: no-client-certificates-for-b
    deny: { names: ["b.test"] }
    when: '"client auth" in request.usages'
"#;

/// The profile that a platform team gives to its clusters: `docs/samples/chancery.toml` has it too.
fn kubernetes() -> ProfileSpec {
    let life = |hours: u64| Lifetime::from_seconds(hours * 3600).unwrap();
    ProfileSpec {
        name: "kubernetes".to_owned(),
        lifetime: life(90 * 24),
        lifetime_max: life(90 * 24),
        backdate: std::time::Duration::from_secs(60),
        key_kinds: KeyKind::ALL.to_vec(),
        name_kinds: NameKind::ALL.to_vec(),
        key_usages: vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment],
        extended_key_usages: vec![ExtendedKeyUsage::ServerAuth],
        requested_key_usages: vec![KeyUsage::DataEncipherment, KeyUsage::KeyAgreement],
        requested_extended_key_usages: vec![ExtendedKeyUsage::ClientAuth],
        ca: Some(CaSpec {
            permitted_dns: vec!["test".to_owned()],
            permitted_ips: vec!["10.0.0.0/8".parse().unwrap()],
            unconstrained: vec![ConstrainedKind::Email, ConstrainedKind::Uri],
            ..CaSpec::default()
        }),
        subject: SubjectPolicy::Requested,
        requested_attributes: ["O", "OU", "C=DE"].map(|text| text.parse().unwrap()).to_vec(),
        ..ProfileSpec::server()
    }
}

/// An office with that policy and the profiles `kubernetes` and `server`, the latter as ACME has it.
async fn office() -> TestOffice {
    office_with(CLUSTER_POLICY, kubernetes()).await
}

async fn office_with(policy: &str, profile: ProfileSpec) -> TestOffice {
    let ca = TestOffice::default();
    let old = ca.office.settings();
    let Authority { id, key, algorithm, chains } = &**old.authorities.first().unwrap();
    let authority = Authority { id: id.clone(), key: key.clone(), algorithm: *algorithm, chains: chains.clone() };
    let mut profiles = old.profiles.clone();
    profiles.insert(profile.name.clone(), Arc::new(Profile::new(profile).unwrap()));
    let settings = Settings {
        clusters: old.clusters.clone(),
        authorities: vec![Arc::new(authority)],
        directories: old.directories.clone(),
        profiles,
        policy: Arc::new(Policy::parse(policy, Format::Yaml, "policy.yaml").unwrap()),
        block_list: Arc::clone(&old.block_list),
        own_tls: None,
        ledger: old.ledger.clone(),
        limits: old.limits.clone(),
    };
    ca.office.replace_settings(settings, "a test").await.unwrap();
    ca
}

/// What a controller makes of an object: as the Kubernetes door does.
fn request(asked: &Asked, csr: &Csr) -> Result<IssueOnce, String> {
    let mut requester = Requester { door: Door::CertManager, ..Requester::own_tls() };
    requester.proven.cluster = Some("prod-eu".to_owned());
    let usages = Usages::from_words(asked.usages.iter().copied()).map_err(|error| error.to_string())?;
    let content = Content::of_object(csr, usages, asked.is_ca).map_err(|error| error.to_string())?;
    Ok(IssueOnce {
        credential: "prod-eu".to_owned(),
        uid: asked.uid.clone(),
        authority: "issuing".parse().unwrap(),
        profile: asked.profile.to_owned(),
        asked_profile: Some(asked.profile.to_owned()),
        requester,
        tenant: None,
        names: csr.names().cloned().ok_or("the CSR asks for no name")?,
        public_key: csr.public_key().clone(),
        not_before: None,
        not_after: None,
        lifetime: asked.seconds.map(|seconds| Lifetime::from_seconds(seconds).unwrap()),
        content,
    })
}

/// The certificate that is issued for what is asked, in DER; or why none is, in words.
async fn issue(ca: &TestOffice, asked: &Asked) -> Result<Vec<u8>, String> {
    issue_reporting(ca, asked, Reported::default()).await
}

/// The same, with what a controller reports.
async fn issue_reporting(ca: &TestOffice, asked: &Asked, reported: Reported) -> Result<Vec<u8>, String> {
    let der = asked.csr();
    let csr = Csr::from_der_by(&der, CsrRules::Object).map_err(|error| error.to_string())?;
    let mut request = request(asked, &csr)?;
    request.requester.reported = Some(Arc::new(reported));
    let once = ca.office.issue_once(request).await;
    match once {
        Ok(Once::Issued { chain, .. }) => Ok(chain.certificate),
        Ok(once) => panic!("{once:?}"),
        Err(Refusal::Rejected(rejection)) => Err(rejection.to_string()),
        Err(Refusal::Failed(failure)) => panic!("{failure}"),
    }
}

/// What a certificate holds, as x509-parser reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    subject: String,
    names: BTreeSet<String>,
    critical_names: Option<bool>,
    usages: BTreeSet<&'static str>,
    purposes: BTreeSet<String>,
    ca: Option<Option<u32>>,
    seconds: i64,
}

fn held(der: &[u8]) -> Held {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    let validity = certificate.validity();
    let mut held = Held {
        subject: certificate.subject().to_string(),
        seconds: validity.not_after.timestamp() - validity.not_before.timestamp() + 1,
        ..Held::default()
    };
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(san) => {
                held.critical_names = Some(extension.critical);
                held.names = san.general_names.iter().map(shown).collect();
            }
            ParsedExtension::KeyUsage(usage) => {
                let all = [
                    ("digitalSignature", usage.digital_signature()),
                    ("nonRepudiation", usage.non_repudiation()),
                    ("keyEncipherment", usage.key_encipherment()),
                    ("dataEncipherment", usage.data_encipherment()),
                    ("keyAgreement", usage.key_agreement()),
                    ("keyCertSign", usage.key_cert_sign()),
                    ("cRLSign", usage.crl_sign()),
                    ("encipherOnly", usage.encipher_only()),
                    ("decipherOnly", usage.decipher_only()),
                ];
                held.usages = all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                let known = [("serverAuth", usage.server_auth), ("clientAuth", usage.client_auth)];
                held.purposes = known.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned()).collect();
                held.purposes.extend(usage.other.iter().map(Oid::to_id_string));
                assert!(!usage.any && !usage.ocsp_signing);
            }
            ParsedExtension::BasicConstraints(basic) => held.ca = basic.ca.then_some(basic.path_len_constraint),
            _ => {}
        }
    }
    held
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) => format!("dns:{text}"),
        GeneralName::URI(text) => format!("uri:{text}"),
        GeneralName::RFC822Name(text) => format!("email:{text}"),
        GeneralName::IPAddress(octets) => format!("ip:{octets:?}"),
        // [0] EXPLICIT UTF8String, both lengths in one octet.
        GeneralName::OtherName(kind, value) => {
            format!("other:{}:{}", kind.to_id_string(), String::from_utf8_lossy(value.get(4..).unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

fn set<T: Ord + Clone>(items: &[T]) -> BTreeSet<T> {
    items.iter().cloned().collect()
}

fn texts(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}
