//! Tells objects of Kubernetes' own kinds what has become of them, such that no status lands on a successor of the same
//! name or on what somebody else has changed meanwhile: each patch tests UID and version.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{Patch, PatchParams},
    core::Status,
    runtime::events::EventType,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    asking::Asking,
    line::{Done, Job},
    serve::Controller,
};
use crate::{
    clock,
    disposal::{HandedOut, Signed},
    worker::{FIELD_MANAGER, FORBIDDEN, LEAST_TRIES, NOT_WRITTEN, forbidden, is_refusal, is_told},
};

/// How often a result is written again after somebody else's write.
const CONFLICTS: usize = 5;

/// What is told about the objects of one kind.
pub(super) trait Telling: Controller {
    /// What becomes of one.
    type Outcome: Send + Sync;

    /// What the controllers of all kinds share.
    fn asking(&self) -> &Asking;

    /// Where this object is written.
    fn api(client: Client, object: &Self::Object) -> Api<Self::Object>;

    /// The signer that it names.
    fn signer_name(object: &Self::Object) -> &str;

    /// The changes of the status.
    fn changes(object: &Self::Object, outcome: &Self::Outcome, now: Timestamp) -> Vec<Value>;

    /// Whether it hands out a certificate.
    fn hands_out(outcome: &Self::Outcome) -> bool;

    /// What is to be done where the API server will not have this status.
    fn untaken(&self, job: &Job<Self::Object>, outcome: &Self::Outcome, why: &Status) -> Untaken<Self::Outcome>;

    /// Tells people what was written.
    fn announce(&self, object: &Self::Object, outcome: &Self::Outcome);
}

/// What is done instead of a status that the API server will not have.
pub(super) enum Untaken<O> {
    /// This is written.
    Instead(O),
    /// Nothing is written.
    Nothing(Done),
}

/// Writes an outcome; what was signed is written again after somebody else's write rather than signed again. What was
/// signed and is handed out to nobody is revoked, where the issuer wants it.
pub(super) async fn tell<T: Telling>(teller: &T, job: &Job<T::Object>, outcome: T::Outcome) -> Done {
    let asking = teller.asking();
    let api = T::api(asking.client.clone(), &job.object);
    let is_signed = T::hands_out(&outcome);
    if is_signed {
        // Whatever becomes of the write: if the object goes first, the certificate is not forgotten.
        asking.disposals.signed(&job.uid);
    }
    let unused = || {
        if is_signed {
            asking.disposals.unused(&asking.desk, signed::<T>(job));
        } else {
            asking.disposals.unused_if_signed(&asking.desk, signed::<T>(job));
        }
    };
    let (mut object, mut outcome) = (Arc::clone(&job.object), outcome);
    for _ in 0..CONFLICTS {
        if let Some((later, _)) = asking.not_leading() {
            return later;
        }
        let hands_out = T::hands_out(&outcome);
        let before = if hands_out { asking.disposals.handing_out(&job.uid) } else { HandedOut::No };
        let written = write(&api, &*object, T::changes(&object, &outcome, clock::now())).await;
        if hands_out && written.is_refusal() {
            asking.disposals.not_taken(&job.uid, before);
        }
        match written {
            Written::Yes => {
                teller.announce(&object, &outcome);
                if hands_out {
                    asking.disposals.written(&job.uid);
                } else {
                    unused();
                }
                return Done::Over;
            }
            Written::Gone => {
                if hands_out && before == HandedOut::No {
                    unused();
                } else {
                    asking.disposals.unused_unless_handed_out(&asking.desk, signed::<T>(job));
                }
                return Done::Over;
            }
            Written::Conflict(fresh) => {
                if T::issuer_of(&fresh).is_none() {
                    // By a write of ours whose answer was lost, or by somebody else's that decided otherwise.
                    if T::has_certificate(&fresh) {
                        asking.disposals.written(&job.uid);
                    } else {
                        unused();
                    }
                    return Done::Over;
                }
                object = Arc::from(fresh);
            }
            Written::Invalid(why) => {
                asking.metrics.write_failed();
                tracing::error!(request.uid = %job.uid, error = %why.message, "the API server refuses a status");
                match teller.untaken(job, &outcome, &why) {
                    Untaken::Instead(other) => outcome = other,
                    Untaken::Nothing(done) => return done,
                }
            }
            Written::No(error) => {
                asking.metrics.write_failed();
                tracing::warn!(
                    request.uid = %job.uid, request.name = object.name_any(), error = %error,
                    "the API server did not take a status; may this service account patch {}/status, and sign for the \
                     signer that it names?", T::Object::plural(&())
                );
                let why = forbidden(&error).filter(|_| job.attempts >= LEAST_TRIES);
                if let Some(why) = why
                    && is_told(job.attempts)
                {
                    say_forbidden(teller, &object, why);
                }
                return Done::Later(why.map(|_| FORBIDDEN));
            }
        }
    }
    Done::Later(None)
}

/// Tells people that this service account may not write an object's status.
fn say_forbidden<T: Telling>(teller: &T, object: &T::Object, why: &str) {
    let note = format!(
        "The API server does not let the controller write the status of this request; is there a role by which it may \
         patch {}/status, and one with the verb \"sign\" on signers.certificates.k8s.io for {}? It is tried again every \
         five minutes, and when the controller starts. The API server says: {why}",
        T::Object::plural(&()),
        T::signer_name(object),
    );
    teller.asking().publish(object.object_ref(&()), EventType::Warning, NOT_WRITTEN, &note);
}

fn signed<T: Telling>(job: &Job<T::Object>) -> Signed {
    let (uid, who) = (Arc::clone(&job.uid), T::who(&job.object).into());
    Signed { kind: T::KIND, uid, who, issuer: job.issuer.clone() }
}

/// What became of a write.
enum Written<K> {
    /// It is there.
    Yes,
    /// Somebody else has changed the object; it looks like this now.
    Conflict(Box<K>),
    /// The object is not there any more, or another one has its name.
    Gone,
    /// The API server will not have this status.
    Invalid(Box<Status>),
    /// The API server did not take it now.
    No(kube::Error),
}

impl<K> Written<K> {
    /// Whether the API server has said that it did not take it.
    fn is_refusal(&self) -> bool {
        match self {
            // What is gone may have gone for having it.
            Self::Yes | Self::Gone => false,
            Self::Conflict(_) | Self::Invalid(_) => true,
            Self::No(error) => is_refusal(error),
        }
    }
}

async fn write<K>(api: &Api<K>, object: &K, changes: Vec<Value>) -> Written<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let metadata = object.meta();
    let (Some(name), Some(uid)) = (&metadata.name, &metadata.uid) else { return Written::Gone };
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": uid }),
        json!({ "op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version }),
    ];
    operations.extend(changes);
    let patch: json_patch::Patch = match serde_json::from_value(Value::Array(operations)) {
        Ok(patch) => patch,
        Err(error) => return Written::Invalid(Status::failure(&error.to_string(), "Invalid").boxed()),
    };
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(name, &parameters, &Patch::<()>::Json(patch)).await {
        Ok(_) => Written::Yes,
        Err(kube::Error::Api(status)) if status.code == 404 => Written::Gone,
        // A test of the patch failed, or two writes met, or the status is none that the API server takes.
        Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => match api.get_opt(name).await {
            Ok(Some(fresh)) if fresh.meta().uid == metadata.uid => {
                if fresh.meta().resource_version == metadata.resource_version {
                    Written::Invalid(status)
                } else {
                    Written::Conflict(Box::new(fresh))
                }
            }
            Ok(_) => Written::Gone,
            Err(error) => Written::No(error),
        },
        Err(error) => Written::No(error),
    }
}
