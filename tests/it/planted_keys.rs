//! Something else has written under the keys that stand beside a subject's counters: it fails that subject once at most, and
//! what is wrong is gone then.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::quotad::{Quotad, Start};
use crate::support::redis_server::RedisServer;
use crate::support::until;

/// A check of all kinds of keys. An instance remembers its own decisions, so each has another identity.
fn with_all(identity: &str) -> Value {
    json!({"user_id": "planted", "tier": "logged", "lease": "request", "request_id": identity})
}

/// Plants something under the one key of the pattern, between two checks of `planted`; the answers to a batch with it in the
/// middle, then to checks of it alone.
async fn planted(redis: &RedisServer, quotad: &Quotad, pattern: &str, plant: &[&str]) -> (Vec<Value>, Vec<u16>) {
    // All but the generation: without it the counters would count as lost.
    for key in redis.cli(&["--scan"]).lines().filter(|key| !key.ends_with(":g")) {
        redis.cli(&["DEL", key]);
    }
    assert_eq!(quotad.check(with_all(&format!("first {} {}", &pattern[2..4], plant[0]))).await.status, 200);
    let key = redis.cli(&["--scan", "--pattern", pattern]);
    assert!(!key.is_empty() && !key.contains('\n'), "one key of {pattern}: {key}");
    redis.cli(&["DEL", &key]);
    let command: Vec<&str> = plant.iter().map(|part| if *part == "KEY" { key.as_str() } else { part }).collect();
    redis.cli(&command);
    let check = |user: &str| json!({"user_id": user, "tier": "logged"});
    let checks = json!({"checks": [check("before"), check("planted"), check("after")]});
    let batch = quotad.post("/api/v2/check/batch", checks).await;
    let mut statuses = Vec::new();
    for number in 0..2 {
        let body =
            json!({"user_id": "planted", "tier": "logged", "lease": "request", "request_id": number.to_string()});
        statuses.push(quotad.check(body).await.status);
    }
    (batch.json["results"].as_array().expect("results").clone(), statuses)
}

#[tokio::test]
async fn what_is_planted_beside_the_counters_in_redis_fails_one_subject_once() {
    let redis = RedisServer::start();
    let quotad = Start::new().redis(&redis).start().await;
    let limits = json!([{"name": "log", "algorithm": "sliding_window_log", "period_seconds": 3600, "requests": 100}]);
    quotad.put("/api/v2/admin/tiers/logged", json!({"limits": limits, "concurrent_requests": 3})).await;
    let text: &[&str] = &["SET", "KEY", "hello"];
    let list: &[&str] = &["RPUSH", "KEY", "hello", "you"];
    let hash: &[&str] = &["HSET", "KEY", "a", "b"];
    for (pattern, plant, fails) in [
        ("*}:l:*planted", text, true),
        ("*}:l:*planted", list, true),
        ("*}:s:*planted", text, false),
        ("*}:s:*planted", hash, false),
        ("*}:i:*planted", list, false),
    ] {
        let (results, statuses) = planted(&redis, &quotad, pattern, plant).await;
        let what = format!("{plant:?} under {pattern}: {results:?}");
        assert_eq!((&results[0]["allowed"], &results[2]["allowed"]), (&json!(true), &json!(true)), "{what}");
        assert_eq!(results[1].get("error").is_some(), fails, "{what}");
        assert_eq!(statuses, [200, 200], "{what}");
    }
}

/// A server without memory refuses the whole of a check: nothing of it is left halfway, and what was granted meanwhile is charged.
#[tokio::test]
async fn a_log_in_redis_without_memory_is_charged_whole_or_not_at_all() {
    let redis = RedisServer::start();
    let quotad = Start::new().redis(&redis).start().await;
    let limits = json!([
        {"name": "log", "algorithm": "sliding_window_log", "period_seconds": 3600, "requests": 100},
        {"name": "week", "algorithm": "fixed_window", "window": "week", "requests": 100},
    ]);
    quotad.put("/api/v2/admin/tiers/logged", json!({"limits": limits})).await;
    let check = async || quotad.check(json!({"user_id": "u", "tier": "logged"})).await;
    for used in 1..=3 {
        assert_eq!(check().await.used("log"), used);
    }
    for round in 0..3 {
        let before = check().await.used("log");
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let alone = check().await;
        assert_eq!(
            (alone.json["source"].as_str(), alone.used("log")),
            (Some("fallback"), before + 1),
            "{}",
            alone.text
        );
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        let back = async || {
            let answer = quotad.check(json!({"user_id": "u", "tier": "logged", "dry_run": true})).await;
            (answer.json["source"] == "redis").then_some(answer)
        };
        let (answer, _) = until(Duration::from_secs(5), "Redis", back).await;
        // A dry run shows what would be.
        assert_eq!(
            (answer.used("log"), answer.used("week")),
            (before + 2, before + 2),
            "round {round}: {}",
            answer.text
        );
    }
}
