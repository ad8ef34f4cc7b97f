//! What an administrator reads and sets: users, tiers, endpoint costs, the audit.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::{State, body, caller, subject};
use crate::domain::tier::TierName;

const AUDIT_MAX: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    tier: Option<String>,
    reset_schedule: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    limit: Option<u32>,
    before: Option<i64>,
}

pub async fn user(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let account = state.books.account(&subject::user_id(&id)?).await?;
    Ok(HttpResponse::Ok().json(user_json(account.user_id.as_str(), account.tier.as_ref())))
}

pub async fn put_user(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
    Body(bytes): Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let user = subject::user_id(&id)?;
    let entry: UserBody = body::parse(&request, &bytes)?;
    if entry.reset_schedule.is_some() {
        return Err(Problem::invalid("reset_schedule", "is not supported by this version"));
    }
    let policy = state.limiter.policy();
    let known = |text: String| TierName::parse(&text).ok().filter(|tier| policy.has_tier(tier));
    let tier = match entry.tier {
        Some(text) => Some(known(text).ok_or_else(|| Problem::invalid("tier", "there is no such tier"))?),
        None => None,
    };
    state.books.put_user_tier(&user, tier.as_ref(), &caller::author(&state, &request, &admin)).await?;
    state.limiter.forget(std::slice::from_ref(&user)).await;
    Ok(HttpResponse::Ok().json(user_json(user.as_str(), tier.as_ref())))
}

pub async fn tiers(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let policy = state.limiter.policy();
    Ok(HttpResponse::Ok().json(json!({ "items": policy.tiers().collect::<Vec<_>>(), "next": null })))
}

pub async fn tier(state: Data<State>, request: HttpRequest, InPath(name): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let policy = state.limiter.policy();
    let tier = policy.tiers().find(|tier| tier.name.as_str() == name);
    tier.map(|tier| HttpResponse::Ok().json(tier)).ok_or_else(|| Problem::absent("there is no such tier"))
}

pub async fn endpoints(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let policy = state.limiter.policy();
    Ok(HttpResponse::Ok().json(json!({ "costs": policy.endpoint_costs.rules().collect::<Vec<_>>() })))
}

pub async fn audit(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: AuditQuery = body::query(&request)?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=AUDIT_MAX).contains(&limit) {
        return Err(Problem::invalid("limit", "must be from 1 to 1000"));
    }
    let entries = state.books.audit(limit, query.before).await?;
    let more = u32::try_from(entries.len()).is_ok_and(|count| count == limit);
    let next = entries.last().filter(|_| more).map(|entry| entry.id);
    let items: Vec<Value> = entries
        .into_iter()
        .map(|entry| {
            json!({
                "id": entry.id, "at": entry.at, "actor": entry.actor, "address": entry.address,
                "action": entry.action, "target": entry.target, "before": entry.before, "after": entry.after,
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "items": items, "next": next })))
}

fn user_json(user: &str, tier: Option<&TierName>) -> Value {
    json!({ "user_id": user, "tier": tier, "reset_schedule": null })
}
