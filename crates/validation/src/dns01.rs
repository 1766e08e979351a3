//! dns-01 (RFC 8555 §8.4): any one TXT record may match; CNAMEs are followed, split strings joined.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::problem::ProblemType;
use chancery_authority::ports::{Evidence, Validation};
use chancery_egress::{Dialer, Host};
use tokio::time::Instant;

use crate::{Miss, host_of};

pub(crate) async fn look(dialer: &Dialer, validation: &Validation, deadline: Instant) -> Result<Evidence, Miss> {
    let Host::Name(base) = host_of(&validation.name)? else {
        return Err(Miss::is_final(ProblemType::Malformed, "dns-01 cannot show control of an address (RFC 8738 §7)"));
    };
    let owner = format!("_acme-challenge.{base}");
    let expected = URL_SAFE_NO_PAD.encode(digest(&SHA256, validation.key_authorization.as_bytes()));
    let values = dialer.txt(&owner, deadline).await.map_err(|error| Miss::lookup(&error))?;
    let found = values.iter().any(|value| verify_slices_are_equal(value, expected.as_bytes()).is_ok());
    if found {
        return Ok(Evidence { summary: format!("TXT at {owner}: one of {} values matches", values.len()) });
    }
    // A secondary that has not caught up yet answers so; it is asked again within the time.
    Err(Miss::passing(
        ProblemType::IncorrectResponse,
        format_args!(
            "none of the {} TXT records at {owner} holds the expected value; put it there and place a new order",
            values.len()
        ),
    ))
}
