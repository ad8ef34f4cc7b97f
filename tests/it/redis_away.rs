//! Redis is killed, frozen or absent: checks go on, and what was granted meanwhile is charged when it is back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::answer::Answer;
use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::{in_one_hour, until};

/// Back within a second of Redis being up; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// With SQLite of its own. A killed Redis is noticed at once; only a frozen one, or load, is left to the deadline.
fn service(redis: &RedisServer) -> Start {
    Start::new().redis(redis).set("FREE_TIER_LIMIT_DAY", "1000000").set("RESERVED_BLOCKS", "false")
}

async fn source(quotad: &Quotad) -> String {
    let answer = quotad.check(json!({"user_id": "probe", "dry_run": true})).await;
    answer.json["source"].as_str().unwrap_or_default().to_owned()
}

/// Until checks are answered by `expected`; says how long that took.
async fn answered_by(quotad: &Quotad, expected: &str) -> Duration {
    let ask = async || (source(quotad).await == expected).then_some(());
    until(BACK_WITHIN, expected, ask).await.1
}

/// What Redis itself has charged a user this hour. While the user's shard decides without Redis there is no telling:
/// shards come back one by one, and until then each shows what it counted alone.
async fn charged(quotad: &Quotad, user: &str) -> Option<u64> {
    let answer = quotad.check(json!({"user_id": user, "endpoint": "/ws", "dry_run": true})).await;
    (answer.json["source"] == "redis").then(|| answer.used("hour"))
}

/// Callers ask for `u` without a pause while Redis is killed and comes back.
/// `keeps`: whether it still has its data then.
async fn killed_under_load(keeps: bool) {
    let arguments: &[&str] = if keeps { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] };
    let mut redis = RedisServer::start_with(arguments);
    let start = service(&redis).set("FREE_TIER_LIMIT_HOUR", "1000000").set("REDIS_DEADLINE_MS", "50");
    let quotad = start.start().await;
    answered_by(&quotad, "redis").await;
    let (allowed, by_fallback, ended) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let caller = async || {
        while !ended.load(Ordering::Relaxed) {
            let answer = quotad.check(json!({"user_id": "u"})).await;
            assert_eq!(answer.status, 200, "nobody is refused for it: {}", answer.text);
            allowed.fetch_add(1, Ordering::Relaxed);
            by_fallback.fetch_add(u64::from(answer.json["source"] == "fallback"), Ordering::Relaxed);
        }
    };
    let above = async |count: &AtomicU64, least: u64| {
        let ask = async || (count.load(Ordering::Relaxed) >= least).then_some(());
        until(Duration::from_secs(10), "load", ask).await;
    };
    let script = async {
        above(&allowed, 100).await;
        redis.kill();
        above(&by_fallback, 100).await;
        assert_eq!(quotad.get("/health").await.json["fallback_active"], true);
        redis.start_again();
        let up = Instant::now();
        answered_by(&quotad, "redis").await;
        println!("back on redis {} ms after it was up", up.elapsed().as_millis());
        let before = allowed.load(Ordering::Relaxed);
        above(&allowed, before + 100).await;
        ended.store(true, Ordering::Relaxed);
    };
    futures_util::future::join(join_all((0..8).map(|_| caller())), script).await;
    let (allowed, by_fallback) = (allowed.into_inner(), by_fallback.into_inner());
    let least = if keeps { allowed } else { by_fallback };
    let settled = async || charged(&quotad, "u").await.filter(|used| (least..=allowed).contains(used));
    until(BACK_WITHIN, "what was allowed is charged", settled).await;
    let history = quotad.get("/api/v2/admin/quotas/u/history").await;
    assert_eq!(history.json["items"][0]["requests"], allowed);
    until(BACK_WITHIN, "all is well", async || {
        (quotad.get("/health").await.json["fallback_active"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redis_is_killed_under_load_and_comes_back_with_its_data() {
    in_one_hour(|| killed_under_load(true)).await;
}

/// What Redis had counted is gone with it; what was granted without it is not.
#[tokio::test]
async fn redis_is_killed_under_load_and_comes_back_empty() {
    in_one_hour(|| killed_under_load(false)).await;
}

/// A frozen Redis answers nothing and refuses nothing: the deadline decides.
#[tokio::test]
async fn redis_freezes_and_goes_on() {
    in_one_hour(|| async {
        let redis = RedisServer::start();
        let start = service(&redis).set("FREE_TIER_LIMIT_HOUR", "100000").set("REDIS_DEADLINE_MS", "100");
        let quotad = start.start().await;
        let mut allowed: u64 = 0;
        let mut ask = async || {
            allowed += 1;
            let begun = Instant::now();
            let answer = quotad.check(json!({"user_id": "u"})).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            (answer, begun.elapsed())
        };
        for _ in 0..20 {
            ask().await;
        }
        redis.stop();
        for _ in 0..20 {
            let (answer, took) = ask().await;
            assert_eq!(answer.json["source"], "fallback");
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        redis.cont();
        answered_by(&quotad, "redis").await;
        ask().await;
        let exact = async || charged(&quotad, "u").await.filter(|used| *used == allowed);
        until(BACK_WITHIN, "each is charged once", exact).await;
    })
    .await;
}

#[tokio::test]
async fn the_fallback_grants_what_was_left_and_no_more() {
    in_one_hour(|| async {
        let mut redis = RedisServer::start();
        let quotad = service(&redis).set("FREE_TIER_LIMIT_HOUR", "10").start().await;
        for _ in 0..4 {
            assert_eq!(quotad.check(json!({"user_id": "u"})).await.json["source"], "redis");
        }
        redis.kill();
        let mut answers: Vec<Answer> = Vec::new();
        for _ in 0..8 {
            answers.push(quotad.check(json!({"user_id": "u"})).await);
        }
        assert!(
            answers.iter().all(|answer| ["fallback", "cache"].contains(&answer.json["source"].as_str().unwrap_or("")))
        );
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
        assert!(answers[7].number("retry-after") >= 1);
    })
    .await;
}

#[tokio::test]
async fn an_instance_grants_its_share_alone() {
    in_one_hour(|| async {
        let mut redis = RedisServer::start();
        let quotad = service(&redis).set("FREE_TIER_LIMIT_HOUR", "10").set("FALLBACK_SHARE", "0.5").start().await;
        redis.kill();
        let mut statuses = Vec::new();
        for _ in 0..7 {
            statuses.push(quotad.check(json!({"user_id": "unknown"})).await.status);
        }
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    })
    .await;
}

#[tokio::test]
async fn the_fallback_denies_or_allows_where_it_is_set_to() {
    for (mode, status) in [("deny", 503), ("allow", 200)] {
        let mut redis = RedisServer::start();
        let start = service(&redis).set("FREE_TIER_LIMIT_HOUR", "2").set("RATE_LIMIT_FALLBACK", mode);
        let quotad = start.start().await;
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
        redis.kill();
        for _ in 0..5 {
            let answer = quotad.check(json!({"user_id": "u"})).await;
            assert_eq!(answer.status, status, "{mode}: {}", answer.text);
            if status == 503 {
                crate::errors::assert_problem(&answer, 503);
                assert!(answer.number("retry-after") >= 1);
            } else {
                assert_eq!(answer.json["source"], "fallback");
            }
        }
        redis.start_again();
        let back = async || (quotad.check(json!({"user_id": "other"})).await.json["source"] == "redis").then_some(());
        until(BACK_WITHIN, "back", back).await;
    }
}

#[tokio::test]
async fn without_redis_it_starts_says_so_and_heals() {
    let mut redis = RedisServer::start();
    redis.kill();
    let quotad = service(&redis).start().await;
    let answer = quotad.check(json!({"user_id": "u"})).await;
    assert_eq!((answer.status, answer.json["source"].as_str()), (200, Some("fallback")), "{}", answer.text);
    let health = quotad.get("/health").await;
    assert_eq!((&health.json["status"], &health.json["fallback_active"]), (&json!("degraded"), &json!(true)));
    assert_eq!(quotad.get("/health/ready").await.status, 200, "it does answer");
    redis.start_again();
    answered_by(&quotad, "redis").await;
    until(BACK_WITHIN, "ok", async || (quotad.get("/health").await.json["status"] == "ok").then_some(())).await;
    let paid = async || charged(&quotad, "u").await.filter(|used| *used == 1);
    until(BACK_WITHIN, "the grant is charged", paid).await;
}

/// One check may wait, and a frozen Redis holds it: the others are told to come again.
#[tokio::test]
async fn a_full_mailbox_is_503_and_recovers() {
    let redis = RedisServer::start();
    let start = service(&redis).set("SHARDS", "1").set("SHARD_MAILBOX", "1").set("REDIS_DEADLINE_MS", "500");
    let start = start.set("FREE_TIER_LIMIT_HOUR", "1000");
    let quotad = start.start().await;
    assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
    redis.stop();
    let bodies = (0..40).map(|n| json!({"user_id": n.to_string()}));
    let answers = join_all(bodies.map(|body| quotad.check(body))).await;
    let overloaded: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!overloaded.is_empty() && overloaded.len() < answers.len(), "{} of 40", overloaded.len());
    assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)));
    for answer in overloaded {
        crate::errors::assert_problem(answer, 503);
        assert!(answer.number("retry-after") >= 1);
    }
    redis.cont();
    answered_by(&quotad, "redis").await;
    // An answer gives its place back before the caller can ask again: one after another is never too many.
    for _ in 0..200 {
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

/// A password, and a user of an access list; with a wrong one Redis is as good as away.
#[cfg(not(feature = "actix-redis"))]
#[tokio::test]
async fn redis_may_ask_for_a_login() {
    let redis = RedisServer::start_with(&["--user", "ann", "on", ">let-me-in", "~*", "&*", "+@all"]);
    let start = service(&redis).set("REDIS_USERNAME", "ann");
    let quotad = start.clone().set("REDIS_PASSWORD", "let-me-in").start().await;
    answered_by(&quotad, "redis").await;
    let stranger = start.set("REDIS_PASSWORD", "let-me-out").start().await;
    let answer = stranger.check(json!({"user_id": "u"})).await;
    assert_eq!((answer.status, answer.json["source"].as_str()), (200, Some("fallback")));
    assert!(!stranger.log().contains("let-me"), "{}", stranger.log());
    let redis = RedisServer::start_with(&["--requirepass", "let-me-in"]);
    let quotad = service(&redis).env("OMICS_REDIS_PASSWORD", "let-me-in").start().await;
    answered_by(&quotad, "redis").await;
}

/// The plain link can't log in: it says so at the start, and does not ask Redis without the login.
#[cfg(feature = "actix-redis")]
#[test]
fn redis_with_a_login_is_refused_by_the_plain_link() {
    let redis = RedisServer::start();
    let output = service(&redis).set("REDIS_PASSWORD", "let-me-in").run(&["serve"]);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && line.contains("actix-redis") && !line.contains("let-me-in"), "{line}");
}
