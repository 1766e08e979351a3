//! A whole authority in memory: one issuer, one ACME directory, a policy, and everything in a test's hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::{
    account::Account,
    authorization::Authorization,
    challenge::ChallengeKind,
    order::{Order, OrderState},
};
use chancery_authority::{
    Authority, Cluster, Directory, Limits, Office, OwnTls, Ports, Settings,
    api_token::MakeApiToken,
    checkpoint::LedgerSettings,
    credential::{Credential, Presented},
    eab_keys::{MadeEabKey, MakeEabKey},
    place_order::PlaceOrder,
    ports::{KeyId, Signer as _, Store},
    records::{EabLimits, Job},
    register_account::{PresentedBinding, RegisterAccount},
    settings::ExternalAccountRule,
};
use chancery_pki::{
    Csr, KeyKind, Lifetime, Name, NameSet, PublicKey, SerialNumber, SignatureAlgorithm, Timestamp,
    ceremony::{development_intermediate, development_root},
    chain::install,
    distinguished_name::{Attribute, AttributeKind, DistinguishedName},
    key::BlockList,
    profile::{Profile, ProfileSpec},
};
use chancery_policy::{Format, Policy};
use secrecy::SecretString;

use crate::{
    memory::MemoryStore,
    ports::{SeededEntropy, TestClock, TestIdentity, TestSigner, TestValidator},
};

/// The policy of a test authority: everything under `test` but `denied.test`.
pub const POLICY: &str = r#"version: v1
rules:
  - name: test-names
    allow: { names: ["**.test"], wildcards: ["*.wild.test"] }
  - name: not-this-one
    deny: { names: ["denied.test"] }
    because: nobody gets this name
"#;

/// How long the issuer of a test authority lives.
pub const ISSUER_LIFE: Duration = Duration::from_secs(3650 * 86_400);

/// A whole authority in memory.
pub struct TestOffice {
    /// The use cases.
    pub office: Office,
    /// The store.
    pub store: Arc<MemoryStore>,
    /// The signer.
    pub signer: Arc<TestSigner>,
    /// The validator.
    pub validator: Arc<TestValidator>,
    /// The clock.
    pub clock: Arc<TestClock>,
    policy: String,
    chain: Vec<Vec<u8>>,
    limits: Limits,
    /// See [`TestOffice::with_teams`].
    teams: bool,
}

impl Default for TestOffice {
    fn default() -> Self {
        Self::new(POLICY, Limits::default())
    }
}

impl TestOffice {
    /// An authority with this policy and these limits; its issuer is a root of its own.
    #[must_use]
    pub fn new(policy: &str, limits: Limits) -> Self {
        Self::made(policy, limits, |signer, issuing, name| {
            let serial = SerialNumber::from_random([1; 16]);
            let document = development_root(name, issuing, serial, TestClock::START, ISSUER_LIFE);
            vec![document.assemble(&signer.sign_directly("issuing", document.body()))]
        })
    }

    /// The same below a root that ends before its issuer does.
    #[must_use]
    pub fn under_a_root_of(life: Duration) -> Self {
        Self::made(POLICY, Limits::default(), |signer, issuing, name| {
            let root_name = named("Test Root");
            let root_key = signer.public_key(&KeyId("root".into())).expect("made for every office");
            let serial = SerialNumber::from_random([2; 16]);
            let root = development_root(&root_name, &root_key, serial, TestClock::START, life);
            let serial = SerialNumber::from_random([1; 16]);
            let issuer =
                development_intermediate(name, issuing, (&root_name, &root_key), serial, TestClock::START, ISSUER_LIFE);
            [issuer, root].map(|document| document.assemble(&signer.sign_directly("root", document.body()))).to_vec()
        })
    }

    /// The same below a root that permits no subject of this common name.
    #[must_use]
    pub fn excluding_subject(common_name: &str) -> Self {
        Self::made(POLICY, Limits::default(), |_, issuing, _| {
            let named = |text: &str| {
                let mut name = rcgen::DistinguishedName::new();
                name.push(rcgen::DnType::CommonName, text);
                name
            };
            let of_a_ca = |text: &str| {
                let mut params = rcgen::CertificateParams::default();
                params.distinguished_name = named(text);
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
                params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
                params.use_authority_key_identifier_extension = true;
                params
            };
            let pair = rcgen::KeyPair::generate().expect("a key");
            let root = of_a_ca("Test Root").self_signed(&pair).expect("a root");
            let excluded = rcgen::GeneralSubtree::DirectoryName(named(common_name));
            let mut issuer = of_a_ca("Test Issuer");
            issuer.name_constraints =
                Some(rcgen::NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: vec![excluded] });
            let key = rcgen::SubjectPublicKeyInfo::from_der(issuing.spki()).expect("a key's public half");
            let above = rcgen::Issuer::new(of_a_ca("Test Root"), pair);
            vec![issuer.signed_by(&key, &above).expect("an issuer").der().to_vec(), root.der().to_vec()]
        })
    }

    fn made(
        policy: &str,
        limits: Limits,
        chain: impl FnOnce(&TestSigner, &PublicKey, &DistinguishedName) -> Vec<Vec<u8>>,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        let keys = [("issuing", KeyKind::P256), ("root", KeyKind::P256), ("ledger", KeyKind::Ed25519)];
        let signer = Arc::new(TestSigner::new(keys));
        let key = signer.public_key(&KeyId("issuing".into())).expect("made above");
        let chain = chain(&signer, &key, &named("Test Issuer"));
        let (validator, clock) = (Arc::new(TestValidator::default()), TestClock::at(TestClock::START));
        let settings = settings(policy, &chain, &key, limits.clone());
        let ports = Ports {
            store: Arc::clone(&store) as Arc<dyn Store>,
            signer: Arc::clone(&signer) as _,
            validator: Arc::clone(&validator) as _,
            clock: Arc::clone(&clock) as _,
            entropy: SeededEntropy::from_seed(7),
        };
        let office = Office::new(ports, settings);
        Self { office, store, signer, validator, clock, policy: policy.to_owned(), chain, limits, teams: false }
    }

    /// The same authority after a restart: everything that was in memory alone is gone.
    #[must_use]
    pub fn restarted(self, seed: u64) -> Self {
        let key = self.signer.public_key(&KeyId("issuing".into())).expect("made at the start");
        let ports = Ports {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            signer: Arc::clone(&self.signer) as _,
            validator: Arc::clone(&self.validator) as _,
            clock: Arc::clone(&self.clock) as _,
            entropy: SeededEntropy::from_seed(seed),
        };
        let settings = settings(&self.policy, &self.chain, &key, self.limits.clone());
        let office = Office::new(ports, if self.teams { with_teams(settings) } else { settings });
        Self { office, ..self }
    }

    /// The same with what a company gives its teams: the directory `teams`, whose accounts come by EAB keys alone and
    /// whose orders are pre-authorised; `either`, where a binding may come along and none need; and the profile `minutes`
    /// at both.
    #[must_use]
    pub fn with_teams(self) -> Self {
        Self { teams: true, ..self }.restarted(8)
    }

    /// An EAB key for a directory, for one account and a day, its names and profiles left to policy and directory.
    pub async fn eab_key(&self, id: &str, directory: &str) -> MadeEabKey {
        self.limited_eab_key(id, directory, |_| {}).await
    }

    /// The same with other limits.
    pub async fn limited_eab_key(&self, id: &str, directory: &str, change: impl FnOnce(&mut EabLimits)) -> MadeEabKey {
        let expires = self.office.now().after(Duration::from_secs(86_400));
        let mut limits = EabLimits { names: None, profiles: Vec::new(), accounts: 1, expires };
        change(&mut limits);
        let (id, owner, directory) = (id.parse().ok(), "a team".to_owned(), directory.to_owned());
        self.office.make_eab_key(MakeEabKey { id, owner, directory, limits }, "a test").await.expect("made")
    }

    /// An account with a key of its own, made with an EAB key at the directory that it is for.
    pub async fn bound_account(&self, made: &MadeEabKey) -> Account {
        let request = bound_registration(fresh_key(), made);
        self.office.register_account(request).await.expect("registered").account
    }

    /// An account with a key of its own.
    pub async fn account(&self) -> Account {
        self.office.register_account(registration(fresh_key())).await.expect("registered").account
    }

    /// An order for these names.
    pub async fn order(&self, account: &Account, names: &[&str]) -> Order {
        let request =
            PlaceOrder { names: names_of(names), not_before: None, not_after: None, profile: None, replaces: None };
        self.office.place_order(account, request).await.expect("placed")
    }

    /// The order's authorizations.
    pub async fn authorizations(&self, order: &Order) -> Vec<Authorization> {
        let mut all = Vec::new();
        for id in &order.authorizations {
            all.push(self.office.authorization(order.account, *id).await.expect("read").expect("there"));
        }
        all
    }

    /// An order whose challenges are answered.
    pub async fn ready_order(&self, account: &Account, names: &[&str]) -> Order {
        let order = self.order(account, names).await;
        for authorization in self.authorizations(&order).await {
            let kind = authorization.challenges.first().expect("a challenge").kind;
            self.office.answer_challenge(account, authorization.id, kind).await.expect("answered");
        }
        let order = self.office.order(account.id, order.id).await.expect("read").expect("there");
        assert_eq!(order.state, OrderState::Ready);
        order
    }

    /// A token that was made, and the credential that it proves.
    pub async fn credential(&self, asked: MakeApiToken) -> (Credential, SecretString) {
        let (_, secret) = self.office.make_api_token(asked, "a test").await.expect("made");
        let presented = Presented::Token(secret.clone());
        let credential = self.office.identify(&presented, &TestIdentity::default()).await.expect("it holds");
        (credential, secret)
    }

    /// Runs every job that is due now, once each; returns what was run.
    pub async fn run_due_jobs(&self) -> Vec<Job> {
        let jobs = self.office.due_jobs(1000).await.expect("read");
        for job in &jobs {
            self.office.run_job(job).await.expect("run");
        }
        jobs
    }
}

fn named(text: &str) -> DistinguishedName {
    DistinguishedName::new(vec![Attribute::new(AttributeKind::CommonName, text).expect("a plain name")])
}

fn settings(policy: &str, chain: &[Vec<u8>], key: &PublicKey, limits: Limits) -> Settings {
    let chain = install(chain, key, TestClock::START).expect("a chain");
    let authority = Authority {
        id: "issuing".parse().expect("a name"),
        key: KeyId("issuing".into()),
        algorithm: SignatureAlgorithm::default_for(KeyKind::P256),
        chains: vec![Arc::new(chain)],
    };
    let profile = Profile::new(ProfileSpec::server()).expect("the default profile is sound");
    let directory = Directory {
        name: "default".to_owned(),
        tenant: None,
        authority: authority.id.clone(),
        external_account: ExternalAccountRule::Off,
        preauthorized: false,
        challenges: ChallengeKind::ALL.to_vec(),
        profiles: vec!["server".to_owned()],
        terms_of_service: None,
        website: None,
        caa_identities: Vec::new(),
        order_lifetime: Duration::from_secs(86_400),
        authorization_lifetime: Duration::from_secs(7 * 3600),
    };

    Settings {
        own_tls: Some(OwnTls { profile: "server".to_owned(), authority: authority.id.clone() }),
        ledger: Some(LedgerSettings {
            key: KeyId("ledger".into()),
            origin: "test.example/ledger".to_owned(),
            every: Duration::from_secs(60),
        }),
        authorities: vec![Arc::new(authority)],
        directories: BTreeMap::from([("default".to_owned(), Arc::new(directory))]),
        clusters: BTreeMap::from([("prod-eu".to_owned(), Arc::new(cluster()))]),
        profiles: BTreeMap::from([("server".to_owned(), Arc::new(profile))]),
        policy: Arc::new(Policy::parse(policy, Format::Yaml, "policy.yaml").expect("a sound policy")),
        block_list: Arc::new(BlockList::default()),
        limits,
    }
}

/// The one cluster of a test authority: any namespace, the default profile.
#[must_use]
pub fn cluster() -> Cluster {
    Cluster {
        name: "prod-eu".to_owned(),
        authority: "issuing".parse().expect("a name"),
        profiles: vec!["server".to_owned()],
        tenant: None,
        namespaces: None,
        names: None,
        service_accounts: BTreeSet::from([("chancery".to_owned(), "issuer".to_owned())]),
        own_namespace_account: Some("chancery-tenant".to_owned()),
        own_namespace_profiles: None,
        own_namespace_names: None,
        client_names: BTreeSet::from(["issuer.prod-eu.test".to_owned()]),
    }
}

/// What makes a token for a cluster that may do all that the cluster may.
#[must_use]
pub fn token_for(cluster: &str) -> MakeApiToken {
    MakeApiToken {
        cluster: cluster.to_owned(),
        comment: "a test's".to_owned(),
        life: Duration::from_secs(365 * 86_400),
        namespaces: None,
        profiles: None,
        names: None,
    }
}

/// Names from their texts.
#[must_use]
pub fn names_of(names: &[&str]) -> NameSet {
    NameSet::new(names.iter().map(|name| name.parse::<Name>().expect("a name"))).expect("names")
}

/// A new P-256 key's public half.
#[must_use]
pub fn fresh_key() -> PublicKey {
    let pair = rcgen::KeyPair::generate().expect("a key");
    PublicKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(&pair)).expect("a good key")
}

/// What an account with this key is made by, at the one directory.
#[must_use]
pub fn registration(key: PublicKey) -> RegisterAccount {
    RegisterAccount {
        directory: "default".to_owned(),
        key,
        contacts: Vec::new(),
        terms_agreed: false,
        only_existing: false,
        binding: None,
    }
}

/// What an account with this key is made by, at the directory of an EAB key and bound with it.
#[must_use]
pub fn bound_registration(key: PublicKey, made: &MadeEabKey) -> RegisterAccount {
    let directory = made.key.directory.clone();
    let url = format!("https://ca.test/acme/{directory}/new-account");
    let text = binding(&key, &url, made.key.id.as_str(), &made.secret.to_base64url());
    RegisterAccount { directory, binding: Some(PresentedBinding { text, url }), ..registration(key) }
}

/// An external account binding (RFC 8555 §7.3.4) by HS256, in words of its own.
#[must_use]
pub fn binding(key: &PublicKey, url: &str, kid: &str, secret: &str) -> String {
    let encoded = |text: String| URL_SAFE_NO_PAD.encode(text);
    let protected = encoded(format!(r#"{{"alg":"HS256","kid":"{kid}","url":"{url}"}}"#));
    let payload = encoded(chancery_authority::thumbprint::canonical_jwk(key));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(secret).expect("base64url"));
    let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, format!("{protected}.{payload}").as_bytes()));
    format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{mac}"}}"#)
}

fn with_teams(settings: Settings) -> Settings {
    let Settings { mut directories, mut profiles, .. } = settings;
    let default = Directory::clone(&directories["default"]);
    let offered = vec!["server".to_owned(), "minutes".to_owned()];
    let teams = Directory {
        name: "teams".to_owned(),
        external_account: ExternalAccountRule::Required,
        preauthorized: true,
        profiles: offered.clone(),
        ..default.clone()
    };
    let either = Directory {
        name: "either".to_owned(),
        external_account: ExternalAccountRule::Optional,
        profiles: offered,
        ..default
    };
    for directory in [teams, either] {
        directories.insert(directory.name.clone(), Arc::new(directory));
    }
    let seconds = |seconds| Lifetime::from_seconds(seconds).expect("between one second and 136 years");
    let minutes = ProfileSpec {
        name: "minutes".to_owned(),
        description: Some("for whoever renews all the time".to_owned()),
        lifetime: seconds(600),
        lifetime_max: seconds(660),
        lifetime_min: seconds(120),
        backdate: Duration::from_secs(60),
        ..ProfileSpec::server()
    };
    let minutes = Profile::new(minutes).expect("a sound profile");
    profiles.insert("minutes".to_owned(), Arc::new(minutes));
    Settings { directories, profiles, ..settings }
}

/// A CSR for these names with a new P-256 key.
#[must_use]
pub fn csr(names: &[&str]) -> Csr {
    let pair = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let der = params.serialize_request(&pair).expect("a CSR").der().to_vec();
    Csr::from_der(&der).expect("a good CSR")
}

/// The time at which every test authority begins.
#[must_use]
pub const fn start() -> Timestamp {
    TestClock::START
}
