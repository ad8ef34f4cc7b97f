//! The windows of reset schedules against another library's calendar: boundaries are listed here one by one, by chrono-tz.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quotad::domain::schedule::{ResetSchedule, Windows};
use quotad::domain::time::Timestamp;

const ZONES: [&str; 22] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "UTC",
];

/// Where tzdata 2026f, which is built in, knows of changes that 2025b, which chrono-tz 0.10 has, does not: Morocco without
/// summer time from September 2026, Cuba in the winter after, and a day of Iran's in May 1979. With two months
/// on both sides, since a month's window may begin or end there.
const DIFFER: [(&str, i64, i64); 3] = [
    ("Africa/Casablanca", 1_784_500_000, i64::MAX),
    ("America/Havana", 1_788_000_000, 1_811_000_000),
    ("Asia/Tehran", 290_000_000, 303_000_000),
];

/// The instant of a local time: the first of two, and of one that is skipped what it would be by the offset before.
fn instant(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant.to_utc(),
        LocalResult::None => {
            let before = (1..200).map(|steps| local - Duration::minutes(15 * steps));
            let before = before.filter_map(|local| zone.from_local_datetime(&local).latest()).next();
            let before = before.expect("a gap has a beginning");
            before.to_utc() + (local - before.naive_local())
        }
    }
}

fn last_of_month(year: i32, month: u32) -> u32 {
    (28..=31).rev().find(|&day| NaiveDate::from_ymd_opt(year, month, day).is_some()).expect("a month has days")
}

/// The boundaries on both sides of an instant, among those of all days near it.
fn around(now: DateTime<Utc>, boundaries: impl Iterator<Item = DateTime<Utc>>) -> (DateTime<Utc>, DateTime<Utc>) {
    let (before, after): (Vec<_>, Vec<_>) = boundaries.partition(|boundary| *boundary <= now);
    (before.into_iter().max().expect("one before"), after.into_iter().min().expect("one after"))
}

fn windows(schedule: &str) -> Windows {
    let schedule: ResetSchedule = serde_json::from_str(schedule).expect("a schedule");
    schedule.day.map(Windows::Daily).or(schedule.month.map(Windows::Monthly)).expect("one of both")
}

#[test]
fn windows_are_those_of_the_calendar_in_every_zone_from_1970_to_2100() {
    let question = (
        0..ZONES.len(),
        0..4_102_444_800_i64,
        prop_oneof![Just((0, 0)), Just((2, 30)), (0..24_u32, 0..60_u32)],
        prop_oneof![Just(31_u32), 1..32_u32],
        // As often as not near a boundary of the clock's changes: 1 h before to 1 h after the turn of some local hour.
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config { cases: 10_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&question, |(zone, seconds, (hour, minute), day, turn)| {
        let name = ZONES[zone];
        let zone: Tz = name.parse().expect("chrono-tz knows the zone");
        prop_assume!(!DIFFER.iter().any(|(zone, from, to)| *zone == name && (*from..*to).contains(&seconds)));
        let seconds = if turn { seconds - seconds % 3600 } else { seconds };
        let now = DateTime::from_timestamp(seconds, 0).expect("an instant");
        let at = NaiveTime::from_hms_opt(hour, minute, 0).expect("a time");
        let today = now.with_timezone(&zone).date_naive();
        let micros = |instant: DateTime<Utc>| Timestamp::from_micros(instant.timestamp_micros());

        let days = (-4..=4).map(|days| instant(zone, (today + Duration::days(days)).and_time(at)));
        let (start, end) = around(now, days);
        let daily = windows(&format!(r#"{{"day": {{"at": "{hour:02}:{minute:02}", "timezone": "{name}"}}}}"#));
        prop_assert_eq!((daily.start(micros(now)), daily.end(micros(now))), (micros(start), micros(end)));

        let months = (-3..=3).map(|months: i32| {
            let number = today.year() * 12 + today.month0().cast_signed() + months;
            let (year, month) = (number.div_euclid(12), number.rem_euclid(12).cast_unsigned() + 1);
            let date = NaiveDate::from_ymd_opt(year, month, day.min(last_of_month(year, month))).expect("a date");
            instant(zone, date.and_time(at))
        });
        let (start, end) = around(now, months);
        let text = format!(r#"{{"month": {{"day": {day}, "at": "{hour:02}:{minute:02}", "timezone": "{name}"}}}}"#);
        let monthly = windows(&text);
        prop_assert_eq!((monthly.start(micros(now)), monthly.end(micros(now))), (micros(start), micros(end)));
        prop_assert_eq!(monthly.start(micros(end)), micros(end));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
