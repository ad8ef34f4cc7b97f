//! What a lane takes of busy subjects' limits beforehand, and what it waits for where others have.

use std::sync::Arc;

use super::Remote;
use crate::counters::redis::{BatchId, GivenBack};
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::Source;
use crate::domain::plan::Plan;
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};
use crate::limiter::batch::{Group, Planned};
use crate::limiter::ledger::Ledger;

/// A check waits no longer for what other instances hold.
const PATIENCE: Period = Period::from_micros(50_000);

impl Remote {
    /// The block to ask for together with checks of a subject, and the plan that it is charged by.
    pub(super) fn block_for(&mut self, group: &Group, now: Timestamp) -> Option<(Arc<Plan>, Cost)> {
        let plan = &group.checks.last()?.plan;
        let is_plain = |planned: &Planned| planned.job.check.is_plain() && Arc::ptr_eq(&planned.plan, plan);
        if !self.enforcing || !group.checks.iter().all(is_plain) {
            return None;
        }
        self.blocks.ask(&group.subject, plan, self.warm.own(&group.subject)?, now)
    }

    /// Answers a check out of the subject's block.
    pub(super) fn give_out(&mut self, planned: Planned, now: Timestamp, ledger: &mut Ledger) {
        let check = &planned.job.check;
        let state = self.warm.charge_to(&check.subject, &planned.plan.tier, now);
        decide::charge(state, &planned.plan, check.cost, now);
        let limits = decide::statuses(state, &planned.plan, now);
        let decision = planned.decision(limits, Vec::new(), None, Source::Cache, now);
        ledger.answer(planned, decision);
    }

    /// Has a check wait for what other instances hold of its subject; it is given back where it has waited long enough.
    pub(super) fn keep_waiting(&mut self, mut planned: Planned, now: Timestamp) -> Option<Planned> {
        let since = *planned.waits_since.get_or_insert(now);
        if since.saturating_add(PATIENCE) <= now {
            return Some(planned);
        }
        let subject = &planned.job.check.subject;
        if !self.wanted.contains(subject) {
            self.wanted.push(subject.clone());
        }
        self.kept_waiting.push(planned);
        None
    }

    /// Of which subjects other instances should give their blocks back.
    pub fn take_wanted(&mut self) -> Vec<Subject> {
        std::mem::take(&mut self.wanted)
    }

    pub fn keeps_any_waiting(&self) -> bool {
        !self.kept_waiting.is_empty()
    }

    /// Checks that were kept waiting are asked again.
    pub fn ask_again(&mut self) {
        for planned in std::mem::take(&mut self.kept_waiting) {
            self.batch.add(planned);
        }
    }

    /// Another instance is kept waiting by the subject's block.
    pub fn give_back(&mut self, subject: &Subject) {
        self.blocks.give_back(subject);
    }

    /// No block is needed any more.
    pub fn give_back_all(&mut self) {
        self.blocks.give_back_all();
    }

    /// Blocks that have ended go back.
    pub fn give_back_ended(&mut self, now: Timestamp) {
        let now = self.redis_time(now);
        self.blocks.give_back_ended(now);
    }

    /// What is to be given back before anything else is asked; while Redis is away it stays.
    pub fn take_returns(&mut self) -> Option<(BatchId, Vec<GivenBack>)> {
        if !self.keeps_leases() {
            return None;
        }
        let (id, returns) = self.blocks.take_returns();
        if returns.is_empty() {
            return None;
        }
        let id = id.unwrap_or_else(|| {
            let id = self.next_id;
            self.next_id = id.next();
            id
        });
        Some((id, returns))
    }

    /// Nobody said that these were given back.
    pub fn lose_returns(&mut self, id: BatchId, returns: Vec<GivenBack>) {
        self.blocks.lose(id, returns);
    }

    /// Another instance has reset the subject: what is remembered here of its counters is void.
    pub fn reset_elsewhere(&mut self, subject: &Subject) {
        self.denials.forget(subject);
        self.blocks.forget(subject);
    }
}
