//! A controller that is asked to end, as when a node is drained or its Deployment is rolled out.

use chancery_cluster_tests::{Issuing, Result, controller};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

#[tokio::test]
async fn a_controller_that_is_asked_to_end_gives_its_lease_back_and_ends() -> Result<()> {
    let Some(issuing) = Issuing::shared().await? else { return Ok(()) };
    let mut controller = issuing.controller.write().await;
    // Another test may just have started it.
    controller.until_it_prints(|line| line.contains("leading")).await?;
    let leases: Api<Lease> = Api::namespaced(issuing.plane.client().await?, controller::NAMESPACE);
    let next = issuing.another_controller("next").await?;
    std::mem::replace(&mut *controller, next).stop().await?;
    controller.until_it_prints(|line| line.contains("leading")).await?;
    let held = leases.get("chancery-issuer").await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    assert!(held.starts_with("next_"), "{held} leads");
    Ok(())
}
