//! Deciding by a table in this process: with embedded counters, and while Redis is away.

use super::batch::Planned;
use crate::counters::table::CounterTable;
use crate::domain::concurrency::{self, InUse};
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::{Decision, Source, Violation};
use crate::domain::lease::{Lease, LeaseAsk, LeaseWish};
use crate::domain::state::SubjectState;
use crate::domain::time::Timestamp;

/// Decides a check and charges it. `judge` says what is violated by the state and the slots that are held.
pub fn decide(
    table: &mut CounterTable,
    planned: &Planned,
    source: Source,
    now: Timestamp,
    judge: impl FnOnce(&SubjectState, Option<(LeaseAsk, InUse)>) -> Vec<Violation>,
) -> Decision {
    let Planned { job, plan, .. } = planned;
    let check = &job.check;
    let nothing = SubjectState::default();
    let state = table.get(&check.subject, &plan.tier).unwrap_or(&nothing);
    let asked = check.lease_ask();
    let slots = asked.map(|ask| (ask, concurrency::in_use(state, ask.kind, plan.slots(ask.kind), now)));
    let violations = judge(state, slots);
    let takes = asked.and_then(|ask| ask.taken().map(|taken| (ask.kind, taken)));
    let limits = if !violations.is_empty() {
        decide::statuses(state, plan, now)
    } else if check.dry_run {
        decide::statuses_as_if(state, plan, check.cost, now)
    } else if check.cost == Cost::ZERO && takes.is_none() {
        decide::statuses(state, plan, now)
    } else {
        let state = table.charge_to(&check.subject, &plan.tier, now);
        decide::charge(state, plan, check.cost, now);
        if let Some((kind, (secret, lasts))) = takes {
            concurrency::take(state, Lease { kind, secret, expires_at: now.saturating_add(lasts) }, now);
        }
        decide::statuses(state, plan, now)
    };
    planned.decision(limits, violations, slots, source, now)
}

/// What is violated where limits are enforced. A slot that is only counted denies nobody.
pub fn violations(
    planned: &Planned,
    state: &SubjectState,
    slots: Option<(LeaseAsk, InUse)>,
    now: Timestamp,
) -> Vec<Violation> {
    let mut violations = decide::violations(state, &planned.plan, planned.job.check.cost, now);
    violations.extend(slot_violation(planned, slots));
    violations
}

/// That no slot is free for the check, where it wishes for one.
pub fn slot_violation(planned: &Planned, slots: Option<(LeaseAsk, InUse)>) -> Option<Violation> {
    let (ask, in_use) = slots.filter(|(ask, _)| ask.wish != LeaseWish::Count)?;
    in_use.violation(ask.kind, &planned.plan)
}
