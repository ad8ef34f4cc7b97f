//! Concurrency slots: taken with a check or alone, renewed, given back, expired by the server's time.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::quotad::{Backend, Quotad, Start, Stores};
use crate::support::redis_server::RedisServer;
use crate::support::until;

async fn take(quotad: &Quotad, user: &str, kind: &str, ttl_seconds: u64) -> Answer {
    quotad.post("/api/v2/leases", json!({"user_id": user, "kind": kind, "ttl_seconds": ttl_seconds})).await
}

fn path(lease: &Answer) -> String {
    format!("/api/v2/leases/{}", lease.json["lease_id"].as_str().unwrap_or_else(|| panic!("an id in {}", lease.text)))
}

async fn held(quotad: &Quotad, user: &str) -> u64 {
    quotad.quota(user).await.field("concurrent_requests_used")
}

on_both! {
    async fn slots_are_taken_and_given_back_once(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "2")]).await;
        let (first, second) = (take(&quotad, "u", "request", 60).await, take(&quotad, "u", "request", 30).await);
        assert_eq!((first.status, first.field("in_use"), first.field("limit")), (201, 1, 2), "{}", first.text);
        assert_eq!((second.status, second.field("in_use")), (201, 2));
        let denied = take(&quotad, "u", "request", 60).await;
        assert_eq!((denied.status, &denied.json["denied_by"]), (429, &json!("concurrent_requests")), "{}", denied.text);
        assert_eq!(denied.json["violated-policies"], json!(["concurrent_requests"]));
        assert!((1..=30).contains(&denied.field("retry_after")), "until the first of them expires: {}", denied.text);
        assert_eq!((denied.number("x-ratelimit-limit"), denied.number("x-ratelimit-remaining")), (2, 0));
        assert_eq!(held(&quotad, "u").await, 2);
        assert_eq!(take(&quotad, "u", "websocket", 60).await.status, 201, "sockets have their own limit");
        assert_eq!(take(&quotad, "v", "request", 60).await.status, 201, "so has everybody else");
        assert_eq!(quotad.delete(&path(&first)).await.status, 204);
        assert_eq!(quotad.delete(&path(&first)).await.status, 404, "a second time");
        assert_eq!(held(&quotad, "u").await, 1);
        assert_eq!(take(&quotad, "u", "request", 60).await.status, 201);
        let quota = quotad.quota("u").await;
        assert_eq!(quota.field("requests_hour_used"), 0, "slots are no requests");
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(history.json["items"], json!([]), "{}", history.text);
    }

    async fn only_who_knows_a_lease_has_it(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let lease = take(&quotad, "u", "request", 60).await;
        let id = lease.json["lease_id"].as_str().expect("an id");
        let other_kind = format!("w{}", &id[1..]);
        let other_user = id.replace("user~3Au", "user~3Av");
        let mut other_secret = id.to_owned();
        other_secret.replace_range(1..3, if &id[1..3] == "00" { "11" } else { "00" });
        for id in [other_kind.as_str(), &other_user, &other_secret, "x", "r-"] {
            let answer = quotad.delete(&format!("/api/v2/leases/{id}")).await;
            assert_eq!(answer.status, 404, "{id}: {}", answer.text);
            let renewed = quotad.put(&format!("/api/v2/leases/{id}"), json!({"ttl_seconds": 5})).await;
            assert_eq!(renewed.status, 404, "{id}: {}", renewed.text);
        }
        assert_eq!(held(&quotad, "u").await, 1);
    }

    async fn a_lease_that_is_not_renewed_frees_its_slot(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "2")]).await;
        let (left, kept) = (take(&quotad, "u", "request", 1).await, take(&quotad, "u", "request", 1).await);
        let renewed = quotad.put(&path(&kept), json!({"ttl_seconds": 60})).await;
        assert_eq!((renewed.status, renewed.field("in_use"), renewed.field("limit")), (200, 2, 2), "{}", renewed.text);
        assert_eq!(renewed.json["lease_id"], kept.json["lease_id"]);
        let free = async || (take(&quotad, "u", "request", 60).await.status == 201).then_some(());
        until(Duration::from_secs(5), "the slot is free", free).await;
        assert_eq!(quotad.delete(&path(&left)).await.status, 404, "it has expired");
        assert_eq!(quotad.put(&path(&left), json!({"ttl_seconds": 60})).await.status, 404);
        assert_eq!(quotad.delete(&path(&kept)).await.status, 204);
    }

    async fn a_check_takes_its_slot_and_its_charge_or_neither(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "1"), ("FREE_TIER_LIMIT_HOUR", "3")]).await;
        let check = |more: Value| {
            let mut body = json!({"user_id": "u", "lease": "request"});
            body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
            body
        };
        let asked = quotad.check(check(json!({"dry_run": true}))).await;
        assert_eq!((asked.status, &asked.json["lease_id"], held(&quotad, "u").await), (200, &json!(null), 0));
        let first = quotad.check(check(json!({}))).await;
        assert_eq!((first.status, first.used("hour")), (200, 1), "{}", first.text);
        let full = quotad.check(check(json!({}))).await;
        assert_eq!((full.status, &full.json["denied_by"]), (429, &json!("concurrent_requests")), "{}", full.text);
        assert_eq!(full.used("hour"), 1, "nothing is charged without the slot");
        assert_eq!(quotad.check(check(json!({"dry_run": true}))).await.status, 429);
        assert_eq!(quotad.check(check(json!({"endpoint": "/ws"}))).await.status, 429, "cost 0 needs a slot too");
        assert_eq!(quotad.delete(&path(&first)).await.status, 204);
        let dear = quotad.check(check(json!({"items": 3}))).await;
        assert_eq!((dear.status, &dear.json["denied_by"]), (429, &json!("hour")), "{}", dear.text);
        assert_eq!(held(&quotad, "u").await, 0, "no slot is taken without the charge");
        let second = quotad.check(check(json!({"items": 2}))).await;
        assert_eq!((second.status, second.used("hour")), (200, 3));
        let both = quotad.check(check(json!({"items": 2}))).await;
        assert_eq!(both.json["violated-policies"], json!(["hour", "concurrent_requests"]), "{}", both.text);
        let batch = quotad.post("/api/v2/check/batch", json!({"checks": [check(json!({})), {"user_id": "v"}]})).await;
        assert_eq!(batch.json["results"][0]["error"]["errors"][0]["field"], "lease", "{}", batch.text);
        assert_eq!(batch.json["results"][1]["allowed"], true);
    }

    async fn a_limit_of_no_slots_cannot_be_waited_out(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "0")]).await;
        let denied = take(&quotad, "u", "request", 60).await;
        assert_eq!((denied.status, &denied.json["retry_after"]), (429, &json!(null)), "{}", denied.text);
        assert_eq!(denied.header("retry-after"), None);
    }

    async fn callers_at_once_get_as_many_slots_as_there_are(backend: Backend) {
        let stores = Stores::start(backend);
        let start = stores.service().set("FREE_TIER_CONCURRENT", "7");
        let quotad = start.start().await;
        // With Redis a second process asks for the same slots; embedded ones know nothing of each other.
        let other = if backend == Backend::RedisAndPostgres { Some(start.start().await) } else { None };
        let asks = (0..40).map(|n| take(other.as_ref().filter(|_| n % 2 == 1).unwrap_or(&quotad), "u", "request", 60));
        let answers = join_all(asks).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 7);
        let taken: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
        let through = other.as_ref().unwrap_or(&quotad);
        for lease in &taken {
            assert_eq!(through.delete(&path(lease)).await.status, 204, "any instance can give it back");
        }
        assert_eq!(held(&quotad, "u").await, 0);
    }

    async fn leases_outlive_a_restart(backend: Backend) {
        let stores = Stores::start(backend);
        let settings = [("FREE_TIER_CONCURRENT", "1")];
        let quotad = stores.quotad(&settings).await;
        let lease = take(&quotad, "u", "request", 600).await;
        quotad.stop();
        let quotad = stores.quotad(&settings).await;
        assert_eq!(take(&quotad, "u", "request", 60).await.status, 429, "it is still held");
        assert_eq!(quotad.delete(&path(&lease)).await.status, 204);
        assert_eq!(take(&quotad, "u", "request", 60).await.status, 201);
    }

    async fn a_reset_leaves_leases_alone(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        quotad.check(json!({"user_id": "u", "lease": "request", "items": 5})).await;
        let quota = quotad.post("/api/v2/admin/quotas/u/reset", json!({})).await;
        assert_eq!((quota.field("requests_hour_used"), quota.field("concurrent_requests_used")), (0, 1));
    }
}

#[tokio::test]
async fn what_cannot_be_a_lease_is_refused() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    for (body, status) in [
        (json!({"user_id": "u", "kind": "request", "ttl_seconds": 0}), 422),
        (json!({"user_id": "u", "kind": "request", "ttl_seconds": 86_401}), 422),
        (json!({"user_id": "u", "kind": "request", "ttl_seconds": 1.5}), 422),
        (json!({"user_id": "u", "kind": "request"}), 422),
        (json!({"user_id": "u", "kind": "door", "ttl_seconds": 60}), 422),
        (json!({"user_id": "u", "ip": "192.0.2.1", "kind": "request", "ttl_seconds": 60}), 422),
        (json!({"kind": "request", "ttl_seconds": 60}), 422),
        (json!({"user_id": "u", "kind": "request", "ttl_seconds": 60, "x": 1}), 400),
    ] {
        assert_eq!(quotad.post("/api/v2/leases", body.clone()).await.status, status, "{body}");
    }
    assert_eq!(quotad.check(json!({"user_id": "u", "lease": "door"})).await.status, 422);
    assert_eq!(held(&quotad, "u").await, 0);
}

/// While Redis is away an instance gives no more slots than there are, counting those that it gave before; what became of
/// them is told when it is back.
#[tokio::test]
async fn leases_are_kept_while_redis_is_away() {
    let mut redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let quotad = Start::new().redis(&redis).set("FREE_TIER_CONCURRENT", "3").start().await;
    let (first, second) = (take(&quotad, "u", "request", 600).await, take(&quotad, "u", "request", 600).await);
    redis.kill();
    let away = async || (quotad.check(json!({"user_id": "u"})).await.json["source"] == "fallback").then_some(());
    until(Duration::from_secs(5), "the fallback", away).await;
    let third = take(&quotad, "u", "request", 600).await;
    assert_eq!((third.status, third.field("in_use")), (201, 3), "{}", third.text);
    assert_eq!(take(&quotad, "u", "request", 600).await.status, 429);
    assert_eq!(quotad.delete(&path(&first)).await.status, 204);
    assert_eq!(quotad.put(&path(&second), json!({"ttl_seconds": 700})).await.status, 200);
    let unknown = path(&first).replace("user~3Au", "user~3Aelse");
    assert_eq!(quotad.delete(&unknown).await.status, 503, "another instance may have given it");
    redis.start_again();
    let back = async || (quotad.check(json!({"user_id": "u"})).await.json["source"] == "redis").then_some(());
    until(Duration::from_secs(5), "Redis", back).await;
    let other = Start::new().redis(&redis).set("FREE_TIER_CONCURRENT", "3").start().await;
    assert_eq!(held(&other, "u").await, 2, "Redis knows what became of them");
    assert_eq!(other.delete(&path(&third)).await.status, 204);
    assert_eq!(other.delete(&path(&first)).await.status, 404);
}
