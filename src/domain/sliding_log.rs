//! Sliding window log: every charge of the last W is remembered, so at most L units pass in any span of that length.
//!
//! Exact, and paid for with memory: an entry a charge, L at most, which is why L has a bound. A charge is counted in
//! (now - W, now]: what was charged exactly W ago is not.
//!
//! Where more is charged than L, by a limit that is not enforced, the newest entry takes on what it has no place for:
//! a log never holds more than L entries. Entries are in the order of their instants: where the clock steps back, a charge
//! counts as made with the newest.
//!
//! What comes back from Redis is the sum, the number and the newest of the entries (a slot's `a`, `b` and `c`), not the log:
//! that stands for a single entry here, which is never more generous.

use super::cost::{COUNT_MAX, Cost};
use super::limit::SlotId;
use super::state::{Entry, Log, Slot, SubjectState};
use super::time::{Period, Timestamp};

/// The entries of a limit, oldest first.
enum Entries<'a> {
    Log(&'a Log),
    Summary(Entry),
    None,
}

impl Entries<'_> {
    fn of(state: &SubjectState, slot: SlotId, now: Timestamp) -> Entries<'_> {
        match (state.live_log(slot, now), state.live(slot, now)) {
            (Some(log), _) => Entries::Log(log),
            (None, Some(slot)) => Entries::Summary(summary(slot)),
            (None, None) => Entries::None,
        }
    }

    /// Those that count: the last of them all.
    fn counted(&self, period: Period, now: Timestamp) -> impl Iterator<Item = Entry> {
        let (log, summary) = match self {
            Entries::Log(log) => (Some(log.entries().iter().copied()), None),
            Entries::Summary(entry) => (None, Some(*entry)),
            Entries::None => (None, None),
        };
        log.into_iter().flatten().chain(summary).skip_while(move |entry| !counts(entry, period, now))
    }

    /// The units of those that count: of all, less those that have left, which are few.
    fn units(&self, period: Period, now: Timestamp) -> u64 {
        match self {
            Entries::Log(log) => {
                let left = log.entries().iter().take_while(|entry| !counts(entry, period, now));
                left.fold(log.sum(), |sum, entry| sum.saturating_sub(entry.units))
            }
            Entries::Summary(entry) if counts(entry, period, now) => entry.units,
            Entries::Summary(_) | Entries::None => 0,
        }
    }

    fn newest(&self) -> Option<Entry> {
        match self {
            Entries::Log(log) => log.entries().back().copied(),
            Entries::Summary(entry) => Some(*entry),
            Entries::None => None,
        }
    }
}

/// The single entry that a slot stands for.
fn summary(slot: &Slot) -> Entry {
    Entry { at: Timestamp::from_micros(slot.c.min(1 << 53).cast_signed()), units: slot.a }
}

fn counts(entry: &Entry, period: Period, now: Timestamp) -> bool {
    now < entry.at.saturating_add(period)
}

/// What was charged in (now - period, now].
pub fn used(state: &SubjectState, slot: SlotId, period: Period, now: Timestamp) -> u64 {
    Entries::of(state, slot, now).units(period, now).min(COUNT_MAX)
}

/// When the newest entry leaves.
pub fn reset_at(state: &SubjectState, slot: SlotId, period: Period, now: Timestamp) -> Timestamp {
    let newest = Entries::of(state, slot, now).newest().filter(|entry| counts(entry, period, now));
    newest.map_or(now, |entry| entry.at.saturating_add(period))
}

/// When enough entries will have left for the cost, which is at most `requests`, where they have not yet.
pub fn room_at(
    state: &SubjectState,
    slot: SlotId,
    period: Period,
    requests: u64,
    cost: Cost,
    now: Timestamp,
) -> Timestamp {
    let room = requests.saturating_sub(cost.units());
    let mut left = used(state, slot, period, now);
    for entry in Entries::of(state, slot, now).counted(period, now) {
        left = left.saturating_sub(entry.units);
        if left <= room {
            return entry.at.saturating_add(period);
        }
    }
    now
}

/// Adds an entry, and drops those that have left. The sum saturates at [`COUNT_MAX`].
pub fn charge(state: &mut SubjectState, slot: SlotId, period: Period, requests: u64, cost: Cost, now: Timestamp) {
    put(state, slot, period, requests, (now, cost.units()), now);
}

fn put(
    state: &mut SubjectState,
    slot: SlotId,
    period: Period,
    requests: u64,
    (made_at, units): (Timestamp, u64),
    now: Timestamp,
) {
    let used = used(state, slot, period, now);
    let mut log = match (state.take_log(slot, now), state.live(slot, now)) {
        (Some(log), _) => log,
        (None, Some(known)) => {
            let mut log = Log::new(slot, known.whole_at, [summary(known)]);
            log.folded = known.b.saturating_sub(1);
            log
        }
        (None, None) => Log::new(slot, now, []),
    };
    let at = log.entries().back().map_or(made_at, |newest| newest.at.max(made_at));
    while log.entries().front().is_some_and(|oldest| !counts(oldest, period, now)) {
        log.pop_oldest();
    }
    let units = units.min(COUNT_MAX.saturating_sub(used));
    let full = log.folded.saturating_add(log.entries().len() as u64) >= requests.max(1);
    if !(full && log.push_to_newest(units)) {
        log.push(Entry { at, units });
    }
    log.whole_at = period.next_multiple_from(at.saturating_add(period)).max(log.whole_at);
    state.put_log(log, now);
}

/// Adds the entries of another state that still count, behind those that are there.
pub fn add(
    state: &mut SubjectState,
    slot: SlotId,
    period: Period,
    requests: u64,
    other: &SubjectState,
    now: Timestamp,
) {
    let more: Vec<Entry> = Entries::of(other, slot, now).counted(period, now).collect();
    for Entry { at, units } in more {
        put(state, slot, period, requests, (at, units), now);
    }
}

/// Takes back what was charged, from the newest entries first; never below nothing.
pub fn refund(state: &mut SubjectState, slot: SlotId, units: u64, now: Timestamp) {
    let Some(mut log) = state.take_log(slot, now) else { return };
    let mut rest = units;
    while let Some(mut newest) = log.pop_newest() {
        let taken = newest.units.min(rest);
        (rest, newest.units) = (rest.saturating_sub(taken), newest.units.saturating_sub(taken));
        if newest.units > 0 {
            log.push(newest);
            break;
        }
    }
    if !log.entries().is_empty() {
        state.put_log(log, now);
    }
}
