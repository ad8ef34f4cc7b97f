//! Tiers and endpoint costs by the API and by a file, in force at once, and what happens to what was counted.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::quotad::{Backend, Quotad, Start, Stores};
use crate::support::until;

/// A change made elsewhere, or in a file, holds within a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn gold(requests: u64) -> Value {
    json!({"name": "gold", "limits": [{"name": "minute", "algorithm": "fixed_window", "period_seconds": 3600, "requests": requests}],
           "concurrent_requests": 3, "concurrent_websockets": 4})
}

async fn limit_of(quotad: &Quotad, user: &str, limit: &str) -> Option<u64> {
    let answer = quotad.check(json!({"user_id": user, "dry_run": true})).await;
    answer.json["limits"].as_array()?.iter().find(|known| known["name"] == limit)?["limit"].as_u64()
}

on_both! {
    async fn a_tier_that_is_set_holds_at_once_and_elsewhere_soon(backend: Backend) {
        let stores = Stores::start(backend);
        let start = stores.service();
        let quotad = start.start().await;
        let other = if backend == Backend::RedisAndPostgres { Some(start.start().await) } else { None };
        let set = quotad.put("/api/v2/admin/tiers/gold", gold(7)).await;
        assert_eq!((set.status, &set.json), (200, &gold(7)), "{}", set.text);
        assert_eq!(quotad.get("/api/v2/admin/tiers/gold").await.json, gold(7));
        assert_eq!(quotad.put("/api/v2/admin/users/u", json!({"tier": "gold"})).await.status, 200);
        assert_eq!(quotad.check(json!({"user_id": "u", "items": 5})).await.used("minute"), 5);
        quotad.put("/api/v2/admin/tiers/gold", gold(6)).await;
        let answer = quotad.check(json!({"user_id": "u"})).await;
        assert_eq!((answer.used("minute"), answer.limit("minute")["limit"].as_u64()), (6, Some(6)), "what was used stays");
        assert_eq!(quotad.check(json!({"user_id": "u"})).await.status, 429);
        if let Some(other) = other {
            until(SOON, "the other instance", async || (limit_of(&other, "u", "minute").await == Some(6)).then_some(())).await;
            quotad.put("/api/v2/admin/tiers/gold", gold(8)).await;
            until(SOON, "the change", async || (limit_of(&other, "u", "minute").await == Some(8)).then_some(())).await;
        }
        let audit = quotad.get("/api/v2/admin/audit?limit=1").await;
        let entry = &audit.json["items"][0];
        assert_eq!((&entry["action"], &entry["target"]), (&json!("tier.put"), &json!("tier:gold")), "{}", audit.text);
        assert_eq!(entry["before"]["limits"][0]["requests"], if backend == Backend::RedisAndPostgres { 6 } else { 7 });
    }

    async fn a_tier_in_use_stays(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let (gold_path, pro) = ("/api/v2/admin/tiers/gold", "/api/v2/admin/tiers/pro");
        assert_eq!(quotad.delete(gold_path).await.status, 404);
        assert_eq!(quotad.delete(pro).await.status, 409, "it comes from the settings");
        quotad.put(gold_path, gold(7)).await;
        quotad.put("/api/v2/admin/users/u", json!({"tier": "gold"})).await;
        let refused = quotad.delete(gold_path).await;
        assert_eq!((refused.status, &refused.json["error"]), (409, &json!("Conflict")), "{}", refused.text);
        quotad.put("/api/v2/admin/users/u", json!({"tier": null})).await;
        assert_eq!(quotad.delete(gold_path).await.status, 204);
        assert_eq!(quotad.get(gold_path).await.status, 404);
        quotad.put(pro, json!({"limits": []})).await;
        assert_eq!(quotad.check(json!({"user_id": "u", "tier": "pro"})).await.json["limits"], json!([]));
        quotad.put("/api/v2/admin/users/u", json!({"tier": "pro"})).await;
        assert_eq!(quotad.delete(pro).await.status, 204, "the one of the settings is back");
        assert_eq!(limit_of(&quotad, "u", "hour").await, Some(1000));
    }

    async fn endpoint_costs_are_set_all_together(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let costs = json!({"costs": [
            {"path": "/jobs", "methods": ["POST"], "cost": 5}, {"path": "/jobs", "methods": [], "cost": 2}]});
        let set = quotad.put("/api/v2/admin/endpoints", costs.clone()).await;
        assert_eq!((set.status, &set.json), (200, &costs), "{}", set.text);
        assert_eq!(quotad.get("/api/v2/admin/endpoints").await.json, costs);
        for (endpoint, method, cost) in [("/jobs/7", "post", 5), ("/jobs", "GET", 2), ("/api/v1/agents", "GET", 1)] {
            let answer = quotad.check(json!({"user_id": "u", "endpoint": endpoint, "method": method})).await;
            assert_eq!(answer.field("cost"), cost, "{endpoint} {method}");
        }
        for (costs, field) in [
            (json!([{"path": "/a", "methods": [], "cost": 1_000_001}]), "costs[0].cost"),
            (json!([{"path": "a", "methods": [], "cost": 1}]), "costs[0].path"),
            (json!([{"path": "/a", "methods": ["G T"], "cost": 1}]), "costs[0].methods"),
            (json!([{"path": "/a", "cost": 1}, {"path": "/a/", "cost": 2}]), "costs[1].path"),
            (json!([{"path": "/a", "cost": -1}]), "costs[0].cost"),
        ] {
            let refused = quotad.put("/api/v2/admin/endpoints", json!({"costs": costs})).await;
            assert_eq!((refused.status, &refused.json["errors"][0]["field"]), (422, &json!(field)), "{}", refused.text);
        }
        assert_eq!(quotad.get("/api/v2/admin/endpoints").await.json, costs, "what was refused changed nothing");
    }

    async fn a_policy_outlives_a_restart(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        quotad.put("/api/v2/admin/tiers/gold", gold(7)).await;
        quotad.put("/api/v2/admin/endpoints", json!({"costs": []})).await;
        let schedule = json!({"day": {"at": "06:30", "timezone": "Europe/Berlin"}});
        quotad.put("/api/v2/admin/users/u", json!({"tier": "gold", "reset_schedule": schedule})).await;
        quotad.stop();
        let quotad = stores.quotad(&[]).await;
        assert_eq!(limit_of(&quotad, "u", "minute").await, Some(7));
        assert_eq!(quotad.get("/api/v2/admin/endpoints").await.json, json!({"costs": []}));
        let user = quotad.get("/api/v2/admin/users/u").await;
        assert_eq!(user.json, json!({"user_id": "u", "tier": "gold", "reset_schedule": schedule}));
    }

    async fn windows_begin_where_the_schedule_says(backend: Backend) {
        let stores = Stores::start(backend);
        let quotad = stores.quotad(&[]).await;
        let limits = json!([{"name": "day", "algorithm": "fixed_window", "window": "day", "requests": 10},
                            {"name": "month", "algorithm": "fixed_window", "window": "month", "requests": 100}]);
        let at = |hour: i64| json!({"day": {"at": format!("{hour:02}:30"), "timezone": "UTC"}});
        let tier = json!({"limits": limits, "reset_schedule": at(6)});
        assert_eq!(quotad.put("/api/v2/admin/tiers/silver", tier).await.status, 200);
        let reset = async |user: &str, limit: &str| {
            let answer = quotad.check(json!({"user_id": user, "tier": "silver", "dry_run": true})).await;
            answer.limit(limit)["reset_at"].as_str().expect("a time").to_owned()
        };
        assert!(reset("u", "day").await.ends_with("T06:30:00Z"));
        assert!(reset("u", "month").await.ends_with("-01T00:00:00Z"));
        let own = json!({"day": {"at": "13:30", "timezone": "Asia/Kolkata"}, "month": {"day": 15, "at": "02:00", "timezone": "UTC"}});
        assert_eq!(quotad.put("/api/v2/admin/users/u", json!({"reset_schedule": own})).await.status, 200);
        assert!(reset("u", "day").await.ends_with("T08:00:00Z"));
        assert!(reset("u", "month").await.ends_with("-15T02:00:00Z"));
        assert!(reset("v", "day").await.ends_with("T06:30:00Z"), "the user's own alone");

        // A window that was begun runs to its end, so a new schedule gives no second quota within it.
        let used = quotad.check(json!({"user_id": "w", "tier": "silver", "items": 10})).await;
        let before = used.limit("day")["reset_at"].as_str().expect("a time").to_owned();
        for hour in [1, 9, 17] {
            quotad.put("/api/v2/admin/users/w", json!({"reset_schedule": at(hour)})).await;
            let denied = quotad.check(json!({"user_id": "w", "tier": "silver"})).await;
            assert_eq!(denied.status, 429, "{}", denied.text);
            assert!(denied.limit("day")["reset_at"].as_str().expect("a time") >= before.as_str(), "{}", denied.text);
        }
    }
}

#[tokio::test]
async fn a_tier_that_cannot_be_is_refused_by_its_field_and_changes_nothing() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let bad = |field: &str, value: Value| {
        let mut tier = gold(7);
        tier["limits"][0][field] = value;
        tier
    };
    let twice = json!({"limits": [gold(7)["limits"][0], gold(7)["limits"][0]]});
    let many: Vec<Value> = (0..17)
        .map(|n| json!({"name": format!("l{n}"), "algorithm": "fixed_window", "window": "day", "requests": 1}))
        .collect();
    for (tier, status, field) in [
        (bad("requests", json!(-1)), 422, "limits[0].requests"),
        (bad("requests", json!(1.5)), 422, "limits[0].requests"),
        (bad("requests", json!(1_000_000_000_001_u64)), 422, "limits[0].requests"),
        (bad("algorithm", json!("leaky_bucket")), 422, "limits[0].algorithm"),
        (bad("name", json!("Minute")), 422, "limits[0].name"),
        (bad("name", json!("concurrent_requests")), 422, "limits[0].name"),
        (bad("window", json!("day")), 422, "limits[0].window"),
        (bad("period_seconds", json!(0)), 422, "limits[0].period_seconds"),
        (bad("burst", json!(5)), 422, "limits[0].burst"),
        (bad("x", json!(5)), 400, ""),
        (twice, 422, "limits[1].name"),
        (json!({"limits": many}), 422, "limits"),
        (json!({"name": "silver", "limits": []}), 422, "name"),
        (json!({"limits": [], "concurrent_requests": 1_000_001}), 422, "concurrent_requests"),
        (
            json!({"limits": [], "reset_schedule": {"day": {"at": "24:00", "timezone": "UTC"}}}),
            422,
            "reset_schedule.day.at",
        ),
        (json!({}), 422, "limits"),
        (
            json!({"limits": [{"name": "log", "algorithm": "sliding_window_log", "period_seconds": 1, "requests": 10_001}]}),
            422,
            "limits[0].requests",
        ),
    ] {
        let refused = quotad.put("/api/v2/admin/tiers/gold", tier.clone()).await;
        assert_eq!(refused.status, status, "{tier}: {}", refused.text);
        assert_eq!(refused.json["errors"][0]["field"].as_str().unwrap_or_default(), field, "{}", refused.text);
    }
    assert_eq!(quotad.put("/api/v2/admin/tiers/Gold", json!({"limits": []})).await.status, 422);
    assert_eq!(quotad.get("/api/v2/admin/tiers/gold").await.status, 404);
    let schedule = json!({"reset_schedule": {"day": {"at": "06:30", "timezone": "Mars/Olympus"}}});
    let refused = quotad.put("/api/v2/admin/users/u", schedule).await;
    assert_eq!((refused.status, &refused.json["errors"][0]["field"]), (422, &json!("reset_schedule.day.timezone")));
}

#[tokio::test]
async fn an_override_of_a_log_is_no_larger_than_a_log() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let limits = json!([{"name": "hour", "algorithm": "sliding_window_log", "period_seconds": 3600, "requests": 5}]);
    quotad.put("/api/v2/admin/tiers/gold", json!({"limits": limits})).await;
    quotad.put("/api/v2/admin/users/u", json!({"tier": "gold"})).await;
    let set =
        async |requests: u64| quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": requests})).await;
    assert_eq!(set(10_001).await.json["errors"][0]["field"], "custom_requests_per_hour");
    assert_eq!(set(10_000).await.field("requests_hour_limit"), 10_000);
}

const FILE: &str = r#"
[[tiers]]
name = "gold"
limits = [
    { name = "day", algorithm = "fixed_window", window = "day", requests = 500 },
    { name = "burst", algorithm = "token_bucket", period_seconds = 60, requests = 30, burst = 10 },
]
concurrent_requests = 3
concurrent_websockets = 3
reset_schedule = { day = { at = "06:30", timezone = "Europe/Berlin" } }

[[costs]]
path = "/search"
methods = ["GET"]
cost = 3
"#;

fn hang_up(quotad: &Quotad) {
    assert!(Command::new("/bin/kill").args(["-HUP", &quotad.id()]).status().is_ok_and(|status| status.success()));
}

async fn file_status(quotad: &Quotad) -> Value {
    quotad.get("/health").await.json["policy"].clone()
}

async fn with_file(path: &Path) -> Quotad {
    Start::new().set("POLICY_FILE", &path.display().to_string()).start().await
}

#[tokio::test]
async fn a_file_is_followed_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, FILE).expect("a file");
    let quotad = with_file(&path).await;
    let limits = async |tier: &str| {
        let answer = quotad.check(json!({"user_id": "u", "tier": tier, "dry_run": true})).await;
        answer.json["limits"]
            .as_array()
            .map(|limits| limits.iter().map(|limit| limit["limit"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(limits("gold").await, Some(vec![json!(500), json!(10)]));
    assert_eq!(quotad.check(json!({"user_id": "u", "endpoint": "/search", "method": "GET"})).await.field("cost"), 3);
    assert_eq!(
        quotad.check(json!({"user_id": "u", "endpoint": "/api/v1/agents"})).await.field("cost"),
        1,
        "all costs are the file's"
    );
    assert_eq!(quotad.delete("/api/v2/admin/tiers/gold").await.status, 409, "it comes from the file");
    assert_eq!(file_status(&quotad).await["status"], "ok");

    // Another file in its place, as editors and orchestrators do it.
    let next = folder.path().join("next");
    std::fs::write(&next, FILE.replace("requests = 500", "requests = 600")).expect("a file");
    std::fs::rename(&next, &path).expect("it is moved");
    until(SOON, "the new file", async || (limits("gold").await == Some(vec![json!(600), json!(10)])).then_some(()))
        .await;

    std::fs::write(&path, FILE.replace("requests = 500", "requests = -1")).expect("a file");
    hang_up(&quotad);
    let degraded = async || (file_status(&quotad).await["status"] == "degraded").then_some(());
    until(SOON, "the bad file is reported", degraded).await;
    let status = file_status(&quotad).await;
    assert!(status["error"].as_str().is_some_and(|error| error.starts_with("tiers[0].limits[0]")), "{status}");
    assert!(!status.to_string().contains("policy.toml"), "no path of this machine: {status}");
    assert_eq!(quotad.get("/health").await.json["status"], "degraded");
    assert_eq!(quotad.get("/health/ready").await.status, 200, "checks are answered");
    assert_eq!(limits("gold").await, Some(vec![json!(600), json!(10)]));

    std::fs::remove_file(&path).expect("it is removed");
    let gone = async || (file_status(&quotad).await["error"].as_str()?.contains("can't be read")).then_some(());
    until(SOON, "its absence is reported", gone).await;
    assert_eq!(limits("gold").await, Some(vec![json!(600), json!(10)]));

    // What the API sets stands above the file.
    quotad.put("/api/v2/admin/tiers/gold", gold(7)).await;
    std::fs::write(&path, FILE).expect("a file");
    until(SOON, "it is well again", async || (file_status(&quotad).await["status"] == "ok").then_some(())).await;
    assert_eq!(limits("gold").await, Some(vec![json!(7)]));
    assert_eq!(quotad.delete("/api/v2/admin/tiers/gold").await.status, 204);
    assert_eq!(limits("gold").await, Some(vec![json!(500), json!(10)]), "the file's is back");
}

#[test]
fn a_bad_file_stops_the_start_with_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    let start = Start::new().set("POLICY_FILE", &path.display().to_string());
    let refused = |what: &str| {
        let output = start.run(&["serve"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what) && said.contains("policy.toml"), "{said}");
    };
    refused("can't be read");
    std::fs::write(&path, "[[tiers]]\nname = \"gold\"\nlimits = 7\n").expect("a file");
    refused("tiers[0].limits");
    std::fs::write(&path, "[[tiers]\n").expect("a file");
    refused("line 1");
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).expect("a file");
    refused("1 MiB");
}

/// As a mounted folder of settings is changed: by a link that is set to another.
#[tokio::test]
async fn a_link_that_is_set_elsewhere_is_a_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new, link) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("policy.toml"));
    std::fs::write(&old, FILE).expect("a file");
    std::fs::write(&new, FILE.replace("requests = 500", "requests = 600")).expect("a file");
    std::os::unix::fs::symlink(&old, &link).expect("a link");
    let quotad = with_file(&link).await;
    let day = async || {
        let answer = quotad.check(json!({"user_id": "u", "tier": "gold", "dry_run": true})).await;
        answer.limit("day")["limit"].as_u64()
    };
    assert_eq!(day().await, Some(500));
    let next = folder.path().join("next");
    std::os::unix::fs::symlink(&new, &next).expect("a link");
    std::fs::rename(&next, &link).expect("it is set");
    until(SOON, "the other file", async || (day().await == Some(600)).then_some(())).await;
}

#[tokio::test]
async fn the_file_of_the_documentation_is_one() {
    let page = include_str!("../../docs/policy.md");
    let example =
        page.split("## A file").nth(1).and_then(|rest| rest.split("The fields are").next()).expect("an example");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, example).expect("a file");
    let quotad = with_file(&path).await;
    let answer = quotad.check(json!({"user_id": "u", "tier": "gold", "endpoint": "/search", "method": "GET"})).await;
    assert_eq!((answer.field("cost"), answer.used("burst")), (3, 3), "{}", answer.text);
}
