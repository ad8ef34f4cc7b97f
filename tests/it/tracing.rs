//! What tells an operator of single requests: ids on every answer and in the log, and traces at a collector.

mod collector;
mod export;
mod messages;

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::postgres_server;
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Start, Stores};
use crate::support::tcp_proxy::TcpProxy;
use crate::support::until;

const CHECK: &str = "/api/v2/check";

const WITHIN: Duration = Duration::from_secs(20);

/// A service whose database is asked by way of a proxy, and the proxy.
async fn behind_a_proxy() -> (Quotad, TcpProxy) {
    let url = postgres_server::database();
    let proxy = TcpProxy::before(postgres_server::port()).await;
    let start = Start::new().postgres(&postgres_server::url_through(&url, &proxy)).set("LOG_FORMAT", "json");
    (start.set("WORKERS", "1").set("SHARDS", "1").start().await, proxy)
}

/// The lines of the log that are JSON: standard output stands in the same file.
fn lines(quotad: &Quotad) -> Vec<Value> {
    let log = quotad.log();
    log.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn line<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{message} in {lines:#?}"))
}

#[tokio::test]
async fn every_answer_bears_an_id() {
    let stores = Stores::start(Backend::Embedded);
    let start = Start::new();
    let (one, other) = tokio::join!(stores.quotad(&[]), start.start());
    let large = vec![b' '; (1 << 20) + 1];
    let mut ids = HashSet::new();
    let mut asked = 0;
    for quotad in [&one, &other] {
        for (method, path, body, status) in [
            (Method::POST, CHECK, br#"{"user_id": "u", "items": 100}"#.to_vec(), 200),
            (Method::POST, CHECK, br#"{"user_id": "u"}"#.to_vec(), 429),
            (Method::POST, CHECK, b"{".to_vec(), 400),
            (Method::POST, CHECK, br#"{"user_id": ""}"#.to_vec(), 422),
            (Method::POST, CHECK, large.clone(), 413),
            (Method::PUT, CHECK, Vec::new(), 405),
            (Method::GET, "/nowhere", Vec::new(), 404),
            (Method::GET, "/api/v2/users/me/quota", Vec::new(), 403),
            (Method::GET, "/api/v2/forward-auth/x", Vec::new(), 200),
            (Method::GET, "/health", Vec::new(), 200),
            (Method::GET, "/metrics", Vec::new(), 200),
            (Method::GET, "/openapi.json", Vec::new(), 200),
            (Method::GET, "/dashboard", Vec::new(), 200),
            (Method::GET, "/docs/", Vec::new(), 200),
        ] {
            let body = Some(("application/json", body));
            let key = ("x-api-key", ADMIN_KEY);
            let made = quotad.send(method.clone(), path, body.clone(), &[key]).await;
            assert_eq!(made.status, status, "{method} {path}: {}", made.text);
            let id = made.header("x-request-id").unwrap_or_else(|| panic!("{path}: {:?}", made.headers)).to_owned();
            assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
            ids.insert(id);
            asked += 1;
            let given = quotad.send(method, path, body, &[key, ("x-request-id", "an-id/of~mine")]).await;
            assert_eq!(given.header("x-request-id"), Some("an-id/of~mine"), "{path}");
        }
    }
    assert_eq!(ids.len(), asked, "no id is made twice, by any instance");
    let unauthorized = one.ask_as(Method::GET, "/api/v2/admin/keys", None, &[("x-request-id", "mine")]).await;
    assert_eq!((unauthorized.status, unauthorized.header("x-request-id")), (401, Some("mine")));
    for bad in ["two words", "\u{e4}", &"x".repeat(129)] {
        let answer = one.ask_as(Method::GET, "/health", None, &[("x-request-id", bad)]).await;
        assert_eq!(answer.header("x-request-id").map(str::len), Some(16), "{bad}");
    }
}

#[tokio::test]
async fn a_refused_credential_is_a_line_at_debug_with_the_id() {
    let start = Start::new().set("LOG_FORMAT", "json");
    let wrong = [("x-api-key", "qd_0000000000000000_wrong-4711"), ("x-request-id", "mine-1")];
    let [quiet, loud] = ["info", "info,quotad=debug"].map(|log| start.clone().set("LOG", log));
    let (quiet, loud) = tokio::join!(quiet.start(), loud.start());
    for quotad in [&quiet, &loud] {
        assert_eq!(quotad.ask_as(Method::GET, "/api/v2/admin/keys", None, &wrong).await.status, 401);
        assert!(!quotad.log().contains("4711"), "no credential is in the log");
    }
    assert!(!quiet.log().contains("mine-1"), "at info a request leaves no line");
    let lines = lines(&loud);
    let line = line(&lines, "a credential was refused");
    assert_eq!((&line["level"], &line["request_id"]), (&json!("DEBUG"), &json!("mine-1")));
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("key")), "{line}");
    assert!(
        line["timestamp"].is_string() && line["target"].as_str().is_some_and(|target| target.starts_with("quotad"))
    );
    assert_eq!(line["span"]["request_id"], "mine-1", "the span of the request is shown where the log is that fine");
    assert_eq!(line["span"]["http.route"], "/api/v2/admin/keys");
}

#[tokio::test]
async fn an_answer_that_failed_is_one_line_with_its_cause_and_id_and_lines_are_bounded() {
    let (quotad, proxy) = behind_a_proxy().await;
    proxy.refuse(true);
    proxy.cut();
    let path = "/api/v2/admin/quotas/u-4711/history";
    let ask = async |id: String| {
        let answer = quotad.ask_as(Method::GET, path, None, &[("x-api-key", ADMIN_KEY), ("x-request-id", &id)]).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
    };
    for number in 0..30 {
        ask(format!("mine-{number}")).await;
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ask("mine-last".to_owned()).await;

    let lines = lines(&quotad);
    let failed: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "a request could not be answered").collect();
    let first = failed.first().expect("a line");
    assert_eq!(
        (&first["level"], &first["request_id"], &first["status"]),
        (&json!("ERROR"), &json!("mine-0"), &json!(503))
    );
    assert_eq!(first["route"], "/api/v2/admin/quotas/{user_id}/history");
    let error = first["error"].as_str().expect("the chain");
    assert!(error.starts_with("the database is away: could not ") && error.matches(": ").count() > 1, "{error}");
    let last = failed.last().expect("a line");
    let left_out = |line: &Value| line["left_out"].as_u64().expect("a number");
    assert_eq!(last["request_id"], "mine-last");
    let told: u64 = failed.iter().map(|line| 1 + left_out(line)).sum();
    assert_eq!(told, 31, "those without a line are counted in the next");
    assert!(!quotad.log().contains("u-4711"), "a line names the route and no user");
}

#[tokio::test]
async fn what_lasts_is_told_when_it_begins_and_when_it_ends() {
    let (quotad, proxy) = behind_a_proxy().await;
    let told = |message: &str| lines(&quotad).iter().filter(|line| line["message"] == message).count();
    let away = "accounts can't be read: tiers of tokens and defaults hold for users not remembered";
    proxy.refuse(true);
    proxy.cut();
    for number in 0..5 {
        assert_eq!(quotad.check(json!({"user_id": format!("away-{number}")})).await.status, 200);
    }
    assert_eq!((told(away), told("accounts are read again")), (1, 0));
    proxy.refuse(false);
    let mut number = 0;
    until(WITHIN, "accounts are read again", async || {
        number += 1;
        assert_eq!(quotad.check(json!({"user_id": format!("back-{number}")})).await.status, 200);
        (told("accounts are read again") == 1).then_some(())
    })
    .await;
    assert_eq!(told(away), 1);
}
