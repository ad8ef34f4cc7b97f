//! The tables `change_clock` and `changes`: in what order accounts and keys were changed.
//!
//! A change begins with [`begin`](sqlite::begin), which puts it in its place behind all others until it is committed.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::schema::{change_clock, changes as changes_table};
use super::{Database, DbError};
use crate::domain::subject::UserId;
use crate::domain::time::Timestamp;

/// How many versions `changes` goes back. Who is further behind loads everything anew.
pub(super) const VERSIONS_KEPT: i64 = 100_000;

/// More users than this are not worth naming.
const USERS_TOLD: i64 = 10_000;

const KIND_USER: &str = "user";
const KIND_KEYS: &str = "keys";
const KIND_POLICY: &str = "policy";

/// What changed since a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The newest version: what to ask from next time.
    pub version: i64,
    /// Whose tier, override or schedule changed, each once.
    pub users: Vec<UserId>,
    /// API keys were made or revoked.
    pub keys: bool,
    /// Tiers or endpoint costs were set or removed.
    pub policy: bool,
    /// Too much to tell apart: whatever is held is stale. The other fields say nothing then.
    pub everything: bool,
}

impl Database {
    /// What changed after `version`, 0 being the beginning. Costs one small query where nothing did.
    pub async fn changes_since(&self, version: i64) -> Result<Changes, DbError> {
        on!(self, read, "read what changed", changes::since(version))
    }
}

impl Changes {
    fn read(version: i64, rows: Vec<(String, Option<String>)>) -> Self {
        let mut told = Changes { version, ..Changes::default() };
        for (kind, user) in rows {
            match (kind.as_str(), user.as_deref().map(UserId::parse)) {
                (KIND_USER, Some(Ok(user))) => told.users.push(user),
                (KIND_KEYS, None) => told.keys = true,
                (KIND_POLICY, None) => told.policy = true,
                // A newer binary writes a kind that this one does not know.
                _ => told.everything = true,
            }
        }
        told
    }
}

on_both! {
    #[allow(clippy::arithmetic_side_effects, reason = "the database adds")]
    /// Takes the number of a change, and with it the lock that keeps all later ones waiting until it is committed.
    pub(in crate::db) async fn begin(connection: &mut Connection) -> QueryResult<i64> {
        diesel::update(change_clock::table)
            .set(change_clock::version.eq(change_clock::version + 1))
            .execute(connection)
            .await?;
        change_clock::table.select(change_clock::version).first(connection).await
    }

    pub(in crate::db) async fn of_user(
        connection: &mut Connection,
        version: i64,
        user: &UserId,
        now: Timestamp,
    ) -> QueryResult<()> {
        tell(connection, version, KIND_USER, Some(user.as_str()), now).await
    }

    pub(in crate::db) async fn of_keys(connection: &mut Connection, version: i64, now: Timestamp) -> QueryResult<()> {
        tell(connection, version, KIND_KEYS, None, now).await
    }

    pub(in crate::db) async fn of_policy(connection: &mut Connection, version: i64, now: Timestamp) -> QueryResult<()> {
        tell(connection, version, KIND_POLICY, None, now).await
    }

    async fn tell(
        connection: &mut Connection,
        version: i64,
        kind: &str,
        user: Option<&str>,
        now: Timestamp,
    ) -> QueryResult<()> {
        diesel::insert_into(changes_table::table)
            .values((
                changes_table::version.eq(version),
                changes_table::kind.eq(kind),
                changes_table::user_id.eq(user),
                changes_table::at.eq(now.as_micros()),
            ))
            .execute(connection)
            .await
            .map(|_| ())
    }

    pub(in crate::db) async fn since(connection: &mut Connection, version: i64) -> QueryResult<Changes> {
        let newest: i64 = change_clock::table.select(change_clock::version).first(connection).await?;
        if newest == version {
            return Ok(Changes { version, ..Changes::default() });
        }
        let everything = Changes { version: newest, everything: true, ..Changes::default() };
        // A version from the future was read before the database was restored from a backup.
        if version > newest || newest.saturating_sub(version) > VERSIONS_KEPT {
            return Ok(everything);
        }
        // The two statements may see different commits: what came after `newest` is told next time.
        let rows: Vec<(String, Option<String>)> = changes_table::table
            .filter(changes_table::version.gt(version).and(changes_table::version.le(newest)))
            .select((changes_table::kind, changes_table::user_id))
            .distinct()
            .limit(USERS_TOLD + 3)
            .load(connection)
            .await?;
        let told = Changes::read(newest, rows);
        Ok(if i64::try_from(told.users.len()).is_ok_and(|users| users <= USERS_TOLD) { told } else { everything })
    }
}
