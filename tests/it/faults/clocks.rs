//! Clocks that are stepped, Redis' own and the service's.

use std::time::Duration;

use serde_json::json;

use super::either;
use super::report::{Report, row};
use crate::support::clock::Clock;
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::until;

const LIMIT: u64 = 20;

/// That no window turns under a test is seen to by `row`.
const PERIOD: i64 = 3600;

/// What was denied is held for a second.
const FORGOTTEN: Duration = Duration::from_millis(1100);

const ALGORITHMS: [&str; 4] = ["fixed_window", "sliding_window_log", "sliding_window_counter", "token_bucket"];

struct Watched {
    redis: Clock,
    service: Clock,
    _server: RedisServer,
    quotad: Quotad,
}

/// A tier for each algorithm, named like it.
async fn watched() -> Watched {
    let (redis, service) = (Clock::new(), Clock::new());
    let vars = redis.vars();
    let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = RedisServer::start_in(&[], &vars);
    let start = service.vars().iter().fold(Start::new().redis(&server), |start, (name, value)| start.env(name, value));
    let quotad = start.start().await;
    for algorithm in ALGORITHMS {
        let limit = json!({"name": "l", "algorithm": algorithm, "requests": LIMIT, "period_seconds": PERIOD});
        let tier = json!({"name": algorithm, "limits": [limit], "concurrent_requests": 5, "concurrent_websockets": 5});
        let put = quotad.put(&format!("/api/v2/admin/tiers/{algorithm}"), tier).await;
        assert!([200, 201].contains(&put.status), "{}", put.text);
    }
    let ask = async || (check(&quotad, "probe", "fixed_window").await.1 == "redis").then_some(());
    until(FORGOTTEN * 10, "redis", ask).await;
    Watched { redis, service, _server: server, quotad }
}

/// Whether it was allowed, and who said so.
async fn check(quotad: &Quotad, user: &str, tier: &str) -> (bool, String) {
    let answer = quotad.check(json!({"user_id": user, "tier": tier})).await;
    assert!([200, 429].contains(&answer.status), "{}", answer.text);
    (answer.status == 200, answer.json["source"].as_str().unwrap_or_default().to_owned())
}

impl Watched {
    /// How many units are granted to a user of each tier when more than a limit is asked for; in the order of `ALGORITHMS`.
    async fn granted(&self, user: &str) -> Vec<u64> {
        let mut all = Vec::new();
        for tier in ALGORITHMS {
            let mut granted = 0;
            for _ in 0..LIMIT + 5 {
                granted += u64::from(check(&self.quotad, &format!("{user}-{tier}"), tier).await.0);
            }
            all.push(granted);
        }
        all
    }

    async fn step(&self, clock: &Clock, ahead: i64) {
        clock.set(ahead);
        tokio::time::sleep(FORGOTTEN).await;
        self.quotad.check(json!({"user_id": "probe", "tier": "fixed_window"})).await;
    }
}

/// But for the unit that a bucket may have gained while the test ran.
fn nothing(report: &mut Report, what: &str, granted: &[u64]) {
    let too_much = granted.iter().zip(ALGORITHMS).map(|(units, algorithm)| match algorithm {
        "token_bucket" => units.saturating_sub(1),
        _ => *units,
    });
    report.exactly(&format!("granted {what}"), too_much.sum(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_follows_the_clock_of_redis() {
    let promise = "admission follows Redis' TIME; a step back grants nothing twice";
    row(promise, "Redis' clock stepped, of every algorithm", async |report| {
        let watched = watched().await;
        for round in 0..either(1, 3) {
            let user = format!("u{round}");
            watched.step(&watched.redis, 0).await;
            let first = watched.granted(&user).await;
            report.exactly("granted at first", first.iter().map(|units| (*units).min(LIMIT)).sum(), LIMIT * 4);
            watched.step(&watched.redis, -5).await;
            nothing(report, "5 s back", &watched.granted(&user).await);
            watched.step(&watched.redis, -2 * PERIOD).await;
            nothing(report, "two periods back", &watched.granted(&user).await);
            watched.step(&watched.redis, 2 * PERIOD).await;
            let later = watched.granted(&user).await;
            report.exactly("granted two periods on", later.iter().map(|units| (*units).min(LIMIT)).sum(), LIMIT * 4);
            watched.step(&watched.redis, 2 * PERIOD - 5).await;
            nothing(report, "5 s back again", &watched.granted(&user).await);
            watched.step(&watched.redis, 0).await;
            nothing(report, "back to where it was", &watched.granted(&user).await);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_does_not_follow_the_clock_of_the_service() {
    let promise = "admission follows Redis' TIME; a step back grants nothing twice";
    row(promise, "the service's clock stepped, of every algorithm", async |report| {
        let watched = watched().await;
        for round in 0..either(1, 3) {
            let user = format!("u{round}");
            watched.step(&watched.service, 0).await;
            let first = watched.granted(&user).await;
            report.exactly("granted at first", first.iter().map(|units| (*units).min(LIMIT)).sum(), LIMIT * 4);
            for ahead in [-5, -2 * PERIOD, 2 * PERIOD, 0] {
                watched.step(&watched.service, ahead).await;
                nothing(report, &format!("{ahead:+} s"), &watched.granted(&user).await);
            }
        }
    })
    .await;
}
