//! `ETag` and `If-Match`: of two who change what both have seen, one is told that it has changed.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::postgres_server;
use crate::support::quotad::{ADMIN_KEY, Quotad, Start};

const OVERRIDE: &str = "/api/v2/admin/quotas/42";
const USER: &str = "/api/v2/admin/users/42";
const TIER: &str = "/api/v2/admin/tiers/pro";
const COSTS: &str = "/api/v2/admin/endpoints";

/// Something to set at a path, different for each number.
fn body(path: &str, number: u64) -> Value {
    match path {
        OVERRIDE => json!({"custom_requests_per_hour": 500 + number, "expires_at": "2999-12-01T00:00:00.25Z"}),
        USER => {
            json!({"reset_schedule": {"day": {"at": format!("06:{:02}", 10 + number), "timezone": "Europe/Berlin"}}})
        }
        TIER => {
            json!({"limits": [{"name": "l", "algorithm": "token_bucket", "period_seconds": 60, "requests": number}]})
        }
        _ => {
            json!({"costs": [{"path": "/b", "methods": ["post", "GET"], "cost": number}, {"path": "/b/c", "cost": 7}]})
        }
    }
}

async fn ask(quotad: &Quotad, method: Method, path: &str, body: Option<Value>, condition: (&str, &str)) -> Answer {
    quotad.ask_as(method, path, body, &[("x-api-key", ADMIN_KEY), condition]).await
}

async fn put(quotad: &Quotad, path: &str, number: u64, condition: (&str, &str)) -> Answer {
    ask(quotad, Method::PUT, path, Some(body(path, number)), condition).await
}

fn tag(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.header("etag").expect("an ETag").to_owned()
}

/// How often the audit says that something was set.
async fn changes(quotad: &Quotad) -> usize {
    quotad.get("/api/v2/admin/audit").await.json["items"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_change_is_made_to_what_was_seen_or_not_at_all() {
    let quotad = Start::new().start().await;
    for (index, path) in [OVERRIDE, USER, TIER, COSTS].into_iter().enumerate() {
        let first = tag(&quotad.get(path).await);
        let second = tag(&put(&quotad, path, 1, ("if-match", &first)).await);
        assert_ne!(first, second, "{path}");
        assert_eq!(tag(&quotad.get(path).await), second, "{path}");
        for stale in [first.as_str(), "\"x\"", "\"x\", W/\"y\"", &format!("W/{second}"), "x", ""] {
            let refused = put(&quotad, path, 2, ("if-match", stale)).await;
            assert_eq!(refused.status, 412, "{path}: {stale}: {}", refused.text);
            assert_eq!(refused.json["error"], "Precondition failed", "{}", refused.text);
        }
        assert_eq!(put(&quotad, path, 2, ("if-none-match", "*")).await.status, 412, "{path}");
        assert_eq!(tag(&quotad.get(path).await), second, "{path}: it is as it was");
        let third = tag(&put(&quotad, path, 2, ("if-match", &format!("\"x\", {second}"))).await);
        tag(&put(&quotad, path, 3, ("if-match", "*")).await);
        assert_eq!(
            tag(&put(&quotad, path, 2, ("x-nothing", "")).await),
            third,
            "{path}: the same content, the same tag"
        );
        assert_eq!(changes(&quotad).await, 4 * (index + 1), "{path}: what was refused is in no audit");
    }
}

#[tokio::test]
async fn what_is_not_there_can_be_set_once() {
    let quotad = Start::new().start().await;
    assert_eq!(put(&quotad, OVERRIDE, 1, ("if-match", "*")).await.status, 412);
    tag(&put(&quotad, OVERRIDE, 1, ("if-none-match", "*")).await);
    assert_eq!(put(&quotad, OVERRIDE, 2, ("if-none-match", "*")).await.status, 412);
    let gold = "/api/v2/admin/tiers/gold";
    assert_eq!(put(&quotad, gold, 1, ("if-match", "*")).await.status, 400, "the body of costs is none of a tier");
    let tier = Some(body(TIER, 1));
    assert_eq!(ask(&quotad, Method::PUT, gold, tier.clone(), ("if-match", "*")).await.status, 412);
    tag(&ask(&quotad, Method::PUT, gold, tier, ("if-none-match", "*")).await);
}

#[tokio::test]
async fn what_was_seen_is_removed_and_nothing_else() {
    let quotad = Start::new().start().await;
    let gold = "/api/v2/admin/tiers/gold";
    quotad.put(gold, body(TIER, 1)).await;
    for path in [OVERRIDE, gold] {
        let seen =
            if path == gold { tag(&quotad.get(gold).await) } else { tag(&quotad.put(path, body(path, 1)).await) };
        for stale in ["\"x\"", ""] {
            assert_eq!(ask(&quotad, Method::DELETE, path, None, ("if-match", stale)).await.status, 412, "{path}");
        }
        assert_eq!(ask(&quotad, Method::DELETE, path, None, ("if-match", &seen)).await.status, 204, "{path}");
        assert_eq!(ask(&quotad, Method::DELETE, path, None, ("if-match", &seen)).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn conditions_that_say_nothing_clear_are_refused() {
    let quotad = Start::new().start().await;
    assert_eq!(put(&quotad, OVERRIDE, 1, ("if-none-match", "\"x\"")).await.status, 400);
    let both = [("x-api-key", ADMIN_KEY), ("if-match", "*"), ("if-none-match", "*")];
    assert_eq!(quotad.ask_as(Method::PUT, OVERRIDE, Some(body(OVERRIDE, 1)), &both).await.status, 400);
    assert_eq!(changes(&quotad).await, 0);
}

async fn one_of_many_is_first(start: Start) {
    let quotad = start.start().await;
    for path in [OVERRIDE, USER, TIER, COSTS] {
        let seen = tag(&quotad.get(path).await);
        let all = (1..=8).map(|number| {
            let (quotad, seen) = (&quotad, &seen);
            async move { put(quotad, path, number, ("if-match", seen)).await.status }
        });
        let mut statuses = join_all(all).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412], "{path}");
    }
}

#[tokio::test]
async fn one_of_many_is_first_on_sqlite() {
    one_of_many_is_first(Start::new()).await;
}

#[tokio::test]
async fn one_of_many_is_first_on_postgres() {
    one_of_many_is_first(Start::new().postgres(&postgres_server::empty_database())).await;
}
