//! Several instances on the same servers: one set of rulings. That they share a limit exactly: `faults::crowd`.

use std::time::Duration;

use futures_util::future::join;
use serde_json::{Value, json};

use crate::support::quotad::{Backend, Quotad, Start, Stores};
use crate::support::{in_one_hour, postgres_server, until};

/// A change made on one instance holds on every other within a second; the rest is for a busy machine.
const WITHIN: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn what_is_ruled_on_one_instance_holds_on_the_other() {
    in_one_hour(|| async {
        let stores = Stores::start(Backend::RedisAndPostgres);
        let (one, other) = join(stores.quotad(&[]), stores.quotad(&[])).await;
        let limit = async |quotad: &Quotad| quotad.check(json!({"user_id": "u"})).await.limit("hour")["limit"].as_u64();
        assert_eq!(limit(&other).await, Some(100), "the other remembers the user now");
        let holds = async |what: &str, expected: u64| {
            let ((), after) = until(WITHIN, what, async || (limit(&other).await == Some(expected)).then_some(())).await;
            println!("{what}: {} ms", after.as_millis());
        };
        one.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 500})).await;
        assert_eq!(limit(&one).await, Some(500), "at once where it was set");
        holds("an override", 500).await;
        one.delete("/api/v2/admin/quotas/u").await;
        holds("its end", 100).await;
        one.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await;
        holds("a tier", 1000).await;
    })
    .await;
}

/// With Redis, by which instances tell each other, and without, where they see it in the database.
#[tokio::test]
async fn a_key_made_rotated_or_revoked_on_one_instance_is_so_on_the_other() {
    let (shared, url) = (Stores::start(Backend::RedisAndPostgres), postgres_server::database());
    for start in [shared.service(), Start::new().postgres(&url)] {
        let (one, other) = join(start.start(), start.start()).await;
        let made = one.post("/api/v2/admin/keys", json!({"name": "k", "role": "service"})).await;
        let status = async |key: &str| {
            let body = Some(json!({"user_id": "u"}));
            other.ask_as(reqwest::Method::POST, "/api/v2/check", body, &[("x-api-key", key)]).await.status
        };
        let holds = async |what: &str, key: &str, expected: u16| {
            let ((), after) = until(WITHIN, what, async || (status(key).await == expected).then_some(())).await;
            println!("{what}: {} ms", after.as_millis());
        };
        let text =
            |answer: &Value, field: &str| answer[field].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let old = text(&made.json, "key");
        holds("a key", &old, 200).await;
        let path = format!("/api/v2/admin/keys/{}/rotate", text(&made.json, "id"));
        let rotated = one.post(&path, json!({"overlap_seconds": 0})).await;
        let new = text(&rotated.json, "key");
        holds("its successor", &new, 200).await;
        holds("its end", &old, 401).await;
        assert_eq!(one.delete(&format!("/api/v2/admin/keys/{}", text(&rotated.json, "id"))).await.status, 204);
        holds("a revocation", &new, 401).await;
    }
}

#[tokio::test]
async fn a_reset_on_one_instance_lets_through_on_the_other() {
    in_one_hour(|| async {
        let stores = Stores::start(Backend::RedisAndPostgres);
        let settings = [("FREE_TIER_LIMIT_HOUR", "2")];
        let (one, other) = join(stores.quotad(&settings), stores.quotad(&settings)).await;
        for expected in [200, 200, 429] {
            assert_eq!(other.check(json!({"user_id": "u"})).await.status, expected);
        }
        assert_eq!(one.ask(reqwest::Method::POST, "/api/v2/admin/quotas/u/reset", None).await.status, 200);
        let status = async || other.check(json!({"user_id": "u"})).await.status;
        until(WITHIN, "the reset", async || (status().await == 200).then_some(())).await;
    })
    .await;
}

/// Both find no table: one makes them, the other waits for it.
#[tokio::test]
async fn two_instances_start_at_once_on_one_new_database() {
    let url = postgres_server::empty_database();
    let start = Start::new().postgres(&url);
    let (one, other) = join(start.start(), start.start()).await;
    assert_eq!(one.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await.status, 200);
    let known = other.get("/api/v2/admin/users/u").await;
    assert_eq!((known.status, known.json["tier"].as_str()), (200, Some("pro")), "{}", known.text);
    one.stop();
    other.stop();
}

/// A denial that is proven needs no second round trip, and ends with a ruling of either instance.
#[tokio::test]
async fn a_proven_denial_is_answered_locally_until_the_limit_is_raised() {
    in_one_hour(|| async {
        let stores = Stores::start(Backend::RedisAndPostgres);
        let settings = [("FREE_TIER_LIMIT_HOUR", "1")];
        let (one, other) = join(stores.quotad(&settings), stores.quotad(&settings)).await;
        let source = async |quotad: &Quotad| {
            let answer = quotad.check(json!({"user_id": "u"})).await;
            (answer.status, answer.json["source"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(source(&one).await, (200, "redis".to_owned()));
        assert_eq!(source(&one).await, (429, "redis".to_owned()));
        assert_eq!(source(&one).await, (429, "cache".to_owned()));
        one.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 3})).await;
        assert_eq!(source(&one).await, (200, "redis".to_owned()));
        assert_eq!(other.post("/api/v2/admin/quotas/u/reset", json!({})).await.status, 200);
        let back = async || (source(&one).await.0 == 200).then_some(());
        until(WITHIN, "a reset on the other", back).await;
    })
    .await;
}
