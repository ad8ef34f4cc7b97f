//! The span of a request, by OpenTelemetry's names for what HTTP has. It says what was asked of which route and how that went;
//! it names no user and no path, as there are user ids in paths.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use tracing::field::Empty;
use tracing::{Level, Span, debug_span};

use crate::observability::traces::Traces;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a new request; none where nobody would see it.
pub fn of(request: &ServiceRequest, request_id: &HeaderValue, draw: u64, traces: &Traces) -> Span {
    if !tracing::level_enabled!(Level::DEBUG) {
        return Span::none();
    }
    let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let Some(parent) = traces.parent(traceparent, draw) else { return Span::none() };
    let (method, route) = (method_name(request.method()), request.match_pattern());
    let name = route.as_deref().map(|route| format!("{method} {route}"));
    let span = debug_span!(
        "request",
        request_id = request_id.to_str().unwrap_or_default(),
        role = Empty,
        otel.kind = "server",
        otel.name = name.as_deref().unwrap_or(method),
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    parent.adopt(&span);
    span
}

/// A server's fault is an error; what it refuses is none.
pub fn note_status(span: &Span, status: StatusCode) {
    if span.is_none() {
        return;
    }
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "error");
    }
}

/// A method that HTTP knows; a caller may call one anything.
pub fn method_name(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => method.as_str(),
        Method::CONNECT | Method::OPTIONS | Method::TRACE | Method::PATCH => method.as_str(),
        _ => "_OTHER",
    }
}
