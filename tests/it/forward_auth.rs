//! `/api/v2/forward-auth`, asked as each proxy asks it: by its own headers, paths and methods.

use reqwest::Method;
use serde_json::json;

use crate::support::answer::{Answer, token};
use crate::support::quotad::{ADMIN_KEY, Quotad, Start};

const PATH: &str = "/api/v2/forward-auth";

async fn ask(quotad: &Quotad, path: &str, headers: &[(&str, &str)]) -> Answer {
    quotad.ask_as(Method::GET, path, None, headers).await
}

fn used(answer: &Answer) -> i64 {
    answer.number("x-ratelimit-limit") - answer.number("x-ratelimit-remaining")
}

#[tokio::test]
async fn a_user_passes_until_the_quota_is_used() {
    let quotad = Start::new().set("FREE_TIER_LIMIT_HOUR", "3").start().await;
    let bearer = format!("Bearer {}", token(json!({"sub": "42"})));
    let user = [("authorization", bearer.as_str()), ("x-forwarded-uri", "/things?x=1")];
    for left in [2, 1, 0] {
        let passes = ask(&quotad, PATH, &user).await;
        assert_eq!((passes.status, passes.text.as_str()), (200, ""));
        assert_eq!(passes.number("x-ratelimit-remaining"), left);
        assert_eq!(passes.header("x-quotad-subject"), Some("user:42"));
        assert_eq!((passes.header("x-quotad-tier"), passes.header("x-quotad-status")), (Some("free"), Some("200")));
    }
    let denied = ask(&quotad, PATH, &user).await;
    assert_eq!((denied.status, denied.header("x-quotad-status")), (429, Some("429")));
    assert_eq!((&denied.json["error"], &denied.json["denied_by"]), (&json!("Rate limit exceeded"), &json!("hour")));
    assert!(denied.number("retry-after") >= 1);
    let for_nginx = ask(&quotad, &format!("{PATH}?deny_status=403"), &user).await;
    assert_eq!((for_nginx.status, for_nginx.header("x-quotad-status")), (403, Some("429")));
    assert!(for_nginx.number("retry-after") >= 1);
    for query in ["x=1", "deny_status=500", "deny_status", "%FF=&&=;"] {
        assert_eq!(ask(&quotad, &format!("{PATH}?{query}"), &user).await.status, 429, "{query} may be the client's");
    }
}

#[tokio::test]
async fn every_method_is_asked_about_and_costs_what_the_path_does() {
    let quotad = Start::new().set("ANONYMOUS_LIMIT_HOUR", "1000").set("ANONYMOUS_LIMIT_DAY", "1000").start().await;
    let mut charged = 0;
    for (path, headers, cost) in [
        (PATH.to_owned(), vec![("x-forwarded-uri", "/api/v1/agents/7?x=/ws")], 2),
        (PATH.to_owned(), vec![("x-original-uri", "/api/v1/%61gents")], 2),
        (PATH.to_owned(), vec![("x-forwarded-uri", "/ws"), ("upgrade", "websocket"), ("connection", "upgrade")], 0),
        (format!("{PATH}/api/v1/batch/3?deny_status=9"), vec![], 5),
        (format!("{PATH}/api/v1//x/../agents"), vec![], 2),
        (PATH.to_owned(), vec![("x-forwarded-uri", "no path at all")], 1),
        (PATH.to_owned(), vec![], 1),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = quotad.ask_as(method.parse().unwrap(), &path, None, &headers).await;
            charged += cost;
            assert_eq!((answer.status, used(&answer)), (200, charged), "{method} {path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn the_address_is_charged_where_nobody_is_named() {
    let quotad = Start::new().start().await;
    let subject = async |headers: &[(&str, &str)]| {
        ask(&quotad, PATH, headers).await.header("x-quotad-subject").expect("a subject").to_owned()
    };
    assert_eq!(subject(&[("x-forwarded-for", "198.51.100.1, 203.0.113.9")]).await, "ip:203.0.113.9");
    assert_eq!(subject(&[("forwarded", "for=\"[2001:db8:1:2::7]\"")]).await, "ip:2001:db8:1:2::/64");
    // A key that speaks for no user.
    assert_eq!(subject(&[("x-api-key", ADMIN_KEY), ("x-forwarded-for", "203.0.113.9")]).await, "ip:203.0.113.9");
    for bad in ["Bearer x.y.z", "Bearer qd_none_none", "Basic dXNlcjpwYXNz"] {
        let refused = ask(&quotad, PATH, &[("authorization", bad), ("x-forwarded-for", "203.0.113.9")]).await;
        assert_eq!(refused.status, 401, "{bad}");
    }
}

#[tokio::test]
async fn a_stranger_is_not_believed() {
    let quotad = Start::new().set("TRUSTED_PROXIES", "192.0.2.0/24").start().await;
    let lies = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-uri", "/ws"), ("x-original-uri", "/ws")];
    for charged in 1..=3 {
        let answer = ask(&quotad, PATH, &lies).await;
        assert_eq!(answer.header("x-quotad-subject"), Some("ip:127.0.0.1"));
        assert_eq!(used(&answer), charged, "the path is another's word");
    }
    let method = quotad.ask_as(Method::POST, PATH, None, &[("x-forwarded-method", "GET")]).await;
    assert_eq!(method.status, 200);
}
