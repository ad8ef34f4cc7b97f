//! What one subject used, hour by hour or day by day, from the table `usage`.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::{Database, DbError};
use crate::domain::report::{Granularity, HistoryItem};
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
    /// The buckets from `from` until before `to` that the subject used anything in, in order.
    ///
    /// A bucket counts where the hours in it do: `from` in the middle of a day leaves out that day's earlier hours.
    pub async fn history(
        &self,
        subject: &Subject,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<HistoryItem>, DbError> {
        let subject = subject.to_string();
        on!(self, read, "read history", history::of(&subject, granularity, from, to))
    }
}

on_both! {
    pub(in crate::db) async fn of(
        connection: &mut Connection,
        subject: &str,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> QueryResult<Vec<HistoryItem>> {
        let sums = Sums::columns(dialect::sum);
        let width = granularity.period().as_micros();
        // Hours are not negative, so that dividing and multiplying rounds down on both databases.
        let text = format!(
            "SELECT hour / {width} * {width} AS start, {sums} FROM usage \
             WHERE subject = $1 AND hour >= $2 AND hour < $3 GROUP BY 1 ORDER BY 1"
        );
        let rows: Vec<Row> = diesel::sql_query(text)
            .bind::<Text, _>(subject)
            .bind::<BigInt, _>(from.as_micros())
            .bind::<BigInt, _>(to.as_micros())
            .load(connection)
            .await?;
        let item = |row: Row| HistoryItem { start: Timestamp::from_micros(row.start), usage: row.sums.usage() };
        Ok(rows.into_iter().map(item).collect())
    }
}
