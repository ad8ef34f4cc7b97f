//! What is counted for one subject: a slot for each limit that it was ever charged by and that is not whole again.

use smallvec::SmallVec;

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

/// All counters of one subject. An absent slot is a limit with nothing charged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectState {
    slots: SmallVec<[Slot; 2]>,
}

impl SubjectState {
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot, where it still says something at `now`.
    pub fn live(&self, id: SlotId, now: Timestamp) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id && now < slot.whole_at)
    }

    /// Puts a slot in the place of the one with its id, and forgets slots that are whole again.
    pub fn put(&mut self, slot: Slot, now: Timestamp) {
        self.slots.retain(|known| known.id != slot.id && now < known.whole_at);
        self.slots.push(slot);
    }

    pub fn remove(&mut self, id: SlotId) {
        self.slots.retain(|known| known.id != id);
    }

    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// When the last of the slots is whole again; `None` where nothing is counted.
    pub fn whole_at(&self) -> Option<Timestamp> {
        self.slots.iter().map(|slot| slot.whole_at).max()
    }
}

impl FromIterator<Slot> for SubjectState {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        Self { slots: slots.into_iter().collect() }
    }
}
