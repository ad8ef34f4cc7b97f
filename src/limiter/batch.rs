//! The batch in hand: the checks that arrived while a round trip to Redis was under way, in groups of one subject.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use smallvec::{SmallVec, smallvec};

use super::check::Check;
use super::messages::Job;
use crate::domain::account::Account;
use crate::domain::concurrency::InUse;
use crate::domain::cost::Cost;
use crate::domain::decision::{Decision, Explanation, LimitStatus, SlotStatus, Source, TierOrigin, Violation};
use crate::domain::lease::{LeaseAsk, LeaseId};
use crate::domain::plan::Plan;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// The script blocks Redis while it runs, for so many checks at most.
pub const CHECKS_A_ROUND: usize = 256;

/// A check whose limits are known.
#[derive(Debug)]
pub struct Planned {
    pub job: Job,
    pub plan: Arc<Plan>,
    pub account: Option<Arc<Account>>,
    /// Since when it is kept waiting for what other instances hold of its subject's limits.
    pub waits_since: Option<Timestamp>,
}

impl Planned {
    /// The decision about this check; it is allowed where nothing is violated. `slots` as they were found.
    pub fn decision(
        &self,
        limits: Vec<LimitStatus>,
        violations: Vec<Violation>,
        slots: Option<(LeaseAsk, InUse)>,
        source: Source,
        decided_at: Timestamp,
    ) -> Decision {
        let Check { subject, cost, .. } = &self.job.check;
        let allowed = violations.is_empty();
        let slots = slots.map(|(ask, found)| slot_status(subject, &self.plan, ask, found, allowed, decided_at));
        Decision {
            subject: subject.clone(),
            tier: self.plan.tier.clone(),
            cost: *cost,
            limits,
            violations,
            source,
            decided_at,
            slots: slots.map(Box::new),
            explanation: None,
            repeated: false,
        }
    }

    /// Where the limits of the check come from.
    pub fn explanation(&self, decided_at: Timestamp) -> Explanation {
        let Check { tier, claimed_tier, endpoint_rule, .. } = &self.job.check;
        let account = self.account.as_deref();
        let entry = account.and_then(|account| account.tier.as_ref());
        // A name that no tier bears was passed over, so the first that is the plan's is the one that was taken.
        let origins = [
            (tier.as_ref(), TierOrigin::Check),
            (entry, TierOrigin::Database),
            (claimed_tier.as_ref(), TierOrigin::Token),
        ];
        let taken = origins.into_iter().find(|(name, _)| *name == Some(&self.plan.tier));
        Explanation {
            tier_from: taken.map_or(TierOrigin::Default, |(_, origin)| origin),
            endpoint_rule: endpoint_rule.clone(),
            quota_override: account.and_then(|account| account.active_override(decided_at).cloned()),
        }
    }
}

/// The slots after the decision: with the one that was taken, where the check was allowed and wished for one.
pub fn slot_status(
    subject: &Subject,
    plan: &Plan,
    ask: LeaseAsk,
    found: InUse,
    allowed: bool,
    now: Timestamp,
) -> SlotStatus {
    let taken = ask.taken().filter(|_| allowed).map(|(secret, lasts)| {
        let id = LeaseId { kind: ask.kind, secret, subject: subject.clone() };
        (id, now.saturating_add(lasts))
    });
    SlotStatus {
        kind: ask.kind,
        limit: plan.slots(ask.kind),
        held: found.held.saturating_add(u64::from(taken.is_some())),
        free_at: found.free_at,
        taken,
    }
}

/// Checks of one subject, in the order in which they came.
#[derive(Debug)]
pub struct Group {
    pub subject: Subject,
    pub checks: SmallVec<[Planned; 1]>,
    /// A block that is asked for with them, and the plan that it is charged by.
    pub block: Option<(Arc<Plan>, Cost)>,
}

#[derive(Debug, Default)]
struct Round {
    groups: Vec<Group>,
    by_subject: HashMap<Subject, usize, RandomState>,
    checks: usize,
}

/// What waits for Redis, cut into rounds. The queue bound of the shard bounds it too.
#[derive(Debug, Default)]
pub struct Batch {
    rounds: VecDeque<Round>,
}

impl Batch {
    pub fn add(&mut self, planned: Planned) {
        if self.rounds.back().is_none_or(|round| round.checks >= CHECKS_A_ROUND) {
            self.rounds.push_back(Round::default());
        }
        if let Some(round) = self.rounds.back_mut() {
            round.add(planned);
        }
    }

    /// The next round's groups; `None` where nothing waits.
    pub fn next_round(&mut self) -> Option<Vec<Group>> {
        self.rounds.pop_front().map(|round| round.groups)
    }

    /// Everything that waits, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Planned> {
        self.rounds.drain(..).flat_map(|round| round.groups).flat_map(|group| group.checks)
    }
}

impl Round {
    fn add(&mut self, planned: Planned) {
        self.checks = self.checks.saturating_add(1);
        let subject = &planned.job.check.subject;
        match self.by_subject.get(subject).and_then(|&number| self.groups.get_mut(number)) {
            Some(group) => group.checks.push(planned),
            None => {
                let subject = subject.clone();
                self.by_subject.insert(subject.clone(), self.groups.len());
                self.groups.push(Group { subject, checks: smallvec![planned], block: None });
            }
        }
    }
}
