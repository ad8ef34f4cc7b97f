//! What administrators page through: users, from all tables that name any, and overrides by when they end.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::{Database, DbError};
use crate::domain::account::{Account, QuotaOverride};
use crate::domain::listing::{KnownUser, OverrideFilter, OverridePlace, Page, SetOverride};
use crate::domain::subject::UserId;
use crate::domain::time::Timestamp;

/// So many users are looked at for one page. A search that finds fewer than its page goes on in the next.
const USERS_A_PAGE: i32 = 5_000;

/// What never ends, as in the index `overrides_by_end`.
const NEVER: i64 = i64::MAX;

#[derive(QueryableByName)]
struct UserRow {
    /// `None` stands behind the last user.
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
    #[diesel(sql_type = Integer)]
    matches: i32,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_hour: Option<i64>,
}

#[derive(QueryableByName)]
struct OverrideRow {
    #[diesel(sql_type = Text)]
    user_id: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    requests_per_hour: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    requests_per_day: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    expires_at: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    updated_at: i64,
}

impl Database {
    /// Users in the order of their ids' bytes, those whose id contains the text `search`, behind the id `after`.
    ///
    /// The books may know many users: a page looks at 5,000 of them at most, and may then hold fewer than `limit`, or none,
    /// and still say where the next begins.
    pub async fn list_users(
        &self,
        search: &str,
        limit: u32,
        after: Option<&UserId>,
    ) -> Result<Page<KnownUser, UserId>, DbError> {
        let search = search.to_owned();
        let after = after.map_or("", UserId::as_str).to_owned();
        on!(self, read, "list users", lists::users(&search, limit, &after))
    }

    /// Overrides by when they end, behind the place `after`.
    pub async fn list_overrides(
        &self,
        filter: &OverrideFilter,
        limit: u32,
        after: Option<&OverridePlace>,
        now: Timestamp,
    ) -> Result<Page<SetOverride, OverridePlace>, DbError> {
        let (filter, after) = (filter.clone(), after.cloned());
        on!(self, read, "list overrides", lists::overrides(&filter, limit, after.as_ref(), now))
    }
}

/// What no longer parses was put in by hand: it is passed over.
fn set_override(row: OverrideRow) -> Option<SetOverride> {
    let units = |stored: i64| stored.max(0).cast_unsigned();
    Some(SetOverride {
        user_id: UserId::parse(&row.user_id).ok()?,
        quota_override: QuotaOverride {
            requests_per_hour: row.requests_per_hour.map(units),
            requests_per_day: row.requests_per_day.map(units),
            expires_at: row.expires_at.map(Timestamp::from_micros),
            reason: row.reason,
        },
        set_at: Timestamp::from_micros(row.updated_at),
    })
}

/// The page that the walk has found, and the accounts of its users.
fn user_page(rows: Vec<UserRow>, accounts: Vec<Account>, limit: usize) -> Page<KnownUser, UserId> {
    let parsed = |row: &UserRow| UserId::parse(row.id.as_deref()?).ok();
    let walked_to = rows.last().and_then(parsed);
    let found = rows.iter().filter(|row| row.matches == 1);
    let found = found.filter_map(|row| Some((parsed(row)?, row.last_hour)));
    let mut accounts: std::collections::HashMap<UserId, Account> =
        accounts.into_iter().map(|account| (account.user_id.clone(), account)).collect();
    let users = found.map(|(id, last_hour)| KnownUser {
        account: accounts.remove(&id).unwrap_or_else(|| Account::unknown(id)),
        last_hour: last_hour.map(Timestamp::from_micros),
    });
    let page = Page::cut(users.collect(), limit, |user| user.account.user_id.clone());
    Page { next: page.next.or(walked_to), ..page }
}

on_both! {
    /// Goes from one id to the next by the indexes, so that a user costs the same however much the books have of them.
    pub(in crate::db) async fn users(
        connection: &mut Connection,
        search: &str,
        limit: u32,
        after: &str,
    ) -> QueryResult<Page<KnownUser, UserId>> {
        let (order, matches) = (dialect::BYTE_ORDER, dialect::contains("id", "$2"));
        // `user;` is what comes behind all that begins with `user:`.
        let text = format!(
            "WITH RECURSIVE walk(place, found, id) AS ( \
               SELECT 0, 0, CAST($1 AS text) {order} \
               UNION ALL \
               SELECT place + 1, found + CASE WHEN place > 0 AND {matches} THEN 1 ELSE 0 END, ( \
                 SELECT MIN(next) FROM ( \
                   SELECT MIN(user_id) AS next FROM users WHERE user_id > walk.id \
                   UNION ALL SELECT MIN(user_id) FROM overrides WHERE user_id > walk.id \
                   UNION ALL SELECT MIN(user_id) FROM reset_schedules WHERE user_id > walk.id \
                   UNION ALL SELECT substr(MIN(subject), 6) FROM usage \
                     WHERE subject > 'user:' || walk.id AND subject < 'user;' \
                 ) AS nexts ) \
               FROM walk \
               WHERE id IS NOT NULL AND place < $3 \
                 AND found + CASE WHEN place > 0 AND {matches} THEN 1 ELSE 0 END < $4 \
             ) \
             SELECT id, CASE WHEN {matches} THEN 1 ELSE 0 END AS matches, \
               (SELECT MAX(hour) FROM usage WHERE subject = 'user:' || walk.id) AS last_hour \
             FROM walk WHERE place > 0 AND ({matches} OR place = (SELECT MAX(place) FROM walk)) ORDER BY place"
        );
        let wanted = i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1);
        let rows: Vec<UserRow> = diesel::sql_query(text)
            .bind::<Text, _>(after)
            .bind::<Text, _>(search)
            .bind::<Integer, _>(USERS_A_PAGE)
            .bind::<Integer, _>(wanted)
            .load(connection)
            .await?;
        let ids: Vec<UserId> = rows.iter().filter_map(|row| UserId::parse(row.id.as_deref()?).ok()).collect();
        let accounts = accounts::load(connection, &ids).await?;
        Ok(user_page(rows, accounts, usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    pub(in crate::db) async fn overrides(
        connection: &mut Connection,
        filter: &OverrideFilter,
        limit: u32,
        after: Option<&OverridePlace>,
        now: Timestamp,
    ) -> QueryResult<Page<SetOverride, OverridePlace>> {
        let (behind, up_to) = match filter.active {
            None => (i64::MIN, NEVER),
            Some(true) => (now.as_micros(), NEVER),
            Some(false) => (i64::MIN, now.as_micros()),
        };
        let (end, user) = after.map_or((i64::MIN, ""), |place| {
            (place.ends.map_or(NEVER, Timestamp::as_micros), place.user_id.as_str())
        });
        let ends = format!("COALESCE(expires_at, {NEVER})");
        let text = format!(
            "SELECT user_id, requests_per_hour, requests_per_day, expires_at, reason, updated_at FROM overrides \
             WHERE {ends} > $1 AND {ends} <= $2 AND ({ends}, user_id) > ($3, $4) AND ($5 = '' OR user_id = $5) \
             ORDER BY {ends}, user_id LIMIT $6"
        );
        let rows: Vec<OverrideRow> = diesel::sql_query(text)
            .bind::<BigInt, _>(behind)
            .bind::<BigInt, _>(up_to)
            .bind::<BigInt, _>(end)
            .bind::<Text, _>(user)
            .bind::<Text, _>(filter.user.as_ref().map_or("", UserId::as_str))
            .bind::<BigInt, _>(i64::from(limit).saturating_add(1))
            .load(connection)
            .await?;
        let items = rows.into_iter().filter_map(set_override).collect();
        Ok(Page::cut(items, usize::try_from(limit).unwrap_or(usize::MAX), SetOverride::place))
    }
}
