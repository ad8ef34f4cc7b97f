//! `ETag` and `If-Match` (RFC 9110, 8.8.3 and 13.1): a change is made to what its author has seen, or not at all.

use actix_web::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponseBuilder};
use serde_json::Value;

use super::error::Problem;
use crate::domain::revision::{Expectation, Revision};

/// What the request says must be there: `If-Match` with tags or `*`, or `If-None-Match: *`.
pub fn expected(request: &HttpRequest) -> Result<Expectation, Problem> {
    match (lines(request, IF_MATCH)?, lines(request, IF_NONE_MATCH)?) {
        (None, None) => Ok(Expectation::Anything),
        (Some(seen), None) if seen == "*" => Ok(Expectation::Something),
        (Some(seen), None) => Ok(Expectation::OneOf(seen.split(',').filter_map(strong).collect())),
        (None, Some(text)) if text == "*" => Ok(Expectation::Nothing),
        (None, Some(_)) => Err(Problem::bad_request("a change understands If-None-Match: * alone")),
        (Some(_), Some(_)) => Err(Problem::bad_request("If-Match and If-None-Match exclude each other")),
    }
}

/// For an entry that something below the database has: settings or a policy file. What is expected in the database then.
pub fn expected_above(expectation: Expectation, entry: Option<&Value>) -> Result<Expectation, Problem> {
    match expectation {
        Expectation::Anything => Ok(Expectation::Anything),
        seen if seen.is_met_by(entry) => Ok(Expectation::Nothing),
        _ => Err(Problem::changed()),
    }
}

/// Says which state of the entry the answer shows.
pub fn tag(answer: &mut HttpResponseBuilder, entry: Option<&Value>) {
    answer.insert_header((ETAG, format!("\"{}\"", Revision::of(entry).as_str())));
}

/// A tag that may be compared for a change: `W/` says that its content may differ.
fn strong(tag: &str) -> Option<Revision> {
    Some(Revision::from_text(tag.trim().strip_prefix('"')?.strip_suffix('"')?))
}

/// The values of a list header together, `None` without one.
fn lines(request: &HttpRequest, name: HeaderName) -> Result<Option<String>, Problem> {
    let mut lines = Vec::new();
    for value in request.headers().get_all(&name) {
        lines.push(value.to_str().map_err(|_| Problem::bad_request(format!("{name} is no text")))?.trim());
    }
    Ok((!lines.is_empty()).then(|| lines.join(",")))
}
