//! The limits that hold for one subject: its tier's, in the windows of its schedule, with an override where there is one.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::account::QuotaOverride;
use super::decision::LimitStatus;
use super::lease::LeaseKind;
use super::limit::{Algorithm, LOG_MAX, Limit, LimitName, SlotId, Window};
use super::schedule::{ResetSchedule, Windows};
use super::tier::{Tier, TierName};
use super::time::{Period, Timestamp};
use super::token_bucket::Bucket;

/// How a planned limit counts: its algorithm with everything that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    FixedWindow(Windows),
    SlidingLog(Period),
    SlidingCounter(Period),
    TokenBucket(Bucket),
}

/// A limit made ready for deciding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLimit {
    pub name: LimitName,
    pub rule: Rule,
    /// What may be used at once: of a token bucket, what it holds.
    pub requests: u64,
    pub enforce: bool,
    pub slot: SlotId,
}

/// Everything that a decision about one subject needs to know beside its counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub tier: TierName,
    pub limits: SmallVec<[PlannedLimit; 2]>,
    pub concurrent_requests: u64,
    pub concurrent_websockets: u64,
}

impl Plan {
    pub fn of_tier(tier: &Tier) -> Self {
        Self::new(tier, None, None)
    }

    /// The tier's limits in the windows of `schedule`, and where that says nothing of the tier's own; with the numbers of an
    /// override, which adds a limit that the tier lacks.
    pub fn new(tier: &Tier, schedule: Option<&ResetSchedule>, quota_override: Option<&QuotaOverride>) -> Self {
        let own = tier.reset_schedule.clone().unwrap_or_default();
        let schedule = match schedule {
            Some(schedule) => schedule.or(&own),
            None => own,
        };
        let mut limits: SmallVec<[PlannedLimit; 2]> =
            tier.limits.iter().map(|limit| PlannedLimit::new(limit, &schedule)).collect();
        if let Some(known) = quota_override {
            replace(&mut limits, tier, &schedule, (LimitName::hour(), Window::Hour), known.requests_per_hour);
            replace(&mut limits, tier, &schedule, (LimitName::day(), Window::Day), known.requests_per_day);
        }
        Self {
            tier: tier.name.clone(),
            limits,
            concurrent_requests: tier.concurrent_requests,
            concurrent_websockets: tier.concurrent_websockets,
        }
    }

    pub fn limit(&self, name: &LimitName) -> Option<&PlannedLimit> {
        self.limits.iter().find(|limit| limit.name == *name)
    }

    /// How many slots of a kind may be held at once.
    pub const fn slots(&self, kind: LeaseKind) -> u64 {
        match kind {
            LeaseKind::Request => self.concurrent_requests,
            LeaseKind::Websocket => self.concurrent_websockets,
        }
    }

    /// The plan with limits of which each allows a part, from 0 to 1, rounded down.
    pub fn part(&self, part: f64) -> Self {
        let mut plan = self.clone();
        for limit in &mut plan.limits {
            limit.requests = part_of(limit.requests, part);
            if let Rule::TokenBucket(bucket) = &mut limit.rule {
                *bucket = Bucket {
                    burst: part_of(bucket.burst, part),
                    requests: part_of(bucket.requests, part),
                    period: bucket.period,
                };
            }
        }
        plan
    }
}

/// Rounded down. Exact enough below 2^53.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit is at most 10^12 and a part from 0 to 1, so the product is a small non-negative number"
)]
pub fn part_of(requests: u64, part: f64) -> u64 {
    (requests as f64 * part) as u64
}

/// Puts the number of an override in the place of a limit's; without such a limit, one of a fixed window is added.
fn replace(
    limits: &mut SmallVec<[PlannedLimit; 2]>,
    tier: &Tier,
    schedule: &ResetSchedule,
    (name, window): (LimitName, Window),
    requests: Option<u64>,
) {
    let Some(requests) = requests else { return };
    let known = tier.limits.iter().find(|limit| limit.name == name).cloned();
    let mut limit = known.unwrap_or_else(|| Limit::fixed(name, window, requests));
    limit.requests = match limit.algorithm {
        // The tier may have changed since the override was set: a log remembers no more than it can.
        Algorithm::SlidingWindowLog { .. } => requests.min(LOG_MAX),
        _ => requests,
    };
    let planned = PlannedLimit::new(&limit, schedule);
    match limits.iter_mut().find(|limit| limit.name == planned.name) {
        Some(limit) => *limit = planned,
        None => limits.push(planned),
    }
}

impl PlannedLimit {
    pub fn new(limit: &Limit, schedule: &ResetSchedule) -> Self {
        let mut requests = limit.requests;
        let rule = match limit.algorithm {
            Algorithm::CalendarWindow(window) => Rule::FixedWindow(windows(window, schedule)),
            Algorithm::FixedWindow { period } => Rule::FixedWindow(Windows::every(period)),
            Algorithm::SlidingWindowLog { period } => Rule::SlidingLog(period),
            Algorithm::SlidingWindowCounter { period } => Rule::SlidingCounter(period),
            Algorithm::TokenBucket { period, burst } => {
                // One that is never filled holds nothing.
                let burst = if limit.requests == 0 { 0 } else { burst.unwrap_or(limit.requests) };
                requests = burst;
                Rule::TokenBucket(Bucket { burst, requests: limit.requests, period })
            }
        };
        Self { name: limit.name.clone(), rule, requests, enforce: limit.enforce, slot: limit.slot() }
    }

    /// The end of the window that runs at `now`, of which `status` shows how the limit stands. A limit that slides or fills has
    /// none of its own: it is cut at multiples of its period since 1970, so that all who ask find the same.
    pub fn window_end(&self, status: &LimitStatus, now: Timestamp) -> Timestamp {
        match &self.rule {
            Rule::FixedWindow(_) => status.reset_at,
            Rule::SlidingLog(_) | Rule::SlidingCounter(_) | Rule::TokenBucket(_) => self.period(now).next_multiple(now),
        }
    }

    /// The length of the window that runs at `now`, as `w` in `RateLimit-Policy` shows it: of a bucket, the time to fill it.
    pub fn period(&self, now: Timestamp) -> Period {
        match &self.rule {
            Rule::FixedWindow(windows) => windows.length(now),
            Rule::SlidingLog(period) | Rule::SlidingCounter(period) => *period,
            Rule::TokenBucket(bucket) => bucket.fill(),
        }
    }
}

fn windows(window: Window, schedule: &ResetSchedule) -> Windows {
    match (window, &schedule.day, &schedule.month) {
        (Window::Hour, _, _) => Windows::hours(),
        (Window::Day, Some(daily), _) => Windows::Daily(daily.clone()),
        (Window::Day, None, _) => Windows::days(),
        (Window::Week, _, _) => Windows::weeks(),
        (Window::Month, _, Some(monthly)) => Windows::Monthly(monthly.clone()),
        (Window::Month, _, None) => Windows::months(),
    }
}
