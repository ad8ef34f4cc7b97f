//! `kill -9` under load.

use std::time::{Duration, Instant};

use super::answers::Source;
use super::load::Load;
use super::place::{BACK, back_on_redis, charged_exactly, unlimited, well};
use super::report::{Bound, Report, row};
use super::{deadline_ms, either, over_the_deadline, start_within_deadline};
use crate::support::quotad::Start;
use crate::support::redis_server::RedisServer;

const USERS: u32 = 20;

/// `keeps`: whether it still has its data when it comes back.
async fn killed(report: &mut Report, keeps: bool) {
    let arguments: &[&str] = if keeps { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
    let mut redis = RedisServer::start_with(arguments);
    let quotad = start_within_deadline(unlimited(Start::new().redis(&redis))).start().await;
    back_on_redis(&quotad, USERS, Instant::now()).await;
    let load = Load::of(8).for_users(USERS);
    let mut slowest_back: f64 = 0.0;
    let (answers, phases) = load
        .during(&[&quotad], async |running| {
            let mut phases = Vec::new();
            for _ in 0..either(2, 10) {
                running.more(400).await;
                let killed = Instant::now();
                redis.kill();
                running.more_by_fallback(either(200, 1500)).await;
                assert_eq!(quotad.get("/health").await.json["fallback_active"], true);
                redis.start_again();
                let up = Instant::now();
                slowest_back = slowest_back.max(back_on_redis(&quotad, USERS, up).await);
                phases.push((killed, up));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            phases
        })
        .await;
    report.exactly("checks failed", answers.failed(), 0);
    over_the_deadline(report, &answers);
    let open = answers.by(Source::Fallback).only(|answered| {
        let settled = |killed: Instant| killed + Duration::from_millis(u64::from(deadline_ms()));
        phases.iter().any(|(killed, up)| (settled(*killed)..*up).contains(&answered.at))
    });
    let above = open.median_ms() - answers.by(Source::Redis).median_ms();
    report.at_most("median without Redis, above that with it", above, "ms", Bound { short: 500.0, full: 1.0 });
    report.at_most("back on Redis after", slowest_back, "ms", BACK);
    charged_exactly(report, &quotad, &answers).await;
    let history = quotad.get(&format!("/api/v2/admin/quotas/{}/history", super::load::name(0))).await;
    assert_eq!(history.json["items"][0]["requests"], answers.of(0).allowed());
    well(&quotad).await;
}

const PROMISE: &str = "checks go on within the deadline; back within a second; all is charged once";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_under_load_and_comes_back_with_its_data() {
    row(PROMISE, "kill -9 under load, again and again; it keeps its data", async |report| killed(report, true).await)
        .await;
}

/// What Redis had counted is gone with it, and known to the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_under_load_and_comes_back_empty() {
    row(PROMISE, "kill -9 under load, again and again; it comes back empty", async |report| {
        killed(report, false).await
    })
    .await;
}
