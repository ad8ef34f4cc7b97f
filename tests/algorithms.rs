//! Each algorithm against a model written for clarity: every charge is remembered, and what is used is worked out from all
//! of them anew. Random costs, pauses of nothing to years, and limits that change midway.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quotad::domain::cost::{Cost, Items, LIMIT_MAX, Multiplier};
use quotad::domain::decide;
use quotad::domain::decision::{LimitStatus, Violation};
use quotad::domain::limit::{Algorithm, LOG_MAX, Limit, LimitName, Window};
use quotad::domain::plan::Plan;
use quotad::domain::schedule::Windows;
use quotad::domain::state::{Slot, SubjectState};
use quotad::domain::tier::{Tier, TierName};
use quotad::domain::time::{Period, Timestamp};

/// All that was charged, when: microseconds and units.
type Charges = Vec<(i128, u128)>;

fn sum(charges: &Charges, counted: impl Fn(i128) -> bool) -> u128 {
    charges.iter().filter(|(at, _)| counted(*at)).map(|(_, units)| units).sum()
}

/// Fixed window: what was charged since the window began.
fn fixed_window(charges: &Charges, windows: &Windows, now: i128) -> u128 {
    let start = i128::from(windows.start(timestamp(now)).as_micros());
    sum(charges, |at| at >= start)
}

/// Sliding log: what was charged in (now - period, now].
fn sliding_log(charges: &Charges, period: i128, now: i128) -> u128 {
    sum(charges, |at| at > now - period)
}

/// Sliding counter: what was charged in this window, and of what was charged in the one before the part of the window that is
/// left, rounded up.
fn sliding_counter(charges: &Charges, period: i128, now: i128) -> u128 {
    let start = now - now.rem_euclid(period);
    let (previous, current) =
        (sum(charges, |at| (start - period..start).contains(&at)), sum(charges, |at| at >= start));
    let left = u128::try_from(start + period - now).unwrap();
    (previous * left).div_ceil(u128::try_from(period).unwrap()) + current
}

/// Token bucket, in tokens times the period, so that nothing is ever rounded but what is shown.
#[derive(Default)]
struct Bucket {
    missing: i128,
    since: i128,
    /// It is taken for full from then on, whatever the rate has become: the first multiple of the time to fill it that is as
    /// long after the last charge, by the rates at the charges.
    full_by: i128,
}

impl Bucket {
    fn missing(&self, (burst, requests, period): (i128, i128, i128), now: i128) -> i128 {
        if now >= self.full_by {
            return 0;
        }
        (self.missing.min(burst * period) - requests * (now - self.since)).max(0)
    }

    fn charge(&mut self, rate: (i128, i128, i128), units: u128, now: i128) {
        let (burst, requests, period) = rate;
        let fill = (burst * period).div_euclid(requests) + i128::from((burst * period).rem_euclid(requests) > 0);
        self.missing = self.missing(rate, now) + i128::try_from(units).unwrap() * period;
        self.since = now;
        self.full_by = self.full_by.max((now + 2 * fill - 1).div_euclid(fill) * fill);
    }
}

fn timestamp(micros: i128) -> Timestamp {
    Timestamp::from_micros(i64::try_from(micros).unwrap())
}

fn cost(units: u64) -> Cost {
    match units {
        0 => Cost::ZERO,
        _ if units <= Items::MAX => Multiplier::ONE.times(Items::new(units).unwrap()),
        _ => Multiplier::new(units / Items::MAX).unwrap().times(Items::new(Items::MAX).unwrap()),
    }
}

/// A plan of one limit.
fn plan(algorithm: Algorithm, requests: u64) -> Plan {
    let limit = Limit { name: LimitName::hour(), algorithm, requests, enforce: true };
    Plan::of_tier(&Tier { limits: vec![limit], ..Tier::hourly_and_daily(TierName::free(), 0, 0, 1) })
}

fn status(state: &SubjectState, plan: &Plan, now: i128) -> LimitStatus {
    decide::statuses(state, plan, timestamp(now)).remove(0)
}

fn violation(state: &SubjectState, plan: &Plan, units: u64, now: i128) -> Option<Violation> {
    decide::violations(state, plan, cost(units), timestamp(now)).pop()
}

/// Histories for each limit; more on request.
fn cases() -> u32 {
    std::env::var("QUOTAD_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

/// A pause, a cost, and the limit as it is from then on.
type Step = (i64, u64, u64);

fn history(most: u64) -> impl Strategy<Value = (i64, Vec<Step>)> {
    let gap = prop_oneof![
        2 => Just(0_i64),
        3 => 0..5_i64,
        6 => 0..3_000_000_i64,
        6 => 0..60_000_000_i64,
        3 => 0..100_000_000_000_i64,
        1 => 0..400_000_000_000_000_i64,
    ];
    let units = prop_oneof![6 => 0..6_u64, 3 => 0..60_u64, 1 => 1..=LIMIT_MAX];
    let requests = prop_oneof![6 => 1..50_u64, 1 => Just(0), 1 => Just(most), 1 => 1..=most];
    let begun = prop_oneof![0..4_000_000_000_000_000_i64, Just(1_795_766_399_999_999)];
    // A limit changes now and then.
    let step = (gap, units, prop_oneof![5 => Just(None), 1 => requests.clone().prop_map(Some)]);
    (begun, requests, proptest::collection::vec(step, 1..60)).prop_map(|(begun, mut requests, steps)| {
        let step = |(gap, units, changed): (i64, u64, Option<u64>)| {
            requests = changed.unwrap_or(requests);
            (gap, units, requests)
        };
        (begun, steps.into_iter().map(step).collect())
    })
}

/// Plays histories: the same decisions, the same `used`, and of every answer that it is right when it says that there is room
/// again and that the limit is whole again.
fn hold(
    algorithm: impl Fn(u64) -> Algorithm,
    most: u64,
    used: impl Fn(&Charges, &Bucket, u64, i128) -> u128,
    charge_bucket: impl Fn(&mut Bucket, u64, u128, i128),
) {
    let mut runner = TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history(most), |(begun, steps)| {
        let (mut state, mut charges, mut bucket) = (SubjectState::default(), Charges::new(), Bucket::default());
        let mut now = i128::from(begun);
        for (gap, units, requests) in steps {
            now += i128::from(gap);
            let plan = plan(algorithm(requests), requests);
            let limit = plan.limits[0].requests;
            let by_model = |now: i128| used(&charges, &bucket, requests, now);
            let seen = status(&state, &plan, now);
            let agree = |at: i128| u128::from(status(&state, &plan, at).used) == by_model(at);
            prop_assert!(agree(now), "{} and {}", seen.used, by_model(now));
            prop_assert_eq!(seen.remaining(), limit.saturating_sub(seen.used));
            let units = cost(units).units();
            let fits = |now: i128| by_model(now) + u128::from(units) <= u128::from(limit);
            let whole_at = i128::from(seen.reset_at.as_micros());
            if seen.used > 0 {
                prop_assert_eq!(by_model(whole_at), 0, "it is whole when it says");
                prop_assert!(by_model(whole_at - 1) > 0, "and not before");
                prop_assert!(agree(whole_at) && agree(whole_at - 1));
            }
            match violation(&state, &plan, units, now) {
                None => prop_assert!(units == 0 || fits(now)),
                Some(Violation { room_at: None, .. }) => prop_assert!(units > limit),
                Some(Violation { room_at: Some(room_at), .. }) => {
                    let room_at = i128::from(room_at.as_micros());
                    prop_assert!(!fits(now) && units <= limit && room_at > now);
                    prop_assert!(fits(room_at), "there is room when it says");
                    prop_assert!(!fits(room_at - 1), "and not before");
                    prop_assert!(agree(room_at) && agree(room_at - 1));
                    let seconds = (room_at - now + 999_999) / 1_000_000;
                    prop_assert!(fits(now + seconds * 1_000_000), "after Retry-After there is");
                    prop_assert!(!fits(now + (seconds - 1) * 1_000_000), "and a second before there is not");
                }
            }
            if violation(&state, &plan, units, now).is_none() && units > 0 {
                decide::charge(&mut state, &plan, cost(units), timestamp(now));
                charges.push((now, u128::from(units)));
                charge_bucket(&mut bucket, requests, u128::from(units), now);
                let entries: usize = state.logs().iter().map(|log| log.entries().len()).sum();
                prop_assert!(entries as u64 <= limit, "a log never holds more than its limit");
            } else {
                let before = state.clone();
                let _ = status(&state, &plan, now);
                prop_assert_eq!(&state, &before);
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn seconds(seconds: u64) -> Period {
    Period::from_seconds(seconds)
}

fn micros(seconds: u64) -> i128 {
    i128::from(seconds) * 1_000_000
}

#[test]
fn fixed_windows_count_what_was_charged_since_the_window_began() {
    for period in [1, 7, 3600, 31_622_400] {
        let windows = Windows::every(seconds(period));
        hold(
            |_| Algorithm::FixedWindow { period: seconds(period) },
            LIMIT_MAX,
            |charges, _, _, now| fixed_window(charges, &windows, now),
            |_, _, _, _| (),
        );
    }
    for (window, windows) in
        [(Window::Hour, Windows::hours()), (Window::Week, Windows::weeks()), (Window::Month, Windows::months())]
    {
        hold(
            |_| Algorithm::CalendarWindow(window),
            LIMIT_MAX,
            |charges, _, _, now| fixed_window(charges, &windows, now),
            |_, _, _, _| (),
        );
    }
}

#[test]
fn sliding_logs_count_what_was_charged_in_the_last_period() {
    for period in [1, 10, 3600, 31_622_400] {
        hold(
            |_| Algorithm::SlidingWindowLog { period: seconds(period) },
            LOG_MAX,
            |charges, _, _, now| sliding_log(charges, micros(period), now),
            |_, _, _, _| (),
        );
    }
}

#[test]
fn sliding_counters_estimate_what_was_charged_in_the_last_period() {
    for period in [1, 60, 3600, 31_622_400] {
        hold(
            |_| Algorithm::SlidingWindowCounter { period: seconds(period) },
            LIMIT_MAX,
            |charges, _, _, now| sliding_counter(charges, micros(period), now),
            |_, _, _, _| (),
        );
    }
}

#[test]
fn token_buckets_miss_what_was_taken_and_not_gained_since() {
    for (period, burst) in [(1, None), (60, Some(7)), (60, Some(1000)), (31_622_400, None), (31_622_400, Some(1))] {
        let rate = |requests: u64| {
            let full = if requests == 0 { 0 } else { burst.unwrap_or(requests) };
            (i128::from(full), i128::from(requests), micros(period))
        };
        hold(
            |requests| Algorithm::TokenBucket { period: seconds(period), burst: burst.filter(|_| requests > 0) },
            LIMIT_MAX,
            |_, bucket, requests, now| {
                let missing = u128::try_from(bucket.missing(rate(requests), now)).unwrap();
                missing.div_ceil(u128::try_from(micros(period)).unwrap())
            },
            |bucket, requests, units, now| bucket.charge(rate(requests), units, now),
        );
    }
}

/// Whatever stands in a slot and whatever the clock says, an answer is given, and no sum wraps round.
#[test]
fn no_number_is_too_large_for_an_answer() {
    let instant = prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), 0..4_000_000_000_000_000_i64];
    let number = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just((1 << 53) - 1)];
    let algorithm = prop_oneof![
        Just(Algorithm::CalendarWindow(Window::Month)),
        Just(Algorithm::FixedWindow { period: seconds(31_622_400) }),
        Just(Algorithm::SlidingWindowLog { period: seconds(31_622_400) }),
        Just(Algorithm::SlidingWindowCounter { period: seconds(1) }),
        Just(Algorithm::TokenBucket { period: seconds(31_622_400), burst: Some(LIMIT_MAX) }),
        Just(Algorithm::TokenBucket { period: seconds(1), burst: Some(1) }),
    ];
    let question = (algorithm, instant.clone(), instant, (number.clone(), number.clone(), number), 1..=LIMIT_MAX);
    let mut runner = TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&question, |(algorithm, now, whole_at, (a, b, c), units)| {
        let plan = plan(algorithm, 1 + units % LOG_MAX);
        let now = Timestamp::from_micros(now);
        let slot = Slot { id: plan.limits[0].slot, whole_at: Timestamp::from_micros(whole_at), a, b, c };
        let mut state: SubjectState = [slot].into_iter().collect();
        let before = decide::statuses(&state, &plan, now).remove(0);
        prop_assert!(before.reset_at >= now || before.used > 0);
        decide::violations(&state, &plan, cost(units), now);
        decide::charge(&mut state, &plan, cost(units), now);
        decide::charge(&mut state, &plan, cost(units), now);
        let after = decide::statuses(&state, &plan, now).remove(0);
        prop_assert!(
            after.used >= before.used.min((1 << 53) - 1) || after.used >= after.limit,
            "{:?}",
            (before, after)
        );
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
