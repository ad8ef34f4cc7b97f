//! The usage that a shard gathers between two hand-overs to the books.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::check::Check;
use crate::domain::decision::Decision;
use crate::domain::subject::Subject;
use crate::domain::usage::{Usage, UsageKey};

/// A hand-over is due when so many rows are gathered, whatever the time.
const ROWS_BOUND: usize = 4096;

#[derive(Debug, Default)]
pub struct UsageBuffer {
    rows: HashMap<UsageKey, Usage, RandomState>,
    /// Subjects whose state changed without usage: those that were reset, or whose leases changed.
    touched: Vec<Subject>,
}

impl UsageBuffer {
    /// Counts a decision in the hour in which it was taken. A check that was allowed and cost nothing counts its items; one
    /// that is no request is no usage.
    pub fn record(&mut self, check: &Check, decision: &Decision) {
        if decision.slots.as_ref().is_some_and(|slots| slots.taken.is_some()) {
            self.touch(check.subject.clone());
        }
        let Some(items) = check.items else { return };
        let usage = if decision.is_allowed() {
            Usage { requests: items.count(), cost: check.cost.units(), denied: 0 }
        } else {
            Usage { requests: 0, cost: 0, denied: 1 }
        };
        let key = UsageKey {
            subject: check.subject.clone(),
            hour: decision.decided_at.start_of_hour(),
            tier: decision.tier.clone(),
        };
        self.rows.entry(key).or_default().add(usage);
    }

    pub fn touch(&mut self, subject: Subject) {
        self.touched.push(subject);
    }

    pub fn is_due(&self) -> bool {
        self.rows.len().saturating_add(self.touched.len()) >= ROWS_BOUND
    }

    /// Everything gathered, and the subjects whose counters it changed, each once.
    pub fn take(&mut self) -> (Vec<(UsageKey, Usage)>, Vec<Subject>) {
        let rows: Vec<_> = self.rows.drain().collect();
        let mut subjects = std::mem::take(&mut self.touched);
        subjects.extend(rows.iter().filter(|(_, usage)| usage.cost > 0).map(|(key, _)| key.subject.clone()));
        subjects.sort_unstable();
        subjects.dedup();
        (rows, subjects)
    }
}
