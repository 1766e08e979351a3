//! Service-account tokens that a real API server reviews for a real server: who is let in, and who is not.

use std::fs;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chancery_cluster_tests::{Plane, Result};
use chancery_harness::{
    client::{Answer, Client, csr},
    server::{POLICY, Server, Setup},
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

const AUDIENCE: &str = "chancery/plane";

/// Lets an account of the namespace review tokens.
fn reviewer(namespace: &str) -> String {
    format!(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{ name: "{namespace}-reviews-tokens" }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator" }}
subjects: [{{ kind: ServiceAccount, name: reviewer, namespace: "{namespace}" }}]
"#
    )
}

struct Asking {
    client: Client,
    base: String,
}

impl Asking {
    async fn of(server: &Server) -> Result<Self> {
        let directory = server.directory();
        let base = directory.split("/acme/").next().unwrap_or_default().to_owned();
        Ok(Self { client: Client::connect(server.target()?).await?, base })
    }

    async fn call(&mut self, token: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let url = format!("{}{path}", self.base);
        self.client.send_with(method, &url, &headers, body.as_bytes().to_vec()).await
    }
}

/// A server that asks the plane about its tokens.
async fn serve(plane: &Plane, namespace: &str) -> Result<Server> {
    let cluster = format!(
        r#"
[[cluster]]
name = "plane"
authority = "issuing"
profiles = ["server"]
token = {{ issuer = "https://kubernetes.default.svc", audience = "{AUDIENCE}", accounts = ["{namespace}/issuer"], own_namespace_account = "tenant", api_server = "{url}", api_server_ca = "plane.pem", api_server_token = "plane.token" }}
"#,
        url = plane.url()
    );
    let rule = format!(
        "  - name: tenants\n    allow: {{ names: [\"**.tenant.test\"] }}\n    for: {{ cluster: plane, namespace: {namespace}, service-account: tenant }}\n"
    );
    let setup = Setup { policy: format!("{POLICY}{rule}"), configuration: cluster, ..Setup::default() };
    let mut server = Server::prepare(&setup).await?;
    fs::write(server.path().join("plane.pem"), plane.ca())?;
    fs::write(server.path().join("plane.token"), plane.token(namespace, "reviewer", &[]).await?)?;
    server.serve().await?;
    Ok(server)
}

/// A token that says what another one says, under an id of its own and without a signature that holds.
fn forged(token: &str, number: usize) -> Result<String> {
    let mut parts = token.split('.');
    let (header, payload, signature) =
        parts.next().zip(parts.next()).zip(parts.next()).map(|((a, b), c)| (a, b, c)).ok_or("no JWT")?;
    let mut claims: serde_json::Map<String, Value> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    claims.insert("jti".to_owned(), json!(number));
    Ok(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(Value::from(claims).to_string())))
}

#[tokio::test]
async fn whoever_shares_its_address_and_forges_tokens_does_not_keep_a_controller_out() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("forged").await?;
    plane.apply(&reviewer(&namespace)).await?;
    let mut server = serve(plane, &namespace).await?;
    let mut asking = Asking::of(&server).await?;
    let token = plane.token(&namespace, "issuer", &[AUDIENCE]).await?;
    // The authorizer of the API server learns of the role in its own time.
    while asking.call(&token, "GET", "/api/v1/signer", "").await?.status == 503 {}
    let (mut stranger, mut forgeries, mut slowed) = (Asking::of(&server).await?, 0, false);
    let mut neighbour = Asking::of(&server).await?;
    // More than an address may have looked at: said to be of the account, and truly of another one, until that has used
    // up what it has.
    while forgeries < 100 || !slowed {
        forgeries += 1;
        let answer = stranger.call(&forged(&token, forgeries)?, "GET", "/api/v1/signer", "").await?;
        assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
        let other = plane.token(&namespace, "other", &[AUDIENCE]).await?;
        let answer = neighbour.call(&other, "GET", "/api/v1/signer", "").await?;
        assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
        slowed |= answer.status == 429;
        if forgeries % 10 == 0 {
            // A token that the server has not seen yet, as after each rotation.
            let fresh = plane.token(&namespace, "issuer", &[AUDIENCE]).await?;
            asking.call(&fresh, "GET", "/api/v1/signer", "").await?.expect_status(200)?;
        }
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_api_server_says_whose_token_it_is_and_one_whose_account_is_gone_is_refused() -> Result<()> {
    let Some(plane) = Plane::shared().await? else { return Ok(()) };
    let namespace = plane.namespace("review").await?;
    let mut server = serve(plane, &namespace).await?;
    let mut asking = Asking::of(&server).await?;
    let issuer = plane.token(&namespace, "issuer", &[AUDIENCE]).await?;

    // Without the right to ask nobody is let in, and strangers are not told why.
    let answer = asking.call(&issuer, "GET", "/api/v1/signer", "").await?.expect_status(503)?;
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(!told.contains("forbidden") && !told.contains("127.0.0.1"), "{told}");
    plane.apply(&reviewer(&namespace)).await?;
    // The authorizer of the API server learns of it in its own time.
    let mut answer = asking.call(&issuer, "GET", "/api/v1/signer", "").await?;
    while answer.status == 503 {
        answer = asking.call(&issuer, "GET", "/api/v1/signer", "").await?;
    }
    let signer: Value = serde_json::from_slice(&answer.expect_status(200)?.body)?;
    assert_eq!((&signer["cluster"], &signer["namespaces"]), (&json!("plane"), &Value::Null));

    // The account of a namespace speaks for it, and policy sees both proven.
    let tenant = plane.token(&namespace, "tenant", &[AUDIENCE]).await?;
    let text = STANDARD.encode(csr(&["web.tenant.test"])?);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let request = json!({
        "kind": "certificate-request", "uid": "1", "csr": pem, "origin": {"namespace": namespace, "name": "web"}
    });
    for (token, state) in [(&issuer, "refused"), (&tenant, "issued")] {
        let answer = asking.call(token, "POST", "/api/v1/signing-requests", &request.to_string()).await?;
        let said: Value = serde_json::from_slice(&answer.expect_status(200)?.body)?;
        assert_eq!(said["state"], state, "{said}");
    }

    // For somebody else, of nobody who is known here, of an account that is gone.
    let gone = plane.token(&namespace, "tenant", &[AUDIENCE]).await?;
    let accounts = Api::<ServiceAccount>::namespaced(plane.client().await?, &namespace);
    accounts.delete("tenant", &DeleteParams::default()).await?;
    for token in [
        plane.token(&namespace, "issuer", &["https://kubernetes.default.svc"]).await?,
        plane.token(&namespace, "issuer", &["chancery/other"]).await?,
        plane.token(&namespace, "other", &[AUDIENCE]).await?,
        gone,
    ] {
        asking.call(&token, "GET", "/api/v1/signer", "").await?.expect_status(401)?;
    }
    server.stop().await?;
    Ok(())
}
