//! What a Redis that has lost its counters is told of them: what this instance last saw, and never less than it holds already.

use super::{Phase, Remote};
use crate::counters::redis::{Generation, Granted};
use crate::domain::decide;
use crate::domain::lease::{ChangeLease, LeaseId};
use crate::domain::plan::PlannedLimit;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;

/// Subjects that Redis is told of in one call: the script blocks it while it runs.
const SUBJECTS_A_CALL: usize = 256;

/// What is still to tell.
#[derive(Debug)]
pub struct Restoring {
    subjects: Vec<Subject>,
    /// How the slots count that subjects have.
    limits: Vec<PlannedLimit>,
}

impl Remote {
    /// Redis has these counters, `None` being none. Where they are not those that were known, what was seen of the others is
    /// told, and then [`Remote::adopt`] follows; else nothing has to be done.
    pub fn must_restore(&mut self, found: Option<Generation>, limits: Vec<PlannedLimit>) -> bool {
        if found.is_some() && found == self.generation {
            return false;
        }
        let subjects: Vec<Subject> = self.warm.subjects().cloned().collect();
        for subject in &subjects {
            for lease in self.warm.own(subject).into_iter().flat_map(|state| state.leases()) {
                let id = LeaseId { kind: lease.kind, secret: lease.secret, subject: subject.clone() };
                self.lease_debts.record(id, ChangeLease::Hold(lease.expires_at));
            }
        }
        // What was seen holds what was granted on top of it, and the books of all instances do: nothing is owed any more.
        self.debts.clear();
        self.telling = None;
        self.restoring = Some(Restoring { subjects, limits });
        true
    }

    /// The next subjects to tell of; `None` where there is none left. What is granted to them meanwhile is added afterwards.
    pub fn next_to_restore(&mut self, now: Timestamp) -> Option<(Vec<Granted>, Timestamp)> {
        let now = self.redis_time(now);
        let restoring = self.restoring.as_mut()?;
        let mut told = Vec::new();
        while told.len() < SUBJECTS_A_CALL {
            let Some(subject) = restoring.subjects.pop() else { break };
            let Some(mut state) = self.warm.own(&subject).cloned() else { continue };
            self.debts.take_from(&mut state, &subject, now);
            let counts = |limit: &&PlannedLimit| decide::used(&state, limit, now) > 0;
            let limits: Vec<PlannedLimit> = restoring.limits.iter().filter(counts).cloned().collect();
            if !limits.is_empty() {
                told.push(Granted { subject, limits, state });
            }
        }
        (!told.is_empty()).then_some((told, now))
    }

    /// Redis has these counters, and knows of them what is known here.
    pub fn adopt(&mut self, generation: Generation) {
        self.restoring = None;
        self.generation = Some(generation);
    }

    /// Whether the way to Redis is still looked for, for the first time.
    pub fn is_attaching(&self) -> bool {
        self.phase == Phase::Attaching
    }
}
