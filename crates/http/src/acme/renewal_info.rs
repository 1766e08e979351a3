//! Renewal information (RFC 9773 §4): read without a signature, by whoever can name a certificate.

use chancery_acme::{renewal_info::UniqueIdentifier, wire};
use http::StatusCode;

use super::{Acme, answer::Answer, problem::Fault};

/// When a certificate is best replaced, and when to ask again.
pub(crate) async fn renewal_info(acme: &Acme, certificate: &str) -> Result<Answer, Fault> {
    let asked: UniqueIdentifier = certificate.parse()?;
    let told = acme.office.renewal_info(&asked).await?.ok_or_else(|| Fault::not_found("certificate"))?;
    let answer = Answer::json(StatusCode::OK, &wire::RenewalInfo::of(&told));
    Ok(answer.with_retry_after(told.ask_again.as_secs()))
}
