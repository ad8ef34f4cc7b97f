//! What an administrator reads and sets: users, the audit.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::{State, body, caller, precondition, subject};
use crate::domain::account::UserEntry;
use crate::domain::schedule::ResetSchedule;
use crate::domain::subject::UserId;

const AUDIT_MAX: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    tier: Option<String>,
    reset_schedule: Option<ResetSchedule>,
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
    let entry = UserEntry { tier: account.tier, reset_schedule: account.reset_schedule };
    Ok(shown(&account.user_id, &entry))
}

pub async fn put_user(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let user = subject::user_id(&id)?;
    let UserBody { tier, reset_schedule } = body.json(&request).await?;
    let tier = tier.map(|text| subject::known_tier(&state.limiter.policy(), &text)).transpose()?;
    let reset_schedule = reset_schedule.filter(|schedule| *schedule != ResetSchedule::default());
    let entry = UserEntry { tier, reset_schedule };
    // A tier that the API alone has set may be removed at this moment.
    let must_be_set = entry.tier.as_ref().is_some_and(|tier| !state.policy.has_below_api(tier));
    let author = caller::author(&state, &request, &admin).expecting(precondition::expected(&request)?);
    if !state.books.put_user(&user, &entry, must_be_set, &author).await? {
        return Err(Problem::invalid("tier", "there is no such tier"));
    }
    state.limiter.forget(std::slice::from_ref(&user)).await;
    Ok(shown(&user, &entry))
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

fn shown(user: &UserId, entry: &UserEntry) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    precondition::tag(&mut answer, entry.to_json().as_ref());
    answer.json(json!({ "user_id": user.as_str(), "tier": entry.tier, "reset_schedule": entry.reset_schedule }))
}
