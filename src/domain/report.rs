//! What the records say: usage history, usage reports and the audit trail.

use std::net::IpAddr;

use super::revision::Expectation;
use super::subject::UserId;
use super::tier::TierName;
use super::time::{Period, Timestamp};
use super::usage::Usage;

/// The length of the buckets that history is shown in, cut in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    Hour,
    Day,
}

impl Granularity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Granularity::Hour => "hour",
            Granularity::Day => "day",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Granularity::Hour, Granularity::Day].into_iter().find(|granularity| granularity.as_str() == text)
    }

    pub const fn period(self) -> Period {
        match self {
            Granularity::Hour => Period::from_seconds(3600),
            Granularity::Day => Period::from_seconds(86_400),
        }
    }
}

/// Which buckets of history are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRange {
    pub granularity: Granularity,
    /// A bucket counts where the hours in it do: `from` in the middle of a day leaves out that day's earlier hours.
    pub from: Timestamp,
    /// The first instant that is not within.
    pub to: Timestamp,
    /// How many buckets at most, from the first on.
    pub limit: u32,
}

/// What was used in one bucket, by one subject or by all, under whichever tiers it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryItem {
    /// The start of the hour or the day.
    pub start: Timestamp,
    pub usage: Usage,
}

/// What the heaviest subjects of a report are the heaviest by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportOrder {
    Cost,
    Requests,
    Denied,
}

impl ReportOrder {
    pub const ALL: [Self; 3] = [Self::Cost, Self::Requests, Self::Denied];

    pub const fn as_str(self) -> &'static str {
        match self {
            ReportOrder::Cost => "cost",
            ReportOrder::Requests => "requests",
            ReportOrder::Denied => "denied",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.as_str() == text)
    }
}

/// Usage of many subjects together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportTotals {
    pub usage: Usage,
    /// How many there were: users in the totals of a report, any subjects in those of one tier.
    pub active_users: u64,
}

/// Who used what since an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    /// The start of the first hour that is counted.
    pub start: Timestamp,
    pub totals: ReportTotals,
    /// By tier, in the order of their names. A subject that changed tier is in both.
    pub tiers: Vec<(TierName, ReportTotals)>,
    /// In the order that was asked for, the highest first, with the tier that the user had last.
    pub top_users: Vec<(UserId, TierName, Usage)>,
    /// In the same order: an address, or a prefix in CIDR notation.
    pub top_ips: Vec<(String, Usage)>,
}

/// Who makes a change, and to what they think they make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The credential, as `key:<id>`, `user:<id>` or `admin-key`.
    pub actor: String,
    /// Where the call came from.
    pub address: Option<IpAddr>,
    /// What must be there, or nothing is changed.
    pub expects: Expectation,
}

impl Author {
    pub fn expecting(self, expects: Expectation) -> Self {
        Self { expects, ..self }
    }
}

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Rises with time; the cursor of a listing.
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub address: Option<String>,
    /// What was done, as `override.put`.
    pub action: String,
    /// To what, as `user:42`.
    pub target: String,
    /// How it was; `None` where there was nothing.
    pub before: Option<serde_json::Value>,
    /// How it is; `None` where it was removed.
    pub after: Option<serde_json::Value>,
}
