//! Authorizations and challenges (RFC 8555 §7.5).

use chancery_acme::{
    authorization::Authorization,
    challenge::{ChallengeKind, ChallengeState},
    id::AuthorizationId,
    problem::ProblemType,
    wire::{self, AuthorizationUpdate, ChallengeResponse},
};
use http::StatusCode;

use super::{Acme, SOON_S, answer::Answer, directory::Known, front::Verified, problem::Fault};

/// Reads an authorization, or gives it up.
pub(crate) async fn authorization(
    acme: &Acme,
    directory: &Known,
    id: AuthorizationId,
    request: Verified<Option<AuthorizationUpdate>>,
) -> Result<Answer, Fault> {
    let account = request.by.id;
    let found = match request.body {
        None => acme.office.authorization(account, id).await?,
        Some(AuthorizationUpdate { status }) if status == "deactivated" => {
            acme.office.deactivate_authorization(account, id).await?
        }
        Some(_) => {
            return Err(Fault::new(ProblemType::Malformed, "the one status that can be asked for is \"deactivated\""));
        }
    };
    let found = found.ok_or_else(|| Fault::not_found("authorization"))?;
    let shape = wire::Authorization::of(&found, acme.office.now(), &directory.urls);
    let answer = Answer::json(StatusCode::OK, &shape);
    let is_processing = |state: &ChallengeState| matches!(state, ChallengeState::Processing { .. });
    if found.challenges.iter().any(|challenge| is_processing(&challenge.state)) {
        return Ok(answer.with_retry_after(SOON_S));
    }
    Ok(answer)
}

/// Reads a challenge, or answers it: an empty payload reads, an object answers (§7.5.1).
pub(crate) async fn challenge(
    acme: &Acme,
    directory: &Known,
    (id, kind): (AuthorizationId, ChallengeKind),
    request: Verified<Option<ChallengeResponse>>,
) -> Result<Answer, Fault> {
    let account = &request.by;
    let authorization = match request.body {
        None => acme.office.authorization(account.id, id).await?,
        Some(ChallengeResponse {}) => Some(acme.office.answer_challenge(account, id, kind).await?),
    };
    let authorization = authorization.ok_or_else(|| Fault::not_found("challenge"))?;
    show(directory, &authorization, kind)
}

fn show(directory: &Known, authorization: &Authorization, kind: ChallengeKind) -> Result<Answer, Fault> {
    let challenge = authorization.challenge(kind).ok_or_else(|| Fault::not_found("challenge"))?;
    let shape = wire::Challenge::of(challenge, authorization.id, &directory.urls);
    let answer = Answer::json(StatusCode::OK, &shape).with_link(&directory.urls.authorization(authorization.id), "up");
    match challenge.state {
        ChallengeState::Processing { .. } => Ok(answer.with_retry_after(SOON_S)),
        ChallengeState::Pending | ChallengeState::Valid { .. } | ChallengeState::Invalid { .. } => Ok(answer),
    }
}
