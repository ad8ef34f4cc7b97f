//! Sums over the table `usage`, made hour by hour, so that a report over 30 days need not add up millions of rows.
//!
//! The migration `rollups` says how they, the mark they go to, and what is flushed behind it fit together.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use super::history::Sums;
use super::schema::rollup_marks;
use super::{Database, DbError};
use crate::domain::time::{DAY_MICROS, Timestamp};

/// How long one step may take. On PostgreSQL nobody waits for it; on SQLite flushes do.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

/// Sums that are far behind catch up by so many days in a step: no transaction then reads much more than a report's span.
const DAYS_A_STEP: i64 = 31;

/// The days before today that the longer span has.
pub(super) const DAYS_BEFORE: i64 = 29;

pub(super) const DAY: &str = "day";
pub(super) const THIRTY_DAYS: &str = "30d";

/// `user:` and `ip:` alone stand for many: they are added up, and never listed or counted.
const KIND: &str = "CASE WHEN subject IN ('user:', 'ip:') THEN '' \
     WHEN substr(subject, 1, 5) = 'user:' THEN 'user' ELSE 'ip' END";

const MARK_COVERS: &str = "UPDATE rollup_marks SET hour = $1 WHERE name = 'covers' AND hour < $1";
const MARK_BUILT: &str = "UPDATE rollup_marks SET hour = $1 WHERE name = 'built' AND hour = $2";

#[derive(QueryableByName)]
struct Oldest {
    #[diesel(sql_type = Nullable<BigInt>)]
    hour: Option<i64>,
}

/// How a database writes what the two write differently.
#[derive(Clone, Copy)]
struct Words {
    sum: fn(&str) -> String,
    least: &'static str,
}

/// The hours that a step adds to the sums, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// How far the sums go before it.
    built: i64,
    until: i64,
}

impl Step {
    /// `None` where the sums go as far already. `oldest` is the first hour with usage.
    fn next(built: i64, until: i64, oldest: Option<i64>) -> Option<Self> {
        let from = built.max(oldest.unwrap_or(until)).min(until);
        let until = until.min(from.saturating_add(DAYS_A_STEP.saturating_mul(DAY_MICROS)));
        (built < until).then_some(Self { built, until })
    }

    /// The spans, with where each begins.
    fn spans(self) -> [(&'static str, i64); 2] {
        let today = midnight(self.until);
        [(DAY, today), (THIRTY_DAYS, today.saturating_sub(DAYS_BEFORE.saturating_mul(DAY_MICROS)))]
    }

    /// The statements, in one text. Nothing but numbers and words of this file is put into it.
    fn script(self, words: Words) -> String {
        let Self { built, until } = self;
        let sums = Sums::columns(words.sum);
        let anew = midnight(built) != midnight(until);
        // Made anew, the sums need nothing of what came late: it is in `usage` too.
        let added = |begin: i64| {
            let columns = "SELECT subject, hour, tier, requests, cost, denied FROM";
            let on_time =
                format!("{columns} usage WHERE hour >= {} AND hour < {until}", if anew { begin } else { built });
            if anew {
                return on_time;
            }
            format!("{on_time} UNION ALL {columns} usage_late WHERE hour >= {begin} AND hour < {built}")
        };
        let add = ["requests", "cost", "denied"];
        let add = |table: &str| {
            add.map(|name| format!("{name} = {}({table}.{name} + excluded.{name}, 9007199254740991)", words.least))
                .join(", ")
        };
        let mut script = String::new();
        let [_, (_, thirty_days)] = self.spans();
        // Hours before the longer span are added to and never made anew: there may be years of them.
        let hours = if anew { built.min(thirty_days) } else { built };
        if anew {
            script += &format!("DELETE FROM rollup_subjects; DELETE FROM rollup_hours WHERE hour >= {hours}; ");
        }
        script += &format!(
            "INSERT INTO rollup_hours (hour, tier, requests, cost, denied) \
             WITH added AS MATERIALIZED ( \
               SELECT hour, tier, requests, cost, denied FROM usage WHERE hour >= {hours} AND hour < {until} \
               UNION ALL SELECT hour, tier, requests, cost, denied FROM usage_late WHERE hour < {hours} ) \
             SELECT hour, tier, {sums} FROM added WHERE true GROUP BY hour, tier \
             ON CONFLICT (hour, tier) DO UPDATE SET {}; ",
            add("rollup_hours")
        );
        for (span, begin) in self.spans() {
            script += &format!(
                "INSERT INTO rollup_subjects (span, kind, subject, tier, requests, cost, denied) \
                 WITH added AS MATERIALIZED ({}) \
                 SELECT '{span}', {KIND}, subject, tier, {sums} FROM added GROUP BY subject, tier \
                 UNION ALL SELECT '{span}', {KIND}, subject, '', {sums} FROM added WHERE true GROUP BY subject \
                 ON CONFLICT (span, subject, tier) DO UPDATE SET {}; ",
                added(begin),
                add("rollup_subjects"),
            );
        }
        script += &format!(
            "DELETE FROM usage_late WHERE hour < {until}; \
             DELETE FROM rollup_tiers; \
             INSERT INTO rollup_tiers (span, tier, requests, cost, denied, subjects) \
             SELECT span, tier, {sums}, \
               COUNT(CASE WHEN kind = 'user' OR (kind = 'ip' AND tier <> '') THEN 1 END) \
             FROM rollup_subjects GROUP BY span, tier"
        );
        script
    }
}

impl Database {
    /// Brings the sums up to `until`, the start of an hour, unless they go as far already.
    pub async fn roll_up(&self, until: Timestamp) -> Result<(), DbError> {
        let until = until.start_of_hour().as_micros();
        on!(self, write, "cover usage", rollup::cover(until))?;
        // A step ends where another instance has taken it, too.
        while on!(self, write within DEADLINE, "roll up usage", rollup::step(until))? {}
        Ok(())
    }
}

pub(super) const fn midnight(hour: i64) -> i64 {
    hour.div_euclid(DAY_MICROS).saturating_mul(DAY_MICROS)
}

on_both! {
    /// From its commit on, whatever is flushed into the hours before `until` is kept in `usage_late` too. It waits
    /// for the flushes that are under way, and nothing waits for it.
    pub(in crate::db) async fn cover(connection: &mut Connection, until: i64) -> QueryResult<()> {
        diesel::sql_query(MARK_COVERS).bind::<BigInt, _>(until).execute(connection).await.map(|_| ())
    }

    /// The hour that flushes into what is before it must keep in `usage_late` too. It holds until the transaction ends.
    pub(in crate::db) async fn covers(connection: &mut Connection) -> QueryResult<i64> {
        #[derive(QueryableByName)]
        struct Mark {
            #[diesel(sql_type = BigInt)]
            hour: i64,
        }
        let text = format!("SELECT hour FROM rollup_marks WHERE name = 'covers' {}", dialect::HELD);
        diesel::sql_query(text).get_result(connection).await.map(|mark: Mark| mark.hour)
    }

    /// First in a transaction that reads the sums and the rows behind them, of one moment. How far the sums go.
    pub(in crate::db) async fn open(connection: &mut Connection) -> QueryResult<i64> {
        connection.batch_execute(dialect::ONE_MOMENT).await?;
        connection.batch_execute(dialect::BY_INDEX).await?;
        built(connection).await
    }

    async fn built(connection: &mut Connection) -> QueryResult<i64> {
        rollup_marks::table.find("built").select(rollup_marks::hour).first(connection).await
    }

    /// One step, of one moment's state. False where there is none left.
    pub(in crate::db) async fn step(connection: &mut Connection, until: i64) -> QueryResult<bool> {
        let taken = connection
            .transaction(async |connection| {
                connection.batch_execute(dialect::ONE_MOMENT).await?;
                let built = built(connection).await?;
                let oldest: Oldest = diesel::sql_query("SELECT MIN(hour) AS hour FROM usage").get_result(connection).await?;
                let Some(step) = Step::next(built, until, oldest.hour) else { return Ok(false) };
                let marked = diesel::sql_query(MARK_BUILT)
                    .bind::<BigInt, _>(step.until)
                    .bind::<BigInt, _>(step.built)
                    .execute(connection)
                    .await?;
                if marked == 0 {
                    return Ok(false);
                }
                let words = Words { sum: dialect::sum, least: dialect::LEAST };
                connection.batch_execute(&step.script(words)).await?;
                connection.batch_execute(dialect::ROLLED_UP).await?;
                Ok(true)
            })
            .await;
        match taken {
            // Another instance is at the same step.
            Err(diesel::result::Error::DatabaseError(diesel::result::DatabaseErrorKind::SerializationFailure, _)) => {
                Ok(false)
            }
            taken => taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_far_behind_catch_up_a_month_at_a_time() {
        let day = |number: i64| number * DAY_MICROS;
        assert_eq!(Step::next(0, day(100), None), Some(Step { built: 0, until: day(100) }));
        assert_eq!(Step::next(0, day(100), Some(day(10))), Some(Step { built: 0, until: day(41) }));
        assert_eq!(Step::next(day(41), day(100), Some(day(10))), Some(Step { built: day(41), until: day(72) }));
        assert_eq!(Step::next(day(99), day(100), Some(day(10))), Some(Step { built: day(99), until: day(100) }));
        assert_eq!(Step::next(day(100), day(100), Some(day(10))), None);
        assert_eq!(Step::next(day(101), day(100), None), None);
    }
}
