//! What a registration authority may ask for: one SPIFFE ID of its trust domain, and nothing beside it.
//!
//! Whoever may approve CertificateSigningRequests could otherwise have any identity made: the API server proves who
//! made a request, and an approver says no more than yes.

use chancery_pki::{Csr, Name};

use crate::resource::RegistrationAuthority;

/// Holds a request against the rule.
///
/// # Errors
///
/// A sentence: what is refused, and what would not be.
pub(crate) fn check(rule: &RegistrationAuthority, username: &str, csr: &Csr, is_ca: bool) -> Result<(), String> {
    let RegistrationAuthority { service_account, trust_domain } = rule;
    let authority = service_account.username();
    if username != authority {
        return Err(format!(
            "\"{}\" may not ask this signer for certificates: it signs for its registration authority {authority} alone",
            username.escape_debug()
        ));
    }
    let only = format!("{authority} may ask for one SPIFFE ID of the trust domain \"{trust_domain}\" and nothing else");
    if is_ca || csr.asks_for_ca() == Some(true) {
        return Err(format!("the request is for a CA's certificate; {only}"));
    }
    if !csr.subject_is_empty() {
        return Err(format!("the CSR has a subject; {only}"));
    }
    if csr.wants_must_staple() {
        return Err(format!("the CSR asks for OCSP must-staple; {only}"));
    }
    let names = csr.names().map(|names| names.iter().collect::<Vec<_>>()).unwrap_or_default();
    let [name] = names.as_slice() else {
        return Err(format!("the CSR has {} names; {only}", names.len()));
    };
    match name {
        Name::Spiffe(id) if id.trust_domain() != trust_domain => {
            Err(format!("{id} is of the trust domain \"{}\"; {only}", id.trust_domain()))
        }
        Name::Spiffe(id) if id.path().is_empty() => Err(format!("{id} names no workload; {only}")),
        Name::Spiffe(_) => Ok(()),
        other => Err(format!("{other} is no SPIFFE ID; {only}")),
    }
}

#[cfg(test)]
mod tests {
    use chancery_pki::CsrRules;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;
    use crate::resource::ServiceAccountName;

    const ISTIOD: &str = "system:serviceaccount:istio-system:istiod";
    const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

    fn rule() -> RegistrationAuthority {
        let service_account = ServiceAccountName { namespace: "istio-system".to_owned(), name: "istiod".to_owned() };
        RegistrationAuthority { service_account, trust_domain: "cluster.local".to_owned() }
    }

    fn csr(uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Csr {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("text of ASCII"))).collect();
        change(&mut params);
        let request = params.serialize_request(&KeyPair::generate().expect("a key")).expect("a CSR");
        Csr::from_der_by(request.der(), CsrRules::Object).expect("a good CSR")
    }

    #[test]
    fn istiod_gets_a_workloads_identity_also_with_the_empty_organization_of_istios_agent() {
        let empty = |params: &mut CertificateParams| params.distinguished_name.push(DnType::OrganizationName, "");
        assert_eq!(check(&rule(), ISTIOD, &csr(&[WEB], |_| {}), false), Ok(()));
        assert_eq!(check(&rule(), ISTIOD, &csr(&[WEB], empty), false), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_in_words() {
        let dns = |params: &mut CertificateParams| {
            params.subject_alt_names.push(SanType::DnsName("web.example".try_into().expect("text of ASCII")));
        };
        let cn = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "admin");
        let org = |params: &mut CertificateParams| {
            params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        };
        for (username, csr, is_ca, words) in [
            ("system:serviceaccount:istio-system:other", csr(&[WEB], |_| {}), false, "may not ask this signer"),
            ("system:serviceaccount:evil:istiod", csr(&[WEB], |_| {}), false, "may not ask this signer"),
            ("", csr(&[WEB], |_| {}), false, "may not ask this signer"),
            (ISTIOD, csr(&["spiffe://other.local/ns/a/sa/b"], |_| {}), false, "\"other.local\""),
            (ISTIOD, csr(&["spiffe://cluster.local"], |_| {}), false, "names no workload"),
            (ISTIOD, csr(&[WEB, "spiffe://cluster.local/ns/a/sa/b"], |_| {}), false, "has 2 names"),
            (ISTIOD, csr(&["https://web.example/"], |_| {}), false, "no SPIFFE ID"),
            (ISTIOD, csr(&[WEB], dns), false, "has 2 names"),
            (ISTIOD, csr(&[], dns), false, "no SPIFFE ID"),
            (ISTIOD, csr(&[], |_| {}), false, "has 0 names"),
            (ISTIOD, csr(&[WEB], cn), false, "has a subject"),
            (ISTIOD, csr(&[WEB], org), false, "has a subject"),
            (ISTIOD, csr(&[WEB], |_| {}), true, "CA's certificate"),
        ] {
            let refused = check(&rule(), username, &csr, is_ca).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }
}
