//! What a Redis that has lost its counters, or a replica that has become the master, is told of them: what this instance last
//! saw, and never less than it holds already.

use super::{Phase, Remote};
use crate::counters::redis::{Generation, Granted};
use crate::domain::decide;
use crate::domain::lease::{ChangeLease, LeaseId};
use crate::domain::plan::PlannedLimit;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::limiter::debts::take_owed_from;
use crate::limiter::ledger::Ledger;
use crate::limiter::redis_state::Failure;

/// Subjects that Redis is told of in one call: the script blocks it while it runs.
const SUBJECTS_A_CALL: usize = 256;

/// A server, as a lane tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Which of those that the link has gone to (`Link::server`).
    pub number: u64,
    /// Which run of it.
    pub run_id: String,
}

/// What is still to tell.
#[derive(Debug)]
pub struct Restoring {
    subjects: Vec<Subject>,
    /// How the slots count that subjects have.
    limits: Vec<PlannedLimit>,
    /// Which server is told.
    server: Server,
}

impl Remote {
    /// Redis has these counters, `None` being none, on this server. Where they are not those that were known, or another server
    /// or another run of it has them, what was seen of them is told, and then [`Remote::adopt`] follows; else nothing has to be done.
    pub fn must_restore(&mut self, found: Option<Generation>, server: Server, limits: Vec<PlannedLimit>) -> bool {
        let is_known = found.is_some() && found == self.generation;
        if is_known && server == self.server {
            return false;
        }
        let subjects: Vec<Subject> = self.warm.subjects().cloned().collect();
        for subject in &subjects {
            for lease in self.warm.own(subject).into_iter().flat_map(|state| state.leases()) {
                let id = LeaseId { kind: lease.kind, secret: lease.secret, subject: subject.clone() };
                self.lease_debts.record(id, ChangeLease::Hold(lease.expires_at));
            }
        }
        if !is_known {
            // What was seen holds what was granted on top of it, and the books of all instances do: nothing is owed any more.
            self.debts.clear();
            self.telling = None;
            self.blocks.forget_returns();
        }
        self.restoring = Some(Restoring { subjects, limits, server });
        true
    }

    /// Whether another server answers than the one that knows what is known here. What it has not heard of is told it then, and
    /// checks that wait are decided here.
    pub fn begin_moving(&mut self, node: String, server: u64, ledger: &mut Ledger, now: Timestamp) -> bool {
        let moves = self.phase == Phase::Normal && server != self.server.number;
        if moves {
            self.leave(&Failure::at(node, "another server has taken over"));
            self.phase = Phase::Recovering;
            self.decide_waiting(Vec::new(), ledger, now);
        }
        moves
    }

    /// The next subjects to tell of; `None` where there is none left. What is owed for them is added afterwards.
    pub fn next_to_restore(&mut self, now: Timestamp) -> Option<(Vec<Granted>, Timestamp)> {
        let now = self.redis_time(now);
        let restoring = self.restoring.as_mut()?;
        let mut told = Vec::new();
        while told.len() < SUBJECTS_A_CALL {
            let Some(subject) = restoring.subjects.pop() else { break };
            let Some(mut state) = self.warm.own(&subject).cloned() else { continue };
            self.debts.take_from(&mut state, &subject, now);
            if let Some((_, telling)) = &self.telling {
                take_owed_from(telling, &mut state, &subject, now);
            }
            // What is given out of it is charged already.
            if let Some(block) = self.blocks.of(&subject) {
                block.add_to(&mut state, now);
            }
            let counts = |limit: &&PlannedLimit| decide::used(&state, limit, now) > 0;
            let limits: Vec<PlannedLimit> = restoring.limits.iter().filter(counts).cloned().collect();
            if !limits.is_empty() {
                told.push(Granted { subject, limits, state });
            }
        }
        (!told.is_empty()).then_some((told, now))
    }

    /// The database's counts were told too. They may hold what was granted here meanwhile: so that it is not added on top, those
    /// subjects are told once more as they are seen now.
    pub fn restore_granted(&mut self) {
        if let Some(restoring) = &mut self.restoring {
            restoring.subjects.extend(self.debts.subjects().cloned());
            self.debts.clear();
        }
    }

    /// Redis has these counters, and knows of them what is known here.
    pub fn adopt(&mut self, generation: Generation) {
        self.generation = Some(generation);
        if let Some(Restoring { server, .. }) = self.restoring.take() {
            self.server = server;
        }
    }
}
