//! Certificates with their chains (RFC 8555 §7.4.2) and revocation (§7.6).

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

/// The chains of the authority that issued this certificate, without the one it comes with.
fn other_chains(acme: &Acme, directory: &Known, default: &IssuedChain) -> Vec<Vec<Vec<u8>>> {
    let settings = acme.office.settings();
    let authority = settings.directories.get(&directory.name).and_then(|found| settings.authority(&found.authority));
    let der = |chain: &Chain| chain.certificates().iter().map(|certificate| certificate.der().to_vec()).collect();
    let chains: Vec<Vec<Vec<u8>>> =
        authority.map(|authority| authority.chains.iter().map(|chain| der(chain)).collect()).unwrap_or_default();
    // A directory may have been given another authority since; then its chains are not this certificate's.
    if !chains.contains(&default.issuers) {
        return Vec::new();
    }
    chains.into_iter().filter(|chain| *chain != default.issuers).collect()
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
