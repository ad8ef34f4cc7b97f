//! The statements of a flush on SQLite: prepared once, run for each row, on the thread that may block.

use std::ops::Range;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::flush_rows::{CounterRow, Rows, UsageRow};
use super::schema::{counters, usage_late};

type Connection = SyncConnectionWrapper<SqliteConnection>;

/// After so many rows, some 200 µs, whatever else waits for the core is let on it. Niceness alone does not do that: a kernel leaves
/// even a nice thread on its core for some milliseconds before another that wakes may have it.
const ROWS_AT_A_TIME: usize = 64;

/// What SQLite says where the rows are not at fault: the file, the disk, memory, another process, the tables. Its words are
/// part of its source and never translated. After some of these it has undone the whole transaction by itself.
const NOT_THE_ROWS: [&str; 17] = [
    "is locked",
    "disk is full",
    "disk I/O error",
    "readonly database",
    "out of memory",
    "disk image is malformed",
    "unable to open database file",
    "interrupted",
    "locking protocol",
    "file is not a database",
    "schema has changed",
    "no such table",
    "no such column",
    "has no column named",
    "API misuse",
    "no transaction is active",
    "SQL logic error",
];

/// Tells by what SQLite said whose fault an error is.
pub(in crate::db) async fn find_fault(
    _connection: &mut Connection,
    _rows: &Rows,
    _piece: Range<usize>,
    error: QueryError,
) -> QueryResult<()> {
    Err(match error {
        QueryError::DatabaseError(_, said) if !NOT_THE_ROWS.iter().any(|text| said.message().contains(text)) => {
            QueryError::DatabaseError(DatabaseErrorKind::CheckViolation, said)
        }
        error => error,
    })
}

/// `INSERT ... ON CONFLICT DO UPDATE` of one row. Diesel makes one of its own anew for each row; this one stays prepared, which
/// is twice as fast as many rows in one statement.
struct AddUsage<'row>(&'row UsageRow);

impl QueryId for AddUsage<'_> {
    type QueryId = AddUsage<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Sqlite> for AddUsage<'_> {
    fn walk_ast<'row>(&'row self, mut out: AstPass<'_, 'row, Sqlite>) -> QueryResult<()> {
        let row = self.0;
        out.push_sql("INSERT INTO usage (subject, hour, tier, requests, cost, denied) VALUES (");
        out.push_bind_param::<Text, _>(row.subject.as_str())?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&row.hour)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(row.tier.as_str())?;
        for amount in [&row.requests, &row.cost, &row.denied] {
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(amount)?;
        }
        out.push_sql(
            ") ON CONFLICT (hour, subject, tier) DO UPDATE SET \
             requests = MIN(requests + excluded.requests, 9007199254740991), \
             cost = MIN(cost + excluded.cost, 9007199254740991), \
             denied = MIN(denied + excluded.denied, 9007199254740991)",
        );
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for AddUsage<'_> {}

pub(in crate::db) async fn add_usage(
    connection: &mut Connection,
    rows: Arc<[UsageRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    connection
        .spawn_blocking(move |connection| {
            for rows in rows.get(piece).unwrap_or_default().chunks(ROWS_AT_A_TIME) {
                for row in rows {
                    AddUsage(row).execute(connection)?;
                }
                std::thread::yield_now();
            }
            Ok(())
        })
        .await
}

#[derive(Insertable)]
#[diesel(table_name = usage_late, treat_none_as_default_value = false)]
struct LateRow<'row> {
    subject: &'row str,
    hour: i64,
    tier: &'row str,
    requests: i64,
    cost: i64,
    denied: i64,
}

impl<'row> LateRow<'row> {
    fn of(UsageRow { subject, hour, tier, requests, cost, denied }: &'row UsageRow) -> Self {
        Self { subject, hour: *hour, tier: tier.as_str(), requests: *requests, cost: *cost, denied: *denied }
    }
}

/// Keeps what the sums over `usage` may have left out; see [`super::rollup`].
pub(in crate::db) async fn keep_late(
    connection: &mut Connection,
    rows: Arc<[UsageRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    connection
        .spawn_blocking(move |connection| {
            let rows: Vec<LateRow<'_>> = rows.get(piece).unwrap_or_default().iter().map(LateRow::of).collect();
            diesel::insert_into(usage_late::table).values(&rows).execute(connection).map(|_| ())
        })
        .await
}

/// As [`AddUsage`]; a row takes the place of the one before it.
struct PutCounters<'row> {
    subject: &'row str,
    state: &'row [u8],
    whole_at: i64,
}

impl QueryId for PutCounters<'_> {
    type QueryId = PutCounters<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Sqlite> for PutCounters<'_> {
    fn walk_ast<'row>(&'row self, mut out: AstPass<'_, 'row, Sqlite>) -> QueryResult<()> {
        out.push_sql("INSERT INTO counters (subject, state, whole_at) VALUES (");
        out.push_bind_param::<Text, _>(self.subject)?;
        out.push_sql(", ");
        out.push_bind_param::<Binary, _>(self.state)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.whole_at)?;
        out.push_sql(") ON CONFLICT (subject) DO UPDATE SET state = excluded.state, whole_at = excluded.whole_at");
        Ok(())
    }
}

impl RunQueryDsl<SqliteConnection> for PutCounters<'_> {}

pub(in crate::db) async fn put_counters(
    connection: &mut Connection,
    rows: Arc<[CounterRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    connection
        .spawn_blocking(move |connection| {
            let mut removed = Vec::new();
            for rows in rows.get(piece).unwrap_or_default().chunks(ROWS_AT_A_TIME) {
                for CounterRow { subject, kept } in rows {
                    match kept {
                        Some((state, whole_at)) => {
                            PutCounters { subject, state, whole_at: *whole_at }.execute(connection)?;
                        }
                        None => removed.push(subject.as_str()),
                    }
                }
                std::thread::yield_now();
            }
            if !removed.is_empty() {
                diesel::delete(counters::table.filter(counters::subject.eq_any(removed))).execute(connection)?;
            }
            Ok(())
        })
        .await
}
