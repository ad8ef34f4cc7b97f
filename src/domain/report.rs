//! What the books answer: history, totals, and who changed what.

use std::net::IpAddr;

use super::subject::{Subject, UserId};
use super::tier::TierName;
use super::time::Timestamp;
use super::usage::Usage;

/// The buckets of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    Hour,
    Day,
}

/// Usage in the bucket that begins at `start`. Buckets without usage are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryItem {
    pub start: Timestamp,
    pub usage: Usage,
}

/// Usage of many subjects, and how many they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub usage: Usage,
    pub active_users: u64,
}

/// One subject's usage, under the tier in which most of it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectUsage {
    pub subject: Subject,
    pub tier: TierName,
    pub usage: Usage,
}

/// Usage of the whole system since `start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    pub start: Timestamp,
    pub totals: Totals,
    pub tiers: Vec<(TierName, Totals)>,
    /// By cost, the highest first.
    pub top_users: Vec<SubjectUsage>,
    /// By cost, the highest first.
    pub top_ips: Vec<SubjectUsage>,
}

/// Who asks for a change, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The credential: `key:<id>`, `user:<id>` or `admin-key`.
    pub actor: String,
    pub address: Option<IpAddr>,
}

/// One change, as the audit keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub id: i64,
    pub at: Timestamp,
    pub actor: String,
    pub address: Option<String>,
    pub action: String,
    pub target: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

/// What other instances changed since a version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The version that this brings up to.
    pub version: i64,
    pub users: Vec<UserId>,
    pub keys: bool,
    /// There was more than can be listed: all that is remembered is stale.
    pub everything: bool,
}
