//! Who may do what by the charts' roles, as the files say and as a real API server judges.

use std::{fs, time::Duration};

use chancery_cluster_tests::{
    Plane, Result,
    chart::{Chart, deploy, of_kind},
    documents, skipped,
};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{list, name, rendered, text};

/// How long the API server may take to hear of new roles.
const HEARD: Duration = Duration::from_secs(20);

/// What is asked about.
#[derive(Debug)]
struct Asked<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

const fn asked<'a>(verb: &'a str, group: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Asked<'a> {
    Asked { verb, group, resource, namespace, name }
}

/// Whether a service account may do something, as the API server says.
async fn may(plane: &Plane, account: (&str, &str), what: &Asked<'_>) -> Result<bool> {
    let owned = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (resource, subresource) = what.resource.split_once('/').unwrap_or((what.resource, ""));
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{}:{}", account.0, account.1)),
            resource_attributes: Some(ResourceAttributes {
                verb: owned(what.verb),
                group: owned(what.group),
                resource: owned(resource),
                subresource: owned(subresource),
                namespace: owned(what.namespace),
                name: owned(what.name),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::<SubjectAccessReview>::all(plane.client().await?).create(&PostParams::default(), &review).await?;
    Ok(answer.status.ok_or("a review without an answer")?.allowed)
}

/// The same once the API server has heard of new roles.
async fn may_soon(plane: &Plane, account: (&str, &str), what: &Asked<'_>) -> Result<bool> {
    let deadline = Instant::now() + HEARD;
    while !may(plane, account, what).await? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(true)
}

/// For roles that are really applied: else the plane's own cert-manager would approve what other tests leave unapproved.
const NOBODY_APPROVES: &str = "--set=approval.enabled=false";

/// The roles of a chart, applied.
async fn roles(plane: &Plane, namespace: &str, objects: &[Value]) -> Result<()> {
    let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let wanted = objects.iter().filter(|object| kinds.contains(&text(object, "/kind"))).cloned().collect();
    plane.apply_documents(namespace, wanted).await?;
    Ok(())
}

fn speaks_of(rule: &Value, member: &str, word: &str) -> bool {
    list(rule, &format!("/{member}")).iter().any(|found| *found == word)
}

/// The rules of the roles of a kind, with the role's name.
fn rules<'a>(objects: &'a [Value], kind: &str) -> Vec<(&'a str, &'a Value)> {
    let roles = of_kind(objects, kind);
    roles.flat_map(|role| list(role, "/rules").into_iter().map(|rule| (text(role, "/metadata/name"), rule))).collect()
}

#[test]
fn no_role_has_a_wildcard_and_no_cluster_role_reads_secrets_unless_it_was_asked_for() -> Result<()> {
    for (_, which, objects) in rendered("chancery", &[])? {
        let asked = which.contains("cluster-wide");
        for kind in ["ClusterRole", "Role"] {
            for (role, rule) in rules(&objects, kind) {
                for member in ["apiGroups", "resources", "verbs"] {
                    assert!(!list(rule, &format!("/{member}")).is_empty(), "{which}, {role}: {rule}");
                    assert!(!speaks_of(rule, member, "*"), "{which}, {role}: {rule}");
                }
                if kind == "ClusterRole" && speaks_of(rule, "resources", "secrets") {
                    assert!(asked, "{which}, {role}: {rule}");
                }
                // Whoever may make any token of any service account is everybody.
                if speaks_of(rule, "resources", "serviceaccounts/token") {
                    assert!(!list(rule, "/resourceNames").is_empty(), "{which}, {role}: {rule}");
                }
                for verb in ["escalate", "bind", "impersonate"] {
                    assert!(!speaks_of(rule, "verbs", verb), "{which}, {role}: {rule}");
                }
            }
        }
        let bound = objects.iter().filter(|object| text(object, "/kind").ends_with("RoleBinding"));
        for binding in bound {
            for subject in list(binding, "/subjects") {
                assert_eq!(subject["kind"], "ServiceAccount", "{which}: {}", name(binding));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_controller_may_do_what_it_needs_and_nothing_else() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let own = plane.namespace("controller").await?;
    let (tenant, other) = (plane.namespace("tenant").await?, plane.namespace("other").await?);
    let objects = chart.objects(&own, &[&format!("--set=secretAccess.namespaces[0]={tenant}"), NOBODY_APPROVES])?;
    roles(plane, &own, &objects).await?;
    let controller = (own.as_str(), "chancery-issuer");
    let (ours, theirs, leases) = ("chancery.dev", "cert-manager.io", "coordination.k8s.io");
    let needed = [
        asked("watch", theirs, "certificaterequests", "", ""),
        asked("patch", theirs, "certificaterequests/status", &other, "web-1"),
        asked("get", theirs, "certificates", &other, "web"),
        asked("watch", ours, "chanceryissuers", "", ""),
        asked("patch", ours, "chanceryclusterissuers/status", "", "company"),
        asked("create", "events.k8s.io", "events", &other, ""),
        asked("create", leases, "leases", &own, ""),
        asked("update", leases, "leases", &own, "chancery-issuer"),
        asked("get", "", "secrets", &own, "token"),
        asked("get", "", "secrets", &tenant, "token"),
        asked("get", "", "configmaps", &tenant, "root"),
        asked("create", "", "serviceaccounts/token", &own, "chancery-issuer"),
        asked("create", "", "serviceaccounts/token", &tenant, "chancery"),
    ];
    for what in &needed {
        assert!(may_soon(plane, controller, what).await?, "{what:?}");
    }
    let never = [
        asked("patch", theirs, "certificaterequests", &other, "web-1"),
        asked("update", theirs, "certificaterequests/status", &other, "web-1"),
        asked("update", theirs, "certificaterequests/approval", &other, "web-1"),
        asked("approve", theirs, "signers", "", "chanceryclusterissuers.chancery.dev/*"),
        asked("delete", theirs, "certificaterequests", &other, "web-1"),
        asked("get", ours, "chanceryissuers", &other, "company"),
        asked("get", ours, "chanceryclusterissuers", "", "company"),
        asked("patch", ours, "chanceryissuers", &other, "company"),
        asked("patch", "events.k8s.io", "events", &other, "web-1"),
        asked("update", leases, "leases", &own, "somebody-elses"),
        asked("update", leases, "leases", &other, "chancery-issuer"),
        asked("get", "", "secrets", &other, "token"),
        asked("list", "", "secrets", "", ""),
        asked("create", "", "secrets", &own, ""),
        asked("get", "", "configmaps", &other, "root"),
        asked("create", "", "serviceaccounts/token", &other, "chancery-issuer"),
        asked("create", "", "serviceaccounts/token", &tenant, "default"),
        asked("get", "", "pods", &own, "chancery-0"),
    ];
    for what in &never {
        assert!(!may(plane, controller, what).await?, "{what:?}");
    }
    Ok(())
}

#[tokio::test]
async fn cert_manager_may_approve_for_our_issuers_and_for_no_others() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let own = plane.namespace("approver").await?;
    // A service account of this test's own: cert-manager itself has more rights where another test installed it.
    let subject = ["--set=approval.subjects[0].name=approver", &format!("--set=approval.subjects[0].namespace={own}")];
    roles(plane, &own, &chart.objects(&own, &subject)?).await?;
    let approver = (own.as_str(), "approver");
    for name in ["chanceryissuers.chancery.dev/*", "chanceryclusterissuers.chancery.dev/*"] {
        let what = asked("approve", "cert-manager.io", "signers", "", name);
        assert!(may_soon(plane, approver, &what).await?, "{what:?}");
    }
    for name in ["issuers.cert-manager.io/*", "awspcaissuers.awspca.cert-manager.io/*"] {
        let what = asked("approve", "cert-manager.io", "signers", "", name);
        assert!(!may(plane, approver, &what).await?, "{what:?}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_edits_a_namespace_makes_its_issuers_and_a_viewer_sees_them() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    if plane.controller_manager().is_none() {
        skipped("there is no kube-controller-manager beside these binaries of envtest, so no roles are added up");
        return Ok(());
    }
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let namespace = plane.namespace("editors").await?;
    roles(plane, &namespace, &chart.objects(&namespace, &[NOBODY_APPROVES])?).await?;
    let bindings = ["edit", "view"].map(|role| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": role, "namespace": namespace }],
        })
    });
    plane.apply_documents(&namespace, bindings.into()).await?;
    let (editor, viewer) = ((namespace.as_str(), "edit"), (namespace.as_str(), "view"));
    for (account, verb) in [(editor, "create"), (editor, "get"), (viewer, "list")] {
        let what = asked(verb, "chancery.dev", "chanceryissuers", &namespace, "");
        assert!(may_soon(plane, account, &what).await?, "{account:?}: {what:?}");
    }
    for (account, verb, resource) in [
        (viewer, "create", "chanceryissuers"),
        (editor, "create", "chanceryclusterissuers"),
        (editor, "patch", "chanceryissuers/status"),
    ] {
        let what = asked(verb, "chancery.dev", resource, &namespace, "");
        assert!(!may(plane, account, &what).await?, "{account:?}: {what:?}");
    }
    Ok(())
}

/// What switches on each feature that needs rights of its own, and its role in `issuer-rbac.yaml`.
const FEATURES: [(&str, &str); 4] = [
    ("signers.certificateSigningRequests", "signing-requests"),
    ("signers.podCertificateRequests", "pod-certificates"),
    ("trust.clusterTrustBundles", "trust-bundles"),
    ("trust.configMaps", "root-config-maps"),
];

#[test]
fn what_is_not_switched_on_has_no_rights_and_what_is_has_those_that_are_tested() -> Result<()> {
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let tested = documents(&fs::read_to_string(deploy().join("issuer-rbac.yaml"))?)?;
    let of = |objects: &[Value], role: &str| -> Vec<Value> {
        let all = rules(objects, "ClusterRole").into_iter();
        all.filter(|(name, _)| *name == role).map(|(_, rule)| rule.clone()).collect()
    };
    for (value, role) in FEATURES {
        let on = chart.objects("chancery-issuer", &[&format!("--set={value}=true")])?;
        for (_, other) in FEATURES {
            let given = of(&on, &format!("chancery-issuer-chancery-issuer-{other}"));
            let expected = if role == other { of(&tested, &format!("chancery-issuer-{other}")) } else { Vec::new() };
            let sorted = |rules: Vec<Value>| {
                let mut rules: Vec<Value> = rules
                    .into_iter()
                    .map(|mut rule| {
                        if let Some(names) = rule.get_mut("resourceNames").and_then(Value::as_array_mut) {
                            names.sort_by_key(Value::to_string);
                        }
                        rule
                    })
                    .collect();
                // Members may come in any order.
                rules.sort_by_key(|rule| rule.get("resources").map(Value::to_string));
                rules
            };
            assert_eq!(sorted(given), sorted(expected), "{value}: {other}");
        }
    }
    let named = ["--set=signers.podCertificateRequests=true", "--set=signers.names={chanceryissuers.chancery.dev/a.b}"];
    assert!(
        chart.refusal(&chart.needed(&named).iter().map(String::as_str).collect::<Vec<_>>())?.contains("signers.names")
    );
    Ok(())
}

#[test]
fn the_chart_gives_the_rights_that_the_controller_is_tested_with() -> Result<()> {
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let objects = chart.objects("chancery-issuer", &[])?;
    let tested = documents(&fs::read_to_string(deploy().join("issuer-rbac.yaml"))?)?;
    let of = |objects: &[Value], kind: &str, role: &str| -> Vec<Value> {
        rules(objects, kind).into_iter().filter(|(name, _)| *name == role).map(|(_, rule)| rule.clone()).collect()
    };
    let manager = of(&objects, "ClusterRole", "chancery-issuer-chancery-issuer");
    assert!(!manager.is_empty());
    assert_eq!(manager, of(&tested, "ClusterRole", "chancery-issuer"));
    let renew = of(&objects, "ClusterRole", "chancery-issuer-chancery-issuer-renew");
    assert_eq!(renew, of(&tested, "ClusterRole", "chancery-issuer-renew"));
    assert_eq!(of(&objects, "Role", "chancery-issuer-leader"), of(&tested, "ClusterRole", "chancery-issuer-leader"));
    let secrets = of(&objects, "Role", "chancery-issuer-chancery-issuer-secrets");
    assert_eq!(secrets, of(&tested, "ClusterRole", "chancery-issuer-credentials"));
    Ok(())
}

#[test]
fn the_guide_names_roles_that_there_are() -> Result<()> {
    let Some(chart) = Chart::named("chancery-issuer")? else { return Ok(()) };
    let objects = chart.objects("chancery-issuer", &["--set=secretAccess.namespaces[0]=payments"])?;
    let tested = documents(&fs::read_to_string(deploy().join("issuer-rbac.yaml"))?)?;
    let roles: Vec<&str> = objects
        .iter()
        .chain(&tested)
        .filter(|object| text(object, "/kind").ends_with("Role"))
        .map(|role| text(role, "/metadata/name"))
        .collect();
    let guide = fs::read_to_string(deploy().join("../docs/operations/issuer.md"))?;
    let begins = ["chancery-issuer-", "cert-manager-controller-"];
    let named = guide.split('`').filter(|word| begins.iter().any(|begin| word.starts_with(begin)));
    let named: Vec<&str> = named.collect();
    assert!(named.len() >= 6, "{named:?}");
    for role in named {
        assert!(roles.contains(&role), "{role} is not among {roles:?}");
    }
    Ok(())
}
