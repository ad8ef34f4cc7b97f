//! The table `api_keys`.

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::{Value, json};

use super::audit::AuditNote;
use super::schema::api_keys;
use super::{Database, DbError};
use crate::domain::credential::{ApiKeyRecord, KeyId, KeyRotated, KeyRotation, Role};
use crate::domain::report::Author;
use crate::domain::subject::UserId;
use crate::domain::time::Timestamp;

/// In the order of the table.
#[derive(Queryable)]
struct Row {
    id: String,
    name: String,
    role: String,
    user_id: Option<String>,
    secret_sha256: Vec<u8>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
    successor: Option<String>,
}

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

    /// Adds a key like the old one, and has that one end.
    pub async fn rotate_key(
        &self,
        rotation: &KeyRotation,
        author: &Author,
        now: Timestamp,
    ) -> Result<KeyRotated, DbError> {
        let (rotation, author) = (rotation.clone(), author.clone());
        on!(self, write, "rotate an API key", keys::rotate(&rotation, &author, now))
    }

    /// Notes when keys were last used. An earlier use than is known changes nothing. No instance is told: it would have all of
    /// them read all keys each minute.
    pub async fn note_key_uses(&self, uses: &[(KeyId, Timestamp)]) -> Result<(), DbError> {
        let mut uses = uses.to_vec();
        // Instances that write at once lock the rows in the same order.
        uses.sort();
        on!(self, write, "note the use of API keys", keys::note_uses(&uses))
    }
}

fn note(action: &'static str, id: &KeyId, before: Option<Value>, after: Option<Value>) -> AuditNote {
    AuditNote { action, target: format!("key:{id}"), before, after }
}

fn key_json(key: &ApiKeyRecord) -> Value {
    let user_id = key.user_id.as_ref().map(UserId::as_str);
    json!({ "name": key.name, "role": key.role, "user_id": user_id, "expires_at": key.expires_at })
}

fn record(row: Row) -> Option<ApiKeyRecord> {
    Some(ApiKeyRecord {
        id: KeyId::parse(&row.id)?,
        name: row.name,
        role: Role::parse(&row.role)?,
        user_id: row.user_id.map(|id| UserId::parse(&id)).transpose().ok()?,
        secret_sha256: row.secret_sha256.try_into().ok()?,
        created_at: Timestamp::from_micros(row.created_at),
        expires_at: row.expires_at.map(Timestamp::from_micros),
        revoked_at: row.revoked_at.map(Timestamp::from_micros),
        last_used_at: row.last_used_at.map(Timestamp::from_micros),
        successor: row.successor.as_deref().and_then(KeyId::parse),
    })
}

on_both! {
    pub(in crate::db) async fn insert(
        connection: &mut Connection,
        key: &ApiKeyRecord,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                changes::of_keys(connection, version, now).await?;
                add(connection, version, key, author, now).await
            })
            .await
    }

    /// Adds a key as the change `version`, with its audit row.
    async fn add(
        connection: &mut Connection,
        version: i64,
        key: &ApiKeyRecord,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        diesel::insert_into(api_keys::table)
            .values((
                api_keys::id.eq(key.id.as_str()),
                api_keys::name.eq(key.name.as_str()),
                api_keys::role.eq(key.role.as_str()),
                api_keys::user_id.eq(key.user_id.as_ref().map(UserId::as_str)),
                api_keys::secret_sha256.eq(key.secret_sha256.as_slice()),
                api_keys::created_at.eq(key.created_at.as_micros()),
                api_keys::expires_at.eq(key.expires_at.map(Timestamp::as_micros)),
                api_keys::revoked_at.eq(key.revoked_at.map(Timestamp::as_micros)),
            ))
            .execute(connection)
            .await?;
        let note = note("key.create", &key.id, None, Some(key_json(key)));
        audit::write(connection, version, &note, author, now).await
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

    /// A key that was not revoked; it may have ended.
    async fn unrevoked(connection: &mut Connection, id: &KeyId) -> QueryResult<Option<ApiKeyRecord>> {
        let good = api_keys::table.find(id.as_str()).filter(api_keys::revoked_at.is_null());
        Ok(good.first::<Row>(connection).await.optional()?.and_then(record))
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
                let Some(key) = unrevoked(connection, id).await? else { return Ok(false) };
                diesel::update(api_keys::table.find(id.as_str()))
                    .set(api_keys::revoked_at.eq(now.as_micros()))
                    .execute(connection)
                    .await?;
                changes::of_keys(connection, version, now).await?;
                let note = note("key.revoke", id, Some(key_json(&key)), None);
                audit::write(connection, version, &note, author, now).await?;
                Ok(true)
            })
            .await
    }

    pub(in crate::db) async fn rotate(
        connection: &mut Connection,
        rotation: &KeyRotation,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<KeyRotated> {
        let KeyRotation { old, old_ends_at, new, secret_sha256 } = rotation;
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let held = unrevoked(connection, old).await?.filter(|key| key.is_valid(now));
                let Some(key) = held else { return Ok(KeyRotated::Absent) };
                if let Some(successor) = key.successor {
                    return Ok(KeyRotated::Before(successor));
                }
                let end = key.expires_at.map_or(*old_ends_at, |own| own.min(*old_ends_at));
                let ending = ApiKeyRecord { expires_at: Some(end), ..key.clone() };
                diesel::update(api_keys::table.find(old.as_str()))
                    .set((api_keys::expires_at.eq(end.as_micros()), api_keys::successor.eq(new.as_str())))
                    .execute(connection)
                    .await?;
                changes::of_keys(connection, version, now).await?;
                let note = note("key.rotate", old, Some(key_json(&key)), Some(key_json(&ending)));
                audit::write(connection, version, &note, author, now).await?;
                let successor = ApiKeyRecord {
                    id: new.clone(),
                    secret_sha256: *secret_sha256,
                    created_at: now,
                    last_used_at: None,
                    ..key
                };
                let version = changes::begin(connection).await?;
                add(connection, version, &successor, author, now).await?;
                Ok(KeyRotated::To(successor))
            })
            .await
    }

    pub(in crate::db) async fn note_uses(connection: &mut Connection, uses: &[(KeyId, Timestamp)]) -> QueryResult<()> {
        connection
            .transaction(async |connection| {
                for (id, at) in uses {
                    let at = at.as_micros();
                    let earlier = api_keys::last_used_at.is_null().or(api_keys::last_used_at.lt(at));
                    diesel::update(api_keys::table.find(id.as_str()).filter(earlier))
                        .set(api_keys::last_used_at.eq(at))
                        .execute(connection)
                        .await?;
                }
                Ok(())
            })
            .await
    }
}
