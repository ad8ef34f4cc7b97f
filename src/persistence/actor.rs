//! The message loop of the keeper of the books: a batch at a time, each written once, retried until it lands.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use tokio::sync::oneshot;

use super::SharedStats;
use super::ledger::{Ledger, Piece};
use super::messages::{Close, Flush, RecordUsage};
use crate::clock::Clock;
use crate::config::DatabaseSettings;
use crate::db::{Database, DbError, FlushBatch};
use crate::domain::time::{Period, Timestamp};

/// After a flush that failed the next is tried after the interval, then after twice as long, and so on up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often what is older than the retention is removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(3600);

const SECONDS_A_DAY: u64 = 86_400;

/// An actor that owns the ledger and writes it.
#[derive(Debug)]
pub struct PersistenceActor {
    ledger: Ledger,
    database: Database,
    clock: Clock,
    stats: SharedStats,
    interval: Duration,
    retention: Period,
    instance: String,
    /// Cut and waiting, in order, each with a number that callers wait for.
    queue: VecDeque<(u64, Piece)>,
    /// The front of the queue under its sequence number. A batch that failed is tried again unchanged.
    attempt: Option<Arc<FlushBatch>>,
    sequence: i64,
    cut: u64,
    waiting: Vec<(u64, oneshot::Sender<Result<(), String>>)>,
    under_way: bool,
    failed_in_a_row: u32,
    retry_at: Timestamp,
}

impl PersistenceActor {
    pub fn new(
        database: Database,
        settings: &DatabaseSettings,
        clock: Clock,
        stats: SharedStats,
        instance: String,
    ) -> Self {
        Self {
            ledger: Ledger::new(),
            database,
            clock,
            stats,
            interval: settings.flush_interval,
            retention: Period::from_seconds(u64::from(settings.history_retention_days).saturating_mul(SECONDS_A_DAY)),
            instance,
            queue: VecDeque::new(),
            attempt: None,
            sequence: 0,
            cut: 0,
            waiting: Vec::new(),
            under_way: false,
            failed_in_a_row: 0,
            retry_at: Timestamp::EPOCH,
        }
    }

    /// Cuts what waits into pieces; gives the number of the last one.
    fn cut(&mut self) -> u64 {
        for piece in self.ledger.take() {
            self.cut = self.cut.saturating_add(1);
            self.queue.push_back((self.cut, piece));
        }
        self.cut
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if !self.under_way && self.queue.is_empty() {
            self.cut();
        }
        if self.clock.now() >= self.retry_at {
            self.write_next(ctx);
        }
        self.show();
    }

    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.under_way {
            return;
        }
        self.answer_waiting();
        let Some((_, piece)) = self.queue.front() else { return };
        let batch = match &self.attempt {
            Some(batch) => Arc::clone(batch),
            None => {
                self.sequence = self.sequence.saturating_add(1);
                let Piece { usage, counters } = piece.clone();
                let (instance, sequence) = (self.instance.clone(), self.sequence);
                Arc::clone(self.attempt.insert(Arc::new(FlushBatch { instance, sequence, usage, counters })))
            }
        };
        self.under_way = true;
        let (database, now) = (self.database.clone(), self.clock.now());
        let write = async move { database.flush(batch, now).await };
        ctx.spawn(wrap_future(write).map(|outcome, actor: &mut Self, ctx| {
            actor.under_way = false;
            match outcome {
                Ok(_) => actor.landed(ctx),
                Err(DbError::Refused(error)) => actor.refused(&error.to_string(), ctx),
                Err(error) => actor.failed(&error),
            }
            actor.show();
        }));
    }

    fn landed(&mut self, ctx: &mut Context<Self>) {
        self.attempt = None;
        if let Some((_, piece)) = self.queue.pop_front() {
            let now = self.clock.now();
            self.count(|stats| {
                stats.flushes = stats.flushes.saturating_add(1);
                stats.rows_flushed = stats.rows_flushed.saturating_add(piece.usage.len() as u64);
                stats.flushed_at = Some(now);
                stats.last_error = None;
            });
        }
        if self.failed_in_a_row > 0 {
            tracing::info!(failed = self.failed_in_a_row, "usage goes to the database again");
            self.failed_in_a_row = 0;
        }
        self.write_next(ctx);
    }

    /// The row that can't be written is looked for by halves, and set aside; the others land.
    fn refused(&mut self, error: &str, ctx: &mut Context<Self>) {
        self.attempt = None;
        if let Some((number, piece)) = self.queue.pop_front() {
            match piece.halves() {
                Some([left, right]) => {
                    for half in [right, left].into_iter().filter(|half| half.rows() > 0) {
                        self.queue.push_front((number, half));
                    }
                }
                None => {
                    tracing::error!(error, row = ?piece, "the database refuses a row of usage: it is set aside");
                    self.count(|stats| stats.set_aside = stats.set_aside.saturating_add(1));
                }
            }
        }
        self.write_next(ctx);
    }

    fn failed(&mut self, error: &DbError) {
        if self.failed_in_a_row == 0 {
            tracing::warn!(%error, "usage can't be written: it is held and tried again");
        }
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        let pause = self.interval.saturating_mul(2_u32.saturating_pow(self.failed_in_a_row.min(10))).min(LONGEST_PAUSE);
        let pause = Timestamp::from_micros(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
        self.retry_at = self.clock.now().saturating_add(pause - Timestamp::EPOCH);
        let text = error.to_string();
        for (_, caller) in self.waiting.drain(..) {
            caller.send(Err(text.clone())).ok();
        }
        self.count(|stats| {
            stats.failures = stats.failures.saturating_add(1);
            stats.last_error = Some(text);
        });
    }

    /// Tells those whose usage has landed: everything up to their number has left the queue.
    fn answer_waiting(&mut self) {
        let first = self.queue.front().map(|(number, _)| *number);
        let (landed, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(number, _)| first.is_none_or(|first| *number < first));
        self.waiting = waiting;
        for (_, caller) in landed {
            caller.send(Ok(())).ok();
        }
    }

    fn show(&self) {
        let queued: usize = self.queue.iter().map(|(_, piece)| piece.usage.len()).sum();
        let (pending, coarsened) = (self.ledger.pending_rows().saturating_add(queued), self.ledger.coarsened);
        self.count(|stats| {
            stats.pending_rows = pending;
            stats.coarsened = coarsened;
        });
    }

    fn count(&self, change: impl FnOnce(&mut super::BooksStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn remove_old(&self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let oldest = Timestamp::from_micros(now.as_micros().saturating_sub(self.retention.as_micros()));
        let database = self.database.clone();
        let remove = async move { database.remove_before(oldest, now).await };
        ctx.spawn(wrap_future(remove).map(|removed, _: &mut Self, _| match removed {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "usage older than the retention was removed"),
            Err(error) => tracing::warn!(%error, "usage older than the retention could not be removed"),
        }));
    }
}

impl Actor for PersistenceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.interval, Self::tick);
        ctx.run_interval(REMOVAL_INTERVAL, |actor, ctx| actor.remove_old(ctx));
        self.remove_old(ctx);
    }
}

impl Handler<RecordUsage> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, message: RecordUsage, _ctx: &mut Self::Context) {
        self.ledger.record(message);
    }
}

impl Handler<Flush> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, message: Flush, ctx: &mut Self::Context) {
        if self.failed_in_a_row > 0 && self.clock.now() < self.retry_at {
            // What waits stays in the ledger, where it is bounded.
            let error = self.stats.lock().unwrap_or_else(PoisonError::into_inner).last_error.clone();
            message.reply.send(Err(error.unwrap_or_default())).ok();
            return;
        }
        let number = self.cut();
        self.waiting.push((number, message.reply));
        self.write_next(ctx);
    }
}

impl Handler<Close> for PersistenceActor {
    type Result = ();

    fn handle(&mut self, _message: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
