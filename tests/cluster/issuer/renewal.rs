//! `chancery-issuer renew`: every Certificate of chosen issuers, at a chosen pace, as after a change of the root.

use std::process::Stdio;

use chancery_cluster_tests::{Result, SigningServer, controller, kept_key, until};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use super::Test;
use chancery_cluster_tests::signing_server::Behaviour;

/// What it printed, and whether it succeeded.
struct Ended {
    success: bool,
    lines: Vec<String>,
    error: String,
}

/// Certificates of this test's issuer, issued once; their names.
async fn issued(test: &Test, names: &[&str], issuer: &Value) -> Result<()> {
    let certificate = |name: &&str| {
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": name },
            "spec": {
                "secretName": format!("{name}-tls"), "dnsNames": [format!("{name}.example.test")], "issuerRef": issuer,
                "privateKey": kept_key(),
            },
        })
    };
    test.issuing.plane.apply_documents(&test.namespace, names.iter().map(certificate).collect()).await?;
    let certificates = test.issuing.plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    for name in names {
        until(&certificates, name, until::condition("Ready", "True")).await?;
        until(&certificates, name, until::revision(1)).await?;
    }
    Ok(())
}

async fn ready(beginning: &str) -> Result<Option<Test>> {
    let Some(test) = Test::ready(beginning).await? else { return Ok(None) };
    test.issuing.approved_by_cert_manager(&test.namespace).await?;
    Ok(Some(test))
}

async fn revisions(test: &Test, names: &[&str]) -> Result<Vec<i64>> {
    let certificates = test.issuing.plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    let mut all = Vec::new();
    for name in names {
        let found = certificates.get(name).await?;
        all.push(found.data.pointer("/status/revision").and_then(Value::as_i64).unwrap_or_default());
    }
    Ok(all)
}

/// Starts it as somebody with the role that is meant for it, and no other.
async fn start(test: &Test, arguments: &[&str]) -> Result<Child> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": format!("renew:{}", test.namespace) },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "chancery-issuer-renew",
        },
        "subjects": [{ "kind": "ServiceAccount", "namespace": test.namespace, "name": "operator" }],
    });
    test.issuing.plane.apply_documents(&test.namespace, vec![binding]).await?;
    let kubeconfig = test.issuing.plane.kubeconfig_of_service_account(&test.namespace, "operator").await?;
    Ok(Command::new(controller::binary()?)
        .args(["renew", "--cluster-issuer", &test.namespace])
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

async fn renew(test: &Test, arguments: &[&str]) -> Result<Ended> {
    let output = start(test, arguments).await?.wait_with_output().await?;
    Ok(Ended {
        success: output.status.success(),
        lines: String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect(),
        error: String::from_utf8(output.stderr)?,
    })
}

/// The time from which on this campaign counts, as it says itself.
fn since(ended: &Ended) -> Result<String> {
    let first: Value = serde_json::from_str(ended.lines.first().ok_or("nothing was printed")?)?;
    Ok(first.get("issued_before").and_then(Value::as_str).ok_or("no time")?.to_owned())
}

#[tokio::test]
async fn every_certificate_of_the_chosen_issuer_is_renewed_once_and_twice_if_asked_twice_and_no_other() -> Result<()> {
    let Some(test) = ready("renew").await? else { return Ok(()) };
    let names = ["a", "b", "c"];
    issued(&test, &names, &test.issuer_ref()).await?;
    let other = format!("{}-other", test.namespace);
    let beside = SigningServer::start("token")?;
    test.issuing.ready_cluster_issuer(&other, &beside).await?;
    test.issuing.approved_by_cert_manager(&other).await?;
    let reference = json!({ "group": "chancery.dev", "kind": "ChanceryClusterIssuer", "name": other });
    issued(&test, &["other"], &reference).await?;

    let plan = renew(&test, &["--dry-run"]).await?;
    assert!(plan.success && plan.lines.last().is_some_and(|line| line.starts_with("3 of 3 ")), "{:?}", plan.lines);
    assert_eq!(revisions(&test, &names).await?, [1, 1, 1], "nothing is renewed by looking");

    let quick = ["--per-minute", "6000", "--output", "json"];
    let first = renew(&test, &quick).await?;
    assert!(first.success, "{}", first.error);
    assert_eq!(revisions(&test, &names).await?, [2, 2, 2]);
    let last: Value = serde_json::from_str(first.lines.last().ok_or("nothing was printed")?)?;
    assert_eq!((&last["all"], &last["renewed"], &last["failed"]), (&json!(3), &json!(3), &json!(0)));

    // Begun again with its own time there is nothing left to do; a new campaign renews all again.
    let again = renew(&test, &[&quick[..], &["--issued-before", &since(&first)?]].concat()).await?;
    assert!(again.success, "{}", again.error);
    assert_eq!(revisions(&test, &names).await?, [2, 2, 2]);
    let second = renew(&test, &quick).await?;
    assert!(second.success, "{}", second.error);
    assert_eq!(revisions(&test, &names).await?, [3, 3, 3]);
    assert_eq!(revisions(&test, &["other"]).await?, [1]);
    Ok(())
}

#[tokio::test]
async fn a_renewal_that_is_interrupted_says_how_to_go_on_and_renews_none_twice() -> Result<()> {
    let Some(test) = ready("renew-stop").await? else { return Ok(()) };
    let names = ["a", "b", "c", "d"];
    issued(&test, &names, &test.issuer_ref()).await?;
    // One a second, so that it is interrupted in the middle.
    let mut running = start(&test, &["--per-minute", "60", "--output", "json"]).await?;
    let mut lines = BufReader::new(running.stdout.take().ok_or("no output")?).lines();
    let mut first = None;
    while let Some(line) = lines.next_line().await? {
        let line: Value = serde_json::from_str(&line)?;
        first = first.or_else(|| line["issued_before"].as_str().map(str::to_owned));
        if line["step"] == "renewed" {
            break;
        }
    }
    let process = running.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(process.ok_or("no process")?, rustix::process::Signal::INT)?;
    let mut error = String::new();
    running.stderr.take().ok_or("no errors")?.read_to_string(&mut error).await?;
    assert!(!running.wait().await?.success());
    let first = first.ok_or("no time")?;
    assert!(error.contains("interrupted") && error.contains(&format!("--issued-before {first}")), "{error}");
    assert!(revisions(&test, &names).await?.contains(&1), "it was interrupted in the middle");

    let rest = renew(&test, &["--per-minute", "6000", "--issued-before", &first]).await?;
    assert!(rest.success, "{}", rest.error);
    assert_eq!(revisions(&test, &names).await?, [2, 2, 2, 2]);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_is_named_with_the_reason_and_the_others_are() -> Result<()> {
    let Some(test) = ready("renew-fail").await? else { return Ok(()) };
    issued(&test, &["good", "bad"], &test.issuer_ref()).await?;
    let held = test.issuing.plane.objects("cert-manager.io/v1", "Certificate", &test.namespace).await?;
    test.server.behave(Behaviour::RefuseNames("bad.example.test".to_owned()));
    let ended = renew(&test, &["--per-minute", "6000"]).await?;
    assert!(!ended.success);
    assert!(ended.error.contains("1 of 2 Certificates were not renewed"), "{}", ended.error);
    assert!(ended.error.contains(&format!("{}/bad", test.namespace)), "{}", ended.error);
    let bad: DynamicObject = held.get("bad").await?;
    assert_eq!(bad.data.pointer("/status/revision"), Some(&json!(1)), "the one it has stays");
    assert_eq!(revisions(&test, &["good"]).await?, [2]);
    Ok(())
}
