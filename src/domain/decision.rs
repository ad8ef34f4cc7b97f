//! What a check answers.

use serde::{Deserialize, Serialize};

use super::account::QuotaOverride;
use super::cost::Cost;
use super::endpoint::EndpointCost;
use super::lease::{LeaseId, LeaseKind};
use super::limit::LimitName;
use super::subject::Subject;
use super::tier::TierName;
use super::time::{Period, Timestamp};

/// Where a decision was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Embedded counters.
    Memory,
    Redis,
    /// Locally, from a proven denial.
    Cache,
    /// Redis is away.
    Fallback,
}

impl Source {
    pub const ALL: [Source; 4] = [Source::Memory, Source::Redis, Source::Cache, Source::Fallback];

    pub const fn as_str(self) -> &'static str {
        match self {
            Source::Memory => "memory",
            Source::Redis => "redis",
            Source::Cache => "cache",
            Source::Fallback => "fallback",
        }
    }
}

/// One limit as it stands after the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStatus {
    pub name: LimitName,
    pub limit: u64,
    pub used: u64,
    /// When, with nothing more charged, the limit is whole again.
    pub reset_at: Timestamp,
    /// The length of the window: `w` in `RateLimit-Policy`.
    pub period: Period,
    pub enforce: bool,
}

impl LimitStatus {
    pub const fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Whether a charge, which `used` holds already, took the limit to this part of itself: it had used less before.
    pub const fn reached(&self, percent: u64, charged: Cost) -> bool {
        self.is_at(percent) && self.used.saturating_sub(charged.units()) < self.part(percent)
    }

    /// Whether this part of the limit, or more, is used. A limit of nothing has no parts.
    pub const fn is_at(&self, percent: u64) -> bool {
        self.limit > 0 && self.part(percent) <= self.used
    }

    /// In units, rounded up.
    const fn part(&self, percent: u64) -> u64 {
        self.limit.saturating_mul(percent).div_ceil(100)
    }
}

/// The concurrency slots of one kind as they stand after the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    pub kind: LeaseKind,
    pub limit: u64,
    /// With the one that was taken.
    pub held: u64,
    /// When one will be free by itself; `None` where one is, and where none ever will be.
    pub free_at: Option<Timestamp>,
    /// The lease that was taken, and when it expires.
    pub taken: Option<(LeaseId, Timestamp)>,
}

/// A limit that had no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub limit: LimitName,
    /// When there will be room for the same cost; `None` where waiting can't help.
    pub room_at: Option<Timestamp>,
}

/// Where the tier of a decision came from, first to last in the order in which they go before each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TierOrigin {
    /// The check named it.
    Check,
    /// The database's entry of the user.
    Database,
    /// The claim of the user's token.
    Token,
    /// `free`, or `anonymous` for an address.
    Default,
}

impl TierOrigin {
    pub const fn as_str(self) -> &'static str {
        match self {
            TierOrigin::Check => "check",
            TierOrigin::Database => "database",
            TierOrigin::Token => "token",
            TierOrigin::Default => "default",
        }
    }
}

/// Why a subject's limits and the cost are what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub tier_from: TierOrigin,
    /// The rule that the cost comes from; `None` where none covers the endpoint, which then costs 1.
    pub endpoint_rule: Option<EndpointCost>,
    /// The override that was in force.
    pub quota_override: Option<QuotaOverride>,
}

/// The answer to one check. It is allowed where nothing is violated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub subject: Subject,
    pub tier: TierName,
    pub cost: Cost,
    pub limits: Vec<LimitStatus>,
    /// The limits without room, in the plan's order. Empty in a check that was allowed.
    pub violations: Vec<Violation>,
    pub source: Source,
    /// By the clock that decided: Redis' own while it is in use.
    pub decided_at: Timestamp,
    /// The slots that the check asked about.
    pub slots: Option<Box<SlotStatus>>,
    /// Where the check asked for it.
    pub explanation: Option<Box<Explanation>>,
    /// It was taken before, for an earlier check with the same `request_id`: nothing was charged for this one.
    pub repeated: bool,
}

impl Decision {
    pub const fn is_allowed(&self) -> bool {
        self.violations.is_empty()
    }

    /// The violated limit that must be waited for longest; one that can't be waited out is the longest.
    pub fn denied_by(&self) -> Option<&Violation> {
        self.violations.iter().reduce(|longest, next| {
            let later = match (longest.room_at, next.room_at) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(a), Some(b)) => b > a,
            };
            if later { next } else { longest }
        })
    }

    /// Whole seconds to wait, rounded up, at least 1; `None` where allowed, and where waiting can't help.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let room_at = self.denied_by()?.room_at?;
        Some(self.decided_at.until(room_at).ceil_seconds().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cost::LIMIT_MAX;

    fn reached(limit: u64, used: u64, percent: u64, charged: u64) -> bool {
        let (name, reset_at, period) = (LimitName::hour(), Timestamp::from_micros(0), Period::from_seconds(1));
        let status = LimitStatus { name, limit, used, reset_at, period, enforce: true };
        status.reached(percent, Cost::of_units(charged))
    }

    #[test]
    fn a_part_is_reached_by_the_charge_that_comes_to_it() {
        assert!(!reached(100, 79, 80, 1) && reached(100, 80, 80, 1) && !reached(100, 81, 80, 1));
        assert!(reached(100, 100, 80, 100) && reached(100, 100, 100, 100) && !reached(100, 100, 100, 0));
        // The part of a limit of 3 is rounded up; one of 0 has none.
        assert!(!reached(3, 2, 80, 1) && reached(3, 3, 80, 1) && !reached(0, 0, 80, 0) && !reached(0, 5, 100, 5));
        assert!(reached(LIMIT_MAX, LIMIT_MAX, 80, LIMIT_MAX));
    }

    #[test]
    fn a_limit_is_at_a_part_from_it_on() {
        let at = |used, limit| {
            let (name, reset_at, period) = (LimitName::hour(), Timestamp::from_micros(0), Period::from_seconds(1));
            let status = LimitStatus { name, limit, used, reset_at, period, enforce: true };
            [80, 100].map(|percent| status.is_at(percent))
        };
        for (used, limit, expected) in [
            (79, 100, [false, false]),
            (80, 100, [true, false]),
            (100, 100, [true, true]),
            (7, 5, [true, true]),
            (2, 3, [false, false]),
            (1, 1, [true, true]),
            (0, 1, [false, false]),
            (5, 0, [false, false]),
            (LIMIT_MAX - 1, LIMIT_MAX, [true, false]),
            (u64::MAX, LIMIT_MAX, [true, true]),
        ] {
            assert_eq!(at(used, limit), expected, "{used} of {limit}");
        }
    }
}
