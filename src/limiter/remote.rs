//! A shard's dealings with Redis: what waits for it, what is decided without it, and what it has to be told afterwards.
//!
//! A plain struct, like the shard that owns it: [`super::actor`] carries the round trips.

use std::collections::VecDeque;
use std::sync::Arc;

use super::LimiterError;
use super::batch::{Batch, Group, Planned};
use super::denials::Denials;
use super::fallback::{Debts, Owed};
use super::redis_state::RedisState;
use super::shard::Ledger;
use crate::config::{FallbackMode, LimiterSettings};
use crate::counters::redis::{
    Ask, AskMode, BatchId, BatchOutcome, GrantedSlot, RedisError, SubjectBatch, SubjectOutcome,
};
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

/// Rounds whose answers were lost that are remembered, a shard. Past it the oldest is taken as not applied.
const MISSED_BOUND: usize = 256;

/// A round trip, ready to be sent.
#[derive(Debug)]
pub struct Round {
    pub id: BatchId,
    pub subjects: Vec<SubjectBatch>,
    groups: Vec<Group>,
    sent_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Redis decides.
    Normal,
    /// Redis does not answer: this shard decides alone.
    Away,
    /// Redis answers again and is being told what was granted meanwhile; this shard still decides alone.
    Recovering,
}

#[derive(Debug)]
pub struct Remote {
    /// The last state seen of each subject, and what was granted on top of it since: nobody starts afresh without Redis.
    warm: CounterTable,
    batch: Batch,
    denials: Denials,
    debts: Debts,
    phase: Phase,
    in_flight: usize,
    /// Rounds that may have been applied though their answer never came.
    missed: VecDeque<(BatchId, Vec<SubjectBatch>)>,
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
            phase: Phase::Normal,
            in_flight: 0,
            missed: VecDeque::new(),
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
            (None, Phase::Normal) => self.batch.add(planned),
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
                    self.missed.push_back((round.id, round.subjects));
                    if self.missed.len() > MISSED_BOUND {
                        self.missed.pop_front();
                    }
                }
                self.lose(error.to_string());
                let checks = round.groups.into_iter().flat_map(|group| group.checks);
                let waiting: Vec<Planned> = checks.chain(self.batch.drain()).collect();
                for planned in waiting {
                    self.decide_alone(planned, ledger, now);
                }
            }
        }
    }

    /// Whether Redis should be asked if it is back.
    pub fn wants_probe(&self) -> bool {
        self.phase == Phase::Away
    }

    /// Redis answered a probe: the rounds to look up before it is told what is owed.
    pub fn begin_recovery(&mut self) -> Vec<(BatchId, Vec<SubjectBatch>)> {
        self.phase = Phase::Recovering;
        self.missed.iter().cloned().collect()
    }

    /// The answers of lost rounds, in the order of [`Remote::begin_recovery`]: what they charged is not owed.
    pub fn found_missed(&mut self, outcomes: &[Option<BatchOutcome>]) {
        let missed = std::mem::take(&mut self.missed);
        for ((_, subjects), outcome) in missed.iter().zip(outcomes) {
            for (batch, outcome) in subjects.iter().zip(outcome.iter().flat_map(|outcome| &outcome.subjects)) {
                let SubjectOutcome::Decided { allowed, .. } = outcome else { continue };
                let charged =
                    batch.asks.iter().zip(allowed).filter(|(ask, allowed)| **allowed && ask.mode != AskMode::Peek);
                for (ask, _) in charged {
                    for limit in &ask.plan.limits {
                        self.debts.forgive(&batch.subject, limit.slot, ask.cost.units());
                    }
                }
            }
        }
    }

    /// What Redis has to be told, where anything is owed; while it is away nothing can be.
    pub fn take_debts(&mut self, now: Timestamp) -> Option<(BatchId, Owed)> {
        if self.phase == Phase::Away || self.debts.is_empty() {
            return None;
        }
        let owed = self.debts.take(self.redis_time(now));
        let id = self.next_id;
        self.next_id = id.next();
        (!owed.is_empty()).then_some((id, owed))
    }

    /// Redis was told.
    pub fn paid(&mut self, debts: &[(Subject, Vec<GrantedSlot>)], ledger: &Ledger) {
        let units = debts.iter().flat_map(|(_, slots)| slots.iter().map(|slot| slot.units).max()).sum();
        ledger.metrics.reconciled_units.inc_by(units);
    }

    /// Redis could not be told. Where it may have been, the debt is dropped: a charge is never sent twice.
    pub fn unpaid(&mut self, debts: Owed, error: &RedisError) {
        if !error.may_have_been_applied() {
            self.debts.restore(debts);
        }
        self.lose(error.to_string());
    }

    /// Everything is told: Redis decides again.
    pub fn recovered(&mut self) {
        if self.phase == Phase::Recovering {
            self.phase = Phase::Normal;
            self.state.shard_recovered();
        }
    }

    /// Redis went away again, or never was there.
    pub fn lose(&mut self, error: String) {
        if self.phase == Phase::Normal {
            self.state.shard_lost(error);
        }
        self.phase = Phase::Away;
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
        &mut self.warm
    }

    fn redis_time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros().saturating_add(self.clock_ahead_micros))
    }

    /// Tells each check of a subject what Redis decided. The limits as each check saw them are worked out by the same rule.
    fn hand_out(&mut self, group: Group, outcome: SubjectOutcome, now: Timestamp, ledger: &mut Ledger) {
        let SubjectOutcome::Decided { before: mut state, allowed } = outcome else {
            group.checks.into_iter().for_each(|planned| ledger.refuse(planned, LimiterError::CountersUnreadable));
            return;
        };
        for (planned, allowed) in group.checks.into_iter().zip(allowed) {
            let check = &planned.job.check;
            let violations =
                if allowed { Vec::new() } else { decide::violations(&state, &planned.plan, check.cost, now) };
            let limits = if allowed && check.dry_run {
                decide::statuses_as_if(&state, &planned.plan, check.cost, now)
            } else {
                if allowed {
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
