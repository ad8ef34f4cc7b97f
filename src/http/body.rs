//! Reading bodies and queries, and saying what is wrong with them: 400 for what is no JSON or has an unknown field, 422 for
//! a field that can't be taken.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{FromRequest, HttpRequest};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{self, Problem};
use crate::domain::invalid::at_field;

/// Larger bodies are refused.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

/// A body that is not there by then is given up, as actix gives up a head.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Bodies up to this size are waited for as they come: with the bound on connections that is bound enough.
const SMALL_KIB: u32 = 16;

/// Room for larger ones that are on their way, of all connections together, in KiB. Callers with a key who send slowly could fill the
/// memory otherwise.
static ROOM: Semaphore = Semaphore::const_new(64 * 1024);

/// A body that nobody has read yet: strangers could fill the memory with theirs, so a handler reads it when it knows who is calling.
pub struct Body(Payload);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl FromRequest for Body {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(_request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(payload.take())))
    }
}

impl Body {
    /// Reads it as JSON.
    pub async fn json<T: DeserializeOwned>(self, request: &HttpRequest) -> Result<T, Problem> {
        let bytes = self.bytes(request).await?;
        parse(request, &bytes)
    }

    /// The same, of a request that may come without a body.
    pub async fn json_if_any<T: DeserializeOwned>(self, request: &HttpRequest) -> Result<Option<T>, Problem> {
        let bytes = self.bytes(request).await?;
        if bytes.is_empty() { Ok(None) } else { parse(request, &bytes).map(Some) }
    }

    /// As it came, at most 1 MiB and within 5 s. Where too much is on its way already: 503.
    async fn bytes(mut self, request: &HttpRequest) -> Result<Bytes, Problem> {
        let mut bytes = std::pin::pin!(Bytes::from_request(request, &mut self.0));
        // Most bodies come with their head, and need no timer.
        let bytes = match bytes.as_mut().now_or_never() {
            Some(bytes) => bytes,
            None => {
                let _room = room_for(request)?;
                tokio::time::timeout(BODY_WITHIN, bytes).await.map_err(|_| Problem::too_slow())?
            }
        };
        bytes.map_err(error::payload)
    }
}

/// Room for a body until it is there: as much as it says, or as much as any may have.
fn room_for(request: &HttpRequest) -> Result<SemaphorePermit<'static>, Problem> {
    let told = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = told.unwrap_or(BODY_MAX_BYTES).min(BODY_MAX_BYTES);
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    let taken = if kib <= SMALL_KIB { 0 } else { kib };
    ROOM.try_acquire_many(taken).map_err(|_| Problem::unavailable("too many large bodies are on their way"))
}

fn parse<T: DeserializeOwned>(request: &HttpRequest, bytes: &[u8]) -> Result<T, Problem> {
    let is_json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(Problem::not_json());
    }
    parse_bytes(bytes)
}

/// Reads JSON without asking what the request called it. The quick way is tried first; the slow one finds the field.
pub fn parse_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => Err(Problem::bad_request("there is more after the JSON value")),
        Err(error) => {
            let field = error.path().to_string();
            Err(in_words(&error.into_inner(), &field))
        }
    }
}

/// Reads a value that is JSON already: an item of a batch.
pub fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        in_words(&error.into_inner(), &field)
    })
}

/// Reads the query; an unknown parameter is an error like any other.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    actix_web::web::Query::<T>::from_query(request.query_string())
        .map(actix_web::web::Query::into_inner)
        .map_err(|error| Problem::invalid("query", error.to_string()))
}

fn in_words(error: &serde_json::Error, field: &str) -> Problem {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    let malformed = ["unknown field", "duplicate field"].iter().any(|start| message.starts_with(start));
    if malformed || !error.is_data() {
        Problem::bad_request(message)
    } else {
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match missing {
            Some(name) if field == "." => Problem::invalid(name, "is required"),
            Some(name) => Problem::invalid(format!("{field}.{name}"), "is required"),
            None => {
                let (field, message) = at_field(field, message);
                Problem::invalid(if field.is_empty() { "body".to_owned() } else { field }, message)
            }
        }
    }
}
