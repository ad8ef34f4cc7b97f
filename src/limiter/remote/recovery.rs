//! What Redis has to be told when it is back, step by step, before it decides again.

use std::sync::Arc;

use super::{Missed, Phase, Remote, holds};
use crate::counters::redis::{BatchId, Granted, LeaseAnswer, LeaseChange, Verdict};
use crate::domain::block;
use crate::domain::decide;
use crate::domain::lease::{ChangeLease, LeaseId};
use crate::domain::time::Timestamp;
use crate::limiter::debts::Owed;
use crate::limiter::ledger::Ledger;
use crate::limiter::redis_state::{Failure, RedisState};

/// Subjects, or leases, that Redis is told of in one call: the script blocks it while it runs.
const DEBTS_A_CALL: usize = 256;

impl Remote {
    /// Whether Redis should be asked if it is back: every round that was under way has landed, one way or the other.
    pub fn wants_probe(&self) -> bool {
        self.phase == Phase::Away && self.in_flight == 0
    }

    /// Whether it is not known yet which counters Redis has.
    pub fn is_attaching(&self) -> bool {
        self.phase == Phase::Attaching
    }

    /// How Redis is, as all lanes see it.
    pub fn redis_state(&self) -> RedisState {
        self.state.clone()
    }

    /// Redis is asked: the rounds to look up before it is told what is owed.
    pub fn begin_recovery(&mut self) -> Vec<Missed> {
        if self.phase != Phase::Attaching {
            self.phase = Phase::Recovering;
        }
        self.missed.clone()
    }

    /// Checks have waited long enough to learn which counters Redis has: they are decided here until it is known.
    pub fn stop_waiting(&mut self, node: String, ledger: &mut Ledger, now: Timestamp) {
        if self.phase == Phase::Attaching {
            self.leave(&Failure::at(node, "it is not known yet which counters it has"));
            self.phase = Phase::Recovering;
            self.decide_waiting(Vec::new(), ledger, now);
        }
    }

    /// What came of the lost rounds, in the order of [`Remote::begin_recovery`]: what they charged is not owed, and a slot
    /// that they took for a check that was then denied here is given back.
    pub fn found_missed(&mut self, found: &[Option<Vec<Verdict>>], now: Timestamp) {
        let now = self.redis_time(now);
        for ((_, subjects), verdicts) in std::mem::take(&mut self.missed).iter().zip(found) {
            let asks = subjects.iter().flat_map(|batch| batch.asks.iter().map(|ask| (&batch.subject, ask)));
            for ((subject, ask), verdict) in asks.zip(verdicts.iter().flatten()) {
                if *verdict != Verdict::Charged {
                    continue;
                }
                if block::is_reserving(&ask.plan) {
                    self.blocks.give_back_unseen(subject, &ask.plan, ask.cost, now);
                    continue;
                }
                self.debts.forgive(subject, &ask.plan, ask.cost, now);
                if let Some((kind, (secret, _))) = ask.lease.and_then(|ask| Some((ask.kind, ask.taken()?))) {
                    let held = self.warm.own(subject).is_some_and(|state| holds(state, secret));
                    if !held {
                        let id = LeaseId { kind, secret, subject: subject.clone() };
                        self.lease_debts.record(id, ChangeLease::Release);
                    }
                }
            }
        }
    }

    /// What Redis has to be told next, where anything is owed. With the last of it, checks begin to wait for it.
    pub fn take_debts(&mut self, now: Timestamp) -> Option<(BatchId, Arc<Owed>, Timestamp)> {
        let around = self.redis_time(now);
        if !matches!(self.phase, Phase::Attaching | Phase::Recovering | Phase::Settling) {
            return None;
        }
        if self.telling.is_none() {
            let owed = self.debts.take(DEBTS_A_CALL, around);
            if !owed.is_empty() {
                let id = self.next_id;
                self.next_id = id.next();
                self.telling = Some((id, Arc::new(owed)));
            }
        }
        if self.debts.is_empty() && self.phase == Phase::Recovering {
            self.phase = Phase::Settling;
        }
        self.telling.clone().map(|(id, owed)| (id, owed, around))
    }

    /// Which leases Redis has to be told of next, when it has been told of all else.
    pub fn lease_debts(&mut self, now: Timestamp) -> Vec<LeaseChange> {
        let now = self.redis_time(now);
        self.lease_debts.forget_expired(now);
        self.lease_debts.some(DEBTS_A_CALL)
    }

    /// Redis was told of these leases.
    pub fn leases_told(&mut self, changes: &[LeaseChange]) {
        self.lease_debts.told(changes);
    }

    /// Whether Redis is asked to change a lease; else it is changed here, by [`Remote::change_lease`].
    pub fn keeps_leases(&self) -> bool {
        matches!(self.phase, Phase::Attaching | Phase::Normal | Phase::Settling)
    }

    /// Redis has changed a lease: when it ends now, `None` where it is not held.
    pub fn lease_changed(&mut self, id: &LeaseId, change: ChangeLease, answer: &LeaseAnswer) -> Option<Timestamp> {
        let made = answer.made.first().is_some_and(|made| *made);
        let change = if made { change } else { ChangeLease::Release };
        let known = self.warm.change_lease(id, change, answer.now);
        let ends = match change {
            ChangeLease::Hold(until) => until,
            ChangeLease::Renew(lasts) => answer.now.saturating_add(lasts),
            ChangeLease::Release => known.unwrap_or(answer.now),
        };
        made.then_some(ends)
    }

    /// Changes a lease without Redis; `None` where this instance did not grant it. Redis is told when it is back.
    pub fn change_lease(&mut self, id: &LeaseId, change: ChangeLease, now: Timestamp) -> Option<Timestamp> {
        let ends = self.warm.change_lease(id, change, self.redis_time(now))?;
        let change = if change == ChangeLease::Release { change } else { ChangeLease::Hold(ends) };
        self.lease_debts.record(id.clone(), change);
        Some(ends)
    }

    /// Redis was told.
    pub fn paid(&mut self, ledger: &Ledger, now: Timestamp) {
        let Some((_, owed)) = self.telling.take() else { return };
        let now = self.redis_time(now);
        let units = |granted: &Granted| {
            granted.limits.iter().map(|limit| decide::used(&granted.state, limit, now)).max().unwrap_or(0)
        };
        ledger.metrics.reconciled_units.inc_by(owed.iter().map(units).fold(0, u64::saturating_add));
    }

    /// Redis could not be told, or did not say that it was.
    pub fn unpaid(&mut self, failure: &Failure, ledger: &mut Ledger, now: Timestamp) {
        if !failure.may_have_been_applied
            && let Some((_, owed)) = self.telling.take()
        {
            self.debts.restore(&owed, self.redis_time(now));
        }
        self.lose(failure, Vec::new(), ledger, now);
    }

    /// Everything is told: Redis decides again, first the checks that waited.
    pub fn recovered(&mut self) {
        match self.phase {
            Phase::Attaching => self.phase = Phase::Normal,
            Phase::Settling => {
                self.phase = Phase::Normal;
                if let Some(node) = self.lost_at.take() {
                    self.state.lane_recovered(&node);
                }
            }
            Phase::Normal | Phase::Away | Phase::Recovering => {}
        }
    }
}
