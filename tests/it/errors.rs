//! Bad requests, bad credentials and bad settings: a clear answer, and nothing charged.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::quotad::{Answer, Backend, Stores};

fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.json);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    for field in ["type", "title", "status", "detail", "error"] {
        assert!(!answer.json[field].is_null(), "{field} in {}", answer.json);
    }
}

#[tokio::test]
async fn bad_requests_are_problems() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    for (body, status) in [
        (json!({"user_id": "u", "color": 1}), 400),
        (json!({"user_id": "u", "ip": "1.2.3.4"}), 422),
        (json!({}), 422),
        (json!({"user_id": "a\nb"}), 422),
        (json!({"user_id": "a".repeat(129)}), 422),
        (json!({"user_id": "u", "items": -1}), 422),
        (json!({"user_id": "u", "items": 0}), 422),
        (json!({"user_id": "u", "items": 1.5}), 422),
        (json!({"user_id": "u", "items": 9_007_199_254_740_993_u64}), 422),
        (json!({"user_id": "u", "items": "x"}), 422),
        (json!({"user_id": "u", "items": null}), 422),
        (json!({"user_id": "u", "tier": "gold"}), 422),
        (json!({"user_id": "u", "endpoint": "agents"}), 422),
        (json!({"ip": "nowhere"}), 422),
        (json!({"user_id": "u", "lease": "request"}), 422),
    ] {
        let answer = quotad.check(body.clone()).await;
        assert_problem(&answer, status);
        assert_eq!(answer.json["errors"].is_array(), status == 422, "{body}");
    }
    let path = "/api/v2/check";
    let big = format!("{{\"user_id\": \"{}\"}}", "a".repeat(1 << 20)).into_bytes();
    for (kind, body, status) in [
        ("application/json", b"{".to_vec(), 400),
        ("application/json", br#"{"user_id": "u", "items": 18446744073709551616}"#.to_vec(), 422),
        ("application/json", [b"[".repeat(10_000), b"]".repeat(10_000)].concat(), 400),
        ("application/json", big, 413),
        ("text/plain", b"{}".to_vec(), 415),
    ] {
        assert_problem(&quotad.post_text(path, kind, body).await, status);
    }
    assert_problem(&quotad.get("/nowhere").await, 404);
    assert_problem(&quotad.get(path).await, 405);
    assert_eq!(quotad.get("/api/v2/admin/quotas/u").await.json["requests_hour_used"], 0);
}

#[tokio::test]
async fn each_role_may_what_the_contract_says_and_no_more() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let mut keys = Vec::new();
    for role in ["user", "service", "admin"] {
        let made = quotad
            .ask(Method::POST, "/api/v2/admin/keys", Some(json!({"name": role, "role": role, "user_id": "me"})))
            .await;
        assert_eq!(made.status, 201);
        keys.push(made.json["key"].as_str().expect("a key").to_owned());
    }
    keys.extend(["".to_owned(), "qd_0000000000000000_wrong".to_owned()]);
    let check = Some(json!({"user_id": "u"}));
    for (method, path, body, statuses) in [
        (Method::POST, "/api/v2/check", check, [403, 200, 200, 401, 401]),
        (Method::GET, "/api/v2/users/me/quota", None, [200, 200, 200, 401, 401]),
        (Method::GET, "/api/v2/admin/quotas/u", None, [403, 403, 200, 401, 401]),
        (Method::GET, "/api/v2/admin/quotas/usage", None, [403, 403, 200, 401, 401]),
        (Method::GET, "/api/v2/admin/keys", None, [403, 403, 200, 401, 401]),
        (Method::GET, "/api/v2/admin/audit", None, [403, 403, 200, 401, 401]),
        (Method::GET, "/health", None, [200; 5]),
    ] {
        for (key, status) in keys.iter().zip(statuses) {
            let headers: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("x-api-key", key)] };
            let answer = quotad.ask_as(method.clone(), path, body.clone(), headers).await;
            assert_eq!(answer.status, status, "{path} {key}");
        }
    }
}

fn run(vars: &[(&str, &str)], arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quotad"))
        .env_clear()
        .envs(vars.iter().copied())
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_token_from_the_command_line_opens_ones_own_quota() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let secret = [("QUOTAD_JWT_SECRET", crate::support::quotad::JWT_SECRET)];
    let (signed, token, _) = run(&secret, &["token", "--sub", "42", "--tier", "pro"]);
    assert!(signed);
    let bearer = format!("Bearer {}", token.trim());
    let answer = quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &[("authorization", &bearer)]).await;
    assert_eq!((answer.status, answer.json["tier"].as_str()), (200, Some("pro")));
    assert_eq!(answer.json["user_id"], Value::from("42"));
    let forged = format!("{}x", bearer);
    let refused = quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &[("authorization", &forged)]).await;
    assert_problem(&refused, 401);
}

#[test]
fn a_bad_setting_stops_the_start_with_one_line() {
    let (started, _, line) = run(&[("QUOTAD_SHARDS", "0")], &[]);
    assert!(!started);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("QUOTAD_SHARDS=0") && line.contains("1 to 1024"), "{line}");
    let (shown, settings, _) = run(&[("QUOTAD_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")], &["config"]);
    assert!(shown && settings.contains("QUOTAD_JWT_SECRET=***") && !settings.contains("hunter2"), "{settings}");
}
