//! Keeping history: usage is gathered, merged and flushed to the database; everything else is written through at once.
//!
//! [`Books`] is the handle that other parts hold. `ledger` gathers, `actor` flushes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::config::DatabaseSettings;
use crate::db::Database;
use actor::PersistenceActor;
use messages::{Flush, RecordUsage, Stop};

mod actor;
mod error;
mod ledger;
pub mod messages;
mod through;

pub use error::BooksError;
use ledger::Ledger;
pub use ledger::{BooksStats, LedgerBounds};

/// How long a flush that somebody waits for may take before they are told that the database is away.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// How long the last flush is tried for, of the ten seconds that a stop may take.
const CLOSE_WAIT: Duration = Duration::from_secs(4);
const CLOSE_PAUSE: Duration = Duration::from_millis(200);

/// The handle of persistence. Clones are one and the same.
#[derive(Clone)]
pub struct Books {
    shared: Arc<Shared>,
}

/// What the handles and the actor both hold. The ledger is here and not in the actor, so that it outlives a panic there.
struct Shared {
    database: Database,
    clock: Clock,
    settings: DatabaseSettings,
    ledger: Mutex<Ledger>,
    arbiter: ArbiterHandle,
    /// Told of each change that was written through.
    changed: Notify,
    actor: ArcSwapOption<actix::Addr<PersistenceActor>>,
}

impl Books {
    /// Starts the persistence actor on a thread of its own. Must be called within an actix system.
    ///
    /// `instance` names this run in the database: no other run of any instance may have the same.
    pub fn start(
        database: Database,
        settings: &DatabaseSettings,
        clock: Clock,
        instance: String,
        bounds: LedgerBounds,
    ) -> Self {
        let shared = Arc::new(Shared {
            database,
            clock,
            settings: settings.clone(),
            ledger: Mutex::new(Ledger::new(instance, bounds)),
            arbiter: Arbiter::new().handle(),
            changed: Notify::new(),
            actor: ArcSwapOption::empty(),
        });
        PersistenceActor::start_again(&shared);
        Self { shared }
    }

    /// Takes usage and counters in. It merges them there and then, behind a lock that is held for no more than that: a
    /// queue of messages would be bounded by their number and not by what they hold.
    pub fn record(&self, recorded: RecordUsage) {
        let now = self.shared.clock.now();
        self.shared.ledger().record(recorded, now);
    }

    /// Waits until everything recorded before this call is in the database.
    ///
    /// # Errors
    /// [`BooksError::Unavailable`] after five seconds at most; what was recorded is kept and tried again.
    pub async fn flush(&self) -> Result<(), BooksError> {
        let (reply, answer) = oneshot::channel();
        let actor = self.shared.actor.load_full().ok_or(BooksError::Stopped)?;
        // A full queue, no answer in time, and a loop that has ended and is about to be started again are all one here.
        let unavailable = || BooksError::Unavailable { source: None };
        actor.try_send(Flush { reply }).map_err(|_| unavailable())?;
        timeout(FLUSH_WAIT, answer).await.ok().and_then(Result::ok).unwrap_or_else(|| Err(unavailable()))
    }

    /// Flushes what there is, trying for four seconds whatever fails, and stops the actor. Nothing may be recorded afterwards.
    pub async fn close(&self) -> Result<(), BooksError> {
        let mut last = Ok(());
        let flushed = timeout(CLOSE_WAIT, async {
            loop {
                last = self.flush().await;
                if matches!(last, Ok(()) | Err(BooksError::Stopped)) {
                    break;
                }
                sleep(CLOSE_PAUSE).await;
            }
        });
        let in_time = flushed.await.is_ok();
        if let Some(actor) = self.shared.actor.swap(None) {
            // It may be gone already. Otherwise it answers when it has begun to stop.
            let _ = actor.send(Stop).await;
        }
        self.shared.arbiter.stop();
        let lost = self.stats().pending_rows;
        if lost > 0 {
            tracing::error!(rows = lost, "stopped with usage that did not reach the database");
        }
        if in_time { last } else { Err(last.err().unwrap_or(BooksError::Unavailable { source: None })) }
    }

    /// Waits until something was changed here since the last time, by one who waits.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    pub fn stats(&self) -> BooksStats {
        self.shared.ledger().stats()
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Books").field("database", &self.shared.database).finish_non_exhaustive()
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic while merging leaves at worst one row unmerged, and the rest is worth keeping.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
