//! All tiers and endpoint costs in force: what the operator decides, as against what a user did.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::endpoint::{EndpointCost, EndpointCosts, InvalidEndpointCost};
use super::limit::{Limit, LimitName, Window};
use super::plan::{Plan, PlannedLimit};
use super::subject::Subject;
use super::tier::{Tier, TierName};
use super::time::Timestamp;

/// The tiers, each with its plan made ready, and the endpoint costs.
#[derive(Debug, Clone)]
pub struct Policy {
    tiers: BTreeMap<TierName, (Tier, Arc<Plan>)>,
    free: (Tier, Arc<Plan>),
    anonymous: (Tier, Arc<Plan>),
    pub endpoint_costs: EndpointCosts,
}

/// What one source says: the settings, the policy file, or the API. A tier stands in the place of one of its name in a source
/// below; costs, where there are any, in the place of all costs below.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    #[serde(default)]
    pub tiers: Vec<Tier>,
    #[serde(default)]
    pub costs: Option<Vec<EndpointCost>>,
}

/// Why there is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    #[error("there must be a tier `free` and a tier `anonymous`")]
    MissingTier,
    #[error(transparent)]
    Costs(#[from] InvalidEndpointCost),
}

/// What became of a tier that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierRemoval {
    Removed,
    /// It was never set there.
    Absent,
    /// So many users are placed in it.
    InUse {
        users: u64,
    },
}

impl Layer {
    pub fn has_tier(&self, name: &TierName) -> bool {
        self.tiers.iter().any(|tier| tier.name == *name)
    }
}

impl Policy {
    /// What the layers say together, the lowest first.
    pub fn of_layers(layers: &[&Layer]) -> Result<Self, InvalidPolicy> {
        let tiers: BTreeMap<_, _> = layers
            .iter()
            .flat_map(|layer| &layer.tiers)
            .map(|tier| (tier.name.clone(), (tier.clone(), Arc::new(Plan::of_tier(tier)))))
            .collect();
        let costs = layers.iter().rev().find_map(|layer| layer.costs.clone()).unwrap_or_default();
        let endpoint_costs = EndpointCosts::new(costs)?;
        let known = |name: TierName| tiers.get(&name).cloned().ok_or(InvalidPolicy::MissingTier);
        Ok(Self { free: known(TierName::free())?, anonymous: known(TierName::anonymous())?, endpoint_costs, tiers })
    }

    pub fn tiers(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.values().map(|(tier, _)| tier)
    }

    pub fn has_tier(&self, name: &TierName) -> bool {
        self.tiers.contains_key(name)
    }

    /// The limits of all tiers, each that counts by itself once, with those that an override may add to any tier.
    pub fn limits(&self) -> Vec<PlannedLimit> {
        let added = [(LimitName::hour(), Window::Hour), (LimitName::day(), Window::Day)];
        let added = added.map(|(name, window)| PlannedLimit::new(&Limit::fixed(name, window, 0), &Default::default()));
        let mut limits: Vec<PlannedLimit> = Vec::new();
        for limit in self.tiers.values().flat_map(|(_, plan)| &plan.limits).chain(&added) {
            if !limits.iter().any(|known| known.slot == limit.slot) {
                limits.push(limit.clone());
            }
        }
        limits
    }

    /// The limits that hold for a subject: the check's own tier, else the account's, else the token's claim, else `free`
    /// (`anonymous` for an address). A name that no tier bears is passed over. An active override then replaces what it names.
    pub fn plan_for(
        &self,
        subject: &Subject,
        asked: Option<&TierName>,
        account: Option<&Account>,
        claimed: Option<&TierName>,
        now: Timestamp,
    ) -> Arc<Plan> {
        let default = match subject {
            Subject::User(_) => &self.free,
            Subject::Ip(_) => &self.anonymous,
        };
        let entry = account.and_then(|account| account.tier.as_ref());
        let (tier, plan) =
            [asked, entry, claimed].into_iter().flatten().find_map(|name| self.tiers.get(name)).unwrap_or(default);
        let quota_override = account.and_then(|account| account.active_override(now));
        let schedule = account.and_then(|account| account.reset_schedule.as_ref());
        match (schedule, quota_override) {
            (None, None) => Arc::clone(plan),
            _ => Arc::new(Plan::new(tier, schedule, quota_override)),
        }
    }
}
