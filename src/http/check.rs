//! `POST /api/v2/check` and `/check/batch`: has this subject room?

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Body;
use super::decision::{self, DecisionView};
use super::error::Problem;
use super::subject::{UserText, known_tier, subject_of};
use super::{State, body, caller, headers, subject};
use crate::domain::cost::{Items, Multiplier};
use crate::domain::decision::Decision;
use crate::domain::endpoint::{EndpointPath, METHOD_MAX_BYTES};
use crate::domain::lease::{LEASE_OF_A_CHECK, LeaseKind};
use crate::domain::policy::Policy;
use crate::identity::Identity;
use crate::limiter::{Check, Outbox, RequestId};

/// The most checks that one batch may carry.
const BATCH_MAX: usize = 1000;

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
    lease: Option<LeaseKind>,
}

/// A field that may be left out, and may not be null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    checks: Vec<Value>,
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
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let check = body.json::<CheckBody>(&request).await?.into_check(&state.identity, &state.limiter.policy())?;
    let decision = outbox.check(check).await?;
    Ok(answer(&decision, state.limiter.is_enforcing()))
}

pub async fn batch(
    state: Data<State>,
    outbox: Data<Outbox>,
    request: HttpRequest,
    body: Body,
) -> Result<HttpResponse, Problem> {
    caller::service(&state, &request)?;
    let BatchBody { checks } = body.json(&request).await?;
    if checks.is_empty() || checks.len() > BATCH_MAX {
        return Err(Problem::invalid("checks", "must hold 1 to 1000 checks"));
    }
    let policy = state.limiter.policy();
    let mut good = Vec::with_capacity(checks.len());
    let mut read = |value| {
        let asked = body::parse_value::<CheckBody>(value)?;
        if asked.lease.is_some() {
            return Err(Problem::invalid("lease", "can't be taken in a batch"));
        }
        good.push(asked.into_check(&state.identity, &policy)?);
        Ok(())
    };
    let read: Vec<Result<(), Problem>> = checks.into_iter().map(&mut read).collect();
    let mut decided = outbox.check_all(good).await.into_iter();
    let decided: Vec<Result<Decision, Problem>> = read
        .into_iter()
        .map(|read| {
            read?;
            Ok(decided.next().ok_or_else(|| Problem::unavailable("the service is stopping"))??)
        })
        .collect();
    Ok(HttpResponse::Ok().json(BatchView { results: decided.iter().map(ItemView::of).collect() }))
}

/// The answer to one check, with its headers.
fn answer(decided: &Decision, enforcing: bool) -> HttpResponse {
    if !decided.is_allowed() {
        return decision::denied(decided, enforcing);
    }
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    // A view of numbers and texts always has a JSON form.
    let mut answer = answer.body(serde_json::to_vec(&DecisionView::new(decided)).unwrap_or_default());
    headers::put(answer.headers_mut(), decided, enforcing);
    answer
}

impl<'a> ItemView<'a> {
    fn of(item: &'a Result<Decision, Problem>) -> Self {
        match item {
            Ok(decision) => ItemView::Decided(Box::new(DecisionView::new(decision))),
            Err(problem) => ItemView::Failed { error: problem.clone() },
        }
    }
}

impl CheckBody {
    fn into_check(self, identity: &Identity, policy: &Policy) -> Result<Check, Problem> {
        let subject = subject_of(identity, self.user_id, self.ip.as_deref())?;
        let invalid =
            |field: &'static str| move |error: &dyn std::error::Error| Problem::invalid(field, error.to_string());
        let items = Items::new(self.items.unwrap_or(1)).map_err(|error| invalid("items")(&error))?;
        let request_id = self.request_id.map(RequestId::parse).transpose();
        let request_id = request_id.map_err(|error| invalid("request_id")(&error))?;
        let endpoint = self.endpoint.map(|text| EndpointPath::parse(&text)).transpose();
        let endpoint = endpoint.map_err(|error| invalid("endpoint")(&error))?;
        let tier = self.tier.map(|text| known_tier(policy, &text)).transpose()?;
        if self.method.as_ref().is_some_and(|method| method.is_empty() || method.len() > METHOD_MAX_BYTES) {
            return Err(Problem::invalid("method", "must have 1 to 32 characters"));
        }
        let rule = endpoint.as_ref().and_then(|path| policy.endpoint_costs.find(path, self.method.as_deref()));
        let cost = rule.map_or(Multiplier::ONE, |(_, multiplier)| multiplier).times(items);
        let endpoint_rule = rule.filter(|_| self.explain).map(|(rule, _)| rule.clone());
        let lease = self.lease.map(|kind| subject::lease_ask(kind, LEASE_OF_A_CHECK)).transpose()?;
        Ok(Check {
            subject,
            tier,
            claimed_tier: None,
            cost,
            items: Some(items),
            lease,
            request_id,
            dry_run: self.dry_run,
            explain: self.explain,
            endpoint_rule,
        })
    }
}
