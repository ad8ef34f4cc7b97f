//! Fixed window: at most L units in each window of the calendar, so at most 2L in any span of a window's length.
//!
//! The slot holds the end of the running window (`whole_at`) and what was charged in it (`a`). A window that was begun
//! runs to its stored end even if the clock steps back, so a step grants nothing twice.

use super::cost::{COUNT_MAX, Cost};
use super::limit::{SlotId, Window};
use super::state::{Slot, SubjectState};
use super::time::{Period, Timestamp};

/// What was charged in the running window.
pub fn used(state: &SubjectState, slot: SlotId, now: Timestamp) -> u64 {
    state.live(slot, now).map_or(0, |slot| slot.a)
}

/// The end of the window that runs at `now`.
pub fn end(state: &SubjectState, slot: SlotId, window: Window, now: Timestamp) -> Timestamp {
    let calendar = calendar_end(window.period(), now);
    state.live(slot, now).map_or(calendar, |slot| slot.whole_at.max(calendar))
}

/// Charges the running window; the sum saturates at [`COUNT_MAX`].
pub fn charge(state: &mut SubjectState, slot: SlotId, window: Window, cost: Cost, now: Timestamp) {
    let whole_at = end(state, slot, window, now);
    let a = used(state, slot, now).saturating_add(cost.units()).min(COUNT_MAX);
    state.put(Slot { id: slot, whole_at, a, b: 0, c: 0 }, now);
}

/// Hours and days of UTC begin at multiples of their length since the epoch.
fn calendar_end(period: Period, now: Timestamp) -> Timestamp {
    let into = now.as_micros().rem_euclid(period.as_micros());
    Timestamp::from_micros(now.as_micros().saturating_sub(into)).saturating_add(period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::limit::{Limit, LimitName};

    fn slot() -> SlotId {
        Limit::fixed(LimitName::hour(), Window::Hour, 1).slot()
    }

    fn one() -> Cost {
        Multiplier::ONE.times(Items::ONE)
    }

    #[test]
    fn a_window_ends_at_the_top_of_the_hour_and_the_next_is_empty() {
        let mut state = SubjectState::default();
        let at = Timestamp::from_seconds(3600 * 5 + 1);
        charge(&mut state, slot(), Window::Hour, one(), at);
        assert_eq!(end(&state, slot(), Window::Hour, at), Timestamp::from_seconds(3600 * 6));
        assert_eq!(used(&state, slot(), Timestamp::from_micros(3600 * 6 * 1_000_000 - 1)), 1);
        assert_eq!(used(&state, slot(), Timestamp::from_seconds(3600 * 6)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_twice() {
        let mut state = SubjectState::default();
        charge(&mut state, slot(), Window::Hour, one(), Timestamp::from_seconds(7201));
        let before = Timestamp::from_seconds(7199);
        charge(&mut state, slot(), Window::Hour, one(), before);
        assert_eq!(used(&state, slot(), before), 2);
        assert_eq!(end(&state, slot(), Window::Hour, before), Timestamp::from_seconds(10_800));
    }
}
