//! One limit of a tier: so many units in a window.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::time::Period;

/// The name of a limit, unique within its tier: 1 to 64 of `a-z 0-9 _ -`. It stands in headers, so it needs no quoting there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LimitName(CompactString);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of the characters a-z, 0-9, '_' and '-'")]
pub struct InvalidLimitName;

impl LimitName {
    pub fn parse(text: &str) -> Result<Self, InvalidLimitName> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_' || c == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(CompactString::from(text)))
        } else {
            Err(InvalidLimitName)
        }
    }

    pub fn hour() -> Self {
        Self(CompactString::const_new("hour"))
    }

    pub fn day() -> Self {
        Self(CompactString::const_new("day"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LimitName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        LimitName::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The calendar window of a fixed window limit, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From the top of the hour.
    Hour,
    /// From midnight.
    Day,
}

impl Window {
    pub const fn period(self) -> Period {
        match self {
            Window::Hour => Period::from_seconds(3600),
            Window::Day => Period::from_seconds(86_400),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Window::Hour => "hour",
            Window::Day => "day",
        }
    }
}

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
pub enum Algorithm {
    /// See [`super::fixed_window`].
    FixedWindow { window: Window },
}

impl Algorithm {
    /// The length of the window, as `w` in `RateLimit-Policy` shows it.
    pub const fn period(self) -> Period {
        match self {
            Algorithm::FixedWindow { window } => window.period(),
        }
    }
}

/// So many units in a window. `requests` is 0 to 10^12; a limit that is not enforced counts and never denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub name: LimitName,
    #[serde(flatten)]
    pub algorithm: Algorithm,
    pub requests: u64,
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    pub enforce: bool,
}

const fn enforced() -> bool {
    true
}

// serde hands `skip_serializing_if` a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_enforced(enforce: &bool) -> bool {
    *enforce
}

/// Which counter of a subject a limit uses: 52 bits, so that Lua holds it exactly.
///
/// Made from the limit's name, algorithm and window, not from its tier or number: a user who changes tier keeps what they
/// used, and a limit whose window changes starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

impl SlotId {
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl Limit {
    pub fn fixed(name: LimitName, window: Window, requests: u64) -> Self {
        Self { name, algorithm: Algorithm::FixedWindow { window }, requests, enforce: true }
    }

    pub fn slot(&self) -> SlotId {
        let text = match self.algorithm {
            Algorithm::FixedWindow { window } => format!("{}|fixed_window|{}", self.name, window.name()),
        };
        SlotId(xxh3_64(text.as_bytes()) >> 12)
    }
}
