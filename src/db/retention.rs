//! Removing what is too old to be asked for.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

use super::changes::VERSIONS_KEPT;
use super::schema::change_clock;
use super::{Database, DbError};
use crate::domain::time::{Period, Timestamp};

/// Rows of one statement: it holds the write lock of SQLite, and row locks of PostgreSQL, for a moment only.
const ROWS_A_STATEMENT: i64 = 10_000;

/// The cursor of an instance that is gone. While it lives it flushes far more often than this.
const CURSOR_KEPT: Period = Period::from_seconds(30 * 86_400);

const REMOVE_USAGE: &str = "DELETE FROM usage WHERE (subject, hour, tier) IN \
     (SELECT subject, hour, tier FROM usage WHERE hour < $1 ORDER BY hour LIMIT $2)";

const REMOVE_ROLLUPS: &str = "DELETE FROM rollup_hours WHERE hour < $1 AND hour IN \
     (SELECT hour FROM rollup_hours WHERE hour < $1 ORDER BY hour LIMIT $2)";

/// What is whole by now may have been charged again meanwhile: it is looked at once more when it is removed.
const REMOVE_COUNTERS: &str = "DELETE FROM counters WHERE whole_at <= $1 AND subject IN \
     (SELECT subject FROM counters WHERE whole_at <= $1 LIMIT $2)";

const REMOVE_CURSORS: &str = "DELETE FROM flush_cursor WHERE applied_at < $1 AND instance IN \
     (SELECT instance FROM flush_cursor WHERE applied_at < $1 LIMIT $2)";

const REMOVE_WEBHOOKS: &str = "DELETE FROM webhook_events WHERE id IN \
     (SELECT id FROM webhook_events WHERE state <> 'pending' AND kept_until < $1 LIMIT $2)";

const REMOVE_CHANGES: &str = "DELETE FROM changes WHERE version IN \
     (SELECT version FROM changes WHERE version <= $1 LIMIT $2)";

impl Database {
    /// Removes usage of the hours before `hour`, a piece at a time, and says how many rows there were.
    pub async fn remove_usage_before(&self, hour: Timestamp) -> Result<u64, DbError> {
        self.remove_by_pieces(REMOVE_ROLLUPS, hour.as_micros()).await?;
        self.remove_by_pieces(REMOVE_USAGE, hour.as_micros()).await
    }

    /// Removes counters that are whole again, cursors of instances long gone, webhook events that were settled some days ago,
    /// and changes that everybody has seen.
    pub async fn remove_leftovers(&self, now: Timestamp) -> Result<(), DbError> {
        self.remove_by_pieces(REMOVE_COUNTERS, now.as_micros()).await?;
        let gone = now.as_micros().saturating_sub(CURSOR_KEPT.as_micros());
        self.remove_by_pieces(REMOVE_CURSORS, gone).await?;
        self.remove_by_pieces(REMOVE_WEBHOOKS, now.as_micros()).await?;
        let newest = on!(self, read, "read what changed", retention::newest_version())?;
        self.remove_by_pieces(REMOVE_CHANGES, newest.saturating_sub(VERSIONS_KEPT)).await?;
        Ok(())
    }

    async fn remove_by_pieces(&self, statement: &'static str, below: i64) -> Result<u64, DbError> {
        let mut removed = 0_u64;
        loop {
            let rows = on!(self, write, "remove what is too old", retention::remove_piece(statement, below))?;
            removed = removed.saturating_add(rows);
            if rows < ROWS_A_STATEMENT.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

on_both! {
    pub(in crate::db) async fn remove_piece(
        connection: &mut Connection,
        statement: &str,
        below: i64,
    ) -> QueryResult<u64> {
        let removed = diesel::sql_query(statement)
            .bind::<BigInt, _>(below)
            .bind::<BigInt, _>(ROWS_A_STATEMENT)
            .execute(connection)
            .await?;
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }

    pub(in crate::db) async fn newest_version(connection: &mut Connection) -> QueryResult<i64> {
        change_clock::table.select(change_clock::version).first(connection).await
    }
}
