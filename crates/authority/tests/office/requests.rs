//! Whatever a CSR holds: it is refused and nothing is signed, or the certificate is what order and profile say, and
//! of the CSR only its key is in it. The oracle is x509-parser with a model of its own.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_acme::order::OrderState;
use chancery_authority::{Refusal, ports::Clock as _};
use chancery_pki::Csr;
use chancery_testkit::office::TestOffice;
use proptest::{collection, option, prelude::*, sample::subsequence};
use rcgen::{
    Attribute, CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PublicKeyData as _, SanType,
};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer as _, X509Certificate, X509Version},
};

use crate::certificates;

/// What stands wherever a CSR has room for text, and must never be in a certificate.
const PLANTED: &str = "planted";
const PLANTED_NAME: &str = "planted.test";

/// What a CSR may ask for: OID, whether it is critical, DER, and whether it is borne (it decides nothing then).
struct Extension {
    oid: &'static [u64],
    critical: bool,
    der: &'static [u8],
    borne: bool,
}

const fn extension(oid: &'static [u64], critical: bool, der: &'static [u8], borne: bool) -> Extension {
    Extension { oid, critical, der, borne }
}

const SAN: &[u64] = &[2, 5, 29, 17];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];

const EXTENSIONS: [Extension; 13] = [
    // CA:FALSE, CA:TRUE, and CA:TRUE with a depth.
    extension(BASIC_CONSTRAINTS, true, b"\x30\x00", true),
    extension(BASIC_CONSTRAINTS, true, b"\x30\x03\x01\x01\xff", false),
    extension(BASIC_CONSTRAINTS, false, b"\x30\x06\x01\x01\xff\x02\x01\x00", false),
    // keyCertSign and cRLSign; every usage that there is.
    extension(KEY_USAGE, true, b"\x03\x02\x01\x06", true),
    extension(KEY_USAGE, false, b"\x03\x03\x07\xff\x80", true),
    // codeSigning and anyExtendedKeyUsage.
    extension(&[2, 5, 29, 37], true, b"\x30\x10\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03\x06\x04\x55\x1d\x25\x00", true),
    // A subject key identifier of its own.
    extension(&[2, 5, 29, 14], false, b"\x04\x07planted", true),
    // OCSP must-staple, which the profile does not give.
    extension(&[1, 3, 6, 1, 5, 5, 7, 1, 24], false, b"\x30\x03\x02\x01\x05", false),
    // Name constraints; a policy; an OCSP responder.
    extension(&[2, 5, 29, 30], true, b"\x30\x00", false),
    extension(&[2, 5, 29, 32], false, b"\x30\x06\x30\x04\x06\x02\x2a\x03", false),
    extension(
        &[1, 3, 6, 1, 5, 5, 7, 1, 1],
        false,
        b"\x30\x18\x30\x16\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01\x86\x0ahttp://p/q",
        false,
    ),
    // Nobody's.
    extension(&[1, 3, 6, 1, 4, 1, 99999, 7], false, b"\x0c\x07planted", false),
    // A second list of names, or the only one.
    extension(SAN, false, b"\x30\x0e\x82\x0cplanted.test", false),
];

/// challengePassword and unstructuredName (RFC 2985 §5.4.1, §5.4.2), each with the set of its values.
const ATTRIBUTES: [(&[u64], &[u8]); 2] = [
    (&[1, 2, 840, 113_549, 1, 9, 7], b"\x31\x09\x0c\x07planted"),
    (&[1, 2, 840, 113_549, 1, 9, 2], b"\x31\x09\x0c\x07planted"),
];

/// What is ordered, and the CSR that comes with its finalize.
#[derive(Debug, Clone)]
struct Case {
    ordered: BTreeSet<String>,
    /// The names of its SAN extension as they stand there; it has none where they are none.
    san: Vec<String>,
    common_name: Option<String>,
    /// Indexes of [`EXTENSIONS`] and [`ATTRIBUTES`].
    extensions: Vec<usize>,
    attributes: Vec<usize>,
    /// P-256, P-384, Ed25519, or P-521, which the profile does not take.
    key: usize,
}

/// The ordered names as a CSR may have them: in any order, some twice, in any case, one missing, one too many.
fn san(ordered: &BTreeSet<String>) -> impl Strategy<Value = Vec<String>> + use<> {
    let ordered: Vec<String> = ordered.iter().cloned().collect();
    let all = ordered.len();
    let twice = subsequence(ordered.clone(), 0..=all);
    let some = prop_oneof![8 => Just(ordered.clone()), 1 => subsequence(ordered, 0..=all)];
    let more = option::weighted(0.1, Just(PLANTED_NAME.to_owned()));
    (some, twice, more, any::<u64>()).prop_map(|(mut names, twice, more, cases)| {
        names.extend(twice.iter().map(|name| name.to_uppercase()));
        names.extend(more);
        for (at, name) in names.iter_mut().enumerate() {
            if cases >> (at % 64) & 1 == 1 {
                *name = name.to_uppercase();
            }
        }
        names
    })
}

fn case() -> impl Strategy<Value = Case> {
    let name = prop_oneof![6 => "[a-z]{1,8}(\\.[a-z0-9]{1,5})?\\.test", 1 => Just("*.wild.test".to_owned())];
    let ordered = collection::btree_set(name.prop_filter("for the CSR alone", |name| name != PLANTED_NAME), 1..5);
    let borne: Vec<usize> = (0..EXTENSIONS.len()).filter(|at| EXTENSIONS[*at].borne).collect();
    let extensions = prop_oneof![
        3 => subsequence(borne.clone(), 0..=borne.len()),
        1 => subsequence((0..EXTENSIONS.len()).collect::<Vec<_>>(), 1..4),
    ];
    let attributes = prop_oneof![6 => Just(Vec::new()), 1 => subsequence(vec![0, 1], 1..=2)];
    ordered.prop_flat_map(move |ordered| {
        let first = ordered.first().cloned().expect("at least one");
        let common_name = prop_oneof![
            4 => Just(None),
            2 => Just(Some(first)),
            2 => Just(Some(format!("{PLANTED} person"))),
            1 => Just(Some(PLANTED_NAME.to_owned())),
        ];
        let key = prop_oneof![9 => 0..3usize, 1 => Just(3)];
        let asked = (extensions.clone().prop_shuffle(), attributes.clone());
        (san(&ordered).prop_shuffle(), common_name, asked, key).prop_map(
            move |(san, common_name, (extensions, attributes), key)| Case {
                ordered: ordered.clone(),
                san,
                common_name,
                extensions,
                attributes,
                key,
            },
        )
    })
}

impl Case {
    fn key(&self) -> KeyPair {
        let kinds = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_ECDSA_P521_SHA512];
        KeyPair::generate_for(kinds[self.key]).unwrap()
    }

    fn csr(&self, key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, PLANTED);
        if let Some(common_name) = &self.common_name {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.subject_alt_names =
            self.san.iter().map(|name| SanType::DnsName(name.as_str().try_into().unwrap())).collect();
        for at in &self.extensions {
            let Extension { oid, critical, der, borne: _ } = &EXTENSIONS[*at];
            let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
            extension.set_criticality(*critical);
            params.custom_extensions.push(extension);
        }
        let attributes = self.attributes.iter().map(|at| {
            let (oid, values) = ATTRIBUTES[*at];
            Attribute { oid, values: values.to_vec() }
        });
        params.serialize_request_with_attributes(key, attributes.collect()).unwrap().der().to_vec()
    }

    /// Whether this may lead to a certificate.
    fn is_granted(&self) -> bool {
        let oids: BTreeSet<_> = self.extensions.iter().map(|at| EXTENSIONS[*at].oid).collect();
        let borne = self.extensions.iter().all(|at| EXTENSIONS[*at].borne) && oids.len() == self.extensions.len();
        // A common name counts where it is the name of a host (RFC 8555 §7.4).
        let common_name = self.common_name.iter().filter(|text| !text.contains(' '));
        let names: BTreeSet<String> = self.san.iter().chain(common_name).map(|name| name.to_lowercase()).collect();
        borne && self.attributes.is_empty() && names == self.ordered && self.key < 3
    }

    /// Checks a certificate against what was ordered and the profile `server`.
    fn check(&self, der: &[u8], ca: &TestOffice, key: &KeyPair, serial: &str) {
        let settings = ca.office.settings();
        let issuing = settings.authorities.first().unwrap().chains.first().unwrap().issuing().der().to_vec();
        let (_, issuing) = X509Certificate::from_der(&issuing).unwrap();
        let (rest, read) = X509Certificate::from_der(der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(read.version(), X509Version::V3);
        assert_eq!(format!("{:0>32}", read.serial.to_str_radix(16)), serial);
        assert_eq!(read.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2");
        assert_eq!(read.issuer().as_raw(), issuing.subject().as_raw());
        read.verify_signature(Some(issuing.public_key())).unwrap();
        let from = ca.clock.now().unix_seconds() - 3600;
        let validity = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
        assert_eq!(validity, (from, from + 90 * 86_400 - 1));
        assert_eq!(read.subject().as_raw(), b"\x30\x00");
        assert_eq!(read.public_key().raw, key.subject_public_key_info());
        assert!(read.issuer_uid.is_none() && read.subject_uid.is_none());

        let mut extensions = BTreeSet::new();
        for extension in read.extensions() {
            extensions.insert((extension.oid.to_id_string(), extension.critical));
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(_) => assert_eq!(extension.value, b"\x30\x00"),
                ParsedExtension::KeyUsage(_) => assert_eq!(extension.value, b"\x03\x02\x07\x80"),
                ParsedExtension::ExtendedKeyUsage(_) => {
                    assert_eq!(extension.value, b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01");
                }
                ParsedExtension::SubjectAlternativeName(san) => {
                    let names: Vec<String> = san
                        .general_names
                        .iter()
                        .map(|name| match name {
                            GeneralName::DNSName(name) => (*name).to_owned(),
                            other => panic!("{other:?}"),
                        })
                        .collect();
                    assert_eq!(names.len(), self.ordered.len());
                    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), self.ordered);
                }
                ParsedExtension::SubjectKeyIdentifier(id) => {
                    let key = &read.public_key().subject_public_key.data;
                    assert_eq!(id.0, &digest(&SHA256, key).as_ref()[..20]);
                }
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    let above = issuing.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                        _ => None,
                    });
                    assert_eq!(id.key_identifier.as_ref().map(|id| id.0), above);
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        let wanted = [
            ("2.5.29.14", false),
            ("2.5.29.15", true),
            ("2.5.29.17", true),
            ("2.5.29.19", true),
            ("2.5.29.35", false),
            ("2.5.29.37", false),
        ];
        assert_eq!(extensions, wanted.map(|(oid, critical)| (oid.to_owned(), critical)).into());
        assert_eq!(read.extensions().len(), wanted.len());
        let lower = der.to_ascii_lowercase();
        assert!(!lower.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes()));
    }

    async fn run(&self) {
        let ca = TestOffice::default();
        let account = ca.account().await;
        let names: Vec<&str> = self.ordered.iter().map(String::as_str).collect();
        let order = ca.ready_order(&account, &names).await;
        let key = self.key();
        let finalized = match Csr::from_der(&self.csr(&key)) {
            Err(_) => None,
            Ok(csr) => match ca.office.finalize_order(&account, order.id, csr).await {
                Err(Refusal::Rejected(_)) => None,
                Err(failed) => panic!("{failed:?}"),
                Ok(order) => Some(order.state),
            },
        };
        match finalized {
            None => {
                assert!(!self.is_granted(), "it was refused");
                assert_eq!(ca.signer.signatures(), 0);
                assert_eq!(certificates(&ca).await, []);
                let order = ca.office.order(account.id, order.id).await.unwrap().unwrap();
                assert_eq!(order.state, OrderState::Ready);
            }
            Some(OrderState::Valid { certificate }) => {
                assert!(self.is_granted(), "it was granted");
                assert_eq!(ca.signer.signatures(), 1);
                let serial = certificates(&ca).await.remove(0).serial.to_string();
                let chain = ca.office.certificate(account.id, certificate).await.unwrap().unwrap();
                self.check(&chain.certificate, &ca, &key, &serial);
            }
            Some(state) => panic!("{state:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_csr_holds_it_is_refused_or_the_certificate_is_the_model_of_order_and_profile(case in case()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case.run());
    }
}
