//! Leases: concurrency slots, taken, renewed and given back.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::subject::{UserText, known_tier, lease_ask, subject_of};
use super::{State, caller, decision, headers};
use crate::domain::decision::{Decision, SlotStatus};
use crate::domain::lease::{ChangeLease, LEASE_MAX_SECONDS, LeaseAsk, LeaseId, LeaseKind, LeaseWish};
use crate::domain::time::{Period, Timestamp};
use crate::limiter::{Check, Outbox};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeBody {
    user_id: Option<UserText>,
    ip: Option<String>,
    tier: Option<String>,
    kind: LeaseKind,
    ttl_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewBody {
    ttl_seconds: u64,
}

/// A lease as the API shows it.
#[derive(Debug, Serialize)]
struct LeaseView {
    lease_id: String,
    kind: LeaseKind,
    in_use: u64,
    limit: u64,
    expires_at: Timestamp,
}

pub async fn take(
    state: Data<State>,
    outbox: Data<Outbox>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let TakeBody { user_id, ip, tier, kind, ttl_seconds } = body.json(&request).await?;
    let subject = subject_of(&state.identity, user_id, ip.as_deref())?;
    let tier = tier.map(|text| known_tier(&state.limiter.policy(), &text)).transpose()?;
    let lease = lease_ask(kind, lasting(ttl_seconds)?)?;
    let decided =
        outbox.check(Check { tier, lease: Some(lease), dry_run: false, ..Check::look(subject, None) }).await?;
    let enforcing = state.limiter.is_enforcing();
    match decided.slots.as_ref().and_then(|slots| Some((slots, slots.taken.as_ref()?))) {
        Some((slots, (id, expires_at))) => {
            Ok(shown(HttpResponse::Created(), &decided, LeaseView::of(id, slots, *expires_at), enforcing))
        }
        None => Ok(decision::denied(&decided, enforcing)),
    }
}

pub async fn renew(
    state: Data<State>,
    outbox: Data<Outbox>,
    request: HttpRequest,
    InPath(id): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let RenewBody { ttl_seconds } = body.json(&request).await?;
    let lasts = lasting(ttl_seconds)?;
    let id = LeaseId::parse(&id).ok_or_else(not_held)?;
    let expires_at = state.limiter.change_lease(id.clone(), ChangeLease::Renew(lasts)).await?.ok_or_else(not_held)?;
    let count = LeaseAsk { kind: id.kind, wish: LeaseWish::Count };
    let decision = outbox.check(Check { lease: Some(count), ..Check::look(id.subject.clone(), None) }).await?;
    let slots = decision.slots.as_ref().ok_or_else(not_held)?;
    Ok(shown(HttpResponse::Ok(), &decision, LeaseView::of(&id, slots, expires_at), state.limiter.is_enforcing()))
}

pub async fn release(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let id = LeaseId::parse(&id).ok_or_else(not_held)?;
    state.limiter.change_lease(id, ChangeLease::Release).await?.ok_or_else(not_held)?;
    Ok(HttpResponse::NoContent().finish())
}

fn lasting(seconds: u64) -> Result<Period, Problem> {
    if (1..=LEASE_MAX_SECONDS).contains(&seconds) {
        Ok(Period::from_seconds(seconds))
    } else {
        Err(Problem::invalid("ttl_seconds", "must be a whole number from 1 to 86400"))
    }
}

fn not_held() -> Problem {
    Problem::absent("this lease is not held: it was released, or has expired")
}

fn shown(
    mut answer: actix_web::HttpResponseBuilder,
    decision: &Decision,
    view: LeaseView,
    enforcing: bool,
) -> HttpResponse {
    let mut answer = answer.json(view);
    headers::put(answer.headers_mut(), decision, enforcing);
    answer
}

impl LeaseView {
    fn of(id: &LeaseId, slots: &SlotStatus, expires_at: Timestamp) -> Self {
        Self { lease_id: id.to_string(), kind: id.kind, in_use: slots.held, limit: slots.limit, expires_at }
    }
}
