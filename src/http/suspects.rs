//! Callers whose credentials don't verify, again and again: which requests wait behind the limit of their address, who is charged, and
//! what is answered past it.

use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use super::caller::{self, API_KEY};
use super::{State, decision, forward_auth};
use crate::domain::decision::Decision;
use crate::domain::subject::Subject;
use crate::identity::CredentialHeaders;

/// All that asks for credentials stands below it.
const API: &str = "/api/";

/// How a credential is called, in the metrics, that was not verified because of the limit.
const LIMITED: &str = "too many from this address";

/// Whether a request has to wait: its address has shown credentials that don't verify, and its own is not known to.
pub fn must_ask(request: &HttpRequest) -> bool {
    let Some(state) = state(request) else { return false };
    let address = || caller::charged_address(state, request);
    // As the router reads it: `/%61pi/` is the same.
    request.match_info().as_str().starts_with(API)
        && state.attempts.is_suspect(shown(request), address, state.clock.now())
}

/// The address that is charged for a credential; `None` without one.
pub fn address(request: &HttpRequest) -> Option<Subject> {
    let is_anonymous = shown(request).is_none();
    state(request).filter(|_| !is_anonymous).and_then(|state| caller::charged_address(state, request))
}

/// 429, or what `deny_status` of forward-auth says.
pub fn denied(request: &HttpRequest, denial: &Decision) -> HttpResponse {
    if let Some(state) = state(request) {
        state.metrics.refuse_credential(LIMITED);
    }
    if forward_auth::is_asked(request) { forward_auth::denied(request, denial) } else { decision::denied(denial, true) }
}

fn state(request: &HttpRequest) -> Option<&State> {
    request.app_data::<Data<State>>().map(Data::get_ref)
}

/// Of doubled headers the first: what a handler says of them is its own matter.
fn shown(request: &HttpRequest) -> CredentialHeaders<'_> {
    let first = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    CredentialHeaders { authorization: first(AUTHORIZATION), api_key: first(API_KEY) }
}
