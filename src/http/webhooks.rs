//! Webhooks, for an administrator: the log of deliveries, and an event to try the receiver with.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use super::lists::{bad_place, page_limit, shown};
use super::{State, body, caller};
use crate::clock::Stopwatch;
use crate::domain::delivery::{Delivery, DeliveryPlace, DeliveryState};
use crate::domain::event::EventId;
use crate::domain::time::Timestamp;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveriesQuery {
    state: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

pub async fn deliveries(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: DeliveriesQuery = body::query(&request)?;
    let wanted = |text: &str| {
        let bad = || Problem::invalid("state", "must be pending, delivered or given_up");
        DeliveryState::parse(text).ok_or_else(bad)
    };
    let wanted = query.state.as_deref().map(wanted).transpose()?;
    let after = query.after.map(|text| place(&text).ok_or_else(bad_place)).transpose()?;
    let page = state.books.list_webhooks(wanted, page_limit(query.limit)?, after.as_ref()).await?;
    Ok(shown(&page, delivery_json, |DeliveryPlace { created_at, id }| format!("{}.{id}", created_at.as_micros())))
}

/// The address is the operator's: nothing in the request says where the event goes.
pub async fn test(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let webhooks = state.webhooks.as_ref().ok_or_else(|| Problem::conflict("no WEBHOOK_URL is set"))?;
    let watch = Stopwatch::start();
    let (id, attempt) = webhooks.test().await?;
    let elapsed = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(HttpResponse::Ok().json(json!({
        "id": id,
        "delivered": attempt.succeeded(),
        "status": attempt.status,
        "body": attempt.body,
        "error": attempt.error,
        "elapsed_ms": elapsed,
    })))
}

/// Reads `<microseconds>.<id>`.
fn place(text: &str) -> Option<DeliveryPlace> {
    let (created_at, id) = text.split_once('.')?;
    Some(DeliveryPlace { created_at: Timestamp::from_micros(created_at.parse().ok()?), id: EventId::parse(id)? })
}

fn delivery_json(delivery: &Delivery) -> Value {
    let is_pending = delivery.state == DeliveryState::Pending;
    json!({
        "id": delivery.id,
        "type": delivery.kind,
        "state": delivery.state.as_str(),
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "next_attempt_at": is_pending.then_some(delivery.due_at),
        "settled_at": delivery.settled_at,
        "status": delivery.status,
        "error": delivery.error,
        // It was JSON when it was written.
        "event": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
    })
}
