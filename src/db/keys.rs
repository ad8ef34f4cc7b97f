//! The table `api_keys`.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::audit::AuditNote;
use super::schema::api_keys;
use super::{Database, DbError};
use crate::domain::credential::{ApiKeyRecord, KeyId, Role};
use crate::domain::report::Author;
use crate::domain::subject::UserId;
use crate::domain::time::Timestamp;

type Row = (String, String, String, Option<String>, Vec<u8>, i64, Option<i64>, Option<i64>);

impl Database {
    /// Adds a key. Its id must be new.
    pub async fn insert_key(&self, key: &ApiKeyRecord, author: &Author, now: Timestamp) -> Result<(), DbError> {
        let (key, author) = (key.clone(), author.clone());
        on!(self, write, "add an API key", keys::insert(&key, &author, now))
    }

    /// All keys, revoked and ended ones too, the oldest first.
    pub async fn list_keys(&self) -> Result<Vec<ApiKeyRecord>, DbError> {
        on!(self, read, "read the API keys", keys::list())
    }

    /// Revokes a key; false where there is none of that id, or it was revoked before.
    pub async fn revoke_key(&self, id: &KeyId, author: &Author, now: Timestamp) -> Result<bool, DbError> {
        let (id, author) = (id.clone(), author.clone());
        on!(self, write, "revoke an API key", keys::revoke(&id, &author, now))
    }
}

fn note(action: &'static str, id: &str, before: Option<Value>, after: Option<Value>) -> AuditNote {
    AuditNote { action, target: format!("key:{id}"), before, after }
}

fn key_json(name: &str, role: &str, user_id: Option<&str>, expires_at: Option<Timestamp>) -> Value {
    json!({ "name": name, "role": role, "user_id": user_id, "expires_at": expires_at })
}

fn record((id, name, role, user_id, secret, created_at, expires_at, revoked_at): Row) -> Option<ApiKeyRecord> {
    Some(ApiKeyRecord {
        id: KeyId::parse(&id)?,
        name,
        role: Role::parse(&role)?,
        user_id: user_id.map(|id| UserId::parse(&id)).transpose().ok()?,
        secret_sha256: secret.try_into().ok()?,
        created_at: Timestamp::from_micros(created_at),
        expires_at: expires_at.map(Timestamp::from_micros),
        revoked_at: revoked_at.map(Timestamp::from_micros),
    })
}

on_both! {
    pub(in crate::db) async fn insert(
        connection: &mut Connection,
        key: &ApiKeyRecord,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        let user_id = key.user_id.as_ref().map(UserId::as_str);
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                diesel::insert_into(api_keys::table)
                    .values((
                        api_keys::id.eq(key.id.as_str()),
                        api_keys::name.eq(key.name.as_str()),
                        api_keys::role.eq(key.role.as_str()),
                        api_keys::user_id.eq(user_id),
                        api_keys::secret_sha256.eq(key.secret_sha256.as_slice()),
                        api_keys::created_at.eq(key.created_at.as_micros()),
                        api_keys::expires_at.eq(key.expires_at.map(Timestamp::as_micros)),
                        api_keys::revoked_at.eq(key.revoked_at.map(Timestamp::as_micros)),
                    ))
                    .execute(connection)
                    .await?;
                changes::of_keys(connection, version, now).await?;
                let after = key_json(&key.name, key.role.as_str(), user_id, key.expires_at);
                let note = note("key.create", key.id.as_str(), None, Some(after));
                audit::write(connection, version, &note, author, now).await
            })
            .await
    }

    pub(in crate::db) async fn list(connection: &mut Connection) -> QueryResult<Vec<ApiKeyRecord>> {
        let rows: Vec<Row> = api_keys::table.order((api_keys::created_at, api_keys::id)).load(connection).await?;
        let known = rows.len();
        let keys: Vec<_> = rows.into_iter().filter_map(record).collect();
        if keys.len() < known {
            tracing::warn!(table = "api_keys", rows = known.saturating_sub(keys.len()), "skipped keys that are not valid");
        }
        Ok(keys)
    }

    pub(in crate::db) async fn revoke(
        connection: &mut Connection,
        id: &KeyId,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<bool> {
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let good = api_keys::table.find(id.as_str()).filter(api_keys::revoked_at.is_null());
                let Some((_, name, role, user_id, _, _, expires_at, _)) =
                    good.first::<Row>(connection).await.optional()?
                else {
                    return Ok(false);
                };
                diesel::update(api_keys::table.find(id.as_str()))
                    .set(api_keys::revoked_at.eq(now.as_micros()))
                    .execute(connection)
                    .await?;
                changes::of_keys(connection, version, now).await?;
                let before = key_json(&name, &role, user_id.as_deref(), expires_at.map(Timestamp::from_micros));
                let note = note("key.revoke", id.as_str(), Some(before), None);
                audit::write(connection, version, &note, author, now).await?;
                Ok(true)
            })
            .await
    }
}
