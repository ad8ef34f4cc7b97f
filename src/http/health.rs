//! How the service is, for orchestrators, operators and Prometheus.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde_json::json;

use super::State;
use crate::clock::Stopwatch;
use crate::events::Webhooks;

/// The process answers.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// Whether checks are answered. They are without Redis, by the fallback, and without the database.
pub async fn ready(state: Data<State>) -> HttpResponse {
    let stopped = state.limiter.health().shards.iter().filter(|shard| !shard.alive).count();
    if stopped == 0 {
        HttpResponse::Ok().json(json!({ "status": "ok" }))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "unavailable", "missing": ["shards"] }))
    }
}

/// Every part, and whether it is well.
pub async fn whole(state: Data<State>) -> HttpResponse {
    let limiter = state.limiter.health();
    let watch = Stopwatch::start();
    let database_up = state.books.ping().await.is_ok();
    let ping = u64::try_from(watch.elapsed().as_micros()).unwrap_or(u64::MAX);
    let books = state.books.stats();
    let policy = state.policy.status();
    let webhooks = state.webhooks.as_ref().map(Webhooks::health);
    let webhooks_well = webhooks.as_ref().is_none_or(|webhooks| webhooks.error.is_none());
    let well = database_up
        && webhooks_well
        && policy.error.is_none()
        && !limiter.fallback_active
        && limiter.shards.iter().all(|shard| shard.alive);
    let part = |up: bool| if up { "ok" } else { "degraded" };
    let redis = limiter.redis.map(|redis| {
        json!({
            "status": part(redis.nodes_away == 0),
            "ping_micros": redis.ping_micros,
            "error": redis.error,
            "nodes_away": redis.nodes_away,
        })
    });
    HttpResponse::Ok().json(json!({
        "status": part(well),
        "version": env!("CARGO_PKG_VERSION"),
        "counters": if redis.is_some() { "redis" } else { "embedded" },
        "shards": limiter.shards.iter().map(|shard| json!({ "alive": shard.alive, "queued": shard.queued })).collect::<Vec<_>>(),
        "redis": redis,
        "fallback_active": limiter.fallback_active,
        "policy": {
            "status": part(policy.error.is_none()),
            "file": policy.has_file,
            "error": policy.error,
            "loaded_at": policy.loaded_at,
        },
        "database": {
            "status": part(database_up && books.last_error.is_none()),
            "ping_micros": database_up.then_some(ping),
            "lag_seconds": books.lag(state.clock.now()).as_secs_f64(),
            "pending_rows": books.pending_rows,
            "flushed_at": books.flushed_at,
            "flush_failures": books.failures,
            "set_aside_rows": books.set_aside,
        },
        "webhooks": webhooks.map(|webhooks| json!({
            "status": part(webhooks_well),
            "pending": webhooks.pending,
            "dropped": webhooks.dropped,
            "error": webhooks.error,
        })),
    }))
}

pub async fn metrics(state: Data<State>) -> HttpResponse {
    for (number, shard) in state.limiter.health().shards.iter().enumerate() {
        state.metrics.set_shard_queue(number, shard.queued);
    }
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}
