//! What is counted for one subject: a slot or a log for each limit that it was ever charged by and that is not whole
//! again, and the concurrency slots that it holds.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::lease::Lease;
use super::limit::SlotId;
use super::time::Timestamp;

/// One counter. What `a`, `b` and `c` hold is the algorithm's affair; each is at most 2^53 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub id: SlotId,
    /// From this instant on the slot says nothing: it is as good as absent.
    pub whole_at: Timestamp,
    pub a: u64,
    pub b: u64,
    pub c: u64,
}

/// The entries of a sliding log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub id: SlotId,
    /// From this instant on the log says nothing: it is as good as absent.
    pub whole_at: Timestamp,
    entries: VecDeque<Entry>,
    /// The units of all entries.
    sum: u64,
    /// How many more entries the first stands for, where only their sum is known.
    pub folded: u64,
}

/// What was charged at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub at: Timestamp,
    pub units: u64,
}

impl Log {
    /// `entries` in the order of their instants.
    pub fn new(id: SlotId, whole_at: Timestamp, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut log = Self { id, whole_at, entries: VecDeque::new(), sum: 0, folded: 0 };
        entries.into_iter().for_each(|entry| log.push(entry));
        log
    }

    pub const fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds an entry that is not older than any.
    pub fn push(&mut self, entry: Entry) {
        self.sum = self.sum.saturating_add(entry.units);
        self.entries.push_back(entry);
    }

    /// Adds units to the newest entry; false where there is none.
    pub fn push_to_newest(&mut self, units: u64) -> bool {
        let newest = self.entries.back_mut().map(|newest| newest.units = newest.units.saturating_add(units));
        self.sum = self.sum.saturating_add(if newest.is_some() { units } else { 0 });
        newest.is_some()
    }

    pub fn pop_oldest(&mut self) -> Option<Entry> {
        let oldest = self.entries.pop_front()?;
        (self.sum, self.folded) = (self.sum.saturating_sub(oldest.units), 0);
        Some(oldest)
    }

    pub fn pop_newest(&mut self) -> Option<Entry> {
        let newest = self.entries.pop_back()?;
        self.sum = self.sum.saturating_sub(newest.units);
        Some(newest)
    }
}

/// All counters of one subject. An absent slot is a limit with nothing charged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectState {
    slots: SmallVec<[Slot; 2]>,
    /// Apart, since few subjects have any: it costs the others eight bytes.
    more: Option<Box<More>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct More {
    logs: Vec<Log>,
    leases: Vec<Lease>,
}

impl SubjectState {
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn logs(&self) -> &[Log] {
        self.more.as_ref().map(|more| more.logs.as_slice()).unwrap_or_default()
    }

    /// Those that have expired too.
    pub fn leases(&self) -> &[Lease] {
        self.more.as_ref().map(|more| more.leases.as_slice()).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.more.is_none()
    }

    /// The slot, where it still says something at `now`.
    pub fn live(&self, id: SlotId, now: Timestamp) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id && now < slot.whole_at)
    }

    /// The log, where it still says something at `now`.
    pub fn live_log(&self, id: SlotId, now: Timestamp) -> Option<&Log> {
        self.logs().iter().find(|log| log.id == id && now < log.whole_at)
    }

    /// Puts a slot in the place of the one with its id, and forgets what is whole again.
    pub fn put(&mut self, slot: Slot, now: Timestamp) {
        self.slots.retain(|known| known.id != slot.id && now < known.whole_at);
        self.slots.push(slot);
        self.tidy(|more| more.logs.retain(|log| now < log.whole_at));
    }

    /// Puts a log in the place of whatever has its id, and forgets what is whole again.
    pub fn put_log(&mut self, log: Log, now: Timestamp) {
        self.slots.retain(|known| known.id != log.id && now < known.whole_at);
        let logs = &mut self.more.get_or_insert_default().logs;
        logs.retain(|known| known.id != log.id && now < known.whole_at);
        logs.push(log);
    }

    /// Takes a log out, where it still says something at `now`.
    pub fn take_log(&mut self, id: SlotId, now: Timestamp) -> Option<Log> {
        let logs = &mut self.more.as_mut()?.logs;
        let place = logs.iter().position(|log| log.id == id && now < log.whole_at)?;
        Some(logs.swap_remove(place))
    }

    /// Changes the leases, expired or not.
    pub fn change_leases<T>(&mut self, change: impl FnOnce(&mut Vec<Lease>) -> T) -> T {
        let changed = change(&mut self.more.get_or_insert_default().leases);
        self.tidy(|_| ());
        changed
    }

    /// Forgets a limit's counter.
    fn remove(&mut self, id: SlotId) {
        self.slots.retain(|known| known.id != id);
        self.tidy(|more| more.logs.retain(|log| log.id != id));
    }

    /// Forgets the counters of these limits; `None` is all. Leases stay.
    pub fn forget(&mut self, slots: Option<&[SlotId]>) {
        match slots {
            Some(slots) => slots.iter().for_each(|&slot| self.remove(slot)),
            None => self.clear(),
        }
    }

    /// Forgets all counters; leases stay.
    fn clear(&mut self) {
        self.slots.clear();
        self.tidy(|more| more.logs.clear());
    }

    /// When the last of the counters is whole again and the last lease has expired; `None` where there is nothing.
    pub fn whole_at(&self) -> Option<Timestamp> {
        let slots = self.slots.iter().map(|slot| slot.whole_at);
        let logs = self.logs().iter().map(|log| log.whole_at);
        slots.chain(logs).chain(self.leases().iter().map(|lease| lease.expires_at)).max()
    }

    fn tidy(&mut self, change: impl FnOnce(&mut More)) {
        if let Some(more) = &mut self.more {
            change(more);
            if more.logs.is_empty() && more.leases.is_empty() {
                self.more = None;
            }
        }
    }
}

impl FromIterator<Slot> for SubjectState {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        Self { slots: slots.into_iter().collect(), more: None }
    }
}
