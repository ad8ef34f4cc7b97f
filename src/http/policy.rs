//! What an operator decides for all: tiers and endpoint costs.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::{State, caller, precondition};
use crate::domain::endpoint::{EndpointCost, EndpointCosts};
use crate::domain::limit::Limit;
use crate::domain::policy::TierRemoval;
use crate::domain::revision::Expectation;
use crate::domain::schedule::ResetSchedule;
use crate::domain::tier::{CONCURRENT_MAX, Tier, TierName};
use crate::policy::TierSource;

/// A tier as it is set. Its name stands in the path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierBody {
    name: Option<String>,
    limits: Vec<Limit>,
    concurrent_requests: Option<u64>,
    concurrent_websockets: Option<u64>,
    reset_schedule: Option<ResetSchedule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointsBody {
    costs: Vec<EndpointCost>,
}

#[derive(Debug, Serialize)]
struct EndpointsView<'a> {
    costs: Vec<&'a EndpointCost>,
}

pub async fn tiers(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let policy = state.limiter.policy();
    Ok(HttpResponse::Ok().json(json!({ "items": policy.tiers().collect::<Vec<_>>(), "next": null })))
}

pub async fn tier(state: Data<State>, request: HttpRequest, InPath(name): InPath) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let policy = state.limiter.policy();
    let tier = policy.tiers().find(|tier| tier.name.as_str() == name);
    tier.map(shown).ok_or_else(no_such_tier)
}

pub async fn put_tier(
    state: Data<State>,
    request: HttpRequest,
    InPath(name): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let tier = body.json::<TierBody>(&request).await?.into_tier(&name)?;
    let expected = expected_of(&state, &request, &tier.name)?;
    if !state.books.put_tier(&tier, &caller::author(&state, &request, &admin).expecting(expected)).await? {
        return Err(Problem::conflict("there are 1000 tiers already"));
    }
    state.policy.follow_api().await?;
    Ok(shown(&tier))
}

pub async fn delete_tier(
    state: Data<State>,
    request: HttpRequest,
    InPath(name): InPath,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let name = TierName::parse(&name).map_err(|_| no_such_tier())?;
    match state.policy.source_of(&name) {
        None => return Err(no_such_tier()),
        Some(TierSource::Settings) => return Err(Problem::conflict("this tier comes from the settings")),
        Some(TierSource::File) => return Err(Problem::conflict("this tier comes from the policy file")),
        Some(TierSource::Api) => {}
    }
    let is_elsewhere = state.policy.has_below_api(&name);
    let author = caller::author(&state, &request, &admin).expecting(precondition::expected(&request)?);
    let removal = state.books.delete_tier(&name, is_elsewhere, &author).await?;
    state.policy.follow_api().await?;
    match removal {
        TierRemoval::Removed => Ok(HttpResponse::NoContent().finish()),
        TierRemoval::Absent => Err(no_such_tier()),
        TierRemoval::InUse { users } => Err(Problem::conflict(format!("{users} users are placed in this tier"))),
    }
}

pub async fn endpoints(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    Ok(costs_shown(&state.limiter.policy().endpoint_costs))
}

pub async fn put_endpoints(state: Data<State>, request: HttpRequest, body: Body) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let EndpointsBody { costs } = body.json(&request).await?;
    let costs = EndpointCosts::new(costs).map_err(|error| Problem::invalid(error.field, error.message))?;
    let mut expected = precondition::expected(&request)?;
    if !state.policy.has_api_costs() {
        let known = to_json(&EndpointsView::of(&state.limiter.policy().endpoint_costs));
        expected = precondition::expected_above(expected, Some(&known))?;
    }
    let rules: Vec<EndpointCost> = costs.rules().cloned().collect();
    let author = caller::author(&state, &request, &admin).expecting(expected);
    state.books.put_endpoint_costs(&rules, &author).await?;
    state.policy.follow_api().await?;
    Ok(costs_shown(&state.limiter.policy().endpoint_costs))
}

/// What is expected of a tier: one that the API has not set may be there all the same.
fn expected_of(state: &State, request: &HttpRequest, name: &TierName) -> Result<Expectation, Problem> {
    let expected = precondition::expected(request)?;
    if state.policy.source_of(name) == Some(TierSource::Api) {
        return Ok(expected);
    }
    let known = state.limiter.policy().tiers().find(|tier| tier.name == *name).map(to_json);
    precondition::expected_above(expected, known.as_ref())
}

fn shown(tier: &Tier) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    precondition::tag(&mut answer, Some(&to_json(tier)));
    answer.json(tier)
}

fn costs_shown(costs: &EndpointCosts) -> HttpResponse {
    let (view, mut answer) = (EndpointsView::of(costs), HttpResponse::Ok());
    precondition::tag(&mut answer, Some(&to_json(&view)));
    answer.json(view)
}

fn to_json<T: Serialize>(shown: &T) -> Value {
    // Names, numbers and texts always have a JSON form.
    serde_json::to_value(shown).unwrap_or_default()
}

fn no_such_tier() -> Problem {
    Problem::absent("there is no such tier")
}

impl<'a> EndpointsView<'a> {
    fn of(costs: &'a EndpointCosts) -> Self {
        Self { costs: costs.rules().collect() }
    }
}

impl TierBody {
    fn into_tier(self, name: &str) -> Result<Tier, Problem> {
        if self.name.is_some_and(|written| written != name) {
            return Err(Problem::invalid("name", "must agree with the path"));
        }
        let tier = Tier {
            name: TierName::parse(name).map_err(|error| Problem::invalid("name", error.to_string()))?,
            limits: self.limits,
            concurrent_requests: self.concurrent_requests.unwrap_or(CONCURRENT_MAX),
            concurrent_websockets: self.concurrent_websockets.unwrap_or(CONCURRENT_MAX),
            reset_schedule: self.reset_schedule.filter(|schedule| *schedule != ResetSchedule::default()),
        };
        tier.check().map_err(|error| Problem::invalid(error.field, error.message))?;
        Ok(tier)
    }
}
