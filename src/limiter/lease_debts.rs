//! What became of leases while Redis was away: it is told of each once it is back. Each may be told twice.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::counters::redis::LeaseChange;
use crate::domain::lease::{ChangeLease, LeaseId};
use crate::domain::time::Timestamp;

/// The newest change of each lease. At most `capacity` of them.
#[derive(Debug)]
pub struct LeaseDebts {
    owed: HashMap<LeaseId, ChangeLease, RandomState>,
    capacity: usize,
}

impl LeaseDebts {
    pub fn new(capacity: usize) -> Self {
        Self { owed: HashMap::default(), capacity }
    }

    /// Whether one more can be remembered. Without room no lease is granted.
    pub fn has_room(&self) -> bool {
        self.owed.len() < self.capacity
    }

    /// Held until then, or given back. A lease that is given back and finds no room here expires by itself.
    pub fn record(&mut self, id: LeaseId, change: ChangeLease) {
        if self.has_room() || self.owed.contains_key(&id) {
            self.owed.insert(id, change);
        }
    }

    /// Up to so many; they stay until [`LeaseDebts::told`].
    pub fn some(&self, leases: usize) -> Vec<LeaseChange> {
        self.owed.iter().take(leases).map(|(id, change)| (id.clone(), *change)).collect()
    }

    /// Redis knows of these. What has become of one meanwhile is still owed.
    pub fn told(&mut self, changes: &[LeaseChange]) {
        for (id, change) in changes {
            if self.owed.get(id) == Some(change) {
                self.owed.remove(id);
            }
        }
    }

    /// Forgets leases that have expired.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.owed.retain(|_, change| !matches!(change, ChangeLease::Hold(until) if *until <= now));
    }
}
