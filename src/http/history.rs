//! Usage over time, of the caller or of any user, as JSON or CSV.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use super::path::InPath;
use super::{State, body, caller, quotas, subject};
use crate::domain::report::{Granularity, HistoryItem, HistoryRange};
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;

const DEFAULT_SPAN_SECONDS: i64 = 30 * 86_400;

/// A year and more of hours.
const LIMIT: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    granularity: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
    format: Option<String>,
}

pub async fn mine(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (user, _) = quotas::own_user(&state, &request)?;
    show(&state, &request, Some(user)).await
}

pub async fn of_user(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    show(&state, &request, Some(subject::user_id(&id)?)).await
}

pub async fn of_all(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    show(&state, &request, None).await
}

async fn show(state: &State, request: &HttpRequest, user: Option<UserId>) -> Result<HttpResponse, Problem> {
    let query: HistoryQuery = body::query(request)?;
    let range = range(&query, state.clock.now())?;
    let is_csv = match query.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Problem::invalid("format", "must be json or csv")),
    };
    state.limiter.hand_over().await;
    let subject = user.clone().map(Subject::User);
    let page = state.books.history(subject.as_ref(), range).await?;
    if is_csv {
        let mut response = HttpResponse::Ok();
        if let Some(next) = page.next {
            response.insert_header(("Link", format!("<?{}>; rel=\"next\"", next_query(range, next))));
        }
        return Ok(response.content_type("text/csv; charset=utf-8").body(csv(&page.items)));
    }
    let items = page.items.iter().map(|item| {
        json!({
            "start": item.start,
            "requests": item.usage.requests,
            "cost": item.usage.cost,
            "denied": item.usage.denied,
        })
    });
    let mut shown = json!({
        "granularity": range.granularity.as_str(),
        "items": items.collect::<Vec<_>>(),
        "next": page.next,
    });
    if let (Some(user), Value::Object(fields)) = (user, &mut shown) {
        fields.insert("user_id".to_owned(), json!(user.as_str()));
    }
    Ok(HttpResponse::Ok().json(shown))
}

fn range(query: &HistoryQuery, now: Timestamp) -> Result<HistoryRange, Problem> {
    let granularity = query.granularity.as_deref().map_or(Some(Granularity::Day), Granularity::parse);
    let granularity = granularity.ok_or_else(|| Problem::invalid("granularity", "must be day or hour"))?;
    let to = query.to.as_deref().map_or(Ok(now), |text| instant("to", text))?;
    let from = match query.from.as_deref() {
        Some(text) => instant("from", text)?,
        None => Timestamp::from_seconds(to.floor_seconds().saturating_sub(DEFAULT_SPAN_SECONDS)),
    };
    if from >= to {
        return Err(Problem::invalid("from", "must be before to"));
    }
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit", "must be from 1 to 10000"));
    }
    Ok(HistoryRange { granularity, from, to, limit })
}

/// The query that asks for what follows.
fn next_query(range: HistoryRange, next: Timestamp) -> String {
    let (granularity, limit) = (range.granularity.as_str(), range.limit);
    format!("granularity={granularity}&from={next}&to={}&limit={limit}&format=csv", range.to)
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
