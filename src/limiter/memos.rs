//! What is remembered of checks with a `request_id`: for a minute, a repeat is answered as the first was.

use foldhash::quality::RandomState;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::batch::{Planned, slot_status};
use super::check::RequestId;
use crate::counters::redis::Remembered;
use crate::domain::concurrency::InUse;
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::{Decision, Explanation, Source};
use crate::domain::lease::LeaseAsk;
use crate::domain::plan::Plan;
use crate::domain::subject::Subject;
use crate::domain::time::{Period, Timestamp};

/// How long a repeat is known.
const KEPT: Period = Period::from_seconds(60);

/// The decisions that this shard took for checks with an id. At most `capacity`; the oldest are forgotten first.
#[derive(Debug)]
pub struct Memos(Cache<(Subject, RequestId), Decision, RandomState>);

impl Memos {
    pub fn new(capacity: usize) -> Self {
        // Redis' clock, by which decisions may be dated, may be far ahead of this process' own: no entry lives longer either way.
        let cache = Cache::builder().max_capacity(capacity as u64).time_to_live(KEPT.as_duration());
        Self(cache.build_with_hasher(RandomState::default()))
    }

    /// The decision about an earlier check of the subject with the same id.
    pub fn find(&self, subject: &Subject, request_id: &RequestId, now: Timestamp) -> Option<Decision> {
        let known = self.0.get(&(subject.clone(), request_id.clone()))?;
        (now < known.decided_at.saturating_add(KEPT)).then(|| Decision { repeated: true, ..known })
    }

    pub fn remember(&self, request_id: &RequestId, decision: &Decision) {
        self.0.insert((decision.subject.clone(), request_id.clone()), decision.clone());
    }
}

/// What Redis remembers of a check beside the counters that it met: from both the decision is put together again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memo {
    plan: Plan,
    cost: Cost,
    lease: Option<LeaseAsk>,
    explanation: Option<Box<Explanation>>,
}

impl Memo {
    /// As it is sent with the check. `around` is about when it will be decided.
    pub fn of(planned: &Planned, around: Timestamp) -> Vec<u8> {
        let check = &planned.job.check;
        let memo = Memo {
            plan: Plan::clone(&planned.plan),
            cost: check.cost,
            lease: check.lease_ask(),
            explanation: check.explain.then(|| Box::new(planned.explanation(around))),
        };
        // Numbers and texts always have a JSON form.
        serde_json::to_vec(&memo).unwrap_or_default()
    }

    /// The decision that was taken then; `None` where another version has written it.
    pub fn decision(subject: &Subject, remembered: Remembered) -> Option<Decision> {
        let Remembered { now, before: mut state, memo } = remembered;
        let memo: Memo = serde_json::from_slice(&memo).ok()?;
        decide::charge(&mut state, &memo.plan, memo.cost, now);
        // How many were held then is not remembered, and no answer to a check shows it.
        let unknown = InUse { held: 0, free_at: None };
        let slots = memo.lease.map(|ask| slot_status(subject, &memo.plan, ask, unknown, true, now));
        Some(Decision {
            subject: subject.clone(),
            tier: memo.plan.tier.clone(),
            cost: memo.cost,
            limits: decide::statuses(&state, &memo.plan, now),
            violations: Vec::new(),
            source: Source::Redis,
            decided_at: now,
            slots: slots.map(Box::new),
            explanation: memo.explanation,
            repeated: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::UserId;
    use crate::domain::tier::TierName;

    fn decision(user: usize, seconds: i64) -> Decision {
        Decision {
            subject: Subject::User(UserId::parse(&user.to_string()).unwrap()),
            tier: TierName::free(),
            cost: Cost::ZERO,
            limits: Vec::new(),
            violations: Vec::new(),
            source: Source::Memory,
            decided_at: Timestamp::from_seconds(seconds),
            slots: None,
            explanation: None,
            repeated: false,
        }
    }

    #[test]
    fn a_repeat_is_known_for_a_minute() {
        let memos = Memos::new(10);
        let id = RequestId::parse("r".to_owned()).unwrap();
        memos.remember(&id, &decision(1, 100));
        let find =
            |user: usize, seconds: i64| memos.find(&decision(user, 0).subject, &id, Timestamp::from_seconds(seconds));
        assert!(find(1, 159).is_some_and(|known| known.repeated));
        assert_eq!(find(1, 160), None);
        assert_eq!(find(2, 100), None);
    }

    #[test]
    fn no_more_are_remembered_than_may_be() {
        let memos = Memos::new(100);
        let id = RequestId::parse("r".to_owned()).unwrap();
        (0..10_000).for_each(|user| memos.remember(&id, &decision(user, 0)));
        memos.0.run_pending_tasks();
        assert!((1..=100).contains(&memos.0.entry_count()));
    }
}
