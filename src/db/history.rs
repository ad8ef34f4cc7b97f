//! What one subject used, or all of them, hour by hour or day by day.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::{Database, DbError, FLUSH_DEADLINE};
use crate::domain::listing::Page;
use crate::domain::report::{HistoryItem, HistoryRange};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::domain::usage::Usage;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    start: i64,
    #[diesel(embed)]
    sums: Sums,
}

/// The three amounts of `usage`, added up.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(super) struct Sums {
    #[diesel(sql_type = BigInt)]
    requests: i64,
    #[diesel(sql_type = BigInt)]
    cost: i64,
    #[diesel(sql_type = BigInt)]
    denied: i64,
}

impl Sums {
    /// The columns, each added up by `sum`, under the names that are read back.
    pub(super) fn columns(sum: impl Fn(&str) -> String) -> String {
        ["requests", "cost", "denied"].map(|column| format!("{} AS {column}", sum(column))).join(", ")
    }

    pub(super) fn usage(self) -> Usage {
        let amount = |stored: i64| stored.max(0).cast_unsigned();
        Usage { requests: amount(self.requests), cost: amount(self.cost), denied: amount(self.denied) }
    }
}

impl Database {
    /// The buckets of the range that the subject used anything in, in order. Where it has more of them than its limit, the
    /// next range begins at [`Page::next`].
    pub async fn history(
        &self,
        subject: &Subject,
        range: HistoryRange,
    ) -> Result<Page<HistoryItem, Timestamp>, DbError> {
        let subject = subject.to_string();
        on!(self, read, "read history", history::of(&subject, range))
    }

    /// The same of all subjects together.
    pub async fn system_history(&self, range: HistoryRange) -> Result<Page<HistoryItem, Timestamp>, DbError> {
        on!(self, read within FLUSH_DEADLINE, "read the system's history", history::of_all(range))
    }
}

/// Buckets of the rows of a table. Hours are not negative, so that dividing and multiplying rounds down on both databases.
fn buckets(table: &str, range: HistoryRange, sum: fn(&str) -> String) -> String {
    let (sums, width) = (Sums::columns(sum), range.granularity.period().as_micros());
    format!("SELECT hour / {width} * {width} AS start, {sums} FROM {table} GROUP BY 1 ORDER BY 1")
}

fn page(rows: Vec<Row>, range: HistoryRange) -> Page<HistoryItem, Timestamp> {
    let item = |row: Row| HistoryItem { start: Timestamp::from_micros(row.start), usage: row.sums.usage() };
    let items = rows.into_iter().map(item).collect();
    Page::cut(items, usize::try_from(range.limit).unwrap_or(usize::MAX), |item| {
        item.start.saturating_add(range.granularity.period())
    })
}

on_both! {
    pub(in crate::db) async fn of(
        connection: &mut Connection,
        subject: &str,
        range: HistoryRange,
    ) -> QueryResult<Page<HistoryItem, Timestamp>> {
        let text = buckets("usage WHERE subject = $1 AND hour >= $2 AND hour < $3", range, dialect::sum);
        let rows = diesel::sql_query(format!("{text} LIMIT $4"))
            .bind::<Text, _>(subject)
            .bind::<BigInt, _>(range.from.as_micros())
            .bind::<BigInt, _>(range.to.as_micros())
            .bind::<BigInt, _>(i64::from(range.limit).saturating_add(1))
            .load(connection)
            .await?;
        Ok(page(rows, range))
    }

    /// The sums as far as they go, and the rows from there on. Where that is, is read first: with one bound at either end,
    /// and none to be found by a subquery, both databases read no row that is not asked for.
    pub(in crate::db) async fn of_all(
        connection: &mut Connection,
        range: HistoryRange,
    ) -> QueryResult<Page<HistoryItem, Timestamp>> {
        connection
            .transaction(async |connection| {
                let (from, to) = (range.from.as_micros(), range.to.as_micros());
                let built = rollup::open(connection).await?.clamp(from, to.max(from));
                let columns = "SELECT hour, requests, cost, denied FROM";
                let parts = format!(
                    "({columns} rollup_hours WHERE hour >= $1 AND hour < $2 \
                     UNION ALL {columns} usage WHERE hour >= $2 AND hour < $3 \
                     UNION ALL {columns} usage_late WHERE hour >= $1 AND hour < $2) AS parts"
                );
                let rows = diesel::sql_query(format!("{} LIMIT $4", buckets(&parts, range, dialect::sum)))
                    .bind::<BigInt, _>(from)
                    .bind::<BigInt, _>(built)
                    .bind::<BigInt, _>(to)
                    .bind::<BigInt, _>(i64::from(range.limit).saturating_add(1))
                    .load(connection)
                    .await?;
                Ok(page(rows, range))
            })
            .await
    }
}
