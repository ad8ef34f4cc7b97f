//! A lane's dealings with Redis: what waits for it, what is decided without it, and what it has to be told afterwards.
//!
//! A plain struct, like the shard that owns it: [`super::actor`] carries the round trips.

mod alone;
mod recovery;
mod reserving;
mod restoring;

use std::sync::Arc;
use std::time::Duration;

use super::LimiterError;
use super::batch::{Batch, Group, Planned};
use super::blocks::Blocks;
use super::debts::{Debts, Owed, forget_owed};
use super::denials::Denials;
use super::handing_out;
use super::lease_debts::LeaseDebts;
use super::ledger::Ledger;
use super::memos::Memo;
use super::messages::Job;
use super::redis_state::{Failure, RedisState};
use crate::config::{FallbackMode, LimiterSettings};
use crate::counters::redis::{
    Ask, AskIdentity, AskMode, BatchId, BatchOutcome, Generation, SubjectBatch, SubjectOutcome, Verdict,
};
use crate::counters::table::CounterTable;
use crate::domain::cost::Cost;
use crate::domain::decide;
use crate::domain::decision::{Source, Violation};
use crate::domain::limit::SlotId;
use crate::domain::state::SubjectState;
use crate::domain::subject::{Subject, UserId};
use crate::domain::time::Timestamp;
use restoring::Restoring;
pub use restoring::Server;
use smallvec::SmallVec;

/// Rounds under way at once: one that Redis works on, and one on the wire.
const ROUNDS_IN_FLIGHT: usize = 1;

/// A round trip, ready to be sent.
#[derive(Debug)]
pub struct Round {
    pub id: BatchId,
    pub generation: Option<Generation>,
    pub subjects: Vec<SubjectBatch>,
    /// About Redis' time when it was sent.
    pub around: Timestamp,
    groups: Vec<Group>,
    sent_at: Timestamp,
}

impl Round {
    /// The checks in it.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.groups.iter().flat_map(|group| &group.checks).map(|planned| &planned.job)
    }
}

/// A round whose answer was lost: it may have been applied.
pub type Missed = (BatchId, Vec<SubjectBatch>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is not known yet which counters Redis has: checks wait.
    Attaching,
    /// Redis decides.
    Normal,
    /// Redis does not answer: this lane decides alone.
    Away,
    /// Redis answers again and is being told what was granted meanwhile; this lane still decides alone.
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
    blocks: Blocks,
    /// Checks that wait for blocks of other instances to come back, and whose.
    kept_waiting: Vec<Planned>,
    wanted: Vec<Subject>,
    debts: Debts,
    lease_debts: LeaseDebts,
    /// What Redis may or may not have been told. It is told again under the same id, which adds nothing twice.
    telling: Option<(BatchId, Arc<Owed>)>,
    phase: Phase,
    /// The node that this lane goes on without.
    lost_at: Option<String>,
    /// Which counters the rounds are meant for; `None` until that is known.
    generation: Option<Generation>,
    /// Which server knows what is known here.
    server: Server,
    /// Redis has lost its counters, and is told these.
    restoring: Option<Restoring>,
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
    /// `capacity` is in subjects; `first_id` must be of this lane and this process alone.
    pub fn new(
        settings: &LimiterSettings,
        capacity: usize,
        first_id: BatchId,
        denials: Denials,
        state: RedisState,
    ) -> Self {
        Self {
            warm: CounterTable::new(capacity),
            batch: Batch::default(),
            denials,
            blocks: Blocks::new(settings.reserved_blocks),
            kept_waiting: Vec::new(),
            wanted: Vec::new(),
            debts: Debts::new(capacity),
            lease_debts: LeaseDebts::new(capacity),
            telling: None,
            phase: Phase::Attaching,
            lost_at: None,
            generation: None,
            server: Server::default(),
            restoring: None,
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
        // A slot may be given back at any time, and an earlier check with the same id may have been allowed.
        let provable = check.cost != Cost::ZERO && check.lease.is_none() && check.request_id.is_none();
        let denial = (self.enforcing && provable)
            .then(|| self.denials.find(&check.subject, &planned.plan, check.cost, redis_now))
            .flatten();
        if let Some(denial) = denial {
            return ledger.answer(planned, denial);
        }
        if !check.is_plain() {
            // Redis is asked about what nobody holds back.
            self.blocks.give_back(&check.subject);
        } else if self.enforcing && self.blocks.ask_for(&check.subject, &planned.plan, check.cost, redis_now) {
            return self.give_out(planned, redis_now, ledger);
        }
        match self.phase {
            Phase::Attaching | Phase::Normal | Phase::Settling => self.batch.add(planned),
            Phase::Away | Phase::Recovering => self.decide_alone(planned, ledger, now),
        }
    }

    /// The next round to send, where one may be sent and something waits.
    pub fn next_round(&mut self, now: Timestamp) -> Option<Round> {
        if self.phase != Phase::Normal || self.in_flight >= ROUNDS_IN_FLIGHT {
            return None;
        }
        let mut groups = self.batch.next_round()?;
        let id = self.next_id;
        self.next_id = id.next();
        let around = self.redis_time(now);
        let enforcing = self.enforcing;
        let ask = |planned: &Planned| Ask {
            plan: Arc::clone(&planned.plan),
            cost: planned.job.check.cost,
            lease: planned.job.check.lease_ask(),
            identity: planned
                .job
                .check
                .request_id
                .as_ref()
                .map(|id| AskIdentity { request_id: id.as_str().to_owned(), memo: Memo::of(planned, around) }),
            mode: match (planned.job.check.dry_run, enforcing) {
                (true, _) => AskMode::Peek,
                (false, true) => AskMode::Charge,
                (false, false) => AskMode::Force,
            },
        };
        let mut subjects = Vec::with_capacity(groups.len());
        for group in &mut groups {
            let mut asks: SmallVec<[Ask; 1]> = group.checks.iter().map(ask).collect();
            if let Some((plan, cost)) = self.block_for(group, around) {
                group.block = Some((Arc::clone(&plan), cost));
                asks.push(Ask { plan, cost, mode: AskMode::Charge, lease: None, identity: None });
            }
            subjects.push(SubjectBatch { subject: group.subject.clone(), asks });
        }
        self.in_flight = self.in_flight.saturating_add(1);
        Some(Round { id, generation: self.generation, subjects, around, groups, sent_at: now })
    }

    /// Takes in what came of a round. Without an answer its checks, and all that wait, are decided here.
    pub fn landed(
        &mut self,
        round: Round,
        outcome: Result<BatchOutcome, Failure>,
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
            Err(failure) => {
                if failure.may_have_been_applied {
                    self.missed.push((round.id, round.subjects));
                }
                round.groups.iter().for_each(|group| self.blocks.got_none(&group.subject));
                let checks = round.groups.into_iter().flat_map(|group| group.checks).collect();
                self.lose(&failure, checks, ledger, now);
            }
        }
    }

    /// Redis does not answer: these checks, and all that wait, are decided here.
    pub fn lose(&mut self, failure: &Failure, checks: Vec<Planned>, ledger: &mut Ledger, now: Timestamp) {
        self.leave(failure);
        self.phase = Phase::Away;
        self.decide_waiting(checks, ledger, now);
    }

    /// Tells that this lane goes on without Redis.
    fn leave(&mut self, failure: &Failure) {
        match &self.lost_at {
            Some(node) => self.state.still_lost(node, failure),
            None => {
                self.state.lane_lost(failure);
                self.lost_at = Some(failure.node.clone());
            }
        }
    }

    /// Decides these, and all that wait, here.
    fn decide_waiting(&mut self, checks: Vec<Planned>, ledger: &mut Ledger, now: Timestamp) {
        let kept_waiting = std::mem::take(&mut self.kept_waiting);
        let waiting: Vec<Planned> = kept_waiting.into_iter().chain(checks).chain(self.batch.drain()).collect();
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

    pub fn forget_denials(&self, users: Option<&[UserId]>) {
        match users {
            Some(users) => users.iter().for_each(|user| self.denials.forget(&Subject::User(user.clone()))),
            None => self.denials.forget_all(),
        }
    }

    /// Forgets what was granted and denied of the slots; gives the warm table, which holds their last state.
    pub fn reset(&mut self, subject: &Subject, slots: Option<&[SlotId]>) -> &mut CounterTable {
        self.denials.forget(subject);
        self.blocks.forget(subject);
        self.debts.forget(subject, slots);
        if let Some((_, owed)) = &mut self.telling {
            forget_owed(Arc::make_mut(owed), subject, slots);
        }
        &mut self.warm
    }

    fn redis_time(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_micros(now.as_micros().saturating_add(self.clock_ahead_micros))
    }

    /// Tells each check of a subject what Redis decided.
    fn hand_out(&mut self, group: Group, outcome: SubjectOutcome, now: Timestamp, ledger: &mut Ledger) {
        let Group { subject, checks, block } = group;
        let SubjectOutcome::Decided { before: mut state, told } = outcome else {
            self.blocks.got_none(&subject);
            checks.into_iter().for_each(|planned| ledger.refuse(planned, LimiterError::CountersUnreadable));
            return;
        };
        let held_elsewhere = self.blocks.held_elsewhere(&subject, &state, now);
        // What this instance holds is charged, but not used.
        if let Some(block) = self.blocks.of(&subject) {
            block.take_from(&mut state, now);
        }
        if let Some(known) = self.warm.own(&subject) {
            handing_out::keep_leases(&mut state, known, now);
        }
        let (mut told, mut plan) = (told.into_iter(), None);
        for (planned, told) in checks.into_iter().zip(told.by_ref()) {
            plan = Some(Arc::clone(&planned.plan));
            let is_denied = told.verdict == Verdict::Denied;
            let check = &planned.job.check;
            if is_denied && check.is_plain() && self.blocks.give_out(&subject, &planned.plan, check.cost, now) {
                decide::charge(&mut state, &planned.plan, check.cost, now);
                let limits = decide::statuses(&state, &planned.plan, now);
                let decision = planned.decision(limits, Vec::new(), None, Source::Cache, now);
                ledger.answer(planned, decision);
                continue;
            }
            let goes_back = is_denied && self.blocks.give_back_from(&subject, &mut state, now);
            let is_certain = !goes_back && (held_elsewhere == 0 || !(is_denied || planned.job.check.dry_run));
            let Some(planned) = (if is_certain { Some(planned) } else { self.keep_waiting(planned, now) }) else {
                continue;
            };
            let decision = handing_out::decision(&planned, told, &mut state, now);
            let Some(decision) = decision else {
                ledger.refuse(planned, LimiterError::CountersUnreadable);
                continue;
            };
            let by_slots = |violation: &Violation| planned.plan.limit(&violation.limit).is_none();
            if !decision.is_allowed() && is_certain && !decision.violations.iter().any(by_slots) {
                self.denials.prove(&decision, &planned.plan);
            }
            ledger.answer(planned, decision);
        }
        if let Some((reserving, cost)) = block {
            match (told.next(), plan) {
                (Some(told), Some(plan)) if told.verdict == Verdict::Charged => {
                    self.blocks.took(&subject, &plan, (&reserving, cost), &state, now);
                    ledger.metrics.reserved_units.inc_by(cost.units());
                }
                _ => self.blocks.got_none(&subject),
            }
        }
        // What another round that was lost has left owing is not in Redis' state.
        self.debts.add_to(&mut state, &subject, now);
        self.warm.put(&subject, state, now);
    }
}

/// Whether a lease of this secret is held.
fn holds(state: &SubjectState, secret: u128) -> bool {
    state.leases().iter().any(|lease| lease.secret == secret)
}

impl Drop for Remote {
    /// A lane that falls while it decides alone is started again with Redis.
    fn drop(&mut self) {
        if let Some(node) = self.lost_at.take() {
            self.state.lane_recovered(&node);
        }
    }
}
