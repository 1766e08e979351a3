//! The control plane is a real one: what the other tests rely on.

use std::path::Path;

use chancery_cluster_tests::{Plane, Programs, Result, skipped, until};
use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, TokenReview, TokenReviewSpec},
    core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{Api, Error, ResourceExt as _, api::PostParams};
use serde_json::json;

#[tokio::test]
async fn what_is_owned_goes_with_its_owner() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    if plane.controller_manager().is_none() {
        skipped("there is no kube-controller-manager beside these binaries of envtest, so nothing is collected");
        return Ok(());
    }
    let namespace = plane.namespace("owned").await?;
    let maps = Api::<ConfigMap>::namespaced(plane.client().await?, &namespace);
    let owner = plane.apply_in(&namespace, "{ apiVersion: v1, kind: ConfigMap, metadata: { name: owner } }").await?;
    let owned = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": "owned",
        "ownerReferences": [
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner[0].metadata.uid },
        ],
    }});
    let owned: ConfigMap = maps.create(&PostParams::default(), &serde_json::from_value(owned)?).await?;
    maps.delete("owner", &kube::api::DeleteParams::default()).await?;
    until::gone(&maps, "owned", &owned.uid().ok_or("no uid")?).await
}

#[tokio::test]
async fn a_service_account_has_the_rights_that_it_was_given_and_no_other() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("rights").await?;
    let tenant = plane.client_as_service_account(&namespace, "tenant").await?;
    let secrets = Api::<Secret>::namespaced(tenant.clone(), &namespace);
    let refused = secrets.list(&Default::default()).await.err().ok_or("a tenant listed Secrets without a right to")?;
    let Error::Api(status) = refused else { return Err(refused.into()) };
    let user = format!("system:serviceaccount:{namespace}:tenant");
    assert_eq!(status.code, 403);
    assert!(status.message.contains(&user), "{}", status.message);

    plane
        .apply_in(
            &namespace,
            r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: reads-maps }
rules: [{ apiGroups: [""], resources: [configmaps], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: tenant-reads-maps }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: reads-maps }
subjects: [{ kind: ServiceAccount, name: tenant }]
---
apiVersion: v1
kind: ConfigMap
metadata: { name: reads-this }
"#,
        )
        .await?;
    let maps = Api::<ConfigMap>::namespaced(tenant, &namespace);
    let maps = until::allowed(async || maps.list(&Default::default()).await).await?;
    assert!(maps.iter().any(|map| map.name_any() == "reads-this"));
    assert!(secrets.list(&Default::default()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_user_is_known_by_a_certificate() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let reviews = Api::<SelfSubjectReview>::all(plane.client_as_user("someone", &["people"]).await?);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).ok_or("no answer")?;
    assert_eq!(user.username.as_deref(), Some("someone"));
    assert!(user.groups.unwrap_or_default().contains(&"people".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_token_of_a_service_account_is_good_for_its_audience_alone() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("token").await?;
    let token = plane.token(&namespace, "controller", &["https://ca.example.test"]).await?;
    let reviews = Api::<TokenReview>::all(plane.client().await?);
    for (audience, good) in [("https://ca.example.test", true), ("https://other.example.test", false)] {
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.clone(), audiences: Some(vec![audience.to_owned()]) },
            ..TokenReview::default()
        };
        let status = reviews.create(&PostParams::default(), &review).await?.status.ok_or("no answer")?;
        assert_eq!(status.authenticated.unwrap_or_default(), good, "for {audience}: {status:?}");
        if good {
            let user = status.user.and_then(|user| user.username);
            assert_eq!(user, Some(format!("system:serviceaccount:{namespace}:controller")));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_namespace_has_a_service_account_and_the_ca_of_the_cluster() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("filled").await?;
    let client = plane.client().await?;
    Api::<ServiceAccount>::namespaced(client.clone(), &namespace).get("default").await?;
    let root = Api::<ConfigMap>::namespaced(client, &namespace).get("kube-root-ca.crt").await?;
    let root = root.data.and_then(|mut data| data.remove("ca.crt")).ok_or("no ca.crt")?;
    assert_eq!(root.trim(), plane.ca().trim());
    Ok(())
}

#[tokio::test]
async fn certificates_v1_serves_signing_requests_pod_requests_and_trust_bundles() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    if plane.minor_version().await? < 37 {
        skipped("these binaries of envtest are older than Kubernetes 1.37");
        return Ok(());
    }
    let served = plane.client().await?.list_api_group_resources("certificates.k8s.io/v1").await?;
    let mut names: Vec<&str> = served.resources.iter().map(|resource| resource.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "certificatesigningrequests",
            "certificatesigningrequests/approval",
            "certificatesigningrequests/status",
            "clustertrustbundles",
            "podcertificaterequests",
            "podcertificaterequests/status",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_was_killed_comes_back_with_what_it_held_and_a_dropped_plane_leaves_nothing() -> Result<()> {
    let Some(programs) = Programs::find() else {
        skipped("there is no Kubernetes control plane on this machine (tests/run builds one where there is Go)");
        return Ok(());
    };
    let mut plane = Plane::start(programs).await?;
    let namespace = plane.namespace("kept").await?;
    let kept = plane.apply_in(&namespace, "{ apiVersion: v1, kind: ConfigMap, metadata: { name: kept } }").await?;
    plane.kill_api_server();
    let killed = plane.client().await?;
    assert!(killed.apiserver_version().await.is_err());
    plane.start_api_server().await?;
    let found = Api::<ConfigMap>::namespaced(plane.client().await?, &namespace).get("kept").await?;
    assert_eq!(found.metadata.uid, kept[0].metadata.uid);

    let folder = plane.kubeconfig().parent().ok_or("a kubeconfig in no folder")?.to_owned();
    let processes = [plane.etcd().id(), plane.api_server().id()];
    drop(plane);
    assert!(!folder.exists());
    for process in processes {
        assert!(!Path::new(&format!("/proc/{process}")).exists(), "process {process} still runs");
    }
    Ok(())
}
