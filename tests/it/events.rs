//! The stream of what happens: totals that are right, denials at once, changes of state, a bound, an end.

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Stores};

const PATH: &str = "/api/v2/admin/events";

/// One who reads the stream.
struct Listener {
    answer: Response,
    waiting: String,
}

impl Listener {
    async fn open(quotad: &Quotad) -> Response {
        let url = format!("http://{}{PATH}", quotad.address());
        reqwest::Client::new().get(url).header("x-api-key", ADMIN_KEY).send().await.expect("an answer")
    }

    /// Begins, and waits until the service says that it has.
    async fn start(quotad: &Quotad) -> Self {
        let answer = Self::open(quotad).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
            (200, &b"text/event-stream"[..])
        );
        let mut listener = Self { answer, waiting: String::new() };
        assert_eq!(listener.next().await.expect("an event").0, "ready");
        listener
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.waiting.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.waiting = rest;
                let Some((name, data)) = event.split_once('\n') else { continue };
                let data = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
                return Some((name.strip_prefix("event: ").expect("a name").to_owned(), data));
            }
            let read =
                tokio::time::timeout(Duration::from_secs(10), self.answer.chunk()).await.expect("something happens");
            self.waiting.push_str(std::str::from_utf8(&read.expect("a chunk")?).expect("text"));
        }
    }

    /// Reads on until an event of this name that is as wanted.
    async fn until(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (told, data) = self.next().await.expect("the stream goes on");
            if told == name && wanted(&data) {
                return data;
            }
        }
    }
}

#[tokio::test]
async fn decisions_and_changes_are_told_as_they_happen() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "2")]).await;
    quotad.check(json!({"user_id": "before"})).await;
    let mut listener = Listener::start(&quotad).await;
    for (check, status) in [
        (json!({"user_id": "42", "items": 2}), 200),
        (json!({"user_id": "42"}), 429),
        (json!({"user_id": "42", "dry_run": true}), 429),
        (json!({"ip": "203.0.113.9"}), 200),
    ] {
        assert_eq!(quotad.check(check).await.status, status);
    }
    let denied = listener.until("decision", |data| data["allowed"] == false).await;
    assert_eq!(
        (&denied["subject"], &denied["tier"], &denied["denied_by"], &denied["source"]),
        (&json!("user:42"), &json!("free"), &json!("hour"), &json!("memory"))
    );
    // The summaries add up to all of it, however the seconds cut it.
    let mut sums = std::collections::BTreeMap::<(String, bool), (u64, u64)>::new();
    while sums.values().map(|(checks, _)| checks).sum::<u64>() < 3 {
        let summary = listener.until("summary", |_| true).await;
        for line in summary["decisions"].as_array().expect("a list") {
            let key =
                (line["tier"].as_str().expect("a tier").to_owned(), line["allowed"].as_bool().expect("yes or no"));
            let (checks, cost) = sums.entry(key).or_default();
            *checks += line["checks"].as_u64().expect("a number");
            *cost += line["cost"].as_u64().expect("a number");
        }
    }
    let expected = [(("anonymous", true), (1, 1)), (("free", false), (1, 0)), (("free", true), (1, 2))];
    assert_eq!(sums, expected.map(|((tier, allowed), sum)| ((tier.to_owned(), allowed), sum)).into());

    quotad.put("/api/v2/admin/quotas/42", json!({"custom_requests_per_hour": 9})).await;
    listener.until("user.changed", |data| data["user_id"] == "42").await;
    quotad.put("/api/v2/admin/endpoints", json!({"costs": []})).await;
    listener.until("policy.reloaded", |_| true).await;
    quotad.post("/api/v2/admin/keys", json!({"name": "k", "role": "service"})).await;
    listener.until("keys.changed", |_| true).await;
}

#[tokio::test]
async fn it_is_told_that_redis_is_away_and_that_it_is_back() {
    let mut stores = Stores::start(Backend::RedisAndPostgres);
    let quotad = stores.quotad(&[]).await;
    let mut listener = Listener::start(&quotad).await;
    stores.redis().kill();
    quotad.check(json!({"user_id": "42"})).await;
    let degraded = listener.until("limiter.degraded", |_| true).await;
    assert!(degraded["error"].is_string(), "{degraded}");
    stores.redis().start_again();
    listener.until("limiter.recovered", |_| true).await;
}

#[tokio::test]
async fn listeners_are_bounded_and_end_with_the_service_at_once() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let mut all = Vec::new();
    for _ in 0..32 {
        all.push(Listener::start(&quotad).await);
    }
    assert_eq!(Listener::open(&quotad).await.status(), 503);
    drop(all.pop());
    // The service notices that one has left when it next writes to them.
    let again = crate::support::until(Duration::from_secs(10), "a place is free again", async || {
        quotad.check(json!({"user_id": "42"})).await;
        (Listener::open(&quotad).await.status() == 200).then_some(())
    });
    again.await;
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(|| quotad.stop());
    let mut last = all.remove(0);
    while last.next().await.is_some() {}
    stopping.await.expect("it stops");
    assert!(begun.elapsed() < Duration::from_secs(4), "what never ends by itself is not waited for");
}
