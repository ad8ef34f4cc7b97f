//! What a shard can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Message;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tracing::Span;

use super::check::Check;
use super::inbox::{Inbox, Outcome};
use super::{LimiterError, Status};
use crate::counters::redis::Notice;
use crate::domain::lease::{ChangeLease, Lease, LeaseId, LeasePlace};
use crate::domain::limit::SlotId;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;

/// A place in a shard's queue, given back when it is dropped.
///
/// This is the bound: an actix mailbox takes whatever is sent to it by `send` and `do_send`, however full.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// `None` where `bound` checks wait already.
    pub fn take(queued: &Arc<AtomicUsize>, bound: usize) -> Option<Self> {
        let take = |waiting: usize| (waiting < bound).then(|| waiting.saturating_add(1));
        queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Self(Arc::clone(queued)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where an answer goes. A caller that has left is not told.
#[derive(Debug)]
pub enum Reply {
    /// Through the inbox of the thread that waits, together with others.
    Gathered(oneshot::Sender<Outcome>, Arc<Inbox>),
    Status(oneshot::Sender<Result<Status, LimiterError>>),
}

/// A check on its way: it holds its place in the queue until it is answered.
#[derive(Debug)]
pub struct Job {
    pub check: Check,
    pub reply: Reply,
    pub permit: Permit,
    /// What a trace shows of it: a round trip to Redis is shown below.
    pub span: Span,
}

impl Job {
    pub fn refuse(self, error: LimiterError) {
        // The place is free before the caller can ask again.
        drop(self.permit);
        match self.reply {
            Reply::Gathered(sender, _) => drop(sender.send(Err(error))),
            Reply::Status(sender) => drop(sender.send(Err(error))),
        }
    }
}

/// Decide these, those of one subject in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Checks {
    pub jobs: SmallVec<[Job; 1]>,
}

/// Change a lease, and say when it ends then: `None` where it is not held.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ChangeHeld {
    pub id: LeaseId,
    pub change: ChangeLease,
    pub reply: oneshot::Sender<Result<Option<Timestamp>, LimiterError>>,
    /// Its place in the queue.
    pub permit: Permit,
}

/// List the leases that the subject holds behind a place, in their order, at most so many.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ListHeld {
    pub subject: Subject,
    pub after: Option<LeasePlace>,
    pub limit: usize,
    pub reply: oneshot::Sender<Result<Vec<Lease>, LimiterError>>,
    /// Its place in the queue.
    pub permit: Permit,
}

/// Set the subject's slots to nothing used; `None` is all of them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reset {
    pub subject: Subject,
    pub slots: Option<Vec<SlotId>>,
    pub reply: oneshot::Sender<Result<(), LimiterError>>,
}

/// What is remembered of these users is stale; `None` is every user.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forget {
    pub users: Option<Vec<UserId>>,
    pub reply: oneshot::Sender<()>,
}

/// Another instance has told something about a subject of this shard.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Heard {
    pub notice: Notice,
}

/// Tell other instances something.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Tell {
    pub notice: Notice,
}

/// Hand the gathered usage over now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct HandOver {
    pub reply: oneshot::Sender<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_queue_is_given_back() {
        let queued = Arc::new(AtomicUsize::new(0));
        let first = Permit::take(&queued, 1);
        assert!(first.is_some());
        assert!(Permit::take(&queued, 1).is_none());
        drop(first);
        assert!(Permit::take(&queued, 1).is_some());
        assert_eq!(queued.load(Ordering::Relaxed), 0);
    }
}
