//! The tables `users`, `reset_schedules` and `overrides`: what administrators set for a user.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::Value;

use super::audit::AuditNote;
use super::schema::{overrides, reset_schedules, tiers, users};
use super::{Database, DbError};
use crate::domain::account::{Account, QuotaOverride, UserEntry};
use crate::domain::cost::LIMIT_MAX;
use crate::domain::report::Author;
use crate::domain::schedule::ResetSchedule;
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

/// How many ids one statement asks for. SQLite binds each by itself.
const IDS_A_STATEMENT: usize = 500;

type OverrideRow = (String, Option<i64>, Option<i64>, Option<i64>, Option<String>);

impl Database {
    /// Those of `users` that have an entry or an override, whether it has ended or not. Any number may be asked for.
    pub async fn load_accounts(&self, users: &[UserId]) -> Result<Vec<Account>, DbError> {
        let users = users.to_vec();
        on!(self, read, "load accounts", accounts::load(&users))
    }

    /// Sets the override of a user in the place of the one there was.
    pub async fn put_override(
        &self,
        user: &UserId,
        quota_override: &QuotaOverride,
        author: &Author,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let (user, quota_override, author) = (user.clone(), quota_override.clone(), author.clone());
        on!(self, write, "set an override", accounts::put_override(&user, &quota_override, &author, now))
    }

    /// Removes the override of a user; false where there was none.
    pub async fn delete_override(&self, user: &UserId, author: &Author, now: Timestamp) -> Result<bool, DbError> {
        let (user, author) = (user.clone(), author.clone());
        on!(self, write, "remove an override", accounts::delete_override(&user, &author, now))
    }

    /// Places a user in a tier and their windows where the schedule says, or with `None` takes them out of those. False where the
    /// tier `must_be_set` here and is not: it was removed meanwhile.
    pub async fn put_user(
        &self,
        user: &UserId,
        entry: &UserEntry,
        must_be_set: bool,
        author: &Author,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let (user, entry, author) = (user.clone(), entry.clone(), author.clone());
        on!(self, write, "set the entry of a user", accounts::put_user(&user, &entry, must_be_set, &author, now))
    }
}

fn note(action: &'static str, user: &UserId, before: Option<Value>, after: Option<Value>) -> AuditNote {
    AuditNote { action, target: format!("user:{user}"), before, after }
}

/// What was put in by hand may not be readable: then the tier's own schedule holds.
fn stored_schedule(text: &str) -> Option<ResetSchedule> {
    serde_json::from_str(text)
        .inspect_err(
            |error| tracing::warn!(table = "reset_schedules", %error, "passed over a schedule that can't be read"),
        )
        .ok()
}

fn quota_override((_, per_hour, per_day, expires_at, reason): OverrideRow) -> QuotaOverride {
    QuotaOverride {
        requests_per_hour: per_hour.map(stored_limit),
        requests_per_day: per_day.map(stored_limit),
        expires_at: expires_at.map(Timestamp::from_micros),
        reason,
    }
}

/// A constraint of the table keeps it from being negative; what an administrator puts in by hand stops at the largest limit.
fn stored_limit(units: i64) -> u64 {
    units.max(0).cast_unsigned().min(LIMIT_MAX)
}

fn limit_to_store(units: u64) -> i64 {
    units.min(LIMIT_MAX).cast_signed()
}

/// Puts what the tables say together by user. What no longer parses was put in by hand: it is skipped and told.
fn join(tiers: Vec<(String, String)>, schedules: Vec<(String, String)>, overrides: Vec<OverrideRow>) -> Vec<Account> {
    let mut accounts = BTreeMap::new();
    for (user, schedule) in schedules {
        if let (Ok(user), Some(schedule)) = (UserId::parse(&user), stored_schedule(&schedule)) {
            accounts.entry(user.clone()).or_insert_with(|| Account::unknown(user)).reset_schedule = Some(schedule);
        }
    }
    for (user, tier) in tiers {
        match (UserId::parse(&user), TierName::parse(&tier)) {
            (Ok(user), Ok(tier)) => {
                accounts.entry(user.clone()).or_insert_with(|| Account::unknown(user)).tier = Some(tier);
            }
            _ => tracing::warn!(table = "users", "skipped a row whose user id or tier is not valid"),
        }
    }
    for row in overrides {
        match UserId::parse(&row.0) {
            Ok(user) => {
                accounts.entry(user.clone()).or_insert_with(|| Account::unknown(user)).quota_override =
                    Some(quota_override(row));
            }
            Err(_) => tracing::warn!(table = "overrides", "skipped a row whose user id is not valid"),
        }
    }
    accounts.into_values().collect()
}

on_both! {
    pub(in crate::db) async fn load(connection: &mut Connection, users: &[UserId]) -> QueryResult<Vec<Account>> {
        let (mut tiers, mut schedules, mut overrides) = (Vec::new(), Vec::new(), Vec::new());
        for ids in users.chunks(IDS_A_STATEMENT) {
            let ids: Vec<&str> = ids.iter().map(UserId::as_str).collect();
            tiers.extend(
                users::table
                    .filter(users::user_id.eq_any(&ids))
                    .select((users::user_id, users::tier))
                    .load::<(String, String)>(connection)
                    .await?,
            );
            schedules.extend(
                reset_schedules::table
                    .filter(reset_schedules::user_id.eq_any(&ids))
                    .select((reset_schedules::user_id, reset_schedules::schedule))
                    .load::<(String, String)>(connection)
                    .await?,
            );
            overrides.extend(overrides_of(connection, &ids).await?);
        }
        Ok(join(tiers, schedules, overrides))
    }

    async fn overrides_of(connection: &mut Connection, ids: &[&str]) -> QueryResult<Vec<OverrideRow>> {
        overrides::table
            .filter(overrides::user_id.eq_any(ids))
            .select((
                overrides::user_id,
                overrides::requests_per_hour,
                overrides::requests_per_day,
                overrides::expires_at,
                overrides::reason,
            ))
            .load(connection)
            .await
    }

    async fn override_json_of(connection: &mut Connection, user: &UserId) -> QueryResult<Option<Value>> {
        let known = overrides_of(connection, &[user.as_str()]).await?;
        Ok(known.into_iter().next().map(|row| quota_override(row).to_json()))
    }

    pub(in crate::db) async fn put_override(
        connection: &mut Connection,
        user: &UserId,
        new: &QuotaOverride,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<()> {
        let values = (
            overrides::requests_per_hour.eq(new.requests_per_hour.map(limit_to_store)),
            overrides::requests_per_day.eq(new.requests_per_day.map(limit_to_store)),
            overrides::expires_at.eq(new.expires_at.map(Timestamp::as_micros)),
            overrides::reason.eq(new.reason.as_deref()),
            overrides::updated_at.eq(now.as_micros()),
        );
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let before = override_json_of(connection, user).await?;
                diesel::insert_into(overrides::table)
                    .values((overrides::user_id.eq(user.as_str()), values))
                    .on_conflict(overrides::user_id)
                    .do_update()
                    .set(values)
                    .execute(connection)
                    .await?;
                changes::of_user(connection, version, user, now).await?;
                let note = note("override.put", user, before, Some(new.to_json()));
                audit::write(connection, version, &note, author, now).await
            })
            .await
    }

    pub(in crate::db) async fn delete_override(
        connection: &mut Connection,
        user: &UserId,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<bool> {
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                let Some(before) = override_json_of(connection, user).await? else { return Ok(false) };
                diesel::delete(overrides::table.find(user.as_str())).execute(connection).await?;
                changes::of_user(connection, version, user, now).await?;
                let note = note("override.delete", user, Some(before), None);
                audit::write(connection, version, &note, author, now).await?;
                Ok(true)
            })
            .await
    }

    async fn entry_of(connection: &mut Connection, user: &UserId) -> QueryResult<UserEntry> {
        let tier: Option<String> =
            users::table.find(user.as_str()).select(users::tier).first(connection).await.optional()?;
        let schedule = reset_schedules::table.find(user.as_str()).select(reset_schedules::schedule);
        let schedule: Option<String> = schedule.first(connection).await.optional()?;
        Ok(UserEntry {
            tier: tier.and_then(|tier| TierName::parse(&tier).ok()),
            reset_schedule: schedule.as_deref().and_then(stored_schedule),
        })
    }

    pub(in crate::db) async fn put_user(
        connection: &mut Connection,
        user: &UserId,
        entry: &UserEntry,
        must_be_set: bool,
        author: &Author,
        now: Timestamp,
    ) -> QueryResult<bool> {
        let schedule = entry.reset_schedule.as_ref().and_then(|schedule| serde_json::to_string(schedule).ok());
        connection
            .transaction(async |connection| {
                let version = changes::begin(connection).await?;
                if let Some(tier) = entry.tier.as_ref().filter(|_| must_be_set) {
                    let set = tiers::table.find(tier.as_str()).count().get_result::<i64>(connection).await?;
                    if set == 0 {
                        return Ok(false);
                    }
                }
                let before = entry_of(connection, user).await?;
                match &entry.tier {
                    Some(tier) => {
                        let values = (users::tier.eq(tier.as_str()), users::updated_at.eq(now.as_micros()));
                        diesel::insert_into(users::table)
                            .values((users::user_id.eq(user.as_str()), values))
                            .on_conflict(users::user_id)
                            .do_update()
                            .set(values)
                            .execute(connection)
                            .await?;
                    }
                    None => {
                        diesel::delete(users::table.find(user.as_str())).execute(connection).await?;
                    }
                }
                match &schedule {
                    Some(schedule) => {
                        let at = reset_schedules::updated_at.eq(now.as_micros());
                        let values = (reset_schedules::schedule.eq(schedule), at);
                        diesel::insert_into(reset_schedules::table)
                            .values((reset_schedules::user_id.eq(user.as_str()), values))
                            .on_conflict(reset_schedules::user_id)
                            .do_update()
                            .set(values)
                            .execute(connection)
                            .await?;
                    }
                    None => {
                        diesel::delete(reset_schedules::table.find(user.as_str())).execute(connection).await?;
                    }
                }
                changes::of_user(connection, version, user, now).await?;
                let note = note("user.put", user, before.to_json(), entry.to_json());
                audit::write(connection, version, &note, author, now).await?;
                Ok(true)
            })
            .await
    }
}
