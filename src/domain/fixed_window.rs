//! Fixed window: at most L units in each window, so at most 2L in any span of a window's length.
//!
//! The count of the running window, and nothing else, is kept: the plainest of algorithms, as in the `INCR` pattern of the
//! Redis manual. A caller who spends all at the end of one window and all at the beginning of the next gets 2L at once.
//!
//! The slot holds the end of the running window (`whole_at`) and what was charged in it (`a`). A window that was begun
//! runs to its stored end even if the clock steps back or the schedule changes, so neither grants anything twice.

use super::cost::{COUNT_MAX, Cost};
use super::limit::SlotId;
use super::schedule::Windows;
use super::state::{Slot, SubjectState};
use super::time::Timestamp;

/// What was charged in the running window.
pub fn used(state: &SubjectState, slot: SlotId, now: Timestamp) -> u64 {
    state.live(slot, now).map_or(0, |slot| slot.a)
}

/// The end of the window that runs at `now`: when the limit is whole again, and when there is room again.
pub fn end(state: &SubjectState, slot: SlotId, windows: &Windows, now: Timestamp) -> Timestamp {
    let calendar = windows.end(now);
    state.live(slot, now).map_or(calendar, |slot| slot.whole_at.max(calendar))
}

/// Charges the running window; the sum saturates at [`COUNT_MAX`].
pub fn charge(state: &mut SubjectState, slot: SlotId, windows: &Windows, cost: Cost, now: Timestamp) {
    let whole_at = end(state, slot, windows, now);
    let a = used(state, slot, now).saturating_add(cost.units()).min(COUNT_MAX);
    state.put(Slot { id: slot, whole_at, a, b: 0, c: 0 }, now);
}

/// Adds what another state has counted in a window that still runs.
pub fn add(state: &mut SubjectState, slot: SlotId, other: &SubjectState, now: Timestamp) {
    let Some(other) = other.live(slot, now) else { return };
    let a = used(state, slot, now).saturating_add(other.a).min(COUNT_MAX);
    let whole_at = state.live(slot, now).map_or(other.whole_at, |known| known.whole_at.max(other.whole_at));
    state.put(Slot { id: slot, whole_at, a, b: 0, c: 0 }, now);
}

/// Takes back what was charged; never below nothing.
pub fn refund(state: &mut SubjectState, slot: SlotId, units: u64, now: Timestamp) {
    if let Some(&known) = state.live(slot, now) {
        state.put(Slot { a: known.a.saturating_sub(units), ..known }, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::limit::{Limit, LimitName, Window};

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
        charge(&mut state, slot(), &Windows::hours(), one(), at);
        assert_eq!(end(&state, slot(), &Windows::hours(), at), Timestamp::from_seconds(3600 * 6));
        assert_eq!(used(&state, slot(), Timestamp::from_micros(3600 * 6 * 1_000_000 - 1)), 1);
        assert_eq!(used(&state, slot(), Timestamp::from_seconds(3600 * 6)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_twice() {
        let mut state = SubjectState::default();
        charge(&mut state, slot(), &Windows::hours(), one(), Timestamp::from_seconds(7201));
        let before = Timestamp::from_seconds(7199);
        charge(&mut state, slot(), &Windows::hours(), one(), before);
        assert_eq!(used(&state, slot(), before), 2);
        assert_eq!(end(&state, slot(), &Windows::hours(), before), Timestamp::from_seconds(10_800));
    }

    #[test]
    fn a_schedule_that_changes_leaves_the_running_window_its_end() {
        let mut state = SubjectState::default();
        let noon = Timestamp::from_seconds(43_200);
        charge(&mut state, slot(), &Windows::days(), one(), noon);
        let shifted = Windows::Every { period: Windows::days().length(noon), anchor: Timestamp::from_seconds(50_000) };
        assert_eq!(shifted.end(noon), Timestamp::from_seconds(50_000));
        assert_eq!(end(&state, slot(), &shifted, noon), Timestamp::from_seconds(86_400));
    }
}
