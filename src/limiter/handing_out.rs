//! What Redis decided, as each check is told it: its limits are worked out by the same rule from the state that it met.

use super::batch::Planned;
use super::local;
use super::memos::Memo;
use crate::counters::redis::{Told, Verdict};
use crate::domain::concurrency;
use crate::domain::decide;
use crate::domain::decision::{Decision, Source, Violation};
use crate::domain::lease::Lease;
use crate::domain::state::SubjectState;
use crate::domain::time::Timestamp;

/// The decision about a check that met `state`, which is charged with it; `None` where what Redis says can't be
/// understood.
pub fn decision(planned: &Planned, told: Told, state: &mut SubjectState, now: Timestamp) -> Option<Decision> {
    let check = &planned.job.check;
    if let Some(remembered) = told.remembered {
        return Memo::decision(&check.subject, *remembered);
    }
    let slots = check.lease_ask().zip(told.in_use);
    let mut violations = Vec::new();
    if told.verdict == Verdict::Denied {
        violations = decide::violations(state, &planned.plan, check.cost, now);
        for Violation { limit, room_at } in &mut violations {
            // The entries of a log stand in Redis alone.
            let slot = planned.plan.limit(limit).map(|limit| limit.slot);
            if let Some((_, room)) = told.log_rooms.iter().find(|(log, _)| Some(*log) == slot) {
                *room_at = Some(*room);
            }
        }
        violations.extend(local::slot_violation(planned, slots));
        if violations.is_empty() {
            // What is known here does not explain it, and nothing was charged.
            return None;
        }
    }
    let limits = if told.verdict == Verdict::Allowed && check.dry_run {
        decide::statuses_as_if(state, &planned.plan, check.cost, now)
    } else {
        if told.verdict == Verdict::Charged {
            decide::charge(state, &planned.plan, check.cost, now);
        }
        decide::statuses(state, &planned.plan, now)
    };
    // What Redis counts is with the one that was taken.
    let slots = slots.map(|(ask, mut in_use)| {
        if let (Verdict::Charged, Some((secret, lasts))) = (told.verdict, ask.taken()) {
            in_use.held = in_use.held.saturating_sub(1);
            let lease = Lease { kind: ask.kind, secret, expires_at: now.saturating_add(lasts) };
            concurrency::take(state, lease, now);
        }
        (ask, in_use)
    });
    Some(planned.decision(limits, violations, slots, Source::Redis, now))
}

/// Takes over the leases that this instance knows of: Redis' answer does not hold them.
pub fn keep_leases(state: &mut SubjectState, known: &SubjectState, now: Timestamp) {
    for lease in known.leases().iter().filter(|lease| now < lease.expires_at) {
        concurrency::take(state, *lease, now);
    }
}
