//! The checker itself: it passes what a right limiter did, catches each bug that is planted in one, and is quick.

use std::time::Instant;

use super::checker::{Fault, Finding, check};
use super::dice::Dice;
use super::limiter::Bug;
use super::operations;
use super::record::{Algorithm, Limit, Micros, SECOND, Tier, Window};
use super::world::World;

/// How many histories each bug must be caught in, of every algorithm.
const SEEDS: u64 = 20;

fn limit(name: &str, algorithm: Algorithm, requests: u64) -> Limit {
    Limit { name: name.into(), algorithm, requests, enforce: true }
}

fn tier(limits: Vec<Limit>, slots: u64) -> Tier {
    Tier { name: "test".into(), limits, concurrent_requests: slots, concurrent_websockets: slots }
}

fn algorithms(period: Micros, burst: u64) -> [Algorithm; 4] {
    [
        Algorithm::FixedWindow(Window::Period(period)),
        Algorithm::SlidingLog { period },
        Algorithm::SlidingCounter { period },
        Algorithm::TokenBucket { period, burst },
    ]
}

fn is_too_much(finding: &Finding) -> bool {
    matches!(finding.fault, Fault::TooMuch(_))
}

fn is_wrong_denial(finding: &Finding) -> bool {
    matches!(finding.fault, Fault::Denied { .. })
}

/// Every history of these worlds must show the sign.
fn is_caught(worlds: impl Iterator<Item = World>, sign: fn(&Finding) -> bool) {
    for world in worlds {
        let findings = check(&world.play());
        assert!(findings.iter().any(sign), "not caught: {world:?}: {} other findings", findings.len());
    }
}

/// Twenty units a second, by each algorithm.
fn busy(bug: Bug) -> impl Iterator<Item = World> {
    (0..SEEDS).flat_map(move |seed| {
        algorithms(SECOND, 20)
            .map(|algorithm| World::busy(tier(vec![limit("rate", algorithm, 20)], 0), seed, Some(bug)))
    })
}

/// Leases alone, four slots of each kind.
fn slots(bug: Bug) -> impl Iterator<Item = World> {
    (0..SEEDS).map(move |seed| World { leases: 100, ..World::busy(tier(Vec::new(), 4), seed, Some(bug)) })
}

#[test]
fn a_right_limiter_is_passed() {
    let (mut histories, mut operations, mut denied) = (0, 0, 0);
    for seed in 0..150 {
        let mut dice = Dice::new(seed);
        let period = dice.between(SECOND / 5, 3 * SECOND);
        let burst = dice.between(1, 40).cast_unsigned();
        let requests = dice.between(0, 40).cast_unsigned();
        let algorithms = algorithms(period, burst).map(|algorithm| limit("rate", algorithm, requests));
        let mut mixed: Vec<Limit> = algorithms
            .iter()
            .zip(["window", "log", "counter", "bucket"])
            .map(|(rate, name)| Limit { name: name.into(), enforce: dice.percent(80), ..rate.clone() })
            .collect();
        mixed.push(limit("hour", Algorithm::FixedWindow(Window::Hour), 500));
        for limits in algorithms.into_iter().map(|limit| vec![limit]).chain([mixed]) {
            let world = World {
                tier: tier(limits, dice.between(0, 6).cast_unsigned()),
                seed,
                clients: dice.between(1, 20) as u32,
                subjects: dice.between(1, 3) as u32,
                operations: 500,
                latency: [1_000, 20_000, 200_000, 5_000_000][dice.below(4)],
                rest: [0, 50_000, 1_000_000][dice.below(3)],
                largest_cost: dice.between(1, 8),
                leases: [0, 50][dice.below(2)],
                trouble: [0, 2, 20][dice.below(3)],
                outages: dice.percent(50),
                bug: None,
            };
            let history = world.play();
            let findings = check(&history);
            assert!(findings.is_empty(), "{}\n{} in {world:?}", findings[0], findings.len());
            histories += 1;
            operations += history.operations.len();
            denied += history.operations.iter().filter(|operation| operation.is_denied()).count();
        }
    }
    println!("{histories} histories, {operations} operations, {denied} denied");
    assert!(
        denied > operations / 10 && denied < operations * 9 / 10,
        "both outcomes are seen: {denied} of {operations}"
    );
}

#[test]
fn get_then_incr_is_caught() {
    is_caught(busy(Bug::GetThenIncr), is_too_much);
}

#[test]
fn charge_on_deny_is_caught() {
    is_caught(busy(Bug::ChargeOnDeny), is_wrong_denial);
}

#[test]
fn retry_after_timeout_is_caught() {
    is_caught(busy(Bug::RetryAfterTimeout), is_wrong_denial);
}

#[test]
fn local_clock_is_caught() {
    is_caught(busy(Bug::LocalClock), is_too_much);
}

#[test]
fn stale_denial_is_caught() {
    is_caught(busy(Bug::StaleDenial), is_wrong_denial);
}

#[test]
fn off_by_one_is_caught() {
    is_caught(busy(Bug::OffByOne), is_too_much);
    is_caught(slots(Bug::OffByOne), is_too_much);
}

/// The limit must not be used up while the store is away: what is then added once more changes nothing.
#[test]
fn double_reconcile_is_caught() {
    let worlds = busy(Bug::DoubleReconcile).map(|world| World { outages: true, rest: SECOND, ..world });
    is_caught(worlds, is_wrong_denial);
}

/// What the tight limit denies is charged to the wide one, which then denies too early.
#[test]
fn all_or_nothing_broken_is_caught() {
    let worlds = (0..SEEDS).flat_map(|seed| {
        algorithms(SECOND, 40).map(|algorithm| {
            let tight = limit("tight", Algorithm::FixedWindow(Window::Period(SECOND / 2)), 5);
            let limits = vec![tight, limit("wide", algorithm, 40)];
            World::busy(tier(limits, 0), seed, Some(Bug::AllOrNothingBroken))
        })
    });
    is_caught(worlds, |finding| finding.limit == "wide" && is_wrong_denial(finding));
}

#[test]
fn a_release_that_frees_another_is_caught() {
    is_caught(slots(Bug::ReleaseFreesAnother), |finding| matches!(finding.fault, Fault::Lost { .. }));
    is_caught(slots(Bug::ReleaseFreesAnother), is_wrong_denial);
}

#[test]
fn a_release_twice_that_frees_two_is_caught() {
    is_caught(slots(Bug::ReleaseTwiceFreesTwo), is_too_much);
}

#[test]
fn an_expired_lease_that_is_not_freed_is_caught() {
    is_caught(slots(Bug::ExpiredNotFreed), is_wrong_denial);
}

/// A thousand subjects, or one that all clients ask for.
#[test]
fn a_long_history_is_checked_in_seconds() {
    for (subjects, rest) in [(1000, SECOND), (1, SECOND / 2)] {
        for algorithm in algorithms(SECOND, 20) {
            let limits = vec![limit("rate", algorithm, 20), limit("hour", Algorithm::FixedWindow(Window::Hour), 2000)];
            let world = World {
                clients: if subjects == 1 { 16 } else { 16_000 },
                subjects,
                operations: operations(),
                rest,
                leases: 30,
                trouble: 1,
                ..World::busy(tier(limits, 20), 1, None)
            };
            let history = world.play();
            let begun = Instant::now();
            let findings = check(&history);
            let seconds = begun.elapsed().as_secs_f64();
            let (asked, denied) =
                (history.operations.len(), history.operations.iter().filter(|o| o.is_denied()).count());
            println!(
                "{subjects} subjects, {algorithm:?}: {asked} operations, {denied} denied, checked in {seconds:.2} s"
            );
            assert!(findings.is_empty(), "{}", findings[0]);
            assert!(seconds < 60.0);
        }
    }
}
