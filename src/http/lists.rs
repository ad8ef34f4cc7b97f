//! What an administrator pages through: users, overrides, leases. Each page says where the next begins.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use super::subject::{UserText, subject_of, user_id};
use super::{State, body, caller};
use crate::domain::account::QuotaOverride;
use crate::domain::lease::{Lease, LeaseId, LeasePlace};
use crate::domain::listing::{KnownUser, OverrideFilter, OverridePlace, Page, SetOverride};
use crate::domain::subject::{Subject, USER_ID_MAX_CHARS};
use crate::domain::time::Timestamp;

const PAGE_MAX: u32 = 1000;
const PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersQuery {
    #[serde(default)]
    search: String,
    limit: Option<u32>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverridesQuery {
    state: Option<String>,
    user_id: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeasesQuery {
    user_id: Option<String>,
    ip: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

pub async fn users(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: UsersQuery = body::query(&request)?;
    if query.search.chars().count() > USER_ID_MAX_CHARS || query.search.contains(char::is_control) {
        return Err(Problem::invalid("search", "must have at most 128 characters, none of them a control character"));
    }
    let limit = page_limit(query.limit)?;
    let after = query.after.map(|text| user_id(&text).map_err(|_| bad_place())).transpose()?;
    state.limiter.hand_over().await;
    let page = state.books.list_users(&query.search, limit, after.as_ref()).await?;
    let now = state.clock.now();
    Ok(shown(&page, |user| user_json(user, now), |id| id.as_str().to_owned()))
}

pub async fn overrides(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: OverridesQuery = body::query(&request)?;
    let active = match query.state.as_deref() {
        None => None,
        Some("active") => Some(true),
        Some("expired") => Some(false),
        Some(_) => return Err(Problem::invalid("state", "must be active or expired")),
    };
    let filter = OverrideFilter { active, user: query.user_id.as_deref().map(user_id).transpose()? };
    let after = query.after.map(|text| override_place(&text).ok_or_else(bad_place)).transpose()?;
    let page = state.books.list_overrides(&filter, page_limit(query.limit)?, after.as_ref()).await?;
    let now = state.clock.now();
    Ok(shown(
        &page,
        |item| override_json(item, now),
        |OverridePlace { ends, user_id }| {
            let ends = ends.map(|ends| ends.as_micros().to_string()).unwrap_or_default();
            format!("{ends}.{user_id}")
        },
    ))
}

pub async fn leases(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: LeasesQuery = body::query(&request)?;
    let subject = subject_of(&state.identity, query.user_id.map(UserText::Text), query.ip.as_deref())?;
    let limit = usize::try_from(page_limit(query.limit)?).unwrap_or(usize::MAX);
    let after = query.after.map(|text| lease_place(&text, &subject).ok_or_else(bad_place)).transpose()?;
    let held = state.limiter.leases(subject.clone(), after, limit.saturating_add(1)).await?;
    let page = Page::cut(held, limit, Lease::place);
    let id = |&(_, kind, secret): &LeasePlace| LeaseId { kind, secret, subject: subject.clone() };
    Ok(shown(
        &page,
        |lease| json!({ "lease_id": id(&lease.place()).to_string(), "kind": lease.kind, "expires_at": lease.expires_at }),
        |place| format!("{}.{}", place.0.as_micros(), id(place)),
    ))
}

/// A page as it is answered.
pub fn shown<T, Place>(
    page: &Page<T, Place>,
    item: impl Fn(&T) -> Value,
    place: impl Fn(&Place) -> String,
) -> HttpResponse {
    let items: Vec<Value> = page.items.iter().map(item).collect();
    HttpResponse::Ok().json(json!({ "items": items, "next": page.next.as_ref().map(place) }))
}

/// How many items a page may have: 100 where nothing else is asked for.
pub fn page_limit(asked: Option<u32>) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(PAGE);
    if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(Problem::invalid("limit", "must be from 1 to 1000")) }
}

/// What was given as `after` is nothing that `next` said.
pub fn bad_place() -> Problem {
    Problem::invalid("after", "must be what `next` said")
}

/// Reads `<microseconds>.<user id>`; nothing before the point is an override that never ends.
fn override_place(text: &str) -> Option<OverridePlace> {
    let (ends, user) = text.split_once('.')?;
    let ends = if ends.is_empty() { None } else { Some(Timestamp::from_micros(ends.parse().ok()?)) };
    Some(OverridePlace { ends, user_id: user_id(user).ok()? })
}

/// Reads `<microseconds>.<lease id>`.
fn lease_place(text: &str, subject: &Subject) -> Option<LeasePlace> {
    let (ends, id) = text.split_once('.')?;
    let id = LeaseId::parse(id).filter(|id| id.subject == *subject)?;
    Some((Timestamp::from_micros(ends.parse().ok()?), id.kind, id.secret))
}

fn user_json(user: &KnownUser, now: Timestamp) -> Value {
    let account = &user.account;
    json!({
        "user_id": account.user_id.as_str(),
        "tier": account.tier,
        "reset_schedule": account.reset_schedule,
        "override": account.active_override(now).map(limits_json),
        "last_hour": user.last_hour,
    })
}

fn override_json(item: &SetOverride, now: Timestamp) -> Value {
    let mut json = limits_json(&item.quota_override);
    if let Value::Object(fields) = &mut json {
        let state = if item.quota_override.is_active(now) { "active" } else { "expired" };
        fields.insert("user_id".to_owned(), json!(item.user_id.as_str()));
        fields.insert("set_at".to_owned(), json!(item.set_at));
        fields.insert("state".to_owned(), json!(state));
    }
    json
}

fn limits_json(known: &QuotaOverride) -> Value {
    json!({
        "custom_requests_per_hour": known.requests_per_hour,
        "custom_requests_per_day": known.requests_per_day,
        "expires_at": known.expires_at,
        "reason": known.reason,
    })
}
