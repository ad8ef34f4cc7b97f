//! Counters in memory: a plain bounded map that one shard owns.
//!
//! It only ever drops what is whole again. A live counter that is evicted would be a fresh quota, so at the bound new
//! subjects share one overflow allowance a tier instead.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::domain::concurrency;
use crate::domain::lease::{ChangeLease, LeaseId};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::tier::TierName;
use crate::domain::time::{Period, Timestamp};

/// A sweep reads the whole map, so it is not done more often than this.
const SWEEP_PAUSE: Period = Period::from_seconds(1);

/// The counters of a shard's subjects, at most `capacity` of them.
#[derive(Debug)]
pub struct CounterTable {
    states: HashMap<Subject, SubjectState, RandomState>,
    capacity: usize,
    /// Until then no state can have become whole, or a sweep was done just now.
    next_sweep: Timestamp,
    /// What subjects that found no room are charged to, a tier. As many entries as there are tiers.
    overflow: HashMap<TierName, SubjectState, RandomState>,
}

impl CounterTable {
    pub fn new(capacity: usize) -> Self {
        Self {
            states: HashMap::default(),
            capacity: capacity.max(1),
            next_sweep: Timestamp::EPOCH,
            overflow: HashMap::default(),
        }
    }

    /// What is counted for the subject; `None` is nothing. At the bound an unknown subject reads its tier's overflow.
    pub fn get(&self, subject: &Subject, tier: &TierName) -> Option<&SubjectState> {
        self.states.get(subject).or_else(|| if self.is_full() { self.overflow.get(tier) } else { None })
    }

    /// The subject's own state, never the overflow.
    pub fn own(&self, subject: &Subject) -> Option<&SubjectState> {
        self.states.get(subject)
    }

    /// The state to charge: the subject's own, or at the bound its tier's overflow.
    pub fn charge_to(&mut self, subject: &Subject, tier: &TierName, now: Timestamp) -> &mut SubjectState {
        if self.has_room_for(subject, now) {
            self.states.entry(subject.clone()).or_default()
        } else {
            self.overflow.entry(tier.clone()).or_default()
        }
    }

    /// Takes over what is known from elsewhere. At the bound a subject that is not in the table is passed over.
    pub fn put(&mut self, subject: &Subject, state: SubjectState, now: Timestamp) {
        if state.is_empty() {
            self.states.remove(subject);
        } else if self.has_room_for(subject, now) {
            match self.states.get_mut(subject) {
                Some(known) => *known = state,
                None => drop(self.states.insert(subject.clone(), state)),
            }
        }
    }

    /// Changes a lease of the subject; when it ends then, `None` where it is not held. At the bound it may be one of those that
    /// were charged to an overflow.
    pub fn change_lease(&mut self, id: &LeaseId, change: ChangeLease, now: Timestamp) -> Option<Timestamp> {
        let LeaseId { kind, secret, subject } = id;
        let own = self.states.get_mut(subject).into_iter();
        own.chain(self.overflow.values_mut()).find_map(|state| concurrency::change(state, *kind, *secret, change, now))
    }

    pub fn get_mut(&mut self, subject: &Subject) -> Option<&mut SubjectState> {
        self.states.get_mut(subject)
    }

    /// The subjects that have a state of their own.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.states.keys()
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn is_full(&self) -> bool {
        self.states.len() >= self.capacity
    }

    fn has_room_for(&mut self, subject: &Subject, now: Timestamp) -> bool {
        if !self.is_full() || self.states.contains_key(subject) {
            return true;
        }
        self.sweep(now);
        !self.is_full()
    }

    /// Drops what is whole again, where anything can be.
    fn sweep(&mut self, now: Timestamp) {
        if now < self.next_sweep {
            return;
        }
        let mut earliest = None;
        self.states.retain(|_, state| match state.whole_at() {
            Some(whole_at) if now < whole_at => {
                earliest = Some(earliest.map_or(whole_at, |known: Timestamp| known.min(whole_at)));
                true
            }
            _ => false,
        });
        self.next_sweep = earliest.unwrap_or(now).max(now.saturating_add(SWEEP_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::SlotId;
    use crate::domain::state::Slot;
    use crate::domain::subject::UserId;

    fn user(id: usize) -> Subject {
        Subject::User(UserId::parse(&id.to_string()).unwrap())
    }

    fn charge(table: &mut CounterTable, subject: &Subject, whole_at: Timestamp, now: Timestamp) -> u64 {
        let state = table.charge_to(subject, &TierName::free(), now);
        let id = SlotId::from_raw(1);
        let a = state.live(id, now).map_or(0, |slot| slot.a) + 1;
        state.put(Slot { id, whole_at, a, b: 0, c: 0 }, now);
        a
    }

    #[test]
    fn at_the_bound_strangers_share_one_allowance_and_known_subjects_keep_theirs() {
        let mut table = CounterTable::new(10);
        let (now, end) = (Timestamp::from_seconds(1), Timestamp::from_seconds(100));
        for id in 0..10 {
            assert_eq!(charge(&mut table, &user(id), end, now), 1);
        }
        let shared: Vec<u64> = (10..1010).map(|id| charge(&mut table, &user(id), end, now)).collect();
        assert_eq!(shared, (1..=1000).collect::<Vec<u64>>());
        assert_eq!(table.len(), 10);
        assert_eq!(charge(&mut table, &user(3), end, now), 2);
    }

    #[test]
    fn what_is_whole_again_makes_room() {
        let mut table = CounterTable::new(10);
        for id in 0..10 {
            charge(&mut table, &user(id), Timestamp::from_seconds(100), Timestamp::from_seconds(1));
        }
        assert_eq!(charge(&mut table, &user(11), Timestamp::from_seconds(200), Timestamp::from_seconds(100)), 1);
        assert_eq!(table.len(), 1);
    }
}
