//! What everybody used together: the sums of [`super::rollup`] as far as they go, and the table `usage` from there on.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::flush_batch::SubjectKind;
use super::history::Sums;
use super::rollup::{self as sums, DAY, DAYS_BEFORE, THIRTY_DAYS};
use super::{Database, DbError, FLUSH_DEADLINE};
use crate::domain::report::{ReportOrder, ReportTotals, UsageReport};
use crate::domain::subject::UserId;
use crate::domain::tier::TierName;
use crate::domain::time::{DAY_MICROS, Timestamp};
use crate::domain::usage::Usage;

#[derive(QueryableByName)]
struct TierRow {
    #[diesel(sql_type = Text)]
    tier: String,
    #[diesel(sql_type = BigInt)]
    subjects: i64,
    #[diesel(embed)]
    sums: Sums,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    users: i64,
}

#[derive(QueryableByName)]
struct TopRow {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Nullable<Text>)]
    last_tier: Option<String>,
    #[diesel(embed)]
    sums: Sums,
}

impl TierRow {
    fn totals(&self) -> ReportTotals {
        ReportTotals { usage: self.sums.usage(), active_users: self.subjects.max(0).cast_unsigned() }
    }
}

impl Database {
    /// Usage in the hours from `since` on, with the `top` users and addresses. `since` in the middle of an hour counts from
    /// the next one.
    ///
    /// Midnight UTC of today and of 29 days before are answered from sums; any other time adds up what there is since.
    pub async fn usage_report(&self, since: Timestamp, order: ReportOrder, top: u32) -> Result<UsageReport, DbError> {
        on!(self, read within FLUSH_DEADLINE, "read the usage report", report::since(since, order, top))
    }
}

/// Where a report's parts lie, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    since: i64,
    /// The span of the sums that belongs to it; none is called "".
    span: &'static str,
    /// How far the sums go; without any, `since`.
    built: i64,
}

impl Range {
    fn of(since: i64, built: i64) -> Self {
        let today = sums::midnight(built);
        let span = match today.saturating_sub(since) {
            0 => DAY,
            days if days == DAYS_BEFORE.saturating_mul(DAY_MICROS) => THIRTY_DAYS,
            _ => "",
        };
        // Sums that end where the report begins say nothing, and what came late is not theirs.
        if span.is_empty() || built <= since {
            return Self { since, span: "", built: since };
        }
        Self { since, span, built }
    }

    /// The rows that are not in the sums, as a table `recent`.
    fn recent(self) -> String {
        let columns = "SELECT subject, tier, requests, cost, denied FROM";
        let Self { since, built, .. } = self;
        format!(
            "WITH recent AS MATERIALIZED ({columns} usage WHERE hour >= {built} \
             UNION ALL {columns} usage_late WHERE hour >= {since} AND hour < {built})"
        )
    }

    /// Sums by tier, with how many subjects each had.
    fn by_tier(self, sum: fn(&str) -> String) -> String {
        let (recent, span, sums) = (self.recent(), self.span, Sums::columns(sum));
        let subjects = sum("subjects");
        format!(
            "{recent} SELECT tier, {sums}, {subjects} AS subjects FROM ( \
               SELECT tier, requests, cost, denied, 0 AS subjects FROM recent \
               UNION ALL SELECT tier, requests, cost, denied, subjects FROM rollup_tiers \
                 WHERE span = '{span}' AND tier <> '' \
               UNION ALL SELECT tier, 0, 0, 0, 1 FROM ( \
                 SELECT DISTINCT tier, subject FROM recent WHERE subject NOT IN ('user:', 'ip:')) AS seen \
                 WHERE NOT EXISTS (SELECT 1 FROM rollup_subjects AS known \
                   WHERE known.span = '{span}' AND known.subject = seen.subject AND known.tier = seen.tier) \
             ) AS parts GROUP BY tier ORDER BY tier"
        )
    }

    /// How many users there were.
    fn users(self) -> String {
        let (recent, span) = (self.recent(), self.span);
        format!(
            "{recent} SELECT COALESCE((SELECT subjects FROM rollup_tiers WHERE span = '{span}' AND tier = ''), 0) + ( \
               SELECT COUNT(*) FROM ( \
                 SELECT DISTINCT subject FROM recent WHERE substr(subject, 1, 5) = 'user:' AND subject <> 'user:') AS seen \
               WHERE NOT EXISTS (SELECT 1 FROM rollup_subjects AS known \
                 WHERE known.span = '{span}' AND known.subject = seen.subject AND known.tier = '') \
             ) AS users"
        )
    }

    /// The heaviest subjects of a kind, with the tier that each had last.
    ///
    /// Whoever is among the first `$1` is in `recent`, or is among the first `$1` of the sums: usage only adds to what is there.
    fn top(self, kind: SubjectKind, order: ReportOrder, sum: fn(&str) -> String) -> String {
        let (recent, span, sums, since) = (self.recent(), self.span, Sums::columns(sum), self.since);
        let (name, prefix) = match kind {
            SubjectKind::User => ("user", kind.prefix()),
            SubjectKind::Ip => ("ip", kind.prefix()),
        };
        let length = prefix.len();
        let first = match order {
            ReportOrder::Cost => "cost DESC, requests DESC, denied DESC, subject",
            ReportOrder::Requests => "requests DESC, cost DESC, denied DESC, subject",
            ReportOrder::Denied => "denied DESC, requests DESC, cost DESC, subject",
        };
        format!(
            "{recent}, seen AS MATERIALIZED ( \
               SELECT subject, {sums} FROM recent \
               WHERE substr(subject, 1, {length}) = '{prefix}' AND subject <> '{prefix}' GROUP BY subject), \
             best AS MATERIALIZED ( \
               SELECT subject, requests, cost, denied FROM rollup_subjects \
               WHERE span = '{span}' AND tier = '' AND kind = '{name}' ORDER BY {first} LIMIT $1), \
             top AS MATERIALIZED ( \
               SELECT subject, requests, cost, denied FROM best WHERE subject NOT IN (SELECT subject FROM seen) \
               UNION ALL \
               SELECT seen.subject, seen.requests + COALESCE(known.requests, 0), seen.cost + COALESCE(known.cost, 0), \
                 seen.denied + COALESCE(known.denied, 0) \
               FROM seen LEFT JOIN rollup_subjects AS known \
                 ON known.span = '{span}' AND known.subject = seen.subject AND known.tier = '' \
               ORDER BY {first} LIMIT $1) \
             SELECT subject, requests, cost, denied, \
               (SELECT tier FROM usage WHERE usage.subject = top.subject AND hour >= {since} \
                ORDER BY hour DESC, tier LIMIT 1) AS last_tier \
             FROM top ORDER BY {first}"
        )
    }
}

/// Puts the rows together. What no longer parses was put in by hand: it is skipped and told.
fn assemble(
    start: Timestamp,
    tiers: &[TierRow],
    users: &Count,
    top_users: Vec<TopRow>,
    ips: Vec<TopRow>,
) -> UsageReport {
    let mut usage = Usage::default();
    tiers.iter().for_each(|row| usage.add(row.sums.usage()));
    let totals = ReportTotals { usage, active_users: users.users.max(0).cast_unsigned() };
    let stored = tiers.len().saturating_add(top_users.len());
    let tier = |row: &TierRow| Some((TierName::parse(&row.tier).ok()?, row.totals()));
    let user = |row: TopRow| {
        let id = row.subject.strip_prefix(SubjectKind::User.prefix())?;
        Some((UserId::parse(id).ok()?, TierName::parse(&row.last_tier?).ok()?, row.sums.usage()))
    };
    let ip = |row: TopRow| Some((row.subject.strip_prefix(SubjectKind::Ip.prefix())?.to_owned(), row.sums.usage()));
    let tiers: Vec<_> = tiers.iter().filter_map(tier).collect();
    let top_users: Vec<_> = top_users.into_iter().filter_map(user).collect();
    let read = tiers.len().saturating_add(top_users.len());
    if read < stored {
        tracing::warn!(
            table = "usage",
            rows = stored.saturating_sub(read),
            "skipped usage whose user id or tier is not valid"
        );
    }
    UsageReport { start, totals, tiers, top_users, top_ips: ips.into_iter().filter_map(ip).collect() }
}

on_both! {
    pub(in crate::db) async fn since(
        connection: &mut Connection,
        start: Timestamp,
        order: ReportOrder,
        limit: u32,
    ) -> QueryResult<UsageReport> {
        connection
            .transaction(async |connection| {
                let range = Range::of(start.as_micros(), rollup::open(connection).await?);
                let tiers: Vec<TierRow> = diesel::sql_query(range.by_tier(dialect::sum)).load(connection).await?;
                let users: Count = diesel::sql_query(range.users()).get_result(connection).await?;
                let top_users = top(connection, range, SubjectKind::User, order, limit).await?;
                let top_ips = top(connection, range, SubjectKind::Ip, order, limit).await?;
                Ok(assemble(start, &tiers, &users, top_users, top_ips))
            })
            .await
    }

    async fn top(
        connection: &mut Connection,
        range: Range,
        kind: SubjectKind,
        order: ReportOrder,
        limit: u32,
    ) -> QueryResult<Vec<TopRow>> {
        diesel::sql_query(range.top(kind, order, dialect::sum)).bind::<BigInt, _>(i64::from(limit)).load(connection).await
    }
}
