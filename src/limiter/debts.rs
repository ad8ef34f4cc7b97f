//! What a shard grants while Redis is away: bounded by what it last knew, and remembered so that Redis is told once.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use crate::counters::redis::Granted;
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::Violation;
use crate::domain::limit::SlotId;
use crate::domain::plan::{Plan, PlannedLimit};
use crate::domain::state::SubjectState;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// What is owed for some subjects, each once.
pub type Owed = Vec<Granted>;

/// Nothing is owed for these slots any more.
pub fn forget_owed(owed: &mut Owed, subject: &Subject, slots: Option<&[SlotId]>) {
    for granted in owed.iter_mut().filter(|granted| granted.subject == *subject) {
        granted.state.forget(slots);
    }
}

/// Takes what is owed for a subject out of a state that holds it.
pub fn take_owed_from(owed: &Owed, state: &mut SubjectState, subject: &Subject, now: Timestamp) {
    for granted in owed.iter().filter(|granted| granted.subject == *subject) {
        take_out(state, &granted.limits, &granted.state, now);
    }
}

fn take_out(state: &mut SubjectState, limits: &[PlannedLimit], owed: &SubjectState, now: Timestamp) {
    for limit in limits {
        decide::refund(state, limit, decide::used(owed, limit, now), now);
    }
}

/// The grants to one subject, as counters that hold nothing else.
#[derive(Debug, Default)]
struct Owing {
    limits: SmallVec<[PlannedLimit; 2]>,
    state: SubjectState,
}

impl Owing {
    fn know(&mut self, limit: &PlannedLimit) {
        match self.limits.iter_mut().find(|known| known.slot == limit.slot) {
            Some(known) => known.clone_from(limit),
            None => self.limits.push(limit.clone()),
        }
    }
}

/// What was granted without Redis. At most `capacity` subjects.
#[derive(Debug)]
pub struct Debts {
    owed: HashMap<Subject, Owing, RandomState>,
    capacity: usize,
}

impl Debts {
    pub fn new(capacity: usize) -> Self {
        Self { owed: HashMap::default(), capacity }
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Remembers a grant. One for which there is no room here was made out of a shared allowance.
    pub fn record(&mut self, subject: &Subject, plan: &Plan, cost: Cost, now: Timestamp) {
        let has_room = self.owed.len() < self.capacity || self.owed.contains_key(subject);
        if cost == Cost::ZERO || !has_room {
            return;
        }
        let owing = self.owed.entry(subject.clone()).or_default();
        plan.limits.iter().for_each(|limit| owing.know(limit));
        decide::charge(&mut owing.state, plan, cost, now);
    }

    /// Puts back what could not be told to Redis.
    pub fn restore(&mut self, owed: &Owed, now: Timestamp) {
        for Granted { subject, limits, state } in owed {
            let owing = self.owed.entry(subject.clone()).or_default();
            for limit in limits {
                owing.know(limit);
                decide::add(&mut owing.state, limit, state, now);
            }
        }
    }

    /// Charges what is owed for a subject on top of what Redis has counted.
    pub fn add_to(&self, state: &mut SubjectState, subject: &Subject, now: Timestamp) {
        let Some(owing) = self.owed.get(subject) else { return };
        owing.limits.iter().for_each(|limit| decide::add(state, limit, &owing.state, now));
    }

    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.owed.keys()
    }

    pub fn clear(&mut self) {
        self.owed.clear();
    }

    /// Takes what is owed for a subject out of a state that holds it.
    pub fn take_from(&self, state: &mut SubjectState, subject: &Subject, now: Timestamp) {
        let Some(owing) = self.owed.get(subject) else { return };
        take_out(state, &owing.limits, &owing.state, now);
    }

    /// Redis had charged this before its answer was lost, so it is not owed. Never below nothing.
    pub fn forgive(&mut self, subject: &Subject, plan: &Plan, cost: Cost, now: Timestamp) {
        let Some(owing) = self.owed.get_mut(subject) else { return };
        plan.limits.iter().for_each(|limit| decide::refund(&mut owing.state, limit, cost.units(), now));
    }

    pub fn forget(&mut self, subject: &Subject, slots: Option<&[SlotId]>) {
        if let Some(owing) = self.owed.get_mut(subject) {
            owing.state.forget(slots);
        }
    }

    /// Up to so many subjects, with what is owed for them that still says something.
    pub fn take(&mut self, subjects: usize, now: Timestamp) -> Owed {
        let granted = |(subject, Owing { limits, state }): (Subject, Owing)| {
            let counts = |limit: &PlannedLimit| decide::used(&state, limit, now) > 0;
            let limits: Vec<PlannedLimit> = limits.into_iter().filter(counts).collect();
            (!limits.is_empty()).then_some(Granted { subject, limits, state })
        };
        // Those that are not looked at stay.
        self.owed.extract_if(|_, _| true).filter_map(granted).take(subjects).collect()
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
        if share >= 1.0 {
            return Vec::new();
        }
        let nothing = SubjectState::default();
        let state = self.owed.get(subject).map_or(&nothing, |owing| &owing.state);
        decide::violations(state, &plan.part(share), cost, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::{Items, Multiplier};
    use crate::domain::subject::UserId;
    use crate::domain::tier::{Tier, TierName};

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn subject(id: &str) -> Subject {
        Subject::User(UserId::parse(id).unwrap())
    }

    fn plan() -> Plan {
        let limits = [
            r#"{"name":"hour","algorithm":"fixed_window","window":"hour","requests":10}"#,
            r#"{"name":"log","algorithm":"sliding_window_log","period_seconds":60,"requests":100}"#,
            r#"{"name":"counter","algorithm":"sliding_window_counter","period_seconds":60,"requests":100}"#,
            r#"{"name":"bucket","algorithm":"token_bucket","period_seconds":3600,"requests":100}"#,
        ];
        let limits = limits.iter().map(|limit| serde_json::from_str(limit).unwrap()).collect();
        Plan::of_tier(&Tier { limits, ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) })
    }

    fn cost(units: u64) -> Cost {
        Multiplier::ONE.times(Items::new(units).unwrap())
    }

    fn used(state: &SubjectState) -> Vec<u64> {
        plan().limits.iter().map(|limit| decide::used(state, limit, NOW)).collect()
    }

    #[test]
    fn grants_add_up_and_are_told_once() {
        let mut debts = Debts::new(10);
        debts.record(&subject("a"), &plan(), cost(2), NOW);
        debts.record(&subject("a"), &plan(), cost(3), NOW);
        let owed = debts.take(10, NOW);
        assert_eq!(owed.len(), 1);
        assert_eq!(used(&owed[0].state), [5, 5, 5, 5]);
        assert!(debts.is_empty());
        debts.record(&subject("a"), &plan(), cost(1), NOW);
        debts.restore(&owed, NOW);
        assert_eq!(used(&debts.take(10, NOW)[0].state), [6, 6, 6, 6]);
    }

    #[test]
    fn what_redis_had_charged_is_not_owed() {
        let mut debts = Debts::new(10);
        debts.record(&subject("a"), &plan(), cost(5), NOW);
        debts.forgive(&subject("a"), &plan(), cost(3), NOW);
        let mut state = SubjectState::default();
        debts.add_to(&mut state, &subject("a"), NOW);
        assert_eq!(used(&state), [2, 2, 2, 2]);
        debts.forgive(&subject("a"), &plan(), cost(9), NOW);
        assert!(debts.take(10, NOW).is_empty());
    }

    #[test]
    fn an_instance_grants_its_share_and_no_more() {
        let mut debts = Debts::new(10);
        debts.record(&subject("a"), &plan(), cost(5), NOW);
        let violated = debts.share_violations(&subject("a"), &plan(), cost(1), 0.5, NOW);
        assert_eq!(violated.len(), 1);
        assert!(violated[0].room_at.is_some());
        assert!(debts.share_violations(&subject("b"), &plan(), cost(1), 0.5, NOW).is_empty());
    }

    #[test]
    fn the_ledger_is_bounded() {
        let mut debts = Debts::new(1);
        debts.record(&subject("a"), &plan(), cost(1), NOW);
        debts.record(&subject("b"), &plan(), cost(1), NOW);
        assert_eq!(debts.take(10, NOW).len(), 1);
    }

    #[test]
    fn they_are_told_in_parts() {
        let mut debts = Debts::new(10);
        ["a", "b", "c"].iter().for_each(|id| debts.record(&subject(id), &plan(), cost(1), NOW));
        assert_eq!(debts.take(2, NOW).len(), 2);
        assert_eq!(debts.take(2, NOW).len(), 1);
        assert!(debts.is_empty());
    }

    #[test]
    fn what_is_owed_is_counted_on_top_of_what_redis_says() {
        let mut debts = Debts::new(10);
        debts.record(&subject("a"), &plan(), cost(3), NOW);
        let mut state = SubjectState::default();
        decide::charge(&mut state, &plan(), cost(2), NOW);
        debts.add_to(&mut state, &subject("a"), NOW);
        assert_eq!(used(&state), [5, 5, 5, 5]);
    }
}
