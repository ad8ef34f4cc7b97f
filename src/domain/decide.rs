//! The rule of limiting: a check passes only if every enforced limit has room, and is then charged to all of them.
//!
//! `counters/lua/decide.lua` is this file in Lua, with the algorithms; `tests/it/lua_model.rs` runs both.

use super::cost::Cost;
use super::decision::{LimitStatus, Violation};
use super::plan::{Plan, PlannedLimit, Rule};
use super::state::SubjectState;
use super::time::Timestamp;
use super::{fixed_window, sliding_counter, sliding_log, token_bucket};

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
    for PlannedLimit { rule, slot, requests, .. } in &plan.limits {
        match rule {
            Rule::FixedWindow(windows) => fixed_window::charge(state, *slot, windows, cost, now),
            Rule::SlidingLog(period) => sliding_log::charge(state, *slot, *period, *requests, cost, now),
            Rule::SlidingCounter(period) => sliding_counter::charge(state, *slot, *period, cost, now),
            Rule::TokenBucket(bucket) => token_bucket::charge(state, *slot, bucket, cost, now),
        }
    }
}

/// Adds what another state has counted of a limit, so that both are charged once.
pub fn add(state: &mut SubjectState, limit: &PlannedLimit, other: &SubjectState, now: Timestamp) {
    let slot = limit.slot;
    match &limit.rule {
        Rule::FixedWindow(_) => fixed_window::add(state, slot, other, now),
        Rule::SlidingLog(period) => sliding_log::add(state, slot, *period, limit.requests, other, now),
        Rule::SlidingCounter(period) => sliding_counter::add(state, slot, *period, other, now),
        Rule::TokenBucket(bucket) => token_bucket::add(state, slot, bucket, other, now),
    }
}

/// Takes back what was charged to a limit; never below nothing.
pub fn refund(state: &mut SubjectState, limit: &PlannedLimit, units: u64, now: Timestamp) {
    let slot = limit.slot;
    match &limit.rule {
        Rule::FixedWindow(_) => fixed_window::refund(state, slot, units, now),
        Rule::SlidingLog(_) => sliding_log::refund(state, slot, units, now),
        Rule::SlidingCounter(_) => sliding_counter::refund(state, slot, units, now),
        Rule::TokenBucket(bucket) => token_bucket::refund(state, slot, bucket, units, now),
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

/// What a limit has used, as the answer to a check shows it.
pub fn used(state: &SubjectState, limit: &PlannedLimit, now: Timestamp) -> u64 {
    match &limit.rule {
        Rule::FixedWindow(_) => fixed_window::used(state, limit.slot, now),
        Rule::SlidingLog(period) => sliding_log::used(state, limit.slot, *period, now),
        Rule::SlidingCounter(period) => sliding_counter::used(state, limit.slot, *period, now),
        Rule::TokenBucket(bucket) => token_bucket::used(state, limit.slot, bucket, now),
    }
}

fn has_room(state: &SubjectState, limit: &PlannedLimit, cost: Cost, now: Timestamp) -> bool {
    used(state, limit, now).saturating_add(cost.units()) <= limit.requests
}

fn violation(state: &SubjectState, limit: &PlannedLimit, cost: Cost, now: Timestamp) -> Violation {
    let PlannedLimit { name, rule, slot, requests, .. } = limit;
    let room_at = match rule {
        _ if cost.units() > *requests => None,
        Rule::FixedWindow(windows) => Some(fixed_window::end(state, *slot, windows, now)),
        Rule::SlidingLog(period) => Some(sliding_log::room_at(state, *slot, *period, *requests, cost, now)),
        Rule::SlidingCounter(period) => Some(sliding_counter::room_at(state, *slot, *period, *requests, cost, now)),
        Rule::TokenBucket(bucket) => Some(token_bucket::room_at(state, *slot, bucket, cost, now)),
    };
    Violation { limit: name.clone(), room_at }
}

fn status(state: &SubjectState, limit: &PlannedLimit, now: Timestamp) -> LimitStatus {
    let slot = limit.slot;
    let reset_at = match &limit.rule {
        Rule::FixedWindow(windows) => fixed_window::end(state, slot, windows, now),
        Rule::SlidingLog(period) => sliding_log::reset_at(state, slot, *period, now),
        Rule::SlidingCounter(period) => sliding_counter::reset_at(state, slot, *period, now),
        Rule::TokenBucket(bucket) => token_bucket::reset_at(state, slot, bucket, now),
    };
    LimitStatus {
        name: limit.name.clone(),
        limit: limit.requests,
        used: used(state, limit, now),
        reset_at,
        period: limit.period(now),
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
