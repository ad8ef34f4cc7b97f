//! Statements about usage and counters that both databases share. Compiled, like its neighbour, once for each kind of connection.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::super::rows::{BucketRow, CountRow, SubjectRow, TierRow, amount};
use super::super::schema::{changes, counters, flush_cursor, usage};
use super::super::state;
use super::Connection;
use crate::domain::report::{Granularity, HistoryItem, Totals, UsageReport};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// Marks of changes and of flushes are of no use to anyone after a day.
const MARKS_KEPT_MICROS: i64 = 86_400_000_000;

const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;

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
