//! What is granted while Redis is away, and who may speak to it at all. What becomes of it on worse days: `faults`.

use std::time::Duration;

use serde_json::json;

use crate::support::answer::Answer;
#[cfg(not(feature = "actix-redis"))]
use crate::support::quotad::Quotad;
use crate::support::quotad::Start;
use crate::support::redis_server::RedisServer;
use crate::support::{in_one_hour, until};

/// Back within a second of Redis being up; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// With SQLite of its own. A killed Redis is noticed at once; only a frozen one, or load, is left to the deadline.
fn service(redis: &RedisServer) -> Start {
    Start::new().redis(redis).set("FREE_TIER_LIMIT_DAY", "1000000").set("RESERVED_BLOCKS", "false")
}

#[cfg(not(feature = "actix-redis"))]
async fn source(quotad: &Quotad) -> String {
    let answer = quotad.check(json!({"user_id": "probe", "dry_run": true})).await;
    answer.json["source"].as_str().unwrap_or_default().to_owned()
}

/// Until checks are answered by `expected`.
#[cfg(not(feature = "actix-redis"))]
async fn answered_by(quotad: &Quotad, expected: &str) {
    until(BACK_WITHIN, expected, async || (source(quotad).await == expected).then_some(())).await;
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
