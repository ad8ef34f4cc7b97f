//! `GET /api/v2/admin/quotas/usage`: what the whole system used, by tier and by the heaviest subjects.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Problem;
use super::{State, body, caller};
use crate::domain::report::{ReportOrder, ReportTotals};
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::domain::usage::Usage;

const TOP_MAX: u32 = 1000;
const DAY_SECONDS: i64 = 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageQuery {
    top: Option<u32>,
    period: Option<String>,
    by: Option<String>,
}

pub async fn report(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let query: UsageQuery = body::query(&request)?;
    let top = query.top.unwrap_or(20);
    if !(1..=TOP_MAX).contains(&top) {
        return Err(Problem::invalid("top", "must be from 1 to 1000"));
    }
    let now = state.clock.now();
    let midnight = now.floor_seconds().div_euclid(DAY_SECONDS).saturating_mul(DAY_SECONDS);
    let period = query.period.as_deref().unwrap_or("hour");
    let start = match period {
        "hour" => now.start_of_hour(),
        "day" => Timestamp::from_seconds(midnight),
        "30d" => Timestamp::from_seconds(midnight.saturating_sub(29 * DAY_SECONDS)),
        _ => return Err(Problem::invalid("period", "must be hour, day or 30d")),
    };
    let order = query.by.as_deref().map_or(Some(ReportOrder::Cost), ReportOrder::parse);
    let order = order.ok_or_else(|| Problem::invalid("by", "must be cost, requests or denied"))?;
    state.limiter.hand_over().await;
    let report = state.books.usage_report(start, order, top).await?;
    Ok(HttpResponse::Ok().json(json!({
        "period": period,
        "by": order.as_str(),
        "start": report.start,
        "totals": totals(&report.totals),
        "tiers": report.tiers.iter().map(|(tier, sums)| with("tier", json!(tier), totals(sums))).collect::<Vec<_>>(),
        "top_users": report.top_users.iter().map(top_user).collect::<Vec<_>>(),
        "top_ips": report.top_ips.iter().map(|(ip, usage)| with("ip", json!(ip), amounts(usage))).collect::<Vec<_>>(),
    })))
}

fn totals(sums: &ReportTotals) -> Value {
    with("active_users", json!(sums.active_users), amounts(&sums.usage))
}

fn top_user((user, tier, usage): &(UserId, TierName, Usage)) -> Value {
    with("user_id", json!(user.as_str()), with("tier", json!(tier), amounts(usage)))
}

fn amounts(usage: &Usage) -> Value {
    json!({ "requests": usage.requests, "cost": usage.cost, "denied": usage.denied })
}

fn with(name: &str, value: Value, mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(name.to_owned(), value);
    }
    object
}
