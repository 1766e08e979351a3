//! A real Kubernetes control plane and a real cert-manager, without containers: etcd, kube-apiserver,
//! kube-controller-manager and cert-manager's controllers and webhook as processes of this machine, on loopback.
//!
//! The programs are built from published Go modules by `tests/run` (see `tests/cluster/go`), or are those that
//! controller-runtime's envtest names (`KUBEBUILDER_ASSETS`, `TEST_ASSET_KUBE_APISERVER`, `TEST_ASSET_ETCD`). Where
//! there are none, a test says so in a line that begins with `SKIPPED` and passes.
//!
//! One plane serves all tests of a process, and each test works in a namespace of its own:
//!
//! ```no_run
//! # use chancery_cluster_tests::{CertManager, Plane, Result, until};
//! # async fn test() -> Result<()> {
//! // Both are started by the first test that asks, and are gone with the process, however it ends.
//! let Some(plane) = Plane::shared().await? else { return Ok(()) };
//! let Some(_) = CertManager::shared(plane).await? else { return Ok(()) };
//! let namespace = plane.namespace("issuing").await?;
//! plane
//!     .apply_in(
//!         &namespace,
//!         r#"
//! apiVersion: cert-manager.io/v1
//! kind: Issuer
//! metadata: { name: self-signed }
//! spec: { selfSigned: {} }
//! "#,
//!     )
//!     .await?;
//! let issuers = plane.objects("cert-manager.io/v1", "Issuer", &namespace).await?;
//! until(&issuers, "self-signed", until::condition("Ready", "True")).await?;
//! // As anybody else than the administrator:
//! let tenant = plane.client_as_service_account(&namespace, "tenant").await?;
//! # Ok(())
//! # }
//! ```
//!
//! A client belongs to the async runtime that made it, so it is made in each test. A test that kills the API server, or
//! wants cert-manager with other options, starts a plane of its own ([`Plane::start`], [`CertManager::install`]).
#![expect(clippy::missing_errors_doc, reason = "every error here is a sentence that fails a test")]

mod authority;
mod cert_manager;
pub mod certbot;
pub mod chart;
pub mod company;
pub mod controller;
mod guard;
mod identity;
pub mod istio;
mod manifest;
mod name_server;
pub mod nginx;
mod plane;
mod process;
mod programs;
mod real_server;
pub mod signing_server;
pub mod until;
pub mod visitor;

pub use cert_manager::{CertManager, Options, kept_key};
pub use company::Company;
pub use controller::Issuing;
pub use manifest::documents;
pub use name_server::{NameServer, UPDATE_KEY};
pub use plane::Plane;
pub use process::Process;
pub use programs::{Programs, helm, skipped};
pub use real_server::RealServer;
pub use signing_server::SigningServer;
pub use until::until;
pub use visitor::{Door, Visitor};

/// What goes wrong in a test's own machinery; a test ends with it.
pub type Error = chancery_harness::Error;

/// What a test's machinery gives.
pub type Result<T> = chancery_harness::Result<T>;
