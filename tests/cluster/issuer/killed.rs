//! A controller that is killed wherever it happens to be: asking, answered, writing, or about to.

use chancery_cluster_tests::{Result, controller, until};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Test, chain};

const REQUESTS: usize = 60;
const KILLS: usize = 6;

#[tokio::test]
async fn a_controller_that_is_killed_again_and_again_gives_each_request_its_one_certificate() -> Result<()> {
    let Some(test) = Test::ready("killed").await? else { return Ok(()) };
    let mut controller = test.issuing.controller.write().await;
    // So that they are not all done before the first kill.
    let slow = json!({ "spec": { "rateLimit": { "requestsPerSecond": 6, "burst": 1 } } });
    let issuers = test.issuers().await?;
    issuers.patch(&test.namespace, &PatchParams::default(), &Patch::Merge(&slow)).await?;
    until(&issuers, &test.namespace, until::condition("Ready", "True")).await?;
    let leases = Api::<Lease>::namespaced(test.issuing.plane.client().await?, controller::NAMESPACE);
    let mut names: Vec<String> = (0..REQUESTS).map(|number| format!("killed-{number}")).collect();
    let mut uids = Vec::new();
    for name in &names {
        uids.push(test.ask(name).await?);
        test.approve(name).await?;
    }
    let mut asked = 0;
    for kill in 1..=KILLS {
        // So many more were asked for: of those some are answered, some are written, and some are not begun.
        asked += kill;
        test.server.until("more requests", |server| server.asked().len() >= asked).await?;
        controller.kill();
        asked = test.server.asked().len();
        // Nobody need wait until the dead one's time is over.
        let free = json!({ "spec": { "holderIdentity": null } });
        leases.patch("chancery-issuer", &PatchParams::default(), &Patch::Merge(&free)).await?;
        *controller = test.issuing.another_controller(&format!("killed-{kill}")).await?;
        // What comes while nobody leads is found as well.
        let name = format!("meanwhile-{kill}");
        uids.push(test.ask(&name).await?);
        test.approve(&name).await?;
        names.push(name);
    }
    let begun = test.server.issued().len();
    assert!(begun < names.len(), "all were issued before the last kill");
    let kept = |uid: &str| test.server.issued().get(uid).map(|signed| signed.chain.clone());
    for (name, uid) in names.iter().zip(&uids) {
        let issued = test.until_ready(name, "True", "Issued").await?;
        assert_eq!(Some(chain(&issued)?), kept(uid), "{name} has another certificate than the server's");
    }
    Ok(())
}
