//! A tier: a named plan that holds limits.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::limit::{Limit, LimitName, Window};
use super::schedule::ResetSchedule;

/// 1 to 64 of `a-z 0-9 _ -`: tiers label metrics and headers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TierName(CompactString);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of the characters a-z, 0-9, '_' and '-'")]
pub struct InvalidTierName;

impl TierName {
    pub fn parse(text: &str) -> Result<Self, InvalidTierName> {
        LimitName::parse(text).map(|_| Self(CompactString::from(text))).map_err(|_| InvalidTierName)
    }

    /// The tier of a user whom neither the database nor a token places elsewhere.
    pub fn free() -> Self {
        Self(CompactString::const_new("free"))
    }

    /// The tier of a caller without a credential.
    pub fn anonymous() -> Self {
        Self(CompactString::const_new("anonymous"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TierName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        TierName::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The most limits that a tier may have: every check is charged to all of them.
pub const LIMITS_MAX: usize = 16;

/// The most that may run at once: each is remembered by itself.
pub const CONCURRENT_MAX: u64 = 1_000_000;

/// A named plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    pub name: TierName,
    pub limits: Vec<Limit>,
    /// How many requests may run at once; [`CONCURRENT_MAX`] where it is not said.
    #[serde(default = "as_many_as_may_be")]
    pub concurrent_requests: u64,
    /// How many WebSockets may be open at once; [`CONCURRENT_MAX`] where it is not said.
    #[serde(default = "as_many_as_may_be")]
    pub concurrent_websockets: u64,
    /// Where the windows `day` and `month` begin; a user's own goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_schedule: Option<ResetSchedule>,
}

const fn as_many_as_may_be() -> u64 {
    CONCURRENT_MAX
}

/// Why a tier can't be as it is: the field, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidTier {
    pub field: String,
    pub message: &'static str,
}

impl Tier {
    /// A tier of these limits, with as many slots as may be.
    pub const fn of_limits(name: TierName, limits: Vec<Limit>) -> Self {
        Self {
            name,
            limits,
            concurrent_requests: CONCURRENT_MAX,
            concurrent_websockets: CONCURRENT_MAX,
            reset_schedule: None,
        }
    }

    /// A tier of the two windows that the built-in tiers have.
    pub fn hourly_and_daily(name: TierName, per_hour: u64, per_day: u64, concurrent: u64) -> Self {
        Self {
            name,
            limits: vec![
                Limit::fixed(LimitName::hour(), Window::Hour, per_hour),
                Limit::fixed(LimitName::day(), Window::Day, per_day),
            ],
            concurrent_requests: concurrent,
            concurrent_websockets: concurrent,
            reset_schedule: None,
        }
    }

    /// What its limits can't say one by one: that their names differ, and that none of the numbers is too large.
    pub fn check(&self) -> Result<(), InvalidTier> {
        let invalid = |field: String, message| Err(InvalidTier { field, message });
        if self.limits.len() > LIMITS_MAX {
            return invalid("limits".to_owned(), "must be at most 16");
        }
        for (number, limit) in self.limits.iter().enumerate() {
            if self.limits.iter().take(number).any(|known| known.name == limit.name) {
                return invalid(format!("limits[{number}].name"), "another limit of the tier has this name");
            }
        }
        for (field, count) in
            [("concurrent_requests", self.concurrent_requests), ("concurrent_websockets", self.concurrent_websockets)]
        {
            if count > CONCURRENT_MAX {
                return invalid(field.to_owned(), "must be a whole number from 0 to 1000000");
            }
        }
        Ok(())
    }
}
