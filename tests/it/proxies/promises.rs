//! What holds behind every proxy.

use std::process::Command;

use serde_json::json;

use super::application::Application;
use super::client::Client;
use super::process::{Kind, Proxy, WithoutQuotad};
use crate::support::answer::{Answer, token};
use crate::support::quotad::{Quotad, Start};

/// It believes its proxy alone: the clients of these tests have other addresses of loopback.
async fn service() -> Quotad {
    Start::new().set("TRUSTED_PROXIES", "127.0.0.1/32").start().await
}

/// The free tier has 100 an hour: so many pass and one more does not, which leaves a WebSocket free to pass.
pub async fn a_user_is_held_to_the_quota(kind: Kind) {
    let (quotad, application) = (service().await, Application::start().await);
    let proxy = Proxy::start(kind, WithoutQuotad::Refuses, quotad.address(), application.port()).await;
    let (client, user) = (Client::at(2, &proxy), token(json!({"sub": "42"})));
    for left in (0..100).rev() {
        let passes = client.ask("/things?x=1", Some(&user)).await;
        assert_eq!(passes.status, 200, "{passes:?}");
        limits_are_shown(&passes, left);
        assert!(passes.text.starts_with("get /things?x=1 "), "{}", passes.text);
        assert!(passes.text.contains("\r\nx-quotad-subject: user:42\r\n"), "{}", passes.text);
        assert!(passes.text.contains("\r\nx-quotad-tier: free\r\n"), "{}", passes.text);
        assert_eq!(passes.text.matches("\r\nx-quotad-").count(), 2, "{}", passes.text);
    }
    let denied = client.ask("/things", Some(&user)).await;
    assert_eq!(denied.status, 429, "{denied:?}");
    limits_are_shown(&denied, 0);
    assert!((1..=3600).contains(&denied.number("retry-after")));
    assert_eq!(denied.number("x-ratelimit-retry-after"), denied.number("retry-after"));
    assert_eq!(denied.header("content-type"), Some("application/problem+json"));
    assert_eq!((&denied.json["status"], &denied.json["error"]), (&json!(429), &json!("Rate limit exceeded")));

    let refused = client.ask("/things", Some("qd_none_none")).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!((refused.headers.get_all("www-authenticate").iter().count(), &refused.json["status"]), (1, &json!(401)));
    assert_eq!(application.asked(), 100, "nobody else reaches it");

    for _ in 0..3 {
        let (head, returned) = client.upgrade(Some(&user)).await;
        assert!(returned, "{head}");
        assert!(head.contains("\r\nx-ratelimit-remaining: 0\r\n"), "{head}");
    }
    assert_eq!(quotad.quota("42").await.field("requests_hour_used"), 100);
}

fn limits_are_shown(answer: &Answer, left: i64) {
    assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (100, left));
    assert_eq!(answer.number("x-ratelimit-reset") % 3600, 0, "{answer:?}");
    assert!(answer.header("ratelimit").is_some_and(|text| text.starts_with(&format!("\"hour\";r={left};t="))));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"hour\";q=100;w=3600, \"day\";q=1000;w=86400"));
}

/// Neither the proxy's address is charged nor the one that the client names, and for the path that was asked for.
pub async fn a_stranger_pays_by_its_own_address(kind: Kind) {
    let (quotad, application) = (service().await, Application::start().await);
    let proxy = Proxy::start(kind, WithoutQuotad::Refuses, quotad.address(), application.port()).await;
    for last in [2, 3] {
        let client = Client::at(last, &proxy);
        for (path, left) in [("/things", 9), ("/api/v1/agents/7", 7), ("/api/v1/batch?x=/ws", 2), ("/ws", 2)] {
            let passes = client.ask(path, None).await;
            assert_eq!((passes.status, passes.number("x-ratelimit-remaining")), (200, left), "{path}");
            assert!(passes.text.contains(&format!("\r\nx-quotad-subject: ip:127.0.0.{last}\r\n")), "{}", passes.text);
            assert!(passes.text.contains(&format!("\r\nx-forwarded-for: 127.0.0.{last}\r\n")), "{}", passes.text);
        }
        assert_eq!(client.ask("/api/v1/batch", None).await.status, 429);
        assert!(client.upgrade(None).await.1);
    }
}

/// Neither while it does not answer, nor when it is stopped.
pub async fn without_quotad_nobody_passes(kind: Kind, stopped: u16, hanging: u16) {
    let (quotad, application) = (service().await, Application::start().await);
    let proxy = Proxy::start(kind, WithoutQuotad::Refuses, quotad.address(), application.port()).await;
    let client = Client::at(2, &proxy);
    assert_eq!(client.ask("/things", None).await.status, 200);
    signal(&quotad, "-STOP");
    assert_eq!(client.ask("/things", None).await.status, hanging);
    signal(&quotad, "-CONT");
    assert_eq!(client.ask("/things", None).await.status, 200, "it is asked again at once");
    quotad.stop();
    assert_eq!(client.ask("/things", None).await.status, stopped);
    assert!(!client.upgrade(None).await.1);
    assert_eq!(application.asked(), 2, "nobody passes unasked");
}

/// Without a word of quotad's, and without what the client says in its place.
pub async fn without_quotad_everybody_passes(kind: Kind) {
    let (quotad, application) = (service().await, Application::start().await);
    let proxy = Proxy::start(kind, WithoutQuotad::LetsPass, quotad.address(), application.port()).await;
    let client = Client::at(2, &proxy);
    let asked = client.ask("/things", None).await;
    assert_eq!((asked.status, asked.number("x-ratelimit-remaining")), (200, 9), "quotad decides while it is there");
    assert_eq!(client.ask("/things", Some("qd_none_none")).await.status, 401);
    signal(&quotad, "-STOP");
    passes_unasked(&client.ask("/things", None).await);
    signal(&quotad, "-CONT");
    quotad.stop();
    for _ in 0..3 {
        passes_unasked(&client.ask("/things", None).await);
        assert!(client.upgrade(None).await.1);
    }
}

fn passes_unasked(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("x-ratelimit-limit").is_none(), "{answer:?}");
    assert!(answer.text.starts_with("get /things ") && !answer.text.contains("\r\nx-quotad-"), "{}", answer.text);
}

fn signal(quotad: &Quotad, name: &str) {
    assert!(Command::new("/bin/kill").args([name, &quotad.id()]).status().is_ok_and(|status| status.success()));
}
