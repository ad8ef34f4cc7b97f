//! Tiers of several algorithms, as callers see them: all-or-nothing, shown and told when to come back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::quotad::{Backend, Quotad, Start, Stores};
use crate::support::redis_server::RedisServer;
use crate::support::until;

async fn with_tier(stores: &Stores, limits: &Value) -> Quotad {
    let quotad = stores.quotad(&[]).await;
    let set = quotad.put("/api/v2/admin/tiers/mixed", json!({"limits": limits})).await;
    assert_eq!(set.status, 200, "{}", set.text);
    quotad
}

async fn check(quotad: &Quotad, user: &str, items: u64) -> Answer {
    quotad.check(json!({"user_id": user, "tier": "mixed", "items": items})).await
}

fn uses(answer: &Answer) -> Vec<u64> {
    let limits = answer.json["limits"].as_array().unwrap_or_else(|| panic!("limits in {}", answer.text));
    limits.iter().map(|limit| limit["used"].as_u64().expect("a number")).collect()
}

/// Limits of an hour, so that none gains anything while a test runs; of the counter, the window before is empty.
fn hourly(requests: [u64; 4]) -> Value {
    json!([
        {"name": "window", "algorithm": "fixed_window", "window": "week", "requests": requests[0]},
        {"name": "log", "algorithm": "sliding_window_log", "period_seconds": 3600, "requests": requests[1]},
        {"name": "counter", "algorithm": "sliding_window_counter", "period_seconds": 31_622_400, "requests": requests[2]},
        {"name": "bucket", "algorithm": "token_bucket", "period_seconds": 31_622_400, "requests": requests[3]},
    ])
}

on_both! {
    async fn a_denied_check_is_charged_to_no_limit_of_any_kind(backend: Backend) {
        let stores = Stores::start(backend);
        for (full, name) in ["window", "log", "counter", "bucket"].into_iter().enumerate() {
            let mut requests = [20; 4];
            requests[full] = 10;
            let quotad = with_tier(&stores, &hourly(requests)).await;
            let user = format!("u-{name}");
            assert_eq!(uses(&check(&quotad, &user, 9).await), [9; 4]);
            let denied = check(&quotad, &user, 2).await;
            assert_eq!((denied.status, &denied.json["denied_by"]), (429, &json!(name)), "{}", denied.text);
            assert_eq!((uses(&denied), denied.number("x-ratelimit-limit")), (vec![9; 4], 10));
            assert!(denied.number("retry-after") >= 1);
            let last = check(&quotad, &user, 1).await;
            assert_eq!((last.status, uses(&last), last.number("x-ratelimit-remaining")), (200, vec![10; 4], 0));
            let dear = check(&quotad, &user, 11).await;
            assert_eq!((dear.status, &dear.json["retry_after"]), (429, &json!(null)), "{}", dear.text);
            assert_eq!(dear.header("retry-after"), None);
        }
    }

    async fn what_is_not_enforced_counts_and_never_denies(backend: Backend) {
        let stores = Stores::start(backend);
        let mut limits = hourly([2, 2, 2, 2]);
        limits.as_array_mut().expect("limits").iter_mut().for_each(|limit| limit["enforce"] = json!(false));
        let quotad = with_tier(&stores, &limits).await;
        check(&quotad, "u", 2).await;
        let over = check(&quotad, "u", 3).await;
        assert_eq!((over.status, uses(&over)), (200, vec![5, 5, 5, 2]), "a bucket holds no less than nothing: {}", over.text);
        assert!(over.json["limits"].as_array().expect("limits").iter().all(|limit| limit["enforce"] == false));
        let policy = over.header("ratelimit-policy").expect("a header");
        assert!(policy.contains("\"log\";q=2;w=3600") && over.header("ratelimit").is_none(), "{:?}", over.headers);
        assert_eq!(over.header("x-ratelimit-limit"), None);
    }

    /// A burst of five in two seconds, ten an hour: short bursts pass, the sum holds, and who waits as told gets through.
    async fn bursts_pass_and_the_sum_holds(backend: Backend) {
        let stores = Stores::start(backend);
        let limits = json!([
            {"name": "burst", "algorithm": "sliding_window_log", "period_seconds": 2, "requests": 5},
            {"name": "week", "algorithm": "fixed_window", "window": "week", "requests": 10},
        ]);
        let quotad = with_tier(&stores, &limits).await;
        let begun = Instant::now();
        let answers = join_all((0..8).map(|_| check(&quotad, "u", 1))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5);
        let denied = check(&quotad, "u", 1).await;
        assert_eq!((denied.status, &denied.json["denied_by"]), (429, &json!("burst")), "{}", denied.text);
        let retry_after = denied.field("retry_after");
        assert!((1..=2).contains(&retry_after));
        tokio::time::sleep(Duration::from_secs(retry_after)).await;
        let answers = join_all((0..8).map(|_| check(&quotad, "u", 1))).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "the machine is too slow to tell");
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 5);
        let denied = check(&quotad, "u", 1).await;
        assert_eq!(denied.json["denied_by"], "week", "what must be waited for longest: {}", denied.text);
    }

    async fn a_bucket_fills_while_nobody_asks(backend: Backend) {
        let stores = Stores::start(backend);
        let limits =
            json!([{"name": "rate", "algorithm": "token_bucket", "period_seconds": 1, "requests": 4, "burst": 3}]);
        let quotad = with_tier(&stores, &limits).await;
        assert_eq!(check(&quotad, "u", 3).await.used("rate"), 3);
        let denied = check(&quotad, "u", 3).await;
        assert_eq!((denied.status, denied.field("retry_after")), (429, 1), "{}", denied.text);
        assert!(denied.header("ratelimit-policy").is_some_and(|policy| policy == "\"rate\";q=3;w=1"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let filled = check(&quotad, "u", 3).await;
        assert_eq!((filled.status, filled.used("rate")), (200, 3), "{}", filled.text);
    }

    async fn a_change_of_tier_carries_every_count_over(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = with_tier(&stores, &hourly([20; 4])).await;
        quotad.put("/api/v2/admin/tiers/larger", json!({"limits": hourly([40; 4])})).await;
        check(&quotad, "u", 7).await;
        let larger = quotad.check(json!({"user_id": "u", "tier": "larger"})).await;
        assert_eq!((uses(&larger), larger.limit("log")["limit"].as_u64()), (vec![8; 4], Some(40)), "{}", larger.text);
        let quota = quotad.post("/api/v2/admin/quotas/u/reset", json!({})).await;
        assert_eq!(quota.status, 200, "{}", quota.text);
        assert_eq!(uses(&check(&quotad, "u", 1).await), [1; 4]);
    }

    async fn counts_of_every_kind_outlive_a_restart(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = with_tier(&stores, &hourly([20; 4])).await;
        check(&quotad, "u", 7).await;
        check(&quotad, "u", 2).await;
        quotad.stop();
        let quotad = stores.quotad(&[]).await;
        assert_eq!(uses(&check(&quotad, "u", 1).await), [10; 4]);
    }
}

/// Without Redis nobody starts afresh and nobody gets more than is left; what was granted is charged when it is back.
#[tokio::test]
async fn every_kind_is_counted_on_while_redis_is_away() {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let quotad = Start::new().redis(&redis).start().await;
    quotad.put("/api/v2/admin/tiers/mixed", json!({"limits": hourly([20; 4])})).await;
    assert_eq!(uses(&check(&quotad, "u", 7).await), [7; 4]);
    redis.kill();
    let source = async |expected: &str| {
        let ask = async || (check(&quotad, "probe", 1).await.json["source"] == expected).then_some(());
        until(Duration::from_secs(5), expected, ask).await;
    };
    source("fallback").await;
    let granted = check(&quotad, "u", 4).await;
    assert_eq!((granted.status, uses(&granted)), (200, vec![11; 4]), "{}", granted.text);
    assert_eq!(check(&quotad, "u", 10).await.status, 429);
    assert_eq!(uses(&check(&quotad, "new", 5).await), [5; 4]);
    redis.start_again();
    source("redis").await;
    let answered = async || {
        let answer = check(&quotad, "u", 1).await;
        (answer.json["source"] == "redis").then_some(answer)
    };
    let (answer, _) = until(Duration::from_secs(5), "Redis", answered).await;
    assert_eq!(uses(&answer).iter().max(), uses(&answer).iter().min(), "each kind alike: {}", answer.text);
    let other = Start::new().redis(&redis).start().await;
    other.put("/api/v2/admin/tiers/mixed", json!({"limits": hourly([20; 4])})).await;
    assert_eq!(uses(&check(&other, "new", 1).await), [6; 4], "once, and by every instance");
}
