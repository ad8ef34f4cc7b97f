//! Small histories written by hand: where exactly the checker draws the line.

use super::checker::{Fault, check};
use super::record::{Algorithm, History, Kind, Lease, Limit, Micros, Operation, Outcome, SECOND, Slot, Tier, Window};

/// The start of a minute.
const EPOCH: Micros = 1_795_766_400 * SECOND;

fn at(asked: Micros, answered: Micros, kind: Kind, outcome: Outcome) -> Operation {
    Operation { client: 0, subject: 0, kind, asked: EPOCH + asked, answered: EPOCH + answered, outcome }
}

fn check_of(cost: u64) -> Kind {
    Kind::Check { cost, lease: None }
}

fn allowed(asked: Micros, answered: Micros, cost: u64) -> Operation {
    at(asked, answered, check_of(cost), Outcome::Allowed)
}

fn denial(names: &[&str]) -> Outcome {
    let violated: Vec<_> = names.iter().map(|name| (*name).into()).collect();
    Outcome::Denied { denied_by: violated.first().cloned().unwrap_or_default(), violated }
}

fn denied(asked: Micros, answered: Micros, cost: u64) -> Operation {
    at(asked, answered, check_of(cost), denial(&["rate"]))
}

/// What is found under one limit of ten in a window of a second, and two slots.
fn faults(algorithm: Algorithm, operations: Vec<Operation>) -> Vec<Fault> {
    let limits = vec![Limit { name: "rate".into(), algorithm, requests: 10, enforce: true }];
    let tier = Tier { name: "test".into(), limits, concurrent_requests: 2, concurrent_websockets: 2 };
    check(&History { tier, operations }).into_iter().map(|finding| finding.fault).collect()
}

fn assert_clean(algorithm: Algorithm, operations: Vec<Operation>) {
    let faults = faults(algorithm, operations);
    assert!(faults.is_empty(), "{faults:?}");
}

fn assert_too_much(algorithm: Algorithm, operations: Vec<Operation>, used: u64) {
    let faults = faults(algorithm, operations);
    assert!(matches!(&faults[..], [Fault::TooMuch(overrun)] if overrun.used == used), "{faults:?}");
}

fn assert_wrong_denial(algorithm: Algorithm, operations: Vec<Operation>, most_used: u64) {
    let faults = faults(algorithm, operations);
    assert!(matches!(&faults[..], [Fault::Denied { used, .. }] if *used == most_used), "{faults:?}");
}

const WINDOW: Algorithm = Algorithm::FixedWindow(Window::Period(SECOND));
const LOG: Algorithm = Algorithm::SlidingLog { period: SECOND };
const COUNTER: Algorithm = Algorithm::SlidingCounter { period: SECOND };
const BUCKET: Algorithm = Algorithm::TokenBucket { period: SECOND, burst: 10 };

#[test]
fn a_fixed_window_holds_its_limit_from_its_first_instant_to_its_last() {
    assert_clean(WINDOW, vec![allowed(0, 5, 4), allowed(3, SECOND - 1, 6), allowed(SECOND, SECOND, 10)]);
    assert_too_much(WINDOW, vec![allowed(0, 5, 4), allowed(3, SECOND - 1, 7)], 11);
    assert_clean(WINDOW, vec![allowed(0, 5, 4), allowed(3, SECOND, 7)]);
    assert_wrong_denial(WINDOW, vec![allowed(0, 5, 4), denied(9, 10, 6)], 4);
    assert_clean(WINDOW, vec![allowed(0, 5, 4), denied(9, 10, 7)]);
    assert_clean(WINDOW, vec![denied(0, 5, 7), allowed(5, 9, 4)]);
    assert_wrong_denial(WINDOW, vec![denied(0, 5, 7), allowed(6, 9, 4)], 0);
    assert_wrong_denial(WINDOW, vec![allowed(0, 5, 10), denied(SECOND, SECOND, 1)], 0);
    assert_clean(WINDOW, vec![allowed(0, 5, 10), denied(SECOND - 1, SECOND, 1)]);
}

#[test]
fn a_sliding_log_forgets_after_a_whole_period() {
    assert_clean(LOG, vec![allowed(5, 5, 10), allowed(SECOND + 5, SECOND + 5, 10)]);
    assert_too_much(LOG, vec![allowed(5, 5, 10), allowed(SECOND, SECOND + 4, 1)], 11);
    assert_clean(LOG, vec![allowed(5, 5, 10), denied(SECOND, SECOND + 4, 1)]);
    assert_wrong_denial(LOG, vec![allowed(5, 5, 10), denied(SECOND + 5, SECOND + 5, 1)], 0);
    assert_clean(LOG, vec![allowed(5, 6, 10), denied(SECOND + 5, SECOND + 5, 1)]);
}

#[test]
fn a_sliding_counter_weighs_the_window_before() {
    // Half of the window is left, and half of what was before counts.
    let half = SECOND + SECOND / 2;
    assert_clean(COUNTER, vec![allowed(5, 9, 10), allowed(half - 4, half, 5)]);
    assert_too_much(COUNTER, vec![allowed(5, 9, 10), allowed(half - 4, half, 6)], 11);
    assert_too_much(COUNTER, vec![allowed(5, 9, 10), allowed(half - 4, half - 1, 5)], 11);
    assert_wrong_denial(COUNTER, vec![allowed(5, 9, 10), denied(half, half + 4, 5)], 5);
    assert_clean(COUNTER, vec![allowed(5, 9, 10), denied(half - 1, half + 4, 5)]);
    assert_wrong_denial(COUNTER, vec![allowed(5, 9, 10), denied(2 * SECOND, 2 * SECOND, 10)], 0);
}

#[test]
fn a_token_bucket_is_refilled_to_the_microsecond() {
    let token = SECOND / 10;
    assert_clean(BUCKET, vec![allowed(0, 0, 10), allowed(3 * token, 3 * token, 3)]);
    assert_too_much(BUCKET, vec![allowed(0, 0, 10), allowed(token, 3 * token - 1, 3)], 13);
    assert_clean(BUCKET, vec![allowed(0, 0, 10), denied(2 * token, 3 * token - 1, 3)]);
    assert_wrong_denial(BUCKET, vec![allowed(0, 0, 10), denied(3 * token, 3 * token, 3)], 7);
    // It does not fill above its burst.
    let later = 60 * SECOND;
    assert_too_much(BUCKET, vec![allowed(0, 0, 1), allowed(later, later, 10), allowed(later, later + 9, 1)], 11);
    // A slow charge around all of it hides nothing.
    assert_too_much(BUCKET, vec![allowed(0, later, 1), allowed(9, 9, 10), allowed(9, 10, 1)], 11);
}

#[test]
fn what_may_have_been_charged_excuses_a_denial_and_is_no_overrun() {
    for algorithm in [WINDOW, LOG, COUNTER, BUCKET] {
        let error = || at(0, 1, check_of(4), Outcome::Error);
        assert_clean(algorithm, vec![error(), allowed(2, 3, 10)]);
        assert_clean(algorithm, vec![error(), denied(2, 3, 7)]);
        assert_wrong_denial(algorithm, vec![error(), denied(2, 3, 6)], 4);
        let unknown = || at(0, 1, check_of(4), Outcome::Unknown);
        assert_clean(algorithm, vec![unknown(), denied(9 * SECOND, 9 * SECOND, 7)]);
        assert_wrong_denial(algorithm, vec![unknown(), denied(9 * SECOND, 9 * SECOND, 6)], 4);
        assert_clean(algorithm, vec![denied(2, 3, 11)]);
    }
}

#[test]
fn a_denial_names_what_can_have_denied_it() {
    let misnamed = |kind: Kind, names: &[&str]| {
        let faults = faults(WINDOW, vec![allowed(0, 0, 10), at(1, 2, kind, denial(names))]);
        matches!(&faults[..], [Fault::Misnamed { .. }, ..])
    };
    assert!(!misnamed(check_of(1), &["rate"]));
    assert!(misnamed(check_of(0), &["rate"]), "a cost of 0 is never denied by a rate");
    assert!(misnamed(check_of(1), &["day"]));
    assert!(misnamed(check_of(1), &[]));
    assert!(misnamed(check_of(1), &["rate", "concurrent_requests"]), "it took no lease");
}

#[test]
fn a_limit_that_is_not_enforced_never_denies_and_is_never_exceeded() {
    let limits = vec![Limit { name: "rate".into(), algorithm: WINDOW, requests: 10, enforce: false }];
    let tier = Tier { name: "test".into(), limits, concurrent_requests: 0, concurrent_websockets: 0 };
    let history = History { tier, operations: vec![allowed(0, 1, 11), denied(2, 3, 1)] };
    let findings = check(&history);
    assert!(matches!(&findings[..], [finding] if matches!(finding.fault, Fault::Misnamed { .. })), "{findings:?}");
}

fn take(number: u64, asked: Micros, answered: Micros, outcome: Outcome) -> Operation {
    let lease = Lease { number, slot: Slot::Request, ttl: SECOND };
    at(asked, answered, Kind::Check { cost: 0, lease: Some(lease) }, outcome)
}

fn release(lease: u64, asked: Micros, answered: Micros, outcome: Outcome) -> Operation {
    at(asked, answered, Kind::Release { lease }, outcome)
}

fn renew(lease: u64, asked: Micros, answered: Micros, ttl: Micros) -> Operation {
    at(asked, answered, Kind::Renewal { lease, ttl }, Outcome::Allowed)
}

fn slot_denied(asked: Micros, answered: Micros) -> Operation {
    take(99, asked, answered, denial(&["concurrent_requests"]))
}

#[test]
fn a_lease_is_live_from_its_answer_until_it_is_released_renewed_or_run_out() {
    let two = || vec![take(1, 0, 10, Outcome::Allowed), take(2, 0, 10, Outcome::Allowed)];
    let with = |more: Vec<Operation>| two().into_iter().chain(more).collect::<Vec<_>>();
    let third = |asked, answered| take(3, asked, answered, Outcome::Allowed);
    assert_too_much(WINDOW, with(vec![third(20, SECOND - 1)]), 3);
    assert_clean(WINDOW, with(vec![third(20, SECOND)]));
    assert_clean(WINDOW, with(vec![release(1, 15, 16, Outcome::Allowed), third(14, 15)]));
    assert_clean(WINDOW, with(vec![release(1, 15, 16, Outcome::Unknown), third(20, 25)]));
    assert_too_much(WINDOW, with(vec![release(1, 16, 17, Outcome::Allowed), third(14, 15)]), 3);
    let later = 2 * SECOND;
    assert_too_much(WINDOW, with(vec![renew(1, 20, 30, later), renew(2, 20, 30, later), third(later, later)]), 3);
    assert_clean(WINDOW, with(vec![renew(1, 20, 30, 50), third(70, 80)]));

    assert_clean(WINDOW, with(vec![slot_denied(SECOND, SECOND + 10)]));
    assert_wrong_denial(WINDOW, with(vec![slot_denied(SECOND + 11, SECOND + 12)]), 0);
    assert_clean(WINDOW, with(vec![release(1, 15, 20, Outcome::Allowed), slot_denied(20, 21)]));
    assert_wrong_denial(WINDOW, with(vec![release(1, 15, 20, Outcome::Allowed), slot_denied(21, 22)]), 1);
    assert_clean(WINDOW, with(vec![release(1, 15, 20, Outcome::Unknown), slot_denied(21, 22)]));
    let renewed = || renew(1, 20, 30, later);
    assert_wrong_denial(WINDOW, with(vec![renewed(), slot_denied(SECOND + 11, SECOND + 12)]), 1);
}

#[test]
fn a_live_lease_that_is_said_to_be_gone_is_lost() {
    let gone = |asked, answered| release(1, asked, answered, Outcome::Gone);
    let lost = |more: Vec<Operation>| {
        let operations = [take(1, 0, 10, Outcome::Allowed)].into_iter().chain(more).collect();
        matches!(&faults(WINDOW, operations)[..], [Fault::Lost { .. }])
    };
    assert!(lost(vec![gone(20, SECOND - 1)]));
    assert!(!lost(vec![gone(20, SECOND)]), "it may have run out");
    assert!(!lost(vec![release(1, 12, 13, Outcome::Allowed), gone(20, 30)]));
    assert!(!lost(vec![release(1, 12, 13, Outcome::Unknown), gone(20, 30)]));
}

#[test]
fn windows_of_the_calendar_turn_where_the_calendar_does() {
    let micros = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_microsecond();
    for (window, now, start, end) in [
        (Window::Hour, "2026-11-23T07:59:59.999999Z", "2026-11-23T07:00:00Z", "2026-11-23T08:00:00Z"),
        (Window::Day, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
        (Window::Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        (Window::Week, "1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"),
        (Window::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Window::Month, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        (Window::Period(7 * SECOND), "1970-01-01T00:00:08Z", "1970-01-01T00:00:07Z", "1970-01-01T00:00:14Z"),
    ] {
        assert_eq!(window.around(micros(now)), (micros(start), micros(end)), "{window:?} {now}");
    }
}
