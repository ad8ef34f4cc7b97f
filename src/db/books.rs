//! The statements that both databases share. This file is compiled once for each kind of connection: `super::Connection`.

use diesel::prelude::*;
use diesel::sql_query;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::Value;

use super::super::rows::{
    AuditRow, KeyRow, NewAudit, NewChange, NewKey, NewOverride, NewUser, OverrideRow, accounts, number, override_json,
};
use super::super::schema::{api_keys, audit as audit_table, changes, overrides, users};
use super::{Connection, order_changes};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::credential::ApiKeyRecord;
use crate::domain::report::{AuditEntry, Author, Changes};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// SQLite takes 32,766 values in a statement, and reads a list faster in parts.
const USERS_A_QUERY: usize = 500;

/// With more changes than this at once, everything that is remembered is taken as stale.
const CHANGES_A_QUERY: i64 = 10_000;

/// One change, for the audit and for other instances.
struct Change<'a> {
    author: &'a Author,
    now: Timestamp,
    action: &'a str,
    target: &'a str,
    before: Option<Value>,
    after: Option<Value>,
    /// Whose entry is stale; `None`: the keys are.
    user: Option<&'a str>,
}

pub async fn ping(connection: &mut Connection) -> QueryResult<()> {
    sql_query("SELECT 1").execute(connection).await.map(drop)
}

pub async fn load_accounts(connection: &mut Connection, names: &[String]) -> QueryResult<Vec<Account>> {
    let mut tiers = Vec::new();
    let mut found = Vec::new();
    for names in names.chunks(USERS_A_QUERY) {
        tiers.extend(
            users::table
                .filter(users::user_id.eq_any(names))
                .select((users::user_id, users::tier))
                .load::<(String, Option<String>)>(connection)
                .await?,
        );
        found.extend(
            overrides::table
                .filter(overrides::user_id.eq_any(names))
                .select(OverrideRow::as_select())
                .load(connection)
                .await?,
        );
    }
    Ok(accounts(tiers, found))
}

pub async fn put_override(
    connection: &mut Connection,
    user: &str,
    quota_override: &QuotaOverride,
    author: &Author,
    now: Timestamp,
) -> QueryResult<()> {
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let before = find_override(connection, user).await?;
            let row = NewOverride {
                user_id: user,
                requests_per_hour: quota_override.requests_per_hour.map(number),
                requests_per_day: quota_override.requests_per_day.map(number),
                expires_at: quota_override.expires_at.map(Timestamp::as_micros),
                reason: quota_override.reason.as_deref(),
                updated_at: now.as_micros(),
            };
            diesel::insert_into(overrides::table)
                .values(&row)
                .on_conflict(overrides::user_id)
                .do_update()
                .set(&row)
                .execute(connection)
                .await?;
            let after = Some(override_json(quota_override));
            let change = Change { author, now, action: "override.put", target: user, before, after, user: Some(user) };
            note(connection, change).await
        })
        .await
}

pub async fn delete_override(
    connection: &mut Connection,
    user: &str,
    author: &Author,
    now: Timestamp,
) -> QueryResult<bool> {
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let before = find_override(connection, user).await?;
            if before.is_none() {
                return Ok(false);
            }
            diesel::delete(overrides::table.filter(overrides::user_id.eq(user))).execute(connection).await?;
            let change =
                Change { author, now, action: "override.delete", target: user, before, after: None, user: Some(user) };
            note(connection, change).await?;
            Ok(true)
        })
        .await
}

pub async fn put_user_tier(
    connection: &mut Connection,
    user: &str,
    tier: Option<&str>,
    author: &Author,
    now: Timestamp,
) -> QueryResult<()> {
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let before: Option<Option<String>> =
                users::table.filter(users::user_id.eq(user)).select(users::tier).first(connection).await.optional()?;
            let row = NewUser { user_id: user, tier, updated_at: now.as_micros() };
            diesel::insert_into(users::table)
                .values(&row)
                .on_conflict(users::user_id)
                .do_update()
                .set(&row)
                .execute(connection)
                .await?;
            let before = before.map(|tier| serde_json::json!({ "tier": tier }));
            let after = Some(serde_json::json!({ "tier": tier }));
            note(connection, Change { author, now, action: "user.put", target: user, before, after, user: Some(user) })
                .await
        })
        .await
}

pub async fn note_reset(
    connection: &mut Connection,
    subject: &Subject,
    limits: &Value,
    author: &Author,
    now: Timestamp,
) -> QueryResult<()> {
    let target = subject.to_string();
    let user = match subject {
        Subject::User(user) => Some(user.as_str()),
        Subject::Ip(_) => None,
    };
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let after = Some(serde_json::json!({ "limits": limits }));
            note(connection, Change { author, now, action: "quota.reset", target: &target, before: None, after, user })
                .await
        })
        .await
}

pub async fn insert_key(connection: &mut Connection, key: &ApiKeyRecord, author: &Author) -> QueryResult<()> {
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let row = NewKey {
                id: key.id.as_str(),
                name: &key.name,
                role: key.role.as_str(),
                user_id: key.user_id.as_ref().map(|user| user.as_str()),
                secret_sha256: &key.secret_sha256,
                created_at: key.created_at.as_micros(),
                expires_at: key.expires_at.map(Timestamp::as_micros),
            };
            diesel::insert_into(api_keys::table).values(&row).execute(connection).await?;
            let after = Some(serde_json::json!({
                "name": key.name, "role": key.role, "user_id": row.user_id, "expires_at": key.expires_at,
            }));
            let (now, target) = (key.created_at, key.id.as_str());
            note(connection, Change { author, now, action: "key.create", target, before: None, after, user: None })
                .await
        })
        .await
}

pub async fn list_keys(connection: &mut Connection) -> QueryResult<Vec<ApiKeyRecord>> {
    let rows: Vec<KeyRow> = api_keys::table
        .order((api_keys::created_at, api_keys::id))
        .select(KeyRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().filter_map(KeyRow::into_record).collect())
}

pub async fn revoke_key(connection: &mut Connection, id: &str, author: &Author, now: Timestamp) -> QueryResult<bool> {
    connection
        .transaction(async |connection| {
            order_changes(connection).await?;
            let held = api_keys::table.filter(api_keys::id.eq(id)).filter(api_keys::revoked_at.is_null());
            let revoked =
                diesel::update(held).set(api_keys::revoked_at.eq(now.as_micros())).execute(connection).await?;
            if revoked == 0 {
                return Ok(false);
            }
            let (before, after) = (None, None);
            note(connection, Change { author, now, action: "key.revoke", target: id, before, after, user: None })
                .await?;
            Ok(true)
        })
        .await
}

/// A version beyond the last gives the last, and no changes.
pub async fn changes_since(connection: &mut Connection, version: i64) -> QueryResult<Changes> {
    let rows: Vec<(i64, String, Option<String>)> = changes::table
        .filter(changes::version.gt(version))
        .order(changes::version)
        .limit(CHANGES_A_QUERY)
        .select((changes::version, changes::kind, changes::user_id))
        .load(connection)
        .await?;
    let (oldest, newest): (Option<i64>, Option<i64>) = changes::table
        .select((diesel::dsl::min(changes::version), diesel::dsl::max(changes::version)))
        .first(connection)
        .await?;
    let newest = newest.unwrap_or(0);
    let pruned = version < newest && oldest.is_some_and(|oldest| version.saturating_add(1) < oldest) && version > 0;
    let many = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= CHANGES_A_QUERY;
    let mut found = Changes { version: newest, everything: pruned || many, ..Changes::default() };
    for (_, kind, user) in rows {
        found.keys |= kind == "key";
        if let Some(Subject::User(user)) = user.and_then(|user| Subject::parse(&format!("user:{user}")).ok()) {
            found.users.push(user);
        }
    }
    Ok(found)
}

pub async fn audit(connection: &mut Connection, limit: u32, before: Option<i64>) -> QueryResult<Vec<AuditEntry>> {
    let rows: Vec<AuditRow> = audit_table::table
        .filter(audit_table::id.lt(before.unwrap_or(i64::MAX)))
        .order(audit_table::id.desc())
        .limit(i64::from(limit))
        .select(AuditRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(AuditRow::into_entry).collect())
}

async fn find_override(connection: &mut Connection, user: &str) -> QueryResult<Option<Value>> {
    let row: Option<OverrideRow> = overrides::table
        .filter(overrides::user_id.eq(user))
        .select(OverrideRow::as_select())
        .first(connection)
        .await
        .optional()?;
    Ok(row.map(|row| override_json(&row.into_override())))
}

/// Writes the audit row and raises the version, in the transaction of the change itself.
async fn note(connection: &mut Connection, change: Change<'_>) -> QueryResult<()> {
    let text = |value: Option<Value>| value.map(|value| value.to_string());
    let at = change.now.as_micros();
    let entry = NewAudit {
        at,
        actor: &change.author.actor,
        address: change.author.address.map(|address| address.to_string()),
        action: change.action,
        target: change.target,
        old_value: text(change.before),
        new_value: text(change.after),
    };
    diesel::insert_into(audit_table::table).values(&entry).execute(connection).await?;
    let kind = if change.user.is_some() { "user" } else { "key" };
    diesel::insert_into(changes::table)
        .values(&NewChange { kind, user_id: change.user, at })
        .execute(connection)
        .await
        .map(drop)
}
