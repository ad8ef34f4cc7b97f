//! What the database knows of a user, and how it changes the tier's limits.

use super::schedule::ResetSchedule;
use super::subject::UserId;
use super::tier::TierName;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Numbers of an administrator that stand in for those of the tier. `None` leaves the tier's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaOverride {
    /// 0 to 10^12.
    pub requests_per_hour: Option<u64>,
    /// 0 to 10^12.
    pub requests_per_day: Option<u64>,
    /// When it ends by itself; `None` holds until removed.
    pub expires_at: Option<Timestamp>,
    pub reason: Option<String>,
}

impl QuotaOverride {
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "custom_requests_per_hour": self.requests_per_hour,
            "custom_requests_per_day": self.requests_per_day,
            "expires_at": self.expires_at,
            "reason": self.reason,
        })
    }
}

/// What an administrator sets for a user beside an override; an entry that says nothing is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserEntry {
    pub tier: Option<TierName>,
    pub reset_schedule: Option<ResetSchedule>,
}

impl UserEntry {
    /// As the API shows it; `None` where it says nothing.
    pub fn to_json(&self) -> Option<Value> {
        (*self != Self::default()).then(|| json!({ "tier": self.tier, "reset_schedule": self.reset_schedule }))
    }
}

/// A user as the database has it. A user without any entry is [`Account::unknown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub user_id: UserId,
    pub tier: Option<TierName>,
    pub quota_override: Option<QuotaOverride>,
    /// Where the user's windows begin, instead of where the tier's do.
    pub reset_schedule: Option<ResetSchedule>,
}

impl Account {
    pub const fn unknown(user_id: UserId) -> Self {
        Self { user_id, tier: None, quota_override: None, reset_schedule: None }
    }

    /// The override, where it has not ended yet.
    pub fn active_override(&self, now: Timestamp) -> Option<&QuotaOverride> {
        self.quota_override.as_ref().filter(|known| known.is_active(now))
    }
}
