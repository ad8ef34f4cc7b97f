//! API keys: made, listed, revoked. A key's text is shown once, when it is made.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::error::Problem;
use super::path::InPath;
use super::{State, body, caller, subject};
use crate::domain::credential::{ApiKeyRecord, KeyId, Role};
use crate::domain::time::Timestamp;
use crate::identity::api_key;

const NAME_MAX_CHARS: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    name: String,
    role: Role,
    user_id: Option<String>,
    expires_at: Option<Timestamp>,
}

pub async fn list(state: Data<State>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    caller::admin(&state, &request)?;
    let keys = state.books.list_keys().await?;
    Ok(HttpResponse::Ok().json(json!({ "items": keys.iter().map(key_json).collect::<Vec<_>>(), "next": null })))
}

pub async fn create(state: Data<State>, request: HttpRequest, Body(bytes): Body) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let asked: KeyBody = body::parse(&request, &bytes)?;
    let now = state.clock.now();
    if asked.name.is_empty() || asked.name.chars().count() > NAME_MAX_CHARS {
        return Err(Problem::invalid("name", "must have 1 to 100 characters"));
    }
    if asked.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::invalid("expires_at", "must be in the future"));
    }
    let key = api_key::make().map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Problem::unavailable("no key can be made now")
    })?;
    let record = ApiKeyRecord {
        id: key.id,
        name: asked.name,
        role: asked.role,
        user_id: asked.user_id.as_deref().map(subject::user_id).transpose()?,
        secret_sha256: key.secret_sha256,
        created_at: now,
        expires_at: asked.expires_at,
        revoked_at: None,
    };
    state.books.insert_key(&record, &caller::author(&state, &request, &admin)).await?;
    refresh(&state).await?;
    let mut view = key_json(&record);
    if let Value::Object(fields) = &mut view {
        fields.insert("key".to_owned(), Value::from(key.text));
    }
    Ok(HttpResponse::Created().json(view))
}

pub async fn revoke(state: Data<State>, request: HttpRequest, InPath(id): InPath) -> Result<HttpResponse, Problem> {
    let admin = caller::admin(&state, &request)?;
    let absent = || Problem::absent("there is no such key that still holds");
    let id = KeyId::parse(&id).ok_or_else(absent)?;
    let revoked = state.books.revoke_key(&id, &caller::author(&state, &request, &admin)).await?;
    refresh(&state).await?;
    if revoked { Ok(HttpResponse::NoContent().finish()) } else { Err(absent()) }
}

/// What was changed holds at once on this instance; the others follow.
async fn refresh(state: &State) -> Result<(), Problem> {
    state.identity.key_ring().replace(state.books.list_keys().await?);
    Ok(())
}

fn key_json(key: &ApiKeyRecord) -> Value {
    json!({
        "id": key.id, "name": key.name, "role": key.role, "user_id": key.user_id.as_ref().map(|user| user.as_str()),
        "created_at": key.created_at, "expires_at": key.expires_at, "revoked_at": key.revoked_at,
    })
}
