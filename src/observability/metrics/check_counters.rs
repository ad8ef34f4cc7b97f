//! A shard's counts of what it decided, through handles that are kept: finding one by its labels costs five times as much.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use prometheus::IntCounter;

use super::Metrics;
use crate::domain::decision::{Decision, Source};
use crate::domain::tier::TierName;

/// Parts of a limit, in percent, whose reaching is counted.
const PARTS: [(u64, &str); 2] = [(80, "80"), (100, "100")];

/// Counts decisions through handles that are found once for each tier and source.
#[derive(Debug, Default)]
pub struct CheckCounters(HashMap<(TierName, Source), [IntCounter; 2], RandomState>);

impl CheckCounters {
    pub fn count(&mut self, metrics: &Metrics, decision: &Decision) {
        let key = (decision.tier.clone(), decision.source);
        let [allowed, denied] = self.0.entry(key).or_insert_with(|| {
            ["allowed", "denied"].map(|outcome| {
                metrics.checks.with_label_values(&[outcome, decision.source.as_str(), decision.tier.as_str()])
            })
        });
        if decision.is_allowed() {
            allowed.inc();
            count_reached(metrics, decision);
        } else {
            denied.inc();
        }
        count_lease(metrics, decision);
    }
}

/// A subject comes to a part of a limit about once a window: rarely enough to find the counter by its labels.
fn count_reached(metrics: &Metrics, decision: &Decision) {
    for limit in decision.limits.iter().filter(|limit| limit.enforce) {
        for (percent, label) in PARTS {
            if limit.reached(percent, decision.cost) {
                let labels = [decision.tier.as_str(), limit.name.as_str(), label];
                metrics.limits_reached.with_label_values(&labels).inc();
            }
        }
    }
}

/// A wish for a slot that was granted, or denied for want of one.
fn count_lease(metrics: &Metrics, decision: &Decision) {
    let Some(slots) = &decision.slots else { return };
    let denied_by = slots.kind.denied_by();
    let outcome = if slots.taken.is_some() {
        "taken"
    } else if decision.violations.iter().any(|violation| violation.limit == denied_by) {
        "denied"
    } else {
        return;
    };
    metrics.leases.with_label_values(&[slots.kind.as_str(), outcome]).inc();
}
