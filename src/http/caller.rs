//! Who is calling, and whether they may.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;

use super::State;
use super::error::Problem;
use crate::domain::credential::Role;
use crate::domain::report::Author;
use crate::domain::revision::Expectation;
use crate::domain::subject::Subject;
use crate::identity::client_ip::Forwarding;
use crate::identity::{Caller, CredentialHeaders, Rejected};
use crate::observability::traces;

pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The caller; a credential that does not verify is 401, and the reason is for the log and the metrics alone.
pub fn of(state: &State, request: &HttpRequest) -> Result<Caller, Problem> {
    let headers = request.headers();
    let (Ok(authorization), Ok(api_key)) = (once(headers, AUTHORIZATION), once(headers, API_KEY)) else {
        return Err(refused(state, request, Rejected("given twice"), "a credential may be given once"));
    };
    let credential = CredentialHeaders { authorization, api_key };
    let rejected = |rejected| refused(state, request, rejected, "the credential does not verify");
    let caller = state.identity.authenticate(credential, state.clock.now()).map_err(rejected)?;
    state.attempts.verified(credential);
    traces::note_role(caller.role().map_or("anonymous", Role::as_str));
    Ok(caller)
}

/// Remembers that the address has shown a credential that does not verify.
fn refused(state: &State, request: &HttpRequest, rejected: Rejected, detail: &str) -> Problem {
    state.metrics.refuse_credential(rejected.0);
    if let Some(address) = charged_address(state, request) {
        state.attempts.failed(address, state.clock.now());
    }
    Problem::unauthorized(detail).caused_by(rejected)
}

/// Middleware: has the issuer's keys read again for a token whose key is not among them, before a handler verifies it.
pub async fn look_for_key(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let Some(state) = request.app_data::<Data<State>>() {
        let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        state.identity.look_for_key(authorization, state.clock.now()).await;
    }
    next.call(request).await
}

/// A caller who may check for others: 401 without a credential, 403 with a lesser one.
pub fn service(state: &State, request: &HttpRequest) -> Result<Caller, Problem> {
    with_role(of(state, request)?, &[Role::Service, Role::Admin])
}

pub fn admin(state: &State, request: &HttpRequest) -> Result<Caller, Problem> {
    with_role(of(state, request)?, &[Role::Admin])
}

/// The author of a change, for the audit.
pub fn author(state: &State, request: &HttpRequest, caller: &Caller) -> Author {
    Author { actor: caller.actor(), address: address(state, request), expects: Expectation::Anything }
}

/// Where the request came from, as far as the proxies can be believed.
pub fn address(state: &State, request: &HttpRequest) -> Option<IpAddr> {
    let x_forwarded_for = lines(request.headers(), "x-forwarded-for");
    let forwarded = lines(request.headers(), "forwarded");
    let forwarding = Forwarding { x_forwarded_for: &x_forwarded_for, forwarded: &forwarded };
    state.identity.client_ip(request.peer_addr(), forwarding)
}

/// The subject that the address of a request is charged as.
pub fn charged_address(state: &State, request: &HttpRequest) -> Option<Subject> {
    address(state, request).map(|address| state.identity.subject_of(address))
}

/// A header that stands there twice.
struct Doubled;

/// A header that may stand there once: of two credentials, a proxy might have read the other.
fn once(headers: &HeaderMap, name: HeaderName) -> Result<Option<&[u8]>, Doubled> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(HeaderValue::as_bytes)),
        _ => Err(Doubled),
    }
}

/// As bytes: a line that is no text has been added to by proxies all the same.
fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).map(HeaderValue::as_bytes).collect()
}

fn with_role(caller: Caller, allowed: &[Role]) -> Result<Caller, Problem> {
    match caller.role() {
        None => Err(Problem::unauthorized("a credential is required")),
        Some(role) if allowed.contains(&role) => Ok(caller),
        Some(role) => Err(Problem::forbidden(format!("the role {} may not do this", role.as_str()))),
    }
}
