//! The HTTP interface: the list of routes. What each does is in the file of its resource.

mod admin;
mod body;
mod caller;
mod check;
mod dashboard;
pub(crate) mod decision;
mod edge;
pub(crate) mod error;
mod events;
mod forward_auth;
pub(crate) mod headers;
mod health;
mod history;
mod keys;
mod leases;
mod lists;
mod openapi;
mod path;
mod policy;
mod precondition;
mod quotas;
mod resource;
mod subject;
pub(crate) mod suspects;
mod usage;
mod webhooks;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};

pub use self::caller::look_for_key;
pub use self::edge::Edge;
use self::resource::{any, delete, get, post, put, resource};
use crate::clock::Clock;
use crate::events::Webhooks;
use crate::identity::Identity;
use crate::identity::attempts::Attempts;
use crate::limiter::{Limiter, Outbox};
use crate::observability::metrics::Metrics;
use crate::persistence::Books;
use crate::policy::PolicyStore;

/// What handlers need. One for all workers.
#[derive(Debug, Clone)]
pub struct State {
    pub limiter: Limiter,
    pub policy: PolicyStore,
    pub books: Books,
    pub identity: Identity,
    pub attempts: Arc<Attempts>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// `None` where nobody is told of events.
    pub webhooks: Option<Webhooks>,
}

/// All routes, for one worker.
pub fn routes(state: State) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.app_data(Data::new(Outbox::new(state.limiter.clone())))
            .app_data(Data::new(state))
            .app_data(web::PayloadConfig::new(body::BODY_MAX_BYTES))
            .service(resource("/api/v2/check", [post(check::one)]))
            .service(resource("/api/v2/check/batch", [post(check::batch)]))
            .service(any("/api/v2/forward-auth", forward_auth::ask))
            .service(any("/api/v2/forward-auth/{path:.*}", forward_auth::ask))
            .service(resource("/api/v2/leases", [post(leases::take)]))
            .service(resource("/api/v2/leases/{lease_id}", [put(leases::renew), delete(leases::release)]))
            .service(resource("/api/v2/users/me/quota", [get(quotas::mine)]))
            .service(resource("/api/v2/users/me/quota/history", [get(history::mine)]))
            .service(resource("/api/v2/admin/quotas/usage", [get(usage::report)]))
            .service(resource("/api/v2/admin/usage/history", [get(history::of_all)]))
            .service(resource(
                "/api/v2/admin/quotas/{user_id}",
                [get(quotas::of_user), put(quotas::put_override), delete(quotas::delete_override)],
            ))
            .service(resource("/api/v2/admin/quotas/{user_id}/reset", [post(quotas::reset_user)]))
            .service(resource("/api/v2/admin/quotas/{user_id}/history", [get(history::of_user)]))
            .service(resource("/api/v2/admin/ips/{ip}", [get(quotas::of_ip)]))
            .service(resource("/api/v2/admin/ips/{ip}/reset", [post(quotas::reset_ip)]))
            .service(resource("/api/v2/admin/users", [get(lists::users)]))
            .service(resource("/api/v2/admin/overrides", [get(lists::overrides)]))
            .service(resource("/api/v2/admin/leases", [get(lists::leases)]))
            .service(resource("/api/v2/admin/users/{user_id}", [get(admin::user), put(admin::put_user)]))
            .service(resource("/api/v2/admin/tiers", [get(policy::tiers)]))
            .service(resource(
                "/api/v2/admin/tiers/{name}",
                [get(policy::tier), put(policy::put_tier), delete(policy::delete_tier)],
            ))
            .service(resource("/api/v2/admin/endpoints", [get(policy::endpoints), put(policy::put_endpoints)]))
            .service(resource("/api/v2/admin/keys", [get(keys::list), post(keys::create)]))
            .service(resource("/api/v2/admin/keys/{id}", [delete(keys::revoke)]))
            .service(resource("/api/v2/admin/keys/{id}/rotate", [post(keys::rotate)]))
            .service(resource("/api/v2/admin/audit", [get(admin::audit)]))
            .service(resource("/api/v2/admin/events", [get(events::events)]))
            .service(resource("/api/v2/admin/webhooks/deliveries", [get(webhooks::deliveries)]))
            .service(resource("/api/v2/admin/webhooks/test", [post(webhooks::test)]))
            .service(resource("/health", [get(health::whole)]))
            .service(resource("/health/live", [get(health::live)]))
            .service(resource("/health/ready", [get(health::ready)]))
            .service(resource("/metrics", [get(health::metrics)]))
            .service(resource("/openapi.json", [get(openapi::document)]))
            .service(resource("/docs", [get(openapi::docs)]))
            .service(resource("/docs/{file:.*}", [get(openapi::page)]))
            .service(resource("/dashboard", [get(dashboard::dashboard)]))
            .service(resource("/dashboard/{file:.*}", [get(dashboard::file)]))
            .service(resource("/me", [get(dashboard::own)]))
            .default_service(web::to(error::not_found));
    }
}
