//! Holds what a Certificate has led to against what it asks for: by OpenSSL and another parser than ours, all at once, so
//! that a failure tells everything that is wrong.

use std::{collections::BTreeSet, fmt::Debug, fs, process::Command};

use chancery_cluster_tests::{Result, until};
use chancery_harness::server::succeeded;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::Value;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName},
    pem::Pem,
};

use super::Issued;

/// How much longer or shorter than asked for a life may be, in seconds.
const TOLERANCE_S: i64 = 30;
/// What a Certificate gets that names no duration: 90 days, in hours.
const USUAL_H: i64 = 2160;

/// Whom it was asked from.
pub(crate) struct Trust<'a> {
    /// The root that everything must stand under, in PEM.
    pub(crate) root: &'a str,
    /// By ACME: then no root is handed on, and the profile alone says what a certificate may be used for.
    pub(crate) acme: bool,
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn same<T: PartialEq + Debug>(&mut self, what: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(format!("{what}: {found:?}, and wanted is {wanted:?}"));
        }
    }

    fn holds(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.0.push(what.into());
        }
    }

    fn succeeds(&mut self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.0.push(format!("{what}: {error}"));
        }
    }
}

/// What is wrong with it, in words; nothing where all is as asked for.
pub(crate) fn faults(issued: &Issued, trust: &Trust<'_>) -> Result<Vec<String>> {
    let mut faults = Faults::default();
    let pems = Pem::iter_from_buffer(issued.octets("tls.crt")?).collect::<std::result::Result<Vec<_>, _>>()?;
    let chain = pems.iter().map(Pem::parse_x509).collect::<std::result::Result<Vec<_>, _>>()?;
    let leaf = chain.first().ok_or("an empty chain")?;
    let spec = &issued.certificate.data["spec"];
    content(&mut faults, leaf, spec, trust)?;
    path(&mut faults, &chain, issued, spec, trust)?;
    secret(&mut faults, issued, spec, trust)?;
    status(&mut faults, leaf, issued, trust)?;
    Ok(faults.0)
}

fn words(spec: &Value, member: &str) -> Vec<String> {
    let list = spec[member].as_array();
    list.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

fn algorithm(spec: &Value) -> &str {
    spec.pointer("/privateKey/algorithm").and_then(Value::as_str).unwrap_or("RSA")
}

/// Names, subject, usages, life, key.
fn content(faults: &mut Faults, leaf: &X509Certificate<'_>, spec: &Value, trust: &Trust<'_>) -> Result<()> {
    let common_name = spec["commonName"].as_str();
    let found = leaf.subject_alternative_name()?;
    let names: BTreeSet<String> =
        found.iter().flat_map(|san| &san.value.general_names).map(shown).collect::<Result<_>>()?;
    faults.same("alternative names", &names, &wanted_names(spec));
    let empty = leaf.subject().iter_attributes().next().is_none();
    if let Some(san) = found {
        faults.same("alternative names are critical", &san.critical, &empty);
    }
    let in_subject: Vec<&str> = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    match (common_name, trust.acme) {
        (Some(wanted), false) => faults.same("common name", &in_subject, &vec![wanted]),
        _ => {
            let among = in_subject.iter().all(|name| names.contains(&format!("DNS:{name}")));
            let literal = spec["literalSubject"].is_string();
            faults.holds(among || literal, format!("{in_subject:?} in the subject is nobody's name"));
        }
    }
    let is_ca = spec["isCA"].as_bool().unwrap_or_default();
    let constraints = leaf.basic_constraints()?.map(|extension| extension.value);
    faults.same("CA", &constraints.is_some_and(|constraints| constraints.ca), &is_ca);
    if is_ca {
        let length = constraints.and_then(|constraints| constraints.path_len_constraint);
        faults.same("path length", &length, &Some(0));
    }
    usages(faults, leaf, spec, is_ca, trust)?;
    let hours = spec["duration"].as_str().and_then(|text| text.split('h').next()?.parse::<i64>().ok());
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    let asked = hours.unwrap_or(USUAL_H) * 3600;
    faults.holds((life - asked).abs() <= TOLERANCE_S, format!("it lives {life} s, and {asked} s were asked for"));
    let wanted = match algorithm(spec) {
        "ECDSA" => "1.2.840.10045.2.1",
        "Ed25519" => "1.3.101.112",
        _ => "1.2.840.113549.1.1.1",
    };
    faults.same("kind of key", &leaf.public_key().algorithm.algorithm.to_id_string(), &wanted.to_owned());
    Ok(())
}

fn wanted_names(spec: &Value) -> BTreeSet<String> {
    let of = |member: &str, kind: &str| -> Vec<String> {
        words(spec, member).into_iter().map(|name| format!("{kind}:{name}")).collect()
    };
    let mut names: BTreeSet<String> =
        [of("dnsNames", "DNS"), of("ipAddresses", "IP"), of("uris", "URI"), of("emailAddresses", "email")]
            .concat()
            .into_iter()
            .collect();
    // A common name that reads as a host name is one.
    names.extend(spec["commonName"].as_str().filter(|name| name.contains('.')).map(|name| format!("DNS:{name}")));
    for other in spec["otherNames"].as_array().into_iter().flatten() {
        let text = |member: &str| other[member].as_str().unwrap_or_default().to_owned();
        names.insert(format!("other {}:{}", text("oid"), text("utf8Value")));
    }
    names
}

fn shown(name: &GeneralName<'_>) -> Result<String> {
    Ok(match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::IPAddress(octets) => match <[u8; 4]>::try_from(*octets) {
            Ok(octets) => format!("IP:{}", std::net::Ipv4Addr::from(octets)),
            Err(_) => format!("IP:{octets:?}"),
        },
        GeneralName::OtherName(kind, value) => {
            // A UTF8String (tag 12) with a short length, within its explicit tag.
            let text =
                value.iter().position(|octet| *octet == 12).and_then(|at| value.get(at + 2..)).ok_or("no text")?;
            format!("other {}:{}", kind.to_id_string(), String::from_utf8_lossy(text))
        }
        other => format!("{other:?}"),
    })
}

fn usages(faults: &mut Faults, leaf: &X509Certificate<'_>, spec: &Value, is_ca: bool, trust: &Trust<'_>) -> Result<()> {
    let mut asked = words(spec, "usages");
    if asked.is_empty() || trust.acme {
        asked = vec!["digital signature".to_owned(), "key encipherment".to_owned()];
    }
    let mut bits = BTreeSet::new();
    let mut purposes = BTreeSet::new();
    for usage in &asked {
        match usage.as_str() {
            "signing" | "digital signature" => {
                bits.insert("digitalSignature");
            }
            // Other keys than RSA's cannot, and a CA signs.
            "key encipherment" if algorithm(spec) == "RSA" && !is_ca => {
                bits.insert("keyEncipherment");
            }
            "data encipherment" => {
                bits.insert("dataEncipherment");
            }
            "server auth" => {
                purposes.insert("serverAuth");
            }
            "client auth" => {
                purposes.insert("clientAuth");
            }
            _ => {}
        }
    }
    if is_ca {
        bits.extend(["keyCertSign", "cRLSign"]);
    } else if purposes.is_empty() {
        // The profile's own.
        purposes.insert("serverAuth");
    }
    let found = leaf.key_usage()?.ok_or("no key usage")?.value;
    let all = [
        ("digitalSignature", found.digital_signature()),
        ("nonRepudiation", found.non_repudiation()),
        ("keyEncipherment", found.key_encipherment()),
        ("dataEncipherment", found.data_encipherment()),
        ("keyAgreement", found.key_agreement()),
        ("keyCertSign", found.key_cert_sign()),
        ("cRLSign", found.crl_sign()),
    ];
    let given = all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
    faults.same("key usages", &given, &bits);
    let found = leaf.extended_key_usage()?.map(|extension| extension.value);
    faults.same("extended key usages", &found.map(purposes_of).unwrap_or_default(), &purposes);
    Ok(())
}

fn purposes_of(found: &ExtendedKeyUsage<'_>) -> BTreeSet<&'static str> {
    let ExtendedKeyUsage { any, server_auth, client_auth, code_signing, email_protection, time_stamping, .. } = found;
    let others = *any || *code_signing || *email_protection || *time_stamping || !found.other.is_empty();
    [("serverAuth", *server_auth), ("clientAuth", *client_auth), ("others", others)]
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}

/// The order of the chain, its root, and what OpenSSL says of all.
fn path(
    faults: &mut Faults,
    chain: &[X509Certificate<'_>],
    issued: &Issued,
    spec: &Value,
    trust: &Trust<'_>,
) -> Result<()> {
    for (lower, upper) in chain.iter().zip(chain.iter().skip(1)) {
        faults.same("the next of the chain", &upper.subject().as_raw(), &lower.issuer().as_raw());
    }
    faults.holds(chain.len() > 1, "the issuing certificate is not in the chain");
    faults.holds(
        chain.iter().all(|certificate| certificate.subject() != certificate.issuer()),
        "the root is in the chain",
    );
    let folder = tempfile::tempdir()?;
    for key in ["tls.crt", "tls.key"] {
        fs::write(folder.path().join(key), issued.octets(key)?)?;
    }
    fs::write(folder.path().join("root.pem"), trust.root)?;
    let openssl = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output()?;
        succeeded(&output)?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let mut verify = vec!["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "root.pem"];
    verify.extend(["-untrusted", "tls.crt"]);
    let host = words(spec, "dnsNames").first().map(|name| name.replace('*', "any"));
    verify.extend(host.iter().flat_map(|host| ["-verify_hostname", host]));
    verify.push("tls.crt");
    faults.succeeds("OpenSSL", openssl(&verify).map(drop));
    let certified = openssl(&["x509", "-in", "tls.crt", "-noout", "-pubkey"])?;
    faults.same("the key", &certified, &openssl(&["pkey", "-in", "tls.key", "-pubout"])?);
    if let Some(literal) = spec["literalSubject"].as_str() {
        let subject = openssl(&["x509", "-in", "tls.crt", "-noout", "-subject", "-nameopt", "RFC2253"])?;
        faults.same("subject", &subject.trim(), &format!("subject={literal}").as_str());
    }
    Ok(())
}

/// Which keys the Secret has, and whose they are.
fn secret(faults: &mut Faults, issued: &Issued, spec: &Value, trust: &Trust<'_>) -> Result<()> {
    let mut wanted = BTreeSet::from(["tls.crt", "tls.key"]);
    if !trust.acme {
        wanted.insert("ca.crt");
        let given = Pem::iter_from_buffer(issued.octets("ca.crt")?).collect::<std::result::Result<Vec<_>, _>>()?;
        let root = Pem::iter_from_buffer(trust.root.as_bytes()).collect::<std::result::Result<Vec<_>, _>>()?;
        let contents = |pems: &[Pem]| pems.iter().map(|pem| pem.contents.clone()).collect::<Vec<_>>();
        faults.same("ca.crt", &contents(&given), &contents(&root));
    }
    let squeezed =
        |octets: &[u8]| octets.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect::<Vec<_>>();
    for format in spec["additionalOutputFormats"].as_array().into_iter().flatten() {
        if format["type"] == "DER" {
            wanted.insert("key.der");
            let (_, key) = x509_parser::pem::parse_x509_pem(issued.octets("tls.key")?)?;
            faults.holds(issued.octets("key.der")? == key.contents, "key.der is another key");
        } else {
            wanted.insert("tls-combined.pem");
            let both = [squeezed(issued.octets("tls.key")?), squeezed(issued.octets("tls.crt")?)].concat();
            faults.holds(squeezed(issued.octets("tls-combined.pem")?) == both, "tls-combined.pem is something else");
        }
    }
    let keys: BTreeSet<&str> = issued.secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
    faults.same("keys of the Secret", &keys, &wanted);
    faults.same("type of the Secret", &issued.secret.type_.as_deref(), &Some("kubernetes.io/tls"));
    let holds_data = |fields: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1>| {
        fields.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some())
    };
    let owners: BTreeSet<&str> = issued
        .secret
        .managed_fields()
        .iter()
        .filter(|entry| holds_data(&entry.fields_v1))
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    faults.same("owners of the Secret's data", &owners, &BTreeSet::from(["cert-manager-certificates-issuing"]));
    Ok(())
}

/// What the server suggested (RFC 9773), and that cert-manager goes by it (the suite's ACMEUseARI).
fn renewal_information(faults: &mut Faults, status: &Value, life: (i64, i64), renewal: i64) -> Result<()> {
    let told = &status["acme"]["ari"];
    let at = |pointer: &str| -> Result<i64> {
        let text = told.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("no {pointer} in {told}"))?;
        Ok(text.parse::<Timestamp>()?.as_second())
    };
    faults.same("status.acme.ari.lastError", &told["lastError"].as_str().unwrap_or_default(), &"");
    let (start, end) = (at("/suggestedWindow/start")?, at("/suggestedWindow/end")?);
    faults.holds(life.0 < start && start < end && end < life.1, format!("a window from {start} to {end}"));
    faults.holds(at("/lastChecked")? < at("/nextCheck")?, "it is never asked again");
    faults.holds((start..=end).contains(&renewal), format!("it is renewed at {renewal}, not from {start} to {end}"));
    Ok(())
}

/// What the Certificate's status says of the certificate.
fn status(faults: &mut Faults, leaf: &X509Certificate<'_>, issued: &Issued, trust: &Trust<'_>) -> Result<()> {
    let status = &issued.certificate.data["status"];
    let at = |member: &str| -> Result<i64> {
        let text = status[member].as_str().ok_or_else(|| format!("no {member} in the status"))?;
        Ok(text.parse::<Timestamp>()?.as_second())
    };
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    faults.same("status.notBefore", &at("notBefore")?, &begin);
    faults.same("status.notAfter", &at("notAfter")?, &end);
    let before = issued.certificate.data["spec"]["renewBefore"].as_str();
    let before = before.and_then(|text| text.split('h').next()?.parse::<i64>().ok()).map(|hours| hours * 3600);
    let wanted = end - before.unwrap_or((end - begin) / 3);
    let renewal = at("renewalTime")?;
    if trust.acme {
        renewal_information(faults, status, (begin, end), renewal)?;
    } else {
        faults.holds((renewal - wanted).abs() <= 1, format!("it is renewed at {renewal}, and wanted is {wanted}"));
    }
    let ready = until::conditions_of(&issued.certificate).find(|condition| condition["type"] == "Ready");
    let observed = ready.and_then(|ready| ready["observedGeneration"].as_i64());
    faults.same("observedGeneration", &observed, &issued.certificate.metadata.generation);
    Ok(())
}
