//! The checks of one worker thread, on their way to the shards and back.
//!
//! While the thread's event loop works through what has arrived, its checks are gathered; then each shard is sent one
//! message with all of them, and sends its answers back together. Two threads wake each other once a burst, not once a
//! check: a wake is a system call and often a switch between threads, which costs more than deciding.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::oneshot;
use tracing::Span;

use super::inbox::{Inbox, Outcome};
use super::messages::{Checks, Job, Reply};
use super::routing::shard_of;
use super::spans::decision_span;
use super::{Check, Limiter, LimiterError};
use crate::clock::Stopwatch;

/// A worker thread's way to the shards. It does not leave its thread; clones share it.
#[derive(Debug, Clone)]
pub struct Outbox(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    limiter: Limiter,
    /// Checks that wait to be sent, a list for each shard.
    gathered: RefCell<Vec<SmallVec<[Job; 1]>>>,
    /// The sending is arranged for.
    is_due: Cell<bool>,
    /// Made with the first check: its reader needs the running event loop.
    inbox: OnceCell<Arc<Inbox>>,
}

impl Outbox {
    pub fn new(limiter: Limiter) -> Self {
        let mut gathered = Vec::new();
        gathered.resize_with(limiter.shards.len(), SmallVec::new);
        Self(Rc::new(Inner {
            limiter,
            gathered: RefCell::new(gathered),
            is_due: Cell::new(false),
            inbox: OnceCell::new(),
        }))
    }

    /// Decides one check. Waits for as long as the counters take: with Redis, at most the deadline.
    pub async fn check(&self, check: Check) -> Outcome {
        let (watch, span) = (Stopwatch::start(), decision_span(1));
        let decision = self.gather(check, &span)?.await.map_err(|_| LimiterError::Stopped)??;
        self.0.limiter.metrics.observe_check(decision.source, watch.elapsed());
        span.record("source", decision.source.as_str()).record("allowed", decision.is_allowed());
        Ok(decision)
    }

    /// Decides many checks; those of one subject in the order given. The answers stand in the order of the checks.
    pub async fn check_all(&self, checks: Vec<Check>) -> Vec<Outcome> {
        let span = decision_span(checks.len());
        let waiting: Vec<_> = checks.into_iter().map(|check| self.gather(check, &span)).collect();
        let mut outcomes = Vec::with_capacity(waiting.len());
        for answer in waiting {
            outcomes.push(match answer {
                Ok(answer) => answer.await.unwrap_or(Err(LimiterError::Stopped)),
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    /// Puts a check with those that are sent when the event loop has worked through what had arrived.
    fn gather(&self, check: Check, span: &Span) -> Result<oneshot::Receiver<Outcome>, LimiterError> {
        let inner = &self.0;
        let number = shard_of(&check.subject, inner.limiter.shards.len());
        let shard = inner.limiter.shards.get(number).ok_or(LimiterError::Stopped)?;
        let inbox = inner.inbox.get_or_init(|| {
            let inbox = Arc::new(Inbox::default());
            actix::spawn(Arc::clone(&inbox).hand_out());
            inbox
        });
        let (sender, answer) = oneshot::channel();
        let job = inner.limiter.job(shard, check, Reply::Gathered(sender, Arc::clone(inbox)), span.clone())?;
        if let Some(jobs) = inner.gathered.borrow_mut().get_mut(number) {
            jobs.push(job);
        }
        if !inner.is_due.replace(true) {
            let inner = Rc::clone(inner);
            actix::spawn(async move { inner.send() });
        }
        Ok(answer)
    }
}

impl Inner {
    fn send(&self) {
        self.is_due.set(false);
        for (shard, jobs) in self.limiter.shards.iter().zip(self.gathered.borrow_mut().iter_mut()) {
            if !jobs.is_empty() {
                shard.address.load().do_send(Checks { jobs: std::mem::take(jobs) });
            }
        }
    }
}
