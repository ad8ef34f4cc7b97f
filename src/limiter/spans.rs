//! What a trace shows of a request's checks: how long their decision took, and the round trip to Redis that it waited for.

use tracing::field::Empty;
use tracing::{Level, Span, debug_span};

use super::remote::Round;
use crate::observability::traces;

/// From when checks are sent to their shards until they are decided; none where the request is not traced.
pub fn decision_span(checks: usize) -> Span {
    if !traces::is_traced() {
        return Span::none();
    }
    debug_span!("decision", checks, source = Empty, allowed = Empty)
}

/// A round trip of the checks of many requests. It is shown below the first of those that are traced, and the others are
/// linked to it.
pub fn round_trip_span(round: &Round) -> Span {
    if !tracing::level_enabled!(Level::DEBUG) {
        return Span::none();
    }
    let mut traced = round.jobs().map(|job| &job.span).filter(|span| span.id().is_some());
    let Some(first) = traced.next() else { return Span::none() };
    let (subjects, checks) = (round.subjects.len(), round.jobs().count());
    let span = debug_span!(
        parent: first, "redis", otel.kind = "client", db.system.name = "redis", checks, subjects,
        otel.status_description = Empty,
    );
    // The checks of a batch are of one request.
    for other in traced.filter(|other| other.id() != first.id()) {
        span.follows_from(other);
    }
    span
}
