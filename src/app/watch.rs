//! Follows the policy file and the changes that any instance makes in the database, and keeps the gauges of the books up to date.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::db::{Changes, Database};
use crate::domain::policy::Policy;
use crate::identity::Identity;
use crate::limiter::Limiter;
use crate::observability::chain::Chain;
use crate::observability::feed::Feed;
use crate::observability::metrics::Metrics;
use crate::persistence::{Books, BooksError};
use crate::policy::PolicyStore;

/// A change made elsewhere holds here within a second, though nobody told of it: it is looked for twice in one.
const PAUSE: Duration = Duration::from_millis(400);

/// More changed users than this are told of as many.
const USERS_NAMED: usize = 20;

/// The tasks that watch.
#[derive(Debug)]
pub struct Watch {
    changes: JoinHandle<()>,
    seconds: JoinHandle<()>,
    file: JoinHandle<()>,
}

/// What follows, and what is kept up to date.
pub struct Parts {
    pub database: Database,
    pub limiter: Limiter,
    pub identity: Identity,
    pub policy: PolicyStore,
    pub books: Books,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Told when another instance says that it has changed something.
    pub changed: Arc<Notify>,
}

/// Begins at the changes that are there now. What was changed since it was loaded is loaded again.
pub async fn start(parts: Parts) -> Result<Watch, BooksError> {
    let version = parts.database.changes_since(i64::MAX).await?.version;
    parts.identity.key_ring().reload(parts.database.list_keys()).await?;
    parts.policy.follow_api().await?;
    let file = tokio::spawn(follow_file(parts.policy.clone()));
    let seconds = tokio::spawn(turn_seconds(Arc::clone(&parts.metrics)));
    let policy = parts.limiter.policy();
    let changes = tokio::spawn(Follower { parts, version, policy, failing: false }.run());
    Ok(Watch { changes, seconds, file })
}

impl Watch {
    pub fn stop(self) {
        self.changes.abort();
        self.seconds.abort();
        self.file.abort();
    }
}

/// Looks at the policy file now and then, and at once on SIGHUP. By its content: an editor may put a new file in the place of
/// the old, and an orchestrator another folder.
async fn follow_file(policy: PolicyStore) {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hung_up = async {
            match &mut hangups {
                Some(hangups) => drop(hangups.recv().await),
                None => std::future::pending().await,
            }
        };
        let at_once = tokio::select! {
            _ = ticks.tick() => false,
            () = hung_up => true,
        };
        let policy = policy.clone();
        // A disk may take its time.
        tokio::task::spawn_blocking(move || policy.follow_file(at_once)).await.ok();
    }
}

/// Those who watch are told each second what was decided in it.
async fn turn_seconds(metrics: Arc<Metrics>) {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        metrics.feed.turn();
    }
}

struct Follower {
    parts: Parts,
    version: i64,
    /// The policy that was in force at the last look.
    policy: Arc<Policy>,
    failing: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let changed = Arc::clone(&self.parts.changed);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = changed.notified() => {}
            }
            match self.follow().await {
                Ok(()) if self.failing => {
                    tracing::info!("changes in the database are followed again");
                    self.failing = false;
                }
                Ok(()) => {}
                Err(error) if !self.failing => {
                    tracing::warn!(
                        error = %Chain(&error),
                        "changes in the database can't be followed: what is known holds"
                    );
                    self.failing = true;
                }
                Err(_) => {}
            }
            self.look_at_policy();
            self.show_books();
        }
    }

    async fn follow(&mut self) -> Result<(), BooksError> {
        let Parts { database, limiter, identity, policy, .. } = &self.parts;
        let changes = database.changes_since(self.version).await?;
        if changes.keys || changes.everything {
            identity.key_ring().reload(database.list_keys()).await?;
        }
        if changes.policy || changes.everything {
            policy.follow_api().await?;
        }
        if changes.everything {
            limiter.forget_all().await;
        } else if !changes.users.is_empty() {
            limiter.forget(&changes.users).await;
        }
        tell(&changes, &self.parts.metrics.feed);
        self.version = changes.version;
        Ok(())
    }

    /// It changes with a file too, of which the database knows nothing.
    fn look_at_policy(&mut self) {
        let policy = self.parts.limiter.policy();
        if !Arc::ptr_eq(&policy, &self.policy) {
            self.parts.metrics.feed.tell("policy.reloaded", &json!({}));
            self.policy = policy;
        }
    }

    fn show_books(&self) {
        let Parts { books, metrics, clock, policy, .. } = &self.parts;
        let stats = books.stats();
        Metrics::raise(&metrics.policy_file_failures, policy.status().failures);
        Metrics::raise(&metrics.usage_flushed_rows, stats.rows_flushed);
        Metrics::raise(&metrics.usage_flush_failures, stats.failures);
        Metrics::raise(&metrics.usage_set_aside_rows, stats.set_aside);
        Metrics::raise(&metrics.usage_coarsened_rows, stats.coarsened.saturating_add(stats.overflowed));
        Metrics::raise(&metrics.usage_dropped_counters, stats.counters_dropped);
        Metrics::raise(&metrics.usage_restarts, stats.restarts);
        metrics.usage_pending_rows.set(i64::try_from(stats.pending_rows).unwrap_or(i64::MAX));
        metrics.usage_lag_seconds.set(stats.lag(clock.now()).as_secs_f64());
    }
}

/// Tells those who watch what was changed, by any instance.
fn tell(changes: &Changes, feed: &Feed) {
    if changes.keys {
        feed.tell("keys.changed", &json!({}));
    }
    for user in changes.users.iter().take(USERS_NAMED) {
        feed.tell("user.changed", &json!({ "user_id": user.as_str() }));
    }
    if changes.everything || changes.users.len() > USERS_NAMED {
        feed.tell("users.changed", &json!({}));
    }
}
