//! When the windows of a fixed window begin and end: at multiples of a period, or by the calendar of a time zone.
//!
//! Time zones are those of the IANA database that is built in, so that instances on machines with other ones agree. A local
//! time that a change of the clocks skips is the instant by the offset before it, and of one that comes twice the first: a
//! day has one boundary, and one of 23 or 25 hours is one window.

use jiff::ToSpan;
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize, de::Error as _};
use std::sync::LazyLock;

use super::time::{Period, Timestamp};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Monday, 1970-01-05T00:00:00Z.
const A_MONDAY: Timestamp = Timestamp::from_seconds(4 * 86_400);

const DAY: Period = Period::from_seconds(86_400);
const WEEK: Period = Period::from_seconds(7 * 86_400);
const HOUR: Period = Period::from_seconds(3600);

/// Where the windows `day` and `month` begin, where it is not midnight UTC and the first of the month.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSchedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<DailyReset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<MonthlyReset>,
}

/// Each day at a local time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyReset {
    at: TimeOfDay,
    timezone: Zone,
}

/// Each month on a day at a local time; a day that the month lacks is its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonthlyReset {
    day: DayOfMonth,
    at: TimeOfDay,
    timezone: Zone,
}

/// `HH:MM`, from 00:00 to 23:59.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeOfDay(Time);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct DayOfMonth(i8);

/// A time zone by its name in the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Zone(TimeZone);

/// The windows of a fixed window limit, one after another without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Windows {
    /// One begins at `anchor`.
    Every {
        period: Period,
        anchor: Timestamp,
    },
    Daily(DailyReset),
    Monthly(MonthlyReset),
}

impl ResetSchedule {
    /// `self`, and where it says nothing the other, window by window.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self { day: self.day.clone().or(other.day.clone()), month: self.month.clone().or(other.month.clone()) }
    }
}

impl Windows {
    /// From multiples of the period since 1970.
    pub const fn every(period: Period) -> Self {
        Self::Every { period, anchor: Timestamp::EPOCH }
    }

    pub const fn hours() -> Self {
        Self::every(HOUR)
    }

    pub const fn days() -> Self {
        Self::every(DAY)
    }

    /// From Monday, midnight UTC.
    pub const fn weeks() -> Self {
        Self::Every { period: WEEK, anchor: A_MONDAY }
    }

    /// From the first, midnight UTC.
    pub const fn months() -> Self {
        let timezone = Zone(TimeZone::UTC);
        Self::Monthly(MonthlyReset { day: DayOfMonth(1), at: TimeOfDay(Time::midnight()), timezone })
    }

    /// The first boundary after `now`.
    pub fn end(&self, now: Timestamp) -> Timestamp {
        let boundary = match self {
            Windows::Every { period, anchor } => return every_end(*period, *anchor, now),
            // Around a day that a zone skips whole, two boundaries are one.
            Windows::Daily(daily) => {
                [-1, 0, 1, 2].into_iter().filter_map(|days| daily.boundary(now, days)).find(|b| *b > now)
            }
            Windows::Monthly(monthly) => {
                [-1, 0, 1, 2].into_iter().filter_map(|months| monthly.boundary(now, months)).find(|b| *b > now)
            }
        };
        // At the ends of the calendar, year -9999 and 9999, a day is as long as ever.
        boundary.unwrap_or_else(|| every_end(DAY, Timestamp::EPOCH, now))
    }

    /// The last boundary at or before `now`.
    pub fn start(&self, now: Timestamp) -> Timestamp {
        let boundary = match self {
            Windows::Every { period, anchor } => {
                return every_end(*period, *anchor, now).saturating_sub(*period).min(now);
            }
            Windows::Daily(daily) => {
                [1, 0, -1, -2].into_iter().filter_map(|days| daily.boundary(now, days)).find(|b| *b <= now)
            }
            Windows::Monthly(monthly) => {
                [1, 0, -1, -2].into_iter().filter_map(|months| monthly.boundary(now, months)).find(|b| *b <= now)
            }
        };
        boundary.unwrap_or_else(|| every_end(DAY, Timestamp::EPOCH, now).saturating_sub(DAY).min(now))
    }

    /// The length, as `w` in `RateLimit-Policy` shows it: the period, a day of 24 hours, or that of the month that runs at `now`.
    pub fn length(&self, now: Timestamp) -> Period {
        match self {
            Windows::Every { period, .. } => *period,
            Windows::Daily(_) => DAY,
            Windows::Monthly(_) => self.start(now).until(self.end(now)),
        }
    }
}

fn every_end(period: Period, anchor: Timestamp, now: Timestamp) -> Timestamp {
    let since = Timestamp::from_micros(now.as_micros().saturating_sub(anchor.as_micros()));
    Timestamp::from_micros(period.next_multiple(since).as_micros().saturating_add(anchor.as_micros()))
}

impl DailyReset {
    /// The boundary so many days after the local day of `now`.
    fn boundary(&self, now: Timestamp, days: i64) -> Option<Timestamp> {
        let date = self.timezone.date(now).checked_add(days.days()).ok()?;
        self.timezone.instant(date, self.at)
    }
}

impl MonthlyReset {
    /// The boundary so many months after the local month of `now`.
    fn boundary(&self, now: Timestamp, months: i64) -> Option<Timestamp> {
        let first = self.timezone.date(now).first_of_month().checked_add(months.months()).ok()?;
        let last = first.days_in_month();
        let date = Date::new(first.year(), first.month(), self.day.0.min(last)).ok()?;
        self.timezone.instant(date, self.at)
    }
}

impl Zone {
    fn date(&self, now: Timestamp) -> Date {
        self.0.to_datetime(now.to_jiff()).date()
    }

    fn instant(&self, date: Date, at: TimeOfDay) -> Option<Timestamp> {
        self.0.to_timestamp(date.to_datetime(at.0)).ok().map(Timestamp::from)
    }
}

impl Serialize for Zone {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let unknown = |_| D::Error::custom("must be a time zone of the IANA database, as Europe/Berlin");
        ZONES.get(&name).map(Self).map_err(unknown)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0.hour(), self.0.minute()))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let number = |digits: &str| {
            let all_digits = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i8>().ok().filter(|_| all_digits)
        };
        text.split_once(':')
            .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom("must be a time from 00:00 to 23:59, as HH:MM"))
    }
}

impl<'de> Deserialize<'de> for DayOfMonth {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let day = u64::deserialize(deserializer)?;
        let day = i8::try_from(day).ok().filter(|day| (1..=31).contains(day));
        day.map(Self).ok_or_else(|| D::Error::custom("must be a day from 1 to 31"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(text: &str) -> Windows {
        let schedule: ResetSchedule = serde_json::from_str(text).unwrap();
        schedule.day.map(Windows::Daily).or(schedule.month.map(Windows::Monthly)).unwrap()
    }

    fn daily(at: &str, timezone: &str) -> Windows {
        windows(&format!(r#"{{"day": {{"at": "{at}", "timezone": "{timezone}"}}}}"#))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from(text.parse::<jiff::Timestamp>().unwrap())
    }

    #[test]
    fn days_of_23_and_25_hours_are_one_window_each() {
        let berlin = daily("00:00", "Europe/Berlin");
        for (noon, start, end) in [
            ("2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ] {
            assert_eq!((berlin.start(at(noon)), berlin.end(at(noon))), (at(start), at(end)));
            assert_eq!(berlin.length(at(noon)), DAY);
        }
    }

    #[test]
    fn a_time_that_is_skipped_or_comes_twice_is_one_boundary() {
        // 02:30 is skipped on 2026-03-29, and comes twice on 2026-10-25.
        let berlin = daily("02:30", "Europe/Berlin");
        assert_eq!(berlin.end(at("2026-03-29T00:00:00Z")), at("2026-03-29T01:30:00Z"));
        assert_eq!(berlin.end(at("2026-03-29T01:30:00Z")), at("2026-03-30T00:30:00Z"));
        assert_eq!(berlin.end(at("2026-10-25T00:00:00Z")), at("2026-10-25T00:30:00Z"));
        assert_eq!(berlin.end(at("2026-10-25T00:30:00Z")), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn a_day_that_a_zone_skipped_is_no_window() {
        let apia = daily("06:30", "Pacific/Apia");
        let thursday = at("2011-12-29T20:00:00Z");
        assert_eq!(apia.start(thursday), at("2011-12-29T16:30:00Z"));
        assert_eq!(apia.end(thursday), at("2011-12-30T16:30:00Z"));
        assert_eq!(apia.end(at("2011-12-30T16:30:00Z")), at("2011-12-31T16:30:00Z"));
    }

    #[test]
    fn a_day_that_the_month_lacks_is_its_last() {
        let monthly = windows(r#"{"month": {"day": 31, "at": "00:00", "timezone": "UTC"}}"#);
        for (now, end) in [
            ("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
            ("2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"),
        ] {
            assert_eq!(monthly.end(at(now)), at(end));
        }
        assert_eq!(Windows::months().length(at("2026-02-10T00:00:00Z")), Period::from_seconds(28 * 86_400));
    }

    #[test]
    fn a_week_begins_on_monday() {
        let (start, end) = (at("2026-11-23T00:00:00Z"), at("2026-11-30T00:00:00Z"));
        for now in [start, at("2026-11-29T23:59:59Z")] {
            assert_eq!((Windows::weeks().start(now), Windows::weeks().end(now)), (start, end));
        }
    }

    #[test]
    fn the_ends_of_time_are_in_some_window() {
        for windows in [Windows::hours(), Windows::weeks(), Windows::months(), daily("06:30", "Pacific/Apia")] {
            for micros in [i64::MIN, i64::MIN + 1, -377_705_023_201_000_000, 0, 253_402_207_200_000_000, i64::MAX] {
                let now = Timestamp::from_micros(micros);
                assert!(windows.start(now) <= now, "{windows:?} {micros}");
                assert!(windows.end(now) > now || micros == i64::MAX, "{windows:?} {micros}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_cannot_be_is_refused() {
        let text =
            r#"{"day":{"at":"06:30","timezone":"Europe/Berlin"},"month":{"day":15,"at":"00:00","timezone":"UTC"}}"#;
        let schedule: ResetSchedule = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
        for (day, refusal) in [
            (r#"{"at": "24:00", "timezone": "UTC"}"#, "HH:MM"),
            (r#"{"at": "6:30", "timezone": "UTC"}"#, "HH:MM"),
            (r#"{"at": "+6:30", "timezone": "UTC"}"#, "HH:MM"),
            (r#"{"at": "06:30:00", "timezone": "UTC"}"#, "HH:MM"),
            (r#"{"at": "06:30", "timezone": "Europe/Nowhere"}"#, "IANA"),
            (r#"{"at": "06:30"}"#, "missing field `timezone`"),
            (r#"{"at": "06:30", "timezone": "UTC", "x": 1}"#, "unknown field"),
        ] {
            let refused = serde_json::from_str::<DailyReset>(day).unwrap_err().to_string();
            assert!(refused.contains(refusal), "{refused}");
        }
        for day in [0, 32, 300] {
            let text = format!(r#"{{"day": {day}, "at": "00:00", "timezone": "UTC"}}"#);
            assert!(serde_json::from_str::<MonthlyReset>(&text).unwrap_err().to_string().contains("1 to 31"));
        }
    }
}
