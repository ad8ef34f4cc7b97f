//! Denials that are proven: until their time, the same question needs no second answer.

use std::sync::Arc;

use foldhash::quality::RandomState;
use moka::sync::Cache;

use crate::domain::cost::Cost;
use crate::domain::decision::{Decision, Source};
use crate::domain::plan::Plan;
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};

/// No denial is held longer than this: another instance may have reset the subject meanwhile.
const LONGEST: Period = Period::from_seconds(1);

#[derive(Debug, Clone)]
struct Denial {
    decision: Arc<Decision>,
    plan: Arc<Plan>,
    until: Timestamp,
}

/// At most `capacity` proven denials. Clones share them.
#[derive(Debug, Clone)]
pub struct Denials(Cache<Subject, Denial, RandomState>);

impl Denials {
    pub fn new(capacity: usize) -> Self {
        Self(Cache::builder().max_capacity(capacity as u64).build_with_hasher(RandomState::default()))
    }

    /// Remembers a denial for as long as nothing but an administrator could turn it into a pass.
    pub fn prove(&self, decision: &Decision, plan: &Arc<Plan>) {
        let longest = decision.decided_at.saturating_add(LONGEST);
        let until = decision.denied_by().and_then(|denial| denial.room_at).map_or(longest, |room| room.min(longest));
        let denial = Denial { decision: Arc::new(decision.clone()), plan: Arc::clone(plan), until };
        self.0.insert(decision.subject.clone(), denial);
    }

    /// The denial that holds for this cost under this plan. A cost below the one that was denied may still find room.
    pub fn find(&self, subject: &Subject, plan: &Plan, cost: Cost, now: Timestamp) -> Option<Decision> {
        let denial = self.0.get(subject)?;
        let holds = now < denial.until
            && denial.decision.decided_at <= now
            && cost == denial.decision.cost
            && *denial.plan == *plan;
        holds.then(|| {
            let mut decision = Decision::clone(&denial.decision);
            // Other limits that had no room then may have some by now.
            decision.violations.retain(|violation| violation.room_at.is_none_or(|room_at| now < room_at));
            Decision { source: Source::Cache, decided_at: now, ..decision }
        })
    }

    pub fn forget(&self, subject: &Subject) {
        self.0.invalidate(subject);
    }

    pub fn forget_all(&self) {
        self.0.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Violation;
    use crate::domain::limit::LimitName;
    use crate::domain::subject::UserId;
    use crate::domain::tier::{Tier, TierName};

    #[test]
    fn a_denial_that_is_remembered_names_only_what_still_has_no_room() {
        let at = |micros: i64| Timestamp::from_micros(1_795_766_400_000_000 + micros);
        let violation = |limit, micros| Violation { limit, room_at: Some(at(micros)) };
        let plan = Arc::new(Plan::of_tier(&Tier::hourly_and_daily(TierName::free(), 1, 1, 1)));
        let decision = Decision {
            subject: Subject::User(UserId::parse("u").unwrap()),
            tier: TierName::free(),
            cost: Cost::ZERO,
            limits: Vec::new(),
            violations: vec![violation(LimitName::hour(), 100), violation(LimitName::day(), 900)],
            source: Source::Redis,
            decided_at: at(0),
            slots: None,
            explanation: None,
            repeated: false,
        };
        let denials = Denials::new(10);
        denials.prove(&decision, &plan);
        let names = |micros| {
            let found = denials.find(&decision.subject, &plan, Cost::ZERO, at(micros))?;
            Some(found.violations.iter().map(|violation| violation.limit.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names(99), Some(vec!["hour".to_owned(), "day".to_owned()]));
        assert_eq!(names(100), Some(vec!["day".to_owned()]));
        assert_eq!(names(900), None);
    }
}
