//! A check with a `request_id`: a repeat is answered as the first was, and charged nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::quotad::{Backend, Start, Stores};
use crate::support::redis_server::RedisServer;
use crate::support::until;

on_both! {
    async fn a_repeat_is_answered_as_the_first_was(backend: Backend) {
        let stores = Stores::start(backend);
        let start = stores.service();
        let quotad = start.start().await;
        // With Redis the repeat may come by another instance.
        let other = if backend == Backend::RedisAndPostgres { Some(start.start().await) } else { None };
        let other = other.as_ref().unwrap_or(&quotad);
        let check = json!({"user_id": "u", "endpoint": "/api/v1/agents", "items": 5, "request_id": "r 1", "explain": true});
        let first = quotad.check(check.clone()).await;
        assert_eq!((first.status, first.used("hour")), (200, 10), "{}", first.text);
        quotad.check(json!({"user_id": "u"})).await;
        let elsewise = json!({"user_id": "u", "items": 90, "request_id": "r 1", "tier": "pro", "lease": "request"});
        for (service, repeat) in [(other, &check), (&quotad, &check), (other, &elsewise), (&quotad, &elsewise)] {
            let again = service.check(repeat.clone()).await;
            assert_eq!((again.status, again.text.as_str()), (200, first.text.as_str()));
            assert_eq!(again.header("ratelimit"), first.header("ratelimit"));
        }
        let quota = other.quota("u").await;
        assert_eq!((quota.field("requests_hour_used"), quota.field("concurrent_requests_used")), (11, 0));
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(history.json["items"][0]["requests"], 6, "{}", history.text);
        let same_id = other.check(json!({"user_id": "v", "request_id": "r 1"})).await;
        assert_eq!(same_id.used("hour"), 1, "another subject's is another");
    }

    async fn a_slot_is_taken_once_for_a_check_that_is_repeated(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "1")]).await;
        let check = json!({"user_id": "u", "request_id": "r", "lease": "request", "endpoint": "/ws"});
        let first = quotad.check(check.clone()).await;
        assert_eq!(first.status, 200, "{}", first.text);
        let again = quotad.check(check).await;
        assert_eq!((again.status, again.text.as_str()), (200, first.text.as_str()), "with the same lease_id");
        assert_eq!(quotad.quota("u").await.field("concurrent_requests_used"), 1);
    }

    async fn a_denied_check_is_decided_anew(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "1")]).await;
        quotad.check(json!({"user_id": "u"})).await;
        let check = json!({"user_id": "u", "request_id": "r"});
        assert_eq!(quotad.check(check.clone()).await.status, 429);
        quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 2})).await;
        assert_eq!(quotad.check(check.clone()).await.status, 200);
        // Now there is no room, and the repeat needs none.
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 429);
        assert_eq!(quotad.check(check).await.status, 200);
    }

    async fn repeats_within_a_batch_are_charged_once(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let checks: Vec<Value> = (0..20).map(|n| json!({"user_id": "u", "request_id": format!("r{}", n % 3)})).collect();
        let answer = quotad.post("/api/v2/check/batch", json!({"checks": checks})).await;
        let used: Vec<&Value> = (0..6).map(|n| &answer.json["results"][n]["limits"][0]["used"]).collect();
        assert_eq!(used, [1, 2, 3, 1, 2, 3], "{}", answer.text);
        assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 3);
    }

    async fn a_dry_run_leaves_no_identity(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let check = |dry_run: bool| json!({"user_id": "u", "request_id": "r", "dry_run": dry_run});
        assert_eq!(quotad.check(check(true)).await.status, 200);
        assert_eq!(quotad.check(check(false)).await.used("hour"), 1);
        assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_an_identity_is_refused() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    for id in [json!(""), json!("a\u{0}b"), json!("x".repeat(65)), json!(7)] {
        let answer = quotad.check(json!({"user_id": "u", "request_id": id})).await;
        assert_eq!((answer.status, answer.json["errors"][0]["field"].as_str()), (422, Some("request_id")), "{id}");
    }
    assert_eq!(quotad.check(json!({"user_id": "u", "request_id": "ü".repeat(64)})).await.status, 200);
}

#[tokio::test]
async fn without_redis_the_instance_alone_remembers() {
    let mut redis = RedisServer::start();
    let quotad = Start::new().redis(&redis).start().await;
    let check = json!({"user_id": "u", "request_id": "before"});
    let before = quotad.check(check.clone()).await;
    redis.kill();
    let away = async || (quotad.check(json!({"user_id": "v"})).await.json["source"] == "fallback").then_some(());
    until(Duration::from_secs(5), "the fallback", away).await;
    assert_eq!(quotad.check(check).await.text, before.text);
    let check = json!({"user_id": "u", "request_id": "during"});
    let during = quotad.check(check.clone()).await;
    assert_eq!((during.json["source"].as_str(), during.used("hour")), (Some("fallback"), 2), "{}", during.text);
    assert_eq!(quotad.check(check).await.text, during.text);
    assert_eq!(quotad.check(json!({"user_id": "u"})).await.used("hour"), 3);
}
