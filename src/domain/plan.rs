//! The limits that hold for one subject: its tier's, with an override in their place where there is one.

use smallvec::SmallVec;

use super::account::QuotaOverride;
use super::limit::{Algorithm, Limit, LimitName, SlotId, Window};
use super::tier::{Tier, TierName};

/// A limit made ready for deciding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLimit {
    pub name: LimitName,
    pub algorithm: Algorithm,
    pub requests: u64,
    pub enforce: bool,
    pub slot: SlotId,
}

impl From<&Limit> for PlannedLimit {
    fn from(limit: &Limit) -> Self {
        Self {
            name: limit.name.clone(),
            algorithm: limit.algorithm,
            requests: limit.requests,
            enforce: limit.enforce,
            slot: limit.slot(),
        }
    }
}

/// Everything that a decision about one subject needs to know beside its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub tier: TierName,
    pub limits: SmallVec<[PlannedLimit; 2]>,
    pub concurrent_requests: u64,
    pub concurrent_websockets: u64,
}

impl Plan {
    pub fn of_tier(tier: &Tier) -> Self {
        Self {
            tier: tier.name.clone(),
            limits: tier.limits.iter().map(PlannedLimit::from).collect(),
            concurrent_requests: tier.concurrent_requests,
            concurrent_websockets: tier.concurrent_websockets,
        }
    }

    /// The plan with the numbers of an override; a limit that the tier lacks is added.
    pub fn with_override(&self, quota_override: &QuotaOverride) -> Self {
        let mut plan = self.clone();
        plan.replace(LimitName::hour(), Window::Hour, quota_override.requests_per_hour);
        plan.replace(LimitName::day(), Window::Day, quota_override.requests_per_day);
        plan
    }

    pub fn limit(&self, name: &LimitName) -> Option<&PlannedLimit> {
        self.limits.iter().find(|limit| limit.name == *name)
    }

    fn replace(&mut self, name: LimitName, window: Window, requests: Option<u64>) {
        let Some(requests) = requests else { return };
        match self.limits.iter_mut().find(|limit| limit.name == name) {
            Some(limit) => limit.requests = requests,
            None => self.limits.push(PlannedLimit::from(&Limit::fixed(name, window, requests))),
        }
    }
}
