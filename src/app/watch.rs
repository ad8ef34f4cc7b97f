//! Follows the changes that any instance makes in the database, and keeps the gauges of the books up to date.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::db::{Database, DbError};
use crate::identity::Identity;
use crate::limiter::Limiter;
use crate::observability::metrics::Metrics;
use crate::persistence::Books;

/// A change made elsewhere holds here within a second: it is looked for twice in one.
const PAUSE: Duration = Duration::from_millis(400);

/// The task that watches.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

/// Begins at the changes that are there now.
pub async fn start(
    database: Database,
    limiter: Limiter,
    identity: Identity,
    books: Books,
    metrics: Arc<Metrics>,
    clock: Clock,
) -> Result<Watch, DbError> {
    let version = database.changes_since(i64::MAX).await?.version;
    let follower = Follower { database, limiter, identity, books, metrics, clock, version, failing: false };
    Ok(Watch(tokio::spawn(follower.run())))
}

impl Watch {
    pub fn stop(self) {
        self.0.abort();
    }
}

struct Follower {
    database: Database,
    limiter: Limiter,
    identity: Identity,
    books: Books,
    metrics: Arc<Metrics>,
    clock: Clock,
    version: i64,
    failing: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.follow().await {
                Ok(()) if self.failing => {
                    tracing::info!("changes in the database are followed again");
                    self.failing = false;
                }
                Ok(()) => {}
                Err(error) if !self.failing => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "changes in the database can't be followed: what is known holds"
                    );
                    self.failing = true;
                }
                Err(_) => {}
            }
            self.show_books();
        }
    }

    async fn follow(&mut self) -> Result<(), DbError> {
        let changes = self.database.changes_since(self.version).await?;
        if changes.keys || changes.everything {
            self.identity.key_ring().replace(self.database.list_keys().await?);
        }
        if changes.everything {
            self.limiter.forget_all().await;
        } else if !changes.users.is_empty() {
            self.limiter.forget(&changes.users).await;
        }
        self.version = changes.version;
        Ok(())
    }

    fn show_books(&self) {
        let stats = self.books.stats();
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.usage_pending_rows.set(gauge(stats.pending_rows as u64));
        self.metrics.usage_flushed_rows.set(gauge(stats.rows_flushed));
        self.metrics.usage_flush_failures.set(gauge(stats.failures));
        self.metrics.usage_set_aside_rows.set(gauge(stats.set_aside));
        self.metrics.usage_coarsened_rows.set(gauge(stats.coarsened.saturating_add(stats.overflowed)));
        self.metrics.usage_dropped_counters.set(gauge(stats.counters_dropped));
        self.metrics.usage_restarts.set(gauge(stats.restarts));
        self.metrics.usage_lag_seconds.set(stats.lag(self.clock.now()).as_secs_f64());
    }
}
