//! A shard's dealings with Redis: what waits for it, what is decided without it, and what it has to be told afterwards.
//!
//! A plain struct, like the shard that owns it: [`super::actor`] carries the round trips.

use std::sync::Arc;
use std::time::Duration;

use super::LimiterError;
use super::batch::{Batch, Group, Planned};
use super::denials::Denials;
use super::fallback::{Debts, Owed, forget_owed};
use super::ledger::Ledger;
use super::redis_state::RedisState;
use crate::config::{FallbackMode, LimiterSettings};
use crate::counters::redis::{Ask, AskMode, BatchId, BatchOutcome, RedisError, SubjectBatch, SubjectOutcome, Verdict};
use crate::counters::table::CounterTable;
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::Source;
use crate::domain::limit::SlotId;
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;

/// Rounds under way at once: one that Redis works on, and one on the wire.
const ROUNDS_IN_FLIGHT: usize = 2;

/// Subjects that Redis is told of in one call: the script blocks it while it runs.
const SUBJECTS_A_DEBT: usize = 256;

/// A round trip, ready to be sent.
#[derive(Debug)]
pub struct Round {
    pub id: BatchId,
    pub subjects: Vec<SubjectBatch>,
    groups: Vec<Group>,
    sent_at: Timestamp,
}

/// A round whose answer was lost: it may have been applied.
pub type Missed = (BatchId, Vec<SubjectBatch>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Redis decides.
    Normal,
    /// Redis does not answer: this shard decides alone.
    Away,
    /// Redis answers again and is being told what was granted meanwhile; this shard still decides alone.
    Recovering,
    /// Redis is being told the last of it: checks wait until it has been, or there would always be more to tell.
    Settling,
}

#[derive(Debug)]
pub struct Remote {
    /// The last state seen of each subject, and what was granted on top of it since: nobody starts afresh without Redis.
    warm: CounterTable,
    batch: Batch,
    denials: Denials,
    debts: Debts,
    /// What Redis may or may not have been told. It is told again under the same id, which adds nothing twice.
    telling: Option<(BatchId, Arc<Owed>)>,
    phase: Phase,
    in_flight: usize,
    /// Rounds that may have been applied though their answer never came. None is sent until these are accounted for, so
    /// there are never more than may be in flight.
    missed: Vec<Missed>,
    next_id: BatchId,
    /// How far Redis' clock is ahead of this process' clock; never less than it truly is by more than one way of the line.
    clock_ahead_micros: i64,
    fallback: FallbackMode,
    share: f64,
    enforcing: bool,
    state: RedisState,
}

impl Remote {
    /// `capacity` is in subjects; `first_id` must be of this shard and this process alone.
    pub fn new(settings: &LimiterSettings, capacity: usize, first_id: BatchId, state: RedisState) -> Self {
        Self {
            warm: CounterTable::new(capacity),
            batch: Batch::default(),
            denials: Denials::new(capacity),
            debts: Debts::new(capacity),
            telling: None,
            phase: Phase::Normal,
            in_flight: 0,
            missed: Vec::new(),
            next_id: first_id,
            clock_ahead_micros: 0,
            fallback: settings.fallback,
            share: settings.fallback_share,
            enforcing: settings.enabled,
            state,
        }
    }

    /// Takes a check in: it is answered, or waits for the next round.
    pub fn take(&mut self, planned: Planned, ledger: &mut Ledger, now: Timestamp) {
        let redis_now = self.redis_time(now);
        let check = &planned.job.check;
        let denial = (self.enforcing && check.cost != Cost::ZERO)
            .then(|| self.denials.find(&check.subject, &planned.plan, check.cost, redis_now))
            .flatten();
        match (denial, self.phase) {
            (Some(denial), _) => ledger.answer(planned, denial),
            (None, Phase::Normal | Phase::Settling) => self.batch.add(planned),
            (None, Phase::Away | Phase::Recovering) => self.decide_alone(planned, ledger, now),
        }
    }

    /// The next round to send, where one may be sent and something waits.
    pub fn next_round(&mut self, now: Timestamp) -> Option<Round> {
        if self.phase != Phase::Normal || self.in_flight >= ROUNDS_IN_FLIGHT {
            return None;
        }
        let groups = self.batch.next_round()?;
        self.in_flight = self.in_flight.saturating_add(1);
        let id = self.next_id;
        self.next_id = id.next();
        let ask = |planned: &Planned| Ask {
            plan: Arc::clone(&planned.plan),
            cost: planned.job.check.cost,
            mode: match (planned.job.check.dry_run, self.enforcing) {
                (true, _) => AskMode::Peek,
                (false, true) => AskMode::Charge,
                (false, false) => AskMode::Force,
            },
        };
        let subjects = groups
            .iter()
            .map(|group| SubjectBatch { subject: group.subject.clone(), asks: group.checks.iter().map(ask).collect() })
            .collect();
        Some(Round { id, subjects, groups, sent_at: now })
    }

    /// Takes in what came of a round. Without an answer its checks, and all that wait, are decided here.
    pub fn landed(
        &mut self,
        round: Round,
        outcome: Result<BatchOutcome, RedisError>,
        ledger: &mut Ledger,
        now: Timestamp,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Ok(outcome) => {
                self.clock_ahead_micros = outcome.now.as_micros().saturating_sub(round.sent_at.as_micros());
                for (group, subject) in round.groups.into_iter().zip(outcome.subjects) {
                    self.hand_out(group, subject, outcome.now, ledger);
                }
            }
            Err(error) => {
                if error.may_have_been_applied() {
                    self.missed.push((round.id, round.subjects));
                }
                let checks = round.groups.into_iter().flat_map(|group| group.checks).collect();
                self.lose(&error, checks, ledger, now);
            }
        }
    }

    /// Redis does not answer: these checks, and all that wait, are decided here.
    fn lose(&mut self, error: &RedisError, checks: Vec<Planned>, ledger: &mut Ledger, now: Timestamp) {
        if self.phase == Phase::Normal {
            self.state.shard_lost(error.to_string());
        }
        self.phase = Phase::Away;
        let waiting: Vec<Planned> = checks.into_iter().chain(self.batch.drain()).collect();
        for planned in waiting {
            self.decide_alone(planned, ledger, now);
        }
    }

    /// Whether nothing is under way that would show if Redis still answers.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Normal && self.in_flight == 0
    }

    /// Redis gave a sign of life in so much time.
    pub fn answered(&self, round_trip: Duration) {
        self.state.answered(round_trip);
    }

    /// Redis was asked for a sign of life while nothing was under way, and gave none.
    pub fn silent(&mut self, error: &RedisError, ledger: &mut Ledger, now: Timestamp) {
        self.lose(error, Vec::new(), ledger, now);
    }

    /// Whether Redis should be asked if it is back: every round that was under way has landed, one way or the other.
    pub fn wants_probe(&self) -> bool {
        self.phase == Phase::Away && self.in_flight == 0
    }

    /// Redis is asked: the rounds to look up before it is told what is owed.
    pub fn begin_recovery(&mut self) -> Vec<Missed> {
        self.phase = Phase::Recovering;
        self.missed.clone()
    }

    /// What came of the lost rounds, in the order of [`Remote::begin_recovery`]: what they charged is not owed.
    pub fn found_missed(&mut self, found: &[Option<Vec<Verdict>>]) {
        for ((_, subjects), verdicts) in std::mem::take(&mut self.missed).iter().zip(found) {
            let asks = subjects.iter().flat_map(|batch| batch.asks.iter().map(|ask| (&batch.subject, ask)));
            for ((subject, ask), verdict) in asks.zip(verdicts.iter().flatten()) {
                if *verdict == Verdict::Charged {
                    for limit in &ask.plan.limits {
                        self.debts.forgive(subject, limit.slot, ask.cost.units());
                    }
                }
            }
        }
    }

    /// What Redis has to be told next, where anything is owed. With the last of it, checks begin to wait for it.
    pub fn take_debts(&mut self, now: Timestamp) -> Option<(BatchId, Arc<Owed>)> {
        if !matches!(self.phase, Phase::Recovering | Phase::Settling) {
            return None;
        }
        if self.telling.is_none() {
            let owed = self.debts.take(SUBJECTS_A_DEBT, self.redis_time(now));
            if !owed.is_empty() {
                let id = self.next_id;
                self.next_id = id.next();
                self.telling = Some((id, Arc::new(owed)));
            }
        }
        if self.debts.is_empty() {
            self.phase = Phase::Settling;
        }
        self.telling.clone()
    }

    /// Redis was told.
    pub fn paid(&mut self, ledger: &Ledger) {
        let Some((_, owed)) = self.telling.take() else { return };
        let units = owed.iter().filter_map(|(_, slots)| slots.iter().map(|slot| slot.units).max()).sum();
        ledger.metrics.reconciled_units.inc_by(units);
    }

    /// Redis could not be told, or did not say that it was.
    pub fn unpaid(&mut self, error: &RedisError, ledger: &mut Ledger, now: Timestamp) {
        if !error.may_have_been_applied()
            && let Some((_, owed)) = self.telling.take()
        {
            self.debts.restore(&owed);
        }
        self.lose(error, Vec::new(), ledger, now);
    }

    /// Everything is told: Redis decides again, first the checks that waited.
    pub fn recovered(&mut self) {
        if self.phase == Phase::Settling {
            self.phase = Phase::Normal;
            self.state.shard_recovered();
        }
    }

    pub fn forget_denials(&self, users: Option<&[UserId]>) {
        match users {
            Some(users) => users.iter().for_each(|user| self.denials.forget(&Subject::User(user.clone()))),
            None => self.denials.forget_all(),
        }
    }

    /// Forgets what was granted and denied of the slots; gives the warm table, which holds their last state.
    pub fn reset(&mut self, subject: &Subject, slots: Option<&[SlotId]>) -> &mut CounterTable {
        self.denials.forget(subject);
        self.debts.forget(subject, slots);
        if let Some((_, owed)) = &mut self.telling {
            forget_owed(Arc::make_mut(owed), subject, slots);
        }
        &mut self.warm
    }

    fn redis_time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros().saturating_add(self.clock_ahead_micros))
    }

    /// Tells each check of a subject what Redis decided. The limits as each check saw them are worked out by the same rule.
    fn hand_out(&mut self, group: Group, outcome: SubjectOutcome, now: Timestamp, ledger: &mut Ledger) {
        let SubjectOutcome::Decided { before: mut state, verdicts } = outcome else {
            group.checks.into_iter().for_each(|planned| ledger.refuse(planned, LimiterError::CountersUnreadable));
            return;
        };
        for (planned, verdict) in group.checks.into_iter().zip(verdicts) {
            let check = &planned.job.check;
            let violations = match verdict {
                Verdict::Denied => decide::violations(&state, &planned.plan, check.cost, now),
                Verdict::Allowed | Verdict::Charged => Vec::new(),
            };
            let limits = if verdict == Verdict::Allowed && check.dry_run {
                decide::statuses_as_if(&state, &planned.plan, check.cost, now)
            } else {
                if verdict == Verdict::Charged {
                    decide::charge(&mut state, &planned.plan, check.cost, now);
                }
                decide::statuses(&state, &planned.plan, now)
            };
            let decision = planned.decision(limits, violations, Source::Redis, now);
            if !decision.is_allowed() {
                self.denials.prove(&decision, &planned.plan);
            }
            ledger.answer(planned, decision);
        }
        // What another round that was lost has left owing is not in Redis' state.
        self.debts.add_to(&mut state, &group.subject, now);
        self.warm.put(&group.subject, state, now);
    }

    /// The fallback: by the last state seen, within this instance's share, remembered as owed.
    fn decide_alone(&mut self, planned: Planned, ledger: &mut Ledger, local_now: Timestamp) {
        let now = self.redis_time(local_now);
        let Planned { job, plan, .. } = &planned;
        let (subject, cost) = (&job.check.subject, job.check.cost);
        let nothing = SubjectState::default();
        let known = self.warm.get(subject, &plan.tier).unwrap_or(&nothing);
        let violations = match self.fallback {
            FallbackMode::Deny if self.enforcing => {
                return ledger.refuse(planned, LimiterError::CountersUnavailable);
            }
            FallbackMode::Memory if self.enforcing => {
                let mut violations = decide::violations(known, plan, cost, now);
                if violations.is_empty() {
                    violations = self.debts.share_violations(subject, plan, cost, self.share, now);
                }
                violations
            }
            _ => Vec::new(),
        };
        let limits = if !violations.is_empty() {
            decide::statuses(known, plan, now)
        } else if job.check.dry_run {
            decide::statuses_as_if(known, plan, cost, now)
        } else if cost == Cost::ZERO {
            decide::statuses(known, plan, now)
        } else {
            let state = self.warm.charge_to(subject, &plan.tier, now);
            decide::charge(state, plan, cost, now);
            self.debts.record(subject, plan, state, cost, now);
            decide::statuses(state, plan, now)
        };
        let decision = planned.decision(limits, violations, Source::Fallback, now);
        ledger.answer(planned, decision);
    }
}

impl Drop for Remote {
    /// A shard that falls while it decides alone is started again with Redis.
    fn drop(&mut self) {
        if self.phase != Phase::Normal {
            self.state.shard_recovered();
        }
    }
}
