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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lease::LeaseKind;
    use crate::domain::subject::{Subject, UserId};

    fn lease(secret: u128) -> LeaseId {
        let subject = Subject::User(UserId::parse("u").unwrap());
        LeaseId { kind: LeaseKind::Request, secret, subject }
    }

    fn until(seconds: i64) -> ChangeLease {
        ChangeLease::Hold(Timestamp::from_seconds(seconds))
    }

    #[test]
    fn they_are_bounded_and_the_newest_of_a_lease_is_told() {
        let mut debts = LeaseDebts::new(2);
        debts.record(lease(1), until(10));
        debts.record(lease(2), until(10));
        assert!(!debts.has_room());
        debts.record(lease(3), until(10));
        debts.record(lease(1), ChangeLease::Release);
        let mut told = debts.some(10);
        told.sort_by_key(|(id, _)| id.secret);
        assert_eq!(told, [(lease(1), ChangeLease::Release), (lease(2), until(10))]);
    }

    #[test]
    fn what_became_of_a_lease_while_redis_was_told_is_told_next() {
        let mut debts = LeaseDebts::new(2);
        debts.record(lease(1), until(10));
        let told = debts.some(10);
        debts.record(lease(1), until(20));
        debts.told(&told);
        assert_eq!(debts.some(10), [(lease(1), until(20))]);
        debts.forget_expired(Timestamp::from_seconds(20));
        assert!(debts.some(10).is_empty());
    }
}
