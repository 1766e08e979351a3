//! A controller with little room and few rights, on a plane of its own.

use chancery_cluster_tests::{Plane, Process, Programs, Result, SigningServer, controller, until};
use k8s_openapi::{
    ByteString,
    api::{certificates::v1::CertificateSigningRequest, events::v1::Event},
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{chain, pem};

/// The one signer that the controller may sign for.
const SIGNER: &str = "chanceryclusterissuers.chancery.dev/corp";
/// How many requests it keeps.
const ROOM: usize = 4;

struct Small {
    plane: Plane,
    server: SigningServer,
    _running: Process,
}

impl Small {
    async fn start() -> Result<Option<Self>> {
        let Some(programs) = Programs::find() else { return Ok(None) };
        let plane = Plane::start(programs).await?;
        let mut roles = controller::roles()?;
        let rules = roles.iter_mut().filter_map(|role| role.get_mut("rules")?.as_array_mut()).flatten();
        for rule in rules.filter(|rule| rule.get("verbs") == Some(&json!(["sign"]))) {
            rule["resourceNames"] = json!([SIGNER]);
        }
        controller::give_these_rights(&plane, roles).await?;
        controller::may_read_credentials(&plane, controller::NAMESPACE).await?;
        plane.apply_files("default", &controller::definitions()).await?;
        let room = ROOM.to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--feature", "certificate-signing-requests", "--max-active", &room];
        let running = controller::start(&plane, "small", &arguments).await?;
        Ok(Some(Self { plane, server: SigningServer::start("token")?, _running: running }))
    }

    /// Makes a cluster issuer, and waits until it is ready.
    async fn make_issuer(&self, name: &str) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "token": "token" },
        });
        let issuer = controller::issuer("ChanceryClusterIssuer", name, &self.server.url(), &self.server.root());
        self.plane.apply_documents(controller::NAMESPACE, vec![secret, issuer]).await?;
        let issuers = self.plane.objects("chancery.dev/v1", "ChanceryClusterIssuer", "").await?;
        until(&issuers, name, until::condition("Ready", "True")).await?;
        Ok(())
    }

    async fn requests(&self) -> Result<Api<CertificateSigningRequest>> {
        Ok(Api::all(self.plane.client().await?))
    }

    /// An approved request to an issuer; its UID.
    async fn ask(&self, name: &str, issuer: &str) -> Result<String> {
        let requests = self.requests().await?;
        let request = json!({
            "metadata": { "name": name },
            "spec": {
                "signerName": format!("chanceryclusterissuers.chancery.dev/{issuer}"),
                "request": ByteString(pem(&["a.example.test"])?.into_bytes()),
                "usages": ["digital signature", "server auth"],
            },
        });
        let made = requests.create(&PostParams::default(), &serde_json::from_value(request)?).await?;
        let condition = json!({ "type": "Approved", "status": "True", "reason": "Tests", "message": "as wanted" });
        let approval: Value = json!({ "status": { "conditions": [condition] } });
        requests.patch_approval(name, &PatchParams::default(), &Patch::Merge(&approval)).await?;
        Ok(made.uid().ok_or("an object without a UID")?)
    }

    async fn until_issued(&self, name: &str) -> Result<()> {
        let issued =
            |request: Option<&CertificateSigningRequest>| request.is_some_and(|request| chain(request).is_some());
        until(&self.requests().await?, name, issued).await?;
        Ok(())
    }

    /// Waits until people are told this about an object; in which words.
    async fn until_told(&self, uid: &str, reason: &str) -> Result<String> {
        let events: Api<Event> = Api::all(self.plane.client().await?);
        let wanted = |event: &Event| controller::tells(event, uid) && event.reason.as_deref() == Some(reason);
        let event = until::any(&events, &format!("event {reason}"), wanted).await?;
        Ok(event.note.unwrap_or_default())
    }
}

#[tokio::test]
async fn what_waits_for_an_issuer_keeps_nobody_waiting_and_what_may_not_be_signed_for_says_so() -> Result<()> {
    let Some(small) = Small::start().await? else { return Ok(()) };
    small.make_issuer("corp").await?;
    for number in 0..ROOM {
        let uid = small.ask(&format!("waits-{number}"), "later").await?;
        small.until_told(&uid, "IssuerNotFound").await?;
    }
    small.ask("healthy", "corp").await?;
    small.until_issued("healthy").await?;
    // This one is there as well, but the controller may not sign for it. What was displaced has come back for that.
    small.make_issuer("later").await?;
    let mut told = Vec::new();
    for number in 0..ROOM {
        let uid = small.requests().await?.get(&format!("waits-{number}")).await?.uid().ok_or("no UID")?;
        told.push((small.until_told(&uid, "StatusNotWritten").await?, uid));
    }
    for (note, uid) in told {
        for words in ["certificatesigningrequests/status", "\"sign\"", "chanceryclusterissuers.chancery.dev/later"] {
            assert!(note.contains(words), "{words}: {note}");
        }
        assert!(small.server.asked_for(&uid) >= 1, "it was signed, and cannot be handed out");
    }
    Ok(())
}
