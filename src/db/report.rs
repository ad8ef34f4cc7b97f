//! What everybody used together, from the table `usage`.

use std::collections::HashMap;

use diesel::dsl::max;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::RunQueryDsl;

use super::flush::SubjectKind;
use super::history::Sums;
use super::schema::usage;
use super::{Database, DbError, FLUSH_DEADLINE};
use crate::domain::report::{ReportTotals, UsageReport};
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::domain::time::Timestamp;
use crate::domain::usage::Usage;

/// Subjects of their own, without the two that stand for what could not be kept apart.
const SUBJECTS: &str = "COUNT(DISTINCT CASE WHEN subject NOT IN ('user:', 'ip:') THEN subject END)";
const USERS: &str = "COUNT(DISTINCT CASE WHEN substr(subject, 1, 5) = 'user:' AND subject <> 'user:' THEN subject END)";

#[derive(QueryableByName)]
struct TotalsRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    subjects: i64,
    #[diesel(embed)]
    sums: Sums,
}

#[derive(QueryableByName)]
struct TopRow {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(embed)]
    sums: Sums,
}

impl TotalsRow {
    fn totals(&self) -> ReportTotals {
        ReportTotals { usage: self.sums.usage(), active_users: self.subjects.max(0).cast_unsigned() }
    }
}

impl TopRow {
    fn of_kind(self, kind: SubjectKind) -> (String, Usage) {
        let id = self.subject.strip_prefix(kind.prefix()).unwrap_or(&self.subject);
        (id.to_owned(), self.sums.usage())
    }
}

impl Database {
    /// Usage in the hours from `since` on, with the `top` users and addresses. `since` in the middle of an hour counts from
    /// the next one.
    pub async fn usage_report(&self, since: Timestamp, top: u32) -> Result<UsageReport, DbError> {
        on!(self, read within FLUSH_DEADLINE, "read the usage report", report::since(since, top))
    }
}

/// Puts the rows together. What no longer parses was put in by hand: it is skipped and told.
fn assemble(
    start: Timestamp,
    totals: ReportTotals,
    tiers: &[TotalsRow],
    users: Vec<(String, Usage, Option<String>)>,
    top_ips: Vec<(String, Usage)>,
) -> UsageReport {
    let tier = |row: &TotalsRow| Some((TierName::parse(&row.name).ok()?, row.totals()));
    let user = |(id, usage, tier): (String, Usage, Option<String>)| {
        Some((UserId::parse(&id).ok()?, TierName::parse(&tier?).ok()?, usage))
    };
    let stored = tiers.len().saturating_add(users.len());
    let tiers: Vec<_> = tiers.iter().filter_map(tier).collect();
    let top_users: Vec<_> = users.into_iter().filter_map(user).collect();
    let read = tiers.len().saturating_add(top_users.len());
    if read < stored {
        tracing::warn!(
            table = "usage",
            rows = stored.saturating_sub(read),
            "skipped usage whose user id or tier is not valid"
        );
    }
    UsageReport { start, totals, tiers, top_users, top_ips }
}

on_both! {
    pub(in crate::db) async fn since(
        connection: &mut Connection,
        start: Timestamp,
        limit: u32,
    ) -> QueryResult<UsageReport> {
        let totals = totals(connection, "''", USERS, "", start).await?;
        let totals = totals.into_iter().next().map_or_else(ReportTotals::default, |row| row.totals());
        let tiers = self::totals(connection, "tier", SUBJECTS, "GROUP BY tier ORDER BY tier", start).await?;
        let users = top(connection, SubjectKind::User, start, limit).await?;
        let mut last = last_tiers(connection, &users, start).await?;
        let users = users.into_iter().map(|row| {
            let tier = last.remove(&row.subject);
            let (id, usage) = row.of_kind(SubjectKind::User);
            (id, usage, tier)
        });
        let users = users.collect();
        let ips = top(connection, SubjectKind::Ip, start, limit).await?;
        let ips = ips.into_iter().map(|row| row.of_kind(SubjectKind::Ip)).collect();
        Ok(assemble(start, totals, &tiers, users, ips))
    }

    async fn totals(
        connection: &mut Connection,
        name: &str,
        subjects: &str,
        grouped: &str,
        start: Timestamp,
    ) -> QueryResult<Vec<TotalsRow>> {
        let sums = Sums::columns(dialect::sum);
        diesel::sql_query(format!(
            "SELECT {name} AS name, {subjects} AS subjects, {sums} FROM usage WHERE hour >= $1 {grouped}"
        ))
        .bind::<BigInt, _>(start.as_micros())
        .load(connection)
        .await
    }

    async fn top(
        connection: &mut Connection,
        kind: SubjectKind,
        start: Timestamp,
        limit: u32,
    ) -> QueryResult<Vec<TopRow>> {
        let (sums, prefix) = (Sums::columns(dialect::sum), kind.prefix());
        let length = prefix.len();
        diesel::sql_query(format!(
            "SELECT subject, {sums} FROM usage \
             WHERE hour >= $1 AND substr(subject, 1, {length}) = '{prefix}' AND subject <> '{prefix}' \
             GROUP BY subject ORDER BY 3 DESC, 2 DESC, 4 DESC, subject LIMIT $2"
        ))
        .bind::<BigInt, _>(start.as_micros())
        .bind::<BigInt, _>(i64::from(limit))
        .load(connection)
        .await
    }

    /// The tier that each of the users had last.
    async fn last_tiers(
        connection: &mut Connection,
        users: &[TopRow],
        start: Timestamp,
    ) -> QueryResult<HashMap<String, String>> {
        let subjects: Vec<&str> = users.iter().map(|row| row.subject.as_str()).collect();
        let rows: Vec<(String, String, Option<i64>)> = usage::table
            .filter(usage::subject.eq_any(subjects).and(usage::hour.ge(start.as_micros())))
            .group_by((usage::subject, usage::tier))
            .select((usage::subject, usage::tier, max(usage::hour)))
            .order(max(usage::hour))
            .load(connection)
            .await?;
        Ok(rows.into_iter().map(|(subject, tier, _)| (subject, tier)).collect())
    }
}
