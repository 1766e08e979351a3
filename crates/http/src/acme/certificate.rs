//! Certificates with their chains (RFC 8555 §7.4.2) and revocation (§7.6).

use std::sync::Arc;

use chancery_acme::{id::CertificateId, problem::ProblemType, wire};
use chancery_authority::{issue::IssuedChain, revoke::Revoker};
use chancery_pki::chain::Chain;
use http::StatusCode;

use super::{
    Acme,
    answer::Answer,
    directory::Known,
    front::{PostAsGet, Signer, Verified},
    problem::Fault,
};

/// A certificate with one of its chains; the others are linked as alternates.
pub(crate) async fn certificate(
    acme: &Acme,
    directory: &Known,
    (id, chain): (CertificateId, usize),
    request: Verified<PostAsGet>,
) -> Result<Answer, Fault> {
    let not_found = || Fault::not_found("certificate");
    let default = acme.office.certificate(request.by.id, id).await?.ok_or_else(not_found)?;
    let others = other_chains(acme, directory, &default);
    let pem = match chain.checked_sub(1) {
        None => default.pem(),
        Some(other) => {
            let issuers = others.get(other).cloned().ok_or_else(not_found)?;
            IssuedChain { certificate: default.certificate, issuers }.pem()
        }
    };
    let url = |number| if number == 0 { directory.urls.certificate(id) } else { directory.urls.alternate(id, number) };
    let mut answer = Answer::chain(pem);
    for number in (0..=others.len()).filter(|number| *number != chain) {
        answer = answer.with_link(&url(number), "alternate");
    }
    Ok(answer)
}

/// The other chains of the authority above the same issuer (renewed, cross-signed) that hold now.
fn other_chains(acme: &Acme, directory: &Known, default: &IssuedChain) -> Vec<Vec<Vec<u8>>> {
    let settings = acme.office.settings();
    let Some(authority) =
        settings.directories.get(&directory.name).and_then(|found| settings.authority(&found.authority))
    else {
        return Vec::new();
    };
    let der = |chain: &Chain| chain.certificates().iter().map(|each| each.der().to_vec()).collect::<Vec<_>>();
    // A directory may have been given another authority since; then its chains are not this certificate's.
    let Some(own) = authority.chains.iter().find(|chain| der(chain) == default.issuers) else {
        return Vec::new();
    };
    let now = acme.office.now();
    let fits = |chain: &&Arc<Chain>| {
        !Arc::ptr_eq(chain, own) && chain.issuing().subject() == own.issuing().subject() && now <= chain.not_after()
    };
    authority.chains.iter().filter(fits).map(|chain| der(chain)).collect()
}

/// Revokes a certificate, for its account, for one that is authorized for all of its names, or for its own key.
pub(crate) async fn revoke(acme: &Acme, request: Verified<wire::Revoke, Signer>) -> Result<Answer, Fault> {
    let certificate = request.body.certificate()?;
    let reason = request.body.reason().map_err(|rejection| {
        let permitted: Vec<String> = chancery_authority::records::RevocationReason::ALL
            .iter()
            .map(|reason| format!("{} ({})", reason.code(), reason.as_str()))
            .collect();
        Fault::new(
            ProblemType::BadRevocationReason,
            format_args!("{rejection}; permitted are {}", permitted.join(", ")),
        )
    })?;
    let by = match request.by {
        Signer::Account(account) => Revoker::Account(account),
        Signer::Key(key) => Revoker::CertificateKey(key),
    };
    acme.office.revoke(by, &certificate, reason).await?;
    Ok(Answer::empty(StatusCode::OK))
}
