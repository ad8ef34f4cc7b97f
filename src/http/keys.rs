//! API keys: made, listed, rotated, revoked. A key's text is shown once, when it is made.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::{State, caller, subject};
use crate::domain::credential::{ApiKeyRecord, KeyId, KeyRotated, KeyRotation, Role};
use crate::domain::time::{Period, Timestamp};
use crate::identity::api_key::{self, NewKey};
use crate::observability::chain::Chain;

const NAME_MAX_CHARS: usize = 100;

const OVERLAP_MAX_SECONDS: u32 = 30 * 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    name: String,
    role: Role,
    user_id: Option<String>,
    expires_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RotateBody {
    overlap_seconds: u32,
}

impl Default for RotateBody {
    /// A day.
    fn default() -> Self {
        Self { overlap_seconds: 86_400 }
    }
}

pub async fn list(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let mut keys = state.books.list_keys().await?;
    let used_here = state.identity.key_ring().last_used();
    for key in &mut keys {
        key.last_used_at = key.last_used_at.max(used_here.get(&key.id).copied());
    }
    Ok(HttpResponse::Ok().json(json!({ "items": keys.iter().map(key_json).collect::<Vec<_>>(), "next": null })))
}

pub async fn create(state: Data<State>, request: HttpRequest, body: Body) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let asked: KeyBody = body.json(&request).await?;
    let now = state.clock.now();
    if asked.name.is_empty() || asked.name.chars().count() > NAME_MAX_CHARS {
        return Err(Problem::invalid("name", "must have 1 to 100 characters"));
    }
    if asked.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::invalid("expires_at", "must be in the future"));
    }
    let key = new_key()?;
    let record = ApiKeyRecord {
        id: key.id,
        name: asked.name,
        role: asked.role,
        user_id: asked.user_id.as_deref().map(subject::user_id).transpose()?,
        secret_sha256: key.secret_sha256,
        created_at: now,
        expires_at: asked.expires_at,
        revoked_at: None,
        last_used_at: None,
        successor: None,
    };
    state.books.insert_key(&record, &caller::author(&state, &request, &admin)).await?;
    Ok(made(&state, &record, key.text).await)
}

/// A new key in the place of one that still holds, which ends after the overlap.
pub async fn rotate(
    state: Data<State>,
    request: HttpRequest,
    InPath(id): InPath,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let asked: RotateBody = body.json_if_any(&request).await?.unwrap_or_default();
    if asked.overlap_seconds > OVERLAP_MAX_SECONDS {
        return Err(Problem::invalid("overlap_seconds", "must be from 0 to 2592000"));
    }
    let key = new_key()?;
    let rotation = KeyRotation {
        old: KeyId::parse(&id).ok_or_else(absent)?,
        old_ends_at: state.clock.now().saturating_add(Period::from_seconds(asked.overlap_seconds.into())),
        new: key.id,
        secret_sha256: key.secret_sha256,
    };
    match state.books.rotate_key(&rotation, &caller::author(&state, &request, &admin)).await? {
        KeyRotated::To(record) => Ok(made(&state, &record, key.text).await),
        KeyRotated::Before(successor) => Err(Problem::conflict(format!("it was rotated before, to {successor}"))),
        KeyRotated::Absent => Err(absent()),
    }
}

pub async fn revoke(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let id = KeyId::parse(&id).ok_or_else(absent)?;
    let revoked = state.books.revoke_key(&id, &caller::author(&state, &request, &admin)).await?;
    state.identity.key_ring().reload(state.books.list_keys()).await?;
    if revoked { Ok(HttpResponse::NoContent().finish()) } else { Err(absent()) }
}

fn new_key() -> Result<NewKey, Problem> {
    api_key::make().map_err(|error| Problem::unavailable("no key can be made now").caused_by(error))
}

fn absent() -> Problem {
    Problem::absent("there is no such key that still holds")
}

/// The one answer that shows a key's text. The key holds at once on this instance, and within a second on all others; and here as
/// well, where the list can't be read again.
async fn made(state: &State, record: &ApiKeyRecord, text: String) -> HttpResponse {
    if let Err(error) = state.identity.key_ring().reload(state.books.list_keys()).await {
        tracing::warn!(error = %Chain(&error), "a key was made, and the keys were not read again");
    }
    let mut view = key_json(record);
    if let Value::Object(fields) = &mut view {
        fields.insert("key".to_owned(), Value::from(text));
    }
    HttpResponse::Created().json(view)
}

fn key_json(key: &ApiKeyRecord) -> Value {
    json!({
        "id": key.id, "name": key.name, "role": key.role, "user_id": key.user_id.as_ref().map(|user| user.as_str()),
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at, "successor": key.successor,
    })
}
