//! Reserved blocks: units of a subject's limits that an instance is charged for beforehand, and then gives out by itself.
//!
//! A unit is charged before it is given out, so no limit is ever exceeded. A block is a small part of what is left, so that it
//! shrinks to nothing near the limit, and lives for two seconds at most. While blocks are out, their units stand in a slot of
//! their own beside the counters: whoever reads these sees that some of what is charged may not be used, and can ask for it back.
//!
//! Only fixed windows can be reserved: there it makes no difference when in its window a unit is given out. A token bucket or a
//! sliding window would admit more in some span than it promises.

use std::sync::Arc;

use super::cost::Cost;
use super::decide;
use super::limit::{LimitName, SlotId};
use super::plan::{Plan, PlannedLimit, Rule};
use super::schedule::Windows;
use super::state::SubjectState;
use super::time::{Period, Timestamp};

/// A block lives for so long at least, less [`WAY_BACK`], and twice as long at most.
pub const LIFE: Period = Period::from_seconds(1);

/// A block ends so long before what is out is counted no more: until it is back, others know of it.
const WAY_BACK: Period = Period::from_micros(100_000);

/// A block is at most this part of what is left.
const PART: u64 = 64;

/// Who is asked for less often in the life of a block is not busy.
const BUSY: u64 = 20;

/// A block of fewer units saves nothing.
const LEAST: u64 = 4;

/// Where the units are counted that are out: in windows of twice the life of a block, of which the one begins in the middle of
/// the other, so that one of them always has that long to run.
const SLOTS: [SlotId; 2] = [SlotId::from_raw(1), SlotId::from_raw(2)];

/// Whether blocks may be taken of all limits of a plan.
pub fn can_be_reserved(plan: &Plan) -> bool {
    !plan.limits.is_empty() && plan.limits.iter().all(|limit| matches!(limit.rule, Rule::FixedWindow(_)))
}

/// Which of the two windows a block is taken in that is asked for now: 0 or 1.
pub const fn turn(now: Timestamp) -> usize {
    match now.as_micros().div_euclid(LIFE.as_micros()).rem_euclid(2) {
        0 => 0,
        _ => 1,
    }
}

/// The plan by which a block is charged: to every limit, and to what is out.
pub fn reserving(plan: &Plan, turn: usize) -> Arc<Plan> {
    let mut plan = plan.clone();
    let window = |(number, slot): (i64, SlotId)| {
        let anchor = Timestamp::from_micros(number.saturating_mul(LIFE.as_micros()));
        let period = Period::from_micros(LIFE.as_micros().saturating_mul(2));
        let rule = Rule::FixedWindow(Windows::Every { period, anchor });
        PlannedLimit { name: LimitName::reserved(), rule, requests: 0, enforce: false, slot }
    };
    plan.limits.extend((0..).zip(SLOTS).nth(turn).map(window));
    Arc::new(plan)
}

/// Whether blocks are charged by this plan, and nothing else is.
pub fn is_reserving(plan: &Plan) -> bool {
    plan.limits.last().is_some_and(|limit| SLOTS.contains(&limit.slot))
}

/// How often a subject is asked for in the life of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    pub checks: u64,
    pub units: u64,
}

/// How many units a block should have; 0 is no block.
pub fn size(state: &SubjectState, plan: &Plan, pace: Pace, now: Timestamp) -> u64 {
    if pace.checks < BUSY {
        return 0;
    }
    let left = |limit: &PlannedLimit| limit.requests.saturating_sub(decide::used(state, limit, now));
    let left = plan.limits.iter().filter(|limit| limit.enforce).map(left).min().unwrap_or(u64::MAX);
    // While more is out than is left, no more is taken: many instances together leave others something.
    let most = if reserved(state, now) > left { 0 } else { left / PART };
    let size = most.min(pace.units);
    if size < LEAST { 0 } else { size }
}

/// The units that are out by all instances.
pub fn reserved(state: &SubjectState, now: Timestamp) -> u64 {
    let units = |slot: &SlotId| state.live(*slot, now).map_or(0, |slot| slot.a);
    SLOTS.iter().map(units).fold(0, u64::saturating_add)
}

/// A block in hand.
#[derive(Debug, Clone)]
pub struct Block {
    plan: Arc<Plan>,
    /// The windows that it was charged to, and when each ends; that of what is out too.
    windows: Vec<(SlotId, Timestamp)>,
    taken_at: Timestamp,
    until: Timestamp,
    taken: u64,
    left: u64,
}

impl Block {
    /// Of so many units of the plan that were charged by `reserving`; `state` is what stood then.
    pub fn new(plan: &Arc<Plan>, reserving: &Plan, units: u64, state: &SubjectState, now: Timestamp) -> Option<Self> {
        let slots = reserving.limits.iter().map(|limit| limit.slot);
        let windows: Vec<_> = slots.map(|slot| Some((slot, state.live(slot, now)?.whole_at))).collect::<Option<_>>()?;
        let ends = |&(slot, ends): &(SlotId, Timestamp)| {
            if SLOTS.contains(&slot) { ends.saturating_sub(WAY_BACK) } else { ends }
        };
        let until = windows.iter().map(ends).min()?;
        Some(Self { plan: Arc::clone(plan), windows, taken_at: now, until, taken: units, left: units })
    }

    /// Gives out units of it; false where it has not so many, or not for this plan, or not any more.
    pub fn give_out(&mut self, plan: &Arc<Plan>, units: u64, now: Timestamp) -> bool {
        let fits = units <= self.left && !self.has_ended(now) && (Arc::ptr_eq(&self.plan, plan) || self.plan == *plan);
        if fits {
            self.left = self.left.saturating_sub(units);
        }
        fits
    }

    /// A clock that was set back ends it too.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now < self.taken_at || self.until <= now
    }

    /// The units that it holds still.
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// The units that it was charged for.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Of which window how many units are to be given back, by its slot and its end.
    pub fn unused(&self) -> impl Iterator<Item = (SlotId, Timestamp, u64)> {
        self.windows
            .iter()
            .map(|&(slot, ends)| (slot, ends, if SLOTS.contains(&slot) { self.taken } else { self.left }))
    }

    /// Charges a state with what it holds.
    pub fn add_to(&self, state: &mut SubjectState, now: Timestamp) {
        decide::charge(state, &self.plan, Cost::of_units(self.left), now);
    }

    /// Takes what it holds out of a state that is charged with it.
    pub fn take_from(&self, state: &mut SubjectState, now: Timestamp) {
        for limit in &self.plan.limits {
            decide::refund(state, limit, self.left, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tier::{Tier, TierName};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn plan(hour: u64, day: u64) -> Arc<Plan> {
        Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), hour, day, 1)))
    }

    fn charged(plan: &Plan, units: u64) -> SubjectState {
        let mut state = SubjectState::default();
        decide::charge(&mut state, plan, Cost::of_units(units), NOW);
        state
    }

    #[test]
    fn a_block_is_a_part_of_what_is_left_and_shrinks_to_nothing() {
        let plan = plan(10_000, 1_000_000);
        let size = |used, checks, units| size(&charged(&plan, used), &plan, Pace { checks, units }, NOW);
        assert_eq!(size(400, 1000, 1000), 150);
        assert_eq!(size(400, 20, 80), 80);
        assert_eq!(size(400, 19, 80), 0, "that is not busy");
        assert_eq!(size(10_000 - 256, 1000, 1000), 4);
        assert_eq!(size(10_000 - 255, 1000, 1000), 0);
        assert_eq!(size(20_000, 1000, 1000), 0);
    }

    #[test]
    fn no_block_is_taken_while_more_is_out_than_is_left() {
        let plan = plan(10_000, 1_000_000);
        let busy = Pace { checks: 1000, units: 1000 };
        let by = reserving(&plan, turn(NOW));
        let mut state = charged(&by, 5000);
        assert_eq!((reserved(&state, NOW), size(&state, &plan, busy, NOW)), (5000, 78));
        decide::charge(&mut state, &by, Cost::of_units(1), NOW);
        assert_eq!(size(&state, &plan, busy, NOW), 0);
    }

    #[test]
    fn a_block_gives_out_what_it_holds_while_it_lives() {
        let plan = plan(1000, 100_000);
        let by = reserving(&plan, turn(NOW));
        let state = charged(&by, 10);
        assert_eq!(reserved(&state, NOW), 10);
        let mut block = Block::new(&plan, &by, 10, &state, NOW).unwrap();
        assert!(block.give_out(&plan, 7, NOW));
        assert!(!block.give_out(&plan, 4, NOW), "three are left");
        assert!(!block.give_out(&self::plan(999, 100_000), 1, NOW), "the limit was changed");
        assert!(!block.give_out(&plan, 1, Timestamp::from_micros(NOW.as_micros() - 1)), "the clock was set back");
        let most = Period::from_micros(2 * LIFE.as_micros() - WAY_BACK.as_micros());
        assert!(!block.give_out(&plan, 1, NOW.saturating_add(most)), "it has ended");
        assert_eq!(block.unused().map(|(_, _, units)| units).collect::<Vec<_>>(), [3, 3, 10]);
        let mut state = state;
        block.take_from(&mut state, NOW);
        assert_eq!(decide::used(&state, &plan.limits[0], NOW), 7);
    }

    #[test]
    fn a_block_has_time_to_live_whenever_it_is_taken() {
        let plan = plan(1000, 100_000);
        for after in (0..4_000_000).step_by(50_000) {
            let now = Timestamp::from_micros(NOW.as_micros() + after);
            let by = reserving(&plan, turn(now));
            let mut state = SubjectState::default();
            decide::charge(&mut state, &by, Cost::of_units(1), now);
            let block = Block::new(&plan, &by, 1, &state, now).unwrap();
            let lives = now.until(block.until).as_micros() + WAY_BACK.as_micros();
            assert!((LIFE.as_micros()..=2 * LIFE.as_micros()).contains(&lives), "{lives} after {after}");
        }
    }

    #[test]
    fn only_fixed_windows_can_be_reserved() {
        let limit = r#"{"name":"bucket","algorithm":"token_bucket","period_seconds":3600,"requests":100}"#;
        let mut tier = Tier::hourly_and_daily(TierName::free(), 1, 1, 1);
        assert!(can_be_reserved(&Plan::of_tier(&tier)));
        tier.limits.push(serde_json::from_str(limit).unwrap());
        assert!(!can_be_reserved(&Plan::of_tier(&tier)));
        tier.limits.clear();
        assert!(!can_be_reserved(&Plan::of_tier(&tier)));
    }
}
