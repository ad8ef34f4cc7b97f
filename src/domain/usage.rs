//! Usage as history keeps it: by subject, UTC hour and tier.

use super::subject::Subject;
use super::tier::TierName;
use super::time::Timestamp;

/// What usage is added up under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    pub subject: Subject,
    /// The start of the UTC hour of the decision.
    pub hour: Timestamp,
    /// The tier that decided.
    pub tier: TierName,
}

/// Amounts that add up. Sums saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Allowed items.
    pub requests: u64,
    /// What they were charged.
    pub cost: u64,
    /// Denied checks.
    pub denied: u64,
}

impl Usage {
    pub const fn add(&mut self, other: Usage) {
        self.requests = self.requests.saturating_add(other.requests);
        self.cost = self.cost.saturating_add(other.cost);
        self.denied = self.denied.saturating_add(other.denied);
    }
}
