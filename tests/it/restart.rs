//! Stopping and killing the service: what was counted and ruled outlives the process.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::quotad::{ADMIN_KEY, Backend, Start, Stores};
use crate::support::{in_one_hour, until};

on_both! {
    async fn counters_and_rulings_outlive_a_stop(backend: Backend) {
        let stores = Stores::start(backend);
        // One flush a minute: only the stop can have written it.
        let settings = [("FLUSH_INTERVAL_MS", "60000")];
        let quotad = stores.quotad(&settings).await;
        quotad.check(json!({"user_id": "u", "items": 30})).await;
        quotad.check(json!({"ip": "203.0.113.9", "items": 2})).await;
        quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 77})).await;
        quotad.put("/api/v2/admin/users/p", json!({"tier": "pro"})).await;
        let made = quotad.post("/api/v2/admin/keys", json!({"name": "k", "role": "service"})).await;
        quotad.stop();
        let quotad = stores.quotad(&settings).await;
        let quota = quotad.quota("u").await;
        assert_eq!((quota.field("requests_hour_used"), quota.field("requests_hour_limit")), (30, 77), "{}", quota.text);
        assert_eq!(quota.field("requests_day_used"), 30);
        assert_eq!(quotad.check(json!({"ip": "203.0.113.9"})).await.used("hour"), 3);
        assert_eq!(quotad.check(json!({"user_id": "p"})).await.json["tier"], "pro");
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!((&history.json["items"][0]["requests"], &history.json["items"][1]), (&json!(30), &json!(null)));
        let key = made.json["key"].as_str().expect("a key");
        let body = Some(json!({"user_id": "u"}));
        let answer = quotad.ask_as(reqwest::Method::POST, "/api/v2/check", body, &[("x-api-key", key)]).await;
        assert_eq!((answer.status, answer.used("hour")), (200, 31));
    }

    async fn what_is_in_flight_is_answered_before_the_end(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "100000"), ("FREE_TIER_LIMIT_DAY", "100000")]).await;
        let checks: Vec<_> = (0..1000).map(|n| json!({"user_id": (n % 10).to_string()})).collect();
        let answers = futures_util::future::join_all((0..4).map(|_| {
            quotad.post("/api/v2/check/batch", json!({ "checks": checks }))
        }));
        let answers = answers.await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        quotad.stop();
        let quotad = stores.quotad(&[]).await;
        let report = quotad.get("/api/v2/admin/quotas/usage?period=day").await;
        assert_eq!(report.json["totals"]["requests"], 4000, "{}", report.text);
        assert_eq!(quotad.quota("7").await.field("requests_day_used"), 400);
    }
}

/// Embedded counters live in the process: `kill -9` may lose what the last flush interval brought, and no more.
#[tokio::test]
async fn a_kill_loses_at_most_one_flush_interval() {
    in_one_hour(|| async {
        const INTERVAL: Duration = Duration::from_millis(50);
        // The flush itself takes time as well, on a busy machine much of it.
        const SLACK: Duration = Duration::from_millis(700);
        let stores = Stores::start(Backend::Embedded);
        let settings = [("FREE_TIER_LIMIT_HOUR", "1000000"), ("FREE_TIER_LIMIT_DAY", "1000000")];
        let quotad = stores.quotad(&settings).await;
        let begun = Instant::now();
        let mut answered = Vec::new();
        while begun.elapsed() < Duration::from_secs(2) {
            assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
            answered.push(begun.elapsed());
        }
        let killed = begun.elapsed();
        quotad.kill();
        let kept = answered.iter().filter(|at| **at + INTERVAL + SLACK < killed).count() as u64;
        let quotad = stores.quotad(&settings).await;
        let quota = quotad.quota("u").await;
        let used = quota.field("requests_hour_used");
        assert!((kept..=answered.len() as u64).contains(&used), "{used} of {}, at least {kept}", answered.len());
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(history.json["items"][0]["requests"], used, "history and counters agree");
    })
    .await;
}

/// Redis holds the counters: whatever was answered is charged there when the service is killed.
#[tokio::test]
async fn a_kill_beside_redis_loses_no_count() {
    in_one_hour(|| async {
        let stores = Stores::start(Backend::RedisAndPostgres);
        let quotad = stores.quotad(&[]).await;
        for _ in 0..20 {
            quotad.check(json!({"user_id": "u"})).await;
        }
        quotad.kill();
        let quotad = stores.quotad(&[]).await;
        assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 20);
    })
    .await;
}

#[tokio::test]
async fn the_first_start_makes_an_admin_key_and_the_next_finds_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let start = Start::new().unset("ADMIN_KEY").folder(folder.path());
    let quotad = start.start().await;
    let file = quotad.data_dir().join("admin.key");
    let key = std::fs::read_to_string(&file).expect("a key").trim().to_owned();
    assert!(key.chars().count() >= 32);
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(quotad.log().contains("admin.key") && !quotad.log().contains(&key), "{}", quotad.log());
    let with = [("x-api-key", key.as_str())];
    let path = "/api/v2/admin/quotas/u";
    assert_eq!(quotad.ask_as(reqwest::Method::GET, path, None, &with).await.status, 200);
    assert_eq!(quotad.get(path).await.status, 401, "{ADMIN_KEY} was not set");
    quotad.stop();
    let quotad = start.start().await;
    assert_eq!(quotad.ask_as(reqwest::Method::GET, path, None, &with).await.status, 200);
    assert_eq!(std::fs::read_to_string(&file).expect("a key").trim(), key);
}

/// While requests keep coming, SIGTERM ends the service with 0, and whatever it answered is kept.
#[tokio::test]
async fn a_stop_under_load_keeps_what_was_answered() {
    in_one_hour(|| async {
        let stores = Stores::start(Backend::Embedded);
        // One flush a minute: only the stop can have written it.
        let flush = ("FLUSH_INTERVAL_MS", "60000");
        let settings = [("FREE_TIER_LIMIT_HOUR", "1000000"), ("FREE_TIER_LIMIT_DAY", "1000000"), flush];
        let quotad = stores.quotad(&settings).await;
        let address = quotad.address().to_owned();
        let caller = async move {
            let client = reqwest::Client::new();
            let mut allowed = 0_u64;
            loop {
                let request = client.post(format!("http://{address}/api/v2/check")).header("x-api-key", ADMIN_KEY);
                match request.json(&json!({"user_id": "u"})).send().await {
                    Ok(answer) if answer.status() == 200 => allowed += 1,
                    Ok(answer) => panic!("{}", answer.status()),
                    Err(_) => return allowed,
                }
            }
        };
        let caller = tokio::spawn(caller);
        let within = Duration::from_secs(5);
        until(within, "there is load", async || {
            (quotad.quota("u").await.field("requests_hour_used") > 50).then_some(())
        })
        .await;
        tokio::task::spawn_blocking(|| quotad.stop()).await.expect("it stops");
        let allowed = caller.await.expect("a caller");
        let quotad = stores.quotad(&settings).await;
        let used = quotad.quota("u").await.field("requests_hour_used");
        assert!((allowed..=allowed + 1).contains(&used), "{used} of {allowed}: one answer may have been cut off");
    })
    .await;
}
