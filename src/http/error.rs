//! The one place that maps errors to answers: problem details, as RFC 9457 has them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::events::WebhookError;
use crate::limiter::LimiterError;
use crate::persistence::BooksError;

/// A field that can't be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

/// An answer that says why not.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    error: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// For the log alone.
    #[serde(skip)]
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            error,
            errors: Vec::new(),
            cause: None,
        }
    }

    /// What the log tells of it beside the id of the request; no client is told.
    pub fn caused_by(self, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { cause: Some(Arc::new(cause)), ..self }
    }

    pub fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn Error)
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    pub fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", detail)
    }

    /// 412: somebody else was quicker.
    pub fn changed() -> Self {
        let detail = "it is not as If-Match or If-None-Match says: read it again";
        Self::new(StatusCode::PRECONDITION_FAILED, "Precondition failed", detail)
    }

    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large", "a body may have at most 1 MiB")
    }

    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Request timeout", "the body took too long")
    }

    pub fn not_json() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", "the body must be application/json")
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
    }

    /// 422: what was sent can be read, and can't be done.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::all_invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    pub fn all_invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map(|error| format!("{}: {}", error.field, error.message)).unwrap_or_default();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable content", detail) }
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut answer = HttpResponse::build(self.status());
        answer.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        match self.status() {
            StatusCode::UNAUTHORIZED => drop(answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"))),
            // What is left of the body is not waited for.
            StatusCode::REQUEST_TIMEOUT => drop(answer.force_close()),
            StatusCode::SERVICE_UNAVAILABLE => drop(answer.insert_header((header::RETRY_AFTER, "1"))),
            _ => {}
        }
        answer.body(serde_json::to_vec(self).unwrap_or_default())
    }
}

impl From<LimiterError> for Problem {
    fn from(error: LimiterError) -> Self {
        match error {
            LimiterError::Overloaded => Problem::unavailable("too many checks are waiting"),
            LimiterError::CountersUnavailable => Problem::unavailable("the counters can't be reached"),
            LimiterError::CountersUnreadable => Problem::unavailable("the counters of this subject were unreadable"),
            LimiterError::Stopped => Problem::unavailable("the service is stopping"),
        }
    }
}

/// A client is told only that it can't be done now.
impl From<BooksError> for Problem {
    fn from(error: BooksError) -> Self {
        if matches!(error, BooksError::Changed) {
            return Problem::changed();
        }
        Problem::unavailable("the database can't be reached").caused_by(error)
    }
}

/// As for the books.
impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        Problem::unavailable("the event could not be written down").caused_by(error)
    }
}

/// A body that could not be read: too large, or cut short.
pub fn payload(error: actix_web::error::Error) -> Problem {
    if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large()
    } else {
        Problem::bad_request("the body could not be read")
    }
}

pub async fn not_found() -> Problem {
    Problem::absent("there is nothing at this path")
}

/// 405 with the methods that there are, as RFC 9110 has it.
pub fn method_not_allowed(allowed: &str) -> HttpResponse {
    let detail = format!("this path has {allowed}");
    let mut answer = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail).error_response();
    if let Ok(value) = HeaderValue::try_from(allowed) {
        answer.headers_mut().insert(header::ALLOW, value);
    }
    answer
}

impl actix_web::Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _request: &actix_web::HttpRequest) -> HttpResponse<BoxBody> {
        self.error_response()
    }
}
