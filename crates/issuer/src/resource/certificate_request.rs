//! cert-manager's CertificateRequest: the fields that are read, and the status that is written.
//!
//! Only patches of the status are ever sent, so what is not listed here is not lost. Others write these objects too, and
//! a listing is read as a whole: one that Go would read and we would not would hide all the others, so what is no
//! base64 is read as nothing, and null as what is left out.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

use k8s_openapi::ByteString;
use kube::CustomResource;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

/// What is asked for. The API server lets nobody change it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "cert-manager.io",
    version = "v1",
    kind = "CertificateRequest",
    namespaced,
    status = "CertificateRequestStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestSpec {
    /// The CSR in PEM.
    #[serde(deserialize_with = "octets")]
    pub request: ByteString,
    /// How long the certificate shall live, in Go's notation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Whether it shall be a CA's.
    #[serde(rename = "isCA", skip_serializing_if = "std::ops::Not::not", deserialize_with = "nullable")]
    pub is_ca: bool,
    /// What it shall be used for.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "distinct")]
    pub usages: Vec<String>,
    /// Who shall sign.
    pub issuer_ref: ObjectReference,
    /// Who made the object.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub username: String,
    /// The groups of whoever made it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub groups: Vec<String>,
}

/// A reference to an issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    /// Its name.
    pub name: String,
    /// Its kind; empty means cert-manager's `Issuer`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// Its group; empty means cert-manager's.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub group: String,
}

/// What has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestStatus {
    /// Conditions, one of each type.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<RequestCondition>,
    /// The chain in PEM, leaf first.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_octets")]
    pub certificate: Option<ByteString>,
    /// The root in PEM.
    #[serde(rename = "ca", skip_serializing_if = "Option::is_none", deserialize_with = "some_octets")]
    pub ca: Option<ByteString>,
    /// When it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<String>,
}

/// A condition, kept to the letter: a patch tests that it is still so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestCondition {
    /// `Ready`, `Approved`, `Denied`, `InvalidRequest`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// What later versions add.
    #[serde(flatten)]
    pub others: BTreeMap<String, serde_json::Value>,
}

impl CertificateRequest {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&RequestCondition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of this type is there and `True`.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }
}

/// Null is what is left out.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Each text once. The API server takes as many of one as an object has room for, and each would cost ten times its
/// octets.
fn distinct<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Distinct;

    impl<'de> Visitor<'de> for Distinct {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts, or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Self::Value, A::Error> {
            let (mut known, mut distinct) = (HashSet::new(), Vec::new());
            while let Some(text) = texts.next_element::<String>()? {
                if known.insert(text.clone()) {
                    distinct.push(text);
                }
            }
            Ok(distinct)
        }
    }

    from.deserialize_any(Distinct)
}

/// Octets in base64 as Go reads them, which skips the ends of lines; nothing for what is none.
fn octets<'de, D: Deserializer<'de>>(from: D) -> Result<ByteString, D::Error> {
    some_octets(from).map(Option::unwrap_or_default)
}

fn some_octets<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteString>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    Ok(text.map(|mut text| {
        text.retain(|sign| !matches!(sign, '\r' | '\n'));
        serde_json::from_value(serde_json::Value::String(text)).unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_others_wrote_oddly_is_read_and_hides_no_others() {
        let object = |certificate: &str| {
            json!({
                "metadata": { "name": "web" },
                "spec": {
                    "request": "Q1NS\n", "usages": null, "groups": null, "username": null, "isCA": null,
                    "issuerRef": { "name": "corp", "kind": null, "group": "chancery.dev" },
                },
                "status": { "conditions": null, "certificate": certificate, "ca": null },
            })
        };
        let read =
            |certificate: &str| serde_json::from_value::<CertificateRequest>(object(certificate)).expect("it reads");
        let request = read("UEVN\r\nUEVN");
        assert_eq!(request.spec.request.0, b"CSR");
        assert!(request.spec.usages.is_empty());
        let status = request.status.expect("a status");
        assert_eq!((status.certificate.map(|octets| octets.0), status.ca), (Some(b"PEMPEM".to_vec()), None));
        let status = read("*").status.expect("a status");
        assert_eq!(status.certificate.map(|octets| octets.0), Some(Vec::new()), "there, and no certificate");
    }
    #[test]
    fn a_usage_that_is_named_a_hundred_thousand_times_is_kept_once() {
        let mut usages = vec!["server auth"; 100_000];
        usages.extend(["client auth", "server auth"]);
        let spec: CertificateRequestSpec = serde_json::from_value(json!({
            "request": "", "usages": usages, "issuerRef": { "name": "corp" },
        }))
        .expect("it reads");
        assert_eq!(spec.usages, ["server auth", "client auth"], "in their order");
        assert!(spec.usages.capacity() < 10, "{}", spec.usages.capacity());
    }
}
