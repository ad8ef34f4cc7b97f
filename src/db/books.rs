//! The statements that both databases share. This file is compiled once for each kind of connection: `super::Connection`.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::Value;

use super::super::rows::{
    AuditRow, BucketRow, CountRow, KeyRow, NewAudit, NewChange, NewKey, NewOverride, NewUser, OverrideRow, SubjectRow,
    TierRow, accounts, amount, number, override_json,
};
use super::super::schema::{api_keys, audit as audit_table, changes, counters, flush_cursor, overrides, usage, users};
use super::super::state;
use super::{Connection, order_changes};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::credential::ApiKeyRecord;
use crate::domain::report::{AuditEntry, Author, Changes, Granularity, HistoryItem, Totals, UsageReport};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// SQLite takes 32,766 values in a statement, and reads a list faster in parts.
const USERS_A_QUERY: usize = 500;

/// With more changes than this at once, everything that is remembered is taken as stale.
const CHANGES_A_QUERY: i64 = 10_000;

/// Marks of changes and of flushes are of no use to anyone after a day.
const MARKS_KEPT_MICROS: i64 = 86_400_000_000;

const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;

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
    let mut found =
        Changes { version: newest.min(version.max(newest)), everything: pruned || many, ..Changes::default() };
    for (_, kind, user) in rows {
        found.keys |= kind == "key";
        if let Some(Subject::User(user)) = user.and_then(|user| Subject::parse(&format!("user:{user}")).ok()) {
            found.users.push(user);
        }
    }
    Ok(found)
}

/// Whether the batch is the next one; `false` where it was written before.
pub async fn advance_cursor(
    connection: &mut Connection,
    instance: &str,
    sequence: i64,
    now: Timestamp,
) -> QueryResult<bool> {
    let written: Option<i64> = flush_cursor::table
        .filter(flush_cursor::instance.eq(instance))
        .select(flush_cursor::sequence)
        .first(connection)
        .await
        .optional()?;
    if written.is_some_and(|written| written >= sequence) {
        return Ok(false);
    }
    let row = (
        flush_cursor::instance.eq(instance),
        flush_cursor::sequence.eq(sequence),
        flush_cursor::updated_at.eq(now.as_micros()),
    );
    diesel::insert_into(flush_cursor::table)
        .values(row)
        .on_conflict(flush_cursor::instance)
        .do_update()
        .set((flush_cursor::sequence.eq(sequence), flush_cursor::updated_at.eq(now.as_micros())))
        .execute(connection)
        .await?;
    Ok(true)
}

pub async fn load_counters(connection: &mut Connection, now: Timestamp) -> QueryResult<Vec<(Subject, SubjectState)>> {
    let rows: Vec<(String, Vec<u8>)> = counters::table
        .filter(counters::whole_at.gt(now.as_micros()))
        .select((counters::subject, counters::state))
        .load(connection)
        .await?;
    let read = |(subject, bytes): (String, Vec<u8>)| Some((Subject::parse(&subject).ok()?, state::unpack(&bytes)?));
    Ok(rows.into_iter().filter_map(read).collect())
}

pub async fn history(
    connection: &mut Connection,
    subject: &str,
    granularity: Granularity,
    from: Timestamp,
    to: Timestamp,
) -> QueryResult<Vec<HistoryItem>> {
    let length = match granularity {
        Granularity::Hour => HOUR_MICROS,
        Granularity::Day => DAY_MICROS,
    };
    // Both databases number `$n` by first use, and divide whole numbers to whole numbers.
    let rows: Vec<BucketRow> = sql_query(
        "SELECT (hour / $1) * $1 AS start, CAST(SUM(requests) AS BIGINT) AS requests, \
         CAST(SUM(cost) AS BIGINT) AS cost, CAST(SUM(denied) AS BIGINT) AS denied \
         FROM usage WHERE subject = $2 AND hour >= $3 AND hour < $4 GROUP BY 1 ORDER BY 1",
    )
    .bind::<BigInt, _>(length)
    .bind::<Text, _>(subject)
    .bind::<BigInt, _>(from.as_micros())
    .bind::<BigInt, _>(to.as_micros())
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(BucketRow::into_item).collect())
}

pub async fn usage_report(connection: &mut Connection, start: Timestamp, top: u32) -> QueryResult<UsageReport> {
    let tiers: Vec<TierRow> = sql_query(
        "SELECT tier, CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(cost) AS BIGINT) AS cost, \
         CAST(SUM(denied) AS BIGINT) AS denied, COUNT(DISTINCT subject) AS active_users \
         FROM usage WHERE hour >= $1 GROUP BY tier ORDER BY tier",
    )
    .bind::<BigInt, _>(start.as_micros())
    .load(connection)
    .await?;
    let active: CountRow = sql_query(
        "SELECT COUNT(DISTINCT subject) AS count FROM usage WHERE hour >= $1 AND substr(subject, 1, 5) = 'user:'",
    )
    .bind::<BigInt, _>(start.as_micros())
    .get_result(connection)
    .await?;
    let top_users = top_subjects(connection, start, "user:", top).await?;
    let top_ips = top_subjects(connection, start, "ip:", top).await?;
    let mut totals = Totals { active_users: amount(active.count), ..Totals::default() };
    let tiers: Vec<_> = tiers.into_iter().filter_map(TierRow::into_totals).collect();
    for (_, tier) in &tiers {
        totals.usage.add(tier.usage);
    }
    Ok(UsageReport {
        start,
        totals,
        tiers,
        top_users: top_users.into_iter().filter_map(SubjectRow::into_usage).collect(),
        top_ips: top_ips.into_iter().filter_map(SubjectRow::into_usage).collect(),
    })
}

async fn top_subjects(
    connection: &mut Connection,
    start: Timestamp,
    kind: &str,
    top: u32,
) -> QueryResult<Vec<SubjectRow>> {
    let text = format!(
        "WITH parts AS (SELECT subject, tier, SUM(requests) AS r, SUM(cost) AS c, SUM(denied) AS d FROM usage \
           WHERE hour >= $1 AND substr(subject, 1, {}) = '{kind}' GROUP BY subject, tier), \
         sums AS (SELECT subject, SUM(r) AS r, SUM(c) AS c, SUM(d) AS d FROM parts GROUP BY subject \
           ORDER BY 3 DESC, 2 DESC, 1 LIMIT $2) \
         SELECT subject, (SELECT tier FROM parts WHERE parts.subject = sums.subject ORDER BY c DESC, tier LIMIT 1) AS tier, \
           CAST(r AS BIGINT) AS requests, CAST(c AS BIGINT) AS cost, CAST(d AS BIGINT) AS denied \
         FROM sums ORDER BY c DESC, r DESC, subject",
        kind.len()
    );
    sql_query(text).bind::<BigInt, _>(start.as_micros()).bind::<BigInt, _>(i64::from(top)).load(connection).await
}

pub async fn remove_before(connection: &mut Connection, oldest: Timestamp, now: Timestamp) -> QueryResult<usize> {
    let marks = now.as_micros().saturating_sub(MARKS_KEPT_MICROS);
    diesel::delete(counters::table.filter(counters::whole_at.le(now.as_micros()))).execute(connection).await?;
    diesel::delete(changes::table.filter(changes::at.lt(marks))).execute(connection).await?;
    diesel::delete(flush_cursor::table.filter(flush_cursor::updated_at.lt(marks))).execute(connection).await?;
    diesel::delete(usage::table.filter(usage::hour.lt(oldest.as_micros()))).execute(connection).await
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
