//! The routes, each with the permission that it takes.

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, any, on},
};
use http::Method;

use super::{ApiState, Caller, answer::ApiError, eab, inventory, process, signing, tokens};

/// What a caller must be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// See whether the server is well, and its metrics.
    Observe,
    /// See and do everything that an operator may.
    Operate,
    /// Ask for certificates for Kubernetes objects, within a credential's limits.
    Sign,
}

impl Caller {
    /// Whether this caller has that permission.
    #[must_use]
    pub const fn may(self, permission: Permission) -> bool {
        match (self, permission) {
            (Self::Local { .. }, Permission::Observe | Permission::Operate)
            | (Self::Plain, Permission::Observe)
            | (Self::Cluster, Permission::Sign) => true,
            (Self::Local { .. }, Permission::Sign)
            | (Self::Plain, Permission::Operate | Permission::Sign)
            | (Self::Cluster, Permission::Observe | Permission::Operate) => false,
        }
    }
}

/// One route.
pub(super) struct Route {
    // The method and the permission are read by the test that tries every caller on every route.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of every caller on every route"))]
    pub(super) method: Method,
    pub(super) permission: Permission,
    pub(super) path: &'static str,
    handler: MethodRouter<ApiState>,
}

/// The routes of the API.
pub(super) struct Routes(pub(super) Vec<Route>);

impl Routes {
    fn get<H, T>(self, permission: Permission, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, ApiState>,
        T: 'static,
    {
        self.add(Method::GET, MethodFilter::GET, permission, path, handler)
    }

    fn post<H, T>(self, permission: Permission, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, ApiState>,
        T: 'static,
    {
        self.add(Method::POST, MethodFilter::POST, permission, path, handler)
    }

    fn add<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        permission: Permission,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, ApiState>,
        T: 'static,
    {
        let handler = on(filter, handler).route_layer(from_fn_with_state(permission, guard));
        self.0.push(Route { method, permission, path, handler });
        self
    }

    pub(super) fn into_router(self) -> Router<ApiState> {
        self.routed().fallback(nothing).method_not_allowed_fallback(nothing)
    }

    /// Those that take this permission.
    pub(super) fn only(self, permission: Permission) -> Self {
        Self(self.0.into_iter().filter(|route| route.permission == permission).collect())
    }

    /// As a part of another router; what else stands below `rest` is answered that there is nothing.
    pub(super) fn into_part(self, rest: &'static str) -> Router<ApiState> {
        self.routed().route(rest, any(nothing)).method_not_allowed_fallback(nothing)
    }

    fn routed(self) -> Router<ApiState> {
        self.0.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
    }
}

/// Every route of the API. This list is the only place where one can be added.
pub(super) fn all() -> Routes {
    use Permission::{Observe, Operate, Sign};
    Routes(Vec::new())
        .get(Observe, "/healthz", process::healthz)
        .get(Observe, "/readyz", process::readyz)
        .get(Observe, "/metrics", process::metrics)
        .get(Operate, "/v1/status", process::status)
        .post(Operate, "/v1/reload", process::reload)
        .post(Operate, "/v1/backup", process::backup)
        .get(Operate, "/v1/accounts", inventory::accounts)
        .get(Operate, "/v1/eab-keys", eab::list)
        .post(Operate, "/v1/eab-keys", eab::make)
        .get(Operate, "/v1/eab-keys/{id}", eab::show)
        .post(Operate, "/v1/eab-keys/{id}/limit", eab::limit)
        .post(Operate, "/v1/eab-keys/{id}/revoke", eab::revoke)
        .get(Operate, "/v1/certificates", inventory::certificates)
        .get(Operate, "/v1/certificates/{id}", inventory::certificate)
        .post(Operate, "/v1/certificates/{id}/revoke", inventory::revoke)
        .get(Operate, "/v1/issuances", inventory::issuances)
        .get(Operate, "/v1/cluster-tokens", tokens::list)
        .post(Operate, "/v1/cluster-tokens", tokens::make)
        .post(Operate, "/v1/cluster-tokens/{id}/revoke", tokens::revoke)
        .post(Sign, "/api/v1/signing-requests", signing::sign)
        .get(Sign, "/api/v1/signing-requests/{kind}/{uid}", signing::state)
        .post(Sign, "/api/v1/signing-requests/{kind}/{uid}/usage", signing::report_usage)
        .post(Sign, "/api/v1/signing-requests/{kind}/{uid}/revoke", signing::revoke)
        .get(Sign, "/api/v1/signer", signing::signer)
}

async fn guard(State(permission): State<Permission>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    if caller.is_some_and(|caller| caller.may(permission)) { next.run(request).await } else { nothing().await }
}

async fn nothing() -> Response {
    ApiError::not_found("there is nothing here").into_response()
}
