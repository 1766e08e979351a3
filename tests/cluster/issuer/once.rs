//! One certificate for each UID, whatever dies or is slow in between.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery_cluster_tests::{Result, SigningServer, controller, signing_server::Behaviour, until};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Test, chain, message, pem_with, public_key, ready};

async fn until_asked(test: &Test, uid: &str) -> Result<()> {
    test.server.until("a request", |server| server.asked_for(uid) > 0).await
}

/// T9.
#[tokio::test]
async fn a_controller_that_dies_between_signing_and_writing_leads_to_no_second_certificate() -> Result<()> {
    let Some(test) = Test::ready("dies").await? else { return Ok(()) };
    test.server.behave(Behaviour::Hold);
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    until_asked(&test, &uid).await?;
    {
        let mut controller = test.issuing.controller.write().await;
        controller.kill();
        test.server.behave(Behaviour::Sign);
        test.server.release();
        *controller = test.issuing.another_controller("after-a-death").await?;
    }
    let issued = test.until_ready("web", "True", "Issued").await?;
    assert!(test.server.asked_for(&uid) >= 2);
    let signed = test.server.issued();
    assert_eq!(signed.len(), 1, "one issuance");
    let kept = signed.get(&uid).ok_or("another UID")?;
    assert_eq!(public_key(&chain(&issued)?)?, public_key(&kept.chain)?);
    let serial = |chain: &str| -> Result<Vec<u8>> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes())?;
        Ok(pem.parse_x509()?.raw_serial().to_vec())
    };
    assert_eq!(serial(&chain(&issued)?)?, serial(&kept.chain)?);
    Ok(())
}

/// T10 and T11.
#[tokio::test]
async fn what_was_signed_for_a_deleted_request_never_lands_on_its_successor() -> Result<()> {
    let Some(test) = Test::ready("successor").await? else { return Ok(()) };
    // What a controller that dies was about to do, the next one does not know.
    let _lives = test.issuing.controller.read().await;
    test.revoke_what_is_deleted().await?;
    test.server.behave(Behaviour::Hold);
    let first = test.ask("web").await?;
    test.approve("web").await?;
    until_asked(&test, &first).await?;
    test.delete("web", &first).await?;
    let key = rcgen::KeyPair::generate()?;
    let second = test.ask_with("web", &pem_with(&key, "web.example.test")?, &json!({})).await?;
    test.server.behave(Behaviour::Sign);
    test.server.release();
    test.server.until("a revocation", |server| !server.revoked().is_empty()).await?;
    assert_eq!(test.server.revoked(), [(first.clone(), Some(5))], "as the issuer wants it");
    let untouched = test.requests.get("web").await?;
    assert!(ready(&untouched).is_none() && untouched.data.get("status").is_none(), "{untouched:?}");
    assert_eq!(test.server.asked_for(&second), 0, "nobody has approved it");
    test.approve("web").await?;
    let issued = test.until_ready("web", "True", "Issued").await?;
    assert_eq!(public_key(&chain(&issued)?)?, rcgen::PublicKeyData::subject_public_key_info(&key));
    Ok(())
}

/// T11, with an answer that never comes: whatever the server has made of the request, nobody will have it.
#[tokio::test]
async fn what_a_server_signed_without_an_answer_is_revoked_when_its_request_is_deleted() -> Result<()> {
    let Some(test) = Test::ready("answerless").await? else { return Ok(()) };
    let _lives = test.issuing.controller.read().await;
    test.revoke_what_is_deleted().await?;
    test.server.behave(Behaviour::Hold);
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    let waiting = test.until_ready("web", "False", "Pending").await?;
    assert!(message(&waiting).contains("cannot be reached"), "{}", message(&waiting));
    test.delete("web", &uid).await?;
    test.server.until("the revocation", |server| server.revoked().contains(&(uid.clone(), Some(5)))).await?;
    Ok(())
}

/// T15.
#[tokio::test]
async fn a_leader_that_was_paused_leads_to_no_second_certificate() -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let Some(test) = Test::ready("paused").await? else { return Ok(()) };
    let mut controller = test.issuing.controller.write().await;
    // Another test may just have started it.
    controller.until_it_prints(|line| line.contains("leading")).await?;
    let second = test.issuing.another_controller("second").await?;
    test.server.behave(Behaviour::Hold);
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    until_asked(&test, &uid).await?;
    let first = i32::try_from(controller.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    kill_process(first, Signal::STOP)?;
    test.server.behave(Behaviour::Sign);
    second.until_it_prints(|line| line.contains("leading")).await?;
    let issued = test.until_ready("web", "True", "Issued").await?;
    kill_process(first, Signal::CONT)?;
    test.server.release();
    // The first finds that it leads no more.
    controller.until_it_prints(|line| line.contains("not leading any more")).await?;
    assert_eq!(test.server.issued().len(), 1);
    let terms: Vec<_> = test.server.asked().iter().map(|asked| asked.term).collect();
    assert!(terms.is_sorted() && terms.first() < terms.last(), "{terms:?}");
    let later = test.requests.get("web").await?;
    assert_eq!(chain(&later)?, chain(&issued)?);
    assert_eq!(message(&later), message(&issued));
    controller.kill();
    *controller = second;
    Ok(())
}

/// T15, from its end: who leads again leaves alone what another leader has handed out meanwhile.
#[tokio::test]
async fn what_another_leader_handed_out_is_not_revoked_when_its_request_is_deleted() -> Result<()> {
    let Some(test) = Test::ready("usurped").await? else { return Ok(()) };
    let mut controller = test.issuing.controller.write().await;
    let leases = Api::<Lease>::namespaced(test.issuing.plane.client().await?, controller::NAMESPACE);
    let give_to = async |holder: Option<&str>| -> Result<()> {
        let patch = json!({ "spec": { "holderIdentity": holder } });
        leases.patch("chancery-issuer", &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    };
    controller.kill();
    give_to(None).await?;
    *controller = test.issuing.another_controller("usurped").await?;
    test.revoke_what_is_deleted().await?;
    test.server.behave(Behaviour::Hold);
    let used = test.ask("used").await?;
    test.approve("used").await?;
    until_asked(&test, &used).await?;
    give_to(Some("another")).await?;
    controller.until_it_prints(|line| line.contains("not leading any more")).await?;
    test.server.release();
    // As the other leader does, who gets the same answer.
    let signed = test.server.issued().remove(&used).ok_or("nothing was signed")?;
    let certificate = json!({ "status": { "certificate": STANDARD.encode(signed.chain) } });
    test.requests.patch_status("used", &PatchParams::default(), &Patch::Merge(&certificate)).await?;
    test.add_condition("used", "Ready", "True", "Issued").await?;
    give_to(None).await?;
    // It leads again, and watches.
    let unused = test.ask("unused").await?;
    test.approve("unused").await?;
    until_asked(&test, &unused).await?;
    // Whoever has the certificate deletes its request, as csi-driver does.
    test.delete("used", &used).await?;
    test.delete("unused", &unused).await?;
    test.server.release();
    test.server.until("the revocation of what nobody has", |server| !server.revoked().is_empty()).await?;
    assert_eq!(test.server.revoked(), [(unused, Some(5))]);
    // The others' is one that has never lost its Lease.
    controller.kill();
    give_to(None).await?;
    *controller = test.issuing.another_controller("after-usurped").await?;
    Ok(())
}

/// T16, small: the whole is in the load test.
#[tokio::test]
async fn a_namespace_that_floods_does_not_starve_another() -> Result<()> {
    let Some(test) = Test::ready("flood").await? else { return Ok(()) };
    let quiet = test.issuing.plane.namespace("quiet").await?;
    let slow = json!({ "spec": { "rateLimit": { "requestsPerSecond": 10, "burst": 1 } } });
    let issuers = test.issuers().await?;
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&slow)).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    for number in 0..80 {
        test.ask(&format!("flood-{number}")).await?;
    }
    for number in 0..80 {
        test.approve(&format!("flood-{number}")).await?;
    }
    let other = Test {
        issuing: test.issuing,
        requests: test.issuing.plane.objects("cert-manager.io/v1", "CertificateRequest", &quiet).await?,
        namespace: test.namespace.clone(),
        server: SigningServer::start("unused")?,
    };
    let began = test.server.asked().len();
    other.ask("quiet").await?;
    other.approve("quiet").await?;
    other.until_ready("quiet", "True", "Issued").await?;
    let asked = test.server.asked().len() - began;
    assert!(asked < 40, "{asked} others came first");
    test.until_ready("flood-79", "True", "Issued").await?;
    let all = test.server.asked();
    let mut uids: Vec<_> = all.iter().map(|asked| &asked.uid).collect();
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), all.len(), "one call each");
    Ok(())
}

#[tokio::test]
async fn whoever_only_labels_the_lease_ends_no_term() -> Result<()> {
    let Some(test) = Test::without_issuer("label").await? else { return Ok(()) };
    let controller = test.issuing.controller.read().await;
    let leases = Api::<Lease>::namespaced(test.issuing.plane.client().await?, controller::NAMESPACE);
    // Several renewals, and a change between reading and writing of some.
    let renewed = |lease: Option<Lease>| lease.and_then(|lease| lease.spec?.renew_time);
    let (mut times, mut last) = (0, renewed(leases.get_opt("chancery-issuer").await?));
    let mut number = 0_u64;
    while times < 4 {
        number += 1;
        let label = json!({ "metadata": { "labels": { "touched": number.to_string() } } });
        let lease = leases.patch("chancery-issuer", &PatchParams::default(), &Patch::Merge(&label)).await?;
        let now = renewed(Some(lease));
        times += i32::from(now != last);
        last = now;
    }
    assert!(!controller.printed().contains("not leading any more"), "after {number} labels");
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_is_edited_while_a_request_is_held_costs_it_nothing() -> Result<()> {
    let Some(test) = Test::ready("edited").await? else { return Ok(()) };
    test.server.behave(Behaviour::Pending);
    let uid = test.ask("web").await?;
    test.approve("web").await?;
    test.until_ready("web", "False", "Pending").await?;
    let issuers = test.issuers().await?;
    let edit = json!({ "spec": { "profile": "server" } });
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&edit)).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    let asks_otherwise = |server: &SigningServer| server.asked().iter().any(|asked| asked.profile.is_some());
    test.server.until("the request with its new profile", asks_otherwise).await?;
    test.server.behave(Behaviour::Sign);
    test.until_ready("web", "True", "Issued").await?;
    assert_eq!(test.server.issued().keys().collect::<Vec<_>>(), [&uid]);
    Ok(())
}
