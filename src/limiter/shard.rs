//! A shard: it owns its subjects outright, so their counters need no lock.
//!
//! A plain struct. Its time, its database reads and its round trips are brought to it by [`super::actor`].

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::LimiterError;
use super::batch::Planned;
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::local;
use super::messages::Job;
use super::profiles::{Known, Profiles};
use super::remote::Remote;
use super::thresholds::Thresholds;
use crate::counters::redis::LeaseAnswer;
use crate::counters::table::CounterTable;
use crate::domain::account::Account;
use crate::domain::concurrency;
use crate::domain::decision::Source;
use crate::domain::lease::{ChangeLease, Lease, LeaseId, LeasePlace};
use crate::domain::limit::SlotId;
use crate::domain::plan::PlannedLimit;
use crate::domain::policy::Policy;
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;
use crate::domain::usage::{Usage, UsageKey};
use crate::observability::metrics::Metrics;
use crate::observability::outlet::Outlet;

/// Where the shard's counts are kept.
#[derive(Debug)]
pub enum Counters {
    Embedded(CounterTable),
    Redis(Lanes),
}

/// What a shard hands to the books.
#[derive(Debug, Default)]
pub struct Gathered {
    pub usage: Vec<(UsageKey, Usage)>,
    /// With embedded counters, the changed states; `None` is one that has nothing counted any more.
    pub counters: Vec<(Subject, Option<SubjectState>)>,
}

/// One shard's subjects: their profiles, their counters, their usage.
#[derive(Debug)]
pub struct Shard {
    profiles: Profiles,
    policy: Arc<ArcSwap<Policy>>,
    counters: Counters,
    ledger: Ledger,
    enforcing: bool,
}

impl Shard {
    /// `profile_capacity` is in users; through `outlet` thresholds are told of.
    pub fn new(
        counters: Counters,
        profile_capacity: usize,
        policy: Arc<ArcSwap<Policy>>,
        metrics: Arc<Metrics>,
        enforcing: bool,
        outlet: Option<Outlet>,
    ) -> Self {
        // Where nothing is enforced, no limit is come near to.
        let thresholds = outlet.filter(|_| enforcing).map(Thresholds::new);
        let ledger = Ledger::new(metrics, profile_capacity, thresholds);
        Self { profiles: Profiles::new(profile_capacity), policy, counters, ledger, enforcing }
    }

    /// Takes a check in: it is answered, or waits for its user's account or for Redis.
    pub fn take(&mut self, job: Job, now: Timestamp) {
        match self.profiles.get(&job.check.subject, now) {
            Known::NotYet => self.profiles.wait(job),
            Known::Account(account) => self.decide(job, account, now),
        }
    }

    /// The users whose accounts are waited for, where no read is under way.
    pub fn next_load(&mut self) -> Option<Vec<UserId>> {
        self.profiles.next_load()
    }

    /// Takes in the accounts that were read; `None` where the database could not be read.
    pub fn loaded(&mut self, accounts: Option<Vec<Account>>, now: Timestamp) {
        for job in self.profiles.loaded(accounts, now) {
            self.take(job, now);
        }
    }

    /// Forgets what is remembered of these users, `None` being all of them.
    pub fn forget(&mut self, users: Option<&[UserId]>) {
        self.profiles.forget(users);
        if let Counters::Redis(lanes) = &mut self.counters {
            lanes.iter_mut().for_each(|remote| remote.forget_denials(users));
        }
    }

    /// Sets slots of a subject in this process to nothing used; `None` is all of them.
    pub fn reset(&mut self, subject: &Subject, slots: Option<&[SlotId]>) {
        let table = match &mut self.counters {
            Counters::Embedded(table) => Some(table),
            Counters::Redis(lanes) => lanes.of(subject).map(|remote| remote.reset(subject, slots)),
        };
        if let Some(state) = table.and_then(|table| table.get_mut(subject)) {
            state.forget(slots);
        }
        self.ledger.usage.touch(subject.clone());
    }

    /// Everything gathered since the last time. Those who watch are told of it too.
    pub fn gather(&mut self) -> Gathered {
        self.ledger.show_seen();
        let (usage, subjects) = self.ledger.usage.take();
        let counters = match &self.counters {
            Counters::Embedded(table) => subjects
                .into_iter()
                .map(|subject| {
                    let state = table.own(&subject).filter(|state| !state.is_empty()).cloned();
                    (subject, state)
                })
                .collect(),
            Counters::Redis(_) => Vec::new(),
        };
        Gathered { usage, counters }
    }

    /// Sends the answers that were found since the last time.
    pub fn send_answers(&mut self) {
        self.ledger.send_answers();
    }

    /// Whether so much usage is gathered that it should not wait for the tick.
    pub fn must_hand_over(&self) -> bool {
        self.ledger.usage.is_due()
    }

    /// One of the shard's lanes to Redis, and what it answers through; `None` with embedded counters.
    pub fn lane(&mut self, number: usize) -> Option<(&mut Remote, &mut Ledger)> {
        match &mut self.counters {
            Counters::Embedded(_) => None,
            Counters::Redis(lanes) => lanes.get_mut(number).map(|remote| (remote, &mut self.ledger)),
        }
    }

    /// Which lane a subject's checks take.
    pub fn lane_of(&self, subject: &Subject) -> usize {
        match &self.counters {
            Counters::Embedded(_) => 0,
            Counters::Redis(lanes) => lanes.number_of(subject),
        }
    }

    /// All limits that any tier has now.
    pub fn known_limits(&self) -> Vec<PlannedLimit> {
        self.policy.load().limits()
    }

    /// The leases that a subject holds by embedded counters; of those in Redis, whether it can be asked.
    pub fn held_leases(
        &mut self,
        subject: &Subject,
        after: Option<LeasePlace>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Lease>, LimiterError> {
        match &mut self.counters {
            Counters::Embedded(table) => {
                let leases = table.own(subject).map(SubjectState::leases).unwrap_or_default();
                Ok(concurrency::held(leases, after, limit, now))
            }
            Counters::Redis(lanes) => {
                let is_up = lanes.of(subject).is_some_and(|remote| remote.keeps_leases());
                if is_up { Ok(Vec::new()) } else { Err(LimiterError::CountersUnavailable) }
            }
        }
    }

    /// Changes a lease by what is known in this process: when it ends then, `None` where it is not held.
    ///
    /// # Errors
    /// While Redis is away, [`LimiterError::CountersUnavailable`] for a lease that another instance may have granted.
    pub fn change_lease(
        &mut self,
        id: &LeaseId,
        change: ChangeLease,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, LimiterError> {
        match &mut self.counters {
            Counters::Embedded(table) => {
                let ends = table.change_lease(id, change, now);
                if ends.is_some() {
                    self.ledger.usage.touch(id.subject.clone());
                }
                Ok(ends)
            }
            Counters::Redis(lanes) => {
                let ends = lanes.of(&id.subject).and_then(|remote| remote.change_lease(id, change, now));
                ends.map(Some).ok_or(LimiterError::CountersUnavailable)
            }
        }
    }

    /// Redis has changed a lease: when it ends now, `None` where it is not held.
    pub fn lease_changed(&mut self, id: &LeaseId, change: ChangeLease, answer: &LeaseAnswer) -> Option<Timestamp> {
        self.lane(self.lane_of(&id.subject)).and_then(|(remote, _)| remote.lease_changed(id, change, answer))
    }

    fn decide(&mut self, job: Job, account: Option<Arc<Account>>, now: Timestamp) {
        let check = &job.check;
        let plan = self.policy.load().plan_for(
            &check.subject,
            check.tier.as_ref(),
            account.as_deref(),
            check.claimed_tier.as_ref(),
            now,
        );
        let planned = Planned { job, plan, account, waits_since: None };
        let check = &planned.job.check;
        let known = check.request_id.as_ref().and_then(|id| self.ledger.memos.find(&check.subject, id, now));
        match (known, &mut self.counters) {
            (Some(decision), _) => self.ledger.answer(planned, decision),
            (None, Counters::Embedded(table)) => {
                let enforcing = self.enforcing;
                let judge = |state: &SubjectState, slots| {
                    if enforcing { local::violations(&planned, state, slots, now) } else { Vec::new() }
                };
                let decision = local::decide(table, &planned, Source::Memory, now, judge);
                self.ledger.answer(planned, decision);
            }
            (None, Counters::Redis(lanes)) => match lanes.of(&check.subject) {
                Some(remote) => remote.take(planned, &mut self.ledger, now),
                None => self.ledger.refuse(planned, LimiterError::Stopped),
            },
        }
    }
}
