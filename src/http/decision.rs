//! How decisions, limits and overrides look in answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use super::headers;
use crate::domain::account::QuotaOverride;
use crate::domain::decision::{Decision, LimitStatus};
use crate::domain::endpoint::EndpointCost;
use crate::domain::time::Timestamp;

/// A decision as the API shows it.
#[derive(Debug, Serialize)]
pub struct DecisionView<'a> {
    allowed: bool,
    subject: String,
    tier: &'a str,
    cost: u64,
    limits: Vec<LimitView<'a>>,
    denied_by: Option<&'a str>,
    retry_after: Option<u64>,
    lease_id: Option<String>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationView<'a>>,
}

/// The problem details that stand before the decision in a 429.
#[derive(Debug, Serialize)]
struct DeniedView<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    error: &'static str,
    #[serde(rename = "violated-policies")]
    violated_policies: Vec<&'a str>,
    #[serde(flatten)]
    decision: DecisionView<'a>,
}

/// Why the limits are what they are.
#[derive(Debug, Serialize)]
struct ExplanationView<'a> {
    tier_from: &'static str,
    /// The rule that the cost comes from; null where none covers the endpoint, which then costs 1.
    endpoint_rule: Option<&'a EndpointCost>,
    #[serde(rename = "override")]
    quota_override: Option<OverrideView<'a>>,
}

/// One limit as the API shows it.
#[derive(Debug, Serialize)]
pub struct LimitView<'a> {
    name: &'a str,
    limit: u64,
    used: u64,
    remaining: u64,
    reset_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforce: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct OverrideView<'a> {
    custom_requests_per_hour: Option<u64>,
    custom_requests_per_day: Option<u64>,
    expires_at: Option<Timestamp>,
    reason: Option<&'a str>,
}

/// The 429 to a decision that denies.
pub fn denied(decision: &Decision, enforcing: bool) -> HttpResponse {
    let limit = decision.denied_by().map_or("", |denial| denial.limit.as_str());
    let view = DeniedView {
        kind: "https://iana.org/assignments/http-problem-types#quota-exceeded",
        title: "Quota exceeded",
        status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
        detail: format!("the limit `{limit}` of {} has no room for this", decision.subject),
        error: "Rate limit exceeded",
        violated_policies: decision.violations.iter().map(|violation| violation.limit.as_str()).collect(),
        decision: DecisionView::new(decision),
    };
    let mut answer = HttpResponse::TooManyRequests();
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
    let mut answer = answer.body(serde_json::to_vec(&view).unwrap_or_default());
    headers::put(answer.headers_mut(), decision, enforcing);
    answer
}

impl<'a> DecisionView<'a> {
    pub fn new(decision: &'a Decision) -> Self {
        let taken = decision.slots.as_ref().and_then(|slots| slots.taken.as_ref());
        Self {
            allowed: decision.is_allowed(),
            subject: decision.subject.to_string(),
            tier: decision.tier.as_str(),
            cost: decision.cost.units(),
            limits: decision.limits.iter().map(LimitView::of).collect(),
            denied_by: decision.denied_by().map(|denial| denial.limit.as_str()),
            retry_after: decision.retry_after_seconds(),
            lease_id: taken.map(|(id, _)| id.to_string()),
            source: decision.source.as_str(),
            explanation: decision.explanation.as_ref().map(|known| ExplanationView {
                tier_from: known.tier_from.as_str(),
                endpoint_rule: known.endpoint_rule.as_ref(),
                quota_override: known.quota_override.as_ref().map(OverrideView::of),
            }),
        }
    }
}

impl<'a> LimitView<'a> {
    pub fn of(status: &'a LimitStatus) -> Self {
        Self {
            name: status.name.as_str(),
            limit: status.limit,
            used: status.used,
            remaining: status.remaining(),
            reset_at: status.reset_at,
            enforce: (!status.enforce).then_some(false),
        }
    }
}

impl<'a> OverrideView<'a> {
    pub fn of(known: &'a QuotaOverride) -> Self {
        Self {
            custom_requests_per_hour: known.requests_per_hour,
            custom_requests_per_day: known.requests_per_day,
            expires_at: known.expires_at,
            reason: known.reason.as_deref(),
        }
    }
}
