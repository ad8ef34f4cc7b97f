//! Quotas as they stand, of the caller, of any user, of an address; overrides and resets.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::decision::{LimitView, OverrideView};
use super::error::Problem;
use super::path::InPath;
use super::subject::{parse_ip, user_id};
use super::{State, caller, headers, precondition};
use crate::domain::account::QuotaOverride;
use crate::domain::cost::LIMIT_MAX;
use crate::domain::decision::LimitStatus;
use crate::domain::limit::{LOG_MAX, LimitName};
use crate::domain::plan::Rule;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::identity::Caller;
use crate::limiter::Status;

const REASON_MAX_CHARS: usize = 500;

/// A subject's quota as the API shows it.
#[derive(Debug, Serialize)]
struct QuotaUsage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    tier: &'a str,
    requests_hour_limit: Option<u64>,
    requests_hour_used: Option<u64>,
    requests_hour_remaining: Option<u64>,
    requests_day_limit: Option<u64>,
    requests_day_used: Option<u64>,
    requests_day_remaining: Option<u64>,
    reset_at: Option<Timestamp>,
    quota_exceeded: bool,
    concurrent_requests_limit: u64,
    concurrent_requests_used: u64,
    #[serde(rename = "override")]
    quota_override: Option<OverrideView<'a>>,
    limits: Vec<LimitView<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideBody {
    user_id: Option<String>,
    custom_requests_per_hour: Option<u64>,
    custom_requests_per_day: Option<u64>,
    expires_at: Option<Timestamp>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetBody {
    limits: Option<Vec<String>>,
}

pub async fn mine(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let (user, tier) = own_user(&state, &request)?;
    show(&state, Subject::User(user), tier).await
}

pub async fn of_user(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    show(&state, Subject::User(user_id(&id)?), None).await
}

pub async fn of_ip(state: Data<State>, request: HttpRequest, InPath(ip): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    show(&state, parse_ip(&state.identity, &ip)?, None).await
}

pub async fn put_override(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let user = user_id(&id)?;
    let quota_override = body.json::<OverrideBody>(&request).await?.into_override(&user, state.clock.now())?;
    fits_logs(&state, &user, &quota_override).await?;
    let author = caller::author(&state, &request, &admin).expecting(precondition::expected(&request)?);
    state.books.put_override(&user, &quota_override, &author).await?;
    state.limiter.forget(std::slice::from_ref(&user)).await;
    show(&state, Subject::User(user), None).await
}

/// A sliding log remembers each unit: an override of one can't be larger than it may be.
async fn fits_logs(state: &State, user: &UserId, asked: &QuotaOverride) -> Result<(), Problem> {
    let plan = state.limiter.status(Subject::User(user.clone()), None).await?.plan;
    for (name, field, requests) in [
        (LimitName::hour(), "custom_requests_per_hour", asked.requests_per_hour),
        (LimitName::day(), "custom_requests_per_day", asked.requests_per_day),
    ] {
        let is_log = plan.limit(&name).is_some_and(|limit| matches!(limit.rule, Rule::SlidingLog(_)));
        if is_log && requests.is_some_and(|requests| requests > LOG_MAX) {
            return Err(Problem::invalid(field, "must be at most 10000: the limit is a sliding_window_log"));
        }
    }
    Ok(())
}

pub async fn delete_override(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let user = user_id(&id)?;
    let author = caller::author(&state, &request, &admin).expecting(precondition::expected(&request)?);
    let removed = state.books.delete_override(&user, &author).await?;
    state.limiter.forget(std::slice::from_ref(&user)).await;
    if removed { Ok(HttpResponse::NoContent().finish()) } else { Err(Problem::absent("this user has no override")) }
}

pub async fn reset_user(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    reset(&state, &request, &admin, Subject::User(user_id(&id)?), body).await
}

pub async fn reset_ip(
    state: Data<State>,
    request: HttpRequest,
    InPath(ip): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    reset(&state, &request, &admin, parse_ip(&state.identity, &ip)?, body).await
}

async fn reset(
    state: &State,
    request: &HttpRequest,
    admin: &Caller,
    subject: Subject,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let names = body.json_if_any::<ResetBody>(request).await?.and_then(|asked| asked.limits);
    let known = state.limiter.status(subject.clone(), None).await?.plan;
    let read = |text: String| {
        let name = LimitName::parse(&text).ok().filter(|name| known.limit(name).is_some());
        name.ok_or_else(|| Problem::invalid("limits", format!("the tier {} has no limit of that name", known.tier)))
    };
    let names: Option<Vec<LimitName>> =
        names.map(|names| names.into_iter().map(read).collect::<Result<_, _>>()).transpose()?;
    state.limiter.reset(&subject, names.as_deref()).await?;
    let author = caller::author(state, request, admin);
    state.books.note_reset(&subject, names.as_deref(), &author).await?;
    show(state, subject, None).await
}

async fn show(state: &State, subject: Subject, claimed: Option<TierName>) -> Result<HttpResponse, Problem> {
    let status = state.limiter.status(subject, claimed).await?;
    let mut answer = HttpResponse::Ok();
    // The tag is of what can be set here: counts change all the time.
    precondition::tag(&mut answer, status.active_override.as_ref().map(QuotaOverride::to_json).as_ref());
    let mut answer = answer.json(QuotaUsage::of(&status));
    headers::put(answer.headers_mut(), &status.decision, state.limiter.is_enforcing());
    Ok(answer)
}

/// The caller's own user id, and the tier that its token claims.
pub fn own_user(state: &State, request: &HttpRequest) -> Result<(UserId, Option<TierName>), Problem> {
    let caller = caller::of(state, request)?;
    if caller.role().is_none() {
        return Err(Problem::unauthorized("a credential is required"));
    }
    let user = caller.user_id().cloned().ok_or_else(|| Problem::forbidden("this key speaks for no user"))?;
    Ok((user, caller.claimed_tier().cloned()))
}

impl<'a> QuotaUsage<'a> {
    fn of(status: &'a Status) -> Self {
        let decision = &status.decision;
        let named = |name: LimitName| decision.limits.iter().find(|limit| limit.name == name);
        let (hour, day) = (named(LimitName::hour()), named(LimitName::day()));
        let enforced = || decision.limits.iter().filter(|limit| limit.enforce);
        let (user_id, ip) = match &decision.subject {
            Subject::User(user) => (Some(user.as_str()), None),
            Subject::Ip(address) => (None, Some(address.to_string())),
        };
        Self {
            user_id,
            ip,
            tier: decision.tier.as_str(),
            requests_hour_limit: hour.map(|limit| limit.limit),
            requests_hour_used: hour.map(|limit| limit.used),
            requests_hour_remaining: hour.map(LimitStatus::remaining),
            requests_day_limit: day.map(|limit| limit.limit),
            requests_day_used: day.map(|limit| limit.used),
            requests_day_remaining: day.map(LimitStatus::remaining),
            reset_at: hour.map(|limit| limit.reset_at).or_else(|| enforced().map(|limit| limit.reset_at).min()),
            quota_exceeded: enforced().any(|limit| limit.remaining() == 0),
            concurrent_requests_limit: status.plan.concurrent_requests,
            concurrent_requests_used: decision.slots.as_ref().map_or(0, |slots| slots.held),
            quota_override: status.active_override.as_ref().map(OverrideView::of),
            limits: decision.limits.iter().map(LimitView::of).collect(),
        }
    }
}

impl OverrideBody {
    fn into_override(self, user: &UserId, now: Timestamp) -> Result<QuotaOverride, Problem> {
        if self.user_id.is_some_and(|id| id != user.as_str()) {
            return Err(Problem::invalid("user_id", "must agree with the path"));
        }
        let (hour, day) = (self.custom_requests_per_hour, self.custom_requests_per_day);
        if hour.is_none() && day.is_none() {
            return Err(Problem::invalid("custom_requests_per_hour", "at least one custom limit is required"));
        }
        for (field, limit) in [("custom_requests_per_hour", hour), ("custom_requests_per_day", day)] {
            if limit.is_some_and(|limit| limit > LIMIT_MAX) {
                return Err(Problem::invalid(field, "must be a whole number from 0 to 1000000000000"));
            }
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Problem::invalid("expires_at", "must be in the future"));
        }
        if self.reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_MAX_CHARS) {
            return Err(Problem::invalid("reason", "must have at most 500 characters"));
        }
        Ok(QuotaOverride {
            requests_per_hour: hour,
            requests_per_day: day,
            expires_at: self.expires_at,
            reason: self.reason,
        })
    }
}
