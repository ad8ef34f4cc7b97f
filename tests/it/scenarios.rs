//! What the service is for, each with embedded counters and SQLite, and with Redis and PostgreSQL.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::quotad::{Answer, Backend, Quotad, Stores};

macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($backend:ident: Backend) $body:block)+) => {
        $(mod $name {
            use super::*;

            async fn scenario($backend: Backend) $body

            #[tokio::test]
            async fn embedded() {
                scenario(Backend::Embedded).await;
            }

            #[tokio::test]
            async fn with_redis_and_postgres() {
                scenario(Backend::RedisAndPostgres).await;
            }
        })+
    };
}

fn used(answer: &Answer, limit: usize) -> u64 {
    answer.json["limits"][limit]["used"].as_u64().expect("a number")
}

async fn quota(quotad: &Quotad, user: &str) -> Value {
    quotad.get(&format!("/api/v2/admin/quotas/{user}")).await.json
}

on_both! {
    async fn within_quota(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let answer = quotad.check(json!({"user_id": "42", "endpoint": "/api/v1/agents", "method": "POST"})).await;
        assert_eq!(answer.status, 200);
        assert_eq!((answer.json["tier"].as_str(), answer.json["cost"].as_u64()), (Some("free"), Some(2)));
        assert_eq!((used(&answer, 0), used(&answer, 1)), (2, 2));
        let source = if backend == Backend::Embedded { "memory" } else { "redis" };
        assert_eq!(answer.json["source"], source);
        assert_eq!(quotad.stop(), Some(0));
    }

    async fn over_the_hourly_limit(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2")]).await;
        for expected in [200, 200, 429, 429] {
            assert_eq!(quotad.check(json!({"user_id": 7})).await.status, expected);
        }
        let denied = quotad.check(json!({"user_id": "7"})).await;
        assert_eq!(denied.json["denied_by"], "hour");
        assert_eq!(denied.json["error"], "Rate limit exceeded");
        assert_eq!(denied.json["violated-policies"], json!(["hour"]));
        assert_eq!(denied.header("content-type"), Some("application/problem+json"));
        let wait = denied.json["retry_after"].as_u64().expect("a number").to_string();
        assert_eq!(denied.header("retry-after"), Some(wait.as_str()));
        assert_eq!(denied.header("x-ratelimit-remaining"), Some("0"));
    }

    async fn over_the_daily_limit_leaves_the_hour_untouched(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_DAY", "3")]).await;
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 3})).await.status, 200);
        let denied = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((denied.status, denied.json["denied_by"].as_str()), (429, Some("day")));
        assert_eq!(quota(&quotad, "u").await["requests_hour_used"], 3);
    }

    async fn an_override_holds_at_once_and_ends_by_itself(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "1")]).await;
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 429);
        let end = jiff::Timestamp::now() + Duration::from_secs(2);
        let path = "/api/v2/admin/quotas/u";
        let body = json!({"custom_requests_per_hour": 5, "expires_at": end.to_string(), "reason": "a trial"});
        let put = quotad.ask(Method::PUT, path, Some(body)).await;
        assert_eq!((put.status, put.json["requests_hour_limit"].as_u64()), (200, Some(5)));
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 200);
        while jiff::Timestamp::now() <= end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 429);
        assert_eq!(quota(&quotad, "u").await["override"], Value::Null);
        quotad.ask(Method::PUT, path, Some(json!({"custom_requests_per_hour": 0}))).await;
        assert_eq!(quota(&quotad, "u").await["requests_hour_remaining"], 0);
        assert_eq!(quotad.ask(Method::DELETE, path, None).await.status, 204);
    }

    async fn many_callers_at_once_get_exactly_the_limit(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "100")]).await;
        let caller = || async {
            let mut allowed = 0;
            for _ in 0..6 {
                allowed += u32::from(quotad.check(json!({"user_id": "hot"})).await.status == 200);
            }
            allowed
        };
        let allowed: u32 = join_all((0..64).map(|_| caller())).await.into_iter().sum();
        assert_eq!(allowed, 100);
    }

    async fn tiers_differ(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        for (tier, limit) in [("free", 100), ("pro", 1000), ("enterprise", 10_000)] {
            let answer = quotad.check(json!({"user_id": tier, "tier": tier})).await;
            assert_eq!(answer.json["limits"][0]["limit"], limit);
        }
        quotad.check(json!({"user_id": "u", "items": 7})).await;
        let put = quotad.ask(Method::PUT, "/api/v2/admin/users/u", Some(json!({"tier": "pro"}))).await;
        assert_eq!(put.status, 200);
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((answer.json["tier"].as_str(), used(&answer, 0)), (Some("pro"), 8));
    }

    async fn strangers_are_charged_by_address(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("ANONYMOUS_LIMIT_HOUR", "2")]).await;
        let statuses = |ips: [&'static str; 3]| {
            let quotad = &quotad;
            async move {
                let mut statuses = Vec::new();
                for ip in ips {
                    statuses.push(quotad.check(json!({"ip": ip})).await.status);
                }
                statuses
            }
        };
        assert_eq!(statuses(["203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9"]).await, [200, 200, 429]);
        assert_eq!(statuses(["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"]).await, [200, 200, 429]);
        assert_eq!(quotad.check(json!({"ip": "2001:db8:0:1::1"})).await.status, 200);
    }

    async fn endpoints_cost_what_their_longest_prefix_says(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        for (endpoint, items, cost) in
            [("/ws", 1, 0), ("/wsx", 1, 1), ("/api/v1/agents/9", 1, 2), ("/api/v1/agentsX", 1, 1), ("/api/v1/batch", 20, 100)]
        {
            let answer = quotad.check(json!({"user_id": endpoint, "endpoint": endpoint, "items": items})).await;
            assert_eq!(answer.json["cost"], cost, "{endpoint}");
            assert_eq!(used(&answer, 0), cost);
        }
    }

    async fn counters_and_overrides_outlive_the_process(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        quotad.check(json!({"user_id": "u", "items": 30})).await;
        quotad.ask(Method::PUT, "/api/v2/admin/quotas/u", Some(json!({"custom_requests_per_hour": 77}))).await;
        assert_eq!(quotad.stop(), Some(0));
        let quotad = stores.quotad(&[]).await;
        let known = quota(&quotad, "u").await;
        assert_eq!((known["requests_hour_used"].as_u64(), known["requests_hour_limit"].as_u64()), (Some(30), Some(77)));
        let history = quotad.get("/api/v2/admin/quotas/u/history").await.json;
        assert_eq!(history["items"][0]["requests"], 30);
    }

    async fn history_and_report_show_what_was_used(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "30")]).await;
        quotad.check(json!({"user_id": "u", "items": 25})).await;
        quotad.check(json!({"user_id": "u", "items": 25})).await;
        quotad.check(json!({"user_id": "u", "dry_run": true})).await;
        let history = quotad.get("/api/v2/admin/quotas/u/history?granularity=hour").await.json;
        let sums = |item: &Value| (item["requests"].as_u64(), item["cost"].as_u64(), item["denied"].as_u64());
        assert_eq!(sums(&history["items"][0]), (Some(25), Some(25), Some(1)));
        let report = quotad.get("/api/v2/admin/quotas/usage").await.json;
        assert_eq!(sums(&report["totals"]), (Some(25), Some(25), Some(1)));
        assert_eq!(report["top_users"][0]["user_id"], "u");
        let reset = quotad.ask(Method::POST, "/api/v2/admin/quotas/u/reset", Some(json!({"limits": ["hour"]}))).await;
        assert_eq!((reset.json["requests_hour_used"].as_u64(), reset.json["requests_day_used"].as_u64()), (Some(0), Some(25)));
    }

    async fn a_batch_answers_each_in_its_place(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "3")]).await;
        let checks: Vec<Value> = (0..1000)
            .map(|n| if n % 10 == 3 { json!({"user_id": "u", "items": 0}) } else { json!({"user_id": format!("{}", n % 100)}) })
            .collect();
        let answer = quotad.ask(Method::POST, "/api/v2/check/batch", Some(json!({"checks": checks}))).await;
        let results = answer.json["results"].as_array().expect("a list");
        assert_eq!(results.len(), 1000);
        for (n, result) in results.iter().enumerate() {
            if n % 10 == 3 {
                assert_eq!(result["error"]["status"], 422);
            } else {
                assert_eq!(result["allowed"], n < 300, "check {n}");
            }
        }
    }
}

/// Redis is killed and comes back empty: nobody is refused for it, and what was granted meanwhile is charged.
#[tokio::test]
async fn redis_lost_and_found() {
    let mut stores = Stores::start(Backend::RedisAndPostgres);
    let quotad = stores.quotad(&[]).await;
    assert_eq!(quotad.check(json!({"user_id": "u"})).await.json["source"], "redis");
    stores.redis.as_mut().expect("a redis").kill();
    for _ in 0..5 {
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((answer.status, answer.json["source"].as_str()), (200, Some("fallback")));
    }
    assert_eq!(quotad.get("/health").await.json["fallback_active"], true);
    stores.redis.as_mut().expect("a redis").start_again();
    let mut answer = quotad.check(json!({"user_id": "u"})).await;
    for _ in 0..100 {
        if answer.json["source"] == "redis" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = quotad.check(json!({"user_id": "u", "dry_run": true})).await;
    }
    assert_eq!(answer.json["source"], "redis");
    assert!(used(&answer, 0) >= 6, "{}", answer.json);
}

/// Two instances on one Redis share a limit exactly.
#[tokio::test]
async fn two_instances_share_a_limit() {
    let stores = Stores::start(Backend::RedisAndPostgres);
    let settings = [("FREE_TIER_LIMIT_HOUR", "200")];
    let (one, other) = (stores.quotad(&settings).await, stores.quotad(&settings).await);
    let ask = |n: usize| if n.is_multiple_of(2) { &one } else { &other }.check(json!({"user_id": "hot"}));
    let answers = join_all((0..400).map(ask)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 200);
}
