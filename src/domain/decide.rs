//! The rule of limiting: a check passes only if every enforced limit has room, and is then charged to all of them.
//!
//! `counters/lua/decide.lua` is this file in Lua; scenarios in `tests/it` run both.

use super::cost::Cost;
use super::decision::{LimitStatus, Violation};
use super::fixed_window;
use super::limit::Algorithm;
use super::plan::{Plan, PlannedLimit};
use super::state::SubjectState;
use super::time::Timestamp;

/// The enforced limits that have no room for `cost`. Empty means the check may pass. A cost of 0 always may.
pub fn violations(state: &SubjectState, plan: &Plan, cost: Cost, now: Timestamp) -> Vec<Violation> {
    if cost == Cost::ZERO {
        return Vec::new();
    }
    let violated = |limit: &&PlannedLimit| limit.enforce && !has_room(state, limit, cost, now);
    plan.limits.iter().filter(violated).map(|limit| violation(state, limit, cost, now)).collect()
}

/// Charges every limit of the plan, whether it has room or not. A cost of 0 leaves no trace.
pub fn charge(state: &mut SubjectState, plan: &Plan, cost: Cost, now: Timestamp) {
    if cost == Cost::ZERO {
        return;
    }
    for limit in &plan.limits {
        match limit.algorithm {
            Algorithm::FixedWindow { window } => fixed_window::charge(state, limit.slot, window, cost, now),
        }
    }
}

/// Each limit of the plan as it stands.
pub fn statuses(state: &SubjectState, plan: &Plan, now: Timestamp) -> Vec<LimitStatus> {
    plan.limits.iter().map(|limit| status(state, limit, now)).collect()
}

/// Each limit of the plan as it would stand had the cost been charged.
pub fn statuses_as_if(state: &SubjectState, plan: &Plan, cost: Cost, now: Timestamp) -> Vec<LimitStatus> {
    let mut as_if = state.clone();
    charge(&mut as_if, plan, cost, now);
    statuses(&as_if, plan, now)
}

fn has_room(state: &SubjectState, limit: &PlannedLimit, cost: Cost, now: Timestamp) -> bool {
    let used = match limit.algorithm {
        Algorithm::FixedWindow { .. } => fixed_window::used(state, limit.slot, now),
    };
    used.saturating_add(cost.units()) <= limit.requests
}

fn violation(state: &SubjectState, limit: &PlannedLimit, cost: Cost, now: Timestamp) -> Violation {
    let room_at = match limit.algorithm {
        _ if cost.units() > limit.requests => None,
        Algorithm::FixedWindow { window } => Some(fixed_window::end(state, limit.slot, window, now)),
    };
    Violation { limit: limit.name.clone(), room_at }
}

fn status(state: &SubjectState, limit: &PlannedLimit, now: Timestamp) -> LimitStatus {
    let (used, reset_at) = match limit.algorithm {
        Algorithm::FixedWindow { window } => {
            (fixed_window::used(state, limit.slot, now), fixed_window::end(state, limit.slot, window, now))
        }
    };
    LimitStatus {
        name: limit.name.clone(),
        limit: limit.requests,
        used,
        reset_at,
        period: limit.algorithm.period(),
        enforce: limit.enforce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::limit::LimitName;
    use crate::domain::tier::{Tier, TierName};

    fn plan(per_hour: u64, per_day: u64) -> Plan {
        Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), per_hour, per_day, 1))
    }

    fn cost(units: u64) -> Cost {
        Multiplier::ONE.times(Items::new(units).unwrap())
    }

    const NOW: Timestamp = Timestamp::from_seconds(90_000);

    #[test]
    fn a_check_that_one_limit_denies_leaves_the_others_untouched() {
        let plan = plan(10, 5);
        let mut state = SubjectState::default();
        charge(&mut state, &plan, cost(5), NOW);
        let violated = violations(&state, &plan, cost(1), NOW);
        assert_eq!(violated.len(), 1);
        assert_eq!(violated[0].limit, LimitName::day());
        assert_eq!(violated[0].room_at, Some(Timestamp::from_seconds(172_800)));
        assert_eq!(statuses(&state, &plan, NOW)[0].used, 5);
    }

    #[test]
    fn a_cost_above_the_limit_cannot_be_waited_out() {
        let violated = violations(&SubjectState::default(), &plan(10, 100), cost(11), NOW);
        assert_eq!(violated, vec![Violation { limit: LimitName::hour(), room_at: None }]);
    }

    #[test]
    fn a_cost_of_zero_passes_a_limit_of_zero_and_leaves_no_trace() {
        let plan = plan(0, 0);
        let mut state = SubjectState::default();
        assert!(violations(&state, &plan, Cost::ZERO, NOW).is_empty());
        charge(&mut state, &plan, Cost::ZERO, NOW);
        assert_eq!(state, SubjectState::default());
    }

    #[test]
    fn a_limit_that_is_not_enforced_counts_and_never_denies() {
        let mut plan = plan(1, 100);
        plan.limits[0].enforce = false;
        let mut state = SubjectState::default();
        charge(&mut state, &plan, cost(3), NOW);
        assert!(violations(&state, &plan, cost(1), NOW).is_empty());
        assert_eq!(statuses(&state, &plan, NOW)[0].used, 3);
    }
}
