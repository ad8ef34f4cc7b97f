//! The loop that flushes: on every tick, when asked, and at the end. It holds no usage itself; see [`super::ledger`].

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;
use tracing::field::Empty;
use tracing::{Instrument, debug_span};

use super::ledger::Ticket;
use super::messages::{Flush, Stop};
use super::{BooksError, Shared};
use crate::db::{DbError, FlushOutcome};
use crate::domain::time::{Period, Timestamp};
use crate::observability::chain::Chain;

/// More callers than this never wait at once; the next is told that the database is away. As many may wait to be heard.
const WAITING: usize = 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// The first removal waits until the start of a fleet is over.
const RETENTION_DELAY: Duration = Duration::from_secs(60);

const ROLL_UP_INTERVAL: Duration = Duration::from_secs(60);
const ROLL_UP_DELAY: Period = Period::from_seconds(60);

pub struct PersistenceActor {
    shared: Arc<Shared>,
    waiting: Vec<Waiting>,
    /// A flush is under way. There is one at a time, so batches land in the order of their numbers.
    flushing: bool,
    /// The last flush failed: ticks are skipped until the pause is over.
    pausing: bool,
    failures_in_a_row: u32,
    /// The last try to roll usage up failed.
    roll_up_fails: bool,
    told_to_stop: bool,
}

struct Waiting {
    ticket: Ticket,
    reply: oneshot::Sender<Result<(), BooksError>>,
}

impl PersistenceActor {
    /// Starts an actor, in the place of the one before.
    pub(super) fn start_again(shared: &Arc<Shared>) {
        let its_own = Arc::clone(shared);
        let actor = Self::start_in_arbiter(&shared.arbiter, |context| {
            context.set_mailbox_capacity(WAITING);
            Self {
                shared: its_own,
                waiting: Vec::new(),
                flushing: false,
                pausing: false,
                failures_in_a_row: 0,
                roll_up_fails: false,
                told_to_stop: false,
            }
        });
        shared.actor.store(Some(Arc::new(actor)));
    }

    fn flush(&mut self, context: &mut Context<Self>) {
        if self.flushing {
            return;
        }
        let Some(batch) = self.shared.ledger().next_batch() else {
            self.answer_landed();
            return;
        };
        self.flushing = true;
        let (database, now) = (self.shared.database.clone(), self.shared.clock.now());
        let span = debug_span!("flush", rows = batch.rows(), otel.status_description = Empty);
        let landed = async move {
            let landed = database.flush(&batch, now).instrument(span.clone()).await;
            if let Err(error) = &landed {
                span.record("otel.status_description", error.to_string());
            }
            landed
        };
        context.spawn(landed.into_actor(self).map(|result, actor, context| actor.flushed(result, context)));
    }

    fn flushed(&mut self, result: Result<FlushOutcome, DbError>, context: &mut Context<Self>) {
        self.flushing = false;
        match result {
            Ok(outcome) => {
                if self.failures_in_a_row > 0 {
                    tracing::info!(failures = self.failures_in_a_row, "usage reaches the database again");
                }
                self.failures_in_a_row = 0;
                tell_of_refused(&outcome);
                let more = self.shared.ledger().landed(&outcome, self.shared.clock.now());
                self.answer_landed();
                if more || !self.waiting.is_empty() {
                    self.flush(context);
                }
            }
            Err(error) => self.failed(Arc::new(error), context),
        }
    }

    fn failed(&mut self, error: Arc<DbError>, context: &mut Context<Self>) {
        self.shared.ledger().failed(&error);
        if self.failures_in_a_row == 0 {
            tracing::error!(error = %Chain(&*error), "usage does not reach the database; it is kept");
        }
        for waiting in self.waiting.drain(..) {
            // Who no longer waits need not be told.
            let _ = waiting.reply.send(Err(BooksError::away(Arc::clone(&error))));
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures_in_a_row.min(16)).min(LONGEST_PAUSE);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if !self.pausing {
            self.pausing = true;
            context.run_later(pause, |actor, context| {
                actor.pausing = false;
                actor.flush(context);
            });
        }
    }

    fn answer_landed(&mut self) {
        let ledger = self.shared.ledger();
        let landed = self.waiting.extract_if(.., |waiting| ledger.has_landed(waiting.ticket));
        for waiting in landed {
            let _ = waiting.reply.send(Ok(()));
        }
    }

    /// Adds the hours that are over to the sums. A minute after an hour all but a few of its flushes have landed.
    fn roll_up(&self, context: &mut Context<Self>) {
        let (database, now) = (self.shared.database.clone(), self.shared.clock.now());
        let until = Timestamp::from_micros(now.as_micros().saturating_sub(ROLL_UP_DELAY.as_micros()));
        let done = async move { database.roll_up(until).await };
        context.spawn(done.into_actor(self).map(|result, actor, _| {
            let failed_before = std::mem::replace(&mut actor.roll_up_fails, result.is_err());
            if let Some(error) = result.err().filter(|_| !failed_before) {
                tracing::warn!(
                    error = %Chain(&error),
                    "usage is not rolled up: reports are right, and slower until it is"
                );
            }
        }));
    }

    fn remove_what_is_old(&self, context: &mut Context<Self>) {
        let (database, now) = (self.shared.database.clone(), self.shared.clock.now());
        let oldest = oldest_hour_kept(now, self.shared.settings.history_retention_days);
        let removed = async move {
            let rows = database.remove_usage_before(oldest).await?;
            database.remove_leftovers(now).await?;
            Ok::<_, DbError>(rows)
        };
        context.spawn(removed.into_actor(self).map(|result, _, _| match result {
            Ok(rows) => tracing::debug!(rows, "removed usage past its retention"),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "usage past its retention was not removed");
            }
        }));
    }
}

/// Says what was set aside, but not whose it was.
fn tell_of_refused(outcome: &FlushOutcome) {
    const TOLD_APART: usize = 10;
    let FlushOutcome::Applied { refused } = outcome else { return };
    for row in refused.iter().take(TOLD_APART) {
        let (hour, tier, usage) = row.usage.clone().unwrap_or_default();
        tracing::error!(
            table = row.table,
            %hour,
            tier,
            requests = usage.requests,
            cost = usage.cost,
            denied = usage.denied,
            reason = row.reason,
            "the database refuses a row; it was set aside"
        );
    }
    if refused.len() > TOLD_APART {
        tracing::error!(rows = refused.len(), "the database refuses these many rows; they were set aside");
    }
}

fn oldest_hour_kept(now: Timestamp, retention_days: u32) -> Timestamp {
    let kept = Period::from_seconds(u64::from(retention_days).saturating_mul(86_400));
    Timestamp::from_micros(now.as_micros().saturating_sub(kept.as_micros())).start_of_hour()
}

impl Actor for PersistenceActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(self.shared.settings.flush_interval, |actor, context| {
            if !actor.pausing {
                actor.flush(context);
            }
        });
        context.run_interval(ROLL_UP_INTERVAL, |actor, context| actor.roll_up(context));
        context.run_later(RETENTION_DELAY, |actor, context| actor.remove_what_is_old(context));
        context.run_interval(RETENTION_INTERVAL, |actor, context| actor.remove_what_is_old(context));
    }
}

impl Handler<Flush> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, Flush { reply }: Flush, context: &mut Self::Context) {
        let ticket = self.shared.ledger().ticket();
        if self.waiting.len() >= WAITING {
            self.waiting.retain(|waiting| !waiting.reply.is_closed());
        }
        if self.waiting.len() >= WAITING {
            let _ = reply.send(Err(BooksError::Unavailable { source: None }));
            return;
        }
        self.waiting.push(Waiting { ticket, reply });
        // Somebody waits: even in a pause it is worth a try, and the answer tells them at once.
        self.flush(context);
    }
}

impl Handler<Stop> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        self.told_to_stop = true;
        context.stop();
    }
}

impl Drop for PersistenceActor {
    /// A panic in a handler ends an actor for good, and nobody else would notice.
    fn drop(&mut self) {
        if self.told_to_stop {
            return;
        }
        let pending = self.shared.ledger().stopped();
        tracing::error!(rows = pending, "the flush loop has ended by itself; it is started again");
        let shared = Arc::clone(&self.shared);
        // Where the thread itself is ending, so is the service: there is nothing to start again on.
        self.shared.arbiter.spawn_fn(move || Self::start_again(&shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{DatabaseLocation, DatabaseSettings};
    use crate::db::Database;
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::tier::TierName;
    use crate::domain::usage::{Usage, UsageKey};
    use crate::persistence::messages::RecordUsage;
    use crate::persistence::{Books, LedgerBounds};

    #[derive(actix::Message)]
    #[rtype(result = "()")]
    struct Panic;

    impl Handler<Panic> for PersistenceActor {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut Self::Context) {
            panic!("on purpose");
        }
    }

    #[actix::test]
    async fn a_loop_that_panics_is_started_again_with_what_was_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings {
            location: DatabaseLocation::Sqlite { path: folder.path().join("quotad.db") },
            max_connections: 2,
            flush_interval: Duration::from_secs(3600),
            history_retention_days: 1,
        };
        let database = Database::connect(&settings).unwrap();
        database.migrate().await.unwrap();
        let (clock, bounds) = (Clock::manual(Timestamp::EPOCH), LedgerBounds::default());
        let books = Books::start(database, &settings, clock, "one".to_owned(), bounds);
        let subject = Subject::User(UserId::parse("42").unwrap());
        let key = UsageKey { subject, hour: Timestamp::EPOCH, tier: TierName::free() };
        books.record(RecordUsage { usage: vec![(key, Usage::default())], counters: vec![] });

        let actor = books.shared.actor.load_full().unwrap();
        assert!(actor.send(Panic).await.is_err());
        let flushed = async {
            while books.flush().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), flushed).await.expect("it is started again");
        let stats = books.stats();
        assert_eq!((stats.restarts, stats.rows_flushed, stats.pending_rows), (1, 1, 0));
        books.close().await.unwrap();
        assert_eq!(books.stats().restarts, 1);
    }

    #[test]
    fn retention_ends_at_an_hour() {
        let now = Timestamp::from_seconds(10 * 86_400 + 3_601);
        assert_eq!(oldest_hour_kept(now, 2), Timestamp::from_seconds(8 * 86_400 + 3_600));
        assert!(oldest_hour_kept(now, u32::MAX) < Timestamp::EPOCH);
    }
}
