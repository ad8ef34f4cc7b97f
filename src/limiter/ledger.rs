//! What becomes of a decision: it is counted for history and metrics, looked at for thresholds, and its caller is told.

use std::sync::Arc;

use super::batch::Planned;
use super::inbox::{Answered, Inbox};
use super::memos::Memos;
use super::messages::Reply;
use super::thresholds::Thresholds;
use super::usage::UsageBuffer;
use super::{LimiterError, Status};
use crate::domain::decision::Decision;
use crate::observability::feed::Seen;
use crate::observability::metrics::{CheckCounters, Metrics};

/// Counts decisions for history and metrics, and answers them.
#[derive(Debug)]
pub struct Ledger {
    pub usage: UsageBuffer,
    counted: CheckCounters,
    /// For those who watch.
    seen: Seen,
    /// Answers that go out together, by the thread that waits for them: as many lists as there are worker threads.
    outgoing: Vec<(Arc<Inbox>, Vec<Answered>)>,
    pub memos: Memos,
    /// `None` where nobody is told of them.
    thresholds: Option<Thresholds>,
    pub metrics: Arc<Metrics>,
}

impl Ledger {
    /// `capacity` is how many checks with a `request_id` are remembered.
    pub fn new(metrics: Arc<Metrics>, capacity: usize, thresholds: Option<Thresholds>) -> Self {
        let (usage, counted, seen) = (UsageBuffer::default(), CheckCounters::default(), Seen::default());
        Self { usage, counted, seen, outgoing: Vec::new(), memos: Memos::new(capacity), thresholds, metrics }
    }

    /// Sends what [`Ledger::answer`] has put by.
    pub fn send_answers(&mut self) {
        for (inbox, answers) in self.outgoing.iter_mut().filter(|(_, answers)| !answers.is_empty()) {
            inbox.put(answers);
        }
    }

    /// Tells those who watch what was decided since the last time.
    pub fn show_seen(&mut self) {
        self.metrics.feed.take(&mut self.seen);
    }

    /// Counts the decision, and puts the answer by for its caller. A dry run is counted nowhere, and a repeat not again.
    pub fn answer(&mut self, planned: Planned, mut decision: Decision) {
        let check = &planned.job.check;
        if check.explain && !decision.repeated {
            decision.explanation = Some(Box::new(planned.explanation(decision.decided_at)));
        }
        if !check.dry_run && !decision.repeated {
            self.usage.record(check, &decision);
            self.counted.count(&self.metrics, &decision);
            if self.metrics.feed.is_watched() {
                self.seen.note(&decision);
            }
            if let Some(thresholds) = &mut self.thresholds {
                thresholds.look(&planned.plan, &decision);
            }
            if let Some(request_id) = check.request_id.as_ref().filter(|_| decision.is_allowed()) {
                self.memos.remember(request_id, &decision);
            }
        }
        let Planned { job, plan, account, .. } = planned;
        // The place is free before the caller can ask again.
        drop(job.permit);
        // Where the caller has left there is nobody to tell; what was charged stays charged.
        match job.reply {
            Reply::Gathered(sender, inbox) => {
                match self.outgoing.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &inbox)) {
                    Some((_, answers)) => answers.push((sender, Ok(decision))),
                    None => self.outgoing.push((inbox, vec![(sender, Ok(decision))])),
                }
            }
            Reply::Status(sender) => {
                let active_override = account.and_then(|account| account.active_override(decision.decided_at).cloned());
                drop(sender.send(Ok(Status { decision, plan, active_override })));
            }
        }
    }

    pub fn refuse(&self, planned: Planned, error: LimiterError) {
        planned.job.refuse(error);
    }
}
