//! What a CA answers is held against the CSR: each way in which it can lie, one by one.

use std::time::Duration;

use chancery_pki::{
    Timestamp,
    answer::{AnswerFault, Asked, RequestFault},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

const SKEW: Duration = Duration::from_secs(300);

/// 2026-06-01.
fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_780_272_000)
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

/// A root, and an intermediate below it.
fn authorities() -> (Ca, Ca) {
    let root = CertifiedIssuer::self_signed(ca_params("Root"), KeyPair::generate().expect("a key")).expect("a root");
    let middle =
        CertifiedIssuer::signed_by(ca_params("Middle"), KeyPair::generate().expect("a key"), &root).expect("a CA");
    (root, middle)
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date_time_ymd(2026, 5, 1);
    params.not_after = date_time_ymd(2026, 7, 30);
    params.use_authority_key_identifier_extension = true;
    params
}

struct Case {
    root: Ca,
    middle: Ca,
    key: KeyPair,
    asked: Asked,
}

fn csr(params: &CertificateParams, key: &KeyPair) -> String {
    as_request(params).serialize_request(key).expect("a CSR").pem().expect("PEM")
}

/// What of a certificate a CSR can ask for.
fn as_request(params: &CertificateParams) -> CertificateParams {
    let usual = CertificateParams::default();
    let mut params = params.clone();
    params.not_before = usual.not_before;
    params.not_after = usual.not_after;
    params.use_authority_key_identifier_extension = false;
    params
}

impl Case {
    fn new(usages: &[&str], is_ca: bool, life_s: Option<u64>) -> Self {
        let (root, middle) = authorities();
        let key = KeyPair::generate().expect("a key");
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let pem = csr(&leaf_params(&["Web.shop.example", "10.0.0.1"]), &key);
        let asked = Asked::from_pem(pem.as_bytes(), &usages, is_ca, life_s).expect("a CSR");
        Self { root, middle, key, asked }
    }

    fn sign(&self, params: &CertificateParams) -> String {
        params.signed_by(&self.key, &self.middle).expect("a certificate").pem()
    }

    fn check(&self, leaf: &str) -> Result<(), AnswerFault> {
        let chain = format!("{leaf}{}", self.middle.pem());
        self.asked.check(&chain, &self.root.pem(), now(), SKEW).map(|_| ())
    }
}

fn good() -> CertificateParams {
    leaf_params(&["web.shop.example", "10.0.0.1"])
}

#[test]
fn an_answer_that_is_what_was_asked_for_passes_and_the_root_is_taken_out_of_the_chain() {
    let case = Case::new(&[], false, Some(90 * 24 * 3600));
    let leaf = case.sign(&good());
    let chain = format!("{leaf}{}{}", case.middle.pem(), case.root.pem());
    let answered = case.asked.check(&chain, &case.root.pem(), now(), SKEW).expect("it fits");
    let compact = |pem: &str| pem.replace(['\r', '\n'], "");
    assert_eq!(compact(&answered.chain), compact(&format!("{leaf}{}", case.middle.pem())));
    assert_eq!(compact(&answered.root), compact(&case.root.pem()));
}

#[test]
fn a_certificate_right_below_its_root_passes() {
    let case = Case::new(&[], false, None);
    let leaf = good().signed_by(&case.key, &case.root).expect("a certificate").pem();
    case.asked.check(&leaf, &case.root.pem(), now(), SKEW).expect("it fits");
}

#[test]
fn a_server_that_does_not_know_its_root_sends_none_and_the_highest_certificate_stands_for_it() {
    let case = Case::new(&[], false, None);
    let chain = format!("{}{}", case.sign(&good()), case.middle.pem());
    let answered = case.asked.check(&chain, "", now(), SKEW).expect("it fits");
    let compact = |pem: &str| pem.replace(['\r', '\n'], "");
    assert_eq!(compact(&answered.root), compact(&case.middle.pem()));
    let alone = case.asked.check(&case.sign(&good()), "", now(), SKEW).map(|_| ());
    assert_eq!(alone, Err(AnswerFault::Order), "nothing says who signed it");
}

#[test]
fn another_key_is_found() {
    let case = Case::new(&[], false, None);
    let other = KeyPair::generate().expect("a key");
    let leaf = good().signed_by(&other, &case.middle).expect("a certificate").pem();
    assert_eq!(case.check(&leaf), Err(AnswerFault::OtherKey));
}

#[test]
fn a_certificate_that_has_ended_or_not_begun_is_found() {
    let case = Case::new(&[], false, None);
    let mut ended = good();
    ended.not_after = date_time_ymd(2026, 5, 31);
    assert!(matches!(case.check(&case.sign(&ended)), Err(AnswerFault::Expired(_))));
    let mut later = good();
    later.not_before = date_time_ymd(2026, 6, 2);
    assert!(matches!(case.check(&case.sign(&later)), Err(AnswerFault::NotYetValid(_))));
    let mut within_skew = good();
    within_skew.not_before = date_time_ymd(2026, 6, 1) + Duration::from_secs(299);
    assert_eq!(case.check(&case.sign(&within_skew)), Ok(()));
}

#[test]
fn a_life_that_was_cut_is_found() {
    let case = Case::new(&[], false, Some(90 * 24 * 3600));
    let mut cut = good();
    cut.not_after = date_time_ymd(2026, 7, 29);
    assert!(matches!(case.check(&case.sign(&cut)), Err(AnswerFault::ShorterLife { .. })));
}

#[test]
fn a_life_that_is_longer_than_asked_is_found_and_backdating_is_none() {
    let case = Case::new(&[], false, Some(30 * 24 * 3600));
    let mut longer = good();
    longer.not_after = date_time_ymd(2026, 7, 2);
    assert!(matches!(case.check(&case.sign(&longer)), Err(AnswerFault::LongerLife { .. })));
    let mut backdated = good();
    backdated.not_before = date_time_ymd(2026, 1, 1);
    backdated.not_after = date_time_ymd(2026, 7, 1);
    assert_eq!(case.check(&case.sign(&backdated)), Ok(()));
}

#[test]
fn names_that_are_not_the_csrs_are_found() {
    let case = Case::new(&[], false, None);
    for names in [
        &["web.shop.example"][..],
        &["web.shop.example", "10.0.0.1", "evil.example"],
        &["web.shop.example", "10.0.0.2"],
        &["*.shop.example", "10.0.0.1"],
        &[],
    ] {
        assert_eq!(case.check(&case.sign(&leaf_params(names))), Err(AnswerFault::Names), "{names:?}");
    }
    let mut uri = good();
    uri.subject_alt_names.push(SanType::URI("spiffe://prod/ns/x/sa/y".try_into().expect("ASCII")));
    assert_eq!(case.check(&case.sign(&uri)), Err(AnswerFault::Names));
}

#[test]
fn a_common_name_that_nobody_asked_for_is_found() {
    let case = Case::new(&[], false, None);
    let mut named = good();
    named.distinguished_name.push(DnType::CommonName, "admin");
    assert_eq!(case.check(&case.sign(&named)), Err(AnswerFault::CommonName));
    let mut fitting = good();
    fitting.distinguished_name.push(DnType::CommonName, "web.shop.example");
    assert_eq!(case.check(&case.sign(&fitting)), Ok(()));
}

#[test]
fn a_host_that_stands_only_in_the_csrs_common_name_may_become_a_san() {
    let (root, middle) = authorities();
    let key = KeyPair::generate().expect("a key");
    let mut params = leaf_params(&[]);
    params.distinguished_name.push(DnType::CommonName, "web.shop.example");
    let asked = Asked::from_pem(csr(&params, &key).as_bytes(), &[], false, None).expect("a CSR");
    let leaf = leaf_params(&["web.shop.example"]).signed_by(&key, &middle).expect("a certificate").pem();
    asked.check(&format!("{leaf}{}", middle.pem()), &root.pem(), now(), SKEW).expect("it fits");
}

#[test]
fn names_of_every_kind_are_compared_octet_by_octet() {
    let (root, middle) = authorities();
    let key = KeyPair::generate().expect("a key");
    let mut params = leaf_params(&[]);
    params.subject_alt_names = vec![
        SanType::Rfc822Name("a@shop.example".try_into().expect("ASCII")),
        SanType::URI("https://shop.example/x".try_into().expect("ASCII")),
        SanType::OtherName((
            vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
            rcgen::OtherNameValue::Utf8String("a@b".to_owned()),
        )),
    ];
    let asked = Asked::from_pem(csr(&params, &key).as_bytes(), &[], false, None).expect("a CSR");
    let sign = |params: &CertificateParams| {
        format!("{}{}", params.signed_by(&key, &middle).expect("a certificate").pem(), middle.pem())
    };
    asked.check(&sign(&params), &root.pem(), now(), SKEW).expect("it fits");
    let mut other = params.clone();
    other.subject_alt_names.remove(0);
    other.subject_alt_names.push(SanType::Rfc822Name("b@shop.example".try_into().expect("ASCII")));
    assert_eq!(asked.check(&sign(&other), &root.pem(), now(), SKEW), Err(AnswerFault::Names));
}

#[test]
fn a_ca_where_none_was_asked_for_is_found_and_the_other_way_round() {
    let mut authority = good();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let case = Case::new(&[], false, None);
    assert_eq!(case.check(&case.sign(&authority)), Err(AnswerFault::Ca(true)));
    let case = Case::new(&["cert sign", "digital signature"], true, None);
    assert_eq!(case.check(&case.sign(&authority)), Ok(()));
    assert_eq!(case.check(&case.sign(&good())), Err(AnswerFault::Ca(false)));
}

#[test]
fn usages_that_were_not_asked_for_are_found_and_missing_ones_too() {
    let with = |key: &[KeyUsagePurpose], extended: &[ExtendedKeyUsagePurpose]| {
        let mut params = good();
        params.key_usages = key.to_vec();
        params.extended_key_usages = extended.to_vec();
        params
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{DigitalSignature, KeyCertSign, KeyEncipherment};
    let case = Case::new(&["digital signature", "key encipherment", "server auth"], false, None);
    for (params, fits) in [
        (with(&[DigitalSignature, KeyEncipherment], &[ServerAuth]), true),
        // A key that cannot encipher has no such bit.
        (with(&[DigitalSignature], &[ServerAuth]), true),
        (with(&[DigitalSignature, KeyCertSign], &[ServerAuth]), false),
        (with(&[DigitalSignature], &[ServerAuth, ClientAuth]), false),
        (with(&[DigitalSignature], &[ClientAuth]), false),
        (with(&[DigitalSignature], &[]), false),
    ] {
        let outcome = case.check(&case.sign(&params));
        assert_eq!(outcome, if fits { Ok(()) } else { Err(AnswerFault::Usages) });
    }
    let case = Case::new(&[], false, None);
    assert_eq!(case.check(&case.sign(&with(&[DigitalSignature], &[ServerAuth]))), Ok(()), "the profile's usual ones");
    // So they are where key usages alone were asked for.
    let case = Case::new(&["digital signature", "key encipherment"], false, None);
    for (params, fits) in [
        (with(&[DigitalSignature, KeyEncipherment], &[ServerAuth]), true),
        (with(&[DigitalSignature, KeyEncipherment], &[]), true),
        (with(&[DigitalSignature, KeyCertSign], &[ServerAuth]), false),
    ] {
        let outcome = case.check(&case.sign(&params));
        assert_eq!(outcome, if fits { Ok(()) } else { Err(AnswerFault::Usages) });
    }
}

#[test]
fn a_foreign_chain_and_a_chain_out_of_order_are_found() {
    let case = Case::new(&[], false, None);
    let leaf = case.sign(&good());
    let (foreign_root, foreign) = authorities();
    let check = |chain: String, root: &str| case.asked.check(&chain, root, now(), SKEW).map(|_| ());
    let root = case.root.pem();
    assert_eq!(check(format!("{leaf}{}", foreign.pem()), &root), Err(AnswerFault::Order));
    assert_eq!(check(leaf.clone(), &root), Err(AnswerFault::Order));
    let foreign_chain = check(format!("{leaf}{}", case.middle.pem()), &foreign_root.pem());
    assert!(foreign_chain.is_err(), "{foreign_chain:?}");
    let swapped = check(format!("{}{leaf}", case.middle.pem()), &root);
    assert_eq!(swapped, Err(AnswerFault::OtherKey));
    let with_more = check(format!("{leaf}{}{}", case.middle.pem(), foreign.pem()), &root);
    assert!(with_more.is_err(), "{with_more:?}");
    let no_root = check(format!("{leaf}{}", case.middle.pem()), &case.middle.pem());
    assert!(no_root.is_err(), "{no_root:?}");
}

#[test]
fn a_chain_through_something_that_is_no_ca_is_found() {
    let case = Case::new(&[], false, None);
    let mut params = ca_params("No CA");
    params.is_ca = IsCa::NoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let no_ca = CertifiedIssuer::signed_by(params, KeyPair::generate().expect("a key"), &case.root).expect("signed");
    let leaf = good().signed_by(&case.key, &no_ca).expect("a certificate").pem();
    let outcome = case.asked.check(&format!("{leaf}{}", no_ca.pem()), &case.root.pem(), now(), SKEW);
    assert!(matches!(outcome, Err(AnswerFault::Chain(_))), "{outcome:?}");
}

#[test]
fn what_cert_manager_would_not_read_is_found() {
    let case = Case::new(&[], false, None);
    let leaf = case.sign(&good());
    let long = format!("{leaf}{}", case.middle.pem().repeat(200));
    let outcome = case.asked.check(&long, &case.root.pem(), now(), SKEW);
    assert!(matches!(outcome, Err(AnswerFault::TooLong { what: "chain", .. })), "{outcome:?}");
    let many = format!("{leaf}{}", case.middle.pem().repeat(11));
    let outcome = case.asked.check(&many, &case.root.pem(), now(), SKEW);
    assert!(matches!(outcome, Err(AnswerFault::TooMany { .. })), "{outcome:?}");
    for garbage in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let outcome = case.asked.check(garbage, &case.root.pem(), now(), SKEW);
        assert!(matches!(outcome, Err(AnswerFault::Unreadable(_))), "{outcome:?}");
    }
}

#[test]
fn requests_that_nobody_can_sign_are_found_before_anybody_is_asked() {
    let key = KeyPair::generate().expect("a key");
    let pem = csr(&good(), &key);
    let read = |pem: &str, usages: &[&str]| {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        Asked::from_pem(pem.as_bytes(), &usages, false, None).map(|_| ())
    };
    assert_eq!(read(&pem, &["server auth"]), Ok(()));
    let unknown = read(&pem, &["server autt"]).expect_err("no such usage").to_string();
    assert!(unknown.contains("(\"server auth\"?)"), "{unknown}");
    for none in ["", "garbage", &format!("{pem}{pem}"), &pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")] {
        assert_eq!(read(none, &[]), Err(RequestFault::NotPem), "{none}");
    }
    let mut octets = params_der(&good(), &key);
    let last = octets.len() - 1;
    *octets.get_mut(last).expect("an octet") ^= 1;
    let forged = chancery_pki::certificate::pem_block("CERTIFICATE REQUEST", &octets);
    assert_eq!(read(&forged, &[]), Err(RequestFault::BadSignature));
    octets.push(0);
    let longer = chancery_pki::certificate::pem_block("CERTIFICATE REQUEST", &octets);
    assert!(matches!(read(&longer, &[]), Err(RequestFault::NotDer { .. })));
}

fn params_der(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    as_request(params).serialize_request(key).expect("a CSR").der().to_vec()
}

#[test]
fn a_stub_is_answered_by_the_names_that_were_decided_and_by_nothing_that_it_names() {
    let (root, middle) = authorities();
    let key = KeyPair::generate().expect("a key");
    let id = "spiffe://cluster.local/ns/shop/sa/web";
    // Longer than one octet of length can say.
    let long = format!("spiffe://cluster.local/ns/shop/sa/{}", "w".repeat(200));
    let stub = csr(&leaf_params(&["evil.example"]), &key);
    let uri = |text: &str| SanType::URI(text.try_into().expect("text of ASCII"));
    for decided in [id, &long] {
        let asked = Asked::from_pem(stub.as_bytes(), &[], false, None).expect("a CSR").naming([decided]);
        let answer = |names: Vec<SanType>| {
            let mut params = leaf_params(&[]);
            params.subject_alt_names = names;
            let leaf = params.signed_by(&key, &middle).expect("a certificate");
            asked.check(&format!("{}{}", leaf.pem(), middle.pem()), &root.pem(), now(), SKEW)
        };
        let answered = answer(vec![uri(decided)]).expect("as decided");
        let first = Timestamp::from_unix_seconds(date_time_ymd(2026, 5, 1).unix_timestamp());
        assert_eq!(answered.not_before, first);
        let named = SanType::DnsName("evil.example".try_into().expect("text of ASCII"));
        for names in [vec![named.clone()], vec![uri(decided), named], vec![uri("spiffe://cluster.local/ns/a/sa/b")]] {
            assert!(matches!(answer(names), Err(AnswerFault::Names)));
        }
    }
}
