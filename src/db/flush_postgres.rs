//! The statements of a flush on PostgreSQL. One array a column: faster than a list of rows, and never too many values.

use std::ops::Range;
use std::sync::Arc;

use diesel::QueryResult;
use diesel::result::Error as QueryError;
use diesel::sql_types::{Array, BigInt, Binary, Text};
use diesel_async::{AsyncPgConnection as Connection, RunQueryDsl, SimpleAsyncConnection};

use super::flush_rows::{CounterRow, Rows, UsageRow};

const USAGE_FROM_ARRAYS: &str = "SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6)";

const INTO_USAGE: &str = "INSERT INTO usage (subject, hour, tier, requests, cost, denied)";

const INTO_LATE: &str = "INSERT INTO usage_late (subject, hour, tier, requests, cost, denied)";

const ADD_TO_USAGE: &str = "ON CONFLICT (subject, hour, tier) DO UPDATE SET \
     requests = LEAST(usage.requests + excluded.requests, 9007199254740991), \
     cost = LEAST(usage.cost + excluded.cost, 9007199254740991), \
     denied = LEAST(usage.denied + excluded.denied, 9007199254740991)";

const COUNTERS_FROM_ARRAYS: &str = "SELECT * FROM UNNEST($1, $2, $3)";

const INTO_COUNTERS: &str = "INSERT INTO counters (subject, state, whole_at)";

const REPLACE_COUNTERS: &str =
    "ON CONFLICT (subject) DO UPDATE SET state = excluded.state, whole_at = excluded.whole_at";

const REMOVE_COUNTERS: &str = "DELETE FROM counters WHERE subject = ANY($1)";

pub(in crate::db) async fn add_usage(
    connection: &mut Connection,
    rows: Arc<[UsageRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    insert_usage(
        connection,
        rows.get(piece).unwrap_or_default(),
        format!("{INTO_USAGE} {USAGE_FROM_ARRAYS} {ADD_TO_USAGE}"),
    )
    .await
}

/// Keeps what the sums over `usage` may have left out; see [`super::rollup`].
pub(in crate::db) async fn keep_late(
    connection: &mut Connection,
    rows: Arc<[UsageRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    insert_usage(connection, rows.get(piece).unwrap_or_default(), format!("{INTO_LATE} {USAGE_FROM_ARRAYS}")).await
}

async fn insert_usage(connection: &mut Connection, rows: &[UsageRow], statement: String) -> QueryResult<()> {
    diesel::sql_query(statement)
        .bind::<Array<Text>, _>(column(rows, |row| row.subject.as_str()))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.hour))
        .bind::<Array<Text>, _>(column(rows, |row| row.tier.as_str()))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.requests))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.cost))
        .bind::<Array<BigInt>, _>(column(rows, |row| row.denied))
        .execute(connection)
        .await
        .map(|_| ())
}

pub(in crate::db) async fn put_counters(
    connection: &mut Connection,
    rows: Arc<[CounterRow]>,
    piece: Range<usize>,
) -> QueryResult<()> {
    let (mut subjects, mut states, mut whole_at, mut removed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows.get(piece).unwrap_or_default() {
        match &row.kept {
            Some((state, end)) => {
                subjects.push(row.subject.as_str());
                states.push(state.as_slice());
                whole_at.push(*end);
            }
            None => removed.push(row.subject.as_str()),
        }
    }
    if !subjects.is_empty() {
        diesel::sql_query(format!("{INTO_COUNTERS} {COUNTERS_FROM_ARRAYS} {REPLACE_COUNTERS}"))
            .bind::<Array<Text>, _>(subjects)
            .bind::<Array<Binary>, _>(states)
            .bind::<Array<BigInt>, _>(whole_at)
            .execute(connection)
            .await?;
    }
    if !removed.is_empty() {
        diesel::sql_query(REMOVE_COUNTERS).bind::<Array<Text>, _>(removed).execute(connection).await?;
    }
    Ok(())
}

/// Adds the rows again, in a way that tells whose fault a failure is.
///
/// The driver's error carries a SQLSTATE, but Diesel hands on only a few of them. So the server itself is asked to tell them
/// apart: bad values (class 22), constraints (class 23, 44000) and what a trigger raises (P0001) come back as a violated
/// check, and anything else (a deadlock, a full disk, a lock not had in time, a shutdown) as it is.
pub(in crate::db) async fn find_fault(
    connection: &mut Connection,
    rows: &Rows,
    piece: Range<usize>,
    _error: QueryError,
) -> QueryResult<()> {
    let statements = match rows {
        Rows::Usage(rows) => usage_in_words(rows.get(piece).unwrap_or_default()),
        Rows::Counters(rows) => counters_in_words(rows.get(piece).unwrap_or_default()),
    };
    let block = format!(
        "DO $quotad$ BEGIN {statements} EXCEPTION \
         WHEN data_exception OR integrity_constraint_violation OR with_check_option_violation OR raise_exception THEN \
         RAISE check_violation USING MESSAGE = SQLERRM; END $quotad$"
    );
    connection.batch_execute(&block).await
}

fn usage_in_words(rows: &[UsageRow]) -> String {
    let row = |row: &UsageRow| {
        let UsageRow { subject, hour, tier, requests, cost, denied } = row;
        format!("({}, {hour}, {}, {requests}, {cost}, {denied})", text(subject), text(tier.as_str()))
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    format!("{INTO_USAGE} VALUES {} {ADD_TO_USAGE};", rows.join(", "))
}

fn counters_in_words(rows: &[CounterRow]) -> String {
    let statement = |row: &CounterRow| match &row.kept {
        Some((state, whole_at)) => {
            let values = format!("({}, decode('{}', 'hex'), {whole_at})", text(&row.subject), hex::encode(state));
            format!("{INTO_COUNTERS} VALUES {values} {REPLACE_COUNTERS};")
        }
        None => format!("DELETE FROM counters WHERE subject = {};", text(&row.subject)),
    };
    rows.iter().map(statement).collect()
}

/// A text, in digits alone: nothing in it can end the statement.
fn text(value: &str) -> String {
    format!("convert_from(decode('{}', 'hex'), 'UTF8')", hex::encode(value))
}

fn column<'rows, T>(rows: &'rows [UsageRow], of: impl Fn(&'rows UsageRow) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
