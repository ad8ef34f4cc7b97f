//! Webhooks: what happens is told to one address, the operator's, as Standard Webhooks 1.0.0 has it.
//!
//! An [`Outlet`] takes events in without waiting; [`recorder`] writes them down; [`courier`] sends what is written and due, and
//! tries again what was not taken. Between the two stands the table: what is in it outlives this process.

mod courier;
mod recorder;
mod sender;
mod signature;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::WebhookSettings;
use crate::db::{Database, DbError};
use crate::domain::delivery::{Attempt, Claim, NewDelivery, Outcome};
use crate::domain::event::{About, Event, EventId};
use crate::domain::time::Period;
use crate::observability::chain::Chain;
use crate::observability::metrics::Metrics;
use crate::observability::outlet::Outlet;

use sender::Sender;

/// Events that wait to be written: so many are held while the database is away. The next find no room.
const HELD_MAX: usize = 8192;

/// Events that wait to be sent, of all instances. While there are as many, new ones are dropped.
const PENDING_MAX: u32 = 100_000;

/// Nobody else sends an event for so long: an attempt, and the writing down of what came of it.
const CLAIM: Period = Period::from_seconds(30);

/// How long the last events are tried to be written, of the ten seconds that a stop may take.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// Why events can't be told.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the HTTP client of webhooks can't be made")]
    Client(#[source] reqwest::Error),
    #[error("the secret of webhooks can't be used")]
    Secret,
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    #[error("the event could not be written down")]
    Database(#[from] DbError),
}

/// How the telling goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHealth {
    /// Events that wait to be sent, of all instances; what waits to be written here is with them.
    pub pending: u64,
    /// Since the start.
    pub dropped: u64,
    /// Why the last attempt failed, or what else is wrong; `None` where nothing is.
    pub error: Option<String>,
}

/// The handle of webhooks. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
    outlet: Outlet,
    /// The running tasks, to see that they run.
    tasks: [AbortHandle; 2],
}

/// What the handle and both tasks hold.
#[derive(Debug)]
struct Shared {
    database: Database,
    sender: Sender,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Whose changes of state are told of.
    instance: String,
    /// Told when something was written that is due.
    written: Notify,
    /// Events that wait to be sent, as last counted, and what this instance has added and settled since.
    pending: AtomicU32,
    /// The table can't be reached: told of once.
    table_away: AtomicBool,
    /// As many events wait as may: told of once.
    full: AtomicBool,
    /// Why the last attempt failed.
    failing: Mutex<Option<String>>,
}

/// The running tasks.
#[derive(Debug)]
pub struct Running {
    recorder: (oneshot::Sender<()>, JoinHandle<()>),
    courier: (oneshot::Sender<()>, JoinHandle<()>),
}

impl Webhooks {
    /// Starts both tasks, on the runtime that it is called in. `instance` names this run.
    pub fn start(
        settings: &WebhookSettings,
        database: Database,
        clock: Clock,
        metrics: Arc<Metrics>,
        instance: String,
    ) -> Result<(Self, Running), WebhookError> {
        let (events, inbox) = mpsc::channel(HELD_MAX);
        let outlet = Outlet::new(events, clock.clone(), Arc::clone(&metrics));
        let shared = Arc::new(Shared::new(settings, database, clock, metrics, instance)?);
        let (stop_recorder, recorder_stops) = oneshot::channel();
        let (stop_courier, courier_stops) = oneshot::channel();
        let recorder = tokio::spawn(recorder::run(Arc::clone(&shared), inbox, recorder_stops));
        let courier = tokio::spawn(courier::run(Arc::clone(&shared), outlet.clone(), courier_stops));
        let tasks = [recorder.abort_handle(), courier.abort_handle()];
        let running = Running { recorder: (stop_recorder, recorder), courier: (stop_courier, courier) };
        Ok((Self { shared, outlet, tasks }, running))
    }

    /// Where events go in.
    pub const fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Sends one event at once and once, as any other is sent, and says what the receiver said.
    pub async fn test(&self) -> Result<(EventId, Attempt), WebhookError> {
        let Shared { database, clock, .. } = &*self.shared;
        let now = clock.now();
        let event = self.shared.delivery(Event { at: now, about: About::Test })?;
        let claim = database.add_claimed_webhook(&event, now, now.saturating_add(CLAIM)).await?;
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        let attempt = self.shared.deliver(&claim).await;
        Ok((claim.id, attempt))
    }

    pub fn health(&self) -> WebhookHealth {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let has_ended = self.tasks.iter().any(AbortHandle::is_finished);
        let pending = u64::from(self.shared.pending.load(Ordering::Relaxed));
        WebhookHealth {
            pending: pending.saturating_add(self.outlet.waiting() as u64),
            dropped: self.shared.metrics.webhook_dropped.get(),
            error: if has_ended { Some("a task has ended by itself".to_owned()) } else { failing },
        }
    }
}

impl Running {
    /// Writes what was told, and gives back what is being sent: another instance, or the next start, sends it. It takes three
    /// seconds at most. Nothing may be told any more.
    pub async fn stop(self) {
        let Self { recorder: (stop_recorder, recorder), courier: (stop_courier, courier) } = self;
        // Where a task has ended by itself there is nothing to stop.
        stop_recorder.send(()).ok();
        stop_courier.send(()).ok();
        let tasks = [recorder.abort_handle(), courier.abort_handle()];
        if timeout(CLOSE_WAIT, async { tokio::join!(recorder, courier) }).await.is_err() {
            tasks.iter().for_each(AbortHandle::abort);
            tracing::error!("stopped with webhook events that did not reach the database");
        }
    }
}

impl Shared {
    fn new(
        settings: &WebhookSettings,
        database: Database,
        clock: Clock,
        metrics: Arc<Metrics>,
        instance: String,
    ) -> Result<Self, WebhookError> {
        Ok(Self {
            database,
            sender: Sender::new(settings)?,
            clock,
            metrics,
            instance,
            written: Notify::new(),
            pending: AtomicU32::new(0),
            table_away: AtomicBool::new(false),
            full: AtomicBool::new(false),
            failing: Mutex::default(),
        })
    }

    /// Names an event, and puts it in the words that are sent.
    fn delivery(&self, event: Event) -> Result<NewDelivery, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let body = event.body(&self.instance);
        Ok(NewDelivery { id: EventId::of(u128::from_be_bytes(random)), event, body })
    }

    /// Makes an attempt, and writes down what came of it.
    async fn deliver(&self, claim: &Claim) -> Attempt {
        let attempt = self.sender.send(claim, self.clock.now()).await;
        let now = self.clock.now();
        // Without chance all come back at one time, and that is all.
        let outcome = attempt.outcome(claim.attempts, claim.give_up_at, now, getrandom::u64().unwrap_or_default());
        self.note(claim, &attempt, outcome);
        if !matches!(outcome, Outcome::Again(_)) {
            let settled = |pending: u32| pending.checked_sub(1);
            // Others may have settled some that were counted here.
            self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, settled).ok();
        }
        if let Err(error) = self.database.settle_webhook(claim, &attempt, outcome, now).await {
            // It is due again when the claim ends.
            self.table_failed(&error);
        }
        attempt
    }

    /// Counts an attempt, and tells of the first that fails and of the first that does not.
    fn note(&self, claim: &Claim, attempt: &Attempt, outcome: Outcome) {
        let metrics = &self.metrics;
        match outcome {
            Outcome::Delivered => metrics.webhook_delivered.inc(),
            Outcome::Again(_) => metrics.webhook_failed.inc(),
            Outcome::GivenUp => metrics.webhook_given_up.inc(),
        }
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.succeeded() {
            if failing.take().is_some() {
                tracing::info!("the receiver of webhooks takes events again");
            }
            return;
        }
        let reason = attempt.reason();
        if failing.is_none() {
            tracing::warn!(id = claim.id.as_str(), reason, "the receiver of webhooks does not take an event");
        }
        if outcome == Outcome::GivenUp {
            tracing::error!(id = claim.id.as_str(), reason, attempts = claim.attempts, "a webhook event was given up");
        }
        *failing = Some(reason);
    }

    fn table_failed(&self, error: &DbError) {
        if !self.table_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %Chain(error), "the table of webhook events can't be reached: they wait");
        }
    }

    fn table_answered(&self) {
        if self.table_away.swap(false, Ordering::Relaxed) {
            tracing::info!("the table of webhook events is reached again");
        }
    }
}
