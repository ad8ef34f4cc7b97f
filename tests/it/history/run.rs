//! Two instances on one Redis, many clients: what they recorded is checked.

use std::time::Instant;

use futures_util::future::join;
use serde_json::{Value, json};

use super::checker::check;
use super::operations;
use super::record::{Algorithm, History, Limit, Operation, Outcome, SECOND, Tier, Window};
use super::recorder::{Recording, user};
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;

const CLIENTS: u32 = 16;

async fn two_instances(redis: &RedisServer, settings: &[(String, u64)]) -> (Quotad, Quotad) {
    let start = Start::new().redis(redis);
    let start = settings.iter().fold(start, |start, (name, value)| start.set(name, &value.to_string()));
    join(start.start(), start.start()).await
}

fn limit(name: &str, algorithm: Algorithm, requests: u64) -> Limit {
    Limit { name: name.into(), algorithm, requests, enforce: true }
}

fn tier(name: &str, limits: Vec<Limit>, slots: u64) -> Tier {
    Tier { name: name.into(), limits, concurrent_requests: slots, concurrent_websockets: slots }
}

/// The windows do not turn, unless the hour does: subjects are used up one after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_redis_keep_the_hour_and_the_day() {
    let reserved = hours_and_days([("free", 150, 1000), ("pro", 1000, 200), ("enterprise", 250, 250)], 12, 60).await;
    assert_eq!(reserved, 0.0, "so little is not reserved");
}

/// The same of subjects so busy that both instances reserve blocks of what they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_redis_keep_the_hour_and_the_day_of_busy_subjects() {
    let limits = [("free", 10_000, 15_000), ("pro", 15_000, 10_000), ("enterprise", 10_000, 10_000)];
    let reserved = hours_and_days(limits, 3, 2200).await;
    assert!(reserved > 0.0, "blocks are put to the test");
}

/// How many units were reserved.
async fn hours_and_days(limits: [(&str, u64, u64); 3], subjects: usize, turnover: usize) -> f64 {
    let redis = RedisServer::start();
    let tiers = limits.map(|(name, hour, day)| {
        let hour = limit("hour", Algorithm::FixedWindow(Window::Hour), hour);
        tier(name, vec![hour, limit("day", Algorithm::FixedWindow(Window::Day), day)], 5)
    });
    let name = |tier: &Tier, limit: &Limit| format!("{}_TIER_LIMIT_{}", tier.name, limit.name).to_uppercase();
    let settings: Vec<(String, u64)> = tiers
        .iter()
        .flat_map(|tier| tier.limits.iter().map(move |limit| (name(tier, limit), limit.requests)))
        .collect();
    let (one, other) = two_instances(&redis, &settings).await;
    let recording = Recording {
        instances: [&one, &other].map(|quotad| quotad.address().to_owned()).to_vec(),
        tiers: tiers.to_vec(),
        clients: CLIENTS,
        operations: operations(),
        subjects,
        turnover: Some(turnover),
        leases: 0,
    };
    keeps_every_promise(recording).await;
    one.metric("quotad_reserved_units_total").await + other.metric("quotad_reserved_units_total").await
}

/// Each algorithm alone and all together, in windows that turn while it runs, and leases.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_on_one_redis_keep_every_algorithm_and_the_slots() {
    let redis = RedisServer::start();
    let tiers = mixed_tiers();
    let (one, other) = two_instances(&redis, &[]).await;
    let subjects = 8 * tiers.len();
    // Each instance has a database of its own, and is told for itself.
    for quotad in [&one, &other] {
        for tier in &tiers {
            let put = quotad.put(&format!("/api/v2/admin/tiers/{}", tier.name), json_of(tier)).await;
            assert!([200, 201].contains(&put.status), "{}: {} {}", tier.name, put.status, put.text);
        }
        // A lease is taken by the tier that the database says.
        for subject in 0..subjects {
            let path = format!("/api/v2/admin/users/{}", user(u32::try_from(subject).expect("a small number")));
            let put = quotad.put(&path, json!({"tier": tiers[subject % tiers.len()].name})).await;
            assert_eq!(put.status, 200, "{}", put.text);
        }
    }
    let recording = Recording {
        instances: [&one, &other].map(|quotad| quotad.address().to_owned()).to_vec(),
        tiers,
        clients: CLIENTS,
        operations: operations(),
        subjects,
        turnover: None,
        leases: 30,
    };
    keeps_every_promise(recording).await;
}

/// Each algorithm alone, and all together.
fn mixed_tiers() -> Vec<Tier> {
    let window = limit("window", Algorithm::FixedWindow(Window::Period(SECOND)), 150);
    let log = limit("log", Algorithm::SlidingLog { period: 2 * SECOND }, 250);
    let counter = limit("counter", Algorithm::SlidingCounter { period: SECOND }, 150);
    // Slow: while a check is under way it gains no whole token.
    let bucket = limit("bucket", Algorithm::TokenBucket { period: 3 * SECOND, burst: 60 }, 30);
    let all = vec![
        limit("window", Algorithm::FixedWindow(Window::Period(3 * SECOND)), 400),
        log.clone(),
        counter.clone(),
        limit("bucket", Algorithm::TokenBucket { period: SECOND, burst: 60 }, 140),
        Limit { enforce: false, ..limit("watched", Algorithm::FixedWindow(Window::Period(SECOND)), 10) },
    ];
    let single = [window, log, counter, bucket].map(|limit| tier(&limit.name.clone(), vec![limit], 3));
    single.into_iter().chain([tier("all", all, 4)]).collect()
}

/// Nothing too much, no wrong denial, of every tier both outcomes, and hardly an operation without a clear one.
async fn keeps_every_promise(recording: Recording) {
    let begun = Instant::now();
    let histories = recording.run().await;
    let recorded_in = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let findings: Vec<_> = histories.iter().map(check).collect();
    let checked_in = begun.elapsed().as_secs_f64();
    let all: usize = histories.iter().map(|history| history.operations.len()).sum();
    println!("{all} operations of {CLIENTS} clients in {recorded_in:.1} s, checked in {checked_in:.2} s");
    for (History { tier, operations }, findings) in histories.iter().zip(&findings) {
        let count = |is: fn(&Operation) -> bool| operations.iter().filter(|operation| is(operation)).count();
        let allowed = count(|operation| operation.outcome == Outcome::Allowed);
        let (denied, gone) = (count(Operation::is_denied), count(|operation| operation.outcome == Outcome::Gone));
        let unclear = count(|operation| matches!(operation.outcome, Outcome::Error | Outcome::Unknown));
        println!(
            "{}: {} operations, {allowed} allowed, {denied} denied, {gone} gone, {unclear} unclear, {} findings",
            tier.name,
            operations.len(),
            findings.len(),
        );
        findings.iter().take(10).for_each(|finding| println!("  {finding}"));
        assert!(allowed > 0 && denied > 0, "{} is not put to the test", tier.name);
        assert!(unclear * 100 <= operations.len(), "{unclear} operations of {} are unclear", tier.name);
    }
    assert!(findings.iter().all(Vec::is_empty), "not every promise was kept");
}

/// As `PUT /api/v2/admin/tiers/{name}` takes it.
fn json_of(tier: &Tier) -> Value {
    let limits: Vec<Value> = tier.limits.iter().map(json_of_limit).collect();
    json!({
        "name": tier.name,
        "limits": limits,
        "concurrent_requests": tier.concurrent_requests,
        "concurrent_websockets": tier.concurrent_websockets,
    })
}

fn json_of_limit(limit: &Limit) -> Value {
    let calendar = |name: &str| ("window", json!(name));
    let seconds = |period| ("period_seconds", json!(period / SECOND));
    let (algorithm, (field, window)) = match limit.algorithm {
        Algorithm::FixedWindow(Window::Hour) => ("fixed_window", calendar("hour")),
        Algorithm::FixedWindow(Window::Day) => ("fixed_window", calendar("day")),
        Algorithm::FixedWindow(Window::Week) => ("fixed_window", calendar("week")),
        Algorithm::FixedWindow(Window::Month) => ("fixed_window", calendar("month")),
        Algorithm::FixedWindow(Window::Period(period)) => ("fixed_window", seconds(period)),
        Algorithm::SlidingLog { period } => ("sliding_window_log", seconds(period)),
        Algorithm::SlidingCounter { period } => ("sliding_window_counter", seconds(period)),
        Algorithm::TokenBucket { period, .. } => ("token_bucket", seconds(period)),
    };
    let mut json = json!({"name": limit.name, "algorithm": algorithm, "requests": limit.requests});
    json[field] = window;
    if let Algorithm::TokenBucket { burst, .. } = limit.algorithm {
        json["burst"] = json!(burst);
    }
    if !limit.enforce {
        json["enforce"] = json!(false);
    }
    json
}
