//! Who asks the API server: kubeconfigs of users and of service accounts, and clients made from them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{Plane, Result, authority::Pair};

/// How long the token of a service account is good for: longer than any run.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

impl Plane {
    /// A client of the administrator (group `system:masters`).
    pub async fn client(&self) -> Result<Client> {
        client(self.administrator().clone()).await
    }

    /// A kubeconfig of the administrator, for programs.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.authority().file("administrator.kubeconfig")
    }

    /// A client of a user with at most one group, who has no rights but those that RBAC gives.
    pub async fn client_as_user(&self, name: &str, groups: &[&str]) -> Result<Client> {
        client(self.kubeconfig_of_pair(&self.authority().user(name, groups)?)).await
    }

    /// A client that is a service account, by a token as pods have them. The account is made if it is not there.
    pub async fn client_as_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        client(self.kubeconfig_of_token(&self.token(namespace, name, &[]).await?)).await
    }

    /// The same as a kubeconfig, for programs.
    pub async fn kubeconfig_of_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let kubeconfig = self.kubeconfig_of_token(&self.token(namespace, name, &[]).await?);
        let file = self.authority().file(&format!("{namespace}.{name}.kubeconfig"));
        fs::write(&file, serde_json::to_vec(&kubeconfig)?)?;
        Ok(file)
    }

    /// A token of a service account (TokenRequest), for these audiences or for the API server. The account is made if it
    /// is not there.
    pub async fn token(&self, namespace: &str, name: &str, audiences: &[&str]) -> Result<String> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
        accounts.patch(name, &PatchParams::apply("tests"), &Patch::Apply(&account)).await?;
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audiences.iter().map(|&audience| audience.to_owned()).collect()),
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        let token = answer.status.and_then(|status| status.token);
        Ok(token.ok_or("a TokenRequest was answered without a token")?)
    }

    pub(crate) fn kubeconfig_of_pair(&self, pair: &Pair) -> Value {
        self.kubeconfig_of(&BTreeMap::from([
            ("client-certificate-data", STANDARD.encode(&pair.certificate)),
            ("client-key-data", STANDARD.encode(&pair.key)),
        ]))
    }

    fn kubeconfig_of_token(&self, token: &str) -> Value {
        self.kubeconfig_of(&BTreeMap::from([("token", token.to_owned())]))
    }

    /// JSON is YAML too, so every program takes it.
    fn kubeconfig_of(&self, user: &BTreeMap<&str, String>) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "plane",
            "clusters": [{
                "name": "plane",
                "cluster": {
                    "server": self.url(),
                    "certificate-authority-data": STANDARD.encode(self.authority().certificate()),
                },
            }],
            "users": [{ "name": "plane", "user": user }],
            "contexts": [{ "name": "plane", "context": { "cluster": "plane", "user": "plane" } }],
        })
    }
}

/// A client, in the runtime that asks for it.
pub(crate) async fn client(kubeconfig: Value) -> Result<Client> {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
