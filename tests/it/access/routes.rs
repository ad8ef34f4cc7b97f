//! Every route and who may use it: the one table that the matrix is made of, and the page of docs/AUTH_SYSTEM.md.

use std::collections::BTreeSet;

use crate::openapi::document::Operation;

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// All the world: no credential is looked at.
    Everybody,
    /// Callers without a credential, and with any that verifies.
    AnyCaller,
    /// Whoever speaks for a user, about that user.
    Users,
    Services,
    Admins,
}

impl May {
    /// As the documentation says it.
    pub const fn in_words(self) -> &'static str {
        match self {
            May::Everybody => "everybody, no credential is read",
            May::AnyCaller => "everybody; a credential must verify",
            May::Users => "a credential that speaks for a user",
            May::Services => "`service`, `admin`",
            May::Admins => "`admin`",
        }
    }
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub may: May,
    /// What who may is answered.
    pub success: u16,
    pub body: Option<&'static str>,
}

const fn route(method: &'static str, path: &'static str, may: May, success: u16) -> Route {
    Route { method, path, may, success, body: None }
}

const fn sends(body: &'static str, route: Route) -> Route {
    Route { body: Some(body), ..route }
}

use May::{Admins, AnyCaller, Everybody, Services, Users};

pub const ROUTES: &[Route] = &[
    sends(r#"{"user_id": "u"}"#, route("post", "/api/v2/check", Services, 200)),
    sends(r#"{"checks": [{"user_id": "u"}]}"#, route("post", "/api/v2/check/batch", Services, 200)),
    route("get", "/api/v2/forward-auth", AnyCaller, 200),
    route("get", "/api/v2/forward-auth/{path}", AnyCaller, 200),
    sends(r#"{"user_id": "u", "kind": "request", "ttl_seconds": 60}"#, route("post", "/api/v2/leases", Services, 201)),
    sends(r#"{"ttl_seconds": 60}"#, route("put", "/api/v2/leases/{lease_id}", Services, 200)),
    route("delete", "/api/v2/leases/{lease_id}", Services, 204),
    route("get", "/api/v2/users/me/quota", Users, 200),
    route("get", "/api/v2/users/me/quota/history", Users, 200),
    route("get", "/api/v2/admin/quotas/usage", Admins, 200),
    route("get", "/api/v2/admin/usage/history", Admins, 200),
    route("get", "/api/v2/admin/quotas/{user_id}", Admins, 200),
    sends(r#"{"custom_requests_per_hour": 1000000}"#, route("put", "/api/v2/admin/quotas/{user_id}", Admins, 200)),
    route("delete", "/api/v2/admin/quotas/{user_id}", Admins, 204),
    route("post", "/api/v2/admin/quotas/{user_id}/reset", Admins, 200),
    route("get", "/api/v2/admin/quotas/{user_id}/history", Admins, 200),
    route("get", "/api/v2/admin/ips/{ip}", Admins, 200),
    route("post", "/api/v2/admin/ips/{ip}/reset", Admins, 200),
    route("get", "/api/v2/admin/users", Admins, 200),
    route("get", "/api/v2/admin/users/{user_id}", Admins, 200),
    sends(r#"{"tier": "pro"}"#, route("put", "/api/v2/admin/users/{user_id}", Admins, 200)),
    route("get", "/api/v2/admin/overrides", Admins, 200),
    route("get", "/api/v2/admin/leases", Admins, 200),
    route("get", "/api/v2/admin/events", Admins, 200),
    route("get", "/api/v2/admin/webhooks/deliveries", Admins, 200),
    // There is no receiver: who may is told so.
    route("post", "/api/v2/admin/webhooks/test", Admins, 409),
    route("get", "/api/v2/admin/tiers", Admins, 200),
    route("get", "/api/v2/admin/tiers/{name}", Admins, 200),
    sends(r#"{"limits": []}"#, route("put", "/api/v2/admin/tiers/{name}", Admins, 200)),
    route("delete", "/api/v2/admin/tiers/{name}", Admins, 204),
    route("get", "/api/v2/admin/endpoints", Admins, 200),
    sends(r#"{"costs": []}"#, route("put", "/api/v2/admin/endpoints", Admins, 200)),
    route("get", "/api/v2/admin/keys", Admins, 200),
    sends(r#"{"name": "k", "role": "user"}"#, route("post", "/api/v2/admin/keys", Admins, 201)),
    route("delete", "/api/v2/admin/keys/{id}", Admins, 204),
    route("post", "/api/v2/admin/keys/{id}/rotate", Admins, 201),
    route("get", "/api/v2/admin/audit", Admins, 200),
    route("get", "/health", Everybody, 200),
    route("get", "/health/live", Everybody, 200),
    route("get", "/health/ready", Everybody, 200),
    route("get", "/metrics", Everybody, 200),
    route("get", "/openapi.json", Everybody, 200),
    route("get", "/docs", Everybody, 200),
    route("get", "/docs/{file:.*}", Everybody, 200),
    route("get", "/dashboard", Everybody, 200),
    route("get", "/dashboard/{file:.*}", Everybody, 200),
    route("get", "/me", Everybody, 200),
];

impl Route {
    pub fn operation(&self) -> Operation {
        Operation { path: self.path.to_owned(), method: self.method.to_owned() }
    }

    /// Those of forward-auth take any method.
    pub fn methods(&self) -> &[&'static str] {
        if self.may == AnyCaller {
            &["GET", "POST", "PUT", "DELETE", "PATCH"]
        } else {
            std::slice::from_ref(&self.method)
        }
    }
}

/// A new route needs a row: who may use it is never left open.
#[test]
fn every_route_has_a_row() {
    let document = crate::openapi::document::Document::read();
    let all: BTreeSet<Operation> = &document.operations() | &crate::openapi::document::routes();
    let rows: BTreeSet<Operation> = ROUTES.iter().map(Route::operation).collect();
    assert_eq!(rows.len(), ROUTES.len(), "no route has two rows");
    assert_eq!(rows, all);
}

/// docs/AUTH_SYSTEM.md says the same; UPDATE_DOCS=1 writes it.
#[test]
fn the_documented_roles_are_those_of_the_table() {
    let row = |route: &Route| {
        let method = if route.may == AnyCaller { "any" } else { &route.method.to_uppercase() };
        format!("| {method} | `{}` | {} |\n", route.path, route.may.in_words())
    };
    let rows: String = ROUTES.iter().map(row).collect();
    let table = format!("| method | path | who may |\n|---|---|---|\n{rows}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/AUTH_SYSTEM.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (before, rest) = page.split_once("| method | path |").expect("its table");
    let (_, after) = rest.split_once("\n\n").expect("something behind the table");
    let right = format!("{before}{table}\n{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &right).expect("the page is written");
    } else {
        assert!(page == right, "docs/AUTH_SYSTEM.md is not what the table says: run this test with UPDATE_DOCS=1");
    }
}
