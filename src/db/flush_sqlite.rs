//! The statements of a flush on SQLite: many rows in one statement, on the thread that may block.

use std::ops::Range;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::BigInt;
use diesel::upsert::excluded;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

use super::flush::{CounterRow, Rows, UsageRow};
use super::schema::{counters, usage, usage_late};
use crate::domain::cost::COUNT_MAX;

type Connection = SyncConnectionWrapper<SqliteConnection>;

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

#[diesel::declare_sql_function]
extern "SQL" {
    #[sql_name = "MIN"]
    fn smaller(a: BigInt, b: BigInt) -> BigInt;
}

#[allow(clippy::arithmetic_side_effects, reason = "the database adds")]
pub(in crate::db) async fn add_usage(
    connection: &mut Connection,
    rows: Arc<[UsageRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    const MOST: i64 = COUNT_MAX.cast_signed();
    connection
        .spawn_blocking(move |connection| {
            diesel::insert_into(usage::table)
                .values(rows.get(piece).unwrap_or_default())
                .on_conflict((usage::subject, usage::hour, usage::tier))
                .do_update()
                .set((
                    usage::requests.eq(smaller(usage::requests + excluded(usage::requests), MOST)),
                    usage::cost.eq(smaller(usage::cost + excluded(usage::cost), MOST)),
                    usage::denied.eq(smaller(usage::denied + excluded(usage::denied), MOST)),
                ))
                .execute(connection)
                .map(|_| ())
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
        Self { subject, hour: *hour, tier, requests: *requests, cost: *cost, denied: *denied }
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

#[derive(Insertable)]
#[diesel(table_name = counters, treat_none_as_default_value = false)]
struct KeptRow<'row> {
    subject: &'row str,
    state: &'row [u8],
    whole_at: i64,
}

pub(in crate::db) async fn put_counters(
    connection: &mut Connection,
    rows: Arc<[CounterRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    connection
        .spawn_blocking(move |connection| {
            let (mut kept, mut removed) = (Vec::new(), Vec::new());
            for CounterRow { subject, kept: state } in rows.get(piece).unwrap_or_default() {
                match state {
                    Some((state, whole_at)) => kept.push(KeptRow { subject, state, whole_at: *whole_at }),
                    None => removed.push(subject),
                }
            }
            if !kept.is_empty() {
                diesel::insert_into(counters::table)
                    .values(&kept)
                    .on_conflict(counters::subject)
                    .do_update()
                    .set((
                        counters::state.eq(excluded(counters::state)),
                        counters::whole_at.eq(excluded(counters::whole_at)),
                    ))
                    .execute(connection)?;
            }
            if !removed.is_empty() {
                diesel::delete(counters::table.filter(counters::subject.eq_any(removed))).execute(connection)?;
            }
            Ok(())
        })
        .await
}
