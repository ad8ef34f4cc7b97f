//! How decisions, limits and overrides look in answers.

use serde::Serialize;

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
    lease_id: Option<()>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationView<'a>>,
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

impl<'a> DecisionView<'a> {
    /// `rule` is what an explanation says of the cost.
    pub fn new(decision: &'a Decision, rule: Option<&'a EndpointCost>) -> Self {
        Self {
            allowed: decision.is_allowed(),
            subject: decision.subject.to_string(),
            tier: decision.tier.as_str(),
            cost: decision.cost.units(),
            limits: decision.limits.iter().map(LimitView::of).collect(),
            denied_by: decision.denied_by().map(|denial| denial.limit.as_str()),
            retry_after: decision.retry_after_seconds(),
            lease_id: None,
            source: decision.source.as_str(),
            explanation: decision.explanation.as_ref().map(|known| ExplanationView {
                tier_from: known.tier_from.as_str(),
                endpoint_rule: rule,
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
