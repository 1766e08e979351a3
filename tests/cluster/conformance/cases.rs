//! The suite's Certificates: 22 of them, and one more with every further output format.

use serde_json::{Value, json};

/// A Certificate of the suite.
pub(crate) struct Case {
    /// Its name here, and that of the Certificate.
    pub(crate) name: &'static str,
    /// What it asks for, beside issuer and Secret; names end in the domain that is given.
    pub(crate) spec: fn(&str) -> Value,
}

const fn case(name: &'static str, spec: fn(&str) -> Value) -> Case {
    Case { name, spec }
}

/// Longest label of a host name (RFC 1035 §2.3.4).
const LONG: &str = "a-label-that-is-exactly-as-long-as-a-label-of-a-name-may-become";

/// What any issuer is asked for.
pub(crate) const CASES: &[Case] = &[
    case("dns-name", |domain| json!({ "dnsNames": [format!("one.{domain}")] })),
    case("ca", |domain| json!({ "isCA": true, "dnsNames": [format!("team.ca.{domain}")] })),
    case("ecdsa", |domain| json!({ "privateKey": { "algorithm": "ECDSA" }, "dnsNames": [format!("ecdsa.{domain}")] })),
    case(
        "ed25519",
        |domain| json!({ "privateKey": { "algorithm": "Ed25519" }, "dnsNames": [format!("ed25519.{domain}")] }),
    ),
    case("common-name", |_| json!({ "commonName": "test-common-name-1" })),
    case("other-name-and-email", |domain| {
        json!({
            "otherNames": [{ "oid": "1.3.6.1.4.1.311.20.2.3", "utf8Value": format!("upn@{domain}") }],
            "emailAddresses": [format!("email@{domain}")],
        })
    }),
    case("literal-subject", |domain| {
        json!({
            "literalSubject": format!("CN=subject.{domain},OU=FooLong,OU=Bar,OU=Baz,OU=Dept.,O=Corp."),
            "dnsNames": [format!("subject.{domain}")],
        })
    }),
    case(
        "ecdsa-common-name",
        |_| json!({ "privateKey": { "algorithm": "ECDSA" }, "commonName": "test-common-name-2" }),
    ),
    case(
        "ed25519-common-name",
        |_| json!({ "privateKey": { "algorithm": "Ed25519" }, "commonName": "test-common-name-3" }),
    ),
    case("ip-address", |_| json!({ "ipAddresses": ["127.0.0.1"] })),
    case(
        "dns-name-and-ip-address",
        |domain| json!({ "dnsNames": [format!("ip.{domain}")], "ipAddresses": ["127.0.0.1"] }),
    ),
    case("common-name-and-ip-address", |_| json!({ "commonName": "test-common-name-4", "ipAddresses": ["127.0.0.1"] })),
    case("email-address", |domain| json!({ "emailAddresses": [format!("alice@{domain}")] })),
    case(
        "common-name-and-uri",
        |_| json!({ "commonName": "test-common-name-5", "uris": ["spiffe://cluster.local/ns/sandbox/sa/foo"] }),
    ),
    case(
        "two-dns-names-one-as-common-name",
        |domain| json!({ "commonName": format!("first.{domain}"), "dnsNames": [format!("first.{domain}"), format!("second.{domain}")] }),
    ),
    case(
        "dns-name-and-another-as-common-name",
        |domain| json!({ "commonName": format!("common.{domain}"), "dnsNames": [format!("other.{domain}")] }),
    ),
    case("duration", |domain| json!({ "duration": "896h", "dnsNames": [format!("duration.{domain}")] })),
    case("wildcard", |domain| json!({ "dnsNames": [format!("*.wild.{domain}")] })),
    case("uri", |_| json!({ "uris": ["spiffe://cluster.local/ns/sandbox/sa/foo"] })),
    case("usages", |domain| {
        json!({
            "dnsNames": [format!("usages.{domain}")],
            "usages": ["signing", "data encipherment", "server auth", "client auth"],
        })
    }),
    case("long-domain", |domain| json!({ "dnsNames": [format!("{LONG}.{domain}")] })),
    case("wildcard-and-apex", |domain| json!({ "dnsNames": [format!("*.wild.{domain}"), format!("wild.{domain}")] })),
    case("output-formats", |domain| {
        json!({
            "dnsNames": [format!("formats.{domain}")],
            "additionalOutputFormats": [{ "type": "CombinedPEM" }, { "type": "DER" }],
        })
    }),
];

/// What an ACME server can be asked for at all (kinds of names, RFC 8738 and RFC 8555 §7.1.3; nothing about usages, CAs
/// and subjects); cert-manager itself asks for no common name that is not among the names.
pub(crate) const ACME: &[&str] = &[
    "dns-name",
    "ecdsa",
    "ed25519",
    "ip-address",
    "dns-name-and-ip-address",
    "two-dns-names-one-as-common-name",
    "duration",
    "wildcard",
    "long-domain",
    "wildcard-and-apex",
    "output-formats",
];
