//! The middleware in an app of its own, on a real port: the routes of `examples/actix_app.rs`, and some that break.

#[path = "../../examples/actix_app.rs"]
#[allow(dead_code, reason = "its `main` is not run")]
mod actix_app;
mod app;

use std::time::Duration;

use actix_web::http::StatusCode;
use futures_util::future::join_all;
use quotad::domain::limit::{Limit, LimitName, Window};
use quotad::domain::tier::{Tier, TierName};
use quotad::middleware::QuotaBuilder;
use serde_json::json;

use self::actix_app::{limits, who};
use self::app::RunningApp;
use crate::support::redis_server::RedisServer;
use crate::support::{in_one_hour, until};

const WITHIN: Duration = Duration::from_secs(10);

/// The limits of the example, with as many slots as may be.
fn without_slots() -> QuotaBuilder {
    limits().tier(Tier::of_limits(TierName::free(), vec![Limit::fixed(LimitName::hour(), Window::Hour, 100)]))
}

/// With a deadline that a busy machine keeps.
fn on(redis: &RedisServer, limits: QuotaBuilder) -> QuotaBuilder {
    limits.redis(&redis.url()).set("REDIS_DEADLINE_MS", "3000")
}

#[tokio::test]
async fn a_hundred_requests_pass_and_the_next_is_denied() {
    in_one_hour(|| async {
        let app = RunningApp::start(without_slots());
        for left in (0..100).rev() {
            let answer = app.get("/", "42").await;
            assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
            assert_eq!(answer.text, "here you are\n");
        }
        let denied = app.get("/", "42").await;
        assert_eq!((denied.status, denied.header("content-type")), (429, Some("application/problem+json")));
        assert_eq!((&denied.json["error"], &denied.json["denied_by"]), (&json!("Rate limit exceeded"), &json!("hour")));
        assert_eq!(denied.json["violated-policies"], json!(["hour"]));
        assert_eq!((denied.number("x-ratelimit-limit"), denied.number("x-ratelimit-remaining")), (100, 0));
        assert!((1..=3600).contains(&denied.number("retry-after")), "{:?}", denied.headers);
        assert_eq!(denied.header("ratelimit-policy"), Some("\"hour\";q=100;w=3600"));
        assert!(denied.header("ratelimit").is_some_and(|text| text.starts_with("\"hour\";r=0;t=")));
        assert_eq!(app.get("/ws", "42").await.status, 200, "what costs nothing passes");
    })
    .await;
}

#[tokio::test]
async fn headers_are_on_every_answer_and_costs_go_by_the_path() {
    in_one_hour(|| async {
        let subject = |request: &_| who(request).filter(|_| request.path() != "/public");
        let app = RunningApp::start(limits().subject(subject));
        for (path, status, left) in [
            ("/", 200, 99),
            ("/api/v1/%61gents?x=/ws", 200, 97),
            ("/ws", 200, 97),
            ("/nowhere", 404, 96),
            ("/fails", 418, 95),
        ] {
            let answer = app.get(path, "42").await;
            assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (status, left), "{path}");
        }
        assert_eq!(app.get("/", "43").await.number("x-ratelimit-remaining"), 99, "another user");
        assert_eq!(app.get("/", "").await.number("x-ratelimit-limit"), 10, "nobody is charged by address");
        assert_eq!(app.get("/public", "42").await.header("x-ratelimit-limit"), None, "it is not limited");
    })
    .await;
}

/// Whether a user has no slot left.
async fn is_full(app: &RunningApp) -> bool {
    app.get("/ws", "42").await.json["denied_by"] == json!("concurrent_requests")
}

/// Five clients hold all slots; one leaves, and one slot is free.
async fn hold_and_leave(apps: [&RunningApp; 2], path: &str) {
    let [app, other] = apps;
    let mut clients: Vec<_> = [app, other, app, other, app].map(|app| app.hold(path, "42")).into();
    until(WITHIN, "all slots are held", async || is_full(app).await.then_some(())).await;
    let denied = app.get("/", "42").await;
    assert_eq!((denied.status, denied.number("x-ratelimit-limit")), (429, 5));
    assert_eq!(app.get("/", "43").await.status, 200, "another user has slots of their own");
    clients[0].abort();
    until(WITHIN, "a client that hung up frees its slot", async || (!is_full(app).await).then_some(())).await;
    clients.push(other.hold(path, "42"));
    until(WITHIN, "no other slot is free", async || is_full(other).await.then_some(())).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    until(WITHIN, "all are free", async || (!is_full(app).await).then_some(())).await;
}

#[tokio::test]
async fn a_slot_is_held_until_the_answer_is_there_or_its_client_has_left() {
    let app = RunningApp::start(limits());
    hold_and_leave([&app, &app], "/slow").await;
}

#[tokio::test]
async fn a_slot_is_held_until_the_body_is_sent_or_its_client_has_left() {
    let app = RunningApp::start(limits());
    hold_and_leave([&app, &app], "/endless").await;
}

#[tokio::test]
async fn a_slot_in_redis_is_held_as_long() {
    let redis = RedisServer::start();
    let apps = [(); 2].map(|()| RunningApp::start(on(&redis, limits())));
    hold_and_leave([&apps[0], &apps[1]], "/slow").await;
}

#[tokio::test]
async fn a_handler_that_panics_frees_its_slot() {
    let app = RunningApp::start(limits());
    for _ in 0..10 {
        assert!(app.request("/panics", "42").await.is_err(), "the connection is cut");
    }
    until(WITHIN, "its slots are free", async || (!is_full(&app).await).then_some(())).await;
}

#[tokio::test]
async fn a_websocket_holds_a_slot_of_its_own_kind() {
    let app = RunningApp::start(limits());
    let first = app.upgrade("42").expect("an upgrade");
    assert!(app.upgrade("42").unwrap_err().contains("concurrent_websockets"));
    assert_eq!(app.get("/", "42").await.status, 200, "requests have their own");
    drop(first);
    until(WITHIN, "its slot is free", async || app.upgrade("42").ok()).await;
}

#[tokio::test]
async fn what_is_charged_by_the_answer_is_charged_for_some_alone() {
    in_one_hour(|| async {
        let app = RunningApp::start(limits().charge_when(|answer| answer.status == StatusCode::IM_A_TEAPOT));
        for _ in 0..5 {
            assert_eq!(app.get("/", "42").await.number("x-ratelimit-remaining"), 100, "good answers cost nothing");
        }
        for left in (0..100).rev() {
            let failed = app.get("/fails", "42").await;
            assert_eq!((failed.status, failed.number("x-ratelimit-remaining")), (418, left), "{}", failed.text);
        }
        let denied = app.get("/", "42").await;
        assert_eq!((denied.status, &denied.json["denied_by"]), (429, &json!("hour")), "there is no room to fail in");
    })
    .await;
}

#[tokio::test]
async fn two_apps_on_one_redis_share_a_limit_exactly() {
    let redis = RedisServer::start();
    in_one_hour(|| async {
        redis.cli(&["flushall"]);
        let apps = [(); 2].map(|()| RunningApp::start(on(&redis, without_slots())));
        let mut statuses = Vec::new();
        for _ in 0..13 {
            let asked = (0..10).map(|number: usize| apps[number % 2].request("/", "42"));
            statuses.extend(join_all(asked).await.into_iter().map(|answer| answer.expect("an answer").status));
        }
        let count = |status| statuses.iter().filter(|known| **known == status).count();
        assert_eq!((count(200), count(429)), (100, 30));
    })
    .await;
}

#[tokio::test]
async fn without_its_redis_an_app_goes_on_as_it_was_told() {
    in_one_hour(|| async {
        for (fallback, status) in [("memory", 429), ("allow", 200), ("deny", 503)] {
            let mut redis = RedisServer::start();
            let app = RunningApp::start(on(&redis, without_slots()).set("RATE_LIMIT_FALLBACK", fallback));
            for left in (0..50).rev() {
                assert_eq!(app.get("/api/v1/agents", "42").await.number("x-ratelimit-remaining"), left * 2);
            }
            assert_eq!(app.get("/", "42").await.status, 429, "the quota is used");
            redis.kill();
            let as_told = async || (app.get("/", "42").await.status == status).then_some(());
            until(WITHIN, fallback, as_told).await;
            if fallback == "memory" {
                assert_eq!(app.get("/", "43").await.number("x-ratelimit-remaining"), 99, "others go on");
            }
        }
    })
    .await;
}
