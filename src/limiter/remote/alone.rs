//! Deciding while Redis is away: by what was last seen of it, within this instance's share, remembered as owed.

use super::Remote;
use crate::config::FallbackMode;
use crate::domain::concurrency::InUse;
use crate::domain::decision::Source;
use crate::domain::lease::{ChangeLease, LeaseAsk};
use crate::domain::plan::part_of;
use crate::domain::state::SubjectState;
use crate::domain::time::Timestamp;
use crate::limiter::LimiterError;
use crate::limiter::batch::Planned;
use crate::limiter::ledger::Ledger;
use crate::limiter::local;

impl Remote {
    /// The fallback: by the last state seen, within this instance's share, remembered as owed.
    pub(super) fn decide_alone(&mut self, planned: Planned, ledger: &mut Ledger, local_now: Timestamp) {
        let now = self.redis_time(local_now);
        if self.fallback == FallbackMode::Deny && self.enforcing {
            return ledger.refuse(planned, LimiterError::CountersUnavailable);
        }
        let check = &planned.job.check;
        // What is known to be used does not hold what is left of it.
        self.blocks.give_back(&check.subject);
        let enforcing = self.fallback == FallbackMode::Memory && self.enforcing;
        let (debts, share, has_room) = (&self.debts, self.share, self.lease_debts.has_room());
        let judge = |state: &SubjectState, slots: Option<(LeaseAsk, InUse)>| {
            let mut violations = Vec::new();
            if enforcing {
                violations = local::violations(&planned, state, own_part(&planned, slots, share, has_room), now);
            }
            if enforcing && violations.is_empty() {
                violations = debts.share_violations(&check.subject, &planned.plan, check.cost, share, now);
            }
            violations
        };
        let decision = local::decide(&mut self.warm, &planned, Source::Fallback, now, judge);
        if decision.is_allowed() && !check.dry_run {
            self.debts.record(&check.subject, &planned.plan, check.cost, now);
            if let Some((id, until)) = decision.slots.as_ref().and_then(|slots| slots.taken.clone()) {
                self.lease_debts.record(id, ChangeLease::Hold(until));
            }
        }
        ledger.answer(planned, decision);
    }
}

/// The slots as this instance may give them: its part of them, and none where it could not be remembered.
fn own_part(
    planned: &Planned,
    slots: Option<(LeaseAsk, InUse)>,
    share: f64,
    has_room: bool,
) -> Option<(LeaseAsk, InUse)> {
    let (ask, in_use) = slots?;
    let limit = planned.plan.slots(ask.kind);
    let spent = in_use.held >= part_of(limit, share) || !has_room;
    Some(if spent { (ask, InUse { held: in_use.held.max(limit), ..in_use }) } else { (ask, in_use) })
}
