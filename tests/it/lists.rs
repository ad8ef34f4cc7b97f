//! Lists for people, as the service answers them: users, overrides, leases.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::quotad::{Backend, Quotad, Stores};

/// All items of a list, read page by page.
async fn all(quotad: &Quotad, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let page = quotad.get(&format!("{path}{sign}limit={limit}{after}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let found = page.json["items"].as_array().expect("a list");
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match page.json["next"].as_str() {
            None => return items,
            Some(next) => after = format!("&after={}", percent(next)),
        }
    }
}

fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn texts<'a>(items: &'a [Value], field: &str) -> Vec<&'a str> {
    items.iter().filter_map(|item| item[field].as_str()).collect()
}

on_both! {
    async fn leases_of_a_user_are_listed_until_they_are_given_back(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FREE_TIER_CONCURRENT", "50")]).await;
        let mut taken = Vec::new();
        for (kind, seconds) in [("request", 90), ("websocket", 30), ("request", 60), ("websocket", 90)] {
            let body = json!({"user_id": "a b", "kind": kind, "ttl_seconds": seconds});
            let lease = quotad.post("/api/v2/leases", body).await;
            assert_eq!(lease.status, 201, "{}", lease.text);
            taken.push(lease.json["lease_id"].as_str().expect("an id").to_owned());
        }
        quotad.post("/api/v2/leases", json!({"user_id": "another", "kind": "request", "ttl_seconds": 60})).await;
        let path = "/api/v2/admin/leases?user_id=a%20b";
        for limit in [1, 3, 100] {
            let items = all(&quotad, path, limit).await;
            let ids = texts(&items, "lease_id");
            assert_eq!(ids, [&taken[1], &taken[2], &taken[0], &taken[3]], "{limit} a page");
            assert_eq!(texts(&items, "kind"), ["websocket", "request", "request", "websocket"]);
        }
        assert_eq!(quotad.delete(&format!("/api/v2/leases/{}", taken[2])).await.status, 204);
        assert_eq!(all(&quotad, path, 100).await.len(), 3);
        assert_eq!(all(&quotad, "/api/v2/admin/leases?user_id=nobody", 10).await, Vec::<Value>::new());
        let bad = quotad.get(&format!("{path}&after=7.r00")).await;
        assert_eq!((bad.status, &bad.json["errors"][0]["field"]), (422, &json!("after")));
    }

    async fn a_user_is_known_as_soon_as_they_were_checked(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[("FLUSH_INTERVAL_MS", "60000")]).await;
        quotad.check(json!({"user_id": "fresh/ü"})).await;
        quotad.put("/api/v2/admin/users/placed", json!({"tier": "pro"})).await;
        let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
        quotad.put("/api/v2/admin/quotas/raised", json!({"custom_requests_per_hour": 7, "expires_at": soon, "reason": "r"})).await;
        let users = all(&quotad, "/api/v2/admin/users", 1).await;
        assert_eq!(texts(&users, "user_id"), ["fresh/ü", "placed", "raised"]);
        assert!(users[0]["last_hour"].is_string() && users[1]["last_hour"].is_null(), "{users:?}");
        assert_eq!((&users[1]["tier"], &users[2]["override"]["custom_requests_per_hour"]), (&json!("pro"), &json!(7)));
        assert_eq!(texts(&all(&quotad, "/api/v2/admin/users?search=sh%2F", 10).await, "user_id"), ["fresh/ü"]);
        let overrides = all(&quotad, "/api/v2/admin/overrides?state=active", 10).await;
        assert_eq!((texts(&overrides, "user_id"), &overrides[0]["state"]), (vec!["raised"], &json!("active")));
        assert_eq!(all(&quotad, "/api/v2/admin/overrides?state=expired", 10).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn leases_that_expire_at_one_instant_are_paged_in_redis() {
    let mut stores = Stores::start(Backend::RedisAndPostgres);
    let quotad = stores.quotad(&[]).await;
    quotad.post("/api/v2/leases", json!({"user_id": "u", "kind": "request", "ttl_seconds": 60})).await;
    // More than one of the script's steps, all with one score.
    let redis = stores.redis();
    let key = redis.cli(&["KEYS", "*:s:request:user:u"]);
    let key = key.trim().to_owned();
    let score = format!("{}", (jiff::Timestamp::now().as_second() + 500) * 1_000_000);
    let members: Vec<String> = (0..600).map(|number| format!("m-of-sixteen{number:04}")).collect();
    let mut command = vec!["ZADD", &key];
    members.iter().for_each(|member| command.extend([score.as_str(), member.as_str()]));
    redis.cli(&command);
    let items = all(&quotad, "/api/v2/admin/leases?user_id=u", 70).await;
    let ids: std::collections::BTreeSet<&str> = texts(&items, "lease_id").into_iter().collect();
    assert_eq!((items.len(), ids.len()), (601, 601));
    let refused = quotad.ask_as(Method::GET, "/api/v2/admin/leases?user_id=u", None, &[]).await;
    assert_eq!(refused.status, 401);
}
