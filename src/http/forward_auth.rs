//! `/api/v2/forward-auth`: a proxy asks about the request that it holds, and lets it pass or not by the status alone.
//!
//! For nginx `auth_request`, Traefik ForwardAuth, Caddy `forward_auth`, HAProxy and Envoy's HTTP ext_authz, which appends the path.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;

use super::error::Problem;
use super::{State, caller, decision, headers};
use crate::domain::cost::{Items, Multiplier};
use crate::domain::decision::Decision;
use crate::domain::endpoint::{EndpointPath, METHOD_MAX_BYTES};
use crate::domain::subject::Subject;
use crate::identity::Caller;
use crate::limiter::{Check, Outbox};

/// Behind it stands the original path, where a proxy appends it.
const OWN_PATH: &str = "/api/v2/forward-auth";

const SUBJECT: HeaderName = HeaderName::from_static("x-quotad-subject");
const TIER: HeaderName = HeaderName::from_static("x-quotad-tier");
const STATUS: HeaderName = HeaderName::from_static("x-quotad-status");

/// 200, 401 or 429, whatever the method; `?deny_status=403` for nginx, which makes a 500 of its sub-request's 429.
pub async fn ask(state: Data<State>, outbox: Data<Outbox>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = caller::of(&state, &request)?;
    let decision = outbox.check(check(&state, &request, &caller)?).await?;
    Ok(answer(&decision, deny_status(&request), state.limiter.is_enforcing()))
}

/// Whether a request is one of these.
pub fn is_asked(request: &HttpRequest) -> bool {
    request.match_info().as_str().strip_prefix(OWN_PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a proxy is told where something else than the caller's own limits denies.
pub fn denied(request: &HttpRequest, denial: &Decision) -> HttpResponse {
    answer(denial, deny_status(request), true)
}

/// Of a query anything else is passed over: some proxies hand on that of the request they hold.
fn deny_status(request: &HttpRequest) -> StatusCode {
    let asked = request.query_string().split('&').any(|pair| pair == "deny_status=403");
    if asked { StatusCode::FORBIDDEN } else { StatusCode::TOO_MANY_REQUESTS }
}

/// One item, charged to the caller; to the address of one who speaks for no user.
fn check(state: &State, request: &HttpRequest, caller: &Caller) -> Result<Check, Problem> {
    let subject = match caller.user_id() {
        Some(user) => Subject::User(user.clone()),
        None => {
            let address = caller::charged_address(state, request);
            address.ok_or_else(|| Problem::bad_request("there is no address to charge"))?
        }
    };
    let (endpoint, method) = original(state, request);
    let policy = state.limiter.policy();
    let rule = policy.endpoint_costs.find(&endpoint, Some(&method));
    let cost = rule.map_or(Multiplier::ONE, |(_, multiplier)| multiplier).times(Items::ONE);
    Ok(Check {
        subject,
        tier: None,
        claimed_tier: caller.claimed_tier().cloned(),
        cost,
        items: Some(Items::ONE),
        lease: None,
        request_id: None,
        dry_run: false,
        explain: false,
        endpoint_rule: None,
    })
}

/// Path and method of the request that the proxy holds. What a stranger says of it is not believed.
fn original(state: &State, request: &HttpRequest) -> (EndpointPath, String) {
    let told = |names: [&str; 2]| {
        let headers = names.into_iter().filter_map(|name| request.headers().get(name)?.to_str().ok());
        headers.filter(|_| state.identity.trusts(request.peer_addr())).find(|text| !text.is_empty())
    };
    let appended = request.uri().path().strip_prefix(OWN_PATH).unwrap_or_default();
    let uri = told(["x-forwarded-uri", "x-original-uri"]).unwrap_or(appended);
    let method = told(["x-forwarded-method", "x-original-method"]).filter(|text| text.len() <= METHOD_MAX_BYTES);
    (endpoint(uri), method.unwrap_or(request.method().as_str()).to_owned())
}

/// The path as costs know it. What is written `%61` is read as the `a` that the application takes it for; what is no path at
/// all costs what any other does.
fn endpoint(uri: &str) -> EndpointPath {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    EndpointPath::parse(&decoded).unwrap_or_else(|_| EndpointPath::root())
}

fn answer(decided: &Decision, deny_status: StatusCode, enforcing: bool) -> HttpResponse {
    let allowed = decided.is_allowed();
    let mut answer = if allowed {
        let mut answer = HttpResponse::Ok().finish();
        headers::put(answer.headers_mut(), decided, enforcing);
        answer
    } else {
        let mut answer = decision::denied(decided, enforcing);
        *answer.status_mut() = deny_status;
        answer
    };
    let status = if allowed { "200" } else { "429" };
    let texts = [(SUBJECT, decided.subject.to_string()), (TIER, decided.tier.to_string()), (STATUS, status.to_owned())];
    for (name, text) in texts {
        // A user id may have any printable character: as bytes it stands in a header all the same.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_path_is_read_as_the_application_reads_it() {
        for (uri, expected) in [
            ("/api/v1/agents?x=/ws", "/api/v1/agents"),
            ("/api/v1/%61gents/7", "/api/v1/agents/7"),
            ("/ws/../api//v1/./agents", "/api/v1/agents"),
            ("/a%2Fb", "/a/b"),
            ("/%FF", "/\u{fffd}"),
            ("", "/"),
            ("no path", "/"),
            ("/line%0Abreak", "/"),
        ] {
            assert_eq!(endpoint(uri).as_str(), expected, "{uri}");
        }
    }
}
