//! Who may approve and deny requests for our issuers, as cert-manager's webhook judges, and what follows from it.

use chancery_cluster_tests::{Result, until};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Ground, message, ready, ready_with, time_of_day};

/// What may be granted to an account: cert-manager's webhook asks for the signers that stand here, `NS` being the
/// namespace of the request.
struct Case {
    name: &'static str,
    kind: &'static str,
    granted: &'static [&'static str],
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It may approve and deny.
    Taken,
    /// It may do neither.
    NoRight,
    /// Nobody may: there is no such kind.
    NoKind,
}

const CLUSTER: &str = "ChanceryClusterIssuer";
const NAMESPACED: &str = "ChanceryIssuer";

/// Each is tried with an approval and with a denial.
const CASES: &[Case] = &[
    Case { name: "nothing", kind: CLUSTER, granted: &[], outcome: Outcome::NoRight },
    Case {
        name: "a-kind-that-is-not-there",
        kind: "AbsentIssuer",
        granted: &["absentissuers.chancery.dev/*"],
        outcome: Outcome::NoKind,
    },
    Case {
        name: "every-cluster-issuer",
        kind: CLUSTER,
        granted: &["chanceryclusterissuers.chancery.dev/*"],
        outcome: Outcome::Taken,
    },
    Case {
        name: "the-cluster-issuer",
        kind: CLUSTER,
        granted: &["chanceryclusterissuers.chancery.dev/conformance"],
        outcome: Outcome::Taken,
    },
    Case {
        name: "the-cluster-issuer-as-if-of-a-namespace",
        kind: CLUSTER,
        granted: &["chanceryclusterissuers.chancery.dev/NS.conformance"],
        outcome: Outcome::NoRight,
    },
    Case {
        name: "the-issuer-of-the-namespace",
        kind: NAMESPACED,
        granted: &["chanceryissuers.chancery.dev/NS.conformance"],
        outcome: Outcome::Taken,
    },
    Case {
        name: "the-issuer-without-its-namespace",
        kind: NAMESPACED,
        granted: &["chanceryissuers.chancery.dev/conformance", "chanceryissuers.chancery.dev/elsewhere.conformance"],
        outcome: Outcome::NoRight,
    },
];

fn csr() -> Result<String> {
    let mut params = rcgen::CertificateParams::new(["approval.cluster.test".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&rcgen::KeyPair::generate()?)?.pem()?)
}

fn condition(kind: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": "Tests", "message": "as the test wants",
        "lastTransitionTime": time_of_day(),
    })
}

/// Sets conditions as somebody; whatever else stands there is kept.
pub(super) async fn set(
    requests: &Api<DynamicObject>,
    name: &str,
    kinds: &[&str],
) -> Result<kube::Result<DynamicObject>> {
    loop {
        let now = requests.get(name).await?;
        let mut conditions: Vec<Value> = until::conditions_of(&now).cloned().collect();
        conditions.extend(kinds.iter().map(|kind| condition(kind)));
        let patch = json!({
            "metadata": { "resourceVersion": now.resource_version() }, "status": { "conditions": conditions },
        });
        match requests.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            outcome => return Ok(outcome),
        }
    }
}

impl Ground {
    /// The namespace's requests, as a service account that may make them and write to their status.
    async fn requests_as(&self, account: &str) -> Result<Api<DynamicObject>> {
        let manifest = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{ name: requests }}\nrules:\n  \
             - {{ apiGroups: [cert-manager.io], resources: [certificaterequests], verbs: [create, get] }}\n  \
             - {{ apiGroups: [cert-manager.io], resources: [certificaterequests/status], verbs: [patch] }}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{ name: {account} }}\n\
             roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: requests }}\n\
             subjects: [{{ kind: ServiceAccount, name: {account} }}]\n"
        );
        let plane = self.issuing.plane;
        plane.apply_in(&self.namespace, &manifest).await?;
        let client = plane.client_as_service_account(&self.namespace, account).await?;
        let kind = kube::api::ApiResource::from_gvk(&kube::api::GroupVersionKind::gvk(
            "cert-manager.io",
            "v1",
            "CertificateRequest",
        ));
        Ok(Api::namespaced_with(client, &self.namespace, &kind))
    }
}

#[tokio::test]
async fn only_who_may_approves_and_denies_and_the_controller_acts_on_what_was_taken() -> Result<()> {
    let Some(ground) = Ground::new("approval").await? else { return Ok(()) };
    // Nobody approves for these but the accounts here: the names are other ones than those of the suite's issuers.
    let real = ground.issuing.real;
    let name = format!("{}-approval", ground.namespace);
    let mut wrong = Vec::new();
    ground.issuing.token(chancery_cluster_tests::controller::NAMESPACE, &name, real.token()).await?;
    ground.issuing.may_read_credentials(&ground.namespace).await?;
    ground.issuing.token(&ground.namespace, &name, real.token()).await?;
    for (kind, namespace) in [(CLUSTER, chancery_cluster_tests::controller::NAMESPACE), (NAMESPACED, &ground.namespace)]
    {
        let issuer = chancery_cluster_tests::controller::issuer(kind, &name, &real.url(), real.root());
        ground.issuing.plane.apply_documents(namespace, vec![issuer]).await?;
    }
    for case in CASES {
        let requests = ground.requests_as(case.name).await?;
        for signer in case.granted {
            let signer = signer.replace("NS", &ground.namespace).replace("conformance", &name);
            ground.issuing.may_approve(&signer, &ground.namespace, case.name).await?;
        }
        for kind in ["Approved", "Denied"] {
            let request = format!("{}-{}", case.name, kind.to_lowercase());
            let reference = json!({ "group": "chancery.dev", "kind": case.kind, "name": name });
            ground.request(&request, &csr()?, &reference, &json!({})).await?;
            let said = answer(&requests, &request, kind, case.outcome).await?;
            let words = match case.outcome {
                Outcome::Taken => "",
                Outcome::NoRight => "does not have permissions to set approved/denied conditions",
                Outcome::NoKind => "referenced signer resource does not exist",
            };
            if !(said.contains(words) && said.is_empty() == words.is_empty()) {
                wrong.push(format!("{request}: {said:?}"));
                continue;
            }
            if case.outcome == Outcome::Taken {
                let reason = if kind == "Approved" { "Issued" } else { "Denied" };
                let seen = until(&ground.requests, &request, ready_with(reason)).await?;
                let failed = seen.data["status"]["failureTime"].is_string();
                assert_eq!(failed, kind == "Denied", "{}", message(&seen));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for case in CASES.iter().filter(|case| case.outcome != Outcome::Taken) {
        for kind in ["approved", "denied"] {
            let seen = ground.requests.get(&format!("{}-{kind}", case.name)).await?;
            assert!(ready(&seen).is_none(), "{}: {}", case.name, message(&seen));
        }
    }
    Ok(())
}

/// What is said to an approval or a denial; nothing if it is taken. The webhook may hear of a new right a moment late.
async fn answer(requests: &Api<DynamicObject>, name: &str, kind: &str, wanted: Outcome) -> Result<String> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match set(requests, name, &[kind]).await? {
            Ok(_) => return Ok(String::new()),
            Err(kube::Error::Api(status)) => {
                if wanted != Outcome::Taken || std::time::Instant::now() > deadline {
                    return Ok(status.message.clone());
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_was_approved_or_denied_stays_so_and_is_never_both() -> Result<()> {
    let Some(ground) = Ground::new("immutable").await? else { return Ok(()) };
    // An issuer that is not there, so that nothing else happens to them.
    let reference = json!({ "group": "chancery.dev", "kind": NAMESPACED, "name": "nobody" });
    for (first, second) in [("Approved", "Denied"), ("Denied", "Approved")] {
        let name = first.to_lowercase();
        ground.request(&name, &csr()?, &reference, &json!({})).await?;
        let both = set(&ground.requests, &name, &[first, second]).await?;
        assert!(refusal(both)?.contains("cannot coexist"), "{first} and {second} at once");
        let mut weak = condition(first);
        weak["status"] = json!("False");
        let patch = json!({ "status": { "conditions": [weak] } });
        let answer = ground.requests.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        assert!(refusal(answer)?.contains("may only be set to True"), "{first}");

        set(&ground.requests, &name, &[first]).await??;
        let other = set(&ground.requests, &name, &[second]).await?;
        assert!(!refusal(other)?.is_empty(), "{second} beside {first}");
        let mut changed = condition(first);
        changed["message"] = json!("something else");
        for conditions in [json!([]), json!([changed])] {
            let patch = json!({ "status": { "conditions": conditions } });
            let answer = ground.requests.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            assert!(refusal(answer)?.contains("may not be modified"), "{first} to {conditions}");
        }
    }
    Ok(())
}

fn refusal(answer: kube::Result<DynamicObject>) -> Result<String> {
    match answer {
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        Err(error) => Err(error.into()),
        Ok(taken) => Err(format!("it was taken: {}", taken.data).into()),
    }
}
