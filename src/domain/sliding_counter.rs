//! Sliding window counter: two windows' counts, of which the one before is weighed by how much of it is still in view.
//!
//! The estimate of the last W is `previous * (time left of this window) / W + current`, rounded up, and never above L. It
//! takes the previous window's units as spread evenly, so the true sum of a rolling W may reach 2L - 1: all but one of L at
//! the end of one window, seen as nearly nothing at the end of the next. The maths is that of Cloudflare's "How we built
//! rate limiting capable of scaling to millions of domains" (2017).
//!
//! Windows begin at multiples of W since 1970. The slot holds the end of the window after the one that was last charged
//! (`whole_at`), that window's units (`a`) and those of the one before (`b`).

use super::cost::{COUNT_MAX, Cost};
use super::limit::SlotId;
use super::state::{Slot, SubjectState};
use super::time::{Period, Timestamp, mul_div, mul_div_ceil};

/// The two windows in view.
struct View {
    current: u64,
    previous: u64,
    /// The end of the current one.
    end: Timestamp,
}

fn view(state: &SubjectState, slot: SlotId, period: Period, now: Timestamp) -> View {
    match state.live(slot, now) {
        None => View { current: 0, previous: 0, end: period.next_multiple(now) },
        Some(slot) => {
            let end = slot.whole_at.saturating_sub(period);
            if now < end {
                View { current: slot.a, previous: slot.b, end }
            } else {
                View { current: 0, previous: slot.a, end: slot.whole_at }
            }
        }
    }
}

impl View {
    /// A clock that stepped back to before the window sees all of the one before.
    fn estimate(&self, period: Period, now: Timestamp) -> u64 {
        let left = now.until(self.end).min(period);
        mul_div_ceil(self.previous, left, period).saturating_add(self.current).min(COUNT_MAX)
    }
}

/// The estimate of the last period, rounded up.
pub fn used(state: &SubjectState, slot: SlotId, period: Period, now: Timestamp) -> u64 {
    view(state, slot, period, now).estimate(period, now)
}

/// The end of the next window; of this one, where only the previous counts.
pub fn reset_at(state: &SubjectState, slot: SlotId, period: Period, now: Timestamp) -> Timestamp {
    match view(state, slot, period, now) {
        View { current: 0, previous: 0, .. } => now,
        View { current: 0, end, .. } => end,
        View { end, .. } => end.saturating_add(period),
    }
}

/// When the estimate and the cost, which is at most `requests`, will be within `requests`, where they are not now.
pub fn room_at(
    state: &SubjectState,
    slot: SlotId,
    period: Period,
    requests: u64,
    cost: Cost,
    now: Timestamp,
) -> Timestamp {
    let View { current, previous, end } = view(state, slot, period, now);
    let room = requests.saturating_sub(cost.units());
    match room.checked_sub(current) {
        // As the window passes, the one before goes out of view.
        Some(room) => end.saturating_sub(mul_div(period, room, previous)),
        // In the next window this one is the one before.
        None => end.saturating_add(period).saturating_sub(mul_div(period, room, current)).max(end),
    }
}

/// Charges the current window; the sum saturates at [`COUNT_MAX`].
pub fn charge(state: &mut SubjectState, slot: SlotId, period: Period, cost: Cost, now: Timestamp) {
    let View { current, previous, end } = view(state, slot, period, now);
    let a = current.saturating_add(cost.units()).min(COUNT_MAX);
    state.put(Slot { id: slot, whole_at: end.saturating_add(period), a, b: previous, c: 0 }, now);
}

/// Adds what another state has counted in windows that are still in view.
pub fn add(state: &mut SubjectState, slot: SlotId, period: Period, other: &SubjectState, now: Timestamp) {
    let Some(&other) = other.live(slot, now) else { return };
    let known = state.live(slot, now).copied();
    let whole_at = known.map_or(other.whole_at, |known| known.whole_at.max(other.whole_at));
    let (mut a, mut b) = rolled(other, period, whole_at);
    if let Some(known) = known {
        let (current, previous) = rolled(known, period, whole_at);
        (a, b) = (a.saturating_add(current).min(COUNT_MAX), b.saturating_add(previous).min(COUNT_MAX));
    }
    state.put(Slot { id: slot, whole_at, a, b, c: 0 }, now);
}

/// The units of the two windows of which the later ends at `whole_at`, which is not before the slot's own.
fn rolled(slot: Slot, period: Period, whole_at: Timestamp) -> (u64, u64) {
    match slot.whole_at.until(whole_at) {
        Period::ZERO => (slot.a, slot.b),
        behind if behind <= period => (0, slot.a),
        _ => (0, 0),
    }
}

/// Takes back what was charged, from the current window first; never below nothing.
pub fn refund(state: &mut SubjectState, slot: SlotId, units: u64, now: Timestamp) {
    if let Some(&known) = state.live(slot, now) {
        let rest = units.saturating_sub(known.a);
        state.put(Slot { a: known.a.saturating_sub(units), b: known.b.saturating_sub(rest), ..known }, now);
    }
}
