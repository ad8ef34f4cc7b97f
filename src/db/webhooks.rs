//! The table `webhook_events`: events that are to be sent, claimed by the instance that sends them, and the log of deliveries.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};

use super::schema::webhook_events as events;
use super::{Database, DbError};
use crate::domain::delivery::{
    Attempt, Claim, Delivery, DeliveryPlace, DeliveryState, KEPT, NewDelivery, Outcome, TRIED_FOR,
};
use crate::domain::event::{About, EventId};
use crate::domain::limit::LimitName;
use crate::domain::listing::Page;
use crate::domain::time::Timestamp;

const PENDING: &str = DeliveryState::Pending.as_str();

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    body: String,
    #[diesel(sql_type = BigInt)]
    attempts: i64,
    #[diesel(sql_type = BigInt)]
    give_up_at: i64,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    found: i64,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
struct LogRow {
    id: String,
    kind: String,
    body: String,
    state: String,
    attempts: i64,
    created_at: i64,
    due_at: i64,
    settled_at: Option<i64>,
    answer: Option<i64>,
    error: Option<String>,
}

impl Database {
    /// Adds events that are due now, all or none, and says how many were new: a threshold of which a row tells already, in
    /// the same window, and an event that is there already are passed over.
    pub async fn add_webhooks(&self, new: &[NewDelivery], now: Timestamp) -> Result<usize, DbError> {
        let new = new.to_vec();
        on!(self, write, "write webhook events", webhooks::add(&new, now))
    }

    /// Adds an event that is this instance's to send until `until`, and nobody else's.
    pub async fn add_claimed_webhook(
        &self,
        new: &NewDelivery,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Claim, DbError> {
        let new = new.clone();
        on!(self, write, "write a webhook event", webhooks::add_claimed(&new, now, until))
    }

    /// Takes at most `limit` events that are due, those first that are due for longest. No other instance gets them until
    /// `until`.
    pub async fn claim_webhooks(&self, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<Claim>, DbError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        on!(self, write, "claim webhook events", webhooks::claim(now, until, limit))
    }

    /// Writes down what came of an attempt. False where the event is claimed by another by now, who will say.
    pub async fn settle_webhook(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<bool, DbError> {
        let (claim, attempt) = (claim.clone(), attempt.clone());
        on!(self, write, "settle a webhook event", webhooks::settle(&claim, &attempt, outcome, now))
    }

    /// How many events are not settled; `most` where there are that many or more.
    pub async fn pending_webhooks(&self, most: u32) -> Result<u32, DbError> {
        on!(self, read, "count webhook events", webhooks::pending(most))
    }

    /// The log, the newest first, behind the place `after`.
    pub async fn list_webhooks(
        &self,
        state: Option<DeliveryState>,
        limit: u32,
        after: Option<&DeliveryPlace>,
    ) -> Result<Page<Delivery, DeliveryPlace>, DbError> {
        let after = after.cloned();
        on!(self, read, "list webhook events", webhooks::list(state, limit, after.as_ref()))
    }
}

/// What the index `webhook_events_once` holds of an event.
fn told_once(new: &NewDelivery) -> Option<(String, LimitName, u64, Timestamp)> {
    match &new.event.about {
        About::Threshold(told) => Some((told.subject.to_string(), told.limit.clone(), told.percent, told.window_end)),
        About::Degraded { .. } | About::Recovered | About::Test => None,
    }
}

/// What was written by hand and is no event of ours stays where it is.
fn claimed(row: ClaimRow) -> Option<Claim> {
    Some(Claim {
        id: EventId::parse(&row.id)?,
        body: row.body,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        give_up_at: Timestamp::from_micros(row.give_up_at),
    })
}

fn delivery(row: LogRow) -> Option<Delivery> {
    Some(Delivery {
        id: EventId::parse(&row.id)?,
        kind: row.kind,
        body: row.body,
        state: DeliveryState::parse(&row.state)?,
        attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
        created_at: Timestamp::from_micros(row.created_at),
        due_at: Timestamp::from_micros(row.due_at),
        settled_at: row.settled_at.map(Timestamp::from_micros),
        status: row.answer.and_then(|status| u16::try_from(status).ok()),
        error: row.error,
    })
}

on_both! {
    pub(in crate::db) async fn add(
        connection: &mut Connection,
        new: &[NewDelivery],
        now: Timestamp,
    ) -> QueryResult<usize> {
        connection
            .transaction(async |connection| {
                // Instances that tell the same insert in one order: none waits for another that waits for it.
                let mut in_order: Vec<&NewDelivery> = new.iter().collect();
                in_order.sort_by_cached_key(|new| told_once(new));
                let mut added = 0_usize;
                for delivery in in_order {
                    added = added.saturating_add(insert(connection, delivery, now, now, 0).await?);
                }
                Ok(added)
            })
            .await
    }

    pub(in crate::db) async fn add_claimed(
        connection: &mut Connection,
        new: &NewDelivery,
        now: Timestamp,
        until: Timestamp,
    ) -> QueryResult<Claim> {
        insert(connection, new, now, until, 1).await?;
        Ok(Claim { id: new.id.clone(), body: new.body.clone(), attempts: 1, give_up_at: now })
    }

    async fn insert(
        connection: &mut Connection,
        new: &NewDelivery,
        now: Timestamp,
        due_at: Timestamp,
        attempts: i64,
    ) -> QueryResult<usize> {
        let (subject, limit_name, threshold, window_end) = match told_once(new) {
            Some((subject, limit, percent, end)) => (Some(subject), Some(limit), Some(percent), Some(end)),
            None => (None, None, None, None),
        };
        let kept_until = window_end.unwrap_or(now).max(now).saturating_add(KEPT);
        // A test is tried once.
        let give_up_at = if attempts > 0 { now } else { now.saturating_add(TRIED_FOR) };
        diesel::insert_into(events::table)
            .values((
                events::id.eq(new.id.as_str()),
                events::kind.eq(new.event.kind()),
                events::subject.eq(subject),
                events::limit_name.eq(limit_name.as_ref().map(LimitName::as_str)),
                events::threshold.eq(threshold.map(u64::cast_signed)),
                events::window_end.eq(window_end.map(Timestamp::as_micros)),
                events::body.eq(new.body.as_str()),
                events::state.eq(PENDING),
                events::attempts.eq(attempts),
                events::created_at.eq(now.as_micros()),
                events::due_at.eq(due_at.as_micros()),
                events::give_up_at.eq(give_up_at.as_micros()),
                events::kept_until.eq(kept_until.as_micros()),
            ))
            .on_conflict_do_nothing()
            .execute(connection)
            .await
    }

    pub(in crate::db) async fn claim(
        connection: &mut Connection,
        now: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> QueryResult<Vec<Claim>> {
        let text = format!(
            "WITH due AS (SELECT id FROM webhook_events WHERE state = '{PENDING}' AND due_at <= $1 \
               ORDER BY due_at LIMIT $2 {}) \
             UPDATE webhook_events SET attempts = attempts + 1, due_at = $3 WHERE id IN (SELECT id FROM due) \
             RETURNING id, body, attempts, give_up_at",
            dialect::SKIP_LOCKED
        );
        let rows: Vec<ClaimRow> = diesel::sql_query(text)
            .bind::<BigInt, _>(now.as_micros())
            .bind::<BigInt, _>(limit)
            .bind::<BigInt, _>(until.as_micros())
            .load(connection)
            .await?;
        Ok(rows.into_iter().filter_map(claimed).collect())
    }

    pub(in crate::db) async fn settle(
        connection: &mut Connection,
        claim: &Claim,
        attempt: &Attempt,
        outcome: Outcome,
        now: Timestamp,
    ) -> QueryResult<bool> {
        let (state, due_at) = match outcome {
            Outcome::Delivered => (DeliveryState::Delivered, now),
            Outcome::Again(due_at) => (DeliveryState::Pending, due_at),
            Outcome::GivenUp => (DeliveryState::GivenUp, now),
        };
        let is_settled = state != DeliveryState::Pending;
        let own = events::table
            .find(claim.id.as_str())
            .filter(events::state.eq(PENDING).and(events::attempts.eq(i64::from(claim.attempts))));
        let settled = diesel::update(own)
            .set((
                events::state.eq(state.as_str()),
                events::due_at.eq(due_at.as_micros()),
                events::settled_at.eq(is_settled.then(|| now.as_micros())),
                events::answer.eq(attempt.status.map(i64::from)),
                events::error.eq(attempt.error),
            ))
            .execute(connection)
            .await?;
        Ok(settled > 0)
    }

    pub(in crate::db) async fn pending(connection: &mut Connection, most: u32) -> QueryResult<u32> {
        let text = format!(
            "SELECT COUNT(*) AS found FROM (SELECT 1 FROM webhook_events WHERE state = '{PENDING}' LIMIT $1) AS pending"
        );
        let Count { found } =
            diesel::sql_query(text).bind::<BigInt, _>(i64::from(most)).get_result(connection).await?;
        Ok(u32::try_from(found).unwrap_or(most))
    }

    pub(in crate::db) async fn list(
        connection: &mut Connection,
        state: Option<DeliveryState>,
        limit: u32,
        after: Option<&DeliveryPlace>,
    ) -> QueryResult<Page<Delivery, DeliveryPlace>> {
        let mut query = events::table
            .select(LogRow::as_select())
            .order((events::created_at.desc(), events::id.desc()))
            .limit(i64::from(limit).saturating_add(1))
            .into_boxed();
        if let Some(state) = state {
            query = query.filter(events::state.eq(state.as_str()));
        }
        if let Some(DeliveryPlace { created_at, id }) = after {
            let (at, id) = (created_at.as_micros(), id.as_str());
            query = query.filter(
                events::created_at.lt(at).or(events::created_at.eq(at).and(events::id.lt(id))),
            );
        }
        let rows: Vec<LogRow> = query.load(connection).await?;
        let items = rows.into_iter().filter_map(delivery).collect();
        Ok(Page::cut(items, usize::try_from(limit).unwrap_or(usize::MAX), Delivery::place))
    }
}
