//! The HTTP interface: the list of routes. What each does is in the file of its resource.

mod admin;
mod body;
mod caller;
mod check;
mod error;
mod headers;
mod health;
mod history;
mod keys;
mod openapi;
mod quotas;
mod usage;

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};

use crate::clock::Clock;
use crate::identity::Identity;
use crate::limiter::Limiter;
use crate::observability::metrics::Metrics;
use crate::persistence::Books;

/// What handlers need. One for all workers.
#[derive(Debug, Clone)]
pub struct State {
    pub limiter: Limiter,
    pub books: Books,
    pub identity: Identity,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl State {
    pub const fn new(limiter: Limiter, books: Books, identity: Identity, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { limiter, books, identity, clock, metrics }
    }
}

/// All routes, for one worker.
pub fn routes(state: State) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.app_data(Data::new(state))
            .app_data(web::PayloadConfig::new(body::BODY_MAX_BYTES))
            .service(route("/api/v2/check").route(web::post().to(check::one)))
            .service(route("/api/v2/check/batch").route(web::post().to(check::batch)))
            .service(route("/api/v2/users/me/quota").route(web::get().to(quotas::mine)))
            .service(route("/api/v2/users/me/quota/history").route(web::get().to(history::mine)))
            .service(route("/api/v2/admin/quotas/usage").route(web::get().to(usage::report)))
            .service(
                route("/api/v2/admin/quotas/{user_id}")
                    .route(web::get().to(quotas::of_user))
                    .route(web::put().to(quotas::put_override))
                    .route(web::delete().to(quotas::delete_override)),
            )
            .service(route("/api/v2/admin/quotas/{user_id}/reset").route(web::post().to(quotas::reset_user)))
            .service(route("/api/v2/admin/quotas/{user_id}/history").route(web::get().to(history::of_user)))
            .service(route("/api/v2/admin/ips/{ip}").route(web::get().to(quotas::of_ip)))
            .service(route("/api/v2/admin/ips/{ip}/reset").route(web::post().to(quotas::reset_ip)))
            .service(
                route("/api/v2/admin/users/{user_id}")
                    .route(web::get().to(admin::user))
                    .route(web::put().to(admin::put_user)),
            )
            .service(route("/api/v2/admin/tiers").route(web::get().to(admin::tiers)))
            .service(route("/api/v2/admin/tiers/{name}").route(web::get().to(admin::tier)))
            .service(route("/api/v2/admin/endpoints").route(web::get().to(admin::endpoints)))
            .service(route("/api/v2/admin/keys").route(web::get().to(keys::list)).route(web::post().to(keys::create)))
            .service(route("/api/v2/admin/keys/{id}").route(web::delete().to(keys::revoke)))
            .service(route("/api/v2/admin/audit").route(web::get().to(admin::audit)))
            .service(route("/health").route(web::get().to(health::whole)))
            .service(route("/health/live").route(web::get().to(health::live)))
            .service(route("/health/ready").route(web::get().to(health::ready)))
            .service(route("/metrics").route(web::get().to(health::metrics)))
            .service(route("/openapi.json").route(web::get().to(openapi::document)))
            .service(route("/docs").route(web::get().to(openapi::docs)))
            .service(openapi::pages())
            .default_service(web::to(error::not_found));
    }
}

/// A resource that answers other methods with 405.
fn route(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(error::method_not_allowed))
}
