//! Slots that requests hold: renewed for as long as they are, and given back when the last of the answer is gone, whatever became
//! of it.

use std::collections::HashMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;
use foldhash::quality::RandomState;
use futures_util::future::join_all;

use crate::domain::lease::{ChangeLease, LEASE_OF_A_CHECK, LeaseId};
use crate::limiter::Limiter;

/// A third of what a lease lasts: one that could not be renewed is tried again before it ends.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// Renewals under way at once.
const RENEWALS_AT_ONCE: usize = 64;

/// The slots that are held: as many as there are requests under way.
#[derive(Debug)]
pub struct Slots {
    limiter: Limiter,
    /// By the secrets of their leases.
    held: Mutex<HashMap<u128, LeaseId, RandomState>>,
}

impl Slots {
    pub fn new(limiter: Limiter) -> Self {
        Self { limiter, held: Mutex::default() }
    }

    /// Keeps a slot that was taken until what is returned is dropped.
    pub fn hold(self: &Arc<Self>, lease: LeaseId) -> Held {
        let secret = lease.secret;
        self.held().insert(secret, lease);
        Held { slots: Arc::clone(self), secret }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u128, LeaseId, RandomState>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew_all(&self) {
        let leases: Vec<LeaseId> = self.held().values().cloned().collect();
        for some in leases.chunks(RENEWALS_AT_ONCE) {
            let renew =
                |lease: &LeaseId| self.limiter.change_lease(lease.clone(), ChangeLease::Renew(LEASE_OF_A_CHECK));
            let failed = join_all(some.iter().map(renew)).await.iter().filter(|renewed| renewed.is_err()).count();
            if failed > 0 {
                tracing::warn!(failed, "slots could not be renewed: it is tried again before they end");
            }
        }
    }
}

/// Renews what is held, for as long as anybody has the slots.
pub async fn renew(slots: Weak<Slots>) {
    loop {
        actix_web::rt::time::sleep(RENEW_EVERY).await;
        match slots.upgrade() {
            Some(slots) => slots.renew_all().await,
            None => return,
        }
    }
}

/// A slot that is held. Dropped, it is given back, on whatever thread and also while that panics.
#[derive(Debug)]
pub struct Held {
    slots: Arc<Slots>,
    secret: u128,
}

impl Drop for Held {
    fn drop(&mut self) {
        let lease = self.slots.held().remove(&self.secret);
        if let Some(lease) = lease {
            self.slots.limiter.release(lease);
        }
    }
}

/// A body that holds a slot until it is sent, or given up.
struct HoldingBody {
    body: BoxBody,
    _held: Held,
}

impl Held {
    /// The slot is held until the body of the answer is gone.
    pub fn until_sent(self, answer: HttpResponse) -> HttpResponse {
        answer.map_body(|_, body| BoxBody::new(HoldingBody { body, _held: self }))
    }
}

impl MessageBody for HoldingBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::decision::Decision;
    use crate::domain::lease::{LeaseAsk, LeaseKind};
    use crate::domain::subject::{Subject, UserId};
    use crate::domain::tier::{Tier, TierName};
    use crate::domain::time::{Period, Timestamp};
    use crate::limiter::{Check, Outbox, wish_for_lease};
    use crate::middleware::Quota;

    async fn take(outbox: &Outbox) -> Decision {
        let wish = wish_for_lease(LEASE_OF_A_CHECK).unwrap();
        let lease = Some(LeaseAsk { kind: LeaseKind::Request, wish });
        let subject = Subject::User(UserId::parse("42").unwrap());
        outbox.check(Check { lease, dry_run: false, ..Check::look(subject, None) }).await.unwrap()
    }

    #[actix_web::test]
    async fn a_slot_is_renewed_while_it_is_held_and_free_at_once_when_it_is_not() {
        let clock = Clock::manual(Timestamp::from_seconds(1_800_000_000));
        let tier = Tier { concurrent_requests: 1, ..Tier::of_limits(TierName::free(), Vec::new()) };
        let quota = Quota::builder().tier(tier).clock(clock.clone()).start().await.unwrap();
        let (outbox, slots) = (Outbox::new(quota.0.limiter.clone()), &quota.0.slots);
        let (lease, _) = take(&outbox).await.slots.unwrap().taken.unwrap();
        let held = slots.hold(lease);
        for _ in 0..5 {
            clock.advance(Period::from_seconds(50));
            slots.renew_all().await;
        }
        assert!(!take(&outbox).await.is_allowed(), "it is held");
        drop(held);
        assert!(slots.held().is_empty());
        assert!(take(&outbox).await.is_allowed(), "it is free");
        quota.stop().await;
    }
}
