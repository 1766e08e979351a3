//! The routes, each with the permission that it takes.

use axum::{
    Router,
    extract::{Request, State},
    handler::Handler,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;

use super::{ApiState, Caller, answer::ApiError, eab, inventory, process};

/// What a caller must be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// See whether the server is well, and its metrics.
    Observe,
    /// See and do everything that an operator may.
    Operate,
}

impl Caller {
    /// Whether this caller has that permission.
    #[must_use]
    pub const fn may(self, permission: Permission) -> bool {
        match (self, permission) {
            (Self::Local { .. }, Permission::Observe | Permission::Operate) | (Self::Plain, Permission::Observe) => {
                true
            }
            (Self::Plain, Permission::Operate) => false,
        }
    }
}

/// One route.
pub(super) struct Route {
    // The method and the permission are read by the test that tries every caller on every route.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of every caller on every route"))]
    pub(super) method: Method,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of every caller on every route"))]
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
        let router = self.0.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
        router.fallback(nothing).method_not_allowed_fallback(nothing)
    }
}

/// Every route of the API. This list is the only place where one can be added.
pub(super) fn all() -> Routes {
    use Permission::{Observe, Operate};
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
}

async fn guard(State(permission): State<Permission>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    if caller.is_some_and(|caller| caller.may(permission)) { next.run(request).await } else { nothing().await }
}

async fn nothing() -> Response {
    ApiError::not_found("there is nothing here").into_response()
}
