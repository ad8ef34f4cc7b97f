//! Usage over time, of the caller or of any user, as JSON or CSV.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::error::Problem;
use super::path::InPath;
use super::{State, body, caller, quotas, subject};
use crate::domain::report::{Granularity, HistoryItem};
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;

const DEFAULT_SPAN_SECONDS: i64 = 30 * 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    granularity: Option<String>,
    from: Option<String>,
    to: Option<String>,
    format: Option<String>,
}

pub async fn mine(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (user, _) = quotas::own_user(&state, &request)?;
    show(&state, &request, user).await
}

pub async fn of_user(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    show(&state, &request, subject::user_id(&id)?).await
}

async fn show(state: &State, request: &HttpRequest, user: UserId) -> Result<HttpResponse, Problem> {
    let query: HistoryQuery = body::query(request)?;
    let (granularity, name) = match query.granularity.as_deref() {
        None | Some("day") => (Granularity::Day, "day"),
        Some("hour") => (Granularity::Hour, "hour"),
        Some(_) => return Err(Problem::invalid("granularity", "must be day or hour")),
    };
    let now = state.clock.now();
    let to = query.to.map_or(Ok(now), |text| instant("to", &text))?;
    let from = match query.from {
        Some(text) => instant("from", &text)?,
        None => Timestamp::from_seconds(to.floor_seconds().saturating_sub(DEFAULT_SPAN_SECONDS)),
    };
    if from >= to {
        return Err(Problem::invalid("from", "must be before to"));
    }
    state.limiter.hand_over().await;
    let items = state.books.history(&Subject::User(user.clone()), granularity, from, to).await?;
    match query.format.as_deref() {
        None | Some("json") => Ok(HttpResponse::Ok().json(json!({
            "user_id": user.as_str(),
            "granularity": name,
            "items": items.iter().map(|item| json!({
                "start": item.start,
                "requests": item.usage.requests,
                "cost": item.usage.cost,
                "denied": item.usage.denied,
            })).collect::<Vec<_>>(),
        }))),
        Some("csv") => Ok(HttpResponse::Ok().content_type("text/csv; charset=utf-8").body(csv(&items))),
        Some(_) => Err(Problem::invalid("format", "must be json or csv")),
    }
}

/// Times and numbers alone: there is no text in it that a spreadsheet could take for a formula.
fn csv(items: &[HistoryItem]) -> String {
    let line = |item: &HistoryItem| {
        let usage = item.usage;
        format!("{},{},{},{}\r\n", item.start, usage.requests, usage.cost, usage.denied)
    };
    std::iter::once("start,requests,cost,denied\r\n".to_owned()).chain(items.iter().map(line)).collect()
}

/// A date, as midnight UTC, or an RFC 3339 time.
fn instant(field: &'static str, text: &str) -> Result<Timestamp, Problem> {
    let time = text.parse::<jiff::Timestamp>().ok();
    let midnight = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    time.or_else(|| midnight().map(|zoned| zoned.timestamp()))
        .map(Timestamp::from)
        .ok_or_else(|| Problem::invalid(field, "must be a date or an RFC 3339 time"))
}
