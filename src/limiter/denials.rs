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

/// At most `capacity` proven denials.
#[derive(Debug)]
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
        holds.then(|| Decision { source: Source::Cache, decided_at: now, ..Decision::clone(&denial.decision) })
    }

    pub fn forget(&self, subject: &Subject) {
        self.0.invalidate(subject);
    }

    pub fn forget_all(&self) {
        self.0.invalidate_all();
    }
}
