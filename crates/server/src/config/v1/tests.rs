use std::{collections::BTreeSet, path::PathBuf};

use super::{Config, Places, check::parse, spec::Spec};
use crate::config::Source;

fn sample() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/samples/chancery.toml")).unwrap()
}

fn read(text: &str) -> Result<Config, String> {
    parse(Source::new(PathBuf::from("/data/chancery.toml"), text.to_owned())).map_err(|error| error.to_string())
}

/// The smallest configuration, with one piece of it replaced.
fn with(from: &str, to: &str) -> String {
    const SMALL: &str = "version = \"v1\"
[listen]
url = \"https://ca.example.com\"
[[authority]]
id = \"issuing\"
key = \"keys/issuing.key\"
chains = [\"chains/issuing.pem\"]
[[directory]]
name = \"default\"
authority = \"issuing\"
profiles = [\"server\"]
[[profile]]
name = \"server\"
[policy]
file = \"policy.yaml\"
";
    assert!(SMALL.contains(from), "{from}");
    SMALL.replacen(from, to, 1)
}

#[test]
fn the_sample_is_taken() {
    let config = read(&sample()).unwrap();
    assert_eq!(config.data, PathBuf::from("/var/lib/chancery"));
    assert_eq!(config.listen.url, "https://ca.example.com");
    assert_eq!(config.policy, PathBuf::from("/var/lib/chancery/policy.yaml"));
}

/// What the sample shows for a key is what holds when the key is left out, save where it says otherwise.
#[test]
fn the_values_that_the_sample_shows_for_limits_are_those_that_hold_without_them() {
    let small = read(&with("", "")).unwrap();
    let sample = read(&sample()).unwrap();
    assert_eq!(small.limits, sample.limits);
    assert_eq!(small.validation, sample.validation);
    assert_eq!(small.log, sample.log);
    assert_eq!(small.ledger.origin, sample.ledger.origin);
    assert_eq!(small.ledger.checkpoint_every, sample.ledger.checkpoint_every);
    let (small, sample) = (&small.directories["default"], &sample.directories["default"]);
    assert_eq!(small.order_lifetime, sample.order_lifetime);
    assert_eq!(small.authorization_lifetime, sample.authorization_lifetime);
}

/// The keys that serde itself says it knows at a place: it is asked with one that it cannot know.
fn known_keys(section: &str) -> Vec<String> {
    let text = if section.is_empty() { "unheard_of = 1".to_owned() } else { format!("{section}\nunheard_of = 1") };
    // What precedes the section in the type's order must be there.
    let before = "version = \"v1\"\n";
    let text = if section.is_empty() { text } else { format!("{before}{text}") };
    let message = toml::from_str::<Spec>(&text).unwrap_err().message().to_owned();
    assert!(message.contains("unheard_of"), "{message}");
    message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_configuration_stands_in_the_sample() {
    let sample = sample();
    let mut section = String::new();
    let mut written: BTreeSet<(String, String)> = BTreeSet::new();
    for line in sample.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
            written.insert((String::new(), line.trim_matches(['[', ']']).to_owned()));
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ")
            && !key.contains(' ')
        {
            written.insert((section.clone(), key.to_owned()));
        }
    }
    let sections = [
        "",
        "[listen]",
        "[tls]",
        "[[authority]]",
        "[signer]",
        "[[directory]]",
        "[[cluster]]",
        "[[profile]]",
        "[policy]",
        "[[zone]]",
        "[validation]",
        "[limits]",
        "[ledger]",
        "[log]",
    ];
    for section in sections {
        let known = known_keys(section);
        assert!(!known.is_empty(), "{section}");
        for key in known {
            assert!(written.contains(&(section.to_owned(), key.clone())), "{section} {key} is not in the sample");
        }
    }
}

/// The other way of a key, too, is one that the server would take.
#[test]
fn every_other_way_that_the_sample_shows_is_taken_in_its_place() {
    let sample = sample();
    for (number, line) in sample.lines().enumerate() {
        let Some((key, _)) =
            line.strip_prefix('#').and_then(|line| line.split_once(" = ")).filter(|(key, _)| !key.contains(' '))
        else {
            continue;
        };
        let other = line.trim_start_matches('#');
        let drops: &[&str] = match key {
            "certificate" => &["names =", "authority = \"issuing\"\n# By", "profile = \"server\""],
            "subject_attributes" => &["subject = ", "requested_attributes = "],
            "passphrase" => &["passphrase = "],
            "key" => continue, // tried with its certificate
            _ => &[],
        };
        let mut lines: Vec<String> = sample.lines().map(str::to_owned).collect();
        lines[number] = other.to_owned();
        if key == "certificate" {
            lines[number + 1] = lines[number + 1].trim_start_matches('#').to_owned();
            let tls = lines.iter().position(|line| line == "[tls]").unwrap();
            for line in &mut lines[tls..number] {
                if !line.starts_with(['#', '[']) {
                    line.clear();
                }
            }
        } else {
            for (at, line) in lines.iter_mut().enumerate() {
                if at != number && drops.iter().any(|drop| line.starts_with(drop)) {
                    line.clear();
                }
            }
        }
        let mut changed = lines.join("\n");
        if key == "requested_attributes" {
            changed = changed.replace("subject = \"empty\"", "subject = \"requested\"");
        }
        read(&changed).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_nearest_spelling() {
    let cases = [
        ("an unknown section", with("[policy]", "[polcy]")),
        ("an unknown key", with("profiles = ", "profile = ")),
        ("a missing key", with("file = \"policy.yaml\"\n", "")),
        ("a tenant that is no name", with("name = \"default\"", "name = \"default\"\ntenant = \"Pay ments\"")),
        ("a wrong type", with("name = \"server\"", "name = 7")),
        ("no TOML", with("version = \"v1\"", "version = v1")),
        ("another version", with("\"v1\"", "\"v2\"")),
        ("an unknown profile", with("profiles = [\"server\"]", "profiles = [\"sever\"]")),
        ("an unknown authority", with("authority = \"issuing\"", "authority = \"Issuing\"")),
        ("a URL with a path", with("https://ca.example.com", "https://ca.example.com/acme")),
        ("a plain URL", with("https://ca.example.com", "http://ca.example.com")),
        ("an address without port", with("[[authority]]", "https = \"127.0.0.1\"\n[[authority]]")),
        ("no duration", with("name = \"server\"", "name = \"server\"\nlifetime = \"90\"")),
        ("a duration out of bounds", with("[policy]", "[validation]\ntime = \"1h\"\n[policy]")),
        ("a number out of bounds", with("[policy]", "[limits]\nconnections = 0\n[policy]")),
        (
            "more answers that wait than requests",
            with("[policy]", "[limits]\nrequests_at_once = 100\nwaiting_answers = 100\n[policy]"),
        ),
        (
            "more answers of an account than of all",
            with("[policy]", "[limits]\nwaiting_answers_per_account = 1025\n[policy]"),
        ),
        (
            "more requests of an address than of all",
            with("[policy]", "[limits]\narriving_requests_per_address = 2049\n[policy]"),
        ),
        ("an unknown kind of key", with("name = \"server\"", "name = \"server\"\nkeys = [\"p-256\"]")),
        ("an unknown challenge", with("profiles = ", "challenges = [\"http01\"]\nprofiles = ")),
        ("half a certificate", with("[policy]", "[tls]\ncertificate = \"a.pem\"\n[policy]")),
        (
            "a second directory of a name",
            with(
                "[[profile]]",
                "[[directory]]\nname = \"default\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n[[profile]]",
            ),
        ),
        (
            "a passphrase where its place belongs",
            with("[policy]", "[signer]\npassphrase = \"s3cr3t s3cr3t\"\n[policy]"),
        ),
        (
            "a passphrase where the name of its credential belongs",
            with("[policy]", "[signer]\npassphrase = { credential = \"s3cr3t/s3cr3t\" }\n[policy]"),
        ),
        (
            "two places for the passphrase",
            with("[policy]", "[signer]\npassphrase = { file = \"a\", env = \"B\" }\n[policy]"),
        ),
        (
            "a profile that no certificate could have",
            with("name = \"server\"", "name = \"server\"\nlifetime = \"1h\"\nlifetime_min = \"2h\""),
        ),
        ("a zone that holds nothing", with("[policy]", "[[zone]]\nname = \"lab\"\n[policy]")),
        ("no network", with("[policy]", "[[zone]]\nname = \"lab\"\nnetworks = [\"10.0.0.0/33\"]\n[policy]")),
        ("an unknown level", with("[policy]", "[log]\nformat = \"jsn\"\n[policy]")),
        (
            "no directory",
            with("[[directory]]\nname = \"default\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n", ""),
        ),
    ];
    let shown: String = cases
        .iter()
        .map(|(what, text)| format!("{what}\n    {}\n", read(text).expect_err(what).replace('\n', "\n    ")))
        .collect();
    insta::assert_snapshot!(shown);
}

#[test]
fn what_requesters_may_ask_for_is_read_and_what_is_wrong_in_it_is_named() {
    let config = read(&sample()).unwrap();
    let kubernetes = &config.profiles["kubernetes"];
    assert_eq!(kubernetes.name_kinds(), chancery_pki::profile::NameKind::ALL);
    assert!(kubernetes.ca().is_none() && config.profiles["server"].ca().is_none());
    let words = |words: &[&str]| chancery_pki::Content {
        usages: chancery_pki::Usages::from_words(words.iter().copied()).unwrap(),
        ..chancery_pki::Content::default()
    };
    let names = chancery_pki::NameSet::new(["a.example.com".parse().unwrap()]).unwrap();
    let kind = chancery_pki::KeyKind::Rsa2048;
    for (profile, asked, given) in [
        ("kubernetes", &["client auth", "data encipherment"][..], true),
        ("kubernetes", &["code signing"], false),
        ("server", &["server auth"], true),
        ("server", &["client auth"], false),
    ] {
        let checked = config.profiles[profile].check_content(&words(asked), &names, kind);
        assert_eq!(checked.is_ok(), given, "{profile} {asked:?}");
    }
    let profile = |more: &str| read(&with("name = \"server\"\n", &format!("name = \"server\"\n{more}\n")));
    let ca = profile("ca = { path_len = 1, permitted_dns = [\"a.test\"], excluded_ips = [\"10.0.0.0/8\"], permitted_uris = [\"cluster.local\"], forbidden = [\"email\"] }").unwrap();
    let ca = ca.profiles["server"].ca().unwrap().clone();
    assert_eq!(
        (ca.path_length, ca.constraints().to_string().as_str()),
        (1, "permitted DNS:a.test, URI:cluster.local, email:invalid; excluded IP:10.0.0.0/255.0.0.0")
    );
    for (more, told) in [
        ("names = [\"mail\"]", "\"email\""),
        ("requested_key_usages = [\"keyCertSign\"]", "keyCertSign"),
        ("key_usages = [\"encipherOnly\", \"digitalSignature\"]", "says nothing without keyAgreement"),
        ("requested_extended_key_usages = [\"2.5.29.37.0\"]", "it stands for every usage there is"),
        ("extended_key_usages = [\"clientauth\"]", "clientAuth"),
        ("subject = \"request\"", "requested"),
        ("subject = \"requested\"\nrequested_attributes = [\"organization=a\"]", "none of C, ST, L, O, OU"),
        ("subject = \"requested\"\nrequested_attributes = [\"CN\"]", "stands for a name that policy judges"),
        ("requested_attributes = [\"O\"]", "only with subject = \"requested\""),
        ("ca = { permitted_dns = [\"a.test\"] }", "nothing is said of ip"),
        ("ca = { permitted_dns = [\"a.test\"], forbidden = [\"dns\"] }", "dns stands in two"),
        ("ca = { forbidden = [\"mail\"] }", "\"email\""),
        ("ca = { pathlen = 0 }", "path_len"),
        (
            "ca = { permitted_dns = [\"A.test\"], unconstrained = [\"ip\", \"email\", \"uri\"] }",
            "permitted_dns: \"A.test\" is no host name",
        ),
        ("ca = { permitted_dns = [\".a.test\"], unconstrained = [\"ip\", \"email\", \"uri\"] }", "is no host name"),
        (
            "ca = { permitted_ips = [\"10.0.0.1/8\"], unconstrained = [\"dns\", \"email\", \"uri\"] }",
            "there are bits behind its prefix",
        ),
        ("ca = { permitted_ips = [\"10.0.0\"] }", "a network, like"),
        (
            "ca = { permitted_emails = [\"a b\"], unconstrained = [\"dns\", \"ip\", \"uri\"] }",
            "is no e-mail address, host, or .host",
        ),
        ("ca = { extended_key_usages = [\"1.3.6.1.5.5.7.3.9\"] }", "answers OCSP"),
    ] {
        let error = profile(more).expect_err(more);
        assert!(error.contains(told), "{more}: {error}");
    }
}

#[test]
fn a_cluster_is_read_with_its_credentials_and_their_limits_and_what_is_wrong_in_it_is_named() {
    const TOKEN: &str = r#"issuer = "https://kubernetes.test", audience = "chancery/lab", keys = "lab.jwks""#;
    let cluster = |keys: &str| {
        let text = format!(
            "[[cluster]]\nname = \"lab\"\nauthority = \"issuing\"\nprofiles = [\"server\", \"minutes\"]\n{keys}\n"
        );
        read(&with("[policy]", &format!("[[profile]]\nname = \"minutes\"\n{text}[policy]")))
    };
    let limited = format!(
        "namespaces = [\"shop\"]\nnames = [\"**.lab.test\", \"cn:Lab *\"]\n\
         token = {{ {TOKEN}, accounts = [\"chancery/issuer\"], own_namespace_account = \"tenant\", \
         own_namespace_profiles = [\"minutes\"], own_namespace_names = [\"*.lab.test\"] }}\n\
         client_certificates = {{ ca = \"lab.pem\", names = [\"issuer.lab.test\"] }}"
    );
    let read_in = cluster(&limited).unwrap();
    let lab = &read_in.clusters["lab"];
    let settings = &lab.settings;
    assert_eq!((settings.authority.to_string().as_str(), settings.profiles.len()), ("issuing", 2));
    assert_eq!(settings.namespaces.clone().map(|all| all.len()), Some(1));
    assert_eq!(settings.names.as_ref().map(ToString::to_string).as_deref(), Some("**.lab.test, cn:Lab *"));
    assert!(settings.service_accounts.contains(&("chancery".to_owned(), "issuer".to_owned())));
    assert_eq!(settings.own_namespace_account.as_deref(), Some("tenant"));
    assert_eq!(settings.own_namespace_profiles.as_deref(), Some(&["minutes".to_owned()][..]));
    assert_eq!(settings.own_namespace_names.as_ref().map(ToString::to_string).as_deref(), Some("*.lab.test"));
    assert!(settings.client_names.contains("issuer.lab.test"));
    let token = lab.token.as_ref().unwrap();
    assert_eq!((token.issuer.as_str(), token.audience.as_str()), ("https://kubernetes.test", "chancery/lab"));
    assert_eq!(lab.client_ca.as_deref(), Some(std::path::Path::new("/data/lab.pem")));
    let plain = cluster("").unwrap();
    assert!(plain.clusters["lab"].settings.namespaces.is_none() && plain.clusters["lab"].token.is_none());
    let of = |more: &str| format!("token = {{ {TOKEN}, {more} }}");
    let accounts = "accounts = [\"chancery/issuer\"]";
    for (keys, told) in [
        ("namespaces = []".to_owned(), "no namespace"),
        ("namespaces = [\"Shop\"]".to_owned(), "a namespace: 1 to 63"),
        ("names = []".to_owned(), "lets nothing pass"),
        ("names = [\"a*.lab.test\"]".to_owned(), "did you mean"),
        ("tenant = \"The Lab\"".to_owned(), "it stands in every record"),
        ("profile = \"server\"".to_owned(), "profile"),
        (of("accounts = []"), "no token of the cluster would be taken"),
        (of("accounts = [\"issuer\"]"), "a service account with its namespace"),
        (of("own_namespace_account = \"chancery/issuer\""), "without a namespace"),
        (of(&format!("{accounts}, own_namespace_names = [\"a.test\"]")), "this limits own_namespace_account"),
        (of("own_namespace_account = \"t\", own_namespace_profiles = [\"other\"]"), "a profile of this cluster"),
        (of("own_namespace_account = \"t\", own_namespace_profiles = []"), "no profile"),
        (of(&format!("{accounts}, check = \"review\"")), "there is no api_server"),
        (of(&format!("{accounts}, api_server = \"https://10.0.0.1\"")), "one of them decides"),
        (of(&format!("{accounts}, api_server_ca = \"ca.pem\"")), "there is no api_server"),
        ("token = { issuer = \"a\", audience = \"b\", accounts = [\"c/d\"] }".to_owned(), "one is needed"),
        (
            "token = { issuer = \"a\", audience = \"b\", accounts = [\"c/d\"], api_server = \"http://a\" }".to_owned(),
            "the https URL",
        ),
        (
            "token = { issuer = \"a\", audience = \"b\", accounts = [\"c/d\"], api_server = \"https://a\" }".to_owned(),
            "api_server needs api_server_ca",
        ),
        (
            "token = { issuer = \"a b\", audience = \"b\", accounts = [\"c/d\"], keys = \"k\" }".to_owned(),
            "letter for letter",
        ),
        ("client_certificates = { ca = \"lab.pem\", names = [] }".to_owned(), "no name"),
    ] {
        let error = cluster(&keys).expect_err(&keys);
        assert!(error.contains(told), "{keys}: {error}");
    }
    let second = format!(
        "{}\n[[cluster]]\nname = \"two\"\nauthority = \"issuing\"\nprofiles = [\"server\"]\n{}",
        of(accounts),
        of(accounts)
    );
    assert!(cluster(&second).expect_err("one audience").contains("give each cluster an audience of its own"));
    let twice = "[[cluster]]\nname = \"lab\"\nauthority = \"issuing\"\nprofiles = [\"server\"]";
    assert!(cluster(twice).expect_err("one name").contains("a second cluster is named"));
}

#[test]
fn the_port_of_the_url_is_listened_on_unless_another_is_named() {
    assert_eq!(read(&with("ca.example.com", "ca.example.com:14000")).unwrap().listen.https.to_string(), "[::]:14000");
    assert_eq!(read(&with("", "")).unwrap().listen.https.to_string(), "[::]:443");
    assert_eq!(
        read(&with("https://ca.example.com", "https://[2001:DB8::1]:9/")).unwrap().listen.url,
        "https://[2001:db8::1]:9"
    );
}

#[test]
fn places_that_are_not_said_follow_from_those_that_are() {
    for requests in [2, 3, 100, 2_048, 1_000_000] {
        let read = read(&with("[policy]", &format!("[limits]\nrequests_at_once = {requests}\n[policy]"))).unwrap();
        let Places { requests_at_once, arriving_requests_per_address, waiting_answers, waiting_answers_per_account } =
            read.limits.places;
        assert_eq!(requests_at_once, requests);
        assert!((1..=requests).contains(&arriving_requests_per_address));
        assert!((1..requests).contains(&waiting_answers), "{waiting_answers} of {requests}");
        assert!((1..=waiting_answers).contains(&waiting_answers_per_account));
    }
}

/// The use cases and the door have defaults of their own, for tests; the configuration has the same.
#[test]
fn places_by_default_are_those_of_the_use_cases_and_the_door() {
    let Places { requests_at_once, arriving_requests_per_address, waiting_answers, waiting_answers_per_account } =
        read(&with("", "")).unwrap().limits.places;
    let limits = chancery_authority::Limits::default();
    assert_eq!(
        (waiting_answers, waiting_answers_per_account),
        (limits.waiting_answers, limits.waiting_answers_per_account)
    );
    let door = chancery_http::acme::AcmeSettings::at("https://ca.example.com");
    assert_eq!((requests_at_once, arriving_requests_per_address), (door.in_flight, door.arriving_per_address));
}
