//! dns-01 (RFC 8555 §8.4).

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::problem::ProblemType;
use chancery_egress::Dialer;
use chancery_pki::name::DnsName;
use tokio::time::Instant;

use crate::look::{Look, Miss};

/// Looks for the digest among the TXT records at `_acme-challenge.` below `base`; any one may match.
///
/// Whatever is missing may be on its way to the secondaries that were asked, so nothing is final
/// at the first look (RFC 8555 §8.2 has the server retry for clients that cannot know).
pub(crate) async fn look(dialer: &Dialer, base: &DnsName, key_authorization: &str, deadline: Instant) -> Look {
    let name = format!("_acme-challenge.{base}");
    let values = dialer.txt(&name, deadline).await.map_err(|error| Miss::passing(ProblemType::Dns, error))?;
    let expected = URL_SAFE_NO_PAD.encode(digest(&SHA256, key_authorization.as_bytes()));
    if values.iter().any(|value| verify_slices_are_equal(value, expected.as_bytes()).is_ok()) {
        return Ok(format!("one of {} TXT records at {name}", values.len()));
    }
    let detail = format!(
        "{name} has {} TXT records, and none of them is the digest of this challenge's key authorization, {expected}",
        values.len()
    );
    Err(Miss::passing(ProblemType::IncorrectResponse, detail))
}
