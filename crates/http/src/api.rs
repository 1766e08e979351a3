//! The JSON API of our own: `/v1/…` for operators, `/api/v1/…` for clusters, health and metrics.
//!
//! The same routes stand on every listener; who may use which is decided by the [`Caller`] that
//! the listener puts into a request's extensions. Every route declares its [`Permission`] when it
//! is added, and there is no other way to add one. Who lacks it is told that there is nothing.
//!
//! It holds no rule of its own: what is asked becomes a use case of `authority`, or of the process
//! ([`Operator`]).

mod answer;
mod clusters;
mod eab;
mod inventory;
mod process;
mod routes;
mod signing;
#[cfg(test)]
mod tests;
mod tokens;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use axum::{Router, middleware::from_fn_with_state};
use chancery_api::{BackedUp, Reloaded, Status};
use chancery_authority::Office;

use self::clusters::Clusters;
pub use self::{
    clusters::{ClientCertificates, ClusterSettings},
    routes::Permission,
};
use crate::metrics::Metrics;

/// Who calls, as the listener knows it. A request without one may do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Over the local socket: a process of this user, whose id the kernel vouches for.
    Local {
        /// The user.
        uid: u32,
    },
    /// Over the listener for health and metrics: whoever can reach it.
    Plain,
    /// Over HTTPS: a cluster's controller, whose credential was proved.
    Cluster,
}

/// What the process can do beside the use cases.
#[async_trait]
pub trait Operator: Send + Sync {
    /// Scheme, host and port under which clients reach the server.
    fn external_url(&self) -> String;
    /// Why no certificate is issued now, one sentence each; nothing if all is well.
    async fn not_issuing(&self) -> Vec<String>;
    /// How the process is.
    async fn status(&self) -> Result<Status, OperationError>;
    /// Takes the configuration's files again; what is broken is refused and what was in force stays.
    async fn reload(&self, by: &str) -> Result<Reloaded, OperationError>;
    /// Backs up into a folder that does not exist or is empty.
    async fn backup(&self, folder: &Path) -> Result<BackedUp, OperationError>;
    /// Brings the gauges that are only looked at up to date.
    async fn observe(&self);
}

/// An operation did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// What was asked for cannot be: the operator's side.
    #[error("{0}")]
    Refused(String),
    /// Our side.
    #[error("{0}")]
    Failed(String),
}

/// The state of the routes. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Api>);

struct Api {
    office: Office,
    operator: Arc<dyn Operator>,
    metrics: Arc<Metrics>,
    clusters: Clusters,
}

impl ApiState {
    /// The API of an office and the process around it; of clusters' credentials API tokens alone are taken.
    #[must_use]
    pub fn new(office: Office, operator: Arc<dyn Operator>, metrics: Arc<Metrics>) -> Self {
        Self::for_clusters(office, operator, metrics, ClusterSettings::default())
    }

    /// The same, with how clusters are let in.
    #[must_use]
    pub fn for_clusters(
        office: Office,
        operator: Arc<dyn Operator>,
        metrics: Arc<Metrics>,
        clusters: ClusterSettings,
    ) -> Self {
        Self(Arc::new(Api { office, operator, metrics, clusters: Clusters::new(clusters) }))
    }
}

/// All routes, for a listener that says itself who calls.
pub fn router(state: ApiState) -> Router {
    routes::all().into_router().with_state(state)
}

/// The routes of clusters alone, below `/api/v1`, for the listener that strangers reach: who calls is found out here.
pub fn cluster_router(state: ApiState) -> Router {
    let routes = routes::all().only(Permission::Sign).into_part("/api/v1/{*rest}");
    routes.layer(from_fn_with_state(state.clone(), clusters::enter)).with_state(state)
}
