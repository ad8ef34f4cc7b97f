//! `POST /api/v2/check` and `/check/batch`: has this subject room?

use std::net::IpAddr;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Body;
use super::decision::DecisionView;
use super::error::Problem;
use super::{State, body, caller, headers};
use crate::domain::cost::{Items, Multiplier};
use crate::domain::decision::Decision;
use crate::domain::endpoint::{EndpointCost, EndpointPath};
use crate::domain::policy::Policy;
use crate::domain::subject::{Subject, UserId};
use crate::domain::tier::TierName;
use crate::identity::Identity;
use crate::limiter::{Check, Outbox};

/// The most checks that one batch may carry.
const BATCH_MAX: usize = 1000;

/// The longest method name that is read.
const METHOD_MAX_BYTES: usize = 32;

/// A user id: a text, or a whole number taken as its decimal text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum UserText {
    Text(String),
    Unsigned(u64),
    Signed(i64),
}

/// The body of a check, before its fields are looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    user_id: Option<UserText>,
    ip: Option<String>,
    tier: Option<String>,
    endpoint: Option<String>,
    method: Option<String>,
    #[serde(default, deserialize_with = "present")]
    items: Option<u64>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    explain: bool,
    request_id: Option<String>,
    lease: Option<String>,
}

/// A field that may be left out, and may not be null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

/// A check, and the rule that its cost comes from where it asks for an explanation.
type Asked = (Check, Option<EndpointCost>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    checks: Vec<Value>,
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

#[derive(Serialize)]
struct BatchView<'a> {
    results: Vec<ItemView<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ItemView<'a> {
    Decided(Box<DecisionView<'a>>),
    Failed { error: Problem },
}

pub async fn one(
    state: Data<State>,
    outbox: Data<Outbox>,
    request: HttpRequest,
    Body(bytes): Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let (check, rule) =
        body::parse::<CheckBody>(&request, &bytes)?.into_check(&state.identity, &state.limiter.policy())?;
    let decision = outbox.check(check).await?;
    Ok(answer(&decision, rule.as_ref(), state.limiter.is_enforcing()))
}

pub async fn batch(
    state: Data<State>,
    outbox: Data<Outbox>,
    request: HttpRequest,
    Body(bytes): Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let BatchBody { checks } = body::parse(&request, &bytes)?;
    if checks.is_empty() || checks.len() > BATCH_MAX {
        return Err(Problem::invalid("checks", "must hold 1 to 1000 checks"));
    }
    let policy = state.limiter.policy();
    let mut good = Vec::with_capacity(checks.len());
    let mut read = |value| {
        let (check, rule) = body::parse_value::<CheckBody>(value)?.into_check(&state.identity, &policy)?;
        good.push(check);
        Ok(rule)
    };
    let read: Vec<Result<Option<EndpointCost>, Problem>> = checks.into_iter().map(&mut read).collect();
    let mut decided = outbox.check_all(good).await.into_iter();
    let decided: Vec<Result<(Decision, Option<EndpointCost>), Problem>> = read
        .into_iter()
        .map(|rule| {
            let rule = rule?;
            Ok((decided.next().ok_or_else(|| Problem::unavailable("the service is stopping"))??, rule))
        })
        .collect();
    Ok(HttpResponse::Ok().json(BatchView { results: decided.iter().map(ItemView::of).collect() }))
}

/// The answer to one check, with its headers.
fn answer(decision: &Decision, rule: Option<&EndpointCost>, enforcing: bool) -> HttpResponse {
    let (status, kind, text) = match decision.denied_by() {
        None => (StatusCode::OK, "application/json", serde_json::to_vec(&DecisionView::new(decision, rule))),
        Some(denial) => {
            let view = DeniedView {
                kind: "https://iana.org/assignments/http-problem-types#quota-exceeded",
                title: "Quota exceeded",
                status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
                detail: format!("the limit `{}` of {} has no room for this", denial.limit, decision.subject),
                error: "Rate limit exceeded",
                violated_policies: decision.violations.iter().map(|violation| violation.limit.as_str()).collect(),
                decision: DecisionView::new(decision, rule),
            };
            (StatusCode::TOO_MANY_REQUESTS, "application/problem+json", serde_json::to_vec(&view))
        }
    };
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static(kind)));
    headers::put(&mut answer, decision, enforcing);
    // A view of numbers and texts always has a JSON form.
    answer.body(text.unwrap_or_default())
}

impl<'a> ItemView<'a> {
    fn of(item: &'a Result<(Decision, Option<EndpointCost>), Problem>) -> Self {
        match item {
            Ok((decision, rule)) => ItemView::Decided(Box::new(DecisionView::new(decision, rule.as_ref()))),
            Err(problem) => ItemView::Failed { error: problem.clone() },
        }
    }
}

impl CheckBody {
    fn into_check(self, identity: &Identity, policy: &Policy) -> Result<Asked, Problem> {
        for (field, given) in [("request_id", self.request_id.is_some()), ("lease", self.lease.is_some())] {
            if given {
                return Err(Problem::invalid(field, "is not supported by this version"));
            }
        }
        let subject = match (self.user_id, self.ip) {
            (Some(user), None) => Subject::User(user.parse()?),
            (None, Some(ip)) => parse_ip(identity, &ip)?,
            _ => return Err(Problem::invalid("user_id", "exactly one of user_id and ip is required")),
        };
        let invalid =
            |field: &'static str| move |error: &dyn std::error::Error| Problem::invalid(field, error.to_string());
        let items = Items::new(self.items.unwrap_or(1)).map_err(|error| invalid("items")(&error))?;
        let endpoint = self.endpoint.map(|text| EndpointPath::parse(&text)).transpose();
        let endpoint = endpoint.map_err(|error| invalid("endpoint")(&error))?;
        let tier = self.tier.map(|text| TierName::parse(&text)).transpose();
        let tier = tier.map_err(|error| invalid("tier")(&error))?;
        if tier.as_ref().is_some_and(|tier| !policy.has_tier(tier)) {
            return Err(Problem::invalid("tier", "there is no such tier"));
        }
        if self.method.as_ref().is_some_and(|method| method.is_empty() || method.len() > METHOD_MAX_BYTES) {
            return Err(Problem::invalid("method", "must have 1 to 32 characters"));
        }
        let rule = endpoint.as_ref().and_then(|path| policy.endpoint_costs.find(path, self.method.as_deref()));
        let cost = rule.map_or(Multiplier::ONE, |(_, multiplier)| multiplier).times(items);
        let (dry_run, explain) = (self.dry_run, self.explain);
        let rule = rule.filter(|_| explain).map(|(rule, _)| rule.clone());
        Ok((Check { subject, tier, claimed_tier: None, cost, items, dry_run, explain }, rule))
    }
}

impl UserText {
    fn parse(self) -> Result<UserId, Problem> {
        let text = match self {
            UserText::Text(text) => text,
            UserText::Unsigned(number) => number.to_string(),
            UserText::Signed(number) => number.to_string(),
        };
        UserId::parse(&text).map_err(|error| Problem::invalid("user_id", error.to_string()))
    }
}

/// An address, or the IPv6 prefix that a subject is written as.
pub fn parse_ip(identity: &Identity, text: &str) -> Result<Subject, Problem> {
    let invalid = || Problem::invalid("ip", "must be an IPv4 or IPv6 address");
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(identity.subject_of(address)),
        Err(_) => Subject::parse(&format!("ip:{text}")).map_err(|_| invalid()),
    }
}
