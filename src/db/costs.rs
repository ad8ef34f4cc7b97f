//! What each subject was charged from an hour on, from the table `usage`.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::{Database, DbError, FLUSH_DEADLINE};
use crate::domain::subject::Subject;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    tier: String,
    #[diesel(sql_type = BigInt)]
    cost: i64,
}

impl Database {
    /// Who was charged anything in the hours from `hour` on, under which tier, and how many units.
    pub async fn costs_since(&self, hour: Timestamp) -> Result<Vec<(Subject, TierName, u64)>, DbError> {
        on!(self, read within FLUSH_DEADLINE, "read what was charged", costs::since(hour))
    }
}

impl Row {
    /// `None` for the rows that stand for what could not be kept apart.
    fn read(self) -> Option<(Subject, TierName, u64)> {
        let (subject, tier) = (Subject::parse(&self.subject).ok()?, TierName::parse(&self.tier).ok()?);
        Some((subject, tier, self.cost.max(0).cast_unsigned()))
    }
}

on_both! {
    pub(in crate::db) async fn since(
        connection: &mut Connection,
        hour: Timestamp,
    ) -> QueryResult<Vec<(Subject, TierName, u64)>> {
        let cost = dialect::sum("cost");
        let rows: Vec<Row> = diesel::sql_query(format!(
            "SELECT subject, tier, {cost} AS cost FROM usage WHERE hour >= $1 AND cost > 0 GROUP BY subject, tier"
        ))
        .bind::<BigInt, _>(hour.as_micros())
        .load(connection)
        .await?;
        Ok(rows.into_iter().filter_map(Row::read).collect())
    }
}
