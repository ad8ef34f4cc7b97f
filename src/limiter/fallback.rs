//! What a shard grants while Redis is away: bounded by what it last knew, and remembered so that Redis is told once.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use crate::counters::redis::GrantedSlot;
use crate::domain::cost::{COUNT_MAX, Cost};
use crate::domain::decision::Violation;
use crate::domain::limit::SlotId;
use crate::domain::plan::{Plan, PlannedLimit};
use crate::domain::state::{Slot, SubjectState};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// What is owed for some subjects, each once.
pub type Owed = Vec<(Subject, Vec<GrantedSlot>)>;

/// Nothing is owed for these slots any more.
pub fn forget_owed(owed: &mut Owed, subject: &Subject, slots: Option<&[SlotId]>) {
    for (_, granted) in owed.iter_mut().filter(|(owner, _)| owner == subject) {
        granted.retain(|debt| slots.is_some_and(|slots| !slots.contains(&debt.slot)));
    }
}

/// Units granted without Redis, by subject and window. At most `capacity` subjects.
#[derive(Debug)]
pub struct Debts {
    owed: HashMap<Subject, SmallVec<[GrantedSlot; 2]>, RandomState>,
    capacity: usize,
}

impl Debts {
    pub fn new(capacity: usize) -> Self {
        Self { owed: HashMap::default(), capacity }
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Whether a grant to this subject can be remembered. One that can't is only made out of a shared allowance.
    pub fn has_room_for(&self, subject: &Subject) -> bool {
        self.owed.len() < self.capacity || self.owed.contains_key(subject)
    }

    /// Remembers a grant that was charged to `state`.
    pub fn record(&mut self, subject: &Subject, plan: &Plan, state: &SubjectState, cost: Cost, now: Timestamp) {
        if cost == Cost::ZERO || !self.has_room_for(subject) {
            return;
        }
        for slot in plan.limits.iter().filter_map(|limit| state.live(limit.slot, now)) {
            self.add(subject, GrantedSlot { slot: slot.id, whole_at: slot.whole_at, units: cost.units() });
        }
    }

    /// Puts back what could not be told to Redis.
    pub fn restore(&mut self, owed: &Owed) {
        for (subject, slots) in owed {
            for slot in slots {
                self.add(subject, *slot);
            }
        }
    }

    /// Charges what is owed for a subject on top of what Redis has counted.
    pub fn add_to(&self, state: &mut SubjectState, subject: &Subject, now: Timestamp) {
        for debt in self.owed.get(subject).into_iter().flatten().filter(|debt| now < debt.whole_at) {
            let known = state.live(debt.slot, now);
            let slot = Slot {
                id: debt.slot,
                whole_at: known.map_or(debt.whole_at, |slot| slot.whole_at.max(debt.whole_at)),
                a: known.map_or(0, |slot| slot.a).saturating_add(debt.units).min(COUNT_MAX),
                b: 0,
                c: 0,
            };
            state.put(slot, now);
        }
    }

    /// Redis had charged this before its answer was lost, so it is not owed. Never below nothing.
    pub fn forgive(&mut self, subject: &Subject, slot: SlotId, units: u64) {
        let Some(owed) = self.owed.get_mut(subject) else { return };
        for debt in owed.iter_mut().filter(|debt| debt.slot == slot) {
            debt.units = debt.units.saturating_sub(units);
        }
    }

    pub fn forget(&mut self, subject: &Subject, slots: Option<&[SlotId]>) {
        match (slots, self.owed.get_mut(subject)) {
            (Some(slots), Some(owed)) => owed.retain(|debt| !slots.contains(&debt.slot)),
            _ => drop(self.owed.remove(subject)),
        }
    }

    /// Up to so many subjects, with what is owed for them in windows that still run.
    pub fn take(&mut self, subjects: usize, now: Timestamp) -> Owed {
        let running = |debt: &GrantedSlot| debt.units > 0 && now < debt.whole_at;
        // Those that are not looked at stay.
        self.owed
            .extract_if(|_, _| true)
            .map(|(subject, slots)| (subject, slots.into_iter().filter(running).collect::<Vec<_>>()))
            .filter(|(_, slots)| !slots.is_empty())
            .take(subjects)
            .collect()
    }

    /// The enforced limits of which this instance has given its share away: it grants at most `share` of each alone.
    pub fn share_violations(
        &self,
        subject: &Subject,
        plan: &Plan,
        cost: Cost,
        share: f64,
        now: Timestamp,
    ) -> Vec<Violation> {
        if share >= 1.0 || cost == Cost::ZERO {
            return Vec::new();
        }
        let spent = |limit: &PlannedLimit| {
            let granted = self.granted(subject, limit.slot, now);
            granted.saturating_add(cost.units()) > part_of(limit.requests, share)
        };
        plan.limits
            .iter()
            .filter(|limit| limit.enforce && spent(limit))
            .map(|limit| Violation { limit: limit.name.clone(), room_at: self.running_end(subject, limit.slot, now) })
            .collect()
    }

    fn add(&mut self, subject: &Subject, granted: GrantedSlot) {
        let owed = self.owed.entry(subject.clone()).or_default();
        match owed.iter_mut().find(|debt| debt.slot == granted.slot && debt.whole_at == granted.whole_at) {
            Some(debt) => debt.units = debt.units.saturating_add(granted.units),
            None => {
                owed.retain(|debt| debt.slot != granted.slot || debt.whole_at > granted.whole_at);
                owed.push(granted);
            }
        }
    }

    fn granted(&self, subject: &Subject, slot: SlotId, now: Timestamp) -> u64 {
        self.running(subject, slot, now).map(|debt| debt.units).sum()
    }

    fn running_end(&self, subject: &Subject, slot: SlotId, now: Timestamp) -> Option<Timestamp> {
        self.running(subject, slot, now).map(|debt| debt.whole_at).max()
    }

    fn running(&self, subject: &Subject, slot: SlotId, now: Timestamp) -> impl Iterator<Item = &GrantedSlot> {
        let owed = self.owed.get(subject).map(SmallVec::as_slice).unwrap_or_default();
        owed.iter().filter(move |debt| debt.slot == slot && now < debt.whole_at)
    }
}

/// The part of a limit that one instance may grant alone, rounded down. Exact enough below 2^53.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit is at most 10^12 and a share from 0 to 1, so the product is a small non-negative number"
)]
fn part_of(requests: u64, share: f64) -> u64 {
    (requests as f64 * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::decide;
    use crate::domain::subject::UserId;
    use crate::domain::tier::{Tier, TierName};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn subject(id: &str) -> Subject {
        Subject::User(UserId::parse(id).unwrap())
    }

    fn plan() -> Plan {
        Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 10, 100, 1))
    }

    fn grant(debts: &mut Debts, subject: &Subject, units: u64) {
        let cost = Multiplier::ONE.times(Items::new(units).unwrap());
        let mut state = SubjectState::default();
        decide::charge(&mut state, &plan(), cost, NOW);
        debts.record(subject, &plan(), &state, cost, NOW);
    }

    #[test]
    fn grants_add_up_and_are_told_once() {
        let mut debts = Debts::new(10);
        grant(&mut debts, &subject("a"), 2);
        grant(&mut debts, &subject("a"), 3);
        let owed = debts.take(10, NOW);
        assert_eq!(owed.len(), 1);
        assert!(owed[0].1.iter().all(|debt| debt.units == 5));
        assert!(debts.is_empty());
    }

    #[test]
    fn what_redis_had_charged_is_not_owed() {
        let mut debts = Debts::new(10);
        grant(&mut debts, &subject("a"), 5);
        let slot = plan().limits[0].slot;
        debts.forgive(&subject("a"), slot, 9);
        let owed = debts.take(10, NOW);
        assert_eq!(owed[0].1.len(), 1, "the hour is paid, the day is not");
    }

    #[test]
    fn an_instance_grants_its_share_and_no_more() {
        let mut debts = Debts::new(10);
        let one = Multiplier::ONE.times(Items::ONE);
        grant(&mut debts, &subject("a"), 5);
        let violated = debts.share_violations(&subject("a"), &plan(), one, 0.5, NOW);
        assert_eq!(violated.len(), 1);
        assert!(violated[0].room_at.is_some());
        assert!(debts.share_violations(&subject("b"), &plan(), one, 0.5, NOW).is_empty());
    }

    #[test]
    fn the_ledger_is_bounded() {
        let mut debts = Debts::new(1);
        grant(&mut debts, &subject("a"), 1);
        grant(&mut debts, &subject("b"), 1);
        assert_eq!(debts.take(10, NOW).len(), 1);
    }

    #[test]
    fn they_are_told_in_parts() {
        let mut debts = Debts::new(10);
        ["a", "b", "c"].iter().for_each(|id| grant(&mut debts, &subject(id), 1));
        assert_eq!(debts.take(2, NOW).len(), 2);
        assert_eq!(debts.take(2, NOW).len(), 1);
        assert!(debts.is_empty());
    }

    #[test]
    fn what_is_owed_is_counted_on_top_of_what_redis_says() {
        let mut debts = Debts::new(10);
        grant(&mut debts, &subject("a"), 3);
        let mut state = SubjectState::default();
        let two = Multiplier::ONE.times(Items::new(2).unwrap());
        decide::charge(&mut state, &plan(), two, NOW);
        debts.add_to(&mut state, &subject("a"), NOW);
        assert!(decide::statuses(&state, &plan(), NOW).iter().all(|limit| limit.used == 5));
    }
}
