//! Requests that can't be taken: a clear problem, nothing charged, and nothing told of the inside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Stores};

const CHECK: &str = "/api/v2/check";

/// Problem details with all five fields, and no word of paths or SQL.
pub fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text);
    assert_eq!(answer.json["status"], status, "{}", answer.text);
    for field in ["type", "title", "detail", "error"] {
        assert!(answer.json[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {}", answer.text);
    }
    let inside =
        ["/tmp/", "/root", "/home", "src/", ".rs:", "SELECT", "INSERT", "sqlite", "postgres", "diesel", "panicked"];
    for word in inside {
        assert!(!answer.text.contains(word), "{word} in {}", answer.text);
    }
}

/// 422 says which field.
fn assert_invalid(answer: &Answer, field: &str) {
    assert_problem(answer, 422);
    let errors = answer.json["errors"].as_array().unwrap_or_else(|| panic!("errors in {}", answer.text));
    assert!(errors.iter().all(|error| error["message"].is_string()), "{}", answer.text);
    assert!(errors.iter().any(|error| error["field"] == field), "{field} in {}", answer.text);
}

async fn service(stores: &Stores) -> Quotad {
    stores.quotad(&[]).await
}

#[tokio::test]
async fn a_field_that_cannot_be_taken_is_422() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    for items in
        ["-1", "0", "1.5", "1000001", "9007199254740993", "18446744073709551616", "\"x\"", "null", "true", "[]"]
    {
        let body = format!(r#"{{"user_id": "u", "items": {items}}}"#).into_bytes();
        let body = Some(("application/json", body));
        let answer = quotad.send(Method::POST, CHECK, body, &[("x-api-key", ADMIN_KEY)]).await;
        assert_invalid(&answer, "items");
    }
    for (body, field) in [
        (json!({"user_id": "a\nb"}), "user_id"),
        (json!({"user_id": "a\u{0}"}), "user_id"),
        (json!({"user_id": "a\u{7f}"}), "user_id"),
        (json!({"user_id": "a\u{85}"}), "user_id"),
        (json!({"user_id": "a".repeat(129)}), "user_id"),
        (json!({"user_id": "ä".repeat(129)}), "user_id"),
        (json!({"user_id": ""}), "user_id"),
        (json!({"user_id": 1.5}), "user_id"),
        (json!({"user_id": ["u"]}), "user_id"),
        (json!({"ip": "nowhere"}), "ip"),
        (json!({"ip": "203.0.113.256"}), "ip"),
        (json!({"ip": ""}), "ip"),
        (json!({"user_id": "u", "tier": "gold"}), "tier"),
        (json!({"user_id": "u", "endpoint": "agents"}), "endpoint"),
        (json!({"user_id": "u", "endpoint": 7}), "endpoint"),
        (json!({"user_id": "u", "dry_run": "yes"}), "dry_run"),
    ] {
        assert_invalid(&quotad.check(body).await, field);
    }
    for body in [json!({}), json!({"user_id": "u", "ip": "192.0.2.1"}), json!({"items": 1})] {
        let answer = quotad.check(body).await;
        assert_problem(&answer, 422);
        assert!(answer.json["errors"].is_array(), "{}", answer.text);
    }
    for id in ["a".repeat(128), "ä".repeat(128), "a b/c?d:%".to_owned()] {
        assert_eq!(quotad.check(json!({"user_id": id})).await.status, 200, "{id}");
    }
    assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 0, "nothing was charged");
}

#[tokio::test]
async fn an_override_that_cannot_be_is_422() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    for (body, field) in [
        (json!({"custom_requests_per_hour": -1}), "custom_requests_per_hour"),
        (json!({"custom_requests_per_hour": 1.5}), "custom_requests_per_hour"),
        (json!({"custom_requests_per_hour": 1_000_000_000_001_u64}), "custom_requests_per_hour"),
        (json!({"custom_requests_per_day": "many"}), "custom_requests_per_day"),
        (json!({"custom_requests_per_day": 5, "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"custom_requests_per_day": 5, "expires_at": "soon"}), "expires_at"),
        (json!({"custom_requests_per_day": 5, "user_id": "somebody-else"}), "user_id"),
    ] {
        assert_invalid(&quotad.put("/api/v2/admin/quotas/u", body).await, field);
    }
    for body in [json!({}), json!({"reason": "none"}), json!({"custom_requests_per_hour": null})] {
        assert_problem(&quotad.put("/api/v2/admin/quotas/u", body).await, 422);
    }
    let unknown = quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_month": 5})).await;
    assert_problem(&unknown, 400);
    assert_eq!(quotad.quota("u").await.json["override"], Value::Null);
    for most in [0, 1_000_000_000_000_u64] {
        let put = quotad.put("/api/v2/admin/quotas/u", json!({"custom_requests_per_hour": most})).await;
        assert_eq!((put.status, put.field("requests_hour_limit")), (200, most), "{}", put.text);
    }
}

#[tokio::test]
async fn other_admin_requests_that_cannot_be_are_refused() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    let long = "a".repeat(129);
    for (method, path, body, status) in [
        (Method::GET, format!("/api/v2/admin/quotas/{long}"), None, 422),
        (Method::GET, "/api/v2/admin/quotas/a%0Ab".to_owned(), None, 422),
        (Method::GET, "/api/v2/admin/ips/nowhere".to_owned(), None, 422),
        (Method::DELETE, "/api/v2/admin/quotas/nobody".to_owned(), None, 404),
        (Method::PUT, "/api/v2/admin/users/u".to_owned(), Some(json!({"tier": "gold"})), 422),
        (Method::PUT, "/api/v2/admin/users/u".to_owned(), Some(json!({"color": 1})), 400),
        (Method::GET, "/api/v2/admin/tiers/gold".to_owned(), None, 404),
        (Method::POST, "/api/v2/admin/quotas/u/reset".to_owned(), Some(json!({"limits": ["minute"]})), 422),
        (Method::POST, "/api/v2/admin/keys".to_owned(), Some(json!({"name": "k", "role": "owner"})), 422),
        (Method::POST, "/api/v2/admin/keys".to_owned(), Some(json!({"role": "user"})), 422),
        (Method::DELETE, "/api/v2/admin/keys/0000000000000000".to_owned(), None, 404),
        (Method::GET, "/api/v2/admin/quotas/u/history?granularity=week".to_owned(), None, 422),
        (Method::GET, "/api/v2/admin/quotas/u/history?from=yesterday".to_owned(), None, 422),
        (Method::GET, "/api/v2/admin/quotas/u/history?format=xml".to_owned(), None, 422),
        (Method::GET, "/api/v2/admin/quotas/usage?period=year".to_owned(), None, 422),
        (Method::GET, "/api/v2/admin/quotas/usage?top=0".to_owned(), None, 422),
    ] {
        let answer = quotad.ask(method.clone(), &path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_problem(&answer, status);
    }
}

#[tokio::test]
async fn what_is_no_json_or_too_large_is_said_to_be() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    let big = format!(r#"{{"user_id": "{}"}}"#, "a".repeat(1 << 20)).into_bytes();
    for (what, kind, body, status) in [
        ("half an object", "application/json", b"{".to_vec(), 400),
        ("nothing", "application/json", Vec::new(), 400),
        ("two values", "application/json", br#"{"user_id": "u"} {}"#.to_vec(), 400),
        ("an unknown field", "application/json", br#"{"user_id": "u", "color": 1}"#.to_vec(), 400),
        ("no UTF-8", "application/json", b"{\"user_id\": \"\xff\"}".to_vec(), 400),
        ("very deep", "application/json", [b"[".repeat(10_000), b"]".repeat(10_000)].concat(), 400),
        ("a megabyte", "application/json", big, 413),
        ("called text", "text/plain", br#"{"user_id": "u"}"#.to_vec(), 415),
        ("called a form", "application/x-www-form-urlencoded", b"user_id=u".to_vec(), 415),
    ] {
        for path in [CHECK, "/api/v2/check/batch"] {
            let answer = quotad.send(Method::POST, path, Some((kind, body.clone())), &[("x-api-key", ADMIN_KEY)]).await;
            assert_eq!(answer.status, status, "{what} to {path}: {}", answer.text);
            assert_problem(&answer, status);
        }
    }
    let charset = Some(("application/json; charset=utf-8", br#"{"user_id": "v"}"#.to_vec()));
    assert_eq!(quotad.send(Method::POST, CHECK, charset, &[("x-api-key", ADMIN_KEY)]).await.status, 200);
    let too_many: Vec<Value> = (0..1001).map(|_| json!({"user_id": "u"})).collect();
    for checks in [Vec::new(), too_many] {
        assert_invalid(&quotad.post("/api/v2/check/batch", json!({ "checks": checks })).await, "checks");
    }
    assert_eq!(quotad.quota("u").await.field("requests_hour_used"), 0, "nothing was charged");
}

#[tokio::test]
async fn an_unknown_path_is_404_and_another_method_405() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    for path in ["/nowhere", "/api/v2", "/api/v2/check/", "/api/v1/check", "/api/v2/admin/quotas/u/reset/more"] {
        assert_problem(&quotad.get(path).await, 404);
    }
    for (method, path) in [
        (Method::GET, CHECK),
        (Method::DELETE, "/api/v2/check/batch"),
        (Method::POST, "/api/v2/users/me/quota"),
        (Method::POST, "/api/v2/admin/quotas/u"),
        (Method::GET, "/api/v2/admin/quotas/u/reset"),
        (Method::POST, "/health"),
    ] {
        assert_problem(&quotad.ask(method, path, None).await, 405);
    }
}

/// A user id may have any character that is no control character, a slash as well; in a path it is encoded.
#[tokio::test]
async fn a_user_id_in_a_path_is_the_one_in_a_body() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    for (id, path) in [
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("ä", "%C3%A4"),
        ("a+b", "a+b"),
        ("user:x", "user:x"),
    ] {
        assert_eq!(quotad.check(json!({"user_id": id, "items": 3})).await.status, 200, "{id}");
        let quota = quotad.quota(path).await;
        let known = (quota.json["user_id"].as_str(), quota.json["requests_hour_used"].as_u64());
        assert_eq!((quota.status, known), (200, (Some(id), Some(3))), "{path}: {}", quota.text);
    }
}

/// Bytes that are no text name nobody: were they replaced, `%FF` and `%FE` would be one user.
#[tokio::test]
async fn a_path_that_is_no_text_names_no_user() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    let body = json!({"custom_requests_per_hour": 5});
    for (method, path) in [
        (Method::GET, "/api/v2/admin/quotas/%FF"),
        (Method::GET, "/api/v2/admin/quotas/a%C3"),
        (Method::PUT, "/api/v2/admin/quotas/%FF"),
        (Method::DELETE, "/api/v2/admin/quotas/%FF"),
        (Method::POST, "/api/v2/admin/quotas/%FF/reset"),
        (Method::GET, "/api/v2/admin/quotas/%FF/history"),
        (Method::GET, "/api/v2/admin/users/%FE"),
        (Method::PUT, "/api/v2/admin/users/%ED%A0%80"),
        (Method::GET, "/api/v2/admin/ips/%FF"),
        (Method::POST, "/api/v2/admin/ips/%FF/reset"),
        (Method::GET, "/api/v2/admin/tiers/%FF"),
        (Method::DELETE, "/api/v2/admin/keys/%FF"),
    ] {
        let answer = quotad.ask(method.clone(), path, (method == Method::PUT).then(|| body.clone())).await;
        assert_problem(&answer, 400);
    }
    // The sign that stands for such bytes is a character like any other.
    assert_eq!(quotad.quota("%EF%BF%BD").await.json["user_id"], "\u{fffd}");
}

/// RFC 9110, section 15.5.6: a 405 says which methods there are.
#[tokio::test]
async fn a_405_says_which_methods_there_are() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    for (path, methods) in [(CHECK, &["POST"][..]), ("/api/v2/admin/keys", &["GET", "POST"])] {
        let answer = quotad.ask(Method::PATCH, path, None).await;
        assert_problem(&answer, 405);
        let allow = answer.header("allow").unwrap_or_else(|| panic!("Allow: {:?}", answer.headers));
        assert!(methods.iter().all(|method| allow.contains(method)), "{allow}");
    }
}

/// Two credentials in one request: which of them speaks must not depend on who reads it.
#[tokio::test]
async fn the_same_credential_header_twice_is_refused() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    let bearer = format!("Bearer {ADMIN_KEY}");
    for twice in [
        [("x-api-key", ADMIN_KEY), ("x-api-key", "qd_0000000000000000_wrong")],
        [("x-api-key", ADMIN_KEY), ("x-api-key", ADMIN_KEY)],
        [("authorization", &bearer), ("authorization", "Bearer wrong")],
    ] {
        assert_problem(&quotad.ask_as(Method::GET, "/api/v2/admin/quotas/u", None, &twice).await, 401);
    }
}

/// What a connection answers to bytes after which nothing more comes, until it is closed.
fn answer_to_half_a_request(quotad: &Quotad, half: &str) -> String {
    let mut stream = TcpStream::connect(quotad.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(half.as_bytes()).expect("half a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and then the end");
    answer
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = service(&stores).await;
    let head = format!("POST {CHECK} HTTP/1.1\r\nHost: x\r\nX-API-Key: {ADMIN_KEY}\r\n");
    let half_a_body = format!("{head}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{{\"user_id\"");
    let (body, head) = std::thread::scope(|scope| {
        let body = scope.spawn(|| answer_to_half_a_request(&quotad, &half_a_body));
        let head = scope.spawn(|| answer_to_half_a_request(&quotad, &head));
        (body.join().expect("an answer"), head.join().expect("an answer"))
    });
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("application/problem+json"), "{body}");
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408 "), "{head}");
}
