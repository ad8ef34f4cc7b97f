//! What administrators read and set: history, the usage report, resets, tiers, costs, the audit.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::quotad::{Backend, Quotad, Stores};

fn sums(json: &Value) -> (Option<u64>, Option<u64>, Option<u64>) {
    (json["requests"].as_u64(), json["cost"].as_u64(), json["denied"].as_u64())
}

fn with(requests: u64, cost: u64, denied: u64) -> (Option<u64>, Option<u64>, Option<u64>) {
    (Some(requests), Some(cost), Some(denied))
}

/// 25 requests of `u` that cost 35 and one denied; 3 of `p`, who is pro; 2 of an address and one denied.
async fn some_usage(stores: &Stores, settings: &[(&str, &str)]) -> Quotad {
    let limits = [("FREE_TIER_LIMIT_HOUR", "35"), ("ANONYMOUS_LIMIT_HOUR", "2")];
    let quotad = stores.quotad(&[&limits[..], settings].concat()).await;
    for (check, status) in [
        (json!({"user_id": "u", "items": 15}), 200),
        (json!({"user_id": "u", "items": 10, "endpoint": "/api/v1/agents"}), 200),
        (json!({"user_id": "u", "items": 4}), 429),
        (json!({"user_id": "p", "tier": "pro", "items": 3}), 200),
        (json!({"ip": "203.0.113.9", "items": 2}), 200),
        (json!({"ip": "203.0.113.9"}), 429),
        (json!({"user_id": "u", "dry_run": true}), 429),
    ] {
        let answer = quotad.check(check.clone()).await;
        assert_eq!(answer.status, status, "{check}: {}", answer.text);
    }
    quotad
}

/// The start of the running hour and of the running day, as RFC 3339 has them.
fn starts() -> (String, String) {
    let start_of = |seconds: i64| {
        let now = jiff::Timestamp::now().as_second();
        jiff::Timestamp::from_second(now.div_euclid(seconds) * seconds).expect("a time").to_string()
    };
    (start_of(3600), start_of(86_400))
}

on_both! {
    /// With a flush a minute: what is shown was not in the database before it was asked for.
    async fn history_includes_what_is_not_flushed_yet(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = some_usage(&stores, &[("FLUSH_INTERVAL_MS", "60000")]).await;
        let (hour, day) = starts();
        for (query, granularity, start) in
            [("", "day", &day), ("?granularity=hour", "hour", &hour), ("?granularity=day", "day", &day)]
        {
            let history = quotad.get(&format!("/api/v2/admin/quotas/u/history{query}")).await;
            assert_eq!(history.status, 200, "{}", history.text);
            assert_eq!(history.json["user_id"], "u");
            assert_eq!(history.json["granularity"], granularity);
            let items = history.json["items"].as_array().expect("a list");
            assert_eq!(items.len(), 1, "{}", history.text);
            assert_eq!((sums(&items[0]), items[0]["start"].as_str()), (with(25, 35, 1), Some(start.as_str())));
        }
        let mine = quotad.ask_with(json!({"sub": "u"}), Method::GET, "/api/v2/users/me/quota/history", None).await;
        assert_eq!(sums(&mine.json["items"][0]), with(25, 35, 1), "{}", mine.text);
        let others = quotad.get("/api/v2/admin/quotas/nobody/history").await;
        assert_eq!(others.json["items"], json!([]));
    }

    async fn history_is_cut_where_asked_and_comes_as_csv(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = some_usage(&stores, &[]).await;
        let (hour, _) = starts();
        let history = async |query: &str| {
            quotad.get(&format!("/api/v2/admin/quotas/u/history?granularity=hour&{query}")).await
        };
        for (query, count) in [
            ("from=2020-01-01", 1),
            ("from=2020-01-01&to=2020-02-01", 0),
            (&format!("from=2020-01-01&to={hour}"), 0),
            (&format!("from={hour}&to=2100-01-01T00:00:00Z"), 1),
        ] {
            let answer = history(query).await;
            assert_eq!(answer.json["items"].as_array().map(Vec::len), Some(count), "{query}: {}", answer.text);
        }
        let csv = history("format=csv").await;
        assert_eq!(csv.status, 200);
        assert!(csv.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")), "{:?}", csv.headers);
        let lines: Vec<&str> = csv.text.lines().collect();
        assert_eq!(lines, ["start,requests,cost,denied", &format!("{hour},25,35,1")]);
        assert_eq!(csv.header("link"), None, "there is no more");
        let all = quotad.get("/api/v2/admin/usage/history?granularity=hour&limit=1").await;
        assert_eq!((sums(&all.json["items"][0]), &all.json["next"]), (with(30, 40, 2), &Value::Null), "{}", all.text);
        for limit in ["0", "10001"] {
            assert_eq!(history(&format!("limit={limit}")).await.status, 422);
        }
    }

    async fn the_usage_report_adds_up(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = some_usage(&stores, &[("FLUSH_INTERVAL_MS", "60000")]).await;
        for period in ["hour", "day", "30d"] {
            let report = quotad.get(&format!("/api/v2/admin/quotas/usage?period={period}")).await;
            assert_eq!((report.status, report.json["period"].as_str()), (200, Some(period)), "{}", report.text);
            assert_eq!(sums(&report.json["totals"]), with(30, 40, 2), "{}", report.text);
            assert_eq!(report.json["totals"]["active_users"], 2);
            let tiers = report.json["tiers"].as_array().expect("a list");
            let tier = |name: &str| tiers.iter().find(|tier| tier["tier"] == name).unwrap_or(&Value::Null);
            assert_eq!(sums(tier("free")), with(25, 35, 1));
            assert_eq!(sums(tier("pro")), with(3, 3, 0));
            assert_eq!(sums(tier("anonymous")), with(2, 2, 1));
            assert_eq!(tier("free")["active_users"], 1);
            let users = report.json["top_users"].as_array().expect("a list");
            let named: Vec<_> = users.iter().map(|user| (user["user_id"].as_str(), user["tier"].as_str())).collect();
            assert_eq!(named, [(Some("u"), Some("free")), (Some("p"), Some("pro"))]);
            assert_eq!(sums(&users[0]), with(25, 35, 1));
            assert_eq!(report.json["top_ips"][0]["ip"], "203.0.113.9");
            assert_eq!(sums(&report.json["top_ips"][0]), with(2, 2, 1));
        }
        let (hour, _) = starts();
        let one = quotad.get("/api/v2/admin/quotas/usage?top=1&period=hour").await;
        assert_eq!(one.json["top_users"].as_array().map(Vec::len), Some(1));
        assert_eq!(one.json["start"], hour);
    }

    async fn a_reset_empties_the_named_limits_and_leaves_history(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = some_usage(&stores, &[]).await;
        let path = "/api/v2/admin/quotas/u/reset";
        let hour = quotad.post(path, json!({"limits": ["hour"]})).await;
        assert_eq!((hour.status, hour.field("requests_hour_used"), hour.field("requests_day_used")), (200, 0, 35));
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.used("hour"), 1);
        let all = quotad.ask(Method::POST, path, None).await;
        let used = (all.field("requests_hour_used"), all.field("requests_day_used"));
        assert_eq!((all.status, used), (200, (0, 0)), "{}", all.text);
        let history = quotad.get("/api/v2/admin/quotas/u/history").await;
        assert_eq!(sums(&history.json["items"][0]), with(26, 36, 1));
        assert_eq!(quotad.quota("p").await.field("requests_day_used"), 3, "nobody else is meant");
    }

    async fn the_audit_says_who_changed_what(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        quotad.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await;
        quotad.put("/api/v2/admin/users/u", json!({"tier": "enterprise"})).await;
        quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": 5, "reason": "a trial"})).await;
        quotad.delete("/api/v2/admin/quotas/u").await;
        let made = quotad.post("/api/v2/admin/keys", json!({"name": "gateway", "role": "service"})).await;
        quotad.ask(Method::POST, "/api/v2/admin/quotas/u/reset", None).await;
        let audit = quotad.get("/api/v2/admin/audit").await;
        let items = audit.json["items"].as_array().expect("a list");
        assert_eq!(items.len(), 6, "{}", audit.text);
        let newest = items[0]["action"].as_str().expect("an action");
        assert!(newest.contains("reset"), "the newest is first: {}", audit.text);
        for item in items {
            assert!(item["at"].is_string() && item["actor"].is_string() && item["address"] == "127.0.0.1", "{item}");
        }
        assert!(items[4]["before"].to_string().contains("pro"), "{}", items[4]);
        assert!(items[4]["after"].to_string().contains("enterprise"), "{}", items[4]);
        assert!(items[2]["before"].to_string().contains("a trial"), "{}", items[2]);
        let key = made.json["key"].as_str().expect("a key");
        assert!(!audit.text.contains(key.rsplit_once('_').expect("a secret").1), "the audit has no secrets");
        let first = quotad.get("/api/v2/admin/audit?limit=4").await;
        let rest = quotad.get(&format!("/api/v2/admin/audit?limit=4&before={}", first.json["items"][3]["id"])).await;
        for (page, count) in [(first, 4), (rest, 2)] {
            assert_eq!(page.json["items"].as_array().map(Vec::len), Some(count), "{}", page.text);
        }
    }
}

#[tokio::test]
async fn tiers_and_costs_are_shown_as_they_are_in_force() {
    let stores = Stores::start(Backend::Embedded);
    let settings = [("PRO_TIER_LIMIT_HOUR", "7"), ("PRO_TIER_CONCURRENT", "3"), ("ENDPOINT_COSTS", "/a=4,/a/b=0")];
    let quotad = stores.quotad(&settings).await;
    let pro = quotad.get("/api/v2/admin/tiers/pro").await;
    assert_eq!((pro.status, &pro.json["name"], &pro.json["concurrent_requests"]), (200, &json!("pro"), &json!(3)));
    let hour = json!({"name": "hour", "algorithm": "fixed_window", "window": "hour", "requests": 7});
    let day = json!({"name": "day", "algorithm": "fixed_window", "window": "day", "requests": 20_000});
    assert_eq!(pro.json["limits"], json!([hour, day]));
    let all = quotad.get("/api/v2/admin/tiers").await;
    for name in ["free", "pro", "enterprise", "anonymous"] {
        assert!(all.text.contains(&format!("\"name\":\"{name}\"")), "{}", all.text);
    }
    let costs = quotad.get("/api/v2/admin/endpoints").await;
    let mut costs = costs.json["costs"].as_array().expect("a list").clone();
    costs.sort_by_key(|cost| cost["path"].to_string());
    assert_eq!(
        json!(costs),
        json!([{"path": "/a", "methods": [], "cost": 4}, {"path": "/a/b", "methods": [], "cost": 0}])
    );
}

#[tokio::test]
async fn metrics_name_no_user() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    quotad.check(json!({"user_id": "a-very-special-user"})).await;
    quotad.check(json!({"ip": "203.0.113.9"})).await;
    let metrics = quotad.get("/metrics").await;
    assert!(metrics.text.contains("quotad_"), "{}", metrics.text);
    assert!(!metrics.text.contains("a-very-special-user") && !metrics.text.contains("203.0.113"), "{}", metrics.text);
    let lines = metrics.text.lines().filter(|line| !line.starts_with('#'));
    assert!(lines.clone().count() > 0 && lines.clone().all(|line| line.starts_with("quotad_")), "{}", metrics.text);
}
