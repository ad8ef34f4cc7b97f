//! Sends what is due, a few at a time, whichever instance has written it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{CLAIM, PENDING_MAX, Shared};
use crate::domain::delivery::{Attempt, Claim, Outcome};
use crate::observability::outlet::Outlet;

/// Attempts under way at once: a slow receiver gets no more than that.
const IN_FLIGHT: usize = 8;

/// How often it is looked for what is due.
const TICK: Duration = Duration::from_millis(500);

/// In so many ticks it is counted once what waits.
const TICKS_A_COUNT: u32 = 10;

/// Runs until it is told to stop. What is under way then is given back.
pub(super) async fn run(shared: Arc<Shared>, outlet: Outlet, mut stop: oneshot::Receiver<()>) {
    let mut courier = Courier { shared, outlet, in_flight: JoinSet::new(), claims: Vec::new(), ticks: 0 };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => courier.count().await,
            () = courier.shared.written.notified() => {}
            Some(ended) = courier.in_flight.join_next() => courier.ended(ended),
            _ = &mut stop => break,
        }
        courier.send_due().await;
    }
    courier.give_back().await;
}

struct Courier {
    shared: Arc<Shared>,
    outlet: Outlet,
    in_flight: JoinSet<Claim>,
    /// What is in flight.
    claims: Vec<Claim>,
    ticks: u32,
}

impl Courier {
    /// Starts as many attempts as may be.
    async fn send_due(&mut self) {
        let room = IN_FLIGHT.saturating_sub(self.in_flight.len());
        if room == 0 {
            return;
        }
        let now = self.shared.clock.now();
        let claimed = match self.shared.database.claim_webhooks(now, now.saturating_add(CLAIM), room).await {
            Ok(claimed) => claimed,
            Err(error) => return self.shared.table_failed(&error),
        };
        self.shared.table_answered();
        for claim in claimed {
            self.claims.push(claim.clone());
            let shared = Arc::clone(&self.shared);
            self.in_flight.spawn(async move {
                shared.deliver(&claim).await;
                claim
            });
        }
    }

    fn ended(&mut self, ended: Result<Claim, tokio::task::JoinError>) {
        match ended {
            Ok(claim) => self.claims.retain(|other| other.id != claim.id),
            // Whichever it was is due again when its claim ends.
            Err(error) => tracing::error!(%error, "an attempt to send a webhook event has broken off"),
        }
    }

    /// Counts what waits, now and then.
    async fn count(&mut self) {
        if self.ticks == 0
            && let Ok(pending) = self.shared.database.pending_webhooks(PENDING_MAX).await
        {
            self.shared.pending.store(pending, Ordering::Relaxed);
        }
        self.ticks = self.ticks.saturating_add(1).checked_rem(TICKS_A_COUNT).unwrap_or_default();
        let held = i64::try_from(self.outlet.waiting()).unwrap_or(i64::MAX);
        let pending = i64::from(self.shared.pending.load(Ordering::Relaxed));
        self.shared.metrics.webhook_queue_depth.set(pending.saturating_add(held));
    }

    /// What is under way is broken off, and due at once for whoever comes.
    async fn give_back(&mut self) {
        self.in_flight.shutdown().await;
        let attempt = Attempt { error: Some("the service stopped meanwhile"), ..Attempt::default() };
        for claim in std::mem::take(&mut self.claims) {
            let now = self.shared.clock.now();
            if let Err(error) = self.shared.database.settle_webhook(&claim, &attempt, Outcome::Again(now), now).await {
                self.shared.table_failed(&error);
            }
        }
    }
}
