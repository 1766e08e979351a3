//! What the certificate points to: key identifiers, CRLs, OCSP and issuer, policies, must-staple.

use super::{no, repeated, rule, then};
use crate::{
    lint::{Part, Row, Subject, view::Read},
    profile::{ANY_POLICY, ObjectIdentifier, url_fault},
    tbs::key_identifier,
};

/// `id-ad-ocsp` and `id-ad-caIssuers` (RFC 5280 §4.2.2.1), content octets.
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1];
const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 2];

fn unreadable<T>(read: Option<&Read<T>>, what: &str) -> Option<String> {
    no(read.is_some_and(|read| read.value.is_none()), what)
}

fn critical<T>(read: Option<&Read<T>>, what: &str) -> Option<String> {
    no(read.is_some_and(|read| read.critical), what)
}

fn bad_url<'u>(urls: impl IntoIterator<Item = &'u [u8]>) -> Option<String> {
    urls.into_iter().find_map(|url| {
        let text = String::from_utf8_lossy(url);
        url_fault(&text).map(|why| format!("{}: {why}", text.escape_debug()))
    })
}

fn crl_urls<'s>(s: &'s Subject<'_>) -> &'s [&'s [u8]] {
    s.view.crl_urls.as_ref().and_then(|urls| urls.value.as_deref()).unwrap_or_default()
}

/// Method and URL of every access description.
fn access<'s>(s: &'s Subject<'_>) -> impl Iterator<Item = (&'s [u8], &'s [u8])> {
    let all = s.view.access.as_ref().and_then(|access| access.value.as_deref()).unwrap_or_default();
    all.iter().map(|access| (access.method, access.url))
}

fn policies<'s>(s: &'s Subject<'_>) -> &'s [ObjectIdentifier] {
    s.view.policies.as_ref().and_then(|policies| policies.value.as_deref()).unwrap_or_default()
}

pub(super) static ROWS: &[Row] = &[
    rule(Part::AuthorityKey, "authority_key_present", "RFC 5280 §4.2.1.1", |s| {
        no(s.view.authority_key.is_none(), "it does not name its issuer's key identifier")
    }),
    then(Part::AuthorityKey, "authority_key_readable", "RFC 5280 §4.2.1.1, CA/B BR 7.1.2.11.1", |s| {
        unreadable(s.view.authority_key.as_ref(), "its authority key identifier is not a key identifier alone")
    }),
    rule(Part::AuthorityKey, "authority_key_not_critical", "RFC 5280 §4.2.1.1", |s| {
        critical(s.view.authority_key.as_ref(), "its authority key identifier is critical")
    }),
    then(Part::AuthorityKey, "authority_key_copied", "RFC 5280 §4.2.1.1", |s| {
        let named = s.view.authority_key.as_ref().and_then(|named| named.value);
        no(named != Some(s.issuer.key_identifier().as_slice()), "it names another key identifier than its issuer's")
    }),
    rule(Part::SubjectKey, "subject_key_present", "RFC 5280 §4.2.1.2 (SHOULD)", |s| {
        no(s.view.subject_key.is_none(), "it has no subject key identifier")
    }),
    then(Part::SubjectKey, "subject_key_readable", "RFC 5280 §4.2.1.2", |s| {
        unreadable(s.view.subject_key.as_ref(), "its subject key identifier cannot be read")
    }),
    rule(Part::SubjectKey, "subject_key_not_critical", "RFC 5280 §4.2.1.2", |s| {
        critical(s.view.subject_key.as_ref(), "its subject key identifier is critical")
    }),
    then(Part::SubjectKey, "subject_key_of_its_key", "RFC 7093 §2 (1)", |s| {
        let named = s.view.subject_key.as_ref().and_then(|named| named.value);
        no(named != Some(key_identifier(s.request.key).as_slice()), "its subject key identifier is not its key's")
    }),
    then(Part::CrlUrls, "crl_readable", "RFC 5280 §4.2.1.13, CA/B BR 7.1.2.11.2", |s| {
        unreadable(s.view.crl_urls.as_ref(), "its CRL distribution points are not full names of URIs alone")
    }),
    rule(Part::CrlUrls, "crl_not_critical", "RFC 5280 §4.2.1.13 (SHOULD)", |s| {
        critical(s.view.crl_urls.as_ref(), "its CRL distribution points are critical")
    }),
    rule(Part::CrlUrls, "crl_urls_http", "RFC 5280 §4.2.1.13, CA/B BR 7.1.2.11.2", |s| {
        bad_url(crl_urls(s).iter().copied())
    }),
    then(Part::CrlUrls, "crl_url_as_profile", "own: the shard is fixed when the certificate is issued", |s| {
        let shard = s.request.profile.crl_shard(s.request.serial);
        let wanted = shard.and_then(|shard| s.request.profile.crl_url(shard));
        let wanted: Vec<&[u8]> = wanted.iter().map(String::as_bytes).collect();
        no(crl_urls(s) != wanted, "it does not name the CRL of its shard, and no other")
    }),
    then(Part::Access, "access_readable", "RFC 5280 §4.2.2.1", |s| {
        unreadable(s.view.access.as_ref(), "its authority information access is not URIs alone")
    }),
    rule(Part::Access, "access_not_critical", "RFC 5280 §4.2.2.1", |s| {
        critical(s.view.access.as_ref(), "its authority information access is critical")
    }),
    rule(Part::Access, "access_methods_known", "RFC 5280 §4.2.2.1, CA/B BR 7.1.2.7.7", |s| {
        no(
            access(s).any(|(method, _)| method != OCSP && method != CA_ISSUERS),
            "it has a method other than OCSP and caIssuers",
        )
    }),
    rule(Part::Access, "access_urls_http", "RFC 5280 §4.2.2.1, CA/B BR 7.1.2.7.7", |s| {
        bad_url(access(s).map(|(_, url)| url))
    }),
    then(Part::Access, "access_as_profile", "own: what the profile says and nothing else", |s| {
        let profile = s.request.profile;
        let ocsp = profile.ocsp().iter().map(|url| (OCSP, url.as_bytes()));
        let issuers = profile.ca_issuers().iter().map(|url| (CA_ISSUERS, url.as_bytes()));
        no(!access(s).eq(ocsp.chain(issuers)), "its authority information access is not its profile's")
    }),
    then(Part::Policies, "policies_readable", "RFC 5280 §4.2.1.4", |s| {
        unreadable(s.view.policies.as_ref(), "its policies are not identifiers without qualifiers")
    }),
    rule(Part::Policies, "policies_not_critical", "CA/B BR 7.1.2.7.9", |s| {
        critical(s.view.policies.as_ref(), "its policies are critical")
    }),
    rule(Part::Policies, "policies_once", "RFC 5280 §4.2.1.4", |s| {
        repeated(policies(s)).map(|policy| format!("it has policy {policy} twice"))
    }),
    rule(Part::Policies, "policies_not_any", "CA/B BR 7.1.2.7.9", |s| {
        no(policies(s).contains(&ANY_POLICY), "it claims every policy")
    }),
    then(Part::Policies, "policies_as_profile", "own: what the profile says and nothing else", |s| {
        no(policies(s) != s.request.profile.policies(), "its policies are not its profile's")
    }),
    then(Part::TlsFeature, "tls_feature_readable", "RFC 7633 §4.1", |s| {
        unreadable(s.view.tls_feature.as_ref(), "its TLS feature is not status_request alone")
    }),
    rule(Part::TlsFeature, "tls_feature_not_critical", "RFC 7633 §4 (SHOULD)", |s| {
        critical(s.view.tls_feature.as_ref(), "its TLS feature is critical")
    }),
    then(Part::TlsFeature, "must_staple_as_asked", "RFC 7633 §4, RFC 8555 §7.4", |s| {
        no(s.request.must_staple != s.view.tls_feature.is_some(), "it says must-staple unasked, or not although asked")
    }),
    rule(Part::TlsFeature, "must_staple_in_profile", "own: must-staple by the profile's leave alone", |s| {
        let refused = s.request.profile.check_must_staple(s.request.must_staple).is_err();
        no(refused, "its profile issues no must-staple certificates")
    }),
];
