//! One limit of a tier: so many units in a window, counted by one of four algorithms.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::cost::LIMIT_MAX;
use super::time::Period;

/// The longest period of a limit: 366 days.
pub const PERIOD_MAX_SECONDS: u64 = 366 * 86_400;

/// The most `requests` of a sliding log, which remembers each of them.
pub const LOG_MAX: u64 = 10_000;

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

    /// Of what instances have reserved: shown nowhere.
    pub fn reserved() -> Self {
        Self(CompactString::const_new("reserved"))
    }

    pub fn hour() -> Self {
        Self(CompactString::const_new("hour"))
    }

    pub fn day() -> Self {
        Self(CompactString::const_new("day"))
    }

    /// Of what an address may show of credentials that don't verify.
    pub fn bad_credentials() -> Self {
        Self(CompactString::const_new("bad_credentials"))
    }

    /// What a check is denied by that finds no free request slot. No limit of a tier may bear the name.
    pub fn concurrent_requests() -> Self {
        Self(CompactString::const_new("concurrent_requests"))
    }

    /// What a check is denied by that finds no free WebSocket slot. No limit of a tier may bear the name.
    pub fn concurrent_websockets() -> Self {
        Self(CompactString::const_new("concurrent_websockets"))
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

/// The calendar window of a fixed window limit: in UTC, or where a reset schedule puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From the top of the UTC hour.
    Hour,
    /// From midnight UTC, or as `day` of the schedule says.
    Day,
    /// From Monday, midnight UTC.
    Week,
    /// From the first, midnight UTC, or as `month` of the schedule says.
    Month,
}

/// How a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// See [`super::fixed_window`]. Windows of the calendar.
    CalendarWindow(Window),
    /// See [`super::fixed_window`]. Windows that begin at multiples of the period since 1970-01-01T00:00:00Z.
    FixedWindow { period: Period },
    /// See [`super::sliding_log`].
    SlidingWindowLog { period: Period },
    /// See [`super::sliding_counter`].
    SlidingWindowCounter { period: Period },
    /// See [`super::token_bucket`]. `burst` is what it holds when it is full, `None` being as much as `requests`.
    TokenBucket { period: Period, burst: Option<u64> },
}

/// So many units in a window. A limit that is not enforced counts and never denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Limit {
    pub name: LimitName,
    pub algorithm: Algorithm,
    /// 0 to 10^12; of a sliding log, at most [`LOG_MAX`].
    pub requests: u64,
    pub enforce: bool,
}

/// Why a limit can't be as it is written: the field, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidLimit {
    pub field: &'static str,
    pub message: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenAlgorithm {
    FixedWindow,
    SlidingWindowLog,
    SlidingWindowCounter,
    TokenBucket,
}

/// A limit as the API and the policy file write it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: LimitName,
    algorithm: WrittenAlgorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period_seconds: Option<u64>,
    requests: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u64>,
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    enforce: bool,
}

const fn enforced() -> bool {
    true
}

// serde hands `skip_serializing_if` a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_enforced(enforce: &bool) -> bool {
    *enforce
}

impl TryFrom<Written> for Limit {
    type Error = InvalidLimit;

    fn try_from(written: Written) -> Result<Self, InvalidLimit> {
        let Written { name, algorithm, window, period_seconds, requests, burst, enforce } = written;
        let invalid = |field, message| Err(InvalidLimit { field, message });
        if name == LimitName::concurrent_requests() || name == LimitName::concurrent_websockets() {
            return invalid("name", "is kept for the slots of leases");
        }
        if requests > LIMIT_MAX {
            return invalid("requests", "must be a whole number from 0 to 1000000000000");
        }
        if period_seconds.is_some_and(|seconds| seconds == 0 || seconds > PERIOD_MAX_SECONDS) {
            return invalid("period_seconds", "must be a whole number from 1 to 31622400");
        }
        if burst.is_some() && algorithm != WrittenAlgorithm::TokenBucket {
            return invalid("burst", "belongs to a token_bucket");
        }
        if burst.is_some_and(|burst| burst == 0 || burst > LIMIT_MAX) {
            return invalid("burst", "must be a whole number from 1 to 1000000000000");
        }
        if burst.is_some() && requests == 0 {
            return invalid("burst", "a bucket that is never filled has none: leave it out, or set requests");
        }
        if algorithm == WrittenAlgorithm::SlidingWindowLog && requests > LOG_MAX {
            return invalid("requests", "a sliding_window_log holds at most 10000: use a counter or a bucket");
        }
        let period = period_seconds.map(Period::from_seconds);
        let algorithm = match (algorithm, window, period) {
            (WrittenAlgorithm::FixedWindow, Some(window), None) => Algorithm::CalendarWindow(window),
            (WrittenAlgorithm::FixedWindow, None, Some(period)) => Algorithm::FixedWindow { period },
            (WrittenAlgorithm::FixedWindow, _, _) => {
                return invalid("window", "a fixed_window has either window or period_seconds");
            }
            (_, Some(_), _) => return invalid("window", "belongs to a fixed_window"),
            (_, None, None) => return invalid("period_seconds", "is required"),
            (WrittenAlgorithm::SlidingWindowLog, None, Some(period)) => Algorithm::SlidingWindowLog { period },
            (WrittenAlgorithm::SlidingWindowCounter, None, Some(period)) => Algorithm::SlidingWindowCounter { period },
            (WrittenAlgorithm::TokenBucket, None, Some(period)) => Algorithm::TokenBucket { period, burst },
        };
        Ok(Self { name, algorithm, requests, enforce })
    }
}

impl From<Limit> for Written {
    fn from(limit: Limit) -> Self {
        let (algorithm, window, period, burst) = match limit.algorithm {
            Algorithm::CalendarWindow(window) => (WrittenAlgorithm::FixedWindow, Some(window), None, None),
            Algorithm::FixedWindow { period } => (WrittenAlgorithm::FixedWindow, None, Some(period), None),
            Algorithm::SlidingWindowLog { period } => (WrittenAlgorithm::SlidingWindowLog, None, Some(period), None),
            Algorithm::SlidingWindowCounter { period } => {
                (WrittenAlgorithm::SlidingWindowCounter, None, Some(period), None)
            }
            Algorithm::TokenBucket { period, burst } => (WrittenAlgorithm::TokenBucket, None, Some(period), burst),
        };
        let period_seconds = period.map(Period::ceil_seconds);
        Written {
            name: limit.name,
            algorithm,
            window,
            period_seconds,
            requests: limit.requests,
            burst,
            enforce: limit.enforce,
        }
    }
}

/// Which counter of a subject a limit uses: 52 bits, so that Lua holds it exactly.
///
/// Made from the limit's name, algorithm and window, not from its tier or number: a user who changes tier keeps what they
/// used, and a limit whose window changes starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
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
    /// An enforced limit of a calendar window.
    pub const fn fixed(name: LimitName, window: Window, requests: u64) -> Self {
        Self { name, algorithm: Algorithm::CalendarWindow(window), requests, enforce: true }
    }

    pub fn slot(&self) -> SlotId {
        let name = &self.name;
        let text = match self.algorithm {
            Algorithm::CalendarWindow(Window::Hour) => format!("{name}|fixed_window|hour"),
            Algorithm::CalendarWindow(Window::Day) => format!("{name}|fixed_window|day"),
            Algorithm::CalendarWindow(Window::Week) => format!("{name}|fixed_window|week"),
            Algorithm::CalendarWindow(Window::Month) => format!("{name}|fixed_window|month"),
            Algorithm::FixedWindow { period } => format!("{name}|fixed_window|{}", period.ceil_seconds()),
            Algorithm::SlidingWindowLog { period } => format!("{name}|sliding_window_log|{}", period.ceil_seconds()),
            Algorithm::SlidingWindowCounter { period } => {
                format!("{name}|sliding_window_counter|{}", period.ceil_seconds())
            }
            Algorithm::TokenBucket { period, .. } => format!("{name}|token_bucket|{}", period.ceil_seconds()),
        };
        SlotId(xxh3_64(text.as_bytes()) >> 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Limit, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        for text in [
            r#"{"name":"hour","algorithm":"fixed_window","window":"hour","requests":1000}"#,
            r#"{"name":"minute","algorithm":"fixed_window","period_seconds":60,"requests":0}"#,
            r#"{"name":"burst","algorithm":"sliding_window_log","period_seconds":10,"requests":50,"enforce":false}"#,
            r#"{"name":"a","algorithm":"sliding_window_counter","period_seconds":1,"requests":1000000000000}"#,
            r#"{"name":"b","algorithm":"token_bucket","period_seconds":60,"requests":1,"burst":7}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (fields, refusal) in [
            (r#""algorithm":"fixed_window","requests":1"#, "window: a fixed_window has either"),
            (
                r#""algorithm":"fixed_window","window":"day","period_seconds":5,"requests":1"#,
                "window: a fixed_window has",
            ),
            (r#""algorithm":"token_bucket","window":"day","requests":1"#, "window: belongs"),
            (r#""algorithm":"token_bucket","requests":1"#, "period_seconds: is required"),
            (r#""algorithm":"token_bucket","period_seconds":0,"requests":1"#, "period_seconds: must"),
            (r#""algorithm":"token_bucket","period_seconds":1,"requests":1,"burst":0"#, "burst: must"),
            (r#""algorithm":"token_bucket","period_seconds":1,"requests":0,"burst":1"#, "burst: a bucket"),
            (r#""algorithm":"sliding_window_log","period_seconds":1,"requests":10001"#, "requests: a sliding"),
            (r#""algorithm":"sliding_window_log","period_seconds":1,"requests":1,"burst":1"#, "burst: belongs"),
            (r#""algorithm":"fixed_window","window":"day","requests":1000000000001"#, "requests: must"),
        ] {
            let refused = read(&format!(r#"{{"name":"x",{fields}}}"#)).unwrap_err();
            assert!(refused.starts_with(refusal), "{refused}");
        }
        let kept = r#"{"name":"concurrent_requests","algorithm":"fixed_window","window":"day","requests":1}"#;
        assert!(read(kept).unwrap_err().starts_with("name: is kept"));
    }

    #[test]
    fn a_slot_is_known_by_name_algorithm_and_window_alone() {
        let slot = |text: &str| read(text).unwrap().slot();
        let bucket = slot(r#"{"name":"b","algorithm":"token_bucket","period_seconds":60,"requests":1}"#);
        assert_eq!(
            bucket,
            slot(r#"{"name":"b","algorithm":"token_bucket","period_seconds":60,"requests":9,"burst":7}"#)
        );
        assert_ne!(bucket, slot(r#"{"name":"b","algorithm":"token_bucket","period_seconds":61,"requests":1}"#));
        assert_ne!(bucket, slot(r#"{"name":"c","algorithm":"token_bucket","period_seconds":60,"requests":1}"#));
    }
}
