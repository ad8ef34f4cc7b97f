//! Credentials that don't verify are limited by the address that shows them, and lock nobody else out.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::answer::{Answer, token};
use crate::support::clock::Clock;
use crate::support::quotad::{ADMIN_KEY, Quotad, Start};
use crate::support::until;

const ME: &str = "/api/v2/users/me/quota";
const FORWARD_AUTH: &str = "/api/v2/forward-auth";
const WITHIN: Duration = Duration::from_secs(5);

/// What an address may show at once.
const BURST: usize = 600;

/// Asks from an address behind a trusted proxy.
async fn ask(quotad: &Quotad, path: &str, address: &str, key: &str) -> Answer {
    quotad.ask_as(Method::GET, path, None, &[("x-api-key", key), ("x-forwarded-for", address)]).await
}

async fn bearer(quotad: &Quotad, address: &str, token: &str) -> Answer {
    let token = format!("Bearer {token}");
    quotad.ask_as(Method::GET, ME, None, &[("authorization", &token), ("x-forwarded-for", address)]).await
}

/// Shows bad keys, ten at once, until one is not looked at: how many were, and what was said to that one.
async fn exhaust(quotad: &Quotad, address: &str) -> (usize, Answer) {
    let mut looked_at = 0;
    for round in 0..1000 {
        let keys: Vec<String> = (0..10).map(|number| format!("qd_{round}_{number}")).collect();
        let answers = join_all(keys.iter().map(|key| ask(quotad, ME, address, key))).await;
        looked_at += answers.iter().filter(|answer| answer.status == 401).count();
        if let Some(limited) = answers.into_iter().find(|answer| answer.status != 401) {
            return (looked_at, limited);
        }
    }
    panic!("all bad keys are looked at");
}

#[tokio::test]
async fn bad_keys_of_an_address_are_limited_and_others_lose_nothing() {
    let clock = Clock::new();
    let start = clock.vars().iter().fold(Start::new(), |start, (name, value)| start.env(name, value));
    let quotad = start.start().await;
    let (address, user) = ("203.0.113.9", token(json!({"sub": "42"})));
    assert_eq!(bearer(&quotad, address, &user).await.status, 200);

    assert_eq!(ask(&quotad, ME, address, "qd_none_none").await.status, 401);
    // An hour back: until the bucket was charged first, nothing more comes into it.
    clock.set(-3600);
    let (looked_at, limited) = exhaust(&quotad, address).await;
    // As many more as are under way together.
    assert!((BURST - 1..BURST + 9).contains(&looked_at), "{looked_at}");
    assert_eq!(limited.status, 429, "{}", limited.text);
    assert!(limited.number("retry-after") >= 1, "{:?}", limited.headers);
    assert_eq!(limited.header("content-type"), Some("application/problem+json"));
    let denied = (&limited.json["error"], &limited.json["denied_by"], &limited.json["subject"]);
    assert_eq!(denied, (&json!("Rate limit exceeded"), &json!("bad_credentials"), &json!("ip:203.0.113.9")));

    assert_eq!(bearer(&quotad, address, &user).await.status, 200, "what verified lately is verified as ever");
    for path in [ME, "/%61pi/v2/users/me/quota", "/api/v2/%63heck"] {
        assert_eq!(ask(&quotad, path, address, "qd_none_none").await.status, 429, "{path}");
    }
    let unknown = token(json!({"sub": "43"}));
    assert_eq!(bearer(&quotad, address, &unknown).await.status, 429, "nobody knows yet that it is good");
    assert_eq!(ask(&quotad, ME, "203.0.113.10", "qd_none_none").await.status, 401, "another address");
    for path in [FORWARD_AUTH, "/health", "/metrics"] {
        let anonymous = quotad.ask_as(Method::GET, path, None, &[("x-forwarded-for", address)]).await;
        assert_eq!(anonymous.status, 200, "{path} without a credential");
    }
    assert_eq!(ask(&quotad, "/health", address, "qd_none_none").await.status, 200, "it asks for none");
    assert!(quotad.metric("quotad_credentials_refused_total{reason=\"no such key\"}").await >= 600.0);
    assert!(quotad.metric("quotad_credentials_refused_total{reason=\"too many from this address\"}").await >= 1.0);

    clock.set(60);
    assert_eq!(bearer(&quotad, address, &unknown).await.status, 200, "a minute later there is room");
    assert_eq!(ask(&quotad, ME, address, "qd_none_none").await.status, 401);
}

#[tokio::test]
async fn a_proxy_that_asks_is_told_so_too() {
    let quotad = Start::new().start().await;
    let address = "2001:db8:1:2::7";
    exhaust(&quotad, address).await;
    for (query, status) in [("", 429), ("?deny_status=403", 403)] {
        let path = format!("{FORWARD_AUTH}/api/v1/agents{query}");
        let limited =
            async || Some(ask(&quotad, &path, address, "qd_none_none").await).filter(|it| it.status == status);
        let (answer, _) = until(WITHIN, "it is limited", limited).await;
        assert_eq!(answer.header("x-quotad-status"), Some("429"));
        assert_eq!(answer.header("x-quotad-subject"), Some("ip:2001:db8:1:2::/64"));
        assert!(answer.number("retry-after") >= 1);
    }
}

#[tokio::test]
async fn a_known_key_that_is_revoked_does_not_verify() {
    let quotad = Start::new().start().await;
    let made = quotad.post("/api/v2/admin/keys", json!({"name": "k", "role": "user", "user_id": "42"})).await;
    let (id, key) = (made.json["id"].as_str().expect("an id"), made.json["key"].as_str().expect("a key"));
    assert_eq!(ask(&quotad, ME, "203.0.113.9", key).await.status, 200);
    exhaust(&quotad, "203.0.113.9").await;
    assert_eq!(ask(&quotad, ME, "203.0.113.9", key).await.status, 200);
    assert_eq!(quotad.delete(&format!("/api/v2/admin/keys/{id}")).await.status, 204);
    let refused = async || (ask(&quotad, ME, "203.0.113.9", key).await.status == 401).then_some(());
    until(Duration::from_secs(1), "it is revoked", refused).await;
}

#[tokio::test]
async fn a_credential_that_no_route_verified_is_not_known() {
    let quotad = Start::new().start().await;
    let address = "203.0.113.9";
    exhaust(&quotad, address).await;
    for path in ["/health", "/nowhere", "/metrics"] {
        ask(&quotad, path, address, "qd_planted_planted").await;
    }
    let limited = async || (ask(&quotad, ME, address, "qd_planted_planted").await.status == 429).then_some(());
    until(WITHIN, "it waits", limited).await;
    assert_eq!(ask(&quotad, ME, "203.0.113.10", ADMIN_KEY).await.status, 403, "the admin key speaks for no user");
}
