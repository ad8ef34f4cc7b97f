//! `GET /api/v2/admin/events`: what happens, as server-sent events, for as long as somebody reads them.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde_json::json;

use super::error::Problem;
use super::{State, caller};
use crate::observability::feed::{self, SHOWN_A_SECOND, WatchError, Watching};

/// A line without meaning is sent when nothing has happened for so long: proxies close what is silent.
const SILENCE_MAX: Duration = Duration::from_secs(15);
const SIGN_OF_LIFE: &[u8] = b": nothing has happened\n\n";

/// nginx would hold events back to send more of them at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub async fn events(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let watching = state.metrics.feed.watch().map_err(|error| match error {
        WatchError::Full => Problem::unavailable("as many listen already as may"),
        WatchError::Closed => Problem::unavailable("the service is stopping"),
    })?;
    let ready = feed::event("ready", &json!({ "decisions_a_second": SHOWN_A_SECOND }));
    let first = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(ready.as_bytes()))]);
    let events = stream::StreamExt::chain(first, stream::unfold(watching, next));
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((BUFFERING, "no"))
        .streaming(events))
}

async fn next(mut watching: Watching) -> Option<(Result<Bytes, Infallible>, Watching)> {
    let bytes = match tokio::time::timeout(SILENCE_MAX, watching.next()).await {
        Ok(event) => Bytes::copy_from_slice(event?.as_bytes()),
        Err(_) => Bytes::from_static(SIGN_OF_LIFE),
    };
    Some((Ok(bytes), watching))
}
