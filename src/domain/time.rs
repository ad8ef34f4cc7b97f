//! Instants and lengths of time as whole microseconds: the resolution of Redis' `TIME`.

use std::fmt;

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const DAY_MICROS: i64 = 86_400 * MICROS_PER_SECOND;
const SECONDS_PER_HOUR: i64 = 3600;

/// An instant: microseconds since 1970-01-01T00:00:00Z. Exact as a double until the year 2255, as Lua needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A length of time in microseconds, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Period(i64);

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Saturates at the ends of the representable range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole Unix seconds, rounded down.
    pub const fn floor_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Whole Unix seconds, rounded up: what `X-RateLimit-Reset` shows.
    pub const fn ceil_seconds(self) -> i64 {
        let floor = self.floor_seconds();
        if self.0.rem_euclid(MICROS_PER_SECOND) == 0 { floor } else { floor.saturating_add(1) }
    }

    /// The start of this instant's UTC hour: the bucket that usage history is counted in.
    pub const fn start_of_hour(self) -> Timestamp {
        Timestamp::from_seconds(self.floor_seconds().div_euclid(SECONDS_PER_HOUR).saturating_mul(SECONDS_PER_HOUR))
    }

    pub const fn saturating_add(self, period: Period) -> Timestamp {
        Timestamp(self.0.saturating_add(period.0))
    }

    pub const fn saturating_sub(self, period: Period) -> Timestamp {
        Timestamp(self.0.saturating_sub(period.0))
    }

    /// The time from `self` to `later`; zero where `later` is not later.
    pub const fn until(self, later: Timestamp) -> Period {
        let gap = later.0.saturating_sub(self.0);
        Period(if gap > 0 { gap } else { 0 })
    }

    /// For RFC 3339 text. Instants outside jiff's range (years -9999 to 9999) are clamped to it.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Self {
        Self(instant.as_microsecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Timestamp::from)
    }
}

impl Period {
    pub const ZERO: Period = Period(0);

    /// Saturates at the largest representable length.
    pub const fn from_seconds(seconds: u64) -> Self {
        let seconds = if seconds > i64::MAX as u64 { i64::MAX } else { seconds as i64 };
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// A negative length is none.
    pub const fn from_micros(micros: i64) -> Self {
        Self(if micros > 0 { micros } else { 0 })
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    pub const fn as_duration(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }

    /// The first multiple of this length since 1970 that is after `now`.
    pub const fn next_multiple(self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.into_of(now))).saturating_add(self)
    }

    /// The first multiple of this length since 1970 that is not before `instant`.
    pub const fn next_multiple_from(self, instant: Timestamp) -> Timestamp {
        match self.into_of(instant) {
            0 => instant,
            _ => self.next_multiple(instant),
        }
    }

    /// How far an instant is past the last multiple of this length.
    const fn into_of(self, instant: Timestamp) -> i64 {
        match instant.0.checked_rem_euclid(self.0) {
            Some(into) => into,
            None => 0,
        }
    }

    /// Whole seconds, rounded up.
    pub const fn ceil_seconds(self) -> u64 {
        (self.0 as u64).div_ceil(MICROS_PER_SECOND as u64)
    }
}

/// `count * part / whole`, rounded up; of nothing, nothing.
pub fn mul_div_ceil(count: u64, part: Period, whole: Period) -> u64 {
    let product = u128::from(count).saturating_mul(u128::from(part.0.unsigned_abs()));
    let share = product.div_ceil(u128::from(whole.0.unsigned_abs().max(1)));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// `period * part / whole`, rounded down; saturates at the largest length.
pub fn mul_div(period: Period, part: u64, whole: u64) -> Period {
    let product = u128::from(period.0.unsigned_abs()).saturating_mul(u128::from(part));
    let share = product.checked_div(u128::from(whole)).unwrap_or(u128::MAX);
    Period(i64::try_from(share).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_up_for_a_reset_and_down_for_a_bucket() {
        let instant = Timestamp::from_micros(1_500_001);
        assert_eq!((instant.floor_seconds(), instant.ceil_seconds()), (1, 2));
        assert_eq!(Timestamp::from_seconds(2).ceil_seconds(), 2);
        assert_eq!(Timestamp::from_micros(-1).start_of_hour(), Timestamp::from_seconds(-3600));
    }

    #[test]
    fn text_is_rfc_3339() {
        assert_eq!(Timestamp::from_seconds(1_795_766_400).to_string(), "2026-11-27T08:00:00Z");
    }
}
